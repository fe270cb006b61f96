"""`plan prune`: what is hardly used, what would be lost, and the lists it writes and reads."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.cli import main
from moe_live.errors import UsageError
from moe_live.plans.prune_list import read_prune_list, write_prune_list
from tests.plans.logs import write_log
from tests.statistics.drawn_steps import chosen

LAYERS = (3, 4, 7)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prune")


@pytest.fixture(scope="module")
def uneven(directory: Path) -> str:
    rng = np.random.default_rng(1)
    return write_log(directory / "uneven.log", chosen(rng, rng.normal(0, 1, (3, 20)), 4, (200, 3)), LAYERS)


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["plan", "prune", *arguments, "--json", "-"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def counts_of(log: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    counts = np.zeros((3, 20), np.int64)
    for line in Path(log).read_text().splitlines()[1:]:
        layer, experts = line.split(",")
        for expert in experts.split():
            counts[LAYERS.index(int(layer)), int(expert)] += 1
    return counts


def test_the_least_used_are_listed_with_what_is_lost(
    uneven: str, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = directory / "list.json"
    found = as_json(capsys, uneven, "--drop", "25%", "--list", str(path))
    counts = counts_of(uneven)
    lost = 0
    for row, layer in enumerate(LAYERS):
        least = sorted(range(20), key=lambda expert: (counts[row, expert], -expert))[:5]
        entry = found["layers"][row]
        assert entry["layer"] == layer
        assert entry["dropped"] == sorted(least)
        assert entry["lost"] == counts[row, least].sum() / counts[row].sum()
        assert read_prune_list(str(path))[layer] == sorted(least)
        lost += counts[row, least].sum()
    gain = found["dropped"]["gain"]
    assert found["dropped"] | {"lost_unseen": None} == {
        "mass_lost": None,
        "experts": 15,
        "lost": lost / counts.sum(),
        "lost_unseen": None,
        "at_random": 0.25,
        "gain": gain,
        "gain_error": None,
        "holds": None,
    }
    assert found["dropped"]["lost"] < found["dropped"]["lost_unseen"] < 0.25
    assert gain == pytest.approx(0.25 - np.mean([entry["lost_unseen"] for entry in found["layers"]]))


def test_unseen_is_learned_on_one_half_and_lost_in_the_other(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = np.array([[[0, 1]]] * 40 + [[[2, 3]]] * 40)
    log = write_log(directory / "halves.log", np.concatenate((rows, rows), axis=1), (0, 1))
    found = as_json(capsys, log, "--drop", "50")
    assert (found["dropped"]["lost"], found["dropped"]["lost_unseen"]) == (0.5, 1.0)
    assert found["dropped"]["holds"] is None  # two layers tell nothing
    assert [entry["lost_unseen"] for entry in found["layers"]] == [1.0, 1.0]


def test_a_list_is_tested_on_another_log(
    uneven: str, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(directory / "some.csv")
    write_prune_list(path, [(3, 0, 1, 0.1), (3, 2, 1, 0.1), (7, 5, 0, 0.0), (9, 1, 0, 0.0), (7, 500, 0, 0.0)])
    found = as_json(capsys, uneven, "--test", path)
    counts = counts_of(uneven)
    assert found["dropped"]["experts"] == 3
    assert found["dropped"]["lost"] == (counts[0, [0, 2]].sum() + counts[2, 5]) / counts.sum()
    assert (found["dropped"]["lost_unseen"], found["dropped"]["holds"]) == (None, None)


def test_by_gate_mass(directory: Path, uneven: str, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(3)
    lines, mass = ["layer_id,expert_ids,weights"], np.zeros((3, 20))
    for line in Path(uneven).read_text().splitlines()[1:]:
        weights = np.round(np.sort(rng.dirichlet(np.ones(4)))[::-1], 4)
        lines.append(f"{line},{' '.join(f'{weight:.4f}' for weight in weights)}")
        layer, experts = line.split(",")
        np.add.at(mass[LAYERS.index(int(layer))], list(map(int, experts.split())), weights)
    (directory / "weights.log").write_text("\n".join([*lines, ""]))
    for by, values in (("count", counts_of(uneven)), ("mass", mass)):
        found = as_json(capsys, str(directory / "weights.log"), "--drop", "25", "--by", by)
        share = mass / mass.sum(axis=1, keepdims=True)
        for row, entry in enumerate(found["layers"]):
            least = np.argsort(-values[row], kind="stable")[15:]
            assert entry["dropped"] == sorted(least.tolist())
            assert entry["mass_lost"] == pytest.approx(share[row, least].sum(), abs=1e-6)
        assert (found["dropped"]["lost_unseen"] is None) == (by == "mass")
    assert as_json(capsys, uneven)["dropped"]["mass_lost"] is None
    assert main(["plan", "prune", uneven, "--by", "mass"]) == 1
    assert "the log has no weights of the experts" in capsys.readouterr().err


def test_in_words_with_labels(uneven: str, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = Path(uneven).read_text().splitlines()
    labelled = directory / "labelled.log"
    labelled.write_text("\n".join(["# label: math", *lines[:301], "# label: code", *lines[301:], ""]))
    assert main(["plan", "prune", str(labelled)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("prune: 1 of 60 experts are never chosen in 600 rows; even use would leave 0.0")
    assert sum(line.startswith("prune layer ") for line in out) == 3
    assert [line.split(":")[0] for line in out if "label" in line] == ["prune label code", "prune label math"]
    assert "prune: whether the other half uses them less cannot be told from so few layers" in out
    assert out[-2].startswith("prune: usage alone does not prove that an expert is useless")
    assert max(map(len, out)) < 110


MANY = range(18)


@pytest.mark.parametrize("run", [1, 20, 100])
def test_without_structure_nothing_is_said_to_hold(
    run: int, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Experts are used alike in the long run; successive tokens may be of one topic."""
    rng = np.random.default_rng(run)
    said = []
    for steps in (max(40, 2 * run), 200) * 6:
        topics = rng.normal(0, 0 if run == 1 else 2, (steps // run + 1, len(MANY), 16))
        scores = np.repeat(topics, run, axis=0)[:steps]
        log = write_log(directory / "even.log", chosen(rng, scores, 4, (steps, len(MANY))), MANY)
        said.append(as_json(capsys, log, "--drop", "25")["dropped"]["holds"])
    assert said == [False] * 12


def test_uneven_use_is_said_to_hold(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(4)
    rows = chosen(rng, rng.normal(0, 1, (len(MANY), 16)), 4, (100, len(MANY)))
    log = write_log(directory / "many.log", rows, MANY)
    assert as_json(capsys, log)["dropped"]["holds"] is True
    assert main(["plan", "prune", log]) == 0
    held = "prune: the experts that one half uses least the other uses less than others too"
    assert held in capsys.readouterr().out.splitlines()


ENTRIES = st.lists(
    st.tuples(st.integers(0, 1023), st.integers(0, 2047), st.integers(0, 2**40), st.floats(0, 1)),
    unique_by=lambda entry: entry[:2],
    max_size=30,
)


@given(ENTRIES, st.sampled_from(["json", "csv"]))
def test_lists_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[int, int, int, float]], suffix: str
) -> None:
    path = str(tmp_path_factory.getbasetemp() / f"back.{suffix}")
    write_prune_list(path, entries)
    found = read_prune_list(path)
    assert {(layer, expert) for layer, experts in found.items() for expert in experts} == {
        entry[:2] for entry in entries
    }
    assert all(experts == sorted(experts) for experts in found.values())


def test_csv_has_a_header_and_a_line_each(tmp_path: Path) -> None:
    write_prune_list(str(tmp_path / "l.csv"), [(3, 7, 12, 0.25)])
    assert list(csv.reader((tmp_path / "l.csv").read_text().splitlines())) == [
        ["layer", "expert", "count", "share"],
        ["3", "7", "12", "0.25"],
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"schema": "moe-live.prune/2", "experts": []}',
        '{"schema": "moe-live.prune/1"}',
        '{"schema": "moe-live.prune/1", "experts": [{"layer": 1}]}',
        '{"schema": "moe-live.prune/1", "experts": [{"layer": -1, "expert": 2}]}',
        '{"schema": "moe-live.prune/1", "experts": [{"layer": 1, "expert": 2048}]}',
        '{"schema": "moe-live.prune/1", "experts": [{"layer": true, "expert": 2}]}',
        '{"schema": "moe-live.prune/1", "experts": [7]}',
        '{"schema": "moe-live.prune/1", "experts": [{"layer": 1, "expert": 2}, {"layer": 1, "expert": 2}]}',
        '{"schema": "moe-live.prune/1", "experts": [{"layer": 1, "expert": 2}',
        "layer,expert,count,share\n1,2,3,0.5\n1,2",
        "layer,expert,count,share\n1,2,3\n",
        "layer,expert,count,share\n1,x,3,0.5\n",
        "layer,expert,count,share\n1,2,3,0.5\n1,2,3,0.5\n",
        "layer,expert,count,share\n4096,2,3,0.5\n",
    ],
)
def test_damaged_lists_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list"
    path.write_text(text)
    with pytest.raises(UsageError, match="is not a list that plan prune wrote"):
        read_prune_list(str(path))


@given(st.data())
def test_no_cut_list_is_read(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    suffix = data.draw(st.sampled_from(["json", "csv"]))
    path = tmp_path_factory.getbasetemp() / f"cut.{suffix}"
    write_prune_list(str(path), [(3, 7, 12, 0.25), (3, 9, 10, 0.125), (4, 1, 2, 0.5)])
    text = path.read_bytes()
    lines = {0} if suffix == "json" else {end + 1 for end in range(len(text)) if text[end] == 10}
    cut = data.draw(st.integers(0, len(text) - 2).filter(lambda end: end not in lines))
    path.write_bytes(text[:cut])
    with pytest.raises(UsageError):
        read_prune_list(str(path))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--drop", "0"], "not a percentage between 0 and 100"),
        (["--drop", "x"], "not a percentage between 0 and 100"),
        (["--test", "/nonexistent"], "cannot read /nonexistent"),
        (["--test", "LOG"], "is not a list that plan prune wrote"),
        (["--list", "LOG"], "it is the log itself"),
        (["--drop", "5", "--test", "x"], "not allowed with argument"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], said: str, uneven: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "prune", uneven, *(uneven if word == "LOG" else word for word in arguments)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err
