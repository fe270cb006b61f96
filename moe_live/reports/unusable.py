"""Inputs without a usable line: what they seem to be instead of a log of MoE routing."""

from __future__ import annotations

import re

from moe_live.errors import MoeLiveError, printable
from moe_live.formats.nearest import nearest
from moe_live.formats.records import LineTally
from moe_live.snapshot import Snapshot

_KINDS = (
    (b"GGUF", "a GGUF model", ""),
    (b"\x7fELF", "a program", ""),
    (b"PK\x03\x04", "a zip archive", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it first"),
    (b"\xfd7zXZ\0", "compressed by xz", "unpack it first"),
    (b"BZh", "compressed by bzip2", "unpack it first"),
    (b"PAR1", "a Parquet table", ""),
    (b"{", "JSON", ""),
    (b"[", "JSON", ""),
)
"""What the first bytes of a file tell of it, and what to do with one that may hold a log."""

_BEGUN_LINE = re.compile(rb"[0-9]{1,4},|gate_input,|layer_id|#")
"""How lines of a log begin."""

_WIDTH = 60
"""Characters that are shown of an input."""


def has_usable_lines(tally: LineTally) -> bool:
    """Whether any line tells of experts or gate inputs."""
    others = tally.malformed_lines + tally.header_lines + tally.label_lines + tally.comment_lines
    return tally.lines > others


def require_usable(snapshot: Snapshot) -> None:
    """See that finished logs had something to tell.

    Raises:
        MoeLiveError: they had no usable line.
    """
    names, tally = snapshot.input.paths, snapshot.input.tally
    if not has_usable_lines(tally):
        name = printable(names[0]) if len(names) == 1 else f"{len(names)} files"
        raise MoeLiveError(f"no usable line in {name}{why_unusable(tally)}")


def why_unusable(tally: LineTally) -> str:
    """What there is instead of lines about experts or gate inputs; follows "no usable line in FILE"."""
    if tally.malformed_lines:
        near = nearest(tally.samples)
        if near:
            return f": {near}"
        return _seeming(tally.samples[0] if tally.samples else b"", ", whose first is")
    if not tally.bytes:
        return ": the log is empty"
    if tally.nul_bytes == tally.bytes:
        return f": all {tally.bytes:,} bytes are NUL"
    if tally.header_lines:
        return ": nothing but a header"
    if tally.label_lines:
        return ": nothing but labels"
    if tally.comment_lines:
        return ": nothing but comments"
    if _BEGUN_LINE.match(tally.incomplete_head):
        return ": no line is complete, there is no newline"
    return _seeming(tally.incomplete_head, ", which begins with")


def unknown_so_far(tally: LineTally) -> list[str]:
    """What is said while lines come and none is usable: what is missing or expected, and the first of them.

    Returns:
        Nothing if there is a usable line, or no line at all, or the header of what is read.
    """
    if has_usable_lines(tally) or tally.header_lines or not tally.malformed_lines:
        return []
    expected = 'expected are lines such as "3,17 4 92", or of another format that "moe-live formats" lists'
    return [
        f"no usable line so far: {nearest(tally.samples) or expected}",
        *(f"  it came: {_clipped(sample)}" for sample in tally.samples),
    ]


def _clipped(line: bytes) -> str:
    """So much of a line as is shown."""
    shown = printable(line)
    return shown if len(shown) <= _WIDTH else shown[: _WIDTH - 3] + "..."


def _seeming(head: bytes, shown_as: str) -> str:
    """What it seems to be that begins so, or the beginning itself."""
    for magic, kind, remedy in _KINDS:
        if head.startswith(magic):
            return f": it seems to be {kind}; {remedy or 'give a log of MoE routing'}"
    return f'{shown_as} "{_clipped(head)}": is it a log of MoE routing?'
