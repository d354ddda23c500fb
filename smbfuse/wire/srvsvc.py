"""The Server Service's list of shares, as DCE/RPC over the pipe \\srvsvc.

Only what it takes to ask which shares there are: a bind, NetrShareEnum at level 1, and their replies. [MS-SRVS]
3.1.4.8, [MS-RPCE] 2.2.2, C706 chapter 12 (PDUs) and 14 (NDR). Little-endian and 32-bit pointers throughout.
"""

import struct
from typing import Final, NamedTuple
from uuid import UUID

from smbfuse.errors import DecodeError
from smbfuse.wire.record import Buffer, view

PIPE: Final = "srvsvc"
MAX_FRAGMENT: Final = 4280  # bytes of one PDU, in both directions; what Windows offers
MOST_SHARES: Final = 10_000  # a server that claims more is not believed

_REQUEST: Final = 0
_RESPONSE: Final = 2
_FAULT: Final = 3
_BIND: Final = 11
_BIND_ACK: Final = 12
_FIRST: Final = 0x01
_LAST: Final = 0x02
_LITTLE_ENDIAN_ASCII_IEEE: Final = 0x10
_HEADER: Final = struct.Struct("<BBBBIHHI")  # version 5.0, type, flags, data representation, lengths, call id
_RESPONSE_HEADER_SIZE: Final = _HEADER.size + 8
_SRVSVC: Final = UUID("4b324fc8-1670-01d3-1278-5a47bf6ee188").bytes_le + struct.pack("<HH", 3, 0)
_NDR: Final = UUID("8a885d04-1ceb-11c9-9fe8-08002b104860").bytes_le + struct.pack("<HH", 2, 0)
_NETR_SHARE_ENUM: Final = 15

TYPE_DISK: Final = 0
TYPE_PRINTER: Final = 1
TYPE_DEVICE: Final = 2
TYPE_PIPE: Final = 3
_TYPE_MASK: Final = 0x0FFFFFFF
_TYPE_SPECIAL: Final = 0x80000000


class ShareInfo(NamedTuple):
    """One share as the server announces it.  [MS-SRVS] 2.2.4.23."""

    name: str
    kind: int  # TYPE_DISK, TYPE_PRINTER, TYPE_DEVICE or TYPE_PIPE
    special: bool  # an administrative share: hidden from people
    remark: str


def encode_bind(call_id: int = 1) -> bytes:
    """Return the PDU that binds the pipe to the Server Service, version 3.0, in NDR.  C706 12.6.4.3."""
    body = struct.pack("<HHIB3xHBx", MAX_FRAGMENT, MAX_FRAGMENT, 0, 1, 0, 1) + _SRVSVC + _NDR
    return _pdu(_BIND, body, call_id)


def check_bind_ack(pdu: Buffer) -> None:
    """Raise DecodeError unless `pdu` accepts the bind."""
    kind, _, end = _decode_header(pdu)
    if kind != _BIND_ACK:
        raise DecodeError(f"RPC PDU of type {kind} answers a bind")
    # After the fragment sizes and the group id comes the secondary address, counted and padded to four bytes.
    (address_length,) = struct.unpack("<H", view(pdu, _HEADER.size + 8, 2, "RPC bind_ack"))
    results = (_HEADER.size + 10 + address_length + 3) & ~3
    count, result = struct.unpack("<B3xH", view(pdu, results, 6, "RPC bind_ack results"))
    if results + 6 > end or count != 1 or result != 0:
        raise DecodeError(f"the server refused to bind srvsvc (result {result})")


def encode_share_enum(server: str, call_id: int = 2) -> bytes:
    """Return the PDU that asks `server` (its name without backslashes) for all its shares, level 1."""
    name = f"\\\\{server}\0".encode("utf-16-le", "surrogatepass")
    characters = len(name) // 2
    stub = struct.pack("<IIII", 0x20000, characters, 0, characters) + name + bytes(-len(name) % 4)
    stub += struct.pack("<IIIII", 1, 1, 0x20004, 0, 0)  # level, union switch, container: no entries, no buffer
    stub += struct.pack("<III", 0xFFFFFFFF, 0x20008, 0)  # preferred length, resume handle
    return _pdu(_REQUEST, struct.pack("<IHH", len(stub), 0, _NETR_SHARE_ENUM) + stub, call_id)


