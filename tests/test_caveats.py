"""Every trap a log can hold is named, and a healthy log has none."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from numpy.typing import NDArray

from moe_live.analyzer import Analyzer
from moe_live.settings import RowMode, Settings
from moe_live.snapshot import Snapshot

N_EXPERTS, TOP_K, LAYERS = 32, 4, (2, 3, 4)


def analyzed(text: bytes, settings: Settings | None = None) -> Snapshot:
    analyzer = Analyzer(settings)
    analyzer.feed(text)
    analyzer.finish()
    return analyzer.snapshot()


def step(rows: Iterable[Iterable[int]], layers: Iterable[int] = LAYERS) -> bytes:
    """The same rows in every layer."""
    lines = [" ".join(map(str, row)) for row in rows]
    return "".join(f"{layer},{line}\n" for layer in layers for line in lines).encode()


def rankings(rng: np.random.Generator, rows: int, n_experts: int = N_EXPERTS) -> NDArray[np.int64]:
    return rng.permuted(np.tile(np.arange(n_experts), (rows, 1)), axis=1)


def draw(rng: np.random.Generator, rows: int, n_experts: int = N_EXPERTS) -> list[list[int]]:
    chosen: list[list[int]] = rng.permuted(np.tile(np.arange(n_experts), (rows, 1)), axis=1)[
        :, :TOP_K
    ].tolist()
    return chosen


def strided(ranked: NDArray[np.int64]) -> list[list[int]]:
    """What the logger writes that ignores the row stride."""
    return ranked.reshape(-1)[: len(ranked) * TOP_K].reshape(-1, TOP_K).tolist()


def decode(seed: int = 0, steps: int = 200) -> bytes:
    rng = np.random.default_rng(seed)
    return b"".join(step(draw(rng, 1), [layer]) for _ in range(steps) for layer in LAYERS)


def warned(text: bytes, settings: Settings | None = None) -> str:
    return "\n".join(analyzed(text, settings).warnings)


def test_a_healthy_log_has_no_warning() -> None:
    assert warned(decode()) == ""


def test_malformed_lines() -> None:
    assert "1 of 601 lines are malformed" in warned(decode() + b"3,x\n")


def test_a_hole() -> None:
    assert "5 NUL bytes skipped" in warned(b"\0" * 5 + decode())


def test_a_single_layer() -> None:
    assert "rows of one layer only (7)" in warned(step(draw(np.random.default_rng(0), 300), [7]))


def test_runs_of_equal_rows() -> None:
    dummy = step([[9, 8, 7, 6]] * 100)
    assert "300 of 900 rows stand in runs of equal rows, the longest of 100" in warned(dummy + decode())
    assert "runs of equal rows" not in warned(step([[9, 8, 7, 6]] * 20) + decode())


def test_identity_rows() -> None:
    text = decode() + b"".join(step([[0, 1, 2, 3]], [layer]) for layer in (2, 4))
    assert "2 rows in layers 2, 4 read 0 1 2 … in order" in warned(text)


def test_identity_rows_of_two_experts_are_no_news() -> None:
    text = b"".join(b"%d,%d %d\n" % (layer, a, (a + 1) % 8) for a in range(8) for layer in (1, 2)) * 50
    assert warned(text) == ""
    assert "read 0 1" in warned(text + b"1,0 1\n2,0 1\n" * 1000)


def test_rows_that_name_an_expert_twice() -> None:
    assert "3 of 603 rows name an expert twice" in warned(decode() + step([[5, 6, 5, 7]]))


def test_a_top_k_that_changes() -> None:
    assert "top-k changes in this log: 2 (3 lines), 4 (600 lines)" in warned(decode() + step([[5, 6]]))


def test_layers_with_fewer_experts() -> None:
    rng = np.random.default_rng(1)
    rows = [(draw(rng, 1, n_experts=16), draw(rng, 1)) for _ in range(200)]
    text = b"".join(step(small, [1]) + step(large, [2]) for small, large in rows)
    assert "some layers seem to have fewer experts than 32: 16 (layers 1); load balance" in warned(text)
    snapshot = analyzed(text)
    assert snapshot.layer_sizes == (16, 32)
    assert [figures.dead_experts for figures in snapshot.balance] == [0, 0]
    assert snapshot.balance[0].max_violation_bound == 16 / TOP_K - 1


def test_a_shared_expert_is_named_as_such() -> None:
    rng = np.random.default_rng(1)
    rows = [[*draw(rng, 1)[0], N_EXPERTS] for _ in range(200 * len(LAYERS))]
    text = b"".join(step([row], [layer]) for row, layer in zip(rows, LAYERS * 200, strict=True))
    assert "expert 32 is in every row of every layer: a shared expert" in warned(text)
    assert "shared expert" not in warned(decode())
    assert "shared expert" not in warned(step([[5, 6, 7, 8]]) * 100)


def test_routers_that_always_choose_one_expert() -> None:
    rng = np.random.default_rng(1)
    rows = [[0, *(1 + expert for expert in draw(rng, 1, N_EXPERTS - 1)[0][1:])] for _ in range(600)]
    text = b"".join(step([row], [layer]) for row, layer in zip(rows, LAYERS * 200, strict=True))
    assert "expert 0 is in every row of every layer: every router has collapsed onto it" in warned(text)


def test_interleaved_generations() -> None:
    rng = np.random.default_rng(2)
    several = b"".join(step(draw(rng, 2), [layer]) for _ in range(10) for layer in LAYERS)
    assert "10 of 210 decode steps have several tokens" in warned(decode() + several)


def test_too_few_tokens() -> None:
    assert "figures rest on 5 tokens" in warned(decode(steps=5))


def test_gate_lines_of_prompts_alone() -> None:
    text = b"".join(b"gate_input,%d,%d,0.5 1.5\n" % (layer, row) for layer in (4, 5) for row in range(3))
    assert "gate lines only" in warned(text * 2)


@pytest.mark.parametrize("include_prompt", [False, True])
def test_gate_inputs_of_the_last_layer_in_prompts(*, include_prompt: bool) -> None:
    gate_lines = b"gate_input,3,0,0.5 1.5\ngate_input,3,1,0.5 1.5\n"
    one_row = b"gate_input,4,0,0.5 1.5\n4,1 2 3 5\n"
    prompt = b"2,1 2 3 4\n" * 2 + gate_lines + b"3,1 2 3 5\n" * 2 + one_row
    settings = Settings(include_prompt=include_prompt)
    assert ("mix tokens" in warned(decode() + prompt, settings)) is include_prompt


@pytest.mark.parametrize("mode", list(RowMode))
def test_strided_rows_are_told_in_one_sentence_with_numbers(mode: RowMode) -> None:
    rng = np.random.default_rng(3)
    blocks = [step(strided(rankings(rng, 100)), [layer]) for layer in LAYERS]
    rows = analyzed(b"".join(blocks) + decode(), Settings(rows=mode)).rows
    recovered = (99 * TOP_K) // N_EXPERTS
    assert rows.strided is True
    assert rows.logged == 900
    assert rows.recovered == 3 * recovered
    assert rows.unrecoverable == 3 * (99 - recovered)
    assert rows.counted == (900 if mode is RowMode.LOGGED else 900 - rows.unrecoverable)
    for number in (rows.unrecoverable, rows.logged, rows.recovered if mode is not RowMode.LOGGED else 900):
        assert f"{number:,}" in rows.verdict


def test_the_verdict_may_come_late_and_then_holds_for_all() -> None:
    rng = np.random.default_rng(4)
    prompt = b"".join(step(strided(rankings(rng, 64)), [layer]) for layer in LAYERS)
    late, early = analyzed(decode() + prompt), analyzed(prompt + decode())
    assert late.rows == early.rows
    assert [entry.usage.counts.tolist() for entry in late.layers] == [
        entry.usage.counts.tolist() for entry in early.layers
    ]


def test_rows_of_more_experts_than_any_model_chooses() -> None:
    long = step([range(65)] * 3, [2])
    assert "3 rows name more than 64 experts: pairs and the next layer are told without them" in warned(long)
    assert "rows name more than" not in warned(step([range(64)] * 3, [2]))
    both = analyzed(decode() + step([range(1000, 1065)]) + decode(1))
    assert both.left_out == frozenset()
    assert (both.pairs or {})[2].rows == 400
    assert [pair.tokens for pair in both.transitions or ()] == [400, 400]


def test_too_many_experts_for_their_pairs() -> None:
    experts = range(0, 2048, 32)  # one in each block of columns
    text = b"".join(step([[expert]]) for expert in experts)
    told = "3 layers of 2,017 experts are too many to tell which are chosen together and which follow in"
    assert told in warned(text)
    snapshot = analyzed(text)
    assert (snapshot.pairs, snapshot.transitions) == ({}, ())
    assert snapshot.locality
    few = analyzed(b"".join(step([[expert]]) for expert in [*experts][:32]))
    assert set(few.pairs or {}) == set(LAYERS)
    assert few.transitions
