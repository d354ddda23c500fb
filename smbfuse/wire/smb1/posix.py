"""The UNIX extensions' own open, unlink and chmod, as data of SET_PATH_INFORMATION and SET_FILE_INFORMATION.

No specification of Microsoft's has them; the numbers are those of the CIFS UNIX extensions (wiki.samba.org), tried
with Samba 4.17.
"""

from __future__ import annotations

import enum
from typing import Annotated, Final

from smbfuse.wire.record import U16, U32, U64, Record, record
from smbfuse.wire.smb1.levels import UnixBasic

UNCHANGED: Final = 0xFFFFFFFFFFFFFFFF  # of any field of `UnixBasic` that is set: leave it as it is
NO_LEVEL: Final = 0xFFFF  # what an open returned in no level


class PosixOpenFlags(enum.IntFlag, boundary=enum.KEEP):
    """Flags of POSIX_PATH_OPEN."""

    REQUEST_OPLOCK = 0x2
    REQUEST_OPBATCH = 0x4


class PosixOpenMode(enum.IntFlag, boundary=enum.KEEP):
    """How POSIX_PATH_OPEN opens: the O_ flags of open(2), numbered in their own way."""

    READ_ONLY = 0x1
    WRITE_ONLY = 0x2
    READ_WRITE = 0x4
    CREATE = 0x10
    EXCLUSIVE = 0x20
    TRUNCATE = 0x40
    DIRECTORY = 0x200


@record()
class PosixOpenRequest(Record):
    """Data of POSIX_PATH_OPEN, 18 bytes. `level` is a UNIX level in which the file is to be described.

    `DIRECTORY | CREATE`, and nothing else besides, makes a folder and opens nothing.
    """

    flags: U32
    open_mode: U32
    permissions: U64
    level: U16


@record()
class PosixOpenResponse(Record):
    """Data of the response, 12 bytes; what `level` says comes behind it, `NO_LEVEL`: nothing.

    `oplock` is an `OplockLevel`, `action` as CreateDisposition in the NT_CREATE_ANDX response.
    """

    oplock: U16
    fid: U16
    action: U32
    level: Annotated[int, "H2x"]


class PosixUnlinkTarget(enum.IntEnum):
    """What POSIX_PATH_UNLINK removes."""

    FILE = 0  # or an empty folder: Samba 4.17 does not look
    DIRECTORY = 1


@record()
class PosixUnlinkRequest(Record):
    """Data of POSIX_PATH_UNLINK, 2 bytes."""

    target: U16


def unix_changes(
    *,
    accessed: int = UNCHANGED,
    written: int = UNCHANGED,
    uid: int = UNCHANGED,
    gid: int = UNCHANGED,
    permissions: int = UNCHANGED,
    kind: int = 0,
    device: tuple[int, int] = (0, 0),
) -> UnixBasic:
    """Return a `UnixBasic` that changes what is given (times are FILETIMEs), or makes a node of type `kind`.

    The size is never changed with it: Samba takes a size of 0 for one that is not given.
    """
    return UnixBasic(
        end_of_file=UNCHANGED,
        number_of_bytes=UNCHANGED,
        last_status_change=UNCHANGED,
        last_access_time=accessed,
        last_modification_time=written,
        uid=uid,
        gid=gid,
        type=kind,
        device_major=device[0],
        device_minor=device[1],
        unique_id=UNCHANGED,
        permissions=permissions,
        links=UNCHANGED,
    )
