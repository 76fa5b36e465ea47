"""The only place for perfkit's errors: what happened, and what to do next.

Trouble *in the target* is a finding; trouble *with perfkit or its use* is one of
these exceptions. Callers read attributes, never text; `cli.py` maps them to exit codes.
"""


class PerfkitError(Exception):
    """Something perfkit cannot do; `hint` says what to do next."""

    hint: str = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class UsageError(PerfkitError, ValueError):
    """The command or call asks for something that does not exist or does not fit together."""


class CannotRecord(PerfkitError):
    """A recording is impossible; nothing was touched."""


class ProfileError(PerfkitError):
    """A folder cannot be read as a profile."""


class NotAProfile(ProfileError, FileNotFoundError):
    """The folder holds no profile."""

    hint = "Record one with `perfkit record --pid PID -o DIR`, or name a folder that holds a manifest.json."

    def __init__(self, path: object) -> None:
        super().__init__(f"{path} is not a profile: it has no manifest.json")
        if inside := _profiles_in(path):
            self.hint = f"It holds profiles: name one of them, such as {inside[0]}."
        self.path = path


def _profiles_in(path: object) -> list[str]:
    """Return the profiles in a folder, for a remedy."""
    from pathlib import Path

    return sorted(str(each.parent) for each in Path(str(path)).glob("*/manifest.json"))


class UnfinishedProfile(ProfileError):
    """The recording in the folder was interrupted and is not decoded yet."""

    hint = "Run `perfkit check DIR`: it finishes the recording from the raw data that was saved."

    def __init__(self, path: object) -> None:
        super().__init__(f"{path} is a recording that was interrupted before it was decoded")
        self.path = path


class StillRecording(ProfileError):
    """Another perfkit is writing to the folder right now."""

    hint = "Wait until it is done, or choose another folder with -o."

    def __init__(self, path: object, pid: int) -> None:
        super().__init__(f"{path} is being recorded by process {pid}")
        self.path = path
        self.pid = pid


class UnknownSchema(ProfileError):
    """The profile was written by a newer perfkit."""

    def __init__(self, path: object, schema: int, known: int) -> None:
        super().__init__(f"{path} has schema {schema}; this perfkit reads schemas up to {known}")
        self.hint = "Upgrade perfkit to read this profile."
        self.path = path
        self.schema = schema


class UnknownName(UsageError, LookupError):
    """A name that perfkit does not know, with the closest ones that it does."""

    def __init__(self, kind: str, name: str, known: list[str]) -> None:
        from difflib import get_close_matches

        close = get_close_matches(name, known, n=1)
        meant = f" Did you mean {close[0]!r}?" if close else ""
        super().__init__(f"there is no {kind} named {name!r}.{meant}")
        self.hint = f"Known: {', '.join(known)}."
        self.kind = kind
        self.name = name
        self.known = known
