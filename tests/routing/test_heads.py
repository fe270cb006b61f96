"""Draft heads told from the model's layers, and drafts that are verified from texts side by side."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_live.analyzer import Analyzer
from moe_live.judgement import Subject, Word
from moe_live.reports.json_report import to_json
from moe_live.snapshot import PhaseCount, Snapshot
from moe_live.sources.source import Break
from moe_live.verdicts import verdict
from tests.analysis import analyzed, snapshot_of
from tests.comparison import plain

CASES = Path(__file__).parents[1] / "data" / "cases"
LAYERS, HEAD = (3, 4, 5), 6
EXPERTS, TOP_K = 16, 2


@dataclass(frozen=True)
class Pass:
    """A forward pass and what the head does after it.

    Attributes:
        tokens: of the pass.
        drafted: tokens that the head drafts; None if it is not computed.
    """

    tokens: int
    drafted: int | None

    def lines(self, rng: np.random.Generator, *, with_head: bool) -> bytes:
        rows = [(layer, self.tokens) for layer in LAYERS]
        if self.drafted is not None:
            rows.append((HEAD, self.tokens + self.drafted))
        lines = [
            (layer, b"%d,%d %d\n" % (layer, *rng.choice(EXPERTS, TOP_K, replace=False).tolist()))
            for layer, number in rows
            for _ in range(number)
        ]
        return b"".join(line for layer, line in lines if with_head or layer != HEAD)


PROMPTS = st.builds(Pass, st.integers(65, 90), st.integers(1, 3))
VERIFICATIONS = st.builds(Pass, st.integers(1, 5), st.integers(0, 4))


@st.composite
def runs(draw: st.DrawFn) -> list[Pass]:
    """A prompt, and verifications after which the head has drafted often enough to be told."""
    passes = [draw(PROMPTS), Pass(1, 1), *(Pass(2, 2) for _ in range(3))]
    return passes + draw(st.lists(st.one_of(VERIFICATIONS, VERIFICATIONS, PROMPTS), max_size=20))


def text(passes: list[Pass], seed: int, *, with_head: bool) -> bytes:
    rng = np.random.default_rng(seed)
    return b"layer_id,expert_ids\n" + b"".join(one.lines(rng, with_head=with_head) for one in passes)


def of_model(snapshot: Snapshot) -> object:
    """The figures that do not know of the head."""
    return plain(
        (
            snapshot.model,
            snapshot.steps,
            snapshot.tokens,
            snapshot.layers,
            snapshot.overall,
            snapshot.rows.counted,
            snapshot.rows.unrecoverable,
            snapshot.rows.strided,
            snapshot.locality,
            snapshot.pairs,
            [(pair.from_layer, pair.to_layer, pair.tokens) for pair in snapshot.transitions or ()],
        )
    )


@given(runs(), st.integers(0, 2**32))
@settings(max_examples=settings().max_examples // 2)
def test_a_head_changes_no_figure_of_the_model(passes: list[Pass], seed: int) -> None:
    with_head, without = (snapshot_of(text(passes, seed, with_head=told)) for told in (True, False))
    assert of_model(with_head) == of_model(without)
    rows = sum(one.tokens + (one.drafted or 0) for one in passes)
    (head,) = with_head.drafts
    assert (head.layer, head.rows, head.usage.selections) == (HEAD, rows, rows * TOP_K)
    assert with_head.rows.drafts == rows
    assert with_head.rows.logged == without.rows.logged + rows
    assert not without.drafts


@given(runs(), st.integers(0, 2**32), st.integers(100, 4000), st.data())
@settings(max_examples=settings().max_examples // 2)
def test_heads_are_told_alike_however_the_log_is_cut_and_merged(
    passes: list[Pass], seed: int, size: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    pieces = [one.lines(rng, with_head=True) for one in passes]
    log = b"".join(pieces)
    whole = plain(snapshot_of(log))
    assert plain(snapshot_of(*(log[i : i + size] for i in range(0, len(log), size)))) == whole
    cut = data.draw(st.integers(0, len(pieces)))
    merged, one_after_the_other = Analyzer(), Analyzer()
    for part in (pieces[:cut], pieces[cut:]):
        merged.merge(analyzed(part))
        one_after_the_other.feed(b"".join(part))
        one_after_the_other.interrupt(Break.FILE_ENDED)
    one_after_the_other.finish()
    assert plain(merged.snapshot()) == plain(one_after_the_other.snapshot())


@cache
def case(name: str) -> Snapshot:
    return snapshot_of(gzip.decompress((CASES / f"{name}.log.gz").read_bytes()))


def test_a_head_of_a_model_is_kept_apart() -> None:
    """A prompt of 40 tokens, and passes that verify four tokens each."""
    found = case("c05c_mtp")
    assert found.model.layers == tuple(range(3, 19))
    assert [head.layer for head in found.drafts] == [19]
    assert (found.steps, found.tokens) == (PhaseCount(1, 40), PhaseCount(40, 160))
    assert found.rows.counted == 200 * 16
    phase = verdict(Subject.PHASE, found)
    assert phase is not None
    assert phase.word is Word.GUESSED  # nothing tells a short prompt from a verification
    json = to_json(found)
    assert [(head["layer"], head["rows"]) for head in json["drafts"]] == [(19, found.rows.drafts)]
    assert sum(json["drafts"][0]["counts"]) == 6 * found.rows.drafts


def test_drafts_of_one_text_are_no_texts_side_by_side() -> None:
    found = case("c05e_ngram")
    assert found.steps == PhaseCount(1, 80)
    assert not found.drafts
    phase = verdict(Subject.PHASE, found)
    assert phase is not None
    assert phase.word is Word.KNOWN
    (warning,) = [warning for warning in found.warnings if "several tokens" in warning]
    assert "drafts that are verified" in warning


@pytest.mark.parametrize(
    ("name", "steps", "drafts"),
    [
        # 435 verifications of four tokens, shorter last ones of three requests, and a prompt of ten tokens.
        ("mtp", PhaseCount(5, 435 + 9 + 1), [10]),
        ("ngram", PhaseCount(4, 388), []),
    ],
)
def test_real_servers_that_verify_drafts(
    real_logs: Path, name: str, steps: PhaseCount, drafts: list[int]
) -> None:
    log = gzip.decompress((real_logs / f"glm4moe-spec-{name}_np1.log.gz").read_bytes())
    found = snapshot_of(log)
    assert found.steps == steps
    assert [head.layer for head in found.drafts] == drafts
    assert not [warning for warning in found.warnings if "interleaved" in warning]


def side_by_side(requests: list[tuple[int, int]]) -> bytes:
    """Requests on several slots without drafts: (step at which it begins, tokens it generates)."""
    rng = np.random.default_rng(0)
    passes = []
    for now in range(max(begin + length for begin, length in requests) + 1):
        if any(begin == now for begin, _ in requests):
            passes.append(Pass(80, None))
        else:
            passes.append(Pass(sum(begin < now <= begin + length for begin, length in requests), None))
    return b"".join(one.lines(rng, with_head=False) for one in passes if one.tokens)


@settings(max_examples=settings().max_examples // 2)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 40)), min_size=2, max_size=8))
def test_texts_side_by_side_are_never_called_drafts(requests: list[tuple[int, int]]) -> None:
    found = analyzed([side_by_side(requests)]).snapshot(())
    assert not [warning for warning in found.warnings if "drafts" in warning]


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_lines_that_are_lost_make_no_head(lost: int) -> None:
    """Of passes of four tokens, each without a row of one of its layers, in turn."""
    rng = np.random.default_rng(1)
    lines = [Pass(4, None).lines(rng, with_head=False).splitlines(keepends=True) for _ in range(60)]
    for i, of_pass in enumerate(lines):
        del of_pass[4 * (i % 3 if lost == 2 else lost)]
    found = snapshot_of(b"".join(line for of_pass in lines for line in of_pass))
    assert found.model.layers == LAYERS
    assert not found.drafts


def told(passes: list[Pass], seed: int) -> list[bytes]:
    """A log that says which layer is of a head; each run of its rows is a step of its own."""
    rng = np.random.default_rng(seed)
    pieces = [b"# draft %d\n" % HEAD]
    position = 0
    for one in passes:
        lines = one.lines(rng, with_head=True).splitlines(keepends=True)
        rows = [[line for line in lines if line.startswith(b"%d," % layer)] for layer in (*LAYERS, HEAD)]
        places = " ".join(str(position + i) for i in range(one.tokens)).encode()
        out = b" ".join(b"1" if position else b"01"[i == one.tokens - 1 :][:1] for i in range(one.tokens))
        pieces.append(b"# step pos=%b seq=%b out=%b\n" % (places, b" ".join([b"0"] * one.tokens), out))
        pieces += [line for block in rows[:-1] for line in block]
        of_head = rows[-1]
        while of_head:
            size = one.tokens if len(of_head) > one.tokens else len(of_head)
            pieces.append(b"# step pos=%b\n" % b" ".join([b"%d" % position] * size))
            pieces += of_head[:size]
            of_head = of_head[size:]
        position += one.tokens
    return pieces


@given(runs(), st.integers(0, 2**32), st.integers(50, 4000))
@settings(max_examples=settings().max_examples // 2)
def test_layers_that_are_told_to_be_heads_are_in_no_step(passes: list[Pass], seed: int, size: int) -> None:
    lines = told(passes, seed)
    log = b"".join(lines)
    found = snapshot_of(*(log[i : i + size] for i in range(0, len(log), size)))
    own = of_model_alone(lines)
    assert of_model(found) == of_model(snapshot_of(own))
    rows = sum(line.startswith(b"%d," % HEAD) for line in lines)
    assert found.rows.drafts == rows
    if rows:
        (head,) = found.drafts
        assert (head.layer, head.rows, head.usage.selections) == (HEAD, rows, rows * TOP_K)
        assert head.told
    assert found.steps.total == len(passes)
    cut = len(lines) // 2
    merged = analyzed([b"".join(lines[:cut])])
    merged += analyzed([lines[0], *lines[cut:]])
    apart = Analyzer()
    apart.feed(b"".join(lines[:cut]))
    apart.interrupt(Break.FILE_ENDED)
    apart.feed(b"".join([lines[0], *lines[cut:]]))
    apart.finish()
    assert plain(merged.snapshot()) == plain(apart.snapshot())


def of_model_alone(lines: list[bytes]) -> bytes:
    """The same without the head's steps and what is told of them."""
    kept = []
    for line, after in zip(lines, [*lines[1:], b""], strict=True):
        if not line.startswith((b"%d," % HEAD, b"# draft")) and not (
            line.startswith(b"# step") and after.startswith(b"%d," % HEAD)
        ):
            kept.append(line)
    return b"".join(kept)


def test_a_log_of_drafts_alone_is_looked_at() -> None:
    log = b"# draft 6\n" + b"".join(
        b"# step pos=%d seq=0 out=1\n6,%d %d\n" % (i, i % 7, 8) for i in range(20)
    )
    found = snapshot_of(log)
    assert found.model.layers == (6,)
    assert not found.drafts
    assert found.rows.counted == 20


@pytest.mark.parametrize(
    "line", [b"# draft\n", b"# draft x\n", b"# draft 6 7\n", b"# draft 9999\n", b"# drafts 6\n"]
)
def test_other_comments_tell_of_no_head(line: bytes) -> None:
    found = snapshot_of(line + b"3,1 2\n6,1 2\n" * 4)
    assert found.model.layers == (3, 6)
    assert found.input.tally.comment_lines == 1
    assert not found.drafts
