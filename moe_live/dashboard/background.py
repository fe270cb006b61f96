"""Whether the background of the terminal is light: a question to it, and its answer."""

from __future__ import annotations

import re
from collections.abc import Mapping

from moe_live.dashboard.keys import Answer

# What colour is the background (OSC 11)? Then what every terminal answers (DA1): who says that alone does
# not know the first.
QUESTION = "\x1b]11;?\x1b\\\x1b[c"

_COLOUR = re.compile(
    r"rgba?:([0-9a-f]{1,4})/([0-9a-f]{1,4})/([0-9a-f]{1,4})(?:/[0-9a-f]{1,4})?", re.IGNORECASE
)
_BRIGHTNESS = (0.2126, 0.7152, 0.0722)


def may_be_asked(environ: Mapping[str, str]) -> bool:
    """Whether the terminal takes a question for what it is; the Linux console may print it."""
    return environ.get("TERM", "") != "linux"


def says_no_more(answer: Answer) -> bool:
    """Whether no answer about the colour will follow."""
    return answer.about == "c"


def is_light(answer: Answer) -> bool | None:
    """Whether the background is light; None if this does not say."""
    found = _COLOUR.fullmatch(answer.text)
    if answer.about != "11" or found is None:
        return None
    parts = [int(part, 16) / float((1 << 4 * len(part)) - 1) for part in found.groups()]
    return sum(weight * part for weight, part in zip(_BRIGHTNESS, parts, strict=True)) > 0.5
