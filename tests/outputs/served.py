"""moe-live with `--listen`, in a process."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.pseudo_terminal import started


@dataclass(frozen=True)
class Reply:
    """What a server said."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass(frozen=True)
class Served:
    """A running moe-live, and where it listens."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        """Of the page."""
        return f"http://127.0.0.1:{self.port}/"

    def get(self, path: str, method: str = "GET", **headers: str) -> Reply:
        """Ask for a path."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(
                method, path, headers={name.replace("_", "-"): value for name, value in headers.items()}
            )
            answer = connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def summary(self) -> dict[str, Any]:
        """The summary of now."""
        found: dict[str, Any] = json.loads(self.get("/summary.json").body)
        return found


@contextmanager
def serving(*arguments: str | Path, listen: str = "127.0.0.1:0") -> Iterator[Served]:
    """moe-live without a dashboard, listening on a free port; killed at the end if it has not ended."""
    with started(*arguments, "--listen", listen, stdin=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.fullmatch(rb"moe-live: listening on http://\S+:(\d+)/\n", line)
        if found is None:
            raise AssertionError(line + process.stderr.read())
        yield Served(process, int(found[1]))
