"""Logs of simulated servers, sound, strided and strided in part, and what is said of their rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from moe_live.analyzer import Analyzer
from moe_live.routing.evidence import Verdict, chance_bits
from moe_live.settings import Settings
from moe_live.snapshot import Snapshot
from tests.claims.data import SHAPES, TEXTS, UNIFORM, Text, chosen

LAYERS = 4

SURELY_TOLD = 50.0
"""-log2 of the chance that all blocks of a sound step pass, from which on it is told from a strided one."""

SOUND_SHAPES = (
    *((shape, "text") for shape in SHAPES),
    *(((16, 4), router) for router in ("groups", "round robin")),
)
SOUND_SHAPES += tuple((shape, "text") for shape in ((8, 1), (32, 4), (32, 8), (60, 6), (72, 6), (96, 8)))
SOUND_SHAPES += (((64, 8), "groups"), ((64, 8), "round robin"), ((32, 8), "groups"), ((128, 6), "text"))
SOUND_SHAPES += (((128, 8), "slots"),)
"""Experts a layer, experts a row, and how they are chosen: 24 kinds of models."""


@dataclass(frozen=True)
class Log:
    """A log of one run.

    Attributes:
        text: its bytes.
        least: (LAYERS, n_experts) selections of the rows that hold where the log may be strided: the first of
            each block, and what can be recovered.
        most: the same with all rows of the steps that are sound.
        told: whether each of these is sure to be told from strided ones.
        chance: that as many blocks of a sound log pass; 1 for a sound log.
    """

    text: bytes
    least: NDArray[np.int64]
    most: NDArray[np.int64]
    told: bool = False
    chance: float = 1.0


@dataclass
class Tally:
    """What was said of so many logs.

    Attributes:
        said: how often each word.
        wrong: of which logs it was, and how.
        told: in how many mixed ones each sound step is long enough to be told, so that all its rows count.
    """

    said: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    told: int = 0

    def lines(self, name: str) -> Iterator[str]:
        """The report."""
        yield (
            f"{name}: {self.said.total()} logs: "
            + ", ".join(f"{n} {word}" for word, n in self.said.items())
            + (f"; in {self.told} all rows of sound steps count" if self.told else "")
        )
        yield from self.wrong


def analyzed(text: bytes, n_experts: int) -> Snapshot:
    analyzer = Analyzer(Settings(n_experts=n_experts, counts_only=True))
    analyzer.feed(text)
    analyzer.finish()
    return analyzer.snapshot()


def routed(
    rng: np.random.Generator, router: str, text: Text, shape: tuple[int, int], tokens: int
) -> NDArray[np.uint16]:
    """Rows (tokens, LAYERS, k) of a router."""
    n_experts, k = shape
    if router == "text":
        return chosen(rng, text, shape, tokens, LAYERS)
    if router == "slots":  # each row of a block is of a text of its own
        scores = float(rng.choice([0, 0.5, 1])) * rng.normal(size=(LAYERS, n_experts))
        topics = rng.normal(0, 1.5, (8, LAYERS, n_experts))[np.arange(tokens) % 8]
        ranked = np.argsort(-(scores + topics + rng.gumbel(size=topics.shape)), axis=2)
        return ranked[:, :, :k].astype(np.uint16)
    groups = n_experts // k
    group = (
        rng.integers(groups, size=(tokens, LAYERS, 1))
        if router == "groups"
        else (np.arange(tokens)[:, None, None] + np.arange(LAYERS)[:, None]) % groups
    )
    return (group * k + rng.permutation(k)).astype(np.uint16)


def lines_of(rows: NDArray[np.integer]) -> bytes:
    """A step with rows (tokens, LAYERS, k)."""
    return b"".join(
        b"%d,%b\n" % (layer, b" ".join(b"%d" % expert for expert in row))
        for layer in range(rows.shape[1])
        for row in rows[:, layer].tolist()
    )


def sound(rng: np.random.Generator, number: int, blocks: int = 60) -> Log:
    """A sound log: prompts, several slots, and steps of one token among them."""
    shape, router = SOUND_SHAPES[number % len(SOUND_SHAPES)]
    text = (*TEXTS, UNIFORM)[int(rng.integers(len(TEXTS) + 1))]
    length = int(rng.choice([2, 3, 4, 6, 8, 30]))
    alone = int(rng.choice([0, 2, 10])) if router == "text" else 10
    rows = routed(rng, router, text, shape, blocks * (length + alone))
    steps = []
    for step in np.split(rows, blocks):
        steps += [step[:length], *(step[i : i + 1] for i in range(length, length + alone))]
    none = np.zeros((LAYERS, shape[0]), np.int64)
    return Log(b"".join(map(lines_of, steps)), none, none)


def mixed(rng: np.random.Generator, number: int, blocks: int = 120) -> Log:
    """A log of which 5 to 95 % of the steps are strided, of 2 to 8 rows a block."""
    n_experts, k = SHAPES[number % len(SHAPES)]
    length = int(rng.integers(2, 9))
    is_strided = rng.random(blocks) < rng.uniform(0.05, 0.95)
    popularity = float(rng.choice([0, 0.5, 1, 2])) * rng.normal(size=(LAYERS, n_experts))
    least, sound_rows = np.zeros((2, LAYERS, n_experts), np.int64)
    steps, passed, tested = [], 0, 0
    size = min(length * k, n_experts)  # of a chunk
    for wrong in is_strided.tolist():
        ranked = np.argsort(-(popularity + rng.gumbel(size=(length, LAYERS, n_experts))), axis=2)
        step = ranked[:, :, :k]
        if wrong:
            flat = ranked.transpose(1, 0, 2).reshape(LAYERS, -1)[:, : length * k]
            step = flat.reshape(LAYERS, length, k).transpose(1, 0, 2)
        for layer in range(LAYERS):
            flat = step[:, layer].reshape(-1)
            chunks = [flat[i : i + size] for i in range(0, len(flat) - size + 1, size)]
            passes = [len(set(chunk.tolist())) == size for chunk in chunks]
            passed, tested = passed + sum(passes), tested + len(passes)
            recovered = (length - 1) * k // n_experts if all(passes) and length * k >= n_experts else 0
            for token in range(recovered + 1):
                np.add.at(least[layer], flat[token * n_experts : token * n_experts + k], 1)
            if not wrong:
                np.add.at(sound_rows[layer], flat[(recovered + 1) * k :], 1)
        steps.append(lines_of(step))
    bits = chance_bits(size, k, n_experts)
    told = LAYERS * bits * (length * k // size) >= SURELY_TOLD
    return Log(b"".join(steps), least, least + sound_rows, told, _tail(tested, passed, 2.0**-bits))


def _tail(n: int, c: int, p: float) -> float:
    """P(Binomial(n, p) >= c)."""
    terms = [
        math.lgamma(n + 1)
        - math.lgamma(i + 1)
        - math.lgamma(n - i + 1)
        + i * math.log(p)
        + (n - i) * math.log1p(-p)
        for i in range(c, n + 1)
    ]
    return min(1.0, sum(math.exp(term) for term in terms)) if c else 1.0


def of_sound_logs(logs: int, seed: int) -> Tally:
    """What is said of sound logs."""
    rng, tally = np.random.default_rng(seed), Tally()
    for number in range(logs):
        (shape, router) = SOUND_SHAPES[number % len(SOUND_SHAPES)]
        rows = analyzed(sound(rng, number).text, shape[0]).rows
        tally.said[rows.soundness.value] += 1
        if rows.soundness in (Verdict.STRIDED, Verdict.MIXED):
            tally.wrong.append(f"log {number}, {shape}, {router}: {rows.soundness.value}")
    return tally


def of_mixed_logs(logs: int, seed: int) -> Tally:
    """What is said of logs that are strided in part; wrong is also one that counts what is not the truth.

    All rows of sound steps count where these are long enough to be told; of shorter ones the first.

    Of 8 experts chance makes permutations, and so rows that seem to be recovered.
    """
    rng, tally = np.random.default_rng(seed), Tally()
    for number in range(logs):
        shape = SHAPES[number % len(SHAPES)]
        log = mixed(rng, number)
        snapshot = analyzed(log.text, shape[0])
        found = snapshot.rows.soundness
        tally.said[found.value] += 1
        if found is Verdict.SOUND and log.chance < 1e-6:
            tally.wrong.append(f"log {number}, {shape}: sound, by a chance of {log.chance:.1e}")
        if found not in (Verdict.STRIDED, Verdict.MIXED) or shape[0] <= 8:
            continue
        counts = snapshot.counts
        if found is Verdict.MIXED and log.told:
            tally.told += 1
        if (
            (counts < log.least).any()
            or (counts > log.most).any()
            or (log.told and (counts != log.most).any())
        ):
            tally.wrong.append(f"log {number}, {shape}: rows that count are not the truth")
    return tally
