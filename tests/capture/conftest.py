"""Fixtures of the capture tests."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with small models of random weights."""
    directory = tmp_path_factory.mktemp("models")
    subprocess.run([sys.executable, REPOSITORY / "scripts" / "make_models.py", directory], check=True)
    return directory
