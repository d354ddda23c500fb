"""The server's side of signing and sealing SMB2: the client's algorithms, with the keys the other way round.

The algorithms are the product's own, proved elsewhere by published figures; what the client makes of a wrong signature
is tested with this.
"""

from smbfuse.security.keys import session_keys
from smbfuse.security.sealing import CIPHERS, Sealer, Unsealer
from smbfuse.security.signing import SIGNERS, signing_nonce
from smbfuse.wire.smb2.header import NO_SIGNATURE, SIGNATURE, HeaderFlags
from smbfuse.wire.smb2.transform import AUTHENTICATED_FROM, SIZE, TransformHeader, decode, encode
from smbfuse.wire.smb2.transform import SIGNATURE as TAG

_FLAGS = slice(16, 20)


class ServerProtection:
    """Keys of one session, as the server has them."""

    def __init__(
        self, dialect: int, session_key: bytes, *, preauth: bytes = b"", signing_id: int, cipher_id: int | None = None
    ) -> None:
        suite = None if cipher_id is None else CIPHERS[cipher_id]
        keys = session_keys(dialect, session_key, preauth, cipher_key_size=suite.key_size if suite else 0)
        self._signer = SIGNERS[signing_id](keys.signing)
        self._sealer = Sealer(suite, keys.server_to_client) if suite else None
        self._unsealer = Unsealer(suite, keys.client_to_server) if suite else None

    def sign(self, element: bytearray, message_id: int) -> None:
        """Sign one element of a response in place."""
        flags = int.from_bytes(element[_FLAGS], "little") | HeaderFlags.SIGNED
        element[_FLAGS] = int(flags).to_bytes(4, "little")
        element[SIGNATURE] = NO_SIGNATURE
        nonce = signing_nonce(message_id, from_server=True, is_cancel=False)
        element[SIGNATURE] = self._signer.signature((element,), nonce)

    def seal(self, session_id: int, message: bytes) -> bytes:
        """Return `message`, a whole compound, encrypted."""
        assert self._sealer is not None, "no cipher was agreed on"
        nonce = self._sealer.next_nonce()
        header = encode(TransformHeader(bytes(16), nonce.ljust(16, b"\0"), len(message), session_id))
        sealed, tag = self._sealer.encrypt(nonce, message, header[AUTHENTICATED_FROM:])
        header[TAG] = tag
        return bytes(header) + bytes(sealed)

    def unseal(self, pdu: bytes) -> bytes:
        """Return the plain message of an encrypted request."""
        assert self._unsealer is not None, "no cipher was agreed on"
        header = decode(pdu)
        plain = memoryview(bytearray(pdu[SIZE:]))
        self._unsealer.decrypt_in_place(header.nonce, plain, header.signature, pdu[AUTHENTICATED_FROM:SIZE])
        return bytes(plain)
