"""The loops in C against numpy, and where there is no library of them."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live import kernels
from moe_live.kernels import loading
from moe_live.routing.batch import Kind
from moe_live.statistics import pairs
from moe_live.statistics.coactivation import Coactivation
from moe_live.statistics.locality import Locality
from moe_live.statistics.pairs import _supported, factors
from moe_live.statistics.prediction import PairedRows, gains, hits
from moe_live.statistics.reuse import Reuse
from moe_live.statistics.rows import RowsByLayer
from moe_live.statistics.transitions import Transitions
from tests.comparison import plain
from tests.statistics.drawn_steps import DrawnStep, chosen, cut, decode_rows, drawn_steps, tables

PLACES = st.lists(st.integers(0, 30), max_size=4)


@contextmanager
def counting_with(library: ctypes.CDLL | None) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "library", lambda: library)
        yield


def arrays(reuse: Reuse | None) -> dict[str, object]:
    """All that is kept, with types."""
    kept = {} if reuse is None else vars(reuse)
    return {
        name: (value.dtype.str, value.tolist()) if isinstance(value, np.ndarray) else value
        for name, value in kept.items()
    }


def kept(accumulator: Locality) -> object:
    return arrays(accumulator._decided), arrays(accumulator._with_undecided)


@given(st.lists(drawn_steps(max_steps=12), min_size=1, max_size=3), PLACES)
def test_uses_are_kept_as_numpy_keeps_them(
    compiled: ctypes.CDLL, narrow: ctypes.CDLL, logs: list[list[DrawnStep]], places: list[int]
) -> None:
    found = []
    for library in (None, compiled, narrow):
        with counting_with(library):
            whole = Locality()
            for steps in logs:
                part = Locality()
                for piece in cut(steps, places):
                    part.update(*tables(piece))
                whole += part
            found.append(kept(whole))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(("steps", "n_experts", "k"), [(6000, 40, 8), (3000, 600, 6)])
def test_long_runs_are_counted_as_short_ones(
    compiled: ctypes.CDLL, narrow: ctypes.CDLL, steps: int, n_experts: int, k: int
) -> None:
    """More uses than stamps of 16 bits tell apart; steps that are not measured one by one; other layers."""
    rng = np.random.default_rng(1)
    rows = decode_rows(chosen(rng, rng.normal(0, 1, (2, n_experts)), k, (steps, 2)), layers=(3, 7))
    found = []
    for library in (None, compiled, narrow):
        with counting_with(library):
            accumulator = Locality()
            accumulator.update([rows], np.full(steps, Kind.DECODE, np.int8))
            found.append(kept(accumulator))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(("many", "n_experts"), [(3, 12), (3, 300), (40_000, 12)])
@pytest.mark.parametrize("accumulator", [Coactivation, Transitions])
def test_pairs_of_any_counts_are_those_of_numpy(
    compiled: ctypes.CDLL, accumulator: type[Coactivation | Transitions], many: int, n_experts: int
) -> None:
    """Also such as 16 bits do not hold: two experts are in every row."""
    rng = np.random.default_rng(2)
    scores = rng.normal(0, 1, (3, n_experts))
    scores[:, :2] += 50
    table = RowsByLayer(decode_rows(chosen(rng, scores, 4, (many, 3)), layers=(1, 2, 5)))
    found = []
    for library in (None, compiled):
        with counting_with(library):
            counts = accumulator()
            counts.update([table])
            counts.update([table])
            found.append(
                (counts._counts.low.dtype, counts._counts.counts(0, len(counts._counts.low)).tolist())
            )
    assert found[0] == found[1]


@given(st.lists(st.integers(0, 60), min_size=1, max_size=20), st.integers(1, 4))
def test_the_same_pairs_are_expected_in_enough_rows_as_by_numpy(
    compiled: ctypes.CDLL, single: list[int], at_once: int
) -> None:
    """Experts of no row and of every row are among them; also of a part of a table at a time."""
    of_experts = np.array(single)
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "_CELLS", at_once * len(single))
        for library in (None, compiled):
            with counting_with(library):
                pair, expected = _supported(of_experts, 60, factors(of_experts / 60))
                found.append((pair.tolist(), expected.tolist()))
    assert found[0] == found[1]


@st.composite
def paired_rows(draw: st.DrawFn) -> tuple[PairedRows, int, int]:
    """Tokens of some pairs of layers, many of which have the same experts; how many pairs, and experts."""
    n_pairs, n_experts = draw(st.integers(1, 3)), draw(st.integers(1, 11))
    k = draw(st.integers(1, n_experts))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    tokens = draw(st.lists(st.integers(0, 12), min_size=n_pairs, max_size=n_pairs))
    lower, upper = chosen(rng, draw(st.floats(0, 3)) * rng.normal(size=n_experts), k, (2, sum(tokens)))
    pair = np.repeat(np.arange(n_pairs, dtype=np.uint16), tokens)
    return PairedRows(pair, lower, upper, np.arange(len(pair))), n_pairs, n_experts


@given(paired_rows(), st.sampled_from([0, 1, 1 << 33]))
def test_the_next_layer_is_foretold_as_by_numpy(
    compiled: ctypes.CDLL, narrow: ctypes.CDLL, drawn: tuple[PairedRows, int, int], others: int
) -> None:
    """Counts beyond 32 bits are among them."""
    rows, n_pairs, n_experts = drawn
    counts = others * (np.arange(n_pairs * n_experts**2).reshape(n_pairs, n_experts, n_experts) % 7)
    for pair, lower, upper in zip(rows.pair, rows.lower, rows.upper, strict=True):
        counts[pair][np.ix_(lower, upper)] += 1
    found = []
    for library in (None, compiled, narrow):
        with counting_with(library):
            found.append((hits(counts, rows).tolist(), plain(gains(rows, n_pairs, n_experts).tolist())))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("wide", [np.uint8, np.uint16, np.uint32])
def test_counts_have_any_width(compiled: ctypes.CDLL, wide: type[np.unsignedinteger[Any]]) -> None:
    bounds, none = np.array([0, 1, 2]), np.zeros(2, np.int64)
    rows = np.array([[2, 1], [0, 3]], np.uint16)
    pairs, transitions = np.zeros(10, wide), np.zeros(16, wide)
    with counting_with(compiled):
        assert kernels.count_pairs(pairs, none, bounds, rows)
        assert kernels.count_transitions(transitions, np.array([0, -1]), none + 4, bounds, rows)
    assert pairs.tolist() == [1, 0, 1, 1, 0, 1, 0, 1, 0, 1]
    assert np.flatnonzero(transitions).tolist() == [1, 3, 9, 11]


def test_rows_of_more_experts_than_the_loops_take_are_left_to_numpy(compiled: ctypes.CDLL) -> None:
    counts, bounds = np.zeros(5000, np.uint16), np.array([0, 1])
    rows = np.arange(65, dtype=np.uint16)[:, None]
    with counting_with(compiled):
        assert not kernels.count_pairs(counts, np.zeros(1, np.int64), bounds, rows)
        assert not kernels.count_pairs(counts.astype(np.int64), np.zeros(1, np.int64), bounds, rows[:64])
        assert kernels.count_pairs(counts, np.zeros(1, np.int64), bounds, rows[:64])
        assert not kernels.can_count_uses(1 << 14)
        tokens = np.zeros(1, np.uint16), rows.T, rows.T
        assert kernels.foretold_by_half(1, 65, tokens, 4.0) is None
        assert kernels.foretold_by_others(np.ones((1, 65, 65), np.int64), tokens) is None


def of_reuse(step: int, slot: int, expert: int) -> None:
    reuse = Reuse()
    reuse.reserve(2, 32)
    reuse.count(np.array([step]), np.array([slot]), np.array([[expert]], np.uint16))


def of_pairs(base: int, expert: int) -> None:
    counts = np.zeros(10, np.uint16)
    kernels.count_pairs(counts, np.array([base]), np.array([0, 1]), np.array([[expert]], np.uint16))


def of_transitions(width: int, lower: int, upper: int) -> None:
    rows = np.array([[lower, upper]], np.uint16)
    layers = np.array([0, -1]), np.array([width, 0]), np.array([0, 1, 2])
    kernels.count_transitions(np.zeros(10, np.uint16), *layers, rows)


def of_prediction(pairs: list[int], lower: int, upper: int) -> None:
    rows = np.array(pairs, np.uint16), *(np.full((len(pairs), 1), e, np.uint16) for e in (lower, upper))
    kernels.foretold_by_others(np.zeros((2, 5, 5), np.int64), rows)
    kernels.foretold_by_half(2, 5, rows, 4.0)


@pytest.mark.parametrize(
    "beyond",
    [
        lambda: of_prediction([0, 2], 0, 0),
        lambda: of_prediction([1, 0], 0, 0),
        lambda: of_prediction([0, 1], 5, 0),
        lambda: of_prediction([0, 1], 0, 5),
        lambda: of_reuse(0, 2, 0),
        lambda: of_reuse(0, 0, 32),
        lambda: of_reuse(0, -1, 0),
        lambda: of_pairs(0, 4),
        lambda: of_pairs(0, 40_000),
        lambda: of_pairs(-1, 0),
        lambda: of_transitions(5, 2, 0),
        lambda: of_transitions(5, 0, 5),
    ],
)
def test_nothing_is_written_beyond_a_table(compiled: ctypes.CDLL, beyond: Callable[[], None]) -> None:
    with counting_with(compiled), pytest.raises(IndexError, match="beyond its table"):
        beyond()


def test_what_is_at_the_edge_of_a_table_is_counted(compiled: ctypes.CDLL) -> None:
    with counting_with(compiled):
        of_reuse(0, 1, 31)
        of_pairs(0, 3)
        of_transitions(5, 1, 4)
        of_prediction([0, 1], 4, 4)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A user who has never read a large log; the directory of the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(loading.SWITCH)
    loading.library.cache_clear()
    yield tmp_path / "moe-live"
    loading.library.cache_clear()


@pytest.mark.usefixtures("compiled")
def test_a_large_log_has_the_library_compiled_and_kept(fresh: Path) -> None:
    loading.prepare(None)
    loading.prepare(loading.WORTH - 1)
    assert loading.library() is None
    assert not fresh.exists()
    loading.prepare(loading.WORTH)
    (kept,) = fresh.iterdir()
    assert loading.library() is not None
    loading.library.cache_clear()
    assert loading.library() is not None
    kept.chmod(0o722)  # others may have written it
    loading.library.cache_clear()
    assert loading.library() is None


@pytest.mark.usefixtures("compiled")
def test_a_library_that_cannot_be_loaded_is_not_made_again(fresh: Path) -> None:
    loading.prepare(loading.WORTH)
    (kept,) = fresh.iterdir()
    kept.write_bytes(b"nothing that runs here")
    loading.library.cache_clear()
    loading.prepare(loading.WORTH)
    assert loading.library() is None
    assert kept.read_bytes() == b"nothing that runs here"


@pytest.mark.usefixtures("compiled")
def test_nothing_is_compiled_or_loaded_where_it_is_switched_off(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading.prepare(loading.WORTH)
    monkeypatch.setenv(loading.SWITCH, "off")
    loading.library.cache_clear()
    loading.prepare(loading.WORTH)
    assert loading.library() is None
    assert len(list(fresh.iterdir())) == 1


@pytest.mark.parametrize("command", ["/nowhere/cc", "false", '"'])
def test_without_a_compiler_all_is_done_in_numpy(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("CC", command)
    loading.prepare(loading.WORTH)
    assert loading.library() is None
    assert list(fresh.iterdir()) == []


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("home", ["/dev/null", "/proc"])
def test_a_cache_that_cannot_be_written_is_done_without(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", home)
    loading.prepare(loading.WORTH)
    assert loading.library() is None


@pytest.mark.usefixtures("compiled")
def test_a_log_has_the_same_figures_with_the_library_and_without(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    experts = chosen(rng, rng.normal(0, 1, (20, 64)), 6, (200, 20))
    rows = [
        f"{layer},{' '.join(map(str, row))}\n" for step in experts.tolist() for layer, row in enumerate(step)
    ]
    text = "layer,topk\n" + "".join(rows)
    log = tmp_path / "a.log"
    log.write_text(text * (loading.WORTH // len(text) + 1))
    found = []
    for switch in ("off", "on"):
        out = tmp_path / f"{switch}.json"
        subprocess.run(
            [sys.executable, "-m", "moe_live", "--json", str(out), str(log)],
            env=os.environ | {"XDG_CACHE_HOME": str(tmp_path), loading.SWITCH: switch},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        assert (tmp_path / "moe-live").exists() == (switch == "on")
        found.append(json.loads(out.read_text()))
    assert found[0] == found[1]
