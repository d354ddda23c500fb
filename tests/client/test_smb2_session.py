"""SMB2 logins: what is agreed on, what is proved, and what is refused with one clear sentence."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import trio

from smbfuse.client.session import MOST_LOGIN_LEGS
from smbfuse.config import Login, Network, Security, Vers
from smbfuse.errors import (
    AuthenticationFailed,
    ConnectionLost,
    DecodeError,
    Denied,
    NotFound,
    ProtocolError,
    SecurityRefused,
    SmbError,
    StatusError,
)
from smbfuse.status import NtStatus
from smbfuse.wire.smb2.control import IoctlResponse, ValidateNegotiateInfoResponse
from smbfuse.wire.smb2.errors import ErrorResponse
from smbfuse.wire.smb2.header import Command, Header, HeaderFlags, join_compound
from smbfuse.wire.smb2.negotiate import (
    ContextType,
    NegotiateContext,
    NegotiateRequest,
    algorithms,
    preauth_integrity,
)
from smbfuse.wire.smb2.posix import posix_extensions_available
from smbfuse.wire.smb2.session import SessionSetupRequest, TreeConnectRequest
from tests.client.smb2_fixtures import NOBODY, Prepare, fake_login, session
from tests.client.smb2_server import SERVER_GUID, Answer, Smb2Server

__all__ = ["fake_login"]

DIALECTS = {
    "2.0": (Vers.SMB202, 0x0202),
    "2.1": (Vers.SMB210, 0x0210),
    "3.0": (Vers.SMB300, 0x0300),
    "3.0.2": (Vers.SMB302, 0x0302),
    "3.1.1": (Vers.SMB311, 0x0311),
}


def speaking(dialect: int, **more: object) -> Prepare:
    def prepare(server: Smb2Server) -> None:
        server.dialect = dialect
        if dialect < 0x0300:
            server.capabilities &= ~0x40
        if dialect < 0x0210:
            server.capabilities &= ~0x04
        for name, value in more.items():
            assert hasattr(server, name)
            setattr(server, name, value)

    return prepare


async def refused(kind: type[SmbError], prepare: Prepare | None = None, **more: Any) -> SmbError:
    """Return what a login, or the connection of the share after it, is refused with."""
    try:
        async with session(prepare, **more) as (established, _):
            await established.connect_share("share")
    except (SmbError, ExceptionGroup) as caught:
        error: Exception = caught
        while isinstance(error, ExceptionGroup):
            (error,) = error.exceptions
        assert isinstance(error, kind), error
        return error
    pytest.fail(f"no {kind.__name__}")


# -- negotiation


@pytest.mark.parametrize("vers", DIALECTS)
async def test_each_dialect_can_be_pinned(vers: str) -> None:
    pin, revision = DIALECTS[vers]
    async with session(speaking(revision), security=Security(vers=pin)) as (established, server):
        offer = NegotiateRequest.decode(server.requests[0][1])
        assert offer.dialects == (revision,)
        assert bool(offer.contexts) == (vers == "3.1.1")
        assert bool(offer.capabilities) == (revision >= 0x0300)
        assert established.identity.dialect == revision
        assert established.identity.server == SERVER_GUID
        share = await established.connect_share("share")
        assert share.statistics().dialect == (vers if vers != "2.0" else "2.0.2")


@pytest.mark.parametrize("vers", [Vers.DEFAULT, Vers.AUTO, Vers.SMB3])
async def test_the_default_offers_all_of_smb2_best_protection_first(vers: Vers) -> None:
    async with session(security=Security(vers=vers)) as (established, server):
        offer = NegotiateRequest.decode(server.requests[0][1])
        assert offer.dialects == (() if vers is Vers.SMB3 else (0x0202, 0x0210)) + (0x0300, 0x0302, 0x0311)
        contexts = dict(offer.contexts)
        assert contexts[ContextType.ENCRYPTION_CAPABILITIES].hex() == "04000200040001000300"
        assert contexts[ContextType.SIGNING_CAPABILITIES].hex() == "0300020001000000"
        assert contexts[ContextType.NETNAME_NEGOTIATE_CONTEXT_ID] == "srv".encode("utf-16-le")
        assert established.negotiated.dialect.label == "3.1.1"


async def test_an_older_server_is_taken_as_it_is() -> None:
    async with session(speaking(0x0202)) as (established, _):
        share = await established.connect_share("share")
        assert share.limits.read == 65536
        assert established.engine.cost(65536) == 1


async def test_a_server_without_the_pinned_dialect_gets_its_sentence() -> None:
    error = await refused(
        SecurityRefused,
        lambda server: server.statuses.update({Command.NEGOTIATE: NtStatus.NOT_SUPPORTED}),
        security=Security(vers=Vers.SMB311),
    )
    assert "vers=3.1.1" in str(error)


CONTEXTS: dict[str, list[NegotiateContext]] = {
    "no hash": [],
    "an unknown hash": [preauth_integrity(b"salt", (2,))],
    "two hashes": [preauth_integrity(b"salt", (1, 1))],
    "the hash twice": [preauth_integrity(b"salt"), preauth_integrity(b"pepper")],
    "an unknown cipher": [preauth_integrity(b""), algorithms(ContextType.ENCRYPTION_CAPABILITIES, [9])],
    "two ciphers": [preauth_integrity(b""), algorithms(ContextType.ENCRYPTION_CAPABILITIES, [1, 2])],
    "no cipher at all": [preauth_integrity(b""), algorithms(ContextType.ENCRYPTION_CAPABILITIES, [])],
    "an unknown signing algorithm": [preauth_integrity(b""), algorithms(ContextType.SIGNING_CAPABILITIES, [9])],
    "half a context": [preauth_integrity(b""), NegotiateContext(ContextType.SIGNING_CAPABILITIES, b"\x01")],
}


@pytest.mark.parametrize("case", CONTEXTS)
async def test_contexts_that_may_not_be_are_refused(case: str) -> None:
    await refused(ProtocolError, lambda server: setattr(server, "contexts", CONTEXTS[case]))


async def test_contexts_that_nobody_knows_are_ignored() -> None:
    contexts = [preauth_integrity(b""), NegotiateContext(0x77, b"?"), NegotiateContext(3, b"compression")]
    # Without SIGNING_CAPABILITIES the dialect's own algorithm is meant.
    guest = speaking(0x0311, contexts=contexts, session_flags=1)
    async with session(guest, login=Login(guest=True)) as (established, _):
        assert established.negotiated.cipher is None
        assert established.negotiated.signing is not None
        assert established.negotiated.signing.label == "AES-CMAC"


@pytest.mark.parametrize("change", [{"dialect": 0x0222}, {"max_size": 100}], ids=["dialect", "sizes"])
async def test_a_choice_that_makes_no_sense_is_refused(change: dict[str, int]) -> None:
    await refused(ProtocolError, lambda server: vars(server).update(contexts=[preauth_integrity(b"")], **change))


async def test_a_server_that_takes_next_to_nothing_in_one_write_is_refused() -> None:
    def prepare(server: Smb2Server) -> None:
        negotiation = server.negotiation
        vars(server)["negotiation"] = lambda contexts: replace(negotiation(contexts), max_write_size=0)

    assert "writes at most 0" in str(await refused(ProtocolError, prepare))


async def test_the_limits_are_the_smaller_of_both_sides() -> None:
    async with session(network=Network(rsize=100_000)) as (established, _):
        share = await established.connect_share("share")
        assert share.limits.read == 100_000
        assert share.limits.transact == 1 << 20


# -- after an SMB1 NEGOTIATE


def first_reply(dialect: int, *, message_id: int = 0, status: int = 0) -> bytes:
    server = Smb2Server.__new__(Smb2Server)
    server.security_mode, server.dialect, server.capabilities, server.max_size = 1, dialect, 0, 65536
    body = server.negotiation([]).encode()
    header = Header(Command.NEGOTIATE, message_id, status=status, flags=HeaderFlags.SERVER_TO_REDIR, credits=1)
    return header.encode() + body


async def test_the_wildcard_is_asked_again_with_the_next_message_id() -> None:
    async with session(first_reply=first_reply(0x02FF)) as (established, server):
        assert server.requests[0][0].command == Command.NEGOTIATE
        assert [header.message_id for header, _ in server.requests] == [1, 2, 3]
        assert established.negotiated.dialect.label == "3.1.1"


async def test_a_server_of_2_0_2_is_logged_in_to_at_once() -> None:
    def unproven(server: Smb2Server) -> None:
        speaking(0x0202)(server)
        server.statuses[Command.IOCTL] = NtStatus.NOT_SUPPORTED

    async with session(unproven, first_reply=first_reply(0x0202)) as (established, server):
        assert [header.command for header, _ in server.requests] == [Command.SESSION_SETUP] * 2
        assert server.requests[0][0].message_id == 1
        assert established.negotiated.dialect.label == "2.0.2"


@pytest.mark.parametrize(
    "reply",
    [
        first_reply(0x0311),
        first_reply(0x02FF, message_id=3),
        first_reply(0x02FF, status=0xC0000001),
        join_compound([first_reply(0x02FF), first_reply(0x02FF)]),
        b"\xfeSMB",
    ],
    ids=["dialect", "message id", "status", "two", "cut"],
)
async def test_a_first_reply_that_may_not_be_is_refused(reply: bytes) -> None:
    await refused(ProtocolError, first_reply=reply)


# -- login


async def test_a_login_takes_three_round_trips_and_names_what_protects() -> None:
    async with session() as (established, server):
        assert server.commands() == [[Command.NEGOTIATE], [Command.SESSION_SETUP], [Command.SESSION_SETUP]]
        setups = [SessionSetupRequest.decode(element) for _, element in server.requests[1:]]
        assert [setup.token for setup in setups] == [b"begin", b"authenticate"]
        assert [setup.security_mode for setup in setups] == [1, 1]
        assert (established.login_name, established.signing_name, established.sealing_name) == ("fake user", "", "")


@pytest.mark.parametrize(
    "status",
    [NtStatus.LOGON_FAILURE, NtStatus.ACCOUNT_LOCKED_OUT, NtStatus.PASSWORD_EXPIRED, NtStatus.ACCOUNT_DISABLED],
    ids=lambda status: status.name,
)
async def test_a_refused_login_is_final_and_explained(status: NtStatus) -> None:
    error = await refused(AuthenticationFailed, lambda server: server.statuses.update({Command.SESSION_SETUP: status}))
    assert "srv" in str(error)
    assert "user" in str(error)


async def test_a_server_short_of_memory_may_be_asked_again() -> None:
    prepare: Prepare = lambda server: server.statuses.update(  # noqa: E731 - one line for one use
        {Command.SESSION_SETUP: NtStatus.INSUFFICIENT_RESOURCES}
    )
    error = await refused(StatusError, prepare)
    assert not isinstance(error, AuthenticationFailed)


async def test_a_login_that_never_ends_is_given_up() -> None:
    error = await refused(AuthenticationFailed, lambda server: setattr(server, "login_legs", MOST_LOGIN_LEGS + 5))
    assert "never ends" in str(error)


async def test_a_final_answer_that_is_not_signed_is_refused_in_3_1_1() -> None:
    await refused(SecurityRefused, lambda server: setattr(server, "sign_login", False))


@pytest.mark.parametrize("flags", [1, 2], ids=["guest", "nobody"])
async def test_a_user_who_is_let_in_as_less_is_refused(flags: int) -> None:
    error = await refused(AuthenticationFailed, lambda server: setattr(server, "session_flags", flags))
    assert "-o guest" in str(error)


async def test_a_guest_is_let_in_if_that_was_asked_for() -> None:
    async with session(speaking(0x0311, session_flags=1), login=Login(user="user", guest=True)) as (
        established,
        server,
    ):
        assert established.login_name == "fake guest"
        assert established.identity.signing == established.identity.sealing == 0
        await established.connect_share("share")
        assert not any(header.flags & HeaderFlags.SIGNED for header, _ in server.requests)


async def test_nobody_is_let_in_without_a_name() -> None:
    async with session(speaking(0x0300, session_flags=2), login=NOBODY) as (established, server):
        await established.connect_share("share")
        # Nobody has no key that could prove the negotiation.
        assert Command.IOCTL not in {header.command for header, _ in server.requests}


@pytest.mark.parametrize("demand", [Security(sign=True), Security(seal=True)], ids=["sign", "seal"])
async def test_a_guest_cannot_be_protected_as_demanded(demand: Security) -> None:
    error = await refused(SecurityRefused, speaking(0x0311, session_flags=1), login=Login(guest=True), security=demand)
    assert "guest" in str(error)


async def test_a_guest_is_of_no_use_where_signing_is_required() -> None:
    prepare = speaking(0x0311, session_flags=1, security_mode=3)
    assert "requires signing" in str(await refused(SecurityRefused, prepare, login=Login(guest=True)))


# -- protection


@pytest.mark.parametrize("dialect", [0x0202, 0x0210, 0x0300, 0x0302, 0x0311], ids=hex)
@pytest.mark.parametrize("whose", ["ours", "the server's"])
async def test_signing_is_used_when_either_side_requires_it(dialect: int, whose: str) -> None:
    prepare = speaking(dialect, security_mode=3 if whose == "the server's" else 1)
    async with session(prepare, security=Security(sign=whose == "ours")) as (established, server):
        share = await established.connect_share("share")
        await share.stat("")
        requests = [header for header, _ in server.requests if header.command > Command.SESSION_SETUP]
        assert all(header.flags & HeaderFlags.SIGNED for header in requests)
        assert share.statistics().signing != ""
        assert established.identity.signing > 10


@pytest.mark.parametrize("dialect", [0x0300, 0x0302, 0x0311], ids=hex)
@pytest.mark.parametrize("whose", ["ours", "the server's", "the share's"])
async def test_sealing_is_used_when_anybody_requires_it(dialect: int, whose: str) -> None:
    prepare = speaking(
        dialect,
        session_flags=4 if whose == "the server's" else 0,
        share_flags=0x8000 if whose == "the share's" else 0,
    )
    async with session(prepare, security=Security(seal=whose == "ours")) as (established, _):
        share = await established.connect_share("share")
        found = await share.stat("")
        assert found.file_id == 1
        assert share.statistics().sealing in ("AES-128-GCM", "AES-128-CCM")
        assert (established.sealing_name == "") == (whose == "the share's")


@pytest.mark.parametrize("dialect", [0x0210, 0x0300], ids=hex)
async def test_sealing_that_is_not_to_be_had_is_refused(dialect: int) -> None:
    prepare = speaking(dialect, capabilities=4)
    assert "encryption" in str(await refused(SecurityRefused, prepare, security=Security(seal=True)))


async def test_a_share_that_demands_sealing_refuses_who_cannot() -> None:
    error = await refused(SecurityRefused, speaking(0x0210, share_flags=0x8000))
    assert "demands encryption" in str(error)


# -- the proof of the negotiation


@pytest.mark.parametrize("dialect", [0x0202, 0x0210, 0x0300, 0x0302, 0x0311], ids=hex)
async def test_the_negotiation_is_proved_once_where_no_hash_does(dialect: int) -> None:
    async with session(speaking(dialect)) as (established, server):
        await established.connect_share("one")
        await established.connect_share("two")
        proofs = [header for header, _ in server.requests if header.command == Command.IOCTL]
        assert len(proofs) == (0 if dialect == 0x0311 else 1)
        assert all(header.flags & HeaderFlags.SIGNED for header in proofs)


def confirming(**change: int | bytes) -> Callable[[bytes], Answer]:
    said = {"capabilities": 0x44, "server_guid": SERVER_GUID, "security_mode": 1, "dialect": 0x0300} | change
    proof = ValidateNegotiateInfoResponse(**said).encode()  # type: ignore[arg-type]  # the types differ by field
    return lambda _element: (0, IoctlResponse(0x140204, bytes(16), b"", proof, 0).encode())


@pytest.mark.parametrize(
    "change",
    [{"capabilities": 0x04}, {"server_guid": bytes(16)}, {"security_mode": 3}, {"dialect": 0x0302}],
    ids=lambda change: next(iter(change)),
)
async def test_a_negotiation_that_was_changed_on_its_way_is_refused(change: dict[str, int | bytes]) -> None:
    def prepare(server: Smb2Server) -> None:
        speaking(0x0300)(server)
        server.answers[Command.IOCTL] = confirming(**change)

    assert "tampering" in str(await refused(SecurityRefused, prepare))


@pytest.mark.parametrize("dialect", [0x0210, 0x0300], ids=hex)
async def test_a_signed_refusal_to_prove_is_enough_for_old_servers_only(dialect: int) -> None:
    def prepare(server: Smb2Server) -> None:
        speaking(dialect)(server)
        server.answers[Command.IOCTL] = lambda _: (NtStatus.FILE_CLOSED, ErrorResponse().encode())

    if dialect >= 0x0300:
        assert "does not confirm" in str(await refused(SecurityRefused, prepare))
    else:
        async with session(prepare) as (established, _):
            await established.connect_share("share")


# -- trees and the end


async def test_a_share_is_connected_by_its_unc_path() -> None:
    async with session() as (established, server):
        await established.connect_share("Büro")
        assert TreeConnectRequest.decode(server.requests[-1][1]).path == "\\\\srv\\Büro"
        assert server.requests[-1][0].flags & HeaderFlags.SIGNED  # 3.1.1 demands it


@pytest.mark.parametrize(
    "status, kind",
    [(NtStatus.BAD_NETWORK_NAME, NotFound), (NtStatus.ACCESS_DENIED, Denied)],
    ids=["no such share", "denied"],
)
async def test_a_share_that_is_refused(status: NtStatus, kind: type[StatusError]) -> None:
    await refused(kind, lambda server: server.statuses.update({Command.TREE_CONNECT: status}))


async def test_a_printer_is_no_share_and_is_given_back() -> None:
    async with session(speaking(0x0311, share_type=3)) as (established, server):
        with pytest.raises(NotFound):
            await established.connect_share("printer")
        await established.connection.perform(established.engine.ping())
        assert [Command.TREE_DISCONNECT] in server.commands()


@pytest.mark.parametrize(
    "asked", [Command.TREE_CONNECT, Command.IOCTL, Command.CREATE], ids=["itself", "the proof", "its manner"]
)
async def test_a_share_that_nobody_waits_for_any_longer_is_given_back(asked: Command) -> None:
    def prepare(server: Smb2Server) -> None:
        def connected(_element: bytes) -> None:
            server.hold = trio.Event()  # the next question has no answer

        speaking(0x0300 if asked is Command.IOCTL else 0x0311)(server)
        if asked is Command.CREATE:
            chosen = [
                algorithms(kind, [2])
                for kind in (ContextType.ENCRYPTION_CAPABILITIES, ContextType.SIGNING_CAPABILITIES)
            ]
            server.contexts = [preauth_integrity(b"salt"), *chosen, posix_extensions_available()]
        if asked is not Command.TREE_CONNECT:
            server.answers[Command.TREE_CONNECT] = connected

    async with session(prepare) as (established, server):
        if asked is Command.TREE_CONNECT:
            server.hold = trio.Event()
        with trio.move_on_after(1) as patience:
            await established.connect_share("share")
        assert patience.cancelled_caught
        server.hold.set()
        for _ in range(2):  # the first may overtake what waits
            await established.connection.perform(established.engine.ping())
        commands = server.commands()
        assert any(asked in pdu for pdu in commands)
        assert [Command.TREE_DISCONNECT] in commands


async def test_a_share_whose_description_makes_no_sense_is_given_back() -> None:
    async with session(lambda server: server.answers.update({Command.TREE_CONNECT: lambda _: (0, b"?")})) as (
        established,
        server,
    ):
        with pytest.raises(DecodeError):
            await established.connect_share("share")
        await established.connection.perform(established.engine.ping())
        assert [Command.TREE_DISCONNECT] in server.commands()


async def test_leaving_logs_off_and_closes() -> None:
    async with session() as (established, server):
        await established.aclose()
        assert server.commands()[-1] == [Command.LOGOFF]
        assert established.connection.lost_because is not None
        await established.aclose()


async def test_a_connection_lost_while_logging_in_is_said_so() -> None:
    await refused(ConnectionLost, lambda server: setattr(server, "cut_at", Command.SESSION_SETUP))


async def test_a_session_tells_in_a_report_who_it_is() -> None:
    async with session() as (established, _):
        assert "3.1.1 fake user" in repr(established)


@pytest.mark.parametrize(
    "ends_it, refused_before, compounds",
    [
        pytest.param(lambda server: setattr(server, "cut_at", Command.CREATE), False, False, id="broken down"),
        pytest.param(lambda server: setattr(server, "cut_at", Command.CREATE), True, True, id="known to work"),
        pytest.param(lambda server: setattr(server, "cut_at", Command.ECHO), False, True, id="nothing to do with it"),
    ],
)
async def test_a_server_that_ends_the_connection_over_a_compound_is_sent_no_more_of_them(
    ends_it: Prepare, refused_before: bool, compounds: bool
) -> None:
    async with session() as (first, server):
        share = await first.connect_share("Büro")
        if refused_before:
            with pytest.raises(NotFound):
                await share.stat("nowhere")
        ends_it(server)
        for call in (lambda: share.stat(""), share.echo):
            with suppress(ConnectionLost):
                await call()
        assert first.connection.ended_by_peer
    async with session(previous=first) as (second, server):
        share = await second.connect_share("Büro")
        server.commands()
        with pytest.raises(NotFound):
            await share.stat("nowhere")
        assert len(server.commands()[0]) == (3 if compounds else 1)
        server.cut_at = Command.ECHO
        with pytest.raises(ConnectionLost):
            await share.echo()
    async with session(previous=second) as (third, _):
        assert third.engine.compounds.enabled == compounds


@pytest.mark.parametrize("same_server", [True, False])
async def test_a_session_ends_the_one_that_it_replaces_on_the_same_server(same_server: bool) -> None:
    async with session() as (first, _):
        pass

    def prepare(server: Smb2Server) -> None:
        server.guid = SERVER_GUID if same_server else bytes(16)

    async with session(prepare, previous=first) as (_, server):
        setups = [element for header, element in server.requests if header.command == Command.SESSION_SETUP]
        replaced = {SessionSetupRequest.decode(element).previous_session_id for element in setups}
        assert replaced == {first.engine.session_id if same_server else 0}
