"""What the terminal says of its background."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.dashboard.background import is_light, may_be_asked, says_no_more
from moe_live.dashboard.keys import Answer


@pytest.mark.parametrize(
    ("text", "light"),
    [
        ("rgb:ffff/ffff/ffff", True),
        ("rgb:fdf6/e3e3/0000", True),
        ("rgb:0/0/0", False),
        ("rgb:00/2b/36", False),
        ("rgba:ffff/ffff/ffff/8000", True),
        ("RGB:F/F/F", True),
        ("#ffffff", None),
        ("rgb:fffff/0/0", None),
        ("?", None),
        ("", None),
    ],
)
def test_known(text: str, *, light: bool | None) -> None:
    assert is_light(Answer("11", text)) is light


def test_only_an_answer_about_the_background_counts() -> None:
    assert is_light(Answer("10", "rgb:ffff/ffff/ffff")) is None
    assert is_light(Answer("c", "?1;2")) is None
    assert says_no_more(Answer("c", "?1;2"))
    assert not says_no_more(Answer("11", "rgb:0/0/0"))


@given(st.text())
def test_any_answer_is_understood_or_not(text: str) -> None:
    assert is_light(Answer("11", text)) in (True, False, None)


def test_the_linux_console_is_not_asked() -> None:
    assert may_be_asked({"TERM": "xterm"})
    assert not may_be_asked({"TERM": "linux"})
