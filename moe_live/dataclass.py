"""Data classes that are made in a tenth of the time: a run makes 120 of them before it reads anything.

Python compiles seven methods for each frozen data class. Here only `__init__` is compiled, when the first
object is made: a run needs no more than half of them. What shows, compares and hashes objects looks at their
fields. That nobody changes a frozen object is left to the type checker, which sees the data classes of the
standard library.
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
            cls = dataclasses.dataclass(cls, init=False, eq=False, repr=False, slots=slots, kw_only=kw_only)
            if "__post_init__" in own:  # others may give it anything, and want to see what it takes
                cls.__init__ = _initializer(cls)
            elif "__init__" not in own:
                cls.__init__ = _compiled_when_called(cls)
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


def _compiled_when_called(cls: Any) -> Callable[..., None]:
    """An `__init__` that the first call replaces by one that is compiled for the class."""

    def __init__(self: Any, *args: object, **kwargs: object) -> None:  # noqa: N807 - as it is shown
        cls.__init__ = _initializer(cls)
        cls.__init__(self, *args, **kwargs)

    return __init__


def _initializer(cls: Any) -> Callable[..., None]:
    """Takes the fields of a class by place or name, as that of the standard library does."""
    names: dict[str, Any] = {"_unset": dataclasses.MISSING}
    parameters, body = ["self"], ["pass"]
    for field in sorted(dataclasses.fields(cls), key=attrgetter("kw_only")):
        value = field.name
        if not field.init:
            raise TypeError(f"{cls.__qualname__}.{field.name}: every field is a parameter here")
        if field.kw_only and "*" not in parameters:
            parameters.append("*")
        if field.default_factory is not dataclasses.MISSING:
            names[f"_new_{field.name}"] = field.default_factory
            value = f"_new_{field.name}() if {field.name} is _unset else {field.name}"
            parameters.append(f"{field.name}=_unset")
        elif field.default is not dataclasses.MISSING:
            names[f"_default_{field.name}"] = field.default
            parameters.append(f"{field.name}=_default_{field.name}")
        else:
            parameters.append(field.name)
        body.append(f"self.{field.name}={value}")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    exec(f"def __init__({','.join(parameters)}):\n " + "\n ".join(body), names)  # noqa: S102 - names of fields
    made: Callable[..., None] = names["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    made.__annotations__ = {field.name: field.type for field in dataclasses.fields(cls)} | {"return": None}
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
