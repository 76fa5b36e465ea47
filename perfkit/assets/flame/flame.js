/* Flame graph on a canvas. `perfkitFlame(host, data)` draws `data` into the element `host`.

   data: { unit, total, names[], places[], kinds[], node_name[], node_depth[], node_value[], folded, root }
   The nodes are in preorder, children by size. Every text reaches the page through fillText or
   textContent and never as markup: names come from the process that was measured. */
(() => {
  "use strict";
  const ROW = 21, FONT = "11.5px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace";
  const KINDS = ["python", "library", "stdlib", "native", "interpreter", "probe", "synthetic"];
  const LABELS = { python: "this program", library: "libraries", stdlib: "standard library", native: "native code",
                   interpreter: "interpreter", probe: "perfkit's own probe", synthetic: "groups" };
  const SCHEMES = {
    light: { python: "#7fb0e3", library: "#e3bd85", stdlib: "#cdd3dc", native: "#c9b3e6", interpreter: "#dfe3e8", probe: "#b9d8c9",
             synthetic: "#e7eaef", text: "#14181f", dim: "#eef0f3", dimText: "#8b93a1", hit: "#f08fb4", edge: "#ffffff",
             focus: "#14181f", shade: "rgb(255 255 255 / .2)" },
    dark: { python: "#2f5f94", library: "#80602c", stdlib: "#434a57", native: "#5d4785", interpreter: "#353b46", probe: "#355c4b",
            synthetic: "#2d323c", text: "#eef1f6", dim: "#22262e", dimText: "#737c8b", hit: "#a83f6c", edge: "#15181e",
            focus: "#ffffff", shade: "rgb(255 255 255 / .07)" },
  };
  const BYTES = ["B", "KiB", "MiB", "GiB", "TiB"], TIMES = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]];
  const digits = (v) => v >= 100 ? v.toFixed(0) : v >= 10 ? v.toFixed(1) : v.toFixed(2);
  const amount = (v, unit) => {
    if (unit === "bytes") {
      let i = 0;
      while (v >= 1000 && i < BYTES.length - 1) { v /= 1024; i++; }
      return (i ? digits(v) : v.toFixed(0)) + " " + BYTES[i];
    }
    if (unit === "ns") {
      const [size, name] = TIMES.find(([s]) => v >= s) || TIMES[3];
      return digits(v / size) + " " + name;
    }
    return v.toLocaleString("en") + (unit ? " " + unit : "");
  };
  const percent = (v) => v > 0 && v < 0.001 ? "< 0.1 %" : (v * 100).toFixed(1) + " %";
  const make = (tag, cls, text) => {
    const element = document.createElement(tag);
    if (cls) element.className = cls;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  /* Start, end of subtree, parent and own value of every node, from depth and value alone. */
  const lay = (data) => {
    const n = data.node_depth.length, start = new Float64Array(n), next = new Int32Array(n), parent = new Int32Array(n);
    const self = Float64Array.from(data.node_value), rows = [], open = [];
    for (let i = 0; i < n; i++) {
      const depth = data.node_depth[i];
      while (open.length > depth) next[open.pop().i] = i;
      const above = open[depth - 1];
      parent[i] = above ? above.i : -1;
      start[i] = above ? above.used : 0;
      if (above) { above.used += data.node_value[i]; self[above.i] -= data.node_value[i]; }
      open.push({ i, used: start[i] });
      (rows[depth] = rows[depth] || []).push(i);
    }
    while (open.length) next[open.pop().i] = n;
    return { n, start, next, parent, self, rows };
  };

  window.perfkitFlame = (host, data) => {
    const tree = lay(data), value = data.node_value, depth = data.node_depth, total = value[0] || 1;
    const name = (i) => data.names[data.node_name[i]], place = (i) => data.places[data.node_name[i]] || "";
    const kind = (i) => KINDS[data.kinds[data.node_name[i]]] || "synthetic";
    let zoomed = 0, from = 0, to = total, focus = -1, hover = -1, hits = null, hitAny = null, printing = false;

    const bar = make("div", "pk-flame-bar"), search = make("input"), found = make("output", "pk-flame-found");
    const reset = make("button", "", "Reset zoom"), canvas = make("canvas"), tip = make("div", "pk-flame-tip");
    const live = make("p", "pk-flame-live"), legend = make("div", "pk-flame-legend"), stage = make("div", "pk-flame-stage");
    search.type = "search";
    search.placeholder = "Search: function, file or regular expression";
    search.setAttribute("aria-label", "Search the flame graph");
    reset.type = "button";
    reset.disabled = true;
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", (data.label || "Flame graph") + ". Arrow keys move between frames, Enter zooms, " +
      "Escape resets. The table beside it has the same numbers.");
    live.setAttribute("aria-live", "polite");
    tip.setAttribute("aria-hidden", "true");
    bar.append(search, found, reset);
    stage.append(canvas, tip);
    const present = new Set(data.node_name.map((number) => KINDS[data.kinds[number]]));
    for (const each of KINDS.filter((k) => present.has(k) && k !== "synthetic")) {
      const item = make("span", "", LABELS[each]), swatch = make("i");
      swatch.dataset.kind = each;
      item.prepend(swatch);
      legend.append(item);
    }
    if (data.folded > 0) legend.append(make("span", "pk-flame-folded",
      percent(data.folded / total) + " in frames below " + percent(data.least || 0.001) + " is not drawn"));
    host.replaceChildren(bar, stage, live, legend);

    const dark = matchMedia("(prefers-color-scheme: dark)");
    const scheme = () => SCHEMES[dark.matches && !printing ? "dark" : "light"];
    const describe = (i) => {
      const share = percent(value[i] / total), own = tree.self[i] > 0 ? ", " + amount(tree.self[i], data.unit) + " itself" : "";
      return name(i) + (place(i) ? " (" + place(i) + ")" : "") + ": " + amount(value[i], data.unit) + ", " + share + own;
    };

    const draw = () => {
      const colors = scheme(), width = stage.clientWidth, height = tree.rows.length * ROW, ratio = devicePixelRatio || 1;
      if (!width) return;
      if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
        canvas.width = Math.round(width * ratio);
        canvas.height = Math.round(height * ratio);
        canvas.style.height = height + "px";
      }
      const g = canvas.getContext("2d"), scale = width / (to - from);
      g.setTransform(ratio, 0, 0, ratio, 0, 0);
      g.clearRect(0, 0, width, height);
      g.font = FONT;
      g.textBaseline = "middle";
      const em = g.measureText("m").width;
      for (let i = 0; i < tree.n;) {
        const x = (tree.start[i] - from) * scale, w = value[i] * scale;
        if (w < 0.4 || x > width || x + w < 0) { i = tree.next[i]; continue; }
        const left = Math.max(x, 0), right = Math.min(x + w, width), y = depth[i] * ROW;
        const above = i !== zoomed && tree.next[i] >= tree.next[zoomed] && i < zoomed, plain = hits && !hits[data.node_name[i]];
        g.fillStyle = hits && !plain ? colors.hit : plain ? colors.dim : colors[kind(i)];
        g.globalAlpha = above ? 0.55 : 1;
        g.fillRect(left, y, Math.max(right - left - (w > 3 ? 1 : 0), 0.6), ROW - 1);
        if (data.node_name[i] & 1) {  /* neighbours differ a little, so that the eye can tell them apart */
          g.fillStyle = colors.shade;
          g.fillRect(left, y, Math.max(right - left - (w > 3 ? 1 : 0), 0.6), ROW - 1);
        }
        const room = Math.floor((right - left - 9) / em);
        if (room >= 3) {
          const text = name(i);
          g.fillStyle = plain ? colors.dimText : colors.text;
          g.fillText(text.length > room ? text.slice(0, room - 1) + "…" : text, left + 5, y + ROW / 2);
        }
        g.globalAlpha = 1;
        if (i === hover || i === focus) {
          g.strokeStyle = colors.focus;
          g.lineWidth = i === focus ? 2 : 1;
          g.strokeRect(left + 1, y + 1, Math.max(right - left - 3, 1), ROW - 3);
        }
        i++;
      }
      for (const swatch of legend.querySelectorAll("i")) swatch.style.background = colors[swatch.dataset.kind];
    };

    let frame = 0;
    const soon = () => { cancelAnimationFrame(frame); frame = requestAnimationFrame(draw); };
    const zoom = (i) => {
      const goal = [tree.start[i], tree.start[i] + value[i]], begin = [from, to], began = performance.now();
      zoomed = i;
      reset.disabled = i === 0;
      live.textContent = i === 0 ? "" : "Zoomed to " + describe(i);
      const length = matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 160;
      const step = (now) => {
        const t = length ? Math.min((now - began) / length, 1) : 1, ease = 1 - (1 - t) ** 3;
        from = begin[0] + (goal[0] - begin[0]) * ease;
        to = begin[1] + (goal[1] - begin[1]) * ease;
        draw();
        if (t < 1) frame = requestAnimationFrame(step);
      };
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(step);
    };
    const at = (event) => {
      const box = canvas.getBoundingClientRect(), row = tree.rows[Math.floor((event.clientY - box.top) / ROW)];
      if (!row) return -1;
      const want = from + (event.clientX - box.left) / box.width * (to - from);
      let low = 0, high = row.length - 1;
      while (low <= high) {
        const middle = (low + high) >> 1, i = row[middle];
        if (want < tree.start[i]) high = middle - 1;
        else if (want >= tree.start[i] + value[i]) low = middle + 1;
        else return i;
      }
      return -1;
    };
    const point = (event) => {
      const i = at(event);
      if (i !== hover) { hover = i; soon(); }
      canvas.style.cursor = i < 0 ? "default" : "pointer";
      tip.hidden = i < 0;
      if (i < 0) return;
      tip.replaceChildren(make("b", "", name(i)), make("span", "", place(i)),
        make("span", "", amount(value[i], data.unit) + " · " + percent(value[i] / total) + " of all"),
        make("span", "", amount(tree.self[i], data.unit) + " in itself"));
      const box = stage.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
      tip.style.left = Math.max(0, Math.min(x + 14, box.width - tip.offsetWidth - 4)) + "px";
      tip.style.top = y + 18 + "px";
    };
    const look = () => {
      const text = search.value.trim();
      hits = null;
      found.textContent = "";
      if (text) {
        let pattern;
        try { pattern = new RegExp(text, "i"); }
        catch { pattern = new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "i"); }
        hits = data.names.map((each, k) => pattern.test(each) || pattern.test(data.places[k] || ""));
        let sum = 0;
        for (let i = 0; i < tree.n;) {
          if (hits[data.node_name[i]]) { sum += value[i]; i = tree.next[i]; } else i++;
        }
        found.textContent = percent(sum / total) + " matched";
      }
      soon();
    };
    const move = (key) => {
      if (focus < 0) return 0;
      const row = tree.rows[depth[focus]], here = row.indexOf(focus);
      if (key === "ArrowUp") return tree.parent[focus] < 0 ? focus : tree.parent[focus];
      if (key === "ArrowDown") return tree.next[focus] > focus + 1 ? focus + 1 : focus;
      if (key === "ArrowLeft") return row[Math.max(here - 1, 0)];
      if (key === "ArrowRight") return row[Math.min(here + 1, row.length - 1)];
      return 0;
    };

    canvas.addEventListener("pointermove", point);
    canvas.addEventListener("pointerleave", () => { hover = -1; tip.hidden = true; soon(); });
    canvas.addEventListener("click", (event) => { const i = at(event); if (i >= 0) zoom(i); point(event); });
    canvas.addEventListener("blur", () => { focus = -1; soon(); });
    canvas.addEventListener("keydown", (event) => {
      if (["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "Home"].includes(event.key)) {
        focus = move(event.key);
        live.textContent = describe(focus);
        soon();
      } else if (event.key === "Enter" && focus >= 0) zoom(focus);
      else if (event.key === "Escape") zoom(0);
      else if (event.key === "/") search.focus();
      else return;
      event.preventDefault();
    });
    search.addEventListener("input", look);
    search.addEventListener("keydown", (event) => { if (event.key === "Escape") { search.value = ""; look(); } });
    reset.addEventListener("click", () => zoom(0));
    dark.addEventListener("change", soon);
    addEventListener("beforeprint", () => { printing = true; draw(); });
    addEventListener("afterprint", () => { printing = false; draw(); });
    new ResizeObserver(soon).observe(stage);
    tip.hidden = true;
    draw();
    host.dataset.frames = String(tree.n);
  };
})();
