"""Small files that are replaced as a whole: identity, known peers, snapshot metadata.

    raftd KIND VERSION CRC\n     in ASCII; CRC: 8 hex digits, crc32 of "KIND VERSION\n" and the body
    BODY\n                       one JSON object

A document is valid if and only if the first line is spelled exactly so, the CRC agrees and the
body is the object this version describes. The first line stays the same in all versions to come,
so that a newer document is told from a damaged one. It is written to `NAME.tmp`, fsynced, renamed
and the directory fsynced: a crash leaves the old or the new one whole, and maybe `NAME.tmp`, which
means nothing.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TypeVar
from zlib import crc32

import msgspec

from raftd.storage.errors import DirectoryDamaged, DirectoryMismatch, DiskFull, is_full
from raftd.storage.files import Files, naming

VERSION = 2
"""The newest that this raftd knows; what has nothing new in it is written as 1."""
MAX_BYTES = 4 << 20
T = TypeVar("T")


def write(files: Files, path: Path, kind: str, value: msgspec.Struct, version: int = 1) -> None:
    """Replace the document at `path`; durable on return. DiskFull leaves the old one."""
    temporary = path.with_name(path.name + ".tmp")
    remove_if_there(files, temporary)
    try:
        handle = files.create(temporary)
        try:
            with naming(temporary):
                files.write_all(handle, encode(kind, msgspec.json.encode(value), version), 0)
                files.fsync(handle)
        finally:
            files.close(handle)
        files.rename(temporary, path)
    except OSError as error:
        if not is_full(error):
            raise
        remove_if_there(files, temporary)
        raise DiskFull("write", path, error.errno or 0) from error
    files.fsync_dir(path.parent)


def read(files: Files, path: Path, kind: str, shape: type[T]) -> T | None:
    """The document at `path`, None if there is none. DirectoryDamaged, DirectoryMismatch."""
    size = files.size(path)
    if size is None:
        return None
    if size > MAX_BYTES:
        raise DirectoryDamaged(path, f"{size} bytes are more than this file can have")
    body = _body(path, kind, files.read_file(path, size))
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.DecodeError as error:
        raise DirectoryDamaged(path, f"its content makes no sense ({error})") from error


def encode(kind: str, body: bytes, version: int = 1) -> bytes:
    """The bytes of a document with this body."""
    body += b"\n"
    checksum = crc32(body, crc32(f"{kind} {version}\n".encode()))
    return f"raftd {kind} {version} {checksum:08x}\n".encode() + body


def _body(path: Path, kind: str, data: bytes) -> bytes:
    """The body, once the first line and the checksum are right and the version is ours."""
    first, _, body = data.partition(b"\n")
    words = first.split(b" ")
    version = 0
    if len(words) == 4 and words[2].isdigit() and len(words[2]) < 10:
        version = int(words[2])
    if not version or encode(kind, body[:-1], version) != data:
        raise DirectoryDamaged(path, "its checksum does not agree with its content")
    if version > VERSION:
        raise DirectoryMismatch(
            path, f"format version {version} is newer than this raftd knows ({VERSION}); update it"
        )
    return body


def remove_if_there(files: Files, path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        files.unlink(path)
