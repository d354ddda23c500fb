"""Servers with several addresses, and with new ones: each dial asks for them again, and tries the useless ones last."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from smbfuse.client import transport
from smbfuse.client.negotiate import Dialer
from smbfuse.config import Config, Target, Vers
from smbfuse.errors import ConnectionLost
from tests.hostile.shares import IN_TIME_S, NOBODY, TIMEO_S, config, connected
from tests.support.scripted_server import ScriptedServer

Start = Callable[..., ScriptedServer]

SERVER = "127.0.0.1"
OTHER = "127.0.0.2"  # the same machine, by another of its addresses


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the server's name stands for, for a test to change."""
    known = [SERVER]

    async def resolve(_target: Target) -> list[tuple[int, tuple[object, ...]]]:
        await trio.lowlevel.checkpoint()
        return [(trio.socket.AF_INET, (address, 0)) for address in known]

    monkeypatch.setattr(transport, "resolve", resolve)
    return known


@asynccontextmanager
async def listening(port: int, serve: Callable[[trio.SocketStream], Awaitable[object]]) -> AsyncIterator[None]:
    """Listen at the other address, on the server's port."""
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_tcp, serve, port, host=OTHER))
        yield
        nursery.cancel_scope.cancel()


async def hang_up(stream: trio.SocketStream) -> None:
    """Take a connection, and end it with the first bytes of a client."""
    await stream.receive_some(1)
    await stream.aclose()


async def forward(port: int, stream: trio.SocketStream) -> None:
    """Be another way to the server."""

    async def copy(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        while data := await source.receive_some():
            await sink.send_all(data)

    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async with await trio.open_tcp_stream(SERVER, port) as server, trio.open_nursery() as nursery:
            nursery.start_soon(copy, server, stream)
            await copy(stream, server)
            nursery.cancel_scope.cancel()


def settings(server: ScriptedServer) -> Config:
    return config(server, vers=Vers.SMB311, login=NOBODY, timeo_s=TIMEO_S)


async def test_an_address_that_was_of_no_use_is_tried_last(hostile: Start, addresses: list[str]) -> None:
    server = hostile()
    addresses[:] = [OTHER, SERVER]
    dialer = Dialer(settings(server))
    async with listening(server.port, hang_up), trio.open_nursery() as nursery:
        with trio.fail_after(IN_TIME_S):
            with pytest.raises(ConnectionLost):
                await dialer(nursery)
            session = await dialer(nursery)
        assert session.connection.stream.peer == f"{SERVER}:{server.port}"
        await session.aclose()
        nursery.cancel_scope.cancel()


async def test_a_server_that_has_moved_is_found_again(hostile: Start, addresses: list[str]) -> None:
    server = hostile()
    addresses[:] = [OTHER]
    async with trio.open_nursery() as nursery:
        way = trio.CancelScope()

        async def be_there(*, task_status: trio.TaskStatus[object]) -> None:
            with way:
                serve = partial(forward, server.port)
                await trio.serve_tcp(serve, server.port, host=OTHER, task_status=task_status)

        await nursery.start(be_there)
        async with connected(server) as share:
            assert share.statistics().peer == f"{OTHER}:{server.port}"
            addresses[:] = [SERVER]
            way.cancel()
            with trio.fail_after(IN_TIME_S):
                await share.stat("file")
            assert share.statistics().peer == f"{SERVER}:{server.port}"
