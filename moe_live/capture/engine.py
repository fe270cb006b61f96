"""Loading a model in llama-cpp-python with a recorder attached, and letting it answer a prompt."""

from __future__ import annotations

import codecs
import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import PurePath
from typing import Any

import llama_cpp
from llama_cpp import llama_cpp as library

from moe_live.capture.recorder import LogWriter, Recorder
from moe_live.capture.tensors import Tensors
from moe_live.dataclass import dataclass
from moe_live.errors import MoeLiveError, UsageError, printable

BATCH_SIZE = 2048
"""Tokens of a prompt that are handed over at once, as in llama-server: of each such piece only the last token
is computed in the last layer. The library's memory grows with this times the context."""

CTX_UNIT = 256
"""Context sizes are multiples of this: llama.cpp rounds up, llama-cpp-python is not aware of it."""

_WARNING = 3  # GGML_LOG_LEVEL_WARN

_kept: list[Any] = []  # functions that the engine calls, and keeps no reference to


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What the engine is told, in llama.cpp's words.

    Attributes:
        model: path of the GGUF file.
        ctx_size: tokens of context; 0 for as many as the model was trained for.
        ubatch_size: tokens of a prompt that are computed in one pass.
        threads: None for the library's default.
        gpu_layers: layers to put on a GPU; -1 for all.
        seed: of the sampler; None for a random one.
    """

    model: str
    ctx_size: int
    ubatch_size: int
    threads: int | None
    gpu_layers: int
    seed: int | None

    def arguments(self) -> dict[str, Any]:
        """Arguments of llama-cpp-python's high-level class, and of the settings of its server."""
        threads = {} if self.threads is None else {"n_threads": self.threads, "n_threads_batch": self.threads}
        return {
            "n_ctx": -(-self.ctx_size // CTX_UNIT) * CTX_UNIT,
            "n_batch": max(BATCH_SIZE, self.ubatch_size),
            "n_ubatch": self.ubatch_size,
            "n_gpu_layers": self.gpu_layers,
            "logits_all": False,
            "verbose": False,
            "seed": library.LLAMA_DEFAULT_SEED if self.seed is None else self.seed,
            **threads,
        }


class CapturingLlama(llama_cpp.Llama):  # type: ignore[misc]  # checked without the extra: it is Any
    """The high-level class with a recorder attached to its context.

    Args:
        recorder: gets every tensor; kept as long as this object.
        arguments: those of the base class.

    Raises:
        UsageError: the model cannot be loaded, or has no experts.
    """

    def __init__(self, recorder: Recorder, /, **arguments: Any) -> None:
        self._recorder = recorder
        name = printable(arguments["model_path"])
        default_parameters = library.llama_context_default_params

        def parameters_with_callback() -> Any:
            parameters = default_parameters()
            parameters.cb_eval = recorder.callback
            return parameters

        # The constructor has no argument for a callback, but starts from these defaults.
        library.llama_context_default_params = parameters_with_callback
        try:
            super().__init__(**arguments)
        except MemoryError:
            raise
        except Exception as error:  # a template that a model brings with it may raise anything
            reason = printable(str(error).partition("\n")[0]) or type(error).__name__
            raise UsageError(
                f"cannot load {name}: {reason}; is it a GGUF model, and is there enough memory?"
            ) from None
        finally:
            library.llama_context_default_params = default_parameters
        architecture = self.metadata.get("general.architecture", "")
        experts = self.metadata.get(f"{architecture}.expert_count", "0")
        if not experts.isdecimal() or not int(experts):
            self.close()
            raise UsageError(f"{name} is not a mixture-of-experts model: it has no routers to capture")
        recorder.start()

    def eval(self, tokens: Sequence[int]) -> None:
        """Compute tokens. What goes wrong in the callback is raised here."""
        super().eval(tokens)
        self._recorder.check()


def open_recorder(log: str, gate_layers: frozenset[int]) -> tuple[Recorder, LogWriter]:
    """A recorder for the installed library, and the log it writes.

    Raises:
        MoeLiveError: the library is not laid out as expected.
        UsageError: the log cannot be written.
    """
    loaded = library._lib  # noqa: SLF001 - it has no public name
    _speak_for(loaded)
    tensors = Tensors(loaded)
    writer = LogWriter(log)
    return Recorder(writer, tensors, gate_layers, library.ggml_backend_sched_eval_callback), writer


def _speak_for(loaded: ctypes.CDLL) -> None:
    """Have warnings of the engine, and what it would end the process of, said in lines of ours."""
    stderr = os.dup(2)  # while a model is loaded it is put away

    def warn(level: int, text: bytes, _user_data: Any) -> None:
        if level == _WARNING:
            sys.stderr.write(f"moe-live: engine: {printable(text.strip())}\n")

    def end(message: bytes) -> None:
        place, _, reason = printable(message).partition(": ")
        said = f"the engine gave up: {PurePath(place).name}: {reason}; is the model damaged?"
        os.write(stderr, f"moe-live: {said}\n".encode())
        os._exit(1)

    on_log, on_abort = library.llama_log_callback(warn), ctypes.CFUNCTYPE(None, ctypes.c_char_p)(end)
    _kept.extend((on_log, on_abort))
    library.llama_log_set(on_log, None)
    with suppress(AttributeError):  # a library that has no such function
        loaded.ggml_set_abort_callback(on_abort)


def answer(model: CapturingLlama, prompt: str, *, tokens: int) -> Iterator[str]:
    """Let the model continue a prompt.

    Args:
        model: a loaded model.
        prompt: any text; bytes that are none as `os.fsdecode` gives them.
        tokens: how many to generate at most.

    Yields:
        The text as it is generated.

    Raises:
        MoeLiveError: the prompt does not fit, or the engine failed.
    """
    prompt_tokens = model.tokenize(prompt.encode(errors="surrogateescape"), special=True)
    room = model.n_ctx() - len(prompt_tokens)
    if room <= 0 or not prompt_tokens:
        raise MoeLiveError(
            f"the prompt has {len(prompt_tokens):,} tokens, the context {model.n_ctx():,}: "
            "give a larger --ctx-size, or another prompt"
        )
    vocabulary = library.llama_model_get_vocab(model.model)
    text = codecs.getincrementaldecoder("utf-8")("replace")
    try:
        for token in islice(model.generate(prompt_tokens), min(tokens, room)):
            if library.llama_vocab_is_eog(vocabulary, token):
                break
            yield text.decode(model.detokenize([token], prev_tokens=prompt_tokens[-1:]))
    except RuntimeError as error:
        raise MoeLiveError(f"the engine failed: {printable(str(error))}; see what the model needs") from None
