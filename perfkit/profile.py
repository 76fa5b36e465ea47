"""The only place that reads and writes a profile's folder: manifest, tables, the lock while recording.

```
NAME/recording.json     what is being recorded; there from the first moment, replaced atomically
     raw/lock           held by the recorder as long as it lives
     raw/COLLECTOR/PID/ what the collectors wrote, in windows
     tables/*.parquet   the tables of perfkit.tables
     manifest.json      written last, atomically: from here on the folder is read-only
```
"""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from perfkit import __version__
from perfkit.errors import NotAProfile, ProfileError, StillRecording, UnfinishedProfile, UnknownName, UnknownSchema
from perfkit.tables import SCHEMA, TABLES, Table

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

MANIFEST = "manifest.json"
RECORDING = "recording.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a profile is a recording of, by what, when, and what it lacks.

    `missing` holds one sentence per thing that should have been recorded and was not; it is
    empty for a complete recording. `targets` holds one mapping per process with at least
    `pid`, `parent`, `python`, `program` (no arguments: they may hold secrets).
    """

    name: str
    schema: int = SCHEMA
    perfkit: str = __version__
    started_unix_ns: int = 0
    started_monotonic_ns: int = 0
    duration_ns: int = 0
    complete: bool = True
    missing: tuple[str, ...] = ()
    targets: tuple[dict[str, Any], ...] = ()
    host: dict[str, Any] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)
    collectors: dict[str, dict[str, Any]] = field(default_factory=dict)
    scenario: dict[str, Any] | None = None
    rows: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the manifest as JSON, the same bytes for the same content."""
        return json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, path: Path) -> "Manifest":
        """Return the manifest written in `text`; keys of other versions are ignored.

        Raises:
            ProfileError: it is not a manifest.
            UnknownSchema: it was written by a newer perfkit.
        """
        try:
            raw = json.loads(text)
            schema, _ = int(raw["schema"]), str(raw["name"])
        except (ValueError, KeyError, TypeError) as error:
            raise ProfileError(
                f"{path / MANIFEST} is damaged: {error}", hint="Delete the file if raw/ is still there, then try again."
            ) from error
        if schema > SCHEMA:
            raise UnknownSchema(path, schema, SCHEMA)
        known = {name: raw[name] for name in cls.__slots__ if name in raw}
        for name in ("missing", "targets"):
            known[name] = tuple(known.get(name, ()))
        return cls(**known)


