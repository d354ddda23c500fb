"""Session framing on ports 139 and 445, NetBIOS names, and the node status query.

Every PDU follows a 4-byte header: a type and a length, big-endian as all of NetBIOS is (RFC 1002 4.3). NetBIOS proper
has a 17-bit length; direct TCP uses 24 bits ([MS-SMB2] 2.1), which reads the same, so 24 bits are read everywhere.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from smbfuse.errors import DecodeError
from smbfuse.wire.record import Buffer, view

HEADER_SIZE: Final = 4
MAX_LENGTH: Final = 0xFFFFFF  # bytes that one header can announce

SESSION_MESSAGE: Final = 0x00
SESSION_REQUEST: Final = 0x81
POSITIVE_RESPONSE: Final = 0x82
NEGATIVE_RESPONSE: Final = 0x83
RETARGET_RESPONSE: Final = 0x84
KEEPALIVE: Final = 0x85
SERVER_PACKETS: Final = frozenset({SESSION_MESSAGE, POSITIVE_RESPONSE, NEGATIVE_RESPONSE, RETARGET_RESPONSE, KEEPALIVE})

ANY_SERVER: Final = "*SMBSERVER"  # a called name that most servers answer to
SUFFIX_WORKSTATION: Final = 0x00
SUFFIX_SERVER: Final = 0x20

NAME_SIZE: Final = 16  # 15 characters and the suffix
ENCODED_NAME_SIZE: Final = 2 * NAME_SIZE

NOT_LISTENING_ON_CALLED_NAME: Final = 0x80
NOT_LISTENING_FOR_CALLING_NAME: Final = 0x81
CALLED_NAME_NOT_PRESENT: Final = 0x82
INSUFFICIENT_RESOURCES: Final = 0x83
UNSPECIFIED_ERROR: Final = 0x8F

_REASONS: Final = {
    NOT_LISTENING_ON_CALLED_NAME: "the server does not listen on the called name",
    NOT_LISTENING_FOR_CALLING_NAME: "the server does not listen for our calling name",
    CALLED_NAME_NOT_PRESENT: "the server does not have the called name",
    INSUFFICIENT_RESOURCES: "the server has no resources left for another session",
    UNSPECIFIED_ERROR: "the server gives no reason",
}

_NBSTAT: Final = 0x0021
_CLASS_IN: Final = 0x0001
_RESPONSE: Final = 0x8000
_RCODE: Final = 0x000F
_DNS_HEADER: Final = struct.Struct(">HHHHHH")
_RESOURCE: Final = struct.Struct(">HHIH")
_NODE_NAME_SIZE: Final = 18  # name, suffix, 16 bits of flags
_GROUP: Final = 0x8000


def frame(length: int) -> bytes:
    """Return the header of a session message of `length` bytes (at most `MAX_LENGTH`)."""
    return length.to_bytes(HEADER_SIZE, "big")


def decode_header(data: Buffer) -> tuple[int, int]:
    """Return the type and the length in bytes that a 4-byte header announces.  RFC 1002 4.3.1."""
    if len(data) < HEADER_SIZE:
        raise DecodeError(f"session header: {len(data)} of {HEADER_SIZE} bytes")
    return data[0], data[1] << 16 | data[2] << 8 | data[3]


def encode_name(name: str, suffix: int) -> bytes:
    """Return the first-level encoding of a NetBIOS name: 32 letters from A to P.  RFC 1001 14.1.

    The name is upper-cased, cut or filled with spaces to 15 bytes, and ended by its one-byte `suffix`. '*' alone is
    the wildcard, filled with zeros. What ASCII cannot say becomes '?'.
    """
    plain = name.upper().encode("ascii", "replace")
    filler = b"\0" if plain == b"*" else b" "
    raw = plain[: NAME_SIZE - 1].ljust(NAME_SIZE - 1, filler) + bytes((suffix,))
    return bytes(letter for byte in raw for letter in (0x41 + (byte >> 4), 0x41 + (byte & 0xF)))


def decode_name(encoded: Buffer) -> tuple[str, int]:
    """Return name and suffix of a first-level encoded name.  RFC 1001 14.1."""
    if len(encoded) != ENCODED_NAME_SIZE:
        raise DecodeError(f"NetBIOS name: {len(encoded)} of {ENCODED_NAME_SIZE} letters")
    nibbles = [letter - 0x41 for letter in encoded]
    if any(not 0 <= nibble <= 0xF for nibble in nibbles):
        raise DecodeError("NetBIOS name: a letter outside A to P")
    raw = bytes(high << 4 | low for high, low in zip(nibbles[::2], nibbles[1::2], strict=True))
    return _plain_name(raw[:-1]), raw[-1]


def encode_session_request(called: str, calling: str) -> bytes:
    """Return a whole SESSION REQUEST packet: `called` as a server's name, `calling` as a workstation's.

    RFC 1002 4.3.2.
    """
    names = _name_field(called, SUFFIX_SERVER) + _name_field(calling, SUFFIX_WORKSTATION)
    return struct.pack(">BBH", SESSION_REQUEST, 0, len(names)) + names


def decode_session_request(body: Buffer) -> tuple[str, str]:
    """Return the called and the calling name from the body of a SESSION REQUEST packet."""
    called, end = _read_name_field(body, 0)
    calling, _ = _read_name_field(body, end)
    return called[0], calling[0]


def refusal(body: Buffer) -> tuple[int, str]:
    """Return the error code of a NEGATIVE RESPONSE's body, and what it means in words.  RFC 1002 4.3.4."""
    if len(body) < 1:
        raise DecodeError("negative session response without an error code")
    return body[0], _REASONS.get(body[0], f"error 0x{body[0]:02X}")


