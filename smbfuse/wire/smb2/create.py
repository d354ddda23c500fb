"""CREATE, its contexts, and CLOSE.  [MS-SMB2] 2.2.13 to 2.2.16."""

from collections.abc import Iterable, Sequence
from enum import IntEnum, IntFlag
from struct import Struct
from typing import Annotated, Final, NamedTuple

from smbfuse.errors import DecodeError
from smbfuse.wire.record import U8, U32, U64, Buffer, Bytes16, Record, record, view
from smbfuse.wire.smb2.message import ALIGNMENT, HEADER_SIZE, Blob, Message, message, text


class Access(IntFlag):
    """Access mask of a file.  [MS-SMB2] 2.2.13.1.1."""

    FILE_READ_DATA = 0x1
    FILE_WRITE_DATA = 0x2
    FILE_APPEND_DATA = 0x4
    FILE_READ_EA = 0x8
    FILE_WRITE_EA = 0x10
    FILE_READ_ATTRIBUTES = 0x80
    FILE_WRITE_ATTRIBUTES = 0x100
    DELETE = 0x10000
    READ_CONTROL = 0x20000
    WRITE_DAC = 0x40000
    WRITE_OWNER = 0x80000
    SYNCHRONIZE = 0x100000
    FILE_LIST_DIRECTORY = 0x1  # of a directory.  2.2.13.1.2


class ShareAccess(IntFlag):
    """What others may do meanwhile.  [MS-SMB2] 2.2.13."""

    READ = 1
    WRITE = 2
    DELETE = 4
    ALL = 7


class Disposition(IntEnum):
    """What to do if the name exists or not.  [MS-SMB2] 2.2.13."""

    SUPERSEDE = 0
    OPEN = 1
    CREATE = 2
    OPEN_IF = 3
    OVERWRITE = 4
    OVERWRITE_IF = 5


class CreateAction(IntEnum):
    """What the server has done.  [MS-SMB2] 2.2.14."""

    SUPERSEDED = 0
    OPENED = 1
    CREATED = 2
    OVERWRITTEN = 3


class CreateOptions(IntFlag):
    """Options of an open.  [MS-SMB2] 2.2.13."""

    DIRECTORY_FILE = 0x1
    NON_DIRECTORY_FILE = 0x40
    DELETE_ON_CLOSE = 0x1000
    OPEN_REPARSE_POINT = 0x200000


class OplockLevel(IntEnum):
    """Oplock levels.  [MS-SMB2] 2.2.13, 2.2.14."""

    NONE = 0
    LEVEL_II = 1
    EXCLUSIVE = 8
    BATCH = 9
    LEASE = 0xFF


IMPERSONATION: Final = 2  # ImpersonationLevel


class CreateContext(NamedTuple):
    """One create context as it is on the wire: a name, most often four letters, and data.  [MS-SMB2] 2.2.13.2."""

    name: bytes
    data: bytes = b""


QUERY_ON_DISK_ID: Final = b"QFid"
QUERY_MAXIMAL_ACCESS: Final = b"MxAc"

# Next, NameOffset, NameLength, DataOffset, DataLength; offsets count from the start of this context
_CONTEXT: Final = Struct("<IHH2xHI")
_NEXT: Final = Struct("<I")


def encode_contexts(contexts: Iterable[CreateContext]) -> bytes:
    """Return the chain of contexts, each at a multiple of 8 bytes, with its data at one too."""
    chain = bytearray()
    last: int | None = None
    for name, data in contexts:
        if last is not None:
            chain += bytes(-len(chain) % ALIGNMENT)
            _NEXT.pack_into(chain, last, len(chain) - last)
        last = len(chain)
        behind = _CONTEXT.size + len(name)
        # Without data Windows lets DataOffset point behind the name all the same, and scapy's server relies on it.
        pad = -behind % ALIGNMENT
        chain += _CONTEXT.pack(0, _CONTEXT.size, len(name), behind + pad, len(data)) + name + bytes(pad) + data
    return bytes(chain)


