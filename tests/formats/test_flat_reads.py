"""Traces of `layer,expert` that read the ids of a prompt flat: what they seem to show, and what is true.

`ffn_moe_topk` is a view of the full rankings of all experts. Whoever copies as many ids as it has from its
beginning gets the rankings of the first tokens to their ends, in which every expert comes once.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from moe_live.cli import main

N_EXPERTS, TOP_K, LAYERS = 64, 6, 8


def traces(directory: Path) -> tuple[Path, Path]:
    """One text through one model, as such a tool writes it and as it is: prompts and answers."""
    rng = np.random.default_rng(28)
    affinity = rng.normal(0, 2, (LAYERS, N_EXPERTS))
    flat, right = ["layer,expert"], ["layer,expert"]
    for tokens in [200, *[1] * 40, 350, *[1] * 40, 120]:
        for layer in range(LAYERS):
            ranking = np.argsort(-affinity[layer] - rng.gumbel(size=(tokens, N_EXPERTS)), axis=1)
            for lines, chosen in (
                (flat, ranking.reshape(-1)[: tokens * TOP_K]),
                (right, ranking[:, :TOP_K].reshape(-1)),
            ):
                lines += [f"{layer},{expert}" for expert in chosen.tolist()]
    for name, lines in (("flat.csv", flat), ("right.csv", right)):
        (directory / name).write_text("\n".join([*lines, ""]))
    return directory / "flat.csv", directory / "right.csv"


def summary(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json", "-"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def counts(found: dict[str, Any], of: str = "counts") -> NDArray[np.int64]:
    return np.array([layer[of] for layer in found["layers"]])


def active(of: NDArray[np.int64]) -> float:
    return float((of > 0).mean())


def hottest(of: NDArray[np.int64]) -> float:
    """How many times as often as the average the hottest expert of any layer is chosen."""
    return float((of.max(axis=1) / of.mean(axis=1)).max())


def test_what_a_flat_read_shows_is_not_believed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flat, right = map(str, traces(tmp_path))
    truth, as_written, found = (
        summary(capsys, right),
        summary(capsys, flat, "--rows", "logged"),
        summary(capsys, flat),
    )
    prompts = counts(as_written, "prefill_counts")
    assert active(prompts) > 0.986
    assert hottest(prompts) < 1.3  # hardly any structure is left
    assert hottest(counts(truth, "prefill_counts")) > 5
    assert (truth["rows"]["strided"], found["rows"]["strided"]) == (False, True)
    assert found["steps"] == truth["steps"]
    assert found["rows"]["recovered"] > 0
    # What is left agrees with the truth as well as so few rows can.
    shares = [each / each.sum(axis=1, keepdims=True) for each in map(counts, (found, truth))]
    assert np.abs(shares[0] - shares[1]).sum(axis=1).max() < 0.35
    assert 0.8 < hottest(counts(found)) / hottest(counts(truth)) < 1.25


def test_a_real_one_says_what_the_readme_says(
    real_logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """160 experts, top-8, prompts of 90 and 473 tokens, two answers of 255."""
    text = gzip.decompress((real_logs / "glm4moe-160e-top8.log.gz").read_bytes()).decode()
    rows = [line.split(",") for line in text.splitlines() if line[0].isdigit()]
    path = tmp_path / "moe.csv"
    lines = [f"{layer},{expert}" for layer, experts in rows for expert in experts.split()]
    path.write_text("\n".join(["layer,expert", *lines, ""]))
    as_written, found = summary(capsys, str(path), "--rows", "logged"), summary(capsys, str(path))
    figures = [
        (round(active(of), 3), round(hottest(of), 2))
        for of in (counts(as_written, "prefill_counts")[:-1], counts(found))
    ]
    assert figures == [(1.0, 1.03), (0.494, 18.09)]
    text = {verdict["subject"]: verdict["text"] for verdict in found["verdicts"]}["hot set"]
    assert text.startswith("38 of 160 experts carry 90 %")
