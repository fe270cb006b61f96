"""What `import moe_live` offers."""

from __future__ import annotations

import gzip
import importlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import moe_live
from moe_live import Analyzer, MoeLiveError, Phase, RowMode, Section, Settings, Snapshot
from moe_live.judgement import Subject, Word
from moe_live.routing import arrays
from moe_live.verdicts import verdict
from tests.comparison import plain
from tests.synthetic import SyntheticLog, logs

STEPS = b"layer_id,expert_ids\n" + b"3,1 2\n4,0 5\n3,1 4\n4,5 0\n" * 20


def routed(seed: int, tokens: int, layers: int = 3, k: int = 2, n_experts: int = 8) -> NDArray[np.int64]:
    """(tokens, layers, k) different experts."""
    rng = np.random.default_rng(seed)
    rankings = rng.permuted(np.tile(np.arange(n_experts), (tokens, layers, 1)), axis=2)
    return np.asarray(rankings[:, :, :k])


def log_of(experts: NDArray[np.int64], layers: list[int]) -> bytes:
    """What a server would log of tokens that are generated one after the other."""
    return b"layer_id,expert_ids\n" + b"".join(
        b"%d,%b\n" % (layer, b" ".join(b"%d" % expert for expert in row))
        for token in experts.tolist()
        for layer, row in zip(layers, token, strict=True)
    )


def finished(data: bytes, settings: Settings | None = None) -> Analyzer:
    analyzer = Analyzer(settings)
    analyzer.feed(data)
    analyzer.finish()
    return analyzer


def figures(analyzer: Analyzer) -> Any:
    """All but where they come from."""
    snapshot = analyzer.snapshot()
    return plain(
        replace(snapshot, input=replace(snapshot.input, tally=Analyzer().tally, paths=(), format=""))
    )


def in_python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-P", "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def test_nothing_is_loaded_before_it_is_asked_for() -> None:
    code = """
import sys, moe_live
assert "numpy" not in sys.modules and moe_live.__version__
assert set(moe_live.__all__) <= set(dir(moe_live))
moe_live.Settings(), moe_live.RowMode.AUTO, moe_live.Phase.DECODE
assert "numpy" not in sys.modules
from moe_live import *
print(*(name for name in moe_live.__all__ if globals()[name] is not getattr(moe_live, name)))
"""
    assert in_python(code) == "\n"


def test_a_name_there_is_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'moe_live' has no attribute 'red'"):
        moe_live.red  # type: ignore[attr-defined] # noqa: B018 - that is what is tested


def test_the_types_of_users_are_those_that_are_there() -> None:
    importlib.import_module("tests.typing.api")  # what it says is checked by mypy


def test_a_snapshot_prints_in_ten_lines(tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    log.write_bytes(STEPS + b"junk\n3,1 2 3\n")
    printed = in_python("import sys, moe_live; print(moe_live.read(sys.argv[1]))", str(log)).splitlines()
    assert 5 <= len(printed) <= 10
    assert printed[0] == f"source: {log}"
    assert printed[1] == "model: layers 3-4, 6 experts each, top-2"
    assert printed[3] == "steps: 0 prefill, 41 decode"
    assert printed[-1].startswith("warning: ")


@pytest.mark.parametrize("data", [b"", STEPS, b"3,1 2\n" * 5, b"gate_input,3,0,1 2\n"])
def test_representations_are_short(data: bytes) -> None:
    analyzer = finished(data)
    for shown in (repr(analyzer), repr(analyzer.snapshot()), repr(Settings())):
        assert len(shown) <= 200
        assert "\n" not in shown
    assert len(str(analyzer.snapshot()).splitlines()) <= 10


def test_several_logs_are_read_as_one(tmp_path: Path) -> None:
    plain_log, packed = tmp_path / "1.log", tmp_path / "2.log.gz"
    plain_log.write_bytes(STEPS)
    packed.write_bytes(gzip.compress(STEPS))
    snapshot = moe_live.read(plain_log, str(packed), settings=Settings(n_experts=16))
    assert snapshot.input.paths == (str(plain_log), str(packed))
    assert snapshot.steps.decode == 80
    assert snapshot.model.n_experts == 16
    assert snapshot.layers[0].usage.counts.tolist()[:5] == [0, 80, 40, 0, 40]


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "there is no such file"), (b"", "the log is empty"), (b"junk\n", 'whose first is "junk"')],
)
def test_what_cannot_be_read_is_one_error(tmp_path: Path, content: bytes | None, said: str) -> None:
    log = tmp_path / "moe.log"
    if content is not None:
        log.write_bytes(content)
    with pytest.raises(MoeLiveError, match=said) as caught:
        moe_live.read(log)
    assert "\n" not in str(caught.value)


