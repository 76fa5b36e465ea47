"""Charts are drawn alike by the Vega-Lite of reports (6) and by that of JupyterLab (5): both get one specification."""

from typing import Any

import pytest

from perfkit import views
from perfkit.profile import Profile
from perfkit.views import charts
from tests.builders import leaking

vl_convert = pytest.importorskip(
    "vl_convert", reason="vl-convert-python is not installed (pip install perfkit[static])"
)
CHARTS = ["cpu_over_time", "heap_over_time", "latency_over_time", "memory_over_time", "throughput_over_time"]


@pytest.fixture(scope="module")
def leak(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return leaking(tmp_path_factory.mktemp("profiles") / "leak")


@pytest.mark.parametrize("name", CHARTS)
def test_chart_is_the_same_picture_in_a_notebook_and_in_a_report(name: str, leak: Profile) -> None:
    shown: Any = getattr(views, name)(leak)._repr_mimebundle_()
    spec = (shown[0] if isinstance(shown, tuple) else shown)[charts.MIME] | {"width": 600}
    newest, live = (vl_convert.vegalite_to_svg(spec, vl_version=version) for version in ("6.4", "5.20"))
    assert newest.count("<path") > 10
    assert newest == live
