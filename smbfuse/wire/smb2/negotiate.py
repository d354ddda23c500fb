"""NEGOTIATE and its contexts.  [MS-SMB2] 2.2.3, 2.2.4."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from struct import Struct
from typing import ClassVar, Final, NamedTuple, Self

from smbfuse.errors import DecodeError
from smbfuse.wire.dtyp import decode_utf16, encode_utf16
from smbfuse.wire.record import Buffer, view
from smbfuse.wire.smb2.message import ALIGNMENT, HEADER_SIZE


class DialectRevision(IntEnum):
    """Dialect numbers.  [MS-SMB2] 2.2.4."""

    SMB_2_0_2 = 0x0202
    SMB_2_1 = 0x0210
    SMB_3_0 = 0x0300
    SMB_3_0_2 = 0x0302
    SMB_3_1_1 = 0x0311
    WILDCARD = 0x02FF  # "SMB2, ask again": the answer to a multi-protocol NEGOTIATE


class SecurityMode(IntFlag):
    """Signing, enabled or required.  [MS-SMB2] 2.2.3."""

    SIGNING_ENABLED = 1
    SIGNING_REQUIRED = 2


class Capabilities(IntFlag):
    """Global capabilities of client or server.  [MS-SMB2] 2.2.3."""

    DFS = 0x01
    LEASING = 0x02
    LARGE_MTU = 0x04
    MULTI_CHANNEL = 0x08
    PERSISTENT_HANDLES = 0x10
    DIRECTORY_LEASING = 0x20
    ENCRYPTION = 0x40
    NOTIFICATIONS = 0x80


class ContextType(IntEnum):
    """Negotiate context types.  [MS-SMB2] 2.2.3.1."""

    PREAUTH_INTEGRITY_CAPABILITIES = 1
    ENCRYPTION_CAPABILITIES = 2
    COMPRESSION_CAPABILITIES = 3
    NETNAME_NEGOTIATE_CONTEXT_ID = 5
    TRANSPORT_CAPABILITIES = 6
    RDMA_TRANSFORM_CAPABILITIES = 7
    SIGNING_CAPABILITIES = 8
    POSIX_EXTENSIONS_AVAILABLE = 0x100


SHA_512: Final = 1  # the only HashAlgorithm there is


class NegotiateContext(NamedTuple):
    """One context as it is on the wire.  [MS-SMB2] 2.2.3.1."""

    context_type: int
    data: bytes


_CONTEXT: Final = Struct("<HH4x")  # ContextType, DataLength
_PREAUTH: Final = Struct("<HH")  # HashAlgorithmCount, SaltLength


def preauth_integrity(salt: bytes, algorithms: Sequence[int] = (SHA_512,)) -> NegotiateContext:
    """Return SMB2_PREAUTH_INTEGRITY_CAPABILITIES.  [MS-SMB2] 2.2.3.1.1."""
    data = _PREAUTH.pack(len(algorithms), len(salt)) + _pack_u16(algorithms) + salt
    return NegotiateContext(ContextType.PREAUTH_INTEGRITY_CAPABILITIES, data)


def decode_preauth_integrity(data: Buffer) -> tuple[list[int], bytes]:
    """Return the hash algorithms and the salt; raises DecodeError."""
    if len(data) < _PREAUTH.size:
        raise DecodeError(f"preauth integrity context: {len(data)} bytes")
    count, salt_length = _PREAUTH.unpack_from(data)
    salt = view(data, _PREAUTH.size + 2 * count, salt_length, "preauth integrity salt")
    return _unpack_u16(data, _PREAUTH.size, count), bytes(salt)


def algorithms(context_type: ContextType, ids: Sequence[int]) -> NegotiateContext:
    """Return ENCRYPTION_CAPABILITIES or SIGNING_CAPABILITIES: a count and ids, best first.

    [MS-SMB2] 2.2.3.1.2, 2.2.3.1.7.
    """
    return NegotiateContext(context_type, _pack_u16([len(ids), *ids]))


def decode_algorithms(data: Buffer) -> list[int]:
    """Return the ids of ENCRYPTION_CAPABILITIES or SIGNING_CAPABILITIES; raises DecodeError."""
    (count,) = _unpack_u16(data, 0, 1)
    return _unpack_u16(data, 2, count)


def netname(host: str) -> NegotiateContext:
    """Return SMB2_NETNAME_NEGOTIATE_CONTEXT_ID: the name that the client dialled.  [MS-SMB2] 2.2.3.1.4."""
    return NegotiateContext(ContextType.NETNAME_NEGOTIATE_CONTEXT_ID, encode_utf16(host))


def decode_netname(data: Buffer) -> str:
    """Return the name of a SMB2_NETNAME_NEGOTIATE_CONTEXT_ID."""
    return decode_utf16(data)


def _pack_u16(values: Sequence[int]) -> bytes:
    return Struct(f"<{len(values)}H").pack(*values)


def _unpack_u16(data: Buffer, offset: int, count: int) -> list[int]:
    return list(Struct(f"<{count}H").unpack(view(data, offset, 2 * count, "list of 16-bit numbers")))


def _encode_contexts(contexts: Sequence[NegotiateContext]) -> bytes:
    encoded = bytearray()
    for context_type, data in contexts:
        encoded += bytes(-len(encoded) % ALIGNMENT)  # between contexts; none behind the last
        encoded += _CONTEXT.pack(context_type, len(data)) + data
    return bytes(encoded)


def _decode_contexts(element: Buffer, offset: int, count: int) -> tuple[NegotiateContext, ...]:
    if not count:
        return ()
    if offset % ALIGNMENT:
        raise DecodeError(f"negotiate contexts at {offset}: not aligned")
    contexts = []
    at = offset
    for _ in range(count):
        at += -at % ALIGNMENT
        context_type, length = _CONTEXT.unpack(view(element, at, _CONTEXT.size, "negotiate context"))
        data = view(element, at + _CONTEXT.size, length, "negotiate context data")
        contexts.append(NegotiateContext(context_type, bytes(data)))
        at += _CONTEXT.size + length
    return tuple(contexts)


@dataclass(frozen=True, slots=True)
class NegotiateRequest:
    """SMB2 NEGOTIATE Request.  [MS-SMB2] 2.2.3.  36 bytes, the dialects, and for 3.1.1 the contexts.

    Written by hand: what stands behind ClientGuid depends on whether 3.1.1 is among the dialects.
    """

    dialects: tuple[int, ...]
    security_mode: int
    capabilities: int
    client_guid: bytes
    contexts: tuple[NegotiateContext, ...] = ()  # 3.1.1
    client_start_time: int = 0  # without 3.1.1; 0

    STRUCT: ClassVar[Struct] = Struct("<HHH2xI16s8s")
    _CONTEXTS: ClassVar[Struct] = Struct("<IH2x")  # NegotiateContextOffset, NegotiateContextCount

    def encode(self) -> bytes:
        """Return the body."""
        dialects = _pack_u16(self.dialects)
        behind = HEADER_SIZE + self.STRUCT.size + len(dialects)
        pad = b""
        if DialectRevision.SMB_3_1_1 in self.dialects:
            pad = bytes(-behind % ALIGNMENT)
            last = self._CONTEXTS.pack(behind + len(pad), len(self.contexts))
        else:
            last = self.client_start_time.to_bytes(8, "little")
        fixed = self.STRUCT.pack(36, len(self.dialects), self.security_mode, self.capabilities, self.client_guid, last)
        return fixed + dialects + pad + _encode_contexts(self.contexts)

    @classmethod
    def decode(cls, element: Buffer) -> Self:
        """Read the message from a whole element; raises DecodeError."""
        fixed = view(element, HEADER_SIZE, cls.STRUCT.size, "NegotiateRequest")
        structure_size, count, security_mode, capabilities, client_guid, last = cls.STRUCT.unpack(fixed)
        if structure_size != 36:
            raise DecodeError(f"NegotiateRequest: StructureSize {structure_size} instead of 36")
        dialects = tuple(_unpack_u16(element, HEADER_SIZE + cls.STRUCT.size, count))
        if DialectRevision.SMB_3_1_1 not in dialects:
            return cls(dialects, security_mode, capabilities, client_guid, (), int.from_bytes(last, "little"))
        contexts = _decode_contexts(element, *cls._CONTEXTS.unpack(last))
        return cls(dialects, security_mode, capabilities, client_guid, contexts)


@dataclass(frozen=True, slots=True)
class NegotiateResponse:
    """SMB2 NEGOTIATE Response.  [MS-SMB2] 2.2.4.  64 bytes, the security token, and for 3.1.1 the contexts."""

    security_mode: int
    dialect_revision: int
    server_guid: bytes
    capabilities: int
    max_transact_size: int
    max_read_size: int
    max_write_size: int
    system_time: int = 0  # FILETIME
    server_start_time: int = 0
    token: bytes = b""
    contexts: tuple[NegotiateContext, ...] = ()  # 3.1.1

    STRUCT: ClassVar[Struct] = Struct("<HHHH16sIIIIQQHHI")

    def encode(self) -> bytes:
        """Return the body."""
        token_offset = HEADER_SIZE + self.STRUCT.size
        tail = self.token
        contexts_offset = 0
        if self.contexts:
            tail += bytes(-(token_offset + len(tail)) % ALIGNMENT)
            contexts_offset = token_offset + len(tail)
        fixed = self.STRUCT.pack(
            65,
            self.security_mode,
            self.dialect_revision,
            len(self.contexts),
            self.server_guid,
            self.capabilities,
            self.max_transact_size,
            self.max_read_size,
            self.max_write_size,
            self.system_time,
            self.server_start_time,
            token_offset,
            len(self.token),
            contexts_offset,
        )
        return fixed + (tail + _encode_contexts(self.contexts) or b"\0")

    @classmethod
    def decode(cls, element: Buffer) -> Self:
        """Read the message from a whole element; raises DecodeError. Other dialects' context fields are reserved."""
        fields = cls.STRUCT.unpack(view(element, HEADER_SIZE, cls.STRUCT.size, "NegotiateResponse"))
        structure_size, security_mode, dialect, context_count, guid, capabilities, transact, read, write = fields[:9]
        system_time, start_time, token_at, token_length, contexts_at = fields[9:]
        if structure_size != 65:
            raise DecodeError(f"NegotiateResponse: StructureSize {structure_size} instead of 65")
        token = view(element, token_at, token_length, "NegotiateResponse token") if token_length else b""
        contexts: tuple[NegotiateContext, ...] = ()
        if dialect == DialectRevision.SMB_3_1_1:
            contexts = _decode_contexts(element, contexts_at, context_count)
        return cls(
            security_mode=security_mode,
            dialect_revision=dialect,
            server_guid=guid,
            capabilities=capabilities,
            max_transact_size=transact,
            max_read_size=read,
            max_write_size=write,
            system_time=system_time,
            server_start_time=start_time,
            token=bytes(token),
            contexts=contexts,
        )
