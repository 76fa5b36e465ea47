"""What a budget allows, against a target whose time we set."""

from typing import Any

import pytest

from perfkit.attach import budget as module
from perfkit.attach.budget import TRACING_SHARE, Budget

SECOND_NS = 1_000_000_000


class FakeSession:
    """A probe whose recorders cost what we say."""

    is_open = True

    def __init__(self) -> None:
        self.spent: dict[str, int] = {}
        self.paces: dict[str, float] = {}

    def costs(self, *, timeout_s: float) -> dict[str, int]:
        return dict(self.spent)

    def pace(self, name: str, factor: float, *, timeout_s: float) -> None:
        self.paces[name] = factor


class World:
    """A target that has used so many cores for so long."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        self.cpu_s = 0.0
        self.session = FakeSession()
        monkeypatch.setattr(module.time, "monotonic_ns", lambda: round(self.now_s * SECOND_NS))
        monkeypatch.setattr(module, "cpu_time_ns", lambda _pid: round(self.cpu_s * SECOND_NS))

    def budget(self, share: float, duration_s: float | None = 60.0) -> Budget:
        session: Any = self.session
        return Budget(share, 42, duration_s, lambda: session)

    def spend(self, seconds: float, *, cores: float, **costs_s: float) -> None:
        """Let time pass in which the target and the recorders use CPU time."""
        self.now_s += seconds
        self.cpu_s += seconds * cores
        for name, cost_s in costs_s.items():
            self.session.spent[name] = self.session.spent.get(name, 0) + round(cost_s * SECOND_NS)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


@pytest.mark.parametrize(
    ("cores", "share"),
    [
        pytest.param(0.0, 0.02, id="an-idle-process-is-charged-for-the-time-that-passes"),
        pytest.param(1.0, 0.02, id="a-busy-one-for-its-core"),
        pytest.param(4.0, 0.005, id="one-with-four-cores-for-all-of-them"),
    ],
)
def test_costs_are_a_share_of_the_targets_time(world: World, cores: float, share: float) -> None:
    budget = world.budget(0.02)
    world.spend(10, cores=cores, census=0.2)
    budget.poll()
    assert budget.used_share == pytest.approx(share)


def test_what_costs_most_is_slowed_down_and_catches_up_again(world: World) -> None:
    budget = world.budget(0.02)
    world.spend(10, cores=1.0, census=0.5, tasks=0.01)
    [sentence] = budget.poll()
    assert "census" in sentence
    assert world.session.paces == {"census": 1.5}
    assert budget.poll() == []
    assert world.session.paces == {"census": 2.25}, "until it is within the budget"
    world.spend(40, cores=1.0)
    for _ in range(3):
        budget.poll()
    assert world.session.paces == {"census": 1.0}


def test_what_must_not_come_late_is_never_slowed_down(world: World) -> None:
    budget = world.budget(0.02)
    world.spend(10, cores=1.0, gc_events=0.5, memray_capture=0.4, tasks=0.001)
    budget.poll()
    assert world.session.paces.keys() == {"tasks"}


def test_a_probe_that_is_not_there_yet_costs_nothing() -> None:
    budget = Budget(0.02, 1, 60.0, lambda: None)
    assert budget.poll() == []
    assert budget.spent_ns == 0


def test_what_is_free_leaves_room_for_what_goes_on(world: World) -> None:
    budget = world.budget(0.02)
    world.spend(10, cores=1.0, census=0.1)
    budget.poll()
    assert budget.left_s == 50
    assert budget.free_ns(50) == pytest.approx((0.02 * 60 - 0.6) * SECOND_NS)
    budget.traced_ns = SECOND_NS
    assert budget.free_ns(50) < 0


def test_tracing_costs_a_busy_target_throughput_and_an_idle_one_cpu_time(world: World) -> None:
    budget = world.budget(0.02)
    world.spend(10, cores=0.1)
    assert budget.tracing_ns(10) == pytest.approx(0.1 * 10 * 1.94 * SECOND_NS, rel=0.01)
    world.spend(990, cores=1.0)
    assert budget.tracing_ns(10) == pytest.approx(10 * TRACING_SHARE * SECOND_NS, rel=0.01)


def test_collectors_with_a_limit_of_their_own_get_half_of_the_budget_at_most(world: World) -> None:
    budget = world.budget(0.02)
    assert budget.options({"max_share": 0.1, "every_s": 1.0}) == {"max_share": 0.01}
    assert budget.options({"max_share": 0.005}) == {"max_share": 0.005}
    assert budget.options({"every_s": 1.0}) == {}


def test_the_summary_says_what_cost_most(world: World) -> None:
    budget = world.budget(0.02)
    world.spend(10, cores=1.0, census=0.1, tasks=0.05)
    budget.poll()
    assert budget.summary() == (
        "Recording cost 1.50% of the target's time; the budget was 2.0% (census 0.10 s, tasks 0.05 s)."
    )
