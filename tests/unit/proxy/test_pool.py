"""The life of a pooled connection, on a clock that moves when told."""

import pytest

from perfkit.proxy.pool import PoolSettings
from perfkit.proxy.pooled import (
    AcquireTimeout,
    ConnectFailed,
    IllegalTransition,
    PoolClosed,
    PooledConnection,
    State,
)
from tests.unit.proxy.fakes import Borrower, PoolLab


def test_a_connection_is_opened_lent_returned_and_lent_again() -> None:
    lab = PoolLab(maximum_size=2)
    assert repr(lab.pool) == "<Pool origin 0/2: 0 idle, 0 in use, 0 connecting, 0 waiting>"
    first = Borrower(lab.pool)
    assert repr(lab.pool) == "<Pool origin 1/2: 0 idle, 0 in use, 1 connecting, 1 waiting>"
    connection = lab.connect()
    assert repr(lab.pool) == "<Pool origin 1/2: 0 idle, 1 in use, 0 connecting, 0 waiting>"
    assert first.connection is connection
    first.give_back()
    assert repr(lab.pool) == "<Pool origin 1/2: 1 idle, 0 in use, 0 connecting, 0 waiting>"
    assert Borrower(lab.pool).connection is connection
    assert lab.events == ["waiting", "connecting", "connected", "checkout", "checkin", "checkout"]


def test_the_connection_used_last_is_lent_first() -> None:
    lab = PoolLab(maximum_size=2)
    cold, hot = Borrower(lab.pool), Borrower(lab.pool)
    lab.connect()
    lab.connect()
    cold.give_back()
    last = hot.connection
    hot.give_back()
    assert Borrower(lab.pool).connection is last


def test_waiters_are_served_in_the_order_they_came() -> None:
    lab = PoolLab(maximum_size=1)
    holder = Borrower(lab.pool)
    lab.connect()
    waiters = [Borrower(lab.pool) for _ in range(3)]
    served = []
    for _ in waiters:
        holder.give_back()
        holder = next(w for w in waiters if w.connection is not None)
        served.append(waiters.index(holder))
    assert served == [0, 1, 2]


def test_one_who_comes_late_does_not_overtake() -> None:
    lab = PoolLab(maximum_size=1)
    holder = Borrower(lab.pool)
    lab.connect()
    early = Borrower(lab.pool)
    holder.give_back()
    late = Borrower(lab.pool)
    assert early.connection is not None
    assert late.waits


def test_a_waiter_that_leaves_while_connecting_leaves_the_slot_to_others() -> None:
    lab = PoolLab(maximum_size=1)
    gone = Borrower(lab.pool)
    assert gone.ticket is not None
    gone.ticket.cancel()
    gone.ticket.cancel()
    lab.connect()
    assert lab.pool.snapshot().idle == 1
    assert Borrower(lab.pool).connection is not None
    assert gone.waits


def test_a_waiter_that_leaves_the_queue_is_passed_over() -> None:
    lab = PoolLab(maximum_size=1)
    holder = Borrower(lab.pool)
    lab.connect()
    gone, next_one = Borrower(lab.pool), Borrower(lab.pool)
    assert gone.ticket is not None
    gone.ticket.cancel()
    holder.give_back()
    assert gone.waits
    assert next_one.connection is not None


def test_waiting_ends_at_the_acquire_timeout() -> None:
    lab = PoolLab(maximum_size=1, acquire_timeout_s=5)
    Borrower(lab.pool)
    lab.connect()
    waiter = Borrower(lab.pool)
    lab.clock.advance(4.9)
    assert waiter.waits
    lab.clock.advance(0.2)
    assert isinstance(waiter.error, AcquireTimeout)
    assert "1 in use" in str(waiter.error)
    assert lab.pool.snapshot().acquire_timeouts_total == 1


def test_a_failed_attempt_fails_the_oldest_waiter_and_is_made_again_for_the_next() -> None:
    lab = PoolLab(maximum_size=1)
    first, second = Borrower(lab.pool), Borrower(lab.pool)
    lab.refuse(timed_out=True)
    assert isinstance(first.error, ConnectFailed)
    assert first.error.timed_out
    assert second.waits
    lab.connect()
    assert second.connection is not None


def test_a_slot_whose_connection_is_lost_while_lent_is_free_again() -> None:
    lab = PoolLab(maximum_size=1)
    holder = Borrower(lab.pool)
    connection = lab.connect()
    waiter = Borrower(lab.pool)
    lab.pool.lost(connection)
    assert holder.connection is connection
    assert connection.state is State.CLOSED
    lab.connect()
    assert waiter.connection is not None


