"""What each part of the chain costs, class by class."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from moe_live.analyzer import Analyzer
from moe_live.formats.llama_server import LlamaServerDecoder
from moe_live.routing.steps import StepAssembler
from moe_live.session import READ_SIZE
from moe_live.settings import Settings
from moe_live.statistics.anomalies import AnomalyCounter
from moe_live.statistics.coactivation import Coactivation
from moe_live.statistics.distances import GateDistances
from moe_live.statistics.drift import RecentSteps
from moe_live.statistics.frequency import Frequency
from moe_live.statistics.labels import LabelCounts
from moe_live.statistics.locality import Locality
from moe_live.statistics.sampling import TokenSample
from moe_live.statistics.transitions import Transitions

CLASSES: tuple[Any, ...] = (
    Frequency,
    AnomalyCounter,
    LabelCounts,
    Coactivation,
    Transitions,
    TokenSample,
    RecentSteps,
    Locality,
    GateDistances,
)


def measure(path: Path, megabytes: float = 24) -> dict[str, float]:
    """Nanoseconds that each class takes for an expert row of the log, and the whole chain."""
    with path.open("rb") as file:
        data = file.read(int(megabytes * 1e6))
    chunks = [data[at : at + READ_SIZE] for at in range(0, len(data), READ_SIZE)]
    decoder, assembler = LlamaServerDecoder(), StepAssembler()
    seconds: dict[str, float] = defaultdict(float)

    begun = time.perf_counter()
    rows = sum(len(records.layer) for chunk in chunks for records in decoder.feed(chunk))
    seconds["LlamaServerDecoder"] = time.perf_counter() - begun

    decoder = LlamaServerDecoder()
    begun = time.perf_counter()
    for chunk in chunks:
        for records in decoder.feed(chunk):
            for _ in assembler.feed(records):
                pass
    seconds["StepAssembler"] = time.perf_counter() - begun - seconds["LlamaServerDecoder"]

    originals = [(cls, cls.update) for cls in CLASSES]
    try:
        for cls, original in originals:
            cls.update = _timed(original, cls.__name__, seconds)
        analyzer = Analyzer(Settings(label="label"))  # so that counting by label has something to do
        begun = time.perf_counter()
        for chunk in chunks:
            analyzer.feed(chunk)
        analyzer.finish()
        analyzer.snapshot(frozenset())
        whole = time.perf_counter() - begun
    finally:
        for cls, original in originals:
            cls.update = original
    seconds["all else"] = whole - sum(seconds.values())
    seconds["the whole chain"] = whole
    return {name: spent / rows * 1e9 for name, spent in seconds.items()}


def _timed(update: Callable[..., None], name: str, seconds: dict[str, float]) -> Callable[..., None]:
    def timed(*arguments: Any) -> None:
        begun = time.perf_counter()
        update(*arguments)
        seconds[name] += time.perf_counter() - begun

    return timed
