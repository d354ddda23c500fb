"""Grants that the server takes back: what is done before the answer, and how long that may take."""

import os

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from smbfuse.config import Cache, CacheMode, View
from smbfuse.errors import Timeout
from smbfuse.share import Caching, Features, Kind, OpenIntent
from smbfuse.vfs.breaks import DATA_S, PAGES_S
from smbfuse.vfs.contested import MOMENT_S
from smbfuse.vfs.grants import Grant
from tests.conftest import ExpectedWarnings
from tests.support.mem_grants import PATIENCE_S
from tests.support.mem_share import MemShare
from tests.support.mem_source import MemSource
from tests.vfs.mounted import KernelLog, Mount, Mounted, closed, opened, with_open_file

KIB, MIB = 1 << 10, 1 << 20
RWH = Caching.READ | Caching.WRITE | Caching.HANDLE
RH = Caching.READ | Caching.HANDLE
BELIEVING = Cache(attributes_s=60.0, directories_s=60.0)  # longer than any test: time limits help nobody


def granting(**options: object) -> MemShare:
    return MemShare(grants=RWH, features=Features.COMPOUND, **options)  # type: ignore[arg-type]


class StuckKernel(KernelLog):
    """A kernel that does not give up its pages until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.stuck = trio.Event()

    async def drop_pages(self, ino: int) -> None:
        await self.stuck.wait()
        self.inodes.append((ino, False))


async def test_another_client_reads_what_was_written_here_and_not_sent(mount: Mount) -> None:
    share = granting()
    mounted, fh = await with_open_file(mount, share, b"old")
    await mounted.fs.write(fh, 0, b"new content")
    other = await mount(share.other_client())
    assert await other.read_all("f") == b"new content"
    # From now on nothing waits, and nothing is lost.
    await mounted.fs.write(fh, 0, b"NEW")
    assert await other.read_all("f") == b"NEW content"
    await closed(mounted, fh)


async def test_what_another_client_writes_is_read_here_at_once(mount: Mount) -> None:
    share = granting()
    share.add("f", b"0123456789")
    mounted = await mount(share)
    ino = await mounted.ino("f")
    fh = await opened(mounted, "f", os.O_RDONLY)
    assert bytes(await mounted.fs.read(fh, 0, 100)) == b"0123456789"
    other = await mount(share.other_client())
    theirs = await opened(other, "f")
    await other.fs.write(theirs, 0, b"THEIRS, and longer")
    await other.fs.fsync(theirs, datasync=False)
    await wait_all_tasks_blocked()
    assert (ino, False) in mounted.kernel.inodes
    assert (await mounted.fs.getattr(ino)).stat.size == 18
    assert bytes(await mounted.fs.read(fh, 0, 100)) == b"THEIRS, and longer"
    await mounted.fs.release(fh)
    await closed(other, theirs)


async def test_the_answer_comes_after_the_data(mount: Mount) -> None:
    share = granting()
    mounted, fh = await with_open_file(mount, share)
    await mounted.fs.write(fh, 0, bytes(3 * MIB + 5))
    with share.held("write"):
        grant = share.break_grant("f", RH)
        await wait_all_tasks_blocked()
        assert grant.answers == []
    await wait_all_tasks_blocked()
    assert grant.answers == [RH]
    assert len(share.node("f").data) == 3 * MIB + 5
    assert mounted.kernel.inodes == []  # reading alone is still allowed to be kept
    await closed(mounted, fh)


async def test_a_kernel_that_keeps_its_pages_delays_the_answer_by_its_bound(autojump_clock: MockClock) -> None:
    share = granting()
    share.add("f", b"0123456789")
    async with trio.open_nursery() as nursery:
        mounted = Mounted(MemSource(share), Cache(), View())
        kernel = mounted.kernel = StuckKernel()
        mounted.fs = type(mounted.fs)(mounted.source, Cache(), View(), kernel)
        await nursery.start(mounted.fs.run)
        fh = await opened(mounted, "f")
        await mounted.fs.read(fh, 0, 10)
        began = trio.current_time()
        grant = share.break_grant("f")
        assert grant.answered is not None
        await grant.answered.wait()
        assert trio.current_time() - began == pytest.approx(PAGES_S)
        # Until the kernel has let go, nothing is kept.
        for _ in range(3):
            asked = len(share.reads)
            assert bytes(await mounted.fs.read(fh, 0, 10)) == b"0123456789"
            assert len(share.reads) == asked + 1
        kernel.stuck.set()
        await wait_all_tasks_blocked()
        await mounted.fs.getattr(await mounted.ino("f"))
        await mounted.fs.read(fh, 0, 10)
        asked = len(share.reads)
        assert bytes(await mounted.fs.read(fh, 0, 10)) == b"0123456789"
        assert len(share.reads) == asked
        await closed(mounted, fh)
        nursery.cancel_scope.cancel()


async def test_data_that_the_server_does_not_take_delays_the_answer_by_its_bound(
    mount: Mount, autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("another client waits")
    share = granting()
    mounted, fh = await with_open_file(mount, share)
    await mounted.fs.write(fh, 0, b"x")
    with share.held("write"):
        began = trio.current_time()
        grant = share.break_grant("f")
        assert grant.answered is not None
        await grant.answered.wait()
        assert DATA_S <= trio.current_time() - began < PATIENCE_S
    await closed(mounted, fh)
    assert bytes(share.node("f").data) == b"x"


async def test_a_handle_kept_for_nobody_is_closed_instead_of_an_answer(mount: Mount, autojump_clock: MockClock) -> None:
    share = granting()
    share.add("f", b"text")
    mounted = await mount(share, cache=Cache(close_timeout_s=60.0))
    await mounted.read_all("f")
    await trio.sleep(1)
    assert share.open_files == 1
    began = trio.current_time()
    await share.other_client().remove("f", (await share.stat("f")).kind)
    assert trio.current_time() - began < 0.1
    assert share.open_files == 0
    assert share.calls["acknowledge"] == 0
    assert await mounted.ino("f") in (0, 100)


async def test_a_break_of_what_is_about_to_be_closed_is_answered_by_the_close(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = granting()
    share.add("f", b"text")
    mounted = await mount(share, cache=Cache(close_timeout_s=0.0))
    ino = await mounted.ino("f")
    await mounted.fs.release(await opened(mounted, "f", os.O_RDONLY))
    await wait_all_tasks_blocked()
    assert share.open_files == 1  # closed with others in a moment
    node = mounted.fs._nodes.get(ino)
    mounted.fs.forget([(ino, 2)])
    share.break_grant("f")
    await wait_all_tasks_blocked()
    await trio.sleep(1)
    assert node.pins == share.open_files == share.calls["acknowledge"] == 0


async def test_what_is_about_to_be_closed_is_closed_before_it_is_opened_again(
    mount: Mount, autojump_clock: MockClock
) -> None:
    """Samba tells nothing new of a file while a handle is left, and who reopens all the time would always leave one."""
    share = granting()
    share.add("f", b"text")
    mounted = await mount(share, cache=Cache(close_timeout_s=0.0))
    await mounted.ino("f")
    for _ in range(3):
        fh = await opened(mounted, "f", os.O_RDONLY)
        assert share.open_files == 1
        await mounted.fs.release(fh)
        await wait_all_tasks_blocked()
        assert share.open_files == 1


async def test_what_another_client_removes_is_gone_at_once_where_it_takes_a_grant(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = MemShare(grants=RWH, features=Features.POSIX)  # a name goes at once, though the file is open
    share.add("f", b"text")
    mounted = await mount(share, cache=BELIEVING)
    fh = await opened(mounted, "f", os.O_RDONLY)
    await mounted.names()
    await share.other_client().remove("f", Kind.FILE)
    await wait_all_tasks_blocked()
    assert (1, b"f") in mounted.kernel.entries
    assert await mounted.ino("f") == 0
    assert b"f" not in await mounted.names()
    await mounted.fs.release(fh)


@pytest.mark.parametrize("remaining", [RH, Caching.READ, Caching.NONE])
async def test_for_a_moment_after_a_break_the_server_is_asked_each_time(
    mount: Mount, autojump_clock: MockClock, remaining: Caching
) -> None:
    """The break comes first, and what it is for afterwards: an answer in between is not to be believed."""
    share = MemShare(grants=RWH, features=Features.POSIX)  # a name goes at once, though the file is open
    share.add("f", b"text")
    mounted = await mount(share, cache=BELIEVING)
    fh = await opened(mounted, "f")
    assert (await mounted.find("f")).entry_timeout_s > 0
    with share.held("write"):
        await mounted.fs.write(fh, 0, b"T")
        share.break_grant("f", remaining)
        await trio.sleep(MOMENT_S + 1)  # the other client is kept waiting for the answer
    await wait_all_tasks_blocked()
    await mounted.names()
    for length in (10, 20):
        found = await mounted.find("f")
        assert (found.entry_timeout_s, found.attr_timeout_s) == (0.0, 0.0)
        share.write("f", bytes(length))
        assert (await mounted.fs.getattr(found.stat.ino)).stat.size == length
        assert (await mounted.find("f")).stat.size == length
    await share.other_client().remove("f", Kind.FILE)
    assert await mounted.ino("f") == 0
    await closed(mounted, fh)


async def test_after_that_moment_the_time_limits_hold_again(mount: Mount, autojump_clock: MockClock) -> None:
    share = granting()
    mounted, fh = await with_open_file(mount, share, b"text", cache=BELIEVING)
    share.break_grant("f")
    await trio.sleep(MOMENT_S + 0.1)
    found = await mounted.find("f")
    assert found.attr_timeout_s > 0
    asked = share.calls["stat"]
    assert (await mounted.fs.getattr(found.stat.ino)).stat.size == 4
    assert share.calls["stat"] == asked
    await closed(mounted, fh)


async def test_our_own_removal_and_renaming_do_not_wait_for_ourselves(mount: Mount, autojump_clock: MockClock) -> None:
    share = granting()
    share.add("f", b"text")
    share.add("g", b"more")
    mounted = await mount(share, cache=Cache(close_timeout_s=60.0))
    for name in ("f", "g"):
        await mounted.read_all(name)
    began = trio.current_time()
    await mounted.fs.rename(1, b"f", 1, b"h", 0)
    await mounted.fs.unlink(1, b"g")
    assert trio.current_time() == began
    assert share.calls["acknowledge"] == 0
    assert await mounted.read_all("h") == b"text"


async def test_a_break_that_overtakes_the_open_is_answered(mount: Mount) -> None:
    share = granting()
    mounted = await mount(share)
    opening = mounted.fs._files.prepare(os.O_RDWR, 0o644)
    share.add("f", b"text")
    node = mounted.fs._nodes.get(await mounted.ino("f"))
    server = await share.open("f", OpenIntent(write=True, holder=opening.grant, wanted=RWH))
    grant = share.break_grant("f")
    await wait_all_tasks_blocked()
    assert grant.answers == []
    fh = mounted.fs._files.adopt(node, share, server, opening).fh
    await wait_all_tasks_blocked()
    assert grant.answers == [Caching.NONE]
    await mounted.fs.write(fh, 0, b"T")
    assert bytes(share.node("f").data) == b"Text"
    await closed(mounted, fh)


def test_a_grant_without_a_listener_remembers_its_breaks() -> None:
    heard: list[object] = []

    class Listener:
        def broken(self, remaining: Caching, acknowledge: bool) -> None:
            heard.append((remaining, acknowledge))

        def lost(self) -> None:
            heard.append("lost")

        def regained(self) -> None:
            heard.append("regained")

    grant = Grant()
    assert len(grant.key) == 16
    assert grant.key != Grant().key
    grant.given(RWH)
    grant.broken(RH, acknowledge=True)
    grant.tell(Listener())
    grant.broken(Caching.NONE, acknowledge=False)
    assert heard == [(RH, True), (Caching.NONE, False)]
    assert grant.current is Caching.NONE
    grant.given(RH)
    grant.lost()
    assert (heard[-1], grant.current) == ("lost", Caching.NONE)


async def test_what_was_dirty_when_the_connection_ended_is_written_again(
    mount: Mount, expected_warnings: ExpectedWarnings
) -> None:
    """The share in memory does not open handles again, so the writer's is opened anew by another open."""
    expected_warnings("not on the server")
    share = granting()
    mounted, fh = await with_open_file(mount, share, b"0123456789", cache=Cache(attributes_s=0.0))
    await mounted.fs.write(fh, 0, b"abc")
    share.lose_connection()
    again = await opened(mounted, "f")
    assert bytes(await mounted.fs.read(again, 0, 100)) == b"abc3456789"
    share.fail("write", Timeout("no answer"))
    await mounted.fs.write(again, 3, b"d")
    with pytest.raises(Timeout):
        await mounted.fs.fsync(fh, datasync=False)
    await mounted.fs.fsync(again, datasync=False)  # tries again, and all is there
    for one in (fh, again):
        await closed(mounted, one)
    assert bytes(share.node("f").data) == b"abcd456789"


