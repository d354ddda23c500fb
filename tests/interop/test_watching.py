"""Watching real servers: what Samba's own processes change, protected connections, and servers that notify nobody."""

import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from smbfuse.client.negotiate import open_source
from smbfuse.client.watching import SETTLE_S
from smbfuse.config import Config, Login, Network, Secret, Security, Target, Vers
from smbfuse.errors import Unsupported
from smbfuse.share import Features, Happened, Notice, Share, Watch
from tests.interop.contract_watching import ANYTHING, about, heard, told
from tests.support import independent
from tests.support.samba import PASSWORD, SambaServer, samba_server


@dataclass(frozen=True)
class Manner:
    """A dialect, and how it is protected."""

    vers: Vers
    unix: bool = False
    sign: bool = False
    seal: bool = False

    def __str__(self) -> str:
        ways = {"UNIX": self.unix, "signed": self.sign, "sealed": self.seal}
        return " ".join([self.vers.value, *(name for name, is_so in ways.items() if is_so)])


MANNERS = [
    Manner(Vers.SMB1),
    Manner(Vers.SMB1, unix=True),
    Manner(Vers.SMB1, sign=True),
    Manner(Vers.SMB202),
    Manner(Vers.SMB202, sign=True),
    Manner(Vers.SMB311),
    Manner(Vers.SMB311, sign=True),
    Manner(Vers.SMB311, seal=True),
]
SIGNS = {"server signing": "auto"}
every_manner = pytest.mark.parametrize("manner", MANNERS, ids=str)


@pytest.fixture(scope="module")
def server() -> Iterator[SambaServer]:
    with samba_server(options=SIGNS) as server:
        server.user.owns(server.root)
        yield server


@pytest.fixture(scope="module")
def silent() -> Iterator[SambaServer]:
    """A server that is told to notify nobody."""
    with samba_server(options={**SIGNS, "change notify": "no"}) as server:
        server.user.owns(server.root)
        yield server


@contextlib.asynccontextmanager
async def connected(server: SambaServer, manner: Manner) -> AsyncIterator[Share]:
    async with logged_in(server.port, Login(user=server.user.name, password=Secret(PASSWORD)), manner) as share:
        yield share


@contextlib.asynccontextmanager
async def logged_in(port: int, login: Login, manner: Manner) -> AsyncIterator[Share]:
    config = Config(
        target=Target(host="127.0.0.1", share="share", port=port),
        login=login,
        security=Security(vers=manner.vers, sign=manner.sign, seal=manner.seal),
        network=Network(timeo_s=20.0, unix_extensions=manner.unix),
    )
    async with trio.open_nursery() as nursery:
        source = await open_source(config, nursery)
        try:
            yield await source.share("")
        finally:
            with trio.CancelScope(shield=True):
                await source.aclose()
            nursery.cancel_scope.cancel()


async def in_effect(watch: Watch, folder: Path, name: str = "stir") -> None:
    """Make files until the server tells of one by its name: another process of it is asked to, and takes its time."""
    async with trio.open_nursery() as nursery:

        async def stir() -> None:
            for number in itertools.count():
                (folder / f"{name} {number}").touch()
                await trio.sleep(0.1)

        nursery.start_soon(stir)
        await heard(watch, lambda seen: any(path.startswith(name) for path in about(seen)))
        nursery.cancel_scope.cancel()


@pytest.mark.samba
@every_manner
async def test_what_the_servers_own_processes_change_is_told(server: SambaServer, manner: Manner) -> None:
    folder = server.root / f"lokal {manner}"
    (folder / "tief").mkdir(parents=True)
    async with connected(server, manner) as share:
        assert Features.NOTIFY in share.features
        watch = await share.watch(folder.name, recursive=False)
        await in_effect(watch, folder)
        (folder / "größe 📁").write_bytes(b"1")
        await told(watch, Notice(Happened.ADDED, "größe 📁"))
        (folder / "größe 📁").rename(folder / "b")
        # As one change, or as two where its kernel did not tell it both at once.
        await heard(watch, lambda seen: about(seen) >= {"b", "größe 📁"})
        (folder / "b").unlink()
        await told(watch, Notice(Happened.REMOVED, "b"))
        await watch.aclose()


@pytest.mark.samba
@every_manner
async def test_a_watch_is_not_said_to_stand_before_the_server_can_tell(server: SambaServer, manner: Manner) -> None:
    folder = server.root / f"früh {manner}"
    folder.mkdir()
    server.user.owns(folder)
    async with connected(server, manner) as share, connected(server, manner) as other, trio.open_nursery() as nursery:

        async def watch_and_change() -> None:
            watch = await share.watch(folder.name)
            await other.make_directory(f"{folder.name}/at once")
            await heard(watch, lambda seen: "at once" in about(seen))
            await watch.aclose()

        with server.notifier_paused():  # as if the machine had had other things to do
            nursery.start_soon(watch_and_change)
            await trio.sleep(SETTLE_S / 2)


@pytest.mark.samba
@every_manner
async def test_more_than_the_server_keeps_is_told_as_anything(server: SambaServer, manner: Manner) -> None:
    folder = server.root / f"viele {manner}"
    folder.mkdir()
    names = {f"{number:04} mit einem langen Namen {'x' * 100}" for number in range(2000)}
    async with connected(server, manner) as share:
        watch = await share.watch(folder.name, recursive=False)
        await in_effect(watch, folder)
        for name in names:
            (folder / name).touch()
        await heard(watch, lambda seen: ANYTHING in seen or about(seen) >= names)
        await in_effect(watch, folder, "last")  # the first of these may still be among what is too much
        await watch.aclose()


@pytest.mark.samba
@every_manner
async def test_a_server_that_notifies_nobody_says_so(silent: SambaServer, manner: Manner) -> None:
    async with connected(silent, manner) as share:
        with pytest.raises(Unsupported):
            await share.watch("")
        assert Features.NOTIFY not in share.features
        await share.stat("")


@pytest.mark.parametrize(
    "name, words, manner",
    [
        ("impacket", ("smb1",), Manner(Vers.SMB1)),
        ("impacket", ("smb2",), Manner(Vers.SMB202)),
        ("scapy", ("plain",), Manner(Vers.SMB311)),
    ],
    ids=["impacket 1.0", "impacket 2.0", "scapy 3.1.1"],
)
async def test_servers_that_know_no_watches_say_so_and_go_on(
    name: str, words: tuple[str, ...], manner: Manner, tmp_path: Path
) -> None:
    if why := independent.missing(name):
        pytest.skip(why)
    login = Login(user=independent.USER, password=Secret(independent.PASSWORD))
    with independent.independent_server(name, tmp_path, *words) as server:
        async with logged_in(server.port, login, manner) as share:
            with pytest.raises(Unsupported):
                await share.watch("")
            assert Features.NOTIFY not in share.features
            await share.stat("")
            assert share.statistics().connects == 1
