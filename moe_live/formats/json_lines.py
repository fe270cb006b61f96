"""JSON lines of chosen experts: an object a line, whose keys have the names that columns of tables have.

A line has the experts of a row as a list, or one expert, or those of several tokens as a list of lists. An
object with a `label` and no layer is a label. Lines that look alike are read all at once: where each key
stands, and the numbers behind it. All others go through `json` one by one.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moe_live.formats.alike import NUMBER, Shape, Shapes
from moe_live.formats.columns import Column, columns, json_object
from moe_live.formats.comments import MAX_LABEL
from moe_live.formats.dialect import Dialect, Fit
from moe_live.formats.fields import (
    MAX_SEQUENCE,
    float_lists,
    lists,
    numbers,
    phase_named,
    phases,
    trimmed,
    untold,
)
from moe_live.formats.told import PREFILL, UNTOLD, Telling, Told
from moe_live.formats.told_lines import Learned, ReadLines, ToldLinesDecoder, resumed
from moe_live.settings import MAX_EXPERTS, MAX_LAYERS

_NEWLINE, _QUOTE, _COLON, _BLANK, _COMMA = b'\n": ,'
_OPEN, _OPEN_LIST, _CLOSE_LIST, _CLOSE = b"{[]}"
_DRAFT_HEAD = "mtp_idx"
"""The key that Megatron-LM's records of draft heads have."""

_LISTED = (Column.EXPERTS, Column.WEIGHTS)
_NAMED = (Column.PHASE, Column.SEQUENCE)
_STRING_OR_NUMBER = re.compile(rb'"[^"]*"|(?P<number>-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)')
_NUMBERS = (Column.LAYER, Column.STEP, Column.TOKEN, Column.RANK)


class _Row(NamedTuple):
    """What one object tells of one token."""

    layer: int
    phase: int
    sequence: int
    step: int
    token: int
    rank: int
    experts: Sequence[int]
    weights: Sequence[float]


class _Number(NamedTuple):
    """Where a number stands among those of a line: one with decimal places is two."""

    first: int
    parts: int


def _numbers_in(value: object, parts: int, *, is_list: bool) -> list[int]:
    """Where the numbers of so many parts stand that are all there is in a value; nothing if it has others."""
    found = [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, _Number)]
    alone = isinstance(value, list) is is_list and len(found) == (
        len(value) if isinstance(value, list) else 1
    )
    return [each.first for each in found] if alone and all(each.parts == parts for each in found) else []


class _Keys(NamedTuple):
    """The keys of an object, by what they tell."""

    of: Mapping[Column, str]

    @classmethod
    def among(cls, names: Sequence[str], told: Mapping[str, str]) -> _Keys:
        """None at all if these do not tell of chosen experts."""
        return cls({column: names[where[0]] for column, where in columns(names, told).items()})


