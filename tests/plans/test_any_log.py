"""Whatever a log holds, a plan is made of it or one line says why not."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moe_live.cli import main
from tests.synthetic import SyntheticLog, logs

PLANS = (
    ("plan", "cache", "--expert-bytes", "1MB", "--budget", "5MB", "--budget", "40MB"),
    ("plan", "prune", "--drop", "30"),
    ("plan", "placement", "--devices", "2", "--replicas", "2"),
    ("plan", "offload", "--expert-bytes", "1MB", "--vram", "30MB", "--reserve", "1MB"),
    ("compare",),
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


@given(
    logs(heads=True),
    logs(heads=True),
    st.sampled_from(PLANS),
    st.sampled_from(["auto", "logged", "verified"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_plan_or_a_line(
    directory: Path, log: SyntheticLog, other: SyntheticLog, plan: tuple[str, ...], rows: str
) -> None:
    paths = [directory / "a.log", directory / "b.log"]
    for path, text in zip(paths, (log.text, other.text), strict=True):
        path.write_bytes(text)
    named = paths if plan == ("compare",) else paths[:1]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([*plan, *map(str, named), "--rows", rows, "--json", "-"])
    if status:
        assert (out.getvalue(), err.getvalue().count("\n")) == ("", 1)
        assert err.getvalue().startswith("moe-live: ")
    else:
        assert json.loads(out.getvalue())["paths"] == list(map(str, named))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert main([*plan, *map(str, named), "--rows", rows]) == status
