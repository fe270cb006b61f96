"""`compare`: two logs of one text, of others, and two labels of one log."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moe_live
from moe_live.cli import main
from tests.plans.logs import write_log
from tests.pseudo_terminal import MOE_LIVE, PseudoTerminal
from tests.statistics.drawn_steps import chosen

LAYERS = (3, 4, 7)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compare")


@pytest.fixture(scope="module")
def one(directory: Path) -> tuple[str, str]:
    """Two logs of one text: each row has two of four experts in common, the best one always."""
    rng = np.random.default_rng(1)
    rows = np.stack([rng.permutation(16) for _ in range(200 * 3)]).reshape(200, 3, 16)
    return (
        write_log(directory / "a.log", rows[..., :4], LAYERS),
        write_log(directory / "b.log", rows[..., [0, 5, 1, 6]], LAYERS),
    )


@pytest.fixture(scope="module")
def others(directory: Path) -> tuple[str, str]:
    rng = np.random.default_rng(2)
    scores = rng.normal(0, 1, (3, 16))
    first, second = (
        write_log(directory / f"other{number}.log", chosen(rng, scores, 4, (200, 3)), LAYERS)
        for number in range(2)
    )
    return first, second


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["compare", *arguments, "--json", "-"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_it_can_be_looked_at_in_the_dashboard(
    one: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *one, "--browse"]) == 2
    assert "--browse needs a terminal" in capsys.readouterr().err
    with PseudoTerminal([*MOE_LIVE, "compare", *one, "--browse"]) as terminal:
        terminal.wait_for("one text: 2.00 of 4 experts of a row in common (50.0%)")
        terminal.wait_for("A and B")
        terminal.press(b"6")
        terminal.wait_for("MaxVio")
        terminal.press(b"q")
        assert terminal.wait() == 0
    assert b"compare: one text: 2.00 of 4" in terminal.output.rpartition(b"\x1b[?1049l")[2]


def test_one_text_row_by_row(one: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, *one)
    assert (found["schema"], found["names"]) == ("moe-live.compare/1", list(one))
    assert (found["same_text"], found["agreement"]) == (True, 0.5)
    rows = found["rows"]
    assert (rows["pairs"], rows["matched"], rows["in_common"]) == (600, 1.0, 0.5)
    assert rows["in_common_shifted"] == pytest.approx(0.25, abs=0.03)
    assert rows["layers"] == [
        {"layer": layer, "pairs": 200, "in_common": 2.0, "top_k": 4.0}
        | {"top_equal": 1.0, "all_equal": 0.0, "first_step": 0}
        for layer in LAYERS
    ]
    assert (rows["first"]["step"], rows["first"]["layer"], rows["first"]["token"]) == (0, 3, 0)
    assert found["usage"]["layers"] == list(LAYERS)


def test_one_text_in_words(one: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *one]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"compare: A is {one[0]}"
    assert out[2].startswith("compare rows: 100.0% have a counterpart; experts in common 50.0%, of rows of ")
    assert out[4].split() == [
        "compare",
        "rows",
        "layer",
        "3",
        "200",
        "2.00",
        "of",
        "4",
        "100.0%",
        "0.0%",
        "step",
        "1",
    ]
    assert out[-1] == "compare: one text: 2.00 of 4 experts of a row in common (50.0%)"
    assert max(map(len, out[2:])) < 110


def test_other_texts_as_a_whole(others: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, *others)
    assert found["same_text"] is False
    assert found["agreement"] == pytest.approx(np.mean(found["usage"]["in_common"]))
    assert found["agreement"] > 0.9
    assert min(found["usage"]["hot_in_both"]) > 0
    for between, a, b in zip(
        found["usage"]["js_between_halves"], *found["usage"]["js_within"], strict=True
    ):  # one model: what the logs differ by is what each differs from itself
        assert between < 3 * max(a, b)
    assert main(["compare", *others]) == 0
    assert "compare: other texts: " in capsys.readouterr().out
    forced = as_json(capsys, *others, "--same-text")
    assert (forced["same_text"], forced["agreement"]) == (True, forced["rows"]["in_common"])


def test_fail_below(
    one: tuple[str, str], others: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *one, "--fail-below", "0.5"]) == 0
    assert main(["compare", *one, "--fail-below", "0.51"]) == 1
    assert capsys.readouterr().err == "moe-live: 0.500 in common, less than 0.51\n"
    assert main(["compare", one[0], one[0], "--fail-below", "1"]) == 0
    assert main(["compare", *others, "--fail-below", "0.9"]) == 0


def test_equal_logs_are_equal(one: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, one[0], one[0])
    assert (found["agreement"], found["rows"]["first"]) == (1.0, None)
    assert {entry["first_step"] for entry in found["rows"]["layers"]} == {None}
    assert set(found["usage"]["js"]) == {0.0}


def test_logs_of_other_lengths_are_held_against_each_other_as_a_whole(
    one: tuple[str, str], directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = directory / "short.log"
    short.write_text("\n".join(Path(one[0]).read_text().splitlines()[:301]) + "\n")
    found = as_json(capsys, one[0], str(short))
    assert (found["same_text"], found["rows"]["pairs"]) == (False, 300)
    assert found["rows"]["matched"] == pytest.approx(600 / 900)


def test_states_are_held_against_each_other_as_a_whole(
    others: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    states: list[str] = []
    for log in others:
        analyzer = moe_live.Analyzer()
        analyzer.feed(Path(log).read_bytes())
        analyzer.finish()
        state = tmp_path / f"{len(states)}.state"
        analyzer.save(state)
        states.append(str(state))
    of_logs = as_json(capsys, *others)
    for sides in (states, [others[0], states[1]], [states[0], others[1]]):
        found = as_json(capsys, *sides)
        assert found["names"] == sides
        assert found["rows"] is None
        assert found["same_text"] is None
        for key in ("layers", "in_common", "hot_in_both", "js"):
            assert found["usage"][key] == of_logs["usage"][key]
        assert found["figures"] == of_logs["figures"]
    assert main(["compare", *states]) == 0
    said = capsys.readouterr().out
    assert "compare: states have no rows: " in said
    assert "compare rows" not in said
    assert main(["compare", *states, "--fail-below", "1"]) == 1
    capsys.readouterr()
    assert main(["compare", *states, "--same-text"]) == 2
    assert "a state has no rows that could be those of one text" in capsys.readouterr().err
    assert moe_live.compare(*states).rows is None


def test_labels_of_one_log(
    others: tuple[str, str], directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [Path(path).read_text().splitlines()[1:] for path in others]
    labelled = directory / "labelled.log"
    labelled.write_text("\n".join(["# label: math", *lines[0], "# label: code", *lines[1], ""]))
    found = as_json(capsys, str(labelled), "--labels", "math", "code")
    assert (found["names"], found["rows"]) == (["math", "code"], None)
    assert found["usage"]["in_common"] == as_json(capsys, *others)["usage"]["in_common"]
    of_logs = as_json(capsys, *others)["figures"]
    assert found["figures"] == [
        {name: value for name, value in figures.items() if name not in ("overlap", "lru")}
        for figures in of_logs
    ]
    assert all(figures["overlap"] > 0.25 and figures["lru"] > 0.25 for figures in of_logs)
    assert main(["compare", str(labelled), "--labels", "math", "code"]) == 0
    assert "compare experts that serve 90 %, mean of layers" in capsys.readouterr().out
    assert main(["compare", str(labelled), "--labels", "math", "prose"]) == 2
    assert "there is no label prose in the log: its labels are code, math" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["A"], "give two LOGs, or one and --labels A B"),
        (["A", "A", "A"], "give two LOGs"),
        (["A", "B", "--labels", "x", "y"], "give two LOGs"),
        (["A", "/nonexistent"], "cannot read /nonexistent"),
        (["A", "B", "--fail-below", "2"], "not a share from 0 to 1"),
        (["A", "B", "--same-text", "--other-texts"], "not allowed with argument"),
        (["A", "B", "--json", "A"], "it is the log itself"),
        (["A", "--labels", "x", "y"], "it has no labels"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str], said: str, one: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    names = dict(zip("AB", one, strict=True))
    assert main(["compare", *(names.get(word, word) for word in arguments)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err


def test_other_models_and_no_logs(
    one: tuple[str, str], directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = chosen(np.random.default_rng(3), np.zeros((2, 16)), 4, (20, 2))
    assert main(["compare", one[0], write_log(directory / "c.log", rows, (0, 1))]) == 1
    assert "no layer in common" in capsys.readouterr().err
    (directory / "none.log").write_text("hello\n")
    assert main(["compare", one[0], str(directory / "none.log")]) == 1
    assert "no usable line in " in capsys.readouterr().err


def test_from_python(one: tuple[str, str]) -> None:
    found = moe_live.compare(Path(one[0]), one[1])
    assert isinstance(found, moe_live.Comparison)
    assert (found.agreement, found.same_text, found.layers) == (0.5, True, LAYERS)


def test_two_quantisations_of_a_model(
    real_logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = real_logs.parent / "cases"
    if not cases.is_dir():
        pytest.skip("no ../shared/cases")
    for name in ("base.log", "c13_q4.log"):
        (tmp_path / name).write_bytes(gzip.decompress((cases / f"{name}.gz").read_bytes()))
    found = as_json(capsys, str(tmp_path / "base.log"), str(tmp_path / "c13_q4.log"))
    assert found["same_text"] is True
    assert 6 * found["agreement"] == pytest.approx(5.45, abs=0.005)
    texts = as_json(capsys, *(str(cases / f"c09_{topic}.log.gz") for topic in ("math", "code")))
    assert texts["same_text"] is False
