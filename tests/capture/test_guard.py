"""The guard before the server, without a server: how requests are cut, and names that nobody thought of."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.capture import guard
from moe_live.capture.guard import Access, Guard, parse_origin
from moe_live.network import parse_key

GONE = {"type": "http.disconnect"}


@dataclass
class Exchange:
    """A request, and what came of it."""

    parts: list[dict[str, Any]]
    access: Access = field(default_factory=lambda: Access("127.0.0.1"))
    headers: dict[str, str] = field(default_factory=lambda: {"host": "localhost"})
    reached: list[bytes] = field(default_factory=list)
    sent: list[dict[str, Any]] = field(default_factory=list)

    def run(self) -> int | None:
        """The status of the answer, if there was one."""
        scope = {
            "type": "http",
            "method": "POST",
            "raw_path": b"/",
            "query_string": b"",
            "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in self.headers.items()],
        }

        async def receive() -> Any:
            return self.parts.pop(0)

        async def send(message: Any) -> None:
            self.sent.append(message)

        async def application(_scope: Any, receive: Any, send: Any) -> None:
            message = await receive()
            assert message["more_body"] is False
            self.reached.append(message["body"])
            assert (await receive()) == GONE, "it hears when the client goes"
            await send({"type": "http.response.start", "status": 200})

        asyncio.run(Guard(application, self.access)(scope, receive, send))
        return self.sent[0]["status"] if self.sent else None


def body(parts: Iterable[bytes], *, then: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages.append(then or {"type": "http.request", "body": b"", "more_body": False})
    return [*messages, GONE]


@given(parts=st.lists(st.binary(max_size=9), max_size=9), bound=st.integers(0, 40), announced=st.booleans())
def test_a_body_arrives_whole_or_not_at_all(parts: list[bytes], bound: int, *, announced: bool) -> None:
    whole = b"".join(parts)
    headers = {"host": "localhost"} | ({"content-length": str(len(whole))} if announced else {})
    exchange = Exchange(body(parts), headers=headers)
    with patch.object(guard, "MAX_BODY", bound):
        status = exchange.run()
    if len(whole) <= bound:
        assert (status, exchange.reached) == (200, [whole])
    else:
        assert (status, exchange.reached) == (413, [])
        assert exchange.parts == [GONE], "the rest is taken, so that the client comes to read"
        assert exchange.sent[-1]["more_body"] is False


@given(parts=st.lists(st.binary(max_size=9), max_size=5))
def test_half_a_body_is_no_request(parts: list[bytes]) -> None:
    exchange = Exchange(body(parts, then=GONE))
    assert (exchange.run(), exchange.reached) == (None, [])
    refused = Exchange(body(parts, then=GONE), headers={"host": "evil.example"})
    assert (refused.run(), refused.reached) == (421, [])


labels = st.text(st.characters(codec="latin-1"), max_size=12) | st.sampled_from(
    [
        "localhost",
        "127.0.0.1",
        "[::1]",
        "::1",
        "8080",
        ".",
        ":",
        "@",
        "evil",
        "example",
        "/",
        "\\",
        "#",
        "%00",
    ]
)


@given(host=st.lists(labels, max_size=5).map("".join))
def test_no_other_name_is_taken_for_this_machine(host: str) -> None:
    if Exchange(body([]), headers={"host": host}).run() != 421:
        name = urlsplit(f"//{host}").hostname or ""
        assert name == "localhost" or ip_address(name).is_loopback


def test_the_name_given_is_good_too() -> None:
    access = Access("My-Host")
    for host, status in {"my-host:80": 200, "my-host.example": 421, "localhost": 200}.items():
        assert Exchange(body([]), access, {"host": host}).run() == status
    for host in ("evil.example", ""):
        assert Exchange(body([]), Access(None, "k"), {"host": host, "authorization": "Bearer k"}).run() == 200


@given(key=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1), shown=labels)
def test_only_the_key_is_the_key(key: str, shown: str) -> None:
    access = Access(None, parse_key(key))
    assert Exchange(body([]), access, {"authorization": f"Bearer {key}"}).run() == 200
    for wrong in {shown.strip(" "), key[:-1], f"{key}x"} - {key}:
        assert Exchange(body([]), access, {"authorization": f"Bearer {wrong}"}).run() == 401


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://Chat.Example:80", "http://chat.example"),
        ("https://chat.example:80", "https://chat.example:80"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
    ],
)
def test_an_origin_is_what_a_browser_sends(text: str, origin: str) -> None:
    assert parse_origin(text) == origin
    assert parse_origin(origin) == origin


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "*",
            "null",
            "chat.example",
            "https://",
            "https://*",
            "https://*.example",
            "https://a.example/x",
        ),
        *(
            "https://user@a.example",
            "https://a.example:",
            "https://a b",
            "https://a\n",
            "file:///x",
            "http://é",
        ),
    ],
)
def test_what_is_no_origin(text: str) -> None:
    with pytest.raises(ValueError, match="not an origin"):
        parse_origin(text)
