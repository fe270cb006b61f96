"""What stands beside rows: lines that begin with a `#`, and the column of weights.

Grammar::

    label   := "# label:" NAME | "#label " NAME
    step    := "# step" [" pos=" N (" " N)*] [" seq=" N (" " N)*] [" out=" BIT (" " BIT)*] [" warmup=1"]
    dropped := "# dropped " N
    size    := "# layer=" N " expert_bytes=" N ANYTHING
    draft   := "# draft " LAYER
    comment := "#" ANYTHING ELSE
    expert  := LAYER "," ID (" " ID)* "," WEIGHT (" " WEIGHT)*

A step line stands before the first line of its step, and tells of each of its tokens the position in its
text, the sequence (which text that is), and whether the model's output is computed. `seq` or `out` with
another number of values than `pos` is not believed. A draft line says which layer is of a draft head. A
weight is a float as C's %g prints it; a line with another number of weights than experts is malformed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import accumulate

import numpy as np

from moe_live.dataclass import dataclass
from moe_live.formats.float_text import FloatTextParser
from moe_live.formats.records import RowWeights, StepMarks
from moe_live.settings import MAX_EXPERTS, MAX_LAYERS, MAX_TOP_K

MAX_LABEL = 64
"""Characters of a label that are kept."""

_COMMENT_PATTERN = rb"""^\#(?:
        (?:[ ]label:|label[ ])(?P<label>[^\n]*)
        |(?P<step>[ ]step)
            (?:[ ]pos=(?P<pos>[0-9]{1,10}(?:[ ][0-9]{1,10})*))?
            (?:[ ]seq=(?P<seq>[0-9]{1,10}(?:[ ][0-9]{1,10})*))?
            (?:[ ]out=(?P<out>[01](?:[ ][01])*))?
            (?P<warmup>[ ]warmup=1)?
        |[ ]dropped[ ](?P<dropped>[0-9]{1,9})
        |[ ]layer=(?P<layer>[0-9]{1,4})[ ]expert_bytes=(?P<size>[1-9][0-9]{0,14})(?![0-9])[^\n]*
        |[^\n]*
    )\n"""
_ROW_PATTERN = rb"""^(?P<row>[0-9]{1,4},[0-9]{1,4}(?:[ ][0-9]{1,4})*)(?P<weights>,[^\n,]+)\n"""
_ROW = re.compile(_ROW_PATTERN, re.VERBOSE)
_FOUR_DIGITS = re.compile(rb"[0-9]{4}")  # no smaller number is out of bounds


@dataclass(frozen=True, slots=True)
class Beside:
    """What stands beside the rows of some lines, and these lines without that.

    Attributes:
        others: the other lines, without weights.
        count: comments that are no labels.
        dropped: steps that they say were dropped.
        expert_bytes: the bytes of an expert, by layer, as far as they say it.
        labels: for each label the offset in `others` from which on it holds, and its name.
        offsets: for each of `marks` the offset in `others` at which the step begins.
        marks: what step lines tell; their places are not known yet.
        weighted: for each of `weights` the offsets in `others` of its line and of the next one.
        weights: their rows are not known yet.
    """

    others: bytes
    count: int
    dropped: int
    expert_bytes: Mapping[int, int]
    labels: Sequence[tuple[int, str]]
    offsets: Sequence[int]
    marks: StepMarks
    weighted: Sequence[tuple[int, int]]
    weights: RowWeights


@cache
def _beside_rows(*, weights: bool) -> re.Pattern[bytes]:
    """What is told from rows: comments, and weights where there are some. Most logs have neither."""
    pattern = _COMMENT_PATTERN + b"|" + _ROW_PATTERN if weights else _COMMENT_PATTERN
    return re.compile(pattern, re.MULTILINE | re.VERBOSE)


def has_weights(line: bytes | memoryview) -> bool:
    """Whether a line, with its newline, seems to be a row with weights: a number for each expert.

    Two rows that were joined are none. To look for weights in all that follows takes longer than all else.
    """
    found = _ROW.fullmatch(line)
    return found is not None and found["row"].count(b" ") == found["weights"].count(b" ")


def take_apart(
    text: bytes | bytearray, start: int, end: int, floats: FloatTextParser | None = None
) -> Beside:
    """Tell the complete lines ``text[start:end]`` from what stands beside rows.

    Args:
        text: of the log.
        start: where the lines begin.
        end: where they end.
        floats: parses weights; None if there are none.
    """
    found = list(_beside_rows(weights=floats is not None).finditer(text, start, end))
    weights = RowWeights.none()
    if floats is not None:
        found, weights = _with_good_weights(text, found, floats)
    spans = [one.span("weights" if one.lastgroup == "weights" else 0) for one in found]
    bounds = [start, *(bound for span in spans for bound in span), end]
    view = memoryview(text)
    others = [view[begin:stop] for begin, stop in zip(bounds[::2], bounds[1::2], strict=True)]
    offsets = list(accumulate(map(len, others)))
    labels, steps, weighted, dropped, sizes = [], [], [], 0, dict[int, int]()
    for offset, comment in zip(offsets, found, strict=False):
        kind = comment.lastgroup
        if kind == "weights":
            weighted.append((offset - len(comment["row"]), offset + 1))
        elif kind == "label":
            labels.append((offset, comment["label"].decode("utf-8", "replace").strip()[:MAX_LABEL]))
        elif kind == "dropped":
            dropped += int(comment["dropped"])
        elif kind == "size":
            if (layer := int(comment["layer"])) < MAX_LAYERS:
                sizes[layer] = int(comment["size"])
        elif kind is not None:
            steps.append((offset, comment))
    return Beside(
        others=b"".join(others),
        count=len(found) - len(labels) - len(weighted),
        dropped=dropped,
        expert_bytes=sizes,
        labels=labels,
        offsets=[offset for offset, _ in steps],
        marks=_marks([comment for _, comment in steps]) if steps else StepMarks.none(),
        weighted=weighted,
        weights=weights,
    )


def _with_good_weights(
    text: bytes | bytearray, found: list[re.Match[bytes]], floats: FloatTextParser
) -> tuple[list[re.Match[bytes]], RowWeights]:
    """What was found without rows that are malformed, which are left whole, and the weights of the others."""
    rows = [one for one in found if one.lastgroup == "weights"]
    parsed = floats.parse(text, [(one.start("weights") + 1, one.end("weights")) for one in rows])
    width = np.array([one["row"].count(b" ") + 1 for one in rows], np.int64)
    good = parsed.good & (parsed.width == width) & (width <= MAX_TOP_K)
    good[[i for i, one in enumerate(rows) if _is_beyond(one["row"])]] = False
    values = parsed.values[np.repeat(good, parsed.width)]
    bad = {one.start() for one, is_good in zip(rows, good.tolist(), strict=True) if not is_good}
    kept = [one for one in found if one.start() not in bad] if bad else found
    return kept, RowWeights(np.zeros(int(good.sum()), np.int64), width[good], values.copy())


def _is_beyond(row: bytes) -> bool:
    """Whether a layer or an expert is out of bounds."""
    if _FOUR_DIGITS.search(row) is None:
        return False
    layer, _, experts = row.partition(b",")
    return int(layer) >= MAX_LAYERS or max(map(int, experts.split(b" "))) >= MAX_EXPERTS


def _marks(lines: Sequence[re.Match[bytes]]) -> StepMarks:
    """What step lines tell; their places are left out."""
    told = [line.group("pos", "seq", "out", "warmup") for line in lines]
    tokens = np.array([0 if pos is None else pos.count(b" ") + 1 for pos, _, _, _ in told])
    starts = (np.cumsum(tokens) - tokens).tolist()
    n = int(tokens.sum())
    columns = np.full((3, n), -1)
    for column, values in enumerate(zip(*(row[:3] for row in told), strict=True)):
        given = [
            (start, count, text)
            for start, count, text in zip(starts, tokens.tolist(), values, strict=True)
            if text is not None and text.count(b" ") + 1 == count
        ]
        numbers = list(map(int, b" ".join([text for _, _, text in given]).split()))
        if len(numbers) == n:
            columns[column] = numbers
            continue
        done = 0
        for start, count, _ in given:
            columns[column, start : start + count] = numbers[done : done + count]
            done += count
    position, sequence, output = columns
    return StepMarks(
        place=np.zeros(len(lines), np.int64),
        warmup=np.array([warmup is not None for _, _, _, warmup in told]),
        kind=np.full(len(lines), -1, np.int8),
        tokens=tokens,
        position=position,
        sequence=sequence,
        output=output.astype(np.int8),
    )
