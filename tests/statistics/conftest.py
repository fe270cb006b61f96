"""Numpy, and the loops in C that count the same."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from moe_live import kernels
from moe_live.compiler import compiler
from moe_live.kernels.loading import build


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The loops in C, compiled for these tests."""
    return _built(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="session")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """As on a processor without wide registers."""
    return _built(tmp_path_factory.mktemp("narrow"), "-DNARROW")


def _built(directory: Path, *flags: str) -> ctypes.CDLL:
    if shutil.which(compiler()[0]) is None:
        pytest.skip("no C compiler")
    build(directory / "kernels.so", *flags)
    return ctypes.CDLL(str(directory / "kernels.so"))


@pytest.fixture(scope="module", params=["numpy", "C"])
def each_way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Laws that hold whatever counts."""
    library = request.getfixturevalue("compiled") if request.param == "C" else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "library", lambda: library)
        yield
