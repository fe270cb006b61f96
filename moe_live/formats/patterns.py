"""Logs whose lines are all of one pattern, without a header."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from moe_live.formats.dialect import Dialect, Fit
from moe_live.formats.fields import float_lists, lists, untold
from moe_live.formats.records import Records
from moe_live.formats.told import PREFILL, UNTOLD, Telling, Told
from moe_live.formats.told_lines import Learned, ReadLines, ToldLinesDecoder, resumed
from moe_live.settings import MAX_EXPERTS, MAX_LAYERS

_IDS = rb"(?P<ids>-?[0-9]{1,4}(?:(?:, ?| )-?[0-9]{1,4})*)"
_WEIGHTS = rb"(?P<weights>[-+0-9.eE]+(?:(?:, ?| )[-+0-9.eE]+)*)"
_LAYER = rb"(?P<layer>[0-9]{1,4})"

_GGML_MOE_LOG = re.compile(
    rb"^blk\."
    + _LAYER
    + rb"\.ffn_(?P<one_of>gate_up|gate|up|down)_exps(?:\.weight)?[ :]{1,2}\[?"
    + _IDS
    + rb"\]?$",
    re.MULTILINE,
)
_EXPERT_TRACE = re.compile(
    rb"^(?:\[EXPERT-TRACE\] )?Layer " + _LAYER + rb": Experts?(?: IDs)?(?: =|:)? \[" + _IDS + rb"\]$",
    re.MULTILINE | re.IGNORECASE,
)
_SELECTED = re.compile(
    rb"^(?:Layer "
    + _LAYER
    + rb" - Selected Expert IDs[^\n]*|[ \t]*Token (?P<token>[0-9]{1,9}): \["
    + _IDS
    + rb"\])$",
    re.MULTILINE | re.IGNORECASE,
)
_BRACKETS = re.compile(
    rb"^"
    + _LAYER
    + rb"(?:: ?|, ?(?:(?P<token>-?[0-9]{1,9}), ?)?)(?=[\"\[])(?P<quote>\")?(?P<open>\[)?"
    + _IDS
    + rb"(?(open)\])(?(quote)\")(?:, ?\"?\[?"
    + _WEIGHTS
    + rb"\]?\"?)?$",
    re.MULTILINE,
)
_COMMAS = re.compile(rb"^" + _LAYER + rb", ?(?P<ids>-?[0-9]{1,4}(?:, ?-?[0-9]{1,4})+)$", re.MULTILINE)


class PatternDecoder(ToldLinesDecoder):
    """Turns the bytes of such a log into `Records`, however they are cut into chunks.

    Args:
        pattern: of a well-formed line. Its groups: `layer`; the experts as `ids`, missing in a line that
            names the layer of the next ones; their `weights`; `token`; `one_of`, several of which tell the
            same: of these only lines count that have what the first one has.
        known: what a decoder of the same log knows that has read its first lines.
        gate_layers: is not needed: these logs have no router inputs.
        weights: whether those of the experts are needed.
    """

    def __init__(
        self,
        pattern: re.Pattern[bytes],
        known: tuple[bytes | None, Learned] | None = None,
        *,
        gate_layers: frozenset[int] | None = None,
        weights: bool = True,
    ) -> None:
        super().__init__(gate_layers=gate_layers, weights=weights)
        self._pattern = pattern
        self._layer = b""  # that the last line without experts named
        self._one_of: bytes | None = None
        if known is not None:
            self._one_of, learned = known
            self._know(learned)

    @property
    def known(self) -> tuple[bytes | None, Learned] | None:
        """See `ToldLinesDecoder.known`; not where lines need another before them that names the layer."""
        learned = self.learned
        return None if learned is None or self._layer else (self._one_of, learned)

    def restart(self, *, emptied: bool = False) -> Iterable[Records]:
        """See `Decoder.restart`."""
        self._layer = b""
        return super().restart(emptied=emptied)

    def read(self, text: bytes) -> ReadLines:
        """See `ToldLinesDecoder.read`."""
        end = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))
        good = np.zeros(len(end), np.bool_)
        has_token = "token" in self._pattern.groupindex
        at: list[int] = []
        rows: list[tuple[bytes, bytes, bytes, bytes]] = []
        for found in self._pattern.finditer(text):
            group = found.groupdict()
            layer, ids, one_of = group["layer"], group["ids"], group.get("one_of")
            if ids is None:
                self._layer = layer
                good[np.searchsorted(end, found.end())] = True
                continue
            if layer is None and not self._layer:
                continue
            if one_of is not None and self._one_of is None:
                self._one_of = one_of
            if one_of != self._one_of:
                good[np.searchsorted(end, found.end())] = True
                continue
            at.append(found.end())
            rows.append((layer or self._layer, group.get("token") or b"0", ids, group.get("weights") or b""))
        line = np.searchsorted(end, at) if at else np.empty(0, np.int64)
        layer_texts, token_texts, ids_texts, weights_texts = zip(*rows, strict=True) if rows else [()] * 4
        layers, tokens = (np.array(list(map(int, texts)), np.int64) for texts in (layer_texts, token_texts))
        experts, count = lists(*_fields(ids_texts))
        weights = untold(experts)
        if self._wants_weights and any(weights_texts):
            told_weights, n_weights = float_lists(*_fields(weights_texts))
            fits = n_weights == count
            weights[np.repeat(fits, count)] = told_weights[np.repeat(fits, n_weights)]
        fits = (layers < MAX_LAYERS) & (count > 0)
        fits[np.repeat(np.arange(len(layers)), count)[(experts < -1) | (experts >= MAX_EXPERTS)]] = False
        entries = np.repeat(fits, count)
        line, layers, tokens, count = line[fits], layers[fits], tokens[fits], count[fits]
        good[line] = True
        nothing = np.zeros(len(line), np.int64)
        phase = np.where(tokens < 0, PREFILL, UNTOLD)
        told = Told(
            layers, phase, nothing, nothing, tokens, nothing, count, experts[entries], weights[entries]
        )
        return ReadLines(told, line, end, good, Telling(token=has_token, phase=has_token))


def _fields(texts: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """All of them as one text, and (n,) where each begins and ends in it."""
    joined = np.frombuffer(b"".join(text + b"\n" for text in texts) or b"\n", np.uint8)
    length = np.array(list(map(len, texts)), np.int64)
    start = np.cumsum(length + 1) - length - 1
    return joined, start, start + length


def recognize(pattern: re.Pattern[bytes], lines: Sequence[bytes]) -> Fit:
    """Whether lines, without newlines, are of this pattern."""
    return Fit.CERTAIN if any(map(pattern.match, lines)) else Fit.NONE


def recognize_commas(lines: Sequence[bytes]) -> Fit:
    """Whether all lines, without newlines, are a layer and then as many experts, each of them once."""
    rows = [line for line in lines if line.strip() and not line.startswith(b"#")]
    experts = [
        found["ids"].replace(b" ", b"").split(b",") if (found := _COMMAS.match(row.rstrip())) else []
        for row in rows
    ]
    alike = len({len(row) for row in experts}) == 1
    distinct = all(len({*map(int, row)} - {-1}) + row.count(b"-1") == len(row) > 1 for row in experts)
    return Fit.POSSIBLE if alike and distinct else Fit.NONE


def _resumed(dialect: Dialect, pattern: re.Pattern[bytes], lines: Sequence[bytes]) -> Dialect | None:
    return resumed(dialect, partial(PatternDecoder, pattern), lines)


def _dialect(name: str, pattern: re.Pattern[bytes], example: str) -> Dialect:
    dialect = Dialect(
        name=name,
        example=example,
        recognize=partial(recognize, pattern),
        open=partial(PatternDecoder, pattern),
    )
    return replace(dialect, resumed=partial(_resumed, dialect, pattern))


DIALECTS = (
    _dialect("ggml-moe-log", _GGML_MOE_LOG, "blk.0.ffn_gate_exps.weight 43 34 20"),
    _dialect("expert-trace", _EXPERT_TRACE, "[EXPERT-TRACE] Layer 5: Experts [3, 17]"),
    _dialect(
        "selected-experts", _SELECTED, "Layer 10 - Selected Expert IDs (top-8):\n  Token 0: [42, 105, 3]"
    ),
    _dialect("bracketed", _BRACKETS, "3,[51, 1, 12]"),
    replace(_dialect("commas", _COMMAS, "3,51,1,12"), recognize=recognize_commas),
)
