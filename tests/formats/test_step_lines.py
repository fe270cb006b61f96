"""Lines that tell what stands in the steps that begin there."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.formats.llama_server import LlamaServerDecoder
from moe_live.formats.records import LineTally

TEXT = (
    b"# moe-live tap 1\nlayer_id,expert_ids\n# step pos=17 104 5 seq=0 2 1 out=1 1 0\n1,2 3\n1,4 5\n1,6 7\n"
    b"# step pos=18\r\ngate_input,1,0,0.5\n1,2 3\n# step warmup=1\n# label: x\n1,2 3\n2,3 4\n"
    b"# step pos=3 4 seq=1 out=0 1\ngate_input,1,0,0.5 1\n# dropped 12\n# step pos=0 out=1 warmup=1\n1,2\n"
    b"# step pos=x\n# step  pos=1\n# step pos=1 seq=\n# dropped many\n# step pos=7 seq=3\n"
)
EXPECTED = [
    (0, (17, 104, 5), (0, 2, 1), (1, 1, 0), False),
    (3, (18,), (-1,), (-1,), False),
    (5, (), (), (), True),
    (7, (3, 4), (-1, -1), (0, 1), False),
    (8, (0,), (-1,), (1,), True),
    (9, (7,), (3,), (-1,), False),
]


def marks_of(chunks: list[bytes]) -> tuple[list[object], LineTally]:
    """Each mark with the number of rows and gate lines before it."""
    decoder = LlamaServerDecoder(every_row=True)
    found: list[object] = []
    before = 0
    for chunk in chunks:
        for records in decoder.feed(chunk):
            marks = records.marks
            first = 0
            for place, warmup, tokens in zip(
                marks.place.tolist(), marks.warmup.tolist(), marks.tokens.tolist(), strict=True
            ):
                of_step = slice(first, first := first + tokens)
                columns = (marks.position, marks.sequence, marks.output)
                found.append(
                    (before + place, *(tuple(column[of_step].tolist()) for column in columns), warmup)
                )
            before += len(records.layer) + len(records.gates.layer)
    return found, decoder.tally


@given(st.lists(st.integers(0, len(TEXT)), max_size=10))
def test_what_they_tell_however_the_log_is_cut(cuts: list[int]) -> None:
    found, tally = marks_of([TEXT[a:b] for a, b in pairwise([0, *sorted(cuts), len(TEXT)])])
    assert found == EXPECTED
    assert (tally.comment_lines, tally.label_lines, tally.dropped_steps) == (12, 1, 12)
    assert (tally.malformed_lines, tally.lines) == (0, 12 + 1 + 1 + 9)


@pytest.mark.parametrize("line", [b"#", b"# step", b"#step pos=1", b"# step pos=1 ", b"# dropped 1 2"])
def test_other_comments_tell_nothing(line: bytes) -> None:
    found, tally = marks_of([line + b"\n3,1\n"])
    assert [mark for mark in found if mark != (0, (), (), (), False)] == []
    assert (tally.comment_lines, tally.malformed_lines, tally.dropped_steps) == (1, 0, 0)
