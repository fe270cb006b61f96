"""Objects as what a file can hold, numbers and text and arrays, and back.

Whatever an analyzer keeps is walked through as it is: an object is its class, by name, and its attributes, so
a new statistic needs nothing here. Of classes and functions only the names stand in a file, and only those of
the modules that keep something are looked up, among what is loaded already: nothing in a file is ever run.

A class whose objects hold more than what they stand for says so as for `copy` and `pickle`: what `__reduce__`
makes anew without arguments is made anew, and what `__getstate__` tells is given to `__setstate__`.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import partial
from importlib import import_module
from types import FunctionType, MethodType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moe_live.settings import FORMATS

_PLAIN = (type(None), bool, int, str)

_OF_CLASSES = (
    "moe_live.formats",
    "moe_live.isolation",
    "moe_live.memory",
    "moe_live.routing",
    "moe_live.settings",
    "moe_live.sources.gaps",
    "moe_live.sources.memory",
    "moe_live.sources.place",
    "moe_live.sources.position",
    "moe_live.sources.trail",
    "moe_live.statistics",
)
"""Modules and packages whose objects may be in a file."""

_OF_FUNCTIONS = ("moe_live.formats",)
"""Those whose functions may be named in it: what a dialect is made of."""

_LONG_TEXT = 1 << 10  # bytes; longer ones are arrays

_KINDS = "biuf"  # of arrays: bool, integers, floats


class Frozen(NamedTuple):
    """Objects that were walked through.

    Attributes:
        tree: what JSON can hold: plain values as they are, all others as lists that begin with a letter.
        classes: of the objects in it, each with the names of its attributes; None if it tells them itself.
        arrays: in it, contiguous, in memory of their own.
    """

    tree: Any
    classes: Sequence[tuple[str, Sequence[str] | None]]
    arrays: list[NDArray[Any]]


class DamagedError(Exception):
    """What was read cannot have been written by `freeze`."""


def freeze(value: Any) -> Frozen:
    """Walk through a value. What it is made of may change afterwards.

    Raises:
        TypeError: there is something in it that cannot be in a file.
    """
    freezer = _Freezer()
    tree = freezer.of(value)
    return Frozen(tree, list(freezer.index), freezer.arrays)


def thaw(frozen: Frozen, like: Frozen | None = None) -> Any:
    """The value that was frozen: equal to it, and shares what it shared.

    Args:
        frozen: what `freeze` returned.
        like: what it returns now for something that keeps as much. What classes keep is not written anywhere:
            by this is known what those keep that both have.

    Raises:
        DamagedError: there never was such a value, or objects kept something else when it was frozen.
    """
    if like is not None:
        now = {name: set(names) for name, names in like.classes if names is not None}
        for name, names in frozen.classes:
            if names is not None and now.get(name, set(names)) != set(names):
                raise DamagedError(f"another version of moe-live wrote it, which kept more or less in {name}")
    for module in FORMATS.values():  # a dialect may be in it that this process has not come across
        import_module(f"moe_live.formats.{module}")
    try:
        return _Thawer(frozen).of(frozen.tree)
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
        re.error,
    ) as error:
        raise DamagedError(str(error)) from error


class _Freezer:
    def __init__(self) -> None:
        self.index: dict[tuple[str, tuple[str, ...] | None], int] = {}  # of classes
        self.arrays: list[NDArray[Any]] = []
        self._seen: dict[int, tuple[int, Any]] = {}  # holds what it knows: no number is given twice

    def of(self, value: Any) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind in _BY_TYPE:
            return _BY_TYPE[kind](self, value)
        if isinstance(value, type):
            return ["k", _known(_name(value), _OF_CLASSES, value)]
        if isinstance(value, Enum):
            return ["e", self._class(kind, None), value.name]
        if isinstance(value, np.generic):
            return ["s", self._array(np.array(value))]
        if isinstance(value, np.dtype):
            return ["d", value.str]
        if isinstance(value, tuple):  # with names
            return ["n", self._class(kind, None), [self.of(each) for each in value]]
        return self._once(value, self._object)

    def all(self, values: Iterable[Any]) -> list[Any]:
        return [self.of(each) for each in values]

    def pairs(self, values: dict[Any, Any]) -> list[Any]:
        return [[self.of(key), self.of(value)] for key, value in values.items()]

    def _once(self, value: Any, made: Callable[[Any], Any]) -> Any:
        """What stands for a value that others may share, and may be changed."""
        known = self._seen.get(id(value))
        if known is not None:
            return ["@", known[0]]
        self._seen[id(value)] = len(self._seen), value
        return made(value)

    def _array(self, value: NDArray[Any]) -> int:
        if value.dtype.kind not in _KINDS:
            raise TypeError(f"an array of {value.dtype} cannot be in a file")
        self.arrays.append(value)
        return len(self.arrays) - 1

    def array(self, value: NDArray[Any]) -> Any:
        def made(value: NDArray[Any]) -> Any:
            turned = value.flags.f_contiguous and not value.flags.c_contiguous
            return ["A" if turned else "a", self._array((value.T if turned else value).copy())]

        return self._once(value, made)

    def text(self, value: bytes) -> Any:
        if len(value) < _LONG_TEXT:
            return ["b", value.decode("latin-1")]
        return ["B", self._array(np.frombuffer(value, np.uint8).copy())]

    def changing(self, tag: str, value: Any, made: Callable[[Any], Any]) -> Any:
        return self._once(value, lambda value: [tag, made(value)])

    def method(self, value: MethodType) -> Any:
        return ["m", self.of(value.__self__), value.__name__]

    def pattern(self, value: re.Pattern[bytes]) -> Any:
        return ["r", self.of(value.pattern), value.flags & ~re.UNICODE]

    def part(self, value: partial[Any]) -> Any:
        return ["p", self.of(value.func), self.all(value.args), self.pairs(value.keywords)]

    def _object(self, value: Any) -> Any:
        kind = type(value)
        if _is_made_anew(kind):
            return ["w", self._class(kind, None)]
        if _tells_itself(kind):
            return ["x", self._class(kind, None), self.of(value.__getstate__())]
        names = _declared(kind)
        if names is None:
            names = tuple(vars(value))
        return ["o", self._class(kind, names), *(self.of(getattr(value, name)) for name in names)]

    def _class(self, kind: type, names: tuple[str, ...] | None) -> int:
        name = _name(kind)
        key = name, names
        if key not in self.index:
            self.index[_known(name, _OF_CLASSES, kind), names] = len(self.index)
        return self.index[key]


_BY_TYPE: dict[type, Callable[[_Freezer, Any], Any]] = {
    float: lambda _, value: ["f", value.hex()],
    bytes: _Freezer.text,
    np.ndarray: _Freezer.array,
    tuple: lambda to, value: ["t", *to.all(value)],
    frozenset: lambda to, value: ["z", *to.all(value)],
    list: lambda to, value: to.changing("l", value, to.all),
    set: lambda to, value: to.changing("u", value, to.all),
    dict: lambda to, value: to.changing("h", value, to.pairs),
    Counter: lambda to, value: to.changing("c", value, to.pairs),
    OrderedDict: lambda to, value: to.changing("i", value, to.pairs),
    deque: lambda to, value: to.changing("q", value, lambda value: [value.maxlen, to.all(value)]),
    bytearray: lambda to, value: to.changing("y", value, lambda value: to.text(bytes(value))),
    FunctionType: lambda _, value: ["g", _known(_name(value), _OF_FUNCTIONS, value)],
    MethodType: _Freezer.method,
    partial: _Freezer.part,
    re.Pattern: _Freezer.pattern,
}


class _Thawer:
    def __init__(self, frozen: Frozen) -> None:
        self._arrays = frozen.arrays
        self._classes = [(_class_named(name), names) for name, names in frozen.classes]
        self._seen: list[Any] = []

    def of(self, node: Any) -> Any:
        if type(node) in _PLAIN:
            return node
        tag, *rest = node
        return _BY_TAG[tag](self, *rest)

    def all(self, nodes: Iterable[Any]) -> list[Any]:
        return [self.of(node) for node in nodes]

    def keep(self, value: Any) -> Any:
        """Number a value that may be shared, in the order in which it was met."""
        self._seen.append(value)
        return value

    def again(self, number: int) -> Any:
        if number < 0:
            raise ValueError("no such object")
        return self._seen[number]

    def array(self, index: int) -> NDArray[Any]:
        if index < 0:
            raise ValueError("no such array")
        return self._arrays[index]

    def text(self, index: int) -> bytes:
        array = self.array(index)
        if array.dtype != np.uint8:
            raise ValueError("no text")
        return array.tobytes()

    def filled(self, into: Any, add: Callable[[Any, Any], object], nodes: Iterable[Any]) -> Any:
        self.keep(into)
        for node in nodes:
            add(into, self.of(node))
        return into

    def mapping(self, into: Any, nodes: Iterable[Any]) -> Any:
        self.keep(into)
        for key, value in nodes:
            into[self.of(key)] = self.of(value)
        return into

    def queue(self, content: Any) -> Any:
        maxlen, nodes = content
        return self.filled(deque(maxlen=maxlen), deque.append, nodes)

    def buffer(self, node: Any) -> bytearray:
        into: bytearray = self.keep(bytearray())
        into += self.of(node)
        return into

    def enum(self, index: int, name: str) -> Any:
        kind = self._kind(index)
        if not issubclass(kind, Enum):
            raise TypeError("no enumeration")
        return kind[name]

    def named(self, index: int, nodes: Sequence[Any]) -> Any:
        kind = self._kind(index)
        if not issubclass(kind, tuple) or len(kind._fields) != len(nodes):
            raise TypeError("no tuple with these names")
        return tuple.__new__(kind, self.all(nodes))

    def anew(self, index: int) -> Any:
        kind = self._kind(index)
        if not _is_made_anew(kind):
            raise TypeError("it cannot be made anew")
        return self.keep(kind())

    def told(self, index: int, node: Any) -> Any:
        kind = self._kind(index)
        if not _tells_itself(kind):
            raise TypeError("it does not tell what it is")
        value = self.keep(object.__new__(kind))
        value.__setstate__(self.of(node))
        return value

    def object(self, index: int, *nodes: Any) -> Any:
        kind, names = self._classes[index]
        if names is None or len(names) != len(nodes):
            raise TypeError("attributes are missing")
        declared = _declared(kind)
        if declared is None:  # what the class has, its objects do not replace
            wrong = any(not name.isidentifier() or hasattr(kind, name) for name in names)
        else:
            wrong = tuple(names) != declared
        if wrong:
            raise TypeError("it has no such attributes")
        value = self.keep(object.__new__(kind))
        for name, node in zip(names, nodes, strict=True):
            object.__setattr__(value, name, self.of(node))
        return value

    def method(self, node: Any, name: str) -> Any:
        value = self.of(node)
        if not isinstance(vars(type(value)).get(name), FunctionType):
            raise TypeError("no such method")
        return getattr(value, name)

    def part(self, function: Any, args: Iterable[Any], keywords: Iterable[Any]) -> Any:
        return partial(self.of(function), *self.all(args), **{key: self.of(each) for key, each in keywords})

    def _kind(self, index: int) -> Any:
        return self._classes[index][0]


_BY_TAG: dict[str, Callable[..., Any]] = {
    "@": _Thawer.again,
    "f": lambda _, value: float.fromhex(value),
    "b": lambda _, value: value.encode("latin-1"),
    "B": _Thawer.text,
    "a": lambda to, index: to.keep(to.array(index)),
    "A": lambda to, index: to.keep(to.array(index).T),
    "s": lambda to, index: to.array(index)[()],
    "d": lambda _, name: np.dtype(name),
    "t": lambda to, *nodes: tuple(to.all(nodes)),
    "z": lambda to, *nodes: frozenset(to.all(nodes)),
    "l": lambda to, nodes: to.filled([], list.append, nodes),
    "u": lambda to, nodes: to.filled(set(), set.add, nodes),
    "h": lambda to, nodes: to.mapping({}, nodes),
    "c": lambda to, nodes: to.mapping(Counter(), nodes),
    "i": lambda to, nodes: to.mapping(OrderedDict(), nodes),
    "q": _Thawer.queue,
    "y": _Thawer.buffer,
    "e": _Thawer.enum,
    "n": _Thawer.named,
    "w": _Thawer.anew,
    "x": _Thawer.told,
    "o": _Thawer.object,
    "k": lambda _, name: _class_named(name),
    "g": lambda _, name: _function_named(name),
    "m": _Thawer.method,
    "p": _Thawer.part,
    "r": lambda to, pattern, flags: re.compile(to.of(pattern), flags),
}


def _declared(kind: type) -> tuple[str, ...] | None:
    """The attributes of all objects of a class, if it says which."""
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return None


def _is_made_anew(kind: Any) -> bool:
    return "__reduce__" in vars(kind)


def _tells_itself(kind: Any) -> bool:
    # Dataclasses that are frozen and have slots define both, for the attributes that they declare.
    return "__setstate__" in vars(kind) and not dataclasses.is_dataclass(kind)


def _name(what: Any) -> str:
    return f"{what.__module__}:{what.__qualname__}"


def _known(name: str, homes: Sequence[str], what: Any) -> str:
    if _found(name, homes) is not what:
        raise TypeError(f"{name} cannot be in a file")
    return name


def _found(name: str, homes: Sequence[str]) -> Any:
    """What a loaded module of these calls so; None if nothing."""
    module, _, path = name.partition(":")
    if not any(module == home or module.startswith(home + ".") for home in homes):
        return None
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = vars(found).get(part) if isinstance(found, type(sys) | type) else None
    return found if getattr(found, "__module__", None) == module else None


def _class_named(name: str) -> Any:
    found = _found(name, _OF_CLASSES)
    if not isinstance(found, type):
        raise TypeError(f"there is no class {name}")
    return found


def _function_named(name: str) -> Any:
    found = _found(name, _OF_FUNCTIONS)
    if not isinstance(found, FunctionType):
        raise TypeError(f"there is no function {name}")
    return found
