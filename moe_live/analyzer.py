"""The whole chain: bytes of a log in, a snapshot of all statistics out."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from copy import copy, deepcopy
from dataclasses import fields
from functools import partial
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moe_live.errors import MoeLiveError, printable
from moe_live.formats.dialect import Dialect
from moe_live.formats.records import LineTally, Records
from moe_live.formats.sniff import SniffingDecoder, candidates
from moe_live.memory import unique
from moe_live.routing.arrays import ExpertArrays
from moe_live.routing.batch import Kind, StepBatch
from moe_live.routing.heads import DraftLayers
from moe_live.routing.sieve import Sieve
from moe_live.routing.steps import StepAssembler
from moe_live.settings import Settings
from moe_live.snapshot import Input, Section, Snapshot
from moe_live.snapshot_maker import SnapshotMaker, decode_kinds, phases
from moe_live.sources.position import Position
from moe_live.sources.source import Break
from moe_live.state.graph import DamagedError, Frozen, freeze, thaw
from moe_live.statistics.collection import GATE_MASS, Statistics
from moe_live.statistics.runs import Runs
from moe_live.statistics.step_distances import StepDistance, StepDistances

_NOT_KEPT = frozenset(("_settings", "_watch", "_goes_on", "_steps"))
"""What an analyzer is given anew when it is loaded."""


class Progress(NamedTuple):
    """Running totals, cheap to ask for; `decode` are those of the tokens that belong to decode steps.

    Lines that are `malformed` are so by themselves: rows of more experts than a layer has are not among
    them.
    """

    bytes: int
    lines: int
    tokens: int
    decode: int = 0
    malformed: int = 0


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
    sieve: Sieve
    highest: int
    tally: LineTally
    paths: tuple[str, ...]
    restarts: int
    rotations: int
    format: str
    notes: tuple[str, ...]
    goes_on: list[bool]  # of the statistics that follow: whether they are of a run that began before


class Analyzer:
    r"""Running statistics of one log, or of several read one after the other.

    The result does not depend on how the bytes are cut into pieces.

    >>> analyzer = Analyzer(Settings(n_experts=8))
    >>> analyzer.feed(b"3,1 2\n4,0 7\n3,1 4\n4,7 0\n")
    >>> analyzer.finish()
    >>> analyzer
    <Analyzer: 4 lines, 2 steps>
    >>> analyzer.snapshot().layers[0].usage.counts
    array([0, 2, 1, 0, 1, 0, 0, 0])

    Args:
        settings: what to count.
        paths: where the bytes come from, for the report.
        dialect: what the log is written in; None to find out from its first lines.
        goes_on: the log is a part of one, and what comes before it is merged with it: its first run of the
            server may be one that began there. No snapshot is made of it alone.
        keep_steps: whether the distances of each step are kept until `take_steps` is called.
        watch: is given each batch of complete steps too, after they are counted; its arrays are used again.
        weights: whether the rows that `watch` is given have their weights.

    Attributes:
        notes: what is missing of logs that were followed by those whose states were loaded.
        log: path of the log that comes now; "" if it has none.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        paths: tuple[str, ...] = (),
        dialect: Dialect | None = None,
        goes_on: bool = False,
        keep_steps: bool = False,
        watch: Callable[[StepBatch], object] = lambda _: None,
        weights: bool = False,
    ) -> None:
        self._settings = settings or Settings()
        self._paths = paths
        self._path = 0
        self.log = paths[0] if paths else ""
        self._watch = watch
        self._decoder = SniffingDecoder(
            gate_layers=frozenset() if self._settings.counts_only else self._settings.gate_layers,
            weights=weights or not self._settings.counts_only,
            dialect=dialect,
            known=candidates(self._settings.format, dict(self._settings.columns)),
        )
        self._weights = weights
        self._assembler = StepAssembler(max_slots=self._settings.max_slots, weights=weights)
        self._assembler.label = self._settings.label
        self._sieve = Sieve()
        self._draft_layers = DraftLayers()
        self._statistics = Statistics(self._settings)
        self._goes_on = goes_on
        self._before: Statistics | None = None  # those of the first run, once another follows, if it goes on
        self._run_ended = False
        self._steps = StepDistances(include_prompt=self._settings.include_prompt) if keep_steps else None
        self._highest = -1
        self._merged_tally = LineTally()
        self._merged_format = ""
        self._restarts = self._rotations = 0
        self.notes: tuple[str, ...] = ()
        self._is_open = False

    def __repr__(self) -> str:
        steps = sum(int(statistics.steps.sum()) for statistics in self._every())
        return f"<Analyzer: {self.tally.lines:,} lines, {steps:,} steps>"

    def feed(self, data: bytes | memoryview) -> None:
        """Analyze the next bytes of the log, cut anywhere."""
        self._is_open = True
        self._take(self._decoder.feed(data))

    def feed_rows(
        self,
        experts: ArrayLike,
        weights: ArrayLike | None = None,
        layers: Sequence[int] | NDArray[np.integer] | None = None,
        phase: ArrayLike | None = None,
        label: str | None = None,
    ) -> None:
        """Analyze experts that an engine tells as arrays: vLLM's and SGLang's routed experts, for example.

        Bytes that were fed before end here, as by `finish`. No logger stands between the engine and the
        arrays: every row stands alone in its block, those of a prompt too, so all are right either way, and
        none tells whether a logger strides. Rows that name an expert twice are in no figure, as such that
        stand alone in a log.

        Args:
            experts: (tokens, layers, k) integers of any type, the expert ids of each token's row in each
                layer, best first; tokens in their order.
            weights: (tokens, layers, k) floats, what the experts are multiplied with: for gate mass.
            layers: (layers,) the number of each layer, ascending; None for 0, 1, 2 and so on.
            phase: what the tokens belong to. None and "decode": each is one step of one sequence. "prefill":
                all are one step. An array (tokens,) of both names: each run of prefill is one step.
            label: what the user calls the time of these tokens; None for the `label` in force.

        Raises:
            ValueError: a shape or a value is not what it can be; the message says what was expected.
            TypeError: a dtype is not. Nothing is counted in both cases.
        """
        rows = ExpertArrays.checked(experts, weights, layers, phase)
        if label is not None and not isinstance(label, str):
            raise TypeError(f"label is {label!r}; it must be a str or None")
        if self._is_open:
            self.finish()
        if self._settings.layers is not None:
            rows, weights = rows.of_layers(self._settings.layers, weights)
            if not len(rows.layers):
                return
        if len(rows.experts) and weights is not None and not self._settings.counts_only:
            tokens, n_layers, k = rows.experts.shape
            add = partial(
                self._statistics.gate_mass.add,
                np.tile(rows.layers, tokens),
                rows.experts.reshape(-1, k),
                np.asarray(weights, np.float64).reshape(tokens * n_layers, k),
            )
            self._statistics.failures.attempt(GATE_MASS, add, None)
        if len(rows.experts):
            self._assembler.show_last(int(rows.layers[-1]))
            self._update(rows.steps(self.label if label is None else label, self._assembler.highest))

    def _take(self, decoded: Iterable[Records]) -> None:
        for every_line in decoded:
            records = every_line
            if self._settings.layers is not None:
                records = every_line.of_layers(self._settings.layers)
            if records.drafts:
                self._draft_layers.tell(records.drafts)
                self._assembler.heads.tell(records.drafts)
            records, drafts = self._draft_layers.split(records)
            if drafts is not None:
                self._statistics.failures.attempt(
                    "usage", partial(self._statistics.count_drafts, drafts), None
                )
            if records.restarts:
                self._draft_layers.forget()
                self._close_step()
                self._run_ended = True
                self._restart()
            self._statistics.expert_bytes |= records.expert_bytes
            if len(records.counts):
                self._statistics.add_counts(records.counts)
            self._pass(self._sieve.feed(records))

    def _pass(self, records: Iterable[Records]) -> None:
        """Take in lines that agree with the log."""
        for each in records:
            if not self._settings.counts_only and (len(each.weights) or len(each.marks)):
                update = partial(self._statistics.gate_mass.update, each)
                self._statistics.failures.attempt(GATE_MASS, update, None)
            if len(each.gates.layer):
                self._statistics.gate_layers.update(unique(each.gates.layer).tolist())
            self._update(self._assembler.feed(each))

    def _close_step(self, *, goes_on: bool = False) -> None:
        """What follows does not belong to the open step; `goes_on`: but perhaps to the same texts."""
        self._pass(self._sieve.interrupt())
        self._update(self._assembler.interrupt(goes_on=goes_on))

    def add_paths(self, paths: tuple[str, ...]) -> None:
        """What comes now is from there."""
        self._path = len(self._paths) - 1
        self._paths += paths
        self._next_log()

    def _next_log(self) -> None:
        """What comes now is of the next of the paths."""
        self._path += 1
        self.log = self._paths[self._path] if self._path < len(self._paths) else ""

    @property
    def settings(self) -> Settings:
        """What is counted."""
        return self._settings

    @property
    def label(self) -> str:
        """What the user calls the time in which the steps begin that come from now on; "" for nothing."""
        return self._assembler.label

    @label.setter
    def label(self, label: str) -> None:
        self._pass(self._sieve.interrupt())
        self._assembler.label = label

    def interrupt(self, reason: Break) -> None:
        """What follows does not continue what was fed: drop an unfinished line, close the open step."""
        self._end(emptied=reason in (Break.RESTARTED, Break.SHORTENED), goes_on=reason is Break.ROTATED)
        self._rotations += reason is Break.ROTATED
        if reason is Break.FILE_ENDED:
            self._next_log()
        if reason is Break.RESTARTED:
            self._restart()

    def _restart(self) -> None:
        """The server was started anew."""
        self._restarts += 1
        if self._settings.reset_on_restart:
            self.reset(same_server=False)

    def finish(self) -> None:
        """The input has ended: an unfinished line is incomplete, the open step complete.

        More input may follow, which does not continue it. To say it twice is to say it once.
        """
        self._end(emptied=False)
        if self._steps is not None:
            self._steps.finish()

    def take_steps(self) -> list[StepDistance]:
        """The distances of the steps that were completed since this was called last, in their order.

        A step of which is not known whether it is decode waits with those after it, a thousand at most.
        Steps of prefill are among them with `Settings.include_prompt`. `reset` and `merge` leave them alone.

        Raises:
            ValueError: the analyzer was not made to keep them.
        """
        if self._steps is None:
            raise ValueError("steps are not kept: give Analyzer keep_steps=True")
        return self._steps.take()

    def _end(self, *, emptied: bool, goes_on: bool = False) -> None:
        self._take(self._decoder.restart(emptied=emptied))
        self._close_step(goes_on=goes_on)
        if not goes_on:
            self._draft_layers.forget()
        self._statistics.gate_mass.interrupt()
        self._statistics.flush()
        self._is_open = False
        self._run_ended = True

    def reset(self, *, same_server: bool = True) -> None:
        """Start the statistics anew and leave the open step out of them.

        Args:
            same_server: what was learned about the logger and the model still holds.
        """
        self._sieve.drop()
        for _ in self._assembler.interrupt():
            pass
        if not same_server:
            label = self._assembler.label
            self._assembler = StepAssembler(max_slots=self._settings.max_slots, weights=self._weights)
            self._assembler.label = label
            self._sieve = Sieve()
            self._highest = -1
        evidence = self._statistics.runs.last.evidence
        self._statistics = Statistics(self._settings)
        if same_server:
            self._statistics.runs.last.evidence = evidence
        self._before = None

    def freeze(self, reading: object = None) -> Frozen:
        """All that is known now, for a file; the analyzer goes on as if nothing had been.

        Args:
            reading: where reading stands.

        Raises:
            MoeLiveError: an archive is half unpacked: that cannot be gone on with.
        """
        kept = {name: value for name, value in vars(self).items() if name not in _NOT_KEPT}
        settings = {each.name: getattr(self._settings, each.name) for each in fields(self._settings)}
        try:
            return freeze({"settings": settings, "analysis": kept, "reading": reading})
        except TypeError as error:
            raise MoeLiveError(f"this input has to be read to its end for a state: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all that is known now to a file, as a whole or not at all.

        An unfinished line and the open step are in it: who loads it goes on exactly.

        Raises:
            ValueError: it was made to be merged with what comes before.
            MoeLiveError: the file cannot be written, or an archive is half unpacked.
        """
        if self._goes_on:
            raise ValueError("a part of a log has no state: merge it with what comes before")
        from moe_live.state.file import pack, write  # noqa: PLC0415 - most runs have no state

        write(path, pack(self.freeze()))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Analyzer:
        """What was saved in a file, to be gone on with or merged.

        Raises:
            MoeLiveError: there is no such file, it is no state of this version, or it is damaged.
        """
        analyzer, reading = cls.loaded(path)
        if isinstance(reading, Position):
            analyzer.notes += tuple(reading.gaps.sentences(printable(reading.path)))
        return analyzer

    @classmethod
    def loaded(
        cls,
        path: str | os.PathLike[str],
        *,
        keep_steps: bool = False,
        watch: Callable[[StepBatch], object] = lambda _: None,
    ) -> tuple[Analyzer, Any]:
        """What was saved in a file, and where reading stood.

        Args:
            path: of the file.
            keep_steps: see `Analyzer`.
            watch: see `Analyzer`.

        Raises:
            MoeLiveError: as `load`.
        """
        from moe_live.state.file import read, unusable  # noqa: PLC0415 - as above

        state = read(path, lambda: cls().freeze())
        try:
            return cls._thawed(state, keep_steps=keep_steps, watch=watch), state["reading"]
        except DamagedError as error:
            raise unusable(path, error) from error

    @classmethod
    def _thawed(cls, state: Any, **more: Any) -> Self:
        """What was frozen.

        Args:
            state: as it was thawed.
            more: arguments of the analyzer.

        Raises:
            DamagedError: there never was such a state of this version.
        """
        try:
            analyzer = cls(Settings(**state["settings"]), **more)
            kept = state["analysis"]
            is_whole = kept.keys() == vars(analyzer).keys() - _NOT_KEPT
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise DamagedError(str(error)) from error
        if not is_whole:
            raise DamagedError("another version of moe-live wrote it, which kept more or less")
        vars(analyzer).update(kept)
        return analyzer

    def packed(self) -> bytes:
        """All that is known now, for another process; it may be a part of a log."""
        from moe_live.state.file import pack  # noqa: PLC0415 - as above

        return pack(self.freeze())

    @classmethod
    def unpacked(cls, content: bytes, *, goes_on: bool = False) -> Self:
        """What another process packed.

        Args:
            content: of `packed`.
            goes_on: see `Analyzer`.

        Raises:
            DamagedError: another version of moe-live did.
        """
        from moe_live.state.file import unpack  # noqa: PLC0415 - as above

        return cls._thawed(thaw(unpack(content), cls().freeze()), goes_on=goes_on)

    def __iadd__(self, other: Analyzer) -> Self:
        """Add a log that comes after this one; `other` stays as it is.

        Raises:
            ValueError: one of them was fed and not finished, or they do not count alike.
        """
        for name in (
            "layers",
            "gate_layers",
            "max_slots",
            "window",
            "counts_only",
            "latest_uses",
            "reset_on_restart",
            "rows",
        ):
            ours, theirs = getattr(self._settings, name), getattr(other._settings, name)
            if ours != theirs:
                raise ValueError(f"{name} is {ours} here and {theirs} there; both must count alike")
        theirs = copy(other)  # merging uses up what is merged
        theirs._assembler, theirs._sieve = deepcopy(other._assembler), deepcopy(other._sieve)
        theirs._statistics, theirs._before = deepcopy((other._statistics, other._before))
        self.merge(theirs)
        return self

    def merge(self, other: Finished) -> None:
        """Add a log that comes after this one, counted with the same settings; `other` is used up.

        Raises:
            ValueError: one of them was fed and not finished.
        """
        self._check_finished()
        pieces = other.pieces(self._highest)
        outline: _Outline = next(pieces)
        if self._highest < outline.highest:
            self._settle()
        self._assembler.absorb(outline.assembler)
        self._sieve.absorb(outline.sieve)
        self._highest = self._assembler.highest
        self._merged_tally += outline.tally
        self._paths += outline.paths
        self.notes += outline.notes
        self._restarts += outline.restarts
        self._rotations += outline.rotations
        self._merged_format = self._merged_format or outline.format
        for goes_on in outline.goes_on:
            self._merge_statistics(pieces, goes_on=goes_on)
        self._run_ended = True

    def pieces(self, highest: int) -> Iterator[Any]:
        """What a finished analyzer has found, one piece after the other; see `Finished`.

        Raises:
            ValueError: it was fed and not finished.
        """
        self._check_finished()
        if self._highest < highest:
            self._settle()
        every = list(self._every())
        yield _Outline(
            assembler=self._assembler,
            sieve=self._sieve,
            highest=self._highest,
            tally=self.tally,
            paths=self._paths,
            restarts=self._restarts,
            rotations=self._rotations,
            notes=self.notes,
            format=self._format,
            goes_on=[self._goes_on and statistics is every[0] for statistics in every],
        )
        for statistics in every:
            yield from statistics.pieces()

    def complete(self) -> Analyzer:
        """What is complete so far, finished, for merging; this one goes on as if nothing had been.

        The open step, and rows that wait to be judged, are not in it.
        """
        self._statistics.flush()
        assembler, sieve = StepAssembler(max_slots=self._settings.max_slots), Sieve()
        assembler.absorb(self._assembler)
        sieve.absorb(self._sieve)
        statistics, before = deepcopy((self._statistics, self._before))
        other = copy(self)
        vars(other).update(
            _decoder=SniffingDecoder(),
            _assembler=assembler,
            _sieve=sieve,
            _statistics=statistics,
            _before=before,
            _steps=None,
            _merged_tally=self.tally,
            _merged_format=self._format,
            _is_open=False,
        )
        return other

    def _check_finished(self) -> None:
        if self._is_open:
            raise ValueError("a step is still open: call finish() before merging, and no step is torn")

    def _every(self) -> Iterator[Statistics]:
        """The statistics of all that was read, in the order of the log."""
        if self._before is not None:
            yield self._before
        yield self._statistics

    def _settle(self) -> None:
        """A higher layer was seen: what was undecided is prefill."""
        for statistics in self._every():
            statistics.settle()

    def _begin_run(self) -> None:
        """What comes now is of another run of the server, if there were rows before.

        Which rows of a run count is known when it has ended, and all of it is at hand.
        """
        self._run_ended = False
        if self._goes_on and self._before is None:
            self._before, self._statistics = self._statistics, Statistics(self._settings)
        else:
            self._statistics.end_run()

    def _merge_statistics(self, pieces: Iterator[Any], *, goes_on: bool) -> None:
        """Add what comes next; `goes_on`: it is a part of the run that comes last here."""
        if self._goes_on and self._before is None and not goes_on:
            self._begin_run()
            self._statistics.merge(pieces, goes_on=True)
        else:
            self._statistics.merge(pieces, goes_on=goes_on)

    def learn(self, highest: int) -> None:
        """Take this for the highest layer, as another has seen that reads the same log; before all is fed.

        So each step has at once the kind that it turns out to have.
        """
        self._assembler.highest = self._highest = highest

    @property
    def highest(self) -> int:
        """The highest layer of complete steps so far, or that which was learned; -1 for none."""
        return self._highest

    @property
    def runs(self) -> Runs:
        """The runs of the server so far; the one that goes on has been seen by `watch` already."""
        return self._statistics.runs

    @property
    def tally(self) -> LineTally:
        """Bytes and lines read so far."""
        return self._decoder.tally + self._merged_tally

    def progress(self) -> Progress:
        """Totals so far."""
        tally = self.tally
        by_kind = np.zeros(len(Kind), np.int64)
        for statistics in self._every():
            by_kind += statistics.tokens - statistics.beginnings.pieces().tokens
        tokens = phases(by_kind, self._decode_kinds())
        return Progress(tally.bytes, tally.lines, tokens.total, tokens.decode, tally.malformed_lines)

    def _decode_kinds(self) -> list[Kind]:
        """The kinds of steps that are decode, as far as is known."""
        return decode_kinds(self._assembler)

    def snapshot(
        self,
        sections: Collection[Section] = frozenset(Section),
        *,
        pairs_of: Iterable[int] | None = None,
        anew: bool = True,
    ) -> Snapshot:
        """The statistics of all complete steps; see `SnapshotMaker.make`.

        Raises:
            ValueError: it was made to be merged with what comes before.
        """
        if self._goes_on:
            raise ValueError("a part of a log has no snapshot: merge it with what comes before")
        maker = SnapshotMaker(
            statistics=self._statistics,
            assembler=self._assembler,
            odd=self._sieve.odd,
            input=self._input(),
            settings=self._settings,
        )
        snapshot = maker.make(sections, pairs_of=pairs_of, anew=anew)
        return snapshot.having(warnings=(*self.notes, *snapshot.warnings)) if self.notes else snapshot

    @property
    def _format(self) -> str:
        """The name of the dialect, of the first log if there are several; "" while none is known."""
        dialect = self._decoder.dialect
        return self._merged_format if dialect is None else dialect.name

    def _input(self) -> Input:
        return Input(
            self._paths,
            self.tally,
            self._restarts,
            self._rotations,
            format=self._format,
        )

    def _update(self, batches: Iterable[StepBatch]) -> None:
        for batch in batches:
            if self._run_ended:
                self._begin_run()
            if batch.highest > self._highest:
                self._settle()
                if self._steps is not None:
                    self._steps.settle()
                self._highest = batch.highest
            self._statistics.runs.log = self.log
            self._statistics.update(batch)
            if self._steps is not None:
                self._steps.update(batch, last_layer_known=self._assembler.last_layer_known)
            self._watch(batch)
