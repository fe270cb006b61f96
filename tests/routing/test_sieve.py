"""Rows that nothing else in the log is like are as if they were not there, wherever they stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_live.analyzer import Analyzer
from moe_live.reports.json_report import to_json
from moe_live.routing import sieve
from moe_live.routing.sieve import Odd
from moe_live.snapshot import Snapshot
from tests.comparison import plain
from tests.synthetic import SyntheticLog, logs

Json = dict[str, Any]


def steps(
    number: int, *, layers: Iterable[int] = (3, 4, 5), tokens: int = 2, n_experts: int = 160, seed: int = 0
) -> list[bytes]:
    """Lines of steps of so many tokens each; eight experts a row."""
    rng = np.random.default_rng(seed)
    layers = list(layers)
    chosen = np.argsort(rng.random((number * len(layers) * tokens, n_experts)), axis=1)[:, :8]
    of_row = np.tile(np.repeat(layers, tokens), number)
    return [
        b"%d,%b\n" % (layer, b" ".join(b"%d" % expert for expert in row))
        for layer, row in zip(of_row.tolist(), chosen.tolist(), strict=True)
    ]


def analyzed(lines: Iterable[bytes], cut: int = 1 << 20) -> Snapshot:
    analyzer, text = Analyzer(), b"".join(lines)
    for start in range(0, len(text), cut):
        analyzer.feed(text[start : start + cut])
    analyzer.finish()
    return analyzer.snapshot()


def figures(lines: Iterable[bytes], cut: int = 1 << 20) -> tuple[Json, Json]:
    """All of the summary that is a figure of the experts, and what is told of rows."""
    summary = to_json(analyzed(lines, cut))
    told = summary["rows"] | {"warnings": summary.pop("warnings")}
    for key in ("source", "rows", "verdicts"):
        del summary[key]
    return summary, told


WHOLE = [*steps(1, tokens=1), *steps(333)]  # the first step shows which layer is the last
EXPECTED = figures(WHOLE)[0]


@pytest.mark.parametrize(("place", "cut"), [(5, 1 << 20), (11, 997), (1000, 1 << 13), (len(WHOLE), 1 << 20)])
@pytest.mark.parametrize(
    ("line", "named"),
    [
        (b"99,1 2 3 4 5 6 7 8\n", "layer 99 (1 row)"),
        (b"4,1 2 3 4 5 6 7 2047\n", "expert 2047 in layer 4 (1 row)"),
        (b"700,2000\n", "layer 700 (1 row)"),
    ],
)
def test_one_odd_row_changes_no_figure(line: bytes, named: str, place: int, cut: int) -> None:
    """Not even which steps are decode."""
    assert EXPECTED["steps"] == {"total": 334, "prefill": 0, "decode": 334}
    found, told = figures([*WHOLE[:place], line, *WHOLE[place:]], cut)
    assert found == EXPECTED
    assert (told["odd"], told["logged"], told["counted"]) == (1, 2002, 2001)
    assert f"1 row set aside, for nothing else in the log is like them: {named}" in told["warnings"]


def test_several_odd_rows() -> None:
    lines = list(WHOLE)
    odd = [b"%d,5\n" % layer for layer in range(100, 110)]
    for place, line in zip(range(100, 2000, 180), odd, strict=False):
        lines.insert(place, line)
    found, told = figures(lines)
    assert found == EXPECTED
    assert told["odd"] == 10
    assert any("10 rows set aside" in warning and warning.endswith(", …") for warning in told["warnings"])


def test_what_comes_again_is_believed_from_its_first_row_on() -> None:
    """The prompt ends after ten steps, in the last layer, which is far above the others."""
    prompt = steps(10, layers=(0, 1, 2), tokens=3, seed=1)
    answer = steps(40, layers=(0, 1, 2, 40), tokens=1, seed=2)
    snapshot = analyzed([*prompt, *answer])
    assert snapshot.rows.odd == 0
    assert snapshot.layers[-1].usage.selections == 40 * 8
    assert (snapshot.steps.prefill, snapshot.steps.decode) == (10, 40)


def test_a_larger_model_in_the_same_log_is_believed() -> None:
    snapshot = analyzed([*steps(800), *steps(800, layers=range(30, 35), n_experts=1024)])
    assert snapshot.rows.odd == 0
    assert snapshot.model.n_experts == 1024
    assert snapshot.model.layers == (3, 4, 5, 30, 31, 32, 33, 34)


def test_the_last_of_many_experts_is_believed_however_rare() -> None:
    lines = [*steps(2000, tokens=1, n_experts=158), b"3,159 2 3 4 5 6 7 8\n"]
    snapshot = analyzed([*lines, *steps(2000, tokens=1, n_experts=158)])
    assert snapshot.rows.odd == 0
    assert snapshot.model.n_experts == 160


def test_where_the_log_ends_early_all_is_believed() -> None:
    snapshot = analyzed([*steps(5), b"99,1 2 3 4 5 6 7 8\n", *steps(5)])
    assert snapshot.rows.odd == 0
    assert 99 in snapshot.model.layers


def test_what_waits_for_a_verdict_is_left_out_by_a_reset() -> None:
    analyzer = Analyzer()
    analyzer.feed(b"".join([*WHOLE, b"99,1 2\n"]))
    analyzer.reset()
    analyzer.feed(b"".join(WHOLE))
    analyzer.finish()
    assert analyzer.snapshot().rows.logged == len(WHOLE)
    assert analyzer.snapshot().rows.odd == 0


def test_parts_that_are_merged_tell_the_same() -> None:
    parts = [[*WHOLE[:place], b"99,1 2\n", *WHOLE[place:]] for place in (500, 1000)]
    whole = Analyzer()
    for part in parts:
        whole.feed(b"".join(part))
        whole.finish()
    merged, other = Analyzer(), Analyzer()
    for analyzer, part in zip((merged, other), parts, strict=True):
        analyzer.feed(b"".join(part))
        analyzer.finish()
    merged.merge(other)
    assert plain(merged.snapshot()) == plain(whole.snapshot())
    assert merged.snapshot().rows.odd == 2


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Verdicts after a few lines, for short logs to meet every case."""
    with monkeypatch.context() as patch:
        for name, value in (
            ("STEPS", 4),
            ("ROWS", 9),
            ("_FEW_STEPS", 2),
            ("_MOST_ROWS", 60),
            ("_SEEN_ROWS", 30),
        ):
            patch.setattr(sieve, name, value)
        yield


