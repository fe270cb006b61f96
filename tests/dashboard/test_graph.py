"""Small graphs made of characters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.dashboard.canvas import line_width
from moe_live.dashboard.graph import LOWEST_CURVE, curve, sparkline


@pytest.mark.parametrize(
    ("values", "width", "options", "shown"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], 8, {}, "▁▂▃▄▅▆▇█"),
        ([9, 9, 0, 1], 2, {}, "▁█"),
        ([5, 5], 9, {}, "▅▅"),
        ([np.nan, 5, np.nan, 10], 9, {"low": 0.0}, " ▅ █"),
        ([0, 0], 9, {"low": 0.0}, "▁▁"),
        ([np.nan], 9, {}, ""),
        ([], 9, {}, ""),
        ([1, 2], 0, {}, ""),
    ],
)
def test_sparkline(values: list[float], width: int, options: dict[str, float], shown: str) -> None:
    assert sparkline(np.array(values, float), width, **options) == shown


shares = st.integers(1, 300).flatmap(
    lambda n: st.integers(0, 2**32).map(lambda seed: np.sort(np.random.default_rng(seed).random((3, n))))
)


@given(shares, st.integers(20, 200), st.integers(LOWEST_CURVE, 40))
def test_a_curve_is_as_high_as_its_shares(drawn: np.ndarray, width: int, height: int) -> None:
    values, floor, other = drawn
    lines = curve(
        values, np.minimum(values, floor), other, width=width, height=height, marks=("1", str(len(values)))
    )
    assert len(lines) == height
    assert all(line_width(line) == width for line in lines)
    plain = ["".join(piece.text for piece in line)[5:] for line in lines[:-1]]  # type: ignore[union-attr]  # text
    for column in (0, len(plain[0]) - 1):
        share = values[min(column * len(values) // len(plain[0]), len(values) - 1)]
        filled = sum(row[column] not in " •" for row in plain)
        assert filled == pytest.approx(share * len(plain), abs=1.1)
        assert sum(row[column] == "•" for row in plain) <= 1
