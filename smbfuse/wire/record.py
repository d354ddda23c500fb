"""Cold wire structures: annotated fields compiled to one `struct.Struct`, and a cursor for what varies in length.

    @record(structure_size=17, tail_pad=1)
    class ReadResponse(Record):
        data_offset: U8
        ...

Reserved bytes are `Pad(n)` inside an annotation, never attributes; `structure_size` is checked on decoding and is not
a field. Everything is little-endian, as SMB is. Decoding raises `DecodeError` and nothing else, whatever the bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from struct import Struct
from struct import error as struct_error
from typing import Annotated, Any, ClassVar, Self, TypeVar, dataclass_transform, get_type_hints

from smbfuse.errors import DecodeError

Buffer = bytes | bytearray | memoryview

U8 = Annotated[int, "B"]
U16 = Annotated[int, "H"]
U32 = Annotated[int, "I"]
U64 = Annotated[int, "Q"]
I16 = Annotated[int, "h"]
I32 = Annotated[int, "i"]
I64 = Annotated[int, "q"]
Bytes8 = Annotated[bytes, "8s"]
Bytes16 = Annotated[bytes, "16s"]


class Record:
    """Base of the fixed parts of messages. Subclasses are dataclasses made by `@record`."""

    __slots__ = ()

    STRUCT: ClassVar[Struct]
    STRUCTURE_SIZE: ClassVar[int | None]
    SIZE: ClassVar[int]
    _NAMES: ClassVar[tuple[str, ...]]

    def encode(self) -> bytes:
        """Return the fixed part, `SIZE` bytes, beginning with its StructureSize where it has one."""
        values = [getattr(self, name) for name in self._NAMES]
        if self.STRUCTURE_SIZE is not None:
            values.insert(0, self.STRUCTURE_SIZE)
        return self.STRUCT.pack(*values)

    @classmethod
    def decode(cls, data: Buffer, offset: int = 0) -> Self:
        """Read the fixed part at `offset`; raises DecodeError if it is cut short or its StructureSize is wrong."""
        if offset < 0:
            raise DecodeError(f"{cls.__name__}: offset {offset} lies before the message")
        try:
            values = cls.STRUCT.unpack_from(data, offset)
        except struct_error:
            have = max(0, len(data) - offset)
            raise DecodeError(f"{cls.__name__}: {have} of {cls.SIZE} bytes") from None
        if cls.STRUCTURE_SIZE is not None:
            if values[0] != cls.STRUCTURE_SIZE:
                raise DecodeError(f"{cls.__name__}: StructureSize {values[0]} instead of {cls.STRUCTURE_SIZE}")
            values = values[1:]
        return cls(*values)


T = TypeVar("T", bound=Record)


@dataclass_transform(frozen_default=True)
def record(*, structure_size: int | None = None, tail_pad: int = 0) -> Callable[[type[T]], type[T]]:
    """Compile the class's annotated fields, in order, into one little-endian `struct.Struct`.

    `structure_size` puts a checked 16-bit StructureSize in front; `tail_pad` adds so many zero bytes at the end. An
    annotation's code may hold pad bytes ("2xI" skips two reserved bytes first).
    """

    def compile_class(cls: type[T]) -> type[T]:
        # Never changed, which mypy sees to: frozen, each would take three times as long to make.
        made: Any = dataclass(slots=True, unsafe_hash=True)(cls)
        hints = get_type_hints(made, include_extras=True)
        names = tuple(field.name for field in fields(made))
        codes = [hints[name].__metadata__[0] for name in names]
        made._NAMES = names
        made.STRUCT = Struct("<" + ("H" if structure_size is not None else "") + "".join(codes) + "x" * tail_pad)
        made.SIZE = made.STRUCT.size
        made.STRUCTURE_SIZE = structure_size
        return made  # type: ignore[no-any-return]  # dataclass(slots=True) makes a new class; its type is the old one's

    return compile_class


def view(data: Buffer, offset: int, length: int, what: str) -> memoryview:
    """Return `length` bytes at `offset` without copying; DecodeError if they do not lie inside `data`."""
    if offset < 0 or length < 0 or offset + length > len(data):
        raise DecodeError(f"{what}: [{offset}, {offset + length}) in {len(data)} bytes")
    return memoryview(data)[offset : offset + length]
