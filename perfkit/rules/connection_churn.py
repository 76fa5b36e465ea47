"""The rule `connection_churn`: are connections opened anew that could have been used again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from perfkit.analysis.pool_churn import Cause, PoolChurn, pool_churn
from perfkit.analysis.pooled_sockets import closing, peers_of, plain
from perfkit.analysis.pools import pools_of_process, site_of
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
from perfkit.pool_findings import short
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
    Where pools were recorded, too, they say what is not seen from outside: how many they made per use, that a setting
    wants it so, that each request makes a pool of its own, that a pool keeps fewer than it has, or not for long enough,
    or would have kept what the peer closes. They count where several processes of the machine talk to the same peer:
    a connection that ends before its descriptor is seen may be anybody's.
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
    max_age_s: float = 10.0
    """Connections that are older when they end were sessions of their own: what opening them costs is nothing to it."""
    min_expired_per_s: float = 1.0
    """Connections a second that a pool may make anew because they were idle for too long: few cost nothing."""
    max_peers_ratio: float = 0.5
    """Peers per connection made: a crawler goes to each once, and a connection to another host is of no use to it."""
    max_inferred: float = 0.5
    """Share of the connections to a peer, of all and of those that ended, that only their peer ties to this process."""
    min_ended: float = 0.5
    """Share of the new connections that end within the recording: those that stay open are not thrown away, they are
    kept, by a pool that grows or by a program that never gives them back."""
    min_unclaimed: int = 5
    """Connections that were met open, and not in its descriptor table; one or two were closed in that moment."""
    min_fresh_share: float = 0.8
    """Share of the connections to a peer that had a pool of their own, for one or two uses."""
    port_ratio: float = 0.5
    """Share of the port range that closed connections to one peer may hold: from here a burst ends in EADDRNOTAVAIL."""

    def check(self, profile: Profile) -> list[Finding]:
        """Return one finding per process, or one per peer or pool with churn; none when neither was recorded."""
        found: list[Finding] = []
        for pid in profile.pids:
            told = self._of_pools(profile, pid)
            window = socket_window(profile, pid)
            if window is None:
                found += [finding for _peers, finding in told]
                continue
            rows = churn(connections(profile, pid), window)
            unclear = {row.peer: why for row in rows if (why := self._whose(profile, pid, row)) is not None}
            judged = [
                self._by_pool(profile, each)
                if each.verdict is Verdict.UNDECIDED and "whose" not in each.evidence
                else each
                for each in self.judge(pid, rows, port_range(profile, pid), coverage(profile, pid), unclear)
            ]
            found += _together(told, judged)
        return found

    def _of_pools(self, profile: Profile, pid: int) -> list[tuple[set[str], Finding]]:
        """Return what the pools of a process say themselves, with the peers that it is about; empty: not known."""
        pools = pools_of_process(profile, pid)
        peers = peers_of(profile, pid)
        found = []
        for each in pool_churn(pools):
            if (
                each.created < self.min_born
                or each.busy_ratio < self.min_busy_ratio
                or each.per_use_ratio <= self.max_ratio
                or (each.median_age_s or 0.0) > self.max_age_s
            ):
                continue
            its_peers = set[str]().union(*(peers.get(name, ()) for name in each.pools))
            if len(its_peers) > self.max_peers_ratio * each.created:
                continue
            finding = self._of_pool(profile, pid, each)
            if finding is not None:
                found.append((its_peers, finding))
        return found

    def _of_pool(self, profile: Profile, pid: int, each: PoolChurn) -> Finding | None:
        """Return the finding about a pool that makes connections anew, None: it does not say why."""
        place = site_of(profile, each.stack_id)
        site = Site(place.function, place.file, place.line) if place else None
        where = short(site) if site else "The program"
        name = each.pools[0]
        verdict, hint, needs = Verdict.FAIL, "", tuple[str, ...]()
        rate = f"{three_digits(each.created_per_s)} connections per second"
        if each.cause is Cause.FRESH_POOLS:
            title = (
                f"{where} makes a new pool for nearly each use: {each.number} like {name} had a connection or two, for "
                "one or two uses"
            )
            hint = "Make one client (session, engine) when the program starts, and use it for all requests."
        elif each.cause is Cause.SURPLUS:
            title = (
                f"{name} keeps {each.kept} idle connections and has up to {each.most_open}: "
                f"{each.number} were closed as soon as they came back"
            )
            hint = f"Let it keep as many as are used at a time: about {each.most_open}."
        elif each.cause is Cause.EXPIRED and each.created_per_s >= self.min_expired_per_s:
            title = (
                f"{name} makes {rate} because it closes idle ones before they are wanted again: {each.number} were "
                "closed when their time was over"
            )
            hint = "Let it keep idle connections for longer, as long as the peer allows."
        elif each.cause is Cause.CLOSED_IN_USE:
            title = f"{each.number} connections of {name} ended with their use by {where}: {rate} are made anew"
            hint = (
                "Read each answer to its end, or the connection cannot be used again; if they are read, the peer wants "
                "it so (`Connection: close`)."
            )
            verdict, needs = Verdict.UNDECIDED, ("whether the answers are read to their end, and what the peer wants",)
        else:
            return None
        return Finding(
            _NAME,
            verdict,
            _NAME if verdict is Verdict.FAIL else "undetermined",
            title,
            hint,
            measured=each.per_use_ratio,
            limit=self.max_ratio,
            unit="ratio",
            confidence=0.9 if verdict is Verdict.FAIL else 0.5,
            site=site,
            pid=pid,
            evidence={
                "direction": "upstream",
                "pools": list(each.pools[:5]),
                "cause": str(each.cause),
                "made": each.created,
                "made_per_s": round(each.created_per_s, 3),
                "uses": each.uses,
                "median_age_s": each.median_age_s,
            },
            needs=needs,
        )

    def _whose(self, profile: Profile, pid: int, row: Churn) -> str | None:
        """Return why the connections to a peer may be another process's, None: they are this one's."""
        if row.by_peer <= self.max_inferred * row.born and row.ended_inferred <= self.max_inferred * row.ended:
            return None
        names = {name for name, peers in peers_of(profile, pid).items() if plain(row.peer) in peers}
        pools = pools_of_process(profile, pid)
        made = sum(len(pool.created_ns) for pool in pools if pool.name in names)
        if names and made < self.max_inferred * row.born:
            return f"its pools have made {made}"
        if row.unclaimed >= max(self.min_unclaimed, row.claimed):
            return (
                f"of {row.claimed + row.unclaimed} closed ones that were met while they were open it had {row.claimed}"
            )
        return None

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
        self,
        pid: int,
        rows: Sequence[Churn],
        ports: int = 28_232,
        seen: tuple[int, int] | None = None,
        unclear: Mapping[str, str] = MappingProxyType({}),
    ) -> list[Finding]:
        """Return the findings for one process.

        Args:
            pid: the process.
            rows: churn per peer.
            ports: size of the port range.
            seen: connections that the kernel counted and that were seen.
            unclear: peers to which others may have opened them, and why.
        """
        shared: dict[str, Any] = {"pid": pid, "limit": self.max_ratio, "unit": "ratio"}
        failing, doubtful = [], []
        for row in rows:
            resting_ratio = row.local_closes_per_s * TIME_WAIT_S / ports
            going_on = row.born >= self.min_born and row.busy_ratio >= self.min_busy_ratio
            evidence = _evidence(row, resting_ratio, seen)
            is_churn = (
                going_on and row.per_exchange_ratio > self.max_ratio and bool(row.exchanges) and not self._are_kept(row)
            )
            is_short = going_on and resting_ratio > self.port_ratio
            if not is_churn and not is_short:
                continue
            if row.peer in unclear:
                doubtful.append(_of_several(row, unclear[row.peer], evidence, shared))
            elif is_short:
                failing.append(self._short_of_ports(row, resting_ratio, evidence, pid))
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
            elif row.median_age_s is None or row.median_age_s <= self.max_age_s:
                doubtful.append(self._single(row, evidence, shared))
        if failing or doubtful:
            return [*failing, *doubtful]
        if not rows:
            title = "The process opened no connection to others while it was recorded"
        elif self._are_kept(rows[0]):
            title = (
                f"Connections are kept: {rows[0].born} were opened to {rows[0].peer}, {rows[0].ended} of them closed"
            )
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

    def _are_kept(self, row: Churn) -> bool:
        """Whether most of the new connections stay open."""
        return row.ended < self.min_ended * row.born

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


def _of_several(row: Churn, why: str, evidence: dict[str, Any], shared: dict[str, Any]) -> Finding:
    """Return that it cannot be told which process opened the connections to a peer."""
    return undecided(
        _NAME,
        f"{row.born} connections were opened to {row.peer} by this process or others of the machine: {why}",
        "the other processes that talk to the same peer, too (`--children` for workers)",
        measured=row.per_exchange_ratio,
        evidence=evidence | {"whose": why},
        **shared,
    )


def _together(told: Sequence[tuple[set[str], Finding]], judged: Sequence[Finding]) -> list[Finding]:
    """Return what pools and sockets say, of each peer by whoever knows more: the pools, if they know why."""
    kept = [
        finding
        for peers, finding in told
        if finding.verdict is Verdict.FAIL
        or not any(each.verdict is Verdict.FAIL and _is_about(each, peers, finding) for each in judged)
    ]
    others = [
        each
        for each in judged
        if not any(finding in kept and _is_about(each, peers, finding) for peers, finding in told)
    ]
    return [*kept, *(each for each in others if not kept or each.verdict is not Verdict.PASS)]


def _is_about(of_sockets: Finding, peers: set[str], of_pools: Finding) -> bool:
    """Whether what sockets say is about the connections that pools speak of."""
    peer = of_sockets.evidence.get("peer")
    if peer is None:
        return False
    if peers:
        return plain(str(peer)) in peers
    # Pools that are gone before anybody looks where they lead are known by the number of their connections.
    return int(of_pools.evidence["made"]) >= 0.5 * int(of_sockets.evidence["opened"])


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
        "closed": row.ended,
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
