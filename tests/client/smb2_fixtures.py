"""A session with the scripted server, for the tests of SMB2 sessions and shares."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from smbfuse.client import smb2_session
from smbfuse.client.smb2_session import Smb2Session
from smbfuse.config import Login, Network, Secret, Security, Target
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
