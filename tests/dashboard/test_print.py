"""A view as text: what is written, where and how wide."""

import io

import pytest
from rich.cells import cell_len
from rich.color import ColorSystem

from moe_live import view_names
from moe_live.dashboard.print import print_view
from moe_live.dashboard.theme import Look
from moe_live.dashboard.views import VIEWS
from tests.dashboard.factory import status
from tests.dashboard.test_golden import FULL


def printed(
    view: str,
    *,
    colors: ColorSystem | None = None,
    width: int = 80,
    height: int = 24,
    encoding: str = "utf-8",
) -> str:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    print_view(
        FULL,
        status(),
        out,
        view=view,
        look=Look(colors),
        styled=colors is not None,
        width=width,
        height=height,
    )
    out.seek(0)
    return out.read()


def test_each_view_has_its_title_for_a_name() -> None:
    assert [view.title.lower().replace(" ", "-") for view in VIEWS] == list(view_names.VIEWS)


@pytest.mark.parametrize("view", view_names.VIEWS)
@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60)])
def test_it_fits_above_the_prompt_and_names_no_keys(view: str, width: int, height: int) -> None:
    lines = printed(view, width=width, height=height).splitlines()
    assert 10 < len(lines) < height
    assert max(map(cell_len, lines)) <= width
    assert all(line.isprintable() for line in lines)
    assert "q quit" not in "\n".join(lines)
    assert lines[-1].strip()


def test_it_has_colours_where_they_can_be_seen() -> None:
    assert "\x1b[38;2;" in printed("heatmap", colors=ColorSystem.TRUECOLOR)


def test_what_is_too_small_gets_the_smallest_there_is() -> None:
    assert "too small" not in printed("overview", width=1, height=1)


def test_how_fast_a_log_was_read_is_nobodys_business() -> None:
    assert "   0 lines/s" in printed("overview")


def test_any_encoding() -> None:
    assert printed("overview", encoding="ascii").isascii()
