"""The subcommand `moe-live completion`: what a shell needs to complete the words of a command line.

The files are generated from the parsers by scripts/make_shell_files.py, which needs what users need not have.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from moe_live.arguments import subcommand_options
from moe_live.commands import add_command

FILES = {"bash": "moe-live.bash", "zsh": "_moe-live", "fish": "moe-live.fish"}
"""The names of the files, by shell."""

_HELP = """\
Print what a shell needs to complete the command lines of moe-live. It is installed with the package too, to
where shells look below the prefix of the installation.
"""
_EPILOG = """\
examples:
  source <(moe-live completion bash)                                    in ~/.bashrc
  moe-live completion zsh > ~/.zfunc/_moe-live                          with fpath+=~/.zfunc before compinit
  moe-live completion fish > ~/.config/fish/completions/moe-live.fish
"""


def run_subcommand(argv: Sequence[str]) -> int:
    """Run `argv`, which begins with one of its commands; returns the exit status.

    Raises:
        MoeLiveError: something a user can act on.
    """
    shell = subcommand_options(argv, add_parsers).shell
    from importlib import resources

    sys.stdout.write((resources.files("moe_live.shell") / FILES[shell]).read_text(encoding="utf-8"))
    return 0


def add_parsers(subparsers: Any) -> None:
    """Add those of its commands to what `ArgumentParser.add_subparsers` returned."""
    parser = add_command(subparsers, "completion", _HELP, _EPILOG)
    parser.add_argument("shell", choices=tuple(FILES), help="the shell")
