"""Layers that are left out by hand: a log is read as if they were not in it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.analyzer import Analyzer
from moe_live.cli import main
from moe_live.settings import Settings
from moe_live.snapshot import Snapshot
from tests.analysis import analyzed
from tests.comparison import plain
from tests.synthetic import SyntheticLog, logs
from tests.test_parallel import at_one_go, every_step, in_parts

KEPT = frozenset(range(5, 21))


def is_kept(line: bytes) -> bool:
    """Whether a line is none of another layer."""
    fields = line.removeprefix(b"gate_input,").split(b",")
    return not fields[0].isdigit() or int(fields[0]) in KEPT


def figures(snapshot: Snapshot) -> object:
    """All but what is told of the bytes and of what was asked for."""
    return plain(
        replace(snapshot, input=replace(snapshot.input, tally=type(snapshot.input.tally)()), warnings=())
    )


@given(logs(junk=False, heads=True), st.integers(1, 400), st.data())
def test_other_layers_are_as_if_they_were_not_there(
    log: SyntheticLog, size: int, data: st.DataObject
) -> None:
    settings = Settings(layers=KEPT)
    lines = log.text.splitlines(keepends=True)
    for at in sorted(data.draw(st.sets(st.integers(1, len(lines)), max_size=3)), reverse=True):
        lines.insert(at, data.draw(st.sampled_from([b"# label: code\n", b"# step pos=1 seq=0 out=1\n"])))
    text = b"".join(lines)
    without = analyzed([b"".join(line for line in lines if is_kept(line))]).snapshot()
    cut = analyzed([text[i : i + size] for i in range(0, len(text), size)], settings).snapshot()
    assert figures(cut) == figures(without)


@given(logs())
def test_a_log_in_parts_is_read_alike(log: SyntheticLog) -> None:
    settings = Settings(layers=KEPT)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "log"
        path.write_bytes(log.text)
        parts = in_parts(path, every_step(path, settings), settings)
    assert figures(parts.snapshot()) == figures(at_one_go(log.text, settings, log=path).snapshot())


def test_a_draft_model_in_the_same_log_is_left_out() -> None:
    """Its layers 0 to 2 stand between the steps of the model, which begins at layer 3."""
    of_model = b"".join(b"%d,%d %d\n" % (layer, layer, layer + 1) for layer in (3, 4, 5))
    of_draft = b"".join(b"%d,1\n" % layer for layer in (0, 1, 2)) * 3
    found = analyzed([(of_draft + of_model) * 40], Settings(layers=range(3, 6))).snapshot()  # type: ignore[arg-type]
    assert found.model.layers == (3, 4, 5)
    assert found.model.top_k == 2
    assert (found.steps.total, found.steps.decode, found.rows.logged) == (40, 40, 120)


def test_arrays_are_taken_alike() -> None:
    rng = np.random.default_rng(0)
    experts = rng.permuted(np.tile(np.arange(8), (20, 4, 1)), axis=2)[..., :2]
    weights = rng.random((20, 4, 2))
    only = Analyzer(Settings(layers=frozenset({1, 3})))
    only.feed_rows(experts, weights)
    direct = Analyzer()
    direct.feed_rows(experts[:, [1, 3]], weights[:, [1, 3]], layers=[1, 3])
    assert figures(only.snapshot()) == figures(direct.snapshot())
    none = Analyzer(Settings(layers=frozenset({9})))
    none.feed_rows(experts, weights)
    assert not none.snapshot().layers


def test_what_that_means_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"3,1 2\n4,1 2\n" * 3)
    assert main([str(log), "--layers", "3"]) == 0
    assert "only lines of layers 3 were looked at, as asked (--layers): without" in capsys.readouterr().out
    assert main([str(log), "--layers", "7-9"]) == 0
    assert (
        "only lines of layers 7-9 were looked at, as asked (--layers): there are none"
        in capsys.readouterr().out
    )
