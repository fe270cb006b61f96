"""What the user decides about the analysis, with its defaults, and the bounds on what a log may say."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import field, fields
from enum import StrEnum
from types import MappingProxyType
from typing import SupportsIndex, TypeVar

from moe_live.dataclass import dataclass

MAX_LAYERS = 1024
"""Layers are numbered below this. The bounds lie well above every published model and keep each table that is
indexed by these numbers small; a line that exceeds one is malformed."""

MAX_EXPERTS = 2048
"""Experts of a layer are numbered below this."""

MAX_TOP_K = 256
"""Experts a row, at most."""

MAX_ROWS = 1 << 31
"""Rows of a block are numbered below this."""

N_EXPERTS = (1, MAX_EXPERTS)
"""Bounds of `Settings.n_experts`, both included, as those below."""

MAX_SLOTS = (1, 1 << 20)
"""Bounds of `Settings.max_slots`."""

WINDOW = (1, 1_000_000)
"""Bounds of `Settings.window`."""

LATEST_USES = (0, 1 << 27)
"""Bounds of `Settings.latest_uses`."""

DEFAULT_LATEST_USES = 360_000
"""Uses of experts that are kept where they are needed: 500 decode steps of 90 layers, top-8."""

DEFAULT_MAX_SLOTS = 64
"""Tokens a decode step has at most, unless the user says otherwise."""

DEFAULT_WINDOW = 256
"""Decode steps that are called the latest, unless the user says otherwise."""


FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "llama-server": "llama_server",
        "table": "table",
        "json-lines": "json_lines",
        "ggml-moe-log": "patterns",
        "expert-trace": "patterns",
        "selected-experts": "patterns",
        "bracketed": "patterns",
        "commas": "patterns",
        "counts": "counts",
        "numpy-array": "numpy_array",
        "numpy-archive": "numpy_archive",
    }
)
"""Names of what logs may be written in, with the module in `formats` that reads each.

Of several that a log may be of the first is taken; and the very first for a log that fits none."""


class RowMode(StrEnum):
    """Which expert rows the figures rest on."""

    AUTO = "auto"
    """The verified rows once strided rows are proven, every row before."""
    LOGGED = "logged"
    """Every row as written."""
    VERIFIED = "verified"
    """Only rows that can be believed."""


class Phase(StrEnum):
    """What a step did."""

    PREFILL = "prefill"
    """It read a prompt."""
    DECODE = "decode"
    """It generated a token of each sequence."""
    ALL = "all"
    """Either: what a user may choose to count."""


Name = TypeVar("Name", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user decides about the analysis.

    Attributes:
        rows: which expert rows the figures rest on; its name will do.
        layers: the layers that are looked at, any collection of them: lines of others are as if they were not
            there. None for all.
        include_prompt: whether distances count prefill steps too.
        gate_layers: the layers whose gate inputs are compared, any collection of them; None for all that are
            logged.
        n_experts: experts a layer; None to take the highest id seen plus one.
        max_slots: tokens a decode step has at most.
        window: decode steps that are called the latest.
        label: what the time is called in which the run begins, "" for nothing.
        counts_only: how often experts are chosen is all that is wanted; no gate inputs or weights are parsed.
        latest_uses: how many uses of experts to keep, of the latest steps, for caches and placements to be
            tried out on; 0 for none.
        phase: the steps whose selections count; rows, steps and tokens are told of all. None for all, but
            decode alone where experts are chosen to be resident.
        reset_on_restart: the statistics start anew whenever the server does.
        format: the name of what the log is written in; "" to find out from its first lines.
        columns: what its columns or keys are called, by our names of them, as pairs.

    Raises:
        ValueError: one of them is out of its bounds, or none of the names there are.
        TypeError: one of them is of another type.

    >>> Settings(rows="verified", gate_layers=range(3, 6)).gate_layers
    frozenset({3, 4, 5})
    >>> Settings(window=0)
    Traceback (most recent call last):
    ValueError: window is 0; it must be a whole number from 1 to 1,000,000
    """

    rows: RowMode = RowMode.AUTO
    phase: Phase | None = field(default=None, repr=False)
    layers: frozenset[int] | None = field(default=None, repr=False)
    include_prompt: bool = False
    gate_layers: frozenset[int] | None = None
    n_experts: int | None = None
    max_slots: int = DEFAULT_MAX_SLOTS
    window: int = DEFAULT_WINDOW
    label: str = ""
    counts_only: bool = False
    latest_uses: int = 0
    format: str = ""
    columns: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    reset_on_restart: bool = False

    def __post_init__(self) -> None:
        """See that each is what it can be, in the type it is said to have."""
        checked = {
            "rows": _one_of("rows", self.rows, RowMode),
            "phase": None if self.phase is None else _one_of("phase", self.phase, Phase),
            "layers": None if self.layers is None else _layers("layers", self.layers),
            "gate_layers": None if self.gate_layers is None else _layers("gate_layers", self.gate_layers),
            "n_experts": None if self.n_experts is None else whole("n_experts", self.n_experts, *N_EXPERTS),
            "max_slots": whole("max_slots", self.max_slots, *MAX_SLOTS),
            "window": whole("window", self.window, *WINDOW),
            "latest_uses": whole("latest_uses", self.latest_uses, *LATEST_USES),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if self.format not in {"", *FORMATS}:
            raise ValueError(f"format is {self.format!r}; it must be one of {', '.join(FORMATS)}")
        for name, kind in (
            ("include_prompt", bool),
            ("counts_only", bool),
            ("reset_on_restart", bool),
            ("label", str),
        ):
            if not isinstance(value := getattr(self, name), kind):
                raise TypeError(f"{name} is {value!r}; it must be a {kind.__name__}")

    def differences(self, other: Settings) -> dict[str, tuple[object, object]]:
        """What others count or learn otherwise, each as it is here and there.

        What a log is written in, and what the time is called in which a run begins, are none of it.
        """
        pairs = {each.name: (getattr(self, each.name), getattr(other, each.name)) for each in fields(self)}
        return {
            name: pair
            for name, pair in pairs.items()
            if pair[0] != pair[1] and name not in {"label", "format", "columns"}
        }


def whole(name: str, value: object, low: int, high: int) -> int:
    """A whole number within bounds.

    Args:
        name: what it is, for messages.
        value: an integer of any type but bool.
        low: the least it may be.
        high: the greatest.

    Raises:
        TypeError: it is no integer.
        ValueError: it is out of bounds.
    """
    wrong = f"{name} is {value!r}; it must be a whole number from {low:,} to {high:,}"
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(wrong)
    number = operator.index(value)
    if not low <= number <= high:
        raise ValueError(wrong)
    return number


def _one_of(name: str, value: str, names: type[Name]) -> Name:
    try:
        return names(value)
    except ValueError:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(names)}") from None


def _layers(name: str, value: Iterable[object]) -> frozenset[int]:
    try:
        layers = list(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}; it must be a collection of layer numbers, or None") from None
    return frozenset(whole(f"a layer of {name}", layer, 0, MAX_LAYERS - 1) for layer in layers)
