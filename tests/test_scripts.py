"""`scripts/run` and `scripts/test`, with a stand-in for Python that only pretends to install."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

# Pretends to be Python: real for the lock, slow and visible for the environment, so that two set-ups at once
# would be seen to overlap.
PYTHON = f"""#!/usr/bin/env bash
if [[ ${{PLANTED:-}} ]]; then # what the real one would import, started with the same options
    options=()
    for option in "$@"; do
        [[ $option == -[!cm]* ]] || break
        options+=("$option")
    done
    {shlex.quote(sys.executable)} "${{options[@]}}" -c "$PLANTED"
fi
case "$*" in
*ensurepip*) echo "$0" ;;
"-m venv --clear "*)
    mkdir -p "$4/bin"
    cp "$0" "$4/bin/python" ;;
*"install --editable"*)
    echo "$BASHPID start" >>"$CALLS"
    sleep 0.3
    [[ ! ${{BROKEN_PIP:-}} ]] || exit 1
    printf '#!/bin/sh\\nprintf "<%%s>" "$@"\\n' >"$(dirname "$0")/moe-live"
    chmod +x "$(dirname "$0")/moe-live"
    echo "$BASHPID end" >>"$CALLS" ;;
*"-m pip"*) echo "$*" >>"$CALLS" ;;
*"/scripts/benchmark"* | *"import gguf"*) echo "$*" ;;
*) exec {shlex.quote(sys.executable)} "$@" ;;
esac
"""


class Project:
    """A copy of the scripts in a directory of their own, and the installations they asked for."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "a project"
        shutil.copytree(REPOSITORY / "scripts", self.root / "scripts")
        self.pyproject = self.root / "pyproject.toml"
        self.pyproject.write_text("[project]\n")
        self.calls = directory / "calls"
        self.calls.touch()
        self.bin = directory / "bin"
        self.bin.mkdir()
        self.python = self.bin / "python3"
        self.python.write_text(PYTHON)
        self.python.chmod(0o755)
        self.environment = {"PATH": f"{self.bin}:{os.environ['PATH']}", "CALLS": str(self.calls)}

    def start(
        self, *arguments: str, script: Path | None = None, cwd: str | Path = "/", **environment: str
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [script or self.root / "scripts" / "run", *arguments],
            cwd=cwd,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, script: Path | None = None, **environment: str) -> tuple[int, str, str]:
        with self.start(*arguments, script=script, **environment) as process:
            out, err = process.communicate()
            return process.returncode, out, err

    def installations(self) -> list[str]:
        return [line.split()[-1] for line in self.calls.read_text().splitlines()]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_run_sets_up_once_and_keeps_stdout_clean(project: Project) -> None:
    code, out, err = project.run("--top", "a b", "")
    assert (code, out) == (0, "<--top><a b><>")
    assert "setting up" in err
    assert project.run("x") == (0, "<x>", "")
    assert project.installations() == ["start", "end"]


def test_run_through_a_symbolic_link(project: Project) -> None:
    link = project.bin / "moe"
    link.symlink_to(Path("../a project/scripts/run"))
    assert project.run("x", script=link)[:2] == (0, "<x>")
    assert (project.root / ".venv").is_dir()


def test_two_runs_at_once_set_up_once(project: Project) -> None:
    both = [project.start(str(i)) for i in range(2)]
    results = [process.communicate()[0] for process in both]
    assert results == ["<0>", "<1>"]
    assert project.installations() == ["start", "end"]


def test_changed_project_is_installed_again(project: Project) -> None:
    project.run()
    kept = project.root / ".venv" / "kept"
    kept.touch()
    project.pyproject.write_text("[project]\nname = 'other'\n")
    assert project.run("x")[:2] == (0, "<x>")
    assert project.installations() == ["start", "end"] * 2
    assert kept.exists()


def test_moved_project_is_set_up_again(project: Project) -> None:
    project.run()
    project.root = project.root.rename(project.root.with_name("moved"))
    assert project.run("x")[:2] == (0, "<x>")
    assert project.installations() == ["start", "end"] * 2


