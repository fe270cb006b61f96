"""Tables: the same rows have the same figures, whatever columns are called and however lines are ordered."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_live.cli import main
from moe_live.formats.dialect import Fit
from moe_live.formats.records import LineTally
from moe_live.formats.table import Header, table
from moe_live.snapshot import Snapshot
from tests.analysis import snapshot_of
from tests.comparison import plain
from tests.formats.written import (
    TELL_STEPS,
    TELL_TOKENS,
    TELL_WEIGHTS,
    WRITERS,
    Row,
    in_any_order,
    llama_server,
    rows_of_a_model,
    token_by_token,
)


def figures(snapshot: Snapshot) -> object:
    """All but what tells where they come from, and what no other dialect tells."""
    source, model = (
        replace(snapshot.input, tally=LineTally(), format=""),
        replace(snapshot.model, expert_bytes={}),
    )
    return plain(replace(snapshot, input=source, model=model))


def written(name: str, rows: list[Row]) -> object:
    """The figures of rows in a dialect."""
    write, dialect = WRITERS[name]
    snapshot = snapshot_of(write(rows).encode())
    assert snapshot.input.format == dialect
    assert snapshot.input.tally.malformed_lines == 0
    return figures(snapshot)


@settings(max_examples=10)
@given(rows_of_a_model())
@pytest.mark.parametrize("name", WRITERS)
def test_rows_in_any_dialect_have_the_figures_of_those_in_a_log_of_llama_server(
    name: str, rows: list[Row]
) -> None:
    assert written(name, rows) == figures(
        snapshot_of(llama_server(rows, weights=name in TELL_WEIGHTS).encode())
    )


@settings(max_examples=10)
@given(rows_of_a_model(apart=True))
@pytest.mark.parametrize("name", TELL_TOKENS)
def test_a_log_may_be_written_token_by_token(name: str, rows: list[Row]) -> None:
    assert written(name, token_by_token(rows)) == written(name, rows)


@settings(max_examples=10)
@given(rows_of_a_model())
@pytest.mark.parametrize("name", TELL_STEPS)
def test_where_steps_are_told_the_order_within_one_is_free(name: str, rows: list[Row]) -> None:
    assert written(name, in_any_order(rows)) == written(name, rows)


@settings(max_examples=40)
@given(st.sampled_from(sorted(WRITERS)), rows_of_a_model(), st.data())
def test_a_log_may_be_cut_anywhere(name: str, rows: list[Row], data: st.DataObject) -> None:
    """Junk, labels, headers that come again and a cut last line included."""
    write, _ = WRITERS[name]
    lines = write(rows).encode().splitlines(keepends=True)
    again = lines[min(2, len(lines) - 1)]  # the header of a table with a preamble
    for extra in data.draw(
        st.lists(
            st.sampled_from(
                [b"junk\n", b"\n", b"#label a b\n", b"# note\n", b"1,2\n", b'{"a": [\n', b"again"]
            ),
            max_size=4,
        )
    ):
        lines.insert(data.draw(st.integers(0, len(lines))), again if extra == b"again" else extra)
    text = b"".join(lines)[: -data.draw(st.integers(1, 9))]
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    cut = [text[begin:end] for begin, end in zip([0, *places], [*places, len(text)], strict=True)]
    whole = snapshot_of(text)
    assert plain(snapshot_of(*cut)) == plain(whole)
    assert plain(snapshot_of(*(bytes([byte]) for byte in text[:100]), text[100:])) == plain(whole)


def test_the_published_trace_has_its_published_figures(real_logs: Path) -> None:
    path = real_logs / "qwen3-30b-a3b.route.csv.gz"
    snapshot = snapshot_of(gzip.decompress(path.read_bytes()))
    assert (snapshot.input.format, snapshot.steps.prefill, snapshot.steps.decode) == ("table", 1, 128)
    assert snapshot.tokens.prefill == 28
    layers = snapshot.locality or ()
    overlap = np.mean([[layer.overlap[lag] for lag in (1, 2, 4, 8)] for layer in layers], axis=0)
    assert np.round(100 * overlap, 1).tolist() == [38.0, 28.9, 27.7, 26.7]


def test_a_trace_of_single_choices_is_not_accused(capsys: pytest.CaptureFixture[str]) -> None:
    """300 tokens, layers 3 to 18, top-6: one line a choice."""
    shared = Path(__file__).parents[3] / "shared" / "cases" / "k01_layer_expert.csv.gz"
    if not shared.exists():
        pytest.skip("no ../shared/cases")
    assert main([str(shared), "--json", "-"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["source"]["format"] == "table"
    assert summary["model"]["top_k"] == 6
    assert (summary["rows"]["logged"], summary["rows"]["counted"]) == (4800, 4800)
    assert summary["steps"] == {"total": 300, "prefill": 0, "decode": 300}


def strided(tokens: int, n_experts: int, top_k: int, rng: np.random.Generator) -> np.ndarray:
    """(tokens * top_k,) What a flat read of a block's rankings gives."""
    rankings = rng.permuted(np.tile(np.arange(n_experts), (tokens, 1)), axis=1)
    return rankings.reshape(-1)[: tokens * top_k]


def test_flat_reads_are_found_in_single_choices_too() -> None:
    rng = np.random.default_rng(5)
    lines = ["layer,expert"]
    for tokens in [200, 1, 1, 90, *[1] * 20]:
        for layer in range(4):
            lines += [f"{layer},{expert}" for expert in strided(tokens, 64, 6, rng)]
    snapshot = snapshot_of("".join(f"{line}\n" for line in lines).encode())
    assert snapshot.rows.strided is True
    assert snapshot.rows.recovered == 4 * ((199 * 6) // 64 + (89 * 6) // 64)


def test_empty_slots_leave_the_others_and_rows_without_any_are_counted() -> None:
    snapshot = snapshot_of(b"layer,token,experts\n0,0,4 -1 2\n1,0,-1 -1 -1\n0,1,-1 -1 7\n1,1,1 2 3\n")
    assert (snapshot.input.tally.empty_rows, snapshot.input.tally.empty_slots) == (1, 6)
    assert snapshot.model.top_k == 3
    assert [warning for warning in snapshot.warnings if "top-k changes" in warning] == []
    assert any("that are empty (-1): 6;" in warning for warning in snapshot.warnings)
    assert snapshot.input.tally.malformed_lines == 0
    assert [np.flatnonzero(layer.usage.counts).tolist() for layer in snapshot.layers] == [
        [2, 4, 7],
        [1, 2, 3],
    ]


@pytest.mark.parametrize(
    ("line", "known"),
    [
        (b"layer,expert", True),
        (b"Layer-ID\tExpert_IDs", True),
        (b"layer;weights;ids", True),
        (b"pos layer id0 id1", True),
        (b"layer_id,expert_id,count", False),  # no rows
        (b"layer_id,expert_ids", False),  # llama-server's own
        (b"3,51 1 12", False),
        (b"layer,name", False),
        (b"layer,layer_id,expert", False),
        (b"", False),
    ],
)
def test_a_table_is_known_by_its_header(line: bytes, known: bool) -> None:
    assert (table({}).recognize([b"# preamble", line]) is Fit.CERTAIN) is known


def test_columns_can_be_told() -> None:
    assert Header.of(b"L,sel", {}) is None
    header = Header.of(b"L,sel,layer", {"layer": "L", "experts": "sel"})
    assert header is not None
    assert header.columns == {"layer": [0], "experts": [1]}
