"""The name of a model that a command is to load."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from moe_live.capture.model_name import model_name


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(pairs: dict[str, str]) -> bytes:
    strings = b"".join(text(key) + struct.pack("<I", 8) + text(value) for key, value in pairs.items())
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + strings


def test_a_file_tells_its_models_name(tmp_path: Path) -> None:
    path = tmp_path / "q4.gguf"
    assert model_name(["-m", str(path)], {}) == "q4"
    path.write_bytes(gguf({"general.architecture": "qwen3moe", "general.name": "Qwen3 30B A3B"}) + b"...")
    assert model_name(["--port", "1", "-m", str(path)], {}) == "Qwen3 30B A3B"
    assert model_name([f"--model={path}"], {}) == "Qwen3 30B A3B"
    assert model_name([], {"LLAMA_ARG_MODEL": str(path)}) == "Qwen3 30B A3B"
    assert model_name(["-m", str(path), "--alias", "mine"], {}) == "mine"
    path.write_bytes(gguf({"general.architecture": "qwen3moe"}))
    assert model_name(["-m", str(path)], {}) == "q4"
    path.write_bytes(gguf({"general.name": "Qwen3"})[:30])
    assert model_name(["-m", str(path)], {}) == "q4"
    path.unlink()
    path.mkdir()
    assert model_name(["-m", str(path)], {}) == "q4"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ([], None),
        (["-m"], None),
        (["-m", "llama_cpp.server", "--model", "/x/y.gguf"], "y"),
        (["-m", "llama_cpp.server"], None),
        (["-hf", "ggml-org/gpt-oss-20b-GGUF"], "ggml-org/gpt-oss-20b-GGUF"),
        (["--hf-repo", "a/b:Q4_K_M", "--port", "8080"], "a/b:Q4_K_M"),
    ],
)
def test_a_command_line_tells_it(arguments: list[str], name: str | None) -> None:
    assert model_name(arguments, {}) == name
