"""Bytes from a terminal to names of keys, what the mouse did, and what the terminal answers."""

from __future__ import annotations

import re
from enum import Enum

from moe_live.dataclass import dataclass

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


class Pointing(Enum):
    """What the mouse did: a button pressed, moved while it is, or the wheel turned."""

    PRESS = "press"
    DRAG = "drag"
    WHEEL_UP = "wheel up"
    WHEEL_DOWN = "wheel down"
    WHEEL_LEFT = "wheel left"
    WHEEL_RIGHT = "wheel right"


@dataclass(frozen=True, slots=True)
class Mouse:
    """What the mouse did, and where, both counted from 0."""

    what: Pointing
    column: int
    row: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What the terminal says of itself, in reply to a question.

    Attributes:
        about: the number of the OSC sequence, or "c" for its kind (DA1).
        text: the reply.
    """

    about: str
    text: str


Event = str | Mouse | Answer

_SHIFT, _OTHER_MODIFIERS, _MOVED, _WHEEL = 4, 8 | 16, 32, 64
_WHEELS = (Pointing.WHEEL_UP, Pointing.WHEEL_DOWN, Pointing.WHEEL_LEFT, Pointing.WHEEL_RIGHT)

# ESC [ parameters, intermediates, final byte; and how such a sequence looks while it is still coming in.
_CSI = re.compile(rb"\x1b\[([0-?]*)[ -/]*([@-~])")
_CSI_BEGUN = re.compile(rb"\x1b\[[0-?]*[ -/]*\Z")
# Answers of the terminal (OSC, DCS, SOS, PM, APC): text up to BEL or ESC \.
_STRING = re.compile(rb"\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)")
_OSC = re.compile(rb"\x1b\](\d{1,4});([^\x07\x1b]*)")
_STRING_BEGUN = re.compile(rb"\x1b[\]PX^_][^\x07\x1b]*\x1b?\Z")

_PASTE_END = b"\x1b[201~"
_LONGEST_SEQUENCE = 256


class KeyDecoder:
    """Names the keys in a stream of bytes that may be cut anywhere.

    Printable characters are their own name ("q", "R", "é"); others are called "up", "pgdn", "shift-tab",
    "space", "esc", "ctrl-l", "alt-x". What the mouse did (as in SGR mode 1006) and what the terminal answers
    are told as such. Pasted text (when bracketed), mouse reports of other kinds, unknown sequences and
    invalid UTF-8 are swallowed.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._pasting = False

    @property
    def pending(self) -> bool:
        """Whether bytes wait for more; if none come soon, call `flush`."""
        return bool(self._buffer) or self._pasting

    def feed(self, typed: bytes) -> list[Event]:
        """What is completed by these bytes."""
        self._buffer += typed
        events: list[Event] = []
        while self._buffer:
            taken, event = self._next()
            if not taken:
                if len(self._buffer) <= _LONGEST_SEQUENCE:
                    break
                taken = len(self._buffer)  # nothing a keyboard or a terminal sends
            self._buffer = self._buffer[taken:]
            if event:
                events.append(event)
        return events

    def flush(self) -> list[Event]:
        """No more bytes came: a lone ESC was the key, any other beginning is dropped."""
        keys: list[Event] = ["esc"] if self._buffer == b"\x1b" and not self._pasting else []
        self._buffer = b""
        self._pasting = False
        return keys

    def _next(self) -> tuple[int, Event]:
        """Length and meaning of what comes first; length 0 if it is incomplete, "" if it means nothing."""
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

    def _escape(self, buffer: bytes) -> tuple[int, Event]:
        if len(buffer) == 1:
            return 0, ""
        second = buffer[1:2]
        if second == b"[":
            return self._control_sequence(buffer)
        if second == b"O":
            return (3, _FINAL.get(chr(buffer[2]), "")) if len(buffer) > 2 else (0, "")
        if second in b"]PX^_":
            if answer := _STRING.match(buffer):
                found = _OSC.match(buffer)
                return answer.end(), Answer(
                    *(part.decode("ascii", "replace") for part in found.groups())
                ) if found else ""
            return (0, "") if _STRING_BEGUN.match(buffer) else (2, "")
        if second == b"\x1b":
            return 1, "esc"
        length, key = _character(buffer[1:])
        if not length:
            return 0, ""
        return 1 + length, f"alt-{key}" if key.isprintable() and key else ""

    def _control_sequence(self, buffer: bytes) -> tuple[int, Event]:
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
        if parameters[:1] == "<":
            return sequence.end(), _pointed(parameters[1:], final)
        if parameters[:1] in ("=", ">", "?"):  # answers, not keys
            return sequence.end(), Answer("c", parameters) if final == "c" and parameters[0] == "?" else ""
        return sequence.end(), _FINAL.get(final, "")


def _pointed(parameters: str, final: str) -> Mouse | str:
    """A mouse report; "" for what means nothing here."""
    numbers = parameters.split(";")
    if len(numbers) != 3 or not all(number.isdecimal() and len(number) < 6 for number in numbers):
        return ""
    buttons, column, row = map(int, numbers)
    what: Pointing | None = None
    if final == "M" and not buttons & _OTHER_MODIFIERS:
        if buttons & _WHEEL:
            what = _WHEELS[buttons & 3 | (2 if buttons & _SHIFT else 0)] if buttons < 2 * _WHEEL else None
        elif not buttons & ~(_MOVED | _SHIFT):  # the left button
            what = Pointing.DRAG if buttons & _MOVED else Pointing.PRESS
    return "" if what is None else Mouse(what, column - 1, row - 1)


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
