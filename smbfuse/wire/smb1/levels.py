"""Information levels of SMB1's own: what a path, a file and a volume are, as the old dialects and UNIX say it.

[MS-CIFS] 2.2.8.2 to 2.2.8.3. Levels of 1000 and more are the information classes of [MS-FSCC], passed through.
"""

from __future__ import annotations

import calendar
import enum
import time
from dataclasses import dataclass
from struct import Struct
from typing import Final

from smbfuse.errors import DecodeError
from smbfuse.wire.fscc import FileBasicInformation, FileInformation, FileStandardInformation, VolumeInformation
from smbfuse.wire.record import U16, U32, U64, Buffer, Record, record, view
from smbfuse.wire.smb1.message import Strings

PASS_THROUGH: Final = 1000  # [MS-SMB] 2.2.2.3.5, with CAP_INFOLEVEL_PASSTHRU


class PathLevel(enum.IntEnum):
    """Levels of QUERY_PATH_INFORMATION and QUERY_FILE_INFORMATION.  [MS-CIFS] 2.2.2.3.3."""

    INFO_STANDARD = 0x0001
    QUERY_FILE_ALL_INFO = 0x0107
    UNIX_BASIC = 0x0200
    UNIX_LINK = 0x0201
    UNIX_INFO2 = 0x020B
    PASS_THROUGH_INTERNAL = PASS_THROUGH + FileInformation.INTERNAL
    PASS_THROUGH_ALL = PASS_THROUGH + FileInformation.ALL


class FsLevel(enum.IntEnum):
    """Levels of QUERY_FS_INFORMATION and SET_FS_INFORMATION.  [MS-CIFS] 2.2.2.3.2."""

    INFO_ALLOCATION = 0x0001
    QUERY_FS_SIZE_INFO = 0x0103
    QUERY_FS_ATTRIBUTE_INFO = 0x0105
    UNIX_INFO = 0x0200
    POSIX_FS_INFO = 0x0201
    PASS_THROUGH_FULL_SIZE = PASS_THROUGH + VolumeInformation.FULL_SIZE


def dos_time_to_unix(date: int, clock: int, zone_minutes: int) -> int | None:
    """Return seconds since 1970 for an SMB_DATE and SMB_TIME; None for no date, or one that no calendar has.

    `zone_minutes` is the ServerTimeZone, positive west of UTC.  [MS-CIFS] 2.2.1.4.
    """
    year, month, day = 1980 + (date >> 9), date >> 5 & 0xF, date & 0x1F
    hour, minute, second = clock >> 11, clock >> 5 & 0x3F, (clock & 0x1F) * 2
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 60):
        return None
    return calendar.timegm((year, month, day, hour, minute, second)) + zone_minutes * 60


def unix_to_dos_time(seconds: int, zone_minutes: int) -> tuple[int, int]:
    """Return the SMB_DATE and SMB_TIME of a moment, rounded down to 2 s; the year is forced into 1980 to 2107."""
    at = time.gmtime(seconds - zone_minutes * 60)
    year = min(max(at.tm_year, 1980), 2107)
    return (year - 1980) << 9 | at.tm_mon << 5 | at.tm_mday, at.tm_hour << 11 | at.tm_min << 5 | at.tm_sec // 2


def local_to_unix(seconds: int, zone_minutes: int) -> int | None:
    """Return seconds since 1970 for a UTIME of the server's local time; None where it says nothing (0 or all ones)."""
    return None if seconds in (0, 0xFFFFFFFF) else seconds + zone_minutes * 60


def unix_to_local(seconds: int, zone_minutes: int) -> int:
    """Return the UTIME of a moment in the server's local time; never one of the values that say nothing."""
    return min(max(seconds - zone_minutes * 60, 1), 0xFFFFFFFE)


@record()
class InfoStandard(Record):
    """SMB_INFO_STANDARD, 22 bytes. Dates and times are the server's local ones.  [MS-CIFS] 2.2.8.3.1."""

    creation_date: U16
    creation_time: U16
    last_access_date: U16
    last_access_time: U16
    last_write_date: U16
    last_write_time: U16
    file_data_size: U32
    allocation_size: U32
    attributes: U16


_ALL_TAIL: Final = Struct("<II")  # EaSize, FileNameLength


