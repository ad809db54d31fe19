"""Unpack a tar.gz into a folder, within limits: its content is not trusted."""

from __future__ import annotations

import gzip
import io
import os
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

_MIB = 1024 * 1024
_MOST_LEVELS = 100
_LONGEST_PATH = 1000
"""Nested folders, and characters of a path inside the folder. Both are far below the limits of the system's calls
(4,096 characters) and of Python's recursion (1,000), so that the unpacked files can be checked and removed again."""
_LONGEST_HEADER = _MIB
"""Bytes of a header (names, PAX records): tarfile reads a header into memory."""
_LONGEST_PAX = 16 * 1024
_MOST_GLOBALS = 100
"""Bytes of a PAX header, and records of global ones, which tarfile copies for each member."""
_PAX_RECORD = re.compile(rb"(\d{1,5}) [^=\n]+=")
_MANY_DIGITS = re.compile(rb"\d{200}")
"""tarfile before Python 3.11.10 takes quadratic time for long numbers in a PAX header (CVE-2024-6232)."""
_DAMAGED = (
    *(tarfile.TarError, zlib.error, EOFError, OSError),
    *(ValueError, TypeError, LookupError, ArithmeticError, RecursionError, MemoryError),
)
"""Raised by gzip and tarfile for a damaged archive; those of the second line come from odd headers."""


class BadArchive(Exception):
    """The object is not a tar.gz, or it would write outside of its folder."""


class TooLarge(BadArchive):
    """The files to unpack or copy are more than the settings permit."""


@dataclass
class Allowance:
    """The bytes and files (folders and links, too) that can still be written for a model; 0 sets no limit."""

    size: int
    files: int
    _size_used: int = field(default=0, init=False)
    _files_used: int = field(default=0, init=False)

    @classmethod
    def of(cls, megabytes: float, files: float) -> Allowance:
        return cls(int(megabytes * _MIB), int(files))

    def take_file(self) -> None:
        self._files_used += 1
        if self.files and self._files_used > self.files:
            raise TooLarge(
                f"It holds more than {self.files} files, the setting model_data_limit_files; raise the setting "
                "if the model is as large as that."
            )

    def take(self, size: int) -> None:
        self._size_used += size
        if self.size and self._size_used > self.size:
            raise TooLarge(
                f"It is larger than {self.size / _MIB:g} MiB, the setting model_data_limit_mb; raise the setting "
                "if the model is as large as that."
            )


def extract(archive: Path, folder: Path, allowance: Allowance, check: Callable[[], None]) -> None:
    """Unpack a tar.gz. Raises BadArchive; TooLarge for more than the allowance.

    Bytes are counted as they are decompressed, whatever the headers claim. Links and paths stay in the folder, devices
    and sparse files are refused, and no mode has set-user-id (tarfile's ``data`` filter).

    :param check: called for each member and each read; an exception of it ends the unpacking
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with gzip.open(archive) as unzipped:
            _extract_all(_Bounded(unzipped, allowance, check), folder, allowance, check)
    except _DAMAGED as error:
        raise BadArchive(str(error) or type(error).__name__) from error


def _extract_all(stream: _Bounded, folder: Path, allowance: Allowance, check: Callable[[], None]) -> None:
    with tarfile.open(fileobj=stream, mode="r:", tarinfo=_TarHeader) as packed:
        for member in _members(packed, folder, allowance, check):
            packed.extract(member, folder, filter="data")
    while rest := stream.read(_LONGEST_HEADER):  # only the end has gzip's checksum
        if rest.strip(b"\0"):
            raise BadArchive("Data follow the archive's end")


def check_path(folder: Path, relative: str) -> Path:
    """Resolve a file's path. Raises BadArchive for a path outside of the folder, or too deep in it."""
    root = os.path.realpath(folder)
    return _check_target(root, os.path.realpath(Path(root, relative)), relative)


def _check_target(root: str, target: str, relative: str) -> Path:
    if not (target == root or target.startswith(root + os.sep)):
        raise BadArchive(f"{relative[:100]!r} is outside of the model's folder")
    inside = target[len(root) + 1 :]
    if len(inside) > _LONGEST_PATH or len(relative) > _LONGEST_PATH or inside.count(os.sep) >= _MOST_LEVELS:
        raise BadArchive(
            f"The path {relative[:100]!r}… is longer than {_LONGEST_PATH} characters or {_MOST_LEVELS} levels"
        )
    return Path(target)


