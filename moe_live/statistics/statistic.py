"""What a statistic is: what it keeps, how that is fed, and the figures that are made of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.routing.batch import ExpertRows, Kind, StepBatch
from moe_live.statistics.members import Kept, Member
from moe_live.statistics.pending import PendingRows
from moe_live.statistics.rows import MAX_TOGETHER, RowsByLayer
from moe_live.statistics.sampling import SAMPLED_SELECTIONS, Sampled, TokenSample

Made_co = TypeVar("Made_co", covariant=True)


class Rows(NamedTuple):
    """Rows of whole blocks, which index the arrays of the batch they came with."""

    tables: Sequence[ExpertRows]
    batch: StepBatch


class Portion:
    """Rows that were put off.

    Attributes:
        tables: the rows, in few tables; their `step` indexes `kind`.
        kind: (s,) int8, of their steps.
        sequence: (s,) int64, of their steps.
    """

    def __init__(self, pending: PendingRows) -> None:
        self.tables, self.kind, self.sequence = pending.take()

    @cached_property
    def by_layer(self) -> list[RowsByLayer]:
        """The same, layer by layer, without rows of more experts than `MAX_TOGETHER`."""
        return [RowsByLayer(rows) for rows in self.tables if rows.experts.shape[1] <= MAX_TOGETHER]


class Accumulators(Protocol):
    """What statistics keep, of one set of rows or steps."""

    def __getitem__(self, kind: type[Kept], /) -> Kept:
        """The accumulator of this kind, with all it was fed counted."""
        ...


@dataclass(frozen=True, eq=False)
class Counted:
    """What figures are made of: the accumulators over one choice of rows, and what was asked for.

    Attributes:
        rows: over sets of rows, which together are those that count.
        steps: of what depends on the order of steps, over the same rows.
        batches: of what takes whole batches.
        verified: whether `verified` rows of the batches count, not `written` ones; see `StepBatch`.
        repeating: whether those that name an expert twice count.
        decode: kinds that are decode.
        layers: layers of the snapshot.
        drafts: layers that are none of the model's.
        usage: (len(layers), n_experts) selections in decode steps.
        top_k: experts a row.
        pairs_of: layers whose pairs are looked for.
        anew: whether all predictions are to be tested and all pairs looked for; otherwise a few are, and the
            others stay.
    """

    rows: Sequence[Accumulators]
    steps: Accumulators
    batches: Accumulators
    verified: bool
    repeating: bool
    decode: Sequence[Kind]
    layers: Sequence[int]
    drafts: Collection[int]
    usage: NDArray[np.int64]
    top_k: int
    pairs_of: Collection[int]
    anew: bool

    @property
    def n_experts(self) -> int:
        """Experts a layer."""
        return int(self.usage.shape[1])

    def of_rows(self, kind: type[Kept]) -> list[Kept]:
        """The accumulators of this kind over each set of rows."""
        return [rows[kind] for rows in self.rows]

    @cached_property
    def sample(self) -> TokenSample:
        """A sample of the tokens of all rows."""
        first, *others = self.of_rows(TokenSample)
        if all(other.empty for other in others):
            return first
        sample = TokenSample(SAMPLED_SELECTIONS)
        for each in (first, *others):
            sample.add_rows(each)
        return sample

    @cached_property
    def sampled(self) -> Sampled:
        """The rows of that sample, for those that need them in no order."""
        return self.sample.unordered()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Statistic:
    """What is kept for some figures; each accumulator is fed in one of four ways.

    Attributes:
        name: what it is called in a warning, should it fail.
        rows: accumulators of rows, fed as they come.
        rows_put_off: of rows, fed in large portions.
        steps_put_off: of what depends on the order of steps, fed in large portions; of prefill nothing.
        batches: of whole batches, with the rows of any set.
    """

    name: str
    rows: tuple[Member[Any, Rows], ...] = ()
    rows_put_off: tuple[Member[Any, Portion], ...] = ()
    steps_put_off: tuple[Member[Any, Portion], ...] = ()
    batches: tuple[Member[Any, StepBatch], ...] = ()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class OnDemand(Statistic, Generic[Made_co]):
    """A statistic whose figures are made only when they are asked for, because making them takes time.

    Attributes:
        make: makes them.
        sampled: whether they rest on the sample of tokens too.
        rests_on: name of another whose accumulators they are made of; "" for none.
    """

    make: Callable[[Counted], Made_co]
    sampled: bool = False
    rests_on: str = ""


SAMPLE = Statistic(
    name="history, transitions",
    rows=(  # not put off: whoever asks for it would have all else counted that is, in small portions
        Member(
            TokenSample,
            lambda it, rows: it.update(rows.tables, rows.batch.kind),
            new=lambda _: TokenSample(SAMPLED_SELECTIONS),
            join=TokenSample.add_rows,
        ),
    ),
)
"""The sample of tokens, by the name of what rests on it most."""