@dataclass(frozen=True, slots=True)
class QueryFileAllInfo:
    """SMB_QUERY_FILE_ALL_INFO, 72 bytes and the name: two classes of [MS-FSCC], no file id.  [MS-CIFS] 2.2.8.3.10."""

    basic: FileBasicInformation
    standard: FileStandardInformation
    ea_size: int
    file_name: str

    def encode(self, strings: Strings) -> bytes:
        """Return the whole structure."""
        name = strings.encode_bare(self.file_name)
        return self.basic.encode() + self.standard.encode() + _ALL_TAIL.pack(self.ea_size, len(name)) + name

    @classmethod
    def decode(cls, data: Buffer, strings: Strings) -> QueryFileAllInfo:
        """Read the structure; a name that is cut off or left away is given as far as it came."""
        basic = FileBasicInformation.decode(data)
        standard = FileStandardInformation.decode(data, basic.SIZE)
        at = basic.SIZE + standard.SIZE
        ea_size, length = _ALL_TAIL.unpack(view(data, at, _ALL_TAIL.size, cls.__name__))
        name = memoryview(data)[at + _ALL_TAIL.size :][:length]
        return cls(basic, standard, ea_size, strings.decode_bare(name))


class UnixType(enum.IntEnum):
    """Type of a file in the UNIX levels."""

    FILE = 0
    DIRECTORY = 1
    SYMLINK = 2
    CHARACTER_DEVICE = 3
    BLOCK_DEVICE = 4
    FIFO = 5
    SOCKET = 6


@record()
class UnixBasic(Record):
    """SMB_QUERY_FILE_UNIX_BASIC, 100 bytes: the server's stat. Times are FILETIMEs.

    The device numbers are the node's own for devices; for everything else Samba gives those of the volume. (CIFS UNIX
    extensions, wiki.samba.org; the layout was checked with captures.)
    """

    end_of_file: U64
    number_of_bytes: U64
    last_status_change: U64
    last_access_time: U64
    last_modification_time: U64
    uid: U64
    gid: U64
    type: U32
    device_major: U64
    device_minor: U64
    unique_id: U64
    permissions: U64
    links: U64


@record()
class UnixInfo2(Record):
    """SMB_QUERY_FILE_UNIX_INFO2, 116 bytes: UnixBasic and the time of birth."""

    end_of_file: U64
    number_of_bytes: U64
    last_status_change: U64
    last_access_time: U64
    last_modification_time: U64
    uid: U64
    gid: U64
    type: U32
    device_major: U64
    device_minor: U64
    unique_id: U64
    permissions: U64
    links: U64
    creation_time: U64
    file_flags: U32
    file_flags_mask: U32


class UnixCapabilities(enum.IntFlag, boundary=enum.KEEP):
    """What server and client agree on with QUERY_FS and SET_FS UNIX_INFO."""

    FCNTL_LOCKS = 0x01
    POSIX_ACLS = 0x02
    XATTR = 0x04
    EXTATTR = 0x08
    POSIX_PATHNAMES = 0x10
    POSIX_PATH_OPERATIONS = 0x20
    LARGE_READ = 0x40
    LARGE_WRITE = 0x80
    TRANSPORT_ENCRYPTION = 0x100
    TRANSPORT_ENCRYPTION_MANDATORY = 0x200


@record()
class UnixInfo(Record):
    """SMB_QUERY_CIFS_UNIX_INFO and SMB_SET_CIFS_UNIX_INFO: version and capabilities of the UNIX extensions."""

    major_version: U16
    minor_version: U16
    capabilities: U64


@record()
class PosixFsInfo(Record):
    """SMB_QUERY_POSIX_FS_INFO, 56 bytes: the server's statvfs."""

    optimal_transfer_size: U32
    block_size: U32
    total_blocks: U64
    blocks_available: U64
    user_blocks_available: U64
    total_file_nodes: U64
    free_file_nodes: U64
    file_system_identifier: U64


@record()
class InfoAllocation(Record):
    """SMB_INFO_ALLOCATION, 18 bytes: the oldest way to say how big a disk is.  [MS-CIFS] 2.2.8.2.1."""

    file_system_id: U32
    sectors_per_unit: U32
    total_units: U32
    free_units: U32
    sector_size: U16


def decode_unix_link(data: Buffer, strings: Strings) -> str:
    """Return the target of a symlink from SMB_QUERY_FILE_UNIX_LINK, in the server's own spelling."""
    text, end, _ = strings.decode_bare(data).partition("\0")
    if not text and not end:
        raise DecodeError("an empty symlink target")
    return text
