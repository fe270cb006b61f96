"""What takes long: servers killed again and again, gigabytes, idle hours in short."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from moe_live.formats.llama_server import LlamaServerDecoder
from moe_live.formats.sniff import SniffingDecoder, candidates
from tests.formats.test_counts import counts_of
from tests.formats.test_counts import written as counts_written
from tests.formats.written import WRITERS, Row
from tests.pseudo_terminal import MOE_LIVE, REPOSITORY, PseudoTerminal, started

pytestmark = pytest.mark.slow

HEADER = b"layer_id,expert_ids\n"

# Behaves like the server's log stream: truncates, does not append, writes pieces of 8 KB cut anywhere, at
# 50 MB/s in bursts, until killed. Each turn writes another text, as each run of a server does.
WRITER = """
import sys, time
path, text, turn = sys.argv[1], open(sys.argv[2], "rb").read(), int(sys.argv[3])
begin = text.index(b"\\n", turn * len(text) // 100) + 1
text = text[begin:] + text[:begin]
first = text[: text.index(b"\\n", 8192) + 1]
log = open(path, "wb", buffering=0)
log.write(b"layer_id,expert_ids\\n" + first)  # each run has a row: of two without, one is seen
print("emptied", flush=True)
begin, written = time.monotonic(), 0
while True:
    for start in range(0, len(text), 8192):
        written += log.write(text[start : start + 8192])
    ahead = written / 50e6 - (time.monotonic() - begin)
    if ahead > 0:
        time.sleep(ahead)
"""


def expert_text(rng: np.random.Generator, steps: int, n_layers: int = 40, n_experts: int = 128) -> bytes:
    """Decode steps of one slot."""
    ids = rng.integers(0, n_experts, (steps, n_layers, 8)).tolist()
    return b"".join(
        b"%d,%b\n" % (layer, b" ".join(b"%d" % expert for expert in row))
        for step in ids
        for layer, row in enumerate(step)
    )


def following(path: Path) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """moe-live following a log without a terminal."""
    return started("--follow", path, "--json", "-", stderr=subprocess.DEVNULL)


def finished(process: subprocess.Popen[bytes]) -> dict[str, dict[str, int]]:
    """Its summary, after SIGINT."""
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    summary: dict[str, dict[str, int]] = json.loads(output)
    return summary


def status_field(pid: int, name: str) -> int:
    """A figure of /proc/PID/status, in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise KeyError(name)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="needs /proc, which only Linux has"
)


