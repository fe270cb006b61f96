"""Data classes that are made in a quarter of the time: a run makes 120 of them before it reads anything.

Python compiles seven methods for each frozen data class. Here only `__init__` is compiled; what shows,
compares and hashes objects looks at their fields. That nobody changes a frozen object is left to the type
checker, which sees the data classes of the standard library.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # noqa: PLC0414 - for whoever imports it from here
else:

    def dataclass(
        *,
        frozen: bool = False,
        slots: bool = False,
        eq: bool = True,
        repr: bool = True,  # noqa: A002 - its name in the standard library
        kw_only: bool = False,
    ) -> Callable[[type], type]:
        """See `dataclasses.dataclass`."""

        def made(cls: type) -> type:
            own = vars(cls)
            cls = dataclasses.dataclass(cls, eq=False, repr=False, slots=slots, kw_only=kw_only)
            if repr and "__repr__" not in own:
                cls.__repr__ = _shown
            if eq and "__eq__" not in own:
                cls.__eq__, hashed = _comparing(
                    [field.name for field in dataclasses.fields(cls) if field.compare]
                )
                if "__hash__" not in own:
                    cls.__hash__ = hashed if frozen else None
            return cls

        return made


def _shown(self: Any) -> str:
    fields = (
        f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr
    )
    return f"{type(self).__qualname__}({', '.join(fields)})"


def _comparing(names: list[str]) -> tuple[Callable[[Any, object], bool], Callable[[Any], int]]:
    """What compares objects of one class by these attributes, and what hashes them."""
    if len(names) > 1:  # some are asked for in each frame, and this takes a fifth
        content: Callable[[Any], tuple[object, ...]] = attrgetter(*names)
    else:

        def content(self: Any) -> tuple[object, ...]:
            return tuple(getattr(self, name) for name in names)

    def equal(self: Any, other: object) -> bool:
        return content(self) == content(other) if type(self) is type(other) else NotImplemented

    def hashed(self: Any) -> int:
        return hash(content(self))

    return equal, hashed
