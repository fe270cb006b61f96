"""An output that is added is checked, updated, finished and named by `--help` as all others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moe_live import config
from moe_live.cli import main
from moe_live.outputs.table import OUTPUTS
from tests.added.output import OPTIONS


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "OUTPUTS", (*OUTPUTS, OPTIONS))


@pytest.mark.usefixtures("registered")
def test_it_is_written_as_others_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, tokens = tmp_path / "moe.log", tmp_path / "tokens"
    log.write_bytes(b"0,1 2\n1,1 2\n" * 30)
    assert main([str(log), "--tokens", str(tokens)]) == 0
    assert json.loads(tokens.read_text()) == {"tokens": 30, "updates": 1}
    assert main([str(log), "--tokens", str(log)]) == 2
    assert capsys.readouterr().err == (
        f"moe-live: cannot write the number of tokens to {log}: it is the log itself; name another file\n"
    )


@pytest.mark.usefixtures("registered")
def test_help_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "--tokens FILE" in capsys.readouterr().out
