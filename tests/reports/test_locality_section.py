"""What is told of caches, and of what successive tokens use, only where it means something."""

from __future__ import annotations

import numpy as np
import pytest

from moe_live.reports.json_report import to_json
from moe_live.reports.summary import summary_lines
from moe_live.snapshot import Snapshot
from tests.analysis import snapshot_of

EXPERTS, TOP_K = 16, 3


def decoded(slots: int, steps: int = 40) -> Snapshot:
    """Decode of so many texts side by side, of two layers."""
    rng = np.random.default_rng(0)
    lines = [
        b"%d,%d %d %d\n" % (layer, *rng.choice(EXPERTS, TOP_K, replace=False).tolist())
        for tokens in (1, *[slots] * steps)
        for layer in (0, 1)
        for _ in range(tokens)
    ]
    return snapshot_of(b"".join(lines))


@pytest.mark.parametrize(("slots", "told"), [(1, True), (2, False)])
def test_the_union_is_of_successive_tokens(slots: int, *, told: bool) -> None:
    found = decoded(slots)
    for layer in to_json(found)["layers"]:
        assert all((size is not None) is (told and int(n) <= 41) for n, size in layer["union"].items())
        if told:
            assert TOP_K < layer["union"]["2"] <= 2 * TOP_K
            assert layer["union"]["2"] < layer["union"]["3"] < layer["union"]["32"] <= EXPERTS


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_a_cache_that_cannot_hold_a_step_has_no_rate(slots: int) -> None:
    found = decoded(slots)
    for layer in to_json(found)["layers"]:
        locality = layer["locality"]
        held = -(-locality["uses"] // locality["steps"])
        assert held == TOP_K if slots == 1 else TOP_K < held <= slots * TOP_K
        for name in ("lru_hit_rate", "static_hit_rate"):
            rates = locality[name]
            assert rates[: held - 1] == [None] * (held - 1)
            assert None not in rates[held - 1 :]
    lines = [line for line in summary_lines(found) if line.startswith("cache layer 0")]
    assert len(lines) == 1
    assert "n/a /    n/a" in lines[0]  # one expert a layer
    assert any("looked up before any is given up" in line for line in summary_lines(found))
