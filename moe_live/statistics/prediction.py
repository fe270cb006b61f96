"""How much of what a token chooses in one layer its experts in the layer before foretell.

All functions take rows of many pairs of layers at once: of one pair they are few.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from moe_live import kernels
from moe_live.routing.batch import repeats
from moe_live.statistics.blocks import BLOCKS
from moe_live.statistics.sampling import SampledRows

TESTED_TOKENS = 256
"""Tokens of a pair of layers that predictions are tested on at most."""

TEST_SIZE = 1 << 22
"""Tokens times experts a row times experts a layer that they are tested on at most: `TESTED_TOKENS` of 32
experts a row of 512, fewer of what no model has."""

_CHUNK = 1 << 8  # rows handled at a time: the scores of so many fit a processor's cache

_PRIOR = 4.0
# Rows for which the most used experts stand in a prediction: what few rows show is not believed at once.


class PairedRows(NamedTuple):
    """The experts of tokens in two layers: rows by pair of layers, and those of a pair in the order of time.

    Attributes:
        pair: (m,) uint16, the number of the pair.
        lower: (m, k) uint16, distinct experts of a token in the lower layer.
        upper: (m, k) uint16, those of the same token in the upper.
        rank: (m,) int64, the place of the token in the sample.
    """

    pair: NDArray[np.uint16]
    lower: NDArray[np.uint16]
    upper: NDArray[np.uint16]
    rank: NDArray[np.int64]

    @classmethod
    def of(
        cls, rows: SampledRows, pairs: Sequence[tuple[int, int]], experts: NDArray[np.int64]
    ) -> PairedRows:
        """Those of sampled tokens in some pairs of layers, with indices of `experts` (E,), ascending.

        Args:
            rows: of sampled tokens.
            pairs: of two layers each, ascending, with none between the two that is in any pair.
            experts: (E,) all that are in rows, ascending.
        """
        below, above = np.array(pairs, np.uint16).T
        wanted = np.zeros(int(max(rows.layer.max(initial=0), above[-1])) + 1, np.bool_)
        wanted[below] = wanted[above] = True
        rows = rows.take(np.flatnonzero(wanted[rows.layer]))
        repeating = repeats(rows.experts.T)
        if repeating is not None:
            rows = rows.take(np.flatnonzero(~repeating))
        rows = rows.take(np.lexsort((rows.layer, rows.token, rows.step)))
        # The two rows of a token in a pair of layers follow each other now.
        pair = np.searchsorted(below, rows.layer[:-1]).clip(max=len(below) - 1)
        is_pair = (below[pair] == rows.layer[:-1]) & (above[pair] == rows.layer[1:])
        for key in (rows.step, rows.token):
            is_pair &= key[:-1] == key[1:]
        first = np.flatnonzero(is_pair)
        number = pair[first].astype(np.uint16)
        order = np.argsort(number, kind="stable")
        first = first[order]
        chosen = rows.experts
        if len(experts) and experts[-1] >= len(experts):
            chosen = np.searchsorted(experts, chosen).astype(np.uint16)
        return cls(number[order], chosen[first], chosen[first + 1], rows.rank[first])

    def of_pairs(self, begin: int, end: int) -> Self:
        """The rows of the pairs from `begin` to before `end`, which are numbered from 0 there."""
        first, last = np.searchsorted(self.pair, (begin, end))
        part = self._replace(**{name: array[first:last] for name, array in self._asdict().items()})
        return part._replace(pair=part.pair - np.uint16(begin))

    def where(self, some: NDArray[np.bool_]) -> Self:
        """Some (m,) of the rows."""
        return self._replace(**{name: array[some] for name, array in self._asdict().items()})


class Tested(NamedTuple):
    """How predictions do, for each of P pairs of layers: see `transitions.LayerTransition`.

    Attributes:
        tokens: (P,) int64, tokens that they were tested on.
        hit_rate, static_hit_rate: (P,) float64, NaN where it cannot be told.
        together: (P,) float64, experts that a token has in the upper layer, likewise.
        gain, gain_error: (P,) float64, likewise.
    """

    tokens: NDArray[np.int64]
    hit_rate: NDArray[np.float64]
    static_hit_rate: NDArray[np.float64]
    together: NDArray[np.float64]
    gain: NDArray[np.float64]
    gain_error: NDArray[np.float64]


def tested(counts: NDArray[np.int64], tables: Sequence[PairedRows]) -> Tested:
    """Test predictions on sampled tokens, the gain on those of the k that most of a pair's tokens have.

    Args:
        counts: (P, E, E) of each pair of layers, tokens with i below and j above.
        tables: some of these tokens, for each k.
    """
    n_pairs, n_experts, _ = counts.shape
    tokens, selections, hit = np.zeros(n_pairs, np.int64), np.zeros(n_pairs, np.int64), np.zeros((2, n_pairs))
    gain, most = np.full((2, n_pairs), np.nan), np.zeros(n_pairs, np.int64)
    for rows in tables:
        k = rows.upper.shape[1]
        some = rows.where(rows.rank < min(TESTED_TOKENS, max(1, TEST_SIZE // (k * n_experts))))
        number = np.bincount(some.pair, minlength=n_pairs)
        tokens += number
        selections += number * k
        hit += [np.bincount(some.pair, of_rows, n_pairs) for of_rows in hits(counts, some)]
        number = np.bincount(rows.pair, minlength=n_pairs)
        more = number > most
        most[more], gain[:, more] = number[more], gains(rows, n_pairs, n_experts)[:, more]
    with np.errstate(invalid="ignore"):  # of no tokens nothing can be told
        rate, static = hit / selections
        return Tested(tokens, rate, static, selections / tokens, gain[0], gain[1])


def hits(counts: NDArray[np.int64], rows: PairedRows) -> NDArray[np.float64]:
    """How much of each row's `upper` is predicted right, from the counts of all others (leave one out).

    Predicted are the k experts j with the largest sum of P(j|i) over the token's experts i in the lower
    layer; statically, those most used in the upper layer, the token itself included: without it its experts
    would lose every tie. Among equals at the border each is taken as likely as the others.

    Args:
        counts: (P, E, E) of each pair of layers, tokens with i below and j above, these included.
        rows: tokens, of any of the pairs.

    Returns:
        (2, m): experts predicted, and statically.
    """
    found = kernels.foretold_by_others(counts, rows[:3])
    if found is not None:
        return found
    pair, lower, upper = (each.astype(np.int64) for each in rows[:3])
    n_experts = counts.shape[1]
    followers = np.maximum(counts.sum(axis=2) - upper.shape[1], 1)
    line = (pair * n_experts)[:, None] + lower
    # Less the token itself, before any rounding: a trace of it would break ties its way.
    others = counts.reshape(-1, n_experts)[line[:, :, None], upper[:, None, :]] - 1
    own = (others / followers.reshape(-1)[line][:, :, None]).sum(axis=1)
    usage = counts.sum(axis=1)
    found = np.empty((2, len(pair)))
    found[0] = _foretold((counts / followers[:, :, None]).reshape(-1, n_experts), line, upper, own)
    found[1] = _among_best(np.sort(usage, axis=1), pair, usage[pair[:, None], upper])
    return found


def gains(rows: PairedRows, n_pairs: int, n_experts: int) -> NDArray[np.float64]:
    """How much better the lower layer foretells the upper one than the most used experts do.

    Each half of a pair's tokens is predicted from the other: what is only alike because it is near in time,
    or because few tokens were counted, predicts nothing there.

    Args:
        rows: tokens.
        n_pairs: pairs of layers.
        n_experts: experts a layer.

    Returns:
        (2, P): for each pair the difference of the two shares predicted, and its standard error; NaN for what
        cannot be told.
    """
    pair, k = rows.pair.astype(np.int64), rows.upper.shape[1]
    tokens = np.bincount(pair, minlength=n_pairs)
    place = np.arange(len(pair)) - np.searchsorted(pair, pair)  # of a row among those of its pair
    gained = kernels.foretold_by_half(n_pairs, n_experts, rows[:3], _PRIOR)
    if gained is None:
        gained = _gained(rows, n_pairs, n_experts, later=place >= tokens[pair] // 2)
    gained /= k
    part = pair * BLOCKS + place * BLOCKS // tokens[pair]
    size, gain = (
        np.bincount(part, weights, n_pairs * BLOCKS).reshape(n_pairs, BLOCKS) for weights in (None, gained)
    )
    found = np.full((2, n_pairs), np.nan)
    known = tokens >= max(2, 2 * k)
    found[0, known] = mean = gain[known].sum(axis=1) / tokens[known]
    spread = ((gain[known] - mean[:, None] * size[known]) ** 2).sum(axis=1)
    # What one half teaches is as uncertain as what the other tests: twice the variance.
    error = np.sqrt(2 * BLOCKS / (BLOCKS - 1) * spread) / tokens[known]
    found[1, known] = np.where(size[known].all(axis=1), error, np.nan)
    return found


def _gained(
    rows: PairedRows, n_pairs: int, n_experts: int, *, later: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """How many more experts (m,) of each token the lower layer foretells than are among the most used ones.

    Args:
        rows: tokens.
        n_pairs: pairs of layers.
        n_experts: experts a layer.
        later: (m,) which tokens are in the second half of their pair.
    """
    pair, lower, upper = (each.astype(np.int64) for each in rows[:3])
    gained = np.zeros(len(pair))
    for tested, learned in ((~later, later), (later, ~later)):
        which, below, above = pair[learned], lower[learned], upper[learned]
        line = (which * n_experts)[:, None] + below
        cells = (line[:, :, None] * n_experts + above[:, None, :]).reshape(-1)
        counts = np.bincount(cells, minlength=n_pairs * n_experts**2).reshape(n_pairs, n_experts, n_experts)
        used = (
            _by_pair(which, above, n_pairs, n_experts)
            / np.maximum(np.bincount(which, minlength=n_pairs), 1)[:, None]
        )
        own = _by_pair(which, below, n_pairs, n_experts)
        share = counts + (_PRIOR * used)[:, None]
        share /= (own + _PRIOR)[:, :, None]
        which, below, above = pair[tested], lower[tested], upper[tested]
        gained[tested] = _foretold(share.reshape(-1, n_experts), (which * n_experts)[:, None] + below, above)
        gained[tested] -= _among_best(np.sort(used, axis=1), which, used[which[:, None], above])
    return gained


def _by_pair(
    pair: NDArray[np.int64], experts: NDArray[np.int64], n_pairs: int, n_experts: int
) -> NDArray[np.int64]:
    """How often (P, E) each expert is in rows (m, k) of each pair (m,)."""
    cells = (pair[:, None] * n_experts + experts).reshape(-1)
    return np.bincount(cells, minlength=n_pairs * n_experts).reshape(n_pairs, n_experts)


def _foretold(
    share: NDArray[np.float64],
    lines: NDArray[np.int64],
    chosen: NDArray[np.int64],
    own: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """How many (m,) of the experts that tokens have chosen are foretold.

    Args:
        share: (n, E) how often each expert follows.
        lines: (m, k) those of it that are added up to the scores (m, E) of all experts.
        chosen: (m, k) experts.
        own: (m, k) what their scores are to be instead.
    """
    found = np.empty(len(lines))
    scores, more = np.empty((2, min(len(lines), _CHUNK), share.shape[1]))
    for begin in range(0, len(lines), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        first, *others = lines[part].T
        row = np.arange(len(first))
        scores, more = scores[: len(row)], more[: len(row)]
        share.take(first, axis=0, out=scores, mode="clip")  # without a mode it would go through a copy
        for line in others:
            scores += share.take(line, axis=0, out=more, mode="clip")
        if own is not None:
            scores[row[:, None], chosen[part]] = own[part]
        of_chosen = scores[row[:, None], chosen[part]]
        scores.sort(axis=1)
        found[part] = _among_best(scores, row, of_chosen)
    return found


def _among_best(ordered: NDArray[Any], row: NDArray[np.int64], own: NDArray[Any]) -> NDArray[np.float64]:
    """How many (m,) of k experts are expected to be among the k best, ties broken at random.

    Args:
        ordered: (n, E) scores of all experts, ascending.
        row: (m,) which of them.
        own: (m, k) scores of the k experts.
    """
    k = own.shape[1]
    border = ordered[row, -k, None]
    found: NDArray[np.float64] = (own >= border).sum(axis=1).astype(np.float64)
    if k < ordered.shape[1]:
        tie = np.flatnonzero(ordered[row, -k - 1, None] == border)
        own, border, scores = own[tie], border[tie], ordered[row[tie]]
        above, tied = (scores > border).sum(axis=1), (scores == border).sum(axis=1)
        found[tie] = (own > border).sum(axis=1) + (own == border).sum(axis=1) * (k - above) / tied
    return found
