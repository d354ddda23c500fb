"""Opening and closing: OPEN_ANDX, NT_CREATE_ANDX, CLOSE, and the oldest way to ask for the room on a disk.

[MS-CIFS] 2.2.4.5, 2.2.4.41, 2.2.4.57, 2.2.4.64; [MS-SMB] 2.2.4.1, 2.2.4.9.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from struct import Struct
from typing import Annotated, ClassVar, Final

from smbfuse.wire.record import I64, U8, U16, U32, U64, record, view
from smbfuse.wire.smb1.header import Command
from smbfuse.wire.smb1.message import Block, PlainMessage, Strings, data_offset, encode_block

SEARCH_EVERYTHING: Final = 0x16  # hidden, system and folders as well as files


class OpenFlags(enum.IntFlag, boundary=enum.KEEP):
    """Flags of OPEN_ANDX.  [MS-CIFS] 2.2.4.41.1, [MS-SMB] 2.2.4.1.1."""

    REQUEST_ATTRIBUTES = 0x0001
    REQUEST_OPLOCK = 0x0002
    REQUEST_OPBATCH = 0x0004
    EXTENDED_RESPONSE = 0x0010


class OpenAccess(enum.IntFlag, boundary=enum.KEEP):
    """AccessMode of OPEN_ANDX: one of the first three, and how it is shared.  [MS-CIFS] 2.2.4.41.1."""

    READ = 0x0000
    WRITE = 0x0001
    READ_WRITE = 0x0002
    DENY_NONE = 0x0040


class OpenMode(enum.IntFlag, boundary=enum.KEEP):
    """OpenMode of OPEN_ANDX; without `OPEN` and `TRUNCATE` a file that exists is refused.  [MS-CIFS] 2.2.4.41.1."""

    OPEN = 0x0001
    TRUNCATE = 0x0002
    CREATE = 0x0010


class OpenResult(enum.IntFlag, boundary=enum.KEEP):
    """OpenResults of OPEN_ANDX: what was done, in two bits, and whether an oplock came with it.

    [MS-CIFS] 2.2.4.41.2.
    """

    OPENED = 0x0001
    CREATED = 0x0002
    TRUNCATED = 0x0003
    DONE = 0x0003  # the mask of the three above
    OPLOCK = 0x8000  # exclusive, or batch where that was asked for; a Level II oplock is not told


@dataclass(frozen=True, slots=True)
class OpenAndxRequest:
    """OPEN_ANDX request.  [MS-CIFS] 2.2.4.41.1."""

    flags: int
    access_mode: int
    search_attrs: int
    file_attrs: int
    creation_time: int
    open_mode: int
    allocation_size: int
    timeout: int
    file_name: str

    command: ClassVar[int] = Command.OPEN_ANDX
    WORDS: ClassVar[Struct] = Struct("<HHHHIHII4x")

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block."""
        words = self.WORDS.pack(
            self.flags,
            self.access_mode,
            self.search_attrs,
            self.file_attrs,
            self.creation_time,
            self.open_mode,
            self.allocation_size,
            self.timeout,
        )
        name = strings.encode(self.file_name, data_offset(at, self.command, len(words)))
        return encode_block(self.command, words, name)

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> OpenAndxRequest:
        """Read a request."""
        words = cls.WORDS.unpack(block.want_words(cls.WORDS.size, cls.__name__))
        return cls(*(*words, block.tail(strings).string()))


@record()
class OpenAndxResponse(PlainMessage):
    """OPEN_ANDX response (WordCount 15).  [MS-CIFS] 2.2.4.41.2.

    `last_write_time` counts seconds since 1970 in the server's local time; `file_data_size` has 32 bits only.
    """

    fid: U16
    file_attrs: U16
    last_write_time: U32
    file_data_size: U32
    access_rights: U16
    resource_type: U16
    nm_pipe_status: U16
    open_results: Annotated[int, "H6x"]

    command: ClassVar[int] = Command.OPEN_ANDX


@record()
class OpenAndxExtendedResponse(PlainMessage):
    """OPEN_ANDX response with SMB_OPEN_EXTENDED_RESPONSE (WordCount 19).  [MS-SMB] 2.2.4.1.2."""

    fid: U16
    file_attrs: U16
    last_write_time: U32
    file_data_size: U32
    access_rights: U16
    resource_type: U16
    nm_pipe_status: U16
    open_results: U16
    server_fid: Annotated[int, "I2x"]
    maximal_access_rights: U32
    guest_maximal_access_rights: U32

    command: ClassVar[int] = Command.OPEN_ANDX


def decode_open_response(block: Block, strings: Strings) -> OpenAndxResponse | OpenAndxExtendedResponse:
    """Read an OPEN_ANDX response of either length; the number of its words tells which."""
    if len(block.words) == OpenAndxExtendedResponse.SIZE:
        return OpenAndxExtendedResponse.decode_block(block, strings)
    return OpenAndxResponse.decode_block(block, strings)


class NtAccess(enum.IntFlag, boundary=enum.KEEP):
    """DesiredAccess of NT_CREATE_ANDX.  [MS-CIFS] 2.2.4.64.1."""

    READ_DATA = 0x00000001
    WRITE_DATA = 0x00000002
    APPEND_DATA = 0x00000004
    READ_EA = 0x00000008
    WRITE_EA = 0x00000010
    READ_ATTRIBUTES = 0x00000080
    WRITE_ATTRIBUTES = 0x00000100
    DELETE = 0x00010000
    READ_CONTROL = 0x00020000
    WRITE_DAC = 0x00040000
    WRITE_OWNER = 0x00080000
    SYNCHRONIZE = 0x00100000


