"""What `numpy.save` writes of routed experts."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_live.analyzer import Analyzer
from moe_live.cli import main
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
