"""Text in ASCII."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from moe_live.dashboard.plain_text import to_ascii


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("layer 26 · expert 122 · 18.1×", "layer 26 | expert 122 | 18.1x"),
        ("layers 3–10 of 24 ↑↓", "layers 3-10 of 24 ^v"),
        ("████▌▏", "####=-"),
        ("▁▂▃▄▅▆▇█", "_.-=+*%#"),
        ("     ∞", "   inf"),
        ("    -∞", "  -inf"),
        ("漢é", "???"),
        ("plain", "plain"),
    ],
)
def test_known(text: str, known: str) -> None:
    assert to_ascii(text) == known


@given(st.text(st.characters(exclude_categories=("C", "Z"))))
def test_it_is_ascii_and_keeps_its_width(text: str) -> None:
    shown = to_ascii(text)
    assert shown.isascii()
    assert cell_len(shown) == cell_len(text) or "∞" in text