def test_a_dead_idle_connection_is_not_lent() -> None:
    lab = PoolLab(maximum_size=1)
    holder = Borrower(lab.pool)
    connection = lab.connect()
    holder.give_back()
    connection.link.usable = False
    waiter = Borrower(lab.pool)
    assert waiter.waits
    assert lab.pool.snapshot().closed_by == {"broken": 1}
    lab.connect()
    assert waiter.connection is not connection


def test_idle_connections_end_after_the_idle_timeout_down_to_the_minimum() -> None:
    lab = PoolLab(maximum_size=4, minimum_idle=1, idle_timeout_s=60, housekeeping_s=5, maximum_lifetime_s=0)
    lab.connect()
    borrowers = [Borrower(lab.pool) for _ in range(4)]
    while lab.opening:
        lab.connect()
    for borrower in borrowers:
        borrower.give_back()
    lab.clock.advance(59)
    assert lab.pool.snapshot().idle == 4
    lab.clock.advance(10)
    assert lab.pool.snapshot().idle == 1
    assert lab.pool.snapshot().closed_by == {"idle": 3}


def test_the_minimum_of_idle_connections_is_kept_up() -> None:
    lab = PoolLab(maximum_size=4, minimum_idle=2, housekeeping_s=5, maximum_lifetime_s=0)
    assert len(lab.opening) == 2
    lab.pool.lost(lab.connect())
    lab.connect()
    lab.clock.advance(6)
    assert len(lab.opening) == 1


class TestLifetime:
    def test_an_idle_connection_ends_with_its_lifetime(self) -> None:
        lab = PoolLab(maximum_size=1, maximum_lifetime_s=100, idle_timeout_s=0)
        Borrower(lab.pool)
        holder_connection = lab.connect()
        lab.pool.release(holder_connection)
        lab.clock.advance(99)
        assert lab.pool.snapshot().idle == 1
        lab.clock.advance(2)
        assert lab.pool.snapshot().closed_by == {"lifetime": 1}

    def test_a_lent_connection_is_never_cut_off_but_ends_when_it_returns(self) -> None:
        lab = PoolLab(maximum_size=1, maximum_lifetime_s=100)
        holder = Borrower(lab.pool)
        connection = lab.connect()
        lab.clock.advance(200)
        assert connection.state is State.IN_USE
        holder.give_back()
        assert connection.state is State.CLOSING

    def test_connections_opened_together_do_not_end_together(self) -> None:
        ages = []
        for jitter in (0.0, 0.5, 0.999):
            lab = PoolLab(jitter, maximum_lifetime_s=100, lifetime_jitter_ratio=0.2, idle_timeout_s=0, minimum_idle=1)
            connection = lab.connect()
            born = lab.clock()
            while connection.state is State.IDLE:
                lab.clock.advance(0.5)
            ages.append(lab.clock() - born)
        assert ages == pytest.approx([100, 90, 80], abs=0.6)


class TestKeepAliveCheck:
    def test_an_idle_connection_is_checked_and_kept(self) -> None:
        lab = PoolLab(maximum_size=1, minimum_idle=1, keepalive_s=30, housekeeping_s=5)
        connection = lab.connect()
        lab.clock.advance(31)
        assert connection.state is State.IN_USE
        assert connection.holder == "keep-alive check"
        connection.link.checks.pop()(True)
        assert connection.state is State.IDLE

    def test_one_that_does_not_answer_is_closed(self) -> None:
        lab = PoolLab(maximum_size=1, minimum_idle=1, keepalive_s=30, housekeeping_s=5)
        connection = lab.connect()
        lab.clock.advance(31)
        connection.link.checks.pop()(False)
        assert lab.pool.snapshot().closed_by == {"keepalive": 1}

    def test_one_that_says_nothing_is_closed_after_as_long_as_connecting_may_take(self) -> None:
        lab = PoolLab(maximum_size=1, minimum_idle=1, keepalive_s=30, housekeeping_s=5, connect_timeout_s=2)
        connection = lab.connect()
        lab.clock.advance(31)
        lab.clock.advance(3)
        assert lab.pool.snapshot().closed_by == {"keepalive": 1}
        connection.link.checks.pop()(True)
        assert connection.state is State.CLOSING

    def test_an_answer_that_comes_after_the_end_changes_nothing(self) -> None:
        lab = PoolLab(maximum_size=1, minimum_idle=1, keepalive_s=30, housekeeping_s=5)
        connection = lab.connect()
        lab.clock.advance(31)
        lab.pool.lost(connection)
        connection.link.checks.pop()(True)
        assert connection.state is State.CLOSED