@st.composite
def with_odd_rows(draw: st.DrawFn) -> tuple[bytes, int]:
    """A log with gate lines, labels and rows of far layers and experts; and how many such rows."""
    log: SyntheticLog = draw(logs())
    lines = log.text.splitlines(keepends=True)
    odd = draw(
        st.lists(
            st.tuples(
                st.integers(0, len(lines)),
                st.sampled_from(
                    [b"900,1 2\n", b"901,1\n", b"900,2047\n", b"2,1 2 2000\n", b"3,1999\n", b"# label: x\n"]
                ),
            ),
            max_size=5,
        )
    )
    for place, line in sorted(odd, reverse=True):
        lines.insert(place, line)
    return b"".join(lines), len(odd)


@pytest.mark.usefixtures("soon")
@settings(max_examples=settings().max_examples // 2)
@given(with_odd_rows(), st.data())
def test_how_the_log_is_cut_makes_no_difference(log: tuple[bytes, int], data: st.DataObject) -> None:
    text, most = log
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    whole, cut = Analyzer(), Analyzer()
    whole.feed(text)
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        cut.feed(text[start:end])
    for analyzer in (whole, cut):
        analyzer.finish()
        assert not analyzer.snapshot().left_out
    assert plain(cut.snapshot()) == plain(whole.snapshot())
    far = [rows for odd, rows in whole._sieve.odd.items() if odd.layer >= 900 or odd.expert >= 1999]
    assert sum(far) <= most  # others are the log's own: so few rows to look ahead to are too few for some


@pytest.mark.usefixtures("soon")
@settings(max_examples=settings().max_examples // 2)
@given(logs(), st.data())
def test_an_odd_row_among_gate_lines_and_labels_is_as_if_it_were_not_there(
    log: SyntheticLog, data: st.DataObject
) -> None:
    labelled = [b"# label: %d\n%b" % (number % 3, piece) for number, piece in enumerate(log.pieces)]
    without = b"".join(labelled)
    lines = without.splitlines(keepends=True)
    place = data.draw(st.integers(0, len(lines)))
    text = b"".join([*lines[:place], b"900,1 2\n", *lines[place:]])
    found, expected = Analyzer(), Analyzer()
    for analyzer, each in ((found, text), (expected, without)):
        analyzer.feed(each)
        analyzer.finish()
    # There were steps enough around it, and no layer of the log itself was in doubt as it came: with so few
    # rows to look ahead to as here, one more decides such a layer otherwise.
    if found._sieve.odd == expected._sieve.odd + Counter({Odd(900, -1): 1}):
        shown, wanted = to_json(found.snapshot()), to_json(expected.snapshot())
        for key in ("source", "rows", "warnings", "verdicts"):
            del shown[key], wanted[key]
        assert shown == wanted
