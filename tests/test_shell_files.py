"""The files for shells: that they are current, and that they work."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from moe_live.cli import main
from moe_live.commands import COMMANDS
from moe_live.completion import FILES
from tests.pseudo_terminal import REPOSITORY

SHELL = REPOSITORY / "moe_live" / "shell"

_COMPLETE = """
source "$0"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
_shtab_moe_live
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "make_shell_files", REPOSITORY / "scripts" / "make_shell_files.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_they_are_current(maker: ModuleType) -> None:
    made = maker.files()
    assert set(made) == {path.name for path in SHELL.iterdir() if path.suffix != ".py" and path.is_file()}
    for name, text in made.items():
        current = (SHELL / name).read_text() == text
        assert current, f"{name} is not what scripts/make_shell_files.py makes: run it"


@pytest.mark.parametrize("shell", FILES)
def test_the_command_prints_them(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert capsys.readouterr().out == (SHELL / FILES[shell]).read_text()


def test_no_other_shell_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "csh"]) == 2
    assert "choose from" in capsys.readouterr().err


def completed(*words: str, directory: Path) -> list[str]:
    command: Sequence[str] = ("bash", "--norc", "-c", _COMPLETE, str(SHELL / FILES["bash"]), *words)
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=directory, timeout=120)
    assert result.stderr == ""
    return result.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_commands_options_values_and_paths(tmp_path: Path) -> None:
    (tmp_path / "moe.log").touch()

    def found(*words: str) -> list[str]:
        return completed("moe-live", *words, directory=tmp_path)

    assert set(found("")) == {"run", *COMMANDS}
    assert found("--the") == ["--theme"]
    assert found("--theme", "") == ["auto", "dark", "light"]
    assert found("--json", "mo") == ["moe.log"]
    assert found("plan", "ca") == ["cache"]
    assert "--budget" in found("plan", "cache", "--")
    assert found("run", "--log-") == ["--log-limit"]
    assert found("completion", "") == list(FILES)


@pytest.mark.skipif(shutil.which("groff") is None, reason="there is no groff")
def test_the_manual_has_every_command_and_is_well_formed() -> None:
    result = subprocess.run(
        ["groff", "-man", "-Tascii", "-ww", "-P-cbou", SHELL / "moe-live.1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (result.returncode, result.stderr) == (0, "")
    for text in ("NAME", "SYNOPSIS", "--follow", *COMMANDS):
        assert text in result.stdout
