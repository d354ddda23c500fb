"""Watching without a mount: what is told while there is a connection, and while there is none."""

import os
import signal
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from smbfuse.config import Config, Target
from smbfuse.daemon import watching
from smbfuse.errors import Denied, SmbError
from smbfuse.share import Features, Happened, Notice
from smbfuse.status import NtStatus, error
from tests.support.mem_share import MemShare
from tests.support.mem_source import MemSource

CONFIG = Config(target=Target("host", "share"))


class Told:
    """A watch under way, and what was heard of it."""

    def __init__(self, share: MemShare, monkeypatch: pytest.MonkeyPatch) -> None:
        self.share = share
        self.notices: list[Notice] = []
        self.watched = 0
        self.outages: list[SmbError] = []
        self.breaks_pipe = False

        async def open_source(_config: Config, _nursery: trio.Nursery) -> MemSource:
            return MemSource(share)

        monkeypatch.setattr(watching, "open_source", open_source)

    def told(self, notices: Sequence[Notice]) -> None:
        if self.breaks_pipe:
            raise BrokenPipeError
        self.watched += not notices
        self.notices += notices

    async def run(self) -> None:
        await watching.watch_share(CONFIG, self.told, self.outages.append, recursive=True)


@pytest.fixture
def under_way(monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(MemShare(features=Features.NOTIFY), monkeypatch)


async def test_a_signal_ends_it_and_gives_everything_back(under_way: Told, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(under_way.run)
        await wait_all_tasks_blocked()
        under_way.share.add("a")
        await wait_all_tasks_blocked()
        os.kill(os.getpid(), signal.SIGTERM)
    assert under_way.notices == [Notice(Happened.ADDED, "a")]
    assert (under_way.watched, under_way.outages) == (1, [])
    assert not any(watch.open for watch in under_way.share.watches)


async def test_an_outage_is_told_once_and_what_was_missed_as_anything(
    under_way: Told, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(under_way.run)
        await wait_all_tasks_blocked()
        under_way.share.lose_connection()
        under_way.share.add("missed")
        await trio.sleep(10 * watching.PAUSE_S)
        under_way.share.add("b")
        await wait_all_tasks_blocked()
        os.kill(os.getpid(), signal.SIGINT)
    assert under_way.notices == [Notice(Happened.ANYTHING), Notice(Happened.ADDED, "b")]
    assert len(under_way.outages) == 1


async def test_a_refusal_ends_it(under_way: Told) -> None:
    under_way.share.fail("notices", error(NtStatus.ACCESS_DENIED, "NOTIFY"))
    with pytest.raises(Denied):
        await under_way.run()
    assert not any(watch.open for watch in under_way.share.watches)


async def test_a_reader_that_has_gone_ends_it(under_way: Told) -> None:
    under_way.breaks_pipe = True
    with pytest.raises(BrokenPipeError):
        await under_way.run()
    assert not any(watch.open for watch in under_way.share.watches)
