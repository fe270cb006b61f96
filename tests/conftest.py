"""Fixtures and settings of all tests."""

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("default", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=200, deadline=None, print_blob=True)
settings.load_profile("default")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_logs() -> Path:
    """The directory with logs of real servers, which is kept beside the repository."""
    directory = REPOSITORY.parent / "shared" / "real_logs"
    if not directory.is_dir():
        pytest.skip("no logs of real servers: ../shared/real_logs does not exist")
    return directory
