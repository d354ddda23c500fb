"""Pages of FIND_FIRST2 and FIND_NEXT2 in the levels that are SMB1's own.  [MS-CIFS] 2.2.8.1.

The levels of NT servers are the directory classes of [MS-FSCC] (`wire/dirlist.py`), where names are UTF-16. Here are
those with code page names, with the server's stat (UNIX extensions), and of servers older than NT.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple

from smbfuse.errors import DecodeError
from smbfuse.wire.dirlist import DirectoryEntry
from smbfuse.wire.record import Buffer, view
from smbfuse.wire.smb1.levels import InfoStandard, UnixBasic, UnixInfo2
from smbfuse.wire.smb1.message import Strings

MOST_ENTRIES: Final = 0x1000  # more than any page holds


class FindLevel(enum.IntEnum):
    """Levels of FIND_FIRST2 and FIND_NEXT2.  [MS-CIFS] 2.2.2.3.1, [MS-SMB] 2.2.2.3.1."""

    INFO_STANDARD = 0x0001
    FULL_DIRECTORY_INFO = 0x0102
    ID_FULL_DIRECTORY_INFO = 0x0105
    UNIX = 0x0202
    UNIX_INFO2 = 0x020B


class StandardEntry(NamedTuple):
    """One entry of an SMB_INFO_STANDARD page."""

    file_name: str
    info: InfoStandard
    resume_key: int


class UnixEntry(NamedTuple):
    """One entry of a UNIX page."""

    file_name: str
    info: UnixBasic | UnixInfo2


_RESUME_KEY: Final = 4
_LENGTH: Final = Struct("<I")
_NEXT: Final = Struct("<I4x")
# NextEntryOffset, FileIndex, four times, EndOfFile, AllocationSize, attributes, FileNameLength, EaSize; FileId
_FULL: Final = Struct("<I4xQQQQqqIII")
_ID_FULL: Final = Struct("<I4xQQQQqqIII4xQ")


def decode_standard_page(page: Buffer, count: int, strings: Strings) -> list[StandardEntry]:
    """Read `count` entries that were asked for with resume keys. There is no chain: each ends with its name."""
    entries = []
    at = 0
    for _ in range(count):
        key = int.from_bytes(view(page, at, _RESUME_KEY, "resume key"), "little")
        info = InfoStandard.decode(page, at + _RESUME_KEY)
        at += _RESUME_KEY + InfoStandard.SIZE
        length = view(page, at, 1, "name length")[0]
        at += 1
        if strings.unicode:
            at += at % 2
        name = strings.decode_bare(view(page, at, length, "name")).rstrip("\0")
        # The terminator is not counted, except by servers that count it.
        at += length
        if strings.unicode:
            at += 2 if bytes(page[at : at + 2]) == b"\0\0" else 0
        elif bytes(page[at : at + 1]) == b"\0":
            at += 1
        entries.append(StandardEntry(name, info, key))
    return entries


def encode_standard_page(entries: Sequence[StandardEntry], strings: Strings) -> bytes:
    """Return a page with resume keys."""
    page = b""
    for entry in entries:
        name = strings.encode_bare(entry.file_name)
        page += entry.resume_key.to_bytes(_RESUME_KEY, "little") + entry.info.encode() + bytes((len(name),))
        page += strings.encode(entry.file_name, len(page))
    return page


def decode_unix_page(level: int, page: Buffer, strings: Strings) -> list[UnixEntry]:
    """Read a page of FIND_FILE_UNIX (names end with NUL) or FIND_FILE_UNIX_INFO2 (names have a length)."""
    counted = level == FindLevel.UNIX_INFO2
    layout = UnixInfo2 if counted else UnixBasic
    entries: list[UnixEntry] = []
    at = 0
    while at < len(page):
        (step,) = _NEXT.unpack(view(page, at, _NEXT.size, "UNIX entry"))
        end = at + step if step else len(page)
        start = at + _NEXT.size + layout.SIZE
        info = layout.decode(page, at + _NEXT.size)
        if counted:
            (length,) = _LENGTH.unpack(view(page, start, _LENGTH.size, "name length"))
            start += _LENGTH.size
        else:
            length = end - start
        if not start <= start + length <= end <= len(page):
            raise DecodeError(f"UNIX entry at {at}: name of {length} bytes, next entry at {step}")
        name = strings.decode_bare(view(page, start, length, "name"))
        entries.append(UnixEntry(name if counted else name.partition("\0")[0], info))
        if not step:
            break
        at = end
    return entries


def encode_unix_page(level: int, entries: Sequence[UnixEntry], strings: Strings) -> bytes:
    """Return a page of FIND_FILE_UNIX or FIND_FILE_UNIX_INFO2."""
    page = bytearray()
    for number, entry in enumerate(entries, 1):
        name = strings.encode_bare(entry.file_name)
        if level == FindLevel.UNIX_INFO2:
            body = entry.info.encode() + _LENGTH.pack(len(name)) + name
        else:
            body = entry.info.encode() + strings.encode(entry.file_name, 0)
        body += bytes(-len(body) % 4)
        page += _NEXT.pack(0 if number == len(entries) else _NEXT.size + len(body)) + body
    return bytes(page)


def decode_oem_page(level: int, page: Buffer, strings: Strings) -> list[DirectoryEntry]:
    """Read a page of an NT level from a server without Unicode: the layouts of [MS-FSCC], names in the code page."""
    layout = _ID_FULL if level == FindLevel.ID_FULL_DIRECTORY_INFO else _FULL
    entries: list[DirectoryEntry] = []
    at = 0
    while at < len(page):
        fields = layout.unpack(view(page, at, layout.size, "directory entry"))
        step, length, start = fields[0], fields[8], at + layout.size
        if step and layout.size + length > step:
            raise DecodeError(f"directory entry at {at}: name of {length} bytes, next entry at {step}")
        name = strings.decode_bare(view(page, start, length, "name")).rstrip("\0")
        file_id = fields[10] if layout is _ID_FULL else 0
        entries.append(DirectoryEntry(*(name, *fields[1:8], fields[9], file_id)))
        if not step:
            break
        at += step
    return entries
