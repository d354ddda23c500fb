"""SMB2 TRANSFORM_HEADER: what stands before an encrypted message. [MS-SMB2] 2.2.41."""

from dataclasses import dataclass
from struct import Struct
from typing import Final

from smbfuse.errors import DecodeError
from smbfuse.wire.record import Buffer
from smbfuse.wire.smb2.header import TRANSFORM_PROTOCOL_ID

SIZE: Final = 52  # bytes
SIGNATURE: Final = slice(4, 20)
AUTHENTICATED_FROM: Final = 20  # the header's bytes from here on are authenticated together with the message

_ENCRYPTED: Final = 0x0001  # Flags of 3.1.1, and EncryptionAlgorithm of 3.0 and 3.0.2, where it means AES-128-CCM
_HEADER: Final = Struct("<4s16s16sIHHQ")


@dataclass(frozen=True, slots=True)
class TransformHeader:
    """The header of one encrypted message, or of one encrypted compound."""

    signature: bytes  # 16 bytes: the cipher's authentication tag
    nonce: bytes  # 16 bytes: the cipher's nonce, then zeros
    original_message_size: int  # bytes of the message, encrypted or not
    session_id: int


def encode(header: TransformHeader) -> bytearray:
    """Return the 52 bytes of `header`."""
    return bytearray(
        _HEADER.pack(
            TRANSFORM_PROTOCOL_ID,
            header.signature,
            header.nonce,
            header.original_message_size,
            0,
            _ENCRYPTED,
            header.session_id,
        )
    )


def decode(pdu: Buffer) -> TransformHeader:
    """Read the header of an encrypted PDU, and check it against the PDU's length; raises DecodeError.

    Reserved is ignored, as the specification says.
    """
    if len(pdu) < SIZE:
        raise DecodeError(f"TRANSFORM_HEADER: {len(pdu)} of {SIZE} bytes")
    protocol_id, signature, nonce, size, _, flags, session_id = _HEADER.unpack_from(pdu)
    if protocol_id != TRANSFORM_PROTOCOL_ID:
        raise DecodeError(f"TRANSFORM_HEADER: protocol id {protocol_id.hex()}")
    if flags != _ENCRYPTED:
        raise DecodeError(f"TRANSFORM_HEADER: flags 0x{flags:04X}")
    if size != len(pdu) - SIZE:
        raise DecodeError(f"TRANSFORM_HEADER: a message of {size} bytes announced, {len(pdu) - SIZE} came")
    return TransformHeader(signature, nonce, size, session_id)
