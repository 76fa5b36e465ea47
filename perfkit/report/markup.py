"""The only place that declares text to be HTML: made by perfkit, escaped where it was made."""

import re
from typing import Any

from perfkit.report.redact import Redactor

_BREAKABLE = re.compile(r'(<(?:code class="pk-name"|span class="pk-where")>(?:<bdi[^>]*>)?)([^<]*)')


def safe(html: str) -> Any:
    """Return HTML that the template inserts as it is."""
    from markupsafe import Markup

    return Markup(html)  # noqa: S704


def clean(html: str, redactor: Redactor) -> Any:
    """Return HTML without absolute paths, whose long names may be broken at their separators."""
    return safe(_BREAKABLE.sub(_with_breaks, redactor.text(html)))


def _with_breaks(match: re.Match[str]) -> str:
    """Return a name or a path that may be broken: paths after a slash, names after a dot or an underscore."""
    separators = r"(?<=[._])(?=\w)" if "pk-name" in match[1] else r"(?<=/)(?=\w)"
    return match[1] + re.sub(separators, "<wbr>", match[2])
