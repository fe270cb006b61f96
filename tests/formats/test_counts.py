"""Counts without rows: how often experts are used is known, and all else said not to be."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_live.cli import main
from moe_live.formats.counts import MAX_COUNT
from moe_live.settings import Phase, Settings
from moe_live.verdicts import verdicts
from tests.analysis import analyzed, snapshot_of
from tests.comparison import plain
from tests.formats.written import Row, llama_server, rows_of_a_model

Counts = list[tuple[int, int, int]]

WAYS = {
    "sglang": ("layer_id,expert_id,count\n", "{},{},{}\n"),
    "semicolons": ("Count;note;Expert-ID;il\n".replace("Count", "selections"), "{2};a b;{1};{0}\n"),
    "blanks": ("layer expert count\n", "  {}   {} {}\n"),
    "no header": ("", "{} {} {}\n"),
    "tabulators": ("", "{}\t{}\t{}\n"),
    "objects": ("", '{{"expert": {1}, "layer": {0}, "count": {2}}}\n'),
}


def written(way: str, counts: Counts) -> bytes:
    header, line = WAYS[way]
    return (header + "".join(line.format(*each) for each in counts)).encode()


def counts_of(rows: list[Row]) -> Counts:
    found = Counter((row.layer, expert) for row in rows for expert in row.experts)
    return [(layer, expert, n) for (layer, expert), n in found.items()]


@settings(max_examples=settings().max_examples // 2)
@given(rows_of_a_model(), st.sampled_from(sorted(WAYS)), st.data())
def test_use_balance_and_hot_set_are_those_of_the_rows(
    rows: list[Row], way: str, data: st.DataObject
) -> None:
    counts = counts_of(rows)
    random.Random(3).shuffle(counts)
    text = written(way, counts)
    snapshot, of_rows = snapshot_of(text), snapshot_of(llama_server(rows).encode())
    assert snapshot.input.format == "counts"
    assert snapshot.input.tally.malformed_lines == 0
    assert np.array_equal(snapshot.counts, of_rows.counts)
    assert np.array_equal(snapshot.coverage, of_rows.coverage)
    assert [layer.entropy for layer in snapshot.balance] == [layer.entropy for layer in of_rows.balance]
    assert (snapshot.rows.logged, snapshot.steps.total, snapshot.tokens.total) == (0, 0, 0)
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    cut = [text[begin:end] for begin, end in zip([0, *places], [*places, len(text)], strict=True)]
    assert plain(snapshot_of(*cut)) == plain(snapshot)


def test_of_which_phase_they_are_is_not_known() -> None:
    text = written("sglang", [(3, 1, 5), (4, 7, 1)])
    snapshot = analyzed([text], Settings(phase=Phase.PREFILL)).snapshot()
    assert (snapshot.phase, snapshot.overall.selections) == (None, 6)


def test_layers_that_are_not_chosen_are_left_out() -> None:
    text = written("sglang", [(3, 1, 5), (4, 7, 1)])
    assert analyzed([text], Settings(layers=frozenset({4}))).snapshot().model.layers == (4,)


def test_files_add_up() -> None:
    first, second = written("sglang", [(3, 1, 5), (3, 7, 1)]), written("blanks", [(3, 1, 2), (9, 0, 4)])
    both = analyzed([first])
    both += analyzed([second])
    snapshot = both.snapshot()
    assert snapshot.model.layers == (3, 9)
    assert snapshot.counts.tolist() == [[0, 7, 0, 0, 0, 0, 0, 1], [4, 0, 0, 0, 0, 0, 0, 0]]


def test_all_else_says_that_there_are_no_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = [(layer, expert, 100 + expert) for layer in (3, 4) for expert in range(16)]
    path = tmp_path / "counts.csv"
    path.write_bytes(written("sglang", counts))
    judged = {judgement.subject: judgement for judgement in verdicts(snapshot_of(path.read_bytes()))}
    assert len(judged) == 9
    for subject, judgement in judged.items():
        says_so = "no rows in this input" in judgement.facts
        assert says_so is (subject not in {"balance", "hot set"})
    assert main([str(path), "--json", "-"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["rows"]["verdict"] == "no rows in this input"
    assert summary["warnings"] == [
        "no rows in this input: it tells how often each expert was chosen, not when or with which others"
    ]
    assert summary["layers"][0]["balance"]["dead_expected"] is None  # that takes the number of tokens
    assert main([str(path), "--full"]) == 0
    text = capsys.readouterr().out
    assert "layer 3: selections 1,720, experts used 16 of 16" in text
    assert "Traceback" not in text + capsys.readouterr().err


@pytest.mark.parametrize(
    "line", ["3,1", "3,1,x", "3,1,-2", "3,-1,2", "99999,1,2", f"3,1,{MAX_COUNT}", "3,1,2,4", "", "3,1,2.5"]
)
def test_what_no_count_is_is_malformed(line: str) -> None:
    snapshot = snapshot_of(f"layer_id,expert_id,count\n3,1,2\n{line}\n4,1,7\n".encode())
    assert snapshot.input.tally.malformed_lines == 1
    assert snapshot.counts.tolist() == [[0, 2], [0, 7]]


@pytest.mark.parametrize(
    ("text", "format_"),
    [
        ('{"layer": 3, "count": 2, "experts": [1, 4]}\n', "json-lines"),  # how many there are
        ("layer,count,expert_ids\n3,2,1 4\n", "table"),
        ("3 1 5\n3 1 7\n", "llama-server"),  # an expert is counted once
        ("3 1 5\nlistening\n", "llama-server"),
    ],
)
def test_what_only_looks_like_counts_is_none(text: str, format_: str) -> None:
    assert snapshot_of(text.encode()).input.format == format_
