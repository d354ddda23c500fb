"""What an SMB1 server tells of files, and in which of its levels: newest first, and down where it knows less.

A ladder holds the levels that a server may know, best first. A level that the server refuses as unknown, before it has
ever worked, is left for the next one, for good. Each level gives the same `FileStat`, as far as it goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from smbfuse.client import filestat
from smbfuse.errors import DecodeError
from smbfuse.share import Attributes, DirEntry, FileStat, Kind
from smbfuse.status import NtStatus
from smbfuse.wire import dirlist
from smbfuse.wire.dtyp import filetime_to_ns
from smbfuse.wire.fscc import FileAllInformation, FileBasicInformation, FileInformation, FileStandardInformation
from smbfuse.wire.smb1 import listing
from smbfuse.wire.smb1.levels import (
    InfoStandard,
    PathLevel,
    QueryFileAllInfo,
    UnixBasic,
    UnixInfo2,
    UnixType,
    dos_time_to_unix,
    local_to_unix,
)
from smbfuse.wire.smb1.listing import FindLevel
from smbfuse.wire.smb1.message import Strings
from smbfuse.wire.smb1.names import QueryInformationResponse

SECOND_NS: Final = 1_000_000_000
BY_COMMAND: Final = 0  # on a ladder: no level at all, but a command of the oldest dialect
BY_HANDLE: Final = -2  # on a ladder: no level by path, but by a handle that is opened for it
ALL_AND_ID: Final = -1  # on a ladder: two levels asked for together, because neither has everything

# What servers say of a level, or a command, that they do not know.
NOT_KNOWN: Final = frozenset(
    {
        NtStatus.NOT_IMPLEMENTED,
        NtStatus.NOT_SUPPORTED,
        NtStatus.INVALID_INFO_CLASS,
        NtStatus.INVALID_LEVEL,
        NtStatus.OS2_INVALID_LEVEL,
        NtStatus.INVALID_DEVICE_REQUEST,
        NtStatus.SMB_BAD_COMMAND,
    }
)

_KINDS: Final = {
    UnixType.FILE: Kind.FILE,
    UnixType.DIRECTORY: Kind.DIRECTORY,
    UnixType.SYMLINK: Kind.SYMLINK,
    UnixType.CHARACTER_DEVICE: Kind.CHARACTER_DEVICE,
    UnixType.BLOCK_DEVICE: Kind.BLOCK_DEVICE,
    UnixType.FIFO: Kind.FIFO,
    UnixType.SOCKET: Kind.SOCKET,
}
_TYPES: Final = {kind: type_ for type_, kind in _KINDS.items()}
_DEVICES: Final = (UnixType.CHARACTER_DEVICE, UnixType.BLOCK_DEVICE)
_PERMISSIONS: Final = 0o7777
_ALL_INFORMATION_SIZE: Final = 100  # [MS-FSCC] 2.4.2: of what stands before the name, whose length comes last
_QUERY_ALL_INFO_SIZE: Final = 72  # [MS-CIFS] 2.2.8.3.10: likewise


def has_id(data: memoryview) -> bool:
    """Tell whether a PASS_THROUGH_ALL answer is what it should be.

    Samba sends SMB_QUERY_FILE_ALL_INFO in its place, which has its name, and the name's length, further to the front.
    """
    if len(data) < _ALL_INFORMATION_SIZE:
        return False
    return len(data) == _size_with_name(data, _ALL_INFORMATION_SIZE) or len(data) != _size_with_name(
        data, _QUERY_ALL_INFO_SIZE
    )


class Ladder:
    """The levels that a server may know for one purpose, best first."""

    def __init__(self, levels: Sequence[int]) -> None:
        self._all = tuple(levels)
        self._levels = list(levels)
        self._proven = False

    def __repr__(self) -> str:
        return f"<Ladder {self._levels}{' proven' if self._proven else ''}>"

    @property
    def level(self) -> int:
        """The level to ask for now."""
        return self._levels[0]

    def worked(self, level: int) -> None:
        """Note that the server knows `level`."""
        self._proven = self._proven or level == self.level

    def step_down(self, level: int, status: int) -> bool:
        """Tell whether to ask again because the server does not know `level`: of another level from now on.

        A server that refused every level was not speaking of levels: the next question begins at the top again.
        """
        if level != self.level:
            return True  # somebody else has stepped down meanwhile
        if self._proven or status not in NOT_KNOWN:
            return False
        if len(self._levels) == 1:
            self._levels = list(self._all)
            return False
        del self._levels[0]
        return True


def decode_stat(level: int, data: memoryview, strings: Strings, zone_minutes: int) -> FileStat:
    """Return what a QUERY_PATH_INFORMATION or QUERY_FILE_INFORMATION in `level` said.  Raises DecodeError."""
    if level == PathLevel.PASS_THROUGH_ALL:
        return filestat.of_all_information(FileAllInformation.decode(data), volume_id=None)
    if level in (PathLevel.QUERY_FILE_ALL_INFO, ALL_AND_ID):
        whole = QueryFileAllInfo.decode(data, strings)
        return _of_classes(whole.basic, whole.standard)
    if level == PathLevel.UNIX_INFO2:
        return _of_unix(UnixInfo2.decode(data))
    if level == PathLevel.UNIX_BASIC:
        return _of_unix(UnixBasic.decode(data))
    return _of_standard(InfoStandard.decode(data), zone_minutes)


def decode_core_stat(response: QueryInformationResponse, zone_minutes: int) -> FileStat:
    """Return what the oldest command of all says: a size of 32 bits and one time."""
    written = local_to_unix(response.last_write_time, zone_minutes)
    return FileStat(
        kind=filestat.kind_of(response.file_attributes),
        size=response.file_size,
        allocation=response.file_size,
        attributes=response.file_attributes,
        created_ns=None,
        accessed_ns=None,
        written_ns=_seconds(written),
        changed_ns=None,
    )


def decode_entries(level: int, page: memoryview, count: int, strings: Strings, zone_minutes: int) -> list[DirEntry]:
    """Return a page of a listing in `level`, '.' and '..' among it.  Raises DecodeError."""
    if level in (FindLevel.UNIX_INFO2, FindLevel.UNIX):
        return [DirEntry(name, _of_unix(info)) for name, info in listing.decode_unix_page(level, page, strings)]
    if level == FindLevel.INFO_STANDARD:
        return [
            DirEntry(name, _of_standard(info, zone_minutes))
            for name, info, _ in listing.decode_standard_page(page, count, strings)
        ]
    if not strings.unicode:
        return [filestat.of_entry(entry) for entry in listing.decode_oem_page(level, page, strings)]
    layout = FileInformation.FULL_DIRECTORY
    if level == FindLevel.ID_FULL_DIRECTORY_INFO:
        layout = FileInformation.ID_FULL_DIRECTORY
    return [filestat.of_entry(entry) for entry in dirlist.decode_page(layout, page)]


def unix_type(kind: Kind) -> int:
    """Return the type with which the UNIX levels name a kind of file."""
    return int(_TYPES[kind])


def without_id(stat: FileStat) -> FileStat:
    """Return `stat` without the file's id: half of the server's answers having one is worse than none."""
    return stat._replace(file_id=0)


def _size_with_name(data: memoryview, fixed: int) -> int:
    """Return how long a structure is whose fixed part ends with the length of the name that follows it."""
    return fixed + int.from_bytes(data[fixed - 4 : fixed], "little")


def _of_classes(basic: FileBasicInformation, standard: FileStandardInformation) -> FileStat:
    return FileStat(
        kind=filestat.kind_of(basic.file_attributes | (Attributes.DIRECTORY if standard.directory else 0)),
        size=standard.end_of_file,
        allocation=standard.allocation_size,
        attributes=basic.file_attributes,
        created_ns=filetime_to_ns(basic.creation_time),
        accessed_ns=filetime_to_ns(basic.last_access_time),
        written_ns=filetime_to_ns(basic.last_write_time),
        changed_ns=filetime_to_ns(basic.change_time),
        links=standard.number_of_links or None,
    )


def _of_unix(info: UnixBasic | UnixInfo2) -> FileStat:
    try:
        kind = _KINDS[UnixType(info.type)]
    except ValueError:
        raise DecodeError(f"a file of the unknown UNIX type {info.type}") from None
    device = (info.device_major, info.device_minor)
    is_device = info.type in _DEVICES
    mode = info.permissions & _PERMISSIONS
    attributes = Attributes.DIRECTORY if kind is Kind.DIRECTORY else Attributes.NORMAL
    return FileStat(
        kind=kind,
        size=info.end_of_file,
        allocation=info.number_of_bytes,
        attributes=attributes if mode & 0o222 else attributes | Attributes.READONLY,
        created_ns=filetime_to_ns(info.creation_time) if isinstance(info, UnixInfo2) else None,
        accessed_ns=filetime_to_ns(info.last_access_time),
        written_ns=filetime_to_ns(info.last_modification_time),
        changed_ns=filetime_to_ns(info.last_status_change),
        file_id=info.unique_id,
        volume_id=None if is_device else info.device_major << 32 | info.device_minor,
        links=info.links or None,
        mode=mode,
        uid=info.uid,
        gid=info.gid,
        device=device if is_device else None,
    )


def _of_standard(info: InfoStandard, zone_minutes: int) -> FileStat:
    return FileStat(
        kind=filestat.kind_of(info.attributes),
        size=info.file_data_size,
        allocation=info.allocation_size,
        attributes=info.attributes,
        created_ns=_seconds(dos_time_to_unix(info.creation_date, info.creation_time, zone_minutes)),
        accessed_ns=_seconds(dos_time_to_unix(info.last_access_date, info.last_access_time, zone_minutes)),
        written_ns=_seconds(dos_time_to_unix(info.last_write_date, info.last_write_time, zone_minutes)),
        changed_ns=None,
    )


def _seconds(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * SECOND_NS
