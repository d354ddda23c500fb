"""What is signed, sealed and believed: observed conversations, published messages, and tampering of every kind."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbfuse.engine.protect import PreauthHash, Smb1Protection, Smb2Protection
from smbfuse.errors import DecodeError, ProtocolError, SecurityRefused
from smbfuse.security.keys import session_keys
from smbfuse.security.sealing import CIPHERS, Sealer, Unsealer
from smbfuse.security.signing import SIGNERS, signing_nonce
from smbfuse.status import NtStatus
from smbfuse.wire.record import Buffer
from smbfuse.wire.smb2 import transform
from smbfuse.wire.smb2.header import (
    HEADER,
    RELATED_FILE_ID,
    SIGNATURE,
    UNSOLICITED,
    Arrived,
    Command,
    Header,
    HeaderFlags,
    split_compound,
)
from tests.security.captures import Captured, messages
from tests.security.vectors import Vector, each, vector, vectors

KEY: Final = bytes(range(16))
PREAUTH: Final = bytes(range(64))
SESSION_ID: Final = 0x1122334455667788
SMB_3_1_1: Final = 0x0311
AES_128_GCM: Final = 0x0002

SIGNED_CAPTURES: Final = {
    "own-sign-SMB2_02": None,
    "own-sign-SMB3_00": None,
    "own-sign-SMB3_11-HMAC-SHA256": 0,
    "own-sign-SMB3_11-AES-128-CMAC": 1,
    "own-sign-SMB3_11-AES-128-GMAC": 2,
}
SEALED_CAPTURES: Final = {
    "own-enc-SMB3_00": 1,
    "own-enc-SMB3_11-AES-128-CCM": 1,
    "own-enc-SMB3_11-AES-128-GCM": 2,
    "own-enc-SMB3_11-AES-256-CCM": 3,
    "own-enc-SMB3_11-AES-256-GCM": 4,
}
ALGORITHMS: Final = [pytest.param(0x0210, None, id="HMAC-SHA256"), pytest.param(0x0302, None, id="AES-CMAC"),
                     pytest.param(SMB_3_1_1, 2, id="AES-GMAC")]  # fmt: skip


def response(
    body: bytes = b"body", *, command: int = Command.READ, message_id: int = 5, status: int = 0, flags: int = 0
) -> bytearray:
    """Return an unsigned response of the server."""
    header = Header(
        command,
        message_id,
        status=status,
        flags=flags | HeaderFlags.SERVER_TO_REDIR,
        tree_id=1,
        session_id=SESSION_ID,
    )
    return bytearray(header.encode() + body)


class ServerSide:
    """The other end of a session: signs and seals with the same keys, and not with the code under test."""

    def __init__(self, dialect: int, *, signing_id: int = 0, cipher_id: int = AES_128_GCM) -> None:
        self._suite = CIPHERS[cipher_id]
        self._keys = session_keys(dialect, KEY, PREAUTH, cipher_key_size=self._suite.key_size)
        self._signer = SIGNERS[signing_id](self._keys.signing)

    def sign(self, message: bytearray) -> bytearray:
        header = Arrived._make(HEADER.unpack_from(message))
        message[16] |= HeaderFlags.SIGNED
        message[SIGNATURE] = bytes(16)
        nonce = signing_nonce(header.message_id, from_server=True, is_cancel=False)
        message[SIGNATURE] = self._signer.signature([message], nonce)
        return message

    def seal(self, message: Buffer, session_id: int = SESSION_ID) -> bytearray:
        sealer = Sealer(self._suite, self._keys.server_to_client)
        nonce = sealer.next_nonce()
        unsigned = transform.TransformHeader(bytes(16), nonce.ljust(16, b"\0"), len(message), session_id)
        header = transform.encode(unsigned)
        ciphertext, tag = sealer.encrypt(nonce, message, header[20:])
        return header[:4] + tag + header[20:] + ciphertext

    def unseal(self, pdu: bytearray) -> bytes:
        header, message = transform.decode(pdu), pdu[52:]
        unsealer = Unsealer(self._suite, self._keys.client_to_server)
        unsealer.decrypt_in_place(header.nonce, memoryview(message), header.signature, pdu[20:52])
        return bytes(message)


class Check(NamedTuple):
    """How a response comes to `Smb2Protection.check`."""

    unsealed: bool = False
    sealed_request: bool = False
    signed_request: bool = False
    ends_login: bool = False


def check(protection: Smb2Protection, pdu: Buffer, how: Check = Check()) -> None:  # noqa: B008  # immutable
    for header, element in split_compound(memoryview(bytearray(pdu))):
        protection.check(header, element, **how._asdict())


def protection(dialect: int = SMB_3_1_1, *, signing_id: int | None = 0, cipher_id: int | None = AES_128_GCM,
               sign: bool = False, seal: bool = False) -> Smb2Protection:  # fmt: skip
    return Smb2Protection(
        dialect, KEY, preauth=PREAUTH, signing_id=signing_id, cipher_id=cipher_id, sign=sign, seal=seal
    )


# --- observed conversations ------------------------------------------------------------------------------------------


def login_keys(name: str) -> Vector:
    """Return the vector that holds the session key of the capture `name`."""
    part = "encrypted message, dialect" if name.startswith("own-enc") else "signature dialect"
    by_preauth = {row.given.get("PreauthIntegrityHash", ""): row for row in vectors(part)}
    chain = preauth_of(messages(name)).hex()
    if chain in by_preauth:
        return by_preauth[chain]
    dialect = {"own-sign-SMB2_02": 0x0202, "own-sign-SMB3_00": 0x0300, "own-enc-SMB3_00": 0x0300}[name]
    return next(row for row in vectors(part) if row.dialect == dialect)


def preauth_of(captured: Iterator[Captured]) -> bytes:
    """Return the session's hash: every SMB2 message up to the successful SESSION_SETUP response."""
    chain = PreauthHash()
    seen_smb2_request = False
    for from_server, message in captured:
        if message[:4] != b"\xfeSMB":
            continue
        header = Arrived._make(HEADER.unpack_from(message))
        # The 0x02FF answer to a multi-protocol NEGOTIATE of SMB1 comes before any SMB2 request, and is not hashed.
        seen_smb2_request |= not from_server
        if from_server and header.command == Command.SESSION_SETUP and header.status == 0:
            break
        if seen_smb2_request:
            chain.update(message)
    return chain.digest