class NtShare(enum.IntFlag, boundary=enum.KEEP):
    """ShareAccess of NT_CREATE_ANDX.  [MS-CIFS] 2.2.4.64.1."""

    READ = 0x1
    WRITE = 0x2
    DELETE = 0x4
    ALL = 0x7


class NtOptions(enum.IntFlag, boundary=enum.KEEP):
    """CreateOptions of NT_CREATE_ANDX.  [MS-CIFS] 2.2.4.64.1."""

    DIRECTORY_FILE = 0x00000001
    NON_DIRECTORY_FILE = 0x00000040
    DELETE_ON_CLOSE = 0x00001000
    OPEN_REPARSE_POINT = 0x00200000


class NtDisposition(enum.IntEnum):
    """CreateDisposition of NT_CREATE_ANDX.  [MS-CIFS] 2.2.4.64.1."""

    OPEN = 1
    CREATE = 2
    OPEN_IF = 3
    OVERWRITE = 4
    OVERWRITE_IF = 5


class NtCreateFlags(enum.IntFlag, boundary=enum.KEEP):
    """Flags of NT_CREATE_ANDX. REQUEST_OPBATCH counts only along with REQUEST_OPLOCK.  [MS-CIFS] 2.2.4.64.1."""

    REQUEST_OPLOCK = 0x2
    REQUEST_OPBATCH = 0x4


class OplockLevel(enum.IntEnum):
    """OpLockLevel of the NT_CREATE_ANDX response. Those of a LOCKING_ANDX break are others.  [MS-CIFS] 2.2.4.64.2."""

    NONE = 0
    EXCLUSIVE = 1
    BATCH = 2
    LEVEL_II = 3


FILE_WAS_CREATED: Final = 2  # CreateDisposition of the response, and of the UNIX extensions' own open
IMPERSONATION: Final = 0x00000002


@dataclass(frozen=True, slots=True)
class NtCreateRequest:
    """NT_CREATE_ANDX request.  [MS-CIFS] 2.2.4.64.1."""

    flags: int
    root_directory_fid: int
    desired_access: int
    allocation_size: int
    ext_file_attributes: int
    share_access: int
    create_disposition: int
    create_options: int
    impersonation_level: int
    security_flags: int
    file_name: str

    command: ClassVar[int] = Command.NT_CREATE_ANDX
    WORDS: ClassVar[Struct] = Struct("<xHIIIQIIIIIB")

    def encode_block(self, at: int, strings: Strings) -> bytes:
        """Return the block. NameLength counts the name's bytes without pad, and without terminator in Unicode."""
        name = strings.encode_bare(self.file_name)
        words = self.WORDS.pack(
            len(name),
            self.flags,
            self.root_directory_fid,
            self.desired_access,
            self.allocation_size,
            self.ext_file_attributes,
            self.share_access,
            self.create_disposition,
            self.create_options,
            self.impersonation_level,
            self.security_flags,
        )
        data = strings.encode(self.file_name, data_offset(at, self.command, len(words)))
        return encode_block(self.command, words, data)

    @classmethod
    def decode_block(cls, block: Block, strings: Strings) -> NtCreateRequest:
        """Read a request; the name goes as far as NameLength says. Samba's client counts the terminator."""
        length, *words = cls.WORDS.unpack(block.want_words(cls.WORDS.size, cls.__name__))
        pad = block.data_offset % 2 if strings.unicode else 0
        name = view(block.data, pad, length, "file name")
        return cls(*(*words, strings.decode_bare(name)))


@record()
class NtCreateResponse(PlainMessage):
    """NT_CREATE_ANDX response (WordCount 34).  [MS-CIFS] 2.2.4.64.2. Times are FILETIMEs."""

    op_lock_level: U8
    fid: U16
    create_disposition: U32
    create_time: I64
    last_access_time: I64
    last_write_time: I64
    last_change_time: I64
    ext_file_attributes: U32
    allocation_size: U64
    end_of_file: U64
    resource_type: U16
    nm_pipe_status: U16
    directory: U8

    command: ClassVar[int] = Command.NT_CREATE_ANDX


# With NT_CREATE_REQUEST_EXTENDED_RESPONSE servers send 50 words but say 42 ([MS-SMB] 2.2.4.9.2): it is never asked for,
# and only the fields that both forms begin with are read.
EXTENDED_CREATE_WORDS: Final = (42, 50)


def decode_create_response(block: Block, strings: Strings) -> NtCreateResponse:
    """Read an NT_CREATE_ANDX response of either length; what the longer one adds is left away."""
    if (len(block.words) + 4) // 2 in EXTENDED_CREATE_WORDS:
        return NtCreateResponse.decode(block.words)
    return NtCreateResponse.decode_block(block, strings)


@record()
class CloseRequest(PlainMessage):
    """CLOSE request; a `last_time_modified` of 0 or 0xFFFFFFFF leaves the time alone.  [MS-CIFS] 2.2.4.5.1."""

    fid: U16
    last_time_modified: U32

    command: ClassVar[int] = Command.CLOSE


@record()
class EmptyResponse(PlainMessage):
    """A response that says only that it was done: CLOSE, FIND_CLOSE2."""

    command: ClassVar[int] = Command.CLOSE


@record()
class QueryInformationDiskRequest(PlainMessage):
    """QUERY_INFORMATION_DISK request.  [MS-CIFS] 2.2.4.57.1."""

    command: ClassVar[int] = Command.QUERY_INFORMATION_DISK


@record()
class QueryInformationDiskResponse(PlainMessage):
    """QUERY_INFORMATION_DISK response: sizes of old disks, 16 bits each.  [MS-CIFS] 2.2.4.57.2."""

    total_units: U16
    blocks_per_unit: U16
    block_size: U16
    free_units: Annotated[int, "H2x"]

    command: ClassVar[int] = Command.QUERY_INFORMATION_DISK
