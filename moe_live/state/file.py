"""A state as one file: a zip of arrays as numpy writes them, and of JSON; whole and undamaged, or refused.

The zip's comment is the SHA-256 of all bytes before it, so no byte of a file can change unnoticed. Arrays of
one type are joined, as they come: there are hundreds, most of them short. Integers are narrowed to what holds
them, and the first bytes of all numbers are a member, the second ones another: most of the higher ones are 0,
and packed in no time. What hardly gets smaller is not packed.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import stat
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from moe_live.errors import MoeLiveError, UsageError, printable
from moe_live.state.graph import DamagedError, Frozen, thaw
from moe_live.version import __version__

if sys.platform != "win32":
    import fcntl

SCHEMA = "moe-live.state/3"
"""What a file says it is. The number goes up when something that is kept changes its meaning, or
its class moves to another module; that there is more or less of it shows by itself."""

MAX_BYTES = 1 << 30
"""A longer file is none of ours, nor one that unpacks to more than `MAX_UNPACKED`."""

MAX_UNPACKED = 1 << 32

_DIGEST_BYTES = hashlib.sha256().digest_size * 2
_HEAD = "state.json"
_NAME_AT = 30  # bytes from the beginning of a zip, where the name of its first member stands
_LEVEL = 1  # of compression: higher ones take five times as long for a tenth less
_SAMPLES, _SAMPLE_BYTES = 16, 1 << 12  # by which is told whether a member gets smaller
_WORTH = 0.55  # of its size that it has to be packed to

_NARROW = {"i": (np.int8, np.int16, np.int32), "u": (np.uint8, np.uint16, np.uint32)}


def pack(frozen: Frozen) -> bytes:
    """The content of a file."""
    places: list[tuple[str, str, int, list[int]]] = []
    members: dict[str, list[NDArray[Any]]] = {}
    lengths: dict[str, int] = {}
    for array in frozen.arrays:
        narrow = _narrowed(array)
        member = narrow.dtype.str[1:]
        places.append((array.dtype.str, member, lengths.get(member, 0), [*array.shape]))
        members.setdefault(member, []).append(narrow.reshape(-1))
        lengths[member] = lengths.get(member, 0) + array.size
    head = {
        "schema": SCHEMA,
        "version": __version__,
        "classes": frozen.classes,
        "arrays": places,
        "tree": frozen.tree,
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        _add(archive, _HEAD, json.dumps(head, separators=(",", ":")).encode())
        for member, arrays in members.items():
            joined = np.concatenate(arrays)
            for place, plane in enumerate(joined.view(np.uint8).reshape(-1, joined.itemsize).T):
                content = io.BytesIO()
                np.lib.format.write_array(content, np.ascontiguousarray(plane), allow_pickle=False)
                _add(archive, f"{member}.{place}.npy", content.getvalue())
        archive.comment = b"0" * _DIGEST_BYTES
    whole = out.getbuffer()[:-_DIGEST_BYTES]
    return b"".join((whole, hashlib.sha256(whole).hexdigest().encode()))


def unpack(content: bytes) -> Frozen:
    """What `pack` was given.

    Raises:
        DamagedError: it was never packed.
    """
    whole, digest = memoryview(content)[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if hashlib.sha256(whole).hexdigest().encode() != digest:
        raise DamagedError("it was not written by moe-live, or it is damaged")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_UNPACKED:
                raise DamagedError("it is larger than any state")
            head = json.loads(archive.read(_HEAD))
            if head["schema"] != SCHEMA:
                raise DamagedError(
                    f"moe-live {head['version']} wrote it as {head['schema']}, and this is {__version__}, "
                    f"which reads {SCHEMA}"
                )
            joined = {
                member: _joined(archive, member) for member in {member for _, member, *_ in head["arrays"]}
            }
        return Frozen(head["tree"], head["classes"], list(_arrays(head["arrays"], joined)))
    except (zipfile.BadZipFile, zlib.error, RecursionError, LookupError, TypeError, ValueError) as error:
        raise DamagedError(str(error)) from error


def write(path: str | os.PathLike[str], content: bytes) -> None:
    """Put a state into a file, which has the old content or the new one whatever happens.

    A new file is for its owner alone; one that was there keeps its mode, and its owner if that may be.

    Raises:
        MoeLiveError: it cannot be written.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.moe-live-tmp")
    try:
        _write(target, temporary, content)
    except BlockingIOError as error:
        raise MoeLiveError(
            f"cannot write the state to {printable(path)}: another process does; give each a file of its own"
        ) from error
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise MoeLiveError(
            f"cannot write the state to {printable(path)}: {error.strerror or error}; name another file"
        ) from error