class TestLeakDetection:
    def test_a_connection_out_for_too_long_is_suspected_with_the_stack_that_took_it(self) -> None:
        lab = PoolLab(maximum_size=1, leak_detection_s=10)
        holder = Borrower(lab.pool, "GET /slow")
        lab.connect()
        holder.give_back()
        Borrower(lab.pool, "GET /slow")
        lab.clock.advance(20)
        [suspect] = lab.pool.suspects.values()
        report = suspect.to_dict()
        assert report["holder"] == "'GET /slow'"
        assert report["held_s"] >= 10
        assert report["stack"][-1].startswith("Borrower.__init__ (")
        assert lab.pool.snapshot().suspected == 1

    def test_the_suspicion_is_withdrawn_when_it_comes_back(self) -> None:
        lab = PoolLab(maximum_size=1, leak_detection_s=10)
        holder = Borrower(lab.pool)
        lab.connect()
        lab.clock.advance(20)
        assert lab.pool.snapshot().suspected == 1
        holder.give_back()
        assert lab.pool.snapshot().suspected == 0
        [suspect] = lab.pool.returned_suspects
        assert suspect.returned
        assert lab.events[-2:] == ["leak_returned", "checkin"]

    def test_a_quick_holder_is_not_suspected(self) -> None:
        lab = PoolLab(maximum_size=1, leak_detection_s=10)
        holder = Borrower(lab.pool)
        lab.connect()
        lab.clock.advance(9)
        holder.give_back()
        lab.clock.advance(60)
        assert lab.pool.snapshot().suspected == 0


class TestSettingsOnTheRunningPool:
    def test_a_smaller_maximum_closes_idle_connections_now_and_lent_ones_on_return(self) -> None:
        lab = PoolLab(maximum_size=3)
        borrowers = [Borrower(lab.pool) for _ in range(3)]
        for _ in range(3):
            lab.connect()
        borrowers[0].give_back()
        lab.pool.update(PoolSettings(maximum_size=1))
        assert lab.pool.total == 2
        borrowers[1].give_back()
        assert lab.pool.total == 1
        borrowers[2].give_back()
        assert lab.pool.snapshot().idle == 1

    def test_a_larger_maximum_serves_those_who_wait(self) -> None:
        lab = PoolLab(maximum_size=1)
        Borrower(lab.pool)
        lab.connect()
        waiter = Borrower(lab.pool)
        lab.pool.update(PoolSettings(maximum_size=2))
        lab.connect()
        assert waiter.connection is not None


class TestClose:
    def test_waiters_are_refused_idle_connections_closed_and_lent_ones_closed_on_return(self) -> None:
        lab = PoolLab(maximum_size=1)
        holder = Borrower(lab.pool)
        connection = lab.connect()
        waiter = Borrower(lab.pool)
        lab.pool.close()
        assert isinstance(waiter.error, PoolClosed)
        assert connection.state is State.IN_USE
        holder.give_back()
        assert connection.state is State.CLOSING
        assert isinstance(Borrower(lab.pool).error, PoolClosed)

    def test_a_connection_that_opens_too_late_is_closed(self) -> None:
        lab = PoolLab(maximum_size=1)
        Borrower(lab.pool)
        lab.pool.close()
        assert lab.connect().state is State.CLOSING


class TestIllegalTransitions:
    def test_a_connection_cannot_be_returned_twice(self) -> None:
        lab = PoolLab(maximum_size=1)
        holder = Borrower(lab.pool)
        connection = lab.connect()
        holder.give_back()
        with pytest.raises(IllegalTransition, match="cannot become idle"):
            lab.pool.release(connection)

    def test_a_returned_connection_cannot_be_discarded(self) -> None:
        lab = PoolLab(maximum_size=1)
        holder = Borrower(lab.pool)
        connection = lab.connect()
        holder.give_back()
        with pytest.raises(IllegalTransition):
            lab.pool.discard(connection)

    def test_a_connection_cannot_be_connected_twice(self) -> None:
        lab = PoolLab(maximum_size=1)
        Borrower(lab.pool)
        connection = lab.connect()
        with pytest.raises(IllegalTransition) as caught:
            lab.pool.connected(connection)
        assert isinstance(caught.value.connection, PooledConnection)
        assert caught.value.state is State.IDLE
