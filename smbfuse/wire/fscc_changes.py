"""Information classes by which a file is changed: its size, its name, its end.  [MS-FSCC] 2.4.

The names of a rename and of a link have the layout of SMB2 ("Type 2"); a path counts from the share's root and has no
leading backslash.
"""

from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, Final, Self

from smbfuse.wire.dtyp import decode_utf16, encode_utf16
from smbfuse.wire.record import I64, U8, Buffer, Record, record, view

KEEP_TIME: Final = 0  # of a time in FileBasicInformation: leave it as it is.  [MS-FSCC] 2.4.7


@record()
class FileEndOfFileInformation(Record):
    """FileEndOfFileInformation.  [MS-FSCC] 2.4.13.  8 bytes: the file's new size."""

    end_of_file: I64


@record()
class FileDispositionInformation(Record):
    """FileDispositionInformation.  [MS-FSCC] 2.4.11.  1 byte: whether the file goes with its last handle."""

    delete_pending: U8


@dataclass(frozen=True, slots=True)
class FileRenameInformation:
    """FileRenameInformation of SMB2.  [MS-FSCC] 2.4.42.2.  20 bytes and the name.

    FileLinkInformation ([MS-FSCC] 2.4.27.2) is the same structure.
    """

    replace_if_exists: bool
    file_name: str  # a path with backslashes

    STRUCT: ClassVar[Struct] = Struct("<B7xQI")  # ReplaceIfExists, RootDirectory (0 over the network), FileNameLength
    SMALLEST: ClassVar[int] = 24  # bytes; Windows takes no shorter one, which a name of one letter would make

    def encode(self) -> bytes:
        """Return the whole structure."""
        name = encode_utf16(self.file_name)
        return (self.STRUCT.pack(self.replace_if_exists, 0, len(name)) + name).ljust(self.SMALLEST, b"\0")

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        """Read the structure; raises DecodeError."""
        replace, _root, length = cls.STRUCT.unpack(view(data, 0, cls.STRUCT.size, "FileRenameInformation"))
        return cls(bool(replace), decode_utf16(view(data, cls.STRUCT.size, length, "FileRenameInformation name")))
