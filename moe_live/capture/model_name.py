"""What a model that a command is to load is called, as far as its command line and its file tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from moe_live.capture.model_file import read_value
from moe_live.errors import UsageError

_ALIAS = ("-a", "--alias")
_FILE = ("-m", "--model")
_REPOSITORY = ("-hf", "-hfr", "--hf-repo")
_SUFFIX = ".gguf"


def model_name(arguments: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """The name of the model; None if it is not known.

    Args:
        arguments: of a program of llama.cpp, or of another whose options are called as there.
        environ: its environment, where llama.cpp looks for options too.
    """
    if alias := _value(arguments, _ALIAS) or environ.get("LLAMA_ARG_ALIAS"):
        return alias
    if file := model_file(arguments, environ):
        return _name_in(Path(file)) or Path(file).name.removesuffix(_SUFFIX)
    return _value(arguments, _REPOSITORY) or environ.get("LLAMA_ARG_HF_REPO")


def model_file(arguments: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """The file of the model, as `model_name`."""
    file = _value(arguments, _FILE) or environ.get("LLAMA_ARG_MODEL", "")
    return file if file.endswith(_SUFFIX) else None  # `python -m MODULE` is none


def _value(arguments: Sequence[str], names: tuple[str, ...]) -> str | None:
    """The value of an option that is given last, as `--model FILE` or `--model=FILE`."""
    value = None
    for i, argument in enumerate(arguments):
        name, equals, behind = argument.partition("=")
        if name in names:
            value = behind if equals else next(iter(arguments[i + 1 : i + 2]), None)
    return value


def _name_in(path: Path) -> str | None:
    """What the file calls its model."""
    try:
        name = read_value(path, "general.name") if path.is_file() else None
    except UsageError:  # it is the command's to complain
        return None
    return name if isinstance(name, str) else None
