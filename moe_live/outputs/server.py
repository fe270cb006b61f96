"""The server's options (`--listen`): where it listens, and what a reader must show."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from moe_live.arguments import file_name
from moe_live.errors import UsageError, printable
from moe_live.outputs.output import Output, OutputOptions

MIN_TOKEN, MAX_TOKEN = 16, 1024
"""Characters of a token."""


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


def _add(group: Any) -> None:
    group.add_argument(
        "--listen",
        type=_address,
        metavar="[HOST:]PORT",
        help="while a log is followed, serve the summary as a page that moves and as JSON (/summary.json), "
        "to this machine alone (127.0.0.1) unless HOST says otherwise",
    )
    token = group.add_mutually_exclusive_group()
    token.add_argument(
        "--token",
        type=_token,
        metavar="TEXT",
        help="what readers must show, as the password a browser asks for; users of this machine see it here",
    )
    token.add_argument("--token-file", type=file_name, metavar="PATH", help="a file that holds it instead")


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or len(port) > 5 or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address such as 127.0.0.1:8090, or a port")
    return Address(host.strip("[]") or "127.0.0.1", int(port))


def _token(text: str) -> str:
    if not MIN_TOKEN <= len(text) <= MAX_TOKEN or not all("!" <= character <= "~" for character in text):
        raise argparse.ArgumentTypeError(
            f"a token has {MIN_TOKEN} to {MAX_TOKEN:,} letters, digits and signs, and no blank"
        )
    return text


def _token_in(path: str) -> str:
    try:
        with Path(path).open(encoding="ascii") as file:
            return _token(file.read(MAX_TOKEN + 2).strip())
    except OSError as error:
        raise UsageError(f"cannot read {printable(path)}: {error.strerror}; check the path") from None
    except (ValueError, argparse.ArgumentTypeError):
        raise UsageError(
            f"{printable(path)} holds no token: {MIN_TOKEN} to {MAX_TOKEN:,} letters, digits and signs"
        ) from None


def _make(options: argparse.Namespace) -> Iterator[Output]:
    token = options.token if options.token_file is None else _token_in(options.token_file)
    if options.listen is None:
        if token is not None:
            raise UsageError("--token and --token-file go with --listen")
        return
    if options.paths:
        raise UsageError("--listen goes with a log that grows (--follow PATH, --demo or a pipe); see --html")
    from moe_live.outputs.serving import Server, summary_document

    summary = summary_document()
    yield summary
    yield Server(options.listen.host, options.listen.port, token, summary)


OPTIONS = OutputOptions(_add, _make)
