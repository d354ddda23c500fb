"""The ciphers by themselves, against published messages."""

import itertools

import pytest

from smbfuse.errors import ProtocolError
from smbfuse.security.sealing import CIPHERS, CipherSuite, Sealer, Unsealer
from tests.security.vectors import Vector, each

BY_NAME = {suite.name: suite for suite in CIPHERS.values()}


@each("SMB 3.0 AES-128-CCM WRITE", "SMB 3.1.1 AES-128-GCM WRITE")
def test_ms_smb2_3_1_4_3_encryption(vector: Vector) -> None:
    sealer = Sealer(BY_NAME[vector.given["cipher"]], vector.bytes("key"))
    ciphertext, tag = sealer.encrypt(vector.bytes("nonce"), vector.bytes("plaintext"), vector.bytes("aad"))
    assert ciphertext == vector.bytes("ciphertext")
    assert tag == vector.bytes("tag")


@each("SMB 3.0 AES-128-CCM WRITE", "SMB 3.1.1 AES-128-GCM WRITE")
def test_ms_smb2_3_1_4_3_decryption_in_place(vector: Vector) -> None:
    unsealer = Unsealer(BY_NAME[vector.given["cipher"]], vector.bytes("key"))
    message = bytearray(vector.bytes("ciphertext"))
    nonce_field = vector.bytes("nonce").ljust(16, b"\0")
    unsealer.decrypt_in_place(nonce_field, memoryview(message), vector.bytes("tag"), vector.bytes("aad"))
    assert message == vector.bytes("plaintext")


@pytest.mark.parametrize("suite", CIPHERS.values(), ids=BY_NAME)
def test_ms_smb2_2_2_41_no_nonce_is_used_twice(suite: CipherSuite) -> None:
    sealer = Sealer(suite, bytes(suite.key_size))
    nonces = [sealer.next_nonce() for _ in range(1000)]
    assert len(set(nonces)) == 1000
    assert {len(nonce) for nonce in nonces} == {suite.nonce_size}


@pytest.mark.parametrize("suite", CIPHERS.values(), ids=BY_NAME)
def test_another_key_does_not_decrypt(suite: CipherSuite) -> None:
    ciphertext, tag = Sealer(suite, bytes(suite.key_size)).encrypt(bytes(suite.nonce_size), b"message", b"aad")
    message = memoryview(bytearray(ciphertext))
    with pytest.raises(ProtocolError, match="authentication tag"):
        Unsealer(suite, b"\1" * suite.key_size).decrypt_in_place(bytes(16), message, tag, b"aad")


@pytest.mark.parametrize("sizes", [(5,), (3, 0, 17), (64, 48, 100_000), (1, 65_535, 15, 70_001)], ids=str)
@pytest.mark.parametrize("suite", CIPHERS.values(), ids=BY_NAME)
def test_pieces_are_encrypted_as_what_they_make_together(suite: CipherSuite, sizes: tuple[int, ...]) -> None:
    kinds = itertools.cycle((bytes, bytearray, memoryview))
    pieces = [
        kind(bytes(range(256)) * (size // 256) + bytes(size % 256)) for size, kind in zip(sizes, kinds, strict=False)
    ]
    sealer = Sealer(suite, bytes(range(suite.key_size)))
    nonce = bytes(range(suite.nonce_size))
    ciphertext, tag = sealer.encrypt_pieces(nonce, pieces, b"header")
    assert (bytes(ciphertext), bytes(tag)) == tuple(map(bytes, sealer.encrypt(nonce, b"".join(pieces), b"header")))
