"""The contract of the tables: what fits, what is refused, what an older schema becomes."""

from typing import Any

import pyarrow as pa
import pytest

from perfkit.tables import CONTAINER_SIZES, EVENTS, HEAP_SURVIVAL, OBJECT_CENSUS, TABLES, Column, Table

ROW = {"pid": 7, "stack_id": 0, "allocated_ns": 1, "allocations": 2, "size_bytes": 3}
THING = Table("thing", "Test.", (Column("a_ns", pa.int64(), "a", "ns"), Column("b", pa.string(), "b", nullable=True)))


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_an_empty_table_has_the_schema(table: Table) -> None:
    assert table.from_rows([]).schema == table.schema
    assert table.empty().schema == table.schema
    assert table.conform(table.empty()).schema == table.schema


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_types_are_those_every_engine_reads(table: Table) -> None:
    for field in table.schema:
        assert not pa.types.is_unsigned_integer(field.type)
        assert not pa.types.is_timestamp(field.type)


def test_cells_left_out_are_unknown() -> None:
    assert HEAP_SURVIVAL.from_rows([ROW])["freed_ns"].to_pylist() == [None]


@pytest.mark.parametrize(
    ("row", "error"),
    [
        pytest.param(ROW | {"colour": "red"}, KeyError, id="unknown-column"),
        pytest.param({"pid": 7}, KeyError, id="column-missing"),
        pytest.param(ROW | {"allocations": None}, pa.ArrowInvalid, id="null-where-it-may-not-be"),
        pytest.param(ROW | {"pid": "seven"}, pa.ArrowException, id="wrong-type"),
        pytest.param(ROW | {"pid": 1 << 40}, pa.ArrowException, id="too-large"),
    ],
)
def test_rows_that_do_not_fit_are_refused(row: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        HEAP_SURVIVAL.from_rows([row])


@pytest.mark.parametrize(
    ("columns", "error"),
    [
        pytest.param({"a_ns": [1], "c": [2]}, KeyError, id="unknown-column"),
        pytest.param({"b": ["x"]}, KeyError, id="column-missing"),
        pytest.param({"a_ns": [1, 2], "b": ["x"]}, pa.ArrowInvalid, id="unequal-lengths"),
        pytest.param({"a_ns": [None]}, pa.ArrowInvalid, id="null-where-it-may-not-be"),
    ],
)
def test_columns_that_do_not_fit_are_refused(columns: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        THING.from_columns(columns)


def test_rows_are_stored_in_the_order_of_the_table() -> None:
    rows = [
        {"at_ns": at, "duration_ns": 0, "kind": "mark", "name": name} for at, name in [(2, "a"), (1, "z"), (1, "b")]
    ]
    assert EVENTS.from_rows(rows)["name"].to_pylist() == ["b", "z", "a"]


def test_an_older_table_gains_unknowns_and_loses_what_is_gone() -> None:
    old = pa.table({"a_ns": pa.array([5], pa.int32()), "gone": ["x"]})
    new = THING.conform(old)
    assert new.schema == THING.schema
    assert new.to_pylist() == [{"a_ns": 5, "b": None}]


def test_an_older_table_without_a_column_that_must_be_known_is_refused() -> None:
    with pytest.raises(KeyError, match="a_ns"):
        THING.conform(pa.table({"b": ["x"]}))


def test_documentation_travels_with_the_schema() -> None:
    field = OBJECT_CENSUS.schema.field("size_bytes")
    assert field.metadata[b"unit"] == b"bytes"
    assert field.metadata[b"doc"]
    assert "limit_items" in CONTAINER_SIZES
