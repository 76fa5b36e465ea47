"""The rule `connection_churn`: are connections opened anew that could have been used again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from perfkit.analysis.pooled_sockets import closing
from perfkit.analysis.pools import site_of
from perfkit.analysis.socket_lifetimes import (
    TIME_WAIT_S,
    Churn,
    churn,
    connections,
    coverage,
    port_range,
    socket_window,
)
from perfkit.findings import Finding, Site, Verdict
from perfkit.profile import Profile
from perfkit.rules import undecided
from perfkit.units import percent_text, seconds_text, three_digits

_NAME = "connection_churn"
_POOLS = "`--collect pools`, to see which pool closes them and its settings"


@dataclass(frozen=True)
class ConnectionChurn:
    """Connections to a peer are thrown away after a request or two although the peer would keep them.

    Why it matters: each new connection costs round trips, a handshake and, with TLS, CPU on both sides; each
    one closed by us keeps its port for a minute, and when ports run out, nothing can be opened.
    Evidence: connections opened per exchange of data, all through the recording; that some connections to the
    same peer carried many exchanges while others were closed after the first; who closed; and how many ports the
    closed ones hold.
    Where pools were recorded, too, they say what is not seen from outside: that a setting wants it so, that each
    request makes a pool of its own, that a pool keeps fewer than it has, or would have kept what the peer closes.
    Limits: requests are not seen from outside: exchanges are counted by segments with data, so that large bodies
    hide churn and never make it. When every connection carries just one exchange it cannot be told whether that is
    meant (a pool that is switched off, `Connection: close`) or an accident: that is undecided, unless ports run
    short. An opening burst in the first tenth of the recording does not count.
    Source: RFC 9112, section 9.3 (persistence), section 9.6 (tear-down)
    """

    max_ratio: float = 0.1
    """One connection per ten exchanges: a pool that works opens a hundredth of that; httpcore 1.0.9 with more
    busy connections than its keep-alive limit opens one per three."""
    min_born: int = 20
    """Fewer connections cannot be told from clients that come and go."""
    min_busy_ratio: float = 0.5
    """Churn goes on; bursts and one deployment do not."""
    min_reused: int = 5
    """So many connections that carried more than the least used ones prove that the peer keeps connections."""
    max_single: int = 3
    """A request, or a TLS handshake and a request. Where even the least used carry more, they are sessions that begin
    with a conversation, such as those of databases, and are ended on purpose."""
    min_reused_ratio: float = 0.005
    """The same as a share of all, so that a few odd ones among thousands prove nothing."""
    min_fresh_share: float = 0.8
    """Share of the connections to a peer that had a pool of their own, for one or two uses."""
    port_ratio: float = 0.5
    """Share of the port range that closed connections to one peer may hold: from here a burst ends in EADDRNOTAVAIL."""

    def check(self, profile: Profile) -> list[Finding]:
        """Return one finding per process, or one per peer with churn; none when its sockets were not recorded."""
        found: list[Finding] = []
        for pid in profile.pids:
            window = socket_window(profile, pid)
            if window is None:
                continue
            rows = churn(connections(profile, pid), window)
            judged = self.judge(pid, rows, port_range(profile, pid), coverage(profile, pid))
            found += [self._by_pool(profile, each) if each.verdict is Verdict.UNDECIDED else each for each in judged]
        return found

    def _by_pool(self, profile: Profile, finding: Finding) -> Finding:
        """Return an undecided finding decided by what the pools say of the connections to its peer, if they do."""
        assert finding.pid is not None
        opened = int(finding.evidence["opened"])
        known = closing(profile, finding.pid, str(finding.evidence["peer"]), opened)
        if known is None:
            return finding
        evidence = {**finding.evidence, "pools": list(known.pools[:5]), "pools_of_one_use": known.fresh}
        if known.set_so is not None:
            return replace(
                finding, verdict=Verdict.PASS, class_="none", confidence=0.9, evidence=evidence, needs=(),
                title=f"{finding.title}: {known.pools[0]} is set so ({known.set_so})",
                hint="Nothing to do, if that is meant.",
            )  # fmt: skip
        place = site_of(profile, known.stack_id)
        site = Site(place.function, place.file, place.line) if place else None
        decided = replace(
            finding, verdict=Verdict.FAIL, class_=_NAME, confidence=0.9, evidence=evidence, needs=(), site=site
        )
        if known.fresh >= self.min_born and known.fresh >= self.min_fresh_share * opened:
            return replace(
                decided,
                title=f"{site or 'The program'} makes a new pool for nearly each use: {known.fresh} of them had one "
                f"connection to {finding.evidence['peer']} for one or two uses",
                hint="Make one client (session, engine) when the program starts, and use it for all requests.",
            )
        if known.kept is not None and known.most_open > known.kept and known.surplus >= self.min_born:
            return replace(
                decided,
                title=f"{known.pools[0]} keeps {known.kept} idle connections and has up to {known.most_open}: "
                f"{known.surplus} were closed as soon as they came back",
                hint=f"Let it keep as many as are used at a time: about {known.most_open}.",
            )
        if finding.evidence["closed_by_peer"] > finding.evidence["closed_by_us"]:
            return replace(
                finding, verdict=Verdict.PASS, class_="none", confidence=0.8, evidence=evidence, needs=(),
                title=f"{finding.title}; the pool would have kept them",
            )  # fmt: skip
        return replace(finding, evidence=evidence, needs=("what the peer answers: `Connection: close` looks the same",))

    def judge(
        self, pid: int, rows: Sequence[Churn], ports: int = 28_232, seen: tuple[int, int] | None = None
    ) -> list[Finding]:
        """Return the findings for one process.

        Args:
            pid: the process.
            rows: churn per peer.
            ports: size of the port range.
            seen: connections that the kernel counted and that were seen.
        """
        shared: dict[str, Any] = {"pid": pid, "limit": self.max_ratio, "unit": "ratio"}
        failing, doubtful = [], []
        for row in rows:
            resting_ratio = row.local_closes_per_s * TIME_WAIT_S / ports
            going_on = row.born >= self.min_born and row.busy_ratio >= self.min_busy_ratio
            evidence = _evidence(row, resting_ratio, seen)
            if resting_ratio > self.port_ratio and going_on:
                failing.append(self._short_of_ports(row, resting_ratio, evidence, pid))
            elif not going_on or row.per_exchange_ratio <= self.max_ratio or not row.exchanges:
                continue
            elif self._are_kept_by_the_peer(row) and _we_close(row):
                failing.append(
                    Finding(
                        _NAME,
                        Verdict.FAIL,
                        _NAME,
                        f"{three_digits(row.born_per_s)} connections per second to {row.peer} are thrown away: "
                        f"{three_digits(row.per_exchange_ratio)} per exchange, "
                        f"median lifetime {seconds_text(row.median_age_s)}",
                        "The peer keeps connections and this process closes them. Let the pool keep as many idle "
                        "connections (max_keepalive_connections, pool_maxsize, pool_size) as there are requests "
                        "at a time, and use one client for all requests.",
                        measured=row.per_exchange_ratio,
                        confidence=0.9 if row.born >= 5 * self.min_born else 0.8,
                        evidence=evidence,
                        needs=(_POOLS,),
                        **shared,
                    )
                )
            else:
                doubtful.append(self._single(row, evidence, shared))
        if failing or doubtful:
            return [*failing, *doubtful]
        if not rows:
            title = "The process opened no connection to others while it was recorded"
        else:
            title = f"Connections are used again: {rows[0].born} were opened to {rows[0].peer} after the first tenth"
        measured = max((row.per_exchange_ratio for row in rows if row.born >= self.min_born), default=0.0)
        evidence = _evidence(rows[0], 0.0, seen) if rows else {}
        return [
            Finding(
                _NAME,
                Verdict.PASS,
                "none",
                title,
                "Nothing to do.",
                measured=measured,
                confidence=0.9,
                evidence=evidence,
                **shared,
            )
        ]

    def _are_kept_by_the_peer(self, row: Churn) -> bool:
        """Whether enough connections were used again to say that the others could have been."""
        enough = max(self.min_reused, self.min_reused_ratio * row.born)
        return row.single <= self.max_single and row.reused >= enough

    def _short_of_ports(self, row: Churn, resting_ratio: float, evidence: dict[str, Any], pid: int) -> Finding:
        """Return the finding for connections whose ports are held in TIME_WAIT."""
        return Finding(
            _NAME,
            Verdict.FAIL,
            _NAME,
            f"Closed connections to {row.peer} hold {percent_text(resting_ratio)} of the ports in TIME_WAIT",
            "Use connections again (one client with keep-alive for all requests), or let the peer close first.",
            measured=resting_ratio,
            limit=self.port_ratio,
            unit="ratio",
            confidence=0.9,
            pid=pid,
            evidence=evidence,
            needs=(_POOLS,),
        )

    def _single(self, row: Churn, evidence: dict[str, Any], shared: dict[str, Any]) -> Finding:
        """Return the finding for connections that are never used again, or that the peer closes."""
        if _we_close(row):
            title = f"Connections to {row.peer} are closed after use: {three_digits(row.born_per_s)} per second"
            hint = "If that is not meant, use one client with keep-alive for all requests."
        else:
            title = f"The peer {row.peer} closes connections: {three_digits(row.born_per_s)} per second are opened anew"
            hint = "Look at the keep-alive settings of the peer."
        return undecided(_NAME, title, _POOLS, hint=hint, measured=row.per_exchange_ratio, evidence=evidence, **shared)


def _we_close(row: Churn) -> bool:
    """Whether this side closes most of the connections, as far as it was seen."""
    return row.closed_by_us > row.closed_by_peer


def _evidence(row: Churn, resting_ratio: float, seen: tuple[int, int] | None) -> dict[str, Any]:
    """Return the numbers behind a finding."""
    evidence: dict[str, Any] = {
        "direction": "upstream",
        "peer": row.peer,
        "opened": row.born,
        "opened_per_s": round(row.born_per_s, 3),
        "exchanges": row.exchanges,
        "carried_by_the_least_used": row.single,
        "carried_more": row.reused,
        "closed_by_us": row.closed_by_us,
        "closed_by_peer": row.closed_by_peer,
        "median_age_s": row.median_age_s,
        "median_bytes": row.median_bytes,
        "time_wait_port_ratio": round(resting_ratio, 4),
    }
    if seen is not None and seen[0]:
        evidence["seen_of_all_in_namespace_ratio"] = round(seen[1] / seen[0], 4)
    return evidence


RULE = ConnectionChurn()
