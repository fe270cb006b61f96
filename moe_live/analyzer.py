"""The whole chain: bytes of a log in, a snapshot of all statistics out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from moe_live.caveats import Facts, caveats, verdict_sentence
from moe_live.figures import Figures
from moe_live.formats.llama_server import LlamaServerDecoder
from moe_live.formats.records import LineTally
from moe_live.routing.batch import Kind, StepBatch
from moe_live.routing.steps import StepAssembler
from moe_live.routing.strided import Verdict
from moe_live.settings import RowMode, Settings
from moe_live.snapshot import (
    Distances,
    Input,
    LayerUsage,
    Model,
    PhaseCount,
    Rows,
    Section,
    Snapshot,
    Usage,
)
from moe_live.sources.source import Break
from moe_live.statistics.anomalies import Anomalies
from moe_live.statistics.collection import Statistics
from moe_live.statistics.frequency import Frequency


class Progress(NamedTuple):
    """Running totals, cheap to ask for; `decode` are those of the tokens that belong to decode steps."""

    bytes: int
    lines: int
    tokens: int
    decode: int = 0


class Finished(Protocol):
    """The statistics of a log that was read to its end, here or by another process, for merging."""

    def pieces(self, highest: int) -> Iterator[Any]:
        """What was found, in the pieces and the order that `Analyzer.merge` takes.

        Merged one at a time, they never are in memory all at once.

        Args:
            highest: the highest layer in what comes before.
        """
        ...


class _Outline(NamedTuple):
    """All of an analyzer but its statistics."""

    assembler: StepAssembler
    highest: int
    tally: LineTally
    paths: tuple[str, ...]
    restarts: int
    rotations: int


class Analyzer:
    """Running statistics of one log, or of several read one after the other.

    The result does not depend on how the bytes are cut into pieces.

    Args:
        settings: what to count.
        paths: where the bytes come from, for the report.
    """

    def __init__(self, settings: Settings | None = None, *, paths: tuple[str, ...] = ()) -> None:
        self._settings = settings or Settings()
        self._paths = paths
        self._decoder = self._new_decoder()
        self._assembler = StepAssembler(max_slots=self._settings.max_slots)
        self._assembler.label = self._settings.label
        self._statistics = self._new_statistics()
        self._highest = -1
        self._merged_tally = LineTally()
        self._restarts = self._rotations = 0

    def feed(self, data: bytes | memoryview) -> None:
        """Analyze the next bytes of the log, cut anywhere."""
        for records in self._decoder.feed(data):
            if len(records.gates.layer):
                self._statistics.gate_layers.update(np.unique(records.gates.layer).tolist())
            self._update(self._assembler.feed(records))

    @property
    def label(self) -> str:
        """What the user calls the time in which the steps begin that come from now on; "" for nothing."""
        return self._assembler.label

    @label.setter
    def label(self, label: str) -> None:
        self._assembler.label = label

    def interrupt(self, reason: Break) -> None:
        """What follows does not continue what was fed: drop an unfinished line, close the open step."""
        self._end(emptied=reason in (Break.RESTARTED, Break.SHORTENED))
        self._restarts += reason is Break.RESTARTED
        self._rotations += reason is Break.ROTATED

    def finish(self) -> None:
        """The input has ended: an unfinished line is incomplete, the open step complete."""
        self._end(emptied=False)

    def _end(self, *, emptied: bool) -> None:
        self._decoder.restart(emptied=emptied)
        self._update(self._assembler.interrupt())
        self._statistics.flush()

    def reset(self, *, same_server: bool = True) -> None:
        """Start the statistics anew and leave the open step out of them.

        Args:
            same_server: what was learned about the logger and the model still holds.
        """
        for _ in self._assembler.interrupt():
            pass
        if not same_server:
            label = self._assembler.label
            self._assembler = StepAssembler(max_slots=self._settings.max_slots)
            self._assembler.label = label
            self._highest = -1
        self._statistics = self._new_statistics()

    def merge(self, other: Finished) -> None:
        """Add a log that comes after this one, which is finished as well; `other` is used up."""
        pieces = other.pieces(self._highest)
        outline: _Outline = next(pieces)
        if self._highest < outline.highest:
            self._statistics.settle()
        self._assembler.absorb(outline.assembler)
        self._highest = self._assembler.highest
        self._merged_tally += outline.tally
        self._paths += outline.paths
        self._restarts += outline.restarts
        self._rotations += outline.rotations
        self._statistics.merge(pieces)

    def pieces(self, highest: int) -> Iterator[Any]:
        """What a finished analyzer has found, one piece after the other; see `Finished`."""
        if self._highest < highest:
            self._statistics.settle()
        yield _Outline(
            self._assembler, self._highest, self.tally, self._paths, self._restarts, self._rotations
        )
        yield from self._statistics.pieces()

    def _new_decoder(self) -> LlamaServerDecoder:
        return LlamaServerDecoder(
            gate_layers=frozenset() if self._settings.counts_only else self._settings.gate_layers
        )

    def _new_statistics(self) -> Statistics:
        return Statistics(self._settings.window, counts_only=self._settings.counts_only)

    @property
    def tally(self) -> LineTally:
        """Bytes and lines read so far."""
        return self._decoder.tally + self._merged_tally

    def progress(self) -> Progress:
        """Totals so far."""
        tally = self.tally
        tokens = _phases(self._statistics.tokens, self._decode_kinds())
        return Progress(tally.bytes, tally.lines, tokens.total, tokens.decode)

    def _decode_kinds(self) -> list[Kind]:
        """The kinds of steps that are decode, as far as is known."""
        return [Kind.DECODE, Kind.UNDECIDED] if self._assembler.last_layer_known else [Kind.DECODE]

    def snapshot(
        self,
        sections: Collection[Section] = frozenset(Section),
        *,
        pairs_of: Iterable[int] | None = None,
        anew: bool = True,
    ) -> Snapshot:
        """The statistics of all complete steps.

        Args:
            sections: figures that are made only if asked for.
            pairs_of: layers whose pairs are looked for; None for all.
            anew: test all predictions. Otherwise those of most layers are as they were when last asked for,
                and say of how many tokens.
        """
        statistics = self._statistics
        model = self._model()
        decode = self._decode_kinds()
        verdict = self._verdict(model)
        use_verified = self._uses_verified(verdict)
        counted = (statistics.single, statistics.verified if use_verified else statistics.written)
        usages = _usages([rows.frequency for rows in counted], decode, model.n_experts or 0)
        analysis = statistics.analysis
        snapshot = Snapshot(
            input=Input(self._paths, self.tally, self._restarts, self._rotations),
            model=model,
            rows=self._rows(verdict),
            steps=_phases(statistics.steps, decode),
            tokens=_phases(statistics.tokens, decode),
            layers=tuple(LayerUsage(layer, usage) for layer, usage in usages.items()),
            overall=sum(usages.values(), Usage.none(model.n_experts or 0)),
            distances=self._distances(decode),
            warnings=(),
            counts_only=analysis is None,
            last_layer_known=self._assembler.last_layer_known,
        )
        if usages and analysis is not None:
            figures = Figures(
                rows=(analysis.single, analysis.verified if use_verified else analysis.written),
                steps=analysis.as_verified if use_verified else analysis.as_logged,
                decode=decode,
                layers=tuple(usages),
                usage=np.stack([usage.decode for usage in usages.values()]),
                top_k=model.top_k or 1,
            )
            snapshot = _with_sections(
                snapshot, figures, sections, usages if pairs_of is None else pairs_of, anew=anew
            )
        facts = Facts(
            verdict=verdict,
            anomalies=self._anomalies(use_verified=use_verified),
            top_k=self._widths(),
            n_embd=statistics.n_embd,
            several_slots=int(statistics.steps[Kind.UNDECIDED]) if Kind.UNDECIDED in decode else 0,
        )
        return replace(snapshot, warnings=caveats(snapshot, facts))

    def _distances(self, decode: list[Kind]) -> Distances:
        analysis, include_prompt = self._statistics.analysis, self._settings.include_prompt
        if analysis is None:
            return Distances(0, include_prompt, ())
        kinds = list(Kind) if include_prompt else decode
        return Distances(analysis.distances.steps(kinds), include_prompt, analysis.distances.summary(kinds))

    def _anomalies(self, *, use_verified: bool) -> Anomalies:
        analysis = self._statistics.analysis
        if analysis is None:
            return Anomalies(0, {}, 0, 0)
        others = analysis.verified if use_verified else analysis.written
        return analysis.single.anomalies.found() + others.anomalies.found()

    def _widths(self) -> Counter[int]:
        """How many rows have which k."""
        return self._statistics.single.top_k + self._statistics.written.top_k

    def _update(self, batches: Iterable[StepBatch]) -> None:
        for batch in batches:
            if batch.highest > self._highest:
                self._statistics.settle()
                self._highest = batch.highest
            self._statistics.update(batch)

    def _model(self) -> Model:
        statistics = self._statistics
        frequencies = statistics.single.frequency, statistics.written.frequency
        seen = max(frequency.n_experts for frequency in frequencies)
        return Model(
            layers=tuple(sorted({layer for frequency in frequencies for layer in frequency.layers})),
            n_experts=max(self._settings.n_experts or 0, seen) or None,
            top_k=_most_common(self._widths()),
            gate_layers=tuple(sorted(statistics.gate_layers)),
            n_embd=_most_common(statistics.n_embd),
        )

    def _verdict(self, model: Model) -> Verdict:
        """What is known of multi-row blocks."""
        if len(model.layers) < 2:  # blocks of a single layer run together: their chunks cannot be told apart
            return Verdict.UNKNOWN
        return self._assembler.evidence.verdict(model.n_experts or 0)

    def _uses_verified(self, verdict: Verdict) -> bool:
        """Whether only verified rows count."""
        if verdict is Verdict.SOUND:
            return False
        mode = self._settings.rows
        return mode is RowMode.VERIFIED or (mode is RowMode.AUTO and verdict is not Verdict.UNKNOWN)

    def _rows(self, verdict: Verdict) -> Rows:
        """How many rows count."""
        statistics, mode = self._statistics, self._settings.rows
        single, written, verified = (
            bank.frequency.rows for bank in (statistics.single, statistics.written, statistics.verified)
        )
        sound = verdict is Verdict.SOUND
        lost, recovered = (0, 0) if sound else (written - verified, statistics.recovered)
        return Rows(
            mode=mode,
            logged=single + written,
            counted=single + (verified if self._uses_verified(verdict) else written),
            recovered=recovered,
            unrecoverable=lost,
            soundness=verdict,
            verdict=verdict_sentence(verdict, mode, single + written, lost, recovered),
        )


def _with_sections(
    snapshot: Snapshot,
    figures: Figures,
    sections: Collection[Section],
    pairs_of: Iterable[int],
    *,
    anew: bool,
) -> Snapshot:
    """The snapshot with the sections that were asked for."""
    if not sections:
        return snapshot
    drift, clustering = None, np.empty(0)
    if not {Section.DRIFT, Section.PAIRS, Section.LABELS}.isdisjoint(sections):
        drift = figures.drift()
        clustering = drift.clustering
    return replace(
        snapshot,
        drift=drift if Section.DRIFT in sections else None,
        locality=figures.locality() if Section.LOCALITY in sections else None,
        pairs=figures.pairs(pairs_of, clustering) if Section.PAIRS in sections else None,
        transitions=figures.transitions(anew=anew) if Section.TRANSITIONS in sections else None,
        history=figures.history() if Section.HISTORY in sections else None,
        labels=figures.labels(clustering) if Section.LABELS in sections else None,
    )


def _usages(frequencies: Sequence[Frequency], decode: list[Kind], n_experts: int) -> dict[int, Usage]:
    """The use of each layer's experts, layers ascending, over all accumulators together."""
    layers = sorted({layer for frequency in frequencies for layer in frequency.layers})
    everything, decoded = np.zeros((2, len(layers), n_experts), np.int64)
    for frequency in frequencies:
        rows = np.searchsorted(layers, frequency.layers)
        everything[rows] += frequency.counts(Kind, n_experts)
        decoded[rows] += frequency.counts(decode, n_experts)
    return dict(zip(layers, map(Usage, everything, decoded), strict=True))


def _phases(by_kind: NDArray[np.int64], decode: list[Kind]) -> PhaseCount:
    decoded = int(by_kind[decode].sum())
    return PhaseCount(prefill=int(by_kind.sum()) - decoded, decode=decoded)


def _most_common(widths: Counter[int]) -> int | None:
    """The width of most lines; of equally frequent ones the larger, whatever came first."""
    return max(widths, key=lambda width: (widths[width], width), default=None)
