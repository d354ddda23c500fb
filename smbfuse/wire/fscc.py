"""Information classes of files and volumes, the same in SMB1 pass-through and SMB2.  [MS-FSCC] 2.4, 2.5.

Times are FILETIMEs as the server sent them; `dtyp.filetime_to_ns` makes POSIX times of them. Sizes are signed on the
wire; what is negative is the server's nonsense and reaches the caller as such.
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Annotated, Final, Self

from smbfuse.wire.dtyp import decode_utf16, encode_utf16
from smbfuse.wire.record import I64, U8, U32, U64, Buffer, Record, record, view


class FileInformation(IntEnum):
    """File information classes.  [MS-FSCC] 2.4."""

    DIRECTORY = 1
    FULL_DIRECTORY = 2
    BOTH_DIRECTORY = 3
    BASIC = 4
    STANDARD = 5
    INTERNAL = 6
    EA = 7
    RENAME = 10
    LINK = 11
    NAMES = 12
    DISPOSITION = 13
    FULL_EA = 15
    ALL = 18
    END_OF_FILE = 20
    STREAM = 22
    NETWORK_OPEN = 34
    ATTRIBUTE_TAG = 35
    ID_BOTH_DIRECTORY = 37
    ID_FULL_DIRECTORY = 38


class VolumeInformation(IntEnum):
    """File system information classes.  [MS-FSCC] 2.5."""

    VOLUME = 1
    SIZE = 3
    DEVICE = 4
    ATTRIBUTE = 5
    FULL_SIZE = 7
    SECTOR_SIZE = 11


class FileAttributes(IntFlag):
    """File attributes.  [MS-FSCC] 2.6."""

    READONLY = 0x1
    HIDDEN = 0x2
    SYSTEM = 0x4
    DIRECTORY = 0x10
    ARCHIVE = 0x20
    NORMAL = 0x80
    TEMPORARY = 0x100
    SPARSE_FILE = 0x200
    REPARSE_POINT = 0x400
    COMPRESSED = 0x800
    OFFLINE = 0x1000
    NOT_CONTENT_INDEXED = 0x2000
    ENCRYPTED = 0x4000


UNKNOWN_FILE_ID: Final = 0xFFFFFFFFFFFFFFFF


def known_file_id(file_id: int) -> int:
    """Return `file_id`, or 0 where the server does not know one (0 or all ones).  [MS-FSCC] 2.1.9."""
    return 0 if file_id == UNKNOWN_FILE_ID else file_id


@record()
class FileBasicInformation(Record):
    """FileBasicInformation.  [MS-FSCC] 2.4.7.  40 bytes, the last 4 reserved."""

    creation_time: U64
    last_access_time: U64
    last_write_time: U64
    change_time: U64
    file_attributes: Annotated[int, "I4x"]


@record(tail_pad=2)
class FileStandardInformation(Record):
    """FileStandardInformation.  [MS-FSCC] 2.4.47.  24 bytes."""

    allocation_size: I64
    end_of_file: I64
    number_of_links: U32
    delete_pending: U8
    directory: U8


@record()
class FileInternalInformation(Record):
    """FileInternalInformation.  [MS-FSCC] 2.4.26.  8 bytes: the file's number on its volume."""

    index_number: U64


@record()
class FileNetworkOpenInformation(Record):
    """FileNetworkOpenInformation.  [MS-FSCC] 2.4.33.  56 bytes, the last 4 reserved."""

    creation_time: U64
    last_access_time: U64
    last_write_time: U64
    change_time: U64
    allocation_size: I64
    end_of_file: I64
    file_attributes: Annotated[int, "I4x"]


@record()
class FileAttributeTagInformation(Record):
    """FileAttributeTagInformation.  [MS-FSCC] 2.4.6.  8 bytes: which kind of reparse point."""

    file_attributes: U32
    reparse_tag: U32


@record()
class _AllTail(Record):
    """What FileAllInformation holds between its three interesting parts and the name."""

    ea_size: U32
    access_flags: U32
    current_byte_offset: I64
    mode: U32
    alignment_requirement: U32
    file_name_length: U32


