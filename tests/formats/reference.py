"""The grammar of a llama-server log, one line at a time: what the decoder must agree with."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable

from moe_live.formats.llama_server import LlamaServerDecoder
from moe_live.formats.records import LineTally, Records

Event = tuple[object, ...]

NUMBER = rb"-?(?:[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?|inf|nan)"
EXPERT = re.compile(rb"([0-9]{1,4}),([0-9]{1,4}(?: [0-9]{1,4})*)(?:,([^\n]+))?")
GATE = re.compile(rb"gate_input,([0-9]{1,4}),([0-9]{1,10}),([^\0]+)", re.DOTALL)
FLOATS = re.compile(NUMBER + rb"(?: " + NUMBER + rb")*")


def parse_line(line: bytes, gate_layers: frozenset[int] | None, *, every_row: bool) -> Event | None:
    """One line without its newline as an event; None if malformed. Floats as the bytes of doubles."""
    line = line.removesuffix(b"\r")
    if line == b"layer_id,expert_ids":
        return ("header",)
    if line.startswith(b"#"):
        return ("comment",)
    if found := EXPERT.fullmatch(line):
        layer, ids = int(found[1]), tuple(map(int, found[2].split()))
        weights = found[3]
        if weights is not None and not (FLOATS.fullmatch(weights) and len(weights.split(b" ")) == len(ids)):
            return None
        if layer < 1024 and len(ids) <= 256 and max(ids) < 2048:
            return ("expert", layer, *ids)
    elif (found := GATE.fullmatch(line)) and int(found[1]) < 1024 and int(found[2]) < 1 << 31:
        layer, row = int(found[1]), int(found[2])
        if (row and not every_row) or (gate_layers is not None and layer not in gate_layers):
            return ("gate", layer, row, None)
        if FLOATS.fullmatch(found[3]):
            values = [float(token) for token in found[3].split(b" ")]
            return ("gate", layer, row, struct.pack(f"{len(values)}d", *values))
    return None


def reference(
    text: bytes,
    *,
    gate_layers: frozenset[int] | None = None,
    every_row: bool = False,
    limit: int = 1 << 20,
) -> tuple[list[Event], LineTally]:
    """Events and tally of a whole input that ends here."""
    events: list[Event] = []
    lines = text.split(b"\n")
    tally = {"bytes": len(text), "lines": len(lines) - 1}
    bad: list[bytes] = []
    overlong = header_lines = comment_lines = nul_bytes = 0
    for number, raw in enumerate(lines, 1):
        line = raw.lstrip(b"\0")
        nul_bytes += len(raw) - len(line)
        if number == len(lines):
            tally |= {"incomplete_bytes": len(line), "incomplete_lines": int(len(line) > 0)}
            break
        event = parse_line(line, gate_layers, every_row=every_row) if len(line) <= limit else None
        if event is None:
            overlong += len(line) > limit
            bad.append((line if len(line) > limit else line.removesuffix(b"\r"))[: min(120, limit)])
        elif event == ("header",):
            header_lines += 1
        elif event == ("comment",):
            comment_lines += 1
        else:
            events.append(event)
    tally |= {"header_lines": header_lines, "comment_lines": comment_lines}
    tally |= {"malformed_lines": len(bad), "overlong_lines": overlong}
    return events, LineTally(
        **tally, nul_bytes=nul_bytes, samples=tuple(bad[:5]), incomplete_head=line[: min(120, limit)]
    )


def events_of(records: Records) -> list[Event]:
    """One `Records` as events, after checking its promises about shapes and types."""
    layer, experts, gates = records.layer, records.experts, records.gates
    assert {a.dtype.name for a in (layer, *experts.tables, experts.widths())} == {"uint16"}
    assert len(experts) == len(experts.widths()) == len(layer)
    ks = [table.shape[1] for table in experts.tables]
    assert ks == sorted(set(experts.widths().tolist()))
    assert (experts.width is None) == (len(ks) < 2)
    rows = {k: iter(table.tolist()) for k, table in zip(ks, experts.tables, strict=True)}
    assert len(layer) + len(gates.layer) > 0 or records.restarts
    assert {a.dtype.name for a in (gates.position, gates.layer, gates.row, gates.vector)} == {"int64"}
    assert {a.shape for a in (gates.position, gates.layer, gates.row, gates.vector)} == {gates.layer.shape}
    assert gates.vectors.dtype == "float64"
    assert gates.vectors.flags.c_contiguous
    assert gates.vector[gates.vector >= 0].tolist() == list(range(len(gates.vectors)))
    events: list[Event] = [
        ("expert", one, *next(rows[k]))
        for one, k in zip(layer.tolist(), experts.widths().tolist(), strict=True)
    ]
    columns = zip(*(a.tolist() for a in (gates.position, gates.layer, gates.row, gates.vector)), strict=True)
    for already, (position, one, row, vector) in enumerate(columns):
        assert 0 <= position <= len(layer)
        values = None if vector < 0 else gates.vectors[vector].tobytes()
        events.insert(position + already, ("gate", one, row, values))
    return events


def decode(
    chunks: Iterable[bytes | memoryview],
    *,
    gate_layers: frozenset[int] | None = None,
    every_row: bool = False,
    limit: int = 1 << 20,
) -> tuple[list[Event], LineTally]:
    """Events and tally of a whole input as the decoder reads it."""
    decoder = LlamaServerDecoder(gate_layers=gate_layers, every_row=every_row, max_line_bytes=limit)
    events: list[Event] = []
    for chunk in chunks:
        for records in decoder.feed(chunk):
            events += events_of(records)
    decoder.restart()
    tally = decoder.tally
    assert tally.malformed_lines + tally.header_lines + tally.comment_lines + len(events) == tally.lines
    return events, tally