def of_capture(name: str, *, signing_id: int | None = None, cipher_id: int | None = None) -> Smb2Protection:
    row = login_keys(name)
    return Smb2Protection(
        row.dialect,
        row.bytes("SessionKey"),
        preauth=bytes.fromhex(row.given.get("PreauthIntegrityHash", "")),
        signing_id=signing_id,
        cipher_id=cipher_id,
        sign=True,
    )


def elements(captured: Iterator[Captured]) -> Iterator[tuple[bool, Arrived, memoryview]]:
    for from_server, message in captured:
        if message[:4] == b"\xfeSMB":
            for header, element in split_compound(memoryview(bytearray(message))):
                yield from_server, header, element


@pytest.mark.parametrize("name, signing_id", SIGNED_CAPTURES.items())
def test_ms_smb2_3_1_4_1_a_signed_conversation(name: str, signing_id: int | None) -> None:
    session = of_capture(name, signing_id=signing_id)
    verified = signed = 0
    for from_server, header, element in elements(messages(name)):
        if not header.flags & HeaderFlags.SIGNED:
            continue
        if from_server:
            session.check(header, element, unsealed=False, signed_request=header.command != Command.SESSION_SETUP)
            verified += 1
        else:
            head, payload = bytearray(element[:80]), element[80:]
            head[SIGNATURE] = b"to be overwritten"[:16]
            session.sign(head, [payload[:3], payload[3:]], header.message_id)
            assert bytes(head) == element[:80]
            signed += 1
    assert min(verified, signed) >= 25


