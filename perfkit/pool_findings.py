"""The only place that says what all rules about connection pools share: whom they ask, the form of their answers."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from perfkit.analysis.pools import Pool, path_to, recorded_pools, site_of
from perfkit.findings import Finding, Site, Verdict
from perfkit.profile import Profile
from perfkit.units import percent_text

MIN_WINDOW_S = 10.0
"""Shorter recordings see too few uses of a connection to say that all is well."""


def judged(
    profile: Profile, rule: str, of_pool: Callable[[Pool], Iterable[Finding]], well: str, unit: str = "count"
) -> list[Finding]:
    """Return what a rule says about each process whose pools were recorded: none when none was.

    Args:
        profile: the recording.
        rule: its name.
        of_pool: returns the findings about one pool, none: nothing is wrong with it.
        well: sentence for a process in which nothing is wrong.
        unit: of the rule's measure.
    """
    found: list[Finding] = []
    for process in recorded_pools(profile):
        about = [finding for pool in process.pools for finding in of_pool(pool)]
        if about:
            found += about
            continue
        lost = sum(pool.lost for pool in process.pools)
        window_s = max((pool.window_s for pool in process.pools), default=0.0)
        verdict, title, needs = Verdict.PASS, well, tuple[str, ...]()
        if not process.pools:
            title = "The process uses no connection pool that perfkit knows"
        elif not any(pool.checkouts or pool.waits for pool in process.pools):
            title = "Nobody asked a pool for a connection while it was recorded"
        elif window_s < MIN_WINDOW_S or lost:
            verdict, title = Verdict.UNDECIDED, "Not recorded long enough, or not completely, to judge the pools"
            needs = (f"at least {MIN_WINDOW_S:.0f} s of recording without losses",)
        hint = "Nothing to do." if verdict is Verdict.PASS else "Record longer."
        class_ = "none" if verdict is Verdict.PASS else "undetermined"
        found.append(
            Finding(rule, verdict, class_, title, hint, unit=unit, pid=process.pid, confidence=0.9, needs=needs)
        )
    return found


def pool_finding(
    rule: str,
    pool: Pool,
    profile: Profile,
    title: str,
    hint: str,
    *,
    verdict: Verdict = Verdict.FAIL,
    stack_id: int | None = None,
    measured: float | None = None,
    limit: float | None = None,
    unit: str = "count",
    confidence: float = 0.9,
    evidence: Mapping[str, Any] | None = None,
    needs: tuple[str, ...] = (),
) -> Finding:
    """Return what a rule says about one pool; `{site}` in the title becomes the line that `stack_id` leads to."""
    place = site_of(profile, stack_id)
    if pool.is_sampled and stack_id is not None:
        evidence = {**(evidence or {}), "lines_known_ratio": round(pool.lines_known_ratio, 4)}
    site = Site(place.function, place.file, place.line) if place else None
    return Finding(
        rule=rule,
        verdict=verdict,
        class_=rule if verdict is Verdict.FAIL else "undetermined",
        title=title.replace("{site}", short(site) if site else "code that was not seen"),
        hint=hint,
        measured=measured,
        limit=limit,
        unit=unit,
        confidence=confidence,
        site=site,
        pid=pool.pid,
        evidence={"pool": pool.name, **(evidence or {}), "path": path_to(profile, stack_id)},
        needs=needs,
    )


def sampled(pool: Pool) -> str:
    """Return what has to be said beside a count per line when the lines of only some acquisitions are known."""
    if not pool.is_sampled:
        return ""
    return f", counting the {percent_text(pool.lines_known_ratio)} of all acquisitions whose line was noted (a sample)"


def short(site: Site) -> str:
    """Return a place in a sentence: function, and file without the folders around its package.

    >>> short(Site("login", "srv/app/views.py", 88))
    'login (app/views.py:88)'
    """
    file = "/".join(site.file.split("/")[-2:]) if site.file else None
    return str(Site(site.function, file, site.line))
