"""A capture that serves, in a process, and requests to it."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.conftest import REPOSITORY
from tests.pseudo_terminal import MOE_LIVE

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}


class Response(NamedTuple):
    """An answer to a request."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> str:
        """Why the request was refused."""
        return str(json.loads(self.body)["error"]["message"])


class Served:
    """A capture that serves, and requests to it."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self.log = log
        assert process.stderr is not None
        for line in process.stderr:
            if "serving on" in line:
                self.url = line.split()[3]
                found = re.fullmatch(r"http://(\[.*\]|[^:]*):([0-9]+)/v1", self.url)
                assert found is not None
                self.host, self.port = found[1], int(found[2])
                return
        raise AssertionError(f"not serving, exit status {process.wait()}")

    def complete(self, prompt: str, tokens: int) -> int:
        """Ask for an answer; returns how many tokens were computed by the engine's own figures."""
        with self._ask({"prompt": prompt, "max_tokens": tokens, "seed": 7}) as response:
            answer = json.load(response)
        # What was generated last is not computed, unless it was the end of the text, which is not counted.
        at_limit = answer["choices"][0]["finish_reason"] == "length"
        return int(answer["usage"]["total_tokens"]) - int(at_limit)

    def stream(self, prompt: str, tokens: int) -> str:
        """Ask for an answer in pieces; returns why it ended."""
        with self._ask({"prompt": prompt, "max_tokens": tokens, "stream": True}) as response:
            pieces = [line.removeprefix(b"data: ") for line in response if line.startswith(b"data: {")]
        return str(json.loads(pieces[-1])["choices"][0]["finish_reason"])

    def _ask(self, body: dict[str, object]) -> Any:
        request = urllib.request.Request(
            f"{self.url}/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        return urllib.request.urlopen(request, timeout=60)

    def send(
        self, method: str, path: str, body: bytes | Iterable[bytes] = b"", **headers: str | None
    ) -> Response:
        """Send a request whose headers are as given, with `_` for `-`; None leaves out one that is usual."""
        wanted: dict[str, str | None] = {"host": f"{self.host}:{self.port}"}
        if method == "POST":
            wanted["content-type"] = "application/json"
        wanted |= {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, bytes):
            wanted.setdefault("content-length", str(len(body)))
        else:
            wanted["transfer-encoding"] = "chunked"
            body = (b"%x\r\n%b\r\n" % (len(part), part) for part in [*body, b""])
        lines = [f"{name}: {value}" for name, value in wanted.items() if value is not None]
        head = "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode("latin-1")
        return self.exchange(head, body)

    def exchange(self, head: bytes, body: bytes | Iterable[bytes] = b"") -> Response:
        """Send these bytes; what comes back."""
        with socket.create_connection((self.host.strip("[]"), self.port), timeout=60) as connection:
            connection.sendall(head)
            for part in [body] if isinstance(body, bytes) else body:
                connection.sendall(part)
            answer = http.client.HTTPResponse(connection, method=head.split(b" ", 1)[0].decode())
            answer.begin()
            return Response(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def finish(self) -> tuple[int, str]:
        """Wait for the end; exit status and what was said."""
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said


@contextmanager
def served(
    model: Path,
    log: Path,
    *arguments: str,
    program: Sequence[str] = MOE_LIVE,
    address: str = "0",
    environ: Mapping[str, str] = ENVIRONMENT,
    **options: Any,
) -> Iterator[Served]:
    """Runs a server on a free port."""
    command = [*program, "capture", "--model", str(model), "--log", str(log), "--threads", "1"]
    with subprocess.Popen(
        [*command, "--serve", address, *arguments], stderr=subprocess.PIPE, text=True, env=environ, **options
    ) as process:
        try:
            yield Served(process, log)
        finally:
            process.kill()
