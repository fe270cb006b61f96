"""Makes moe_live/shell: completions and the manual page, from the parsers of the command line.

Usage: scripts/make_shell_files.py
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import shtab

from moe_live.arguments import file_name
from moe_live.completion import FILES
from moe_live.config import whole_parser

SHELL = Path(__file__).resolve().parents[1] / "moe_live" / "shell"
MANUAL = "moe-live.1"


def files() -> dict[str, str]:
    """The texts of all files, by name."""
    parser = whole_parser()
    _prepare(parser)
    made = {name: _completion(parser, shell) for shell, name in FILES.items()}
    return made | {MANUAL: "\n".join(manual(whole_parser())) + "\n"}


def _completion(parser: argparse.ArgumentParser, shell: str) -> str:
    text = shtab.complete(parser, shell)
    # Where a command is expected a log may be meant.
    if shell == "bash":
        text = text.replace("complete -o bashdefault -F", "complete -o bashdefault -o default -F")
    elif shell == "zsh":
        describe = "_describe 'moe-live commands' _commands"
        text = text.replace(describe, f"{describe}\n  _files")
    return "".join(f"{line.rstrip()}\n" for line in text.rstrip().splitlines())


def _parsers(action: argparse.Action) -> dict[str, argparse.ArgumentParser]:
    """The parsers of the commands that an action chooses from."""
    return action.choices if isinstance(action, argparse._SubParsersAction) else {}  # noqa: SLF001 - all there is


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return parser._actions  # noqa: SLF001 - argparse shows them nowhere else


def _prepare(parser: argparse.ArgumentParser) -> None:
    """Have names of files completed where one is wanted, and commands told in a few words."""
    for action in _actions(parser):
        if action.type is file_name:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # that is how shtab is told
        if action.dest == "once":  # what is not part of the same word is not its value
            action.nargs, action.choices = 0, None
        for name, command in _parsers(action).items():
            _prepare(command)
            briefs = {brief.dest: brief.help for brief in action._choices_actions}  # type: ignore[attr-defined]  # noqa: SLF001 - the same
            command.description = briefs[name]


def manual(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The lines of the manual page, in the language of man(7)."""
    yield '.TH MOE-LIVE 1 "" "moe-live" "User Commands"'
    yield ".SH NAME"
    yield "moe\\-live \\- live statistics of mixture\\-of\\-experts routing"
    yield ".SH SYNOPSIS"
    yield from _as_it_is(_usage(parser))
    yield ".SH DESCRIPTION"
    yield from _as_it_is(parser.description or "")
    yield ".SH OPTIONS"
    yield from _options(parser, ".SS")
    yield ".SH COMMANDS"
    for action in _actions(parser):
        for name, command in _parsers(action).items():
            yield from _command(name, command)
    yield ".SH NOTES"
    yield from _as_it_is(parser.epilog or "")


def _command(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f".SS {_escaped(name)}"
    yield from _as_it_is(_usage(parser))
    yield ".PP"
    yield from _as_it_is(parser.description or "")
    yield from _options(parser, None)
    yield from _as_it_is(parser.epilog or "")
    for action in _actions(parser):
        for further, command in _parsers(action).items():
            yield from _command(f"{name} {further}", command)


def _options(parser: argparse.ArgumentParser, heading: str | None) -> Iterator[str]:
    for group in parser._action_groups:  # noqa: SLF001 - argparse shows them nowhere else
        actions = [
            action
            for action in group._group_actions  # noqa: SLF001 - the same
            if action.help is not argparse.SUPPRESS and not _parsers(action)
        ]
        if actions and heading is not None:
            yield f"{heading} {_escaped(group.title or '')}"
        for action in actions:
            yield ".TP"
            yield _term(action)
            yield _escaped((action.help or "") % {**vars(action), "prog": parser.prog})


def _term(action: argparse.Action) -> str:
    """An option with its value, or the name of an argument."""
    value = action.metavar or (
        f"{{{','.join(map(str, action.choices))}}}" if action.choices else action.dest.upper()
    )
    if isinstance(value, tuple):
        value = " ".join(value)
    if not action.option_strings:
        return f"\\fI{_escaped(str(value))}\\fR"
    names = ", ".join(f"\\fB{_escaped(name)}\\fR" for name in action.option_strings)
    if action.nargs == 0:
        return names
    between = "" if str(value).startswith("[=") else " "
    return f"{names}{between}\\fI{_escaped(str(value))}\\fR"


def _usage(parser: argparse.ArgumentParser) -> str:
    """The synopsis. That of argparse is another one with each version of Python."""
    if parser.usage is not None:
        return re.sub(r"^ {7}", "", parser.usage, flags=re.MULTILINE)
    arguments = [
        f"{action.metavar or action.dest.upper()}{' ...' * (action.nargs in ('+', '*', 'A...'))}"
        for action in _actions(parser)
        if not action.option_strings
    ]
    return " ".join([parser.prog, "[OPTIONS]", *arguments])


def _as_it_is(text: str) -> Iterator[str]:
    """Lines that are not filled."""
    if text.strip():
        yield ".nf"
        yield from map(_escaped, text.strip("\n").splitlines())
        yield ".fi"


def _escaped(text: str) -> str:
    """Text with nothing in it that roff would take for its own."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text[:1] in (".", "'") else text


if __name__ == "__main__":
    for name, text in files().items():
        (SHELL / name).write_text(text, encoding="utf-8")
