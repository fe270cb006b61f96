"""How an output is added: what its module holds, and the line in the table."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moe_live import config
from moe_live.cli import main
from moe_live.outputs.output import Destination, Output, OutputOptions
from moe_live.outputs.table import OUTPUTS
from moe_live.running import Status
from moe_live.snapshot import Snapshot


# What a module of moe_live/outputs holds; the line in the table is the one of `registered`.
class TokenFile(Output):
    def __init__(self, path: str) -> None:
        self.destination = Destination(path, "the number of tokens")
        self.path = Path(path)
        self.updates = 0

    def wants_update(self) -> bool:
        return True

    def update(self, snapshot: Snapshot, status: Status) -> None:
        self.updates += 1
        self.path.write_text(f"{snapshot.tokens.total} after {status.source.position} bytes")

    def finish(self, snapshot: Snapshot) -> None:
        self.path.write_text(json.dumps({"tokens": snapshot.tokens.total, "updates": self.updates}))


def add(group: Any) -> None:
    group.add_argument("--tokens", metavar="FILE", help="write the number of tokens")


def make(options: argparse.Namespace) -> Iterator[Output]:
    if options.tokens is not None:
        yield TokenFile(options.tokens)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "OUTPUTS", (*OUTPUTS, OutputOptions(add, make)))


@pytest.mark.usefixtures("registered")
def test_an_output_is_one_file_and_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
