"""Which steps count: all, those of prompts, or those that generate."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.analyzer import Analyzer
from moe_live.cli import main
from moe_live.reports.json_report import to_json
from moe_live.reports.summary import summary_lines
from moe_live.settings import Phase, Settings
from moe_live.snapshot import Snapshot
from tests.analysis import analyzed
from tests.synthetic import SyntheticLog, logs


def prompt_and_decode(tokens: int = 120, steps: int = 12) -> bytes:
    """Two layers of 16 experts: a prompt that uses all of them, and generation that uses the first four."""
    rng = np.random.default_rng(0)

    def rows(layer: int, number: int, experts: int) -> list[bytes]:
        chosen = [rng.choice(experts, 2, replace=False) for _ in range(number)]
        return [b"%d,%d %d\n" % (layer, *row) for row in chosen]

    lines = [*rows(0, tokens, 16), *rows(1, 1, 16)]
    for _ in range(steps):
        lines += [*rows(0, 1, 4), *rows(1, 1, 4)]
    return b"".join(lines)


def shown(phase: Phase | None) -> Snapshot:
    return analyzed([prompt_and_decode()], Settings(phase=phase)).snapshot()


@given(logs(), st.sampled_from([*Phase, None]))
def test_a_phase_changes_what_counts_and_nothing_of_what_was_read(
    log: SyntheticLog, phase: Phase | None
) -> None:
    default = analyzed([log.text]).snapshot(())
    found = analyzed([log.text], Settings(phase=phase)).snapshot(())
    for name in ("rows", "steps", "tokens", "model", "layer_sizes", "prompt_share"):
        assert getattr(found, name) == getattr(default, name)
    for ours, before in zip(found.layers, default.layers, strict=True):
        usage = ours.usage
        assert (usage.decode == before.usage.decode).all()
        assert (usage.prefill == before.usage.prefill).all()
        expected = {
            Phase.DECODE: usage.decode,
            Phase.PREFILL: usage.prefill,
            Phase.ALL: usage.decode + usage.prefill,
        }
        assert (usage.counts == expected[phase or Phase.ALL]).all()
    resident = phase or (Phase.DECODE if default.overall.decode.any() else Phase.ALL)
    if found.layers:
        kept = np.stack([entry.usage.of(resident) for entry in found.layers])
        assert (found.resident_counts == kept).all()


@pytest.mark.parametrize(
    ("phase", "hottest_of_decode", "note"),
    [
        (None, True, "of decode: prompts are"),
        (Phase.DECODE, True, "of decode: prompts are"),
        (Phase.PREFILL, False, "of prompts: prompts are"),
        (Phase.ALL, False, "of all steps: prompts are"),
    ],
)
def test_hot_list_and_budget_are_of_decode_unless_the_user_says_otherwise(
    phase: Phase | None, note: str, *, hottest_of_decode: bool
) -> None:
    found = shown(phase)
    hot = {(entry.layer, entry.expert) for entry in found.hot_list(8)}
    assert (hot == {(layer, expert) for layer in (0, 1) for expert in range(4)}) is hottest_of_decode
    assert any(line.startswith(f"budget: {note}") for line in summary_lines(found))
    assert (found.budgets[4].best > 0.95) is hottest_of_decode


def test_the_summary_and_the_json_say_which_steps_count() -> None:
    decode = shown(Phase.DECODE)
    lines = list(summary_lines(decode))
    assert "phase: decode; selections of other steps are in no figure of use or balance" in lines
    assert "layer 0: selections 24 of 264 (prefill 240, decode 24), experts used 4 of 16" in lines
    found = to_json(decode)
    assert found["phase"] == "decode"
    layer = found["layers"][0]
    assert layer["counts"] == layer["decode_counts"]
    assert (sum(layer["prefill_counts"]), sum(layer["counts"])) == (240, 24)
    assert found["steps"] == {"total": 13, "prefill": 1, "decode": 12}
    assert to_json(shown(None))["phase"] == "all"


def test_the_option_is_what_the_setting_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    log.write_bytes(prompt_and_decode())
    assert main([str(log), "--phase", "prefill", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["phase"] == "prefill"
    assert found["layers"][0]["counts"] == found["layers"][0]["prefill_counts"]


def test_what_is_no_phase_is_refused() -> None:
    with pytest.raises(ValueError, match="phase is 'train'; it must be one of prefill, decode, all"):
        Settings(phase="train")  # type: ignore[arg-type]  # what a user may write
    with pytest.raises(ValueError, match="phase holds 'all'"):
        Analyzer().feed_rows(np.zeros((1, 1, 1), np.int64), phase="all")


def test_what_was_found_out_of_a_snapshot_goes_on_with_the_same_use_alone() -> None:
    snapshot = shown(None)
    found = snapshot.counts, snapshot.layer_sizes, snapshot.balance
    warned = snapshot.having(warnings=("new",))
    assert warned.warnings == ("new",)
    assert all(
        same is one
        for same, one in zip((warned.counts, warned.layer_sizes, warned.balance), found, strict=True)
    )
    alone = snapshot.having(layers=snapshot.layers[:1])
    assert alone.counts.tolist() == found[0][:1].tolist()
    assert len(alone.balance) == 1
    wider = snapshot.having(model=replace(snapshot.model, top_k=1))
    assert wider.balance != found[2]
