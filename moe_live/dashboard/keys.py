"""Bytes typed at a terminal to names of keys."""

from __future__ import annotations

import re

_CONTROL = {0x08: "backspace", 0x09: "tab", 0x0A: "enter", 0x0D: "enter", 0x20: "space", 0x7F: "backspace"}

_FINAL = {
    "A": "up",
    "B": "down",
    "C": "right",
    "D": "left",
    "H": "home",
    "F": "end",
    "Z": "shift-tab",
    "P": "f1",
    "Q": "f2",
    "R": "f3",
    "S": "f4",
}

_NUMBERED = {
    "1": "home",
    "2": "insert",
    "3": "delete",
    "4": "end",
    "5": "pgup",
    "6": "pgdn",
    "7": "home",
    "8": "end",
}

# ESC [ parameters, intermediates, final byte; and how such a sequence looks while it is still coming in.
_CSI = re.compile(rb"\x1b\[([0-?]*)[ -/]*([@-~])")
_CSI_BEGUN = re.compile(rb"\x1b\[[0-?]*[ -/]*\Z")
# Answers of the terminal (OSC, DCS, SOS, PM, APC): text up to BEL or ESC \.
_STRING = re.compile(rb"\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)")
_STRING_BEGUN = re.compile(rb"\x1b[\]PX^_][^\x07\x1b]*\x1b?\Z")

_PASTE_END = b"\x1b[201~"
_LONGEST_SEQUENCE = 256


class KeyDecoder:
    """Names the keys in a stream of bytes that may be cut anywhere.

    Printable characters are their own name ("q", "R", "é"); others are called "up", "pgdn", "shift-tab",
    "space", "esc", "ctrl-l", "alt-x". Mouse reports, pasted text (when bracketed), answers of the terminal,
    unknown sequences and invalid UTF-8 are swallowed.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._pasting = False

    @property
    def pending(self) -> bool:
        """Whether bytes wait for more; if none come soon, call `flush`."""
        return bool(self._buffer) or self._pasting

    def feed(self, typed: bytes) -> list[str]:
        """The keys completed by these bytes."""
        self._buffer += typed
        keys = []
        while self._buffer:
            taken, key = self._next()
            if not taken:
                if len(self._buffer) <= _LONGEST_SEQUENCE:
                    break
                taken = len(self._buffer)  # nothing a keyboard or a terminal sends
            self._buffer = self._buffer[taken:]
            if key:
                keys.append(key)
        return keys

    def flush(self) -> list[str]:
        """No more bytes came: a lone ESC was the key, any other beginning is dropped."""
        keys = ["esc"] if self._buffer == b"\x1b" and not self._pasting else []
        self._buffer = b""
        self._pasting = False
        return keys

    def _next(self) -> tuple[int, str]:
        """Length and name of the first key; length 0 if it is incomplete, name "" if it means nothing."""
        buffer = self._buffer
        if self._pasting:
            end = buffer.find(_PASTE_END)
            if end < 0:
                # Keep what may be the beginning of the end mark.
                return max(0, len(buffer) - len(_PASTE_END) + 1), ""
            self._pasting = False
            return end + len(_PASTE_END), ""
        first = buffer[0]
        if first == 0x1B:
            return self._escape(buffer)
        if first in _CONTROL:
            return 1, _CONTROL[first]
        if first < 0x20:
            return 1, f"ctrl-{chr(first + 0x40).lower()}"
        return _character(buffer)

    def _escape(self, buffer: bytes) -> tuple[int, str]:
        if len(buffer) == 1:
            return 0, ""
        second = buffer[1:2]
        if second == b"[":
            return self._control_sequence(buffer)
        if second == b"O":
            return (3, _FINAL.get(chr(buffer[2]), "")) if len(buffer) > 2 else (0, "")
        if second in b"]PX^_":
            if answer := _STRING.match(buffer):
                return answer.end(), ""
            return (0, "") if _STRING_BEGUN.match(buffer) else (2, "")
        if second == b"\x1b":
            return 1, "esc"
        length, key = _character(buffer[1:])
        if not length:
            return 0, ""
        return 1 + length, f"alt-{key}" if key.isprintable() and key else ""

    def _control_sequence(self, buffer: bytes) -> tuple[int, str]:
        if buffer.startswith(b"\x1b[M"):  # mouse, oldest protocol: three bytes follow
            return (6, "") if len(buffer) >= 6 else (0, "")
        if buffer.startswith(b"\x1b[["):  # function key of the Linux console: one letter follows
            return (4, "") if len(buffer) >= 4 else (0, "")
        sequence = _CSI.match(buffer)
        if sequence is None:
            return (0, "") if _CSI_BEGUN.match(buffer) else (2, "")
        parameters, final = sequence[1].decode(), sequence[2].decode()
        if final == "~":
            number = parameters.partition(";")[0]
            self._pasting = number == "200"
            return sequence.end(), _NUMBERED.get(number, "")
        if parameters[:1] in ("<", "=", ">", "?"):  # mouse reports and answers, not keys
            return sequence.end(), ""
        return sequence.end(), _FINAL.get(final, "")


def _character(buffer: bytes) -> tuple[int, str]:
    """Length and text of the UTF-8 character at the start; length 0 if it is incomplete."""
    first = buffer[0]
    length = 1 if first < 0xC0 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    try:
        text = buffer[:length].decode()
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data" and len(buffer) < length:
            return 0, ""
        return 1, ""
    return length, text if text.isprintable() else ""
