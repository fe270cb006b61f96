"""The server: the page, moving, and the summary as JSON, while a log is followed.

It answers to this machine alone unless it is told otherwise, and then only who shows a token. A page of
somebody else's, in a browser on this machine, learns nothing from it: no other origin may read an answer, and
a name that was made to lead here (DNS rebinding) is not answered to.
"""

from __future__ import annotations

import base64
import hmac
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from moe_live.errors import printable
from moe_live.network import listen, means_this_machine
from moe_live.outputs.document import Document, Version
from moe_live.outputs.http import Answer, HttpServer, Request
from moe_live.outputs.output import Output
from moe_live.reports.json_report import to_json
from moe_live.reports.page import live_page
from moe_live.running import Status
from moe_live.snapshot import Section, Snapshot
from moe_live.terminal import group_signals_blocked

STALLED_SECONDS = 10.0
"""A run that has not looked at its log for so long is called stalled."""

_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    # The page brings a policy of its own, which names its script; both hold.
    "Content-Security-Policy": "frame-ancestors 'none'",
}
"""What every answer has."""

Route = Callable[[Request], Awaitable[Answer]]


def summary_document() -> Document:
    """The summary as JSON, and how the run is going under `live`."""
    return Document("application/json", _summary, frozenset(Section) - {Section.HISTORY})


def _summary(snapshot: Snapshot, status: Status) -> bytes:
    source = status.source
    live = {
        "state": source.state.value,
        "detail": printable(source.detail),
        "behind_bytes": source.lag,
        "bytes_per_second": round(status.bytes_per_second),
        "lines_per_second": round(status.lines_per_second),
        "tokens_per_second": round(status.tokens_per_second, 1),
        "label": status.label,
    }
    return json.dumps(to_json(snapshot) | {"live": live}, allow_nan=False).encode()


class Server(Output):
    """Listens, and hands out documents that the run keeps up to date.

    Args:
        host: name or address to listen on.
        port: 0 for any that is free.
        token: what a client must show; None for nothing.
        summary: see `summary_document`.
        metrics: what answers `/metrics`.
    """

    def __init__(self, host: str, port: int, token: str | None, summary: Document, metrics: Route) -> None:
        self._host = host
        self._port = port
        self._token = token
        self._summary = summary
        self._routes: Mapping[str, Route] = {
            "/": self._page,
            "/summary.json": summary.answer,
            "/metrics": metrics,
            "/healthz": self._health,
        }

    def start(self) -> None:
        """Begin to answer, and say where on standard error.

        Raises:
            UsageError: the address cannot be had, or others reach it and there is no token.
        """
        without_key = "--token-file" if self._token is None else None
        listener, self._local_name = listen(self._host, self._port, without_key=without_key)
        host, port = listener.getsockname()[:2]
        self._server = HttpServer(listener, self._answer)
        with group_signals_blocked():  # the thread inherits it: signals are the main thread's
            self._server.start()
        shown = f"[{host}]" if ":" in host else host
        sys.stderr.write(f"moe-live: listening on http://{shown}:{port}/\n")

    def close(self) -> None:
        """Answer no more."""
        self._server.close()

    async def _answer(self, request: Request) -> Answer:
        if (answer := self._refusal(request)) is None:
            route = self._routes.get(request.path, self._nothing)
            answer = await route(request)
        return Answer(answer.status, answer.body, {**_HEADERS, **answer.headers})

    def _refusal(self, request: Request) -> Answer | None:
        """What a client is told that gets nothing else; None if it is answered."""
        host = request.headers.get("host", "")
        if not host:
            return Answer.sentence(HTTPStatus.BAD_REQUEST, "one Host header is needed")
        if self._local_name is not None and not means_this_machine(host, self._local_name):
            sentence = "the Host header does not mean this machine: use 127.0.0.1 or localhost"
            return Answer.sentence(HTTPStatus.MISDIRECTED_REQUEST, sentence)
        if self._token is not None and not shows(request.headers.get("authorization", ""), self._token):
            ask = {"WWW-Authenticate": 'Basic realm="moe-live: any name, and the token as password"'}
            return Answer.sentence(HTTPStatus.UNAUTHORIZED, "the token is missing or wrong", ask)
        return None

    async def _page(self, request: Request) -> Answer:
        return Version.of(live_page().encode()).answer(request, "text/html; charset=utf-8")

    async def _health(self, _: Request) -> Answer:
        """Whether the loop that reads the log still comes by."""
        if self._summary.idle > STALLED_SECONDS:
            sentence = f"stalled: the log was not looked at for {self._summary.idle:.0f} s"
            return Answer.sentence(HTTPStatus.SERVICE_UNAVAILABLE, sentence)
        return Answer.sentence(HTTPStatus.OK, "ok")

    async def _nothing(self, _: Request) -> Answer:
        return Answer.sentence(HTTPStatus.NOT_FOUND, f"there is {', '.join(self._routes)}")


def shows(authorization: str, token: str) -> bool:
    """Whether a header `Authorization` shows the token: as such, or as a password that a browser asked for.

    >>> shows("Bearer abc", "abc"), shows("Basic " + base64.b64encode(b"me:abc").decode(), "abc")
    (True, True)
    """
    scheme, _, credentials = authorization.partition(" ")
    shown = credentials.strip(" ").encode("latin-1")
    if scheme.lower() == "basic":
        try:
            shown = base64.b64decode(shown, validate=True).partition(b":")[2]
        except ValueError:
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(shown, token.encode())
