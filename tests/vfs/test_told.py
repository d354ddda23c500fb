"""With `cache=loose` the kernel believes its own sizes: files that another client changed are new files to it."""

import errno
import os

import pytest
import trio
from trio.testing import MockClock

from smbfuse.config import Cache, CacheMode
from smbfuse.errors import SmbError
from smbfuse.share import Caching, Features, Kind
from smbfuse.vfs.posix import Entry, NewAttributes
from tests.support.mem_share import MemShare
from tests.vfs.mounted import Mount, Mounted

EVERYTHING = Caching.READ | Caching.WRITE | Caching.HANDLE
LOOSE = Cache(mode=CacheMode.LOOSE, attributes_s=0.1)
LATER_S = 3.5  # 30 times as long as attributes are believed, and some more
THREAD, ANOTHER = 4711, 4712


async def looked_up(
    mount: Mount,
    content: bytes = b"before",
    *,
    cache: Cache = LOOSE,
    grants: Caching = Caching.NONE,
    features: Features = Features.NONE,
) -> tuple[MemShare, Mounted, Entry]:
    """Mount a share with a file that the kernel has looked up once."""
    share = MemShare(grants=grants, features=features)
    share.add("f", content)
    mounted = await mount(share, cache=cache)
    return share, mounted, await look(mounted)


async def look(mounted: Mounted) -> Entry:
    return await mounted.fs.lookup(1, b"f")


async def append(mounted: Mounted, ino: int, kernels_size: int, data: bytes) -> None:
    """Append as the kernel does: where it believes the file to end, if it keeps pages of the file."""
    opened = await mounted.fs.open(ino, os.O_WRONLY | os.O_APPEND)
    await mounted.fs.write(opened.fh, kernels_size, data)
    await mounted.fs.flush(opened.fh)
    await mounted.fs.release(opened.fh)


