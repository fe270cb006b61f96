"""The whole chain against a simulated server, which knows what its model really did."""

from itertools import islice, pairwise

import numpy as np
import pytest

from moe_live.analyzer import Analyzer
from moe_live.settings import RowMode, Settings
from moe_live.simulator import HEADER, ModelShape, SimulatedServer, Step
from moe_live.snapshot import Snapshot

SHAPE = ModelShape(first_layer=3, n_layers=6, n_experts=64, top_k=6, gate_layers=(4, 5, 6), n_embd=16)


def served(slots: int, *, strided: bool) -> list[Step]:
    """Six requests, some of whose prompts need several passes."""
    server = SimulatedServer(SHAPE, ubatch=64, strided=strided)
    requests = list(islice(server.requests(), 6))
    return [step for i in range(0, 6, slots) for step in server.serve(*requests[i : i + slots])]


def analyzed(steps: list[Step], rows: RowMode = RowMode.AUTO) -> Snapshot:
    analyzer = Analyzer(Settings(rows=rows, n_experts=SHAPE.n_experts))
    analyzer.feed(HEADER)
    for step in steps:
        analyzer.feed(step.text)
    analyzer.finish()
    return analyzer.snapshot()


def counts(snapshot: Snapshot) -> tuple[np.ndarray, np.ndarray]:
    """(layers, n_experts) each: prefill, decode."""
    usages = [layer.usage for layer in snapshot.layers]
    return np.array([usage.prefill for usage in usages]), np.array([usage.decode for usage in usages])


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("strided", [False, True])
def test_usage_is_what_the_model_chose(slots: int, *, strided: bool) -> None:
    steps = served(slots, strided=strided)
    truth = np.zeros((2, SHAPE.n_layers, SHAPE.n_experts), np.int64)
    for step in steps:
        for block in step.blocks:
            rows = len(block.experts)
            known = (rows - 1) * SHAPE.top_k // SHAPE.n_experts + 1 if strided else rows
            np.add.at(truth[int(step.decode), block.layer - SHAPE.first_layer], block.experts[:known], 1)
    snapshot = analyzed(steps)
    assert snapshot.rows.strided is strided
    np.testing.assert_array_equal(counts(snapshot), truth)
    assert (snapshot.steps.prefill, snapshot.steps.decode) == (
        sum(not step.decode for step in steps),
        sum(step.decode for step in steps),
    )
    assert snapshot.tokens.total == sum(step.tokens for step in steps)


def test_logged_mode_counts_what_is_written() -> None:
    steps = served(1, strided=True)
    written = np.zeros((SHAPE.n_layers, SHAPE.n_experts), np.int64)
    for step in steps:
        for block in step.blocks:
            np.add.at(written[block.layer - SHAPE.first_layer], block.logged, 1)
    prefill, decode = counts(analyzed(steps, RowMode.LOGGED))
    np.testing.assert_array_equal(prefill + decode, written)


def test_distances_are_those_of_the_gate_inputs() -> None:
    steps = served(3, strided=False)
    gates = np.array(
        [
            [block.gates[0] for block in step.blocks if block.gates is not None]
            for step in steps
            if step.decode
        ],
        float,
    )
    pairs = analyzed(steps).distances.pairs
    assert [(pair.from_layer, pair.to_layer) for pair in pairs] == [(4, 5), (5, 6)]
    for pair, (i, j) in zip(pairs, pairwise(range(3)), strict=True):
        a, b = gates[:, i], gates[:, j]
        cosine = np.vecdot(a, b) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        euclidean = np.linalg.norm(a - b, axis=1)
        for moments, expected in (
            (pair.metrics["cosine_similarity"], cosine),
            (pair.metrics["euclidean"], euclidean),
        ):
            assert moments.count == len(gates)
            found = (moments.mean, moments.std, moments.min, moments.max, moments.last)
            wanted = (expected.mean(), expected.std(), expected.min(), expected.max(), expected[-1])
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
