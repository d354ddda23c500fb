"""The one place where messages are signed and sealed, verified and unsealed, and where it is decided what is accepted.

A session that has keys has one `Smb2Protection`; an SMB1 connection has one `Smb1Protection`, made from the first
login that has a key. Guest and anonymous sessions have no keys, hence no such object, and are never signed.
"""

import hmac
from collections.abc import Sequence
from typing import Final

from smbfuse.engine.dialect import BY_REVISION
from smbfuse.errors import ProtocolError, SecurityRefused
from smbfuse.security import sealing, signing
from smbfuse.security.keys import PreauthHash, session_keys
from smbfuse.security.sealing import CIPHERS, Sealer, Unsealer
from smbfuse.security.signing import SIGNERS, Md5Mac, signing_nonce
from smbfuse.status import NtStatus
from smbfuse.wire.record import Buffer
from smbfuse.wire.smb1.header import HEADER_SIZE as SMB1_HEADER_SIZE
from smbfuse.wire.smb1.header import SIGNATURE_OFFSET, Flags2
from smbfuse.wire.smb2 import transform
from smbfuse.wire.smb2.header import HEADER, NO_SIGNATURE, SIGNATURE, UNSOLICITED, Arrived, Command, HeaderFlags
from smbfuse.wire.smb2.message import HEADER_SIZE

__all__ = ["PreauthHash", "Smb1Protection", "Smb2Protection"]

_WRONG_LOGIN_SIGNATURE: Final = (
    "the answer to the login is wrongly signed: someone may be tampering with the connection"
)

# --- SMB1 ------------------------------------------------------------------------------------------------------------

_FLAGS2: Final = slice(10, 12)  # in the header, [MS-CIFS] 2.2.3.1
_LOGIN_RESPONSE: Final = 1  # its sequence number
_PLACEHOLDER: Final = b"BSRSPYL "  # what stands in the signature field before there is a key
_SMB1_SIGNED: Final = int(Flags2.SECURITY_SIGNATURE)
_SMB1_SIGNATURE: Final = slice(SIGNATURE_OFFSET, SIGNATURE_OFFSET + signing.SMB1_SIGNATURE_SIZE)


class Smb1Protection:
    """MD5 signatures of one SMB1 connection. [MS-SMB] 3.1.4.1, [MS-CIFS] 3.1.4.1 and 3.2.4.1.3.

    `key` is the login's session key, followed by the challenge response if the login was made without extended
    security. The SESSION_SETUP_ANDX that made it counts as number 0; its response is signed and number 1.
    """

    signing_name = Md5Mac.name

    def __init__(self, key: bytes) -> None:
        if not key:
            raise SecurityRefused("the login gave no key to sign with")
        self._mac = Md5Mac(key)
        self._next = 2

    def take_sequence(self, *, is_cancel: bool = False) -> int:
        """Return the number of the next request in send order; its responses, all of them, have the number after it.

        NT_CANCEL takes one number, because it is never answered; every other request takes two, answered or not.
        """
        sequence = self._next
        self._next += 1 if is_cancel else 2
        return sequence

    def sign(self, head: bytearray, payload: Sequence[Buffer], sequence: int) -> None:
        """Mark the message as signed and write its signature in place. `head` begins at the 0xFF of the SMB header."""
        flags2 = int.from_bytes(head[_FLAGS2], "little") | _SMB1_SIGNED
        head[_FLAGS2] = flags2.to_bytes(2, "little")
        head[_SMB1_SIGNATURE] = sequence.to_bytes(8, "little")
        head[_SMB1_SIGNATURE] = self._mac.signature((head, *payload))

    def verify(self, pdu: memoryview, sequence: int) -> bool:
        """Tell whether `pdu` carries the signature that it must have; changed in place meanwhile, then as it was."""
        if len(pdu) < SMB1_HEADER_SIZE:
            return False
        given = bytes(pdu[_SMB1_SIGNATURE])
        pdu[_SMB1_SIGNATURE] = sequence.to_bytes(8, "little")
        expected = self._mac.signature((pdu,))
        pdu[_SMB1_SIGNATURE] = given
        return hmac.compare_digest(given, expected)

    def check(self, pdu: memoryview, sequence: int) -> None:
        """Refuse a response whose signature is wrong: raises ProtocolError, SecurityRefused if it ends the login.

        Not for oplock breaks: they are requests of the server, and unsigned ([MS-CIFS] 3.2.5.1).
        """
        if self.verify(pdu, sequence):
            return
        if sequence == _LOGIN_RESPONSE:
            if bytes(pdu[_SMB1_SIGNATURE]) == _PLACEHOLDER:
                # Seen on Samba 4.17 without extended security; its own client gives up there too.
                raise SecurityRefused("the server agreed to sign, and does not sign its answer to this kind of login")
            raise SecurityRefused(_WRONG_LOGIN_SIGNATURE)
        raise ProtocolError(f"wrong signature on an SMB1 response (sequence number {sequence})")


