"""Serving on an address: who is let in, how many, and for how long."""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import redirect_stdout, suppress
from types import FrameType

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from moe_live.capture.answers import make_application
from moe_live.capture.engine import EngineSettings
from moe_live.capture.guard import MAX_HEAD, Access, Guard
from moe_live.capture.recorder import CaptureStoppedError, Recorder

_SHUTDOWN_SECONDS = 5
_REQUEST_SECONDS = 30  # a request must be whole by then, and what it is answered with must be taken
_MAX_CONNECTIONS = 64


def serve(listener: socket.socket, settings: EngineSettings, recorder: Recorder, access: Access) -> None:
    """Answer requests until SIGINT or SIGTERM; the latter is raised again at the end.

    One request is computed at a time; others wait for it.

    Raises:
        MoeLiveError: the model cannot be loaded, or capturing failed.
    """
    config = uvicorn.Config(
        Guard(make_application(settings, recorder), access),
        http=_Connection,
        ws="none",
        lifespan="off",
        workers=1,  # else a variable tells how many
        proxy_headers=False,
        server_header=False,
        headers=[("connection", "close")],
        h11_max_incomplete_event_size=MAX_HEAD,
        log_level="critical",
        access_log=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    server = _Server(config, recorder)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    sys.stderr.write(f"moe-live: serving on http://{shown}:{port}/v1 (Ctrl-C ends it)\n")
    with redirect_stdout(None):  # where the engine's server tells of clients that have gone
        server.run(sockets=[listener])
    with suppress(CaptureStoppedError):
        recorder.check()


class _Connection(H11Protocol):  # type: ignore[misc]  # checked without the extra: it is Any
    """Carries one request, which must come in time, and its answer, which must be taken in time."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._limit = self.loop.call_later(_REQUEST_SECONDS, self._give_up)
        if len(self.connections) > _MAX_CONNECTIONS:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._limit.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._limit.cancel()
        self._limit = self.loop.call_later(_REQUEST_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again, or has gone."""
        self._limit.cancel()
        super().resume_writing()

    def _give_up(self) -> None:
        if self.cycle is None or self.cycle.more_body:
            self.transport.abort()


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
