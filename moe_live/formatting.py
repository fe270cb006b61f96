"""Numbers for people."""

from __future__ import annotations

import math
from collections.abc import Iterable


def whole(number: int, width: int | None = None) -> str:
    """An exact count: 1,234,567; rounded (1.23M) where that is wider than `width`."""
    exact = f"{number:,}"
    return exact if width is None or len(exact) <= width else short(number)


def number_of(number: int, what: str) -> str:
    """A number of things: 1 layer, 24 layers."""
    return f"{whole(number)} {what}{'s'[: number != 1]}"


def short(number: float) -> str:
    """Three digits, at most five columns: 0, 0.52, 8.1, 103, 9.12k, 1.20M."""
    if not math.isfinite(number):
        return "–"
    for unit in ("", "k", "M", "G", "T"):
        if abs(number) < 999.5 or unit == "T":
            break
        number /= 1000
    if unit == "" and number == int(number):
        return f"{number:.0f}"
    digits = 0 if abs(number) >= 99.95 else 1 if abs(number) >= 9.995 else 2
    return f"{number:.{digits}f}{unit}"


def size(number: float) -> str:
    """Bytes: 0 B, 1.20 MB (decimal units)."""
    figure = short(number)
    return f"{figure[:-1]} {figure[-1]}B" if figure[-1:].isalpha() else f"{figure} B"


def memory(number: float) -> str:
    """Bytes as memory is counted, in at most eight columns: 512 B, 2.92 MiB, 11.2 GiB.

    >>> memory(512), memory(3059712), memory(1023 << 20), memory(12 << 30)
    ('512 B', '2.92 MiB', '1.00 GiB', '12.0 GiB')
    """
    if not math.isfinite(number):
        return "–"
    for unit in ("", "Ki", "Mi", "Gi", "Ti"):
        if number < 999.5 or unit == "Ti":
            break
        number /= 1024
    digits = 0 if not unit or number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:.{digits}f} {unit}B"


def chosen_size(count: int) -> str:
    """Bytes that somebody chose, in at most eight columns: in a unit in which they are round, if in any.

    >>> chosen_size(8 << 30), chosen_size(25 * 10**9), chosen_size(1536 << 20), chosen_size(123456789)
    ('8 GiB', '25 GB', '1.5 GiB', '118 MiB')
    """
    for base, suffix in ((1000, "B"), (1024, "iB")):
        for power, prefix in enumerate("MGT", start=2):
            if base**power <= count < 999.5 * base**power:
                shown = f"{count / base**power:.3g}"
                if round(float(shown) * base**power) == count:
                    return f"{shown} {prefix}{suffix}"
    return memory(count)


def percent(share: float) -> str:
    """A share in at most five columns: 7.3%, 100%, 0.04%."""
    if not math.isfinite(share):
        return "–"
    value = 100 * share
    if 0 < value < 0.005:
        return "<.01%"
    return (
        f"{value:.0f}%"
        if value >= 99.95 or value == 0
        else f"{value:.1f}%"
        if value >= 0.995
        else f"{value:.2f}%"
    )


def points(share: float, sign: str = "") -> str:
    """A share in percentage points."""
    return f"{round(100 * share, 1) + 0.0:{sign}.1f}" if math.isfinite(share) else "–"


def times(ratio: float) -> str:
    """A multiple in at most five columns: 0.52×, 1.0×, 11.7×, 160×."""
    if not math.isfinite(ratio):
        return "–"
    return (
        f"{ratio:.0f}×"
        if ratio >= 99.95
        else f"{ratio:.1f}×"
        if ratio >= 0.95 or ratio == 0
        else f"{ratio:.2f}×"
    )


def figure(value: float) -> str:
    """Four significant digits in at most ten columns; – where undefined."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    shown = f"{value:#.4g}".rstrip(".")
    return shown if len(shown) <= 10 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """13 s, 4 min, 2 h 10 min."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 100 else f"{hours // 24} days"


def expected(number: float) -> str:
    """How many things chance gives, to a tenth."""
    if 0 < number < 0.05:
        return "<0.1"
    return f"{number:.1f}" if 0 < number < 99.95 else short(number)


def fraction(value: float, digits: int = 2) -> str:
    """A figure with so many decimals; – where undefined."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def tenths(number: float) -> str:
    """A number with one decimal, for columns of them: 29.0; – where undefined."""
    return fraction(number, 1)


def percents(share: float) -> str:
    """A share with one decimal, for columns of them: 7.3%, 100.0%; – where undefined."""
    return f"{100 * share:.1f}%" if math.isfinite(share) else "–"


def leading(words: Iterable[str], width: int) -> str:
    """As many of the words as fit, and … for the others.

    >>> leading(["12", "7", "130"], 8), leading(["12", "7", "130"], 7)
    ('12 7 130', '12 7 …')
    """
    shown, all_words = "", list(words)
    for place, word in enumerate(all_words, start=1):
        more = f"{shown} {word}".lstrip()
        if len(more) + 2 * (place < len(all_words)) > width:
            return f"{shown} …".lstrip()
        shown = more
    return shown


def ranges(numbers: Iterable[int], dash: str = "-") -> str:
    """Numbers in short, ascending and with runs drawn together.

    >>> ranges([8, 3, 4, 5])
    '3-5, 8'
    """
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}{dash}{last}" for first, last in runs)
