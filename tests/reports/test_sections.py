"""The sections of the reports: how one is added, and what becomes of the others if one fails."""

from collections.abc import Iterator

import pytest

from moe_live.errors import StoppedError
from moe_live.reports import json_report, summary
from moe_live.reports.json_report import to_json
from moe_live.reports.section import Keys, ReportSection
from moe_live.reports.sections import SECTIONS
from moe_live.reports.summary import summary_lines
from moe_live.snapshot import Snapshot
from tests.reports.snapshots import FULL, analyzed_with_labels

NAMES = [section.name for section in SECTIONS]


# What a module of moe_live/reports/sections holds; the line in the table is the one of `register`.


def idle_lines(snapshot: Snapshot, _: int) -> Iterator[str]:
    if snapshot.layers:
        yield ""
        for entry in snapshot.layers:
            yield f"idle layer {entry.layer}: {len(entry.usage.counts) - entry.usage.experts_used} experts"


def idle_keys(snapshot: Snapshot) -> Keys:
    unused = [(entry.usage.counts == 0).nonzero()[0].tolist() for entry in snapshot.layers]
    return Keys(
        {"idle": {"layers": sum(map(bool, unused))}},
        [{"idle": experts} for experts in unused],
        {"idle": (snapshot.overall.counts == 0).nonzero()[0].tolist()},
    )


def register(monkeypatch: pytest.MonkeyPatch, *sections: ReportSection) -> None:
    for report in (json_report, summary):
        monkeypatch.setattr(report, "SECTIONS", sections)


def test_a_section_is_one_file_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    text, keys = list(summary_lines(FULL)), to_json(FULL)
    register(monkeypatch, *SECTIONS, ReportSection("idle experts", idle_lines, idle_keys))
    assert list(summary_lines(FULL)) == [
        *text,
        "",
        "idle layer 3: 3 experts",
        "idle layer 4: 11 experts",
        "idle layer 5: 12 experts",
    ]
    with_idle = to_json(FULL)
    assert with_idle.pop("idle") == {"layers": 3}
    assert with_idle["overall"].pop("idle") == [1, 9, 11]
    of_layers = [layer.pop("idle") for layer in with_idle["layers"]]
    assert [len(experts) for experts in of_layers] == [3, 11, 12]
    assert with_idle == keys


@pytest.mark.parametrize("failing", NAMES)
def test_a_section_that_fails_takes_no_other_with_it(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = analyzed_with_labels()
    whole, whole_text = to_json(snapshot), list(summary_lines(snapshot))

    def fail(*_: object) -> Iterator[str]:
        yield "half of"
        raise ZeroDivisionError("by\x1b zero")

    def fail_at_once(_: Snapshot) -> Keys:
        raise ZeroDivisionError("by\x1b zero")

    broken = [
        ReportSection(section.name, fail, fail_at_once) if section.name == failing else section
        for section in SECTIONS
    ]
    (own,) = (section for section in SECTIONS if section.name == failing)
    own_keys, own_text = own.keys(snapshot), list(own.lines(snapshot, 10))
    register(monkeypatch, *broken)
    said = f"the section {failing} left out, making it failed: ZeroDivisionError: by\\x1b zero; "
    found = to_json(snapshot)
    *others, left_out = found["warnings"]
    assert (others, left_out[: len(said)]) == (whole["warnings"], said)
    for name, value in own_keys.summary.items():
        assert name not in found
        found[name] = value
    for layer, keys in zip(found["layers"], own_keys.layers, strict=bool(own_keys.layers)):
        assert not layer.keys() & keys.keys()
        layer.update(keys)
    assert not found["overall"].keys() & own_keys.overall.keys()
    found["overall"].update(own_keys.overall)
    assert found | {"warnings": whole["warnings"]} == whole
    text = list(summary_lines(snapshot))
    assert text.count(f"warning: {left_out}") == 1
    assert "half of" not in text
    text.remove(f"warning: {left_out}")
    assert sorted([*text, *own_text]) == sorted(whole_text)


def test_a_wrong_number_of_layers_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    section = ReportSection("torn", lambda *_: (), lambda _: Keys({"torn": 1}, [{"torn": 1}]))
    register(monkeypatch, *SECTIONS, section)
    found = to_json(FULL)
    assert "torn" not in found
    assert "torn" not in found["layers"][0]
    assert found["warnings"][-1].startswith(
        "the section torn left out, making it failed: ValueError: 1 layers instead of 3; "
    )


def test_what_ends_the_run_is_no_failure_of_a_section(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> Keys:
        raise StoppedError("the terminal has gone", 1)

    def stopped_lines(*_: object) -> Iterator[str]:
        yield ""
        raise StoppedError("the terminal has gone", 1)

    register(monkeypatch, *SECTIONS, ReportSection("stopped", stopped_lines, stopped))
    with pytest.raises(StoppedError):
        to_json(FULL)
    with pytest.raises(StoppedError):
        list(summary_lines(FULL))


def test_no_two_sections_have_a_name_or_a_key_in_common() -> None:
    assert len(set(NAMES)) == len(NAMES)
    snapshot = analyzed_with_labels()
    made = [section.keys(snapshot) for section in SECTIONS]
    of_reports = [{"schema", "tool", "layers", "overall", "warnings"}]
    of_layers = [{key for layer in keys.layers for key in layer} for keys in made]
    for names in (
        [*of_reports, *[set(keys.summary) for keys in made]],
        [{"layer"}, *of_layers],
        [set(keys.overall) for keys in made],
    ):
        assert sum(map(len, names)) == len(set().union(*names))
