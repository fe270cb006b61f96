"""Finished bytes that the thread which reads the log makes and the server's thread hands out."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
import time
from collections.abc import Callable, Collection
from http import HTTPStatus

from moe_live.dataclass import dataclass
from moe_live.outputs.http import Answer, Request
from moe_live.outputs.live import LONGEST_PERIOD, PERIOD
from moe_live.outputs.output import Output
from moe_live.running import Status
from moe_live.snapshot import Section, Snapshot

PATIENCE = 1.5 * LONGEST_PERIOD
"""Seconds that a client waits for figures, at most."""

_LOOK_AGAIN = 0.05  # seconds

_GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Version:
    """What a document holds at one moment.

    Attributes:
        body: as it is.
        packed: the same, compressed by gzip.
        tag: tells it from any other.
    """

    body: bytes
    packed: bytes
    tag: str

    @classmethod
    def of(cls, body: bytes) -> Version:
        """Ready to be handed out."""
        return cls(body, gzip.compress(body, 1, mtime=0), f'"{hashlib.sha256(body).hexdigest()[:32]}"')

    def answer(self, request: Request, content_type: str) -> Answer:
        """What a client gets that asks for it."""
        headers = {"Content-Type": content_type, "ETag": self.tag, "Vary": "Accept-Encoding"}
        if request.headers.get("if-none-match") == self.tag:
            return Answer(HTTPStatus.NOT_MODIFIED, headers=headers)
        if _takes_gzip(request.headers.get("accept-encoding", "")):
            return Answer(HTTPStatus.OK, self.packed, headers | {"Content-Encoding": "gzip"})
        return Answer(HTTPStatus.OK, self.body, headers)


class Document(Output):
    """Something made of the figures when somebody asks for it: what nobody asks for costs nothing.

    No figures are handed out that are older than `PERIOD`, but for the time it takes to make them.

    Args:
        content_type: as HTTP names it.
        make: makes it, in the thread that reads the log.
        sections: that it is made of.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        content_type: str,
        make: Callable[[Snapshot, Status], bytes],
        sections: Collection[Section],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._content_type = content_type
        self._make = make
        self._sections = sections
        self._clock = clock
        self._version: Version | None = None
        self._made_of: tuple[object, object] = (None, None)
        # What both threads touch is one reference each, changed at once and as a whole.
        self._asked = False
        self._found: tuple[float, Version | Exception] | None = None
        self._seen_at = clock()

    @property
    def idle(self) -> float:
        """Seconds since the loop that reads the log came by."""
        return self._clock() - self._seen_at

    def sections(self) -> Collection[Section]:
        """Those it is made of."""
        return self._sections

    def wants_update(self) -> bool:
        """Whether somebody waits for it."""
        self._seen_at = self._clock()
        return self._asked

    def update(self, snapshot: Snapshot, status: Status) -> None:
        """Make it, for those who wait; they learn that it failed, too."""
        moment = self._clock()
        try:
            if self._version is None or snapshot is not self._made_of[0] or status is not self._made_of[1]:
                self._version = Version.of(self._make(snapshot, status))
                self._made_of = snapshot, status
            self._found = moment, self._version
        except Exception as error:
            self._found = moment, error
            raise
        finally:
            self._asked = False

    async def answer(self, request: Request) -> Answer:
        """What a client gets, as soon as there are figures of now. In the server's thread."""
        needed = self._clock() - PERIOD
        while (found := self._found) is None or found[0] < needed:
            if self._clock() > needed + PERIOD + PATIENCE:
                sentence = "moe-live is busy or stopped: there are no figures of now; try again"
                return Answer.sentence(HTTPStatus.SERVICE_UNAVAILABLE, sentence)
            self._asked = True
            await asyncio.sleep(_LOOK_AGAIN)
        if isinstance(found[1], Exception):
            sentence = f"the figures could not be made: {type(found[1]).__name__}"
            return Answer.sentence(HTTPStatus.INTERNAL_SERVER_ERROR, sentence)
        return found[1].answer(request, self._content_type)


def _takes_gzip(accepted: str) -> bool:
    """Whether a client reads gzip, as its header `Accept-Encoding` says."""
    return _GZIP.search(accepted) is not None
