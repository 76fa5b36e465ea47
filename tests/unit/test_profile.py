"""The profile's folder: written once, locked while it is, readable whatever happened."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from perfkit.decode import open_profile
from perfkit.errors import (
    NotAProfile,
    ProfileError,
    StillRecording,
    UnfinishedProfile,
    UnknownName,
    UnknownSchema,
)
from perfkit.profile import MANIFEST, RECORDING, Manifest, Profile, ProfileWriter
from perfkit.tables import EVENTS, SCHEMA, TABLES
from tests.builders import PID, SECOND_NS, healthy, leaking, make_profile

EVENT = {"at_ns": 1, "duration_ns": 0, "kind": "mark", "name": "x"}
OLD = Path(__file__).parents[1] / "data" / "old_profile"


def test_public_names_are_functions_however_often_and_whatever_is_imported() -> None:
    code = (
        "import perfkit, perfkit.cli, perfkit.compare, perfkit.report; import pkgutil\n"
        "assert all(callable(getattr(perfkit, name)) for name in perfkit.__all__ for _ in range(2))\n"
        "modules = {module.name for module in pkgutil.iter_modules(perfkit.__path__)}\n"
        "assert not modules & set(perfkit.__all__), modules & set(perfkit.__all__)\n"
        "assert set(perfkit.__all__) <= set(dir(perfkit))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_profile_beside_the_folder_of_a_notebook_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_profile(tmp_path / "profiles" / "tuesday")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert open_profile("profiles/tuesday").name == "tuesday"
    with pytest.raises(NotAProfile):
        open_profile("profiles/wednesday")


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@contextmanager
def recorder(folder: Path, then: str = "input()", **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a real recorder in a process of its own; it is ready when this yields."""
    program = f"""
import json, os, sys
from pathlib import Path
from perfkit import profile
from perfkit.profile import Manifest, ProfileWriter
from perfkit.tables import EVENTS
writer = ProfileWriter.create({str(folder)!r})
writer.describe({{"recorder_pid": os.getpid()}})
(writer.raw("marks") / "marks.txt").write_text("1 x")
print("ready", flush=True)
{then}
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


# Reading ------------------------------------------------------------------------------------------


def test_a_table_comes_back_as_it_was_written(tmp_path: Path) -> None:
    profile = healthy(tmp_path / "p")
    assert profile.table("requests").schema == TABLES["requests"].schema
    assert len(profile.frame("requests")) == profile.manifest.rows["requests"] == 1200
    assert profile.sql("select count(*) as n from requests").n[0] == 1200
    assert (profile.pids, profile.duration_s, profile.name) == ([PID], 60.0, "p")


def test_a_query_that_names_no_table_sees_all_of_them(tmp_path: Path) -> None:
    profile = healthy(tmp_path / "p")
    assert profile.sql("SELECT count(*) AS n FROM Requests").n[0] == 1200, "in capitals, and one view first"
    assert set(profile.sql("show tables").name) == set(TABLES)
    assert profile.database.table("requests").shape[0] == 1200


@pytest.mark.parametrize("name", TABLES)
def test_every_table_can_be_asked_of_every_profile(name: str, tmp_path: Path) -> None:
    profile = make_profile(tmp_path / "p")
    assert profile.table(name).num_rows == 0
    assert list(profile.frame(name).columns) == TABLES[name].schema.names
    assert profile.sql(f"select * from {name}").empty


def test_unknown_is_not_false_and_not_zero(tmp_path: Path) -> None:
    rows = [
        {"tick_ns": at, "weight_ns": 1, "thread": "t", "stack": (("f", "/a.py", 1),), "active": active}
        for at, active in enumerate([True, False, None])
    ]
    active = make_profile(tmp_path / "p", cpu=rows).frame("cpu_samples").active
    assert active.isna().tolist() == [False, False, True]
    assert active[0] is True or bool(active[0])


def test_queries_take_parameters(tmp_path: Path) -> None:
    profile = healthy(tmp_path / "p")
    assert profile.sql("select distinct route from requests where route = $route", route="login").route.tolist() == [
        "login"
    ]


def test_queries_work_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    healthy(tmp_path / "p")
    monkeypatch.chdir(tmp_path)
    profile = Profile("p")
    assert profile.sql("select 1 as one from requests limit 1").one[0] == 1
    monkeypatch.chdir("/")
    assert profile.sql("select count(*) as n from requests").n[0] == 1200
    assert profile.sql("select count(*) as n from frames").n[0] == len(profile.frame("frames")) > 0


@pytest.mark.parametrize("name", ["run [1]", "what?", "a*b", "it's", 'a "b"', "ü"])
def test_folders_may_have_any_name(name: str, tmp_path: Path) -> None:
    assert healthy(tmp_path / name).sql("select count(*) as n from requests").n[0] == 1200


def test_an_unknown_table_names_the_closest(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'requests'"):
        make_profile(tmp_path / "p").table("request")


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    profile = healthy(tmp_path / "p")
    (profile.path / "tables" / "requests.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ProfileError, match=r"requests\.parquet is damaged"):
        profile.table("requests")
    assert profile.table("events").num_rows == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "x", "name": "p"}', '{"schema": 1}'])
def test_a_damaged_manifest_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ProfileError, match=r"manifest\.json is damaged"):
        Profile(tmp_path)


def test_a_folder_without_a_profile_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(NotAProfile):
            Profile(path)
        with pytest.raises(NotAProfile), ProfileWriter.resume(path):
            pass


# Schemas ------------------------------------------------------------------------------------------


def test_a_profile_of_the_first_schema_opens() -> None:
    """Recorded before containers had limits, and before some tables existed: see `old_profile/README.md`."""
    profile = Profile(OLD)
    assert profile.manifest.schema == 1
    assert "limit_items" not in pq.read_schema(OLD / "tables" / "container_sizes.parquet").names
    containers = profile.frame("container_sizes")
    assert containers.limit_items.isna().all()
    assert profile.sql("select max(items) as longest from container_sizes").longest[0] == 600
    assert not (OLD / "tables" / "settings.parquet").exists()
    assert profile.sql("select * from settings").empty


def test_a_profile_of_the_first_schema_is_judged_as_ever() -> None:
    from perfkit.rules import rules

    [finding] = rules()["memory_growth"].check(Profile(OLD))
    assert (finding.class_, finding.retainer) == ("python_leak", ("module app.sessions", "SESSIONS", "dict"))


def test_a_profile_of_a_later_schema_is_refused(tmp_path: Path) -> None:
    profile = make_profile(tmp_path / "p")
    text = (profile.path / MANIFEST).read_text().replace(f'"schema": {SCHEMA}', f'"schema": {SCHEMA + 1}')
    (profile.path / MANIFEST).write_text(text)
    with pytest.raises(UnknownSchema) as refused:
        Profile(profile.path)
    assert refused.value.schema == SCHEMA + 1


def test_words_of_later_manifests_are_ignored(tmp_path: Path) -> None:
    profile = make_profile(tmp_path / "p")
    about = json.loads((profile.path / MANIFEST).read_text()) | {"colour": "red"}
    (profile.path / MANIFEST).write_text(json.dumps(about))
    assert Profile(profile.path).name == "p"


# Writing ------------------------------------------------------------------------------------------


def test_the_same_rows_are_the_same_bytes(tmp_path: Path) -> None:
    one, two = leaking(tmp_path / "one" / "p"), leaking(tmp_path / "two" / "p")
    assert content(one.path) == content(two.path)


def test_times_are_stored_as_differences(tmp_path: Path) -> None:
    profile = healthy(tmp_path / "p")
    file = pq.ParquetFile(profile.path / "tables" / "cpu_samples.parquet")
    column = file.metadata.row_group(0).column(file.schema_arrow.names.index("tick_ns"))
    assert "DELTA_BINARY_PACKED" in column.encodings
    assert column.compression == "ZSTD"


def test_tables_without_rows_have_no_file(tmp_path: Path) -> None:
    assert not list((make_profile(tmp_path / "p").path / "tables").iterdir())


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ProfileError, match="is not empty"):
        ProfileWriter.create(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ProfileError, match="cannot write"):
        ProfileWriter.create(tmp_path / "file")


def test_a_table_outside_of_the_contract_is_refused(tmp_path: Path) -> None:
    writer = ProfileWriter.create(tmp_path / "p")
    with pytest.raises(UnknownName):
        writer.finish({"colours": EVENTS.from_rows([EVENT])}, Manifest("p"))
    writer.close()
    with pytest.raises(UnfinishedProfile):
        Profile(tmp_path / "p")


# Interrupted --------------------------------------------------------------------------------------


def test_nobody_writes_where_another_process_records(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    with recorder(folder) as process:
        with pytest.raises(StillRecording) as refused:
            ProfileWriter.create(folder)
        assert refused.value.pid == process.pid
        with pytest.raises(StillRecording), ProfileWriter.resume(folder):
            pass
        with pytest.raises(UnfinishedProfile):
            Profile(folder)


def test_a_killed_recorder_leaves_a_recording_that_can_be_finished(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    with recorder(folder) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with pytest.raises(ProfileError, match="interrupted recording"):
        ProfileWriter.create(folder)
    with ProfileWriter.resume(folder) as writer:
        assert writer.recording["recorder_pid"] == process.pid
        assert (writer.raw("marks") / "marks.txt").read_text() == "1 x"
        assert writer.finish({"events": EVENTS.from_rows([EVENT])}, Manifest("p")).table("events").num_rows == 1


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_crash_between_two_tables_can_be_resumed(after: int, tmp_path: Path) -> None:
    """Killed while the tables are written: no manifest, so nobody takes the half for the whole."""
    crash = f"""
