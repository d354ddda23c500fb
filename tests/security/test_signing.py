"""The signature algorithms by themselves: published figures, and the same result however a message is cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbfuse.security.signing import SIGNERS, AesCmac, AesGmac, Md5Mac, Signer, signing_nonce
from tests.security.vectors import Vector, each, vector

NONCE = signing_nonce(7, from_server=False, is_cancel=False)


@each("AES-CMAC RFC 4493")
def test_rfc_4493_aes_cmac(vector: Vector) -> None:
    assert AesCmac(vector.bytes("key")).signature([vector.bytes("message")], NONCE) == vector.bytes("mac")


def test_ms_smb2_3_1_4_1_final_session_setup_response_of_3_1_1() -> None:
    row = vector("AES-128-CMAC signature of the final SESSION_SETUP response")
    message = bytearray(row.bytes("message"))
    message[48:64] = bytes(16)
    assert AesCmac(row.bytes("SigningKey")).signature([message], NONCE) == row.bytes("signature")


@pytest.mark.parametrize("make", [*SIGNERS.values(), Md5Mac])
@given(message=st.binary(min_size=1, max_size=300), cuts=st.lists(st.integers(0, 300), max_size=4))
def test_a_message_in_pieces_has_the_signature_of_the_whole(
    make: type[AesCmac] | type[Md5Mac], message: bytes, cuts: list[int]
) -> None:
    edges = [0, *sorted(min(cut, len(message)) for cut in cuts), len(message)]
    pieces = [memoryview(message)[start:end] for start, end in pairwise(edges)]
    signer = make(b"sixteen byte key")
    if isinstance(signer, Md5Mac):
        assert signer.signature(pieces) == signer.signature([bytearray(message)])
    else:
        assert signer.signature(pieces, NONCE) == signer.signature([bytearray(message)], NONCE)


@pytest.mark.parametrize(
    "from_server, is_cancel, last", [(False, False, 0), (True, False, 1), (False, True, 2), (True, True, 3)]
)
def test_ms_smb2_3_1_4_1_gmac_nonce(from_server: bool, is_cancel: bool, last: int) -> None:
    nonce = signing_nonce(0x0102030405060708, from_server=from_server, is_cancel=is_cancel)
    assert nonce == bytes.fromhex("0807060504030201") + bytes((last, 0, 0, 0))


def test_only_gmac_depends_on_the_nonce() -> None:
    other = signing_nonce(8, from_server=False, is_cancel=False)
    for make in SIGNERS.values():
        signer: Signer = make(b"sixteen byte key")
        differs = signer.signature([b"message"], NONCE) != signer.signature([b"message"], other)
        assert differs == isinstance(signer, AesGmac)