@dataclass(frozen=True, slots=True)
class FileAllInformation:
    """FileAllInformation.  [MS-FSCC] 2.4.2.  100 bytes and the name (a path from the share's root on most servers)."""

    basic: FileBasicInformation
    standard: FileStandardInformation
    internal: FileInternalInformation
    ea_size: int
    access_flags: int
    current_byte_offset: int
    mode: int
    alignment_requirement: int
    file_name: str

    def encode(self) -> bytes:
        """Return the whole structure."""
        name = encode_utf16(self.file_name)
        tail = _AllTail(
            self.ea_size, self.access_flags, self.current_byte_offset, self.mode, self.alignment_requirement, len(name)
        )
        parts = (self.basic.encode(), self.standard.encode(), self.internal.encode(), tail.encode(), name)
        return b"".join(parts)

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        """Read the structure; raises DecodeError.

        A name that was cut off (the buffer we gave was too small for it: STATUS_BUFFER_OVERFLOW) is given as far as it
        came: nobody needs it.
        """
        basic = FileBasicInformation.decode(data)
        standard = FileStandardInformation.decode(data, 40)
        internal = FileInternalInformation.decode(data, 64)
        tail = _AllTail.decode(data, 72)
        name = view(data, 100, min(tail.file_name_length, len(data) - 100), "FileAllInformation name")
        return cls(
            basic,
            standard,
            internal,
            tail.ea_size,
            tail.access_flags,
            tail.current_byte_offset,
            tail.mode,
            tail.alignment_requirement,
            decode_utf16(name),
        )


@record()
class FileFsFullSizeInformation(Record):
    """FileFsFullSizeInformation.  [MS-FSCC] 2.5.4.  32 bytes; units are clusters: sectors times bytes."""

    total_allocation_units: I64
    caller_available_allocation_units: I64
    actual_available_allocation_units: I64
    sectors_per_allocation_unit: U32
    bytes_per_sector: U32


@record()
class FileFsSizeInformation(Record):
    """FileFsSizeInformation.  [MS-FSCC] 2.5.8.  24 bytes."""

    total_allocation_units: I64
    available_allocation_units: I64
    sectors_per_allocation_unit: U32
    bytes_per_sector: U32


@record()
class FileFsDeviceInformation(Record):
    """FileFsDeviceInformation.  [MS-FSCC] 2.5.10.  8 bytes."""

    device_type: U32
    characteristics: U32


@record()
class _AttributeHead(Record):
    file_system_attributes: U32
    maximum_component_name_length: U32
    file_system_name_length: U32


@dataclass(frozen=True, slots=True)
class FileFsAttributeInformation:
    """FileFsAttributeInformation.  [MS-FSCC] 2.5.1.  12 bytes and the file system's name."""

    file_system_attributes: int
    maximum_component_name_length: int  # characters
    file_system_name: str

    def encode(self) -> bytes:
        """Return the whole structure."""
        name = encode_utf16(self.file_system_name)
        head = _AttributeHead(self.file_system_attributes, self.maximum_component_name_length, len(name))
        return head.encode() + name

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        """Read the structure; a name cut off by a short buffer is given as far as it came."""
        head = _AttributeHead.decode(data)
        name = view(data, 12, min(head.file_system_name_length, len(data) - 12), "FileFsAttributeInformation name")
        return cls(head.file_system_attributes, head.maximum_component_name_length, decode_utf16(name))


@record()
class _VolumeHead(Record):
    volume_creation_time: U64
    volume_serial_number: U32
    volume_label_length: U32
    supports_objects: Annotated[int, "Bx"]


@dataclass(frozen=True, slots=True)
class FileFsVolumeInformation:
    """FileFsVolumeInformation.  [MS-FSCC] 2.5.9.  18 bytes and the label."""

    volume_creation_time: int
    volume_serial_number: int
    supports_objects: int
    volume_label: str

    def encode(self) -> bytes:
        """Return the whole structure."""
        label = encode_utf16(self.volume_label)
        head = _VolumeHead(self.volume_creation_time, self.volume_serial_number, len(label), self.supports_objects)
        return head.encode() + label

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        """Read the structure; a label cut off by a short buffer is given as far as it came."""
        head = _VolumeHead.decode(data)
        label = view(data, 18, min(head.volume_label_length, len(data) - 18), "FileFsVolumeInformation label")
        return cls(head.volume_creation_time, head.volume_serial_number, head.supports_objects, decode_utf16(label))
