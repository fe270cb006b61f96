"""Logs whose selections come from known routers: what comparing them must give."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.capture.agreement import Agreement, AgreementCounter, Outcome, Place
from moe_live.capture.routers import RouterFile
from moe_live.formats.llama_server import LlamaServerDecoder
from moe_live.routing.evidence import Verdict
from tests.capture.logs import HEADER, Routers, block, choose, printed, random_routers, ranking

LAYERS = (3, 4, 7)
UNLOGGED = 9  # a layer that has a router, but logs no inputs
N_EMBD = 5


def count(routers: Routers, text: bytes, cuts: list[int] | None = None) -> Agreement:
    decoder = LlamaServerDecoder(gate_layers=frozenset(routers.layers), every_row=True)
    counter = AgreementCounter(cast(RouterFile, routers))
    for start, end in pairwise([0, *sorted(cuts or []), len(text)]):
        for records in decoder.feed(text[start:end]):
            counter.feed(records)
    counter.interrupt()
    return counter.agreement()


def same(a: Agreement, b: Agreement) -> bool:
    return bool(
        a.layers == b.layers
        and np.array_equal(a.counts, b.counts)
        and (a.verdict, a.incomplete, a.without_inputs) == (b.verdict, b.incomplete, b.without_inputs)
    )


@given(
    data=st.data(),
    seed=st.integers(0, 2**32),
    shape=st.sampled_from([(16, 4), (12, 5), (40, 6)]),
    strided=st.booleans(),
)
def test_right_rows_are_those_that_the_router_chose(
    data: st.DataObject, seed: int, shape: tuple[int, int], *, strided: bool
) -> None:
    n_experts, top_k = shape
    rng = np.random.default_rng(seed)
    routers = random_routers(rng, [*LAYERS, UNLOGGED], n_experts, N_EMBD)
    expected = np.zeros((len(LAYERS), len(Place), len(Outcome)), np.int64)
    text = [HEADER]
    without_inputs = 0
    for tokens in data.draw(st.lists(st.sampled_from([1, 1, 2, 9, 60]), min_size=1, max_size=6), "steps"):
        for i, layer in enumerate(LAYERS):
            inputs = printed(rng, tokens, N_EMBD)
            ranked = ranking(routers[layer], inputs)
            logged = choose(ranked, top_k, strided=strided)
            text.append(block(layer, inputs, logged))
            right = (np.sort(logged) == np.sort(ranked[:, :top_k])).all(axis=1)
            right &= (logged == ranked[:, :top_k]).all(axis=1)
            places = [Place.SINGLE] if tokens == 1 else [Place.FIRST] + [Place.LATER] * (tokens - 1)
            np.add.at(expected[i], (np.array(places), np.where(right, Outcome.RIGHT, Outcome.WRONG)), 1)
            if tokens > 1:
                expected[i, Place.RECOVERED, Outcome.RIGHT] += (tokens - 1) * top_k // n_experts + 1
        text.append(block(UNLOGGED, None, choose(ranked, top_k, strided=strided)))
        without_inputs += tokens
    log = b"".join(text)
    agreement = count(routers, log)
    if agreement.verdict is not Verdict.STRIDED:
        expected[:, Place.RECOVERED] = 0
    assert agreement.verdict is not (Verdict.SOUND if strided else Verdict.STRIDED)
    assert agreement.layers == LAYERS
    np.testing.assert_array_equal(agreement.counts, expected)
    assert (agreement.incomplete, agreement.without_inputs) == (0, without_inputs)
    cuts = data.draw(st.lists(st.integers(0, len(log)), max_size=8), "cuts")
    assert same(count(routers, log, cuts), agreement)


def one_layer() -> tuple[Routers, list[bytes]]:
    """A router and the lines of a block of four tokens: gate lines, then expert rows."""
    rng = np.random.default_rng(1)
    routers = random_routers(rng, [3], 12, N_EMBD)
    inputs = printed(rng, 4, N_EMBD)
    return routers, block(3, inputs, ranking(routers[3], inputs)[:, :3]).splitlines(keepends=True)


def outcomes(agreement: Agreement) -> tuple[int, int, int]:
    """Rows that are right, wrong, and in blocks that are not whole."""
    return (
        int(agreement.counts[:, : Place.RECOVERED, Outcome.RIGHT].sum()),
        agreement.wrong,
        agreement.incomplete,
    )


def test_a_block_that_lacks_a_line_is_not_compared() -> None:
    routers, lines = one_layer()
    whole = b"".join(lines)
    assert outcomes(count(routers, whole)) == (4, 0, 0)
    for missing in range(len(lines)):
        damaged = b"".join(lines[:missing] + lines[missing + 1 :])
        right, wrong, incomplete = outcomes(
            count(routers, whole + b"9,1 2 3\n" + damaged + b"9,1 2 3\n" + whole)
        )
        assert (right, wrong) == (8, 0), missing
        assert incomplete == (3 if missing >= 4 else 4), missing


def test_a_line_of_another_width_spoils_its_block_only() -> None:
    routers, lines = one_layer()
    whole = b"".join(lines)
    short_input = lines[1].rpartition(b" ")[0] + b"\n"
    short_row = lines[5].rpartition(b" ")[0] + b"\n"
    for damaged in (
        [lines[0], short_input, *lines[2:]],
        [*lines[:5], short_row, *lines[6:]],
        [lines[0], b"gate_input,3,1,1 2 x\n", *lines[2:]],
        [lines[0], lines[2], lines[1], *lines[3:]],
    ):
        text = whole + b"".join(damaged) + whole
        right, wrong, incomplete = outcomes(count(routers, text))
        assert (right, wrong, incomplete) == (8, 0, 4)


def test_rows_are_not_matched_with_the_inputs_of_others() -> None:
    routers, lines = one_layer()
    lost_alike = [lines[0], *lines[2:4], *lines[4:6], lines[7]]  # token 1's input, and token 2's row
    assert outcomes(count(routers, b"".join(lines) + b"".join(lost_alike))) == (4, 0, 3)


def test_blocks_of_one_layer_follow_each_other_when_it_is_the_only_one() -> None:
    routers, lines = one_layer()
    assert outcomes(count(routers, b"".join(lines) * 5)) == (20, 0, 0)


def test_what_is_held_of_an_endless_block_is_bounded() -> None:
    routers, lines = one_layer()
    decoder = LlamaServerDecoder(every_row=True)
    counter = AgreementCounter(cast(RouterFile, routers))
    for records in decoder.feed(b"3,1 2 3\n" * 400_000 + b"".join(lines)):
        counter.feed(records)
        assert sum(map(len, counter._held)) <= 1 << 17
    counter.interrupt()
    agreement = counter.agreement()
    assert outcomes(agreement) == (4, 0, 0)
    assert agreement.without_inputs == 400_000


@pytest.mark.slow
def test_many_experts_take_no_more_memory() -> None:
    rng = np.random.default_rng(1)
    routers = random_routers(rng, [3], 2048, N_EMBD)
    inputs = printed(rng, 5000, N_EMBD)
    text = block(3, inputs, ranking(routers[3], inputs)[:, :3])
    tracemalloc.start()
    try:
        right, wrong, incomplete = outcomes(count(routers, text))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (right, wrong, incomplete) == (5000, 0, 0)
    assert peak < 100e6


def test_an_interruption_ends_the_block() -> None:
    routers, lines = one_layer()
    decoder = LlamaServerDecoder(every_row=True)
    counter = AgreementCounter(cast(RouterFile, routers))
    for part in (lines[:6], lines[6:], lines):
        for records in decoder.feed(b"".join(part)):
            counter.feed(records)
        counter.interrupt()
    assert outcomes(counter.agreement()) == (4, 0, 2)
