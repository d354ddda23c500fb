"""Durable handles of a real Samba: granted, reclaimed after a cut, and what was written before and after it."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

import pytest
import trio

from smbfuse.client.negotiate import open_source
from smbfuse.client.reconnect import ReconnectingShare
from smbfuse.config import Config, Login, Network, Secret, Security, Target, Vers
from smbfuse.share import Caching, Creation, Kind, OpenIntent
from smbfuse.status import NtStatus
from smbfuse.wire.smb2.create import Disposition, find_context
from smbfuse.wire.smb2.durable import (
    DURABLE_RECONNECT,
    DURABLE_RECONNECT_V2,
    DURABLE_REQUEST,
    DURABLE_REQUEST_V2,
    DurableResponseV2,
)
from smbfuse.wire.smb2.header import Command
from tests.relay import Relay
from tests.support.asked import Asked, asked, claimed
from tests.support.samba import PASSWORD, SambaServer, samba_server, wait_for

pytestmark = pytest.mark.samba

# Samba keeps no durable handles where it shares locks and oplocks with other programs of the machine.
KEEPS_DURABLE: Final = {"posix locking": "no", "kernel oplocks": "no", "kernel share modes": "no"}
EVERYTHING: Final = Caching.READ | Caching.WRITE | Caching.HANDLE
TIMEO_S: Final = 20.0

V2: Final = [Vers.SMB300, Vers.SMB302, Vers.SMB311]
V1: Final = [Vers.SMB202, Vers.SMB210]


class Holder:
    """Keeps count of what it hears."""

    def __init__(self, key: bytes = b"the key of a fil") -> None:
        self.key = key
        self.losses = 0
        self.breaks: list[Caching] = []

    def broken(self, remaining: Caching, *, acknowledge: bool) -> None:
        self.breaks.append(remaining)

    def lost(self) -> None:
        self.losses += 1

    def regained(self) -> None:
        """Hear what nobody here counts."""


def asking(holder: Holder, creation: Creation = Creation.NEVER) -> OpenIntent:
    return OpenIntent(write=True, creation=creation, holder=holder, wanted=EVERYTHING)


@pytest.fixture(scope="module")
def server() -> Iterator[SambaServer]:
    with samba_server(share_options=KEEPS_DURABLE) as running:
        running.user.owns(running.root)
        yield running


@pytest.fixture
def relay(server: SambaServer) -> Iterator[Relay]:
    with Relay.started(("127.0.0.1", server.port)) as running:
        yield running


@contextlib.asynccontextmanager
async def connected(
    server: SambaServer, vers: Vers, port: int, *, seal: bool = False
) -> AsyncIterator[ReconnectingShare]:
    """Log in and connect the share, as a mount does."""
    config = Config(
        target=Target(host="127.0.0.1", share="share", port=port),
        login=Login(user=server.user.name, password=Secret(PASSWORD)),
        security=Security(vers=vers, seal=seal),
        network=Network(timeo_s=TIMEO_S),
    )
    async with trio.open_nursery() as nursery:
        source = await open_source(config, nursery)
        try:
            share = await source.share("")
            assert isinstance(share, ReconnectingShare)
            yield share
        finally:
            with trio.CancelScope(shield=True):
                await source.aclose()
            nursery.cancel_scope.cancel()


def assert_granted(one: Asked, vers: Vers) -> None:
    """Assert that the server has made the open durable, by its own word."""
    assert one.status == NtStatus.SUCCESS
    if vers in V1:
        assert find_context(one.created.contexts, DURABLE_REQUEST) is not None
        return
    data = find_context(one.created.contexts, DURABLE_REQUEST_V2)
    assert data is not None
    assert DurableResponseV2.decode(data).timeout > 0


Loss = Callable[[Relay], None]
LOSSES: Final[dict[str, Loss]] = {
    "reset": lambda relay: relay.cut("rst"),
    "ended": lambda relay: relay.cut("fin"),
    "unnoticed by the server": lambda relay: relay.forget(),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("vers", [*V1, *V2])
async def test_a_lost_handle_is_reclaimed(server: SambaServer, relay: Relay, vers: Vers, loss: str) -> None:
    name = f"größe {vers.value} {loss}"
    holder = Holder()
    async with connected(server, vers, relay.port) as share:
        file = await share.open(name, asking(holder, Creation.IF_ABSENT))
        (first,) = asked(relay, Command.CREATE)
        assert_granted(first, vers)
        assert file.caching == EVERYTHING
        await file.write(0, [b"before"])
        for round_ in range(1, 4):
            mark = relay.mark()
            LOSSES[loss](relay)
            await file.write(6 * round_, [b" after"])
            (again,) = asked(relay, Command.CREATE, mark)
            lost = claimed(again)
            assert lost is not None
            assert again.status == NtStatus.SUCCESS
            assert lost[:8] == first.created.file_id[:8] == again.created.file_id[:8]  # the persistent part
            assert again.sequence == (round_ if vers in V2 else 0)
            assert file.caching == EVERYTHING
            assert holder.losses == round_
        granted = "BATCH" if vers is Vers.SMB202 else "RWH"
        assert [grant.replace("EXCLUSIVE+", "") for grant in server.grants(server.root / name)] == [granted]
        assert bytes(await file.read(0, 100)) == b"before" + 3 * b" after"
        await file.aclose()
        await share.stat(name)
        assert server.grants(server.root / name) == []
    assert (server.root / name).read_bytes() == b"before" + 3 * b" after"


async def test_a_lost_handle_is_reclaimed_under_encryption(server: SambaServer, relay: Relay) -> None:
    async with connected(server, Vers.SMB311, relay.port, seal=True) as share:
        file = await share.open("sealed", asking(Holder(), Creation.IF_ABSENT))
        relay.cut()
        (server.root / "sealed").rename(server.root / "moved away")  # where no path leads to it
        (server.root / "moved away").rename(server.root / "sealed")
        await file.write(0, [b"bytes"])
        assert file.caching == EVERYTHING
        await file.aclose()
    assert (server.root / "sealed").read_bytes() == b"bytes"


@pytest.mark.parametrize("vers", [*V1, *V2])
async def test_what_the_server_has_given_up_is_opened_by_its_path(
    server: SambaServer, relay: Relay, vers: Vers
) -> None:
    name = f"given up {vers.value}"
    async with connected(server, vers, server.port) as other, connected(server, vers, relay.port) as share:
        file = await share.open(name, asking(Holder(), Creation.IF_ABSENT))
        await file.write(0, [b"before"])
        mark = relay.mark()
        relay.refuse()
        relay.cut()
        assert await trio.to_thread.run_sync(wait_for, lambda: server.connections() == 1, 10)
        await (await other.open(name, OpenIntent(write=True))).aclose()  # nobody is there to be asked
        relay.accept()
        await file.write(6, [b" after"])
        refused, opened = asked(relay, Command.CREATE, mark)
        assert claimed(refused) is not None
        assert refused.status == NtStatus.OBJECT_NAME_NOT_FOUND
        assert claimed(opened) is None
        assert_granted(opened, vers)  # and asked for again
        mark = relay.mark()
        relay.cut()
        await file.write(12, [b" again"])
        (again,) = asked(relay, Command.CREATE, mark)
        assert claimed(again) is not None
        assert again.status == NtStatus.SUCCESS
        await file.aclose()
    assert (server.root / name).read_bytes() == b"before after again"


@pytest.mark.parametrize("connected_again", [False, True])
@pytest.mark.parametrize("vers", [Vers.SMB202, Vers.SMB210, Vers.SMB311])
async def test_what_is_closed_while_it_is_lost_is_not_kept_by_the_server(
    server: SambaServer, relay: Relay, vers: Vers, connected_again: bool
) -> None:
    name = f"closed {vers.value} {connected_again}"
    async with connected(server, vers, relay.port) as share:
        file = await share.open(name, asking(Holder(), Creation.IF_ABSENT))
        relay.cut()
        if connected_again:
            await share.stat("")
        mark = relay.mark()
        await file.aclose()
        await share.stat("")
        await share.stat("")  # what nobody waits for may be overtaken
        (reclaimed,) = [one for one in asked(relay, Command.CREATE, mark) if claimed(one)]
        assert reclaimed.status == NtStatus.SUCCESS
        assert server.grants(server.root / name) == []


async def test_who_only_reads_asks_for_nothing(server: SambaServer, relay: Relay) -> None:
    (server.root / "read").write_bytes(b"bytes")
    async with connected(server, Vers.SMB311, relay.port) as share:
        intent = OpenIntent(holder=Holder(), wanted=Caching.READ | Caching.HANDLE)
        file = await share.open("read", intent)
        relay.cut()
        assert bytes(await file.read(0, 5)) == b"bytes"
        names = [context.name for one in asked(relay, Command.CREATE) for context in one.create.contexts]
        assert not {DURABLE_REQUEST, DURABLE_REQUEST_V2, DURABLE_RECONNECT, DURABLE_RECONNECT_V2} & set(names)
        await file.aclose()


@pytest.mark.parametrize("vers", [*V1, *V2])
async def test_a_write_whose_answer_was_lost_says_that_it_comes_again(
    server: SambaServer, relay: Relay, vers: Vers
) -> None:
    name = f"again {vers.value}"
    async with connected(server, vers, relay.port) as share:
        file = await share.open(name, asking(Holder(), Creation.IF_ABSENT))
        mark = relay.mark()
        relay.cut_after(1)
        await file.write(0, [b"once"])
        await file.write(4, [b" and once more"])
        writes = asked(relay, Command.WRITE, mark)
        v2 = vers in V2
        assert [(one.sequence, one.replayed) for one in writes] == [(0, False), (int(v2), v2), (int(v2), False)]
        assert [one.status for one in writes[1:]] == [NtStatus.SUCCESS] * 2
        await file.aclose()
    assert (server.root / name).read_bytes() == b"once and once more"


@pytest.mark.parametrize("creation", [Creation.IF_ABSENT, Creation.EXCLUSIVE])
@pytest.mark.parametrize("vers", [*V1, *V2])
async def test_a_file_whose_making_was_not_answered_is_made_once(
    server: SambaServer, relay: Relay, vers: Vers, creation: Creation
) -> None:
    name = f"made {vers.value} {creation.name}"
    async with connected(server, vers, relay.port) as share:
        relay.cut_after(1)
        file = await share.open(name, asking(Holder(), creation))
        assert file.created
        makings = [one for one in asked(relay, Command.CREATE) if one.create.create_disposition != Disposition.OPEN]
        replayed = [one.replayed for one in makings]
        assert replayed[0] is False
        assert all(again == (vers in V2) for again in replayed[1:])
        if vers in V2:
            keys = {find_context(one.create.contexts, DURABLE_REQUEST_V2) for one in makings}
            assert len(keys) == 1
        await file.write(0, [b"bytes"])
        await file.aclose()
    assert (server.root / name).read_bytes() == b"bytes"


@pytest.mark.parametrize("vers", [*V1, *V2])
async def test_an_open_that_nobody_got_is_in_nobodys_way(server: SambaServer, relay: Relay, vers: Vers) -> None:
    name = f"nobody's {vers.value}"
    async with connected(server, vers, server.port) as other, connected(server, vers, relay.port) as share:
        relay.cut_after(1)  # the open is kept by the server, and nobody knows its FileId
        file = await share.open(name, asking(Holder(), Creation.EXCLUSIVE))
        assert file.caching == EVERYTHING
        await file.write(0, [b"bytes"])
        relay.cut()
        await file.write(5, [b" again"])
        assert (server.root / name).read_bytes() == b"bytes again"
        await file.aclose()
        with trio.fail_after(10):
            await other.remove(name, Kind.FILE)
        assert not (server.root / name).exists()
        assert server.grants(server.root / name) == []
