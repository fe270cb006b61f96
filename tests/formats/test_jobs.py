"""Tables and JSON lines are read by several processes as by one, where lines can be cut."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moe_live.analyzer import Analyzer
from moe_live.parallel.plan import Part, plan
from moe_live.settings import Settings
from moe_live.snapshot import Snapshot
from tests.analysis import snapshot_of
from tests.comparison import plain
from tests.formats.written import TELL_TOKENS, WRITERS, rows_of_a_real_model, token_by_token

CUT = {
    *(
        "route_trace",
        "phase_token_layer",
        "rank_by_rank",
        "ids_in_columns",
        "ids_in_brackets",
        "ids_at_the_end",
    ),
    *("weights_behind_ids", "ids_and_weights_in_columns", "ids_and_so_on"),
    *("vllm", "selected_experts", "choice_by_choice", "layer_by_layer", "router_tracer"),
    *("ggml_moe_log", "expert_trace", "brackets", "lists_of_weights", "commas", "quoted"),
    "in_llama_servers_own",
}
"""What is written so that each row can be told by itself, and steps where they begin."""


def in_parts(parts: list[Part]) -> Snapshot:
    """What analyzers find that read a part each, one merged after the other."""
    settings = Settings()
    whole = Analyzer(settings, dialect=parts[0].dialect)
    for part in pickle.loads(pickle.dumps(parts)):  # as another process gets them
        analyzer = Analyzer(settings, dialect=part.dialect, goes_on=part.begin > 0)
        analyzer.feed(Path(part.path).read_bytes()[part.begin : part.end])
        analyzer.finish()
        whole.merge(analyzer)
    return whole.snapshot()


@pytest.mark.parametrize("name", WRITERS)
def test_parts_are_the_whole(name: str, tmp_path: Path) -> None:
    write, dialect = WRITERS[name]
    path = tmp_path / "log"
    orders = [rows_of_a_real_model()]
    if name in TELL_TOKENS:
        orders.append(token_by_token(orders[0]))
    for rows in orders:
        text = write([row for row in rows if row.step != 1]).encode()
        path.write_bytes(text)
        parts = plan([str(path)], 4, Settings(), min_bytes=0, part_bytes=len(text) // 12)
        assert (len(parts) > 2) is (name in CUT)
        if parts:
            found, whole = in_parts(parts), snapshot_of(text)
            assert found.input.format == dialect
            assert plain(found) == plain(whole)


HEADER = "layer,expert\n"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    k=st.integers(1, 4),
    prompts=st.sets(st.integers(0, 59), max_size=8),
    torn=st.dictionaries(st.integers(0, 400), st.sampled_from(["", "3", "x", "1,2,3", HEADER[:-1], "# a"])),
)
def test_choices_without_ranks_are_cut_where_rows_begin(
    k: int, prompts: set[int], torn: dict[int, str], tmp_path: Path
) -> None:
    rng = np.random.default_rng(k)
    lines = [
        f"{layer},{expert}"
        for step in range(60)
        for layer in (3, 4, 7)
        for _ in range(1 if layer == 7 or step not in prompts else 5)
        for expert in rng.permutation(9)[:k].tolist()
    ]
    lines[400:] = [torn.get(index, line) for index, line in enumerate(lines[400:])]
    text = (HEADER + "".join(f"{line}\n" for line in lines)).encode()
    path = tmp_path / "log"
    path.write_bytes(text)
    parts = plan([str(path)], 4, Settings(), min_bytes=0, part_bytes=len(text) // 12)
    assert len(parts) > 2
    assert plain(in_parts(parts)) == plain(snapshot_of(text))


def test_what_makes_a_row_must_be_known_from_the_beginning(tmp_path: Path) -> None:
    """Of a log whose first lines do not tell it nothing is cut."""
    path = tmp_path / "log"
    path.write_text(HEADER + "".join(f"{layer},{expert}\n" for layer in (3, 4, 3, 4) for expert in (1, 2)))
    assert plan([str(path)], 4, Settings(), min_bytes=0, part_bytes=8) == []
