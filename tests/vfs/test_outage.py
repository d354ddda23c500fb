"""The server is out of reach: what is known is shown at once, the rest is an error, and nothing is gone or empty."""

import errno
from collections.abc import Awaitable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from smbfuse.errors import ConnectionLost
from smbfuse.share import Caching, Features
from smbfuse.vfs import directory
from smbfuse.vfs.posix import Caller, Entry
from tests.support.mem_share import MemShare
from tests.vfs.mounted import Mount, Mounted

CALLS = ("stat", "open", "open_directory", "page", "read", "space", "refresh")


def lose(mounted: Mounted, share: MemShare) -> None:
    """Put the server out of reach, for good."""
    mounted.source.reachable = False
    for call in CALLS:
        share.fail(call, ConnectionLost("no connection", sent=False), times=1000)
    share.lose_connection()


def find_again(mounted: Mounted, share: MemShare) -> None:
    """Have the server back."""
    mounted.source.reachable = True
    share._failures.clear()


async def refused(asked: Awaitable[object]) -> None:
    began = trio.current_time()
    with pytest.raises(ConnectionLost) as caught:
        await asked
    assert caught.value.errno == errno.EHOSTDOWN
    assert trio.current_time() == began


@pytest.mark.parametrize("age_s", [0.1, 3600.0])
@pytest.mark.parametrize("leased", [False, True])
async def test_names_and_attributes_are_shown_as_they_were_known_last(
    mount: Mount, autojump_clock: MockClock, leased: bool, age_s: float
) -> None:
    leases = Features.LEASES | Features.DIRECTORY_LEASES
    share = MemShare(features=leases, grants=Caching.READ | Caching.HANDLE) if leased else MemShare()
    share.add("folder/file", b"12345")
    mounted = await mount(share)
    await mounted.names("folder")
    known = await mounted.find("folder/file")
    await trio.sleep(age_s)
    lose(mounted, share)
    await wait_all_tasks_blocked()  # what was doubted is asked for, in vain
    before = share.calls.copy()
    entry = await mounted.find("folder/file")
    assert (entry.stat, entry.generation) == (known.stat, known.generation)
    if age_s > 1:
        assert entry.attr_timeout_s == entry.entry_timeout_s == 0  # the kernel is to ask again each time
    assert (await mounted.fs.getattr(entry.stat.ino)).stat == known.stat
    assert share.calls == before


