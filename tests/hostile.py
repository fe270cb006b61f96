"""Lines of a log that are well-formed, nearly so, or meant to do harm."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from moe_live.formats.llama_server import HEADER, LlamaServerDecoder

_JUNK = b" ,.-+eE#:\t\r\0\x1b[2J\xff\xc3\x28abcxyz0123456789"


class HostileLog:
    """Draws lines, one step of a model after the other, with others among them that do not belong there.

    Args:
        seed: of all that is drawn.
        odd: share of the lines that are changed, made up, or of another model.
    """

    def __init__(self, seed: int, *, odd: float = 0.05) -> None:
        self._rng = np.random.default_rng(seed)
        self._odd = odd
        self._renew()

    def _renew(self) -> None:
        """Another model, and another number of slots."""
        rng = self._rng
        self._n_experts = int(rng.choice([4, 8, 60, 64, 160, 512]))
        self._top_k = int(rng.integers(1, min(10, self._n_experts) + 1))
        first = int(rng.integers(0, 4))
        self._layers = range(first, first + int(rng.integers(1, 12)))
        self._gates = set(rng.choice(self._layers, 2).tolist()) if rng.random() < 0.3 else set[int]()
        self._strided = bool(rng.random() < 0.3)

    def lines(self) -> Iterator[bytes]:
        """Without end, each with its newline."""
        rng = self._rng
        yield HEADER + b"\n"
        while True:
            if rng.random() < 0.002:
                self._renew()
            for line in self._step():
                yield line
                while rng.random() < self._odd:
                    yield self.odd_line(line)

    def _step(self) -> list[bytes]:
        rng = self._rng
        tokens = int(rng.choice([1, 1, 1, 1, 1, 2, 3, 20]))
        kind = rng.choice(["whole", "prompt", "half"], p=[0.8, 0.15, 0.05])
        lines = []
        if rng.random() < 0.05:
            lines.append(b"# label: %d\n" % rng.integers(0, 40))
        cut = int(rng.integers(1, len(self._layers) + 1)) if kind == "half" else len(self._layers)
        for layer in self._layers[:cut]:
            rows = int(rng.integers(0, 2)) if kind == "prompt" and layer == self._layers[-1] else tokens
            if layer in self._gates:
                values = rng.standard_normal((rows, 3)) * rng.choice([0, 1e-30, 1, 1e30, np.inf])
                lines += [
                    b"gate_input,%d,%d,%b\n" % (layer, row, b" ".join(b"%g" % x for x in values[row]))
                    for row in range(rows)
                ]
            ranked = np.argsort(rng.random((rows, self._n_experts)), axis=1)
            chosen = ranked[:, : self._top_k]
            if self._strided:
                chosen = ranked.reshape(-1)[: rows * self._top_k].reshape(rows, self._top_k)
            lines += [b"%d,%b\n" % (layer, b" ".join(b"%d" % e for e in row)) for row in chosen.tolist()]
        return lines

    def odd_line(self, line: bytes) -> bytes:
        """One that does not belong after this one, though some could."""
        rng = self._rng
        kind = int(rng.integers(0, 11))
        if kind == 0:  # a byte changed, taken out or put in
            place, junk = int(rng.integers(0, len(line))), _JUNK[int(rng.integers(0, len(_JUNK))) :][:1]
            return line[:place] + junk + line[place + int(rng.integers(0, 2)) :].rstrip(b"\n") + b"\n"
        if kind == 1:  # ids that no model has, or that occur twice
            ids = rng.integers(
                0, int(rng.choice([3, 200, 2048, 10_000])), int(rng.choice([1, 8, 40, 255, 256, 257]))
            )
            return b"%d,%b\n" % (rng.integers(0, 12), b" ".join(b"%d" % e for e in ids))
        if kind == 2:  # another layer
            return b"%d,%b" % (rng.integers(0, int(rng.choice([12, 1100]))), line.partition(b",")[2] or b"\n")
        if kind == 3:
            return (
                rng.integers(0, 256, int(rng.integers(0, 60)), np.uint8).tobytes().replace(b"\n", b"") + b"\n"
            )
        if kind == 4:
            others = [HEADER + b"\n", HEADER + b"\r\n", b"\0" * 30 + line, b"\n", b"#\n", b"# dropped 3\n"]
            return others[int(rng.integers(0, len(others)))]
        if kind == 5:
            return b"# label: %b\n" % rng.integers(32, 256, int(rng.choice([0, 1, 80])), np.uint8).tobytes()
        if kind == 6:  # marks that may fit
            tokens = int(rng.integers(0, 4))
            numbers = b" ".join(b"%d" % n for n in rng.integers(-1, 100, tokens))
            return b"# step pos=%b seq=%b out=%b\n" % (numbers, numbers, b" ".join([b"1"] * tokens))
        if kind == 7:
            values = [b"nan", b"-inf", b"1e400", b"0x1", b"", b"1 2 3", b"9" * 400, b"-"]
            value = values[int(rng.integers(0, len(values)))]
            return b"gate_input,%d,%d,%b\n" % (rng.integers(0, 12), rng.integers(0, 3), value)
        if kind == 8:
            return b"%d,%b\n" % (rng.integers(0, 12), b" ".join([b"7"] * int(rng.choice([2, 17, 256, 3000]))))
        if kind == 9:
            return line
        return line[: int(rng.integers(0, len(line)))].rstrip(b"\n") + b"\n"

    def malformed_line(self, line: bytes) -> bytes:
        """One that says nothing of the log, and is counted as malformed."""
        while True:
            odd = self.odd_line(line)
            decoder = LlamaServerDecoder()
            said = sum(1 for _ in decoder.feed(odd))
            if not said and decoder.tally.malformed_lines == 1 and not decoder.tally.nul_bytes:
                return odd
