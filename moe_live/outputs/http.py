"""A small HTTP server in a thread of its own: it reads what the client asks for and sends finished bytes.

It knows GET and HEAD, and takes no body. Each connection serves one request. Everything is bounded: the
connections, the size of a request, and the time it may take to arrive and its answer to be taken.
"""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import field
from http import HTTPStatus

from moe_live.dataclass import dataclass

MAX_CONNECTIONS = 32
MAX_HEAD = 8 << 10
"""Bytes of a request."""
REQUEST_SECONDS = 10.0
"""So long a request may take to arrive."""
ANSWER_SECONDS = 30.0
"""So long its answer may take to be taken."""
CLOSING_SECONDS = 1.0
"""So long answers on their way are waited for at the end."""

_PIECE = 1 << 16  # bytes of an answer that are handed to the system at a time

_PLAIN = {"Content-Type": "text/plain; charset=utf-8"}

_REQUEST_LINE = re.compile(r"([A-Z]{1,16}) (/[!-~]*) HTTP/1\.[01]")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([ -~\t\x80-\xff]*?)[ \t]*")


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for.

    Attributes:
        path: without the query.
        headers: by their names in lower case; those that were given more than once are left out.
    """

    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client gets."""

    status: HTTPStatus
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def sentence(cls, status: HTTPStatus, text: str, headers: Mapping[str, str] = _PLAIN) -> Answer:
        """A line of plain text."""
        return cls(status, f"{text}\n".encode(), {**_PLAIN, **headers})


class HttpServer:
    """Answers requests until it is closed.

    Args:
        listener: takes connections; closed with the server.
        answer: makes the answer to a request, in the server's thread: it must not block.
    """

    def __init__(self, listener: socket.socket, answer: Callable[[Request], Awaitable[Answer]]) -> None:
        self._listener = listener
        self._answer = answer
        self._loop = asyncio.new_event_loop()
        # What goes wrong with a client is the client's business; a word about it would spoil the screen.
        self._loop.set_exception_handler(lambda *_: None)
        self._clients: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Take no more connections, give those there are a moment to end, and end."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        loop = self._loop
        server = loop.run_until_complete(
            asyncio.start_server(self._connected, sock=self._listener, limit=MAX_HEAD)
        )
        loop.run_forever()
        server.close()
        loop.run_until_complete(self._end_clients())
        loop.close()

    async def _end_clients(self) -> None:
        if self._clients:
            await asyncio.wait(self._clients, timeout=CLOSING_SECONDS)
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        client = self._loop.create_task(self._talk(reader, writer))
        self._clients.add(client)
        client.add_done_callback(self._clients.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request and its answer.

        Raises:
            OSError, asyncio.IncompleteReadError: the client does not do its part, or not in time.
        """
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            method, answer = "GET", Answer.sentence(status, "the request is too long")
        else:
            method, answer = await self._answer_to(head)
        async with asyncio.timeout(ANSWER_SECONDS):
            await _send(writer, answer, with_body=method != "HEAD")

    async def _answer_to(self, head: bytes) -> tuple[str, Answer]:
        """The method of a request, and the answer."""
        try:
            method, request = _parse(head.decode("latin-1"))
            return method, await self._answer(request)
        except _RefusedError as refusal:
            return "GET", refusal.answer
        except Exception as error:
            sentence = f"the answer could not be made: {type(error).__name__}"
            return "GET", Answer.sentence(HTTPStatus.INTERNAL_SERVER_ERROR, sentence)


class _RefusedError(Exception):
    """A request is not understood; what the client is told."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


def _parse(head: str) -> tuple[str, Request]:
    """Its method, and what is asked for.

    Raises:
        _RefusedError: it is no request that can be answered.
    """
    first, *lines = head[:-4].split("\r\n")
    found = _REQUEST_LINE.fullmatch(first)
    if found is None:
        raise _RefusedError(Answer.sentence(HTTPStatus.BAD_REQUEST, "this is not a request"))
    method, target = found.groups()
    if method not in ("GET", "HEAD"):
        allow = {"Allow": "GET, HEAD"}
        raise _RefusedError(
            Answer.sentence(HTTPStatus.METHOD_NOT_ALLOWED, "nothing can be changed from here", allow)
        )
    headers: dict[str, list[str]] = {}
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise _RefusedError(Answer.sentence(HTTPStatus.BAD_REQUEST, "a header is malformed"))
        headers.setdefault(header[1].lower(), []).append(header[2])
    only = {name: values[0] for name, values in headers.items() if len(values) == 1}
    return method, Request(target.partition("?")[0], only)


async def _send(writer: asyncio.StreamWriter, answer: Answer, *, with_body: bool) -> None:
    """All of the answer; a client that does not take it is waited for."""
    headers = {**answer.headers, "Content-Length": str(len(answer.body)), "Connection": "close"}
    lines = [f"HTTP/1.1 {answer.status.value} {answer.status.phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
    body = memoryview(answer.body if with_body else b"")
    for start in range(0, len(body), _PIECE):
        writer.write(body[start : start + _PIECE])
        await writer.drain()
    writer.close()
    await writer.wait_closed()
