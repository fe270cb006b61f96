"""What is said of a command line that is wrong, of an input that is no log, and of who gave what."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live import cli
from moe_live.analyzer import Analyzer
from moe_live.commands import COMMANDS
from moe_live.config import RUN, parse
from moe_live.errors import UsageError
from moe_live.reports.unusable import has_usable_lines, why_unusable
from moe_live.simulator.server import HEADER
from moe_live.sources.source import SourceStatus, State
from tests.pseudo_terminal import MOE_LIVE, PseudoTerminal, one_line, started, told

STEP = b"0,1 2\n1,2 3\n"

ODD = "\x1b]0;x\x07\x1b[2J\n\r\x9b31m\u202e\u200b\udcff"
"""What would set a terminal's title, clear it, break lines, colour and turn text, as far as it got there."""


def run(*arguments: str | bytes | Path, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*MOE_LIVE, *arguments],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        timeout=120,
        check=False,
    )


# Wrong usage

WRONG = [
    lambda text: [f"--{text}"],
    lambda text: [f"-{text}"],
    lambda text: ["--rows", text],
    lambda text: ["--rows=" + text],
    lambda text: ["--gate-layers", text],
    lambda text: ["--top", text],
    lambda text: ["--refresh", text],
    lambda text: ["--color", text, "--only", text],
    lambda text: ["x" + text],
    lambda text: ["--json", text + "/x", "LOG"],
    lambda text: ["--label", text, "--label", text],
    lambda text: ["--label-file", "/dev/null/" + text, text],
    lambda text: ["--hot-experts", "1", "--hot-list", text + "/x", "LOG"],
    lambda text: ["capture", "--" + text],
    lambda text: ["capture", "--model", text, "--log", text, "--prompt", text],
    lambda text: ["capture", "--model", text, "--log", text, "--serve", text],
    lambda text: ["verify", "--model", text, text],
]


