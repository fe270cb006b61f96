"""The types that a user of `import moe_live` sees. Checked by mypy, and imported by a test."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import moe_live
from moe_live.statistics.drift import Drift
from moe_live.statistics.pairs import LayerPairs


def read() -> None:
    snapshot = moe_live.read("moe.log", Path("older.log.gz"), settings=moe_live.Settings(n_experts=128))
    assert_type(snapshot, moe_live.Snapshot)
    assert_type(snapshot.layers[0].layer, int)
    assert_type(snapshot.layers[0].usage.counts, NDArray[np.int64])
    assert_type(snapshot.steps.decode, int)
    assert_type(snapshot.model.n_experts, int | None)
    assert_type(snapshot.rows.mode, moe_live.RowMode)
    assert_type(snapshot.rows.strided, bool | None)
    assert_type(snapshot.warnings, tuple[str, ...])
    assert_type(snapshot.pairs, Mapping[int, LayerPairs] | None)
    assert_type(snapshot.drift, Drift | None)
    assert_type(str(snapshot), str)


def follow() -> None:
    snapshots = moe_live.follow("moe.log", every=0.5, from_end=True)
    assert_type(snapshots, Iterator[moe_live.Snapshot])


def steps() -> None:
    rows = moe_live.read_steps("moe.log", settings=moe_live.Settings(include_prompt=True))
    assert_type(rows, Iterator[moe_live.StepDistance])
    assert_type(next(rows).cosine_similarity, float)
    assert_type(next(rows).phase, moe_live.Phase)


def analyze(data: bytes, experts: NDArray[np.uint8]) -> None:
    settings = moe_live.Settings(rows=moe_live.RowMode.VERIFIED, gate_layers=frozenset({3}))
    assert_type(settings.gate_layers, frozenset[int] | None)
    analyzer = moe_live.Analyzer(settings)
    analyzer.feed(data)
    analyzer.feed_rows(experts, layers=[3, 4], phase=moe_live.Phase.PREFILL, label="code")
    analyzer.feed_rows(experts.tolist(), experts.astype(np.float32), range(3, 5), ["prefill", "decode"])
    analyzer.finish()
    analyzer += moe_live.Analyzer(settings)
    assert_type(analyzer, moe_live.Analyzer)
    analyzer.save(Path("moe.state"))
    assert_type(moe_live.Analyzer.load("moe.state"), moe_live.Analyzer)
    assert_type(analyzer.snapshot([moe_live.Section.DRIFT]), moe_live.Snapshot)


def refused() -> None:
    moe_live.Settings(window="256")  # type: ignore[arg-type] # a wrong type is told before it runs
    moe_live.read()  # type: ignore[call-arg] # of nothing there are no figures
    moe_live.follow("moe.log", every="1 s")  # type: ignore[arg-type]


assert_type(moe_live.__version__, str)