@pytest.mark.parametrize("name, cipher_id", SEALED_CAPTURES.items())
def test_ms_smb2_3_1_4_3_a_sealed_conversation(name: str, cipher_id: int) -> None:
    session = of_capture(name, cipher_id=cipher_id)
    row = login_keys(name)
    suite = CIPHERS[cipher_id]
    preauth = bytes.fromhex(row.given.get("PreauthIntegrityHash", ""))
    keys = session_keys(row.dialect, row.bytes("SessionKey"), preauth, cipher_key_size=suite.key_size)
    opened = made = 0
    for from_server, message in messages(name):
        if message[:4] != b"\xfdSMB":
            continue
        if from_server:
            plain = session.unseal(memoryview(bytearray(message)))
            for header, element in split_compound(plain):
                session.check(header, element, unsealed=True, sealed_request=True)
            opened += 1
        else:
            outer, copy = transform.decode(message), memoryview(bytearray(message))
            Unsealer(suite, keys.client_to_server).decrypt_in_place(
                outer.nonce, copy[52:], outer.signature, copy[20:52]
            )
            nonce = outer.nonce[: suite.nonce_size]
            again, tag = Sealer(suite, keys.client_to_server).encrypt(nonce, copy[52:], copy[20:52])
            assert again == message[52:]
            assert tag == message[4:20]
            made += 1
    assert min(opened, made) >= 20


def test_ms_smb_3_1_4_1_a_signed_smb1_conversation() -> None:
    row = vectors("SMB1 signing MD5")[0]
    session = Smb1Protection(row.bytes("mac_key"))
    sequences: dict[int, int] = {}
    verified = signed = 0
    for from_server, message in messages("own-sign-NT1-spnego"):
        pdu = memoryview(bytearray(message))
        command, mid, status = pdu[4], int.from_bytes(pdu[30:32], "little"), int.from_bytes(pdu[5:9], "little")
        if command == 0x72 or (command == 0x73 and (not from_server or status)):
            continue  # before there is a key
        if from_server:
            session.check(pdu, 1 if command == 0x73 else sequences.pop(mid) + 1)
            assert pdu == message
            verified += 1
        else:
            sequences[mid] = session.take_sequence()
            head = bytearray(message[:40])
            head[10] &= ~0x04
            head[14:22] = b"BSRSPYL "
            session.sign(head, [message[40:50], message[50:]], sequences[mid])
            assert head == message[:40]
            signed += 1
    assert (verified, signed) == (17, 16)
    assert not sequences


# --- published messages ----------------------------------------------------------------------------------------------


def test_ms_smb2_3_2_5_3_1_the_response_that_ends_the_login() -> None:
    row, login = vector("AES-128-CMAC signature of the final"), vector("KDF 3.1.1 first channel")
    session = Smb2Protection(SMB_3_1_1, login.bytes("SessionKey"), preauth=login.bytes("PreauthIntegrityHash"))
    message = bytearray(row.bytes("message"))
    message[SIGNATURE] = row.bytes("signature")
    check(session, message, Check(ends_login=True))
    message[70] ^= 1
    with pytest.raises(SecurityRefused, match="wrongly signed"):
        check(session, message, Check(ends_login=True))


@each("Wireshark capture")
def test_ms_smb2_2_2_41_what_another_implementation_sealed(vector: Vector) -> None:
    given = vector.given
    session = Smb2Protection(
        vector.dialect,
        vector.bytes("SessionKey"),
        preauth=vector.bytes("PreauthIntegrityHash"),
        cipher_id=given["cipher_id"],
    )
    assert session.sealing_name == CIPHERS[given["cipher_id"]].name
    # It is a request; told apart from a response by nothing but the key.
    with pytest.raises(ProtocolError, match="authentication tag"):
        session.unseal(memoryview(bytearray(vector.bytes("first_transform_message"))))
    suite = CIPHERS[given["cipher_id"]]
    pdu = memoryview(bytearray(vector.bytes("first_transform_message")))
    header = transform.decode(pdu)
    assert header.session_id.to_bytes(8, "little") == vector.bytes("SessionId_le")
    unsealer = Unsealer(suite, vector.bytes("client_to_server_key"))
    unsealer.decrypt_in_place(header.nonce, pdu[52:], header.signature, pdu[20:52])
    assert pdu[52:] == vector.bytes("first_plaintext")


