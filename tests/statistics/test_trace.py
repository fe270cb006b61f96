"""Structure of a published trace of a trained model: what is there must be found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moe_live.formats.llama_server import LlamaServerDecoder
from moe_live.routing.batch import Kind
from moe_live.routing.steps import StepAssembler
from moe_live.statistics.coactivation import Coactivation
from moe_live.statistics.dependence import clustering
from moe_live.statistics.drift import Parts, RecentSteps, Window, drift
from moe_live.statistics.pairs import notable_pairs
from moe_live.statistics.rows import RowsByLayer
from moe_live.statistics.sampling import SAMPLED_SELECTIONS, TokenSample
from moe_live.statistics.transitions import Transitions, summarize
from tests.trace import trace_log


def test_structure_of_a_trained_model(real_logs: Path) -> None:
    decoder, assembler = LlamaServerDecoder(), StepAssembler()
    pairs, transitions, recent = Coactivation(), Transitions(), RecentSteps(64)
    sample = TokenSample(SAMPLED_SELECTIONS)
    log = trace_log(real_logs / "qwen3-30b-a3b.route.csv.gz", phase=1)
    batches = [batch for records in decoder.feed(log) for batch in assembler.feed(records)]
    for batch in [*batches, *assembler.interrupt()]:
        rows = [RowsByLayer(table) for table in batch.single]
        pairs.update(rows)
        transitions.update(rows)
        sample.update(batch.single, batch.kind)
        recent.update(batch.single, batch.kind)

    summaries = summarize([transitions], sample, 128)
    assert len(summaries) == 47
    assert {(summary.tokens, summary.tested) for summary in summaries} == {(128, 128)}
    assert all(summary.hit_rate > summary.static_hit_rate for summary in summaries)
    assert np.mean([summary.hit_rate for summary in summaries]) == pytest.approx(0.6034, abs=5e-5)
    assert np.mean([summary.static_hit_rate for summary in summaries]) == pytest.approx(0.3796, abs=5e-5)
    assert all(summary.gain > 0 for summary in summaries)
    assert sum(summary.certain > 0 for summary in summaries) > 20

    steps, blocks = recent.counts([Kind.DECODE], pairs.layers, 128)
    run = np.stack([np.diagonal(pairs.counts(layer, np.arange(128))) for layer in pairs.layers])
    window = Window(64, steps, blocks)
    found = drift(window, run, Parts.of(window, run, np.zeros((2, 48, 128), np.int64), 6), 6)
    assert not found.told
    assert (steps, found.counts.sum()) == (64, 64 * 48 * 6)
    assert np.median(clustering(blocks, 6)) > 1.2  # successive tokens are alike

    layers = [notable_pairs(pairs.counts(layer, np.arange(128)), pairs.rows(layer)) for layer in pairs.layers]
    assert {layer.rows for layer in layers} == {128}
    # Pairs vary more than in independent rows, as they do in a text: of one alone none is certain.
    assert np.median([layer.spread for layer in layers if layer.tested > 20]) > 1.5
    assert not any(layer.strongest or layer.weakest for layer in layers)
