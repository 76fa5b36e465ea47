"""The only place that takes out of a report what a reader has no business to know."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_HOME = re.compile(r"(?<![\w.])/(?:home|Users)/[^/\s\"'<>:,)\]]+|(?<![\w./])/root(?=[/\s\"']|$)")
_LIBRARY = re.compile(r"/[^\s\"'<>:,()]*/(?:site|dist)-packages/")
_STDLIB = re.compile(r"/[^\s\"'<>:,()]*/lib/python3\.\d+t?/")
_CELL = re.compile(r"/[^\s\"'<>:,()]*/ipykernel_\d+/\d+\.py")
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Redactor:
    """Shortens absolute paths: home folders, where packages are installed, where the profile lies."""

    def __init__(self, profile: Path, name: str) -> None:
        checkout = Path(__file__).resolve().parent.parent.parent
        known: Sequence[tuple[str, str]] = (
            (f"{profile.resolve()}/", f"{name}/"),
            (str(profile.resolve()), name),
            (f"{checkout}/", ""),
            (f"{Path.home()}/", "~/"),
            (f"{sys.prefix}/", ""),
        )
        self._known = [(old, new) for old, new in known if len(old) > 2]

    def text(self, text: str) -> str:
        """Return a text without absolute paths of this host and without memory addresses."""
        for old, new in self._known:
            text = text.replace(old, new)
        for pattern, new in ((_LIBRARY, ""), (_STDLIB, ""), (_CELL, "cell"), (_HOME, "~"), (_ADDRESS, "0x…")):
            text = pattern.sub(new, text)
        return _ANSI.sub("", text)

    def tree(self, value: Any) -> Any:
        """Return JSON with every text in it redacted, keys included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(key)): self.tree(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.tree(each) for each in value]
        return value
