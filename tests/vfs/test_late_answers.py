"""Answers about a file that were on their way while it was written: what they say is older than what we know."""

import os

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from smbfuse.config import Cache
from smbfuse.share import Caching, Features
from tests.support.mem_share import MemShare
from tests.vfs.mounted import Mount

KEEP = 70_000  # bytes: worth asking for what the file is called after its close


async def test_a_size_from_before_a_write_does_not_move_the_next_append(mount: Mount) -> None:
    share = MemShare(grants=Caching.READ | Caching.WRITE | Caching.HANDLE, features=Features.COMPOUND)
    share.closes_move_times = True
    share.add("f")
    mounted = await mount(share)
    ino = await mounted.ino("f")
    first = await mounted.fs.open(ino, os.O_WRONLY)
    await mounted.fs.write(first.fh, 0, b"x" * KEEP)
    await mounted.fs.getattr(ino)
    with share.held("refresh"):
        await mounted.fs.flush(first.fh)
        await mounted.fs.release(first.fh)
        await wait_all_tasks_blocked()
        assert share.calls["refresh"] == 1
        second = await mounted.fs.open(ino, os.O_WRONLY | os.O_APPEND)
        await mounted.fs.write(second.fh, 0, b"second")
        await mounted.fs.flush(second.fh)
    await wait_all_tasks_blocked()
    await mounted.fs.write(second.fh, 0, b"third")
    await mounted.fs.flush(second.fh)
    await mounted.fs.release(second.fh)
    assert bytes(share.node("f").data) == b"x" * KEEP + b"second" + b"third"


async def test_the_size_that_an_append_asks_for_may_be_outgrown_by_our_own_write(mount: Mount) -> None:
    share = MemShare()
    share.add("f", b"0123")
    mounted = await mount(share)
    ino = await mounted.ino("f")
    appending = await mounted.fs.open(ino, os.O_WRONLY | os.O_APPEND)
    writing = await mounted.fs.open(ino, os.O_RDWR)

    async with trio.open_nursery() as nursery:
        with share.held("refresh"):
            nursery.start_soon(mounted.fs.write, appending.fh, 0, b"end")
            await wait_all_tasks_blocked()
            assert share.calls["refresh"] == 1
            await mounted.fs.write(writing.fh, 4, b"4567")
    assert bytes(share.node("f").data) == b"01234567end"
    await mounted.fs.release(appending.fh)
    await mounted.fs.release(writing.fh)


async def test_an_open_waits_until_the_kernel_has_forgotten_the_size_that_it_was_told(mount: Mount) -> None:
    share = MemShare(grants=Caching.READ | Caching.WRITE | Caching.HANDLE)
    share.add("f")
    mounted = await mount(share, cache=Cache(attributes_s=30))
    ino = await mounted.ino("f")
    share.write("f", b"written since by another client")
    forgotten = trio.Event()

    async def forget() -> None:
        await trio.lowlevel.checkpoint()
        forgotten.set()

    mounted.kernel.write_back[ino] = forget
    opened = await mounted.fs.open(ino, os.O_RDONLY)
    assert forgotten.is_set()
    assert bytes(await mounted.fs.read(opened.fh, 0, 100)) == b"written since by another client"
    await mounted.fs.release(opened.fh)


async def test_an_open_does_not_wait_for_a_kernel_that_cannot_forget(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    share.add("f")
    mounted = await mount(share, cache=Cache(attributes_s=30))
    ino = await mounted.ino("f")
    share.write("f", b"new")
    mounted.kernel.write_back[ino] = trio.sleep_forever
    with trio.fail_after(5):
        opened = await mounted.fs.open(ino, os.O_RDONLY)
    await mounted.fs.release(opened.fh)
