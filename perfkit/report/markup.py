"""The only place that declares text to be HTML: made by perfkit, escaped where it was made."""

import re
from typing import Any

from perfkit.report.redact import Redactor

_BREAKABLE = re.compile(r'(<code class="pk-name">|<span class="pk-where">)([^<]*)')


def safe(html: str) -> Any:
    """Return HTML that the template inserts as it is."""
    from markupsafe import Markup

    return Markup(html)  # noqa: S704


def clean(html: str, redactor: Redactor) -> Any:
    """Return HTML without absolute paths, whose long names may be broken at their separators."""
    return safe(_BREAKABLE.sub(lambda m: m[1] + re.sub(r"(?<=[/._])(?=\w)", "<wbr>", m[2]), redactor.text(html)))
