"""Tables as Parquet: other programs read what was written, however it came."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moe_live.tables.columns import Column, Names, Ranks, Repeated, Type, Values, spread

parquet_writer = pytest.importorskip("moe_live.tables.parquet", exc_type=ImportError).parquet_writer

COLUMNS = [
    Column("whole", Type.INT64, "a number"),
    Column("small", Type.UINT16, "a number"),
    Column("place", Type.INT32, "a number"),
    Column("real", Type.FLOAT64, "a number, or none", nullable=True),
    Column("exact", Type.FLOAT64, "a number"),
    Column("word", Type.STRING, "a name"),
    Column("label", Type.STRING, "a name, or none", nullable=True),
    Column("truth", Type.BOOL, "a truth, or none", nullable=True),
    Column("plain", Type.BOOL, "a truth"),
]
BOUNDS = {
    "whole": [(0, 3), (1000, 1400), (-(1 << 62), 1 << 62)],
    "small": [(0, 0), (0, 1), (3, 6), (7, 22), (0, 159), (0, 511), (0, 65_535)],
    "place": [(5, 5), (0, 511), (-(1 << 31), (1 << 31) - 1)],
}
READ_AS = {Type.FLOAT64: "double", Type.STRING: "dictionary<values=string, indices=int32, ordered=0>"}
NAMES = ("decode", "prefill", 'x,"y"', "\N{SNOWMAN}", "")

Lines = list[dict[str, Any]]


def some_column(
    column: Column, rng: np.random.Generator, counts: NDArray[np.int64]
) -> tuple[Values, list[Any]]:
    """Values of a column, each for so many lines, in one of the ways there are; and those of each line."""
    n = len(counts)
    is_missing = rng.random(n) < (rng.choice([0, 0.3, 1]) if column.nullable else 0)
    values: NDArray[Any] | Names
    if column.type is Type.STRING:
        names = rng.permutation(NAMES)[: int(rng.integers(1, len(NAMES) + 1))].tolist()
        codes = np.where(is_missing, -1, rng.integers(0, len(names), n))
        values, cells = Names(codes, names), [names[code] for code in codes.tolist()]
    elif column.type is Type.BOOL:
        values = np.where(is_missing, -1, rng.integers(0, 2, n)).astype(np.int8)
        cells = [value == 1 for value in values.tolist()]
    elif column.type is Type.FLOAT64:
        values = np.where(is_missing, np.nan, rng.normal(size=n).round(1))
        cells = values.tolist()
    else:
        least, greatest = rng.choice(BOUNDS[column.name])
        numbers = rng.integers(least, greatest, n, endpoint=True)
        values, cells = numbers.astype(column.type.value), numbers.tolist()
    told = [None if missing else cell for cell, missing in zip(cells, is_missing.tolist(), strict=True)]
    lines = [cell for cell, times in zip(told, counts.tolist(), strict=True) for _ in range(times)]
    if is_missing.all():
        return None, lines
    repeated = Repeated(values, counts) if rng.random() < 0.5 else Repeated.of(values, counts)
    return (repeated if rng.random() < 0.5 else repeated.spread()), lines


def write(path: Path, rng: np.random.Generator, pieces: int) -> Lines:
    """Write some lines to a table."""
    lines: Lines = []
    with path.open("wb") as file, parquet_writer(file, COLUMNS) as table:
        for _ in range(pieces):
            n = int(rng.integers(1, 60))
            counts = np.full(n, 8) if rng.random() < 0.5 else rng.integers(1, 200, n)
            found = {column.name: some_column(column, rng, counts) for column in COLUMNS}
            table.write({name: values for name, (values, _) in found.items()})
            every = zip(*(cells for _, cells in found.values()), strict=True)
            lines += [dict(zip(found, line, strict=True)) for line in every]
    return lines


@given(values=st.lists(st.integers(0, 2), min_size=1), data=st.data())
def test_what_is_alike_is_repeated_and_the_lines_stay(values: list[int], data: st.DataObject) -> None:
    counts = np.array([data.draw(st.integers(1, 9)) for _ in values], np.uint16)
    lines = np.repeat(values, counts)
    found = Repeated.of(np.array(values), counts)
    assert len(found) == len(lines)
    np.testing.assert_array_equal(spread(found), lines)
    np.testing.assert_array_equal(spread(Ranks(counts)), [rank for count in counts for rank in range(count)])


def test_a_value_in_all_lines_is_one() -> None:
    found = Repeated.of(np.zeros(100, np.int32), np.full(100, 8))
    assert (len(found.values), len(found)) == (1, 800)


def test_a_name_that_is_there_twice_is_written_once(tmp_path: Path) -> None:
    once, twice = tmp_path / "once.parquet", tmp_path / "twice.parquet"
    codes = np.array([0, 1, 0, 1, 2, -1])
    for path, values in (
        (once, Names(codes, ("a", "bc", "d"))),
        (twice, Names(np.array([0, 1, 2, 1, 3, -1]), ("a", "bc", "a", "d"))),
    ):
        with (
            path.open("wb") as file,
            parquet_writer(file, [Column("word", Type.STRING, "a name", nullable=True)]) as table,
        ):
            table.write({"word": values})
    assert once.read_bytes() == twice.read_bytes()


@given(seed=st.integers(0, 1 << 32), pieces=st.integers(0, 20), group=st.sampled_from([1, 1000, 1 << 18]))
def test_others_read_what_was_written(
    seed: int, pieces: int, group: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    arrow = pytest.importorskip("pyarrow.parquet")
    path = tmp_path_factory.mktemp("tables") / "some.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("moe_live.tables.parquet._GROUP", group)
        lines = write(path, np.random.default_rng(seed), pieces)
    table = arrow.read_table(path)
    assert [(str(each.type), each.nullable) for each in table.schema] == [
        (READ_AS.get(column.type, column.type.value), column.nullable) for column in COLUMNS
    ]
    assert table.to_pylist() == lines


@pytest.mark.parametrize("seed", range(8))
def test_every_reader_reads_the_same(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    duckdb, polars = pytest.importorskip("duckdb"), pytest.importorskip("polars")
    monkeypatch.setattr("moe_live.tables.parquet._GROUP", 2000)
    path = tmp_path / "some.parquet"
    lines = write(path, np.random.default_rng(seed), 40)
    found = duckdb.sql(f"SELECT * FROM '{path}'").fetchall()
    assert [dict(zip(lines[0], line, strict=True)) for line in found] == lines
    assert polars.read_parquet(path).to_dicts() == lines
