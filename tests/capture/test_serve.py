"""Who is answered by the server behind `--serve`: real requests to a real server."""

from __future__ import annotations

import contextlib
import json
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.capture.served import ENVIRONMENT, Response, Served, served
from tests.pseudo_terminal import MOE_LIVE

pytest.importorskip(
    "llama_cpp", reason="the engine is not installed (extra capture): scripts/test-capture runs these tests"
)

MODEL = "qwen3moe.gguf"
PAGE = "https://chat.example"
MAX_BODY = 4 << 20
ASK = json.dumps({"prompt": "Once", "max_tokens": 2}).encode()


def complete(server: Served, **headers: str | None) -> Response:
    return server.send("POST", "/v1/completions", ASK, **headers)


def computed(server: Served) -> int:
    """Bytes in the log: more once something has been computed."""
    return server.log.stat().st_size


def assert_no_page_may_read(response: Response) -> None:
    assert [name for name in response.headers if name.startswith("access-control")] == []


@pytest.fixture(scope="module")
def plain(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server as it is started without a word."""
    with served(models / MODEL, tmp_path_factory.mktemp("plain") / "moe.log") as server:
        yield server


@pytest.fixture(scope="module")
def guarded(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with a key and a page that may ask."""
    directory = tmp_path_factory.mktemp("guarded")
    (directory / "key").write_text("s3cret-key\n")
    arguments = ("--api-key-file", str(directory / "key"), "--cors", "HTTPS://Chat.Example:443", "--cors")
    with served(models / MODEL, directory / "moe.log", *arguments, "app://notes") as server:
        yield server


def test_programs_are_answered_and_no_page_is_let_in(plain: Served) -> None:
    for response in (complete(plain), plain.send("GET", "/v1/models")):
        assert response.status == 200
        assert_no_page_may_read(response)
    assert json.loads(response.body)["data"][0]["id"] == MODEL


@pytest.mark.parametrize(
    "origin", [PAGE, "null", "", "http://127.0.0.1:{port}", "http://localhost:3000", "*"]
)
def test_a_page_is_refused_and_nothing_computed_for_it(plain: Served, origin: str) -> None:
    before = computed(plain)
    origin = origin.format(port=plain.port)
    preflight = plain.send(
        "OPTIONS",
        "/v1/completions",
        origin=origin,
        access_control_request_method="POST",
        access_control_request_headers="content-type",
    )
    simple = complete(plain, origin=origin, content_type="text/plain")
    for response in (preflight, simple, complete(plain, origin=origin)):
        assert (response.status, response.message) == (
            403,
            "web pages of this origin may send nothing: allow it with --cors ORIGIN",
        )
        assert_no_page_may_read(response)
    assert computed(plain) == before


def test_what_a_form_could_send_is_not_computed_either(plain: Served) -> None:
    before = computed(plain)
    for kind in ("text/plain", "application/x-www-form-urlencoded", None):
        assert complete(plain, content_type=kind).status == 400
    assert computed(plain) == before


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:{port}", "localhost", "LocalHost:9999", "127.1.2.3", "[::1]", "[::1]:{port}"],
)
def test_every_name_of_this_machine_is_good(plain: Served, host: str) -> None:
    assert complete(plain, host=host.format(port=plain.port)).status == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil.example"),
        *("192.0.2.1", "0.0.0.0:{port}", "127.0.0.1:{port}@evil.example", "127.0.0.1:80:80", "localhost:x"),
        *("::1", "[::2]", "[::1", "", "evil.example, localhost", "127.0.0.1 evil.example", "localhost/"),
    ],
)
def test_another_name_is_refused(plain: Served, host: str) -> None:
    before = computed(plain)
    for method, path in (("POST", "/v1/completions"), ("GET", "/v1/models"), ("OPTIONS", "/"), ("GET", "/x")):
        response = plain.send(
            method, path, ASK if method == "POST" else b"", host=host.format(port=plain.port)
        )
        assert response.status == 421
        assert_no_page_may_read(response)
    assert computed(plain) == before


