"""The bytes of experts that a trace tells of in its preamble."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from moe_live.cli import main
from tests.analysis import analyzed, snapshot_of

TRACE = Path(__file__).parents[1] / "data" / "qwen3-30b-a3b.piece.route.csv.gz"


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> object:
    assert main([*arguments, "--json", "-"]) == 0
    return json.loads(capsys.readouterr().out)


def test_they_are_those_of_the_layers_however_it_is_cut() -> None:
    text = gzip.decompress(TRACE.read_bytes())
    sizes = {0: 3059712, 6: 2654208, 23: 3059712, 47: 3059712}
    whole = snapshot_of(text)
    assert sizes.items() <= dict(whole.model.expert_bytes).items()
    for cut in (100, 700):
        assert snapshot_of(text[:cut], text[cut:]).model == whole.model
    both = analyzed([b"# layer=2 expert_bytes=7 x=1\n" + text[:0]])
    both += analyzed([text])
    assert both.snapshot().model.expert_bytes[0] == sizes[0]


@pytest.mark.parametrize(
    "line",
    [
        "# layer=9999 expert_bytes=5",
        "# layer=3 expert_bytes=0",
        f"# layer=3 expert_bytes={10**18}",
        "# layer=3",
    ],
)
def test_what_is_no_size_is_a_comment(line: str) -> None:
    snapshot = snapshot_of(f"{line}\nlayer,experts\n3,1 2\n".encode())
    assert snapshot.model.expert_bytes == {}
    assert snapshot.input.tally.comment_lines == 1


def test_plans_go_by_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = str(TRACE)
    told = as_json(capsys, "plan", "cache", trace, "--budget", "100MiB")
    assert isinstance(told, dict)
    assert told["expert_bytes"] == [3059712, 2654208, 3059712, 3059712]
    assert as_json(capsys, "plan", "offload", trace, "--vram", "8GiB")
    without = tmp_path / "log"
    lines = gzip.decompress(TRACE.read_bytes()).splitlines(keepends=True)
    without.write_bytes(b"".join(line for line in lines if not line.startswith(b"#")))
    assert main(["plan", "cache", str(without)]) == 2
    assert "how large the experts are is not known: give --model GGUF" in capsys.readouterr().err
    other = as_json(capsys, "plan", "cache", trace, "--expert-bytes", "1000", "--budget", "100MiB")
    assert isinstance(other, dict)
    assert other["expert_bytes"] == [1000] * 4
