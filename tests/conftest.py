"""Fixtures and settings of all tests."""

import ctypes
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from moe_live import kernels
from moe_live.compiler import compiler
from moe_live.kernels.loading import build

settings.register_profile("default", max_examples=50, deadline=None)
# What is accepted must not depend on luck: new examples are looked for with the first profile.
# The suite looks at few, so that it is quick, and scripts/test-endurance at many.
settings.register_profile("ci", max_examples=30, deadline=None, print_blob=True, derandomize=True)
settings.register_profile("many", settings.get_profile("ci"), max_examples=200)
settings.load_profile("default")

os.environ["XDG_CONFIG_HOME"] = os.devnull  # nobody's own defaults change what is tested
os.environ["MOE_LIVE_KERNELS"] = "off"  # numpy defines the results; the loops in C are held against it
# Hundreds of programs are started: each would compile all modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Programs that tests start are to heed the keyboard and the terminal, even if a shell has started the tests
# in the background, or nohup has.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if sys.platform != "win32":
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

collect_ignore = ["added"]  # what a test adds to a copy of the package, for which it is made

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_logs() -> Path:
    """The directory with logs of real servers, which is kept beside the repository."""
    directory = REPOSITORY.parent / "shared" / "real_logs"
    if not directory.is_dir():
        pytest.skip("no logs of real servers: ../shared/real_logs does not exist")
    return directory


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
    fixture = {"C": "compiled", "narrow C": "narrow"}.get(request.param)
    library = request.getfixturevalue(fixture) if fixture else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "library", lambda: library)
        yield