write, calls = profile.write_table, []
def crashing(contract, table, file):
    if len(calls) == {after}:
        os._exit(9)
    calls.append(write(contract, table, file))
profile.write_table = crashing
rows = EVENTS.from_rows([{EVENT!r}])
settings = profile.TABLES["settings"].from_rows([{{"pid": 1, "at_ns": 1, "name": "a", "value": "1"}}])
threads = profile.TABLES["threads"].from_rows([{{"thread_id": 0, "pid": 1}}])
writer.finish({{"events": rows, "settings": settings, "threads": threads}}, Manifest("p"))
"""
    folder = tmp_path / "p"
    with recorder(folder, then=crash) as process:
        assert process.wait(timeout=30) == 9
    assert len(list((folder / "tables").iterdir())) == after
    with pytest.raises(UnfinishedProfile):
        Profile(folder)
    with ProfileWriter.resume(folder) as writer:
        profile = writer.finish({"events": EVENTS.from_rows([EVENT])}, Manifest("p"))
    assert [file.name for file in (folder / "tables").iterdir()] == ["events.parquet"]
    assert profile.manifest.rows == {"events": 1}


def test_a_full_disk_is_said_and_the_raw_data_stays(tmp_path: Path) -> None:
    full = """
import resource
import numpy as np
from perfkit.errors import ProfileError
random = np.random.default_rng(0).integers(0, 2**60, 200_000)
marks = ["mark"] * 200_000
rows = EVENTS.from_columns({"at_ns": random, "duration_ns": random, "kind": marks, "name": marks})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    writer.finish({"events": rows}, Manifest("p"))
except ProfileError as error:
    print(error, "|", error.hint, flush=True)