# --- tampering -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect, signing_id", ALGORITHMS)
def test_one_flipped_bit_anywhere_in_a_signed_response_is_refused(dialect: int, signing_id: int | None) -> None:
    session = protection(dialect, signing_id=signing_id, cipher_id=None)
    server = ServerSide(dialect, signing_id={0x0210: 0, 0x0302: 1}.get(dialect, 2))
    good = server.sign(response(bytes(range(40))))
    check(session, good, Check(signed_request=True))
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 0x08  # of the flags' first byte this is the bit that says "signed"
        with pytest.raises(ProtocolError):
            check(session, bad, Check(signed_request=True))


@pytest.mark.parametrize("cipher_id", CIPHERS)
def test_one_flipped_bit_anywhere_in_a_sealed_message_is_refused(cipher_id: int) -> None:
    session = protection(cipher_id=cipher_id)
    good = ServerSide(SMB_3_1_1, cipher_id=cipher_id).seal(response(bytes(range(40))))
    assert session.unseal(memoryview(bytearray(good)))[64:] == bytes(range(40))
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 0x01
        with pytest.raises(ProtocolError):
            session.unseal(memoryview(bad))


@given(sequence=st.integers(0, 2**32), body=st.binary(max_size=80), at=st.integers(0, 200))
def test_one_flipped_bit_anywhere_in_a_signed_smb1_message_is_refused(sequence: int, body: bytes, at: int) -> None:
    session = Smb1Protection(KEY)
    message = bytearray(b"\xffSMB\x2e" + bytes(27) + body)
    session.sign(message, (), sequence)
    assert session.verify(memoryview(message), sequence)
    assert not session.verify(memoryview(message), sequence + 1)
    message[at % len(message)] ^= 0x10
    # Number 1 is the answer to the login: refused with a reason for the user, where the others end the connection.
    refusal = SecurityRefused if sequence == 1 else ProtocolError
    with pytest.raises(refusal):
        session.check(memoryview(message), sequence)


@given(pdu=st.binary(max_size=120) | st.binary(max_size=120).map(lambda rest: b"\xfdSMB" + rest))
def test_any_bytes_are_refused_when_unsealed(pdu: bytes) -> None:
    with pytest.raises(ProtocolError):
        protection().unseal(memoryview(bytearray(pdu)))