# --- SMB2 ------------------------------------------------------------------------------------------------------------

_FLAGS: Final = slice(16, 20)  # in the header, [MS-SMB2] 2.2.1.2
_ASYNC: Final = int(HeaderFlags.ASYNC_COMMAND)  # plain numbers: these are looked at in every response
_SIGNED: Final = int(HeaderFlags.SIGNED)
_PENDING: Final = int(NtStatus.PENDING)

# A session that the server has forgotten cannot be signed or encrypted for. Believing these unprotected statuses costs
# nothing: whoever can forge them can cut the connection as well.
_SESSION_ENDED: Final = frozenset({NtStatus.USER_SESSION_DELETED, NtStatus.NETWORK_SESSION_EXPIRED})


class Smb2Protection:
    """Keys, signatures and encryption of one SMB2 session that is neither guest nor anonymous.

    `sign`: every request of the session is signed and every response must be; `seal`: every one is encrypted and must
    be. Keep the object when the session is authenticated again: keys stay, so the nonces must go on.
    """

    def __init__(
        self,
        dialect: int,
        full_session_key: bytes,
        *,
        preauth: bytes = b"",
        signing_id: int | None = None,
        cipher_id: int | None = None,
        sign: bool = False,
        seal: bool = False,
    ) -> None:
        """Derive the keys of a login just made.

        `dialect` is the DialectRevision; `preauth` the session's 64-byte hash (3.1.1); `signing_id` what the server
        chose in SIGNING_CAPABILITIES, None if it answered none; `cipher_id` what it chose in ENCRYPTION_CAPABILITIES
        (3.0 and 3.0.2 with CAP_ENCRYPTION: AES-128-CCM), None if nothing can be sealed.
        Raises: ProtocolError (the server chose what does not exist), SecurityRefused (no key; `seal` without a cipher).
        """
        if not full_session_key:
            raise SecurityRefused("the login gave no key to sign or encrypt with")
        if seal and cipher_id is None:
            raise SecurityRefused("encryption is demanded, but the server has none")
        row = BY_REVISION[dialect]
        chosen = row.default_signing if signing_id is None else signing_id
        if chosen not in SIGNERS:
            raise ProtocolError(f"the server chose signing algorithm {chosen}, which does not exist")
        if cipher_id is not None and cipher_id not in CIPHERS:
            raise ProtocolError(f"the server chose cipher 0x{cipher_id:04X}, which does not exist")
        suite = None if cipher_id is None else CIPHERS[cipher_id]
        keys = session_keys(dialect, full_session_key, preauth, cipher_key_size=suite.key_size if suite else 0)
        self.sign_all = sign
        self.seal_all = seal
        self._login_is_hashed = row.contexts
        self._signer = SIGNERS[chosen](keys.signing)
        self._sealer = Sealer(suite, keys.client_to_server) if suite else None
        self._unsealer = Unsealer(suite, keys.server_to_client) if suite else None
        self.signing_name = self._signer.name
        self.sealing_name = suite.name if suite else ""

    @property
    def can_seal(self) -> bool:
        """Whether messages can be encrypted: a share may demand it even if the session does not."""
        return self._sealer is not None

    def must_sign(self, command: int) -> bool:
        """Tell whether a request that goes out unencrypted must be signed. [MS-SMB2] 3.2.4.1.1 and 3.2.4.2.4.

        TREE_CONNECT of 3.1.1 always: its answer says what the share demands.
        """
        return self.sign_all or (self._login_is_hashed and command == Command.TREE_CONNECT)

    def sign(self, head: bytearray, payload: Sequence[Buffer], message_id: int, *, is_cancel: bool = False) -> None:
        """Mark one element of a compound as signed and write its signature in place. [MS-SMB2] 3.1.4.1.

        `head` begins at the 64-byte header; `payload` goes on to the element's end, padding included. No copies.
        """
        flags = int.from_bytes(head[_FLAGS], "little") | _SIGNED
        head[_FLAGS] = flags.to_bytes(4, "little")
        head[SIGNATURE] = NO_SIGNATURE
        nonce = signing_nonce(message_id, from_server=False, is_cancel=is_cancel)
        head[SIGNATURE] = self._signer.signature((head, *payload), nonce)

    def verify(self, element: memoryview, message_id: int) -> bool:
        """Tell whether one element of a compound carries the right signature; changed meanwhile, then as it was.

        The element goes to its end, padding included, and is at least a header long.
        """
        given = bytes(element[SIGNATURE])
        element[SIGNATURE] = NO_SIGNATURE
        expected = self._signer.signature((element,), signing_nonce(message_id, from_server=True, is_cancel=False))
        element[SIGNATURE] = given
        return hmac.compare_digest(given, expected)

    def check(
        self,
        header: Arrived,
        element: memoryview,
        *,
        unsealed: bool,
        sealed_request: bool = False,
        signed_request: bool = False,
        ends_login: bool = False,
    ) -> None:
        """Refuse a response that is less protected than it must be. [MS-SMB2] 3.2.5.1.3.

        `header` and `element` are what `split_compound` yields.
        `unsealed`: it came out of `unseal`, which has authenticated it. The other flags say how the request went out,
        and whether this is the final response of the login that made the keys: never encrypted, signed in 3.1.1
        (3.2.5.3.1). Breaks are never signed (3.2.5.1.3, MessageId all ones), interim responses neither (3.3.4.2), nor
        what a server says of a session that it no longer knows.
        Raises: ProtocolError, for the response that ends the login SecurityRefused.
        """
        if unsealed or header.message_id == UNSOLICITED or header.status in _SESSION_ENDED:
            return
        if sealed_request or (self.seal_all and not ends_login):
            raise ProtocolError("an unencrypted response within an encrypted session")
        if header.status == _PENDING and header.flags & _ASYNC:
            return
        if header.flags & _SIGNED:
            if self.verify(element, header.message_id):
                return
            if ends_login:
                raise SecurityRefused(_WRONG_LOGIN_SIGNATURE)
            raise ProtocolError(f"wrong signature on the response to message {header.message_id}")
        if ends_login:
            if self._login_is_hashed:
                raise SecurityRefused(
                    "the answer to the login is not signed: someone may be tampering with the connection"
                )
        elif signed_request or self.sign_all:
            raise ProtocolError(f"no signature on the response to message {header.message_id}, which must have one")

    def seal(self, session_id: int, message: Sequence[Buffer]) -> list[Buffer]:
        """Encrypt a message or a whole compound: TRANSFORM_HEADER and ciphertext. [MS-SMB2] 3.1.4.3.

        What goes in is not signed. Cost: what `Sealer.encrypt_pieces` says.
        Raises: SecurityRefused (nothing was agreed on to encrypt with).
        """
        if self._sealer is None:
            raise SecurityRefused("encryption is demanded, but none was agreed on with the server")
        nonce = self._sealer.next_nonce()
        size = sum(len(buffer) for buffer in message)
        header = transform.encode(
            transform.TransformHeader(bytes(sealing.TAG_SIZE), nonce.ljust(16, b"\0"), size, session_id)
        )
        sealed, tag = self._sealer.encrypt_pieces(nonce, message, header[transform.AUTHENTICATED_FROM :])
        header[transform.SIGNATURE] = tag
        return [header, sealed]

    def unseal(self, pdu: memoryview) -> memoryview:
        """Decrypt a PDU that begins with a TRANSFORM_HEADER, in place, and return the plain message or compound.

        Raises: DecodeError (a malformed header), ProtocolError (not made with this session's key, or tampered with).
        """
        header = transform.decode(pdu)
        if self._unsealer is None:
            raise ProtocolError("an encrypted message within a session that has no encryption")
        plain = pdu[transform.SIZE :]
        aad = pdu[transform.AUTHENTICATED_FROM : transform.SIZE]
        self._unsealer.decrypt_in_place(header.nonce, plain, header.signature, aad)
        if len(plain) >= HEADER_SIZE:
            inner = Arrived._make(HEADER.unpack_from(plain))
            if inner.session_id != header.session_id and inner.message_id != UNSOLICITED:
                raise ProtocolError("an encrypted message for another session than its header says")
        return plain
