"""Paths and patterns of logs, and the files that they name now."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from moe_live.errors import UsageError, printable
from moe_live.sources.siblings import is_sibling

_COMPRESSED = frozenset((".gz", ".bz2", ".xz", ".zst", ".lz4", ".Z"))


def is_pattern(path: str) -> bool:
    """Whether a path stands for all files that match it: it has a wildcard, and is no file's name itself."""
    return glob.has_magic(path) and not os.path.lexists(path)


def follows_several(asked: Sequence[str]) -> bool:
    """Whether more than one log may be followed, given paths and patterns."""
    return len(asked) > 1 or any(map(is_pattern, asked))


class LogNames:
    """What to follow: paths, there or not, and what patterns match now.

    Files that were rotated away from one of these logs, by their names, are left to whoever follows that; so
    are compressed ones, which are finished.

    Args:
        asked: paths and patterns.
        ours: paths that this process writes, which are no logs.

    Raises:
        UsageError: one is given twice, or is a rotated file of another.

    Attributes:
        paths: those that are no patterns.
        passed_over: what patterns match and is left to others.
    """

    def __init__(self, asked: Sequence[str], ours: Collection[str] = ()) -> None:
        self.paths = tuple(path for path in asked if not is_pattern(path))
        self.passed_over: set[str] = set()
        self._patterns = tuple(path for path in asked if is_pattern(path))
        self._ours = frozenset(map(os.path.realpath, ours))
        for i, path in enumerate(self.paths):
            for other in self.paths[:i]:
                if os.path.realpath(path) == os.path.realpath(other):
                    raise UsageError(f"{printable(path)} is given twice; give each log once")
                for file, log in ((path, other), (other, path)):
                    if is_sibling(Path(file).absolute(), Path(log).absolute()):
                        raise UsageError(
                            f"{printable(file)} has the name of a rotated file of {printable(log)}, and "
                            "would be read with it; follow one of them, or rename it"
                        )

    def new(self, followed: Collection[str]) -> Iterator[str]:
        """What the patterns match and is not followed yet, in the order of the names.

        Args:
            followed: paths.
        """
        matched: set[str] = set()
        for pattern in self._patterns:
            matched.update(glob.glob(pattern, recursive=True))  # noqa: PTH207 - patterns may be absolute
        candidates = sorted(matched - self.passed_over - set(followed))
        if not candidates:
            return
        links = {path for path in matched if Path(path).is_symlink()}
        files = {os.path.realpath(path) for path in matched - links}
        read = {os.path.realpath(path) for path in followed}
        logs = [Path(path).absolute() for path in (*followed, *candidates)]
        for path in candidates:
            name, target = Path(path).absolute(), os.path.realpath(path)
            if not name.is_file() or target in self._ours or target in read:
                continue
            if path in links and target in files:
                continue
            if name.suffix in _COMPRESSED or any(is_sibling(name, log) for log in logs):
                self.passed_over.add(path)
            else:
                yield path