@given(body=st.binary(max_size=200), pieces=st.integers(1, 4), count=st.integers(1, 3))
@pytest.mark.parametrize("cipher_id", CIPHERS)
def test_what_is_sealed_in_pieces_is_unsealed_whole(cipher_id: int, body: bytes, pieces: int, count: int) -> None:
    session, server = protection(cipher_id=cipher_id), ServerSide(SMB_3_1_1, cipher_id=cipher_id)
    message = Header(Command.READ, 1, session_id=SESSION_ID).encode() + body
    step = -(-len(message) // pieces)
    cut = [message[at : at + step] for at in range(0, len(message), step)]
    sent = {b"".join(session.seal(SESSION_ID, cut)) for _ in range(count)}
    assert len(sent) == count  # no two alike: no nonce twice
    assert {server.unseal(bytearray(pdu)) for pdu in sent} == {message}
    assert session.unseal(memoryview(server.seal(message))) == message


def test_a_compound_is_sealed_as_one_and_each_element_believed() -> None:
    first = response(bytes(8))
    first[20:24] = len(first).to_bytes(4, "little")
    second = response(message_id=6)
    plain = protection().unseal(memoryview(ServerSide(SMB_3_1_1).seal(bytes(first + second))))
    assert [header.message_id for header, _ in split_compound(plain)] == [5, 6]


def test_ms_smb2_3_2_5_1_1_the_session_inside_is_the_session_outside() -> None:
    server = ServerSide(SMB_3_1_1)
    with pytest.raises(ProtocolError, match="another session"):
        protection().unseal(memoryview(server.seal(response(), session_id=SESSION_ID + 1)))
    lease_break = response(command=Command.OPLOCK_BREAK, message_id=UNSOLICITED)
    lease_break[40:48] = bytes(8)
    assert protection().unseal(memoryview(server.seal(lease_break))) == lease_break


# --- policy ----------------------------------------------------------------------------------------------------------

PLAIN, ASYNC = response(), HeaderFlags.ASYNC_COMMAND
PENDING: Final = response(status=NtStatus.PENDING, flags=ASYNC)
BREAK: Final = response(command=Command.OPLOCK_BREAK, message_id=UNSOLICITED)


@pytest.mark.parametrize(
    "sign, seal, pdu, how, refused",
    [
        pytest.param(False, False, PLAIN, Check(), None, id="nothing demanded"),
        pytest.param(True, False, PLAIN, Check(), "must have one", id="session signs"),
        pytest.param(False, False, PLAIN, Check(signed_request=True), "must have one", id="request was signed"),
        pytest.param(True, False, PENDING, Check(signed_request=True), None, id="interim response"),
        pytest.param(True, False, response(status=NtStatus.PENDING), Check(), "must have one", id="pending, not async"),
        pytest.param(True, False, BREAK, Check(), None, id="break"),
        pytest.param(True, True, PLAIN, Check(unsealed=True, sealed_request=True), None, id="sealed, unsigned"),
        pytest.param(False, True, PLAIN, Check(), "unencrypted", id="session seals"),
        pytest.param(False, False, PLAIN, Check(sealed_request=True), "unencrypted", id="request was sealed"),
        pytest.param(False, True, PENDING, Check(), "unencrypted", id="interim response in a sealing session"),
        pytest.param(False, True, BREAK, Check(), None, id="break in a sealing session"),
        pytest.param(False, True, PLAIN, Check(ends_login=True), "not signed", id="end of a 3.1.1 login, unsigned"),
        pytest.param(True, False, PLAIN, Check(ends_login=True), "not signed", id="end of a 3.1.1 login, signing"),
    ],
)  # fmt: skip
def test_ms_smb2_3_2_5_1_3_what_is_believed(
    sign: bool, seal: bool, pdu: bytearray, how: Check, refused: str | None
) -> None:
    session = protection(sign=sign, seal=seal)
    if refused is None:
        check(session, pdu, how)
    else:
        with pytest.raises(SecurityRefused if how.ends_login else ProtocolError, match=refused):
            check(session, pdu, how)


def test_a_wrong_signature_is_refused_even_where_none_was_demanded() -> None:
    signed = ServerSide(SMB_3_1_1).sign(response())
    check(protection(), signed)
    signed[-1] ^= 1
    with pytest.raises(ProtocolError, match="wrong signature"):
        check(protection(), signed)


def test_a_signed_response_within_a_sealing_session_is_still_too_little() -> None:
    with pytest.raises(ProtocolError, match="unencrypted"):
        check(protection(seal=True), ServerSide(SMB_3_1_1).sign(response()))


@pytest.mark.parametrize("dialect", [0x0202, 0x0210, 0x0300, 0x0302])
def test_the_end_of_an_older_login_may_be_unsigned(dialect: int) -> None:
    check(protection(dialect, signing_id=None, cipher_id=None, sign=True), PLAIN, Check(ends_login=True))


def test_ms_smb2_3_2_4_2_4_tree_connect_of_3_1_1_is_signed_whatever_the_session_does() -> None:
    assert protection().must_sign(Command.TREE_CONNECT)
    assert not protection().must_sign(Command.CREATE)
    assert protection(sign=True).must_sign(Command.CREATE)
    assert not protection(0x0302, signing_id=None).must_sign(Command.TREE_CONNECT)


def test_a_cancel_is_signed_apart_from_what_it_cancels() -> None:
    session = protection(signing_id=2)
    request, cancel = (bytearray(Header(Command.CANCEL, 9).encode()) for _ in range(2))
    session.sign(request, (), 9)
    session.sign(cancel, (), 9, is_cancel=True)
    assert request[SIGNATURE] != cancel[SIGNATURE]


def test_names_for_display() -> None:
    assert (protection(0x0202, signing_id=None, cipher_id=None).signing_name) == "HMAC-SHA256"
    assert (protection(0x0300, signing_id=None).signing_name) == "AES-CMAC"
    assert (protection(signing_id=None).signing_name) == "AES-CMAC"
    assert (protection(signing_id=2).signing_name, protection().sealing_name) == ("AES-GMAC", "AES-128-GCM")
    assert (protection(cipher_id=None).sealing_name, Smb1Protection.signing_name) == ("", "MD5")


def test_what_cannot_be_protected_is_refused() -> None:
    plain = protection(cipher_id=None)
    assert not plain.can_seal
    assert protection().can_seal
    with pytest.raises(SecurityRefused, match="none was agreed"):
        plain.seal(SESSION_ID, [b"message"])
    with pytest.raises(ProtocolError, match="no encryption"):
        plain.unseal(memoryview(ServerSide(SMB_3_1_1).seal(response())))
    with pytest.raises(SecurityRefused, match="the server has none"):
        protection(cipher_id=None, seal=True)
    for make in (Smb1Protection, lambda key: Smb2Protection(SMB_3_1_1, key)):
        with pytest.raises(SecurityRefused, match="no key"):
            make(b"")


def test_a_server_that_chooses_what_does_not_exist_is_refused() -> None:
    with pytest.raises(ProtocolError, match="signing algorithm 3"):
        protection(signing_id=3)
    with pytest.raises(ProtocolError, match="cipher 0x0005"):
        protection(cipher_id=5)


def test_ms_cifs_3_2_4_1_3_sequence_numbers() -> None:
    session = Smb1Protection(KEY)
    assert [session.take_sequence() for _ in range(2)] == [2, 4]
    assert session.take_sequence(is_cancel=True) == 6
    assert session.take_sequence() == 7


def test_ms_cifs_3_2_5_1_a_login_whose_answer_is_wrongly_signed_is_no_login() -> None:
    session = Smb1Protection(KEY)
    answer = bytearray(b"\xffSMB\x73" + bytes(40))
    for signature, what in ((b"BSRSPYL ", "does not sign"), (bytes(8), "wrongly signed")):
        answer[14:22] = signature
        with pytest.raises(SecurityRefused, match=what):
            session.check(memoryview(answer), 1)
    session.sign(answer, (), 1)
    session.check(memoryview(answer), 1)


def test_an_smb1_message_shorter_than_its_header_is_refused() -> None:
    with pytest.raises(ProtocolError):
        Smb1Protection(KEY).check(memoryview(bytearray(b"\xffSMB" + bytes(27))), 3)


# --- TRANSFORM_HEADER ------------------------------------------------------------------------------------------------


def test_ms_smb2_2_2_41_transform_header() -> None:
    pdu = vector("SMB 3.1.1 AES-128-GCM WRITE request").bytes("transform_message")
    header = transform.decode(pdu)
    assert transform.encode(header) == pdu[:52]
    assert header.original_message_size == len(pdu) - 52


@pytest.mark.parametrize(
    "at, value, what",
    [(0, 0xFE, "protocol id"), (36, 0xFF, "bytes announced"), (42, 2, "flags"), (43, 1, "flags")],
)
def test_a_malformed_transform_header_is_a_decode_error(at: int, value: int, what: str) -> None:
    pdu = bytearray(vector("SMB 3.1.1 AES-128-GCM WRITE request").bytes("transform_message"))
    pdu[at] = value
    with pytest.raises(DecodeError, match=what):
        transform.decode(pdu)
    with pytest.raises(DecodeError, match="of 52 bytes"):
        transform.decode(pdu[:51])


def test_reserved_bytes_of_a_transform_header_are_ignored() -> None:
    pdu = bytearray(vector("SMB 3.1.1 AES-128-GCM WRITE request").bytes("transform_message"))
    pdu[40:42] = RELATED_FILE_ID[:2]
    assert transform.decode(pdu).session_id
