"""Where reading stands, in a form that outlives the process: in a followed log, or after finished files."""

from __future__ import annotations

from dataclasses import field

from moe_live.dataclass import dataclass
from moe_live.sources.gaps import Gaps
from moe_live.sources.memory import Memory
from moe_live.sources.place import Place
from moe_live.sources.trail import Trail


@dataclass(frozen=True, slots=True)
class Position:
    """Where reading stands at one moment: all that was handed out before is analyzed.

    Attributes:
        path: of the log.
        place: how far the file was read from which the last bytes came; None if there was none.
        trail: samples of what was read of it.
        line_start: where the line begins in which the place lies.
        memory: of the files that were read before, and of those that are not to be read.
        gaps: what is missing.
        time: of this moment, in seconds since 1970.
    """

    path: str
    place: Place | None = None
    trail: Trail = field(default_factory=Trail)
    line_start: int = 0
    memory: Memory = field(default_factory=Memory)
    gaps: Gaps = field(default_factory=Gaps)
    time: float = 0.0

    @property
    def has_read(self) -> bool:
        """Whether anything was read, or passed over."""
        return self.place is not None and self.place.offset > 0


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A finished file that was read to its end.

    Attributes:
        path: what it was called.
        size: of it in bytes, packed or not.
        digest: SHA-256 of these.
    """

    path: str
    size: int
    digest: str
