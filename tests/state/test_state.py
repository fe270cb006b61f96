"""A state is the analyzer as it was, to the last bit and in the middle of a line; or it is refused in one."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_live.analyzer import Analyzer
from moe_live.errors import MoeLiveError
from moe_live.formats.sniff import DIALECTS
from moe_live.settings import Phase, RowMode, Settings
from moe_live.sources.source import Break
from moe_live.state.file import pack, unpack
from moe_live.state.graph import DamagedError, Frozen, freeze, thaw
from moe_live.statistics.registry import OfBatches, RowsAtOnce, RowsPutOff, StepsPutOff
from tests.analysis import analyzed
from tests.comparison import plain
from tests.synthetic import SyntheticLog, logs

DIGEST = 64


def again(analyzer: Analyzer) -> Analyzer:
    """What another process would make of it."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "state"
        analyzer.save(path)
        return Analyzer.load(path)


def decode_log(steps: int = 40, layers: int = 4) -> bytes:
    rng = np.random.default_rng(0)
    rows = (rng.permutation(16)[:3] for _ in range(steps * layers))
    return b"".join(b"%d,%d %d %d\n" % (i % layers, *row) for i, row in enumerate(rows))


SETTINGS = [
    Settings(),
    Settings(latest_uses=300),
    Settings(rows=RowMode.VERIFIED, include_prompt=True, layers=frozenset(range(6))),
    Settings(counts_only=True, label="code", phase=Phase.DECODE),
]


@given(logs(heads=True), st.data())
def test_a_log_cut_anywhere_into_runs_gives_the_identical_snapshot(
    log: SyntheticLog, data: st.DataObject
) -> None:
    text, counted = log.text, data.draw(st.sampled_from(SETTINGS))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    reasons = data.draw(st.lists(st.none() | st.sampled_from(Break), min_size=4, max_size=4))
    whole, run = Analyzer(counted), Analyzer(counted)
    for (begin, end), reason in zip(pairwise([0, *cuts, len(text)]), [*reasons, None], strict=False):
        for each in (whole, run):
            each.feed(text[begin:end])
            if reason is not None:
                each.interrupt(reason)
        run = again(run)
    whole.finish()
    run.finish()
    assert plain(run.snapshot()) == plain(whole.snapshot())
    assert run.label == whole.label


@settings(max_examples=15)
@given(logs(junk=False, heads=True), logs(junk=False, heads=True), st.sampled_from(SETTINGS))
def test_states_merged_are_one_run_over_all(
    log: SyntheticLog, following: SyntheticLog, counted: Settings
) -> None:
    both = Analyzer(counted)
    both.feed(log.text)
    both.interrupt(Break.FILE_ENDED)
    both.feed(following.text)
    both.finish()
    merged = again(analyzed([log.text], counted))
    merged += again(analyzed([following.text], counted))
    assert plain(again(merged).snapshot()) == plain(both.snapshot())


