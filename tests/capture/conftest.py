"""Fixtures of the capture tests."""

import subprocess
import sys
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
