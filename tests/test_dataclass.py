"""Our data classes do what those of the standard library do."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from typing import Any

import pytest

from moe_live.dataclass import dataclass


class Twins:
    """The same class, made by us and by the standard library."""

    def __init__(self, **options: bool) -> None:
        self.ours, self.theirs = (
            self._made(decorator(**options)) for decorator in (dataclass, dataclasses.dataclass)
        )

    @staticmethod
    def _made(decorate: Any) -> Any:
        class Point:
            """A place."""

            x: int
            name: str = "here"
            marks: list[int] = dataclasses.field(default_factory=list, compare=False)
            seen: float = dataclasses.field(default=0.5, repr=False)

        return decorate(Point)


OPTIONS = [
    {"frozen": True},
    {"frozen": True, "slots": True},
    {"slots": True},
    {"frozen": True, "slots": True, "eq": False},
    {"frozen": True, "eq": False, "kw_only": True},
    {"slots": True, "repr": False},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_objects_are_shown_compared_and_hashed_as_those_of_the_standard_library(
    options: dict[str, bool],
) -> None:
    twins = Twins(**options)
    told = []
    for made, other in ((twins.ours, twins.theirs), (twins.theirs, twins.ours)):
        objects = [
            made(x=1),
            made(x=1),
            made(x=2),
            made(x=1, name="there"),
            made(x=1, marks=[3]),
            made(x=1, seen=0.0),
        ]
        shown = [repr(each) for each in objects] if options.get("repr", True) else []
        hashes = [] if made.__hash__ is None else [hash(each) for each in objects]
        if not options.get("eq", True):
            hashes = [len(set(hashes))]  # by where they are
        told.append((shown, [[one == other for other in objects] for one in objects], hashes))
        assert objects[0] != other(x=1)
    assert told[0] == told[1]
    assert hasattr(twins.ours(x=1), "__dict__") is not options.get("slots", False)


def test_fields_and_copies_are_those_of_the_standard_library() -> None:
    twins = Twins(frozen=True, slots=True)
    assert [field.name for field in dataclasses.fields(twins.ours)] == [
        field.name for field in dataclasses.fields(twins.theirs)
    ]
    place = twins.ours(1, "there", [2])
    assert dataclasses.replace(place, x=3) == twins.ours(3, "there")
    assert copy.copy(place) == copy.deepcopy(place) == place
    with pytest.raises(TypeError, match="x"):
        twins.ours()


@pytest.mark.parametrize("first", range(5))
def test_objects_are_made_as_those_of_the_standard_library(first: int) -> None:
    """Whichever is the first one: that is made by another way."""
    asked: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((1,), {}),
        ((1, "there", [4]), {"seen": 2.0}),
        ((), {"marks": [], "x": 3}),
        ((), {}),
        ((1,), {"y": 2}),
    ]
    found = []
    for options in OPTIONS:
        for made in vars(Twins(**options)).values():
            objects: list[object] = []
            for args, kwargs in (*asked[first:], *asked[:first]):
                try:
                    place = made(*args, **kwargs)
                except TypeError as error:
                    objects.append(str(error))
                else:
                    objects.append((place.x, place.name, place.marks, place.seen))
            found.append(objects)
    assert found[::2] == found[1::2]
    assert Twins().ours(1).marks is not Twins().ours(1).marks


def test_what_a_class_takes_that_checks_it_is_shown_before_the_first_object_is_made() -> None:
    def made(decorate: Any) -> Any:
        class Checked:
            """Looks at what it was given."""

            x: int
            name: str | None = None

            def __post_init__(self) -> None:
                self.x += 1

        return decorate(Checked)

    shown = [
        inspect.signature(made(decorator(slots=True))) for decorator in (dataclass, dataclasses.dataclass)
    ]
    assert shown[0] == shown[1]


def test_a_field_that_is_not_given_is_refused() -> None:
    @dataclass()
    class Hidden:
        """Has one."""

        x: int = dataclasses.field(init=False, default=1)

    with pytest.raises(TypeError, match=r"Hidden\.x: every field is a parameter"):
        Hidden()


def test_a_class_may_have_an_init_of_its_own_or_complete_that_of_the_fields() -> None:
    @dataclass(slots=True)
    class Checked:
        """Looks at what it was given."""

        x: int

        def __post_init__(self) -> None:
            self.x += 1

    @dataclass()
    class Own:
        """Takes something else."""

        x: int

        def __init__(self, text: str) -> None:
            self.x = int(text)

    class Derived(Checked):
        """Adds nothing."""

    @dataclass(kw_only=True)
    class More(Checked):
        """Adds a field by name."""

        y: int = 5

    assert (Derived(1).x, Checked(1).x, Own("7").x) == (2, 2, 7)
    assert (More(x=1, y=2).x, More(x=1).y) == (2, 5)


def test_one_field_is_compared_as_several_are() -> None:
    @dataclass(frozen=True)
    class Figure:
        """One number."""

        value: float

    @dataclass(frozen=True)
    class Nothing:
        """No field at all."""

    unknown = float("nan")
    assert Figure(unknown) == Figure(unknown)  # as in a tuple: what is the same is equal
    assert Figure(1.0) != Figure(2.0)
    assert (hash(Figure(1.0)), hash(Nothing())) == (hash((1.0,)), hash(()))
    assert Nothing() == Nothing()


def test_what_a_class_says_itself_stays() -> None:
    @dataclass(frozen=True)
    class Loud:
        """Has methods of its own."""

        x: int

        def __repr__(self) -> str:
            return "loud"

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 7

    assert (repr(Loud(1)), Loud(1) == Loud(2), hash(Loud(1))) == ("loud", True, 7)


@dataclass(frozen=True, slots=True)
class Kept:
    """One that can be looked up by its name."""

    x: int
    rest: tuple[int, ...] = ()


def test_objects_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(Kept(1, (2,)))) == Kept(1, (2,))
