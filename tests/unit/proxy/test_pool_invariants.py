"""Whatever happens in whatever order: no slot is lost, none is lent twice, nobody is forgotten."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from perfkit.proxy.pool import PoolSettings
from perfkit.proxy.pooled import State
from tests.unit.proxy.fakes import Borrower, PoolLab, check_invariant


class PoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.lab = PoolLab(
            maximum_size=3,
            minimum_idle=1,
            acquire_timeout_s=20,
            idle_timeout_s=30,
            maximum_lifetime_s=60,
            keepalive_s=25,
            leak_detection_s=10,
        )
        self.borrowers: list[Borrower] = []

    def holders(self) -> list[Borrower]:
        return [b for b in self.borrowers if b.connection is not None]

    def lent(self) -> list[Borrower]:
        return [b for b in self.holders() if b.connection is not None and b.connection.state is State.IN_USE]

    @rule()
    def acquire(self) -> None:
        self.borrowers.append(Borrower(self.lab.pool))

    @precondition(lambda self: self.lent())
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.lent())).give_back()

    @precondition(lambda self: self.lent())
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        borrower = data.draw(st.sampled_from(self.lent()))
        connection, borrower.connection = borrower.connection, None
        assert connection is not None
        self.lab.pool.discard(connection)

    @precondition(lambda self: any(b.waits for b in self.borrowers))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        borrower = data.draw(st.sampled_from([b for b in self.borrowers if b.waits]))
        assert borrower.ticket is not None
        borrower.ticket.cancel()
        self.borrowers.remove(borrower)

    @precondition(lambda self: self.lab.opening)
    @rule()
    def connect(self) -> None:
        self.lab.connect()

    @precondition(lambda self: self.lab.opening)
    @rule()
    def refuse(self) -> None:
        self.lab.refuse()

    @precondition(lambda self: self.lab.pool.connections)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        living = [c for c in self.lab.pool.connections.values() if c.state in (State.IDLE, State.IN_USE)]
        if living:
            connection = data.draw(st.sampled_from(living))
            connection.link.usable = False
            self.lab.pool.lost(connection)
            for borrower in self.borrowers:
                if borrower.connection is connection:
                    borrower.connection = None

    @rule(alive=st.booleans())
    def answer_checks(self, alive: bool) -> None:
        for connection in list(self.lab.pool.connections.values()):
            while connection.link is not None and connection.link.checks:
                connection.link.checks.pop()(alive)

    @rule()
    def end_closing(self) -> None:
        self.lab.end_closing()

    @rule(seconds=st.sampled_from([1.0, 11.0, 31.0, 61.0]))
    def pass_time(self, seconds: float) -> None:
        self.lab.clock.advance(seconds)

    @rule(maximum=st.integers(1, 4))
    def resize(self, maximum: int) -> None:
        before = self.lab.pool.settings
        self.lab.pool.update(
            PoolSettings(
                maximum_size=maximum,
                minimum_idle=1,
                **{
                    name: getattr(before, name)
                    for name in (
                        "acquire_timeout_s",
                        "idle_timeout_s",
                        "maximum_lifetime_s",
                        "keepalive_s",
                        "leak_detection_s",
                    )
                },
            )
        )

    @invariant()
    def gauges_match_the_connections(self) -> None:
        check_invariant(self.lab.pool)

    @invariant()
    def nobody_is_answered_twice_and_nothing_is_lent_twice(self) -> None:
        assert all(b.answers <= 1 for b in self.borrowers)
        lent = [b.connection.number for b in self.holders() if b.connection is not None]
        assert len(lent) == len(set(lent))

    @invariant()
    def every_lent_connection_has_a_holder_we_know(self) -> None:
        living = self.lab.pool.connections.values()
        checking = sum(c.state is State.IN_USE and bool(c.link.checks) for c in living)
        assert self.lab.pool.snapshot().in_use == len(self.lent()) + checking

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        snapshot = self.lab.pool.snapshot()
        if snapshot.waiting:
            assert snapshot.idle == 0
            assert snapshot.connecting >= min(snapshot.waiting, snapshot.maximum - snapshot.in_use)

    @invariant()
    def suspects_are_lent(self) -> None:
        for number in self.lab.pool.suspects:
            assert self.lab.pool.connections[number].state is State.IN_USE


PoolMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestPool = PoolMachine.TestCase