def test_failed_set_up_is_reported_and_made_anew(project: Project) -> None:
    code, out, err = project.run(BROKEN_PIP="1")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == "run: the packages cannot be installed: see the messages above"
    assert project.run("x")[:2] == (0, "<x>")
    assert project.installations() == ["start", "start", "end"]


def test_vanished_python_is_noticed(project: Project) -> None:
    project.run()
    (project.root / ".venv" / "bin" / "python").unlink()
    assert project.run("x")[:2] == (0, "<x>")
    assert project.installations() == ["start", "end"] * 2


PLANTS = ("ensurepip", "fcntl", "gguf", "numpy", "pip", "pytest", "sitecustomize", "usercustomize", "venv")
FIND_ALL = f"""
import importlib.machinery, sys
sys.path_importer_cache.clear()
for name in {PLANTS}:
    found = importlib.machinery.PathFinder.find_spec(name)
    if found is not None and (found.origin or "").startswith("HERE"):
        exec(found.loader.get_code(name), dict(__name__=name))
"""
"""Runs those of the planted modules that an import would run, without importing others."""


@pytest.mark.parametrize("script", ["run", "test", "test-capture", "test-endurance", "bench"])
def test_nothing_is_imported_from_where_the_user_stands(
    project: Project, tmp_path: Path, script: str
) -> None:
    here, imported = tmp_path / "here", tmp_path / "imported"
    here.mkdir()
    for name in (*PLANTS, "startup"):
        (here / f"{name}.py").write_text(f"open({str(imported)!r}, 'a').write('{name} ')\n")
    variables = {
        "PLANTED": FIND_ALL.replace("HERE", str(here)),
        "PYTHONPATH": f":{here}",  # of a careless shell: an empty entry means the current directory
        "PYTHONSTARTUP": str(here / "startup.py"),
    }
    project.run()
    for name in ("ruff", "lint-imports", "mypy", "pytest"):
        tool = project.root / ".venv" / "bin" / name
        tool.write_text(
            "#!/bin/sh\n" + ('exec "$(dirname "$0")/python" -m pytest\n' if name == "pytest" else "")
        )
        tool.chmod(0o755)
    project.pyproject.write_text("[project]\nname = 'other'\n")  # everything is set up anew
    with project.start("x.log", script=project.root / "scripts" / script, cwd=here, **variables) as process:
        out, err = process.communicate()
    assert "setting up" in err
    assert not imported.exists(), imported.read_text()
    if script == "run":
        assert (process.returncode, out) == (0, "<x.log>")


def test_no_python_is_one_line(project: Project) -> None:
    for name in ("python3", "python3.14", "python3.13", "python3.12", "python3.11"):
        python = project.bin / name
        python.write_text("#!/bin/sh\nexit 127\n")
        python.chmod(0o755)
    code, out, err = project.run()
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "no Python 3.11 or later" in err


def test_checks_run_in_order_and_any_failure_fails(project: Project) -> None:
    project.run()
    tools = project.root / ".venv" / "bin"
    for name in ("ruff", "lint-imports", "mypy", "pytest"):
        tool = tools / name
        tool.write_text(f'#!/bin/sh\necho "$PWD: {name} $*"\n[ "$BROKEN" != {name} ]\n')
        tool.chmod(0o755)
    script = project.root / "scripts" / "test"
    code, out, err = project.run("-k", "a b", script=script)
    assert code == 0, err
    assert out.splitlines() == [
        "== format",
        f"{project.root}: ruff format --check .",
        "== lint",
        f"{project.root}: ruff check .",
        "== imports",
        f"{project.root}: lint-imports ",
        "== types",
        f"{project.root}: mypy ",
        "== tests",
        f"{project.root}: pytest -n {(3 * (os.cpu_count() or 1) + 1) // 2} --dist worksteal -k a b",
        "== all checks passed",
    ]
    code, out, err = project.run(script=script, BROKEN="mypy")
    assert (code, err) == (1, "test: failed: types\n")
    assert "pytest" in out
