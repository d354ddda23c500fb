"""Answers to a bare challenge: [MS-NLMP] 4.2 and what servers were seen to accept."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbfuse.config import Login, Sec, Secret
from smbfuse.errors import ConfigError, ProtocolError
from smbfuse.security import challenge
from smbfuse.security.challenge import ChallengeResponse
from smbfuse.security.md4 import md4
from tests.security.vectors import Vector, each, vector

CHALLENGE = bytes.fromhex("0123456789abcdef")


def respond(login: Login, server_challenge: bytes = CHALLENGE, *, unicode: bool = True) -> ChallengeResponse:
    return challenge.respond(login, server_challenge, oem_codepage="cp850", unicode=unicode)


def login(sec: Sec, password: str = "Password", user: str = "User", domain: str = "Domain") -> Login:
    return Login(user, domain, Secret(password), sec=sec)


@each("md4 ")
def test_rfc_1320_a_5_md4(vector: Vector) -> None:
    assert md4(vector.bytes("data")) == vector.bytes("md4")


@given(st.binary(max_size=200))
def test_md4_of_any_length_is_openssl_s_where_that_has_it(data: bytes) -> None:
    try:
        expected = hashlib.new("md4", data, usedforsecurity=False).digest()
    except ValueError:
        # No legacy provider here: what is left is that every length gives a digest, and no two the same.
        assert md4(data) != md4(data + b"\0")
        assert len(md4(data)) == 16
        return
    assert md4(data) == expected


@each("LM hash ", "LMOWFv1")
def test_ms_nlmp_3_3_1_lmowf_v1(vector: Vector) -> None:
    expected = vector.bytes("lm_hash" if "lm_hash" in vector.expected else "LMOWFv1")
    if len(vector.given["password"]) > 14:
        with pytest.raises(ConfigError, match="14 characters"):
            challenge.lm_hash(vector.given["password"], "cp850")
    else:
        assert challenge.lm_hash(vector.given["password"], "cp850") == expected


def test_lm_hash_of_what_the_code_page_has_not() -> None:
    with pytest.raises(ConfigError, match="cp850"):
        challenge.lm_hash("пароль", "cp850")


def test_ms_nlmp_4_2_2_1_2_ntowf_v1() -> None:
    row = vector("NTOWFv1")
    assert challenge.nt_hash(row.given["password"]) == row.bytes("NTOWFv1")


def test_ms_nlmp_4_2_2_2_ntlm_v1() -> None:
    answer = respond(login(Sec.NTLM))
    assert answer.unicode == vector("4.2.2.2.1").bytes("NtChallengeResponse")
    assert answer.session_key == vector("4.2.2.1.3").bytes("SessionBaseKey")
    assert answer.signing_key == answer.session_key + answer.unicode


def test_ms_nlmp_4_2_2_2_2_lm() -> None:
    answer = respond(login(Sec.LM))
    assert answer.oem == vector("4.2.2.2.2 LMv1").bytes("LmChallengeResponse")
    assert answer.unicode == b""
    assert answer.session_key == vector("LMOWFv1").bytes("LMOWFv1")[:8] + bytes(8)
    assert answer.signing_key == answer.session_key + answer.oem


def test_ms_nlmp_4_2_4_1_1_ntowf_v2() -> None:
    row = vector("4.2.4.1.1")
    key = challenge.ntowf_v2(challenge.nt_hash(row.given["password"]), row.given["user"], row.given["domain"])
    assert key == row.bytes("NTOWFv2")


def test_ms_nlmp_4_2_4_2_ntlm_v2_and_lm_v2() -> None:
    row = vector("4.2.4.2.2")
    answer = challenge.ntlm_v2(
        row.bytes("NTOWFv2"), row.bytes("server_challenge"), row.bytes("temp"), row.bytes("client_challenge")
    )
    assert answer.unicode == row.bytes("NTProofStr") + row.bytes("temp")
    assert answer.oem == vector("4.2.4.2.1 ").bytes("LmChallengeResponse")
    assert answer.session_key == vector("4.2.4.1.2").bytes("SessionBaseKey")


def test_ntlm_v2_session_key_of_an_observed_login() -> None:
    row = vector("NTLMv2 session key from a real exchange")
    key = challenge.ntowf_v2(challenge.nt_hash(row.given["password"]), row.given["user"], row.given["domain"])
    sent = row.bytes("NtChallengeResponse")
    answer = challenge.ntlm_v2(key, row.bytes("server_challenge"), sent[16:], bytes(8))
    assert answer.unicode == sent
    assert answer.session_key == row.bytes("SessionBaseKey")


def test_ms_nlmp_2_2_2_7_client_blob() -> None:
    blob = challenge.client_blob(b"\xaa" * 8, -11644473600 * 10**9, "Domain")
    # The specification's example names the server too, which a bare challenge does not tell.
    expected = "0101000000000000 0000000000000000 aaaaaaaaaaaaaaaa 00000000 02000c0044006f006d00610069006e00 00000000"
    assert blob == bytes.fromhex(expected) + bytes(4)


@pytest.mark.parametrize("sec", [Sec.DEFAULT, Sec.NTLMV2, Sec.NTLMSSP])
def test_ntlm_v2_is_what_is_used_unless_another_is_named(sec: Sec) -> None:
    answers = [respond(login(sec)) for _ in range(2)]
    assert {answer.name for answer in answers} == {"NTLMv2"}
    assert answers[0].unicode != answers[1].unicode  # a client challenge of its own each time
    assert all(len(answer.oem) == 24 and len(answer.session_key) == 16 for answer in answers)


@pytest.mark.parametrize("sec", [Sec.DEFAULT, Sec.NTLM, Sec.LM])
def test_the_weak_ones_never_come_with_another(sec: Sec) -> None:
    weak = {respond(login(Sec.NTLM)).unicode, respond(login(Sec.LM)).oem}
    answer = respond(login(sec))
    assert len({answer.oem, answer.unicode} & weak) == (0 if sec is Sec.DEFAULT else 1)


def test_ms_cifs_2_2_4_53_1_plaintext() -> None:
    assert respond(login(Sec.PLAINTEXT, "Grüße"), b"").unicode == "Grüße\0".encode("utf-16-le")
    answer = respond(login(Sec.PLAINTEXT, "Grüße"), b"", unicode=False)
    assert (answer.oem, answer.unicode, answer.signing_key) == ("Grüße\0".encode("cp850"), b"", b"")
    with pytest.raises(ConfigError, match="cp850"):
        respond(login(Sec.PLAINTEXT, "пароль"), b"", unicode=False)


def test_nobody_answers_nothing() -> None:
    for who in (Login(sec=Sec.NONE), Login("user", sec=Sec.NONE), Login()):
        answer = respond(who)
        assert (answer.name, answer.oem, answer.unicode, answer.signing_key) == ("anonymous", b"", b"", b"")


def test_the_password_is_never_sent_in_clear_unasked() -> None:
    with pytest.raises(ConfigError, match="sec=plaintext"):
        respond(login(Sec.DEFAULT), b"")


def test_kerberos_needs_extended_security() -> None:
    with pytest.raises(ConfigError, match="extended security"):
        respond(login(Sec.KRB5))


@pytest.mark.parametrize("size", [1, 7, 9, 16])
def test_a_challenge_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ProtocolError, match="challenge"):
        respond(login(Sec.DEFAULT), bytes(size))


def test_no_password_is_the_empty_password() -> None:
    assert respond(Login("User", sec=Sec.NTLM)).unicode == respond(login(Sec.NTLM, "")).unicode


def test_responses_are_not_shown() -> None:
    answer = respond(login(Sec.PLAINTEXT, "Password"), b"", unicode=False)
    assert "Password" not in repr(answer)
