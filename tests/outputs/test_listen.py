"""`--listen`: a real process, a growing log, and real requests."""

from __future__ import annotations

import base64
import json
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from moe_live.cli import main
from moe_live.reports.page import live_page
from moe_live.simulator import HEADER, SimulatedServer
from tests.outputs.served import Served, serving
from tests.pseudo_terminal import MOE_LIVE, PseudoTerminal

TOKEN = "a-token-of-this-test"


@pytest.fixture(scope="module")
def blocks() -> list[bytes]:
    """A log as a server writes it, a step at a time."""
    server = SimulatedServer(seed=3)
    request = next(iter(server.requests()))
    return [HEADER, *(step.text for step in server.serve(request))]


def wait_for_tokens(served: Served, tokens: int) -> dict[str, int]:
    deadline = time.monotonic() + 60
    while True:
        found = served.summary()["tokens"]
        if found["prefill"] + found["decode"] >= tokens:
            return dict(found)
        assert time.monotonic() < deadline


def test_figures_move_while_the_log_grows(tmp_path: Path, blocks: list[bytes]) -> None:
    log = tmp_path / "moe.log"
    finished = tmp_path / "summary.json"
    with serving("--follow", log, "--json", finished) as served:
        assert served.summary()["live"]["state"] == "waiting"
        with log.open("ab", buffering=0) as file:
            file.write(b"".join(blocks[:20]))
            first = wait_for_tokens(served, 10)
            file.write(b"".join(blocks[20:]))
            last = wait_for_tokens(served, sum(first.values()) + 10)
        live = served.summary()
        assert live["live"]["state"] == "following"
        assert live["live"]["behind_bytes"] == 0
        served.process.send_signal(signal.SIGINT)
        output, errors = served.process.communicate(timeout=60)
    assert served.process.returncode == 0, errors
    assert b"tokens:" in output
    summary = json.loads(finished.read_text())
    assert last["decode"] <= summary["tokens"]["decode"] <= last["decode"] + 1  # the open step
    assert live.keys() - summary.keys() == {"live"}
    assert not summary.keys() - live.keys()


def test_what_is_served_and_what_is_not(tmp_path: Path, blocks: list[bytes]) -> None:
    log = tmp_path / "moe.log"
    log.write_bytes(b"".join(blocks))
    with serving("--follow", log) as served:
        page = served.get("/")
        assert page.status == 200
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert page.body.decode() == live_page()
        assert served.get("/healthz").body == b"ok\n"
        assert served.get("/?query=is+ignored").status == 200
        for path in (
            "/index.html",
            "/moe.log",
            "/../moe.log",
            "//",
            "/summary.json/",
            "/%2e%2e/etc/passwd",
            "/favicon.ico",
        ):
            reply = served.get(path)
            assert (reply.status, reply.body) == (404, b"there is /, /summary.json, /metrics, /healthz\n")
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert served.get("/summary.json", method).status == 405
        reply = served.get("/summary.json", Origin="http://evil.example")
        assert not [name for name in reply.headers if name.lower().startswith("access-control")]
        assert reply.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in reply.headers["Content-Security-Policy"]
        tag = reply.headers["ETag"]
        deadline = time.monotonic() + 30
        while (again := served.get("/summary.json", If_None_Match=tag)).status != 304:
            tag = again.headers["ETag"]  # rates fall until nothing moves
            assert time.monotonic() < deadline


