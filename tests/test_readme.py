"""The README's Python runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from moe_live.simulator import HEADER, ModelShape, Request, SimulatedServer
from tests.conftest import REPOSITORY


def code_blocks(section: str) -> list[str]:
    """The indented blocks of a section of the README, each without its indentation."""
    readme = REPOSITORY / "README.md"
    if not readme.is_file():
        pytest.skip("no README.md beside the tests")
    text = readme.read_text(encoding="utf-8").split(f"\n## {section}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.MULTILINE)
    return [
        re.sub(r"^    ", "", block, flags=re.MULTILINE).strip() + "\n" for block in blocks if block.strip()
    ]


def test_from_python(tmp_path: Path) -> None:
    shape = ModelShape(n_layers=4, n_experts=64, gate_layers=())
    steps = list(SimulatedServer(shape, seed=3).serve(Request(topic=0, prompt=10, generated=200)))
    (tmp_path / "moe.log").write_bytes(HEADER + b"".join(step.text for step in steps))
    chosen = [np.stack([block.experts[0] for block in step.blocks]) for step in steps if step.decode]
    np.save(tmp_path / "routed_experts.npy", np.stack(chosen))
    blocks = code_blocks("From Python")
    assert len(blocks) == 2
    done = subprocess.run(
        [sys.executable, "-P", "-c", "\n".join(blocks)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "model: layers 3-6, 64 experts each, top-8" in done.stdout
    assert "balance " in done.stdout
    assert done.stdout.count("ExpertCount(") == 3
