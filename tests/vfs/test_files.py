"""Open files: what is asked of the server, what is kept, what happens when the file changes underneath."""

import errno
import itertools
import os
import random

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from smbfuse.config import Cache, CacheMode, View
from smbfuse.errors import NotFound, SmbError, Timeout
from smbfuse.share import Caching, Features, Limits
from tests.support.mem_share import MemShare
from tests.support.mem_source import MemSource
from tests.vfs.mounted import Mount, Mounted

KIB, MIB = 1 << 10, 1 << 20
NOT_FOUND = 0xC0000034
EAGER = Cache(attributes_s=0.0, directories_s=0.0)


def content(length: int) -> bytes:
    return random.Random(length).randbytes(length)


async def test_a_small_file_costs_one_round_trip_beyond_its_lookup(mount: Mount) -> None:
    share = MemShare()
    share.add("d/small", content(5000))
    mounted = await mount(share)
    before = share.calls["stat"]
    assert await mounted.read_all("d/small") == content(5000)
    assert share.calls["stat"] - before == 1
    assert share.calls["open"] == 1
    assert share.reads == []


@pytest.mark.parametrize("size", [0, 1, 64 * KIB, 64 * KIB + 1, 3 * MIB + 17])
@pytest.mark.parametrize("largest", [4096, 60 * KIB, 65_535, 128 * KIB, 8 * MIB])
async def test_files_are_read_whole_whatever_the_server_takes(mount: Mount, size: int, largest: int) -> None:
    share = MemShare(limits=Limits(read=largest, write=largest, transact=largest, in_flight=16))
    share.add("f", content(size))
    mounted = await mount(share)
    assert await mounted.read_all("f") == content(size)
    asked = sorted((offset, offset + length) for _, offset, length in share.reads)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(asked))  # nothing twice


async def test_a_large_file_is_read_in_large_requests_several_in_flight(mount: Mount) -> None:
    share = MemShare()
    share.add("f", content(64 * MIB))
    share.delays["read"] = 0.01
    mounted = await mount(share)
    await mounted.read_all("f")
    assert len(share.reads) < 75
    assert 8 <= share.most_in_flight <= 18


async def test_reading_ahead_leaves_room_in_a_narrow_window(mount: Mount) -> None:
    share = MemShare(limits=Limits(read=60 * KIB, write=1, transact=1, in_flight=6))
    share.add("f", content(4 * MIB))
    share.delays["read"] = 0.001
    mounted = await mount(share)
    assert await mounted.read_all("f") == content(4 * MIB)
    assert 4 <= share.most_in_flight <= 6 + 1  # what somebody waits for is never held back


async def test_small_requests_fill_a_wide_window(mount: Mount) -> None:
    share = MemShare(limits=Limits(read=60 * KIB, write=1, transact=1, in_flight=50))
    share.add("f", content(16 * MIB))
    share.delays["read"] = 0.001
    mounted = await mount(share)
    await mounted.read_all("f")
    assert share.most_in_flight > 30


async def test_reads_beyond_the_end_are_empty(mount: Mount) -> None:
    share = MemShare()
    share.add("f", content(100))
    mounted = await mount(share)
    opened = await mounted.fs.open(await mounted.ino("f"), 0)
    assert bytes(await mounted.fs.read(opened.fh, 90, 100)) == content(100)[90:]
    assert bytes(await mounted.fs.read(opened.fh, 100, 100)) == b""
    assert bytes(await mounted.fs.read(opened.fh, 1 << 62, 100)) == b""


async def test_a_cached_read_is_a_view(mount: Mount) -> None:
    share = MemShare()
    share.add("f", content(4 * MIB))
    mounted = await mount(share)
    await mounted.read_all("f")
    opened = await mounted.fs.open(await mounted.ino("f"), 0)
    asked = len(share.reads)
    views = [await mounted.fs.read(opened.fh, offset, 128 * KIB) for offset in range(0, 4 * MIB, 128 * KIB)]
    assert len(share.reads) == asked
    assert sum(isinstance(view, memoryview) for view in views) == len(views)
    assert b"".join(views) == content(4 * MIB)