def test_no_name_or_two_are_refused(plain: Served) -> None:
    for status, head in {
        421: b"GET /v1/models HTTP/1.0\r\n\r\n",
        400: b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    }.items():
        assert plain.exchange(head).status == status


def test_nothing_is_upgraded(plain: Served) -> None:
    upgrade: dict[str, Any] = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec_websocket_version": "13",
        "sec_websocket_key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    assert plain.send("GET", "/v1/completions", **upgrade).status == 405
    assert plain.send("GET", "/v1/completions", **upgrade, origin=PAGE).status == 403
    assert plain.send("GET", "/v1/completions", **upgrade, host="evil.example").status == 421


def test_there_is_nothing_but_the_api(plain: Served) -> None:
    for path in (
        "/",
        "/docs",
        "/redoc",
        "/openapi.json",
        "/v1/embeddings",
        "/extras/detokenize",
        "/v1/models/",
    ):
        assert plain.send("GET", path).status == 404
    for path in ("/v1/embeddings", "/extras/tokenize", "/extras/detokenize"):
        assert plain.send("POST", path, b'{"tokens": [99999999], "input": "x"}').status == 404


def zeros(size: int) -> Iterator[bytes]:
    """`size` bytes in pieces, for a body of unknown length."""
    while size > 0:
        yield bytes(min(size, 50_000))
        size -= 50_000


def test_a_body_has_a_bound(plain: Served) -> None:
    before = computed(plain)
    fits, more = bytes(MAX_BODY), bytes(MAX_BODY + 1)
    assert plain.send("POST", "/v1/completions", fits).status == 400  # but it is no JSON
    assert plain.send("POST", "/v1/completions", zeros(MAX_BODY)).status == 400
    announced = plain.send("POST", "/v1/completions", content_length="9" * 18)  # and not one byte of it
    for response in (
        announced,
        plain.send("POST", "/v1/completions", more),
        plain.send("POST", "/v1/completions", zeros(MAX_BODY + 1)),
        plain.send("POST", "/v1/completions", zeros(20 * MAX_BODY)),
        plain.send("GET", "/v1/models", more),
        plain.send("POST", "/nothing", more),
    ):
        assert response.status == 413
        assert response.message == "the body is larger than 4,194,304 bytes"
    assert computed(plain) == before
    assert complete(plain).status == 200


def test_who_asks_before_sending_is_told(plain: Served) -> None:
    """`Expect: 100-continue`, as curl sends it with a large body."""
    head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n"
    head += "expect: 100-continue\r\ncontent-length: {}\r\n\r\n"
    assert plain.exchange(head.format(MAX_BODY + 1).encode()).status == 413
    with socket.create_connection(("127.0.0.1", plain.port), timeout=60) as connection:
        connection.sendall(head.format(2).encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")


def test_a_connection_carries_one_request(plain: Served) -> None:
    with socket.create_connection(("127.0.0.1", plain.port), timeout=60) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n" * 3)
        answers = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert answers.count(b"HTTP/1.1 200 ") == 1
    assert b"\r\nconnection: close\r\n" in answers


def test_a_head_has_a_bound(plain: Served) -> None:
    before = computed(plain)
    assert complete(plain, x="x" * 15_000).status == 200
    for response in (complete(plain, x="x" * 17_000), plain.send("GET", "/v1/models?" + "x" * 17_000)):
        assert response.status in (400, 431)  # as it came in pieces, or in one
    with socket.create_connection(("127.0.0.1", plain.port), timeout=60) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                connection.sendall(b"x: " + b"x" * 1000 + b"\r\n")
    assert computed(plain) > before
    assert complete(plain).status == 200


def test_a_key_is_needed_wherever_one_asks(guarded: Served) -> None:
    before = computed(guarded)
    shown = [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer s3cret-ke",
        "Bearer s3cret-key2",
        "s3cret-key",
    ]
    for header in [*shown, "Basic s3cret-key", "Bearer S3CRET-KEY", "Bearer s3cret-key\xff", "Bearer null"]:
        for method, path in (
            ("POST", "/v1/completions"),
            ("GET", "/v1/models"),
            ("GET", "/"),
            ("HEAD", "/docs"),
        ):
            body = bytes(MAX_BODY + 1) if header is None and method == "POST" else b""
            response = guarded.send(method, path, body, authorization=header)
            assert response.status == 401
            assert response.headers["www-authenticate"] == "Bearer"
    assert computed(guarded) == before
    for header in ("Bearer s3cret-key", "bearer  s3cret-key"):
        assert complete(guarded, authorization=header).status == 200
    twice = (
        b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n"
        + b"authorization: Bearer s3cret-key\r\n" * 2
        + b"\r\n"
    )
    assert guarded.exchange(twice).status == 401


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="no /proc to read the arguments from")
def test_a_key_in_a_file_is_not_among_the_arguments(guarded: Served) -> None:
    assert b"s3cret" not in Path(f"/proc/{guarded.process.pid}/cmdline").read_bytes()


