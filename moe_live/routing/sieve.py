"""Sets aside rows that the rest of the log contradicts: a layer or an expert that no model of it has."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.formats.records import Records
from moe_live.settings import MAX_EXPERTS

STEPS = 32
"""Beginnings of steps, from a row of a doubtful layer on, in which the layer has to come again."""

ROWS = 1 << 10
"""Rows, from one with a doubtful expert on, in which such experts have to come again."""

OFTEN = 3
"""So often, the first time included, that a layer or an expert is believed."""

DOUBT = 1e-6
"""An expert is doubtful if the ids used so far would lie so far below it with this chance or less."""

_MOST_ROWS = 1 << 18  # rows that are held at most
_FEW_STEPS = 8  # fewer among them say nothing about a layer
_GLANCE = 1 << 12  # rows that are looked through at a time
_SEEN_ROWS = 1 << 16  # rows whose experts are noted


class Odd(NamedTuple):
    """What is odd about a row: its layer, or an expert in it; the other is -1."""

    layer: int
    expert: int


@dataclass(slots=True, eq=False)
class _Held:
    """Records that wait for a verdict.

    Attributes:
        records: in memory of their own.
        layer: (n,) of all their expert rows.
        top: (n,) the highest expert of each row.
        before: (n,) the layer of the row before, of those that are not set aside.
        odd: (n,) which of them are set aside.
        judged: how many of the rows have their verdict.
    """

    records: list[Records] = field(default_factory=list)
    layer: NDArray[np.uint16] = field(default_factory=lambda: np.empty(0, np.uint16))
    top: NDArray[np.uint16] = field(default_factory=lambda: np.empty(0, np.uint16))
    before: NDArray[np.uint16] = field(default_factory=lambda: np.empty(0, np.uint16))
    odd: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    judged: int = 0

    def begins(self, first: int, last: int) -> NDArray[np.bool_]:
        """Whether a step begins at each row from `first` to before `last`."""
        return self.before[first:last] > self.layer[first:last]


class Sieve:
    """Lets rows pass that agree with the log as far as it is known, and looks ahead where one does not.

    A row is in doubt if its layer is higher than any before and further above them than these lie apart, or
    if it names an expert so far above all before that these would hardly have been chosen from so many (ids
    are arbitrary: that the u that were used all lie below m, of n, has the chance C(m, u) / C(n, u)). It is
    believed if that layer comes in `OFTEN` blocks within `STEPS` steps, or experts so high in `OFTEN` of
    `ROWS` rows; until then it is held with what follows. Else it is odd, and the log goes on as if it were
    not there. In the first step, and where the log ends so early that nothing can be said, all is believed.

    What is decided depends on the rows alone, not on how they are cut into records.

    Attributes:
        odd: how many rows were set aside for which reason.
    """

    def __init__(self) -> None:
        self.odd: Counter[Odd] = Counter()
        self._highest = -1
        self._spacing = 0  # of layers, at most
        self._n_experts = 0
        self._used = np.zeros(MAX_EXPERTS, np.bool_)
        self._steps = self._rows = 0
        self._last_layer = 0
        self._held = _Held()

    def feed(self, records: Records) -> Iterator[Records]:
        """What passes, of these and of those that were held."""
        if not len(records.layer):
            if self._held.records:
                self._hold(records)
            else:
                yield records
            return
        if not self._held.records and not self._doubts(records):
            self._see(records.layer, records)
            yield records
            return
        self._hold(records)
        yield from self._judge(ended=False)

    def interrupt(self) -> Iterator[Records]:
        """What was held; nothing that helps to judge it will come."""
        yield from self._judge(ended=True)

    def drop(self) -> None:
        """Forget what was held, and what was set aside so far; what was learned of the model still holds."""
        self.odd = Counter()
        self._held = _Held()

    def absorb(self, other: Sieve) -> None:
        """Take over what another has learned and set aside. Neither holds anything."""
        self.odd.update(other.odd)
        self._highest = max(self._highest, other._highest)
        self._spacing = max(self._spacing, other._spacing)
        self._n_experts = max(self._n_experts, other._n_experts)
        self._used |= other._used
        self._steps += other._steps
        self._rows += other._rows

    def _doubts(self, records: Records) -> bool:
        """Whether any of these is above all before."""
        highest = max(int(table.max()) for table in records.experts.tables)
        return int(records.layer.max()) > self._highest or highest >= self._n_experts

    def _see(self, layer: NDArray[np.uint16], records: Records) -> None:
        """Count rows that pass, and note what they chose."""
        if self._steps < STEPS:
            self._steps += int(self._last_layer > layer[0]) + int(np.count_nonzero(layer[1:] < layer[:-1]))
        self._note(records, 0, len(layer))
        self._last_layer = int(layer[-1])

    def _note(self, records: Records, begin: int, end: int) -> None:
        """Count the rows from `begin` to before `end`, and note what they chose."""
        if self._rows < _SEEN_ROWS:
            for table in records.experts.part(begin, min(end, begin + _SEEN_ROWS - self._rows)).tables:
                self._used[table.reshape(-1)] = True
        self._rows += end - begin

    def _hold(self, records: Records) -> None:
        held = self._held
        held.records.append(records.copy())
        if len(records.layer):
            held.before = np.concatenate((held.before, [np.uint16(self._last_layer)], records.layer[:-1]))
            held.layer = np.concatenate((held.layer, records.layer))
            held.top = np.concatenate((held.top, records.experts.highest()))
            held.odd = np.concatenate((held.odd, np.zeros(len(records.layer), np.bool_)))
            self._last_layer = int(records.layer[-1])

    def _judge(self, *, ended: bool) -> Iterator[Records]:
        """Judge what can be judged, and let pass what is before the first row that cannot."""
        held, start = self._held, self._held.judged
        while start < len(held.layer):
            glance = slice(start, start + _GLANCE)
            above = (held.layer[glance] > self._highest) | (held.top[glance] >= self._n_experts)
            if not above.any():
                start += _GLANCE
                continue
            row = start + int(above.argmax())
            self._pass_until(row)
            odd = self._layer_verdict(row, ended=ended) or self._expert_verdict(row, ended=ended)
            if odd is _LATER:
                break
            start = row + 1
            if odd is not None:
                self.odd[odd] += 1
                self._set_aside(row)
                held.judged = start
        else:
            self._pass_until(len(held.layer))
        yield from self._release()

    def _set_aside(self, row: int) -> None:
        """Go on as if that row were not there: no step begins at it, nor after it for its layer."""
        held = self._held
        before = held.before[row]
        held.odd[row], held.before[row] = True, 0
        if row + 1 < len(held.layer):
            held.before[row + 1] = before
        else:
            self._last_layer = int(before)

    def _pass_until(self, row: int) -> None:
        """Count and note the rows before this that have no verdict yet: they pass."""
        held, begin = self._held, self._held.judged
        self._steps += int(np.count_nonzero(held.begins(begin, row)))
        first = 0
        for records in held.records:
            last = first + len(records.layer)
            if begin < last and first < row:
                self._note(records, max(begin, first) - first, min(row, last) - first)
            first = last
        held.judged = row

    def _layer_verdict(self, row: int, *, ended: bool) -> Odd | None:
        """What is odd about the layer of a row; None if nothing is."""
        held, layer = self._held, int(self._held.layer[row])
        gap = layer - self._highest
        if gap <= 0:
            return None
        if self._steps and gap > self._spacing:
            places = np.flatnonzero(held.begins(row + 1, row + 1 + _MOST_ROWS))[:STEPS]
            rest = min(len(held.layer) - row - 1, _MOST_ROWS)  # not of what else has come by chance
            seen = held.layer[row : row + 1 + (int(places[-1]) if len(places) == STEPS else rest)] == layer
            if 1 + np.count_nonzero(seen[1:] & ~seen[:-1]) < OFTEN:
                complete = len(places) == STEPS or rest == _MOST_ROWS
                if not complete and not ended:
                    return _LATER
                if len(places) >= _FEW_STEPS if complete else self._steps + len(places) >= STEPS:
                    return Odd(layer, -1)
        if self._highest >= 0:
            self._spacing = max(self._spacing, gap)
        self._highest = layer
        return None

    def _expert_verdict(self, row: int, *, ended: bool) -> Odd | None:
        """What is odd about the experts of a row; None if nothing is."""
        held, expert = self._held, int(self._held.top[row])
        if expert < self._n_experts:
            return None
        doubtful = self._doubtful_from()
        if expert >= doubtful:
            following = held.top[row : row + ROWS]
            if np.count_nonzero(following >= doubtful) < OFTEN:
                if len(following) < ROWS and not ended:
                    return _LATER
                if self._rows + len(following) >= ROWS:
                    return Odd(int(held.layer[row]), expert)
        self._n_experts = expert + 1
        return None

    def _doubtful_from(self) -> int:
        """The lowest expert that is doubtful."""
        used = np.arange(np.count_nonzero(self._used))

        def seems_possible(expert: int) -> bool:
            return bool(np.prod((self._n_experts - used) / (expert + 1 - used)) >= DOUBT)

        experts = range(self._n_experts, MAX_EXPERTS)
        return self._n_experts + bisect_left(experts, x=True, key=lambda expert: not seems_possible(expert))

    def _release(self) -> Iterator[Records]:
        """What has its verdict, without what is odd."""
        held, first = self._held, 0
        passing: list[Records] = []
        while held.records and first + len(held.records[0].layer) <= held.judged:
            records = held.records.pop(0)
            last = first + len(records.layer)
            odd = held.odd[first:last]
            passing.append(records.without(odd) if odd.any() else records)
            first = last
        held.layer, held.top = held.layer[first:], held.top[first:]
        held.before, held.odd = held.before[first:], held.odd[first:]
        held.judged -= first
        yield from passing


_LATER = Odd(-1, -1)
"""There is no verdict yet."""
