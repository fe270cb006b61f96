"""Which requests the server behind `--serve` answers: an ASGI application that stands before another one.

A web page can make its visitor's browser send requests to any address, those of this machine too. The
browser tells whose page it was (`Origin`), and by what name it knows the server (`Host`), which gives away a
page whose own name has been made to lead here (DNS rebinding). Looked at in this order: the size of the
head, the name that the request calls the server by, the page that sent it, the key, the size of the body.
Only then it is handed on.

The other application gets the whole body at once: it need not fear that it is endless.
"""

from __future__ import annotations

import hmac
import json
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from moe_live.dataclass import dataclass
from moe_live.network import means_this_machine

MAX_BODY = 4 << 20
"""Bytes of a request's body; a prompt of a million tokens is about as large."""

MAX_HEAD = 16 << 10
"""Bytes of a request before its body."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?")
_USUAL_PORT = {"http": "80", "https": "443"}  # a browser leaves it out


@dataclass(frozen=True, slots=True)
class Access:
    """Who is answered.

    Attributes:
        local_name: the name that the server was given, if this machine alone reaches it: requests may call it
            by that, `localhost` and the loopback addresses; None if others reach it too, under whatever name.
        key: what a request must show; None for nothing.
        origins: of the web pages that may send requests, as `parse_origin` returns them.
    """

    local_name: str | None
    key: str | None = None
    origins: frozenset[str] = frozenset()


def parse_origin(text: str) -> str:
    """The origin of web pages as a browser sends it.

    >>> parse_origin("HTTPS://Chat.example:443")
    'https://chat.example'

    Raises:
        ValueError: `text` is no origin, or that of pages from anywhere (`*`, `null`).
    """
    found = _ORIGIN.fullmatch(text.lower())
    if found is None:
        raise ValueError("not an origin")
    scheme, host, port = found.groups()
    return f"{scheme}://{host}" + (f":{port}" if port and port != _USUAL_PORT.get(scheme) else "")


class Guard:
    """Hands on the requests that may be answered.

    Args:
        application: gets them.
        access: who is answered.
    """

    def __init__(self, application: Application, access: Access) -> None:
        self._application = application
        self._access = access

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request of HTTP, the only kind that there is."""
        headers = _Headers(scope["headers"])
        body = _Body(receive)
        try:
            _check_size(scope)
            self._check_page(headers)
            if self._access.origins:
                send = _for_pages(send, headers.only("origin"))
                if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
                    await _answer_preflight(headers, send)
                    return
            self._check_key(headers)
            whole = await body.whole(headers.only("content-length"))
        except _RefusedError as refusal:
            await _refuse(refusal, body, send)
        except _GoneError:
            pass
        else:
            await self._application(scope, _after(whole, receive), send)

    def _check_page(self, headers: _Headers) -> None:
        """Refuse what comes, or may come, from a web page, whatever key it shows."""
        name = self._access.local_name
        if name is not None and not means_this_machine(headers.only("host"), name):
            raise _RefusedError(
                HTTPStatus.MISDIRECTED_REQUEST, "the Host header does not mean this machine: use 127.0.0.1"
            )
        if "origin" in headers and headers.only("origin") not in self._access.origins:
            raise _RefusedError(
                HTTPStatus.FORBIDDEN, "web pages of this origin may send nothing: allow it with --cors ORIGIN"
            )

    def _check_key(self, headers: _Headers) -> None:
        if self._access.key is None:
            return
        scheme, _, key = headers.only("authorization").partition(" ")
        shown = key.strip(" ").encode("latin-1")
        if not hmac.compare_digest(shown, self._access.key.encode()) or scheme.lower() != "bearer":
            raise _RefusedError(
                HTTPStatus.UNAUTHORIZED, "the key is missing or wrong: send Authorization: Bearer KEY"
            )


class _Headers:
    """Those of a request, by their names in lower case."""

    def __init__(self, pairs: list[tuple[bytes, bytes]]) -> None:
        self._values: dict[str, list[str]] = defaultdict(list)
        for name, value in pairs:
            self._values[name.decode("latin-1").lower()].append(value.decode("latin-1"))

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def only(self, name: str) -> str:
        """The value of a header; empty if it is missing, or is there more than once."""
        values = self._values.get(name, ())
        return values[0] if len(values) == 1 else ""


class _RefusedError(Exception):
    """A request is not answered; why not."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _GoneError(Exception):
    """The client has gone."""


class _Body:
    """That of a request, whether or not its length is announced."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._more = True

    async def whole(self, announced: str) -> bytes:
        """All of it.

        Args:
            announced: how long it is, if that is known.

        Raises:
            _RefusedError: it is longer than `MAX_BODY`; the rest of it is still to come.
            _GoneError: the client has gone.
        """
        if announced.isdecimal() and int(announced[:20]) > MAX_BODY:
            raise _too_large()
        body = bytearray()
        while self._more:
            body += await self._next()
            if len(body) > MAX_BODY:
                raise _too_large()
        return bytes(body)

    async def skip(self) -> None:
        """Take the rest of it."""
        with suppress(_GoneError):
            while self._more:
                await self._next()

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise _GoneError
        self._more = message.get("more_body", False)
        part: bytes = message.get("body", b"")
        return part


def _check_size(scope: Message) -> None:
    size = len(scope["raw_path"]) + len(scope["query_string"])
    size += sum(len(name) + len(value) for name, value in scope["headers"])
    if size > MAX_HEAD:
        raise _RefusedError(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the head is larger than {MAX_HEAD:,} bytes"
        )


def _too_large() -> _RefusedError:
    return _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {MAX_BODY:,} bytes")


def _after(body: bytes, receive: Receive) -> Receive:
    """What receives `body` first, and then what `receive` does."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_next() -> Message:
        return left.pop() if left else await receive()

    return receive_next


async def _refuse(refusal: _RefusedError, body: _Body, send: Send) -> None:
    """Tell the client why, and take what it still sends: it may read the answer only when all is sent.

    How long that may take is up to the server.
    """
    error = {"message": str(refusal), "type": "invalid_request_error", "param": None, "code": None}
    text = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(text))]
    if refusal.status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": refusal.status.value, "headers": headers})
    await send({"type": "http.response.body", "body": text, "more_body": True})
    await body.skip()
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _for_pages(send: Send, origin: str) -> Send:
    """What sends an answer that a page of `origin` (empty: no page) may read."""
    added = [(b"vary", b"origin")]
    if origin:
        added.append((b"access-control-allow-origin", origin.encode("latin-1")))

    async def send_readable(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *added]
        await send(message)

    return send_readable


async def _answer_preflight(headers: _Headers, send: Send) -> None:
    """Tell a browser, which asks before it sends a page's request, that it may."""
    answer = [
        (b"access-control-allow-methods", b"GET, POST"),
        (b"access-control-allow-headers", headers.only("access-control-request-headers").encode("latin-1")),
        (b"access-control-max-age", b"600"),
    ]
    if "access-control-request-private-network" in headers:
        answer.append((b"access-control-allow-private-network", b"true"))
    await send({"type": "http.response.start", "status": HTTPStatus.NO_CONTENT.value, "headers": answer})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
