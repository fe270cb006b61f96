"""Everything a view shows, frozen at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.errors import printable
from moe_live.formats.records import LineTally
from moe_live.formatting import percent, ranges
from moe_live.routing.evidence import Verdict
from moe_live.settings import Phase, RowMode
from moe_live.share import SourceNow, SourceShare
from moe_live.sources.source import CommandStatus
from moe_live.statistics.balance import Balance, balance, layer_sizes
from moe_live.statistics.comparison import Compared
from moe_live.statistics.distances import DistanceMetric, Moments, PairDistance
from moe_live.statistics.drift import TOPIC, WINDOWS, Drift, tokens_needed
from moe_live.statistics.gate_mass import LayerGateMass
from moe_live.statistics.history import History
from moe_live.statistics.hot_set import COVERED_PERCENT, Budget, HotExpert, budgets, coverage, hot_list
from moe_live.statistics.labels import PERIODS, LabelDivergence, Labels, LabelUsage, SpecificExpert
from moe_live.statistics.latest import Uses
from moe_live.statistics.layer_locality import LayerLocality
from moe_live.statistics.offload import Offloading
from moe_live.statistics.pairs import ExpertPair, LayerPairs
from moe_live.statistics.placement import Placements
from moe_live.statistics.pruning import Pruning
from moe_live.statistics.runs import Run
from moe_live.statistics.sections import Section, Sections
from moe_live.statistics.sizing import CacheSizing
from moe_live.statistics.transitions import LayerTransition
from moe_live.usage import ExpertCount, LayerUsage, Usage, table_of

BUDGET_PERCENT = (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
"""Shares of all experts, in percent, for which `Snapshot.budgets` tells what they serve."""

__all__ = [
    "BUDGET_PERCENT",
    "COVERED_PERCENT",
    "PERIODS",
    "TOPIC",
    "WINDOWS",
    "Balance",
    "Budget",
    "CacheSizing",
    "Compared",
    "DistanceMetric",
    "Distances",
    "DraftHead",
    "Drift",
    "ExpertCount",
    "ExpertPair",
    "History",
    "HotExpert",
    "Input",
    "LabelDivergence",
    "LabelUsage",
    "Labels",
    "LayerGateMass",
    "LayerLocality",
    "LayerPairs",
    "LayerTransition",
    "LayerUsage",
    "Model",
    "Moments",
    "Offloading",
    "PairDistance",
    "PhaseCount",
    "Placements",
    "Pruning",
    "Rows",
    "Section",
    "Sections",
    "Snapshot",
    "SourceNow",
    "SourceShare",
    "SpecificExpert",
    "Usage",
    "Uses",
    "tokens_needed",
]


@dataclass(frozen=True, slots=True)
class Input:
    """What was read.

    Attributes:
        paths: where from, as the user named it.
        tally: bytes and lines, good and bad.
        restarts: how often the log was emptied or rewritten.
        rotations: how often its path came to name another file.
        format: the name of the dialect it is taken for; "" while that is not known.
        command: the one that computes it, if it was started for that, as it is at the moment of the view.
        sources: what each of several logs, or states, that go on has in it; empty of one.
    """

    paths: tuple[str, ...]
    tally: LineTally
    restarts: int
    rotations: int
    format: str
    command: CommandStatus | None = None
    sources: tuple[SourceShare, ...] = ()

    @property
    def is_several(self) -> bool:
        """Whether steps of several sources are in it, which have no order among each other."""
        return sum(share.steps > 0 for share in self.sources) > 1


NO_ROWS = "no rows in this input"
"""What is said of all that counts of selections do not tell."""


@dataclass(frozen=True, slots=True)
class Model:
    """The model's shape as far as the log has shown it; None where it has not.

    Attributes:
        layers: MoE layers with expert rows, ascending, without those of draft heads.
        n_experts: experts a layer: the highest id seen plus one, or what the user said.
        top_k: experts a row, of most rows.
        gate_layers: layers with gate inputs, ascending.
        n_embd: numbers a gate input, of most gate inputs.
        expert_bytes: the bytes of an expert, by layer, as far as the log, or the user, tells it.
    """

    layers: tuple[int, ...]
    n_experts: int | None
    top_k: int | None
    gate_layers: tuple[int, ...]
    n_embd: int | None
    expert_bytes: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rows:
    """How many expert rows there were and how many the figures rest on.

    Attributes:
        mode: what the user asked for.
        logged: rows as written.
        counted: rows behind the figures.
        recovered: verified rows of multi-row blocks other than row 0.
        unrecoverable: logged rows that have no verified counterpart.
        soundness: what the multi-row blocks of all runs of the server show together.
        verdict: that as one plain sentence with its numbers.
        impossible: logged rows that are in no figure, because they name an expert twice and no logger, sound
            or strided as this one, writes that.
        odd: logged rows that were set aside, because nothing else in the log has their layer, or experts such
            as theirs.
        runs: how many runs of the server there are, by what the multi-row blocks of each show; None for those
            that have none.
        latest_runs: the last of them, in their order.
        run_verdict: what is known of the rows of the very last one; "" if it is the only one.
        drafts: logged rows of draft heads, which are in no figure of the model.
    """

    mode: RowMode
    logged: int
    counted: int
    recovered: int
    unrecoverable: int
    soundness: Verdict
    verdict: str
    impossible: int = 0
    odd: int = 0
    runs: Mapping[Verdict | None, int] = field(default_factory=dict)
    latest_runs: tuple[Run, ...] = ()
    run_verdict: str = ""
    drafts: int = 0

    @property
    def strided(self) -> bool | None:
        """True if any run is strided, False if all that have multi-row blocks are sound, else None."""
        if self.runs.get(Verdict.STRIDED):
            return True
        return {Verdict.STRIDED: True, Verdict.SOUND: False}.get(self.soundness)

    @property
    def of_several_logs(self) -> bool:
        """Whether the runs that are known one by one wrote more than one log."""
        return len({run.log for run in self.latest_runs}) > 1

    @property
    def wrong_logs(self) -> str:
        """Of several logs the one with rows that are not real, or how many such there are; else ""."""
        wrong = {run.log for run in self.latest_runs if run.soundness in (Verdict.STRIDED, Verdict.MIXED)}
        if not self.of_several_logs or not wrong:
            return ""
        return printable(wrong.pop()) if len(wrong) == 1 else f"{len(wrong)} logs"


@dataclass(frozen=True, slots=True)
class PhaseCount:
    """Something counted in prefill and decode."""

    prefill: int
    decode: int

    @property
    def total(self) -> int:
        """Both together."""
        return self.prefill + self.decode


@dataclass(frozen=True, slots=True, eq=False)
class DraftHead:
    """A layer that comes in steps of its own: it drafts what the model then verifies.

    Attributes:
        layer: its number.
        rows: its rows as logged.
        told: whether the log says so; else it shows by its rows.
        usage: of its experts, in the rows that hold as for the model.
    """

    layer: int
    rows: int
    told: bool
    usage: Usage


@dataclass(frozen=True, slots=True, eq=False)
class Distances:
    """Distances of all pairs.

    Attributes:
        steps: steps with at least one pair.
        include_prompt: whether prefill steps are among them.
        pairs: one entry a pair, ascending.
    """

    steps: int
    include_prompt: bool
    pairs: tuple[PairDistance, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Snapshot(Sections):
    """The state of all statistics: what is always there, and the `Sections`.

    Attributes:
        input: what was read.
        model: its shape.
        rows: which rows the figures rest on.
        steps: forward passes.
        tokens: tokens processed.
        layers: use of the experts, one entry a layer, ascending.
        overall: the same, all layers added up by expert id.
        distances: between the gate inputs of consecutive layers.
        warnings: what a reader must know before believing the figures, one sentence each.
        cache: what caches of some sizes would have served; None, as all plans are, if it was not asked for.
        prune: how many experts of each layer may go, and what would be lost with them on unseen steps.
        offload: which layers' experts go into the memory of the CPU.
        placement: which expert goes on which device.
        compared: this run beside another; None unless that was asked for.
        unplanned: why plans that were asked for could not be made, a sentence by the name of each.
        gate_mass: of each layer with weights; empty if the log has none.
        drafts: layers that are no part of the model's steps, ascending; no other figure knows them.
        phase: the steps whose selections count, as the user chose; None if he did not.
        counts_only: nothing but the use of the experts was looked at; `distances` are empty for that reason.
        lacks_rows: the input tells how often experts were chosen, and of no row: all else is unknown.
        left_out: what could not be made, or was given up while it was counted, by names like those of
            `Section`; the warnings tell more.
        last_layer_known: whether the highest of `model.layers` is known to be the model's last; as long as it
            is not, steps of several tokens count as prefill.
    """

    input: Input
    model: Model
    rows: Rows
    steps: PhaseCount
    tokens: PhaseCount
    layers: tuple[LayerUsage, ...]
    overall: Usage
    distances: Distances
    warnings: tuple[str, ...]
    cache: CacheSizing | None = None
    prune: Pruning | None = None
    offload: Offloading | None = None
    placement: Placements | None = None
    compared: Compared | None = None
    unplanned: Mapping[str, str] = field(default_factory=dict)
    gate_mass: tuple[LayerGateMass, ...] = ()
    drafts: tuple[DraftHead, ...] = ()
    phase: Phase | None = None
    counts_only: bool = False
    lacks_rows: bool = False
    left_out: frozenset[str] = frozenset()
    last_layer_known: bool = False

    def __repr__(self) -> str:
        return (
            f"<Snapshot: {self._shape()}; {self.steps.decode:,} decode steps, {self.steps.prefill:,} prefill>"
        )

    def __str__(self) -> str:
        """What it is of, in a few lines; `moe_live.verdicts.verdicts` says what it comes to."""
        source, rows, steps, tokens = self.input, self.rows, self.steps, self.tokens
        names = ", ".join(map(printable, source.paths[:3])) + (", …" if len(source.paths) > 3 else "")
        lines = [
            f"source: {names or 'arrays'}",
            f"model: {self._shape()}",
            f"rows: {rows.counted:,} of {rows.logged:,} counted: {rows.verdict}",
            f"steps: {steps.prefill:,} prefill, {steps.decode:,} decode",
            f"tokens: {tokens.prefill:,} prefill, {tokens.decode:,} decode",
            *([] if self.phase is None else [f"counted: {self.phase}"]),
        ]
        for name, usage in (("hottest", self.overall.top(5)), ("coldest", self.overall.bottom(5)[::-1])):
            lines.append(f"{name} experts over all layers: {', '.join(str(entry.expert) for entry in usage)}")
        if self.warnings:
            first = self.warnings[0]
            more = f" (and {len(self.warnings) - 1} more, see .warnings)" if len(self.warnings) > 1 else ""
            lines.append(f"warning: {first}{more}")
        return "\n".join(lines)

    def _shape(self) -> str:
        model = self.model
        if not model.layers:
            return "no expert rows"
        top_k = "" if model.top_k is None else f", top-{model.top_k}"
        return f"layers {ranges(model.layers)}, {model.n_experts} experts each{top_k}"

    def having(self, **fields: Any) -> Self:
        """The same with other fields; what was found out of those that stay need not be found out again."""
        other = replace(self, **fields)
        if fields.keys().isdisjoint(("layers", "overall", "phase")) and (
            other.model.top_k == self.model.top_k
        ):
            known = vars(self)
            vars(other).update({name: known[name] for name in _FOUND_OUT if name in known})
        return other

    def of(self, phase: Phase) -> NDArray[np.int64]:
        """(len(layers), n_experts) int64, the selections of each layer in the steps of a phase."""
        if phase is self.overall.phase:
            return self.counts
        if phase is Phase.DECODE and self.overall.phase is Phase.ALL and not self.prompt_share:
            return self.counts  # no selection is of prompts
        return table_of([entry.usage.of(phase) for entry in self.layers])

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(len(layers), n_experts) int64, the selections of each layer that count."""
        return table_of([entry.usage.counts for entry in self.layers])

    @cached_property
    def layer_sizes(self) -> tuple[int, ...]:
        """How many experts each of `layers` seems to have: `model.n_experts`, or fewer."""
        return layer_sizes(self.of(Phase.ALL), self.model.top_k or 1) if self.layers else ()

    @cached_property
    def balance(self) -> tuple[Balance, ...]:
        """The load balance of each of `layers`, measured against its own number of experts."""
        sizes = set(self.layer_sizes)
        if len(sizes) == 1:
            return balance(self.counts[:, : sizes.pop()], self.model.top_k)
        found: dict[int, Balance] = {}
        for size in sizes:
            rows = [row for row, own in enumerate(self.layer_sizes) if own == size]
            found |= zip(rows, balance(self.counts[rows, :size], self.model.top_k), strict=True)
        return tuple(found[row] for row in range(len(self.layers)))

    @cached_property
    def overall_balance(self) -> Balance:
        """The load balance of all layers added up by expert id."""
        return balance(self.overall.counts[None], self.model.top_k)[0]

    @cached_property
    def coverage(self) -> NDArray[np.int64]:
        """(len(layers), len(COVERED_PERCENT)) int64, experts that serve so many percent of each layer."""
        return coverage(self.counts)

    @cached_property
    def overall_coverage(self) -> NDArray[np.int64]:
        """(len(COVERED_PERCENT),) int64, the same of all layers added up by expert id."""
        (experts,) = coverage(self.overall.counts[None])
        return np.asarray(experts)

    @cached_property
    def resident_counts(self) -> NDArray[np.int64]:
        """(len(layers), n_experts) int64, the selections that resident experts are chosen for.

        Those of decode, for a prompt uses most experts of a layer at once whatever is resident: all in a log
        without decode, and what the user chose if he did.
        """
        return self.of(self.resident_phase)

    @property
    def resident_phase(self) -> Phase:
        """The steps that `resident_counts` are of."""
        if self.phase is not None:
            return self.phase
        return Phase.DECODE if self.overall.decode.any() else Phase.ALL

    @property
    def prompt_share(self) -> float:
        """Share of the selections that are of prompts, whatever counts."""
        total, decode = int(self.overall.every.sum()), int(self.overall.decode.sum())
        return 1 - decode / total if total else 0.0

    @property
    def resident_note(self) -> str:
        """What `resident_counts` are of, beside the share of prompts, in words; "" without prompts."""
        if not self.prompt_share:
            return ""
        what = {Phase.DECODE: "decode", Phase.PREFILL: "prompts", Phase.ALL: "all steps"}
        return f"of {what[self.resident_phase]}: prompts are {percent(self.prompt_share)} of the selections"

    @cached_property
    def budgets(self) -> tuple[Budget, ...]:
        """What growing numbers of resident experts serve of decode, from 5 % to all of them."""
        total = sum(self.layer_sizes)
        return budgets(
            self.resident_counts, sorted({-(-total * percent // 100) for percent in BUDGET_PERCENT})
        )

    def hot_list(self, n: int) -> tuple[HotExpert, ...]:
        """The n experts, over all layers, that serve most of decode; fewer if fewer were selected at all."""
        return hot_list(self.resident_counts, [entry.layer for entry in self.layers], n)


_FOUND_OUT = tuple(name for name, kept in vars(Snapshot).items() if isinstance(kept, cached_property))
"""Figures that follow from the use of the experts, and are found out when they are asked for first."""