@needs_proc
@pytest.mark.timeout(1200)
def test_no_line_is_lost_when_the_server_is_killed_and_restarted_100_times(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    path, text = tmp_path / "server.log", tmp_path / "text"
    text.write_bytes(expert_text(rng, 300))
    program = [sys.executable, "-c", WRITER, str(path), str(text)]
    lines = 0
    with following(path) as process:
        wait_until_idle(process.pid)
        for turn in range(100):
            before = bytes_read(process.pid)
            with subprocess.Popen([*program, str(turn)], stdout=subprocess.PIPE) as writer:
                assert writer.stdout is not None
                assert writer.stdout.readline() == b"emptied\n"
                time.sleep(rng.uniform(0.0, 0.3))
                writer.kill()
            text_of_turn = path.read_bytes()
            lines += text_of_turn.count(b"\n")
            wait_until_read(process.pid, before + len(text_of_turn))
        summary = finished(process)
    assert summary["source"]["lines"] == lines
    assert summary["source"]["malformed_lines"] == 0
    assert summary["source"]["restarts"] == 99


@needs_proc
@pytest.mark.timeout(2400)
def test_five_gigabytes_do_not_grow_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(12)
    path = tmp_path / "server.log"
    texts = [HEADER + expert_text(rng, 9000) * 5 for _ in range(2)]
    total = 0
    resident: list[int] = []  # KiB after 100 MB, and then ten times up to 5 GB
    with following(path) as process:
        for text in itertools.cycle(texts):
            # One file used again and again, as restarting servers do: 5 GB need not fit on the disk.
            before = bytes_read(process.pid)
            path.write_bytes(text)
            wait_until_read(process.pid, before + len(text))
            total += len(text)
            if total >= 100_000_000 + 490_000_000 * len(resident):
                wait_until_idle(process.pid)
                resident.append(status_field(process.pid, "VmRSS"))
            if len(resident) > 10:
                break
        summary = finished(process)
    assert summary["source"]["bytes"] == total
    assert max(resident) - resident[0] < 10 * 1024


def wait_until_read(pid: int, total: int) -> None:
    """Until the process has read so many bytes since it began, and then hardly anything for a while."""
    previous = bytes_read(pid)
    while True:
        time.sleep(0.4)
        now = bytes_read(pid)
        if now >= total and now - previous < 16_384:
            return
        previous = now


def wait_until_idle(pid: int) -> None:
    """Until the process has analyzed what it has read."""
    before = -1.0
    while cpu_seconds(pid) - before > 0.05:
        before = cpu_seconds(pid)
        time.sleep(2)


def bytes_read(pid: int) -> int:
    """All bytes that a process took in by reading."""
    return int(Path(f"/proc/{pid}/io").read_text().split()[1])


@needs_proc
@pytest.mark.parametrize("display", ["plain", "dashboard"])
def test_an_idle_follower_does_not_spin(tmp_path: Path, display: str) -> None:
    path = tmp_path / "server.log"
    path.write_bytes(HEADER + expert_text(np.random.default_rng(13), 50))
    if display == "plain":
        with following(path) as process:
            assert idle_cpu(process.pid) < 0.1
        return
    with PseudoTerminal([*MOE_LIVE, "--follow", str(path)]) as terminal:
        terminal.wait_for("49 decode tokens")
        assert idle_cpu(terminal.pid) < 0.1


def idle_cpu(pid: int) -> float:
    """CPU seconds over 20 s, once start-up is over."""
    wait_until_idle(pid)
    before = cpu_seconds(pid)
    time.sleep(20)
    return cpu_seconds(pid) - before


def test_a_million_mutated_lines_and_random_bytes() -> None:
    rng = np.random.default_rng(14)
    gates = b"".join(
        b"gate_input,%d,%d,%b\n" % (layer, row, b" ".join(b"%g" % x for x in rng.standard_normal(20)))
        for layer in range(20)
        for row in range(2)
    )
    text = np.frombuffer(HEADER + expert_text(rng, 100) + gates + expert_text(rng, 100), np.uint8)
    likely = np.frombuffer(b"0123456789 ,.\n\r\0-+eginfa\xff\x80", np.uint8)
    decoder = LlamaServerDecoder(max_line_bytes=4096)
    rows = newlines = 0
    while newlines < 1_000_000:
        mutated = text.copy()
        places = rng.integers(0, len(text), int(rng.integers(1, len(text) // 20)))
        pool = likely if rng.random() < 0.8 else np.arange(256, dtype=np.uint8)
        mutated[places] = rng.choice(pool, len(places))
        if rng.random() < 0.5:
            mutated = np.delete(mutated, rng.integers(0, len(mutated), 200))
        data = mutated.tobytes()
        newlines += data.count(b"\n")
        for records in decoder.feed(data):
            rows += len(records.layer) + len(records.gates.layer)
            assert all(table.max() < 2048 for table in records.experts.tables)
    tally = decoder.tally
    assert tally.lines == newlines
    beside = tally.header_lines + tally.label_lines + tally.comment_lines + tally.empty_rows
    assert tally.malformed_lines + beside + rows == newlines
    assert 0 < tally.malformed_lines < newlines


@pytest.mark.parametrize("name", [*WRITERS, "counts"])
def test_mutated_lines_of_every_dialect(name: str) -> None:
    """Whatever is in its lines, and however they are cut, what is read is within bounds, and the same."""
    rng = np.random.default_rng(15)
    rows = [
        Row(step, step > 1, token, token, layer, tuple(rng.permutation(20)[:4].tolist()))
        for step in range(30)
        for layer in range(3)
        for token in range(5 if step < 2 else 1)
    ]
    if name == "counts":
        text = np.frombuffer(counts_written("sglang", counts_of(rows)), np.uint8)
        dialect = name
    else:
        write, dialect = WRITERS[name]
        text = np.frombuffer(write(rows).encode(), np.uint8)
    likely = np.frombuffer(b'0123456789 ,.;\n\r\t\0-+:"{}[]#eE|pd\xff\x80', np.uint8)
    for _ in range(100):
        mutated = text.copy()
        places = rng.integers(0, len(text), int(rng.integers(1, max(2, len(text) // 50))))
        pool = likely if rng.random() < 0.8 else np.arange(256, dtype=np.uint8)
        mutated[places] = rng.choice(pool, len(places))
        data = mutated.tobytes()
        tallies = []
        for cut in (len(data), int(rng.integers(1, len(data)))):
            decoder = SniffingDecoder(dialect=candidates(dialect)[0])
            found = 0
            for part in (data[:cut], data[cut:]):
                for records in decoder.feed(part):
                    found += len(records.layer) + int(records.counts.count.sum())
                    assert all(records.counts.expert < 2048)
                    assert all(table.max() < 2048 for table in records.experts.tables)
            for records in decoder.restart():
                found += len(records.layer)
            tallies.append((found, decoder.tally))
            assert decoder.tally.lines <= data.count(b"\n")
        assert tallies[0] == tallies[1]


# Feeds every shape of step of a strided log of this model, so that each set of rows is filled, and tells how
# much more memory that took, the final figures included, than the interpreter with all imports.
MEASURE_MEMORY = """
import sys
from pathlib import Path
import numpy as np
from moe_live.analyzer import Analyzer
from moe_live.reports.json_report import to_json

def peak():
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024

def step(tokens):
    lines = []
    for layer in range(layers):
        ranking = np.argsort(rng.random((tokens, experts)), axis=1)
        rows = ranking.reshape(-1)[: tokens * top_k].reshape(tokens, top_k)
        lines += [f"{layer},{' '.join(map(str, row))}\\n" for row in rows.tolist()]
    return "".join(lines).encode()

layers, experts, top_k = map(int, sys.argv[1:])
rng = np.random.default_rng(0)
analyzer = Analyzer()
before = peak()
for number in range(200):
    analyzer.feed(step((64, 2, *[1] * 8)[number % 10]))
analyzer.finish()
to_json(analyzer.snapshot())
print(peak() - before)
"""


@needs_proc
@pytest.mark.parametrize(("shape", "megabytes"), [((89, 160, 8), 80), ((94, 512, 10), 400)])
@pytest.mark.timeout(300)
def test_memory_of_large_models(shape: tuple[int, int, int], megabytes: int) -> None:
    output = subprocess.run(
        [sys.executable, "-c", MEASURE_MEMORY, *map(str, shape)],
        capture_output=True,
        cwd=REPOSITORY,
        check=True,
    ).stdout
    assert float(output) < megabytes


# Runs the command, and tells how much more memory than the imports its largest process took.
MEASURE_COMMAND = """
import resource, sys
from pathlib import Path
from moe_live import cli
from moe_live.dashboard import run
from moe_live.parallel import plan, session, worker
from moe_live.reports import json_report, plain, summary
from moe_live.sources import archive, follow, pipe

def peak():
    status = Path("/proc/self/status").read_text().splitlines()
    own = int(next(line for line in status if line.startswith("VmHWM")).split()[1])
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1000

before = peak()
assert cli.main(sys.argv[1:]) == 0
print(peak() - before)
"""


@pytest.fixture(scope="module")
def large_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answers of 32 tokens to strided prompts of 512, 400 MB."""
    rng = np.random.default_rng(15)
    blocks = [rng.permuted(np.tile(np.arange(160), (26, 1)), axis=1).ravel()[: 512 * 8] for _ in range(89)]
    prompt = b"".join(
        b"%d,%b\n" % (layer, b" ".join(b"%d" % expert for expert in row))
        for layer, block in enumerate(blocks)
        for row in block.reshape(512, 8).tolist()
    )
    piece = prompt + expert_text(rng, 32, 89, 160)
    path = tmp_path_factory.mktemp("large") / "server.log"
    with path.open("wb") as log:
        log.write(HEADER)
        while log.tell() < 400e6:
            log.write(piece)
    return path


@needs_proc
@pytest.mark.parametrize("jobs", ["1", "2", "3"])
def test_no_process_takes_more_than_80_mb_of_memory_over_a_long_log(large_log: Path, jobs: str) -> None:
    output = subprocess.run(
        [sys.executable, "-c", MEASURE_COMMAND, large_log, "--jobs", jobs, "--json", "/dev/null"],
        capture_output=True,
        cwd=REPOSITORY,
        check=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # as the command itself has it, before imports
    ).stdout
    assert float(output.splitlines()[-1]) < 80
