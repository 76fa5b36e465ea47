"""A report in a real browser without a network: everything is drawn, nothing is fetched, nothing hostile runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from perfkit.report import render
from tests.browser.picture import CHROMIUM, FLAGS
from tests.builders import LOGIN, MAIN, SECOND_NS, graph_rows, leaking, request_rows

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}"),
    # Playwright leaves its event loop's pipes to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
HOSTILE = "</script><img src=x onerror=document.title='owned'>"
AWKWARD = f"{HOSTILE}\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe\n\x00&lt;b&gt;" + "long" * 2_000
CHARTS, FLAMES = 6, 2


@dataclass
class Opened:
    """A report that is open in the browser, and what it asked for."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a report over a leak in which hostile names are planted."""
    stack = (*MAIN, (f"decode{HOSTILE}", f"/srv/app/{HOSTILE}.py", 7))
    profile = leaking(
        tmp_path_factory.mktemp("profiles") / "leak",
        heap=[
            {"stack": s, "allocated_ns": i * SECOND_NS, "freed_ns": None, "allocations": 9, "size_bytes": 65_536}
            for i in range(1, 60)
            for s in (LOGIN, stack)
        ],
        cpu=[
            {
                "tick_ns": i * SECOND_NS // 10,
                "weight_ns": SECOND_NS // 10,
                "thread": f"worker{HOSTILE}",
                "stack": LOGIN if i % 3 else stack,
                "active": True,
            }
            for i in range(600)
        ],
        requests=[row | {"route": f"/{HOSTILE}"} for row in map(dict, request_rows(60))],
        **hostile_heap(),
    )
    return render(profile.path)


def hostile_heap() -> dict[str, list[dict[str, Any]]]:
    """Return snapshots of the heap in which a type, a module, an attribute and a key have names like no other."""
    rows = {name: [dict(row) for row in table] for name, table in graph_rows(60, None).items()}
    for row in rows["objects"]:
        row["type"] = f"app.{AWKWARD}" if row["type"] == "builtins.bytearray" else row["type"]
        row["name"] = AWKWARD if row.get("name") == "app.routes" else row.get("name")
    for row in rows["references"]:
        row["label"] = f".{AWKWARD}" if row["label"] == ".data" else row["label"]
    return rows


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        yield chromium
        chromium.close()


@contextmanager
def opened(browser: Any, report: Path, **settings: Any) -> Iterator[Opened]:
    """Open a report with the network off and every request aborted and noted."""
    context = browser.new_context(offline=True, **settings)
    shown = Opened(context.new_page())

    def abort(route: Any) -> None:
        shown.requests.append(route.request.url)
        route.abort()

    context.route("**/*", lambda route: route.continue_() if route.request.url == report.as_uri() else abort(route))
    shown.page.on("console", lambda message: shown.complaints.append(message.text))
    shown.page.on("pageerror", lambda error: shown.complaints.append(str(error)))
    try:
        shown.page.goto(report.as_uri())
        if settings.get("java_script_enabled", True):
            shown.page.wait_for_selector("html[data-ready=yes]", timeout=20_000)
        yield shown
    finally:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_every_chart_is_drawn_without_a_network(browser: Any, report: Path, scheme: str, width: int) -> None:
    with opened(browser, report, color_scheme=scheme, viewport={"width": width, "height": 900}) as shown:
        marks = shown.page.locator("[data-chart]").evaluate_all(
            "plots => plots.map(p => [...p.querySelectorAll('.mark-line path, .mark-area path, .mark-rect path')]"
            ".filter(m => m.getBBox().width > 50 || m.getBBox().height > 5).length)"
        )
        painted = shown.page.locator("[data-flame] canvas").evaluate_all(
            "all => all.map(c => new Set(new Uint32Array("
            "c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size)"
        )
        widest = shown.page.evaluate("document.documentElement.scrollWidth")
    assert len(marks) == CHARTS
    assert all(marks)
    assert len(painted) == FLAMES
    assert all(colors > 5 for colors in painted)
    assert widest == width
    assert shown.requests == []
    assert shown.complaints == []


@pytest.mark.parametrize("width", [400, 1280])
def test_no_table_and_no_legend_is_cut_at_the_edge(browser: Any, report: Path, width: int) -> None:
    cut = (
        "[...document.querySelectorAll('main .pk-scroll')].filter(box => box.scrollWidth > box.clientWidth + 1)"
        ".map(box => box.textContent.slice(0, 60))"
    )
    beyond = (
        "[...document.querySelectorAll('[data-chart]')].flatMap(plot => "
        "[...plot.querySelectorAll('.role-legend-label text')].filter(text => "
        "text.getBoundingClientRect().right > plot.getBoundingClientRect().right + 2)).map(text => text.textContent)"
    )
    with opened(browser, report, viewport={"width": width, "height": 900}) as shown:
        assert shown.page.evaluate(cut) == []
        assert shown.page.evaluate(beyond) == []


def test_rows_are_cards_with_the_names_of_their_columns_on_a_phone(browser: Any, report: Path) -> None:
    label = "getComputedStyle(document.querySelector('#checks td[data-label=\"what it says\"]'), '::before').content"
    with opened(browser, report, viewport={"width": 400, "height": 900}) as shown:
        assert shown.page.evaluate(label) == "attr(data-label)" or "what it says" in shown.page.evaluate(label)
        assert not shown.page.locator("#checks thead").first.is_visible()
    with opened(browser, report, viewport={"width": 1280, "height": 900}) as shown:
        assert shown.page.locator("#checks thead").first.is_visible()


