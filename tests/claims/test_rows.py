"""Whether rows are real, on logs of which that is known."""

from __future__ import annotations

import pytest

from tests.claims.rows import SOUND_SHAPES, of_mixed_logs, of_sound_logs


def test_no_sound_log_is_called_strided() -> None:
    tally = of_sound_logs(2 * len(SOUND_SHAPES), seed=1)
    assert not tally.wrong, "\n".join(tally.lines("sound"))
    assert tally.said["sound"] >= len(SOUND_SHAPES)


def test_no_mix_is_called_sound_against_chance() -> None:
    tally = of_mixed_logs(33, seed=2)
    assert not tally.wrong, "\n".join(tally.lines("mixed"))
    assert tally.said["strided in part"] >= 10


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_400_sound_logs_and_200_mixes() -> None:
    assert len(SOUND_SHAPES) == 24
    sound, mixed = of_sound_logs(400, seed=3), of_mixed_logs(200, seed=4)
    report = "\n".join((*sound.lines("sound"), *mixed.lines("mixed")))
    print(report)  # noqa: T201 - it is the report
    assert not sound.wrong, report
    assert not mixed.wrong, report
