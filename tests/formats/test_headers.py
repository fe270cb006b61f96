"""A header after other lines is a restart of the server, however the bytes come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.analyzer import Analyzer
from moe_live.parallel.plan import plan
from moe_live.settings import Settings
from moe_live.sources.source import Break
from tests.comparison import plain
from tests.synthetic import HEADER, SyntheticLog, logs

STEP = b"3,0 1\n4,1 2\n"


def analyzed(*texts: bytes | Break, settings: Settings | None = None) -> Analyzer:
    analyzer = Analyzer(settings)
    for text in texts:
        if isinstance(text, Break):
            analyzer.interrupt(text)
        else:
            analyzer.feed(text)
    analyzer.finish()
    return analyzer


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_a_header_closes_the_open_step(ending: bytes) -> None:
    """Layer 4 does not follow layer 3 of a server that has ended."""
    header = HEADER.replace(b"\n", ending)
    snapshot = analyzed(header + STEP + b"3,0 2\n" + header + b"4,0 1\n" + STEP).snapshot()
    assert (snapshot.steps.total, snapshot.input.restarts) == (4, 1)
    assert snapshot.input.tally.header_lines == 2
    assert snapshot.input.tally.malformed_lines == 0
    without = analyzed(STEP + b"3,0 2\n" + b"4,0 1\n" + STEP).snapshot()
    assert without.steps.total == 3


@pytest.mark.parametrize(
    ("text", "restarts"),
    [
        (HEADER + STEP, 0),
        (b"junk\n" + HEADER + HEADER + STEP, 0),
        (STEP + HEADER, 1),
        (STEP + HEADER + HEADER + STEP, 1),
        (STEP + HEADER + STEP + b"\0\0\0" + HEADER + STEP, 2),
        (STEP + b"x" + HEADER + STEP, 0),
        (STEP + HEADER[:-1] + b"x\n" + STEP, 0),
        (b"gate_input,3,0,1 2\n" + HEADER + STEP, 1),
        (b"# label: a\n" + HEADER + STEP, 0),
    ],
)
def test_restarts_are_counted(text: bytes, restarts: int) -> None:
    assert analyzed(text).snapshot().input.restarts == restarts


def test_a_restart_that_is_seen_is_not_counted_twice() -> None:
    snapshot = analyzed(STEP, Break.RESTARTED, HEADER + STEP, HEADER + STEP).snapshot()
    assert snapshot.input.restarts == 2


@given(st.lists(logs(max_steps=3), min_size=2, max_size=3), st.data())
def test_logs_one_after_the_other_are_runs_of_a_server(
    parts: list[SyntheticLog], data: st.DataObject
) -> None:
    """As if each were read by itself."""
    texts = [part.text[: part.text.rfind(b"\n") + 1] for part in parts]
    text = b"".join(texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    together = analyzed(*(text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True))).snapshot()
    apart = Analyzer()
    for each in texts:
        apart.feed(each)
        apart.finish()
    expected = apart.snapshot()
    assert together.input.restarts <= len(texts) - 1
    assert plain(together.layers) == plain(expected.layers)
    assert (together.steps, together.tokens) == (expected.steps, expected.tokens)
    assert plain(together.locality) == plain(expected.locality)


def test_statistics_may_start_anew_then() -> None:
    settings = Settings(reset_on_restart=True)
    anew = analyzed(STEP * 9 + HEADER + STEP * 2, settings=settings).snapshot()
    assert anew.steps.total == 2
    assert anew.input.restarts == 1
    seen = analyzed(STEP * 9, Break.RESTARTED, HEADER + STEP * 2, settings=settings).snapshot()
    assert plain(seen.layers) == plain(anew.layers)


def test_what_comes_before_a_restart_is_not_read_by_another_process(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("log") / "long.log"
    path.write_bytes(STEP * 1000)
    assert plan([str(path)], 2, Settings(), min_bytes=1, part_bytes=1000)
    assert not plan([str(path)], 2, Settings(reset_on_restart=True), min_bytes=1, part_bytes=1000)
