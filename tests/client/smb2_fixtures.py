"""A session with the scripted server, for the tests of SMB2 sessions and shares."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from smbfuse.client import smb2_session
from smbfuse.client.smb2_session import Smb2Session
from smbfuse.client.smb2_share import Smb2Share
from smbfuse.config import Login, Network, Secret, Security, Target
from smbfuse.wire.smb2.header import Command
from tests.client.smb2_server import FakeLogin, Smb2Server
from tests.client.test_connection import PairedStream

TARGET = Target("srv", "Büro")
NOBODY = Login()
SOMEBODY = Login(user="user", password=Secret("not used"))

Prepare = Callable[[Smb2Server], None]


@pytest.fixture(autouse=True)
def fake_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log in without NTLM: both sides know the key."""
    monkeypatch.setattr(smb2_session, "begin_login", lambda *_args, **_more: FakeLogin())


@asynccontextmanager
async def session(
    prepare: Prepare | None = None,
    *,
    login: Login = SOMEBODY,
    security: Security = Security(),  # noqa: B008 - frozen
    network: Network = Network(),  # noqa: B008 - frozen
    first_reply: bytes | None = None,
    previous: Smb2Session | None = None,
) -> AsyncIterator[tuple[Smb2Session, Smb2Server]]:
    """Yield a session established with a scripted server, which `prepare` may change beforehand."""
    stream = PairedStream()
    server = Smb2Server(stream.server)
    if prepare is not None:
        prepare(server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        try:
            established = await Smb2Session.establish(
                stream,
                nursery,
                target=TARGET,
                login=login,
                security=security,
                network=network,
                first_reply=memoryview(bytearray(first_reply)) if first_reply is not None else None,
                previous=previous,
            )
            yield established, server
        finally:
            nursery.cancel_scope.cancel()


async def settled(share: Smb2Share, server: Smb2Server) -> list[list[Command]]:
    """Let what was sent without waiting be answered; return the commands of each PDU since the last call."""
    for _ in range(2):  # the first may overtake what waits
        await share.echo()
    return [pdu for pdu in server.commands() if pdu != [Command.ECHO]]


async def give_up(call: Callable[[Smb2Share], Awaitable[object]], share: Smb2Share, server: Smb2Server) -> None:
    """Cancel a call that waits for its first answer, and let everything be answered then."""
    server.hold = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, share)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    server.hold.set()
    await settled(share, server)
