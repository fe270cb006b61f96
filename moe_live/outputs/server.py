"""The server's options (`--listen`): where it listens, and what a reader must show."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from moe_live.arguments import address, file_name
from moe_live.errors import UsageError, printable
from moe_live.network import MAX_KEY, key_in, parse_key
from moe_live.outputs.metrics import served
from moe_live.outputs.output import Output, OutputOptions

MIN_TOKEN = 16
"""Characters of a token, at least: others may try as often as they like."""


def _add(group: Any) -> None:
    group.add_argument(
        "--listen",
        type=address,
        metavar="[HOST:]PORT",
        help="while a log is followed, serve the summary as a page that moves and as JSON, and metrics, "
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


def _token(text: str) -> str:
    try:
        return _long_enough(parse_key(text))
    except ValueError:  # which is not shown: it may be a token, mistyped
        raise argparse.ArgumentTypeError(
            f"a token has {MIN_TOKEN} to {MAX_KEY:,} letters, digits and signs, and no blank"
        ) from None


def _token_in(path: str) -> str:
    try:
        return _long_enough(key_in(path))
    except ValueError:
        raise UsageError(f"{printable(path)} holds no token of {MIN_TOKEN} characters or more") from None


def _long_enough(token: str) -> str:
    if len(token) < MIN_TOKEN:
        raise ValueError("too easy to guess")
    return token


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
    documents, metrics = served(options)
    yield from documents
    yield Server(options.listen.host, options.listen.port, token, summary, metrics)


OPTIONS = OutputOptions(_add, _make)
