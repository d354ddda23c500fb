"""Servers, and those between, that cheat while a login is made: refused with a reason, never lowered, never endless."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from smbfuse.config import Login, Secret, Vers
from smbfuse.errors import AuthenticationFailed, NotFound, ProtocolError, SecurityRefused, SmbError
from smbfuse.share import OpenIntent
from smbfuse.status import NtStatus
from smbfuse.wire.smb1.header import Command as Command1
from smbfuse.wire.smb1.session import SessionSetupResponse as SessionSetupResponse1
from smbfuse.wire.smb1.session import SetupAction
from smbfuse.wire.smb2.control import IoctlResponse, ValidateNegotiateInfoResponse
from smbfuse.wire.smb2.errors import ErrorResponse
from smbfuse.wire.smb2.header import Command, Header, HeaderFlags
from smbfuse.wire.smb2.negotiate import (
    ContextType,
    NegotiateContext,
    NegotiateResponse,
    SecurityMode,
    algorithms,
    preauth_integrity,
)
from smbfuse.wire.smb2.session import SessionFlags, SessionSetupResponse, ShareFlags, ShareType, TreeConnectResponse
from tests.hostile.shares import (
    CONTENT,
    NAMED,
    NOBODY,
    OPERATIONS,
    cannot_connect,
    connected,
    read_file,
    refused,
    survives,
)
from tests.support.script import Action, Answer, Asked
from tests.support.scripted_server import PASSWORD, USER, ScriptedServer
from tests.support.scripted_smb1 import body_of
from tests.support.scripted_smb2 import with_header

Start = Callable[..., ScriptedServer]

MOST_LEGS = 12  # of one login, whoever ends it


def negotiated(*, tampered: bool = False, **changes: Any) -> Action:
    """Return the action that changes fields of the NEGOTIATE response; `tampered`: on its way, not by the server."""

    def change(_asked: Asked, answer: Answer) -> None:
        said = NegotiateResponse.decode(answer.header.encode() + answer.body)
        answer.body = replace(said, **changes).encode()
        answer.tampered = tampered

    return change


def with_contexts(*contexts: NegotiateContext) -> Action:
    return negotiated(contexts=contexts)


def setup(flags: int = 0, token: bytes = b"", status: int = NtStatus.SUCCESS) -> Action:
    """Return the action that answers every SESSION_SETUP so."""

    def change(_asked: Asked, answer: Answer) -> None:
        with_header(answer, status=status)
        answer.body = SessionSetupResponse(flags, token).encode()

    return change


def flagged(flags: int) -> Action:
    """Return the action that adds flags to the response that ends a login."""

    def change(_asked: Asked, answer: Answer) -> None:
        if answer.header.status == NtStatus.SUCCESS:
            said = SessionSetupResponse.decode(answer.header.encode() + answer.body)
            answer.body = SessionSetupResponse(said.session_flags | flags, said.token).encode()

    return change


def garbage(_asked: Asked, answer: Answer) -> None:
    answer.body = b"\x41\0" + bytes(range(200))


def silence(_asked: Asked, answer: Answer) -> None:
    answer.silent = True


def the_end(_asked: Asked, answer: Answer) -> None:
    answer.silent = answer.hang_up = True


PREAUTH = preauth_integrity(bytes(32))
NEGOTIATIONS: dict[str, Action] = {
    "reads nothing": negotiated(max_read_size=0),
    "lists nothing": negotiated(max_transact_size=0),
    "a dialect of the future": negotiated(dialect_revision=0x0999),
    "a dialect not offered": negotiated(dialect_revision=0x0210),
    "ask again": negotiated(dialect_revision=0x02FF),
    "no contexts": negotiated(contexts=()),
    "no hash": with_contexts(algorithms(ContextType.ENCRYPTION_CAPABILITIES, [2])),
    "another hash": with_contexts(preauth_integrity(bytes(32), [2])),
    "a hash twice": with_contexts(PREAUTH, PREAUTH),
    "a cipher not offered": with_contexts(PREAUTH, algorithms(ContextType.ENCRYPTION_CAPABILITIES, [99])),
    "two ciphers": with_contexts(PREAUTH, algorithms(ContextType.ENCRYPTION_CAPABILITIES, [1, 2])),
    "a signature not offered": with_contexts(PREAUTH, algorithms(ContextType.SIGNING_CAPABILITIES, [99])),
    "a context cut short": with_contexts(PREAUTH, NegotiateContext(ContextType.SIGNING_CAPABILITIES, b"\1")),
    "a context that counts too much": with_contexts(NegotiateContext(1, b"\xff\xff\xff\xff")),
    "garbage": garbage,
    "silence": silence,
    "the end": the_end,
    "an error": lambda _asked, answer: with_header(answer, status=NtStatus.INSUFFICIENT_RESOURCES),
}


@pytest.mark.parametrize("login", [NOBODY, NAMED], ids=["anonymous", "named"])
@pytest.mark.parametrize("kind", NEGOTIATIONS)
async def test_a_nonsensical_negotiation(hostile: Start, kind: str, login: Login) -> None:
    server = hostile()
    server.script.on(Command.NEGOTIATE, NEGOTIATIONS[kind])
    error = await cannot_connect(server, login=login)
    assert str(error)
    assert server.script.asked[Command.TREE_CONNECT] == 0


async def test_a_list_of_mechanisms_that_is_garbage(hostile: Start) -> None:
    server = hostile()
    server.script.on(Command.NEGOTIATE, negotiated(token=b"\x60\xff" * 50))
    await cannot_connect(server, AuthenticationFailed, login=NAMED)


@pytest.mark.parametrize("login", [NOBODY, NAMED], ids=["anonymous", "named"])
@pytest.mark.parametrize("token", [b"", b"NTLMSSP\0\2\0\0\0" + bytes(40), b"\xa1\x07\x30\x05\xa0\x03\x0a\x01\x01"])
async def test_a_login_without_end(hostile: Start, login: Login, token: bytes) -> None:
    server = hostile()
    server.script.on(Command.SESSION_SETUP, setup(token=token, status=NtStatus.MORE_PROCESSING_REQUIRED))
    await cannot_connect(server, AuthenticationFailed, login=login)
    assert server.script.asked[Command.SESSION_SETUP] <= MOST_LEGS


@pytest.mark.parametrize("token", [b"", b"\xa1\x82\xff\xff" + bytes(50), b"NTLMSSP\0" + bytes(100)], ids=len)
async def test_a_login_that_ends_too_early(hostile: Start, token: bytes) -> None:
    server = hostile()
    server.script.on(Command.SESSION_SETUP, setup(token=token))
    await cannot_connect(server, AuthenticationFailed, login=NAMED)


@pytest.mark.parametrize("flag", [SessionFlags.IS_GUEST, SessionFlags.IS_NULL], ids=["guest", "nobody"])
@pytest.mark.parametrize("early", [True, False])
async def test_a_guest_is_a_failed_login(hostile: Start, flag: SessionFlags, early: bool) -> None:
    server = hostile()
    server.script.on(Command.SESSION_SETUP, setup(flag) if early else flagged(flag))
    await cannot_connect(server, AuthenticationFailed, login=NAMED)


async def test_a_guest_who_demands_signing_gets_none(hostile: Start) -> None:
    server = hostile()
    server.script.on(Command.SESSION_SETUP, setup(SessionFlags.IS_GUEST))
    login = Login(user=USER, password=Secret(PASSWORD), guest=True)
    await cannot_connect(server, SecurityRefused, login=login, sign=True)
    await cannot_connect(server, SecurityRefused, login=login, seal=True)


async def test_a_wrong_password_is_tried_once(hostile: Start) -> None:
    server = hostile()
    await cannot_connect(server, AuthenticationFailed, login=Login(user=USER, password=Secret("wrong")))
    assert server.connections == 1


# --- what an attacker between both changes


@pytest.mark.parametrize(
    "changes",
    [
        {"security_mode": int(SecurityMode.SIGNING_ENABLED)},
        {"capabilities": 0},
        {"server_guid": bytes(16)},
        {"max_read_size": 65536},
        {"contexts": (PREAUTH,)},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_a_negotiation_of_3_1_1_changed_on_its_way(hostile: Start, changes: dict[str, Any]) -> None:
    server = hostile(sign=True)
    server.script.on(Command.NEGOTIATE, negotiated(tampered=True, **changes))
    error = await cannot_connect(server, login=NAMED)
    assert isinstance(error, SecurityRefused | ProtocolError)
    assert server.script.asked[Command.TREE_CONNECT] == 0


@pytest.mark.parametrize(
    "changes",
    [{"security_mode": 0}, {"capabilities": 0}, {"server_guid": bytes(16)}],
    ids=lambda changes: next(iter(changes)),
)
@pytest.mark.parametrize("vers", [Vers.SMB300, Vers.SMB302], ids=lambda vers: vers.value)
async def test_a_negotiation_of_3_0_changed_on_its_way(hostile: Start, vers: Vers, changes: dict[str, Any]) -> None:
    server = hostile()
    server.script.on(Command.NEGOTIATE, negotiated(tampered=True, **changes))
    await cannot_connect(server, SecurityRefused, login=NAMED, vers=vers)


async def test_a_downgrade_from_3_0_to_2_1_is_seen(hostile: Start) -> None:
    """An attacker lets the server believe that only 2.1 was offered; the server repeats, signed, what it was asked."""
    server = hostile(dialects=(0x0210,))

    def confirms(_asked: Asked, answer: Answer) -> None:
        with_header(answer, status=NtStatus.SUCCESS)
        told = ValidateNegotiateInfoResponse(0, bytes(range(16)), 1, 0x0300).encode()
        answer.body = IoctlResponse(0x00140204, b"\xff" * 16, b"", told, 0).encode()

    server.script.on(Command.IOCTL, confirms)
    await cannot_connect(server, SecurityRefused, login=NAMED, vers=Vers.DEFAULT)


def no_proof(_asked: Asked, answer: Answer) -> None:
    with_header(answer, status=NtStatus.INVALID_DEVICE_REQUEST)
    answer.body = ErrorResponse().encode()


def proof_unsigned(asked: Asked, answer: Answer) -> None:
    answer.pdu = replace(answer.header, message_id=asked.header.message_id).encode() + answer.body


@pytest.mark.parametrize("action", [no_proof, proof_unsigned])
async def test_a_server_of_3_0_that_does_not_prove_its_negotiation(hostile: Start, action: Action) -> None:
    server = hostile()
    server.script.on(Command.IOCTL, action)
    error = await cannot_connect(server, login=NAMED, vers=Vers.SMB300)
    assert isinstance(error, SmbError)


@pytest.mark.parametrize("vers, dialect", [(Vers.SMB3, 0x0210), (Vers.SMB311, 0x0302), (Vers.SMB210, 0x0202)])
async def test_no_dialect_below_the_one_asked_for(hostile: Start, vers: Vers, dialect: int) -> None:
    server = hostile(dialects=(dialect,))
    await cannot_connect(server, vers=vers, login=NAMED)
    assert server.script.asked[Command.SESSION_SETUP] == 0


async def test_a_later_connection_may_not_be_weaker(hostile: Start, expected_warnings: Callable[..., None]) -> None:
    expected_warnings("not connected again")
    server = hostile()
    async with connected(server, login=NAMED, vers=Vers.DEFAULT) as share:
        server.change(dialects=(0x0210,))
        await refused(share, OPERATIONS["stat"], SecurityRefused)


# --- signed and sealed sessions


def wrongly_signed(message: bytes) -> bytes:
    return message[:48] + bytes(16) + message[64:]


def on_wire(change: Callable[[bytes], bytes]) -> Action:
    def action(_asked: Asked, answer: Answer) -> None:
        answer.on_wire = change

    return action


def unsigned(_asked: Asked, answer: Answer) -> None:
    answer.pdu = answer.header.encode() + answer.body


def believed_ended(_asked: Asked, answer: Answer) -> None:
    header = replace(answer.header, status=NtStatus.ACCESS_DENIED, flags=HeaderFlags.SERVER_TO_REDIR)
    answer.pdu = header.encode() + ErrorResponse().encode()


FORGERIES: dict[str, Action] = {
    "a wrong signature": on_wire(wrongly_signed),
    "one bit of the data": on_wire(lambda message: message[:-1] + bytes((message[-1] ^ 1,))),
    "no signature": unsigned,
    "an unsigned refusal": believed_ended,
    "cut short": on_wire(lambda message: message[:-8]),
    "longer": on_wire(lambda message: message + bytes(8)),
}


@pytest.mark.parametrize("protection", ["sign", "seal"])
@pytest.mark.parametrize("vers", [Vers.SMB300, Vers.SMB311], ids=lambda vers: vers.value)
@pytest.mark.parametrize("kind", FORGERIES)
async def test_a_forged_reply_is_never_believed(hostile: Start, kind: str, vers: Vers, protection: str) -> None:
    server = hostile()
    async with connected(server, login=NAMED, vers=vers, **{protection: True}) as share:
        file = await share.open("file", OpenIntent())
        server.script.on(Command.READ, FORGERIES[kind])
        await refused(share, lambda _share: file.read(0, 4))
        server.script.clear()
        assert await survives(share, read_file) == CONTENT
        await file.aclose()


async def test_a_sealed_reply_is_not_taken_twice(hostile: Start) -> None:
    server = hostile()
    kept: list[bytes] = []

    def replayed(message: bytes) -> bytes:
        kept.append(message)
        return kept[0]

    async with connected(server, login=NAMED, seal=True) as share:
        server.script.on(Command.QUERY_INFO, on_wire(replayed))
        assert await survives(share, OPERATIONS["stat"])
        await refused(share, OPERATIONS["stat"])


async def test_a_sealed_session_takes_no_plain_break(hostile: Start) -> None:
    plain = Header(Command.READ, 3, flags=HeaderFlags.SERVER_TO_REDIR).encode() + bytes(17)
    server = hostile()
    async with connected(server, login=NAMED, seal=True) as share:
        server.script.on(Command.READ, lambda _asked, answer: answer.before.append(plain))
        await refused(share, read_file)
        server.script.clear()
        assert await survives(share, read_file) == CONTENT


# --- trees


@pytest.mark.parametrize("kind", [ShareType.PIPE, ShareType.PRINT, 99])
async def test_a_share_that_is_no_folder(hostile: Start, kind: int) -> None:
    def change(_asked: Asked, answer: Answer) -> None:
        answer.body = TreeConnectResponse(kind, 0, 0, 0).encode()

    server = hostile()
    server.script.on(Command.TREE_CONNECT, change)
    await cannot_connect(server, NotFound)


async def test_a_share_that_demands_what_nobody_has(hostile: Start) -> None:
    def change(_asked: Asked, answer: Answer) -> None:
        answer.body = TreeConnectResponse(ShareType.DISK, ShareFlags.ENCRYPT_DATA, 0, 0).encode()

    server = hostile()
    server.script.on(Command.TREE_CONNECT, change)
    await cannot_connect(server, SecurityRefused)


# --- SMB1


async def test_an_smb1_login_without_end(hostile: Start) -> None:
    def more(_asked: Asked, answer: Answer) -> None:
        answer.header = replace(answer.header, status=NtStatus.MORE_PROCESSING_REQUIRED)

    server = hostile()
    server.script.on(Command1.SESSION_SETUP_ANDX, more)
    await cannot_connect(server, vers=Vers.SMB1, login=NAMED)
    assert server.script.asked[Command1.SESSION_SETUP_ANDX] <= MOST_LEGS


async def test_an_smb1_guest_is_a_failed_login(hostile: Start) -> None:
    def guest(_asked: Asked, answer: Answer) -> None:
        answer.body = body_of([SessionSetupResponse1(SetupAction.GUEST, None, "Unix", "x", "y")])

    server = hostile()
    server.script.on(Command1.SESSION_SETUP_ANDX, guest)
    await cannot_connect(server, AuthenticationFailed, vers=Vers.SMB1, login=NAMED)


@pytest.mark.parametrize("kind", ["a wrong signature", "one bit of the data", "cut short"])
async def test_a_forged_smb1_reply_is_never_believed(hostile: Start, kind: str) -> None:
    changes = {
        "a wrong signature": lambda message: message[:14] + bytes(8) + message[22:],
        "one bit of the data": lambda message: message[:-1] + bytes((message[-1] ^ 1,)),
        "cut short": lambda message: message[:-1],
    }
    server = hostile(smb1={"sign": True})
    async with connected(server, login=NAMED, vers=Vers.SMB1) as share:
        file = await share.open("file", OpenIntent())
        server.script.on(Command1.READ_ANDX, on_wire(changes[kind]))
        await refused(share, lambda _share: file.read(0, 4))
        server.script.clear()
        assert await survives(share, read_file) == CONTENT
        await file.aclose()
