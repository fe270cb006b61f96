"""Frames to a terminal: what it shows in the end, and that only changes are written."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.color import ColorSystem
from rich.segment import Segment
from rich.style import Style

from moe_live.dashboard import draw_static
from moe_live.dashboard.canvas import Line, fit, text
from moe_live.dashboard.frame import Frame
from moe_live.dashboard.heat import DARK, SHADES, HeatRow
from moe_live.dashboard.screen import Screen, color_system
from moe_live.dashboard.theme import CAUTION, Look
from tests.dashboard.factory import snapshot, status


class Glass:
    """As much of a terminal as a frame needs: cursor positions, styles, characters."""

    def __init__(self) -> None:
        self.cells: dict[tuple[int, int], tuple[str, str]] = {}
        self.written = 0

    def write(self, written: str) -> None:
        self.written += len(written)
        row = column = 1
        style: dict[str, str] = {}
        for sequence, character in re.findall(r"(\x1b\[[?0-9;]*[a-zA-Z])|(.)", written, re.DOTALL):
            if character:
                seen = [attribute for attribute in style if character != " " or attribute != "text"]
                self.cells[row, column] = (
                    str({attribute: style[attribute] for attribute in sorted(seen)}),
                    character,
                )
                column += 1
            elif sequence.endswith("H"):
                row, column = map(int, sequence[2:-1].split(";"))
            elif sequence.endswith("J"):
                self.cells.clear()
            elif sequence.endswith("m"):
                style = self._styled(style, sequence)

    @staticmethod
    def _styled(style: dict[str, str], sequence: str) -> dict[str, str]:
        """The style after a sequence: the colour of text, that behind it, and what else was not reset."""
        numbers = sequence[2:-1].split(";")
        if numbers == ["0"]:
            return {}
        style = dict(style)
        while numbers:
            number = int(numbers.pop(0))
            colour = str(number)
            if number in (38, 48):
                more = 1 + (1 if numbers[0] == "5" else 3)
                colour, numbers = ";".join(numbers[:more]), numbers[more:]
            if number in (*range(30, 40), *range(90, 98)):
                style["text"] = colour
            elif number in (*range(40, 50), *range(100, 108)):
                style["behind"] = colour
            else:
                style[colour] = ""
        return {name: value for name, value in style.items() if value not in ("39", "49")}

    def plain(self, frame: Frame) -> str:
        rows = range(1, len(frame.lines) + 1)
        return "".join(
            "".join(self.cells[row, column][1] for column in range(1, frame.width + 1)) + "\n" for row in rows
        )


pieces = st.one_of(
    st.builds(
        text, st.text("abc ", max_size=5), st.sampled_from([None, Style(bold=True), Style(color="red")])
    ),
    st.binary(max_size=4).map(lambda b: HeatRow(bytes(x % SHADES**2 for x in b), DARK)),
)
frames = st.tuples(st.integers(1, 5), st.lists(st.lists(pieces, max_size=3), min_size=1, max_size=4)).map(
    lambda drawn: Frame([fit(tuple(line), 12 * drawn[0]) for line in drawn[1]], 12 * drawn[0])
)


@given(st.lists(frames, min_size=1, max_size=6))
def test_drawing_only_changes_shows_what_drawing_everything_shows(sequence: list[Frame]) -> None:
    changing = Glass()
    screen = Screen(changing.write)
    for frame in sequence:
        screen.draw(frame)
        whole = Glass()
        Screen(whole.write).draw(frame, everything=True)
        assert changing.cells == whole.cells
        assert changing.plain(frame) == frame.plain


@pytest.mark.parametrize("system", [ColorSystem.STANDARD, ColorSystem.EIGHT_BIT, ColorSystem.TRUECOLOR])
@given(st.data())
def test_of_a_heatmap_only_cells_that_changed_are_written(system: ColorSystem, data: st.DataObject) -> None:
    look = Look(system)
    ramp = look.ramp
    assert ramp is not None
    width = data.draw(st.integers(1, 60))
    glass = Glass()
    screen = Screen(glass.write)
    shades = bytes(width)
    for _ in range(4):
        changed = data.draw(st.dictionaries(st.integers(0, width - 1), st.integers(0, SHADES**2 - 1)))
        shades = bytes(changed.get(place, shade) for place, shade in enumerate(shades))
        frame = Frame([(text("label "), HeatRow(shades, ramp), text("side"))], width + 10, look)
        written = glass.written
        screen.draw(frame)
        whole = Glass()
        Screen(whole.write).draw(frame, everything=True)
        assert glass.cells == whole.cells
        assert glass.written - written <= whole.written + 10 * len(changed)
    screen.draw(frame)
    before = glass.written
    shades = bytes([(shades[0] + 1) % SHADES**2, *shades[1:]])
    screen.draw(Frame([(text("label "), HeatRow(shades, ramp), text("side"))], width + 10, look))
    assert glass.written - before < 100


def test_an_unchanged_frame_writes_nothing() -> None:
    glass = Glass()
    screen = Screen(glass.write)
    screen.draw(draw_static(snapshot(), status(), width=120, height=40))
    written = glass.written
    screen.draw(draw_static(snapshot(), status(), width=120, height=40))
    assert glass.written == written
    screen.draw(draw_static(snapshot(), status(), width=120, height=40), everything=True)
    assert glass.written > 1.9 * written


def test_a_frame_is_one_synchronized_update() -> None:
    parts: list[str] = []
    Screen(parts.append).draw(draw_static(snapshot(), status(), width=80, height=24))
    assert len(parts) == 1
    assert parts[0].startswith("\x1b[?2026h")
    assert parts[0].endswith("\x1b[?2026l")


def test_without_colour_there_is_none_but_bold_remains() -> None:
    parts: list[str] = []
    line: Line = (Segment("x", Style(bold=True, color="red", bgcolor="blue")),)
    Screen(parts.append).draw(Frame([line], 1, Look(None)))
    assert "\x1b[1mx\x1b[0m" in parts[0]


def test_a_frame_for_another_background_is_written_anew() -> None:
    parts: list[str] = []
    screen = Screen(parts.append)
    line: Line = (Segment("x", CAUTION),)
    screen.draw(Frame([line], 1))
    screen.draw(Frame([line], 1, Look(light=True)))
    assert len(parts) == 2
    assert "\x1b[33mx" in parts[0]
    assert "\x1b[33mx" not in parts[1]


@pytest.mark.parametrize(
    ("choice", "environ", "expected"),
    [
        ("auto", {"TERM": "xterm-256color"}, ColorSystem.EIGHT_BIT),
        ("auto", {"TERM": "xterm", "COLORTERM": "truecolor"}, ColorSystem.TRUECOLOR),
        ("auto", {"TERM": "xterm"}, ColorSystem.STANDARD),
        ("auto", {"TERM": "xterm-256color", "NO_COLOR": "1"}, None),
        ("auto", {"TERM": "xterm-256color", "NO_COLOR": ""}, ColorSystem.EIGHT_BIT),
        ("always", {"TERM": "xterm-256color", "NO_COLOR": "1"}, ColorSystem.EIGHT_BIT),
        ("never", {"TERM": "xterm-256color"}, None),
    ],
)
def test_colours(choice: str, environ: dict[str, str], expected: ColorSystem | None) -> None:
    assert color_system(choice, environ) is expected  # type: ignore[arg-type]  # one of the three words
