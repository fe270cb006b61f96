"""Model files as they should be, and as damage or malice makes them: numbers, or one line."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFEndian, GGUFReader, GGUFWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moe_live.capture.model_file import read_model_file
from moe_live.capture.routers import RouterFile
from moe_live.errors import MoeLiveError, UsageError
from tests.capture.test_routers import BIAS, WEIGHT, write_model

ROUTER = "blk.0.ffn_gate_inp.weight"
U32, STRING, ARRAY, U64 = 4, 8, 9, 10


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def pair(key: bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name.encode()) + dimensions + struct.pack("<IQ", kind, offset)


ARCHITECTURE = pair(b"general.architecture", STRING, text(b"glm4moe"))
RIGHT = tensor(ROUTER, (8, 4))


def model(
    *pairs: bytes,
    tensors: tuple[bytes, ...] = (RIGHT,),
    version: int = 3,
    n_pairs: int | None = None,
    n_tensors: int | None = None,
    data: bytes = bytes(4 * 8 * 4),
) -> bytes:
    pairs = pairs or (ARCHITECTURE,)
    counts = len(tensors) if n_tensors is None else n_tensors, len(pairs) if n_pairs is None else n_pairs
    head = b"GGUF" + struct.pack("<IQQ", version, *counts) + b"".join(pairs) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + data


def routers(path: Path) -> dict[int, Any]:
    """The routers of all layers, read."""
    file = RouterFile(str(path))
    return {layer: file[layer] for layer in file.layers}


def test_reads_what_the_makers_of_the_format_read(models: Path) -> None:
    for path in models.glob("*.gguf"):
        theirs, ours = GGUFReader(path), read_model_file(path)
        assert {t.name: (tuple(t.shape), t.tensor_type, t.data_offset) for t in theirs.tensors} == {
            name: (tensor.shape, tensor.kind, tensor.offset) for name, tensor in ours.tensors.items()
        }
        for name, field in theirs.fields.items():
            if not name.startswith("GGUF.") and len(field.types) == 1:
                assert ours.values[name] == field.contents()
        for tensor in theirs.tensors:
            np.testing.assert_array_equal(ours.tensors[tensor.name].numbers(), tensor.data.astype(float))


def test_both_orders_of_bytes(tmp_path: Path) -> None:
    path = tmp_path / "big.gguf"
    writer = GGUFWriter(path, "glm4moe", endianess=GGUFEndian.BIG)
    writer.add_uint32("glm4moe.expert_gating_func", 2)
    writer.add_tensor(ROUTER, WEIGHT.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    np.testing.assert_array_equal(routers(path)[0].weight, WEIGHT.astype(np.float16))


@pytest.mark.parametrize(
    "content",
    [
        model(),
        model(version=2),
        model(ARCHITECTURE, pair(b"general.alignment", U32, struct.pack("<I", 32))),
        model(ARCHITECTURE, pair(b"long", STRING, text(b"x" * 100_000))),
        model(ARCHITECTURE, pair(b"a", ARRAY, struct.pack("<IQ", STRING, 3) + text(b"") + text(b"x") * 2)),
        model(tensors=(RIGHT, tensor("blk.00.ffn_gate_inp.weight", (1,)))),
    ],
)
def test_a_right_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    assert routers(path)[0].weight.shape == (4, 8)


BEYOND = 1 << 40


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (model(n_pairs=BEYOND), "1,099,511,627,776"),
        (model(n_tensors=BEYOND), "1,099,511,627,776"),
        (model(n_tensors=1 << 17), "ends too early"),
        (model(version=1), "version is 1"),
        (model(version=0), "version is 0"),
        (model(pair(b"a", ARRAY, struct.pack("<IQ", 0, BEYOND))), "ends too early"),
        (model(pair(b"a", ARRAY, struct.pack("<IQ", 0, (1 << 64) - 1))), "ends too early"),
        (model(pair(b"a", ARRAY, struct.pack("<IQ", STRING, BEYOND))), "1,099,511,627,776"),
        (model(pair(b"a", ARRAY, struct.pack("<IQ", STRING, 1 << 24))), "ends too early"),
        (model(pair(b"a", ARRAY, struct.pack("<IQ", ARRAY, 1) * 1000)), "array of the unknown type 9"),
        (model(pair(b"a", 13, b"")), "unknown type 13"),
        (model(pair(b"a", STRING, struct.pack("<Q", BEYOND))), "ends too early"),
        (model(struct.pack("<Q", BEYOND)), "1,099,511,627,776"),
        (model(pair(b"general.alignment", U32, struct.pack("<I", 0))), "alignment is no size"),
        (model(pair(b"general.alignment", STRING, text(b"x"))), "alignment is no size"),
        (model(pair(b"general.architecture", U32, struct.pack("<I", 1))), "architecture is missing"),
        (model(pair(b"other", U32, struct.pack("<I", 1))), "architecture is missing"),
        (model(ARCHITECTURE, pair(b"glm4moe.expert_group_count", STRING, text(b"9"))), "no whole number"),
        (model(ARCHITECTURE, pair(b"glm4moe.expert_gating_func", STRING, text(b"9"))), "no whole number"),
        (model(tensors=(RIGHT, RIGHT)), "two tensors have one name"),
        (model(tensors=(tensor(ROUTER, (8, 4), offset=1),)), "ends before its tensors"),
        (model(tensors=(tensor(ROUTER, (8, 4), offset=(1 << 64) - 1),)), "ends before its tensors"),
        (
            model(
                tensors=(
                    RIGHT,
                    tensor("other", (1,), kind=12, offset=200),
                )
            ),
            "ends before its tensors",
        ),
        (model(tensors=(tensor(ROUTER, (BEYOND, BEYOND, BEYOND, BEYOND)),)), "ends before its tensors"),
        (model(tensors=(tensor(ROUTER, (1, 1, 1, 1, 1)),)), "5 dimensions"),
        (model(tensors=(tensor(ROUTER, ()),)), "the shape []"),
        (model(tensors=(tensor(ROUTER, (8,)),)), "the shape [8]"),
        (model(tensors=(tensor(ROUTER, (2, 2, 2)),)), "the shape [2, 2, 2]"),
        (model(tensors=(tensor(ROUTER, (8, 0)),)), "the shape [8, 0]"),
        (model(tensors=(tensor(ROUTER, (0, 8)),)), "inputs of [0] numbers"),
        (model(tensors=(tensor(ROUTER, (1, 4096)),), data=bytes(1 << 20)), "the shape [1, 4096]"),
        (model(tensors=(tensor(ROUTER, (1 << 14, 2048)),), data=bytes(1 << 27)), "134,217,728 bytes"),
        (model(tensors=(RIGHT, tensor("blk.1.ffn_gate_inp.weight", (4, 4)))), "inputs of [4, 8] numbers"),
        (model(tensors=(tensor("blk.1024.ffn_gate_inp.weight", (8, 4)),)), "layer 1024"),
        (model(tensors=(tensor("blk.\N{FULLWIDTH DIGIT FIVE}.ffn_gate_inp.weight", (8, 4)),)), "no routers"),
        (model(tensors=(RIGHT, tensor("blk.0.exp_probs_b.bias", (5,)))), "a bias of layer 0"),
        (model(tensors=(RIGHT, tensor("blk.0.ffn_gate_inp.bias", (2, 2)))), "a bias of layer 0"),
        (model(tensors=(RIGHT, tensor("blk.0.ffn_gate_inp.bias", (4,), kind=8))), "a bias of layer 0"),
        (model(data=struct.pack("<f", float("nan")) * 32), "not finite"),
        (model(data=struct.pack("<f", float("inf")) * 32), "not finite"),
        (model(tensors=(tensor(ROUTER, (8, 4), kind=99),)), "type 99 of ggml"),
    ],
)
def test_a_file_that_cannot_be_is_one_line(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "m\x1b[31m.gguf"
    path.write_bytes(content)
    with pytest.raises(MoeLiveError) as caught:
        routers(path)
    assert problem in str(caught.value)
    assert r"m\x1b[31m.gguf" in str(caught.value)
    assert str(caught.value).isprintable()


def test_what_is_no_file(tmp_path: Path) -> None:
    for path, problem in (
        (tmp_path, "directory"),
        (Path("/dev/zero"), "not a regular file"),
        (tmp_path / "x", "No such"),
    ):
        with pytest.raises(UsageError, match=problem):
            read_model_file(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(data=st.data())
def test_damaged_files_give_numbers_or_one_line(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    if not path.exists():
        tensors = {"blk.0.ffn_gate_inp.weight": WEIGHT, "blk.0.exp_probs_b.bias": BIAS, "blk.3.x": WEIGHT}
        write_model(path, tensors, numbers={"expert_gating_func": 2, "expert_group_count": 1})
    whole = path.read_bytes()
    damaged = bytearray(whole)
    place = st.integers(0, len(whole) - 1)
    for at in data.draw(st.lists(place, max_size=3), "places"):
        damaged[at] = data.draw(
            st.sampled_from([damaged[at] ^ 1 << bit for bit in range(8)] + [0, 255]), "byte"
        )
    cut = data.draw(st.none() | place, "cut")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(damaged[:cut])
    try:
        read = routers(broken)
    except MoeLiveError as told:
        line = str(told)
    else:
        line = ""
        for router in read.values():
            assert np.isfinite(router.scores(np.ones((1, router.weight.shape[1]))).value).all()
    assert line.isprintable()
