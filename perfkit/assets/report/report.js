/* Draws the charts and flame graphs of a report. Everything it needs is in the file. */
(async () => {
  "use strict";
  const note = document.getElementById("needs-js");
  if (typeof DecompressionStream === "undefined") {
    note.textContent = "The charts below need a browser of 2023 or later.";
    return;
  }
  note.hidden = true;
  const unpack = async (id) => {
    const text = atob(document.getElementById(id).textContent.trim());
    const bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  };
  const rows = (table) => {
    const names = Object.keys(table.columns);
    return Array.from({ length: table.rows }, (_, i) => Object.fromEntries(names.map((n) => [n, table.columns[n][i]])));
  };
  const fitted = (config, plot) => plot.clientWidth > 480 ? config
    : { ...config, legend: { ...config.legend, columns: 1, labelLimit: Math.max(plot.clientWidth - 60, 120) } };
  const data = JSON.parse(await unpack("perfkit-data"));
  for (const host of document.querySelectorAll("[data-flame]")) perfkitFlame(host, data.flames[host.dataset.flame]);

  const plots = [...document.querySelectorAll("[data-chart]")];
  const root = document.documentElement;
  if (plots.length) {
    const code = document.createElement("script");
    code.textContent = await unpack("perfkit-vega");
    document.head.append(code);
    for (const spec of data.charts) {
      for (const name of Object.keys(spec.datasets || {})) {
        if (spec.datasets[name].columns) spec.datasets[name] = rows(spec.datasets[name]);
      }
    }
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const drawn = [];
    const draw = async () => {
      const scheme = dark.matches ? "dark" : "light";
      while (drawn.length) drawn.pop().finalize();
      for (const plot of plots) {
        try {
          drawn.push(await vegaEmbed(plot, data.charts[plot.dataset.chart], {
            ast: true,
            mode: "vega-lite",
            renderer: "svg",
            config: fitted(data.themes[scheme], plot),
            tooltip: { theme: scheme },
            actions: { export: true, source: false, compiled: false, editor: false },
            downloadFileName: plot.dataset.name,
          }));
        } catch (error) {
          plot.textContent = "This chart could not be drawn: " + error.message;
          plot.classList.add("failed");
        }
      }
      root.dataset.charts = String(drawn.length);
    };
    dark.addEventListener("change", draw);
    await draw();
  }
  root.dataset.ready = "yes";
})();
