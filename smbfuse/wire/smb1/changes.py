"""What TRANSACTION2 sets of a path or of a file: the subcommands, their levels, and the structures of these.

[MS-CIFS] 2.2.2.3.4, 2.2.6.7, 2.2.6.9, 2.2.8.4. Levels of 1000 and more are information classes of [MS-FSCC], passed
through ([MS-SMB] 2.2.2.3.5); those from 0x200 to 0x2FF are the UNIX extensions' (`posix.py`). The data of the other
levels are the same classes (`wire/fscc.py`, `wire/fscc_changes.py`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from struct import Struct
from typing import Annotated, ClassVar

from smbfuse.wire.fscc import FileInformation
from smbfuse.wire.record import U16, Buffer, Record, record, view
from smbfuse.wire.smb1.levels import PASS_THROUGH
from smbfuse.wire.smb1.message import Strings
from smbfuse.wire.smb1.trans2 import QueryPathRequest, Subcommand


class SetLevel(enum.IntEnum):
    """Levels of SET_PATH_INFORMATION and SET_FILE_INFORMATION.  [MS-CIFS] 2.2.2.3.4."""

    INFO_STANDARD = 0x0001
    INFO_SET_EAS = 0x0002
    SET_FILE_BASIC_INFO = 0x0101
    SET_FILE_DISPOSITION_INFO = 0x0102
    SET_FILE_END_OF_FILE_INFO = 0x0104
    UNIX_BASIC = 0x0200
    UNIX_LINK = 0x0201
    UNIX_HLINK = 0x0203
    POSIX_PATH_OPEN = 0x0209
    POSIX_PATH_UNLINK = 0x020A
    PASS_THROUGH_RENAME = PASS_THROUGH + FileInformation.RENAME
    PASS_THROUGH_END_OF_FILE = PASS_THROUGH + FileInformation.END_OF_FILE


@dataclass(frozen=True, slots=True)
class SetPathRequest(QueryPathRequest):
    """TRANS2_SET_PATH_INFORMATION parameters: the same as those that query.  [MS-CIFS] 2.2.6.7.1."""

    subcommand: ClassVar[int] = Subcommand.SET_PATH_INFORMATION


@record()
class SetFileRequest(Record):
    """TRANS2_SET_FILE_INFORMATION parameters.  [MS-CIFS] 2.2.6.9.1."""

    fid: U16
    information_level: Annotated[int, "H2x"]

    subcommand: ClassVar[int] = Subcommand.SET_FILE_INFORMATION


@record()
class SetStandard(Record):
    """SMB_INFO_STANDARD as it is set, 22 bytes: the server's local times, 0 leaves one alone.  [MS-CIFS] 2.2.8.4.1."""

    creation_date: U16
    creation_time: U16
    last_access_date: U16
    last_access_time: U16
    last_write_date: U16
    last_write_time: Annotated[int, "H10x"]


@dataclass(frozen=True, slots=True)
class Smb1RenameInformation:
    """FileRenameInformation of SMB1.  [MS-FSCC] 2.4.42.1.  12 bytes and the name.

    The name is one component: the file stays in its folder.
    """

    replace_if_exists: bool
    file_name: str

    WORDS: ClassVar[Struct] = Struct("<B3xII")  # ReplaceIfExists, RootDirectory (a FID, 0 for none), FileNameLength

    def encode(self, strings: Strings) -> bytes:
        """Return the whole structure."""
        name = strings.encode_bare(self.file_name)
        return self.WORDS.pack(self.replace_if_exists, 0, len(name)) + name

    @classmethod
    def decode(cls, data: Buffer, strings: Strings) -> Smb1RenameInformation:
        """Read the structure; raises DecodeError."""
        replace, _root, length = cls.WORDS.unpack(view(data, 0, cls.WORDS.size, cls.__name__))
        return cls(bool(replace), strings.decode_bare(view(data, cls.WORDS.size, length, "new name")))
