"""Shades, cells, ramps, and the layout of experts on columns."""

import io
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segments

from moe_live.dashboard.canvas import Line, line_width
from moe_live.dashboard.grid import Grid
from moe_live.dashboard.heat import (
    DARK,
    DARK_16,
    LIGHT,
    LIGHT_16,
    SHADES,
    HeatRow,
    Ramp,
    glyphs,
    legend,
    shades,
)
from moe_live.dashboard.state import CellOf
from moe_live.dashboard.view import relative_use
from tests.dashboard.styles import halves

levels = st.integers(0, SHADES - 1)
RAMPS = (DARK, LIGHT, DARK_16, LIGHT_16)


def painted(ansi: str) -> list[tuple[str, str, str]]:
    """Each character with the colours that are selected for it and for what is behind it."""
    colour, behind, out = "39", "49", []
    for sequence, characters in re.findall(r"((?:\x1b\[[0-9;]*m)*)([^\x1b]*)", ansi):
        for code in re.findall(r"\x1b\[([0-9;]*)m", sequence):
            if code in ("", "0"):
                colour, behind = "39", "49"
            for part in re.findall(r"[34]8;2;\d+;\d+;\d+|[34]8;5;\d+|\d+", code):
                if re.match(r"(3[0-9]|9[0-7])", part):
                    colour = part
                elif re.match(r"(4[0-9]|10[0-7])", part):
                    behind = part
        out += [(character, "" if character == " " else colour, behind) for character in characters]
    return out


def whole(shade: int, ramp: Ramp) -> HeatRow:
    """A cell in one shade."""
    return HeatRow(bytes([shade * (SHADES + 1)]), ramp)


def test_shades_at_their_bounds() -> None:
    ratio = np.array([0, 1e-9, 0.24, 0.26, 0.49, 0.51, 0.99, 1, 1.9, 2, 3.9, 4, 7.9, 8, 2048])
    assert glyphs(shades(ratio)) == " ····░░░░▒▒▓▓██"
    assert glyphs(shades(ratio), ascii_only=True) == " ....::::++##@@"
    assert shades(ratio).tolist() == [0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 12]


@pytest.mark.parametrize("ramp", [DARK, LIGHT], ids=lambda ramp: ramp.name)
@pytest.mark.parametrize("system", [ColorSystem.EIGHT_BIT, ColorSystem.TRUECOLOR])
def test_every_shade_has_a_colour_of_its_own(ramp: Ramp, system: ColorSystem) -> None:
    assert len({whole(shade, ramp).ansi(system) for shade in range(SHADES)}) == SHADES


@pytest.mark.parametrize("ramp", [DARK_16, LIGHT_16], ids=lambda ramp: ramp.name)
def test_of_sixteen_colours_all_are_used_that_a_ramp_can_use(ramp: Ramp) -> None:
    """A ramp needs an order: green and cyan have no place in one from blue over red to yellow, or back."""
    numbers = [colour.number for colour in ramp.colours]
    assert len(set(numbers)) >= 9
    assert [numbers.index(number) for number in numbers] == sorted(map(numbers.index, numbers))
    assert ramp.marker.number not in numbers


@pytest.mark.parametrize("ramp", [DARK, LIGHT], ids=lambda ramp: ramp.name)
def test_hotter_is_farther_from_the_background(ramp: Ramp) -> None:
    brightness = [np.dot((0.2126, 0.7152, 0.0722), colour.get_truecolor()) for colour in ramp.colours]
    steps = [later > earlier for earlier, later in pairwise(brightness)]
    assert steps == [ramp is DARK] * (SHADES - 2)


@pytest.mark.parametrize("ramp", RAMPS, ids=lambda ramp: ramp.name)
def test_never_is_the_background(ramp: Ramp) -> None:
    assert painted(whole(0, ramp).ansi(ColorSystem.TRUECOLOR)) == [(" ", "", "49")]


@given(st.lists(st.tuples(levels, levels), min_size=1, max_size=80), st.sampled_from(RAMPS))
def test_the_fast_way_draws_what_rich_would(columns: list[tuple[int, int]], ramp: Ramp) -> None:
    upper, lower = np.array(columns, np.uint8).T
    cells = HeatRow.of(upper, lower, ramp)
    assert halves(cells) == (upper.tolist(), lower.tolist())
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=200)
    with console.capture() as captured:
        console.print(Segments(cells.segments()), end="")
    assert painted(cells.ansi(ColorSystem.TRUECOLOR)) == painted(captured.get())
    assert sum(segment.cell_length for segment in cells.segments()) == cells.cell_length


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("ramp", [DARK, None])
@given(width=st.integers(26, 200))
def test_the_legend_fits(width: int, ramp: Ramp | None, *, ascii_only: bool) -> None:
    line: Line = legend(width, ramp, ascii_only=ascii_only)
    assert line_width(line) <= width


@given(st.integers(1, 2048), st.integers(20, 300), st.integers(0, 15))
def test_a_grid_shows_every_expert_once_however_close_it_is(experts: int, width: int, zoom: int) -> None:
    grid = Grid.fitting(experts, width)
    assert grid.width <= width
    for _ in range(zoom):
        grid = grid.closer()
    assert (grid.cells - 1) * grid.group < experts <= grid.cells * grid.group
    assert [place for cell in range(grid.cells) for place in grid.places_of(cell)] == list(range(experts))
    visible = grid.visible(width)
    assert 1 <= visible * grid.cell <= width
    cells = range(grid.cells - visible, grid.cells)
    assert len(grid.axis(cells, range(experts))) == visible * grid.cell


@given(st.integers(1, 2048), st.integers(20, 300))
def test_looking_closer_comes_to_single_experts_and_then_to_figures(experts: int, width: int) -> None:
    grid, seen = Grid.fitting(experts, width), []
    while not grid.finest:
        seen.append(grid)
        grid = grid.closer()
    assert (grid.group, grid.cell) == (1, 8)
    assert len(set(seen)) == len(seen) <= 15


counts = st.tuples(st.integers(1, 4), st.integers(1, 300)).flatmap(
    lambda shape: st.integers(0, 2**32).map(
        lambda seed: np.random.default_rng(seed).geometric(0.05, shape) ** 3 // 50
    )
)


@given(counts, st.integers(1, 60))
def test_no_cell_is_cooler_than_the_hottest_expert_in_it(use: NDArray[np.int64], width: int) -> None:
    grid = Grid.fitting(use.shape[1], width)
    ratio = relative_use(use)
    cells = shades(grid.of_cells(ratio, CellOf.HOTTEST))
    for cell in range(grid.cells):
        of_experts = shades(ratio[:, grid.places_of(cell)])
        assert (cells[:, cell] == of_experts.max(axis=1)).all()


@given(st.integers(1, 300), st.integers(1, 60))
def test_means_of_uniform_use_are_uniform_and_the_mean_is_kept(experts: int, width: int) -> None:
    grid = Grid.fitting(experts, width)
    alike = relative_use(np.full((2, experts), 7))
    assert np.allclose(grid.of_cells(alike, CellOf.MEAN), 1.0)
    ratio = relative_use((np.arange(experts) ** 2)[None, :])
    sizes = np.array([len(grid.places_of(cell)) for cell in range(grid.cells)])
    assert np.allclose((grid.of_cells(ratio, CellOf.MEAN) * sizes).sum(), ratio.sum())
