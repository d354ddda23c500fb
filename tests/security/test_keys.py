"""Key derivation and the pre-authentication hash against published figures."""

from smbfuse.security.keys import PreauthHash, derive, session_keys
from tests.security.vectors import Vector, each, vector


@each("KDF 3.0 first channel", "KDF 3.1.1 first channel", "KDF 3.1.1 (encryption blog)")
def test_ms_smb2_3_1_4_2_every_key_of_a_session(vector: Vector) -> None:
    dialect, preauth = (0x0311, vector.bytes("PreauthIntegrityHash")) if "3.1.1" in vector.name else (0x0300, b"")
    keys = session_keys(dialect, vector.bytes("SessionKey"), preauth, cipher_key_size=16)
    assert keys.signing == vector.bytes("SigningKey")
    assert keys.client_to_server == vector.bytes("EncryptionKey_client")
    assert keys.server_to_client == vector.bytes("DecryptionKey_client")


@each("KDF 3.0 second channel", "KDF 3.1.1 second channel")
def test_ms_smb2_3_1_4_2_signing_key_of_a_bound_channel(vector: Vector) -> None:
    dialect, preauth = (0x0311, vector.bytes("PreauthIntegrityHash")) if "3.1.1" in vector.name else (0x0300, b"")
    keys = session_keys(dialect, vector.bytes("SessionKey"), preauth, cipher_key_size=0)
    assert keys.signing == vector.bytes("SigningKey")
    assert keys.client_to_server == keys.server_to_client == b""


@each("encryption keys")
def test_ms_smb2_3_2_5_3_1_sealing_keys(vector: Vector) -> None:
    dialect, preauth = (0x0311, vector.bytes("PreauthIntegrityHash")) if "3.1.1" in vector.name else (0x0302, b"")
    keys = session_keys(dialect, vector.bytes("SessionKey"), preauth, cipher_key_size=16)
    assert keys.client_to_server == vector.bytes("client_to_server")
    assert keys.server_to_client == vector.bytes("server_to_client")


@each("Wireshark capture")
def test_ms_smb2_3_1_4_2_sealing_keys_of_128_and_256_bits(vector: Vector) -> None:
    size = 32 if vector.given["cipher_id"] > 2 else 16
    preauth = vector.bytes("PreauthIntegrityHash")
    keys = session_keys(vector.dialect, vector.bytes("SessionKey"), preauth, cipher_key_size=size)
    assert keys.client_to_server == vector.bytes("client_to_server_key")
    assert keys.server_to_client == vector.bytes("server_to_client_key")
    assert len(keys.signing) == 16


def test_dialects_before_3_0_sign_with_the_session_key_itself() -> None:
    assert session_keys(0x0210, bytes(range(40)), b"", cipher_key_size=0).signing == bytes(range(16))
    assert session_keys(0x0202, b"short", b"", cipher_key_size=0).signing == b"short".ljust(16, b"\0")


def test_ms_smb2_3_2_5_3_1_a_long_session_key_is_cut_for_all_but_aes_256() -> None:
    long, cut, preauth = bytes(range(32)), bytes(range(16)), bytes(64)
    with_long = session_keys(0x0311, long, preauth, cipher_key_size=16)
    assert with_long == session_keys(0x0311, cut, preauth, cipher_key_size=16)
    of_256 = session_keys(0x0311, long, preauth, cipher_key_size=32)
    assert of_256.signing == with_long.signing
    assert of_256.client_to_server == derive(long, b"SMBC2SCipherKey\0", preauth, size=32)


def test_ms_smb2_3_2_5_2_preauth_hash_chain() -> None:
    row = vector("preauth integrity chain")
    chain, pieces = PreauthHash(), PreauthHash()
    assert chain.digest == bytes.fromhex(row.given["initial"])
    for message, expected in zip(row.given["messages_in_order"], row.expected["hash_after_each"], strict=True):
        chain.update(bytes.fromhex(message))
        pieces.update(*(bytes((octet,)) for octet in bytes.fromhex(message)))
        assert chain.digest == pieces.digest == bytes.fromhex(expected)


def test_keys_are_not_shown() -> None:
    keys = session_keys(0x0311, b"k" * 16, bytes(64), cipher_key_size=16)
    assert keys.signing.hex() not in repr(keys)
    assert repr(keys.client_to_server) not in repr(keys)
