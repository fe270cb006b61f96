"""The tap as a piece of C: what it needs, how it is compiled, and that it is sound."""

from __future__ import annotations

import ctypes
import math
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moe_live.capture import tap_library
from moe_live.capture.tap_library import FLAGS, LIBRARIES, SOURCES
from tests.capture.tap_host import (
    DRAFT,
    HEADER,
    LATE,
    STRICT,
    Built,
    cc,
    compile_host,
    compile_tap,
    compiler,
    steps,
)
from tests.conftest import REPOSITORY
from tests.pseudo_terminal import MOE_LIVE

needs_compiler = pytest.mark.skipif(compiler() is None, reason="there is no C compiler (cc)")
OLDEST_GLIBC = (2, 17)


def moe_live(*arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("CC", "MOE_LIVE_TAP")}
    return subprocess.run(
        [*MOE_LIVE, *map(str, arguments)],
        env=environment | {"PYTHONPATH": str(REPOSITORY)} | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_runs_where_the_c_library_is_older(tap_host: Built) -> None:
    if not shutil.which("objdump"):
        pytest.skip("there is no objdump")
    symbols = subprocess.run(
        ["objdump", "-T", tap_host.directory / "tap.so"], capture_output=True, text=True, check=True
    ).stdout
    versions = {tuple(map(int, v.split("."))) for v in re.findall(r"GLIBC_([\d.]+)", symbols)}
    assert versions
    assert max(versions) <= OLDEST_GLIBC
    needed = subprocess.run(
        ["objdump", "-p", tap_host.directory / "tap.so"], capture_output=True, text=True, check=True
    ).stdout
    libraries = set(re.findall(r"NEEDED +(\S+)", needed))
    assert libraries <= {
        "libc.so.6",
        "libdl.so.2",
        "libpthread.so.0",
        "ld-linux-x86-64.so.2",
        "ld-linux-aarch64.so.1",
    }


def test_it_stands_before_nothing_but_what_it_must(tap_host: Built) -> None:
    symbols = subprocess.run(
        ["nm", "-D", "--defined-only", tap_host.directory / "tap.so"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    exported = {name for name in symbols if name.startswith(("ggml", "llama"))}
    assert exported == {
        *(
            f"ggml_backend_sched_{name}"
            for name in ("set_eval_callback", "reserve", "alloc_graph", "graph_compute_async", "free")
        ),
        *("llama_decode", "llama_encode", "llama_process"),
        *(
            f"llama_batch_ext_{name}"
            for name in ("init", "free", "clear", "add", "add_token", "add_embd", "add_seq")
        ),
        *(f"llama_batch_ext_set_{name}" for name in ("pos", "output_logits", "output_embd")),
    }
    assert len(symbols) == 3 * len(exported)


@pytest.mark.parametrize("name", ["gcc", "clang", "clang-16", "musl-gcc"])
def test_no_compiler_finds_fault_with_it(name: str, tmp_path: Path) -> None:
    if not shutil.which(name):
        pytest.skip(f"there is no {name}")
    sources = sorted(SOURCES.glob("*.c"))
    subprocess.run([name, *FLAGS, *STRICT, "-o", tmp_path / "tap.so", *sources, *LIBRARIES], check=True)


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The functions that write numbers."""
    if compiler() is None:
        pytest.skip("there is no C compiler (cc)")
    library = tmp_path_factory.mktemp("text") / "text.so"
    cc("-std=c11", "-O2", "-fPIC", "-shared", "-o", library, SOURCES / "text.c")
    loaded = ctypes.CDLL(str(library))
    loaded.write_float.argtypes = (ctypes.c_char_p, ctypes.c_float)
    loaded.write_int.argtypes = (ctypes.c_char_p, ctypes.c_int64)
    loaded.write_float.restype = loaded.write_int.restype = ctypes.c_size_t
    return loaded


def as_written(value: float, numbers: ctypes.CDLL) -> str:
    text = ctypes.create_string_buffer(32)
    length = numbers.write_float(text, value)
    return text.raw[:length].decode()


@given(
    value=st.floats(width=32) | st.integers(-(10**7), 10**7).map(lambda n: n / 2) | st.floats(0, 2, width=32)
)
@example(value=100000.5)
@example(value=999999.5)
@example(value=0.0001)
@example(value=9.9999995e-05)
@example(value=-0.0)
def test_numbers_are_written_as_printf_does(value: float, numbers: ctypes.CDLL) -> None:
    (value,) = struct.unpack("f", struct.pack("f", value))
    written = as_written(value, numbers)
    assert written.lstrip("-") == f"{value:g}".lstrip("-")
    assert math.isnan(value) or written == f"{value:g}"


@given(value=st.integers(-(2**63), 2**63 - 1))
@example(value=-(2**63))
def test_whole_numbers(value: int, numbers: ctypes.CDLL) -> None:
    text = ctypes.create_string_buffer(32)
    length = numbers.write_int(text, value)
    assert text.raw[:length].decode() == str(value)


WORK = (
    *(
        "context:0:8",
        "warmup",
        "step:20",
        "steps:50",
        f"context:{DRAFT}",
        "steps:5",
        f"context:{LATE}",
        "step:9",
    ),
    *("use:0", "prompts:3:5", "both:3", "back:2", "steps:3", "free"),
    *("own", "context:0", "warmup", "steps:20", "fork"),
)


@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
@pytest.mark.slow
def test_sanitizers_find_nothing(sanitizer: str, tmp_path: Path) -> None:
    if compiler() is None:
        pytest.skip("there is no C compiler (cc)")
    flags = (f"-fsanitize={sanitizer}", "-fno-omit-frame-pointer", "-g")
    try:
        compile_host(tmp_path, *flags)
        compile_tap(tmp_path / "tap.so", *flags, "-Wno-error")
    except subprocess.CalledProcessError:
        pytest.skip(f"the compiler has no sanitizer of {sanitizer}")
    runtime = "asan" if "address" in sanitizer else "tsan"
    found = subprocess.run(
        [compiler() or "cc", f"-print-file-name=lib{runtime}.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    # Leaks of the fake libraries and of what the tap keeps for good are not looked for here.
    options = {"ASAN_OPTIONS": "detect_leaks=0", "TSAN_OPTIONS": "halt_on_error=1 report_thread_leaks=0"}
    built = Built(tmp_path, before=found, environ=options)
    log = tmp_path / "moe.log"
    run = built.run(log, *WORK, WEIGHTS="1", GATE_LAYERS="3,6", DRAFTS=str(tmp_path / "drafts.log"))
    assert run.stderr == ""
    assert log.read_text().count("# step") > 80
    together = ("context:0", "context:0", f"context:{DRAFT}", "context:0", f"context:{LATE}", "threads:300")
    run = built.run(tmp_path / "threads.log", *together, WEIGHTS="1", DRAFTS=str(tmp_path / "threads2.log"))
    assert run.stderr == ""
    counts = [(tmp_path / f"threads{which}.log").read_text().count("# step") for which in ("", "2")]
    assert sum(counts) == 1500


@pytest.mark.parametrize("steps_", [200])
def test_nothing_is_lost_with_each_graph(tap_host: Built, tmp_path: Path, steps_: int) -> None:
    """Memory that is allocated in a longer run and not freed is as much as in a shorter one."""
    if not shutil.which("valgrind"):
        pytest.skip("there is no valgrind")

    def left(count: int) -> tuple[int, int]:
        graphs = [f"step:{1 + i % 3}" for i in range(count)]
        run = subprocess.run(
            [
                *("valgrind", "--trace-children=no", "--error-exitcode=9", "--leak-check=full"),
                *("--errors-for-leak-kinds=definite", "--show-leak-kinds=definite"),
                *tap_host.command("context:0", *graphs, "free", "context:0", *graphs),
            ],
            env=tap_host.environment(tmp_path / "moe.log", WEIGHTS="1", GATE_LAYERS="3"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        in_use = re.search(r"in use at exit: ([\d,]+) bytes in ([\d,]+) blocks", run.stderr)
        assert in_use is not None
        size, blocks = (int(n.replace(",", "")) for n in in_use.groups())
        return size, blocks

    # When threads end decides about a block or two; one a graph would be hundreds.
    assert abs(left(20)[1] - left(steps_)[1]) <= 2


@needs_compiler
def test_the_library_is_made_once_and_kept(tmp_path: Path) -> None:
    first = moe_live("tap", XDG_CACHE_HOME=str(tmp_path))
    assert first.returncode == 0, first.stderr
    library = Path(first.stdout.strip())
    assert library.parent == tmp_path / "moe-live"
    assert library.parent.stat().st_mode & 0o777 == library.stat().st_mode & 0o777 == 0o700
    made = library.stat()
    assert moe_live("tap", XDG_CACHE_HOME=str(tmp_path)).stdout == first.stdout
    assert library.stat().st_mtime_ns == made.st_mtime_ns
    assert [path.name for path in library.parent.iterdir()] == [library.name]
    library.chmod(0o777)  # anybody may have written it
    assert moe_live("tap", XDG_CACHE_HOME=str(tmp_path)).stdout == first.stdout
    assert library.stat().st_ino != made.st_ino


@needs_compiler
def test_each_compiler_and_its_flags_have_a_library_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    names = set()
    for command in ("cc", "cc -O1", "env cc"):
        monkeypatch.setenv("CC", command)
        names.add(tap_library._fingerprint())
    assert len(names) == 3


@needs_compiler
def test_the_library_of_another_machine(tap_host: Built, tmp_path: Path) -> None:
    library = tmp_path / "tap.so"
    assert moe_live("tap", "--build", library, XDG_CACHE_HOME=str(tmp_path / "none")).returncode == 0
    assert not (tmp_path / "none").exists()
    assert moe_live("tap", MOE_LIVE_TAP=str(library), CC="none").stdout == f"{library}\n"
    log = tmp_path / "moe.log"
    environ = tap_host.environment(log) | {"LD_PRELOAD": str(library)}
    subprocess.run(
        tap_host.command("context:0", "steps:2"), env=environ, check=True, stdout=subprocess.DEVNULL
    )
    version = subprocess.run(
        [*MOE_LIVE, "--version"], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    assert log.read_text() == HEADER.replace("test", version) + steps(0, 2)


def test_what_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    blocked = tmp_path / "file"
    blocked.write_text("")
    cases = {
        "there is no C compiler (no-such-cc) to make the tap: install one": {
            "CC": "no-such-cc",
            "XDG_CACHE_HOME": cache,
        },
        "cannot compile the tap": {"CC": "false", "XDG_CACHE_HOME": cache},
        "set XDG_CACHE_HOME to a directory that can be written": {"XDG_CACHE_HOME": str(blocked)},
        "MOE_LIVE_TAP names": {"MOE_LIVE_TAP": "/no/such/tap.so"},
    }
    if compiler() is not None:
        cases["cannot be preloaded: its path has a blank"] = {"XDG_CACHE_HOME": str(tmp_path / "a b")}
    for problem, environ in cases.items():
        run = moe_live("tap", **environ)
        assert run.returncode in (1, 2)
        assert run.stdout == ""
        assert run.stderr.count("\n") == 1
        assert problem in run.stderr
    run = moe_live("tap", "--build", tmp_path / "missing" / "tap.so")
    assert (run.returncode, run.stderr.count("\n")) == (2, 1)
    assert "No such file or directory" in run.stderr


def test_sources_are_part_of_the_package() -> None:
    assert {path.suffix for path in SOURCES.iterdir()} == {".c", ".h"}
    assert sys.modules["moe_live"].__file__ is not None
    assert SOURCES.is_relative_to(Path(sys.modules["moe_live"].__file__).parent)
