"""Settings are right when they are given, or an error."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moe_live.config import parse
from moe_live.settings import (
    DEFAULT_MAX_SLOTS,
    DEFAULT_WINDOW,
    MAX_EXPERTS,
    MAX_LAYERS,
    MAX_SLOTS,
    WINDOW,
    Phase,
    RowMode,
    Settings,
)


@pytest.mark.parametrize("mode", RowMode)
def test_rows_are_a_mode_or_its_name(mode: RowMode) -> None:
    settings = Settings(rows=mode.value)  # type: ignore[arg-type] # a name will do when it runs
    assert settings.rows is mode
    assert settings == Settings(rows=mode)


def test_phases_are_their_names() -> None:
    assert list(map(Phase, ("prefill", "decode", "all"))) == list(Phase) == ["prefill", "decode", "all"]
    assert Settings(phase="decode").phase is Phase.DECODE  # type: ignore[arg-type] # a name will do


@pytest.mark.parametrize(
    "layers", [[3, 5], (3, 5), {3, 5}, range(3, 6, 2), np.array([5, 3]), frozenset({3, 5})]
)
def test_layers_are_any_collection(layers: Any) -> None:
    settings = Settings(gate_layers=layers)
    assert settings.gate_layers == frozenset({3, 5})
    assert all(type(layer) is int for layer in settings.gate_layers)


def test_numbers_are_integers_of_any_type() -> None:
    settings = Settings(
        n_experts=np.int64(8),  # type: ignore[arg-type] # what arithmetic on arrays gives
        window=np.uint8(9),  # type: ignore[arg-type]
    )
    assert (settings.n_experts, settings.window) == (8, 9)
    assert type(settings.n_experts) is type(settings.window) is int


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({"rows": "atuo"}, ValueError, "rows is 'atuo'; it must be one of auto, logged, verified"),
        ({"rows": None}, ValueError, "rows is None; it must be one of auto, logged, verified"),
        ({"gate_layers": [1024]}, ValueError, "a layer of gate_layers is 1024; .* from 0 to 1,023"),
        ({"gate_layers": "20-24"}, TypeError, "a layer of gate_layers is '2'; it must be a whole number"),
        (
            {"gate_layers": 20},
            TypeError,
            "gate_layers is 20; it must be a collection of layer numbers, or None",
        ),
        ({"n_experts": 0}, ValueError, "n_experts is 0; it must be a whole number from 1 to 2,048"),
        ({"n_experts": MAX_EXPERTS + 1}, ValueError, "n_experts is 2049"),
        ({"n_experts": True}, TypeError, "n_experts is True"),
        ({"max_slots": 0}, ValueError, "max_slots is 0"),
        ({"max_slots": MAX_SLOTS[1] + 1}, ValueError, "max_slots is 1048577"),
        ({"max_slots": None}, TypeError, "max_slots is None"),
        ({"window": WINDOW[1] + 1}, ValueError, "window is 1000001"),
        ({"window": 2.5}, TypeError, "window is 2.5; it must be a whole number from 1 to 1,000,000"),
        ({"window": "256"}, TypeError, "window is '256'"),
        ({"label": None}, TypeError, "label is None; it must be a str"),
        ({"include_prompt": "no"}, TypeError, "include_prompt is 'no'; it must be a bool"),
        ({"counts_only": 1}, TypeError, "counts_only is 1; it must be a bool"),
    ],
)
def test_a_wrong_setting_is_an_error_that_says_what_is_right(
    wrong: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        Settings(**wrong)


def test_the_command_line_has_the_same_defaults_and_bounds() -> None:
    assert parse(["x.log"]).settings == Settings(max_slots=DEFAULT_MAX_SLOTS, window=DEFAULT_WINDOW)
    command = (
        f"x.log --rows logged --gate-layers 0-{MAX_LAYERS - 1} --window {WINDOW[1]} --n-experts {MAX_EXPERTS}"
    )
    given = parse(f"{command} --max-slots {MAX_SLOTS[1]} --label x --include-prompt".split())
    assert given.settings == Settings(
        rows=RowMode.LOGGED,
        gate_layers=frozenset(range(MAX_LAYERS)),
        window=WINDOW[1],
        n_experts=MAX_EXPERTS,
        max_slots=MAX_SLOTS[1],
        label="x",
        include_prompt=True,
    )


def test_settings_need_no_numpy() -> None:
    code = "import sys, moe_live.settings, moe_live.config; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-P", "-c", code], check=True, timeout=60)


def test_a_summary_does_not_wait_for_the_dashboard_to_load(tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    log.write_bytes(b"3,1 2\n4,1 2\n" * 10)
    code = "import sys; from moe_live.cli import main; main(sys.argv[1:]); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(log)], check=True, capture_output=True, text=True, timeout=60
    )
    loaded = done.stdout.splitlines()[-1].split()
    assert "moe_live.reports" in loaded
    assert "moe_live.dashboard" not in loaded
