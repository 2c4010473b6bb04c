"""Check the CRC-32 that a zip file records of each of its members; `torch.load` does not."""

from __future__ import annotations

import zipfile
import zlib
from io import FileIO
from typing import IO

from mkfa.errors import SourceError
from mkfa.storage.files import read_span

_SLAB = 1 << 20


def damaged_record(file: IO[bytes], *, most_bytes: int) -> str:
    """Return the name of the first record whose bytes differ from its CRC-32, or "" if there is none.

    A recorded CRC of 0 means that there is none: `torch.serialization.set_crc32_options(False)` writes such files.

    Parameters
    ----------
    most_bytes : bytes of all records together, unpacked, above which the file is not sound

    Raises zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError, zlib.error: the file is not a sound
    zip file.
    """
    with zipfile.ZipFile(file) as archive:
        if sum(info.file_size for info in archive.infolist()) > most_bytes:
            raise zipfile.BadZipFile("records larger than the file")
        for info in archive.infolist():
            recorded, crc, size = info.CRC, 0, 0
            info.CRC = None  # type: ignore[assignment]  # so that zipfile does not compare a CRC that was not computed
            with archive.open(info) as member:
                while part := member.read(_SLAB):
                    crc, size = zlib.crc32(part, crc), size + len(part)
            if size != info.file_size or recorded not in (0, crc):
                return info.filename
    return ""


def check_span(f: FileIO, span: tuple[int, int, int], *, name: str, thing: object) -> None:
    """Compare the bytes of a span, (first byte, byte after the last, CRC-32), with its CRC-32; 0 is not compared.

    Raises SourceError: they differ, or cannot be read. `name` is that of the record, `thing` that of the file.
    """
    first, last, crc = span
    if not crc:
        return
    got = 0
    for at in range(first, last, _SLAB):
        got = zlib.crc32(read_span(f, at, min(at + _SLAB, last), thing=thing), got)
    if got != crc:
        problem = f"is damaged: the bytes of its record {name[:60]!r} differ from the checksum beside them"
        raise SourceError(thing, problem, "fetch the file again")
