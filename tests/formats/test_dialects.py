"""A dialect is one file, here `ranked.py`, and one line in the table; all else takes it as it is."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.analyzer import Analyzer
from moe_live.cli import main
from moe_live.formats import sniff
from moe_live.formats.dialect import Dialect, Fit
from moe_live.formats.llama_server import LLAMA_SERVER, LlamaServerDecoder, recognize
from moe_live.formats.sniff import HEAD_BYTES, HEAD_LINES, Sniffer
from moe_live.parallel.plan import plan
from moe_live.settings import Settings
from tests.analysis import snapshot_of
from tests.comparison import plain
from tests.formats.ranked import RANKED
from tests.synthetic import SyntheticLog, logs

PATCHED = [LLAMA_SERVER, RANKED]


@pytest.fixture
def ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sniff, "DIALECTS", PATCHED)


def in_ranked(text: bytes) -> bytes:
    """The expert rows of a llama-server log in the other dialect."""
    lines = []
    for line in text.splitlines():
        layer, _, experts = line.partition(b",")
        if layer.isdigit():
            lines += [b"layer " + layer, *(b"  " + expert for expert in experts.split())]
    return b"".join(line + b"\n" for line in lines)


def cut_anywhere(text: bytes, data: st.DataObject) -> list[bytes]:
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    return [text[begin:end] for begin, end in zip([0, *places], [*places, len(text)], strict=True)]


@pytest.mark.usefixtures("ranked")
def test_one_log_in_two_dialects_has_the_same_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = b"3,1 2\n7,1 4\n3,4 5\n7,6 1\n" * 40
    outputs = []
    for name, text in (("llama-server", steps), ("ranked", in_ranked(steps))):
        path = tmp_path / name
        path.write_bytes(text)
        assert main([str(path), "--json", "-"]) == 0
        summary = json.loads(capsys.readouterr().out)
        source = summary.pop("source")
        assert source["format"] == name
        assert source["malformed_lines"] == 0
        outputs.append(summary)
    assert outputs[0] == outputs[1]
    assert outputs[0]["steps"]["decode"] == 80


@given(logs(), st.data())
def test_a_log_cut_anywhere_is_told_to_be_the_same(log: SyntheticLog, data: st.DataObject) -> None:
    """Of a log of expert rows, in either dialect, perhaps behind lines that are of none."""
    text = data.draw(st.sampled_from([b"", b"junk\n" * 3, b"junk\n" * (HEAD_LINES - 1), b"3,1\n"])) + log.text
    if data.draw(st.booleans()):
        text = text.replace(log.text, in_ranked(log.text))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sniff, "DIALECTS", PATCHED)
        whole, pieces = snapshot_of(text), snapshot_of(*cut_anywhere(text, data))
    assert plain(pieces) == plain(whole)
    assert whole.input.tally.bytes == len(text)


@given(logs(), st.data())
def test_other_dialects_change_nothing_in_a_log_of_llama_server(
    log: SyntheticLog, data: st.DataObject
) -> None:
    alone = snapshot_of(log.text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sniff, "DIALECTS", PATCHED)
        among_others = snapshot_of(*cut_anywhere(log.text, data))
    assert plain(among_others) == plain(alone)


@pytest.mark.parametrize(
    ("head", "dialect"),
    [
        (b"layer_id,expert_ids\n", LLAMA_SERVER),
        (b"layer_id,expert_ids\r\n", LLAMA_SERVER),
        (b"3,1 2\n", LLAMA_SERVER),
        (b"gate_input,3,0,0.5\n", LLAMA_SERVER),
        (b"layer 3\n", RANKED),
        (b"junk\nlayer 3\n3,1 2\n", RANKED),
        (b"junk\n3,1 2\nlayer 3\n", LLAMA_SERVER),
        (b"3,1\nlayer 3\n", RANKED),  # what is certain goes before what is possible
        (b"layer 3", None),  # the line is not complete
        (b"3,1\n", None),
        (b"junk\n" * HEAD_LINES + b"layer 3\n", LLAMA_SERVER),
        (b"j" * HEAD_BYTES + b"\nlayer 3\n", LLAMA_SERVER),
    ],
)
@pytest.mark.usefixtures("ranked")
def test_the_first_line_that_is_certain_decides(head: bytes, dialect: Dialect | None) -> None:
    assert Sniffer().feed(head) is dialect
    sniffer = Sniffer()
    one_by_one = [sniffer.feed(bytes([byte])) for byte in head]
    assert next(filter(None, one_by_one), None) is dialect


@pytest.mark.usefixtures("ranked")
def test_a_log_that_ends_before_anything_is_certain_is_of_the_first_that_is_possible() -> None:
    sure_of_nothing = dataclasses.replace(RANKED, recognize=lambda _: Fit.NONE)
    for text, dialects, name in (
        (b"3,1\n7,1\n", PATCHED, "llama-server"),
        (b"3,1\n7,1\n", [sure_of_nothing, LLAMA_SERVER], "llama-server"),
        (b"junk\n", [RANKED, LLAMA_SERVER], "ranked"),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sniff, "DIALECTS", dialects)
            snapshot = snapshot_of(text)
        assert snapshot.input.format == name
        assert snapshot.input.tally.lines == text.count(b"\n")


@pytest.mark.usefixtures("ranked")
def test_until_it_is_known_nothing_is_counted_but_bytes() -> None:
    analyzer = Analyzer()
    analyzer.feed(b"3,1\n7,")
    snapshot = analyzer.snapshot()
    assert (snapshot.input.format, snapshot.input.tally.bytes, snapshot.input.tally.lines) == ("", 6, 0)


@pytest.mark.usefixtures("ranked")
def test_a_dialect_that_is_not_cut_is_read_by_one_process(tmp_path: Path) -> None:
    steps = b"3,1 2\n7,1 4\n" * 1000
    for text, cut in ((steps, True), (in_ranked(steps), False)):
        path = tmp_path / "log"
        path.write_bytes(text)
        parts = plan([str(path)], 2, Settings(), min_bytes=0, part_bytes=2000)
        assert bool(parts) is cut
        assert all(part.dialect is LLAMA_SERVER for part in parts)


@given(logs())
def test_what_llama_server_writes_is_recognized_as_its_dialect(log: SyntheticLog) -> None:
    lines = log.text.split(b"\n")[:-1]
    decoder = LlamaServerDecoder()
    rows = sum(len(records.layer) + len(records.gates.layer) for records in decoder.feed(log.text))
    assert (recognize(lines) is not Fit.NONE) >= (rows > 0)