class Profile:
    """One recording, read-only: pandas frames, Arrow tables and SQL over the same Parquet files.

    >>> profile = Profile("profiles/healthy")  # doctest: +SKIP
    >>> profile.frame("process_stats").cpu_user_ns.max()  # doctest: +SKIP
    >>> profile.sql("select * from cpu_samples limit 5")  # doctest: +SKIP

    Raises:
        NotAProfile: there is no manifest and no recording in the folder.
        UnfinishedProfile: it was interrupted; `perfkit.open_profile` finishes it first.
        UnknownSchema: it was written by a newer perfkit.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        # Absolute: its tables are read when they are asked for, whatever the working directory is by then.
        self._tables = self.path.resolve() / "tables"
        try:
            text = (self.path / MANIFEST).read_text("utf-8")
        except (FileNotFoundError, NotADirectoryError):
            if (self.path / RECORDING).exists():
                raise UnfinishedProfile(self.path) from None
            raise NotAProfile(self.path) from None
        self.manifest = Manifest.from_json(text, self.path)

    def __repr__(self) -> str:
        return f"<Profile {self.manifest.name}: {self.duration_s:.1f} s, {sum(self.manifest.rows.values()):,} rows>"

    @property
    def name(self) -> str:
        """Name of the recording."""
        return self.manifest.name

    @property
    def duration_s(self) -> float:
        """Length of the recording, in seconds."""
        return self.manifest.duration_ns / 1e9

    @property
    def pids(self) -> list[int]:
        """Process ids that were recorded, the main one first."""
        return [target["pid"] for target in self.manifest.targets]

    def table(self, name: str) -> pa.Table:
        """Return a table in today's schema; it has no rows when nothing was recorded.

        Raises:
            UnknownName: perfkit has no such table.
            ProfileError: its file is damaged.
        """
        contract = _contract(name)
        file = self._tables / f"{name}.parquet"
        if not file.exists():
            return contract.empty()
        try:
            return contract.conform(pq.read_table(file, partitioning=None))
        except (pa.ArrowException, KeyError) as error:
            raise ProfileError(
                f"{file} is damaged: {error}", hint="Record again; the other tables are fine."
            ) from error

    def frame(self, name: str) -> "pd.DataFrame":
        """Return a table as a pandas frame, with nullable types where a column may be unknown."""
        import pandas as pd

        nullable = {
            pa.int8(): pd.Int8Dtype(),
            pa.int32(): pd.Int32Dtype(),
            pa.int64(): pd.Int64Dtype(),
            pa.bool_(): pd.BooleanDtype(),
        }
        optional = {c.type for c in _contract(name).columns if c.nullable}
        table = self.table(name)
        required = {c.name for c in _contract(name).columns if not c.nullable}
        frame: pd.DataFrame = table.to_pandas(types_mapper=lambda t: nullable.get(t) if t in optional else None)
        return frame.astype({c: table.schema.field(c).type.to_pandas_dtype() for c in required if _is_number(table, c)})

    @cached_property
    def database(self) -> "duckdb.DuckDBPyConnection":
        """In-memory DuckDB connection with one view per table, in today's schema."""
        return self._with_views(TABLES)

    @cached_property
    def _connection(self) -> "duckdb.DuckDBPyConnection":
        """The connection behind `database`, with the views that were asked for."""
        import duckdb

        return duckdb.connect(":memory:", config={"threads": os.cpu_count() or 1})

    @cached_property
    def _views(self) -> set[str]:
        """Names of the tables that have a view."""
        return set()

    def _with_views(self, names: Iterable[str]) -> "duckdb.DuckDBPyConnection":
        """Return the connection with a view of each of these tables."""
        is_plain = not set("*?[") & set(str(self._tables))  # DuckDB takes these for patterns
        for name in set(names) - self._views:
            file = self._tables / f"{name}.parquet"
            if is_plain and file.exists() and pq.read_schema(file).names == TABLES[name].schema.names:
                self._connection.from_parquet(str(file)).create_view(name)
            else:
                self._connection.register(name, self.table(name))
            self._views.add(name)
        return self._connection

    def sql(self, query: str, **parameters: object) -> "pd.DataFrame":
        """Return the answer of a DuckDB query over the tables, as a pandas frame.

        Args:
            query: SQL; every table of the profile is a view. `$name` stands for a parameter.
            parameters: values for the query's `$name` placeholders.
        """
        # A view of each takes longer than most queries: only of those that it may mean, of all for `show tables`.
        connection = self._with_views(TABLES.keys() & set(re.findall(r"\w+", query.lower())) or TABLES)
        answer: pd.DataFrame = connection.execute(query, parameters or None).df()
        return answer


def _contract(name: str) -> Table:
    """Return the contract of a table."""
    try:
        return TABLES[name]
    except KeyError:
        raise UnknownName("table", name, sorted(TABLES)) from None


def _is_number(table: pa.Table, column: str) -> bool:
    """Whether a column becomes a plain NumPy column."""
    type_ = table.schema.field(column).type
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_boolean(type_))


def write_table(contract: Table, table: pa.Table, file: Path) -> None:
    """Write one table: zstd, deltas for times, dictionaries for the rest; complete or not at all."""
    table = contract.conform(table)
    deltas = {c.name: c.encoding for c in contract.columns if c.encoding}
    lists = {c.name for c in contract.columns if pa.types.is_list(c.type)}
    temporary = file.with_suffix(".tmp")
    try:
        pq.write_table(
            table,
            temporary,
            compression="zstd",
            compression_level=3,
            use_dictionary=[c.name for c in contract.columns if c.name not in deltas and c.name not in lists],
            column_encoding=deltas or None,
            row_group_size=1_000_000,
            store_schema=False,
            write_statistics=True,
        )
    except OSError:
        temporary.unlink(missing_ok=True)  # on a full disk, half a table is in the way of everything else
        raise
    temporary.replace(file)


