"""Where the keys of an SMB2 session come from: key derivation and the pre-authentication hash.

[MS-SMB2] 3.1.4.2 (generating cryptographic keys), 3.2.5.3.1 (labels and contexts), 3.2.5.2 (the hash chain).
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Final

from smbfuse.wire.record import Buffer

SESSION_KEY_SIZE: Final = 16  # of a signing key and of Session.SessionKey, in bytes


class PreauthHash:
    """Chain the messages that lead to a session, so that tampering with any of them gives other keys (3.1.1 only).

    It takes the NEGOTIATE request and response, then the login: every SESSION_SETUP request, and every response that
    asks for more. The final, successful response is not part of it, nor is the multi-protocol NEGOTIATE of SMB1.
    Messages are taken as on the wire, without the 4-byte session header.
    """

    __slots__ = ("digest",)

    def __init__(self) -> None:
        self.digest = bytes(hashlib.sha512().digest_size)

    def update(self, *message: Buffer) -> None:
        """Add one message, which may lie in several buffers."""
        chain = hashlib.sha512(self.digest)
        for buffer in message:
            chain.update(buffer)
        self.digest = chain.digest()


def derive(key: bytes, label: bytes, context: bytes, *, size: int) -> bytes:
    """Derive `size` bytes (at most 32) from `key`: SP 800-108 in counter mode over HMAC-SHA256, r = 32.

    `label` comes with the NUL that the specification's strings have, the separator byte follows it.
    """
    counter, bits = 1, size * 8
    return hmac.digest(key, counter.to_bytes(4) + label + b"\0" + context + bits.to_bytes(4), "sha256")[:size]


@dataclass(frozen=True, slots=True)
class KeyPurpose:
    """Label and context of one derived key. Without a context of its own, the pre-authentication hash is it."""

    label: bytes
    context: bytes | None = None


@dataclass(frozen=True, slots=True)
class KeySchedule:
    """How a family of dialects turns a session key into keys for signing and sealing."""

    signing: KeyPurpose
    client_to_server: KeyPurpose
    server_to_client: KeyPurpose


# The trailing blank of "ServerIn " is the specification's own. Every 3.0 key has a context of its own.
_SMB_3_0: Final = KeySchedule(
    signing=KeyPurpose(b"SMB2AESCMAC\0", b"SmbSign\0"),
    client_to_server=KeyPurpose(b"SMB2AESCCM\0", b"ServerIn \0"),
    server_to_client=KeyPurpose(b"SMB2AESCCM\0", b"ServerOut\0"),
)
_SMB_3_1_1: Final = KeySchedule(
    signing=KeyPurpose(b"SMBSigningKey\0"),
    client_to_server=KeyPurpose(b"SMBC2SCipherKey\0"),
    server_to_client=KeyPurpose(b"SMBS2CCipherKey\0"),
)
SCHEDULES: Final = {0x0300: _SMB_3_0, 0x0302: _SMB_3_0, 0x0311: _SMB_3_1_1}  # by DialectRevision; older: no derivation


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """The keys of one session. A sealing key is b"" where the dialect or the cipher gives none."""

    signing: bytes = field(repr=False)
    client_to_server: bytes = field(repr=False, default=b"")
    server_to_client: bytes = field(repr=False, default=b"")


def session_keys(dialect: int, full_session_key: bytes, preauth: bytes, *, cipher_key_size: int) -> SessionKeys:
    """Return the keys that follow from a login.

    `full_session_key` is what the login mechanism gave, of whatever length (Kerberos: often 32 bytes); `preauth` the
    session's 64-byte hash, used by 3.1.1 only; `cipher_key_size` 16, 32, or 0 when nothing can be sealed.
    """
    session_key = full_session_key[:SESSION_KEY_SIZE].ljust(SESSION_KEY_SIZE, b"\0")
    schedule = SCHEDULES.get(dialect)
    if schedule is None:
        return SessionKeys(signing=session_key)

    def key(purpose: KeyPurpose, source: bytes, size: int) -> bytes:
        return derive(source, purpose.label, preauth if purpose.context is None else purpose.context, size=size)

    signing = key(schedule.signing, session_key, SESSION_KEY_SIZE)
    if not cipher_key_size:
        return SessionKeys(signing)
    # AES-256 takes the uncut key for the sealing keys, and for these alone: the signing key stays at 128 bits.
    source = full_session_key if cipher_key_size > SESSION_KEY_SIZE else session_key
    return SessionKeys(
        signing,
        key(schedule.client_to_server, source, cipher_key_size),
        key(schedule.server_to_client, source, cipher_key_size),
    )
