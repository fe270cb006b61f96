"""Fixtures and settings of all tests."""

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("default", max_examples=50, deadline=None)
# What is accepted must not depend on luck: new examples are looked for with the first profile.
# The suite looks at few, so that it is quick, and scripts/test-endurance at many.
settings.register_profile("ci", max_examples=30, deadline=None, print_blob=True, derandomize=True)
settings.register_profile("many", settings.get_profile("ci"), max_examples=200)
settings.load_profile("default")

os.environ["XDG_CONFIG_HOME"] = os.devnull  # nobody's own defaults change what is tested
os.environ["MOE_LIVE_KERNELS"] = (
    "off"  # numpy defines the results; tests/statistics holds the loops in C against it
)
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
