"""A copy over a slow link to a real server: it is never taken for a dead one, and others are answered meanwhile."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from smbfuse.client.negotiate import open_source
from smbfuse.config import Cache, Config, Login, Network, Secret, Security, Target, Vers, View
from smbfuse.vfs.filesystem import Filesystem
from smbfuse.vfs.posix import ROOT_INO, Caller
from tests.relay import Relay
from tests.support.samba import PASSWORD, SambaServer, samba_server
from tests.vfs.mounted import KernelLog

pytestmark = pytest.mark.samba

RATE = 125_000.0  # bytes a second: 1 Mbit/s
SIZE = 700_000  # bytes of a file: about 6 seconds
SOON_S = 2.0  # for a name, while a file is being copied
CALLER = Caller(os.getuid(), os.getgid(), 0o022)


@asynccontextmanager
async def filesystem(server: SambaServer, relay: Relay, vers: Vers) -> AsyncIterator[Filesystem]:
    """Yield a filesystem without a kernel, over the slow link."""
    settings = Config(
        target=Target("127.0.0.1", "share", port=relay.port),
        login=Login(user=server.user.name, password=Secret(PASSWORD)),
        security=Security(vers=vers),
        network=Network(echo_interval_s=1.0),
    )
    async with trio.open_nursery() as nursery:
        source = await open_source(settings, nursery)
        fs = Filesystem(source, Cache(), View(), KernelLog())
        async with trio.open_nursery() as within:
            await within.start(fs.run)
            yield fs
            within.cancel_scope.cancel()
        share = await source.share("")
        assert share.statistics().connects == 1
        await source.aclose()
        nursery.cancel_scope.cancel()


async def read_all(fs: Filesystem) -> None:
    entry = await fs.lookup(ROOT_INO, b"large")
    opened = await fs.open(entry.stat.ino, os.O_RDONLY)
    for offset in range(0, SIZE, 1 << 17):
        assert len(await fs.read(opened.fh, offset, 1 << 17)) == min(1 << 17, SIZE - offset)
    await fs.release(opened.fh)


async def write_all(fs: Filesystem) -> None:
    _, opened = await fs.create(ROOT_INO, b"new", 0o644, os.O_WRONLY, CALLER)
    for offset in range(0, SIZE, 1 << 16):
        await fs.write(opened.fh, offset, bytes(min(1 << 16, SIZE - offset)))
    await fs.flush(opened.fh)
    await fs.release(opened.fh)


@pytest.mark.parametrize(
    "vers, copy",
    [
        pytest.param(Vers.SMB1, read_all, marks=pytest.mark.soak),
        (Vers.SMB1, write_all),
        (Vers.SMB311, read_all),
        pytest.param(Vers.SMB311, write_all, marks=pytest.mark.soak),
    ],
    ids=lambda one: one.value if isinstance(one, Vers) else one.__name__,
)
async def test_names_are_answered_soon_beside_a_copy(vers: Vers, copy: Callable[[Filesystem], Awaitable[None]]) -> None:
    options = {"server min protocol": "NT1"} if vers is Vers.SMB1 else {}
    with samba_server(options=options) as server, Relay.started(("127.0.0.1", server.port), rate=RATE) as relay:
        (server.root / "large").write_bytes(bytes(SIZE))
        server.root.chmod(0o777)  # whoever the server's user is
        async with filesystem(server, relay, vers) as fs:
            waits: list[float] = []
            copied = trio.Event()

            async def copy_all() -> None:
                await copy(fs)
                copied.set()

            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(copy_all)
                while not copied.is_set():
                    await trio.sleep(0.2)
                    asked = trio.current_time()
                    await fs.lookup(ROOT_INO, b"missing %d" % len(waits))
                    waits.append(trio.current_time() - asked)
            assert trio.current_time() - began > SIZE / RATE / 2, "the link was not slow"
            assert max(waits) < SOON_S
