"""Lines that begin with a `#`: labels, what is told of steps, and what only people read.

Grammar::

    label   := "# label:" NAME | "#label " NAME
    step    := "# step" [" pos=" N (" " N)*] [" seq=" N (" " N)*] [" out=" BIT (" " BIT)*] [" warmup=1"]
    dropped := "# dropped " N
    comment := "#" ANYTHING ELSE

A step line stands before the first line of its step, and tells of each of its tokens the position in its
text, the sequence (which text that is), and whether the model's output is computed. `seq` or `out` with
another number of values than `pos` is not believed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from moe_live.formats.records import StepMarks

MAX_LABEL = 64
"""Characters of a label that are kept."""

_COMMENT = re.compile(
    rb"""^\#(?:
        (?:[ ]label:|label[ ])(?P<label>[^\n]*)
        |(?P<step>[ ]step)
            (?:[ ]pos=(?P<pos>[0-9]{1,10}(?:[ ][0-9]{1,10})*))?
            (?:[ ]seq=(?P<seq>[0-9]{1,10}(?:[ ][0-9]{1,10})*))?
            (?:[ ]out=(?P<out>[01](?:[ ][01])*))?
            (?P<warmup>[ ]warmup=1)?
        |[ ]dropped[ ](?P<dropped>[0-9]{1,9})
        |[^\n]*
    )\n""",
    re.MULTILINE | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Comments:
    """The comments of some lines, and these lines without them.

    Attributes:
        others: the other lines.
        count: comments that are no labels.
        dropped: steps that they say were dropped.
        labels: for each label the offset in `others` from which on it holds, and its name.
        offsets: for each of `marks` the offset in `others` at which the step begins.
        marks: what step lines tell; their places are not known yet.
    """

    others: bytes
    count: int
    dropped: int
    labels: Sequence[tuple[int, str]]
    offsets: Sequence[int]
    marks: StepMarks


def without_comments(text: bytes | bytearray, start: int, end: int) -> Comments:
    """Take the comments out of the complete lines ``text[start:end]``."""
    found = list(_COMMENT.finditer(text, start, end))
    bounds = [start, *(bound for comment in found for bound in comment.span()), end]
    view = memoryview(text)
    others = [view[begin:stop] for begin, stop in zip(bounds[::2], bounds[1::2], strict=True)]
    offsets = list(accumulate(map(len, others)))
    labels, steps, dropped = [], [], 0
    for offset, comment in zip(offsets, found, strict=False):
        kind = comment.lastgroup
        if kind == "label":
            labels.append((offset, comment["label"].decode("utf-8", "replace").strip()[:MAX_LABEL]))
        elif kind == "dropped":
            dropped += int(comment["dropped"])
        elif kind is not None:
            steps.append((offset, comment))
    return Comments(
        others=b"".join(others),
        count=len(found) - len(labels),
        dropped=dropped,
        labels=labels,
        offsets=[offset for offset, _ in steps],
        marks=_marks([comment for _, comment in steps]) if steps else StepMarks.none(),
    )


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
        tokens=tokens,
        position=position,
        sequence=sequence,
        output=output.astype(np.int8),
    )
