"""What locality comes to over all layers: what its figures, layer by layer, add up to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from moe_live.analyzer import Analyzer
from moe_live.snapshot import Section
from tests.synthetic import SyntheticLog, logs


@given(logs(heads=True))
def test_it_is_the_sum_over_the_layers(log: SyntheticLog) -> None:
    analyzer = Analyzer()
    analyzer.feed(log.text)
    analyzer.finish()
    found = analyzer.snapshot([Section.LOCALITY, Section.REUSE])
    if not found.layers:
        assert found.reuse is None
        return
    assert found.locality is not None
    assert found.reuse is not None
    layers = [layer for layer in found.locality if layer.uses]
    assert found.reuse.uses == sum(layer.uses for layer in layers)
    hits = sum((layer.uses * layer.lru_hit_rate for layer in layers), np.zeros(len(found.reuse.hits)))
    assert found.reuse.hits == pytest.approx(hits)
    followed = [layer for layer in layers if layer.steps > 1]
    assert found.reuse.pairs == sum(layer.steps - 1 for layer in followed)
    overlap = sum((layer.steps - 1) * layer.overlap[1] for layer in followed)
    assert found.reuse.overlap == pytest.approx(overlap)


def test_sequences_are_one_after_the_other() -> None:
    lines = [
        f"# step pos={number // 3} seq={number % 3} out=1\n0,{number * 7 % 5} 9\n1,{number % 4} 8\n"
        for number in range(60)
    ]
    analyzer = Analyzer()
    analyzer.feed("".join(lines).encode())
    analyzer.finish()
    found = analyzer.snapshot([Section.LOCALITY, Section.REUSE])
    assert found.locality
    assert found.reuse is not None
    assert found.reuse.uses == sum(layer.uses for layer in found.locality) == 228
    hits = sum((layer.uses * layer.lru_hit_rate for layer in found.locality), np.zeros(10))
    assert found.reuse.hits == pytest.approx(hits)
