"""The only place that decides which process a view shows when the reader did not say."""

from perfkit.profile import Profile


def chosen_pid(profile: Profile, pid: int | None) -> int:
    """Return `pid`, or the main process of the recording when it is None or 0; -1 when there is none."""
    if pid:
        return pid
    return profile.pids[0] if profile.pids else -1
