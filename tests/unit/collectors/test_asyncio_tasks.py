"""Decoding readings of tasks, and following what a coroutine waits for."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from perfkit.clock import Clock
from perfkit.collectors import Raw
from perfkit.collectors.asyncio_tasks import COLLECTOR
from perfkit.probe import tasks
from perfkit.symbols import Symbols
from tests.collecting import FakeProbe


def decode(folder: Path, *rows: dict[str, Any], uses_asyncio: bool = True) -> dict[str, list[dict[str, Any]]]:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    start = {"monotonic_ns": 0, "stopped_ns": 0, "asyncio": uses_asyncio}
    (folder / "start.json").write_text(json.dumps(start), "utf-8")
    (folder / "end.json").write_text(json.dumps({"monotonic_ns": 900, "asyncio": uses_asyncio, "cost_ns": 4}), "utf-8")
    tables = COLLECTOR.decode(Raw(folder, 42, Clock(0, 0), Symbols(), 1_000))
    return {name: table.to_pylist() for name, table in tables.items()}


def test_groups_become_rows(tmp_path: Path) -> None:
    first = {
        "at": 100,
        "looked_at_each": 1,
        "groups": [["serve", "waiting", 0, 3, 50], ["serve", "done", None, 2, 60]],
        "stacks": [[0, ["serve", "/srv/app.py", 4, "wait", "/srv/app.py", 9]]],
    }
    again = {"at": 200, "looked_at_each": 3, "groups": [["serve", "waiting", 0, 4, 150]]}
    decoded = decode(tmp_path, first, again)
    found = [(row["at_ns"], row["state"], row["tasks"], row["stack_id"]) for row in decoded["tasks"]]
    assert found == [(100, "done", 2, None), (100, "waiting", 3, 0), (200, "waiting", 4, 0)]
    [quality] = decoded["recording_quality"]
    assert (quality["taken"], quality["until_ns"], quality["cost_ns"]) == (2, 900, 4)
    assert "one in 3" in quality["note"]


def test_a_target_without_asyncio_says_so(tmp_path: Path) -> None:
    [quality] = decode(tmp_path, uses_asyncio=False)["recording_quality"]
    assert "does not use asyncio" in quality["note"]


def test_a_chain_goes_through_coroutines_generators_and_their_wrappers() -> None:
    class Awaitable:
        def __await__(self) -> Any:
            yield from asyncio.get_running_loop().create_future()

    async def inner() -> None:
        await Awaitable()

    async def numbers() -> AsyncIterator[int]:
        await inner()
        yield 1

    async def outer() -> None:
        async for _ in numbers():
            pass

    async def main() -> list[str]:
        task = asyncio.create_task(outer())
        await asyncio.sleep(0)
        found = [frame.f_code.co_name for frame in tasks._chain(task.get_coro())]
        task.cancel()
        return found

    assert asyncio.run(main()) == ["outer", "numbers", "inner", "__await__"]


def test_states_are_told_apart() -> None:
    async def main() -> list[str]:
        never = asyncio.get_running_loop().create_future()

        async def wait() -> None:
            await never

        async def end() -> None: ...

        waiting, done = asyncio.create_task(wait()), asyncio.create_task(end())
        await asyncio.sleep(0)
        ready, current = asyncio.create_task(end()), asyncio.current_task()
        assert current is not None
        states = [tasks._state(task, task.get_coro()) for task in (waiting, done, ready, current)]
        never.cancel()
        return states

    assert asyncio.run(main()) == ["waiting", "done", "ready", "running"]


def test_groups_beyond_the_bound_are_put_together() -> None:
    probe = FakeProbe()

    async def main() -> None:
        never = asyncio.get_running_loop().create_future()

        def named(number: int) -> Any:
            async def wait() -> None:
                await asyncio.shield(never)

            wait.__qualname__ = f"wait_{number}"
            return wait()

        recorder = tasks.Recorder(probe)
        recorder._looked_at = 10
        for _pause in recorder._reading():
            pass
        waiting = [asyncio.create_task(named(number)) for number in range(500)]
        await asyncio.sleep(0)
        for _pause in recorder._reading():
            pass
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(main())
    before, row = probe.rows
    assert sum(group[3] for group in row["groups"]) == sum(group[3] for group in before["groups"]) + 500
    assert len(row["groups"]) <= tasks._MAX_GROUPS + 4
    assert any(group[0] == "[other coroutines]" for group in row["groups"])
