"""Encryption of whole messages: AES-128 and AES-256, in CCM and GCM. [MS-SMB2] 3.1.4.3.

One cipher object is kept for each direction, as each direction has its key. The counter behind the nonces belongs to
the object too: whoever keeps it through a re-authentication, which keeps the keys, keeps the nonces unique.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM

from smbfuse.errors import ProtocolError
from smbfuse.wire.record import Buffer

TAG_SIZE: Final = 16
GATHERED_FROM: Final = 32 * 1024  # bytes; below, setting a cipher up costs more than a copy
_BLOCK_SIZE: Final = 16


class _Aead(Protocol):
    def encrypt(self, nonce: bytes, data: Buffer, associated_data: Buffer, /) -> bytes: ...

    def decrypt_into(self, nonce: Buffer, data: bytes, associated_data: Buffer, buf: memoryview, /) -> int: ...


@dataclass(frozen=True, slots=True)
class CipherSuite:
    """One row of the cipher table: sizes in bytes, and how the cipher is made from a key."""

    name: str
    key_size: int
    nonce_size: int
    make: Callable[[bytes], _Aead]


# By the cipher ids of SMB2_ENCRYPTION_CAPABILITIES, [MS-SMB2] 2.2.3.1.2.
CIPHERS: Final = {
    0x0001: CipherSuite("AES-128-CCM", key_size=16, nonce_size=11, make=AESCCM),
    0x0002: CipherSuite("AES-128-GCM", key_size=16, nonce_size=12, make=AESGCM),
    0x0003: CipherSuite("AES-256-CCM", key_size=32, nonce_size=11, make=AESCCM),
    0x0004: CipherSuite("AES-256-GCM", key_size=32, nonce_size=12, make=AESGCM),
}


class Sealer:
    """Encrypts what this side sends. Every nonce is used once: a counter that never goes back."""

    def __init__(self, suite: CipherSuite, key: bytes) -> None:
        self._suite = suite
        self._aead = suite.make(key)
        self._aes = algorithms.AES(key) if suite.make is AESGCM else None
        self._counter = itertools.count(1)

    def next_nonce(self) -> bytes:
        """Return a nonce of the cipher's size that no earlier message had."""
        return next(self._counter).to_bytes(self._suite.nonce_size, "little")

    def encrypt(self, nonce: bytes, message: Buffer, associated_data: Buffer) -> tuple[memoryview, memoryview]:
        """Return the ciphertext, as long as `message`, and its 16-byte tag."""
        sealed = memoryview(self._aead.encrypt(nonce, message, associated_data))
        return sealed[:-TAG_SIZE], sealed[-TAG_SIZE:]

    def encrypt_pieces(self, nonce: bytes, pieces: Sequence[Buffer], associated_data: Buffer) -> tuple[Buffer, Buffer]:
        """Return the ciphertext of the message that `pieces` make together, and its 16-byte tag.

        Large ones are not joined first, which GCM can do and CCM cannot: 1 MiB in 0.1 ms instead of 0.8.
        """
        size = sum(len(piece) for piece in pieces)
        if self._aes is None or size < GATHERED_FROM:
            return self.encrypt(nonce, b"".join(pieces), associated_data)
        cipher = Cipher(self._aes, modes.GCM(nonce)).encryptor()
        cipher.authenticate_additional_data(associated_data)
        sealed = memoryview(bytearray(size + _BLOCK_SIZE - 1))  # room that the library wants, and does not use
        at = 0
        for piece in pieces:
            at += cipher.update_into(piece, sealed[at:])
        cipher.finalize()
        return sealed[:size], cipher.tag


class Unsealer:
    """Decrypts what the server sends."""

    def __init__(self, suite: CipherSuite, key: bytes) -> None:
        self._suite = suite
        self._aead = suite.make(key)

    def decrypt_in_place(self, nonce_field: Buffer, message: memoryview, tag: Buffer, associated_data: Buffer) -> None:
        """Turn the ciphertext in `message` into the plaintext, or raise ProtocolError if any bit was tampered with.

        `nonce_field` is the header's 16-byte Nonce, of which the cipher uses the first 11 or 12. The ciphertext is
        copied once, because the library wants the tag behind it and SMB keeps it in front; the plaintext then goes
        where the ciphertext was, so that no second large buffer is made.
        """
        try:
            self._aead.decrypt_into(
                nonce_field[: self._suite.nonce_size], b"".join((message, tag)), associated_data, message
            )
        except InvalidTag:
            raise ProtocolError("an encrypted message does not match its authentication tag") from None
