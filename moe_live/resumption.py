"""Going on from a state: that it is of the same settings, and of the same log."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from moe_live.analyzer import Analyzer
from moe_live.checkpoint import Checkpoint
from moe_live.errors import UsageError, printable
from moe_live.sources.follow import Follower
from moe_live.sources.position import Position
from moe_live.state.file import unusable

if TYPE_CHECKING:
    from moe_live.config import Config
    from moe_live.sources.source import Source

_PROBED_BYTES = 1 << 22
"""How much of a log is looked at to tell its model."""

_STEPS = 3
"""Fewer tell nothing of a model: the first and the last may be cut."""


class Resumed:
    """What a state says.

    Args:
        path: of its file.
        analyzer: what was found.
        position: where reading stood; None if that was a pipe.
    """

    def __init__(self, path: str, analyzer: Analyzer, position: Position | None) -> None:
        self.analyzer = analyzer
        self.position = position
        self._path = path

    def check(self, follower: Follower, path: str) -> None:
        """See that what is followed is not another log.

        What was read may be gone: then the same path is believed to name the log of the same model, as far as
        its beginning tells.

        Args:
            follower: ready to go on.
            path: of what it follows.

        Raises:
            UsageError: it is another one.
        """
        log, state = printable(path), printable(self._path)
        if self.position is None:
            raise UsageError(
                f"cannot go on with {state}: it is of a pipe, and does not say where reading stood in {log}; "
                "give the log another --state"
            )
        if follower.goes_on or not self.position.has_read:
            return
        if os.path.realpath(path) != os.path.realpath(self.position.path):
            raise UsageError(
                f"cannot go on with {state}: it is of {printable(self.position.path)}, and what was read of "
                f"that is not in {log}; give each log a state of its own"
            )
        if difference := self._difference(path):
            raise UsageError(
                f"cannot go on with {state}: {log} is of another model: {difference}; give it another --state"
            )

    def _difference(self, path: str) -> str:
        """What tells the model of a log from that of the state; "" for nothing."""
        head = b""
        with suppress(OSError), open(path, "rb") as file:  # noqa: PTH123 - `Path` has no other way either
            head = file.read(_PROBED_BYTES)
        probe = Analyzer(self.analyzer.settings)
        probe.feed(head)
        probe.finish()
        there, here = (each.snapshot(sections=()) for each in (probe, self.analyzer))
        if min(there.steps.total, here.steps.total) < _STEPS:
            return ""
        for what, new, old in (
            ("layers", _ranges(there.model.layers), _ranges(here.model.layers)),
            ("experts a row", there.model.top_k, here.model.top_k),
        ):
            if new != old:
                return f"{what} {new} there and {old} here"
        return ""


def resume(config: Config) -> Resumed | None:
    """What the state says that the user names; None if there is none yet.

    Raises:
        MoeLiveError: it cannot be used, or is of other settings.
    """
    path = config.state
    if path is None or not os.path.lexists(path):
        return None
    analyzer, position = Analyzer.loaded(path, keep_steps=config.wants_steps)
    if not isinstance(position, Position | None):
        raise unusable(path, "it does not say where reading stood")
    if differences := config.settings.differences(analyzer.settings):
        differ = ", ".join(
            f"{name} is {there} there and {here} here" for name, (here, there) in differences.items()
        )
        raise UsageError(
            f"cannot go on with {printable(path)}: {differ}; give the same options, or another --state"
        )
    if position is not None and config.follow is None:
        raise UsageError(
            f"cannot go on with {printable(path)}: it is of {printable(position.path)}, which was followed; "
            "give a pipe another --state"
        )
    if config.settings.label:
        analyzer.label = config.settings.label
    return Resumed(path, analyzer, position)


def checkpoint_of(config: Config, source: Source) -> Checkpoint | None:
    """What writes the state, if the user wants one."""
    if config.state is None:
        return None
    return Checkpoint(config.state, source.position if isinstance(source, Follower) else None)


def _ranges(layers: tuple[int, ...]) -> str:
    return f"{layers[0]}-{layers[-1]} ({len(layers)})" if layers else "none"
