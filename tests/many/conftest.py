"""How the logs of these tests are read."""

from collections.abc import Iterator

import pytest

from moe_live.many import logs as logs_module


@pytest.fixture(scope="package", autouse=True)
def _each_log_is_a_task() -> Iterator[None]:
    """They are short, and would all be read by one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs_module, "TOGETHER", 1)
        yield
