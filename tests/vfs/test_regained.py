"""Grants that come back with a handle that is reclaimed or opened again: believed once it is known what happened."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from smbfuse.config import Cache
from smbfuse.errors import Timeout
from smbfuse.share import Caching
from tests.client.severed import World
from tests.support.mem_share import MemShare
from tests.vfs.mounted import Mount, Mounted

MIB = 1 << 20
RH = Caching.READ | Caching.HANDLE
RWH = RH | Caching.WRITE
LONG = Cache(attributes_s=600.0, directories_s=600.0)


@asynccontextmanager
async def mounted_over(world: World, mount: Mount) -> AsyncIterator[Mounted]:
    """Mount a share that connects again; another client looks at its disk as it is."""
    async with world.share() as share:
        yield await mount(cast("MemShare", share), cache=LONG)


def a_world(grants: Caching = RWH, content: bytes = b"0123456789") -> World:
    world = World(grants=grants)
    world.disk.add("f", content)
    return world


def on_disk(world: World) -> bytes:
    return bytes(world.disk.node("f").data)


def memory(world: World) -> MemShare:
    assert world.line is not None
    return world.line.memory


async def reopened(mounted: Mounted, fh: int, data: bytes = b"x") -> None:
    """Have the file of a handle opened again by a write, and what comes with that taken in."""
    await mounted.fs.write(fh, 0, data)
    await mounted.fs.fsync(fh, datasync=True)
    await trio.sleep(0.1)


async def test_what_is_written_waits_again_after_a_loss(mount: Mount, autojump_clock: MockClock) -> None:
    world = a_world()
    async with mounted_over(world, mount) as mounted:
        fh = (await mounted.fs.open(await mounted.ino("f"), os.O_RDWR)).fh
        await mounted.fs.write(fh, 0, b"a")
        assert on_disk(world) == b"0123456789"
        world.lose()
        await reopened(mounted, fh, b"b")
        assert on_disk(world) == b"b123456789"
        await mounted.fs.write(fh, 0, b"c")
        assert on_disk(world) == b"b123456789"
        other = await mount(world.other())
        assert await other.read_all("f") == b"c123456789"
        await mounted.fs.write(fh, 0, b"d")  # the grant is broken again
        assert on_disk(world) == b"d123456789"
        await mounted.fs.flush(fh)
        await mounted.fs.release(fh)


@pytest.mark.parametrize("left", [Caching.NONE, Caching.READ, RH])
async def test_of_a_grant_that_is_less_afterwards_no_more_is_believed(
    mount: Mount, autojump_clock: MockClock, left: Caching
) -> None:
    world = a_world()
    async with mounted_over(world, mount) as mounted:
        ino = await mounted.ino("f")
        fh = (await mounted.fs.open(ino, os.O_RDWR)).fh
        await mounted.fs.write(fh, 0, b"a")
        world.lose()
        world.grants = left
        await reopened(mounted, fh)
        await mounted.fs.write(fh, 0, b"b")
        assert on_disk(world) == b"b123456789"  # without WRITE nothing waits
        await trio.sleep(1000)
        asked = memory(world).calls["open"]
        again = (await mounted.fs.open(ino, os.O_RDWR)).fh
        assert memory(world).calls["open"] - asked == (0 if left else 1)
        for one in (again, fh):
            await mounted.fs.flush(one)
            await mounted.fs.release(one)


async def test_what_others_wrote_before_the_grant_came_back_is_seen(mount: Mount, autojump_clock: MockClock) -> None:
    world = a_world(content=bytes(4 * MIB))
    async with mounted_over(world, mount) as mounted:
        fh = (await mounted.fs.open(await mounted.ino("f"), os.O_RDWR)).fh
        assert bytes(await mounted.fs.read(fh, 0, 6)) == bytes(6)
        world.lose()
        world.disk.write("f", b"THEIRS".ljust(4 * MIB))
        await mounted.fs.read(fh, 3 * MIB, 6)  # which is not here, so that the file is opened again
        await trio.sleep(0.1)
        assert bytes(await mounted.fs.read(fh, 0, 6)) == b"THEIRS"
        await trio.sleep(0.1)  # what lies ahead is read, too
        reads = len(memory(world).reads)
        await trio.sleep(1000)
        assert bytes(await mounted.fs.read(fh, 0, 6)) == b"THEIRS"
        assert len(memory(world).reads) == reads  # kept, under the grant
        await mounted.fs.flush(fh)
        await mounted.fs.release(fh)


async def test_a_break_that_comes_while_the_file_is_looked_at_counts(mount: Mount, autojump_clock: MockClock) -> None:
    world = a_world(content=bytes(4 * MIB))
    async with mounted_over(world, mount) as mounted:
        fh = (await mounted.fs.open(await mounted.ino("f"), os.O_RDWR)).fh
        await mounted.fs.read(fh, 0, 6)
        world.lose()
        world.afterwards["refresh"] = lambda: memory(world).break_grant("f", RH)
        await mounted.fs.read(fh, 3 * MIB, 6)
        await trio.sleep(0.1)
        assert memory(world).calls["acknowledge"] == 1
        await mounted.fs.write(fh, 0, b"x")
        assert on_disk(world)[:1] == b"x"
        await mounted.fs.flush(fh)
        await mounted.fs.release(fh)


async def test_who_cannot_be_asked_about_the_file_goes_on_without_a_grant(
    mount: Mount, autojump_clock: MockClock
) -> None:
    world = a_world()
    async with mounted_over(world, mount) as mounted:
        fh = (await mounted.fs.open(await mounted.ino("f"), os.O_RDWR)).fh
        world.lose()
        world.afterwards["open"] = lambda: memory(world).fail("refresh", Timeout("no answer"), times=100)
        await reopened(mounted, fh)
        await mounted.fs.write(fh, 0, b"y")
        assert on_disk(world) == b"y123456789"
        await mounted.fs.flush(fh)
        await mounted.fs.release(fh)
