"""Finished analyzers as one, one after the other."""

from __future__ import annotations

import os
from dataclasses import replace

from moe_live.analyzer import Analyzer
from moe_live.errors import UsageError, printable
from moe_live.judgement import Subject
from moe_live.sameness import other_model
from moe_live.settings import Settings
from moe_live.share import SourceShare, distances
from moe_live.snapshot import Snapshot
from moe_live.verdicts import verdict


class Whole:
    """What several logs are together, in their order, and what each has in it.

    Attributes:
        analyzer: of all; None of nothing.
        problems: why some are left out, a line each.
    """

    def __init__(self) -> None:
        self.analyzer: Analyzer | None = None
        self.problems: list[str] = []
        self._shares: list[SourceShare] = []
        self._snapshots: list[Snapshot] = []

    def add(self, name: str, path: str | os.PathLike[str], found: Analyzer) -> None:
        """Add what comes next, finished, and used up; or leave it out, if it does not fit.

        Args:
            name: what it is called.
            path: where it is.
            found: what was found in it.
        """
        snapshot = found.snapshot(sections=())
        if self.analyzer is None:
            self.analyzer = found
        else:
            longest = max(self._snapshots, key=lambda each: each.steps.total)
            try:
                _check((self.analyzer.settings, longest), (found.settings, snapshot), path, "the others")
            except UsageError as error:
                self.leave_out(name, str(error))
                return
            self.analyzer.merge(found)
        self._snapshots.append(snapshot)
        self._shares.append(_share(name, snapshot))

    def leave_out(self, name: str, reason: str) -> None:
        """Say why something is not in it."""
        self.problems.append(reason)
        self._shares.append(SourceShare(name, left_out=reason))

    def shares(self) -> tuple[SourceShare, ...]:
        """What each has in it, in their order, those that are left out too."""
        used = [snapshot for snapshot in self._snapshots if snapshot.layers]
        if all(entry.usage.decode.any() for snapshot in used for entry in snapshot.layers):
            counts = [{entry.layer: entry.usage.decode for entry in each.layers} for each in self._snapshots]
        else:
            counts = [{entry.layer: entry.usage.counts for entry in each.layers} for each in self._snapshots]
        found = iter(distances(counts, used[0].model.top_k if used else None))
        return tuple(
            share if share.left_out else replace(share, apart=apart, by_chance=by_chance)
            for share in self._shares
            for apart, by_chance in [(0.0, 0.0) if share.left_out else next(found)]
        )


def add_state(whole: Analyzer, found: Analyzer, path: str | os.PathLike[str], first: str) -> None:
    """Add what comes after it, and is used up.

    Args:
        whole: finished, as what is added.
        found: what is added.
        path: of its file.
        first: what the whole is called.

    Raises:
        UsageError: they do not count alike, or are of different models.
    """
    here, there = ((each.settings, each.snapshot(sections=())) for each in (whole, found))
    _check(here, there, path, first)
    whole.merge(found)


def _check(
    whole: tuple[Settings, Snapshot],
    found: tuple[Settings, Snapshot],
    path: str | os.PathLike[str],
    first: str,
) -> None:
    """See that both count alike, and can be of one model; see `add_state`."""
    (ours, here), (theirs, there) = whole, found
    if differences := ours.differences(theirs):
        differ = ", ".join(f"{name} is {new} there and {old}" for name, (old, new) in differences.items())
        raise UsageError(f"cannot merge {printable(path)}: {differ} in {first}; merge what counts alike")
    if difference := other_model(there, here):
        raise UsageError(
            f"cannot merge {printable(path)} with {first}: it is of another model: {difference}; "
            "merge what is of one"
        )


def _share(name: str, snapshot: Snapshot) -> SourceShare:
    tally, judgement = snapshot.input.tally, verdict(Subject.ROWS, snapshot)
    return SourceShare(
        name,
        bytes=tally.bytes,
        lines=tally.lines,
        malformed_lines=tally.malformed_lines,
        rows=snapshot.rows.logged,
        counted=snapshot.rows.counted,
        row_word="" if judgement is None else str(judgement.word),
        row_verdict=snapshot.rows.verdict,
        warnings=snapshot.warnings,
        steps=snapshot.steps.total,
        decode_steps=snapshot.steps.decode,
        tokens=snapshot.tokens.total,
        decode_tokens=snapshot.tokens.decode,
        hottest=next(iter(snapshot.hot_list(1)), None),
    )
