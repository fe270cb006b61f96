"""Logs that tell position, sequence and output of each token: read along the texts, nothing is guessed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.analyzer import Analyzer
from moe_live.snapshot import LayerLocality, Snapshot
from moe_live.sources.source import Break
from moe_live.statistics import sequences
from moe_live.verdicts import verdicts

LAYERS, EXPERTS, TOP_K = (3, 4, 5), 9, 2


@dataclass(frozen=True)
class Token:
    """A token of a text: what its line `# step` tells, and how it is routed."""

    sequence: int
    position: int
    output: bool

    def row(self, layer: int) -> bytes:
        rng = np.random.default_rng((self.sequence, self.position, layer))
        ids = rng.choice(EXPERTS, TOP_K, replace=False, p=np.arange(1, EXPERTS + 1) / 45)
        return b"%d,%d %d\n" % (layer, *ids.tolist())


def told(tokens: Sequence[Token], *, sequences: bool = True, outputs: bool = True) -> bytes:
    """The line before a step."""
    columns = [("pos", [token.position for token in tokens])]
    if sequences:
        columns.append(("seq", [token.sequence for token in tokens]))
    if outputs:
        columns.append(("out", [int(token.output) for token in tokens]))
    text = "".join(f" {name}={' '.join(map(str, values))}" for name, values in columns)
    return f"# step{text}\n".encode()


def step(tokens: Sequence[Token], *, marked: bool = True) -> bytes:
    """A forward pass: the last layer has the tokens with output only."""
    lines = [told(tokens)] if marked else []
    for layer in LAYERS:
        lines += [token.row(layer) for token in tokens if layer != LAYERS[-1] or token.output]
    return b"".join(lines)


def texts(n_sequences: int, prompts: Sequence[int], n_generated: Sequence[int]) -> list[list[list[Token]]]:
    """For each sequence the passes it takes part in: its prompt in two pieces, then token by token."""
    found = []
    for sequence, prompt, generated in zip(range(n_sequences), prompts, n_generated, strict=True):
        tokens = [Token(sequence, i, output=i >= prompt - 1) for i in range(prompt + generated)]
        cut = prompt // 2
        passes = [tokens[:cut], tokens[cut:prompt], *([token] for token in tokens[prompt:])]
        found.append([one for one in passes if one])
    return found


def analyzed(*files: Iterable[bytes]) -> Snapshot:
    analyzer = Analyzer()
    for number, file in enumerate(files):
        if number:
            analyzer.interrupt(Break.FILE_ENDED)
        for chunk in file:
            analyzer.feed(chunk)
    analyzer.finish()
    return analyzer.snapshot()


def shown(localities: tuple[LayerLocality, ...] | None) -> list[dict[str, object]]:
    """Localities to be compared, but for the idle steps, which count from the last step of any text."""
    assert localities is not None
    found: list[dict[str, object]] = []
    for locality in localities:
        fields = asdict(replace(locality, idle_steps=np.empty(0)))
        found.append(
            {
                name: repr(value.tolist() if isinstance(value, np.ndarray) else value)
                for name, value in fields.items()
            }
        )
    return found


def schedule(draw: st.DrawFn, passes: list[list[list[Token]]]) -> list[list[Token]]:
    """Passes of several slots: each holds the next tokens of some of the texts, in any order of these."""
    left = [list(one) for one in passes]
    found = []
    while any(left):
        ready = [i for i, one in enumerate(left) if one]
        some = draw(st.lists(st.sampled_from(ready), min_size=1, max_size=4, unique=True))
        found.append([token for i in some for token in left[i].pop(0)])
    return found


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[list[list[Token]]], list[list[Token]]]:
    n = draw(st.integers(1, 4))
    prompts = draw(st.lists(st.integers(4, 7), min_size=n, max_size=n))
    generated = draw(st.lists(st.integers(0, 12), min_size=n, max_size=n))
    passes = texts(n, prompts, generated)
    return passes, schedule(draw, passes)


@given(runs(), st.integers(1, 200))
def test_several_slots_are_read_as_their_texts_one_after_the_other(
    run: tuple[list[list[list[Token]]], list[list[Token]]], size: int
) -> None:
    passes, steps = run
    text = b"".join(map(step, steps))
    together = analyzed([text[i : i + size] for i in range(0, len(text), size)])
    for marked in (True, False):
        apart = analyzed(*([step(one, marked=marked) for one in of_text] for of_text in passes))
        assert together.tokens == apart.tokens
        assert shown(together.locality) == shown(apart.locality)
        for ours, theirs in zip(together.layers, apart.layers, strict=True):
            assert ours.usage.counts.tolist() == theirs.usage.counts.tolist()
            assert ours.usage.decode.tolist() == theirs.usage.decode.tolist()
    assert together.steps.total == len(steps)
    assert not [warning for warning in together.warnings if "interleaved" in warning]
    n_generated = sum(token.output for of_text in passes for one in of_text for token in one) - len(passes)
    assert together.tokens.decode == n_generated
    phase = next(verdict for verdict in verdicts(together) if verdict.subject == "phase")
    assert phase.word == "known"


def test_merging_two_logs_is_reading_them_one_after_the_other() -> None:
    passes = texts(3, [4, 5, 6], [30, 20, 10])
    steps = [
        step([token for of_text in passes for one in of_text[i : i + 1] for token in one]) for i in range(32)
    ]
    logs = [steps[:1], steps[1:9], steps[9:]]
    one_after_the_other = analyzed(*logs)
    merged = Analyzer()
    merged.finish()
    for log in logs:
        other = Analyzer()
        for chunk in log:
            other.feed(chunk)
        other.finish()
        merged.merge(other)
    assert shown(merged.snapshot().locality) == shown(one_after_the_other.locality)


def decoded(*steps: Sequence[Token]) -> list[int]:
    """How many tokens were decode after each of these passes."""
    found = []
    analyzer = Analyzer()
    for one in steps:
        analyzer.feed(step(one))
        analyzer.interrupt(Break.ROTATED)  # closes the step, and the texts go on
        found.append(analyzer.snapshot().tokens.decode)
    return [b - a for a, b in pairwise([0, *found])]


def run_of(first: int, outputs: str, sequence: int = 0) -> list[Token]:
    return [Token(sequence, first + i, output == "1") for i, output in enumerate(outputs)]


@pytest.mark.parametrize(
    ("passes", "expected"),
    [
        ([run_of(0, "0001"), run_of(4, "1"), run_of(5, "1")], [0, 1, 1]),
        ([run_of(0, "1"), run_of(1, "1")], [0, 1]),  # a prompt of one token
        ([run_of(0, "01"), run_of(2, "111"), run_of(4, "11"), run_of(5, "111")], [0, 3, 2, 3]),  # drafts
        ([run_of(0, "01"), run_of(2, "1"), run_of(1, "1"), run_of(2, "1")], [0, 1, 0, 1]),  # asked again
        (
            [run_of(0, "01"), run_of(2, "11"), run_of(4, "00"), run_of(6, "1"), run_of(7, "1")],
            [0, 2, 0, 0, 1],
        ),
        ([run_of(0, "01"), run_of(7, "1"), run_of(8, "1")], [0, 0, 1]),  # not seen before
        ([[*run_of(0, "01"), *run_of(0, "001", 1)], [*run_of(2, "1"), *run_of(3, "1", 1)]], [0, 2]),
        ([run_of(0, "01"), [*run_of(2, "1"), *run_of(0, "000", 1)]], [0, 1]),  # prompt beside generation
    ],
)
def test_phases_are_exact(passes: list[list[Token]], expected: list[int]) -> None:
    assert decoded(*passes) == expected


def test_what_warms_up_is_left_out() -> None:
    prompt, generated = run_of(0, "01"), run_of(2, "1")
    warmup = step(prompt).replace(b"out=0 1\n", b"out=0 1 warmup=1\n")
    without = analyzed([step(prompt), step(generated)])
    unknown = b"# step warmup=1\n" + step(prompt, marked=False)
    found = analyzed([warmup, unknown, step(prompt), step(generated)])
    assert (found.steps, found.tokens) == (without.steps, without.tokens)
    assert found.rows.logged == found.rows.counted == without.rows.logged
    assert shown(found.locality) == shown(without.locality)


def test_what_does_not_fit_the_rows_is_not_believed() -> None:
    tokens = [*run_of(0, "1"), *run_of(0, "1", 1)]
    plain = analyzed([step(run_of(0, "01"))] + [step(tokens, marked=False)] * 5)
    for wrong in (told(tokens[:1]), told([*tokens, *tokens]), b"# step seq=0 1\n"):
        found = analyzed([step(run_of(0, "01"))] + [wrong + step(tokens, marked=False)] * 5)
        assert (found.tokens, found.steps) == (plain.tokens, plain.steps)
        assert [warning for warning in found.warnings if "interleaved" in warning]


def test_sequences_without_outputs_are_followed_and_phases_guessed() -> None:
    passes = texts(2, [4, 4], [20, 20])
    steps = [[*one, *other] for one, other in zip(*passes, strict=True)]
    steps.append(run_of(24, "1"))  # it shows which layer is the last
    found = analyzed([told(one, outputs=False) + step(one, marked=False) for one in steps])
    exact = analyzed(map(step, steps))
    assert found.tokens.decode == exact.tokens.decode == 41
    assert shown(found.locality) == shown(exact.locality)


def test_of_many_sequences_some_are_taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequences, "MAX_SEQUENCES", 2)
    passes = texts(4, [2] * 4, [10] * 4)
    steps = [[token for of_text in passes for token in of_text[i]] for i in range(12)]
    found = analyzed(map(step, steps))
    assert found.tokens.decode == 40
    assert found.locality is not None
    assert all(layer.steps == 40 for layer in found.locality)


def test_steps_that_were_dropped_are_told() -> None:
    found = analyzed([step(run_of(0, "01")), b"# dropped 7\n", step(run_of(9, "1"))])
    assert found.input.tally.dropped_steps == 7
    assert any(warning.startswith("7 steps are not in the log") for warning in found.warnings)
