"""Watches that outlive their connection: made again, what was missed is told as "anything", and no more than once."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from smbfuse.client.rewatching import MOST_RENEWALS
from smbfuse.errors import ConnectionLost, Denied, SessionGone, StaleHandle
from smbfuse.share import Features, Happened, Kind, Notice, Watch
from smbfuse.status import NtStatus, error
from tests.client.severed import Harm, World

ANYTHING = [Notice(Happened.ANYTHING)]


@pytest.fixture
async def world() -> World:
    world = World(features=Features.NOTIFY)
    world.disk.add("Büro/a")
    return world


async def nothing_more(watch: Watch) -> None:
    with trio.move_on_after(1000) as scope:
        await watch.notices()
    assert scope.cancelled_caught


async def test_a_loss_is_told_once_as_anything_and_later_changes_as_they_are(
    autojump_clock: MockClock, world: World
) -> None:
    async with world.share() as share:
        watch = await share.watch("Büro")
        stood = [watch.stands]
        world.disk.write("Büro/a", b"1")
        assert await watch.notices() == [Notice(Happened.MODIFIED, "a")]
        world.lose()
        stood.append(watch.stands)
        world.disk.write("Büro/a", b"2")
        assert await watch.notices() == ANYTHING
        stood.append(watch.stands)
        assert stood == [True, False, True]
        await nothing_more(watch)
        world.disk.add("Büro/b")
        assert await watch.notices() == [Notice(Happened.ADDED, "b")]
        assert world.dials == 2


async def test_whoever_waits_when_the_connection_ends_hears_of_it_as_soon_as_there_is_another(
    autojump_clock: MockClock, world: World
) -> None:
    async with world.share() as share:
        watch = await share.watch("Büro")
        async with trio.open_nursery() as nursery:

            async def waits() -> None:
                with trio.fail_after(1000):
                    assert await watch.notices() == ANYTHING

            nursery.start_soon(waits)
            await wait_all_tasks_blocked()
            world.lose()


@pytest.mark.parametrize("harm", [Harm.UNSENT, Harm.REQUEST_LOST, Harm.ANSWER_LOST])
async def test_a_loss_while_the_watch_is_made_is_repeated(autojump_clock: MockClock, world: World, harm: Harm) -> None:
    async with world.share() as share:
        world.cut("watch", harm)
        watch = await share.watch("Büro")
        world.disk.add("Büro/b")
        assert await watch.notices() == [Notice(Happened.ADDED, "b")]


async def test_an_outage_is_told_and_the_watch_goes_on_after_it(autojump_clock: MockClock, world: World) -> None:
    async with world.share() as share:
        watch = await share.watch("Büro")
        world.refuses = True
        world.lose()
        with pytest.raises(ConnectionLost):
            await watch.notices()
        assert not watch.stands
        world.refuses = False
        with trio.fail_after(1000):
            while True:
                try:
                    assert await watch.notices() == ANYTHING
                    break
                except ConnectionLost:
                    await trio.sleep(10)


async def test_a_folder_that_went_during_the_loss_ends_the_watch(autojump_clock: MockClock, world: World) -> None:
    async with world.share() as share:
        watch = await share.watch("Büro")
        world.lose()
        world.disk.remove("Büro")
        for _ in range(2):
            with pytest.raises(StaleHandle):
                await watch.notices()


async def test_a_watch_follows_its_folder_when_it_is_renamed_here(autojump_clock: MockClock, world: World) -> None:
    async with world.share() as share:
        watch = await share.watch("Büro")
        await share.rename("Büro", "Archiv", replace=False)
        world.lose()
        assert await watch.notices() == ANYTHING
        world.disk.add("Archiv/b")
        assert await watch.notices() == [Notice(Happened.ADDED, "b")]


async def test_a_refusal_ends_the_watch(autojump_clock: MockClock, world: World) -> None:
    async with world.share() as share:
        watch = await share.watch("Büro")
        assert world.line is not None
        world.line.memory.fail("notices", error(NtStatus.ACCESS_DENIED, "NOTIFY"))
        with pytest.raises(Denied):
            await watch.notices()


async def test_the_tree_alone_may_be_gone(autojump_clock: MockClock, world: World) -> None:
    async with world.share() as share:
        watch = await share.watch("Büro")
        async with trio.open_nursery() as nursery:

            async def waits() -> None:
                with trio.fail_after(1000):
                    assert await watch.notices() == ANYTHING

            nursery.start_soon(waits)
            await wait_all_tasks_blocked()
            assert world.line is not None
            gone = error(NtStatus.NETWORK_NAME_DELETED, "STAT")
            assert isinstance(gone, SessionGone)
            world.line.memory.fail("stat", gone)
            await share.stat("Büro")
        assert world.dials == 1


async def test_a_handle_that_the_server_closes_is_opened_again_but_not_for_ever(
    autojump_clock: MockClock, world: World
) -> None:
    async with world.share() as share:
        watch = await share.watch("Büro")
        assert world.line is not None
        closed = error(NtStatus.FILE_CLOSED, "NOTIFY")
        world.line.memory.fail("notices", closed)
        assert await watch.notices() == ANYTHING
        world.disk.write("Büro/a", b"1")
        assert await watch.notices() == [Notice(Happened.MODIFIED, "a")]
        world.line.memory.fail("notices", closed, times=100)
        for _ in range(MOST_RENEWALS):
            assert await watch.notices() == ANYTHING
        with pytest.raises(StaleHandle):
            await watch.notices()


async def test_a_path_counts_from_the_mounts_root(autojump_clock: MockClock, world: World) -> None:
    async with world.share(path="Büro") as share:
        watch = await share.watch("")
        await share.remove("a", Kind.FILE)
        assert await watch.notices() == [Notice(Happened.REMOVED, "a")]
        await watch.aclose()
        with pytest.raises(StaleHandle):
            await watch.notices()


async def test_the_end_of_the_share_ends_its_watches(autojump_clock: MockClock, world: World) -> None:
    async with world.share() as share:
        watch = await share.watch("")
        await share.aclose()
        assert not watch.stands
        assert world.line is not None
        assert not any(one.open for one in world.line.memory.watches)
