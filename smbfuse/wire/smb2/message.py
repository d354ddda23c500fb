"""How SMB2 messages are put together: a header of 64 bytes, a fixed part, and what varies in length behind it.

    @message(structure_size=25)
    class SessionSetupRequest(Message):
        flags: U8
        …
        token: Annotated[bytes, Blob("HH")]
        previous_session_id: U64

A `Blob` stands where the wire has the offset and the length of a variable part. Offsets count from the start of the
header, so `decode` is given the whole element and `encode` returns the body for the place behind a header.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from struct import Struct
from struct import error as struct_error
from typing import Any, ClassVar, Final, Literal, Self, TypeVar, dataclass_transform, get_type_hints

from smbfuse.errors import DecodeError
from smbfuse.wire.dtyp import decode_utf16, encode_utf16
from smbfuse.wire.record import Buffer, Record, view

HEADER_SIZE: Final = 64
ALIGNMENT: Final = 8  # of contexts, and of the elements of a compound


class Blob:
    """A variable part: the struct codes of its offset and length fields, and how it becomes a value.

    `align` is of its start, counted from the header; `pad` of its end, which the length does not count. `empty` is the
    offset of an empty one, as Samba's and Windows' clients have it: the place behind the fixed part ("behind"), 0
    ("zero"), or the offset of the blob before ("previous"). `length_first` is for the one message (SET_INFO) whose
    length stands before its offset.
    """

    __slots__ = ("align", "codes", "decode", "empty", "encode", "length_first", "pad")

    def __init__(
        self,
        codes: str,
        *,
        align: int = 1,
        pad: int = 1,
        empty: Literal["behind", "zero", "previous"] = "behind",
        length_first: bool = False,
        encode: Callable[[Any], bytes] = bytes,
        decode: Callable[[memoryview], Any] = bytes,
    ) -> None:
        self.codes = codes
        self.align = align
        self.pad = pad
        self.empty = empty
        self.length_first = length_first
        self.encode = encode
        self.decode = decode


def text(codes: str, *, pad: int = 1) -> Blob:
    """Return the Blob of a UTF-16 name without a terminator."""
    return Blob(codes, pad=pad, encode=encode_utf16, decode=decode_utf16)


class Message(Record):
    """Base of SMB2 messages: a `Record` behind a header, whose blobs are found by offset and length."""

    __slots__ = ()

    _LEADING: ClassVar[tuple[str, ...]]  # the fields before the first blob: plain numbers
    _REST: ClassVar[tuple[tuple[str, Blob | None], ...]]  # the others, each with its blob, or None for a plain number

    def encode(self) -> bytes:
        """Return the body: the fixed part, then the blobs in the order of their fields.

        Where StructureSize is odd and nothing varies, one zero byte stands for the buffer that must not be missing.
        """
        values: list[Any] = [self.STRUCTURE_SIZE, *[getattr(self, name) for name in self._LEADING]]
        tail = bytearray()
        behind = HEADER_SIZE + self.SIZE
        offset = 0
        for name, blob in self._REST:
            value = getattr(self, name)
            if blob is None:
                values.append(value)
                continue
            data = blob.encode(value)
            if data:
                tail += bytes(-(behind + len(tail)) % blob.align)
                offset = behind + len(tail)
                tail += data
                tail += bytes(-len(tail) % blob.pad)
            elif blob.empty != "previous":
                offset = behind if blob.empty == "behind" else 0
            values += (len(data), offset) if blob.length_first else (offset, len(data))
        if not tail and self.STRUCTURE_SIZE != self.SIZE:
            tail.append(0)
        return self.STRUCT.pack(*values) + tail

    @classmethod
    def decode(cls, data: Buffer, offset: int = HEADER_SIZE) -> Self:
        """Read the message from a whole element, header included; raises DecodeError.

        `offset` is where the body begins; it differs from 64 in tests only.
        """
        try:
            found = cls.STRUCT.unpack_from(data, offset)
        except struct_error:
            raise DecodeError(f"{cls.__name__}: {max(0, len(data) - offset)} of {cls.SIZE} bytes") from None
        if found[0] != cls.STRUCTURE_SIZE:
            raise DecodeError(f"{cls.__name__}: StructureSize {found[0]} instead of {cls.STRUCTURE_SIZE}")
        behind = 1 + len(cls._LEADING)
        values: list[Any] = [*found[1:behind]]
        codes = iter(found[behind:])
        for name, blob in cls._REST:
            if blob is None:
                values.append(next(codes))
                continue
            at, length = next(codes), next(codes)
            if blob.length_first:
                at, length = length, at
            # An empty blob's offset means nothing: servers send 0, or any place.
            if length and at < HEADER_SIZE + cls.SIZE:
                raise DecodeError(f"{cls.__name__}: {name} at {at} lies within the fixed part")
            part = view(data, at, length, f"{cls.__name__} {name}") if length else memoryview(b"")
            values.append(blob.decode(part))
        return cls(*values)


M = TypeVar("M", bound=Message)


@dataclass_transform(frozen_default=True)
def message(*, structure_size: int) -> Callable[[type[M]], type[M]]:
    """Compile the class's annotated fields, in order, into one `struct.Struct` and a list of blobs.

    `structure_size` is the specification's: odd if a buffer follows, and then one more than the fixed part.
    """

    def compile_class(cls: type[M]) -> type[M]:
        # Never changed, which mypy sees to: frozen, each would take three times as long to make.
        made: Any = dataclass(slots=True, unsafe_hash=True)(cls)
        hints = get_type_hints(made, include_extras=True)
        made._NAMES = tuple(field.name for field in fields(made))
        kinds = [hints[name].__metadata__[0] for name in made._NAMES]
        blobs = [kind if isinstance(kind, Blob) else None for kind in kinds]
        leading = next((index for index, blob in enumerate(blobs) if blob is not None), len(blobs))
        made._LEADING = made._NAMES[:leading]
        made._REST = tuple(zip(made._NAMES[leading:], blobs[leading:], strict=True))
        made.STRUCT = Struct("<H" + "".join(kind.codes if isinstance(kind, Blob) else kind for kind in kinds))
        made.SIZE = made.STRUCT.size
        made.STRUCTURE_SIZE = structure_size
        if structure_size & ~1 != made.SIZE:
            raise TypeError(f"{cls.__name__}: fields of {made.SIZE} bytes, StructureSize {structure_size}")
        return made  # type: ignore[no-any-return]  # dataclass(slots=True) makes a new class; its type is the old one's

    return compile_class
