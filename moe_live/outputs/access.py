"""Who is answered: by what name a client knows the server, and what it shows."""

from __future__ import annotations

import base64
import hmac
import ipaddress
import re

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]@/]+)(?::[0-9]{0,5})?")


def names_this_machine(host: str, name: str) -> bool:
    """Whether a Host header means this machine alone: a loopback address, `localhost`, or `name`.

    Any port may follow: a tunnel has one of its own.

    >>> names_this_machine("127.0.0.1:9000", "gpu1"), names_this_machine("evil.example:8090", "gpu1")
    (True, False)
    """
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


def shows(authorization: str, token: str) -> bool:
    """Whether a header `Authorization` shows the token: as such, or as a password that a browser asked for.

    >>> shows("Bearer abc", "abc"), shows("Basic " + base64.b64encode(b"me:abc").decode(), "abc")
    (True, True)
    """
    scheme, _, credentials = authorization.partition(" ")
    shown = credentials.strip(" ").encode("latin-1")
    if scheme.lower() == "basic":
        try:
            shown = base64.b64decode(shown, validate=True).partition(b":")[2]
        except ValueError:
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(shown, token.encode())