@settings(max_examples=15)
@given(logs())
def test_to_save_changes_nothing(log: SyntheticLog) -> None:
    analyzer = Analyzer()
    for piece in log.pieces:
        analyzer.feed(piece)
        analyzer.freeze()
    analyzer.finish()
    assert plain(analyzer.snapshot()) == plain(analyzed([log.text]).snapshot())


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("around", ["", "2026-11-26T10:00:00Z ", "utf-16"])
def test_every_dialect_is_gone_on_with_in_the_middle_of_a_line(dialect: Any, around: str) -> None:
    if not dialect.is_text:
        pytest.skip("it has no lines")
    first, *rest = dialect.example.splitlines()
    lines = [first, *(rest or [first]) * 30]
    text = "".join(f"{around if around != 'utf-16' else ''}{line}\n" for line in lines).encode(
        "utf-16" if around == "utf-16" else "utf-8"
    )
    whole = plain(analyzed([text]).snapshot())
    for cut in (1, len(text) // 3, len(text) // 2 + 1, len(text) - 2):
        run = Analyzer()
        run.feed(text[:cut])
        run = again(run)
        run.feed(text[cut:])
        run.finish()
        assert plain(run.snapshot()) == whole


@pytest.mark.parametrize(
    "name",
    ["glm4moe-160e-top8-2slots-ub64.log.gz", "qwen3-30b-a3b.route.csv.gz", "glm4moe-spec-mtp_np1.log.gz"],
)
def test_real_logs_in_three_runs(real_logs: Path, name: str) -> None:
    text = gzip.decompress((real_logs / name).read_bytes())[:1_500_000]
    run = Analyzer()
    for begin, end in pairwise([0, len(text) // 7, len(text) // 2 + 3, len(text)]):
        run.feed(text[begin:end])
        run = again(run)
    run.finish()
    assert plain(run.snapshot()) == plain(analyzed([text]).snapshot())


def rich_states() -> list[Frozen]:
    """States in which, together, everything is that analyzers keep."""
    rows = b"# layer_id,expert_ids,weights\n" + decode_log() + b"# label: code\n" + decode_log()
    gates = b"".join(b"gate_input,%d,0,%d 1 2\n%d,1 2\n" % (i % 3, i, i % 3) for i in range(60))
    several = b"".join(b"%d,1 2\n%d,3 4\n" % (i % 3, i % 3) for i in range(300))
    states = []
    for counted in (Settings(latest_uses=300), Settings()):
        for text in (rows, gates, several, rows + several):
            analyzer = Analyzer(counted)
            analyzer.feed(text)
            states.append(analyzer.freeze())
            analyzer.interrupt(Break.RESTARTED)
            analyzer.feed(decode_log()[:-4])
            states.append(analyzer.freeze())
    for dialect in DIALECTS:
        analyzer = Analyzer()
        analyzer.feed((dialect.example + "\n").encode() * 3)
        states.append(analyzer.freeze())
    return states


def test_what_keeps_more_or_less_than_it_did_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "moe.state"
    analyzer = analyzed([decode_log()])
    vars(analyzer._statistics.rises)["more"] = 1
    analyzer.save(path)
    with pytest.raises(
        MoeLiveError, match=r"another version of moe-live wrote it, .*rises:Rises; it is left"
    ):
        Analyzer.load(path)
    analyzer = analyzed([decode_log()])
    vars(analyzer)["more"] = 1
    analyzer.save(path)
    with pytest.raises(MoeLiveError, match="another version of moe-live wrote it"):
        Analyzer.load(path)


def test_every_statistic_is_in_a_state() -> None:
    kept = {name for state in rich_states() for name, _ in state.classes}
    for members in (RowsAtOnce, RowsPutOff, StepsPutOff, OfBatches):
        for _, member in members.TABLE:
            assert f"{member.kind.__module__}:{member.kind.__qualname__}" in kept


def test_counts_beyond_ten_billion_rows_go_on() -> None:
    analyzer = analyzed([decode_log()])
    many = 10**11
    analyzer._statistics.certain._selections[analyzer._statistics.certain._selections > 0] = many
    analyzer._statistics.certain.rows += many
    before = analyzer.snapshot().layers[0].usage.counts
    run = again(analyzer)
    run.feed(decode_log())
    run.finish()
    more = analyzed([decode_log()]).snapshot().layers[0].usage.counts
    assert int(before.max()) == many
    assert (run.snapshot().layers[0].usage.counts == before + more).all()


def saved(tmp_path: Path) -> tuple[Path, bytes]:
    path = tmp_path / "moe.state"
    analyzed([decode_log()]).save(path)
    return path, path.read_bytes()


def test_a_state_is_for_its_owner_and_keeps_the_mode_it_was_given(tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    saved(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_state_that_cannot_be_written_is_told_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(MoeLiveError, match=r"cannot write the state to .*; name another file"):
        analyzed([decode_log()]).save(tmp_path / "missing" / "moe.state")


def test_two_processes_do_not_write_one_state_at_a_time(tmp_path: Path) -> None:
    path, content = saved(tmp_path)
    temporary = tmp_path / ".moe.state.moe-live-tmp"
    with temporary.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(MoeLiveError, match="another process does; give each a file of its own"):
            saved(tmp_path)
        assert path.read_bytes() == content
        assert temporary.exists()
    saved(tmp_path)
    assert not temporary.exists()


def test_what_a_killed_writer_has_left_is_used(tmp_path: Path) -> None:
    temporary = tmp_path / ".moe.state.moe-live-tmp"
    temporary.write_bytes(bytes(100_000))
    path, content = saved(tmp_path)
    assert Analyzer.load(path).tally.lines
    assert len(content) < 100_000
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_part_of_a_log_has_no_state(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="merge it"):
        Analyzer(goes_on=True).save(tmp_path / "state")


DAMAGE: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "a byte is another": lambda content, rng: (
        content[: (at := int(rng.integers(len(content))))]
        + bytes([content[at] ^ int(rng.integers(1, 256))])
        + content[at + 1 :]
    ),
    "it is cut off": lambda content, rng: content[: int(rng.integers(len(content)))],
    "bytes are missing": lambda content, rng: (
        content[: (at := int(rng.integers(len(content) - 1)))] + content[at + 1 + int(rng.integers(64)) :]
    ),
    "bytes are there twice": lambda content, rng: (
        content[: (at := int(rng.integers(len(content))))] + content[at - int(rng.integers(1, 64)) :]
    ),
    "a block is empty": lambda content, rng: (
        content[: (at := int(rng.integers(len(content) - 512)))] + bytes(512) + content[at + 512 :]
    ),
}


def check_damaged(tmp_path: Path, times: int) -> None:
    path, content = saved(tmp_path)
    rng = np.random.default_rng(0)
    whole = plain(Analyzer.load(path).snapshot())
    for damage in DAMAGE.values():
        for _ in range(times):
            damaged = damage(content, rng)
            path.write_bytes(damaged)
            found, refused = None, ""
            try:
                found = plain(Analyzer.load(path).snapshot())
            except MoeLiveError as error:
                refused = str(error)
            assert found == whole or (refused and "\n" not in refused)
            assert path.read_bytes() == damaged


def test_a_damaged_state_is_refused_in_a_line_or_right(tmp_path: Path) -> None:
    check_damaged(tmp_path, 60)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_damaged_states(tmp_path: Path) -> None:
    check_damaged(tmp_path, 2_000)


@pytest.mark.parametrize("content", [b"", b"PK", b"layer_id,expert_ids\n3,1 2\n" * 9, bytes(10_000)])
def test_what_is_no_state_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state"
    path.write_bytes(content)
    with pytest.raises(MoeLiveError, match="not written by moe-live, or it is damaged; it is left as it is"):
        Analyzer.load(path)
    assert path.read_bytes() == content


def test_a_missing_state_and_a_directory_are_told_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(MoeLiveError, match="No such file"):
        Analyzer.load(tmp_path / "state")
    with pytest.raises(MoeLiveError, match="Is a directory"):
        Analyzer.load(tmp_path)


def sealed(members: dict[str, bytes]) -> bytes:
    """Somebody's zip with the right digest."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.comment = b"0" * DIGEST
    content = out.getvalue()[:-DIGEST]
    return content + hashlib.sha256(content).hexdigest().encode()


def test_another_version_is_named() -> None:
    head = json.dumps({"schema": "moe-live.state/999", "version": "9.9"}).encode()
    with pytest.raises(DamagedError, match=r"moe-live 9\.9 wrote it as moe-live\.state/999"):
        unpack(sealed({"state.json": head}))


@pytest.mark.parametrize("size", [1 << 60, -1, 1 << 32])
def test_nothing_is_allocated_for_arrays_that_are_not_there(size: int) -> None:
    content = pack(freeze(np.arange(5)))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    head = json.loads(members["state.json"])
    head["arrays"][0][3] = [size]
    with pytest.raises(DamagedError):
        unpack(sealed({**members, "state.json": json.dumps(head).encode()}))
    plane = members["i1.0.npy"].replace(b"(5,)", b"(%d,)" % size)
    with pytest.raises(DamagedError):
        unpack(sealed({**members, "i1.0.npy": plane}))


@pytest.mark.parametrize(
    "tree",
    [
        ["g", "os:system"],
        ["g", "moe_live.capture.command:main"],
        ["g", "moe_live.formats.sniff:json_lines.__globals__"],
        ["k", "subprocess:Popen"],
        ["k", "builtins:eval"],
        ["p", ["g", "os:system"], ["true"], []],
        ["o", 0, "true"],
        ["w", 0],
        ["x", 0, "true"],
        ["e", 0, "x"],
        ["n", 0, []],
        ["m", ["h", []], "clear"],
        ["m", ["t"], "__reduce__"],
        ["@", -1],
        ["@", 5],
        ["a", -1],
        ["?"],
        [],
        {},
        1.5,
    ],
)
def test_nothing_but_what_keeps_something_is_named_in_a_file(tree: Any) -> None:
    for classes in ([], [("subprocess:Popen", ["args"])], [("moe_live.statistics.reuse:Reuse", ["update"])]):
        with pytest.raises(DamagedError):
            thaw(Frozen(tree, classes, []))


def test_an_object_has_the_attributes_of_its_class() -> None:
    frozen = freeze(Settings())
    name, names = frozen.classes[0]
    assert names is not None
    with pytest.raises(DamagedError):
        thaw(Frozen(frozen.tree[:-1], [(name, names[:-1])], []))
    with pytest.raises(DamagedError):
        thaw(Frozen(frozen.tree, [(name, [*names[:-1], "other"])], []))


def test_what_cannot_be_in_a_file_is_not_left_out() -> None:
    with pytest.raises(TypeError, match="cannot be in a file"):
        freeze({"reader": io.BytesIO()})
    with pytest.raises(TypeError, match="cannot be in a file"):
        freeze(np.array([object()]))


def test_what_is_shared_stays_shared() -> None:
    array = np.arange(6).reshape(2, 3).T
    first, second, turned = thaw(freeze([array, array, array.T.copy().T]))
    assert first is second is not turned
    assert first.flags.f_contiguous
    first[0, 0] = 9
    assert array[0, 0] == 0
