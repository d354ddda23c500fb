"""Writes: what waits, what goes through, in which requests; sizes, times, errors."""

import errno
import logging
import os
from collections.abc import Awaitable, Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from smbfuse.config import Cache, CacheMode
from smbfuse.errors import Denied, NoSpace, Orphaned, SmbError
from smbfuse.share import Buffer, Caching, Features, Limits
from smbfuse.vfs.budget import GATHER_S
from smbfuse.vfs.opening import FIRST_BYTES
from smbfuse.vfs.posix import Caller, NewAttributes, Unsaved
from tests.conftest import ExpectedWarnings
from tests.support.mem_files import MemFile
from tests.support.mem_share import MemShare
from tests.vfs.mounted import Mount, closed, opened, with_open_file

KIB, MIB = 1 << 10, 1 << 20
RWH = Caching.READ | Caching.WRITE | Caching.HANDLE
CALLER = Caller(1000, 1000, 0o022)
DISK_FULL = 0xC000007F
ACCESS_DENIED = 0xC0000022


def granting(**options: object) -> MemShare:
    share = MemShare(grants=RWH, features=Features.COMPOUND, **options)  # type: ignore[arg-type]
    share.closes_move_times = True
    return share


def refused(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# -- what waits


async def test_under_an_exclusive_grant_a_write_waits_and_is_read_at_once(mount: Mount) -> None:
    share = granting()
    mounted, fh = await with_open_file(mount, share, b"server's own bytes")
    with share.held("write"):
        assert await mounted.fs.write(fh, 9, b"OUR") == 3
        assert bytes(await mounted.fs.read(fh, 0, 100)) == b"server's OUR bytes"
        assert share.calls["write"] == 0
    await closed(mounted, fh)
    assert bytes(share.node("f").data) == b"server's OUR bytes"


async def test_a_file_made_written_and_closed_costs_two_round_trips(mount: Mount) -> None:
    share = granting()
    mounted = await mount(share)
    before = sum(share.calls.values())
    _, made = await mounted.fs.create(1, b"f", 0o644, os.O_WRONLY | os.O_CREAT | os.O_EXCL, CALLER)
    await mounted.fs.write(made.fh, 0, b"x" * 1000)
    await closed(mounted, made.fh)
    assert sum(share.calls.values()) - before == 2
    assert bytes(share.node("f").data) == b"x" * 1000


async def test_a_large_file_goes_in_large_requests_several_at_once(mount: Mount) -> None:
    share = granting()
    share.add("f")
    share.delays["write"] = 0.01
    mounted = await mount(share)
    fh = await opened(mounted, "f", os.O_WRONLY)
    content = os.urandom(16 * MIB)
    for offset in range(0, len(content), 128 * KIB):
        await mounted.fs.write(fh, offset, content[offset : offset + 128 * KIB])
    await closed(mounted, fh)
    assert bytes(share.node("f").data) == content
    assert len(share.writes) == 16
    assert share.most_in_flight == 16


async def test_small_writes_are_sent_together(mount: Mount) -> None:
    share = granting()
    mounted, fh = await with_open_file(mount, share)
    for line in range(1000):
        await mounted.fs.write(fh, line * 10, b"0123456789")
    await mounted.fs.fsync(fh, datasync=False)
    assert share.writes == [("f", 0, 10_000)]
    assert bytes(share.node("f").data) == b"0123456789" * 1000
    await closed(mounted, fh)


async def test_whole_requests_go_at_once_and_the_rest_after_a_short_time(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = granting()
    mounted, fh = await with_open_file(mount, share)
    await mounted.fs.write(fh, 0, b"a" * (MIB + 10))
    await wait_all_tasks_blocked()
    assert share.writes == [("f", 0, MIB)]
    await trio.sleep(GATHER_S + 0.1)
    assert share.writes == [("f", 0, MIB), ("f", MIB, 10)]
    await closed(mounted, fh)


async def test_no_more_waits_than_the_limit(mount: Mount) -> None:
    share = granting(limits=Limits(read=64 * KIB, write=64 * KIB, transact=MIB, in_flight=8))
    mounted, fh = await with_open_file(mount, share, cache=Cache(dirty_limit=MIB))
    taken = 0

    async def writer() -> None:
        nonlocal taken
        for offset in range(0, 3 * MIB, 4 * KIB):
            await mounted.fs.write(fh, offset, bytes([offset // MIB]) * 4 * KIB)
            taken += 4 * KIB

    async with trio.open_nursery() as nursery:
        with share.held("write"):
            nursery.start_soon(writer)
            await wait_all_tasks_blocked()
            assert MIB // 2 < taken <= MIB
    await closed(mounted, fh)
    assert bytes(share.node("f").data) == b"\0" * MIB + b"\1" * MIB + b"\2" * MIB


async def test_fsync_waits_for_what_was_written_before_it_alone(mount: Mount) -> None:
    share = granting()
    mounted, fh = await with_open_file(mount, share)
    await mounted.fs.write(fh, 0, b"before")
    synced = trio.Event()

    async def sync() -> None:
        await mounted.fs.fsync(fh, datasync=True)
        synced.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sync)
        while not synced.is_set():
            await mounted.fs.write(fh, 0, b"during")
            await trio.lowlevel.checkpoint()
    assert share.calls["flush"] == 1
    await closed(mounted, fh)
    assert bytes(share.node("f").data) == b"during"


async def test_fsync_asks_for_the_disk_only_if_anything_was_written(mount: Mount) -> None:
    share = granting()
    mounted, fh = await with_open_file(mount, share)
    for written in (True, False, False, True):
        if written:
            await mounted.fs.write(fh, 0, b"x")
        await mounted.fs.fsync(fh, datasync=False)
    assert share.calls["flush"] == 2
    lenient = await mount(share, cache=Cache(strict_sync=False))
    other = await opened(lenient, "f")
    await lenient.fs.write(other, 0, b"y")
    await lenient.fs.fsync(other, datasync=False)
    assert share.calls["flush"] == 2
    assert bytes(share.node("f").data) == b"y"


@pytest.mark.parametrize("refused_first", [False, True])
async def test_no_fsync_returns_before_the_disk_has_it(
    mount: Mount, nursery: trio.Nursery, refused_first: bool
) -> None:
    share = granting()
    mounted, fh = await with_open_file(mount, share)
    await mounted.fs.write(fh, 0, b"x")
    ended: list[str] = []

    async def sync() -> None:
        try:
            await mounted.fs.fsync(fh, datasync=False)
            ended.append("done")
        except NoSpace:
            ended.append("refused")

    if refused_first:
        share.fail("flush", NoSpace("full", status=DISK_FULL))
    with share.held("flush"):
        for _ in range(2):
            nursery.start_soon(sync)
        await wait_all_tasks_blocked()
        assert ended == []
        assert share.calls["flush"] == 1
    await wait_all_tasks_blocked()
    assert ended == (["refused", "done"] if refused_first else ["done", "done"])
    assert share.calls["flush"] == 1 + refused_first


async def test_what_is_written_during_an_fsync_is_the_next_ones(mount: Mount, nursery: trio.Nursery) -> None:
    share = granting()
    mounted, fh = await with_open_file(mount, share)
    await mounted.fs.write(fh, 0, b"x")
    with share.held("flush"):
        nursery.start_soon(mounted.fs.fsync, fh, False)
        await wait_all_tasks_blocked()
        await mounted.fs.write(fh, 0, b"y")
        await mounted.fs.flush(fh)
    await mounted.fs.fsync(fh, datasync=False)
    assert share.calls["flush"] == 2


# -- what does not


@pytest.mark.parametrize(
    "grants, flags, mode",
    [
        (Caching.NONE, os.O_RDWR, CacheMode.STRICT),
        (Caching.READ | Caching.HANDLE, os.O_RDWR, CacheMode.STRICT),
        (RWH, os.O_RDWR | os.O_DIRECT, CacheMode.STRICT),
        (RWH, os.O_RDWR | os.O_SYNC, CacheMode.STRICT),
        (RWH, os.O_RDWR, CacheMode.NONE),
    ],
)
async def test_a_write_that_may_not_wait_is_on_the_server_when_it_returns(
    mount: Mount, grants: Caching, flags: int, mode: CacheMode
) -> None:
    share = MemShare(grants=grants)
    share.add("f", b"0123456789")
    mounted = await mount(share, cache=Cache(mode=mode))
    fh = await opened(mounted, "f", flags)
    assert bytes(await mounted.fs.read(fh, 0, 10)) == b"0123456789"
    assert await mounted.fs.write(fh, 3, b"abc") == 3
    assert bytes(share.node("f").data) == b"012abc6789"
    assert bytes(await mounted.fs.read(fh, 0, 10)) == b"012abc6789"
    assert share.calls["flush"] == (1 if flags & os.O_SYNC == os.O_SYNC else 0)
    await closed(mounted, fh)


async def test_large_writes_go_through_in_parallel_pieces(mount: Mount) -> None:
    share = MemShare(limits=Limits(read=60 * KIB, write=60 * KIB, transact=MIB, in_flight=50))
    share.delays["write"] = 0.01
    mounted, fh = await with_open_file(mount, share)
    content = os.urandom(MIB)
    assert await mounted.fs.write(fh, 5, content) == MIB
    assert share.most_in_flight > 10
    assert bytes(share.node("f").data) == bytes(5) + content
    await closed(mounted, fh)


async def test_a_write_that_one_request_can_carry_is_never_seen_in_part(mount: Mount) -> None:
    share = MemShare(limits=Limits(read=64 * KIB, write=64 * KIB, transact=MIB, in_flight=50))
    mounted, fh = await with_open_file(mount, share)
    for offset in range(0, 10 * 64 * KIB, 32_000):  # two of these at once may be carried out the later one first
        await mounted.fs.write(fh, offset, b"x" * 32_000)
    assert share.writes == [("f", offset, 32_000) for offset in range(0, 10 * 64 * KIB, 32_000)]
    await closed(mounted, fh)


async def test_without_a_grant_the_kernels_pages_go_after_each_own_write_and_not_again(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = MemShare()
    mounted, fh = await with_open_file(mount, share, b"0123456789")
    ino = await mounted.ino("f")
    await mounted.fs.read(fh, 0, 10)
    await mounted.fs.write(fh, 0, b"x")
    assert mounted.kernel.inodes == [], "the kernel still holds the page that was written in part"
    await trio.sleep(0.1)
    assert mounted.kernel.inodes == [(ino, False)]
    await trio.sleep(1.5)
    await mounted.fs.getattr(ino)  # the server's new times are ours: nothing was read since
    assert mounted.kernel.inodes == [(ino, False)]
    assert bytes(await mounted.fs.read(fh, 0, 10)) == b"x123456789"
    share.write("f", b"foreign!!!")
    await trio.sleep(1.5)
    await mounted.fs.getattr(ino)
    assert mounted.kernel.inodes == [(ino, False), (ino, False)]
    assert bytes(await mounted.fs.read(fh, 0, 10)) == b"foreign!!!"
    await closed(mounted, fh)


async def test_the_kernels_pages_go_between_writes_and_never_while_one_is_not_answered(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = MemShare()
    share.delays["write"] = 0.005
    mounted, fh = await with_open_file(mount, share)
    for offset in range(500):  # for 2.5 s: some are dropped all the same
        await mounted.fs.write(fh, offset, b"x")
    assert len(mounted.kernel.inodes) == 2
    await trio.sleep(0.1)
    told = len(mounted.kernel.inodes)
    async with trio.open_nursery() as nursery:
        with share.held("write"):
            nursery.start_soon(mounted.fs.write, fh, 0, b"x")
            await trio.sleep(0.001)
            share.write("f", b"foreign")
            await trio.sleep(30)
            await mounted.fs.getattr(await mounted.ino("f"))  # finds other content, and the kernel may be waiting
            assert len(mounted.kernel.inodes) == told
    await trio.sleep(0.1)
    assert len(mounted.kernel.inodes) == told + 1
    await closed(mounted, fh)


async def test_what_was_read_between_an_own_write_and_the_next_version_is_not_trusted(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = MemShare()
    mounted, fh = await with_open_file(mount, share, b"0123456789")
    ino = await mounted.ino("f")
    await mounted.fs.write(fh, 0, b"x")
    assert bytes(await mounted.fs.read(fh, 0, 10)) == b"x123456789"
    share.write("f", b"foreign!!!")  # before anybody has asked for the version of our own write
    await trio.sleep(1.5)
    await mounted.fs.getattr(ino)
    assert bytes(await mounted.fs.read(fh, 0, 10)) == b"foreign!!!"
    assert mounted.kernel.inodes == [(ino, False), (ino, False)]
    await closed(mounted, fh)


async def test_under_a_grant_own_writes_leave_the_cache_alone(mount: Mount, autojump_clock: MockClock) -> None:
    share = granting()
    mounted, fh = await with_open_file(mount, share, bytes(4 * MIB))
    ino = await mounted.ino("f")
    for offset in range(0, 4 * MIB, 128 * KIB):
        await mounted.fs.read(fh, offset, 128 * KIB)
    asked = len(share.reads)
    await mounted.fs.write(fh, 2 * MIB + 100, b"x")
    await mounted.fs.fsync(fh, datasync=False)
    await trio.sleep(2)
    await mounted.fs.getattr(ino)
    assert bytes(await mounted.fs.read(fh, MIB, 128 * KIB)) == bytes(128 * KIB)
    assert len(share.reads) == asked
    assert bytes(await mounted.fs.read(fh, 2 * MIB + 99, 3)) == b"\0x\0"
    assert mounted.kernel.inodes == []
    await closed(mounted, fh)
    again = await mounted.fs.open(ino, os.O_RDONLY)
    assert again.keep_cache
    await mounted.fs.release(again.fh)


async def test_what_was_written_under_a_grant_is_read_back_without_asking(mount: Mount) -> None:
    share = granting()
    share.add("f")
    mounted = await mount(share)
    content = os.urandom(3 * MIB + 5000)
    fh = await opened(mounted, "f")
    for offset in range(0, len(content), 128 * KIB):
        await mounted.fs.write(fh, offset, content[offset : offset + 128 * KIB])
    await mounted.fs.fsync(fh, datasync=False)
    got = [bytes(await mounted.fs.read(fh, offset, 128 * KIB)) for offset in range(0, len(content), 128 * KIB)]
    assert b"".join(got) == content
    assert [(start, end) for _, start, end in share.reads] == [(3 * MIB, 5000)]  # too small for a block of its own
    held = mounted.fs.statistics().blocks.held
    assert 3 * MIB <= held < 4 * MIB
    await closed(mounted, fh)


async def test_two_clients_append_without_a_grant_and_lose_nothing(mount: Mount) -> None:
    share = MemShare()
    share.add("log")
    clients = [await mount(one) for one in (share, share.other_client())]
    handles = [await opened(client, "log", os.O_WRONLY | os.O_APPEND) for client in clients]
    for line in range(10):
        for number, (client, fh) in enumerate(zip(clients, handles, strict=True)):
            await client.fs.write(fh, 0, b"client %d line %d\n" % (number, line))
    expected = b"".join(b"client %d line %d\n" % (number, line) for line in range(10) for number in (0, 1))
    assert bytes(share.node("log").data) == expected


async def test_appends_under_a_grant_go_to_the_end_whatever_the_kernel_believes(mount: Mount) -> None:
    share = granting()
    share.add("log", b"head\n")
    mounted = await mount(share)
    first, second = [await opened(mounted, "log", os.O_WRONLY | os.O_APPEND) for _ in range(2)]
    for fh, line in ((first, b"one\n"), (second, b"two\n"), (first, b"three\n")):
        await mounted.fs.write(fh, 0, line)
    for fh in (first, second):
        await closed(mounted, fh)
    assert bytes(share.node("log").data) == b"head\none\ntwo\nthree\n"


async def test_a_handle_does_only_what_it_was_opened_for(mount: Mount) -> None:
    share = granting()
    share.add("f", b"text")
    mounted = await mount(share)
    reader, writer = await opened(mounted, "f", os.O_RDONLY), await opened(mounted, "f", os.O_WRONLY)
    with pytest.raises(SmbError) as unwritable:
        await mounted.fs.write(reader, 0, b"x")
    with pytest.raises(SmbError) as unreadable:
        await mounted.fs.read(writer, 0, 1)
    assert (unwritable.value.errno, unreadable.value.errno) == (errno.EBADF, errno.EBADF)
    await mounted.fs.flush(reader)
    for fh in (reader, writer):
        await closed(mounted, fh)
    calls: list[Awaitable[object]] = [mounted.fs.write(77, 0, b"x"), mounted.fs.flush(77), mounted.fs.fsync(77, True)]
    for call in calls:
        with pytest.raises(SmbError) as unknown:
            await call
        assert unknown.value.errno == errno.EBADF


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR])
@pytest.mark.parametrize(
    "grants, mode",
    [
        (RWH, CacheMode.STRICT),
        (Caching.READ, CacheMode.STRICT),
        (Caching.NONE, CacheMode.STRICT),
        (Caching.NONE, CacheMode.LOOSE),
    ],
)
async def test_a_create_that_finds_an_open_file_by_another_name_leaves_it_to_its_writers(
    mount: Mount, grants: Caching, mode: CacheMode, flags: int
) -> None:
    share = granting()
    share.grants = grants
    share.add("f", b"0123456789")
    share.disk.link("f", "g")
    mounted = await mount(share, cache=Cache(mode=mode))
    first = await opened(mounted, "f")
    await mounted.fs.write(first, 0, b"a")
    entry, found = await mounted.fs.create(1, b"g", 0o644, flags | os.O_CREAT, CALLER)
    assert entry.stat.ino == await mounted.ino("f")
    await mounted.fs.write(first, 1, b"b")
    if flags != os.O_RDONLY:
        await mounted.fs.write(found.fh, 2, b"c")
    assert bytes(await mounted.fs.read(found.fh, 0, 10)) == (b"ab23456789" if flags == os.O_RDONLY else b"abc3456789")
    await closed(mounted, found.fh)
    await mounted.fs.write(first, 3, b"d")
    await closed(mounted, first)
    assert bytes(share.node("g").data[:4]) == (b"ab2d" if flags == os.O_RDONLY else b"abcd")
    await wait_all_tasks_blocked(0.05)
    assert len([handle for handle in share.node("f").handles]) <= 1


async def test_a_file_that_may_not_be_read_is_written_all_the_same(mount: Mount) -> None:
    share = granting()
    share.add("f", b"secret")
    share.fail("open", Denied("no reading", status=ACCESS_DENIED))
    mounted = await mount(share)
    fh = await opened(mounted, "f", os.O_WRONLY)
    assert [intent.read for _, intent in share.opened] == [False]
    await mounted.fs.write(fh, 2, b"XX")
    await closed(mounted, fh)
    assert bytes(share.node("f").data) == b"seXXet"


async def test_an_open_to_read_and_write_that_is_refused_is_not_tried_otherwise(mount: Mount) -> None:
    share = granting()
    share.add("f")
    mounted = await mount(share)
    for flags, error in (
        (os.O_RDWR, Denied("no", status=ACCESS_DENIED)),
        (os.O_WRONLY, Denied("read-only", status=0xC00000A2, errno=errno.EROFS)),
    ):
        share.fail("open", error)
        before = share.calls["open"]
        with pytest.raises(Denied):
            await opened(mounted, "f", flags)
        assert share.calls["open"] == before + 1


# -- sizes


async def test_what_lies_between_is_zeros(mount: Mount) -> None:
    for share in (granting(), MemShare()):
        share.add("f", b"abc")
        mounted = await mount(share)
        fh = await opened(mounted, "f")
        await mounted.fs.write(fh, 10, b"xyz")
        assert bytes(await mounted.fs.read(fh, 0, 100)) == b"abc" + bytes(7) + b"xyz"
        assert (await mounted.find("f")).stat.size == 13
        assert bytes(await mounted.fs.read(fh, 5, 3)) == bytes(3)
        await closed(mounted, fh)
        assert bytes(share.node("f").data) == b"abc" + bytes(7) + b"xyz"


@pytest.mark.parametrize("grants", [RWH, Caching.NONE])
async def test_truncation_takes_its_turn_among_the_writes(mount: Mount, grants: Caching) -> None:
    share = MemShare(grants=grants)
    mounted, fh = await with_open_file(mount, share, b"0123456789")
    ino = await mounted.ino("f")
    await mounted.fs.write(fh, 8, b"abcdef")
    assert (await mounted.fs.setattr(ino, NewAttributes(size=9), fh)).stat.size == 9
    assert bytes(await mounted.fs.read(fh, 0, 100)) == b"01234567a"
    await mounted.fs.write(fh, 11, b"Z")
    assert bytes(await mounted.fs.read(fh, 0, 100)) == b"01234567a\0\0Z"
    assert (await mounted.fs.setattr(ino, NewAttributes(size=14), None)).stat.size == 14
    await closed(mounted, fh)
    assert bytes(share.node("f").data) == b"01234567a\0\0Z\0\0"


async def test_a_truncation_waits_for_writes_under_way_and_later_ones_wait_for_it(mount: Mount) -> None:
    share = granting()
    mounted, fh = await with_open_file(mount, share)
    ino = await mounted.ino("f")
    async with trio.open_nursery() as nursery:
        with share.held("change_open"):
            with share.held("write"):
                await mounted.fs.write(fh, 0, b"a" * 2 * MIB)
                nursery.start_soon(mounted.fs.setattr, ino, NewAttributes(size=5), fh)
                await wait_all_tasks_blocked()
                assert share.calls["change_open"] == 0
            await wait_all_tasks_blocked()
            assert share.calls["change_open"] == 1
            sent = share.calls["write"]
            await mounted.fs.write(fh, 0, b"b" * MIB)
            await wait_all_tasks_blocked()
            assert share.calls["write"] == sent
    await closed(mounted, fh)
    assert bytes(share.node("f").data) == b"b" * MIB


async def test_a_truncation_that_is_refused_loses_nothing(mount: Mount) -> None:
    share = granting()
    mounted, fh = await with_open_file(mount, share)
    ino = await mounted.ino("f")
    await mounted.fs.write(fh, 0, b"0123456789")
    share.fail("change_open", Denied("no", status=ACCESS_DENIED))
    with pytest.raises(Denied):
        await mounted.fs.setattr(ino, NewAttributes(size=5), fh)
    assert bytes(await mounted.fs.read(fh, 0, 100)) == b"0123456789"
    await closed(mounted, fh)
    assert bytes(share.node("f").data) == b"0123456789"


async def test_o_trunc_empties_a_closed_file_with_its_open_and_an_open_one_in_its_turn(mount: Mount) -> None:
    share = granting()
    share.add("f", b"old content")
    mounted = await mount(share)
    first = await opened(mounted, "f", os.O_WRONLY | os.O_TRUNC)
    assert bytes(share.node("f").data) == b""
    assert share.calls["change_open"] == 0
    await mounted.fs.write(first, 0, b"dirty")
    second = await mounted.fs.open(await mounted.ino("f"), os.O_RDWR | os.O_TRUNC)
    assert bytes(await mounted.fs.read(second.fh, 0, 100)) == b""
    await mounted.fs.write(second.fh, 0, b"new")
    for fh in (first, second.fh):
        await closed(mounted, fh)
    assert bytes(share.node("f").data) == b"new"


async def test_a_closed_file_is_cut_by_its_path(mount: Mount) -> None:
    share = MemShare()
    share.add("f", b"0123456789")
    mounted = await mount(share)
    ino = await mounted.ino("f")
    fh = await opened(mounted, "f", os.O_RDONLY)
    await mounted.fs.read(fh, 0, 10)
    assert (await mounted.fs.setattr(ino, NewAttributes(size=4), None)).stat.size == 4
    assert bytes(await mounted.fs.read(fh, 0, 10)) == b"0123"
    await mounted.fs.release(fh)
    assert (await mounted.fs.setattr(ino, NewAttributes(size=6), None)).stat.size == 6
    assert await mounted.read_all("f") == b"0123\0\0"


# -- times


async def test_the_time_of_a_write_is_shown_at_once_and_stays_when_the_file_is_closed(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = granting()
    mounted, fh = await with_open_file(mount, share, b"x")
    await mounted.fs.write(fh, 0, b"y")
    shown = (await mounted.find("f")).stat.mtime_ns
    assert shown % 100 == 0
    await closed(mounted, fh)
    await trio.sleep(5)
    assert share.node("f").written_ns == shown
    assert (await mounted.find("f")).stat.mtime_ns == shown
    assert share.open_files == 0


async def test_a_small_file_whose_time_nobody_asked_for_is_just_closed(mount: Mount, autojump_clock: MockClock) -> None:
    share = granting()
    mounted, fh = await with_open_file(mount, share)
    await mounted.fs.write(fh, 0, b"y")
    await closed(mounted, fh)
    await trio.sleep(0.1)
    assert share.open_files == 0
    assert share.calls["change_open"] == share.calls["refresh"] == 0
    assert (await mounted.find("f")).stat.mtime_ns == share.node("f").written_ns


async def test_a_time_that_was_set_is_not_moved_by_the_close(mount: Mount, autojump_clock: MockClock) -> None:
    share = granting()
    mounted, fh = await with_open_file(mount, share)
    ino = await mounted.ino("f")
    await mounted.fs.write(fh, 0, b"y" * (FIRST_BYTES + 1))
    await mounted.fs.getattr(ino)
    entry = await mounted.fs.setattr(ino, NewAttributes(mtime_ns=1_000_000_000), fh)
    assert entry.stat.mtime_ns == 1_000_000_000
    await closed(mounted, fh)
    await trio.sleep(5)
    assert share.node("f").written_ns == 1_000_000_000
    assert (await mounted.find("f")).stat.mtime_ns == 1_000_000_000


async def test_a_time_that_was_shown_stays_through_a_rename_right_after_the_close(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = granting()
    mounted = await mount(share)
    made, opened_file = await mounted.fs.create(1, b"f~", 0o644, os.O_WRONLY | os.O_CREAT, CALLER)
    await mounted.fs.write(opened_file.fh, 0, b"saved")
    shown = (await mounted.fs.getattr(made.stat.ino)).stat.mtime_ns
    await closed(mounted, opened_file.fh)
    await mounted.fs.rename(1, b"f~", 1, b"f", 0)
    assert (await mounted.find("f")).stat.mtime_ns == shown
    await trio.sleep(5)
    assert share.node("f").written_ns == shown == (await mounted.find("f")).stat.mtime_ns
    assert share.calls["change_open"] == 1


async def test_a_file_that_others_still_read_gets_its_time_with_the_last_writers_close(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = granting()
    share.add("f", b"text")
    mounted = await mount(share)
    reader, writer = await opened(mounted, "f", os.O_RDONLY), await opened(mounted, "f")
    await mounted.fs.write(writer, 0, b"T")
    await closed(mounted, writer)
    await wait_all_tasks_blocked()
    written = share.node("f").written_ns
    assert (await mounted.find("f")).stat.mtime_ns == written
    await mounted.fs.release(reader)
    await trio.sleep(5)
    assert share.open_files == 0
    assert share.node("f").written_ns == written == (await mounted.find("f")).stat.mtime_ns


@pytest.mark.parametrize("dated", [False, True])
async def test_a_large_file_that_was_written_here_keeps_its_pages(
    mount: Mount, autojump_clock: MockClock, dated: bool
) -> None:
    share = granting()
    mounted, fh = await with_open_file(mount, share)
    ino = await mounted.ino("f")
    await mounted.fs.write(fh, 0, bytes(FIRST_BYTES + 1))
    if dated:
        await mounted.fs.setattr(ino, NewAttributes(mtime_ns=1_000_000_000), fh)
    await closed(mounted, fh)
    await trio.sleep(5)
    assert share.open_files == 0
    again = await mounted.fs.open(ino, os.O_RDONLY)
    assert again.keep_cache
    await mounted.fs.release(again.fh)


# -- the end of a file


async def test_a_handle_is_kept_while_a_grant_allows_it_and_opened_again_without_asking(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = granting()
    share.add("f", b"text")
    mounted = await mount(share)
    for _ in range(3):
        assert await mounted.read_all("f") == b"text"
        await trio.sleep(0.3)
    assert share.calls["open"] == 1
    await trio.sleep(1)
    assert share.open_files == 0
    assert mounted.fs.statistics().inodes == 2


async def test_a_file_that_is_wanted_all_the_time_is_opened_anew_now_and_then(
    mount: Mount, autojump_clock: MockClock
) -> None:
    """What programs on the server itself did to it shows only then."""
    share = granting()
    share.add("f", b"text")
    mounted = await mount(share)
    for _ in range(12):
        assert await mounted.read_all("f") == b"text"
        await trio.sleep(0.25)
    assert share.calls["open"] == 3


async def test_handles_that_share_no_deletion_are_not_kept(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare(grants=Caching.READ)
    share.add("f", b"text")
    mounted = await mount(share)
    await mounted.read_all("f")
    await wait_all_tasks_blocked()
    assert share.open_files == 0


async def test_a_removed_file_is_still_written_by_who_has_it_open(mount: Mount) -> None:
    share = granting()
    mounted, fh = await with_open_file(mount, share, b"0123456789")
    await mounted.fs.write(fh, 0, b"abc")
    node = share.node("f")
    await mounted.fs.unlink(1, b"f")
    await mounted.fs.write(fh, 3, b"def")
    assert bytes(await mounted.fs.read(fh, 0, 100)) == b"abcdef6789"
    await closed(mounted, fh)
    assert bytes(node.data) == b"abcdef6789"


async def test_pages_written_after_the_last_flush_are_waited_for_by_release(mount: Mount) -> None:
    share = granting()
    mounted, fh = await with_open_file(mount, share, bytes(10))
    await mounted.fs.flush(fh)
    await mounted.fs.write(fh, 0, b"mapped")
    await mounted.fs.release(fh)
    assert bytes(share.node("f").data) == b"mapped" + bytes(4)


async def test_everything_is_written_before_the_end(mount: Mount) -> None:
    share = granting()
    mounted = await mount(share)
    for number in range(20):
        share.add(f"f{number}")
        fh = await opened(mounted, f"f{number}")
        await mounted.fs.write(fh, 0, b"%d" % number)
    assert share.calls["write"] == 0
    assert await mounted.fs.drain(trio.current_time() + 5) == []
    assert [bytes(share.node(f"f{number}").data) for number in range(20)] == [b"%d" % number for number in range(20)]


async def test_what_cannot_be_saved_by_the_deadline_is_named(mount: Mount, autojump_clock: MockClock) -> None:
    share = granting()
    share.add("d/f")
    mounted = await mount(share)
    fh = await opened(mounted, "d/f")
    await mounted.fs.write(fh, 5, b"lost")
    await mounted.fs.write(fh, 100, b"too")
    with share.held("write"):
        unsaved = await mounted.fs.drain(trio.current_time() + 2)
    assert [(one.path, one.offset, one.length) for one in unsaved] == [("d/f", 5, 4), ("d/f", 100, 3)]
    assert {one.reason for one in unsaved} == {"no answer in time"}
    await closed(mounted, fh)


async def test_what_is_given_up_while_the_rest_is_saved_is_named_too(
    mount: Mount, nursery: trio.Nursery, autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("bytes at offset")
    share = granting()
    for name in ("d/closed", "open"):
        share.add(name)
    mounted = await mount(share)
    closing, staying = await opened(mounted, "d/closed"), await opened(mounted, "open")
    await mounted.fs.write(closing, 0, b"lost")
    await mounted.fs.write(staying, 0, b"saved")
    share.fail("write", NoSpace("disk full", status=DISK_FULL), path="d/closed", times=10)
    with share.held("change_open"):  # of the time of the one that is open
        with share.held("write"):
            nursery.start_soon(mounted.fs.release, closing)
            await wait_all_tasks_blocked()
            unsaved: list[Unsaved] = []

            async def drain() -> None:
                unsaved.extend(await mounted.fs.drain(trio.current_time() + 5))

            nursery.start_soon(drain)
            await wait_all_tasks_blocked()
        await trio.sleep(10)
    expected = Unsaved("d/closed", 0, 4, "disk full")
    assert unsaved == [expected]
    assert list(await mounted.fs.drain(trio.current_time())) == [expected]  # whoever asks once more
    assert bytes(share.node("open").data) == b"saved"
    await closed(mounted, staying)


# -- errors


async def test_each_fsync_and_close_tries_again_and_tells_how_that_ended(
    mount: Mount, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("bytes at offset")
    share = granting()
    share.add("f")
    mounted = await mount(share)
    first, second = await opened(mounted, "f"), await opened(mounted, "f")
    await mounted.fs.write(first, 0, b"0123456789")
    share.fail("write", NoSpace("disk full", status=DISK_FULL), times=4)
    sync: list[Awaitable[None]] = [mounted.fs.fsync(fh, datasync=False) for fh in (first, first, second)]
    for attempt, call in enumerate([*sync, mounted.fs.flush(first)], 1):
        with pytest.raises(NoSpace):
            await call
        assert share.calls["write"] == attempt
    assert bytes(await mounted.fs.read(first, 0, 100)) == b"0123456789"
    assert (await mounted.find("f")).stat.size == 10
    await closed(mounted, first)
    assert bytes(share.node("f").data) == b"0123456789"
    # It had not heard of the last failure; but nothing is lost.
    assert await mounted.fs.write(second, 10, b"X") == 1
    await closed(mounted, second)
    assert bytes(share.node("f").data) == b"0123456789X"


async def test_who_may_only_read_is_told_by_fsync_and_not_by_close(
    mount: Mount, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("bytes at offset")
    share = granting()
    share.add("f")
    mounted = await mount(share)
    writer, reader = await opened(mounted, "f"), await opened(mounted, "f", os.O_RDONLY)
    await mounted.fs.write(writer, 0, b"0123456789")
    share.fail("write", NoSpace("disk full", status=DISK_FULL))
    with pytest.raises(NoSpace):
        await mounted.fs.fsync(reader, datasync=False)
    await closed(mounted, reader)
    await closed(mounted, writer)
    assert bytes(share.node("f").data) == b"0123456789"


async def test_a_write_tells_each_handle_of_a_failure_once(
    mount: Mount, expected_warnings: ExpectedWarnings, autojump_clock: MockClock
) -> None:
    expected_warnings("bytes at offset")
    share = granting()
    share.add("f")
    mounted = await mount(share)
    first, second = await opened(mounted, "f"), await opened(mounted, "f")
    share.fail("write", NoSpace("disk full", status=DISK_FULL), times=2)
    await mounted.fs.write(first, 0, bytes(MIB + 10))
    await wait_all_tasks_blocked()
    with pytest.raises(NoSpace):
        await mounted.fs.write(first, 0, b"not taken")
    await trio.sleep(GATHER_S + 0.1)  # the rest of what waited is refused too
    assert share.calls["write"] == 2
    assert await mounted.fs.write(first, 0, b"told once") == 9
    with pytest.raises(NoSpace):
        await mounted.fs.write(second, 0, b"not taken")
    assert await mounted.fs.write(second, 0, b"TOLD ONCE") == 9
    for fh in (first, second):
        await closed(mounted, fh)
    assert bytes(share.node("f").data) == b"TOLD ONCE" + bytes(MIB + 1)


async def test_fsync_tells_of_refused_bytes_that_waited_for_newer_ones_to_be_refused(
    mount: Mount, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("bytes at offset")
    share = granting()
    mounted, fh = await with_open_file(mount, share)
    await mounted.fs.write(fh, 0, b"older")
    share.fail("write", NoSpace("disk full", status=DISK_FULL), times=2)
    with pytest.raises(NoSpace):
        await mounted.fs.fsync(fh, datasync=False)

    async def write() -> None:
        with pytest.raises(NoSpace):
            await mounted.fs.write(fh, 0, b"newer")

    async def sync() -> None:
        with pytest.raises(NoSpace):
            await mounted.fs.fsync(fh, datasync=False)

    async with trio.open_nursery() as nursery:
        with share.held("write"):
            nursery.start_soon(write)
            await wait_all_tasks_blocked()
            nursery.start_soon(sync)
            await wait_all_tasks_blocked()
    assert bytes(share.node("f").data) == b""
    await closed(mounted, fh)
    assert bytes(share.node("f").data) == b"older"


async def test_the_log_names_what_is_lost_once_for_each_cause(
    mount: Mount, expected_warnings: ExpectedWarnings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "smbfuse.vfs")
    expected_warnings("bytes at offset")
    share = granting()
    mounted, fh = await with_open_file(mount, share)
    full = NoSpace("disk full", status=DISK_FULL)
    quota = NoSpace("over quota", status=0xC0000044, errno=errno.EDQUOT)

    async def refused_sync(error: SmbError, times: int) -> None:
        share.fail("write", error, times=times)
        with pytest.raises(NoSpace):
            await mounted.fs.fsync(fh, datasync=False)

    def said() -> list[str]:
        lines = [record.getMessage() for record in caplog.records if "file='f'" in record.getMessage()]
        caplog.clear()
        return lines

    await mounted.fs.write(fh, 0, bytes(3 * MIB + 10))
    await mounted.fs.write(fh, 5 * MIB, b"far away")
    await refused_sync(full, 5)
    assert said() == [
        f"file='f' {3 * MIB + 10} bytes at offset 0 are not on the server: disk full",
        f"file='f' 8 bytes at offset {5 * MIB} are not on the server: disk full",
    ]
    await refused_sync(full, 5)
    await refused_sync(full, 2)  # three of five requests are saved; what is not was said
    assert said() == []
    await refused_sync(quota, 2)
    # Which two of the requests were refused, nobody knows: one range, or two.
    assert {line.rpartition(": ")[2] for line in said()} == {"over quota"}
    await refused_sync(full, 2)
    await refused_sync(quota, 2)
    assert said() == []
    await mounted.fs.fsync(fh, datasync=False)
    assert said() == ["file='f' nothing of it is missing on the server any longer"]
    await mounted.fs.write(fh, 0, b"again")
    await refused_sync(full, 1)
    assert said() == ["file='f' 5 bytes at offset 0 are not on the server: disk full"]
    await closed(mounted, fh)


async def test_while_writes_are_refused_each_is_told_its_own_fate(
    mount: Mount, expected_warnings: ExpectedWarnings, caplog: pytest.LogCaptureFixture
) -> None:
    expected_warnings("bytes at offset")
    share = granting()
    mounted, fh = await with_open_file(mount, share)
    await mounted.fs.write(fh, 0, b"aaaaa")
    share.fail("write", NoSpace("disk full", status=DISK_FULL), times=2)
    with pytest.raises(NoSpace):
        await mounted.fs.fsync(fh, datasync=False)
    with pytest.raises(NoSpace):
        await mounted.fs.write(fh, 100, b"bbbbb")
    assert await mounted.fs.write(fh, 200, b"ccccc") == 5  # another range goes on
    assert bytes(share.node("f").data) == bytes(200) + b"ccccc"
    await mounted.fs.fsync(fh, datasync=False)
    assert bytes(share.node("f").data) == b"aaaaa" + bytes(195) + b"ccccc"
    await closed(mounted, fh)
    assert len(refused(caplog)) == 1


async def test_refused_bytes_are_given_up_with_the_last_close_and_named(
    mount: Mount, expected_warnings: ExpectedWarnings, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    expected_warnings("bytes at offset")
    share = granting()
    mounted, fh = await with_open_file(mount, share)
    await mounted.fs.write(fh, 0, b"0123456789")
    share.fail("write", NoSpace("quota", status=0xC0000044, errno=errno.EDQUOT), times=10)
    with pytest.raises(NoSpace) as told:
        await mounted.fs.flush(fh)
    assert told.value.errno == errno.EDQUOT
    await mounted.fs.release(fh)
    await trio.sleep(5)
    assert refused(caplog) == [
        "file='f' 10 bytes at offset 0 are not on the server: quota",
        "file='f' 10 bytes at offset 0 are given up, the file is closed: quota",
    ]
    assert share.calls["write"] == 1  # nobody could have been told how another attempt ended
    assert share.open_files == 0
    assert await mounted.fs.drain(trio.current_time() + 1) == []
    assert (await mounted.find("f")).stat.size == 0


async def test_bytes_lost_with_a_removed_file_are_told_to_its_program_and_alarm_nobody(
    mount: Mount, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level("INFO")
    share = granting()
    mounted, fh = await with_open_file(mount, share)
    await mounted.fs.write(fh, 0, b"0123456789")
    share.fail("write", Orphaned("it was removed", status=0xC0000128), times=10)
    with pytest.raises(Orphaned):
        await mounted.fs.flush(fh)
    await mounted.fs.release(fh)
    await trio.sleep(5)
    said = [(record.levelname, record.getMessage()) for record in caplog.records if "10 bytes" in record.getMessage()]
    assert said == [
        ("INFO", "file='f' 10 bytes at offset 0 are not on the server: it was removed"),
        ("INFO", "file='f' 10 bytes at offset 0 are given up, the file is closed: it was removed"),
    ]
    assert await mounted.fs.drain(trio.current_time() + 1) == []


async def test_a_large_write_through_that_fails_half_way_is_short(
    mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = MemShare(limits=Limits(read=64 * KIB, write=64 * KIB, transact=MIB, in_flight=8))
    mounted, fh = await with_open_file(mount, share)
    content = os.urandom(4 * 64 * KIB)
    write = MemFile.write

    async def write_up_to_the_third(self: MemFile, offset: int, data: Sequence[Buffer]) -> int:
        if offset == 128 * KIB:
            raise NoSpace("full", status=DISK_FULL)
        return await write(self, offset, data)

    monkeypatch.setattr(MemFile, "write", write_up_to_the_third)
    assert await mounted.fs.write(fh, 0, content) == 128 * KIB
    assert bytes(share.node("f").data)[: 128 * KIB] == content[: 128 * KIB]
    with pytest.raises(NoSpace):
        await mounted.fs.write(fh, 128 * KIB, content[128 * KIB :])
    await closed(mounted, fh)


async def test_a_server_that_takes_a_part_is_given_the_rest(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    share = granting()
    mounted, fh = await with_open_file(mount, share)
    write = MemFile.write

    async def write_a_little(self: MemFile, offset: int, data: Sequence[Buffer]) -> int:
        return await write(self, offset, [b"".join(data)[:7]])

    monkeypatch.setattr(MemFile, "write", write_a_little)
    content = os.urandom(100)
    for offset in range(0, 100, 10):
        await mounted.fs.write(fh, offset, content[offset : offset + 10])
    await closed(mounted, fh)
    assert bytes(share.node("f").data) == content
    assert len(share.writes) == 15


async def test_a_cancelled_writer_leaves_the_order_of_the_file(mount: Mount) -> None:
    share = MemShare()
    mounted, fh = await with_open_file(mount, share, bytes(10))
    async with trio.open_nursery() as nursery:
        with share.held("write"):
            with trio.move_on_after(0.01):
                await mounted.fs.write(fh, 0, b"first")
            nursery.start_soon(mounted.fs.write, fh, 0, b"SECOND")
            await wait_all_tasks_blocked()
            assert share.calls["write"] == 1  # the second waits for the first, whoever waits for that
    assert bytes(share.node("f").data) == b"SECOND" + bytes(4)
    await closed(mounted, fh)


async def test_what_a_cancelled_writer_had_sent_is_read_when_it_arrives(mount: Mount) -> None:
    share = MemShare(grants=Caching.READ, features=Features.COMPOUND)  # so that a write goes through, and is covered
    mounted, fh = await with_open_file(mount, share, b"before")
    async with trio.open_nursery() as nursery:
        with share.held("write"):
            nursery.start_soon(mounted.fs.write, fh, 3, b"longer than before")
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    await wait_all_tasks_blocked()
    assert bytes(share.node("f").data) == b"beflonger than before"
    assert bytes(await mounted.fs.read(fh, 0, 100)) == b"beflonger than before"
    assert (await mounted.fs.getattr((await mounted.fs.lookup(1, b"f")).stat.ino)).stat.size == 21
    await closed(mounted, fh)


async def test_change_by_path_is_used_where_nothing_is_open_to_write(mount: Mount) -> None:
    share = granting()
    share.add("f", b"text")
    mounted = await mount(share)
    ino = await mounted.ino("f")
    fh = await opened(mounted, "f", os.O_RDONLY)
    await mounted.fs.setattr(ino, NewAttributes(mtime_ns=5_000_000_000), None)
    assert (share.calls["change"], share.calls["change_open"]) == (1, 0)
    await mounted.fs.release(fh)


async def test_loose_lets_writes_wait_without_a_grant(mount: Mount) -> None:
    share = MemShare()
    share.add("f", b"0123456789")
    mounted = await mount(share, cache=Cache(mode=CacheMode.LOOSE))
    opened_file = await mounted.fs.open(await mounted.ino("f"), os.O_WRONLY | os.O_APPEND)
    assert not opened_file.direct_io
    fh = opened_file.fh
    await mounted.fs.write(fh, 0, b"ab")  # where the kernel puts it, whatever the flags say
    assert share.calls["write"] == 0
    assert bytes(await mounted.fs.read(fh, 0, 4)) == b"ab23"  # to fill a page
    await closed(mounted, fh)
    assert bytes(share.node("f").data) == b"ab23456789"
    assert mounted.kernel.inodes == []


async def test_loose_is_direct_for_a_file_that_may_not_be_read(mount: Mount) -> None:
    share = MemShare()
    share.add("f", b"0123456789")
    share.fail("open", Denied("no reading", status=ACCESS_DENIED))
    mounted = await mount(share, cache=Cache(mode=CacheMode.LOOSE))
    assert (await mounted.fs.open(await mounted.ino("f"), os.O_WRONLY)).direct_io
