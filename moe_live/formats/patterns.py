"""Logs whose lines are all of one pattern, without a header."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np

from moe_live.formats.dialect import Dialect, Fit
from moe_live.formats.fields import lists, untold
from moe_live.formats.passes import UNTOLD, Telling, Told
from moe_live.formats.records import Records
from moe_live.formats.told_lines import ReadLines, ToldLinesDecoder
from moe_live.settings import MAX_EXPERTS, MAX_LAYERS

_IDS = rb"(?P<ids>-?[0-9]{1,4}(?:(?:, ?| )-?[0-9]{1,4})*)"
_LAYER = rb"(?P<layer>[0-9]{1,4})"

_GGML_MOE_LOG = re.compile(
    rb"^blk\."
    + _LAYER
    + rb"\.ffn_(?P<one_of>gate_up|gate|up|down)_exps(?:\.weight)?[ :]{1,2}"
    + _IDS
    + rb"$",
    re.MULTILINE,
)
_EXPERT_TRACE = re.compile(
    rb"^\[EXPERT-TRACE\] Layer " + _LAYER + rb": Experts \[" + _IDS + rb"\]$", re.MULTILINE
)
_SELECTED = re.compile(
    rb"^(?:Layer "
    + _LAYER
    + rb" - Selected Expert IDs[^\n]*|[ \t]+Token (?P<token>[0-9]{1,9}): \["
    + _IDS
    + rb"\])$",
    re.MULTILINE,
)
_BRACKETS = re.compile(
    rb"^" + _LAYER + rb",(?:\[" + _IDS + rb'\]|"' + _IDS.replace(b"ids", b"quoted") + rb'")$', re.MULTILINE
)


class PatternDecoder(ToldLinesDecoder):
    """Turns the bytes of such a log into `Records`, however they are cut into chunks.

    Args:
        pattern: of a well-formed line. Its groups: `layer`; the experts as `ids` or `quoted`, missing in a
            line that names the layer of the next ones; `token`; `one_of`, several of which tell the same: of
            these only lines count that have what the first one has.
        gate_layers: is not needed: these logs have no router inputs.
    """

    def __init__(self, pattern: re.Pattern[bytes], *, gate_layers: frozenset[int] | None = None) -> None:
        super().__init__(gate_layers=gate_layers)
        self._pattern = pattern
        self._layer = b""  # that the last line without experts named
        self._one_of: bytes | None = None

    def restart(self, *, emptied: bool = False) -> Iterable[Records]:
        """See `Decoder.restart`."""
        self._layer = b""
        return super().restart(emptied=emptied)

    def _read(self, text: bytes) -> ReadLines:
        end = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))
        good = np.zeros(len(end), np.bool_)
        groups = self._pattern.groupindex
        has_token = "token" in groups
        at: list[int] = []
        layers: list[bytes] = []
        tokens: list[bytes] = []
        ids: list[bytes] = []
        for found in self._pattern.finditer(text):
            group = found.groupdict()
            listed: bytes | None = group["ids"] or group.get("quoted")
            if listed is None:
                self._layer = group["layer"]
                good[np.searchsorted(end, found.end())] = True
                continue
            if has_token:
                if not self._layer:
                    continue
                group["layer"] = self._layer
            if (one_of := group.get("one_of")) is not None:
                if self._one_of is None:
                    self._one_of = one_of
                if one_of != self._one_of:
                    good[np.searchsorted(end, found.end())] = True
                    continue
            at.append(found.end())
            layers.append(group["layer"])
            tokens.append(group.get("token") or b"0")
            ids.append(listed)
        line = np.searchsorted(end, at) if at else np.empty(0, np.int64)
        layer = np.array(list(map(int, layers)), np.int64)
        joined = np.frombuffer(b"".join(each + b"\n" for each in ids) or b"\n", np.uint8)
        length = np.array(list(map(len, ids)), np.int64)
        start = np.cumsum(length + 1) - length - 1
        experts, count = lists(joined, start, start + length)
        fits = (layer < MAX_LAYERS) & (count > 0)
        fits[np.repeat(np.arange(len(layer)), count)[(experts < -1) | (experts >= MAX_EXPERTS)]] = False
        experts = experts[np.repeat(fits, count)]
        line, layer, count = line[fits], layer[fits], count[fits]
        good[line] = True
        nothing = np.zeros(len(line), np.int64)
        token = np.array(list(map(int, tokens)), np.int64)[fits]
        told = Told(
            layer, nothing + UNTOLD, nothing, nothing, token, nothing, count, experts, untold(experts)
        )
        return ReadLines(told, line, end, good, Telling(token=has_token, phase=has_token))


def recognize(pattern: re.Pattern[bytes], lines: Sequence[bytes]) -> Fit:
    """Whether lines, without newlines, are of this pattern."""
    return Fit.CERTAIN if any(map(pattern.match, lines)) else Fit.NONE


def fault(line: bytes) -> str:  # noqa: ARG001 - the pattern is all there is to tell
    """Nothing: a line is of the pattern or not."""
    return ""


def _dialect(name: str, pattern: re.Pattern[bytes], example: str) -> Dialect:
    return Dialect(
        name=name,
        example=example,
        recognize=partial(recognize, pattern),
        open=partial(PatternDecoder, pattern),
        fault=fault,
    )


PATTERNS = [
    _dialect("ggml-moe-log", _GGML_MOE_LOG, "blk.0.ffn_gate_exps.weight 43 34 20"),
    _dialect("expert-trace", _EXPERT_TRACE, "[EXPERT-TRACE] Layer 5: Experts [3, 17]"),
    _dialect(
        "selected-experts", _SELECTED, "Layer 10 - Selected Expert IDs (top-8):\n  Token 0: [42, 105, 3]"
    ),
    _dialect("bracketed", _BRACKETS, "3,[51, 1, 12]"),
]
