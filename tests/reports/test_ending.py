import io
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from moe_live.judgement import Subject, Word
from moe_live.reports import ending as module
from moe_live.reports.ending import LINES, Ran, ending, write_ending
from moe_live.reports.section import NAME_WIDTH, Gist, Keys, ReportSection
from moe_live.reports.sections import SECTIONS
from moe_live.routing.evidence import Verdict
from moe_live.snapshot import Snapshot
from moe_live.verdicts import verdicts
from tests.dashboard.factory import snapshot as with_every_plan
from tests.reports.snapshots import EMPTY, FULL, analyzed_with_labels, snapshots

GOLDEN = """
read       2 files; 123 kB; 1,000 lines; 3 malformed; 1 restart; 2 rotations
model      MoE layers 4 (3-5, 9); 12 experts, top-2; gate inputs of layers 4-5
warning    3 lines are malformed

rows       strided; most prompt rows are not real selections;
           40 of 100 rows left out; 4 recovered
phase      guessed; surer with a step of one token
balance    too early to say; surer with 27 more tokens
hot set    too early to say; surer with 27 more tokens

hottest    of decode: layer 3 #0 92.9% (11.1×); layer 3 #10 6.2% (0.74×);
           layer 3 #4 0.6% (0.07×); layer 4 #5 100.0% (12.0×)
distances  gate inputs of layers 4-5: mean cosine similarity 0.912; 50 steps

next       right rows: moe-live capture --log FILE -- llama-server ...
           all tables: moe-live --full 'b\\x1b[2J.log'
           types of prompts beside each other: --label-file FILE
written    the JSON summary to a.json
"""


def plain(snapshot: Snapshot, ran: Ran | None = None, width: int = 80) -> list[str]:
    return [line.plain.rstrip() for line in ending(snapshot, ran or Ran(), width)]


def names(snapshot: Snapshot) -> set[str]:
    return {name for line in plain(snapshot) if (name := line[:NAME_WIDTH].rstrip())}


def test_plans_that_were_asked_for_are_told_and_hints_make_way() -> None:
    ran = Ran(("moe.log",), follows=True, written=(("the JSON summary", "a.json"), ("the page", "a.html")))
    for width in (60, 80, 120):
        lines = plain(with_every_plan(), ran, width)
        assert len(lines) <= LINES
        assert {"budget", "offload", "placement", "prune", "written"} <= {
            line[:10].rstrip() for line in lines
        }
    assert "offload    llama-server -ngl 999 -ot" in "\n".join(plain(with_every_plan()))


def test_golden() -> None:
    ran = Ran(("b\x1b[2J.log",), follows=True, written=(("the JSON summary", "a.json"),))
    assert "\n".join(plain(FULL, ran)) == GOLDEN.strip()


def test_all_subjects_have_their_line() -> None:
    told = [line[:NAME_WIDTH].rstrip() for line in plain(analyzed_with_labels())]
    for name in ("read", "model", *Subject, "hottest", "distances", "caches", "next"):
        assert told.count(name) == 1, name


def test_nobody_is_told_of_labels_he_did_not_give() -> None:
    assert not any(line.startswith("labels") for line in plain(FULL))


@given(
    snapshots(),
    st.builds(
        Ran,
        st.lists(st.text(min_size=1), max_size=3).map(tuple),
        st.booleans(),
        st.lists(st.tuples(st.just("the JSON summary"), st.text(min_size=1, max_size=300)), max_size=5).map(
            tuple
        ),
    ),
    st.integers(1, 200),
    st.integers(0, 9),
)
def test_it_is_one_screen_whatever_it_tells(snapshot: Snapshot, ran: Ran, width: int, more: int) -> None:
    warnings = (*snapshot.warnings, *[f"{i} " + "something is odd, " * 9 for i in range(more)])
    lines = ending(replace(snapshot, warnings=warnings), ran, width)
    assert len(lines) <= LINES
    assert max(cell_len(line.plain) for line in lines) <= max(width, 40)
    assert all(line.plain.isprintable() for line in lines)


def test_warnings_that_find_no_room_are_counted() -> None:
    warnings = tuple(f"number {i} " + "of many words " * 9 for i in range(30))
    lines = plain(replace(FULL, warnings=warnings))
    assert LINES - 1 <= len(lines) <= LINES
    shown = sum(line.startswith("warning    number") for line in lines)
    assert shown >= 2
    assert f"warning    {30 - shown} more warnings: --full" in lines


def test_a_command_is_whole_or_not_there() -> None:
    short, long = plain(FULL, Ran(("a b.log",))), plain(FULL, Ran(("x" * 99,)))
    assert "           all tables: moe-live --full 'a b.log'" in short
    assert "           all tables: moe-live --full LOG" in long


def test_the_end_of_a_long_path_is_seen() -> None:
    ran = Ran(written=(("the page", f"/{'x' * 99}/page.html"), ("the JSON summary", "a.json")))
    *_, first, second = plain(FULL, ran)
    assert first.startswith("written    the page to /xxx")
    assert first.endswith("xxx/page.html;")
    assert second == "           the JSON summary to a.json"


@pytest.mark.parametrize("failing", [section.name for section in SECTIONS])
def test_a_section_that_fails_takes_no_other_with_it(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Snapshot) -> Iterator[Gist]:
        yield Gist("half", ("of it",))
        raise ZeroDivisionError("by\x1b zero")

    broken = [replace(section, gists=fail) if section.name == failing else section for section in SECTIONS]
    (own,) = (list(section.gists(FULL)) for section in SECTIONS if section.name == failing)
    before = names(FULL)
    monkeypatch.setattr(module, "SECTIONS", tuple(broken))
    after = plain(FULL)
    assert f"warning    the section {failing} left out, making it failed:" in "\n".join(after)
    assert before - names(FULL) == {gist.name for gist in own}
    assert "half" not in names(FULL)


def test_a_section_need_not_have_a_gist() -> None:
    assert not list(ReportSection("x", lambda *_: (), lambda _: Keys()).gists(EMPTY))


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_any_output_encoding(encoding: str) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    write_ending(replace(FULL, warnings=("é → ☃",)), Ran(), out)
    out.seek(0)
    assert "é → ☃".encode(encoding, "backslashreplace").decode(encoding) in out.read()


def test_plans_are_named_that_the_verdicts_call_for() -> None:
    concentrated = replace(analyzed_with_labels(), rows=replace(EMPTY.rows, soundness=Verdict.SOUND))
    words = {judgement.subject: judgement.word for judgement in verdicts(concentrated)}
    lines = plain(concentrated, Ran(("moe.log",)))
    pays = words[Subject.CACHE] in (Word.PAYS, Word.HELPS)
    uneven = words[Subject.BALANCE] is Word.UNEVEN
    assert any("moe-live plan cache moe.log" in line for line in lines) is pays
    assert any("moe-live plan placement moe.log" in line for line in lines) is uneven
    assert any("plan" in line for line in plain(EMPTY)) is False
