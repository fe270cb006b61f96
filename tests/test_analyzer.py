"""The whole chain against a slow reading of the same log, and the laws that hold for any log."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.spatial import distance as scipy_distance
from scipy.stats import pearsonr

from moe_live.analyzer import Analyzer
from moe_live.reports.json_report import to_json
from moe_live.settings import RowMode, Settings
from moe_live.snapshot import DistanceMetric, Section, Snapshot
from moe_live.sources.source import Break
from moe_live.statistics import collection
from moe_live.statistics.distances import METRICS
from tests.analysis import analyzed
from tests.comparison import plain
from tests.reference import Step, decode_steps, logged_counts, read_steps, verified_rows
from tests.synthetic import SyntheticLog, logs
from tests.trace import trace_log

ALL_AS_LOGGED = Settings(rows=RowMode.LOGGED, include_prompt=True)


def counts_of(snapshot: Snapshot) -> Counter[tuple[int, int]]:
    return Counter(
        {
            (entry.layer, expert): int(entry.usage.counts[expert])
            for entry in snapshot.layers
            for expert in np.flatnonzero(entry.usage.counts).tolist()
        }
    )


def reference_distances(steps: Sequence[Step], pair: tuple[int, int]) -> dict[DistanceMetric, list[float]]:
    """Each metric of one pair of layers in each step that has both, by scipy."""
    values: dict[DistanceMetric, list[float]] = {metric: [] for metric in METRICS}
    for step in steps:
        if not all(layer in step.vectors for layer in pair):
            continue
        a, b = (step.vectors[layer] for layer in pair)
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            row = [np.nan] * len(values)
        else:
            cosine = scipy_distance.cosine(a, b) if a.any() and b.any() else np.nan
            euclidean = scipy_distance.euclidean(a, b)
            constant = len(a) < 2 or a.min() == a.max() or b.min() == b.max()
            correlation = np.nan if constant else pearsonr(a, b).statistic
            mean_abs_diff = scipy_distance.cityblock(a, b) / len(a)
            row = [1 - cosine, cosine, euclidean, euclidean / len(a) ** 0.5, correlation, mean_abs_diff]
        for series, value in zip(values.values(), row, strict=True):
            series.append(float(value))
    return values


def check_distances(snapshot: Snapshot, steps: Sequence[Step]) -> None:
    layers = sorted({layer for step in steps for layer in step.vectors})
    of_pairs = {pair: reference_distances(steps, pair) for pair in pairwise(layers)}
    expected = {pair: series for pair, series in of_pairs.items() if series["euclidean"]}
    assert [(pair.from_layer, pair.to_layer) for pair in snapshot.distances.pairs] == list(expected)
    for pair, series in zip(snapshot.distances.pairs, expected.values(), strict=True):
        assert pair.steps == len(series["euclidean"])
        for metric, values in series.items():
            moments = pair.metrics[metric]
            finite = np.array([value for value in values if np.isfinite(value)])
            assert (moments.count, moments.undefined) == (len(finite), len(values) - len(finite))
            if len(finite):
                found = [moments.mean, moments.std, moments.min, moments.max, moments.last]
                wanted = [finite.mean(), finite.std(), finite.min(), finite.max(), finite[-1]]
                # What cancels in 1 - cosine is lost to the reference too: hence the absolute part.
                np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-14 * max(1.0, abs(finite).max()))


@given(logs(heads=True), st.data())
def test_any_chunking_gives_the_identical_snapshot(log: SyntheticLog, data: st.DataObject) -> None:
    text = log.text
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=20)))
    chunks = [text[a:b] for a, b in pairwise([0, *cuts, len(text)])]
    settings = data.draw(st.sampled_from([Settings(), Settings(latest_uses=300)]))
    assert plain(analyzed(chunks, settings).snapshot()) == plain(analyzed([text], settings).snapshot())


@given(logs(max_steps=5, heads=True))
def test_one_byte_at_a_time_gives_the_identical_snapshot(log: SyntheticLog) -> None:
    text = log.text
    chunks = [text[i : i + 1] for i in range(len(text))]
    assert plain(analyzed(chunks).snapshot()) == plain(analyzed([text]).snapshot())


@given(logs())
def test_looking_meanwhile_changes_nothing(log: SyntheticLog) -> None:
    analyzer = Analyzer()
    for piece in log.pieces:
        analyzer.feed(piece)
        analyzer.snapshot(anew=False)
    analyzer.finish()
    assert plain(analyzer.snapshot()) == plain(analyzed([log.text]).snapshot())


@given(logs(junk=False, heads=True), logs(junk=False, heads=True), st.data())
def test_merging_two_analyzers_equals_one_over_both(
    log: SyntheticLog, following: SyntheticLog, data: st.DataObject
) -> None:
    pieces = log.pieces + following.pieces
    cut = data.draw(st.integers(0, len(pieces)))
    verified, latest = Settings(rows=RowMode.VERIFIED), Settings(latest_uses=300)
    settings = data.draw(st.sampled_from([Settings(), ALL_AS_LOGGED, verified, latest]))
    both = Analyzer(settings)
    both.feed(b"".join(pieces[:cut]))
    both.interrupt(Break.FILE_ENDED)
    both.feed(b"".join(pieces[cut:]))
    both.finish()
    merged = analyzed(pieces[:cut], settings)
    merged.merge(analyzed(pieces[cut:], settings))
    assert plain(merged.snapshot()) == plain(both.snapshot())


@given(logs())
def test_counts_steps_and_distances_equal_a_slow_reading(log: SyntheticLog) -> None:
    steps = read_steps(log.text)
    snapshot = analyzed([log.text], ALL_AS_LOGGED).snapshot()
    # Rows that are found impossible count nowhere.
    assume(not any("name an expert twice" in warning for warning in snapshot.warnings))
    decode = decode_steps(steps)
    assert counts_of(snapshot) == logged_counts(steps)
    assert (snapshot.steps.total, snapshot.steps.decode) == (len(steps), sum(decode))
    assert snapshot.tokens.total == sum(step.tokens for step in steps)
    assert snapshot.tokens.decode == sum(
        step.tokens for step, is_decode in zip(steps, decode, strict=True) if is_decode
    )
    decoded = logged_counts([step for step, is_decode in zip(steps, decode, strict=True) if is_decode])
    assert sum(int(entry.usage.decode.sum()) for entry in snapshot.layers) == decoded.total()
    check_distances(snapshot, steps)


@given(logs(junk=False, heads=True))
def test_every_row_is_either_counted_or_unrecoverable(log: SyntheticLog) -> None:
    rows = analyzed([log.text], Settings(rows=RowMode.VERIFIED)).snapshot().rows
    assert rows.logged == rows.counted + rows.unrecoverable + rows.drafts
    as_logged = analyzed([log.text], Settings(rows=RowMode.LOGGED)).snapshot().rows
    assert as_logged.logged == as_logged.counted + as_logged.drafts == rows.logged


def test_a_decode_step_of_several_slots_is_known_as_such_once_the_last_layer_is() -> None:
    two_slots = b"".join(b"%d,1 2\n%d,3 4\n" % (layer, layer) for layer in range(3))
    single = b"0,1 2\n1,1 2\n2,1 2\n"
    before = analyzed([two_slots, two_slots]).snapshot()
    assert (before.steps.prefill, before.steps.decode) == (2, 0)
    after = analyzed([two_slots, two_slots, single]).snapshot()
    assert (after.steps.prefill, after.steps.decode) == (0, 3)
    assert after.tokens.decode == 5


def test_a_piece_of_a_prompt_is_not_taken_for_decode_when_a_higher_layer_appears() -> None:
    piece = b"".join(b"%d,1 2\n" % layer * 8 for layer in range(3))
    single = b"0,1 2\n1,1 2\n2,1 2\n3,1 2\n"
    snapshot = analyzed([piece, single]).snapshot()
    assert (snapshot.steps.prefill, snapshot.steps.decode) == (1, 1)


def test_a_restart_closes_the_open_step_and_drops_the_unfinished_line() -> None:
    analyzer = Analyzer()
    analyzer.feed(b"layer_id,expert_ids\n3,1 2\n4,1 2\n5,1")
    analyzer.interrupt(Break.RESTARTED)
    analyzer.feed(b"layer_id,expert_ids\n6,1 2\n")
    analyzer.finish()
    snapshot = analyzer.snapshot()
    assert snapshot.steps.total == 2
    assert snapshot.input.restarts == 1
    assert (snapshot.input.tally.incomplete_lines, snapshot.input.tally.incomplete_bytes) == (1, 3)


@pytest.mark.parametrize("reason", [Break.RESTARTED, Break.SHORTENED])
def test_the_rest_of_a_line_that_was_cut_when_the_log_was_emptied_is_no_row(reason: Break) -> None:
    analyzer = Analyzer()
    analyzer.feed(b"13,1 2\n1")
    analyzer.interrupt(reason)
    analyzer.feed(b"4,3 4\n15,5 6\n")
    analyzer.finish()
    snapshot = analyzer.snapshot()
    assert snapshot.model.layers == (13, 15)
    assert (snapshot.input.tally.malformed_lines, snapshot.input.tally.samples) == (1, (b"4,3 4",))


def test_a_line_after_a_rotation_is_one_whatever_came_before() -> None:
    analyzer = Analyzer()
    analyzer.feed(b"13,1 2\n1")
    analyzer.interrupt(Break.ROTATED)
    analyzer.feed(b"4,3 4\n15,5 6\n")
    analyzer.finish()
    assert analyzer.snapshot().model.layers == (4, 13, 15)


def test_reset_forgets_figures_but_not_what_is_known_of_the_model() -> None:
    analyzer = Analyzer()
    analyzer.feed(b"3,1 2\n4,1 2\n3,5 6\n4,5 6\n3,0")
    analyzer.reset()
    analyzer.feed(b" 1\n4,0 1\n")
    analyzer.finish()
    snapshot = analyzer.snapshot()
    assert counts_of(snapshot) == {(layer, expert): 1 for layer in (3, 4) for expert in (0, 1)}


def test_an_empty_log_has_defined_figures() -> None:
    snapshot = Analyzer().snapshot()
    assert snapshot.layers == ()
    assert snapshot.model.n_experts is None
    assert snapshot.overall.selections == 0
    assert snapshot.distances.pairs == ()


def test_a_step_longer_than_can_be_held_is_counted_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    text = b"".join(
        b"".join(b"%d,%d %d\n" % (layer, *rng.permutation(8)[:2]) for _ in range(90)) for layer in range(6)
    )
    text += b"".join(b"%d,0 1\n" % layer for layer in range(6))
    whole = analyzed([text]).snapshot(sections=())
    monkeypatch.setattr("moe_live.routing.steps.MAX_HELD_LINES", 200)
    # Only what relates a token's rows in several layers needs the whole step at once.
    in_parts = analyzed([text[i : i + 500] for i in range(0, len(text), 500)]).snapshot(sections=())
    assert plain(in_parts) == plain(whole)


REAL_LOGS = (
    "glm4moe-160e-top8.log.gz",
    "glm4moe-160e-top8-gates.log.gz",
    "glm4moe-160e-top8-2slots-ub64.log.gz",
    "glm4moe-160e-top8-truncated-from-outside.log.gz",
    "qwen3moe-64e-top6-nan-inf.log.gz",
    "qwen3moe-64e-top6-gates-unstrided.log.gz",
)


@pytest.mark.parametrize("name", REAL_LOGS)
def test_real_logs_equal_a_slow_reading(real_logs: Path, name: str) -> None:
    text = gzip.decompress((real_logs / name).read_bytes())
    steps = read_steps(text)
    chunks = [text[i : i + 100_000] for i in range(0, len(text), 100_000)]
    snapshot = analyzed(chunks, ALL_AS_LOGGED).snapshot()
    assert snapshot.input.tally.malformed_lines == 0
    assert snapshot.input.tally.lines == text.count(b"\n")
    assert counts_of(snapshot) == logged_counts(steps)
    assert snapshot.steps.decode == sum(decode_steps(steps))
    check_distances(snapshot, steps)
    only_decode = [step for step, decode in zip(steps, decode_steps(steps), strict=True) if decode]
    check_distances(analyzed(chunks).snapshot(), only_decode)


@pytest.mark.parametrize(
    ("name", "logged", "verified"),
    [
        ("glm4moe-160e-top8.log.gz", 25_191, 12_909),
        ("glm4moe-160e-top8-2slots-ub64.log.gz", 48_586, 6_151),
        ("glm4moe-160e-top8-gates.log.gz", 19_047, 6_765),
        ("glm4moe-160e-top8-truncated-from-outside.log.gz", 284, 192),
        ("qwen3moe-64e-top6-nan-inf.log.gz", 716, 177),
    ],
)
def test_verified_rows_of_real_strided_logs(real_logs: Path, name: str, logged: int, verified: int) -> None:
    text = gzip.decompress((real_logs / name).read_bytes())
    snapshot = analyzed([text]).snapshot()
    rows = verified_rows(read_steps(text), snapshot.model.n_experts or 0)
    assert snapshot.rows.strided is True
    assert (snapshot.rows.logged, snapshot.rows.counted) == (logged, verified)
    assert len(rows) == verified
    assert snapshot.rows.recovered == verified - sum(token == 0 for _, token, _ in rows)
    assert counts_of(snapshot) == Counter((layer, expert) for layer, _, row in rows for expert in row)


def test_a_log_whose_stride_was_put_right_is_sound(real_logs: Path) -> None:
    text = gzip.decompress((real_logs / "qwen3moe-64e-top6-gates-unstrided.log.gz").read_bytes())
    rows = analyzed([text]).snapshot().rows
    assert rows.strided is False
    assert (rows.logged, rows.counted, rows.unrecoverable) == (15_594, 15_594, 0)


def test_a_published_trace_of_another_engine_is_sound(real_logs: Path) -> None:
    text = trace_log(real_logs / "qwen3-30b-a3b.route.csv.gz")
    snapshot = analyzed([text]).snapshot()
    assert snapshot.rows.strided is False
    assert snapshot.rows.logged == snapshot.rows.counted == 7_461
    assert (snapshot.tokens.prefill, snapshot.tokens.decode) == (28, 128)


def test_figures_of_the_real_log_with_gate_inputs(real_logs: Path) -> None:
    text = gzip.decompress((real_logs / "glm4moe-160e-top8-gates.log.gz").read_bytes())
    snapshot = analyzed([text]).snapshot()
    assert snapshot.input.tally.lines == 23_133
    assert snapshot.model.layers == tuple(range(3, 27))
    assert (snapshot.model.n_experts, snapshot.model.top_k) == (160, 8)
    assert (snapshot.steps.total, snapshot.steps.decode) == (256, 254)
    metrics = snapshot.distances.pairs[0].metrics
    figures = [
        (metrics[name].mean, metrics[name].std)
        for name in ("cosine_similarity", "euclidean", "mean_abs_diff")
    ]
    expected = [(0.942697608, 0.007642208), (5.545259781, 0.374078354), (0.255969899, 0.018577859)]
    np.testing.assert_allclose(figures, expected, rtol=0, atol=5.1e-10)


def test_gate_lines_alone(real_logs: Path) -> None:
    text = gzip.decompress((real_logs / "glm4moe-160e-top8-gates.log.gz").read_bytes())
    gates = b"".join(line for line in text.splitlines(keepends=True) if line.startswith(b"gate_input"))
    alone, mixed = analyzed([gates]).snapshot(), analyzed([text]).snapshot()
    assert alone.layers == ()
    assert (alone.steps.total, alone.steps.decode) == (256, 254)
    assert plain(alone.distances) == plain(mixed.distances)
    restricted = analyzed([text], Settings(gate_layers=frozenset({21, 22}))).snapshot()
    assert plain(restricted.distances.pairs) == plain(mixed.distances.pairs[1:2])


@given(logs())
def test_counting_alone_gives_the_same_counts_and_nothing_else(log: SyntheticLog) -> None:
    alone = analyzed([log.text], Settings(counts_only=True)).snapshot()
    everything = analyzed([log.text]).snapshot()
    for name in ("rows", "steps", "tokens", "layers", "overall"):
        assert plain(getattr(alone, name)) == plain(getattr(everything, name))
    assert alone.counts_only
    sections = [alone.locality, alone.pairs, alone.transitions, alone.drift, alone.history, alone.labels]
    assert sections == [None] * len(sections)
    absent = {"distances", "drift", "transitions"} if everything.layers else {"distances"}
    assert set(to_json(everything)) - set(to_json(alone)) >= absent


@given(logs(junk=False), st.integers(1, 130), st.data())
def test_what_is_too_large_is_counted_and_nothing_else_however_it_is_cut_or_merged(
    log: SyntheticLog, cells: int, data: st.DataObject
) -> None:
    text = log.text
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    place = data.draw(st.integers(0, len(log.pieces)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collection, "MAX_CELLS", cells)
        bounded = analyzed([text]).snapshot()
        cut = analyzed([text[a:b] for a, b in pairwise([0, *cuts, len(text)])]).snapshot()
        both = Analyzer()
        both.feed(b"".join(log.pieces[:place]))
        both.interrupt(Break.FILE_ENDED)
        both.feed(b"".join(log.pieces[place:]))
        both.finish()
        merged = analyzed(log.pieces[:place])
        merged.merge(analyzed(log.pieces[place:]))
        assert plain(cut) == plain(bounded)
        assert plain(merged.snapshot()) == plain(both.snapshot())
    model = bounded.model
    if len(model.layers) * (model.n_experts or 0) <= cells:
        assert plain(bounded) == plain(analyzed([text]).snapshot())
        return
    (told,) = (sentence for sentence in bounded.warnings if "more than any model has" in sentence)
    assert told.startswith(f"{len(model.layers)} layers of {model.n_experts} experts")
    counted = analyzed([text], Settings(counts_only=True)).snapshot()
    for name in ("rows", "steps", "tokens", "layers", "overall", "distances", "locality", "labels"):
        assert plain(getattr(bounded, name)) == plain(getattr(counted, name))


def test_pairs_of_a_few_layers_are_looked_for_again_at_a_time_until_all_are_exact() -> None:
    rng = np.random.default_rng(4)
    steps = [
        "".join(f"{layer},{' '.join(map(str, rng.permutation(12)[:3]))}\n" for layer in range(6))
        for _ in range(100)
    ]
    analyzer = Analyzer()
    analyzer.feed("".join(steps[:60]).encode())
    analyzer.snapshot({Section.PAIRS}, anew=False)
    analyzer.feed("".join(steps[60:]).encode())
    for looked_for in (4, 6, 6):
        found = analyzer.snapshot({Section.PAIRS}, anew=False).pairs or {}
        assert sorted(pairs.rows for pairs in found.values()) == [59] * (6 - looked_for) + [99] * looked_for
    exact = analyzer.snapshot({Section.PAIRS}).pairs
    assert plain(found) == plain(exact)
    assert plain(analyzer.snapshot({Section.PAIRS}, pairs_of=[3]).pairs) == plain({3: found[3]})