def _members(
    packed: tarfile.TarFile, folder: Path, allowance: Allowance, check: Callable[[], None]
) -> Iterator[tarfile.TarInfo]:
    parents = Parents(folder, allowance)
    for member in packed:
        check()
        allowance.take_file()
        parents.check(member.name.strip("/"))
        if member.issparse() or any(key.startswith("GNU.sparse.") for key in member.pax_headers):
            raise BadArchive(f"{member.name[:100]!r} is a sparse file")
        if member.islnk() and not check_path(folder, member.linkname).exists():
            # tarfile would search the archive for it, and decompress it again
            raise BadArchive(f"{member.name[:100]!r} is a hard link to a file that does not come before it")
        if member.issym():
            parents.forget()
        yield member


class Parents:
    """The folders of unpacked or copied files, each resolved once. Missing ones count towards the allowance, too."""

    def __init__(self, folder: Path, allowance: Allowance) -> None:
        self._root = os.path.realpath(folder)
        self._allowance = allowance
        self._resolved: dict[str, Path] = {}

    def check(self, name: str) -> Path:
        """Resolve a file's path, and count its missing parents. Raises BadArchive, TooLarge."""
        if ".." in name.split("/"):  # tarfile creates folders that the resolved path lacks
            raise BadArchive(f"{name[:100]!r} is outside of the model's folder, or holds '..'")
        parent, _, leaf = name.rpartition("/")
        if parent not in self._resolved:
            resolved = check_path(Path(self._root), parent)
            self._count_missing(resolved)
            self._resolved[parent] = resolved
        target = Path(self._resolved[parent], leaf)
        resolved_target = os.path.realpath(target) if target.is_symlink() else str(target)
        return _check_target(self._root, resolved_target, name)

    def forget(self) -> None:
        """Drop the resolved folders: a new symbolic link can change them."""
        self._resolved.clear()

    def _count_missing(self, parent: Path) -> None:
        while not os.path.lexists(parent):
            self._allowance.take_file()
            parent = parent.parent


class _TarHeader(tarfile.TarInfo):
    """A header that is refused when it is damaged; tarfile would end the archive there.

    Sparse files are refused before their maps are read, which have no limit.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        if 0 < len(buf) < tarfile.BLOCKSIZE:
            raise BadArchive("The archive ends inside of a header")
        if buf[156:157] == tarfile.GNUTYPE_SPARSE:
            raise BadArchive("It holds a sparse file")
        if buf and any(buf):
            try:
                return super().frombuf(buf, encoding, errors)
            except tarfile.HeaderError as error:
                raise BadArchive(f"A header is damaged: {error}") from error
        return super().frombuf(buf, encoding, errors)

    def _proc_pax(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size > _LONGEST_PAX:
            raise TooLarge(f"A PAX header of {self.size} bytes is longer than {_LONGEST_PAX}")
        if len(archive.pax_headers) > _MOST_GLOBALS:
            raise TooLarge(f"Its global PAX headers have more than {_MOST_GLOBALS} records")
        stream: _Bounded = archive.fileobj  # type: ignore[assignment] # opened by extract()
        content = stream.read(-(-self.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
        _check_pax(content[: self.size])
        stream.unread(content)
        header: tarfile.TarInfo = super()._proc_pax(archive)  # type: ignore[misc] # not in the stubs
        return header

    def _refuse_sparse(self, *_: object) -> None:
        raise BadArchive("It holds a sparse file")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


def _check_pax(content: bytes) -> None:
    """Raise BadArchive unless a PAX header is a sequence of records, each of its declared length."""
    start = 0
    while start < len(content):
        match = _PAX_RECORD.match(content, start)
        end = start + int(match[1]) if match else 0
        if match is None or end <= match.end() or content[end - 1 : end] != b"\n":
            raise BadArchive("A PAX header is damaged")
        start = end
    if _MANY_DIGITS.search(content):
        raise BadArchive("A PAX header has a number of more than 200 digits")


class _Bounded(io.RawIOBase):
    """A gzip stream that raises TooLarge once more bytes than the allowance were read."""

    def __init__(self, stream: gzip.GzipFile, allowance: Allowance, check: Callable[[], None]) -> None:
        super().__init__()
        self._check = check
        self._stream = stream
        self._allowance = allowance
        self._furthest = 0
        self._unread = b""

    def unread(self, data: bytes) -> None:
        self._unread = data

    def read(self, size: int = -1, /) -> bytes:
        if self._unread:
            data, self._unread = self._unread, b""
            return data
        if not 0 <= size <= _LONGEST_HEADER:
            raise TooLarge(f"A header of {size} bytes is longer than {_LONGEST_HEADER}")
        self._check()
        data = self._stream.read(size)
        self._count()
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move forwards in small steps: gzip decompresses the bytes between."""
        if whence != io.SEEK_SET or offset < self._stream.tell():  # backwards, it decompresses from the start
            raise io.UnsupportedOperation("A header leads back to what was read already")
        while (left := offset - self._stream.tell()) and self.read(min(left, _LONGEST_HEADER)):
            pass
        return self._stream.tell()

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
