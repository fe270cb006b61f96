"""Data classes that are made in a quarter of the time: a run makes 120 of them before it reads anything.

Python compiles seven methods for each frozen data class. Here only `__init__` is compiled; what compares,
hashes and shows objects is the same for all classes and looks at their fields. That nobody changes a frozen
object is left to the type checker, which sees the data classes of the standard library.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # noqa: PLC0414 - for whoever imports it from here
else:
    from collections.abc import Callable

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
                cls.__eq__ = _equal
                if "__hash__" not in own:
                    cls.__hash__ = _hashed if frozen else None
            return cls

        return made


def _shown(self: Any) -> str:
    fields = (
        f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr
    )
    return f"{type(self).__qualname__}({', '.join(fields)})"


def _content(self: Any) -> tuple[object, ...]:
    return tuple(getattr(self, field.name) for field in dataclasses.fields(self) if field.compare)


def _equal(self: Any, other: object) -> bool:
    return _content(self) == _content(other) if type(self) is type(other) else NotImplemented


def _hashed(self: Any) -> int:
    return hash(_content(self))
