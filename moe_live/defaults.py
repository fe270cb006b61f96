"""A file with the options that somebody always gives: `~/.config/moe-live/config.toml`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from moe_live.errors import UsageError, printable

KEYS = (
    "rows",
    "include-prompt",
    "max-slots",
    "window",
    "full",
    "top",
    "no-dashboard",
    "refresh",
    "color",
    "theme",
    "ascii",
)
"""Options that say how somebody likes it whatever is read, and not what is read or written."""


def config_file(environ: Mapping[str, str] = os.environ) -> Path:
    """Where it is looked for; not every user has it."""
    home = environ.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser())
    return Path(home) / "moe-live" / "config.toml"


def default_options(path: Path) -> list[str]:
    """The options in the file, as they would be given; none if there is no file.

    Raises:
        UsageError: it cannot be read, or holds something else.
    """
    shown = printable(path)
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UsageError(f"cannot read {shown}: {error.strerror}; make it readable, or remove it") from None
    import tomllib

    try:
        found = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{shown} is not TOML: {printable(str(error))}; correct it, or remove it") from None
    words = []
    for key, value in found.items():
        if key not in KEYS:
            import difflib

            meant = difflib.get_close_matches(key, KEYS, 1)
            way = f"did you mean {meant[0]}?" if meant else f"known are {', '.join(KEYS)}"
            raise UsageError(f"unknown key {printable(key)} in {shown}; {way}")
        if not isinstance(value, bool | int | float | str):
            raise UsageError(f"{key} in {shown} is no text, number, true or false; write {key} = ...")
        if value is True:
            words.append(f"--{key}")
        elif value is not False:
            words.append(f"--{key}={value}")
    return words
