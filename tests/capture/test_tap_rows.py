"""What the tap logs of a program that computes with fake libraries: all of it, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.capture.tap_host import (
    DRAFT,
    EMBEDDINGS,
    HEAD,
    HEADER,
    HEADER_WITH_WEIGHTS,
    LATE,
    MODEL,
    TWICE,
    Built,
    compile_host,
    read_steps,
    step,
    steps,
)


def test_nothing_is_done_without_a_log(tap_host: Built) -> None:
    run = tap_host.run(None, "context:0", "steps:3")
    assert run.stderr == ""


@pytest.mark.parametrize("model", [MODEL, LATE])
@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("gate_layers", [(), (3, 6)])
def test_rows_by_their_own_stride(
    tap_host: Built, tmp_path: Path, model: int, gate_layers: tuple[int, ...], *, weights: bool
) -> None:
    log = tmp_path / "moe.log"
    wanted = {"WEIGHTS": "1"} if weights else {}
    if gate_layers:
        wanted["GATE_LAYERS"] = ",".join(map(str, gate_layers))
    run = tap_host.run(log, f"context:{model}", "step:7", "steps:2", "step:2", **wanted)
    assert run.stderr == ""
    expected = [
        step(positions, model=model, weights=weights, gate_layers=gate_layers)
        for positions in (range(7), [7], [8], [9, 10])
    ]
    assert log.read_text() == (HEADER_WITH_WEIGHTS if weights else HEADER) + "".join(expected)
    assert log.stat().st_mode & 0o777 == 0o600


def test_rows_come_through_memory_that_a_device_copies_into(tap_host: Built, tmp_path: Path) -> None:
    log, other = tmp_path / "moe.log", tmp_path / "other.log"
    pinned = Built(tap_host.directory, environ={"HOST_MEMORY": "1"})
    work = ("context:0", "step:3", "steps:2", "step:40", "free", "context:0", "step:7")
    for built, path in ((pinned, log), (tap_host, other)):
        assert built.run(path, *work, WEIGHTS="1", GATE_LAYERS="3").stderr == ""
    assert log.read_text() == other.read_text()
    assert log.read_text().count("# step") == 5


def test_a_prompt_of_several_steps_has_its_output_in_the_last(tap_host: Built, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    tap_host.run(log, "context:0:4", "step:10")
    none = [0] * 4
    assert log.read_text() == HEADER + step(range(4), outputs=none) + step(range(4, 8), outputs=none) + step(
        [8, 9]
    )


def test_rows_of_several_sequences(tap_host: Built, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    tap_host.run(log, "context:0", "prompts:3:2", "both:3", "use:0", "step:1", "both:2")
    assert log.read_text() == HEADER + "".join(
        [
            step([0, 1, 0, 1, 0, 1], [0, 0, 1, 1, 2, 2], [0, 1] * 3),
            step([2, 2, 2], [0, 1, 2], [1, 1, 1]),
            step([3]),
            step([4, 3], [0, 1], [1, 1]),
        ]
    )


def split(sequences: int, tokens: int, ubatch: int, *, grouped: bool) -> Iterator[list[tuple[int, int]]]:
    """Sequence and position of each row of each step that the fake library makes of equal prompts."""
    left = [(s, p) for s in range(sequences) for p in range(tokens)]
    while left:
        each = min(tokens, ubatch // sequences) if grouped else ubatch
        rows = [(s, p) for s, p in left if p < left[0][1] + each] if grouped else left[:ubatch]
        yield rows
        left = [row for row in left if row not in rows]


@given(
    sequences=st.integers(1, 5), tokens=st.integers(1, 9), ubatch=st.integers(1, 12), grouped=st.booleans()
)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_sequence_of_each_row_is_right_or_left_out(
    tap_host: Built, tmp_path: Path, sequences: int, tokens: int, ubatch: int, *, grouped: bool
) -> None:
    log = tmp_path / "moe.log"
    log.unlink(missing_ok=True)
    ubatch = max(ubatch, sequences)
    tap_host.run(log, f"context:0:{ubatch}{':g' if grouped else ''}", f"prompts:{sequences}:{tokens}")
    truth = list(split(sequences, tokens, ubatch, grouped=grouped))
    told = list(read_steps(log.read_text()))
    assert [step["pos"] for step in told] == [[p for _, p in rows] for rows in truth]
    for step_told, rows in zip(told, truth, strict=True):
        assert step_told["seq"] == [s for s, _ in rows]
        assert step_told["out"] == [int(p == tokens - 1) for _, p in rows]


def test_warm_ups_are_marked_until_the_first_request(tap_host: Built, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    tap_host.run(log, "context:0", "warmup", "step:3", "warmup")
    pair = [0, 1]
    assert log.read_text() == HEADER + "".join([step(pair, warmup=True) * 2, step([0, 1, 2]), step(pair) * 2])


def test_a_model_that_wakes_up_is_warmed_up_again(tap_host: Built, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    tap_host.run(log, "context:0", "warmup", "steps:2", "free", "context:0", "warmup", "steps:2")
    once = HEADER + step([0, 1], warmup=True) * 2 + steps(0, 2)
    assert log.read_text() == once * 2


def test_the_programs_own_callback_gets_what_it_asked_for(tap_host: Built, tmp_path: Path) -> None:
    log, other = tmp_path / "moe.log", tmp_path / "other.log"
    alone = tap_host.run(None, "own", "context:0", "step:5", "steps:3")
    for wanted in ({}, {"WEIGHTS": "1", "GATE_LAYERS": "2-4"}):
        both = tap_host.run(log, "own", "context:0", "step:5", "steps:3", **wanted)
        assert both.stdout == alone.stdout
        tap_host.run(other, "context:0", "step:5", "steps:3", **wanted)
        assert log.read_text() == other.read_text()


def test_a_step_that_is_broken_off_is_none(tap_host: Built, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    tap_host.run(log, "own:3", "context:0", "steps:5")
    assert log.read_text() == HEADER + steps(0, 2) + steps(3, 2)


def test_drafts_and_heads_are_left_out_or_apart(tap_host: Built, tmp_path: Path) -> None:
    log, drafts = tmp_path / "moe.log", tmp_path / "drafts.log"
    work = ("context:0", f"context:{HEAD}", f"context:{DRAFT}",
            *("use:0", "step:3", "use:1", "step:3", "use:2", "steps:2", "use:0", "steps:2"))  # fmt: skip
    run = tap_host.run(log, *work)
    assert log.read_text() == HEADER + step([0, 1, 2]) + steps(3, 2)
    assert run.stderr.count("\n") == 1
    assert "another model or draft in this program (1 layers with experts) is left out" in run.stderr
    log.unlink()
    run = tap_host.run(log, *work, DRAFTS=str(drafts))
    assert run.stderr == ""
    assert log.read_text() == HEADER + step([0, 1, 2]) + steps(3, 2)
    version, columns = HEADER.splitlines(keepends=True)
    assert drafts.read_text() == (
        HEADER + "# draft 5\n" + step([0, 1, 2], model=HEAD)
        + version + columns + "# draft 0\n# draft 1\n" + steps(0, 2, DRAFT)
    )  # fmt: skip


def test_embedding_models_never(tap_host: Built, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    run = tap_host.run(log, f"context:{EMBEDDINGS}", "step:3", "context:0", "steps:2", "use:0", "step:3")
    assert run.stderr == ""
    assert log.read_text() == HEADER + steps(0, 2)


def test_contexts_of_one_model_have_sequences_of_their_own(tap_host: Built, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    tap_host.run(log, "context:0", "context:0", "use:0", "steps:1", "use:1", "steps:1", "use:0", "steps:1")
    assert log.read_text() == HEADER + step([0]) + step([0], [256]) + step([1])


def test_contexts_that_compute_at_once_write_whole_steps(tap_host: Built, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    tap_host.run(log, "context:0", "context:0", "context:0", "threads:500")
    found = log.read_text().removeprefix(HEADER).split("# step")[1:]
    for number in range(3):
        mine = [f"# step{text}" for text in found if f" seq={256 * number} " in text]
        assert mine == [step([position], [256 * number]) for position in range(500)]
    assert len(found) == 1500


def test_another_model_takes_over_when_the_first_is_gone(tap_host: Built, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    tap_host.run(log, "context:0", "steps:2", "free", f"context:{LATE}", "steps:2")
    assert log.read_text() == HEADER + steps(0, 2) + HEADER + steps(0, 2, LATE)


def test_only_the_first_choice_of_a_layer_that_chooses_twice(tap_host: Built, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    run = tap_host.run(log, f"context:{TWICE}", "steps:2")
    assert log.read_text() == HEADER + steps(0, 2, TWICE)
    assert run.stderr == "moe-live tap: layer 2 chooses experts twice: only the first choice is logged\n"


def test_a_forked_child_is_silent(tap_host: Built, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    tap_host.run(log, "context:0", "steps:2", "fork", "steps:2", "fork")
    assert log.read_text() == HEADER + steps(0, 4)


def test_libraries_that_are_loaded_privately_and_loaded_again(tap_host: Built, tmp_path: Path) -> None:
    log = tmp_path / "moe.log"
    tap_host.run(log, "context:0", "steps:2", "reload", "steps:3", program="private")
    # Functions that are asked for by name on their library go past the tap: it does not see the batch.
    assert log.read_text() == HEADER + steps(0, 2, sequences=[]) + HEADER + steps(0, 3, sequences=[])


def test_renamed_libraries_and_two_copies_at_once(tap_host: Built, tmp_path: Path) -> None:
    built = Built(tmp_path)
    (tmp_path / "tap.so").symlink_to(tap_host.directory / "tap.so")
    compile_host(tmp_path, ggml="math-1a2b3c", llama="words-4d5e6f")
    log = tmp_path / "moe.log"
    built.run(log, "context:0", "steps:2", program="private")
    built.run(log, "context:0", "steps:2")
    assert log.read_text() == HEADER + steps(0, 2, sequences=[]) + HEADER + steps(0, 2)
    # One copy after the other, both in memory.
    log.unlink()
    two = Built(tap_host.directory, environ={"SECOND_LIBRARY": str(tmp_path / "libwords-4d5e6f.so")})
    two.run(log, "context:0", "steps:2", "reload", "steps:3", program="private")
    assert log.read_text() == HEADER + steps(0, 2, sequences=[]) + HEADER + steps(0, 3, sequences=[])
    # A program that is linked with one copy loads a library that is linked with another: it gets its own.
    log.unlink()
    mixed = Built(tap_host.directory, behind=str(tmp_path / "libmath-1a2b3c.so"))
    mixed.run(log, "context:0", "steps:2", program="private")
    assert log.read_text() == HEADER + steps(0, 2, sequences=[])


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("-DOTHER_LAYOUT", "lays out its tensors differently"),
        ("-DLACKS_GET_NAME", "has no ggml_get_name"),
        ("-DKEEPS_NOTHING", "gives graphs their memory in another way"),
    ],
)
def test_it_steps_aside_where_it_does_not_fit(
    tap_host: Built, tmp_path: Path, flag: str, reason: str
) -> None:
    compile_host(tmp_path, flag)
    (tmp_path / "tap.so").symlink_to(tap_host.directory / "tap.so")
    log = tmp_path / "moe.log"
    run = Built(tmp_path).run(log, "context:0", "step:5", "steps:3")
    assert run.stderr.count("\n") == 1
    assert reason in run.stderr
    assert "nothing is logged" in run.stderr
    assert not log.exists()


def test_a_setting_that_cannot_be_read_is_told(tap_host: Built, tmp_path: Path) -> None:
    for wrong in ("x", "3-", "5-2", "1,,2", "2000", "-1"):
        run = tap_host.run(tmp_path / "moe.log", "context:0", "steps:1", GATE_LAYERS=wrong)
        assert f"MOE_LIVE_GATE_LAYERS={wrong} is not a list of layers" in run.stderr
        assert run.stderr.count("\n") == 1
        assert not (tmp_path / "moe.log").exists()