async def test_what_another_client_changed_is_another_file_to_the_kernel(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share, mounted, first = await looked_up(mount)
    share.write("f", b"another's bytes")
    await trio.sleep(LATER_S)
    second = await look(mounted)
    assert (second.stat.ino, second.generation, second.stat.size) == (first.stat.ino, first.generation + 1, 15)
    await trio.sleep(LATER_S)
    assert (await look(mounted)).generation == second.generation


async def test_what_the_kernel_changed_itself_is_the_same_file(mount: Mount, autojump_clock: MockClock) -> None:
    _, mounted, first = await looked_up(mount, grants=EVERYTHING, features=Features.COMPOUND)
    await append(mounted, first.stat.ino, 6, b" and after")
    await mounted.fs.setattr(first.stat.ino, NewAttributes(size=3, mtime_ns=10**18), None)
    opened = await mounted.fs.open(first.stat.ino, os.O_RDWR | os.O_TRUNC)
    await mounted.fs.release(opened.fh)
    again = await look(mounted)
    assert (again.generation, again.stat.size) == (first.generation, 0)


async def sent_back(mounted: Mounted, ino: int, flags: int = os.O_RDONLY, thread: int = THREAD) -> None:
    """Open a file that turns out to be another: the kernel is to look its name up again."""
    with pytest.raises(SmbError) as caught:
        await mounted.fs.open(ino, flags, thread)
    assert caught.value.errno == errno.ESTALE


@pytest.mark.parametrize("after_s", [0, LATER_S], ids=["right after its lookup", "later"])
async def test_an_open_that_finds_another_file_has_its_name_looked_up_again(
    mount: Mount, autojump_clock: MockClock, after_s: float
) -> None:
    share, mounted, first = await looked_up(mount)
    share.write("f", b"another's bytes")
    await trio.sleep(after_s)
    await sent_back(mounted, first.stat.ino)
    second = await look(mounted)
    assert (second.generation, second.stat.size) == (first.generation + 1, 15)
    opened = await mounted.fs.open(second.stat.ino, os.O_RDONLY, THREAD)
    assert not opened.direct_io
    assert bytes(await mounted.fs.read(opened.fh, 0, 100)) == b"another's bytes"


async def test_a_file_that_others_write_all_the_time_is_opened_past_the_kernel(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share, mounted, first = await looked_up(mount, cache=Cache(mode=CacheMode.LOOSE, attributes_s=0))
    share.write("f", b"another's")
    await sent_back(mounted, first.stat.ino, os.O_RDWR | os.O_APPEND)
    second = await look(mounted)
    share.write("f", b"another's bytes")
    await trio.sleep(LATER_S)  # however long it takes: who is sent back a second time has an error
    opened = await mounted.fs.open(second.stat.ino, os.O_RDWR | os.O_APPEND, THREAD)
    assert opened.direct_io
    assert await mounted.fs.write(opened.fh, 9, b", ours") == 6  # 9: where the kernel believes it to end
    await mounted.fs.flush(opened.fh)
    assert bytes(share.node("f").data) == b"another's bytes, ours"
    await mounted.fs.release(opened.fh)
    await sent_back(mounted, first.stat.ino)  # what it believes now, nobody knows
    third = await look(mounted)
    assert (third.generation, third.stat.size) == (second.generation + 1, 21)


@pytest.mark.parametrize("asks", [False, True], ids=["at once", "after fstat"])
async def test_who_opens_again_what_was_opened_past_the_kernel_looks_it_up_before(
    mount: Mount, autojump_clock: MockClock, asks: bool
) -> None:
    """The kernel goes on to believe its old size while it believes the name, whatever else it is told."""
    share, mounted, first = await looked_up(mount)
    share.write("f", b"another's bytes")
    opened = await mounted.fs.open(first.stat.ino, os.O_RDONLY)
    assert opened.direct_io
    await mounted.fs.release(opened.fh)
    if asks:
        await mounted.fs.getattr(first.stat.ino)
    await sent_back(mounted, first.stat.ino)
    second = await look(mounted)
    assert (second.generation, second.stat.size) == (first.generation + 1, 15)
    opened = await mounted.fs.open(first.stat.ino, os.O_RDONLY, THREAD)
    assert not opened.direct_io


async def test_what_was_opened_past_the_kernel_is_another_file_though_its_mode_is_set_before_it_is_looked_up(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share, mounted, first = await looked_up(mount)
    share.write("f", b"another's bytes")
    opened = await mounted.fs.open(first.stat.ino, os.O_RDONLY)
    await mounted.fs.release(opened.fh)
    await mounted.fs.setattr(first.stat.ino, NewAttributes(mtime_ns=10**18), None)
    assert (await look(mounted)).generation == first.generation + 1


async def test_every_thread_is_sent_back_once_for_each_open(mount: Mount, autojump_clock: MockClock) -> None:
    share, mounted, first = await looked_up(mount, b"", cache=Cache(mode=CacheMode.LOOSE, attributes_s=0))
    ino = first.stat.ino
    for size in range(1, 9, 4):
        share.write("f", b"x" * size)
        for thread in (THREAD, ANOTHER):
            await sent_back(mounted, ino, thread=thread)
        for number, thread in enumerate((ANOTHER, THREAD), size + 1):
            await look(mounted)
            share.write("f", b"x" * number)
            opened = await mounted.fs.open(ino, os.O_RDONLY, thread)
            assert opened.direct_io
            await mounted.fs.release(opened.fh)


async def test_a_thread_that_was_sent_back_for_a_name_that_is_gone_is_not_again(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share, mounted, first = await looked_up(mount)
    await share.other_client().remove("f", Kind.FILE)
    share.add("f", b"another file")
    await sent_back(mounted, first.stat.ino)
    second = await look(mounted)
    assert second.stat.ino != first.stat.ino
    share.write("f", b"and changed already")
    opened = await mounted.fs.open(second.stat.ino, os.O_RDONLY, THREAD)
    assert opened.direct_io


async def test_a_file_that_a_thread_of_another_namespace_opens_is_opened_past_the_kernel(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share, mounted, first = await looked_up(mount)
    share.write("f", b"another's bytes")
    opened = await mounted.fs.open(first.stat.ino, os.O_RDONLY, 0)
    assert opened.direct_io
    assert bytes(await mounted.fs.read(opened.fh, 0, 100)) == b"another's bytes"


async def test_a_file_that_is_open_stays_what_it_is_and_is_opened_past_the_kernel_next(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share, mounted, first = await looked_up(mount, grants=EVERYTHING, features=Features.COMPOUND)
    opened = await mounted.fs.open(first.stat.ino, os.O_RDONLY)
    assert not opened.direct_io
    other = await mount(share.other_client())
    await append(other, await other.ino("f"), 6, b", another's")
    await trio.sleep(LATER_S)
    assert (await look(mounted)).generation == first.generation
    await append(mounted, first.stat.ino, 6, b", ours")
    assert bytes(share.node("f").data) == b"before, another's, ours"
    await mounted.fs.release(opened.fh)
    last = await look(mounted)
    assert (last.generation, last.stat.size) == (first.generation + 1, 23)


async def test_a_kernel_that_listens_is_told_the_same_file(mount: Mount, autojump_clock: MockClock) -> None:
    share, mounted, first = await looked_up(mount, cache=Cache())
    share.write("f", b"another's bytes")
    await trio.sleep(LATER_S)
    again = await look(mounted)
    assert (again.generation, again.stat.size) == (first.generation, 15)