async def test_who_has_waited_for_the_server_is_shown_what_was_known_too(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = MemShare(page_entries=2)
    for number in range(5):
        share.add(f"folder/{number}", b"12345")
    mounted = await mount(share)
    folder, names = await mounted.ino("folder"), await mounted.names("folder")
    known = await mounted.find("folder/3")
    await trio.sleep(3600)
    shown: list[object] = []

    async def show(asked: Awaitable[object]) -> None:
        shown.append(await asked)

    async with trio.open_nursery() as nursery:
        with share.held("stat"), share.held("open_directory"):
            nursery.start_soon(show, mounted.fs.lookup(folder, b"3"))
            await wait_all_tasks_blocked()
            nursery.start_soon(show, mounted.fs.getattr(known.stat.ino))
            await wait_all_tasks_blocked()
            nursery.start_soon(show, mounted.names("folder"))
            await wait_all_tasks_blocked()
            lose(mounted, share)
    entries = [entry.stat for entry in shown if isinstance(entry, Entry)]
    assert entries == [known.stat, known.stat]
    assert names in shown


async def test_who_has_waited_in_vain_is_told_nothing_that_is_not_known(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = MemShare()
    share.add("never/one")
    mounted = await mount(share)
    never = await mounted.ino("never")
    asking = (mounted.fs.lookup(never, b"missing"), mounted.fs.opendir(never))
    await trio.sleep(3600)
    async with trio.open_nursery() as nursery:
        with share.held("stat"), share.held("open_directory"):
            for asked in asking:
                nursery.start_soon(refused_at_last, asked)
            await wait_all_tasks_blocked()
            lose(mounted, share)


async def refused_at_last(asked: Awaitable[object]) -> None:
    with pytest.raises(ConnectionLost):
        await asked


async def test_what_is_known_is_doubted_again_as_soon_as_the_server_is_back(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = MemShare()
    share.add("folder/file", b"12345")
    mounted = await mount(share)
    ino = await mounted.ino("folder/file")
    await trio.sleep(3600)
    lose(mounted, share)
    await mounted.fs.getattr(ino)
    asked = share.calls["stat"]
    find_again(mounted, share)
    assert (await mounted.fs.getattr(ino)).attr_timeout_s > 0
    assert share.calls["stat"] == asked + 1


async def test_nothing_is_said_to_be_missing(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    share.add("folder/file")
    mounted = await mount(share)
    folder = await mounted.ino("folder")
    assert (await mounted.find("folder/missing")).stat.ino == 0
    await trio.sleep(3600)
    lose(mounted, share)
    for name in (b"missing", b"never asked for"):
        await refused(mounted.fs.lookup(folder, name))


async def test_a_folder_is_shown_as_it_was_when_it_was_last_read_whole(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare(page_entries=2)
    for number in range(5):
        share.add(f"folder/{number}")
    mounted = await mount(share)
    folder = await mounted.ino("folder")
    names = await mounted.names("folder")
    await trio.sleep(3600)
    lose(mounted, share)
    for _ in range(2):
        assert await mounted.names("folder") == names
    find_again(mounted, share)
    share.add("folder/new")
    assert len(await mounted.names("folder")) == len(names) + 1
    await mounted.fs.unlink(folder, b"new")
    await trio.sleep(3600)
    lose(mounted, share)
    assert sorted(await mounted.names("folder")) == sorted(names)


async def test_only_so_much_is_kept_for_an_outage(
    mount: Mount, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "FORMER_ENTRIES_MAX", 10)
    share = MemShare()
    for number in range(20):
        share.add(f"{number // 4}/{number}")
    mounted = await mount(share)
    folders = [await mounted.ino(str(number)) for number in range(5)]
    for number in range(5):
        await mounted.names(str(number))
    await trio.sleep(3600)
    lose(mounted, share)
    for ino in folders[:3]:
        await refused(mounted.fs.opendir(ino))
    for number in (3, 4):
        assert len(await mounted.names(str(number))) == 6


async def test_no_folder_is_shown_empty_or_shortened(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare(page_entries=2)
    for number in range(5):
        share.add(f"half/{number}")
        share.add(f"changed/{number}")
    share.add("never/one")
    mounted = await mount(share)
    half, changed, never = [await mounted.ino(name) for name in ("half", "changed", "never")]
    await mounted.fs.releasedir(await mounted.fs.opendir(half))  # its first page
    await mounted.names("changed")
    await mounted.fs.mkdir(changed, b"made since", 0o755, Caller(0, 0, 0))
    await trio.sleep(3600)
    lose(mounted, share)
    for ino in (half, changed, never):
        await refused(mounted.fs.opendir(ino))


async def test_the_room_on_the_volume_is_told_as_it_was(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    mounted = await mount(share)
    known = await mounted.fs.statfs()
    await trio.sleep(3600)
    lose(mounted, share)
    with trio.fail_after(1):
        assert await mounted.fs.statfs() == known


async def test_what_was_read_of_an_open_file_can_be_read_again(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    share.add("file", bytes(range(100)))
    mounted = await mount(share)
    opened = await mounted.fs.open(await mounted.ino("file"), 0)
    assert bytes(await mounted.fs.read(opened.fh, 0, 100)) == bytes(range(100))
    await trio.sleep(3600)
    lose(mounted, share)
    assert bytes(await mounted.fs.read(opened.fh, 10, 5)) == bytes(range(10, 15))