def test_charts_fill_the_width_and_follow_it(browser: Any, report: Path) -> None:
    def widths(page: Any) -> list[tuple[float, float]]:
        return page.evaluate(
            "[...document.querySelectorAll('[data-chart]')].map(p =>"
            " [p.clientWidth, p.querySelector('svg.marks').getBoundingClientRect().width])"
        )

    with opened(browser, report, viewport={"width": 1440, "height": 900}) as shown:
        for width in (1440, 500):
            shown.page.set_viewport_size({"width": width, "height": 900})
            shown.page.wait_for_timeout(250)
            assert all(abs(room - drawn) < 3 for room, drawn in widths(shown.page))


def test_hostile_names_are_shown_as_text_and_do_nothing(browser: Any, report: Path) -> None:
    with opened(browser, report) as shown:
        assert shown.page.title() == "FAIL · leak · Why does the memory grow?"
        assert shown.page.locator("img").count() == 0
        assert "<img src=x onerror" in shown.page.locator("main").inner_text()
        assert shown.page.locator("[data-chart]", has_text="worker</script><img").count() == 1


def test_script_that_slipped_in_would_not_run(browser: Any, report: Path) -> None:
    with opened(browser, report) as shown:
        shown.page.evaluate(
            "() => { const d = document.createElement('div'); d.innerHTML = \"<img src=x onerror=window.owned=1>\";"
            " const s = document.createElement('script'); s.textContent = 'window.owned = 2'; "
            "document.body.append(d, s); }"
        )
        shown.page.wait_for_timeout(100)
        assert shown.page.evaluate("window.owned === undefined")
        assert any("Content Security Policy" in complaint for complaint in shown.complaints)


def test_verdict_and_numbers_can_be_read_without_scripts(browser: Any, report: Path) -> None:
    with opened(browser, report, java_script_enabled=False) as shown:
        text = shown.page.locator("main").inner_text()
        assert "FAIL" in text
        assert "KiB/s" in text
        assert "SESSIONS" in text
        assert "need JavaScript" in text
        assert shown.page.locator("#numbers tbody tr").count() > 4
        assert shown.page.locator(".flame-pair tbody tr").count() >= 4


@pytest.mark.parametrize("settings", [{}, {"java_script_enabled": False}], ids=["scripts", "no-scripts"])
def test_who_holds_what_is_drawn_and_the_heap_unfolds(browser: Any, report: Path, settings: dict[str, Any]) -> None:
    with opened(browser, report, viewport={"width": 400, "height": 900}, **settings) as shown:
        boxes = shown.page.locator(".pk-path .pk-node")
        assert boxes.first.inner_text().startswith("module app.sessions")
        assert "here they pile up" in shown.page.locator(".pk-path .pk-holder").inner_text()
        assert "1,200 items" in shown.page.locator(".pk-path .pk-holder").inner_text()
        assert all(box.bounding_box()["width"] > 200 for box in boxes.all())
        unfolded = shown.page.locator(".pk-tree > details").first
        row = unfolded.locator("> .pk-below > *").first
        assert row.is_visible()
        unfolded.locator("> summary").click()
        assert not row.is_visible()


def test_the_drawn_path_is_part_of_the_print(browser: Any, report: Path) -> None:
    with opened(browser, report, viewport={"width": 794, "height": 1123}) as shown:
        shown.page.emulate_media(media="print")
        assert all(box.is_visible() for box in shown.page.locator(".pk-path .pk-node").all())
        assert shown.page.evaluate("document.documentElement.scrollWidth") == 794


def test_report_prints(browser: Any, report: Path) -> None:
    with opened(browser, report, color_scheme="dark") as shown:
        assert len(shown.page.pdf(format="A4")) > 40_000


def test_flame_graph_zooms_searches_and_resets(browser: Any, report: Path) -> None:
    with opened(browser, report, viewport={"width": 1440, "height": 900}, reduced_motion="reduce") as shown:
        flame = shown.page.locator("[data-flame='1']")
        canvas, live, reset = flame.locator("canvas"), flame.locator(".pk-flame-live"), flame.locator("button")
        canvas.hover(position={"x": 60, "y": 10})
        assert "of all" in flame.locator(".pk-flame-tip").inner_text()
        canvas.click(position={"x": 20, "y": 5 * 21 + 10})
        assert live.inner_text().startswith("Zoomed to ")
        assert reset.is_enabled()
        reset.click()
        assert reset.is_disabled()
        flame.locator("input").fill("login|open_session")
        share = float(flame.locator("output").inner_text().split()[0])
        assert share == pytest.approx(66.7, abs=0.1)
        flame.locator("input").fill("no such (function")
        assert flame.locator("output").inner_text() == "0.0 % matched"


def test_flame_graph_works_with_the_keyboard_alone(browser: Any, report: Path) -> None:
    with opened(browser, report, reduced_motion="reduce") as shown:
        flame = shown.page.locator("[data-flame='0']")
        live = flame.locator(".pk-flame-live")
        flame.locator("canvas").focus()
        for _ in range(3):
            shown.page.keyboard.press("ArrowDown")
        assert live.inner_text().startswith("run (")
        shown.page.keyboard.press("Enter")
        assert live.inner_text().startswith("Zoomed to run (")
        shown.page.keyboard.press("Escape")
        assert flame.locator("button").is_disabled()
        shown.page.keyboard.press("/")
        assert shown.page.evaluate("document.activeElement.type") == "search"


def test_charts_follow_a_change_between_light_and_dark(browser: Any, report: Path) -> None:
    with opened(browser, report, color_scheme="light") as shown:
        color = "getComputedStyle(document.querySelector('[data-chart] .mark-line path')).stroke"
        light = shown.page.evaluate(color)
        shown.page.emulate_media(color_scheme="dark")
        shown.page.wait_for_timeout(800)
        assert shown.page.evaluate(color) != light