"""
    folder = tmp_path / "p"
    with recorder(folder, then=full) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        process.wait(timeout=30)
    assert "cannot write" in said
    assert "None" not in said
    assert "the raw data is still there" in said
    assert not list((folder / "tables").iterdir()), "half a table takes up the space that is missing"
    with ProfileWriter.resume(folder) as writer:
        assert (writer.path / "raw" / "marks" / "marks.txt").exists()
        writer.finish({}, Manifest("p"))
    assert Profile(folder).name == "p"


def test_a_recording_that_never_began_is_said(tmp_path: Path) -> None:
    writer = ProfileWriter.create(tmp_path / "p")
    writer.close()
    with pytest.raises(ProfileError, match="interrupted before it had begun"), ProfileWriter.resume(tmp_path / "p"):
        pass


def test_a_closed_writer_lets_others_in(tmp_path: Path) -> None:
    writer = ProfileWriter.create(tmp_path / "p")
    writer.describe({"recorder_pid": os.getpid()})
    with pytest.raises(StillRecording), ProfileWriter.resume(tmp_path / "p"):
        pass
    writer.close()
    writer.close()
    with ProfileWriter.resume(tmp_path / "p") as again:
        assert again.recording == {"recorder_pid": os.getpid()}
    assert (tmp_path / "p" / RECORDING).exists()


def test_schema_metadata_does_not_change_the_bytes_of_a_table(tmp_path: Path) -> None:
    profile = make_profile(tmp_path / "p", events=[EVENT], duration_s=1 / SECOND_NS)
    assert pq.read_table(profile.path / "tables" / "events.parquet").column_names == EVENTS.schema.names
    assert isinstance(profile.table("events"), pa.Table)
