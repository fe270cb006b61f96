"""Text brought to a width."""

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from moe_live import wrapping


@given(st.text() | st.text("aé—…▀▶漢👩\u200d\ufe0f\u0301\t "))
def test_the_width_of_a_text_is_what_a_terminal_shows(text: str) -> None:
    assert wrapping.text_width(text) == cell_len(text)


def test_the_width_of_each_character_is_what_a_terminal_shows() -> None:
    characters = map(chr, range(0x3000))
    assert [c for c in characters if wrapping.text_width(c) != cell_len(c)] == []


@given(st.text(st.characters(categories=["L", "N", "P"])), st.integers(0, 50))
def test_shorten_keeps_both_ends(path: str, width: int) -> None:
    short = wrapping.shorten(path, width)
    assert cell_len(short) <= width
    assert short == path or "…" in short or width == 0


@given(st.text(st.characters(categories=["L", "N", "P", "Zs"])), st.integers(2, 60), st.integers(1, 9))
def test_wrap_keeps_to_its_room_and_says_what_it_leaves_out(string: str, width: int, most: int) -> None:
    lines = wrapping.wrap(string, width, most)
    assert len(lines) <= most
    assert all(cell_len(line) <= width for line in lines)
    joined = "".join("".join(lines).split())
    assert joined == "".join(string.split()) or lines[-1].endswith("…")