def test_other_names_are_not_answered_to(tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    log.touch()
    with serving("--follow", log) as served:
        for host in (
            "evil.example",
            f"evil.example:{served.port}",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[::2]",
        ):
            reply = served.get("/summary.json", Host=host)
            assert reply.status == 421, host
            assert b"does not mean this machine" in reply.body
        for host in ("localhost", "LOCALHOST:1", "127.0.0.1", "127.1.2.3:80", "[::1]:8090"):
            assert served.get("/healthz", Host=host).status == 200, host
        assert served.get("/healthz", Host="").status == 400


def test_other_addresses_need_a_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "moe.log"
    log.touch()
    assert main(["--follow", str(log), "--listen", "0.0.0.0:0"]) == 2
    assert capsys.readouterr().err == (
        "moe-live: cannot listen on 0.0.0.0:0 without a key, as other machines reach it: give "
        "--token-file, or an address of this machine alone such as 127.0.0.1\n"
    )
    secret = tmp_path / "token"
    secret.write_text(f"{TOKEN}\n")
    with serving("--follow", log, "--token-file", secret, listen="0.0.0.0:0") as served:
        for path in ("/", "/summary.json", "/healthz", "/nothing"):
            reply = served.get(path)
            assert reply.status == 401
            assert reply.headers["WWW-Authenticate"].startswith("Basic ")
        for shown in (
            "Bearer wrong",
            f"Bearer {TOKEN}x",
            f"Bearer {TOKEN[:-1]}",
            f"Digest {TOKEN}",
            TOKEN,
            "Basic !!",
            "Basic " + base64.b64encode(f"{TOKEN}:".encode()).decode(),
            "Bearer \xff",
        ):
            assert served.get("/summary.json", Authorization=shown).status == 401
        basic = "Basic " + base64.b64encode(f"anybody:{TOKEN}".encode()).decode()
        for shown in (f"Bearer {TOKEN}", f"bearer  {TOKEN}", basic):
            assert served.get("/summary.json", Authorization=shown).status == 200


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--listen", "nonsense"], "'nonsense' is not an address such as 127.0.0.1:8080, or a port"),
        (["--listen", "127.0.0.1:65536"], "is not an address"),
        (["--listen", "8090", "--token", "short"], "a token has 16 to 1,024 letters, digits and signs"),
        (["--listen", "8090", "--token", "with a blank in the middle"], "a token has 16 to"),
    ],
)
def test_wrong_values(arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--demo", *arguments]) == 2
    assert problem in capsys.readouterr().err


def test_options_that_do_not_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, empty, short = tmp_path / "moe.log", tmp_path / "empty", tmp_path / "short"
    log.write_bytes(b"0,1 2\n")
    empty.touch()
    short.write_text("short\n")
    for arguments, problem in (
        (
            [str(log), "--listen", "0"],
            "--listen goes with a log that grows (--follow PATH, --demo or a pipe); see --html",
        ),
        (["--demo", "--token", TOKEN], "--token and --token-file go with --listen"),
        (
            ["--demo", "--listen", "0", "--token-file", str(tmp_path / "no")],
            f"cannot read {tmp_path}/no: No such file or directory; check the path",
        ),
        (
            ["--demo", "--listen", "0", "--token-file", str(empty)],
            f"{empty} holds no key: up to 1,024 letters, digits and signs without a blank",
        ),
        (
            ["--demo", "--listen", "0", "--token-file", str(short)],
            f"{short} holds no token of 16 characters or more",
        ),
    ):
        assert main(arguments) == 2
        assert capsys.readouterr().err == f"moe-live: {problem}\n"


def test_a_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "moe.log"
    log.touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--follow", str(log), "--listen", str(port)]) == 2
    assert capsys.readouterr().err == (
        f"moe-live: cannot listen on 127.0.0.1:{port}: Address already in use; choose another address\n"
    )
    name = "\x1b" + "x" * 70  # too long to be looked up anywhere
    assert main(["--follow", str(log), "--listen", f"{name}:1", "--token", TOKEN]) == 2
    problem = "this is no name of a machine; choose another address"
    assert capsys.readouterr().err == f"moe-live: cannot listen on \\x1b{name[1:]}:1: {problem}\n"


def test_beside_the_dashboard(tmp_path: Path, blocks: list[bytes]) -> None:
    """The same figures, keys as ever, and a prompt end although somebody is connected."""
    log = tmp_path / "moe.log"
    log.write_bytes(b"".join(blocks[:30]))
    command = [*MOE_LIVE, "--follow", str(log), "--listen", "127.0.0.1:0"]
    with PseudoTerminal(command) as terminal:
        terminal.wait_for("decode tokens")
        found = re.search(rb"listening on http://127\.0\.0\.1:(\d+)/", terminal.output)
        assert found is not None
        served = Served(terminal.process, int(found[1]))
        with log.open("ab") as file:
            file.write(b"".join(blocks[30:]))
        tokens: dict[str, int] = {}

        def shows_all() -> bool:
            tokens.update(served.summary()["tokens"])
            return f"{tokens['decode']} decode tokens" in terminal.text and tokens["decode"] > 30

        terminal.wait_until(shows_all)
        with socket.create_connection(("127.0.0.1", served.port)) as idle:
            idle.sendall(b"GET / HTTP/1.1\r\n")
            terminal.press(b"q")
            assert terminal.wait() == 0
    with pytest.raises(ConnectionError):
        served.get("/healthz")
