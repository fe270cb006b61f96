"""What servers have in common: where they listen, by what name they are called, what their clients show."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from moe_live.errors import UsageError, printable

if TYPE_CHECKING:
    import socket  # is loaded by who listens

MAX_KEY = 1024
"""Characters of a key."""

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::[0-9]{0,5})?")


def listen(host: str, port: int, *, without_key: str | None) -> tuple[socket.socket, str | None]:
    """A socket that takes connections, and `host` if this machine alone reaches it there.

    Args:
        host: a name or an address.
        port: 0 for any that is free.
        without_key: the option that gives a key, if there is none; None if there is one.

    Raises:
        UsageError: the address cannot be had, or others reach it and no key keeps them out.
    """
    import ipaddress
    import socket

    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        is_local = ipaddress.ip_address(address[0]).is_loopback
        if not is_local and without_key is not None:
            raise UsageError(
                f"cannot listen on {printable(host)}:{port} without a key, as other machines reach it: give "
                f"{without_key}, or an address of this machine alone such as 127.0.0.1"
            )
        return socket.create_server(address, family=family), host if is_local else None
    except (OSError, UnicodeError) as error:
        if isinstance(error, socket.gaierror | UnicodeError):
            reason = "this is no name of a machine"
        else:
            reason = os.strerror(error.errno or 0)
        raise UsageError(
            f"cannot listen on {printable(host)}:{port}: {reason}; choose another address"
        ) from None


def means_this_machine(host: str, name: str) -> bool:
    """Whether a header `Host` means `localhost`, a loopback address, or `name`.

    Any port may follow: a tunnel has one of its own.

    >>> means_this_machine("127.0.0.1:9000", "gpu1"), means_this_machine("evil.example:8090", "gpu1")
    (True, False)
    """
    import ipaddress

    found = _HOST.fullmatch(host)
    if found is None:
        return False
    called = found[1].strip("[]").lower()
    if called in ("localhost", name.lower()):
        return True
    try:
        return ipaddress.ip_address(called).is_loopback
    except ValueError:
        return False


def parse_key(text: str) -> str:
    """A key as it can stand in a header.

    Raises:
        ValueError: it is empty, too long, or has blanks or characters beyond ASCII.
    """
    if not text or len(text) > MAX_KEY or not all("!" <= character <= "~" for character in text):
        raise ValueError("not a key")
    return text


def key_in(path: str) -> str:
    """The key that a file holds.

    Raises:
        UsageError: it holds none.
    """
    try:
        with Path(path).open(encoding="ascii") as file:
            return parse_key(file.read(MAX_KEY + 2).strip())
    except ValueError:
        raise UsageError(
            f"{printable(path)} holds no key: up to {MAX_KEY:,} letters, digits and signs without a blank"
        ) from None
    except OSError as error:
        raise UsageError(f"cannot read {printable(path)}: {error.strerror}; check the path") from None
