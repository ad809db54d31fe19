"""Unpack a tar.gz into a folder, within bounds: nobody knows what is in it before it is read."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_MIB = 1024 * 1024
_MOST_LEVELS = 100
_LONGEST_PATH = 1000
"""Folders below each other, and characters of a path below the folder: far below what the system's calls (4,096
characters) and Python's recursion (1,000) bear, so that what is unpacked can be checked and removed again."""
_LONGEST_HEADER = _MIB
"""Bytes of a header (names, PAX records): tarfile reads one into memory as a whole."""


class BadArchive(Exception):
    """An object is no tar.gz, or it would write outside of its folder."""


class TooLarge(BadArchive):
    """What is to be unpacked or copied is more than the settings permit."""


@dataclass
class Allowance:
    """How much may still be written, for all archives and objects of one model together.

    :param size: bytes; 0 sets no limit
    :param files: files, folders and links; 0 sets no limit
    """

    size: int
    files: int
    _size_used: int = field(default=0, init=False)
    _files_used: int = field(default=0, init=False)

    @classmethod
    def of(cls, megabytes: float, files: float) -> Allowance:
        """Return the allowance of ``model_data_limit_mb`` and ``model_data_limit_files``."""
        return cls(int(megabytes * _MIB), int(files))

    def take_file(self) -> None:
        """Count a file. Raises TooLarge."""
        self._files_used += 1
        if self.files and self._files_used > self.files:
            raise TooLarge(
                f"It holds more than {self.files} files, the setting model_data_limit_files; raise the setting "
                "if the model is as large as that."
            )

    def take(self, size: int) -> None:
        """Count bytes. Raises TooLarge."""
        self._size_used += size
        if self.size and self._size_used > self.size:
            raise TooLarge(
                f"It is larger than {self.size / _MIB:g} MiB, the setting model_data_limit_mb; raise the setting "
                "if the model is as large as that."
            )


def extract(archive: Path, folder: Path, allowance: Allowance) -> None:
    """Unpack a tar.gz. Raises BadArchive, TooLarge when it holds more than the allowance.

    Bytes are counted as they are decompressed, whatever the headers claim. Links and paths stay in the folder, devices
    are refused, and no mode has set-user-id (tarfile's ``data`` filter).
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with (
            gzip.open(archive) as unzipped,
            tarfile.open(fileobj=_Bounded(unzipped, allowance), mode="r:") as packed,
        ):
            for member in _members(packed, folder, allowance):
                packed.extract(member, folder, filter="data")
    # ValueError, OverflowError: what odd headers bring tarfile to
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError, OverflowError) as error:
        raise BadArchive(str(error)) from error


def check_path(folder: Path, relative: str) -> Path:
    """Return where a file goes. Raises BadArchive if that is outside of the folder, or too deep in it."""
    root = os.path.realpath(folder)
    target = os.path.realpath(Path(root, relative))
    inside = os.path.relpath(target, root)
    if not (target == root or target.startswith(root + os.sep)):
        raise BadArchive(f"{relative[:100]!r} is outside of the model's folder")
    if len(inside) > _LONGEST_PATH or len(relative) > _LONGEST_PATH or inside.count(os.sep) >= _MOST_LEVELS:
        raise BadArchive(
            f"The path {relative[:100]!r}… is longer than {_LONGEST_PATH} characters or {_MOST_LEVELS} levels"
        )
    return Path(target)


def _members(packed: tarfile.TarFile, folder: Path, allowance: Allowance) -> Iterator[tarfile.TarInfo]:
    """Yield the members that are within bounds, each before it is unpacked."""
    for member in packed:
        allowance.take_file()
        check_path(folder, member.name.lstrip("/"))
        if member.issparse():  # its holes are no bytes of the stream
            allowance.take(member.size)
        if member.islnk() and not check_path(folder, member.linkname).exists():
            # tarfile would look for it in the whole archive, which means to decompress it again
            raise BadArchive(f"{member.name[:100]!r} is a hard link to a file that does not come before it")
        yield member


class _Bounded(io.RawIOBase):
    """A gzip stream that ends with TooLarge once more was read from it than the allowance has."""

    def __init__(self, stream: gzip.GzipFile, allowance: Allowance) -> None:
        super().__init__()
        self._stream = stream
        self._allowance = allowance
        self._furthest = 0

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= _LONGEST_HEADER:
            raise TooLarge(f"A header of {size} bytes is longer than {_LONGEST_HEADER}")
        data = self._stream.read(size)
        self._count()
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move in small steps: gzip decompresses what lies between."""
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation
        while (position := self._stream.tell()) < offset and self._stream.read(
            min(offset - position, _LONGEST_HEADER)
        ):
            self._count()
        return self._stream.seek(offset) if self._stream.tell() > offset else self._stream.tell()

    def tell(self) -> int:
        return self._stream.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def _count(self) -> None:
        position = self._stream.tell()
        if position > self._furthest:
            self._allowance.take(position - self._furthest)
            self._furthest = position
