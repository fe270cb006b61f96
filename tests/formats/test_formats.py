"""Formats can be listed and told, and what is of none is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moe_live.analyzer import Analyzer
from moe_live.cli import main
from moe_live.dashboard import draw_static
from moe_live.formats.nearest import nearest
from moe_live.formats.sniff import DIALECTS
from moe_live.settings import FORMATS, Settings
from tests.dashboard.factory import status


def test_the_names_of_all_formats_are_known() -> None:
    assert [dialect.name for dialect in DIALECTS] == list(FORMATS)


def test_the_example_of_each_format_is_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["formats"]) == 0
    listed = capsys.readouterr().out
    for dialect in DIALECTS:
        assert f"{dialect.name}\n    {dialect.example.splitlines()[0]}\n" in listed
        if not dialect.is_text:
            continue
        analyzer = Analyzer()
        analyzer.feed(f"{dialect.example}\n".encode())
        analyzer.finish()
        snapshot = analyzer.snapshot()
        assert snapshot.input.format == dialect.name
        assert (snapshot.input.tally.malformed_lines, len(snapshot.model.layers) > 0) == (0, True)


@pytest.mark.parametrize(
    "text",
    [
        "layer_no;sel;name\n3;1 2;a\n4;3 5;b\n",
        '{"sel": [1, 2], "layer_no": 3}\n{"sel": [3, 5], "layer_no": 4}\n',
    ],
)
def test_columns_can_be_called_anything(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log"
    path.write_text(text)
    assert main([str(path)]) == 1
    said = capsys.readouterr().err
    assert "use --columns layer=layer_no,experts=sel" in said
    assert main([str(path), "--columns", "layer=layer_no,experts=sel", "--json", "-"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["model"]["layers"] == [3, 4]
    assert summary["rows"]["logged"] == 2


def test_a_format_that_is_told_is_the_only_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log"
    path.write_text("2: 3,1 2\nmoe: layer,experts\nmoe: 3,4 5\n")
    assert main([str(path), "--format", "table", "--json", "-"]) == 0
    source = json.loads(capsys.readouterr().out)["source"]
    assert (source["format"], source["lines"], source["malformed_lines"]) == ("table", 3, 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--format", "csv"], "csv"),
        (["--columns", "layr=x"], "'layr=x' is not a column such as layer=NAME"),
        (["--columns", "layer="], "'layer=' is not a column"),
    ],
)
def test_what_is_told_wrong_is_an_error(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["moe.log", *options]) == 2
    assert said in capsys.readouterr().err


def test_a_setting_that_names_no_format_is_an_error() -> None:
    with pytest.raises(ValueError, match="format is 'csv'; it must be one of llama-server, table"):
        Settings(format="csv")


@pytest.mark.parametrize("text", ["a,b,c\n3,6,4\n4,7,5\n", "a;b\n3,6;4\n", "x,y,z\n" + "1,2,3\n" * 300])
def test_the_lines_of_any_other_table_are_no_rows(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log"
    path.write_text(text)
    assert main([str(path)]) == 1
    assert f'whose first is "{text.splitlines()[0]}": is it a log of MoE routing?' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "format_"),
    [
        ("3,51,1\n4,7,2\n", "commas"),
        ("3,51,51\n4,7,2\n", "llama-server"),  # no router chooses an expert twice
        ("3,51,1\n4,7\n", "llama-server"),
        ("# x\n\n3, 51, -1, -1\n", "commas"),
    ],
)
def test_numbers_between_commas_are_rows_if_all_lines_are_alike(text: str, format_: str) -> None:
    analyzer = Analyzer()
    analyzer.feed(text.encode())
    analyzer.finish()
    assert analyzer.snapshot().input.format == format_


def test_layers_of_a_draft_head_are_not_taken_for_the_models() -> None:
    of_model = '{"step": 0, "layer": 1, "rank": 0, "top_indices": [[4, 2], [3, 1]]}\n'
    of_head = '{"step": 0, "layer": 1, "rank": 0, "top_indices": [[4, 2], [3, 1]], "mtp_idx": 0}\n'
    analyzer = Analyzer()
    analyzer.feed((of_model + of_head).encode())
    analyzer.finish()
    snapshot = analyzer.snapshot()
    assert (snapshot.rows.logged, snapshot.input.tally.malformed_lines) == (2, 1)
    dialect = next(each for each in DIALECTS if each.name == "json-lines")
    assert dialect.fault(of_head.encode()) == "of a draft head, whose layers are numbered as the model's"


@pytest.mark.parametrize("rows", ["0,1,2", "0,51", "0,1,2,3"])
def test_lines_below_a_header_that_names_no_layer_are_no_rows(
    rows: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log"
    path.write_text(f"step,layer_no,expert\n{rows}\n")
    assert main([str(path)]) == 1
    assert "the header has no layer column: layer_no?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "clause"),
    [
        (b"step,layer_no,experts", "the header has no layer column: layer_no? use --columns layer=layer_no"),
        (b"layer,chosen", "the header has no experts column; --columns experts=NAME tells which it is"),
        (b'{"blk": 3, "ids": [1]}', "the line has no layer key: blk? use --columns layer=blk"),
        (b"main: server is listening", ""),
        (b"12,13", ""),
        (b"name,age", ""),
        (b"[1, 2", ""),
        (b"{" * 50, ""),
    ],
)
def test_what_a_line_comes_nearest_to_is_told(line: bytes, clause: str) -> None:
    assert nearest([b"# x", line]) == clause


def test_lines_of_no_format_are_shown_as_they_come() -> None:
    analyzer = Analyzer()
    analyzer.feed(b"main: loading\nmain: listening\n")
    tally = analyzer.snapshot().input.tally
    assert (tally.lines, tally.malformed_lines, tally.samples[0]) == (2, 2, b"main: loading")


def test_the_header_of_the_dashboard_names_the_format() -> None:
    analyzer = Analyzer()
    analyzer.feed(b"layer,expert_ids\n3,1 2\n4,5 6\n3,2 7\n")
    assert "table" in draw_static(analyzer.snapshot(), status(), width=80, height=24).plain.splitlines()[1]
