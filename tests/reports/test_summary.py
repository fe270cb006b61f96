import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from moe_live.judgement import Subject
from moe_live.reports.summary import summary_lines, write_summary
from moe_live.snapshot import LayerUsage, Model, Snapshot, Usage
from tests.reports.snapshots import EMPTY, FULL, analyzed_with_labels, snapshots

GOLDEN = r"""
source: /logs/a.log
source: b\x1b[2J\udcff.log
bytes: 123456
lines: 1000
malformed lines: 3
malformed line: 3,1 x\x1b]0;\x07
malformed line: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy...
incomplete lines: 1 (7 bytes)
NUL bytes: 5
restarts: 1
rotations: 2
MoE layers: 4 (3-5, 9)
experts: 12
top-k: 2
gate layers: 2 (4-5)
n_embd: 8
row mode: auto
row check: some rows are wrong
rows logged: 100
rows counted: 60
rows recovered: 4
rows unrecoverable: 40
steps: 52 (prefill 2, decode 50)
tokens: 80 (prefill 30, decode 50)
warning: some rows are wrong
warning: 3 lines are malformed
verdict rows: strided; most prompt rows are not real selections, 40 of 100 rows left out, 4 recovered
verdict phase: guessed; steps of several tokens are taken for prefill, 2 prefill steps of 30 tokens, \
50 decode steps of 50 tokens; surer with a step of one token
verdict balance: too early to say; like 1.19 of 12 experts used alike, entropy 0.07 of 1, \
worst MaxVio 11 of at most 5 in layer 4, 26 of 36 unused (18.3 by chance); surer with 27 more tokens
verdict hot set: too early to say; 1 of 12 experts carry 90 %, 4 decode tokens, 1 to 1 by layer, \
1 carry 50 %, of decode: prompts are 0.73% of the selections; surer with 27 more tokens

experts are listed as expert=selections share
layer 3: selections 1627 (prefill 12, decode 1615), experts used 9 of 12
layer 3 top:  0=1504 92.44%   10=101 6.21%     4=10 0.61%      2=3 0.18%
layer 3 top:      3=3 0.18%      6=2 0.12%      7=2 0.12%      5=1 0.06%
layer 3 bottom:  3=3 0.18%  6=2 0.12%  7=2 0.12%  5=1 0.06%  8=1 0.06%
layer 3 unused:   1   9  11
layer 4: selections 7 (prefill 0, decode 7), experts used 1 of 12
layer 4 top:  5=7 100.00%
layer 4 bottom:  5=7 100.00%
layer 4 unused:   0-4  6-11
layer 5: selections 0 (prefill 0, decode 0), experts used 0 of 12
layer 5 unused:  0-11

overall: selections 1634 (prefill 12, decode 1622), experts used 9 of 12
overall top:  0=1504 92.04%   10=101 6.18%     4=10 0.61%      5=8 0.49%
overall top:      2=3 0.18%      3=3 0.18%      6=2 0.12%      7=2 0.12%
overall bottom:  2=3 0.18%  3=3 0.18%  6=2 0.12%  7=2 0.12%  8=1 0.06%
overall unused:   1   9  11

distances: 50 steps (decode)
distance 4-5: steps 50, undefined pearson 50, mean_abs_diff 1
distance 4-5                       mean      std      min      max     last
distance 4-5 cosine_similarity   0.9123     0.01     -0.5     0.99      0.9
distance 4-5 cosine_distance    0.08765     0.01     0.01      1.5      0.1
distance 4-5 euclidean            12346    1e-07    1e+20        3        0
distance 4-5 l2_normalized            1        0        1        1        1
distance 4-5 pearson                n/a      n/a      n/a      n/a      n/a
distance 4-5 mean_abs_diff          2.5      0.5        2        3      n/a
"""


def test_golden() -> None:
    out = io.StringIO()
    write_summary(FULL, out, top=8)
    golden = GOLDEN.lstrip().replace("\\\n", "")  # sentences are lines, however long they are
    assert out.getvalue().startswith(golden)


def test_every_section_has_its_lines() -> None:
    lines = list(summary_lines(analyzed_with_labels()))
    for prefix, count in (
        *[(f"verdict {subject}: ", 1) for subject in Subject],
        ("balance layer ", 4),
        ("balance overall", 1),
        ("hot set layer ", 4),
        ("budget ", 11),
        ("locality layer ", 4),
        ("cache layer ", 4),
        ("next layer  ", 4),
        ("pairs", 1),
        ("drift: ", 1),
        ("label code: ", 1),
        ("labels code and prose: ", 1),
    ):
        assert sum(line.startswith(prefix) for line in lines) >= count, prefix
    assert all(line.isprintable() for line in lines)


def test_nothing_read_is_a_summary_too() -> None:
    lines = list(summary_lines(EMPTY))
    assert "experts: n/a" in lines
    assert "steps: 0 (prefill 0, decode 0)" in lines
    assert not any(line.startswith(("layer", "overall", "distance")) for line in lines)


@given(snapshots())
def test_every_line_is_printable(snapshot: Snapshot) -> None:
    assert all(line.isprintable() for line in summary_lines(snapshot))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_output_encoding(encoding: str) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    write_summary(replace(FULL, warnings=("é → ☃",)), out)
    out.seek(0)
    warning = next(line for line in out.read().splitlines() if line.startswith("warning: "))
    assert warning.removeprefix("warning: ") == "é → ☃".encode(encoding, "backslashreplace").decode(encoding)


def test_large_models_fit_80_columns() -> None:
    counts = np.arange(10**8, 10**8 + 512)
    usage = Usage(counts, counts)
    large = replace(
        FULL,
        model=Model(tuple(range(3, 92)), 512, 22, tuple(range(20, 25)), 5120),
        layers=(LayerUsage(91, usage),),
        overall=usage,
    )
    lines = list(summary_lines(large))
    assert "MoE layers: 89 (3-91)" in lines
    top = [line for line in lines if line.startswith("layer 91 top: ")]
    assert sum(line.count("=") for line in top) == 10
    assert max(len(line) for line in lines if not line.startswith("verdict ")) <= 110
    assert max(map(len, top)) < 80