def decode_contexts(chain: Buffer) -> tuple[CreateContext, ...]:
    """Read a chain of contexts; raises DecodeError. Each link must lie behind the one before."""
    contexts: list[CreateContext] = []
    at = 0
    while chain:
        link = memoryview(chain)[at:]
        step, name_at, name_length, data_at, data_length = _CONTEXT.unpack(
            view(link, 0, _CONTEXT.size, "create context")
        )
        name = view(link, name_at, name_length, "create context name")
        data = view(link, data_at, data_length, "create context data") if data_length else b""
        contexts.append(CreateContext(bytes(name), bytes(data)))
        if not step:
            break
        if step < _CONTEXT.size or step % ALIGNMENT or step >= len(link):
            raise DecodeError(f"create context: Next {step} in {len(link)} bytes")
        at += step
    return tuple(contexts)


def _context_list() -> Blob:
    return Blob("II", align=ALIGNMENT, empty="zero", encode=encode_contexts, decode=decode_contexts)


@record(tail_pad=16)
class OnDiskId(Record):
    """SMB2_CREATE_QUERY_ON_DISK_ID response (QFid).  [MS-SMB2] 2.2.14.2.9.  32 bytes.

    Samba's volume id is the st_dev of the file: it tells a filesystem mounted below the share from the share's own.
    """

    disk_file_id: U64
    volume_id: U64


@record()
class MaximalAccess(Record):
    """SMB2_CREATE_QUERY_MAXIMAL_ACCESS response (MxAc).  [MS-SMB2] 2.2.14.2.5.  8 bytes."""

    query_status: U32
    maximal_access: U32


def find_context(contexts: Sequence[CreateContext], name: bytes) -> bytes | None:
    """Return the data of the first context called `name`; None: there is none."""
    return next((context.data for context in contexts if context.name == name), None)


@message(structure_size=57)
class CreateRequest(Message):
    """SMB2 CREATE Request.  [MS-SMB2] 2.2.13.  The name has no leading backslash; '' is the share's root."""

    security_flags: U8
    requested_oplock_level: U8
    impersonation_level: U32
    smb_create_flags: U64
    desired_access: Annotated[int, "8xI"]
    file_attributes: U32
    share_access: U32
    create_disposition: U32
    create_options: U32
    name: Annotated[str, text("HH", pad=4)]
    contexts: Annotated[tuple[CreateContext, ...], _context_list()] = ()


_CREATE_REQUEST: Final = Struct("<HBBIQ8xIIIIIHHII")
_NAME_AT: Final = HEADER_SIZE + _CREATE_REQUEST.size


def encode_create(
    oplock_level: int,
    access: int,
    attributes: int,
    disposition: int,
    options: int,
    name: bytes,
    contexts: Iterable[CreateContext],
) -> bytes:
    """Return the body of a CREATE request that shares everything with others; `name` is in UTF-16.

    Equals `CreateRequest(…).encode()`, in half the time.
    """
    chain = encode_contexts(contexts)
    tail = name + bytes(-len(name) % (ALIGNMENT if chain else 4)) + chain
    contexts_at = _NAME_AT + len(tail) - len(chain) if chain else 0
    fixed = _CREATE_REQUEST.pack(
        57,
        0,
        oplock_level,
        IMPERSONATION,
        0,
        access,
        attributes,
        ShareAccess.ALL,
        disposition,
        options,
        _NAME_AT,
        len(name),
        contexts_at,
        len(chain),
    )
    return fixed + (tail or b"\0")


@message(structure_size=89)
class CreateResponse(Message):
    """SMB2 CREATE Response.  [MS-SMB2] 2.2.14.  Times are FILETIMEs."""

    oplock_level: U8
    flags: U8
    create_action: U32
    creation_time: U64
    last_access_time: U64
    last_write_time: U64
    change_time: U64
    allocation_size: U64
    end_of_file: U64
    file_attributes: Annotated[int, "I4x"]
    file_id: Bytes16
    contexts: Annotated[tuple[CreateContext, ...], _context_list()] = ()


@message(structure_size=24)
class CloseRequest(Message):
    """SMB2 CLOSE Request.  [MS-SMB2] 2.2.15."""

    flags: Annotated[int, "H4x"]  # 1: answer with the attributes after the close
    file_id: Bytes16


@message(structure_size=60)
class CloseResponse(Message):
    """SMB2 CLOSE Response.  [MS-SMB2] 2.2.16.  Zeros without the flag."""

    flags: Annotated[int, "H4x"]
    creation_time: U64
    last_access_time: U64
    last_write_time: U64
    change_time: U64
    allocation_size: U64
    end_of_file: U64
    file_attributes: U32
