"""A piece of a real trace in every dialect: the same figures, finished or live, however it is cut."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import closing
from functools import cache
from pathlib import Path

import pytest

from moe_live.analyzer import Analyzer
from moe_live.session import Session
from moe_live.snapshot import Snapshot
from moe_live.sources.follow import Follower
from tests.analysis import analyzed, snapshot_of
from tests.comparison import plain
from tests.formats.test_prefixes import PREFIXES, wrapped
from tests.formats.test_written import figures
from tests.formats.written import (
    TELL_STEPS,
    TELL_TOKENS,
    TELL_WEIGHTS,
    WRITERS,
    Row,
    in_any_order,
    llama_server,
    rows_of_a_real_model,
    token_by_token,
)

PATIENCE = 60.0  # seconds, for a file that is there


@cache
def trace() -> list[Row]:
    return rows_of_a_real_model()


@cache
def right(*, weights: bool) -> object:
    """What it comes to, in the dialect of llama-server."""
    return figures(snapshot_of(llama_server(trace(), weights=weights).encode()))


def cuts(text: bytes, seed: int) -> list[bytes]:
    chance = random.Random(seed)
    places = sorted(chance.sample(range(len(text)), 12))
    return [text[begin:end] for begin, end in zip([0, *places], [*places, len(text)], strict=True)]


def followed(path: Path, pieces: Sequence[bytes]) -> Snapshot:
    """What a follower sees of a file that grows by these pieces."""
    path.touch()
    run = Session(Follower(path), Analyzer())
    written = 0
    with closing(run.source), path.open("ab", buffering=0) as file:
        for piece in pieces:
            file.write(piece)
            written += len(piece)
            patience = time.monotonic() + PATIENCE
            while run.progress().bytes < written:
                run.ingest(0.05)
                assert time.monotonic() < patience
        return run.finish()


@pytest.mark.parametrize("name", WRITERS)
def test_a_real_trace_has_the_same_figures_in_every_dialect(name: str, tmp_path: Path) -> None:
    write, dialect = WRITERS[name]
    text = write(trace()).encode()
    finished = snapshot_of(text)
    assert finished.input.format == dialect
    assert finished.input.tally.malformed_lines == 0
    assert figures(finished) == right(weights=name in TELL_WEIGHTS)
    pieces = cuts(text, len(name))
    assert plain(snapshot_of(*pieces)) == plain(finished)
    live = followed(tmp_path / "log", pieces)
    assert figures(live) == figures(finished)
    assert (live.input.format, live.input.tally) == (dialect, finished.input.tally)


@pytest.mark.parametrize("name", TELL_TOKENS)
def test_its_order_is_free_where_it_is_told(name: str) -> None:
    write, _ = WRITERS[name]
    orders = [token_by_token, in_any_order] if name in TELL_STEPS else [token_by_token]
    for order in orders:
        assert figures(snapshot_of(write(order(trace())).encode())) == right(weights=name in TELL_WEIGHTS)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_is_before_its_lines_changes_nothing(prefix: str) -> None:
    for name, (write, _) in WRITERS.items():
        lines = write(trace()[-40:])
        text = wrapped(lines, PREFIXES[prefix], colours=False, end="")
        bare, around = (figures(analyzed([log.encode()]).snapshot(())) for log in (lines, text))
        assert around == bare, name
