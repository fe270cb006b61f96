"""Bytes that other processes send through a Unix socket, one process after the other."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Sequence
from contextlib import suppress

from moe_live.errors import UsageError, printable
from moe_live.sources.source import BUSY_PAUSE_S, Break, SourceStatus, State, idle_pause

_READ_BYTES = 1 << 18
_WAITING = 64  # processes that may have connected and wait for their turn


class PeerSource:
    """Listens on a socket and reads who connects, as `Source`. It never ends by itself.

    One process is read to its end before the next one's turn comes: what two of them compute is never mixed.
    Those that wait are not held up: they know how to wait.

    Args:
        path: of the socket, which must not be there yet.
        name: what people call the ones who connect.

    Raises:
        UsageError: it cannot be made.
    """

    def __init__(self, path: str, name: str) -> None:
        self._name = name
        self._path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.bind(path)
            self._listener.listen(_WAITING)
        except OSError as error:  # too long a path among others
            self._listener.close()
            raise UsageError(
                f"cannot listen at {printable(path)}: {error.strerror or error}; "
                "set TMPDIR to another directory, with a short name"
            ) from None
        self._listener.settimeout(0)
        self._peer: socket.socket | None = None
        self._peers = 0
        self._position = 0
        self._pause = 0.0
        self._closed = False

    def read(self, limit: int) -> Sequence[bytes | Break]:
        """What has arrived since the last call; a break where another process begins."""
        items: list[bytes | Break] = []
        pieces: list[bytes] = []
        room = limit
        while room > 0 and not self._closed:
            if self._peer is None and not self._accept(items):
                break
            piece = self._receive(room)
            if piece is None:
                break
            if piece:
                pieces.append(piece)
                room -= len(piece)
            elif pieces:
                break  # what the next one sends is not joined to this
        if pieces:
            items.append(b"".join(pieces))
        if room <= 0:
            self._pause = 0.0
        else:
            self._pause = BUSY_PAUSE_S if items else idle_pause(self._pause)
        return items

    def pause(self) -> float:
        """0 while more is known to be there; else short, as `wake_fd` says when something comes."""
        return self._pause

    def wake_fd(self) -> int | None:
        """The one who is read, or the door while there is none."""
        if self._closed:
            return None
        return (self._listener if self._peer is None else self._peer).fileno()

    def status(self) -> SourceStatus:
        """The present state."""
        state = State.WAITING if self._peer is None else State.FOLLOWING
        detail = ""
        if self._peer is not None and self._somebody_waits():
            detail = "another process computes a model too: it is read when the one that is read has ended"
        return SourceStatus(
            name=self._name,
            state=State.ENDED if self._closed else state,
            detail=detail,
            position=self._position,
            restarts=max(0, self._peers - 1),
        )

    def close(self) -> None:
        """Hang up and take the socket away. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._hang_up()
        self._listener.close()
        with suppress(OSError):
            os.unlink(self._path)  # noqa: PTH108 - the path is text

    def _accept(self, items: list[bytes | Break]) -> bool:
        try:
            self._peer, _ = self._listener.accept()
        except OSError:  # nobody is there, or has gone again
            return False
        self._peer.settimeout(0)
        self._peers += 1
        if self._peers > 1:
            items.append(Break.RESTARTED)
        return True

    def _receive(self, room: int) -> bytes | None:
        """What the process sent, b"" if it has ended; None if there is nothing for now."""
        assert self._peer is not None  # noqa: S101 - tells the type checker
        try:
            data = self._peer.recv(min(room, _READ_BYTES))
        except BlockingIOError:
            return None
        except OSError:  # it died in the middle of something
            data = b""
        if not data:
            self._hang_up()
        self._position += len(data)
        return data

    def _hang_up(self) -> None:
        if self._peer is not None:
            self._peer.close()
            self._peer = None

    def _somebody_waits(self) -> bool:
        poller = select.poll()
        poller.register(self._listener, select.POLLIN)
        return bool(poller.poll(0))