class ProfileWriter:
    """Writes a profile once: tables first, the manifest last.

    The folder is created and locked before anything is recorded, so that two recorders
    never write to one folder and a reader can tell a running recording from a dead one.
    """

    def __init__(self, path: Path, recording: dict[str, Any], lock: int) -> None:
        self.path = path
        self.recording = recording
        self._lock = lock

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> "ProfileWriter":
        """Return a writer for a new profile in the folder `path`, which must be absent or empty.

        Raises:
            ProfileError: the folder holds something already, or cannot be made.
            StillRecording: another perfkit is writing there.
        """
        folder = Path(path)
        if (folder / RECORDING).exists() and not (folder / MANIFEST).exists():
            with cls.resume(folder):
                raise ProfileError(
                    f"{folder} holds an interrupted recording",
                    hint=f"Finish it with `perfkit check {folder}`, or choose another folder with -o.",
                )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise ProfileError(f"{folder} is not empty", hint="Choose another folder with -o, or remove it first.")
            (folder / "raw").mkdir()
            (folder / RECORDING).touch()
        except OSError as error:
            raise ProfileError(f"cannot write to {folder}: {error.strerror}", hint="Choose another -o.") from error
        return cls(folder, {}, _lock(folder))

    @classmethod
    @contextmanager
    def resume(cls, path: str | os.PathLike[str]) -> Iterator["ProfileWriter"]:
        """Yield a writer for a recording that was interrupted.

        Raises:
            NotAProfile: the folder holds no recording.
            StillRecording: its recorder is still alive.
            ProfileError: nothing of use was saved before it was interrupted.
        """
        folder = Path(path)
        if not (folder / RECORDING).exists():
            raise NotAProfile(folder)
        lock = _lock(folder)
        try:
            try:
                recording = json.loads((folder / RECORDING).read_text("utf-8"))
            except ValueError:
                raise ProfileError(
                    f"{folder} was interrupted before it had begun", hint="Remove the folder and record again."
                ) from None
            writer = cls(folder, recording, lock)
            yield writer
        finally:
            os.close(lock)

    def describe(self, recording: dict[str, Any]) -> None:
        """Save what is being recorded, so that it can be finished by someone else."""
        self.recording = recording
        temporary = self.path / "recording.tmp"
        temporary.write_text(json.dumps(recording, indent=2, sort_keys=True) + "\n", "utf-8")
        temporary.replace(self.path / RECORDING)

    def raw(self, collector: str, pid: int | None = None) -> Path:
        """Return the folder for the raw data of one collector and process, made if needed."""
        folder = self.path / "raw" / collector
        folder = folder if pid is None else folder / str(pid)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def finish(self, tables: Mapping[str, pa.Table], manifest: Manifest) -> Profile:
        """Write the tables and then the manifest; return the profile.

        Raises:
            UnknownName: a table is not part of the contract.
            ProfileError: the disk is full or the folder is not writable.
        """
        try:
            # What an earlier attempt left behind is not part of this one.
            shutil.rmtree(self.path / "tables", ignore_errors=True)
            (self.path / "tables").mkdir()
            rows: dict[str, int] = {}
            for name, table in sorted(tables.items()):
                if table.num_rows:
                    write_table(_contract(name), table, self.path / "tables" / f"{name}.parquet")
                    rows[name] = table.num_rows
            text = Manifest(**{**{s: getattr(manifest, s) for s in Manifest.__slots__}, "rows": rows}).to_json()
            temporary = self.path / "manifest.tmp"
            temporary.write_text(text, "utf-8")
            temporary.replace(self.path / MANIFEST)
        except OSError as error:
            raise ProfileError(
                f"cannot write {self.path}: {error.strerror or error}",
                hint=f"Free some space, then run `perfkit check {self.path}`: the raw data is still there.",
            ) from error
        return Profile(self.path)

    def close(self) -> None:
        """Release the folder."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _lock(folder: Path) -> int:
    """Return a descriptor that holds the folder's lock.

    Raises:
        StillRecording: someone else holds it.
    """
    # A file of its own: recording.json is replaced, and its lock would go with it.
    (folder / "raw").mkdir(exist_ok=True)
    descriptor = os.open(folder / "raw" / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StillRecording(folder, _recorder(folder)) from None
    return descriptor


def _recorder(folder: Path) -> int:
    """Return the process id of the recorder as far as the folder tells, else 0."""
    try:
        return int(json.loads((folder / RECORDING).read_text("utf-8")).get("recorder_pid", 0))
    except (ValueError, OSError):
        return 0
