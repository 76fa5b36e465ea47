"""The only place that says how perfkit's charts look and how notebooks get them.

Charts are shown as `application/vnd.vegalite.v5+json` and never as `text/html`: JupyterLab and
VS Code draw that type without a network and without trusting the notebook, and both ignore the
v6 type that Altair itself would emit (its `mimetype` renderer even breaks nbformat).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair as alt

MIME = "application/vnd.vegalite.v5+json"

LIGHT = {
    "ink": "#1f2430", "muted": "#5f6877", "grid": "#e6e8ec", "good": "#2e8b6f", "bad": "#c9374a",
    "palette": ["#2f6fb7", "#c8701a", "#2e8b6f", "#8259b8", "#a3862a", "#b8477f", "#5f6877"],
}  # fmt: skip
DARK = {
    "ink": "#e7e9ee", "muted": "#9aa3b2", "grid": "#2b303a", "good": "#4fb892", "bad": "#f0707f",
    "palette": ["#6ea8e8", "#e89a4c", "#4fb892", "#b08fe0", "#d0b24f", "#e07fb0", "#9aa3b2"],
}  # fmt: skip
NEUTRAL = LIGHT | {"ink": "#808693", "muted": "#808693", "grid": "#8086933a"}
"""For live notebooks, whose background nobody knows: text that reads on white and on black."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def theme(colors: dict[str, Any]) -> dict[str, Any]:
    """Return a Vega-Lite config in these colours; charts name roles, the config gives them colours."""
    return {
        "background": None,
        "font": FONT,
        "padding": {"left": 2, "right": 8, "top": 4, "bottom": 2},
        "view": {"stroke": None},
        "title": {
            "anchor": "start", "fontSize": 14, "fontWeight": 600, "offset": 12, "color": colors["ink"],
            "subtitleColor": colors["muted"], "subtitleFontSize": 12, "subtitlePadding": 4,
        },
        "axis": {
            "domain": False, "ticks": False, "labelPadding": 6, "labelFontSize": 11, "titleFontSize": 11,
            "titleFontWeight": "normal", "labelColor": colors["muted"], "titleColor": colors["muted"],
            "gridColor": colors["grid"],
        },
        "axisX": {"grid": False, "domain": True, "domainColor": colors["grid"], "titlePadding": 8, "tickCount": 8},
        "axisY": {
            "titleAlign": "left", "titleAnchor": "end", "titleAngle": 0, "titleX": 0, "titleY": -8, "tickCount": 5,
        },
        "legend": {
            "orient": "top", "direction": "horizontal", "title": None, "labelFontSize": 12, "labelLimit": 320,
            "labelColor": colors["ink"], "symbolType": "circle", "symbolSize": 70, "symbolStrokeWidth": 0,
            "offset": 28, "padding": 0, "columnPadding": 16, "rowPadding": 5,
        },
        "range": {"category": colors["palette"]},
        "line": {"strokeWidth": 1.8, "strokeJoin": "round"},
        "area": {"line": False, "fillOpacity": 0.88},
        "rule": {"color": colors["ink"]},
        "text": {"color": colors["ink"]},
        "style": {
            "limit": {"color": colors["bad"], "stroke": colors["bad"], "strokeDash": [5, 4], "strokeWidth": 1.4},
            "limit-text": {
                "color": colors["bad"], "fill": colors["bad"], "fontSize": 11, "align": "right", "baseline": "bottom",
                "dy": -4,
            },
            "good": {"fill": colors["palette"][0], "fillOpacity": 0.75},
            "bad": {"fill": colors["bad"]},
            "warmup": {"fill": colors["muted"], "fillOpacity": 0.12},
        },
    }  # fmt: skip


def present(
    chart: "alt.Chart | alt.LayerChart", title: str, subtitle: str = "", *, height: int = 220
) -> "alt.Chart | alt.LayerChart":
    """Return the chart with title, full width and perfkit's look, ready to be shown or changed further."""
    import altair as alt

    _register()
    heading = alt.TitleParams(title, subtitle=subtitle) if subtitle else alt.TitleParams(title)
    return chart.properties(
        width="container",
        height=height,
        title=heading,
        description=f"{title}. {subtitle}".removesuffix(" "),
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
    )


def line_legend() -> "alt.Legend":
    """Return a legend whose symbols are pieces of a line."""
    import altair as alt

    return alt.Legend(symbolType="stroke", symbolStrokeWidth=3, symbolSize=180)


def time_unit(duration_s: float) -> tuple[float, str]:
    """Return `(divisor, axis title)` for a recording of this length."""
    if duration_s < 600:
        return 1.0, "seconds into the recording"
    if duration_s < 36_000:
        return 60.0, "minutes into the recording"
    return 3_600.0, "hours into the recording"


def time_x(field: str, duration_s: float) -> "alt.X":
    """Return the time axis that all charts of a recording share, so that they can be read below each other."""
    import altair as alt

    per, title = time_unit(duration_s)
    domain = [0, round(duration_s / per, 3)] if duration_s else alt.Undefined
    return alt.X(f"{field}:Q", title=title, scale=alt.Scale(nice=False, domain=domain, clamp=True))


def _register() -> None:
    """Make Altair show charts our way, unless the user has chosen a renderer or a theme already."""
    import altair as alt

    if "perfkit" not in alt.renderers.names():
        alt.renderers.register("perfkit", _bundle)
        alt.theme.register("perfkit", enable=False)(lambda: alt.theme.ThemeConfig({"config": theme(NEUTRAL)}))
    if alt.renderers.active == "default":
        alt.renderers.enable("perfkit")
    if alt.theme.active == "default":
        alt.theme.enable("perfkit")


def _bundle(spec: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Return what a notebook stores of a chart."""
    return {MIME: spec, "text/plain": f"[chart] {spec.get('description', '')}"}
