"""Snapshots and statuses made up for the tests of the dashboard: the same on every machine."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from moe_live.dataclass import dataclass
from moe_live.formats.llama_server import LLAMA_SERVER
from moe_live.formats.records import LineTally
from moe_live.pace import Pace
from moe_live.routing.evidence import Verdict
from moe_live.running import Status
from moe_live.settings import MAX_LAYERS, RowMode
from moe_live.snapshot import (
    CacheSizing,
    Compared,
    Distances,
    ExpertPair,
    History,
    Input,
    Labels,
    LayerLocality,
    LayerPairs,
    LayerTransition,
    LayerUsage,
    Model,
    Moments,
    Offloading,
    PairDistance,
    PhaseCount,
    Placements,
    Pruning,
    Rows,
    Snapshot,
    SourceNow,
    SourceShare,
    Usage,
    Uses,
)
from moe_live.sources.source import SourceStatus, State
from moe_live.statistics.agreement import _TOKENS, RowAgreement
from moe_live.statistics.blocks import Gain
from moe_live.statistics.comparison import FIGURES
from moe_live.statistics.drift import BLOCKS, Parts, Window, drift
from moe_live.statistics.hot_set import HotExpert
from moe_live.statistics.labels import divergences, usages
from moe_live.statistics.likeness import Likeness
from moe_live.statistics.offload import Offload
from moe_live.statistics.placement import UnseenLoad
from moe_live.statistics.pruning import lost_unseen
from moe_live.statistics.replay import CacheRates, Served
from moe_live.statistics.sizing import CacheSize

VERDICTS = {
    True: (
        Verdict.STRIDED,
        "most prompt rows in this log are not real selections: 8,865 of 12,345 rows left out, 120 recovered",
    ),
    False: (Verdict.SOUND, "too few rows of several tokens to judge them"),
    None: (Verdict.UNKNOWN, "too few rows of several tokens to judge them"),
}
"""What is said of the rows, by `Rows.strided`."""


@dataclass(frozen=True, slots=True, eq=False)
class GivenHistory(History):
    """One of counts (bins, layers, E) that are given."""

    given: NDArray[np.int64]

    def of_layer(self, place: int) -> NDArray[np.int64]:
        return self.given[:, place]


def usage(layer: int, experts: int, scale: int) -> Usage:
    """Uneven use: few experts often, some never."""
    rank = (np.arange(experts, dtype=np.int64) * 7919 + layer * 104729) % 101
    counts = scale * rank**3 // 101**3
    return Usage(counts, counts // 3)


def moments(values: NDArray[np.float64]) -> Moments:
    known = values[np.isfinite(values)]
    undefined = len(values) - len(known)
    if not len(known):
        return Moments(0, undefined, *[math.nan] * 5)
    return Moments(
        len(known),
        undefined,
        float(known.mean()),
        float(known.std()),
        float(known.min()),
        float(known.max()),
        float(known[-1]),
    )


def pair(layer: int, steps: int) -> PairDistance:
    cosine = 0.93 + 0.05 * np.sin(np.arange(steps) / 7 + layer)
    euclidean = 12.5 + layer + 3 * np.cos(np.arange(steps) / 5)
    return PairDistance(
        layer,
        layer + 1,
        steps,
        {
            "cosine_similarity": moments(cosine),
            "cosine_distance": moments(1 - cosine),
            "euclidean": moments(euclidean),
            "l2_normalized": moments(euclidean / 16),
            "pearson": moments(np.full(steps, np.nan)),
            "mean_abs_diff": moments(euclidean / 20),
        },
        cosine[-120:],
    )


SOURCES = (
    SourceShare(
        "/var/log/moe/alpha.log",
        bytes=98_765_432,
        lines=1_234_567,
        malformed_lines=12,
        rows=1_200_000,
        counted=1_200_000,
        row_word="sound",
        row_verdict="all 1,200 blocks of several rows are sound",
        steps=30_864,
        decode_steps=30_800,
        tokens=40_864,
        decode_tokens=30_800,
        hottest=HotExpert(26, 122, 4567, 0.0731, 1),
        apart=0.0123,
        by_chance=0.0004,
    ),
    SourceShare(
        "/var/log/moe/beta with a name that is longer than any column for it.log",
        lines=90,
        rows=80,
        row_word="right either way",
        steps=2,
    ),
    SourceShare("/var/log/moe/gamma.log", rows=12_000, row_word="strided", steps=300, apart=0.51),
    SourceShare("/var/log/moe/delta.log", left_out="cannot merge delta.log: it is of another model"),
)
NOW = {
    SOURCES[0].name: SourceNow("following", None, 1234.5, 30.8),
    SOURCES[1].name: SourceNow("waiting", None, 0.0, 0.0),
    SOURCES[2].name: SourceNow(age=75.0),
}


def snapshot(
    layers: int = 24,
    experts: int = 160,
    *,
    first: int = 3,
    scale: int = 4000,
    pairs: int = 4,
    strided: bool | None = True,
    path: str = "/var/log/moe_expert_selection.log",
    tally: LineTally | None = None,
    warnings: tuple[str, ...] = (),
    sections: bool = True,
) -> Snapshot:
    numbers = tuple(range(first, first + layers))
    uses = [usage(layer, experts, scale) for layer in numbers]
    total = sum((use.counts for use in uses), np.zeros(experts, np.int64))
    decode = sum((use.decode for use in uses), np.zeros(experts, np.int64))
    found = tuple(pair(20 + i, 510) for i in range(pairs))
    gates = tuple(range(20, 21 + pairs)) if pairs else ()
    bare = Snapshot(
        input=Input(
            (path,),
            tally or LineTally(bytes=123456789, lines=1234567, header_lines=1),
            1,
            0,
            LLAMA_SERVER.name,
        ),
        model=Model(
            numbers, experts if layers else None, 8 if layers else None, gates, 256 if gates else None
        ),
        rows=Rows(RowMode.AUTO, 12345, 3480, 120, 8865, *VERDICTS[strided]),
        steps=PhaseCount(7, 510) if layers or pairs else PhaseCount(0, 0),
        tokens=PhaseCount(1218, 510) if layers or pairs else PhaseCount(0, 0),
        layers=tuple(LayerUsage(layer, use) for layer, use in zip(numbers, uses, strict=True)),
        overall=Usage(total, decode),
        distances=Distances(
            steps=510 if pairs else 0,
            include_prompt=False,
            pairs=found,
        ),
        warnings=warnings,
    )
    return with_sections(bare) if sections and layers else bare


def with_sections(bare: Snapshot) -> Snapshot:
    """All sections, with all that views have to tell apart: few and many, real and not, undefined."""
    numbers = bare.model.layers
    counts, decode = bare.counts, np.stack([entry.usage.decode for entry in bare.layers])
    block = decode // (2 * BLOCKS)
    run = 2 * BLOCKS * block
    block[::3] = np.roll(block[::3], 1, axis=1)
    window = Window(256, 256, np.stack([block] * BLOCKS))
    drifted = drift(window, 4 * run, Parts.of(window, 4 * run, np.stack([run] * 8), 8), 8)
    shifted = counts[None] * (2 + np.cos(np.arange(32)[:, None, None] / 5 + counts[None]))
    by_label = {
        "code": counts // 2,
        "prose \x1b[31m": np.roll(counts, 1, axis=1) // 3,
        "a label that is rather long": counts // 1000,
    }
    periods = dict(zip(by_label, (5, 4, 3), strict=True))
    latest = uses(numbers, counts.shape[1])
    return replace(
        bare,
        locality=tuple(locality(entry.layer, entry.usage.decode, 8) for entry in bare.layers),
        pairs={layer: expert_pairs(layer, i) for i, layer in enumerate(numbers)},
        transitions=tuple(transition(a, i) for i, a in enumerate(numbers[:-1])),
        drift=replace(drifted, before=decode - drifted.counts),
        history=GivenHistory(517, numbers, counts.shape[1], 32, (), shifted.astype(np.int64) // 32),
        labels=Labels(usages(by_label, numbers, 8), divergences(by_label, 8, periods), periods),
        latest=latest,
        cache=sizing(numbers, counts.shape[1]),
        prune=Pruning(0.1, lost_unseen(latest, 0.1)),
        offload=offloading(numbers, counts.shape[1]),
        compared=compared(numbers),
        placement=placements(numbers, counts.shape[1]),
    )


def uses(layers: tuple[int, ...], experts: int, steps: int = 40) -> Uses:
    """Decode steps of one token, in which the lower experts are used more often."""
    top_k = min(8, experts)
    step, slot, rank = np.indices((steps, len(layers), top_k)).reshape(3, -1)
    expert = (
        rank * experts // top_k + (step * step * 7 + slot * 3 + rank) % 13 % (experts // top_k)
    ) % experts
    decode, one = np.ones(steps, np.bool_), np.ones(steps, np.int64)
    return Uses(layers, experts, decode, one, step, slot, expert, np.ones(len(step), np.int64))


def sizing(layers: tuple[int, ...], experts: int) -> CacheSizing:
    """Caches that gain, do not, and of which it cannot be told."""
    expert_bytes = np.where(np.arange(len(layers)) % 2, 8_000_000, 6_500_000)
    total = experts * int(expert_bytes.sum())

    def served(rate: float) -> Served:
        return Served(rate, 0.01, (1 - rate) * 4.8e8)

    def one(share: float, gains: bool | None) -> CacheSize:
        rates = [served(share**power) for power in (0.4, 0.6, 0.55, 0.7, 0.65, 0.5)]
        slots = np.full(len(layers), int(share * experts))
        slots[1::3] += 1
        size = CacheRates(int(share * total), *rates)
        return CacheSize(size, share, "lfu", gains, slots, share**0.5, share**0.6)

    judged = (None, None, False, True, True, True, True, False)
    shares = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
    sizes = tuple(one(share, gains) for share, gains in zip(shares, judged, strict=True))
    return CacheSizing(layers, expert_bytes, total, 38, 2, 4.8e8, sizes, total // 3, 0.51)


def offloading(layers: tuple[int, ...], experts: int) -> Offloading:
    """The last half of the layers on the GPU; by use it would be every second one."""
    rows = np.arange(len(layers))
    by_number, by_use = rows < len(layers) // 2, rows % 2 == 0
    slow = "|".join(str(layer) for layer in np.array(layers)[by_number])
    return Offloading(
        layers,
        40,
        20 << 30,
        experts * np.where(rows % 2, 8_000_000, 6_500_000),
        np.stack([8.0 + rows % 3, 28.8 + rows, 56.0 + rows, np.full(len(layers), math.nan)], axis=1),
        Offload(by_number, by_use, np.linspace(6.1e7, 8.4e7, len(layers)), gains=False),
        ("-ngl", "999", "-ot", rf"blk\.({slow})\.ffn_.*_exps\.=CPU"),
        knows_others=False,
    )


def placements(layers: tuple[int, ...], experts: int) -> Placements:
    """Four devices, with replicas that are of use, and a layer without load."""
    places = -(-experts // 4) * 4 + 4
    rows = np.arange(len(layers))
    even = np.where(rows == 2, np.nan, 0.5 + rows % 7 / 20)
    by_device = np.array([0.31, 0.24, 0.23, 0.22])
    return Placements(
        layers,
        experts,
        4,
        40,
        {
            "contiguous": UnseenLoad(even, by_device),
            "greedy": UnseenLoad(even + 0.1, by_device, "contiguous", Gain(0.1, 0.04)),
            "any replicas": UnseenLoad(even[::-1], by_device),
            "replicated": UnseenLoad(even[::-1] + 0.2, by_device, "any replicas", Gain(0.2, 0.01)),
        },
        np.arange(places) * 7 % experts + 0 * rows[:, None],
    )


def compared(layers: tuple[int, ...]) -> Compared:
    """The same text through a model that chooses another expert now and then; a layer without rows."""
    rows = RowAgreement()
    for place, layer in enumerate(layers[1:]):
        a = (np.arange(40)[:, None] * 3 + np.arange(8)).astype(np.uint16)
        b = a.copy()
        b[place % 5 :: 5, place % 8] += 100
        rows.update((np.arange(40) * MAX_LAYERS + layer) * _TOKENS, a, b)
    nothing = np.full(len(layers), math.nan)
    common = np.linspace(0.9, 0.99, len(layers))
    figures = dict.fromkeys(FIGURES, 0.75)
    return Compared(
        names=("/logs/full.log", "/logs/q4 \x1b[31m.log"),
        layers=layers,
        figures=(figures, {**figures, "unused": 12.0}),
        usage=Likeness(common, common - 0.1, 1 - common, nothing, np.stack([nothing, 1 - common])),
        rows=rows,
        matched=1.0,
        same_text=True,
    )


def locality(layer: int, decode: NDArray[np.int64], top_k: int) -> LayerLocality:
    experts = len(decode)
    share = np.arange(1, experts + 1) / experts
    return LayerLocality(
        layer=layer,
        steps=510,
        uses=min(int(decode.sum()), 510 * top_k),
        overlap={lag: 0.4 / lag + layer / 1000 for lag in (1, 2, 4, 8)},
        overlap_chance=min(1.0, top_k / experts),
        reuse_median=3.0 + layer % 4,
        reuse_p90=math.inf if layer % 5 == 0 else 90.0 + layer,
        never_again=0.01,
        working_set={10: min(31.4, experts), 100: min(66.0, experts), 1000: math.nan},
        lru_hit_rate=share**0.5,
        static_hit_rate=share**0.4,
        idle_steps=np.where(decode > 0, np.where(decode % 7 == 0, math.inf, decode % 7 - 1.0), math.nan),
        union={tokens: min(tokens * top_k * 0.8, experts) for tokens in (2, 3, 4, 5, 6, 7, 8, 16, 32, 64)},
        lru_error=0.006 * (1 - share),
    )


def expert_pairs(layer: int, place: int) -> LayerPairs:
    if place % 3 == 2:
        return LayerPairs(12, math.nan, 0, math.nan, math.nan, (), ())

    def found(i: int, lift: float) -> ExpertPair:
        count = int(400 * lift / (i + 1))
        pmi = math.log2(lift) if lift else -math.inf
        return ExpertPair(
            i, 150 - i, count, 400 / (i + 1), lift, pmi, count / 2000, count / 1800, 6 * (lift - 1)
        )

    strongest = tuple(found(i, 4.0 - i / 4) for i in range(10))
    weakest = tuple(found(i, i / 12) for i in range(4 if place % 3 else 0))
    return LayerPairs(3480 + layer, 0.881, 4711, 1.3, 4.87, strongest, weakest)


def transition(layer: int, place: int) -> LayerTransition:
    tested = (256, 40, 0)[place % 3]
    rate = 0.3 + layer % 7 / 20 if tested else math.nan
    gain = 0.1 - place / 100
    error = 0.01 if tested > 100 else math.nan
    return LayerTransition(
        layer,
        layer + 1,
        3480,
        tested,
        rate,
        rate - gain,
        0.05 if tested else math.nan,
        rate - rate + gain,
        error,
    )


def nothing(tally: LineTally | None = None) -> Snapshot:
    """Before any MoE line."""
    return snapshot(0, 0, pairs=0, strided=None, tally=tally or LineTally())


def status(
    state: State = State.FOLLOWING,
    *,
    name: str = "/var/log/moe_expert_selection.log",
    position: int = 123456789,
    size: int | None = 123460885,
    detail: str = "",
    seconds_left: float | None = None,
    label: str = "",
) -> Status:
    source = SourceStatus(name, state, detail, position, size, restarts=1, rotations=0, watch="polling")
    seconds = [math.nan] * 3 + [0.0] * 40 + [450.0, 380.0] + [0.0] * 15
    decode = [math.nan] * 3 + [18 + i % 5 for i in range(40)] + [0.0, 0.0] + [17.0] * 15
    paces = Pace(0.0, tuple(seconds)), Pace(17.2, tuple(decode))
    return Status(source, 2_400_000, 9123.4, *paces, seconds_left, label)
