"""Writes the routing log while llama.cpp computes, from its callback for every tensor."""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moe_live.capture.tensors import F32, I32, NAME_OFFSET, Tensor, Tensors
from moe_live.errors import MoeLiveError, UsageError, printable

HEADER = b"layer_id,expert_ids\n"

_TOPK, _LOGITS = b"ffn_moe_topk-", b"ffn_moe_logits-"
_MODEL = b"GGUF"  # what a model file begins with
_MOE = int.from_bytes(b"ffn_moe_", sys.byteorder)  # what both begin with; comparing a number is fastest
_first_bytes = ctypes.c_uint64.from_address


class CaptureStoppedError(MoeLiveError):
    """What was computed was broken off on request."""


class LogWriter:
    """Writes the format of the patched llama-server: a block of a layer reaches the file at once.

    A log that is new can be read by its user alone: what experts are chosen tells of the text.

    Args:
        path: the log; it keeps what it holds until `start`.

    Raises:
        UsageError: it cannot be written, or had better not be.
    """

    def __init__(self, path: str) -> None:
        self._name = printable(path)
        try:
            problem = _link_problem(path)
            if not problem:
                self._file = open(path, "ab", 0, opener=_open_private)  # noqa: SIM115 - closed by `close`
                self._is_regular = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
                problem = _claim(self._file, path) if self._is_regular else ""
        except OSError as error:
            problem = error.strerror or str(error)
        if problem:
            raise UsageError(f"cannot write {self._name}: {problem}; choose another log")

    def start(self) -> None:
        """Empty the log and write its header.

        Raises:
            MoeLiveError: the disk is full, say.
        """
        if self._is_regular:
            self._file.truncate(0)
        self._write(HEADER)

    def write(self, layer: int, experts: NDArray[np.int32], inputs: NDArray[np.float32] | None) -> None:
        """Write one block.

        Args:
            layer: its number.
            experts: (T, k) int32, best first.
            inputs: (T, n_embd) float32, the router's inputs, if they are wanted.

        Raises:
            MoeLiveError: the disk is full, say.
        """
        lines = []
        if inputs is not None:
            floats = " ".join(["%g"] * inputs.shape[1])
            lines += [
                f"gate_input,{layer},{row},{floats % tuple(vector)}\n"
                for row, vector in enumerate(inputs.tolist())
            ]
        lines += [f"{layer},{' '.join(map(str, row))}\n" for row in experts.tolist()]
        self._write("".join(lines).encode())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, text: bytes) -> None:
        left = memoryview(text)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise MoeLiveError(f"cannot write {self._name}: {error.strerror}; the log ends here") from None


def _link_problem(path: str) -> str:
    """Why a link is not followed, or "": where anybody may write, one could lead to a file of ours."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return ""
    is_foreign = stat.S_ISLNK(status.st_mode) and status.st_uid not in (0, os.geteuid())
    return "it is a link that another user made" if is_foreign else ""


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _claim(file: FileIO, path: str) -> str:
    """Keep other captures from a log; why it cannot be had, or "". It is closed then."""
    problem = ""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        problem = "another capture writes it"
    except OSError:
        pass  # a file system without locks
    with suppress(OSError), Path(path).open("rb") as held:
        if held.read(len(_MODEL)) == _MODEL:
            problem = "it holds a model"
    if problem:
        file.close()
    return problem


class Recorder:
    """The callback. It must outlive the context that calls it.

    An exception in it cannot pass through llama.cpp: it is kept, the computation is cut short, and `check`
    raises it afterwards.

    Args:
        writer: where blocks go.
        tensors: reads the library's tensors.
        gate_layers: the layers whose inputs are written.
        declare: makes a C function pointer of the callback: the library's `ggml_backend_sched_eval_callback`.
        failed: called, in the thread that computes, when something went wrong.

    Attributes:
        callback: the C function pointer.
        logged_inputs: the layers of which inputs have been written.
        tokens: tokens computed, prompts and answers together.
    """

    def __init__(
        self,
        writer: LogWriter,
        tensors: Tensors,
        gate_layers: frozenset[int],
        declare: Callable[[Callable[[int, bool, Any], bool]], Any],
    ) -> None:
        self.callback = declare(self._called)
        self.logged_inputs: set[int] = set()
        self.tokens = 0
        self.failed: Callable[[], None] = lambda: None
        self._writer = writer
        self._tensors = tensors
        self._gate_layers = gate_layers
        self._inputs: dict[int, NDArray[np.float32]] = {}  # of layers whose experts are not yet chosen
        self._last_layer = -1
        self._error: Exception | None = None

    def start(self) -> None:
        """The model is loaded: begin the log.

        Raises:
            MoeLiveError: it cannot be written.
        """
        self._writer.start()

    def check(self) -> None:
        """Raise what went wrong in the callback."""
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Break off what is computed now or next. May be called between any two instructions."""
        self._fail(CaptureStoppedError("capture was stopped"))

    def _called(self, address: int, ask: bool, _user_data: Any) -> bool:  # noqa: FBT001 - llama.cpp's call
        # Asked about every node of every graph: this decides what capturing costs.
        if self._error is not None:
            return ask  # take each piece of the graph, and break off at once
        if _first_bytes(address + NAME_OFFSET).value != _MOE:
            return not ask
        try:
            name = ctypes.string_at(address + NAME_OFFSET)
            # What is made of such a tensor, as its view is, has a name that goes on after the number.
            if name.startswith(_TOPK) and (layer := name[len(_TOPK) :]).isdigit():
                if not ask:
                    self._take_experts(address, int(layer))
                return True
            if name.startswith(_LOGITS) and (layer := name[len(_LOGITS) :]).isdigit():
                if int(layer) not in self._gate_layers:
                    return not ask
                if not ask:
                    self._take_inputs(address, int(layer))
                return True
        except Exception as error:  # raised again by `check`
            self._fail(error)
            return ask
        return not ask

    def _take_inputs(self, address: int, layer: int) -> None:
        product = Tensor.from_address(address)
        if not self._tensors.is_product(product):
            raise MoeLiveError(
                f"the router of layer {layer} is not a plain multiplication: its input cannot be captured; "
                "leave the layer out of --gate-layers"
            )
        self._inputs[layer] = self._tensors.matrix(product.src[1], F32)

    def _take_experts(self, address: int, layer: int) -> None:
        experts = self._tensors.matrix(address, I32)
        inputs = self._inputs.pop(layer, None)
        if inputs is not None and len(inputs) != len(experts):
            raise MoeLiveError(
                f"layer {layer} has {len(inputs)} router inputs for {len(experts)} tokens: "
                "leave the layer out of --gate-layers"
            )
        if not len(experts):
            return  # the last layer, in a pass that nothing is predicted from
        self._writer.write(layer, experts, inputs)
        if layer <= self._last_layer or self._last_layer < 0:
            self.tokens += len(experts)  # the first layer of a pass: it has all its tokens
        self._last_layer = layer
        if inputs is not None:
            self.logged_inputs.add(layer)

    def _fail(self, error: Exception) -> None:
        self._error = error
        self.failed()
