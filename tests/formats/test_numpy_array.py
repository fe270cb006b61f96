"""What `numpy.save` writes of routed experts."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from moe_live.analyzer import Analyzer
from moe_live.cli import main
from moe_live.reports.unusable import why_unusable
from tests.analysis import snapshot_of
from tests.comparison import plain
from tests.formats.test_written import figures


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@settings(max_examples=20)
@given(
    st.tuples(st.integers(1, 20), st.integers(1, 4), st.integers(1, 3)),
    st.sampled_from(["<i4", ">i4", "u1", "<i8"]),
    st.data(),
)
def test_it_is_as_if_the_rows_were_fed(shape: tuple[int, int, int], dtype: str, data: st.DataObject) -> None:
    tokens, layers, k = shape
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    array = rng.permuted(np.tile(np.arange(9), (tokens, layers, 1)), axis=2)[..., :k].astype(dtype)
    file = saved(array)
    places = sorted(data.draw(st.lists(st.integers(0, len(file)), max_size=5)))
    cut = [file[begin:end] for begin, end in zip([0, *places], [*places, len(file)], strict=True)]
    direct = Analyzer()
    direct.feed_rows(array)
    direct.finish()
    found = snapshot_of(*cut)
    assert figures(found) == figures(direct.snapshot())
    assert (found.input.format, found.input.tally.lines) == ("numpy-array", tokens * layers)
    assert plain(snapshot_of(file)) == plain(found)


def test_empty_slots_rows_and_a_cut_end_are_counted() -> None:
    file = saved(np.array([[[3, -1], [-1, -1]], [[4, 9999], [1, 2]], [[5, 6], [7, 8]]]))
    tally = snapshot_of(file[:-1]).input.tally
    assert (tally.lines, tally.empty_rows, tally.malformed_lines) == (4, 1, 1)
    assert (tally.samples, tally.incomplete_lines, tally.incomplete_bytes) == ((b"[4, 9999]",), 1, 31)


@pytest.mark.parametrize(
    "array",
    [np.zeros((3, 2), int), np.zeros((3, 2, 2)), np.zeros((0, 2, 2), int), np.zeros((1, 2000, 2), int)],
)
def test_other_arrays_are_not_read(
    array: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "array.npy"
    path.write_bytes(saved(array))
    assert main([str(path)]) == 1
    assert str(array.shape) in capsys.readouterr().err


def test_what_vllm_returns_is_read() -> None:
    path = Path(__file__).parents[3] / "shared" / "cases" / "c15_routed_experts.npy.gz"
    if not path.exists():
        pytest.skip("no ../shared/cases")
    snapshot = snapshot_of(gzip.decompress(path.read_bytes()))
    assert (snapshot.steps.decode, snapshot.model.layers, snapshot.model.top_k) == (300, tuple(range(16)), 6)
    assert snapshot.rows.logged == 4800


def archive(*, packed: bool = False, **arrays: NDArray[np.generic]) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(file, **arrays)  # type: ignore[arg-type]  # of any type
    return file.getvalue()


@pytest.mark.parametrize("packed", [False, True])
def test_the_arrays_of_an_archive_are_texts_one_after_the_other(packed: bool) -> None:
    rng = np.random.default_rng(4)
    first, second = (rng.permuted(np.tile(np.arange(20), (n, 3, 1)), axis=2)[..., :4] for n in (30, 8))
    data = archive(packed=packed, a=first, scores=rng.random((30, 3, 4)), b=second.astype(np.uint8))
    snapshot = snapshot_of(data)
    analyzer = Analyzer()
    analyzer.feed_rows(first)
    analyzer.feed_rows(second)
    analyzer.finish()
    expected = analyzer.snapshot()
    assert snapshot.input.format == "numpy-archive"
    assert snapshot.input.tally.malformed_lines == 1
    assert snapshot.input.tally.samples[0].startswith(b"numpy array, 'shape': (30, 3, 4)")
    assert np.array_equal(snapshot.counts, expected.counts)
    assert snapshot.steps == expected.steps
    for size in (1, 7, 1000):
        assert plain(snapshot_of(*(data[at : at + size] for at in range(0, len(data), size)))) == plain(
            snapshot
        )


def test_an_archive_may_be_damaged_cut_or_of_something_else() -> None:
    data = archive(packed=True, a=np.tile(np.arange(6).reshape(1, 2, 3), (400, 1, 1)))
    for place in range(0, len(data), 7):
        snapshot_of(data[:place])
        snapshot_of(data[:place] + b"\xa5" + data[place + 1 :])
    assert snapshot_of(data[: len(data) // 2]).input.tally.incomplete_lines <= 1
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as of_texts:
        of_texts.writestr("notes.txt", "3,1 2\n")
    snapshot = snapshot_of(file.getvalue())
    assert (snapshot.rows.logged, snapshot.input.tally.malformed_lines) == (0, 1)
    assert why_unusable(snapshot.input.tally).startswith(": it seems to be a zip archive")
