"""A share of a real server, spoken to without a mount, as tests of the client room want it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from smbfuse.client.negotiate import open_source
from smbfuse.config import Config, Login, Network, Secret, Security, Target, Vers
from smbfuse.share import Share
from tests.support.samba import PASSWORD, SambaServer

PATIENT = Network(timeo_s=20.0, connect_timeout_s=5.0)


@asynccontextmanager
async def connected(
    server: SambaServer,
    vers: Vers = Vers.DEFAULT,
    *,
    share: str = "share",
    seal: bool = False,
    network: Network = PATIENT,
) -> AsyncIterator[Share]:
    """Yield `share` of a running server, logged in as its user."""
    settings = Config(
        target=Target("127.0.0.1", share, port=server.port),
        login=Login(user=server.user.name, password=Secret(PASSWORD)),
        security=Security(vers=vers, seal=seal),
        network=network,
    )
    async with trio.open_nursery() as nursery:
        source = await open_source(settings, nursery)
        try:
            yield await source.share("")
        finally:
            await source.aclose()
            nursery.cancel_scope.cancel()