def fragment_length(data: Buffer) -> int:
    """Return how many bytes the first fragment in `data` has, by its header."""
    length: int = _HEADER.unpack(view(data, 0, _HEADER.size, "RPC header"))[5]
    if length < _HEADER.size:
        raise DecodeError(f"RPC fragment of {length} bytes")
    return length


def missing(data: Buffer) -> int:
    """Return how many bytes are still to be read before `data` holds its first fragment whole; 0 or less: none."""
    return (fragment_length(data) if len(data) >= _HEADER.size else _HEADER.size) - len(data)


def decode_fragment(pdu: Buffer) -> tuple[bytes, bool]:
    """Return the stub data of one response fragment, and whether it is the last.

    Raises DecodeError for anything but a response; a fault is one too.
    """
    kind, flags, end = _decode_header(pdu)
    if kind == _FAULT:
        (status,) = struct.unpack("<I", view(pdu, _RESPONSE_HEADER_SIZE, 4, "RPC fault"))
        raise DecodeError(f"the server's RPC service failed (0x{status:08X})")
    if kind != _RESPONSE:
        raise DecodeError(f"RPC PDU of type {kind} answers a request")
    return bytes(view(pdu, _RESPONSE_HEADER_SIZE, end - _RESPONSE_HEADER_SIZE, "RPC stub")), bool(flags & _LAST)


def decode_share_enum(stub: Buffer) -> list[ShareInfo]:
    """Return the shares of a whole NetrShareEnum reply, in the server's order."""
    cursor = _Cursor(stub)
    level, _, container = cursor.words(3)
    if level != 1:
        raise DecodeError(f"NetrShareEnum answered at level {level}")
    shares: list[tuple[int, int, int]] = []
    if container:
        count, buffer = cursor.words(2)
        if count > MOST_SHARES:
            raise DecodeError(f"NetrShareEnum claims {count} shares")
        if buffer:
            if cursor.words(1)[0] != count:
                raise DecodeError("NetrShareEnum: the array's size is not the number of entries")
            for _ in range(count):
                name, kind, remark = cursor.words(3)
                shares.append((name, kind, remark))
    named = [
        ShareInfo(
            cursor.string() if name else "",
            kind & _TYPE_MASK,
            bool(kind & _TYPE_SPECIAL),
            cursor.string() if remark else "",
        )
        for name, kind, remark in shares
    ]
    _total, resume = cursor.words(2)
    if resume:
        cursor.words(1)
    (status,) = cursor.words(1)
    if status != 0:
        raise DecodeError(f"NetrShareEnum was refused (Windows error {status})")
    return named


class _Cursor:
    """Reads NDR's aligned words and strings, one after the other."""

    def __init__(self, data: Buffer) -> None:
        self._data = data
        self._at = 0

    def words(self, count: int) -> tuple[int, ...]:
        values = struct.unpack(f"<{count}I", view(self._data, self._at, 4 * count, "NDR words"))
        self._at += 4 * count
        return values

    def string(self) -> str:
        """Read a conformant varying string; its final NUL is left out."""
        _, offset, characters = self.words(3)
        if offset:
            raise DecodeError(f"NDR string that begins at {offset}")
        raw = bytes(view(self._data, self._at, 2 * characters, "NDR string"))
        self._at += (len(raw) + 3) & ~3
        return raw.decode("utf-16-le", "surrogatepass").rstrip("\0")


def _pdu(kind: int, body: bytes, call_id: int) -> bytes:
    length = _HEADER.size + len(body)
    return _HEADER.pack(5, 0, kind, _FIRST | _LAST, _LITTLE_ENDIAN_ASCII_IEEE, length, 0, call_id) + body


def _decode_header(pdu: Buffer) -> tuple[int, int, int]:
    """Return type, flags and the end of the fragment without its authentication trailer (we never ask for one)."""
    version, minor, kind, flags, representation, length, authentication, _ = _HEADER.unpack(
        view(pdu, 0, _HEADER.size, "RPC header")
    )
    if version != 5 or minor not in (0, 1) or representation & 0xFF != _LITTLE_ENDIAN_ASCII_IEEE:
        raise DecodeError("not a little-endian DCE/RPC 5 PDU")
    if authentication or not _HEADER.size <= length <= len(pdu):
        raise DecodeError(f"RPC fragment of {length} bytes in {len(pdu)}")
    return kind, flags, length
