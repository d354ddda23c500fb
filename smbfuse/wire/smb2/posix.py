"""The POSIX extensions of SMB 3.1.1: modes, owners and all names, for those who both speak them.

They are in no Microsoft document. What is here is what Samba (librpc/idl/smb3posix.idl) and the Linux kernel say to
each other: a NEGOTIATE context offers them, a create context asks for them open by open and brings the mode of what is
made, and information class 100 answers with what POSIX wants to know of a file, singly or in listings.
"""

from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from smbfuse.errors import DecodeError
from smbfuse.wire.descriptor import sid_size
from smbfuse.wire.dtyp import encode_utf16
from smbfuse.wire.record import I64, U32, U64, Buffer, Record, record, view
from smbfuse.wire.smb2.create import CreateContext
from smbfuse.wire.smb2.message import ALIGNMENT
from smbfuse.wire.smb2.negotiate import ContextType, NegotiateContext

POSIX_EXTENSIONS: Final = bytes.fromhex("93AD25509CB411E7B42383DE968BCD7C")  # names both contexts

POSIX_INFORMATION: Final = 100  # of a file, of a listing's entries, and of a volume

PERMISSIONS: Final = 0o7777
_TYPE_SHIFT: Final = 12


class PosixType(IntEnum):
    """What a file is: the bits above the permissions of a mode. Not those of stat(2)."""

    FILE = 0
    DIRECTORY = 1
    SYMLINK = 2
    CHARACTER_DEVICE = 3
    BLOCK_DEVICE = 4
    FIFO = 5
    SOCKET = 6


class PosixAttributes(NamedTuple):
    """The create context's answer, which also ends each FilePosixInformation. SIDs are as on the wire."""

    links: int
    reparse_tag: int
    mode: int  # permissions, and the type (`PosixType`) above them
    owner: bytes
    group: bytes

    @property
    def permissions(self) -> int:
        return self.mode & PERMISSIONS

    @property
    def type(self) -> int:
        """The type, most often one of `PosixType`; some servers leave it FILE for everything."""
        return self.mode >> _TYPE_SHIFT & 7

    def encode(self) -> bytes:
        """Return 12 bytes and the two SIDs."""
        return _ATTRIBUTES.pack(self.links, self.reparse_tag, self.mode) + self.owner + self.group


_ATTRIBUTES: Final = Struct("<III")  # HardLinks, ReparseTag, Mode; then two SIDs of their own length


def posix_extensions_available() -> NegotiateContext:
    """Return SMB2_POSIX_EXTENSIONS_AVAILABLE, the same in offer and answer."""
    return NegotiateContext(ContextType.POSIX_EXTENSIONS_AVAILABLE, POSIX_EXTENSIONS)


def posix_open(mode: int = 0) -> CreateContext:
    """Return the context that makes an open a POSIX one; `mode` is for what it makes."""
    return CreateContext(POSIX_EXTENSIONS, (mode & PERMISSIONS).to_bytes(4, "little"))


def decode_posix_attributes(data: Buffer) -> PosixAttributes:
    """Read the answer to `posix_open`; raises DecodeError."""
    links, tag, mode = _ATTRIBUTES.unpack(view(data, 0, _ATTRIBUTES.size, "POSIX create context"))
    return PosixAttributes(links, tag, mode, *_owners(bytes(data), _ATTRIBUTES.size))


def _owners(data: bytes, at: int) -> tuple[bytes, bytes]:
    """Return the two SIDs that begin at `at`."""
    group_at = at + sid_size(data, at)
    return data[at:group_at], data[group_at : group_at + sid_size(data, group_at)]


class PosixInformation(NamedTuple):
    """FilePosixInformation: one file. Times are FILETIMEs."""

    creation_time: int
    last_access_time: int
    last_write_time: int
    change_time: int
    end_of_file: int
    allocation_size: int
    file_attributes: int
    inode: int
    device: int  # which volume the inode is of
    posix: PosixAttributes

    def encode(self) -> bytes:
        """Return the whole structure."""
        return _INFORMATION.pack(*self[:9]) + self.posix.encode()


_FIELDS: Final = "QQQQqqIQI4x"
_INFORMATION: Final = Struct("<" + _FIELDS)
_ENTRY: Final = Struct("<I4x" + _FIELDS + "III")  # NextEntryOffset; then SIDs, FileNameLength, FileName


def decode_posix_information(data: Buffer) -> PosixInformation:
    """Read FilePosixInformation; raises DecodeError."""
    fields = _INFORMATION.unpack(view(data, 0, _INFORMATION.size, "FilePosixInformation"))
    return PosixInformation._make((*fields, decode_posix_attributes(memoryview(data)[_INFORMATION.size :])))


class PosixEntry(NamedTuple):
    """One entry of a listing."""

    file_name: str
    information: PosixInformation


def decode_posix_page(page: Buffer) -> list[PosixEntry]:
    """Read a page of a listing in information class 100; an empty page has no entries.

    Raises DecodeError for an entry or a name that does not lie inside the page or runs into the next entry.
    """
    data = bytes(page)
    size = len(data)
    entries: list[PosixEntry] = []
    at = 0
    while at < size:
        if at + _ENTRY.size > size:
            raise DecodeError(f"directory entry at {at}: {size - at} of {_ENTRY.size} bytes")
        step, *fields, links, tag, mode = _ENTRY.unpack_from(data, at)
        owner, group = _owners(data, at + _ENTRY.size)
        length_at = at + _ENTRY.size + len(owner) + len(group)
        start = length_at + 4
        end = start + int.from_bytes(data[length_at:start], "little")
        if end > (at + step if step else size) or end > size or (end - start) & 1:
            raise DecodeError(f"directory entry at {at}: name of {end - start} bytes, next entry at {step}")
        name = data[start:end].decode("utf-16-le", "surrogatepass")
        posix = PosixAttributes(links, tag, mode, owner, group)
        entries.append(PosixEntry(name, PosixInformation._make((*fields, posix))))
        if not step:
            return entries
        at += step  # at least `_ENTRY.size`, or the name check would have failed
    if entries:
        raise DecodeError(f"directory entry at {at} in a page of {size} bytes")
    return entries


def encode_posix_page(entries: list[PosixEntry]) -> bytes:
    """Return a page of a listing in information class 100."""
    page = bytearray()
    for number, (file_name, information) in enumerate(entries, 1):
        name = encode_utf16(file_name)
        body = bytes(8) + information.encode() + len(name).to_bytes(4, "little") + name
        if number < len(entries):
            body += bytes(-len(body) % ALIGNMENT)
            body = len(body).to_bytes(4, "little") + body[4:]
        page += body
    return bytes(page)


@record()
class FileFsPosixInformation(Record):
    """The volume as statvfs(3) has it.  56 bytes. -1 stands for what the server does not know."""

    optimal_transfer_size: U32
    block_size: U32
    total_blocks: I64
    blocks_available: I64
    user_blocks_available: I64
    total_file_nodes: I64
    free_file_nodes: I64
    fs_identifier: U64
