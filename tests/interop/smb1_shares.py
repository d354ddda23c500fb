"""Shares of a real Samba over SMB1, without a mount; and what the server says of their files."""

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import trio

from smbfuse.client import transport
from smbfuse.client.smb1_session import Smb1Session, encode_negotiate_probe
from smbfuse.client.smb1_share import Smb1Share
from smbfuse.config import Login, Network, Secret, Security, Target, Vers
from smbfuse.wire import nbss
from tests.support.samba import PASSWORD, SambaServer

NETWORK: Final = Network(timeo_s=10.0)
SECURITY: Final = Security(vers=Vers.SMB1)


@asynccontextmanager
async def mounted(
    server: SambaServer,
    *,
    share: str = "share",
    port: int | None = None,
    login: Login | None = None,
    security: Security = SECURITY,
    probe: bool = False,
    **network: Any,
) -> AsyncIterator[Smb1Share]:
    settings = replace(NETWORK, **network)
    target = Target(host="127.0.0.1", share=share, port=server.port if port is None else port)
    login = login or Login(user=server.user.name, password=Secret(PASSWORD))
    stream = await transport.connect(target, settings)
    first_reply = None
    if probe:
        request = encode_negotiate_probe(("NT LM 0.12",))
        await stream.send_all([nbss.frame(len(request)), request])
        first_reply = memoryview(bytearray((await stream.receive_packet())[1]))
    async with trio.open_nursery() as nursery:
        session = await Smb1Session.establish(
            stream, nursery, target=target, login=login, security=security, network=settings, first_reply=first_reply
        )
        connected = await session.connect_share(share)
        yield connected
        await connected.aclose()
        await session.aclose()


def locked_files(server: SambaServer) -> str:
    return subprocess.run(
        ["smbstatus", f"--configfile={server.configuration}", "--locks"], capture_output=True, text=True, check=True
    ).stdout