def read(path: str | os.PathLike[str], like: Callable[[], Frozen]) -> Any:
    """The state in a file.

    Args:
        path: of the file.
        like: makes what `thaw` takes.

    Raises:
        UsageError: there is none that could be read, or understood.
    """
    try:
        content = _content(path)
    except OSError as error:
        raise UsageError(
            f"cannot read the state {printable(path)}: {error.strerror}; check the path"
        ) from None
    if content is None:
        raise unusable(path, "it is larger than any state")
    try:
        return thaw(unpack(content), like())
    except DamagedError as error:
        raise unusable(path, error) from None


def is_state(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a state does; not whether it is one that can be read."""
    with suppress(OSError):
        if stat.S_ISREG(Path(path).stat().st_mode):  # before opening: a FIFO would be disturbed
            with Path(path).open("rb") as file:
                head = file.read(_NAME_AT + len(_HEAD))
                return head.startswith(b"PK") and head[_NAME_AT:] == _HEAD.encode()
    return False


def unusable(path: str | os.PathLike[str], reason: str | Exception) -> UsageError:
    """That a file is no state to go on with."""
    return UsageError(
        f"cannot use the state {printable(path)}: {printable(str(reason))}; it is left as it is: "
        "name another file, or move it away"
    )


def _content(path: str | os.PathLike[str]) -> bytes | None:
    """What is in a file; None for one that is too long, or none at all.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return b""
        content = file.read(MAX_BYTES + 1)
    return content if len(content) <= MAX_BYTES else None


def _write(target: Path, temporary: Path, content: bytes) -> None:
    former = target.stat() if target.exists() else None
    with _alone(temporary) as file:
        if former is not None:
            with suppress(OSError):
                os.fchown(file.fileno(), former.st_uid, former.st_gid)
        os.fchmod(file.fileno(), 0o600 if former is None else former.st_mode & 0o777)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        temporary.replace(target)
    with suppress(OSError):  # a directory that may not be read cannot be synced
        directory = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


@contextmanager
def _alone(temporary: Path) -> Iterator[BinaryIO]:
    """A file to write to, empty, that no other process writes to; what one that was killed has left is used.

    Raises:
        OSError: another process writes to it, or it cannot be written to.
    """
    while True:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            if sys.platform != "win32":
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who wrote to it before may have renamed it since: then it is the state.
            if _names(temporary, descriptor):
                os.ftruncate(descriptor, 0)
                yield file
                return


def _names(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Add a member, packed if that is worth while."""
    begins = range(0, len(content), max(1, len(content) // _SAMPLES))
    sample = b"".join(content[begin : begin + _SAMPLE_BYTES] for begin in begins)
    is_packed = len(zlib.compress(sample, _LEVEL)) < _WORTH * len(sample)
    method = zipfile.ZIP_DEFLATED if is_packed else zipfile.ZIP_STORED
    archive.writestr(zipfile.ZipInfo(name), content, method, _LEVEL)


def _narrowed(array: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in as few bytes as hold them."""
    kinds = _NARROW.get(array.dtype.kind, ())
    if array.itemsize == 1 or not kinds or not array.size:
        return array
    low, high = int(array.min()), int(array.max())
    for kind in kinds:
        bounds = np.iinfo(kind)
        if bounds.min <= low and high <= bounds.max:
            return array.astype(kind) if np.dtype(kind).itemsize < array.itemsize else array
    return array


def _joined(archive: zipfile.ZipFile, member: str) -> NDArray[Any]:
    """(n,) All numbers of one type, of which the members of the zip are the first, second and so on bytes."""
    dtype = np.dtype(f"<{member}")
    planes = [_plane(archive.read(f"{member}.{place}.npy")) for place in range(dtype.itemsize)]
    return np.stack(planes, axis=1).view(dtype).reshape(-1)


def _plane(content: bytes) -> NDArray[np.uint8]:
    """The bytes (n,) in a member of the zip; nothing is allocated for what is not there."""
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("no such array")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype != np.uint8 or shape != (len(content) - file.tell(),):
        raise ValueError("no such array")
    return np.frombuffer(content, np.uint8, offset=file.tell())


def _arrays(places: Sequence[Sequence[Any]], joined: Mapping[str, NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """The arrays at these places, in memory of their own."""
    for dtype, member, begin, shape in places:
        size = math.prod(shape)
        numbers = joined[member][begin : begin + size]
        if begin < 0 or len(numbers) != size:
            raise ValueError("an array is missing")
        yield numbers.reshape(shape).astype(np.dtype(dtype))
