"""An engine of one thread whose tasks end in any order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from moe_live.many.tasks import Found, Told


class LateTask:
    def __init__(self, function: Callable[..., Found], arguments: tuple[object, ...]) -> None:
        self._function, self._arguments = function, arguments
        self._found: Found | None = None

    def done(self) -> bool:
        return self._found is not None

    def told(self) -> Told:
        return self.found().told

    def found(self) -> Found:
        assert self._found is not None
        return self._found

    def run(self) -> None:
        if self._found is None:
            for each in self._arguments:
                if isinstance(each, LateTask):
                    each.run()
            self._found = self._function(
                *(each.found() if isinstance(each, LateTask) else each for each in self._arguments)
            )


class AnyOrder:
    """Runs one of the tasks at each `wait`, drawn by chance."""

    name = "a thread"

    def __init__(self, seed: int, workers: int = 3) -> None:
        self.workers = workers
        self._rng = np.random.default_rng(seed)
        self._tasks: list[LateTask] = []

    def submit(self, function: Callable[..., Found], *arguments: object) -> LateTask:
        self._tasks.append(LateTask(function, arguments))
        return self._tasks[-1]

    def wait(self, seconds: float) -> None:  # noqa: ARG002 - nothing takes time
        self._tasks.pop(int(self._rng.integers(len(self._tasks)))).run()

    def close(self) -> None:
        pass