async def test_two_opens_share_one_handle_and_one_set_of_blocks(mount: Mount) -> None:
    share = MemShare()
    share.add("f", content(MIB))
    mounted = await mount(share)
    ino = await mounted.ino("f")
    first, second = await mounted.fs.open(ino, 0), await mounted.fs.open(ino, 0)
    assert first.fh != second.fh
    assert share.open_files == 1
    await mounted.fs.read(first.fh, 0, 100)
    await mounted.fs.release(first.fh)
    assert bytes(await mounted.fs.read(second.fh, MIB - 10, 10)) == content(MIB)[-10:]
    await mounted.fs.release(second.fh)
    await wait_all_tasks_blocked()
    assert share.open_files == 0


async def test_a_handle_that_was_replaced_is_not_asked_anything(mount: Mount) -> None:
    share = MemShare(grants=Caching.READ | Caching.HANDLE)
    share.opens_forbid_deletion = True
    share.add("f", b"text")
    mounted = await mount(share)
    ino = await mounted.ino("f")
    handles = [(await mounted.fs.open(ino, flags)).fh for flags in (os.O_RDONLY, os.O_RDWR)]
    await wait_all_tasks_blocked()
    assert share.open_files == 1
    await mounted.fs.rename(1, b"f", 1, b"g", 0)
    assert share.calls["stand_aside"] == 1
    share.break_grant("g", Caching.READ)
    await wait_all_tasks_blocked()
    assert share.calls["acknowledge"] == 1
    for fh in handles:
        assert bytes(await mounted.fs.read(fh, 0, 10)) == b"text"
        await mounted.fs.release(fh)


async def test_opens_at_once_leave_one_handle(mount: Mount) -> None:
    share = MemShare()
    share.add("f", content(MIB))
    mounted = await mount(share)
    ino = await mounted.ino("f")
    handles: list[int] = []

    async def opener() -> None:
        handles.append((await mounted.fs.open(ino, 0)).fh)

    async with trio.open_nursery() as nursery:
        with share.held("open"):
            for _ in range(5):
                nursery.start_soon(opener)
            await wait_all_tasks_blocked()
    await wait_all_tasks_blocked()
    assert share.open_files == 1
    for fh in handles:
        await mounted.fs.release(fh)
    await wait_all_tasks_blocked()
    assert share.open_files == 0


async def test_release_waits_for_nobody_and_a_fetch_under_way_keeps_the_handle(mount: Mount) -> None:
    share = MemShare()
    share.add("f", content(8 * MIB))
    mounted = await mount(share)
    opened = await mounted.fs.open(await mounted.ino("f"), 0)
    await mounted.fs.read(opened.fh, 0, 128 * KIB)
    with share.held("read"):
        with trio.move_on_after(0.05):
            await mounted.fs.read(opened.fh, 4 * MIB, 128 * KIB)
        await mounted.fs.release(opened.fh)
        assert share.open_files == 1
    await wait_all_tasks_blocked()
    assert share.open_files == 0


async def test_the_kernel_keeps_its_pages_while_the_file_is_the_same(mount: Mount) -> None:
    share = MemShare()
    share.add("f", content(1000))
    mounted = await mount(share, cache=EAGER)
    ino = await mounted.ino("f")
    kept = []
    for change in (False, False, True, False):
        if change:
            share.write("f", content(1001))
        opened = await mounted.fs.open(ino, 0)
        kept.append(opened.keep_cache)
        await mounted.fs.release(opened.fh)
    assert kept == [False, True, False, True]


