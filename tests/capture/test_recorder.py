"""The log that is written, and the callback without an engine."""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from moe_live.capture.recorder import CaptureStoppedError, LogWriter, Recorder
from moe_live.capture.tensors import Tensor, Tensors
from moe_live.errors import MoeLiveError, UsageError


class Engine:
    """Computes nothing, but calls back for tensors as llama.cpp does."""

    def __init__(self, writer: LogWriter, gate_layers: set[int]) -> None:
        self.data: dict[int, Any] = {}
        self.kept: list[Tensor] = []
        self.recorder = Recorder(
            writer, cast(Tensors, self), frozenset(gate_layers), lambda function: function
        )
        self.answers: list[bool] = []

    def matrix(self, address: int, _element: int) -> Any:
        return self.data[address]

    def is_product(self, tensor: Tensor) -> bool:
        return bool(tensor.op == 1)

    def tensor(self, name: str, data: Any = None, **fields: Any) -> int:
        tensor = Tensor(name=name.encode(), **fields)
        self.kept.append(tensor)
        address = ctypes.addressof(tensor)
        self.data[address] = np.asarray(data)
        return address

    def compute(self, *nodes: int) -> bool:
        """A graph; returns whether it was computed to its end."""
        return all(self.recorder.callback(node, 0, None) for node in nodes if self.asks_for(node))

    def asks_for(self, node: int) -> bool:
        return bool(self.recorder.callback(node, 1, None))

    def logits(self, layer: int, inputs: Any, op: int = 1) -> int:
        source = self.tensor("ffn_norm", inputs)
        return self.tensor(f"ffn_moe_logits-{layer}", op=op, src=(ctypes.c_void_p * 10)(0, source))

    def topk(self, layer: int, experts: Any) -> int:
        return self.tensor(f"ffn_moe_topk-{layer}", experts)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "moe.log"


@pytest.fixture
def writer(log: Path) -> Iterator[LogWriter]:
    writer = LogWriter(str(log))
    yield writer
    writer.close()


def test_writes_what_the_patched_server_writes(log: Path, writer: LogWriter) -> None:
    writer.start()
    numbers = [1.124061234, -3.47139, 0, -0.0, 3, 840522, 7.61678e-8, 3.04196e6, np.inf, -np.inf, np.nan]
    inputs = np.array([numbers, numbers[::-1]], np.float32)
    writer.write(20, np.array([[3, 159], [7, 0]], np.int32), inputs)
    writer.write(21, np.array([[1, 2]], np.int32), None)
    assert log.read_text() == (
        "layer_id,expert_ids\n"
        "gate_input,20,0,1.12406 -3.47139 0 -0 3 840522 7.61678e-08 3.04196e+06 inf -inf nan\n"
        "gate_input,20,1,nan -inf inf 3.04196e+06 7.61678e-08 840522 3 -0 0 -3.47139 1.12406\n"
        "20,3 159\n"
        "20,7 0\n"
        "21,1 2\n"
    )


def test_a_log_keeps_what_it_holds_until_the_model_is_loaded(log: Path) -> None:
    log.write_text("of value\n" * 9)
    writer = LogWriter(str(log))
    assert log.read_text() == "of value\n" * 9
    writer.start()
    assert log.read_text() == "layer_id,expert_ids\n"
    writer.close()


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot write .*directory"):
        LogWriter(str(tmp_path))
    writer = LogWriter("/dev/full")
    with pytest.raises(MoeLiveError, match="/dev/full: No space left"):
        writer.start()
    writer.close()


def test_a_new_log_is_its_users_alone_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    """What a log tells of a model's choices, and the inputs of its routers, tells of the text."""
    new, old = tmp_path / "new", tmp_path / "old"
    old.touch()
    old.chmod(0o664)
    for log, mode in {new: 0o600, old: 0o664}.items():
        writer = LogWriter(str(log))
        writer.start()
        writer.close()
        assert stat.S_IMODE(log.stat().st_mode) == mode


def test_two_captures_do_not_write_one_log(log: Path, writer: LogWriter) -> None:
    writer.start()
    writer.write(1, np.array([[1, 2]], np.int32), None)
    before = log.read_bytes()
    with pytest.raises(UsageError, match=r"moe.log: another capture writes it"):
        LogWriter(str(log))
    assert log.read_bytes() == before
    writer.close()
    LogWriter(str(log)).close()


def test_a_log_that_is_emptied_from_outside_goes_on_without_a_hole(log: Path, writer: LogWriter) -> None:
    writer.start()
    os.truncate(log, 0)
    writer.write(1, np.array([[1, 2]], np.int32), None)
    assert log.read_bytes() == b"1,1 2\n"


def test_a_model_is_no_log(log: Path) -> None:
    log.write_bytes(b"GGUF\3\0\0\0")
    link = log.with_name("link")
    link.symlink_to(log)
    for path in (log, link):
        with pytest.raises(UsageError, match="it holds a model"):
            LogWriter(str(path))
    assert log.read_bytes() == b"GGUF\3\0\0\0"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link to another user")
