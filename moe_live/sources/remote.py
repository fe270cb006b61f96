"""Files that fsspec can reach: s3://, gs://, hdfs://, http:// and others; and those that lie here."""

from __future__ import annotations

import errno
import os
import re
from importlib import import_module
from typing import Any, NamedTuple

from moe_live.errors import MoeLiveError, UsageError, printable
from moe_live.sources.stream import ByteStream

_URL = re.compile(r"[a-z][a-z0-9+.-]*(?:::[a-z][a-z0-9+.-]*)*://.+", re.DOTALL)
_MAGIC = re.compile(r"[*?[]")


class RemoteFile(NamedTuple):
    """A file by its URL; its bytes, None if nobody tells."""

    url: str
    size: int | None


class RemoteStream(ByteStream):
    """Reads a file of a file system of fsspec.

    Args:
        file: opened for reading in binary mode.
        name: what it is, for messages.
    """

    def __init__(self, file: Any, name: str) -> None:
        self.fd = -1
        self.size = getattr(file, "size", None)
        self._file = file
        self._begin(name)

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def _is_ready(self) -> bool:
        return True

    def _take(self, limit: int) -> bytes:
        try:
            return bytes(self._file.read(limit))
        except OSError as error:
            raise _readable(error) from error
        except Exception as error:  # each file system has its own
            raise OSError(errno.EIO, str(error)) from error


def is_url(path: str) -> bool:
    """Whether it names a file elsewhere."""
    return _URL.fullmatch(path) is not None


def opened(path: str, begin: int = 0) -> ByteStream:
    """A file here or elsewhere, to be read from an offset on.

    Raises:
        OSError: it cannot be opened.
    """
    if not is_url(path):
        descriptor = os.open(path, os.O_RDONLY)
        os.lseek(descriptor, begin, os.SEEK_SET)
        return ByteStream(descriptor, path)
    try:
        system, name = _system_of(path)
        return RemoteStream(system.open(name, "rb"), path)
    except OSError as error:
        raise _readable(error) from error
    except Exception as error:  # as above; and here MoeLiveError
        raise OSError(errno.EIO, str(error)) from error


def found(pattern: str) -> list[RemoteFile]:
    """The files that a URL names, which may have `*`, `?` and `[...]` in it, in the order of their names.

    Raises:
        MoeLiveError: they cannot be listed, or there are none.
    """
    try:
        system, name = _system_of(pattern)
        if _MAGIC.search(name):
            every = [info for _, info in sorted(system.glob(name, detail=True).items())]
        else:
            every = [system.info(name)]
    except MoeLiveError:
        raise
    except FileNotFoundError:
        every = []
    except Exception as error:  # as above
        raise MoeLiveError(f"cannot read {printable(pattern)}: {printable(str(error))}") from error
    files = [info for info in every if info.get("type") != "directory"]
    if not files:
        raise MoeLiveError(f"cannot read {printable(pattern)}: there is no such file; check the URL")
    return [RemoteFile(system.unstrip_protocol(info["name"]), info.get("size")) for info in files]


def _system_of(url: str) -> tuple[Any, str]:
    """The file system of a URL, and what the file is called there.

    Raises:
        UsageError: what reads it is not installed.
    """
    try:
        system, name = import_module("fsspec").url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"cannot read {printable(url)}: {printable(str(error))}; pip install 'moe-live[dask]' "
            "and what fsspec needs for this protocol"
        ) from error
    return system, name


def _readable(error: OSError) -> OSError:
    """The same with a text, which some are without."""
    if error.strerror:
        return error
    for kind, number in ((FileNotFoundError, errno.ENOENT), (PermissionError, errno.EACCES)):
        if isinstance(error, kind):
            return OSError(number, os.strerror(number))
    return OSError(errno.EIO, str(error))
