"""Signatures of messages: MD5 for SMB1, HMAC-SHA256, AES-CMAC and AES-GMAC for SMB2.

Each algorithm is a small object that holds one key, prepared once. A message comes as several buffers, of which none is
copied; its signature field must already be zero (SMB1: hold the sequence number). What to sign, and what must be
signed, is `engine.protect`'s business.
"""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import ClassVar, Final, Protocol

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.cmac import CMAC

from smbfuse.wire.record import Buffer

SMB1_SIGNATURE_SIZE: Final = 8
SMB2_SIGNATURE_SIZE: Final = 16


def signing_nonce(message_id: int, *, from_server: bool, is_cancel: bool) -> bytes:
    """Return the 12 bytes that make a message unique under its key; only AES-GMAC uses them. [MS-SMB2] 3.1.4.1.

    MessageId, then 32 bits: bit 0 for the server's messages, bit 1 for CANCEL, which has the id of what it cancels. An
    interim response has its final response's id, which is why it must never be signed.
    """
    return message_id.to_bytes(8, "little") + (from_server | is_cancel << 1).to_bytes(4, "little")


class Signer(Protocol):
    """One algorithm with its key."""

    name: ClassVar[str]

    def signature(self, message: Sequence[Buffer], nonce: bytes) -> bytes:
        """Return the 16-byte signature of the message that the buffers make together.

        `nonce` is what `signing_nonce` gives for the message.
        """
        ...


class HmacSha256:
    """Dialects 2.0.2 and 2.1, and 3.1.1 where both sides choose it: the first half of an HMAC-SHA256."""

    name: ClassVar[str] = "HMAC-SHA256"

    def __init__(self, key: bytes) -> None:
        self._prepared = hmac.new(key, digestmod="sha256")

    def signature(self, message: Sequence[Buffer], nonce: bytes) -> bytes:
        """Return the 16-byte signature."""
        mac = self._prepared.copy()
        for buffer in message:
            mac.update(buffer)
        return mac.digest()[:SMB2_SIGNATURE_SIZE]


class AesCmac:
    """Dialects 3.0 and 3.0.2, and 3.1.1 by default: AES-128-CMAC (RFC 4493)."""

    name: ClassVar[str] = "AES-CMAC"

    def __init__(self, key: bytes) -> None:
        self._prepared = CMAC(algorithms.AES(key))

    def signature(self, message: Sequence[Buffer], nonce: bytes) -> bytes:
        """Return the 16-byte signature."""
        mac = self._prepared.copy()
        for buffer in message:
            mac.update(buffer)  # type: ignore[arg-type]  # any buffer; only the library's annotation says bytes
        return mac.finalize()


class AesGmac:
    """3.1.1 where both sides have it: the tag of AES-128-GCM over no plaintext. Twenty times as fast as the others."""

    name: ClassVar[str] = "AES-GMAC"

    def __init__(self, key: bytes) -> None:
        self._one_piece = AESGCM(key)
        self._aes = algorithms.AES(key)

    def signature(self, message: Sequence[Buffer], nonce: bytes) -> bytes:
        """Return the 16-byte signature."""
        if len(message) == 1:  # nearly every message; a tenth of the cost of setting a cipher up
            return self._one_piece.encrypt(nonce, b"", message[0])
        mac = Cipher(self._aes, modes.GCM(nonce)).encryptor()
        for buffer in message:
            mac.authenticate_additional_data(buffer)
        mac.finalize()
        return mac.tag


# By the algorithm ids of SMB2_SIGNING_CAPABILITIES, [MS-SMB2] 2.2.3.1.7.
SIGNERS: Final[dict[int, Callable[[bytes], Signer]]] = {0x0000: HmacSha256, 0x0001: AesCmac, 0x0002: AesGmac}


class Md5Mac:
    """SMB1: MD5 over key and message, the first 8 bytes. [MS-SMB] 3.1.4.1, [MS-CIFS] 3.1.4.1."""

    name = "MD5"

    def __init__(self, key: bytes) -> None:
        # Not a choice of ours: the protocol has no other. `usedforsecurity` lets a FIPS build compute it all the same.
        self._prepared = hashlib.md5(key, usedforsecurity=False)

    def signature(self, message: Sequence[Buffer]) -> bytes:
        """Return the 8-byte signature of a message whose signature field holds the 64-bit sequence number."""
        mac = self._prepared.copy()
        for buffer in message:
            mac.update(buffer)
        return mac.digest()[:SMB1_SIGNATURE_SIZE]
