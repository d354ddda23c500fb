"""The subcommands of TRANSACTION2 that read: find, query a path, a file or the volume.  [MS-CIFS] 2.2.6.

Each class is the parameters of one request or response; what they ask for comes as the transaction's data, in the
structure of an information level (`levels.py`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, Self

from smbfuse.wire.record import U16, Buffer, Record, record, view
from smbfuse.wire.smb1.header import Command
from smbfuse.wire.smb1.message import PlainMessage, Strings, Tail


class Subcommand(enum.IntEnum):
    """Setup word of a TRANSACTION2.  [MS-CIFS] 2.2.2.2."""

    FIND_FIRST2 = 0x0001
    FIND_NEXT2 = 0x0002
    QUERY_FS_INFORMATION = 0x0003
    SET_FS_INFORMATION = 0x0004
    QUERY_PATH_INFORMATION = 0x0005
    SET_PATH_INFORMATION = 0x0006
    QUERY_FILE_INFORMATION = 0x0007
    SET_FILE_INFORMATION = 0x0008


class FindFlags(enum.IntFlag, boundary=enum.KEEP):
    """Flags of FIND_FIRST2 and FIND_NEXT2.  [MS-CIFS] 2.2.6.2.1."""

    CLOSE_AFTER_REQUEST = 0x0001
    CLOSE_AT_EOS = 0x0002
    RETURN_RESUME_KEYS = 0x0004
    CONTINUE_FROM_LAST = 0x0008


@dataclass(frozen=True, slots=True)
class FindFirst2Request:
    """TRANS2_FIND_FIRST2 parameters.  [MS-CIFS] 2.2.6.2.1."""

    search_attributes: int
    search_count: int
    flags: int
    information_level: int
    search_storage_type: int
    file_name: str

    subcommand: ClassVar[int] = Subcommand.FIND_FIRST2
    WORDS: ClassVar[Struct] = Struct("<HHHHI")

    def encode(self, strings: Strings) -> bytes:
        """Return the parameters; they begin at an even offset always."""
        return self.WORDS.pack(
            self.search_attributes, self.search_count, self.flags, self.information_level, self.search_storage_type
        ) + strings.encode(self.file_name, 0)

    @classmethod
    def decode(cls, data: Buffer, strings: Strings) -> FindFirst2Request:
        """Read the parameters."""
        words = cls.WORDS.unpack(view(data, 0, cls.WORDS.size, cls.__name__))
        return cls(*(*words, _name(data, cls.WORDS.size, strings)))


@dataclass(frozen=True, slots=True)
class FindNext2Request:
    """TRANS2_FIND_NEXT2 parameters.  [MS-CIFS] 2.2.6.3.1."""

    sid: int
    search_count: int
    information_level: int
    resume_key: int
    flags: int
    file_name: str

    subcommand: ClassVar[int] = Subcommand.FIND_NEXT2
    WORDS: ClassVar[Struct] = Struct("<HHHIH")

    def encode(self, strings: Strings) -> bytes:
        """Return the parameters."""
        return self.WORDS.pack(
            self.sid, self.search_count, self.information_level, self.resume_key, self.flags
        ) + strings.encode(self.file_name, 0)

    @classmethod
    def decode(cls, data: Buffer, strings: Strings) -> FindNext2Request:
        """Read the parameters."""
        words = cls.WORDS.unpack(view(data, 0, cls.WORDS.size, cls.__name__))
        return cls(*(*words, _name(data, cls.WORDS.size, strings)))


@record()
class FindFirst2Response(Record):
    """TRANS2_FIND_FIRST2 response parameters.  [MS-CIFS] 2.2.6.2.2."""

    sid: U16
    search_count: U16
    end_of_search: U16
    ea_error_offset: U16
    last_name_offset: U16


@record()
class FindNext2Response(Record):
    """TRANS2_FIND_NEXT2 response parameters.  [MS-CIFS] 2.2.6.3.2."""

    search_count: U16
    end_of_search: U16
    ea_error_offset: U16
    last_name_offset: U16


@record()
class FindClose2Request(PlainMessage):
    """FIND_CLOSE2 request, a command of its own: ends a search before its end.  [MS-CIFS] 2.2.4.48.1."""

    search_handle: U16

    command: ClassVar[int] = Command.FIND_CLOSE2


@dataclass(frozen=True, slots=True)
class QueryPathRequest:
    """TRANS2_QUERY_PATH_INFORMATION parameters.  [MS-CIFS] 2.2.6.6.1."""

    information_level: int
    file_name: str

    subcommand: ClassVar[int] = Subcommand.QUERY_PATH_INFORMATION
    WORDS: ClassVar[Struct] = Struct("<H4x")

    def encode(self, strings: Strings) -> bytes:
        """Return the parameters."""
        return self.WORDS.pack(self.information_level) + strings.encode(self.file_name, 0)

    @classmethod
    def decode(cls, data: Buffer, strings: Strings) -> Self:
        """Read the parameters."""
        (level,) = cls.WORDS.unpack(view(data, 0, cls.WORDS.size, cls.__name__))
        return cls(level, _name(data, cls.WORDS.size, strings))


@record()
class QueryFileRequest(Record):
    """TRANS2_QUERY_FILE_INFORMATION parameters.  [MS-CIFS] 2.2.6.8.1."""

    fid: U16
    information_level: U16

    subcommand: ClassVar[int] = Subcommand.QUERY_FILE_INFORMATION


@record()
class QueryFsRequest(Record):
    """TRANS2_QUERY_FS_INFORMATION parameters.  [MS-CIFS] 2.2.6.4.1."""

    information_level: U16

    subcommand: ClassVar[int] = Subcommand.QUERY_FS_INFORMATION


@record()
class SetFsRequest(Record):
    """TRANS2_SET_FS_INFORMATION parameters.  [MS-SMB] 2.2.6.6.1; UNIX extensions give no FID a meaning."""

    fid: U16
    information_level: U16

    subcommand: ClassVar[int] = Subcommand.SET_FS_INFORMATION


@record()
class EaErrorResponse(Record):
    """Parameters of a QUERY_PATH or QUERY_FILE response: where an extended attribute was wrong. Some send none."""

    ea_error_offset: U16


def _name(data: Buffer, offset: int, strings: Strings) -> str:
    return Tail(memoryview(data)[offset:], offset, strings).string()
