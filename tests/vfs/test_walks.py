"""Folders that are listed before a program that walks a tree opens them: what it saves, and where it is left alone."""

import pytest
import trio
from trio.testing import MockClock

from smbfuse.config import Cache, CacheMode
from smbfuse.errors import Denied
from smbfuse.share import Limits
from tests.support.mem_share import MemShare
from tests.vfs.mounted import Mount, Mounted

FOLDERS = 100
ROUND_TRIP_S = 0.02
FEW_IN_FLIGHT = Limits(read=1 << 20, write=1 << 20, transact=1 << 20, in_flight=7)


def tree(folders: int = FOLDERS, *, limits: Limits | None = None) -> MemShare:
    share = MemShare(limits=limits)
    for number in range(folders):
        share.add_folder(f"{number:03}")
        share.add(f"{number:03}/file {number}")
    for operation in ("open_directory", "stat"):
        share.delays[operation] = ROUND_TRIP_S
    return share


async def find(mounted: Mounted) -> list[bytes]:
    """Do as find(1): list a folder, then each folder in it, in the order of the listing."""
    names = []
    for entry in await mounted.entries():
        if entry.name not in (b".", b".."):
            fh = await mounted.fs.opendir(entry.entry.stat.ino)
            names += [listed.name for listed in await mounted.drain(fh)][2:]
            await mounted.fs.releasedir(fh)
    return names


async def test_a_walk_waits_for_a_few_of_the_folders(mount: Mount, autojump_clock: MockClock) -> None:
    share = tree()
    mounted = await mount(share)
    before, began = share.calls["open_directory"], trio.current_time()
    assert await find(mounted) == [b"file %d" % number for number in range(FOLDERS)]
    assert trio.current_time() - began < FOLDERS * ROUND_TRIP_S / 6
    assert share.calls["open_directory"] - before == FOLDERS, "each is listed once"
    assert mounted.fs.statistics().speculation.folders >= 0.9 * FOLDERS  # the first few are opened before
    assert share.most_in_flight <= share.limits.in_flight // 2 + 1


async def test_folders_listed_ahead_are_no_older_than_any_answer(mount: Mount, autojump_clock: MockClock) -> None:
    share = tree(20)
    mounted = await mount(share)
    listed = [entry for entry in await mounted.entries() if entry.name not in (b".", b"..")]
    for entry in listed[:4]:
        await mounted.fs.releasedir(await mounted.fs.opendir(entry.entry.stat.ino))
    await trio.sleep(0.1)  # the next are listed
    share.add("005/new")
    await trio.sleep(1.0)
    assert await mounted.names("005") == [b".", b"..", b"file 5", b"new"]


async def test_what_is_opened_in_no_order_lists_nothing(mount: Mount, autojump_clock: MockClock) -> None:
    share = tree(50)
    mounted = await mount(share)
    listed = [entry for entry in await mounted.entries() if entry.name not in (b".", b"..")]
    for number in (40, 3, 17, 30, 9, 22, 45, 11):
        await mounted.fs.releasedir(await mounted.fs.opendir(listed[number].entry.stat.ino))
    assert mounted.fs.statistics().speculation.folders == 0
    assert share.calls["open_directory"] == 1 + 8


async def test_a_folder_that_cannot_be_listed_fails_who_opens_it_alone(
    mount: Mount, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    share = tree(20)
    mounted = await mount(share)
    listed = [entry for entry in await mounted.entries() if entry.name not in (b".", b"..")]
    share.fail("open_directory", Denied("no listing", status=0xC0000022), path="006", times=1000)
    for number, entry in enumerate(listed):
        if number == 6:
            with pytest.raises(Denied):
                await mounted.fs.opendir(entry.entry.stat.ino)
        else:
            await mounted.fs.releasedir(await mounted.fs.opendir(entry.entry.stat.ino))
    assert not caplog.records


@pytest.mark.parametrize(
    "cache, limits",
    [
        pytest.param(Cache(mode=CacheMode.NONE), None, id="cache=none"),
        pytest.param(Cache(directories_s=0.0), None, id="acdirmax=0"),
        pytest.param(Cache(), FEW_IN_FLIGHT, id="few requests at once"),
    ],
)
async def test_nothing_is_listed_ahead_where_it_would_be_in_vain(
    mount: Mount, autojump_clock: MockClock, cache: Cache, limits: Limits | None
) -> None:
    share = tree(20, limits=limits)
    mounted = await mount(share, cache=cache)
    await find(mounted)
    assert mounted.fs.statistics().speculation.folders == 0


async def test_nothing_is_left_of_a_walk_that_ended_early(mount: Mount, autojump_clock: MockClock) -> None:
    share = tree(50)
    mounted = await mount(share)
    listed = [entry for entry in await mounted.entries() if entry.name not in (b".", b"..")]
    for entry in listed[:6]:
        await mounted.fs.releasedir(await mounted.fs.opendir(entry.entry.stat.ino))
    mounted.fs.forget([(entry.entry.stat.ino, 1) for entry in listed])
    await trio.sleep(2.5)
    statistics = mounted.fs.statistics()
    assert share.open_directories == statistics.open_directories == 0
    assert statistics.inodes == 1, "the root"