@pytest.mark.parametrize("command", WRONG)
def test_nothing_from_the_command_line_reaches_the_terminal_as_it_is(
    tmp_path: Path,
    command: Callable[[str], Sequence[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = tmp_path / "finished.log"
    log.write_bytes(HEADER + STEP)
    monkeypatch.chdir(tmp_path)
    assert cli.main([str(log) if argument == "LOG" else argument for argument in command(ODD)]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    one_line(output.err.encode())


@given(st.lists(st.text(st.characters(exclude_characters="\0"))))
def test_a_command_line_is_right_or_an_error_of_ours(arguments: list[str]) -> None:
    try:
        config = parse(["--follow", "x", *arguments])
    except UsageError:
        return
    except SystemExit as ended:
        assert ended.code == 0  # noqa: PT017 - of --help and --version
        return
    assert config.follow[0] == "x"


TWICE = {
    "--follow": ("a", "b"),
    "--json": ("a", "b"),
    "--label": ("a", "b"),
    "--label-file": ("a", "b"),
    "--rows": ("auto", "logged"),
    "--gate-layers": ("1-3", "5"),
    "--n-experts": ("8", "16"),
    "--jobs": ("1", "2"),
    "--from": ("start", "end"),
    "--color": ("auto", "always"),
}


@pytest.mark.parametrize("option", TWICE)
def test_an_option_that_is_given_twice_is_an_error(option: str) -> None:
    first, second = TWICE[option]
    other = [] if option == "--follow" else ["--follow", "log"]
    for values in ((first, second), (second, first)):
        with pytest.raises(UsageError, match=f"{option}: it is given twice"):
            parse([*other, option, values[0], f"{option}={values[1]}"])


def test_so_is_one_of_a_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["capture", "--model", "m", "--log", "a", "--log", "b", "--prompt", "x"]) == 2
    assert "--log: it is given twice" in one_line(capsys.readouterr().err.encode())


def test_a_flag_can_be_given_twice() -> None:
    assert parse(["--follow", "x", "--include-prompt", "--include-prompt"]).settings.include_prompt


@pytest.mark.parametrize(
    ("word", "way"),
    [("captrue", "did you mean capture?"), ("plans", "did you mean plan?"), ("x", "the commands are run, ")],
)
@pytest.mark.parametrize("more", [(), ("--help",), ("--log", "x")])
def test_a_word_that_is_no_file_may_have_been_meant_as_a_command(
    word: str, way: str, more: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError, match=re.escape(f"no file or command {word}; {way}")):
        parse([word, *more])


def test_help_begins_with_the_commands_then_come_options_in_groups(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    usage, *lines = capsys.readouterr().out.splitlines()
    assert usage == "usage: moe-live [OPTIONS] [PATH ...]"
    first = lines.index("commands, each with --help:")
    commands = list(takewhile(str.strip, lines[first + 1 :]))
    assert [name for line in commands for name in line[:16].strip().split(", ")] == [RUN, *COMMANDS]
    assert first + len(commands) < 20
    assert len(commands) <= 10
    for group in ("input:", "analysis:", "output:", "a look at it:"):
        assert lines.index(group) > first
    for name in COMMANDS:
        with pytest.raises(SystemExit) as end:
            cli.main([name, "--help"])
        assert end.value.code == 0
        assert f"moe-live {name}" in capsys.readouterr().out


def test_a_word_that_is_a_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "captrue").write_bytes(STEP)
    assert cli.main(["captrue"]) == 0


# Standard input


def test_a_dash_is_standard_input() -> None:
    named, unnamed = run("-", "--json", "-", stdin=STEP), run("--json", "-", stdin=STEP)
    assert (named.returncode, told(named.stderr)) == (0, b"")
    assert named.stdout == unnamed.stdout
    assert b'"lines": 2' in named.stdout


@pytest.mark.parametrize("arguments", [["-", "a.log"], ["a.log", "-"], ["-", "-"], ["--follow", "-"]])
def test_a_dash_stands_alone(arguments: list[str]) -> None:
    result = run(*arguments, stdin=STEP)
    assert result.returncode == 2
    assert "standard input" in one_line(result.stderr)


def test_a_dash_on_a_terminal_is_wrong_usage() -> None:
    with PseudoTerminal([*MOE_LIVE, "-"]) as terminal:
        assert terminal.wait() == 2
        assert "nothing to read" in terminal.text


# Inputs that are no logs

FOREIGN = [
    (b"", ": the log is empty"),
    (HEADER, ": nothing but a header"),
    (b"# label: x\n", ": nothing but labels"),
    (b"# step pos=0\n", ": nothing but comments"),
    (b"\0" * 1000, ": all 1,000 bytes are NUL"),
    (b"3,1 2 3", ": no line is complete, there is no newline"),
    (b"GGUF\3\0\0\0" + bytes(range(256)) * 20, ": it seems to be a GGUF model; give a log of MoE routing"),
    (b"\x7fELF" + bytes(300), ": it seems to be a program; give a log of MoE routing"),
    ('{"a": 1}\n'.encode("utf-16"), ": it seems to be JSON; give a log of MoE routing"),
    (b'{"a": 1}\n' * 9, ": it seems to be JSON; give a log of MoE routing"),
    (b"\x1b[2J\\x1b[2J\n", ', whose first is "\\x1b[2J\\x1b[2J": is it a log of MoE routing?'),
    (b"hello", ', which begins with "hello": is it a log of MoE routing?'),
    (HEADER + b"hello\r\nworld\n", ', whose first is "hello": is it a log of MoE routing?'),
    (b"x" * 200 + b"\n", ', whose first is "' + "x" * 57 + '...": is it a log of MoE routing?'),
    (b"x" * 3_000_000, ', which begins with "' + "x" * 57 + '...": is it a log of MoE routing?'),
]


@pytest.mark.parametrize(("content", "says"), FOREIGN, ids=[says for _, says in FOREIGN])
def test_an_input_without_a_usable_line_is_told_by_what_it_holds(
    tmp_path: Path, content: bytes, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "no.log"
    path.write_bytes(content)
    assert cli.main([str(path)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"moe-live: no usable line in {path}{says}\n"


@pytest.mark.parametrize(("content", "says"), FOREIGN[::5], ids=[says for _, says in FOREIGN[::5]])
@pytest.mark.parametrize("piped", [False, True])
def test_an_input_without_a_usable_line_is_one_line_and_status_1(
    tmp_path: Path, content: bytes, says: str, piped: bool
) -> None:
    path = tmp_path / "no.log"
    path.write_bytes(content)
    result = run(stdin=content) if piped else run(path)
    assert (result.returncode, result.stdout) == (1, b"")
    name = "standard input" if piped else path
    assert one_line(result.stderr) == f"moe-live: no usable line in {name}{says}"


@given(st.binary(max_size=300).filter(lambda content: b"," not in content))
def test_whatever_is_no_log_is_told_in_one_line(content: bytes) -> None:
    analyzer = Analyzer()
    analyzer.feed(content)
    analyzer.finish()
    assert not has_usable_lines(analyzer.tally)
    why = why_unusable(analyzer.tally)
    assert why.isprintable()
    assert len(why) < 120


def test_of_several_files_that_are_no_logs_none_is_blamed_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"hello\n")
    result = run(tmp_path / "a", tmp_path / "b")
    assert "no usable line in 2 files" in one_line(result.stderr)


@pytest.mark.parametrize("content", [None, b"", HEADER])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_following_that_ended_before_any_usable_line_has_nothing_to_sum_up(
    tmp_path: Path, content: bytes | None, number: signal.Signals, status: int
) -> None:
    path, summary = tmp_path / "growing.log", tmp_path / "summary.json"
    if content is not None:
        path.write_bytes(content)
    with started("--follow", path, "--json", summary) as process:
        assert process.stderr is not None
        assert b"growing.log" in process.stderr.readline()
        process.send_signal(number)
        output, errors = process.communicate(timeout=120)
    assert (process.returncode, output) == (status, b"")
    assert one_line(errors) == f"moe-live: nothing to sum up: no usable line came in {path}"
    assert json.loads(summary.read_bytes())["layers"] == []


def test_following_something_else_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "growing.log"
    path.write_bytes(b"hello\n")
    with started("--follow", path) as process:
        assert process.stderr is not None
        assert b"growing.log" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=120)
    assert (process.returncode, output) == (1, b"")
    assert 'whose first is "hello"' in one_line(errors)


# Advice


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["a.log", "--jobs", "2"], "allow it more, or try --jobs 1, or try --only frequency"),
        (["a.log", "--jobs", "1"], "allow it more, or try --only frequency"),
        (["a.log", "--jobs", "2", "--label-file", "x"], "allow it more, or try --only frequency"),
        (["a.log", "--jobs", "2", "--only", "frequency"], "allow it more, or try --jobs 1"),
        (["a.log", "--jobs", "1", "--only", "frequency"], "allow it more"),
        (["--follow", "a.log"], "allow it more, or try --only frequency"),
    ],
)
def test_nobody_is_told_to_do_what_he_did(
    arguments: list[str], advice: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "run", Mock(side_effect=MemoryError))
    assert cli.main(arguments) == 1
    assert one_line(capsys.readouterr().err.encode()) == f"moe-live: out of memory: {advice}"


@pytest.mark.parametrize(
    ("position", "size", "total"), [(0, None, None), (5, 0, None), (5, 3, None), (5, 5, 5), (5, 8, 8)]
)
def test_only_what_is_known_is_said_of_how_much_there_is(
    position: int, size: int | None, total: int | None
) -> None:
    assert SourceStatus("log", State.READING, position=position, size=size).total == total