@pytest.mark.parametrize("origin", [PAGE, "app://notes"])
def test_a_page_that_may_ask_can_read_what_it_gets(guarded: Served, origin: str) -> None:
    preflight = guarded.send(
        "OPTIONS",
        "/v1/completions",
        origin=origin,
        access_control_request_method="POST",
        access_control_request_headers="authorization,content-type",
    )
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-methods"] == "GET, POST"
    assert preflight.headers["access-control-allow-headers"] == "authorization,content-type"
    answered = complete(guarded, origin=origin, authorization="Bearer s3cret-key")
    refused = complete(guarded, origin=origin)
    large = guarded.send(
        "POST", "/v1/completions", zeros(MAX_BODY + 1), origin=origin, authorization="Bearer s3cret-key"
    )
    assert [response.status for response in (answered, refused, large)] == [200, 401, 413]
    for response in (preflight, answered, refused, large):
        assert response.headers["access-control-allow-origin"] == origin
        assert response.headers["vary"] == "origin"
        assert "access-control-allow-credentials" not in response.headers


def test_other_pages_are_refused_even_with_the_key(guarded: Served) -> None:
    for origin in (
        "https://evil.example",
        "null",
        "http://chat.example",
        "https://chat.example:8443",
        PAGE + "/",
    ):
        response = complete(guarded, origin=origin, authorization="Bearer s3cret-key")
        assert response.status == 403
        assert_no_page_may_read(response)
    both = (
        b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\norigin: https://chat.example\r\norigin: null\r\n\r\n"
    )
    assert guarded.exchange(both).status == 403
    assert (
        complete(guarded, host="evil.example", origin=PAGE, authorization="Bearer s3cret-key").status == 421
    )


