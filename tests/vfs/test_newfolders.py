"""Folders that are filled right after they were made: what need not be asked, and what is asked all the same."""

import errno

import pytest
import trio
from trio.testing import MockClock

from smbfuse.config import Cache, CacheMode
from smbfuse.errors import Denied, SmbError
from smbfuse.vfs.newfolders import NAMES_MAX
from smbfuse.vfs.posix import Caller
from tests.support.mem_share import MemShare
from tests.vfs.mounted import Mount, Mounted

US = Caller(0, 0, 0o022)
O_WRONLY_CREAT_EXCL = 0o301
BELIEVED_S = 1.0


async def made(mounted: Mounted) -> int:
    """Do as mkdir(1)."""
    assert (await mounted.fs.lookup(1, b"new")).stat.ino == 0
    return (await mounted.fs.mkdir(1, b"new", 0o755, US)).stat.ino


async def put(mounted: Mounted, folder: int, name: bytes) -> None:
    """Do as cp(1): the kernel looks the name up, then makes the file."""
    assert (await mounted.fs.lookup(folder, name)).stat.ino == 0
    entry, opened = await mounted.fs.create(folder, name, 0o644, O_WRONLY_CREAT_EXCL, US)
    await mounted.fs.release(opened.fh)
    mounted.fs.forget([(entry.stat.ino, 1)])


async def test_filling_a_new_folder_asks_for_no_name(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    mounted = await mount(share)
    folder = await made(mounted)
    before = share.calls["stat"]
    for number in range(100):
        await put(mounted, folder, b"file %d" % number)
    assert share.calls["stat"] == before
    assert len(await mounted.names("new")) == 102


async def test_nor_when_it_takes_long(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    mounted = await mount(share)
    folder = await made(mounted)
    for operation in ("open", "stat", "open_directory", "page"):
        share.delays[operation] = 0.05
    before, listed, began = share.calls["stat"], share.calls["open_directory"], trio.current_time()
    for number in range(100):
        await put(mounted, folder, b"file %d" % number)
    elapsed_s = trio.current_time() - began
    assert elapsed_s > 4 * BELIEVED_S
    assert share.calls["stat"] == before
    assert share.calls["open_directory"] - listed <= 2 * elapsed_s / BELIEVED_S + 1


async def test_what_is_there_is_found(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    mounted = await mount(share)
    folder = await made(mounted)
    await put(mounted, folder, b"File")
    before = share.calls["stat"]
    assert (await mounted.fs.lookup(folder, b"File")).stat.ino
    assert (await mounted.fs.lookup(folder, b"FILE")).stat.ino, "the server ignores case"
    assert (await mounted.fs.lookup(folder, b"other")).stat.ino == 0
    await mounted.fs.rename(folder, b"File", folder, b"other", 0)
    assert (await mounted.fs.lookup(folder, b"other")).stat.ino
    assert (await mounted.fs.lookup(folder, b"File")).stat.ino == 0
    with pytest.raises(SmbError) as refused:
        await mounted.fs.mkdir(folder, b"other", 0o755, US)
    assert refused.value.errno == errno.EEXIST
    assert share.calls["stat"] - before <= 3


async def test_what_another_client_makes_is_seen_as_soon_as_anywhere(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    mounted = await mount(share)
    folder = await made(mounted)
    share.add("new/theirs")
    await trio.sleep(0.6)
    absent = await mounted.fs.lookup(folder, b"theirs")
    assert absent.stat.ino == 0
    assert absent.entry_timeout_s == pytest.approx(0.4), "no longer than since it was made"
    await trio.sleep(0.41)
    assert (await mounted.fs.lookup(folder, b"theirs")).stat.ino
    share.add("new/later")
    await trio.sleep(BELIEVED_S)
    assert (await mounted.fs.lookup(folder, b"later")).stat.ino


@pytest.mark.parametrize("name", [".snapshot", "PROGRA~1", "@GMT-2026.01.01-00.00.00", "ſtreet"])
async def test_names_that_no_listing_need_show_are_asked_for(
    mount: Mount, autojump_clock: MockClock, name: str
) -> None:
    share = MemShare()
    mounted = await mount(share)
    folder = await made(mounted)
    share.add_folder(f"new/{name}")
    assert (await mounted.fs.lookup(folder, name.encode())).stat.ino


async def test_a_folder_that_was_there_before_is_asked(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    share.add_folder("old")
    mounted = await mount(share)
    folder = await mounted.ino("old")
    await mounted.names("old")
    share.add("old/unlisted")
    assert (await mounted.fs.lookup(folder, b"unlisted")).stat.ino


async def test_a_new_folder_that_another_takes_the_place_of_is_asked(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    share.add_folder("old")
    share.add("old/theirs")
    mounted = await mount(share)
    await made(mounted)
    await mounted.fs.rmdir(1, b"new")
    await mounted.ino("old")
    await mounted.fs.rename(1, b"old", 1, b"new", 0)
    assert (await mounted.fs.lookup(await mounted.ino("new"), b"theirs")).stat.ino


@pytest.mark.parametrize("cache", [Cache(mode=CacheMode.NONE), Cache(attributes_s=0.0), Cache(directories_s=0.0)])
async def test_nothing_is_known_where_nothing_is_believed(
    mount: Mount, autojump_clock: MockClock, cache: Cache
) -> None:
    share = MemShare()
    mounted = await mount(share, cache=cache)
    folder = await made(mounted)
    share.add("new/theirs")
    assert (await mounted.fs.lookup(folder, b"theirs")).stat.ino


async def test_a_folder_that_cannot_be_listed_is_asked(
    mount: Mount, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    share = MemShare()
    mounted = await mount(share)
    folder = await made(mounted)
    share.fail("open_directory", Denied("no listing", status=0xC0000022), path="new", times=1000)
    before = share.calls["stat"]
    for number in range(30):
        await put(mounted, folder, b"file %d" % number)
        await trio.sleep(0.1)
    assert share.calls["stat"] - before > 15
    assert not caplog.records


async def test_a_large_new_folder_is_not_listed_over_and_over(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    mounted = await mount(share)
    folder = await made(mounted)
    before = share.calls["page"]
    for number in range(NAMES_MAX + 500):
        await put(mounted, folder, b"file %d" % number)
        await trio.sleep(0.002)
    listed = share.calls["page"] - before
    for number in range(500):
        await put(mounted, folder, b"more %d" % number)
        await trio.sleep(0.002)
    assert share.calls["page"] - before == listed
