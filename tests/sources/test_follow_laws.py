"""Any sequence of writing, rotating, copying, cutting, deleting, stopping and reading (F26, F28 to F32).

The laws, for lines that are all different:

- nothing is received that does not stand so in a file, and lines are never joined;
- what stands where the follower looks, when it looks, is received: in the log, in the files rotated or
  copied meanwhile, compressed or not, and until the end of the grace period in those it holds;
- nothing is received twice, but for as many lines as the follower says at most;
- lines come in the order of files (unless a former one is brought back, or names cannot tell), and within
  a file in the order of writing;
- what is lost though the follower could see that something was, is told, and for how long it had not looked.

The number of sequences for each of the machines comes from MOE_LIVE_SEQUENCES (default 60).
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from moe_live.sources.follow import GRACE_S
from moe_live.sources.source import Break

from .reader import Reader
from .world import ID, Names, World

SEQUENCES = int(os.environ.get("MOE_LIVE_SEQUENCES", "60"))

sizes = st.integers(0, 400)


class Machine(RuleBasedStateMachine):
    """Does something to the log, or lets the follower read, or stops it for a while."""

    watch = False
    limits = (1, 7, 100, 5000, 1 << 20)
    world: World

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.reader = Reader(self.directory / "logs" / "moe.log", watch=self.watch)
        self.is_stopped = False
        self.checked = 0
        self.places: list[tuple[int, int, int]] = []

    @initialize(
        names=st.sampled_from(Names),
        symlinked=st.booleans(),
        appending=st.booleans(),
        buffer=st.sampled_from([1, 1, 64, 1000]),
    )
    def begin(self, *, names: Names, symlinked: bool, appending: bool, buffer: int) -> None:
        self.world = World(
            self.directory,
            self.reader.clock,
            names=names,
            symlinked=symlinked,
            appending=appending,
            buffer=buffer,
        )

    # The server

    @precondition(lambda self: self.world.server is not None)
    @rule(count=st.integers(1, 30), size=sizes)
    def write(self, count: int, size: int) -> None:
        self.world.write(count, size)

    @precondition(lambda self: self.world.server is not None)
    @rule(size=sizes, held_back=st.integers(1, 400))
    def write_part(self, size: int, held_back: int) -> None:
        self.world.write(1, size, held_back=held_back)

    @precondition(lambda self: self.world.server is None or self.world.at_path is not self.world.server)
    @rule(header=st.booleans())
    def start_server(self, *, header: bool) -> None:
        self.world.start_server(header=header)

    # The operator

    @precondition(lambda self: self.world.at_path is not None)
    @rule(successor=st.booleans())
    def rotate(self, *, successor: bool) -> None:
        self.world.rotate(successor=successor)

    @rule(steps=st.integers(1, 3), keeping_time=st.booleans())
    def compress(self, steps: int, *, keeping_time: bool) -> None:
        self.world.compress(steps, keeping_time=keeping_time)

    @rule()
    def remove_oldest(self) -> None:
        self.world.remove_oldest()

    @rule()
    def delete(self) -> None:
        self.world.delete()

    @rule(steps=st.integers(1, 8))
    def bring_back(self, steps: int) -> None:
        self.world.bring_back(steps)

    @rule()
    def delete_directory(self) -> None:
        self.world.delete_directory()

    # The follower

    @precondition(lambda self: not self.is_stopped)
    @rule()
    def stop(self) -> None:
        self.is_stopped = True

    @precondition(lambda self: self.is_stopped)
    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 1000.0]))
    def go_on(self, seconds: float) -> None:
        self.is_stopped = False
        self.reader.clock.now += seconds

    @precondition(lambda self: not self.is_stopped)
    @rule(limit=st.integers(0, 4), times=st.integers(1, 5))
    def read(self, limit: int, times: int) -> None:
        for _ in range(times):
            self.world.look()
            self.reader.feed(self.reader.follower.read(self.limits[limit]))
            self.check()

    @precondition(lambda self: not self.is_stopped)
    @rule(seconds=st.sampled_from([0.05, 0.25, 0.9, 5.0]))
    def pause(self, seconds: float) -> None:
        self.reader.clock.now += seconds
        self.world.look()
        self.reader.read()
        self.check()

    def check(self) -> None:
        """Hold what was received since the last time against what stands in the files."""
        for text in self.reader.lines[self.checked :]:
            found = ID.search(text)
            if found is not None:
                line = self.world.lines[int(found[1])]
                assert text in line.texts
                line.received += 1
                if line.received == 1:
                    self.places.append(line.place)
        self.checked = len(self.reader.lines)

    def teardown(self) -> None:
        self.world.look()
        for _ in range(2 * len(self.world.files) + 2):
            self.reader.clock.now += GRACE_S + 0.01
            self.reader.read()
        self.reader.follower.close()
        self.check()
        lines = self.world.lines
        assert [number for number, line in lines.items() if line.is_certain and not line.received] == []
        if self.world.is_in_order:
            assert all(a < b for a, b in itertools.pairwise(self.places))

        status = self.reader.follower.status()
        double = sum(max(0, line.received - 1) for line in lines.values())
        assert double <= status.gaps.repeated_lines + self.reader.breaks.count(Break.RESTARTED)

        lost = [unseen for line, unseen in self.world.lost if not line.received]
        told = status.gaps
        assert (
            not lost or told.uncertain + told.missing_files + told.emptied + told.shortened + told.lost_bytes
        )
        assert told.lost_bytes or max(lost, default=0) <= told.unseen_seconds + told.cut_seconds + 1e-6

        self.world.close()
        shutil.rmtree(self.directory)


class CuttingMachine(Machine):
    """The operator empties and cuts the log as well, and servers that start again empty theirs."""

    limits = (50, 70, 100, 5000, 1 << 20)  # so that no two different texts begin with what was read

    @precondition(lambda self: self.world.at_path is not None)
    @rule(share=st.one_of(st.just(0.0), st.just(0.5), st.floats(0, 1)))
    def cut(self, share: float) -> None:
        self.world.cut(share)

    @precondition(lambda self: self.world.server is not None and self.world.server is self.world.at_path)
    @rule(count=st.integers(1, 60), header=st.booleans(), size=sizes)
    def restart_server(self, count: int, size: int, *, header: bool) -> None:
        self.world.restart_server(count, size, header=header)

    @precondition(lambda self: self.world.at_path is not None and not self.world.symlinked)
    @rule(keeping=st.sampled_from([True, True, True, False]), looks=st.sampled_from([0, 0, 1, 3]))
    def copy_and_empty(self, *, keeping: bool, looks: int) -> None:
        def meanwhile() -> None:
            if looks and not self.is_stopped:
                self.read(limit=4, times=looks)

        self.world.copy_and_empty(keeping=keeping, meanwhile=meanwhile)


class WatchedMachine(Machine):
    watch = True


class WatchedCuttingMachine(CuttingMachine):
    watch = True


def run(machine: type[Machine], sequences: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=sequences,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )


@pytest.mark.parametrize("machine", [Machine, CuttingMachine, WatchedMachine, WatchedCuttingMachine])
def test_f26_any_sequence(machine: type[Machine]) -> None:
    run(machine, SEQUENCES)
