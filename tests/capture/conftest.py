"""Fixtures of the capture tests."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.capture.tap_host import Built, compile_host, compile_tap, compiler
from tests.conftest import REPOSITORY


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with small models of random weights."""
    directory = tmp_path_factory.mktemp("models")
    subprocess.run([sys.executable, REPOSITORY / "scripts" / "make_models.py", directory], check=True)
    return directory


@pytest.fixture(scope="session")
def tap_host(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A program on fake libraries, and the tap."""
    if compiler() is None:
        pytest.skip("there is no C compiler (cc)")
    directory = tmp_path_factory.mktemp("tap")
    compile_host(directory)
    compile_tap(directory / "tap.so")
    return Built(directory)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a quarter of a megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)