async def test_a_file_changed_in_place_is_read_anew_and_the_kernel_told(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = MemShare()
    share.add("f", content(1000))
    mounted = await mount(share)
    ino = await mounted.ino("f")
    opened = await mounted.fs.open(ino, 0)
    assert bytes(await mounted.fs.read(opened.fh, 0, 1000)) == content(1000)
    share.write("f", content(1001)[:1000])  # the same size
    await trio.sleep(1.5)
    await mounted.fs.getattr(ino)
    assert (ino, False) in mounted.kernel.inodes
    assert bytes(await mounted.fs.read(opened.fh, 0, 1000)) == content(1001)[:1000]
    share.write("f", content(5000))
    await trio.sleep(1.5)
    assert (await mounted.fs.getattr(ino)).stat.size == 5000
    assert bytes(await mounted.fs.read(opened.fh, 0, 5000)) == content(5000)


async def test_a_file_that_shrank_reads_short_and_is_asked_about_again(mount: Mount) -> None:
    share = MemShare()
    share.add("f", content(MIB))
    mounted = await mount(share)
    ino = await mounted.ino("f")
    opened = await mounted.fs.open(ino, 0)
    share.write("f", b"short")
    assert bytes(await mounted.fs.read(opened.fh, 0, 1000)) == b"short"
    assert (await mounted.fs.getattr(ino)).stat.size == 5


@pytest.mark.parametrize("removed_here", [False, True])
async def test_a_file_without_a_name_that_shrank_reads_short(mount: Mount, *, removed_here: bool) -> None:
    share = MemShare(features=Features.POSIX)
    node = share.add("f", content(MIB))
    mounted = await mount(share)
    opened = await mounted.fs.open(await mounted.ino("f"), 0)
    if removed_here:
        await mounted.fs.unlink(1, b"f")
    else:
        share.disk.remove("f")
    node.resize(5)
    node.written_ns = node.changed_ns = share.disk.tick()
    assert bytes(await mounted.fs.read(opened.fh, 0, 1000)) == content(MIB)[:5]
    assert bytes(await mounted.fs.read(opened.fh, 5, 1000)) == b""
    await mounted.fs.release(opened.fh)


async def test_a_file_that_ends_before_its_size_is_an_error_and_not_a_shorter_file(mount: Mount) -> None:
    share = MemShare()
    share.add("f", content(1000), size=200_000)
    mounted = await mount(share)
    opened = await mounted.fs.open(await mounted.ino("f"), 0)
    with pytest.raises(SmbError) as broken:
        await mounted.fs.read(opened.fh, 0, 4096)
    assert broken.value.errno == errno.EIO


async def test_a_server_that_takes_no_reads(mount: Mount) -> None:
    share = MemShare(limits=Limits(read=0, write=1, transact=1, in_flight=1))
    share.add("f", content(10))
    mounted = await mount(share)
    with pytest.raises(SmbError):
        await mounted.fs.open(await mounted.ino("f"), 0)
    assert share.open_files == 0


async def test_an_open_whose_file_loses_its_name_meanwhile_leaves_no_handle(mount: Mount) -> None:
    share = MemShare()
    share.add("f", b"old", file_id=77)
    mounted = await mount(share, cache=EAGER)
    ino = await mounted.ino("f")
    failed: list[int] = []

    async def opener() -> None:
        try:
            await mounted.fs.open(ino, 0)
        except SmbError as error:
            failed.append(error.errno)

    async with trio.open_nursery() as nursery:
        with share.held("open"):
            nursery.start_soon(opener)
            await wait_all_tasks_blocked()
            share.disk.remove("f")
            share.add("f", b"new", file_id=78)
            await mounted.ino("f")
    await wait_all_tasks_blocked()
    assert failed == [errno.ESTALE]
    assert share.open_files == 0


async def test_without_a_cache_every_read_asks(mount: Mount) -> None:
    share = MemShare(limits=Limits(read=60 * KIB, write=1, transact=1, in_flight=1))
    share.add("f", content(MIB))
    mounted = await mount(share, cache=Cache(mode=CacheMode.NONE))
    opened = await mounted.fs.open(await mounted.ino("f"), 0)
    assert opened.direct_io
    for _ in range(2):
        assert bytes(await mounted.fs.read(opened.fh, 5, MIB)) == content(MIB)[5:]
    assert len(share.reads) >= 2 * 17
    assert share.most_in_flight > 10  # one read is several requests, at once
    share.write("f", b"x" * 10)
    assert bytes(await mounted.fs.read(opened.fh, 5, 100)) == b"x" * 5
    assert mounted.fs.statistics().blocks.held == 0


async def test_a_handle_that_cannot_be_had_again_is_an_error_for_its_reader(mount: Mount) -> None:
    share = MemShare()
    share.add("f", content(MIB))
    mounted = await mount(share)
    opened = await mounted.fs.open(await mounted.ino("f"), 0)
    share.incarnation += 1
    with pytest.raises(SmbError) as stale:
        await mounted.fs.read(opened.fh, 0, 1000)
    assert stale.value.errno == errno.ESTALE
    await mounted.fs.release(opened.fh)
    await wait_all_tasks_blocked()
    assert share.open_files == 0


async def test_open_of_a_name_that_is_another_file_now_sends_the_kernel_back_to_lookup(mount: Mount) -> None:
    share = MemShare()
    share.add("f", b"old", file_id=77)
    mounted = await mount(share)
    ino = await mounted.ino("f")
    share.disk.remove("f")
    share.add("f", b"other", file_id=78)
    with pytest.raises(SmbError) as stale:
        await mounted.fs.open(ino, 0)
    assert stale.value.errno == errno.ESTALE
    await wait_all_tasks_blocked()
    assert share.open_files == 0
    assert await mounted.ino("f") == 78


async def test_open_of_a_name_that_is_gone(mount: Mount) -> None:
    share = MemShare()
    share.add("f", b"old")
    mounted = await mount(share)
    ino = await mounted.ino("f")
    share.disk.remove("f")
    with pytest.raises(NotFound):
        await mounted.fs.open(ino, 0)
    assert await mounted.ino("f") == 0


async def test_only_files_are_opened(mount: Mount) -> None:
    share = MemShare()
    share.add_folder("d")
    share.add_symlink("l", "d")
    mounted = await mount(share)
    codes = []
    for name in ("d", "l"):
        with pytest.raises(SmbError) as refused:
            await mounted.fs.open(await mounted.ino(name), 0)
        codes.append(refused.value.errno)
    assert codes == [errno.EISDIR, errno.ELOOP]


async def test_handles_that_are_not_open(mount: Mount) -> None:
    mounted = await mount(MemShare())
    for call in (mounted.fs.read(99, 0, 1), mounted.fs.readdir(99, 0)):
        with pytest.raises(SmbError) as refused:
            await call
        assert refused.value.errno == errno.EBADF
    await mounted.fs.release(99)
    await mounted.fs.releasedir(99)


async def test_a_failed_read_ahead_is_nobodys_error(mount: Mount) -> None:
    share = MemShare()
    share.add("f", content(4 * MIB))
    mounted = await mount(share)
    opened = await mounted.fs.open(await mounted.ino("f"), 0)
    share.fail("read", Timeout("no answer"), times=1)
    results = []
    for offset in (0, 128 * KIB, 0):
        try:
            results.append(bytes(await mounted.fs.read(opened.fh, offset, 128 * KIB)))
        except Timeout:
            results.append(b"")
    assert results[-1] == content(4 * MIB)[: 128 * KIB]
    assert await mounted.read_all("f") == content(4 * MIB)


READS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 1_300_000), st.integers(1, 300_000), st.booleans()),
    min_size=1,
    max_size=25,
)


