"""How the hostile tests connect, what they do to a share, and what they demand of it: a value or an errno, in time."""

import errno as posix
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
import trio

from smbfuse.client.negotiate import open_source
from smbfuse.client.shares import Shares
from smbfuse.config import Config, Login, Network, Secret, Security, Target, Vers
from smbfuse.errors import ConnectionLost, SmbError
from smbfuse.share import DirEntry, FileStat, OpenIntent, Share
from smbfuse.vfs.attrs import Asked, pack, unpack
from tests.support.script import Tree
from tests.support.scripted_server import PASSWORD, USER, ScriptedServer

CONTENT: Final = b"0123456789"
NAMES: Final = ("b", "größe 🐙")
TREE: Final[Tree] = {"file": CONTENT, "folder": dict.fromkeys(NAMES, b"x"), "large": bytes(300_000)}
TIMEO_S: Final = 2.0
IN_TIME_S: Final = 4 * TIMEO_S  # for any call, reconnects included
NOBODY: Final = Login()
NAMED: Final = Login(user=USER, password=Secret(PASSWORD))

Operation = Callable[[Share], Awaitable[object]]


async def read_file(share: Share) -> bytes:
    """Read a whole file as the filesystem does: what came with the open, then the rest."""
    file = await share.open("file", OpenIntent(first_bytes=4))
    try:
        content = bytes(file.first or b"")
        while piece := bytes(await file.read(len(content), 4)):
            content += piece
        return content
    finally:
        await file.aclose()


async def list_folder(share: Share) -> list[DirEntry]:
    """List a folder to its end."""
    directory = await share.open_directory("folder")
    entries: list[DirEntry] = []
    try:
        while page := await directory.page():
            entries += page
        return entries
    finally:
        await directory.aclose()


OPERATIONS: Final[Mapping[str, Operation]] = {
    "stat": lambda share: share.stat("file"),
    "read": read_file,
    "list": list_folder,
    "read_link": lambda share: share.read_link("file"),
    "space": lambda share: share.space(),
    "echo": lambda share: share.echo(),
}


def config(server: ScriptedServer, *, vers: Vers, login: Login, timeo_s: float, **security: Any) -> Config:
    """Return what a user would have asked for."""
    return Config(
        Target("127.0.0.1", "share", port=server.port),
        login,
        Security(vers=vers, **security),
        Network(timeo_s=timeo_s, connect_timeout_s=timeo_s),
    )


@asynccontextmanager
async def connected(
    server: ScriptedServer,
    *,
    vers: Vers = Vers.SMB311,
    login: Login = NOBODY,
    timeo_s: float = TIMEO_S,
    **security: Any,
) -> AsyncIterator[Share]:
    """Connect as the daemon does, and leave again."""
    async with trio.open_nursery() as nursery:
        with trio.fail_after(IN_TIME_S):
            source: Shares = await open_source(
                config(server, vers=vers, login=login, timeo_s=timeo_s, **security), nursery
            )
        yield await source.share("")
        with trio.fail_after(IN_TIME_S):
            await source.aclose()
        nursery.cancel_scope.cancel()


async def cannot_connect(server: ScriptedServer, expected: type[SmbError] = SmbError, **how: Any) -> SmbError:
    """Connect in vain; return the error."""
    with pytest.RaisesGroup(expected, flatten_subgroups=True, allow_unwrapped=True) as caught:
        async with connected(server, **how):
            pass
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, SmbError)
    return error


async def refused(share: Share, operation: Operation, expected: type[SmbError] = SmbError) -> SmbError:
    """Have `operation` fail in time, with an errno that a system call can give."""
    with trio.fail_after(IN_TIME_S), pytest.raises(expected) as caught:
        await operation(share)
    assert caught.value.errno in posix.errorcode
    return caught.value


async def survives(share: Share, operation: Operation) -> object:
    """Do `operation`, which may give a value or an error, but in time. Return what it gave, or the error."""
    with trio.fail_after(IN_TIME_S):
        try:
            return await operation(share)
        except SmbError as error:
            given = error
    assert given.errno in posix.errorcode
    return given


def is_sane(stat: FileStat) -> bool:
    """Tell whether what the filesystem keeps of `stat` is what a system call can give."""
    kept = unpack(pack(Asked(1, 0.0), 0, stat, "name")).stat
    moments = (kept.created_ns, kept.accessed_ns, kept.written_ns, kept.changed_ns)
    known = [moment for moment in moments if moment is not None]
    return 0 <= kept.size < 2**63 and 0 <= kept.allocation < 2**63 and all(abs(moment) < 2**70 for moment in known)


async def serves_again(server: ScriptedServer, share: Share) -> None:
    """Demand that nothing of what happened lasts, once the server is an ordinary one again."""
    server.script.clear()
    with trio.fail_after(IN_TIME_S):
        # After a long outage callers are answered at once until a dial has succeeded; each who asks has one made.
        while isinstance(await survives(share, lambda share: share.stat("file")), ConnectionLost):  # noqa: ASYNC110
            await trio.sleep(0.1)
        assert (await share.stat("file")).size == len(CONTENT)
        assert await read_file(share) == CONTENT
        assert sorted(entry.name for entry in await list_folder(share)) == sorted(NAMES)