def test_a_damaged_archive_is_an_error_not_half_a_snapshot(tmp_path: Path) -> None:
    log = tmp_path / "moe.log.gz"
    log.write_bytes(gzip.compress(STEPS)[:-9])
    with pytest.raises(MoeLiveError):
        moe_live.read(log)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0


def test_a_log_is_followed_until_the_loop_is_left(tmp_path: Path) -> None:
    before = open_files()
    log = tmp_path / "moe.log"
    snapshots = moe_live.follow(log, every=0.02)
    assert next(snapshots).steps.total == 0  # the log is not there yet
    log.write_bytes(STEPS)
    seen = next(snapshot for snapshot in snapshots if snapshot.steps.total >= 39)  # the last step is open
    assert next(snapshots) is seen  # nothing came
    with log.open("ab") as grows:
        grows.write(STEPS)
    assert next(snapshot for snapshot in snapshots if snapshot.steps.total >= 79).steps.decode == 79
    snapshots.close()  # type: ignore[attr-defined] # it is a generator; a loop does this when it is left
    assert open_files() == before


def test_following_from_the_end_leaves_out_what_was_there(tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    log.write_bytes(STEPS)
    snapshots = moe_live.follow(str(log), every=0.02, from_end=True)
    assert next(snapshots).steps.total == 0
    with log.open("ab") as grows:
        grows.write(STEPS)
    assert next(snapshot for snapshot in snapshots if snapshot.steps.total >= 39).steps.total == 39


@pytest.mark.parametrize("every", [0, -1, float("nan")])
def test_a_wrong_period_is_an_error_at_once(every: float) -> None:
    with pytest.raises(ValueError, match=r"every is .*; it must be a positive number of seconds"):
        moe_live.follow("moe.log", every=every)


@given(st.integers(0, 2**32), st.integers(0, 40), st.integers(2, 5), st.integers(1, 4), st.data())
def test_arrays_of_generated_tokens_are_what_a_server_logs_of_them(
    seed: int, tokens: int, n_layers: int, k: int, data: st.DataObject
) -> None:
    """However many tokens a call brings."""
    experts = routed(seed, tokens, n_layers, k)
    layers = sorted(data.draw(st.sets(st.integers(0, 1023), min_size=n_layers, max_size=n_layers)))
    dtype = data.draw(st.sampled_from([np.uint8, np.int16, np.int64]))
    cut = data.draw(st.integers(0, tokens))
    analyzer = Analyzer()
    for part in (experts[:cut], experts[cut:]):
        analyzer.feed_rows(part.astype(dtype), layers=layers)
    analyzer.finish()
    assert figures(analyzer) == figures(finished(log_of(experts, layers)))


@given(
    st.integers(0, 2**32),
    st.lists(st.sampled_from([Phase.PREFILL, Phase.DECODE]), max_size=30),
    st.sampled_from([1, 7, 1 << 16]),
)
def test_phases_are_as_told(seed: int, phase: list[Phase], rows: int) -> None:
    """Every token is counted once in its phase, however many rows are taken at a time."""
    experts = routed(seed, len(phase))
    told = np.array(phase, dtype=object) if phase else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "_ROWS", rows)
        analyzer = Analyzer(Settings(n_experts=8))
        analyzer.feed_rows(experts, phase=told)
        snapshot = analyzer.snapshot()
    decodes = np.array([name == "decode" for name in phase], np.bool_)
    runs = (
        sum(a != b for a, b in zip(["decode", *phase[:-1]], phase, strict=True) if b == "prefill")
        if phase
        else 0
    )
    assert (snapshot.tokens.decode, snapshot.tokens.prefill) == (decodes.sum(), len(phase) - decodes.sum())
    assert (snapshot.steps.decode, snapshot.steps.prefill) == (decodes.sum(), runs)
    assert snapshot.rows.counted == snapshot.rows.logged == 3 * len(phase)
    for entry in snapshot.layers:
        expected = [
            np.bincount(experts[chosen, entry.layer].reshape(-1), minlength=8).tolist()
            for chosen in (np.ones_like(decodes), decodes)
        ]
        assert [entry.usage.counts.tolist(), entry.usage.decode.tolist()] == expected