@given(READS, st.sampled_from([1 << 14, 1 << 20, 1 << 28]), st.sampled_from([61_440, 65_536, 1 << 20]))
@settings(deadline=None, max_examples=40)
def test_any_reads_of_any_files_give_their_bytes(
    reads: list[tuple[int, int, int, bool]], cache_size: int, largest: int
) -> None:
    """The model: three files as bytes; some reads are given up half-way, some files are changed in between."""
    contents = [content(size) for size in (0, 70_000, 1_200_000)]

    async def main() -> None:
        share = MemShare(limits=Limits(read=largest, write=1, transact=1, in_flight=4))
        for number, data in enumerate(contents):
            share.add(f"f{number}", data)
        async with trio.open_nursery() as nursery:
            cache = Cache(size=cache_size, readahead=1 << 20, attributes_s=0.0)
            mounted = Mounted(MemSource(share), cache, View())
            await nursery.start(mounted.fs.run)
            handles = [(await mounted.fs.open(await mounted.ino(f"f{n}"), 0)).fh for n in range(3)]
            model = list(contents)
            for number, offset, length, odd in reads:
                if odd and offset % 3 == 0:
                    model[number] = model[number][::-1]
                    share.write(f"f{number}", model[number])
                    await mounted.ino(f"f{number}")
                elif odd:
                    with trio.move_on_after(0):
                        await mounted.fs.read(handles[number], offset, length)
                got = bytes(await mounted.fs.read(handles[number], offset, length))
                assert got == model[number][offset : offset + length]
            for fh in handles:
                await mounted.fs.release(fh)
            await wait_all_tasks_blocked()
            assert share.open_files == 0
            nursery.cancel_scope.cancel()

    trio.run(main)
