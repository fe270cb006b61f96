"""llama-cpp-python's own OpenAI-compatible server, with a recorder attached to its model."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from types import FrameType

import llama_cpp
import uvicorn
from fastapi import HTTPException
from llama_cpp.server.app import create_app
from llama_cpp.server.settings import ModelSettings, ServerSettings

from moe_live.capture.engine import CapturingLlama, EngineSettings
from moe_live.capture.recorder import CaptureStoppedError, Recorder
from moe_live.errors import MoeLiveError, UsageError, printable

_SHUTDOWN_SECONDS = 5


class _ServedLlama(CapturingLlama):
    """Answers a request that cannot be captured with an error of its own, which the server does not print."""

    def eval(self, tokens: Sequence[int]) -> None:
        try:
            super().eval(tokens)
        except MoeLiveError as error:
            raise HTTPException(503, str(error)) from None


class _Server(uvicorn.Server):  # type: ignore[misc]  # checked without the extra: it is Any
    """Breaks off what is being computed when a signal tells it to end; ends when capturing failed."""

    def __init__(self, config: uvicorn.Config, recorder: Recorder) -> None:
        super().__init__(config)
        self._recorder = recorder
        recorder.failed = self._end

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came."""
        super().handle_exit(sig, frame)
        self._recorder.stop()

    def _end(self) -> None:
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections.

    Raises:
        UsageError: the address cannot be had.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise UsageError(
            f"cannot serve on {printable(host)}:{port}: {error.strerror}; choose another address"
        ) from None


def serve(listener: socket.socket, settings: EngineSettings, recorder: Recorder) -> None:
    """Answer requests until SIGINT or SIGTERM; the latter is raised again at the end.

    One request is computed at a time; others wait for it.

    Raises:
        MoeLiveError: the model cannot be loaded, or capturing failed.
    """
    os.environ.pop("CONFIG_FILE", None)  # the server would prefer it to the settings below
    high_level = llama_cpp.Llama
    llama_cpp.Llama = partial(_ServedLlama, recorder)  # what the server makes its model of
    try:
        app = create_app(
            # Else each request would break off the one before it.
            server_settings=ServerSettings(interrupt_requests=False),
            model_settings=[ModelSettings(model=settings.model, cache=False, **settings.arguments())],
        )
    finally:
        llama_cpp.Llama = high_level
    config = uvicorn.Config(
        app, log_level="critical", access_log=False, timeout_graceful_shutdown=_SHUTDOWN_SECONDS
    )
    server = _Server(config, recorder)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    sys.stderr.write(f"moe-live: serving on http://{shown}:{port}/v1 (Ctrl-C ends it)\n")
    server.run(sockets=[listener])
    with suppress(CaptureStoppedError):
        recorder.check()
