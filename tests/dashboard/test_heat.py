"""Shades, cells and the layout of experts on columns."""

import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segments

from moe_live.dashboard.canvas import Line, line_width
from moe_live.dashboard.heat import SHADES, Cells, glyphs, legend, shades
from moe_live.dashboard.view import relative_use
from moe_live.dashboard.views.heatmap import Grid

levels = st.integers(0, SHADES - 1)


def painted(ansi: str) -> list[tuple[str, str]]:
    """Each character with the sequences that select its colours."""
    style, out = "", []
    for sequence, characters in re.findall(r"((?:\x1b\[[0-9;]*m)*)([^\x1b]*)", ansi):
        for part in re.findall(r"\x1b\[([0-9;]*)m", sequence):
            style = "" if part == "0" else part
        out += [(style, character) for character in characters]
    return out


def test_shades_at_their_bounds() -> None:
    ratio = np.array([0, 1e-9, 0.24, 0.26, 0.49, 0.51, 0.99, 1, 1.9, 2, 3.9, 4, 7.9, 8, 2048])
    assert glyphs(shades(ratio)) == " ····░░░░▒▒▓▓██"
    assert shades(ratio).tolist() == [0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 12]


@pytest.mark.parametrize("system", [ColorSystem.EIGHT_BIT, ColorSystem.TRUECOLOR])
def test_every_shade_has_a_colour_of_its_own(system: ColorSystem) -> None:
    assert len({Cells(bytes([shade]), bytes([shade])).ansi(system) for shade in range(SHADES)}) == SHADES


@given(st.lists(st.tuples(levels, levels), min_size=1, max_size=80))
def test_the_fast_way_draws_what_rich_would(columns: list[tuple[int, int]]) -> None:
    cells = Cells(bytes(a for a, _ in columns), bytes(b for _, b in columns))
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=200)
    with console.capture() as captured:
        console.print(Segments(cells.segments()), end="")
    assert painted(cells.ansi(ColorSystem.TRUECOLOR)) == painted(captured.get())
    assert sum(segment.cell_length for segment in cells.segments()) == cells.cell_length


@pytest.mark.parametrize("colour", [True, False])
@given(width=st.integers(25, 200))
def test_the_legend_fits(width: int, *, colour: bool) -> None:
    line: Line = legend(width, colour=colour)
    assert line_width(line) <= width


@given(st.integers(1, 2048), st.integers(20, 300))
def test_a_grid_fits_and_shows_every_expert_once(experts: int, width: int) -> None:
    grid = Grid.fitting(experts, width)
    assert grid.width <= width
    assert (grid.cells - 1) * grid.group < experts <= grid.cells * grid.group
    assert len(grid.axis()) == grid.width


@given(st.integers(1, 300), st.integers(1, 60))
def test_cells_of_uniform_use_are_uniform_and_the_mean_is_kept(experts: int, width: int) -> None:
    grid = Grid.fitting(experts, width)
    assert np.allclose(grid.ratios(np.full((2, experts), 7)), 1.0)
    counts = (np.arange(experts) ** 2)[None, :]
    sizes = np.minimum(grid.group, experts - grid.group * np.arange(grid.cells))
    assert np.allclose((grid.ratios(counts) * sizes).sum(), relative_use(counts).sum())