def test_wrong_requests_get_one_sentence_and_leave_no_trace(plain: Served) -> None:
    escape = "\x1b]0;owned\x07"
    once = {"prompt": "x", "max_tokens": 2}
    talk = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
    schema = {"type": "object", "properties": {'a"b': {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    chosen = {"type": "function", "function": {"name": "f"}}
    for path, body, problem in (
        ("completions", escape, "valid dictionary"),
        ("completions", {**once, "max_tokens": escape}, "max_tokens: Input should be a valid integer"),
        ("completions", {**once, "grammar": f"{escape} root ::= "}, "grammars"),
        ("completions", {**once, "grammar": "root ::= " + "(" * 100_000}, "grammars"),
        ("completions", {**once, "logit_bias": {"999999999999": 1}}, "token that the model does not have"),
        ("completions", {**once, "logit_bias": {escape: 1}}, "invalid literal"),
        ("completions", {**once, "logprobs": 3}, "logprobs is not supported"),
        ("completions", {**once, "prompt": "\ud800"}, "surrogates"),
        ("completions", {**once, "prompt": ["a", "b"]}, "several prompts"),
        ("completions", {**once, "prompt": "x" * 10_000}, "exceed context window of 4096"),
        ("chat/completions", {**talk, "messages": [{"role": escape}]}, "Input should be"),
        (
            "chat/completions",
            {**talk, "response_format": {"type": "json_object", "schema": schema}},
            "schemas",
        ),
        ("chat/completions", {**talk, "tools": [tool], "tool_choice": chosen}, "choice of one tool"),
        (
            "chat/completions",
            {**talk, "functions": [tool["function"]], "function_call": {"name": "f"}},
            "tool",
        ),
    ):
        response = plain.send("POST", f"/v1/{path}", json.dumps(body).encode())
        assert response.status == 400, response
        assert problem in response.message
    for raw in (b"", b'{"prompt": "x', b"\xff\xfe", b"[" * 100_000):
        assert plain.send("POST", "/v1/completions", raw).status == 400
    assert plain.send("POST", "/v1/chat/completions", json.dumps(talk).encode()).status == 200
    assert plain.process.poll() is None
    assert plain.process.stderr is not None
    assert select.select([plain.process.stderr], [], [], 0)[0] == [], "something was said"


def test_others_need_a_key(models: Path, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    log.write_text("of value")
    for address in ("0.0.0.0:0", "[::]:0", "0:0", f"{socket.gethostname()}:0"):
        if address.startswith(socket.gethostname()) and socket.gethostbyname(socket.gethostname()).startswith(
            "127."
        ):
            continue
        run = subprocess.run(
            [*MOE_LIVE, "capture", "--model", models / MODEL, "--log", log, "--serve", address],
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            timeout=60,
            check=False,
        )
        assert (run.returncode, run.stderr.count("\n")) == (2, 1), run.stderr
        assert "without a key" in run.stderr
    assert log.read_text() == "of value"
    with served(models / MODEL, log, "--api-key", "k", address="0.0.0.0:0") as server:
        assert complete(server).status == 401
        for host in ("some.name.example", "192.0.2.1:80", "localhost"):
            assert complete(server, host=host, authorization="Bearer k").status == 200
        assert complete(server, authorization="Bearer k", origin=PAGE).status == 403


def test_the_other_loopback(models: Path, tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with served(models / MODEL, tmp_path / "moe.log", address="[::1]:0") as server:
        assert server.host == "[::1]"
        for host in ("[::1]", f"[::1]:{server.port}", "localhost", "[0:0:0:0:0:0:0:1]:9"):
            assert complete(server, host=host).status == 200
        assert complete(server, host="evil.example").status == 421


def test_nothing_is_taken_from_the_environment(models: Path, tmp_path: Path) -> None:
    settings = {
        "API_KEY": "other",
        "CHAT_FORMAT": "llava-1-5",
        "CONFIG_FILE": "/nowhere.json",
        "DRAFT_MODEL": "prompt-lookup-decoding",
        "EMBEDDING": "true",
        "FORWARDED_ALLOW_IPS": "*",
        "HF_MODEL_REPO_ID": "nobody/nothing",
        "HF_TOKENIZER_CONFIG_PATH": "/nowhere",
        "INTERRUPT_REQUESTS": "true",
        "KV_OVERRIDES": '["junk"]',
        "LORA_PATH": "/nowhere",
        "MODEL": "/nowhere",
        "MODEL_ALIAS": "other",
        "N_CTX": "256",
        "ROOT_PATH": "/other",
        "VOCAB_ONLY": "true",
        "WEB_CONCURRENCY": "junk",
    }
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    log = tmp_path / "moe.log"
    with served(models / MODEL, log, environ={**ENVIRONMENT, **settings}, cwd=tmp_path) as server:
        assert complete(server).status == 200
        listed = json.loads(server.send("GET", "/v1/models").body)
        assert [model["id"] for model in listed["data"]] == [MODEL]
        long = json.dumps({"prompt": "x" * 1000, "max_tokens": 1}).encode()
        assert server.send("POST", "/v1/completions", long).status == 200


_HASTY = """
import sys
from moe_live.capture import serve
serve._REQUEST_SECONDS = 3
class Narrow(serve._Connection):
    def connection_made(self, transport):
        super().connection_made(transport)
        transport.get_extra_info("socket").setsockopt(serve.socket.SOL_SOCKET, serve.socket.SO_SNDBUF, 1)
        transport.set_write_buffer_limits(1000)
serve._Connection = Narrow
from moe_live.process import entry_point
entry_point()
"""


@pytest.fixture(scope="module")
def hasty(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with bounds that a test can wait for."""
    log = tmp_path_factory.mktemp("hasty") / "moe.log"
    with served(models / MODEL, log, program=(sys.executable, "-c", _HASTY)) as server:
        yield server


def test_a_request_that_does_not_come_is_given_up(hasty: Served) -> None:
    post = b"POST /v1/completions HTTP/1.1\r\nhost: "
    with contextlib.ExitStack() as stack:
        waiting = []
        for begun in (
            b"",
            b"POST /v1/comp",
            post + b"localhost\r\ncontent-length: 100\r\n\r\n{",
            post + b"localhost\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
            post + b"evil.example\r\ncontent-length: 100\r\n\r\n{",
        ):
            connection = socket.create_connection(("127.0.0.1", hasty.port), timeout=60)
            waiting.append(stack.enter_context(connection))
            connection.sendall(begun)
        for connection in waiting:
            with contextlib.suppress(ConnectionResetError):
                while connection.recv(1 << 16):  # until the server closes it, or the time is up
                    pass
    assert complete(hasty).status == 200


def test_connections_have_a_bound(plain: Served) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(socket.create_connection(("127.0.0.1", plain.port)))
        with pytest.raises(ConnectionError):
            complete(plain)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(ConnectionError):
            assert complete(plain).status == 200
            return
    raise AssertionError("no connection is taken any more")


def test_who_does_not_read_holds_up_nobody(hasty: Served) -> None:
    always_a = {"324": 100}  # else a model that makes no sense makes few letters
    body = json.dumps({"prompt": "x", "max_tokens": 4000, "stream": True, "logit_bias": always_a}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    with socket.socket() as idle:
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        idle.settimeout(60)
        idle.connect(("127.0.0.1", hasty.port))
        idle.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        before = computed(hasty)
        deadline = time.monotonic() + 60
        while computed(hasty) == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert complete(hasty).status == 200
        assert computed(hasty) < before + 4000 * 60, "the answer that nobody read was not computed to its end"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--serve", "0", "--cors", "*"], "not an origin"),
        (["--serve", "0", "--cors", "null"], "not an origin"),
        (["--serve", "0", "--cors", "https://chat.example/"], "not an origin"),
        (["--serve", "0", "--cors", "https://a.example,https://b.example"], "not an origin"),
        (["--serve", "0", "--api-key", ""], "a key is up to"),
        (["--serve", "0", "--api-key", "two words"], "a key is up to"),
        (["--serve", "0", "--api-key", "k\x1b"], "a key is up to"),
        (["--serve", "0", "--api-key", "k", "--api-key-file", "f"], "not allowed with"),
        (["--serve", "0", "--api-key-file", "/dev/null"], "holds no key"),
        (["--serve", "0", "--api-key-file", "/dev/zero"], "holds no key"),
        (["--serve", "0", "--api-key-file", "/nowhere"], "cannot read /nowhere"),
        (["--prompt", "x", "--api-key", "k"], "go with --serve"),
        (["--prompt", "x", "--cors", PAGE], "go with --serve"),
        (["--serve", f"{'a' * 70}.example:80"], "no name of a machine"),
        (["--serve", "..:80"], "cannot listen on ..:80"),
        (["--serve", "no-such-host.invalid:80"], "cannot listen on no-such-host.invalid:80"),
    ],
)
def test_what_makes_no_sense_is_told_at_once(
    models: Path, tmp_path: Path, arguments: list[str], problem: str
) -> None:
    log = tmp_path / "moe.log"
    run = subprocess.run(
        [*MOE_LIVE, "capture", "--model", models / MODEL, "--log", log, *arguments],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=60,
        check=False,
    )
    assert run.returncode == 2
    assert problem in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr
    assert "\x1b" not in run.stderr
    assert not log.exists()


def test_a_signal_ends_it_with_clients_connected(models: Path, tmp_path: Path) -> None:
    with (
        served(models / MODEL, tmp_path / "moe.log") as server,
        socket.create_connection(("127.0.0.1", server.port)),
    ):
        assert complete(server).status == 200
        server.process.send_signal(signal.SIGINT)
        code, said = server.finish()
    assert code == 0
    assert said.count("\n") == 1
