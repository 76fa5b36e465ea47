"""The ground truth about the planted faults is true of their code."""

import inspect
from functools import reduce
from importlib import import_module

import pytest

from perfkit.proxy import faults
from perfkit.proxy.faults import FAULTS, Fault

each_fault = pytest.mark.parametrize("fault", [pytest.param(fault, id=name) for name, fault in FAULTS.items()])

GC_TUNING = {"no_change", "raise_threshold", "freeze", "fix_cycles", "manual_collect", "slow_finalizer", "gc_debt"}
MEMORY_GROWTH = {"filling", "python_leak", "thread_leak", "fd_leak", "gc_debt", "backlog"}


def resolve(path: str) -> object:
    """Return what a dotted path from a module names."""
    parts = path.split(".")
    module = import_module(".".join(parts[:3]))
    return reduce(getattr, parts[3:], module)


@each_fault
def test_the_function_that_allocates_exists(fault: Fault) -> None:
    if fault.allocates_in:
        assert inspect.isfunction(resolve(fault.allocates_in))


@each_fault
def test_the_container_that_holds_exists(fault: Fault) -> None:
    if fault.held_by and fault.name != "checkout_leak":
        assert hasattr(resolve(fault.held_by), "__len__")


@each_fault
def test_the_verdict_is_one_a_rule_can_give(fault: Fault) -> None:
    classes = {"memory_growth": MEMORY_GROWTH, "gc_tuning": GC_TUNING, "checkout_leak": {"checkout_leak"}}
    assert fault.verdict_class in classes[fault.rule]


@each_fault
def test_it_can_be_switched_on_and_off(fault: Fault) -> None:
    hooks = [faults.ON_REQUEST, faults.ON_BODY, faults.ON_ABORT]
    try:
        faults.plant(fault.name, 17)
        faults.plant(fault.name, 18)
        assert faults.planted() == {fault.name: 18}
        assert sum(map(len, hooks)) == 1
    finally:
        faults.uproot(fault.name)
    assert faults.planted() == {}
    assert sum(map(len, hooks)) == 0


def test_an_unknown_fault_cannot_be_planted() -> None:
    with pytest.raises(KeyError):
        faults.plant("gremlins")