def test_a_link_of_another_user_is_not_followed(log: Path) -> None:
    target, link = log.with_name("target"), log.with_name("link")
    target.write_text("of value")
    link.symlink_to(target)
    LogWriter(str(link)).close()
    os.lchown(link, 12345, 12345)
    with pytest.raises(UsageError, match="link that another user made"):
        LogWriter(str(link))
    assert target.read_text() == "of value"


def test_logs_blocks_in_order_and_counts_tokens(log: Path, writer: LogWriter) -> None:
    writer.start()
    engine = Engine(writer, {2, 9})
    first = [
        engine.tensor("inp_embd"),
        engine.logits(1, np.zeros((3, 2))),
        engine.topk(1, [[4, 5], [6, 7], [8, 9]]),
        engine.tensor("ffn_moe_topk_weights-1"),
        engine.logits(2, [[1, 2], [3, 4], [5, 6]]),
        engine.tensor("ffn_moe_logits_biased-2"),
        engine.topk(2, [[1, 0], [2, 0], [3, 0]]),
        engine.logits(3, np.empty((0, 2))),
        engine.topk(3, np.empty((0, 2))),
        engine.tensor("result_output"),
    ]
    second = [
        engine.topk(1, [[1, 2]]),
        engine.logits(2, [[7, 8]]),
        engine.topk(2, [[0, 1]]),
        engine.topk(3, [[2, 1]]),
    ]
    assert engine.compute(*first)
    assert engine.compute(*second)
    engine.recorder.check()
    assert log.read_text().splitlines()[1:] == [
        *("1,4 5", "1,6 7", "1,8 9"),
        *("gate_input,2,0,1 2", "gate_input,2,1,3 4", "gate_input,2,2,5 6", "2,1 0", "2,2 0", "2,3 0"),
        *("1,1 2", "gate_input,2,0,7 8", "2,0 1", "3,2 1"),
    ]
    assert engine.recorder.tokens == 4
    assert engine.recorder.logged_inputs == {2}


def test_every_block_of_a_single_layer_is_a_pass(writer: LogWriter) -> None:
    engine = Engine(writer, set())
    assert engine.compute(*(engine.topk(5, [[1, 2]] * tokens) for tokens in (3, 1, 1)))
    assert engine.recorder.tokens == 5


def test_each_block_reaches_the_file_at_once(log: Path, writer: LogWriter) -> None:
    writer.start()
    engine = Engine(writer, set())
    for layer in range(3):
        engine.compute(engine.topk(layer, [[layer, 9]]))
        assert log.read_text().endswith(f"{layer},{layer} 9\n")


def test_only_what_is_needed_interrupts_the_computation(writer: LogWriter) -> None:
    engine = Engine(writer, {2})
    for name, wanted in {
        "ffn_moe_topk-1": True,
        "ffn_moe_logits-2": True,
        "ffn_moe_logits-1": False,
        "ffn_moe_probs-2": False,
        "ffn_moe_logits_biased-2": False,
        "ffn_moe_topk-1 (view)": False,
        "ffn_moe_logits-2 (reshaped)": False,
        "ffn_moe_topk-": False,
        "attn_norm-1": False,
        "": False,
    }.items():
        assert engine.asks_for(engine.tensor(name)) is wanted, name


def test_an_exception_breaks_off_everything_that_follows(log: Path, writer: LogWriter) -> None:
    writer.start()
    engine = Engine(writer, {2})
    failed: list[bool] = []
    engine.recorder.failed = lambda: failed.append(True)
    assert engine.compute(engine.topk(1, [[1, 2]]))
    assert not engine.compute(
        engine.logits(2, np.zeros((3, 2))), engine.topk(2, [[1, 2]]), engine.topk(3, [[1]])
    )
    assert failed == [True]
    for _ in range(2):
        assert not engine.compute(engine.tensor("inp_embd"), engine.topk(1, [[1, 2]]))
        with pytest.raises(MoeLiveError, match="layer 2 has 3 router inputs for 1 tokens"):
            engine.recorder.check()
    assert log.read_text().splitlines()[1:] == ["1,1 2"]


def test_a_router_that_is_no_multiplication_is_refused(writer: LogWriter) -> None:
    engine = Engine(writer, {2})
    assert not engine.compute(engine.logits(2, np.zeros((3, 2)), op=7))
    with pytest.raises(MoeLiveError, match="router of layer 2 is not a plain multiplication"):
        engine.recorder.check()


def test_stopping_breaks_off(log: Path, writer: LogWriter) -> None:
    writer.start()
    engine = Engine(writer, set())
    engine.recorder.stop()
    assert not engine.compute(engine.topk(1, [[1, 2]]))
    with pytest.raises(CaptureStoppedError):
        engine.recorder.check()
    assert log.read_text() == "layer_id,expert_ids\n"
