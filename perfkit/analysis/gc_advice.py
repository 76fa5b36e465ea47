"""The only place that writes a recommendation down: code to paste, where to, what may go wrong, what to watch."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Advice:
    """A setting as code to paste, the places to put it, its risks, and what to watch once it is out."""

    code: str
    where: tuple[str, ...]
    risks: tuple[str, ...]
    watch: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON values."""
        return {"code": self.code, "where": list(self.where), "risks": list(self.risks), "watch": list(self.watch)}


_PLACES = (
    "at the end of the application's start-up, once per process: after imports, configuration and warm-up requests",
    "with gunicorn: in the hook post_worker_init of gunicorn.conf.py; not before a fork with open pools",
    "with uvicorn, hypercorn and other ASGI servers: at the end of the lifespan's start-up",
)
_WATCH = (
    "resident memory and open descriptors over a day: garbage waits longer for its collection",
    "the share of time in collections (perfkit record --collect gc) after each release: it changes with the code",
)


def raised(code: str) -> Advice:
    """Return the advice to run code that raises the first threshold, perhaps after freezing; the others stay."""
    threshold = int(code.partition("set_threshold(")[2].partition(",")[0].rstrip(")"))
    return Advice(
        f"import gc\n\n{code}",
        _PLACES,
        (
            f"garbage waits until {threshold:,} more objects were made than freed, and so does what it holds",
            "an idle process keeps its garbage until it is busy again",
            "a change of the code that makes cycles hold bodies or connections turns this into growing memory",
            "the meaning of the number depends on the version of Python: set it only for the one it was measured on",
        ),
        _WATCH,
    )


def freeze() -> Advice:
    """Return the advice to freeze what is alive after the warm-up."""
    return Advice(
        "import gc\n\ngc.collect()  # or garbage is frozen, too\ngc.freeze()",
        _PLACES,
        (
            "what is frozen is never looked at again: requests in flight and cycles among it are kept for good",
            "freeze only when nothing is in flight and pools are idle",
            "what is loaded later is not frozen: full passes get slower again as it grows",
            "full passes get cheap, not rare; they may even come more often",
        ),
        (*_WATCH, "gc.get_freeze_count() and the pause of full collections: both are in the gc collector's tables"),
    )
