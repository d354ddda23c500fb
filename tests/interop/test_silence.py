"""A real server on an idle connection: asked for signs of life, found dead and back again while nobody asks."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from smbfuse.client.negotiate import open_source
from smbfuse.client.shares import Shares
from smbfuse.config import Config, Login, Network, Secret, Security, Target, Vers
from smbfuse.errors import ConnectionLost
from tests.support.samba import PASSWORD, SambaServer, samba_server

pytestmark = pytest.mark.samba

VERSIONS = [
    pytest.param(Security(Vers.SMB1), id="1.0"),
    pytest.param(Security(Vers.SMB210, sign=True), id="2.1 signed"),
    pytest.param(Security(Vers.SMB311, seal=True), id="3.1.1 sealed"),
]
PATIENCE_S = 30.0  # of the test, on however slow a machine


@asynccontextmanager
async def idle(server: SambaServer, security: Security, *, echo_interval_s: float) -> AsyncIterator[Shares]:
    settings = Config(
        target=Target("127.0.0.1", "share", port=server.port),
        login=Login(user=server.user.name, password=Secret(PASSWORD)),
        security=security,
        network=Network(timeo_s=3.0, echo_interval_s=echo_interval_s),
    )
    async with trio.open_nursery() as nursery:
        source = await open_source(settings, nursery)
        yield source
        await source.aclose()
        nursery.cancel_scope.cancel()


async def reaches(source: Shares, *states: str) -> None:
    with trio.fail_after(PATIENCE_S):
        while source.state not in states:  # noqa: ASYNC110 # nothing tells of it
            await trio.sleep(0.05)


@pytest.mark.parametrize("security", VERSIONS)
async def test_an_idle_server_answers_signs_of_life(samba: SambaServer, security: Security) -> None:
    async with idle(samba, security, echo_interval_s=0.3) as source:
        share = await source.share("")
        before = share.statistics()
        with trio.fail_after(PATIENCE_S):
            while share.statistics().requests < before.requests + 3:  # noqa: ASYNC110 # nothing tells of it
                await trio.sleep(0.1)
        assert share.statistics().connects == 1


@pytest.mark.parametrize("security", VERSIONS)
async def test_a_server_that_stops_is_found_dead_and_back_though_nobody_asks(
    security: Security,
) -> None:
    options = {"server min protocol": "NT1"} if security.vers is Vers.SMB1 else {}
    with samba_server(options=options) as server:
        async with idle(server, security, echo_interval_s=0.3) as source:
            with server.paused():
                await reaches(source, "waiting", "dialling")
            await reaches(source, "connected")
            share = await source.share("")
            await share.stat("")
            assert share.statistics().connects >= 2


async def test_a_server_that_stops_between_two_requests_is_not_waited_for_longer_than_said() -> None:
    with samba_server() as server:
        async with idle(server, Security(), echo_interval_s=math.inf) as source:
            share = await source.share("")
            await share.stat("")
            with server.paused():
                began = trio.current_time()
                with trio.fail_after(PATIENCE_S), pytest.raises(ConnectionLost, match="no connection"):
                    await share.stat("")
                assert trio.current_time() - began < 3.0 + 2.0