def decode_retarget(body: Buffer) -> tuple[str, int]:
    """Return the IPv4 address and the port that a RETARGET RESPONSE points to.  RFC 1002 4.3.5."""
    if len(body) < 6:
        raise DecodeError(f"retarget response: {len(body)} of 6 bytes")
    return str(IPv4Address(bytes(body[:4]))), int.from_bytes(body[4:6], "big")


class NodeName(NamedTuple):
    """One name that a NetBIOS node has registered."""

    name: str
    suffix: int
    group: bool  # a workgroup, not a machine


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A NODE STATUS RESPONSE: the names of a machine and its hardware address.  RFC 1002 4.2.18."""

    transaction_id: int
    names: tuple[NodeName, ...]
    unit_id: bytes  # MAC address, six bytes

    @property
    def server_name(self) -> str | None:
        """The name under which the machine serves files; None if it serves none."""
        return next((node.name for node in self.names if node.suffix == SUFFIX_SERVER and not node.group), None)

    def encode(self) -> bytes:
        """Return the whole UDP datagram of the reply."""
        names = b"".join(
            node.name.upper().encode("ascii", "replace")[:15].ljust(15)
            + struct.pack(">BH", node.suffix, _GROUP if node.group else 0)
            for node in self.names
        )
        body = bytes((len(self.names),)) + names + self.unit_id
        return (
            _DNS_HEADER.pack(self.transaction_id, _RESPONSE, 0, 1, 0, 0)
            + _name_field("*", 0)
            + _RESOURCE.pack(_NBSTAT, _CLASS_IN, 0, len(body))
            + body
        )

    @classmethod
    def decode(cls, datagram: Buffer) -> "NodeStatus":
        """Read a reply from UDP port 137; raises DecodeError for anything else."""
        header = view(datagram, 0, _DNS_HEADER.size, "node status header")
        transaction_id, flags, questions, answers, _, _ = _DNS_HEADER.unpack(header)
        if not flags & _RESPONSE or flags & _RCODE or questions or not answers:
            raise DecodeError("not a positive node status response")
        _, at = _read_name_field(datagram, _DNS_HEADER.size)
        kind, _, _, length = _RESOURCE.unpack(view(datagram, at, _RESOURCE.size, "node status resource"))
        if kind != _NBSTAT:
            raise DecodeError(f"resource of type 0x{kind:04X} in a node status response")
        body = view(datagram, at + _RESOURCE.size, length, "node status body")
        if not body:
            raise DecodeError("empty node status body")
        count = body[0]
        table = view(body, 1, count * _NODE_NAME_SIZE, "node status names")
        names = []
        for entry in range(0, len(table), _NODE_NAME_SIZE):
            (name_flags,) = struct.unpack_from(">H", table, entry + NAME_SIZE)
            name = _plain_name(bytes(table[entry : entry + NAME_SIZE - 1]))
            names.append(NodeName(name, table[entry + NAME_SIZE - 1], bool(name_flags & _GROUP)))
        # Some nodes leave the statistics away; the address is worth having, but nothing depends on it.
        unit_id = bytes(body[1 + len(table) : 7 + len(table)]).ljust(6, b"\0")
        return cls(transaction_id, tuple(names), unit_id)


def encode_node_status_query(transaction_id: int) -> bytes:
    """Return the UDP datagram (port 137) that asks a machine for all its names.  RFC 1002 4.2.17."""
    return (
        _DNS_HEADER.pack(transaction_id, 0, 1, 0, 0, 0) + _name_field("*", 0) + struct.pack(">HH", _NBSTAT, _CLASS_IN)
    )


def decode_node_status_query(datagram: Buffer) -> int:
    """Return the transaction id of a node status query; raises DecodeError for anything else."""
    header = view(datagram, 0, _DNS_HEADER.size, "node status query")
    transaction_id, flags, questions, _, _, _ = _DNS_HEADER.unpack(header)
    if flags & _RESPONSE or questions != 1:
        raise DecodeError("not a node status query")
    _, at = _read_name_field(datagram, _DNS_HEADER.size)
    kind, _ = struct.unpack(">HH", view(datagram, at, 4, "node status question"))
    if kind != _NBSTAT:
        raise DecodeError(f"question of type 0x{kind:04X} instead of a node status")
    return int(transaction_id)


def _name_field(name: str, suffix: int) -> bytes:
    """Return a second-level encoded name with an empty scope: length, letters, end.  RFC 1002 4.1."""
    return bytes((ENCODED_NAME_SIZE,)) + encode_name(name, suffix) + b"\0"


def _read_name_field(data: Buffer, offset: int) -> tuple[tuple[str, int], int]:
    """Return (name, suffix) and the offset behind the name; a scope is skipped, label pointers are refused."""
    if view(data, offset, 1, "NetBIOS name length")[0] != ENCODED_NAME_SIZE:
        raise DecodeError("NetBIOS name of a wrong length")
    name = decode_name(view(data, offset + 1, ENCODED_NAME_SIZE, "NetBIOS name"))
    at = offset + 1 + ENCODED_NAME_SIZE
    while label := view(data, at, 1, "NetBIOS scope")[0]:
        if label > 63:
            raise DecodeError("a label pointer within a NetBIOS scope")
        at += 1 + label
    return name, at + 1


def _plain_name(raw: bytes) -> str:
    return raw.rstrip(b" \0").decode("ascii", "replace")
