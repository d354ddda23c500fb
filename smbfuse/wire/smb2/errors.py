"""ERROR responses, and what a server says of a symlink in the way.  [MS-SMB2] 2.2.2."""

from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, Final, NamedTuple, Self

from smbfuse.errors import DecodeError
from smbfuse.wire.dtyp import decode_utf16, encode_utf16
from smbfuse.wire.record import Buffer, view
from smbfuse.wire.smb2.message import ALIGNMENT, HEADER_SIZE

SYMLINK_ERROR_TAG: Final = b"SYML"
_SYMLINK_REPARSE_TAG: Final = 0xA000000C


class ErrorContext(NamedTuple):
    """One error context of 3.1.1.  [MS-SMB2] 2.2.2.1."""

    error_id: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """SMB2 ERROR Response.  [MS-SMB2] 2.2.2.  8 bytes and the error data, or contexts of data (3.1.1).

    Samba and others leave out the byte that should stand for missing data.
    """

    data: bytes = b""
    contexts: tuple[ErrorContext, ...] = ()

    STRUCT: ClassVar[Struct] = Struct("<HBxI")  # StructureSize, ErrorContextCount, ByteCount
    _CONTEXT: ClassVar[Struct] = Struct("<II")  # ErrorDataLength, ErrorId

    def encode(self) -> bytes:
        """Return the body."""
        data = self.data
        if self.contexts:
            chain = bytearray()
            for error_id, part in self.contexts:
                chain += bytes(-len(chain) % ALIGNMENT)
                chain += self._CONTEXT.pack(len(part), error_id) + part
            data = bytes(chain)
        return self.STRUCT.pack(9, len(self.contexts), len(data)) + (data or b"\0")

    @classmethod
    def decode(cls, element: Buffer) -> Self:
        """Read the message from a whole element; raises DecodeError."""
        fixed = view(element, HEADER_SIZE, cls.STRUCT.size, "ErrorResponse")
        structure_size, count, length = cls.STRUCT.unpack(fixed)
        if structure_size != 9:
            raise DecodeError(f"ErrorResponse: StructureSize {structure_size} instead of 9")
        data = view(element, HEADER_SIZE + cls.STRUCT.size, length, "ErrorResponse data")
        if not count:
            return cls(bytes(data))
        contexts = []
        at = 0
        for _ in range(count):
            at += -at % ALIGNMENT
            part_length, error_id = cls._CONTEXT.unpack(view(data, at, cls._CONTEXT.size, "error context"))
            at += cls._CONTEXT.size
            contexts.append(ErrorContext(error_id, bytes(view(data, at, part_length, "error context data"))))
            at += part_length
        return cls(b"", tuple(contexts))

    @property
    def symlink(self) -> "SymlinkError | None":
        """What STATUS_STOPPED_ON_SYMLINK tells, in whichever form the dialect has; raises DecodeError."""
        for part in (self.data, *(context.data for context in self.contexts)):
            if part[4:8] == SYMLINK_ERROR_TAG:
                return SymlinkError.decode(part)
        return None


@dataclass(frozen=True, slots=True)
class SymlinkError:
    """Symbolic Link Error Response: a component of the path is a symlink.  [MS-SMB2] 2.2.2.2.1.

    `unparsed_path_length` is the number of bytes (not characters) at the path's end behind the symlink.
    """

    unparsed_path_length: int
    flags: int  # 1: the target is relative
    substitute_name: str
    print_name: str

    # SymLinkLength, SymLinkErrorTag, ReparseTag, ReparseDataLength, UnparsedPathLength,
    # SubstituteNameOffset and Length, PrintNameOffset and Length, Flags
    STRUCT: ClassVar[Struct] = Struct("<I4sIHHHHHHI")

    def encode(self) -> bytes:
        """Return the error data."""
        substitute, printed = encode_utf16(self.substitute_name), encode_utf16(self.print_name)
        names = substitute + printed
        head = self.STRUCT.pack(
            self.STRUCT.size - 4 + len(names),
            SYMLINK_ERROR_TAG,
            _SYMLINK_REPARSE_TAG,
            12 + len(names),
            self.unparsed_path_length,
            0,
            len(substitute),
            len(substitute),
            len(printed),
            self.flags,
        )
        return head + names

    @classmethod
    def decode(cls, data: Buffer) -> Self:
        """Read the error data; raises DecodeError."""
        fields = cls.STRUCT.unpack(view(data, 0, cls.STRUCT.size, "SymlinkError"))
        _length, error_tag, reparse_tag, _reparse_length, unparsed, at, length, print_at, print_length, flags = fields
        if error_tag != SYMLINK_ERROR_TAG or reparse_tag != _SYMLINK_REPARSE_TAG:
            raise DecodeError(f"SymlinkError: tag {error_tag.hex()}, reparse tag 0x{reparse_tag:08X}")
        names = memoryview(data)[cls.STRUCT.size :]
        substitute = view(names, at, length, "SymlinkError substitute name")
        printed = view(names, print_at, print_length, "SymlinkError print name")
        return cls(unparsed, flags, decode_utf16(substitute), decode_utf16(printed))
