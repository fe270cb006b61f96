"""Lines that are read at once tell what they tell one by one, whatever stands among them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.formats.alike import Shapes
from tests.analysis import snapshot_of
from tests.comparison import plain

layers = st.sampled_from([0, 1, 2, 3])
numbers = st.one_of(
    st.integers(0, 12).map(str),
    st.sampled_from(
        ["-1", "007", "-", "1-2", "--3", "", "x", "2047", "2048", "99999", "1.0", "1e1", str(10**19)]
    ),
)
weights = st.one_of(
    st.floats(0, 1).map(lambda value: f"{value:.6g}"),
    st.floats(0, 1).map(repr),
    st.sampled_from(["0.5", "-0.25", "-0.0", "1", "5e-05", "0.-5", "1.2.3", ".5", "nan", "0." + "1" * 19]),
)
phases = st.sampled_from(["0", "1", "00", "-1", "decode", "Prefill", "pre_dispatch", ""])


@st.composite
def objects(draw: st.DrawFn) -> list[str]:
    """Most of them as a logger of vLLM writes them."""
    lines = []
    for index in range(draw(st.integers(1, 30))):
        chosen = draw(st.lists(numbers, min_size=1, max_size=3))
        beside = draw(st.lists(weights, min_size=1, max_size=3))
        if draw(st.integers(0, 3)):
            ids = draw(st.permutations(range(6)))[:3]
            lines.append(
                json.dumps(
                    {
                        "layer": index % 4,
                        "phase": "decode",
                        "topk_ids": ids,
                        "topk_weights": [0.5, 0.25, 0.125],
                    }
                )
            )
        else:
            line = (
                f'{{"layer": {draw(numbers)}, "phase": "{draw(phases)}", "topk_ids": [{", ".join(chosen)}], '
                f'"topk_weights": [{", ".join(beside)}]}}'
            )
            lines.append(draw(st.sampled_from([line, line.replace(" ", ""), line.replace("phase", "note")])))
    return lines


@given(objects(), st.data())
def test_it_makes_no_difference(lines: list[str], data: st.DataObject) -> None:
    first = '{"layer": 0, "phase": "decode", "topk_ids": [3, 1, 2], "topk_weights": [0.5, 0.25, 0.125]}'
    text = "".join(f"{line}\n" for line in [first, *lines]).encode()
    at = data.draw(st.integers(0, len(text)))
    at_once = snapshot_of(text[:at], text[at:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Shapes, "read", lambda _, text, end, others: others(text, end))
        one_by_one = snapshot_of(text)
    assert plain(at_once) == plain(one_by_one)


@pytest.mark.parametrize("weight", ["5.960464477539063e-08", "5e-08", "5.5E-1", "1e-1"])
def test_lines_with_exponents_are_read_as_they_are(weight: str) -> None:
    """Also if they are the first ones, and all alike."""
    line = f'{{"layer": 5, "phase": "decode", "topk_ids": [1], "topk_weights": [{weight}]}}\n'
    (mass,) = snapshot_of(line.encode() * 3).gate_mass
    assert mass.by_rank.tolist() == [pytest.approx(float(weight), abs=1e-8)]


def test_most_lines_are_read_at_once() -> None:
    """And those with an exponent are not lost."""
    read: list[int] = []
    rng = np.random.default_rng(3)
    lines = [
        json.dumps(
            {"layer": layer, "topk_ids": rng.permutation(9)[:3].tolist(), "topk_weights": [w, 0.25, 0.125]}
        )
        for _ in range(300)
        for layer in range(3)
        for w in [5e-5 if rng.random() < 0.01 else 0.5]
    ]
    others = Shapes.read

    def counted(self: Shapes, text: bytes, end: np.ndarray, slow: object) -> object:
        def of_these(text: bytes, end: np.ndarray) -> object:
            read.append(len(end))
            return slow(text, end)  # type: ignore[operator]  # as it is called

        return others(self, text, end, of_these)  # type: ignore[arg-type]  # it passes on what it gets

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Shapes, "read", counted)
        snapshot = snapshot_of("".join(f"{line}\n" for line in lines).encode())
    assert (snapshot.rows.logged, snapshot.input.tally.malformed_lines) == (900, 0)
    assert 0 < sum(read) < 40