async def test_a_lost_connection_leaves_what_is_clean_to_be_compared(mount: Mount, autojump_clock: MockClock) -> None:
    share = granting()
    share.add("f", b"0123456789")
    mounted = await mount(share)
    ino = await mounted.ino("f")
    assert await mounted.read_all("f") == b"0123456789"
    share.lose_connection()
    await trio.sleep(1.5)
    assert share.open_files == 0
    assert (await mounted.fs.open(ino, os.O_RDONLY)).keep_cache
    assert (ino, True) in mounted.kernel.inodes
    share.lose_connection()
    share.write("f", b"changed...")
    await trio.sleep(1.5)
    assert not (await mounted.fs.open(ino, os.O_RDONLY)).keep_cache


async def test_under_a_grant_a_file_is_opened_again_without_asking_until_it_breaks(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = granting()
    share.add("f", b"text")
    mounted = await mount(share)
    ino = await mounted.ino("f")

    async def opens() -> int:
        before = share.calls["open"]
        await mounted.fs.release((await mounted.fs.open(ino, os.O_RDONLY)).fh)
        await wait_all_tasks_blocked()
        return share.calls["open"] - before

    fh = await opened(mounted, "f")
    await trio.sleep(100)
    assert await opens() == 0
    share.break_grant("f", RH)
    await trio.sleep(100)
    assert await opens() == 0
    share.break_grant("f")
    await trio.sleep(100)
    assert await opens() == 1
    await closed(mounted, fh)


@pytest.mark.parametrize("oplocks", [False, True])
async def test_reading_and_writing_opens_of_one_file_break_nothing_of_ours(mount: Mount, oplocks: bool) -> None:
    share = MemShare(grants=RWH, oplocks=oplocks)
    share.add("f", b"text")
    mounted = await mount(share)
    handles = [await opened(mounted, "f", flags) for flags in (os.O_RDONLY, os.O_RDWR, os.O_WRONLY, os.O_RDONLY)]
    assert share.open_files <= 2
    await mounted.fs.write(handles[1], 0, b"T")
    assert bytes(await mounted.fs.read(handles[0], 0, 4)) == b"Text"
    assert share.calls["acknowledge"] == 0
    for fh in handles:
        await closed(mounted, fh)
    assert bytes(share.node("f").data) == b"Text"


async def test_nothing_is_asked_for_without_a_cache(mount: Mount) -> None:
    share = granting()
    mounted, fh = await with_open_file(mount, share, cache=Cache(mode=CacheMode.NONE))
    assert [intent.holder for _, intent in share.opened] == [None]
    await closed(mounted, fh)


async def test_a_grant_may_end_when_the_filesystem_has(autojump_clock: MockClock) -> None:
    """The connections outlive it: what is open is given back by them."""
    share = granting()
    share.add("f", b"content")
    mounted = Mounted(MemSource(share), Cache(), View())
    async with trio.open_nursery() as nursery:
        await nursery.start(mounted.fs.run)
        await opened(mounted, "f")
        nursery.cancel_scope.cancel()
    with trio.move_on_after(PATIENCE_S + 1):
        await share.other_client().open("f", OpenIntent(write=True))
