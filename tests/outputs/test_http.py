"""The HTTP server: what it understands, and what clients that do not do their part cannot do to it."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http import HTTPStatus

import pytest

from moe_live.outputs import http
from moe_live.outputs.http import Answer, HttpServer, Request

LARGE = b"x" * (8 << 20)  # more than the system takes for a client that does not read


async def answer(request: Request) -> Answer:
    if request.path == "/large":
        return Answer(HTTPStatus.OK, LARGE)
    if request.path == "/broken":
        raise ZeroDivisionError
    return Answer.sentence(HTTPStatus.OK, f"{request.path} {request.headers.get('x-note', '')}")


@pytest.fixture
def server() -> Iterator[HttpServer]:
    running = HttpServer(socket.create_server(("127.0.0.1", 0)), answer)
    running.start()
    yield running
    running.close()
    assert not running._thread.is_alive()


@pytest.fixture
def port(server: HttpServer) -> int:
    number: int = server._listener.getsockname()[1]
    return number


def talk(port: int, *pieces: bytes) -> bytes:
    """Send pieces, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        for piece in pieces:
            client.sendall(piece)
        return rest(client)


def rest(client: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    found = b""
    while piece := client.recv(1 << 16):
        found += piece
    return found


def status(reply: bytes) -> int:
    return int(reply.split()[1])


def get(port: int, path: str = "/a") -> bytes:
    return talk(port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())


def test_get_and_head(port: int) -> None:
    reply = talk(port, b"GET /a?b=c HTTP/1.1\r\nHost: localhost\r\nX-Note:  hello \r\n\r\n")
    head, _, body = reply.partition(b"\r\n\r\n")
    assert status(reply) == 200
    assert body == b"/a hello\n"
    assert b"Content-Length: 9" in head
    assert b"Connection: close" in head
    head_only = talk(port, b"HEAD /a HTTP/1.1\r\nHost: localhost\r\nX-Note: hello\r\n\r\n")
    assert head_only == head + b"\r\n\r\n"


def test_a_request_may_come_in_pieces(port: int) -> None:
    whole = b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert status(talk(port, *[whole[i : i + 1] for i in range(len(whole))])) == 200


@pytest.mark.parametrize(
    ("request_text", "expected"),
    [
        (b"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", 405),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /a HTTP/2.0\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nX: a\x00b\r\n\r\n", 400),
        (b"\x16\x03\x01 this is TLS \r\n\r\n", 400),
        (b"GET /" + b"a" * http.MAX_HEAD + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET /a HTTP/1.1\r\n" + b"X: y\r\n" * http.MAX_HEAD + b"\r\n", 431),
        (b"GET /broken HTTP/1.1\r\nHost: localhost\r\n\r\n", 500),
    ],
)
def test_what_is_no_request_is_refused(port: int, request_text: bytes, expected: int) -> None:
    try:
        assert status(talk(port, request_text)) == expected
    except ConnectionError:  # more was sent than was read: the system may cut the answer off
        assert expected == 431
    assert status(get(port)) == 200


def test_a_header_given_twice_counts_as_none(port: int) -> None:
    reply = talk(port, b"GET /a HTTP/1.1\r\nX-Note: a\r\nX-note: b\r\n\r\n")
    assert reply.endswith(b"\r\n\r\n/a \n")


def test_a_large_answer_is_whole(port: int) -> None:
    assert get(port, "/large").partition(b"\r\n\r\n")[2] == LARGE


@pytest.mark.parametrize("head", [b"", b"GET /a HTTP/1.1\r\nHost: loc"])
def test_a_request_that_does_not_come_is_given_up(
    port: int, head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "REQUEST_SECONDS", 0.2)
    assert talk(port, head) == b""


def test_bytes_that_trickle_do_not_prolong_it(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_SECONDS", 0.3)

    def trickle() -> None:
        with socket.create_connection(("127.0.0.1", port)) as client:
            for _ in range(3000):
                client.sendall(b"X")
                time.sleep(0.01)

    with pytest.raises(ConnectionError):  # closed: it takes no more
        trickle()


def connect(port: int, stack: ExitStack) -> socket.socket:
    return stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_clients_that_take_nothing_hold_up_nobody(
    server: HttpServer, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "ANSWER_SECONDS", 1.0)
    with ExitStack() as stack:
        stuck = [connect(port, stack) for _ in range(10)]
        for client in stuck:
            client.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert status(get(port)) == 200
        wait_until(lambda: not server._clients)
        for client in stuck:  # given up: what was sent before is all there is
            with suppress(ConnectionError):
                assert len(rest(client)) < len(LARGE)


def test_there_is_a_bound_on_connections(
    server: HttpServer, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "REQUEST_SECONDS", 60.0)
    with ExitStack() as stack:
        for _ in range(http.MAX_CONNECTIONS):
            connect(port, stack)
        wait_until(lambda: len(server._clients) == http.MAX_CONNECTIONS)
        with suppress(ConnectionError):
            assert get(port) == b""
        assert len(server._clients) == http.MAX_CONNECTIONS
    wait_until(lambda: not server._clients)
    assert status(get(port)) == 200


def test_the_end_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CLOSING_SECONDS", 0.2)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = HttpServer(listener, answer)
    server.start()
    with ExitStack() as stack:
        idle, stuck = connect(port, stack), connect(port, stack)
        stuck.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert stuck.recv(1) == b"H"
        idle.sendall(b"GET")
        server.close()
        assert not server._thread.is_alive()
    with pytest.raises(ConnectionError):
        get(port)


def test_the_end_lets_answers_on_their_way_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is being made when the end comes."""
    monkeypatch.setattr(http, "CLOSING_SECONDS", 30.0)
    began, release = threading.Event(), threading.Event()

    async def slow(_: Request) -> Answer:
        began.set()
        while not release.is_set():
            await asyncio.sleep(0.01)
        return Answer(HTTPStatus.OK, LARGE)

    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = HttpServer(listener, slow)
    server.start()
    with ExitStack() as stack:
        client = connect(port, stack)
        client.sendall(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert began.wait(30)
        closing = threading.Thread(target=server.close)
        closing.start()
        release.set()
        assert rest(client).endswith(LARGE)
        closing.join()
