"""Snapshots made by hand."""

import math
from typing import get_args

import numpy as np
from hypothesis import strategies as st

from moe_live.analyzer import Analyzer
from moe_live.formats.records import LineTally
from moe_live.routing.evidence import Verdict
from moe_live.settings import RowMode
from moe_live.share import SourceNow, SourceShare
from moe_live.simulator import ModelShape, SimulatedServer
from moe_live.snapshot import (
    DistanceMetric,
    Distances,
    Input,
    LayerUsage,
    Model,
    Moments,
    PairDistance,
    PhaseCount,
    Rows,
    Snapshot,
    Usage,
)
from moe_live.statistics.hot_set import HotExpert
from moe_live.verdicts import ROW_WORDS

METRICS: tuple[DistanceMetric, ...] = get_args(DistanceMetric)
NOTHING = Moments(0, 0, math.nan, math.nan, math.nan, math.nan, math.nan)


def usage(prefill: list[int], decode: list[int]) -> Usage:
    return Usage(np.array(prefill, np.int64) + np.array(decode, np.int64), np.array(decode, np.int64))


def pair(from_layer: int, to_layer: int, steps: int, metrics: dict[DistanceMetric, Moments]) -> PairDistance:
    every = {metric: metrics.get(metric, Moments(0, steps, *[math.nan] * 5)) for metric in METRICS}
    return PairDistance(from_layer, to_layer, steps, every, np.empty(0))


EMPTY = Snapshot(
    input=Input((), LineTally(), 0, 0, ""),
    model=Model((), None, None, (), None),
    rows=Rows(RowMode.AUTO, 0, 0, 0, 0, Verdict.UNKNOWN, "no rows yet"),
    steps=PhaseCount(0, 0),
    tokens=PhaseCount(0, 0),
    layers=(),
    overall=Usage.none(0),
    distances=Distances(0, False, ()),  # noqa: FBT003 - the field is named in the class
    warnings=(),
)

FULL = Snapshot(
    input=Input(
        ("/logs/a.log", "b\x1b[2J\udcff.log"),
        LineTally(
            bytes=123456,
            lines=1000,
            header_lines=2,
            malformed_lines=3,
            incomplete_bytes=7,
            incomplete_lines=1,
            nul_bytes=5,
            samples=(b"3,1 x\x1b]0;\x07", b"y" * 100),
        ),
        restarts=1,
        rotations=2,
        format="llama-server",
    ),
    model=Model((3, 4, 5, 9), 12, 2, (4, 5), 8),
    rows=Rows(RowMode.AUTO, 100, 60, 4, 40, Verdict.STRIDED, "some rows are wrong"),
    steps=PhaseCount(2, 50),
    tokens=PhaseCount(30, 50),
    layers=(
        LayerUsage(3, usage([4, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 0], [1500, 0, 2, 2, 9, 0, 1, 1, 0, 0, 100, 0])),
        LayerUsage(4, usage([0] * 12, [0] * 5 + [7] + [0] * 6)),
        LayerUsage(5, usage([0] * 12, [0] * 12)),
    ),
    overall=usage([4, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 0], [1500, 0, 2, 2, 9, 7, 1, 1, 0, 0, 100, 0]),
    distances=Distances(
        50,
        include_prompt=False,
        pairs=(
            pair(
                4,
                5,
                50,
                {
                    "cosine_similarity": Moments(50, 0, 0.912345, 0.01, -0.5, 0.99, 0.9),
                    "cosine_distance": Moments(50, 0, 0.087655, 0.01, 0.01, 1.5, 0.1),
                    "euclidean": Moments(50, 0, 12345.678, 1e-7, 1e20, 3.0, 0.0),
                    "l2_normalized": Moments(50, 0, 1.0, 0.0, 1.0, 1.0, 1.0),
                    "mean_abs_diff": Moments(49, 1, 2.5, 0.5, 2.0, 3.0, math.inf),
                },
            ),
        ),
    ),
    warnings=("some rows are wrong", "3 lines are malformed"),
)

counts = st.integers(0, 10**15)
floats = st.floats(width=64)


SHARES = st.builds(
    SourceShare,
    st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    st.sampled_from(("", "it is \x1b[2J damaged")),
    counts,
    counts,
    rows=counts,
    row_word=st.sampled_from([str(word) for word in ROW_WORDS.values()]),
    row_verdict=st.text(),
    steps=counts,
    decode_steps=counts,
    hottest=st.none() | st.builds(HotExpert, counts, counts, counts, floats, counts),
    apart=floats,
    now=st.none() | st.builds(SourceNow, st.sampled_from(("", "following"))),
)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Any snapshot, consistent or not."""
    n_experts = draw(st.integers(0, 12))
    columns = st.lists(st.integers(0, 10**12), min_size=n_experts, max_size=n_experts)
    usages = st.builds(usage, columns, columns)
    phases = st.builds(PhaseCount, counts, counts)
    moments = st.builds(Moments, counts, counts, floats, floats, floats, floats, floats)
    layers = st.lists(st.integers(0, 1023), unique=True, max_size=5).map(lambda found: tuple(sorted(found)))
    pairs = st.builds(
        pair,
        st.integers(0, 99),
        st.integers(0, 99),
        counts,
        st.dictionaries(st.sampled_from(METRICS), moments),
    )
    return Snapshot(
        input=draw(
            st.builds(
                Input,
                st.lists(st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")), max_size=3).map(
                    tuple
                ),
                st.builds(LineTally, counts, samples=st.lists(st.binary(), max_size=5).map(tuple)),
                counts,
                counts,
                sources=st.lists(SHARES, max_size=5).map(tuple),
            )
        ),
        model=draw(
            st.builds(Model, layers, st.none() | counts, st.none() | counts, layers, st.none() | counts)
        ),
        rows=draw(
            st.builds(
                Rows,
                st.sampled_from(RowMode),
                counts,
                counts,
                counts,
                counts,
                st.sampled_from(Verdict),
                st.text(),
            )
        ),
        steps=draw(phases),
        tokens=draw(phases),
        layers=tuple(LayerUsage(layer, draw(usages)) for layer in draw(layers)),
        overall=draw(usages),
        distances=draw(st.builds(Distances, counts, st.booleans(), st.lists(pairs, max_size=3).map(tuple))),
        warnings=draw(st.lists(st.text(), max_size=3).map(tuple)),
    )


def analyzed_with_labels() -> Snapshot:
    """A snapshot with every section: two labels, each with a prompt and an answer."""
    server = SimulatedServer(
        ModelShape(n_layers=4, n_experts=16, top_k=4, gate_layers=(3, 4), n_embd=8), seed=1
    )
    analyzer = Analyzer()
    for label, request in zip(("code", "prose"), server.requests(), strict=False):
        analyzer.label = label
        for step in server.serve(request):
            analyzer.feed(step.text)
    analyzer.finish()
    return analyzer.snapshot()
