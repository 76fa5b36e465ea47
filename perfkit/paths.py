"""The only place that makes the path of a source file fit to be stored, hashed and shared."""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

_LIBRARY = re.compile(r"^.*/(?:site|dist)-packages/")
_STDLIB = re.compile(r"^.*/lib(?:64)?/python(?:\d(?:\.\d+)?t?)/")
_SCRIPT = re.compile(r"^.*/(s?bin/[^/.]+)$")
_FROZEN = re.compile(r"^<frozen (.*)>$")


def clean_path(file: str, roots: Sequence[str] = ()) -> tuple[str, str]:
    """Return `(path, kind)` of a source file, without the parts that differ between hosts.

    Hashes of it agree across hosts, and a shared report does not tell where things are
    installed. Cut off is everything up to site-packages or the standard library; else up to
    the top package the file is in (the folders above it that hold an `__init__.py`); else one
    of `roots`; of any other path the last two parts are kept. Installed commands count as
    library: they start a program, but nothing is to be mended there.

    Args:
        file: path as the interpreter knows it.
        roots: folders to cut off, such as the working directory of the target.

    Returns:
        The path, and its kind: python, library, stdlib or interpreter.

    >>> clean_path("/srv/venv/lib/python3.11/site-packages/flask/app.py")
    ('flask/app.py', 'library')
    >>> clean_path("/usr/lib/python3.11/asyncio/events.py")
    ('asyncio/events.py', 'stdlib')
    >>> clean_path("/srv/venv/bin/gunicorn")
    ('bin/gunicorn', 'library')
    >>> clean_path("/srv/shop/checkout/views.py", ["/srv/shop"])
    ('checkout/views.py', 'python')
    """
    if match := _LIBRARY.match(file):
        return file[match.end() :], "library"
    if match := _STDLIB.match(file):
        return file[match.end() :], "stdlib"
    if match := _SCRIPT.match(file):
        return match[1], "library"
    if match := _FROZEN.match(file):
        return match[1], "stdlib"
    if file.startswith("<"):
        return file, "interpreter"
    if not file.startswith("/"):
        return file, "python"
    if top := _package_root(file.rpartition("/")[0]):
        return file[len(top) + 1 :], "python"
    for root in sorted((*roots, str(Path.home())), key=len, reverse=True):
        if root != "/" and file.startswith(root.rstrip("/") + "/"):
            return file[len(root.rstrip("/")) + 1 :], "python"
    return "/".join(file.strip("/").split("/")[-2:]), "python"


@lru_cache(maxsize=4096)
def _package_root(folder: str) -> str | None:
    """Return the folder above the top package that `folder` is in, or None if it is in none."""
    if not Path(folder, "__init__.py").exists():
        return None
    parent = folder.rpartition("/")[0]
    return _package_root(parent) or parent


def module_of(path: str) -> str | None:
    """Return the dotted module of a cleaned path, or None where it cannot be told.

    >>> module_of("flask/app.py")
    'flask.app'
    """
    if not path.endswith(".py"):
        return None
    parts = path[:-3].strip("/").split("/")
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts) or None