def test_a_call_of_prefill_is_one_step() -> None:
    analyzer = Analyzer(Settings(rows=RowMode.VERIFIED))
    analyzer.feed_rows(routed(1, 50), phase="prefill")
    analyzer.feed_rows(routed(2, 50), phase=Phase.PREFILL)
    analyzer.feed_rows(routed(3, 5), phase="decode")
    snapshot = analyzer.snapshot()
    assert (snapshot.steps.prefill, snapshot.steps.decode, snapshot.tokens.prefill) == (2, 5, 100)
    assert snapshot.rows.counted == 3 * 105  # no engine strides over its own arrays
    assert snapshot.pairs is not None
    assert snapshot.pairs[0].rows == 105
    assert (snapshot.rows.strided, snapshot.rows.recovered) == (None, 0)
    judged = verdict(Subject.ROWS, snapshot)
    assert judged is not None
    assert (judged.word, judged.facts[0]) == (Word.EITHER_WAY, "every row stands alone in its block")


def test_arrays_of_one_layer_are_tokens_too() -> None:
    analyzer = Analyzer()
    analyzer.feed_rows(routed(1, 50, layers=1), layers=[7])
    snapshot = analyzer.snapshot()
    assert snapshot.steps.decode == 50
    assert not any("one layer only" in warning for warning in snapshot.warnings)


def test_labels_of_arrays() -> None:
    analyzer = Analyzer(Settings(label="run"))
    analyzer.feed_rows(routed(1, 3), label="code")
    analyzer.feed_rows(routed(2, 4))
    labels = analyzer.snapshot([Section.LABELS]).labels
    assert labels is not None
    assert {usage.label: usage.tokens for usage in labels.usages} == {"code": 3, "run": 4}
    assert analyzer.label == "run"


def test_arrays_after_bytes_begin_a_step_of_their_own() -> None:
    analyzer = Analyzer()
    analyzer.feed(b"0,1 2\n1,3 4\n0,5 6\n1,")
    analyzer.feed_rows(routed(1, 2, layers=2))
    analyzer.finish()
    snapshot = analyzer.snapshot()
    assert snapshot.steps.total == 4
    assert snapshot.input.tally.incomplete_lines == 1


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (
            {"experts": np.zeros((4, 8), int)},
            ValueError,
            r"shape \(4, 8\); expected are \(tokens, layers, k\)",
        ),
        ({"experts": np.zeros((4, 2, 3))}, TypeError, "experts is of float64; expected are integers"),
        ({"experts": np.zeros((4, 2, 3), bool)}, TypeError, "experts is of bool; expected are integers"),
        (
            {"experts": np.zeros((4, 0, 3), int)},
            ValueError,
            "0 layers and k = 3; expected are 1 to",
        ),
        ({"experts": np.zeros((4, 2, 257), int)}, ValueError, "and 1 to 256 experts a row"),
        ({"experts": [[[0, 1], [2, -1]]]}, ValueError, r"experts\[0, 1, 1\] is -1; expected are 0 to 2,047"),
        ({"experts": [[[0, 2048]]]}, ValueError, r"experts\[0, 0, 1\] is 2048"),
        (
            {"weights": np.ones((4, 3))},
            ValueError,
            r"weights has the shape \(4, 3\); .* \(4, 3, 2\)",
        ),
        ({"weights": np.ones((4, 3, 2), int)}, TypeError, "weights is of int64; expected are floating-point"),
        ({"weights": np.full((4, 3, 2), np.nan)}, ValueError, "weights holds NaN or inf"),
        ({"layers": [1, 2]}, ValueError, r"layers has the shape \(2,\); expected is \(3,\)"),
        (
            {"layers": [1, 3, 2]},
            ValueError,
            r"layers is \[1, 3, 2\]; expected are ascending",
        ),
        ({"layers": [1, 2, 1024]}, ValueError, "ascending numbers below 1,024"),
        ({"layers": [-1, 2, 3]}, ValueError, "ascending numbers below 1,024"),
        ({"layers": [0.0, 1.0, 2.0]}, TypeError, "layers is of float64; expected are integers"),
        ({"phase": "Decode"}, ValueError, "phase holds 'Decode'; expected are 'prefill' and 'decode'"),
        ({"phase": ["decode"] * 3}, ValueError, r"phase has the shape \(3,\); .* \(4,\), one a token"),
        ({"phase": 1}, ValueError, "phase holds 1; expected are 'prefill' and 'decode'"),
        ({"label": 3}, TypeError, "label is 3; it must be a str or None"),
    ],
)
def test_wrong_arrays_are_told_what_was_expected_and_not_counted(
    arguments: dict[str, Any], error: type[Exception], said: str
) -> None:
    analyzer = Analyzer()
    with pytest.raises(error, match=said):
        analyzer.feed_rows(**({"experts": routed(1, 4)} | arguments))
    assert analyzer.snapshot().rows.logged == 0