class JsonLinesDecoder(ToldLinesDecoder):
    """Turns the bytes of JSON lines into `Records`, however they are cut into chunks.

    Args:
        told: what the user says the keys are called, by our names of what they tell.
        known: what a decoder of the same log knows that has read its first lines.
        gate_layers: is not needed: these lines have no router inputs.
        weights: whether those of the experts are needed.
    """

    def __init__(
        self,
        told: Mapping[str, str],
        known: tuple[_Keys, Learned] | None = None,
        *,
        gate_layers: frozenset[int] | None = None,
        weights: bool = True,
    ) -> None:
        super().__init__(gate_layers=gate_layers, weights=weights)
        self._told_names = told
        self._keys: _Keys | None = None
        self._has_lists = True
        self._shapes = Shapes(self._shape_of)
        if known is not None:
            self._keys, learned = known
            self._know(learned)
            self._has_lists = not learned.telling.one_each

    @property
    def known(self) -> tuple[_Keys, Learned] | None:
        """See `ToldLinesDecoder.known`."""
        keys, learned = self._keys, self.learned
        return None if keys is None or learned is None else (keys, learned)

    def read(self, text: bytes) -> ReadLines:
        """See `ToldLinesDecoder.read`."""
        end = np.flatnonzero(np.frombuffer(text, np.uint8) == _NEWLINE)
        begin = np.append([0], end[:-1] + 1)
        found: dict[int, list[_Row]] = {}
        labels: list[tuple[int, str]] = []
        good = np.zeros(len(end), np.bool_)
        telling = self._telling
        alike = _NO_ROWS
        first = 0
        while first < len(end) and self._keys is None:
            telling = self._look_at(text[begin[first] : end[first]], first, found, labels) or telling
            first += 1
        if self._keys is not None and first < len(end):
            part = text[begin[first] :]
            alike, is_alike = self._shapes.read(part, end[first:] - begin[first], self._read_alike)
            good[first:] = is_alike
            for line in (np.flatnonzero(~is_alike) + first).tolist():
                self._look_at(text[begin[line] : end[line]], line, found, labels)
        of_line = np.flatnonzero(good)
        if found:
            rows = [row for each in found.values() for row in each]
            slow = np.repeat(list(found), list(map(len, found.values())))
            alike = Told.joined([alike, _told(rows)])
            of_line = np.concatenate((of_line, slow))
            order = np.argsort(of_line, kind="stable")
            alike, of_line = alike.ordered(order), of_line[order]
        good[[*found, *(label for label, _ in labels)]] = True
        return ReadLines(alike, of_line, end, good, telling, labels)

    def _look_at(
        self, line: bytes, index: int, found: dict[int, list[_Row]], labels: list[tuple[int, str]]
    ) -> Telling | None:
        """Read one line; what such lines tell if it is the first that is well-formed."""
        value = json_object(line)
        if value is None:
            return None
        if isinstance(label := value.get("label"), str) and len(value) == 1:
            labels.append((index, label.strip()[:MAX_LABEL]))
            return None
        if _DRAFT_HEAD in value:
            return None
        keys = _Keys.among(list(value), self._told_names)
        rows = _rows(value, keys) if keys.of else []
        if not rows:
            return None
        experts = value[keys.of[Column.EXPERTS]]
        has_lists = isinstance(experts, list)
        if self._keys is None:
            self._keys, self._has_lists = keys, has_lists
            found[index] = rows
            return Telling(
                one_each=not has_lists,
                phase=Column.PHASE in keys.of or Column.TOKEN in keys.of,
                sequence=Column.SEQUENCE in keys.of,
                step=Column.STEP in keys.of,
                token=Column.TOKEN in keys.of or (has_lists and isinstance(experts[0], list)),
                rank=Column.RANK in keys.of and not has_lists,
            )
        if has_lists == self._has_lists:
            found[index] = rows
        return None

    def _shape_of(self, line: bytes) -> Shape | None:
        """What the numbers tell of lines that are like this one but for these; see `Shapes`."""
        keys = None if self._keys is None else self._keys.of
        if keys is None or b"\\" in line or line.count(b"{") != 1:
            return None
        count, marks = 0, list[_Number]()
        for found in _STRING_OR_NUMBER.finditer(line):
            numbers_here = len(NUMBER.findall(found[0]))
            if found["number"] is not None:
                marks.append(_Number(count, numbers_here))
            elif numbers_here and line[found.end() :].lstrip().startswith(b":"):
                return None
            count += numbers_here
        try:
            take = partial(next, iter(marks))
            value = json.loads(line, parse_int=lambda _: take(), parse_float=lambda _: take())
        except (ValueError, RecursionError, StopIteration):
            return None
        if not isinstance(value, dict) or any(line.count(f'"{key}"'.encode()) != 1 for key in keys.values()):
            return None
        where: dict[Column, int] = {}
        known: dict[Column, int] = {}
        for column, key in keys.items():
            told = value.get(key)
            if column in _LISTED or (column is Column.RANK and self._has_lists):
                continue
            if isinstance(told, _Number) and told.parts == 1:
                where[column] = told.first
            elif column in _NAMED and isinstance(told, str) and not NUMBER.search(told.encode()):
                known[column] = (
                    phase_named(told) if column is Column.PHASE else _number_of(told) & MAX_SEQUENCE
                )
            else:
                return None
        experts = _numbers_in(value.get(keys[Column.EXPERTS]), 1, is_list=self._has_lists)
        weights = experts
        has_weights = self._wants_weights and Column.WEIGHTS in keys
        if has_weights:
            weights = _numbers_in(value.get(keys[Column.WEIGHTS]), 2, is_list=self._has_lists)
        if not experts or len(weights) != len(experts):
            return None
        of_weights = [(first, first + 1) for first in weights] if has_weights else []
        return Shape.of(line, where, known, experts, of_weights)

    def _read_alike(self, text: bytes, end: NDArray[np.int64]) -> tuple[Told, NDArray[np.bool_]]:
        """The lines that have all keys, once each, and nothing within anything else.

        Returns:
            What these tell, and (l,) which they are.
        """
        assert self._keys is not None  # noqa: S101 - it is known before
        keys = self._keys
        bytes_ = np.frombuffer(text, np.uint8)
        begin = np.append([0], end[:-1] + 1)
        opens = np.searchsorted(np.flatnonzero(bytes_ == _OPEN), [begin, end])
        good = (bytes_[begin] == _OPEN) & (bytes_[end - 1] == _CLOSE) & (opens[1] - opens[0] == 1)
        if b"\\" in text:
            escapes = np.searchsorted(np.flatnonzero(bytes_ == ord("\\")), [begin, end])
            good &= escapes[0] == escapes[1]
        quote = np.flatnonzero(bytes_ == _QUOTE)
        stop = np.flatnonzero((bytes_ == _COMMA) | (bytes_ == _CLOSE))
        close = np.flatnonzero(bytes_ == _CLOSE_LIST)

        def values(column: Column, stops: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
            """(l,) Where the values of a key begin and end; at the end of the line where it has none."""
            start = _behind(bytes_, quote, keys.of[column].encode(), end, good)
            at = np.searchsorted(stops, start)
            good[:] &= at < len(stops)
            stop_at = np.append(stops, len(text))[at]
            good[:] &= stop_at < end
            return trimmed(bytes_, np.where(good, start, end), np.where(good, stop_at, end))

        def number(column: Column) -> NDArray[np.int64]:
            if column not in keys.of or (column is Column.RANK and self._has_lists):
                return np.zeros(len(end), np.int64)
            value, has = numbers(bytes_, *values(column, stop))
            good[:] &= has
            return value

        layer, step, token, rank = map(number, _NUMBERS)
        good &= (layer >= 0) & (layer < MAX_LAYERS)
        sequence = np.zeros(len(end), np.int64)
        if Column.SEQUENCE in keys.of:
            start, stop_at = values(Column.SEQUENCE, stop)
            sequence, has = numbers(bytes_, start, stop_at)
            for at in np.flatnonzero(good & ~has).tolist():
                sequence[at] = _number_of(
                    text[start[at] : stop_at[at]].strip(b'"').decode("utf-8", "replace")
                )
            sequence &= MAX_SEQUENCE
        phase = np.full(len(end), UNTOLD)
        if Column.PHASE in keys.of:
            start, stop_at = values(Column.PHASE, stop)
            quoted = (bytes_[start] == _QUOTE) & (stop_at - start > 1)
            phase = phases(bytes_, start + quoted, stop_at - quoted)
        phase[token < 0] = PREFILL
        if self._has_lists:
            start, stop_at = values(Column.EXPERTS, close)
            good &= bytes_[start] == _OPEN_LIST
            start = np.where(good, start + 1, end)
            experts, count = lists(bytes_, start, np.where(good, stop_at, end))
        else:
            experts, has = numbers(bytes_, *values(Column.EXPERTS, stop))
            good &= has
            count = np.ones(len(end), np.int64)
        weights = untold(experts)
        if self._wants_weights and Column.WEIGHTS in keys.of:
            start, stop_at = values(Column.WEIGHTS, close if self._has_lists else stop)
            if self._has_lists:
                good &= bytes_[start] == _OPEN_LIST
                start = np.where(good, start + 1, end)
            found, n_weights = float_lists(bytes_, start, np.where(good, stop_at, end))
            good &= n_weights == count
            weights[np.repeat(good, count)] = found[np.repeat(good, n_weights)]
        good[np.repeat(np.arange(len(end)), count)[(experts < -1) | (experts >= MAX_EXPERTS)]] = False
        good &= count > 0
        table = (layer, phase, sequence, step, token, rank, count)
        entries = np.repeat(good, count)
        told = Told.of([*(column[good] for column in table), experts[entries]], weights[entries])
        return told, good


def _behind(
    text: NDArray[np.uint8],
    quote: NDArray[np.intp],
    key: bytes,
    end: NDArray[np.int64],
    good: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """(l,) Where the values of a key begin; lines that do not have it once are taken out of `good` (l,)."""
    size = len(key)
    at = quote[:-1][quote[1:] - quote[:-1] == size + 1]
    for place in {0, size - 1, *range(size)}:
        at = at[text[at + 1 + place] == key[place]]
    at = at + size + 2
    for _ in range(2):  # before the colon and behind it
        while (blank := text[at] == _BLANK).any():
            at = at + blank
        if _ == 0:
            at = at[text[at] == _COLON] + 1
    line = np.searchsorted(end, at)
    good &= np.bincount(line, minlength=len(end)) == 1
    start = end.copy()
    start[line] = at
    return np.where(good, start, end)


def _rows(value: Mapping[str, Any], keys: _Keys) -> list[_Row]:
    """What an object tells; nothing if it is not well-formed."""
    given = {column: value[key] for column, key in keys.of.items()}
    experts = given[Column.EXPERTS]
    several = isinstance(experts, list)
    tokens = experts if several and experts and isinstance(experts[0], list) else [experts]
    layer = given[Column.LAYER]
    if several:
        given.pop(Column.RANK, None)
    whole = [given.get(column, 0) for column in (Column.STEP, Column.RANK)]
    token = given.get(Column.TOKEN, 0)
    numbered = token if isinstance(token, list) else [token] if len(tokens) == 1 else range(len(tokens))
    if len(numbered) != len(tokens) or not all(_is_number(number) for number in (layer, *whole, *numbered)):
        return []
    if not 0 <= layer < MAX_LAYERS:
        return []
    phase = phase_named(str(given.get(Column.PHASE, "")))
    sequence = given.get(Column.SEQUENCE, 0)
    sequence = (sequence if _is_number(sequence) else _number_of(str(sequence))) & MAX_SEQUENCE
    rows = []
    weights = given.get(Column.WEIGHTS)
    of_tokens = weights if isinstance(weights, list) and tokens is experts else [weights]
    for index, (at, ids) in enumerate(zip(numbered, tokens, strict=True)):
        of_token = ids if isinstance(ids, list) else [ids]
        if not of_token or not all(_is_number(expert) and -1 <= expert < MAX_EXPERTS for expert in of_token):
            return []
        beside = of_tokens[index] if index < len(of_tokens) else None
        beside = _weights(beside if isinstance(beside, list) else [beside], len(of_token))
        rows.append(
            _Row(layer, PREFILL if at < 0 else phase, sequence, whole[0], at, whole[1], of_token, beside)
        )
    return rows


def _weights(values: Sequence[object], count: int) -> Sequence[float]:
    """Those of so many experts; NaN if they are not told."""
    if len(values) != count or not all(isinstance(value, int | float) for value in values):
        return [math.nan] * count
    told = [float(value) for value in values if isinstance(value, int | float)]
    return told if all(map(math.isfinite, told)) else [math.nan] * count


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18


def _number_of(name: str) -> int:
    return zlib.crc32(name.encode())


def _told(rows: Sequence[_Row]) -> Told:
    table = np.array([row[:6] for row in rows], np.int64).reshape(-1, 6).T
    count = np.array([len(row.experts) for row in rows], np.int64)
    experts = np.array([expert for row in rows for expert in row.experts], np.int64)
    weights = np.array([weight for row in rows for weight in row.weights], np.float64)
    return Told.of([*table, count, experts], weights)


_NO_ROWS = _told([])


def _resumed(told: Mapping[str, str], lines: Sequence[bytes]) -> Dialect | None:
    return resumed(json_lines(told), partial(JsonLinesDecoder, told), lines)


def recognize(told: Mapping[str, str], lines: Sequence[bytes]) -> Fit:
    """Whether lines, without newlines, are of this dialect."""
    for line in lines:
        value = json_object(line)
        if value is not None and (keys := _Keys.among(list(value), told)).of and _rows(value, keys):
            return Fit.CERTAIN
    return Fit.NONE


def fault(line: bytes) -> str:
    """What is wrong with a malformed line, as far as that can be told."""
    if f'"{_DRAFT_HEAD}"'.encode() in line:
        return "of a draft head, whose layers are numbered as the model's"
    return "" if line.lstrip()[:1] == b"{" else "no JSON object"


def json_lines(told: Mapping[str, str]) -> Dialect:
    """The dialect, if its keys are called so; see `JsonLinesDecoder`."""
    return Dialect(
        name="json-lines",
        example='{"layer": 3, "token_idx": 0, "topk_ids": [51, 1], "topk_weights": [0.6, 0.4]}',
        recognize=partial(recognize, told),
        open=partial(JsonLinesDecoder, told),
        fault=fault,
        resumed=partial(_resumed, told),
        named=json_lines,
    )


DIALECTS = (json_lines({}),)
