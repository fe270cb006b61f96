"""Loops that numpy lacks, in C: they find what the numpy beside their calls does, two to four times as fast.

They are optional. Where there is no library (see `loading.py`) a function here does nothing and says so; then
the caller does it in numpy, which is what defines the result.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from moe_live.kernels.loading import library

_MOST_TOGETHER = 64  # experts of a row
_MOST_EXPERTS = 1 << 13  # of which stamps of 16 bits tell several steps apart

# Lines, and numbers, for which there is to be room at any time: CHUNK of expert_lines.c at least.
_ROOM = 1 << 12
_SHORTEST_LINE = len("0,1\n")

_int = ctypes.c_int64


def count_pairs(
    counts: NDArray[Any],
    base: NDArray[np.int64],
    bounds: NDArray[np.int64],
    by_rank: NDArray[np.uint16],
) -> bool:
    """Add the pairs in rows to triangles of `Coactivation`, if that can be done.

    Args:
        counts: (cells,) of all triangles.
        base: (l,) where that of each layer begins.
        bounds: (l + 1,) where the rows of each begin, and where those of the last one end.
        by_rank: (k, n) columns of their experts, all different in a row.
    """
    return _count(("pairs_8", "pairs_16", "pairs_32"), counts, (base, bounds), by_rank)


def count_transitions(
    counts: NDArray[Any],
    base: NDArray[np.int64],
    width: NDArray[np.int64],
    bounds: NDArray[np.int64],
    by_rank: NDArray[np.uint16],
) -> bool:
    """Add those from rows to rows of the next layer to tables of `Transitions`, if that can be done.

    Args:
        counts: (cells,) of all tables.
        base: (l,) where that of each layer begins, -1 for none.
        width: (l,) how many columns it has.
        bounds: (l + 1,) where the rows of each layer begin; all layers have as many, of the same tokens.
        by_rank: (k, n) columns of their experts.
    """
    return _count(
        ("transitions_8", "transitions_16", "transitions_32"), counts, (base, width, bounds), by_rank
    )


def _count(
    names: tuple[str, str, str],
    counts: NDArray[Any],
    of_layers: Sequence[NDArray[np.int64]],
    by_rank: NDArray[np.uint16],
) -> bool:
    """Call the one of three functions that is for counts of so many bits."""
    compiled, (k, n) = library(), by_rank.shape
    if compiled is None or counts.itemsize > 4 or k > _MOST_TOGETHER:
        return False
    of_layers = [np.ascontiguousarray(each, np.int64) for each in of_layers]
    by_rank = np.ascontiguousarray(by_rank, np.uint16)
    sizes = _int(len(counts)), _int(len(of_layers[0]))
    count = getattr(compiled, names[counts.itemsize // 2])
    _check(count(_at(counts), *sizes, *map(_at, of_layers), _int(k), _at(by_rank), _int(n)))
    return True


class Uses(Protocol):
    """What `count_uses` adds to: see `statistics.reuse.Reuse`, which has these."""

    passed: int
    steps: NDArray[np.int64]
    uses: NDArray[np.int64]
    depths: NDArray[np.int64]
    distances: NDArray[np.int64]
    shared: NDArray[np.int64]
    first: NDArray[np.int64]
    age: NDArray[np.int16]
    depth: NDArray[np.int64]
    head: NDArray[np.uint32]
    tail: NDArray[np.uint32]
    early: NDArray[np.uint16]
    early_uses: NDArray[np.int64]
    early_first: NDArray[np.int16]


_ARRAYS = tuple(name for name in Uses.__annotations__ if name != "passed")


class _Uses(ctypes.Structure):
    """`uses` in C."""

    _fields_ = (
        *((name, _int) for name in ("layers", "experts", "passed", "early_steps", "far", "never")),
        *((name, ctypes.c_void_p) for name in _ARRAYS),
    )


def can_count_uses(n_experts: int) -> bool:
    """Whether `count_uses` can be called for layers of so many columns."""
    return library() is not None and n_experts <= _MOST_EXPERTS


def count_uses(
    uses: Uses,
    step: NDArray[np.int64],
    slot: NDArray[np.int64],
    by_rank: NDArray[np.uint16],
    *,
    far: int,
    never: int,
) -> None:
    """Add steps.

    Args:
        uses: to which; it has room for them.
        step: (n,) the number of each row's step, without those that have `passed`.
        slot: (n,) index of its layer. Rows of one step and layer follow each other in the order of use.
        by_rank: (k, n) columns of their experts.
        far: the longest distance.
        never: age of what was never used.
    """
    compiled, (k, n) = library(), by_rank.shape
    assert compiled is not None  # noqa: S101 - the caller has asked
    told = _Uses(
        *(*uses.uses.shape, uses.passed, len(uses.early), far, never),
        *(_at(getattr(uses, name)) for name in _ARRAYS),
    )
    step, slot = (np.ascontiguousarray(each, np.int64) for each in (step, slot))
    by_rank = np.ascontiguousarray(by_rank, np.uint16)
    _check(compiled.count_uses(ctypes.byref(told), _int(n), _int(k), _at(step), _at(slot), _at(by_rank)))


def read_lines(
    text: bytes | bytearray, begin: int, end: int, *, layers: int, experts: int, k: int
) -> tuple[int, NDArray[np.uint16], NDArray[np.uint16], NDArray[np.int64]] | None:
    """Read the expert lines of `formats.expert_lines` that come first, if that can be done.

    Args:
        text: holds them.
        begin: where they begin.
        end: where they end, behind a newline.
        layers: no layer is as high.
        experts: no expert is as high.
        k: how many experts a line has at most.

    Returns:
        Where the lines end that were read; layers and experts (n,) of those that are well-formed; how many
        experts each line has (l,), 0 if it is not well-formed; where each ends (l,), counted from `begin`.
    """
    if (compiled := library()) is None:
        return None
    size = end - begin
    most = size // _SHORTEST_LINE + _ROOM
    number, width = np.empty(size // 2 + _ROOM, np.uint16), np.empty(most, np.uint16)
    line_end, read = np.empty(most, np.int64), np.empty(3, np.int64)
    lines = np.frombuffer(text, np.uint8, size, begin)
    numbers = map(_int, (size, most, layers, experts, k))
    if compiled.read_lines(_at(lines), *numbers, _at(number), _at(width), _at(line_end), _at(read)):
        return None
    size, n_lines, n = read.tolist()
    return begin + size, number[:n], width[:n_lines], line_end[:n_lines]


def read_floats(
    text: bytes | bytearray, bounds: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """Read lines of floats as `formats.float_text` does, if that can be done.

    Args:
        text: holds them, each with a newline behind it.
        bounds: where each of these (m) begins and ends.

    Returns:
        How many floats each has (m,), 0 if anything else is in it; and all of these, line after line.
    """
    if (compiled := library()) is None:
        return None
    places = np.array(bounds, np.int64)
    width = np.empty(len(places), np.int64)
    value = np.empty(int((places[:, 1] - places[:, 0] + 1).sum()) // 2 + 1)
    whole = np.frombuffer(text, np.uint8)
    sizes = map(_int, (len(whole), len(places)))
    if compiled.read_floats(_at(whole), *sizes, _at(places), _at(width), _at(value)):
        return None
    return width, value[: int(width.sum())].copy()


def supported_pairs(
    single: NDArray[np.int64], rows: int, factor: NDArray[np.float64], some: range, enough: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """Pairs (p,) that are expected in enough rows, and in how many, if that can be done.

    See `statistics.pairs.expected_together`.

    Args:
        single: (E,) rows with each expert.
        rows: rows counted.
        factor: (E,) what its experts being distinct takes from a row.
        some: the first experts of these pairs; the second ones are those after each.
        enough: how many rows that is.

    Returns:
        Their ascending flat indices in (E, E), and what is expected.
    """
    if (compiled := library()) is None:
        return None
    n = len(single)
    pair, expected = np.empty(len(some) * n, np.int64), np.empty(len(some) * n)
    of_experts = [np.ascontiguousarray(each, np.float64) for each in (single, single / rows, factor)]
    numbers = (
        *map(_int, (n, some.start, some.stop)),
        *map(ctypes.c_double, (rows, enough)),
    )
    found = compiled.supported(*numbers, *map(_at, (*of_experts, pair, expected)))
    return pair[:found].copy(), expected[:found].copy()  # few, and there was room for all


class _Tokens(ctypes.Structure):
    """`tokens` in C."""

    _fields_ = (
        *((name, _int) for name in ("pairs", "experts", "n", "k")),
        *((name, ctypes.c_void_p) for name in ("pair", "lower", "upper")),
    )


def foretold_by_others(
    counts: NDArray[np.int64], rows: Sequence[NDArray[np.uint16]]
) -> NDArray[np.float64] | None:
    """What `statistics.prediction.hits` is asked for, (2, m), if that can be done.

    Args:
        counts: (P, E, E) of each pair of layers.
        rows: (m,) of which pair each token is, ascending, and (m, k) its experts below and above.
    """
    compiled, (n_pairs, n_experts, _), (n, k) = library(), counts.shape, rows[1].shape
    if compiled is None or k > _MOST_TOGETHER:
        return None
    counts, rows = (
        np.ascontiguousarray(counts, np.int64),
        [np.ascontiguousarray(each, np.uint16) for each in rows],
    )
    tokens, found = _Tokens(n_pairs, n_experts, n, k, *map(_at, rows)), np.empty((2, n))
    _check(compiled.hits(ctypes.byref(tokens), _at(counts), _at(found)))
    return found


def foretold_by_half(
    n_pairs: int, n_experts: int, rows: Sequence[NDArray[np.uint16]], prior: float
) -> NDArray[np.float64] | None:
    """How many more experts (m,) of each token `statistics.prediction.gains` foretells, if that can be done.

    Args:
        n_pairs: of layers.
        n_experts: experts a layer.
        rows: (m,) of which pair each token is, ascending, and (m, k) its experts below and above.
        prior: rows for which the most used experts stand.
    """
    compiled, (n, k) = library(), rows[1].shape
    if compiled is None or k > _MOST_TOGETHER:
        return None
    rows = [np.ascontiguousarray(each, np.uint16) for each in rows]
    tokens, gained = _Tokens(n_pairs, n_experts, n, k, *map(_at, rows)), np.empty(n)
    _check(compiled.gains(ctypes.byref(tokens), ctypes.c_double(prior), _at(gained)))
    return gained


def _at(array: NDArray[Any]) -> ctypes.c_void_p:
    """Where its first element is."""
    return ctypes.c_void_p(array.__array_interface__["data"][0])


def _check(failed: int) -> None:
    """Raises an IndexError: a row is beyond the tables. Or there is no memory for what is counted with."""
    if failed:
        raise IndexError("an expert, a layer or a step is beyond its table, or memory is short")
