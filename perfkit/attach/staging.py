"""The only place for files that both we and the target can reach, whatever separates us."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from perfkit.attach.errors import AttachDenied
from perfkit.attach.target import Target


@dataclass(frozen=True, slots=True)
class Staging:
    """A folder the target may write to: `here` is our path of it, `there` the target's."""

    target: Target
    here: Path
    there: Path
    is_temporary: bool

    def share(self, folder: Path) -> Path:
        """Return the target's path of one of our folders, copied to where it can read it if need be."""
        if not self.is_temporary:
            return folder
        copy = self.here / folder.name
        if not copy.exists():
            shutil.copytree(folder, copy)
        return self.there / folder.name


@contextmanager
def staging(target: Target, folder: Path) -> Iterator[Staging]:
    """Yield a place for files of the target; whatever it wrote is in `folder` afterwards.

    It is `folder` itself where the target runs as our user and sees the same files, else a
    folder in the target's own /tmp, which is emptied into `folder` at the end.

    Raises:
        AttachDenied: its /tmp cannot be written to.
    """
    owner = Path(f"/proc/{target.pid}").stat()
    if target.in_our_mount_namespace and owner.st_uid == os.geteuid():
        yield Staging(target, folder.resolve(), folder.resolve(), is_temporary=False)
        return
    there = Path("/tmp", f"perfkit-{secrets.token_hex(16)}")  # noqa: S108 - a secret name, a private folder
    here = target.outside(there)
    try:
        here.mkdir(mode=0o700)
        os.chown(here, owner.st_uid, owner.st_gid)
    except OSError as error:
        raise AttachDenied(
            target.pid,
            why=f"its /tmp cannot be written to ({error.strerror})",
            hint="Run perfkit as root, or as the user of the target.",
        ) from error
    # The way through /proc ends with the target; a descriptor of the folder does not.
    descriptor = os.open(here, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Staging(target, here, there, is_temporary=True)
    finally:
        kept = Path(f"/proc/self/fd/{descriptor}")
        with suppress(OSError):
            for file in kept.iterdir():
                if file.is_file():
                    shutil.copyfile(file, folder / file.name)
        with suppress(OSError):
            for entry in kept.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            here.rmdir()
        os.close(descriptor)
