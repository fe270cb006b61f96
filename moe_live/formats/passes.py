"""Lines that tell what they belong to, in whatever order they were written, to rows in the order of steps.

**Where a pass begins**, seen from two lines that follow each other:

- the phase changes;
- the step told changes, and the sequence does not; where no token is told, that of a prompt may number its
  tokens;
- the layer goes down, unless the step told is the same, or the rank goes up (rank by rank), or both are of a
  prompt that is written token by token: its number goes up, and no layer had two of them since the layer
  last went down.

The lines of a pass are put in the order of layers, then of sequences, steps and tokens. Those that are the
same in all of this are one row if each has one expert, unless the rank does not go up, or neither token nor
rank is told: then as many as the shortest run of one layer has make a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from moe_live.formats.ranges import offsets
from moe_live.formats.records import Experts, Records, RowWeights, StepMarks
from moe_live.formats.told import PREFILL, Telling, Told, is_same, picked
from moe_live.settings import MAX_TOP_K

MAX_HELD_LINES = 1 << 18
"""Lines of an open pass that are held at most. What comes after them is put in order by itself: a longer pass
must be written layer by layer."""

LEARN_LINES = 1 << 17
"""Lines by which is learned how many of them make a row, at most."""

LEARN_PASSES = 16
"""Passes that suffice for it."""


class PassGatherer:
    """Makes `Records` of lines; a pass is whole when the next one begins. Cut anywhere, they are the same.

    Args:
        telling: what the lines tell.
        labels: what the first pass is called, the last of them.
        row_lines: how many lines make a row, if that is known and the first line begins one.

    Attributes:
        row_lines: the same, None while that is to be learned.
        empty_rows: rows without any expert so far.
        empty_slots: places without an expert.
        torn_lines: lines that make no row of as many experts as the others have.
    """

    def __init__(self, telling: Telling, labels: Sequence[str] = (), row_lines: int | None = None) -> None:
        self.empty_rows = self.empty_slots = self.torn_lines = 0
        self._telling = telling
        self._at_start = row_lines is None
        self.row_lines = row_lines
        if row_lines is None and not (telling.one_each and not (telling.rank or telling.token)):
            self.row_lines = 1
        self._forget()
        self._labels += [(0, name) for name in labels]

    @property
    def waiting(self) -> list[str]:
        """Labels that no pass has yet."""
        return [name for _, name in self._labels]

    def _forget(self) -> None:
        self._held: list[Told] = []
        self._held_begins: list[NDArray[np.int64]] = []  # among the held lines, but for the first
        self._held_lines = 0
        self._goes_on = False  # whether the beginning of the held pass was let go
        self._last: Told | None = None
        self._token_by_token = True  # since the layer last went down
        self._labels: list[tuple[int, str]] = []  # with how many of the held lines stand before each

    def feed(self, lines: Told, labels: Sequence[tuple[int, str]] = ()) -> Iterator[Records]:
        """Take in the next lines.

        Args:
            lines: of the log.
            labels: what the passes are called that begin from there on: how many of `lines` stand before
                each, ascending, and the name.
        """
        self._labels += [(self._held_lines + place, name) for place, name in labels]
        if not len(lines):
            return
        self._held_begins.append(self.begins(lines) + self._held_lines)
        self._held.append(lines)
        self._held_lines += len(lines)
        if self.row_lines is None:
            begins = np.concatenate(self._held_begins)
            if len(begins) < LEARN_PASSES and self._held_lines < LEARN_LINES:
                return
            self._learn(min([LEARN_LINES, *begins[LEARN_PASSES - 1 : LEARN_PASSES].tolist()]))
        if len(begins := np.concatenate(self._held_begins)):
            yield from self._let_go(begins)
        if self._held_lines > MAX_HELD_LINES:
            yield from self._let_go_of_beginning()

    def end(self) -> Iterator[Records]:
        """What comes next does not continue this: the last pass is whole."""
        if self._held:
            if self.row_lines is None:
                self._learn(self._held_lines)
            yield from self._let_go(np.append(np.concatenate(self._held_begins), self._held_lines))
        if self._labels:
            yield _nothing(tuple((0, name) for _, name in self._labels))
        self._forget()

    def begins(self, lines: Told) -> NDArray[np.int64]:
        """Which of the next lines begin a pass, seen from the line before; the very first one does not."""
        last, self._last = self._last, lines.part(len(lines) - 1, len(lines)).copy()
        changes = _changes(lines)
        changes[0] = last is not None and _changes(Told.joined([last, lines.part(0, 1)]))[1]
        line = np.flatnonzero(changes)  # no other begins one

        def at(name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
            """What these lines tell, and what the one before each does."""
            column: NDArray[np.int64] = getattr(lines, name)
            before = picked(column, line - 1).copy()
            if last is not None and changes[0]:
                before[0] = getattr(last, name)[0]
            return picked(column, line), before

        layer, layer_before = at("layer")
        phase, phase_before = at("phase")
        sequence, sequence_before = at("sequence")
        step, step_before = at("step")
        token, token_before = at("token")
        telling = self._telling
        down = layer < layer_before
        same_sequence = sequence == sequence_before
        is_prompt = phase == PREFILL
        new_step = step != step_before
        begins = phase != phase_before
        numbers_tokens = is_prompt if telling.step and not telling.token else np.zeros_like(is_prompt)
        begins |= new_step & ~numbers_tokens & same_sequence
        begins_down = down.copy()
        if telling.step:
            begins_down &= new_step
        if telling.rank:
            rank, rank_before = at("rank")
            begins_down &= rank <= rank_before
        if telling.phase and (telling.token or telling.step):
            new_token = new_step | (token != token_before)
            up = (step > step_before) | (token > token_before)
            two = np.cumsum(np.append([not self._token_by_token], (layer == layer_before) & new_token))
            went_down = np.flatnonzero(down)
            had_two = np.diff(two[went_down + 1], prepend=0) > 0
            self._token_by_token = not (two[-1] > (two[went_down[-1] + 1] if len(went_down) else 0))
            same_text = is_prompt & up & same_sequence
            begins_down[went_down] &= ~same_text[went_down] | had_two
        begins |= begins_down
        found: NDArray[np.int64] = line[begins]
        return found

    def _learn(self, known: int) -> None:
        """Learn from the first `known` lines how many of them make a row."""
        lines = Told.joined(self._held).part(0, known)
        run = _runs(lines)
        length = np.diff(run, append=known)
        # The first and the last one may be cut.
        inner = length[1 : len(length) - (known < self._held_lines)] if len(length) > 2 else length
        shortest = int(inner.min())
        for lines_a_row in range(min(shortest, MAX_TOP_K), 0, -1):
            if shortest % lines_a_row == 0 and _distinct(lines, run, lines_a_row):
                break
        self.row_lines = lines_a_row

    def _let_go(self, begins: NDArray[np.int64]) -> Iterator[Records]:
        """All passes before the last of `begins`, which are the known ones."""
        last = int(begins[-1])
        held = Told.joined(self._held)
        starts = begins[:-1]
        if begins[0] == 0:
            self._goes_on = False
        else:
            starts = np.append([0], starts)
        yield from self._passes(held.part(0, last), starts, self._take_labels(last, starts))
        self._goes_on = False
        self._hold(held, last)

    def _let_go_of_beginning(self) -> Iterator[Records]:
        """What is held but the last layer."""
        held = Told.joined(self._held)
        changes = np.flatnonzero(held.layer[1:] != held.layer[:-1])
        cut = int(changes[-1]) + 1 if len(changes) else len(held)
        yield from self._passes(held.part(0, cut), np.zeros(1, np.int64), ())
        self._goes_on = True
        self._hold(held, cut)
        self._labels = [(max(0, place - cut), name) for place, name in self._labels]

    def _hold(self, held: Told, begin: int) -> None:
        """Hold the lines from `begin` on."""
        rest = held.part(begin, len(held)).copy()
        self._held = [rest] if len(rest) else []
        self._held_lines = len(rest)
        self._held_begins = [np.empty(0, np.int64)]

    def _take_labels(self, last: int, starts: NDArray[np.int64]) -> tuple[tuple[int, str], ...]:
        """The labels of passes that begin before line `last`, with the pass that each holds from."""
        mine = [(place, name) for place, name in self._labels if place < last]
        self._labels = [(place - last, name) for place, name in self._labels if place >= last]
        return tuple((int(np.searchsorted(starts, place)), name) for place, name in mine)

    def _passes(
        self, lines: Told, starts: NDArray[np.int64], labels: Sequence[tuple[int, str]]
    ) -> Iterator[Records]:
        """The rows of whole passes, in their order.

        Args:
            lines: of these passes alone.
            starts: (p,) their first lines.
            labels: names, and from which pass on each holds.
        """
        n = len(lines)
        if not n:
            return
        number = np.repeat(np.arange(len(starts)), np.diff(starts, append=n))
        phase = lines.phase[starts]
        run = _runs(lines, starts)
        by_rank = self._telling.one_each and self._telling.rank and self._telling.token
        order = _order(number, lines, run, by_rank=by_rank)
        if order is not None:
            lines = lines.ordered(order)
            run = _runs(lines, starts)
        first, count, good = self._rows(lines, run)
        chosen, of_chosen, slot, width = lines.experts, lines.weights, first, count
        is_slot = chosen >= 0
        if not is_slot.all():
            slots = np.concatenate(([0], np.cumsum(is_slot)))
            slot, width = slots[first], slots[first + count] - slots[first]
            chosen, of_chosen = chosen[is_slot], of_chosen[is_slot]
        kept = good & (width > 0) & (width <= MAX_TOP_K)
        self.empty_rows += int(np.count_nonzero(good & (width == 0)))
        self.empty_slots += int((count - width)[good].sum())
        self.torn_lines += int(count[~good].sum() + np.count_nonzero(width > MAX_TOP_K))
        line = first[kept] if self._telling.one_each else np.flatnonzero(kept)
        layer, number = lines.layer[line], number[line]
        place = np.searchsorted(number, np.arange(len(starts) + 1))
        experts = _experts(chosen, slot[kept], width[kept])
        weights = _weights(of_chosen, slot[kept], width[kept])
        marks = self._marks(lines, line, place[:-1], phase)
        yield Records(
            layer.astype(np.uint16),
            experts,
            labels=tuple((int(place[which]), name) for which, name in labels),
            marks=marks.part(1, len(marks), marks.place[1:]) if self._goes_on else marks,
            weights=weights,
        )

    def _rows(
        self, lines: Told, run: NDArray[np.intp]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Which experts make a row.

        Args:
            lines: in order.
            run: (u,) those that surely begin one.

        Returns:
            (r,) the first expert of each row, (r,) how many it has, (r,) whether that is all of them.
        """
        if not self._telling.one_each:
            first = np.cumsum(lines.count) - lines.count
            return first, lines.count, np.ones(len(first), np.bool_)
        n = len(lines)
        first = run
        learned = self.row_lines if not (self._telling.rank or self._telling.token) else None
        if self._telling.rank:
            begins = np.zeros(n, np.bool_)
            begins[1:] = lines.rank[1:] <= lines.rank[:-1]
            begins[run] = True
            first = np.flatnonzero(begins)
        elif learned is not None:
            length = np.diff(run, append=n)
            missing = np.zeros_like(length)
            if self._at_start:  # whose beginning may be cut off
                missing[0] = -length[0] % learned
            rows = -(-(length + missing) // learned)
            first = np.repeat(run - missing, rows) + offsets(np.zeros_like(rows), rows) * learned
            first[0] = 0
        self._at_start = False
        count = np.diff(first, append=n)
        return first, count, np.ones(len(first), np.bool_) if learned is None else count == learned

    def _marks(
        self,
        lines: Told,
        line: NDArray[np.int64],
        place: NDArray[np.int64],
        phase: NDArray[np.int64],
    ) -> StepMarks:
        """What is told of passes.

        Args:
            lines: in order.
            line: (r,) the one of each row.
            place: (p,) the first row of each pass.
            phase: (p,) of each.
        """
        tokens = np.zeros(len(place), np.int64)
        which = np.empty(0, np.int64)
        if self._telling.sequence and len(line):
            stop = np.append(place[1:], len(line))
            begin = np.minimum(place, len(line) - 1)
            in_first = np.repeat(lines.layer[line[begin]], stop - place) == lines.layer[line]
            tokens = np.bincount(
                np.repeat(np.arange(len(place)), stop - place)[in_first], minlength=len(place)
            )
            which = line[in_first]
        return StepMarks(
            place=place,
            warmup=np.zeros(len(place), np.bool_),
            kind=phase.astype(np.int8),
            tokens=tokens,
            position=lines.token[which],
            sequence=lines.sequence[which],
            output=np.full(len(which), -1, np.int8),
        )


def _nothing(labels: tuple[tuple[int, str], ...]) -> Records:
    """No rows, but what the next ones are called."""
    return Records(np.empty(0, np.uint16), Experts(), labels=labels)


def _changes(lines: Told) -> NDArray[np.bool_]:
    """(n,) Where anything is told anew that all lines of a row have in common; the first line does."""
    changes = np.ones(len(lines), np.bool_)
    changes[1:] = lines.layer[1:] != lines.layer[:-1]
    for key in (lines.phase, lines.sequence, lines.step, lines.token):
        if not is_same(key):
            changes[1:] |= key[1:] != key[:-1]
    return changes


def _order(
    number: NDArray[np.int64], lines: Told, run: NDArray[np.intp], *, by_rank: bool
) -> NDArray[np.intp] | None:
    """The order of passes, layers, sequences, steps and tokens, and of ranks if they count.

    Args:
        number: (n,) the pass of each line.
        lines: of these passes.
        run: (u,) where any of these but the rank changes, and the first line.
        by_rank: whether ranks count.

    Returns:
        None if it is the order of the lines.
    """
    keys = (number, lines.layer, lines.sequence, lines.step, lines.token)
    at = run[1:]
    is_ordered = True
    if by_rank:
        falls = lines.rank[1:] < lines.rank[:-1]
        falls[at - 1] = False
        is_ordered = not falls.any()
    equal = np.ones(len(at), np.bool_)
    for key in keys:
        if not is_same(key):
            now, before = key[at], key[at - 1]
            is_ordered &= not (equal & (now < before)).any()
            equal &= now == before
    return None if is_ordered else np.lexsort(((*keys, lines.rank) if by_rank else keys)[::-1])


def _runs(lines: Told, starts: Sequence[int] | NDArray[np.int64] = ()) -> NDArray[np.intp]:
    """Where lines begin of which anything is told anew, or which are the first ones of passes."""
    changes = _changes(lines)
    changes[np.asarray(starts, np.int64)] = True
    return np.flatnonzero(changes)


def _distinct(lines: Told, run: NDArray[np.intp], lines_a_row: int) -> bool:
    """Whether rows of so many lines each would name no expert twice, but for those that are cut."""
    length = np.diff(run, append=len(lines))
    whole = length % lines_a_row == 0
    row = np.repeat(whole, length)
    table = np.sort(lines.experts[row].reshape(-1, lines_a_row), axis=1)
    return not ((table[:, 1:] == table[:, :-1]) & (table[:, 1:] >= 0)).any()


def _weights(weights: NDArray[np.float64], first: NDArray[np.int64], width: NDArray[np.int64]) -> RowWeights:
    """Of rows that begin at `first` (r,) and have `width` (r,) experts each, those whose weights are told."""
    untold = np.isnan(weights)
    if untold.all():
        return RowWeights.none()
    before = np.concatenate(([0], np.cumsum(untold)))
    row = np.flatnonzero(before[first + width] == before[first])
    return RowWeights(row, width[row], weights[offsets(first[row], width[row])])


def _experts(experts: NDArray[np.int64], first: NDArray[np.int64], width: NDArray[np.int64]) -> Experts:
    """Rows that begin at `first` (r,) and have `width` (r,) experts each."""
    ids = experts.astype(np.uint16)
    tables = [
        ids[first[width == k] + np.arange(k)[:, None]].T for k in np.flatnonzero(np.bincount(width)).tolist()
    ]
    return Experts(tuple(tables), width.astype(np.uint16) if len(tables) > 1 else None)
