"""Lines that name what follows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moe_live.formats.comments import MAX_LABEL
from moe_live.formats.llama_server import LlamaServerDecoder

TEXT = (
    b"layer_id,expert_ids\n1,2 3\n# label: code \n2,3 4\n1,4 5\n# label: first\n# label:math\r\n"
    b"gate_input,1,0,0.5\n#label no \n # label: no\n# step pos=3 \0\n# label: poem\ngate_input,1,1,1.5 2\n"
    b"3,2 3 4\ngate_input,2,0,x\ngate_input,2,0,0.5\n# label: prose\ngate_input,2,0,0.5 1\n"
    b"2,1\n# label: caf\xc3\xa9\n"
)


def labelled_layers(chunks: list[bytes]) -> tuple[list[tuple[str | None, int]], LlamaServerDecoder]:
    """The label in force at each expert row and gate line, in order."""
    decoder = LlamaServerDecoder(every_row=True)
    label: str | None = None
    found = []
    for chunk in chunks:
        for records in decoder.feed(chunk):
            lines = np.insert(records.layer, records.gates.position, records.gates.layer).tolist()
            labels = dict(records.labels)
            for line, layer in enumerate(lines):
                label = labels.get(line, label)
                found.append((label, layer))
            label = labels.get(len(lines), label)
    return found, decoder


@given(st.lists(st.integers(0, len(TEXT)), max_size=10))
def test_labels_hold_from_their_line_on_however_the_log_is_cut(cuts: list[int]) -> None:
    chunks = [TEXT[a:b] for a, b in pairwise([0, *sorted(cuts), len(TEXT)])]
    found, decoder = labelled_layers(chunks)
    names = [None, "code", "code", "math", "poem", "poem", "poem", "prose", "prose"]
    assert found == list(zip(names, [1, 2, 1, 1, 1, 3, 2, 2, 2], strict=True))
    tally = decoder.tally
    assert (tally.label_lines, tally.comment_lines, tally.header_lines, tally.malformed_lines) == (7, 1, 1, 2)
    assert tally.lines == 7 + 1 + 1 + 2 + len(found)


def test_a_label_is_cut_to_a_bounded_length() -> None:
    found, _ = labelled_layers([b"# label: " + b"x" * 1000 + b"\n1,2\n"])
    assert found == [("x" * MAX_LABEL, 1)]