@given(logs())
def test_to_finish_twice_is_to_finish_once(log: SyntheticLog) -> None:
    once, twice = finished(log.text), finished(log.text)
    twice.finish()
    assert plain(twice.snapshot()) == plain(once.snapshot())


@given(logs(), logs())
def test_adding_is_reading_one_after_the_other_and_changes_nothing_else(
    first: SyntheticLog, second: SyntheticLog
) -> None:
    total, other, both = finished(first.text), finished(second.text), finished(first.text)
    before = plain(other.snapshot())
    both.feed(second.text)
    both.finish()
    total += other
    assert plain(replace(total.snapshot(), input=both.snapshot().input)) == plain(both.snapshot())
    assert plain(other.snapshot()) == before


@pytest.mark.parametrize("add", [Analyzer.__iadd__, Analyzer.merge])
def test_an_open_step_is_not_torn(add: Callable[[Analyzer, Analyzer], object]) -> None:
    for ours, theirs in ((True, False), (False, True)):
        analyzers = finished(STEPS), finished(STEPS)
        for analyzer, is_open in zip(analyzers, (ours, theirs), strict=True):
            if is_open:
                analyzer.feed(b"3,1 2\n")
        with pytest.raises(ValueError, match=r"a step is still open: call finish\(\) before merging"):
            add(*analyzers)
        for analyzer in analyzers:
            analyzer.finish()
        add(*analyzers)
        assert analyzers[0].snapshot().steps.total == 81


def test_what_was_counted_otherwise_is_not_added() -> None:
    total = finished(STEPS, Settings(window=100))
    with pytest.raises(ValueError, match="window is 100 here and 256 there; both must count alike"):
        total += finished(STEPS)
    with pytest.raises(ValueError, match="rows is auto here and logged there"):
        total += finished(STEPS, Settings(window=100, rows=RowMode.LOGGED))
    total += finished(STEPS, Settings(window=100, label="other"))
    assert total.snapshot().steps.total == 80


@pytest.mark.parametrize("many", [2049, 33_000, 70_000])
def test_adding_after_many_steps_is_reading_one_after_the_other(many: int) -> None:
    """More than any small number holds that is kept of them."""
    rng = np.random.default_rng(many)
    experts = rng.permuted(np.tile(np.arange(12), (many + 3000, 2, 1)), axis=2)[:, :, :3]
    whole, first, second = (Analyzer() for _ in range(3))
    for analyzer, rows in ((whole, experts[:many]), (first, experts[:many]), (second, experts[many:])):
        analyzer.feed_rows(rows)
        analyzer.finish()
    whole.feed_rows(experts[many:])
    whole.finish()
    first += second
    assert not any("failed" in warning for warning in first.snapshot().warnings)
    assert plain(first.snapshot()) == plain(whole.snapshot())


def test_an_analyzer_is_added_to_itself() -> None:
    analyzer = finished(STEPS)
    analyzer += analyzer
    assert analyzer.snapshot().steps.total == 80


def test_a_snapshot_stays_as_it_is_when_more_comes() -> None:
    analyzer = finished(STEPS)
    snapshot: Snapshot = analyzer.snapshot()
    before = plain(snapshot)
    analyzer.feed_rows(routed(1, 30))
    assert plain(snapshot) == before
