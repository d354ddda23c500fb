"""chmod, chown, utimes and truncate: what reaches the server, and what is shown, by server and by policy."""

import errno
import os
import stat as modes

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from smbfuse.config import Cache, CacheMode, ModeChanges, View
from smbfuse.errors import SmbError
from smbfuse.share import Attributes, Caching, Change, Features, FileStat, GrantHolder
from smbfuse.status import NtStatus, error
from smbfuse.vfs.posix import NewAttributes
from tests.support.mem_grants import EVERYTHING
from tests.support.mem_share import MemShare
from tests.vfs.mounted import Mount
from tests.vfs.test_changes import CALLER, make, refusal
from tests.vfs.test_removal import answers_late

PAST = 1_234_567_890_123_456_789
CUT = 1_234_567_890_123_456_700  # to the server's steps of 100 ns


def view(policy: ModeChanges) -> View:
    return View(uid=1000, gid=1000, mode_changes=policy)


# -- times


async def test_times_are_cut_to_the_steps_of_the_server(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    share.add("f")
    mounted = await mount(share)
    ino = await mounted.ino("f")
    entry = await mounted.fs.setattr(ino, NewAttributes(atime_ns=PAST, mtime_ns=PAST + 100), None)
    assert (entry.stat.atime_ns, entry.stat.mtime_ns) == (CUT, CUT + 100)
    assert (share.node("f").accessed_ns, share.node("f").written_ns) == (CUT, CUT + 100)
    await trio.sleep(2)
    assert (await mounted.fs.getattr(ino)).stat.mtime_ns == CUT + 100


async def test_times_before_1970(mount: Mount) -> None:
    share = MemShare()
    share.add("f")
    mounted = await mount(share)
    entry = await mounted.fs.setattr(await mounted.ino("f"), NewAttributes(mtime_ns=-1_500_000_050), None)
    assert entry.stat.mtime_ns == share.node("f").written_ns == -1_500_000_100


async def test_one_time_leaves_the_other(mount: Mount) -> None:
    share = MemShare()
    node = share.add("f")
    mounted = await mount(share)
    written = node.written_ns
    entry = await mounted.fs.setattr(await mounted.ino("f"), NewAttributes(atime_ns=PAST), None)
    assert (entry.stat.atime_ns, entry.stat.mtime_ns) == (CUT, written)
    assert node.written_ns == written


async def test_a_creation_time_that_follows_the_others_makes_no_other_file(mount: Mount) -> None:
    """Samba gives the earliest of the other times, so that setting one moves it; the answer does not say so."""
    share = MemShare()
    node = share.add("d/f")
    node.created_ns = node.written_ns
    mounted = await mount(share)
    ino = await mounted.ino("d/f")
    opened = await mounted.fs.open(ino, os.O_RDWR)
    await mounted.fs.setattr(ino, NewAttributes(mtime_ns=PAST), opened.fh)
    node.accessed_ns = node.changed_ns
    node.created_ns = CUT
    for _ in range(2):
        assert await mounted.names("d") == [b".", b"..", b"f"]
        assert await mounted.ino("d/f") == ino
    await mounted.fs.release(opened.fh)


async def test_a_time_set_through_a_writer_outlasts_its_close(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    mounted = await mount(share)
    entry, opened = await mounted.fs.create(1, b"f", 0o644, os.O_WRONLY, CALLER)
    await mounted.fs.write(opened.fh, 0, b"bytes")
    after = await mounted.fs.setattr(entry.stat.ino, NewAttributes(mtime_ns=PAST), opened.fh)
    assert after.stat.mtime_ns == CUT
    await mounted.fs.flush(opened.fh)
    await mounted.fs.release(opened.fh)
    await trio.sleep(5)
    assert (await mounted.fs.getattr(entry.stat.ino)).stat.mtime_ns == share.node("f").written_ns == CUT


async def test_a_time_set_right_after_the_close_outlasts_the_one_that_the_close_gives(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = MemShare(grants=EVERYTHING)
    mounted = await mount(share)
    entry, opened = await mounted.fs.create(1, b"f", 0o644, os.O_WRONLY, CALLER)
    ino = entry.stat.ino
    await mounted.fs.write(opened.fh, 0, b"bytes")
    await mounted.fs.getattr(ino)  # the time of the write was shown: the close will have the server take it
    await mounted.fs.flush(opened.fh)
    share.delays["change_open"] = 0.1
    await mounted.fs.release(opened.fh)
    assert (await mounted.fs.setattr(ino, NewAttributes(mtime_ns=PAST), None)).stat.mtime_ns == CUT
    await trio.sleep(5)
    assert (await mounted.fs.getattr(ino)).stat.mtime_ns == share.node("f").written_ns == CUT


@pytest.mark.parametrize("ask", [False, True])
@pytest.mark.parametrize("grants", [Caching(0), EVERYTHING])
async def test_what_is_written_after_a_time_was_set_moves_it(
    mount: Mount, autojump_clock: MockClock, grants: Caching, ask: bool
) -> None:
    share = MemShare(grants=grants)  # the time of a write is the server's to tell: and by this handle it does not
    mounted = await mount(share)
    entry, opened = await mounted.fs.create(1, b"f", 0o644, os.O_WRONLY, CALLER)
    ino = entry.stat.ino
    await mounted.fs.setattr(ino, NewAttributes(mtime_ns=PAST), opened.fh)
    await mounted.fs.write(opened.fh, 0, b"bytes")
    if ask:
        assert (await mounted.fs.getattr(ino)).stat.mtime_ns > CUT
    await mounted.fs.flush(opened.fh)
    await mounted.fs.release(opened.fh)
    await trio.sleep(5)
    assert (await mounted.fs.getattr(ino)).stat.mtime_ns == share.node("f").written_ns > CUT


async def test_a_file_that_was_protected_is_not_cut_by_a_handle_from_before(mount: Mount) -> None:
    share = MemShare(grants=EVERYTHING, features=Features.POSIX)
    mounted = await mount(share)
    entry, opened = await mounted.fs.create(1, b"f", 0o644, os.O_WRONLY, CALLER)
    ino = entry.stat.ino
    await mounted.fs.write(opened.fh, 0, b"bytes")
    await mounted.fs.setattr(ino, NewAttributes(mode=0o444), None)
    share.fail("change", error(NtStatus.ACCESS_DENIED, "SET_INFO", "f"))
    with pytest.raises(SmbError) as refused:
        await mounted.fs.setattr(ino, NewAttributes(size=1), None)
    assert refused.value.errno == errno.EACCES
    await mounted.fs.setattr(ino, NewAttributes(size=2), opened.fh)
    assert share.node("f").data == b"by"
    await mounted.fs.release(opened.fh)


async def test_an_older_answer_does_not_bring_an_older_time_back(mount: Mount, nursery: trio.Nursery) -> None:
    share = MemShare()
    share.add("f")
    mounted = await mount(share, cache=Cache(mode=CacheMode.NONE))
    ino = await mounted.ino("f")
    shown = []

    async def stat() -> None:
        shown.append((await mounted.fs.getattr(ino)).stat.mtime_ns)

    before = share.told(share.node("f"))
    with share.held("stat"):
        nursery.start_soon(stat)
        await wait_all_tasks_blocked()
        await mounted.fs.setattr(ino, NewAttributes(mtime_ns=PAST), None)
        share.told = lambda node, *, listed=False: before  # type: ignore[method-assign]
    await wait_all_tasks_blocked()
    assert shown == [CUT]


# -- sizes


@pytest.mark.parametrize("size", [0, 3, 100])
async def test_a_size_open_or_not(mount: Mount, size: int) -> None:
    share = MemShare()
    share.add("f", b"bytes")
    mounted = await mount(share)
    ino = await mounted.ino("f")
    assert (await mounted.fs.setattr(ino, NewAttributes(size=size), None)).stat.size == size
    assert bytes(share.node("f").data) == b"bytes"[:size].ljust(size, b"\0")
    opened = await mounted.fs.open(ino, os.O_RDWR)
    assert (await mounted.fs.setattr(ino, NewAttributes(size=7), opened.fh)).stat.size == 7
    assert len(share.node("f").data) == 7
    await mounted.fs.release(opened.fh)


async def test_a_size_and_a_time_at_once(mount: Mount) -> None:
    share = MemShare()
    share.add("f", b"bytes")
    mounted = await mount(share)
    entry = await mounted.fs.setattr(await mounted.ino("f"), NewAttributes(size=1, mtime_ns=PAST), None)
    assert (entry.stat.size, entry.stat.mtime_ns) == (1, CUT)


# -- modes and owners


@pytest.mark.parametrize("policy", list(ModeChanges))
async def test_the_write_bits_are_the_attribute_readonly(mount: Mount, policy: ModeChanges) -> None:
    share = MemShare()
    share.add("f").attributes = Attributes.HIDDEN | Attributes.ARCHIVE
    mounted = await mount(share, view=view(policy))
    ino = await mounted.ino("f")
    entry = await mounted.fs.setattr(ino, NewAttributes(mode=0o555), None)
    assert modes.S_IMODE(entry.stat.mode) == 0o555
    assert share.node("f").attributes == Attributes.READONLY | Attributes.HIDDEN | Attributes.ARCHIVE
    entry = await mounted.fs.setattr(ino, NewAttributes(mode=0o755), None)
    assert modes.S_IMODE(entry.stat.mode) == 0o755
    assert share.node("f").attributes == Attributes.HIDDEN | Attributes.ARCHIVE


async def test_no_attribute_left_is_said_as_normal(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    share = MemShare()
    share.add("f").attributes = Attributes.READONLY
    mounted = await mount(share)
    sent = []
    change = share.change

    async def noted(path: str, new: Change, holder: GrantHolder | None = None) -> FileStat:
        sent.append(new.attributes)
        return await change(path, new, holder)

    monkeypatch.setattr(share, "change", noted)
    await mounted.fs.setattr(await mounted.ino("f"), NewAttributes(mode=0o644), None)
    assert sent == [Attributes.NORMAL]  # 0 would change nothing. [MS-FSCC] 2.4.7


async def test_a_mode_that_makes_no_difference_costs_nothing(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    share.add("f")
    mounted = await mount(share)
    ino = await mounted.ino("f")
    await wait_all_tasks_blocked()
    share.calls.clear()
    entry = await mounted.fs.setattr(ino, NewAttributes(mode=0o600), None)
    assert modes.S_IMODE(entry.stat.mode) == 0o755  # `quiet`
    assert share.calls.total() == 0
    await trio.sleep(2)
    share.node("f").attributes = Attributes.READONLY  # by somebody else
    await mounted.fs.setattr(ino, NewAttributes(mode=0o600), None)
    assert not share.node("f").attributes & Attributes.READONLY


async def test_a_folder_is_never_made_readonly(mount: Mount) -> None:
    share = MemShare()
    share.add_folder("d")
    mounted = await mount(share)
    await mounted.fs.setattr(await mounted.ino("d"), NewAttributes(mode=0o555), None)
    assert share.calls["change"] == 0


async def test_quiet_changes_of_owner_succeed(mount: Mount) -> None:
    share = MemShare()
    share.add("f")
    mounted = await mount(share)
    entry = await mounted.fs.setattr(await mounted.ino("f"), NewAttributes(uid=5, gid=6), None)
    assert (entry.stat.uid, entry.stat.gid, share.calls["change"]) == (1000, 1000, 0)


async def test_remembered_modes_and_owners_last_until_the_file_is_forgotten(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = MemShare()
    share.add("f")
    mounted = await mount(share, view=view(ModeChanges.REMEMBER))
    ino = await mounted.ino("f")
    await mounted.fs.setattr(ino, NewAttributes(mode=0o4711, uid=5), None)
    await mounted.fs.setattr(ino, NewAttributes(gid=6, mtime_ns=PAST), None)
    await trio.sleep(2)
    stat = (await mounted.fs.getattr(ino)).stat
    assert (modes.S_IMODE(stat.mode), stat.uid, stat.gid, stat.mtime_ns) == (0o4711, 5, 6, CUT)
    mounted.fs.forget([(ino, 1)])
    await trio.sleep(2)
    stat = (await mounted.find("f")).stat
    assert (modes.S_IMODE(stat.mode), stat.uid, stat.gid) == (0o755, 1000, 1000)


@pytest.mark.parametrize(
    "new", [NewAttributes(mode=0o600), NewAttributes(mode=0o4755), NewAttributes(uid=5), NewAttributes(gid=5)]
)
async def test_what_would_be_lost_is_refused(mount: Mount, new: NewAttributes) -> None:
    share = MemShare()
    share.add("f")
    mounted = await mount(share, view=view(ModeChanges.REFUSE))
    ino = await mounted.ino("f")
    with refusal(errno.EPERM):
        await mounted.fs.setattr(ino, new._replace(mtime_ns=PAST), None)
    assert share.calls["change"] == 0
    await mounted.fs.setattr(ino, NewAttributes(mode=0o755, uid=1000, gid=1000), None)


async def test_a_server_that_keeps_modes_and_owners(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare(features=Features.POSIX)
    share.add("f")
    mounted = await mount(share, view=view(ModeChanges.REFUSE))
    ino = await mounted.ino("f")
    await mounted.fs.setattr(ino, NewAttributes(mode=modes.S_IFREG | 0o4640, uid=5, gid=6), None)
    node = share.node("f")
    assert (node.mode, node.uid, node.gid, node.attributes & Attributes.READONLY) == (0o4640, 5, 6, 0)
    stat = (await mounted.fs.getattr(ino)).stat
    assert (modes.S_IMODE(stat.mode), stat.uid, stat.gid) == (0o4640, 5, 6)


# -- what goes wrong


async def test_a_refusal_is_told_and_nothing_is_believed(mount: Mount) -> None:
    share = MemShare()
    share.add("f")
    mounted = await mount(share)
    ino = await mounted.ino("f")
    share.fail("change", error(NtStatus.ACCESS_DENIED, "SET_INFO"))
    with refusal(errno.EACCES):
        await mounted.fs.setattr(ino, NewAttributes(mtime_ns=PAST), None)
    assert (await mounted.fs.getattr(ino)).stat.mtime_ns == share.node("f").written_ns != CUT


async def test_the_root_of_a_server_stays_as_it_is(mount: Mount) -> None:
    mounted = await mount(MemShare("one"), whole_server=True)
    with refusal(errno.EPERM):
        await mounted.fs.setattr(1, NewAttributes(mode=0o700), None)
    await mounted.fs.setattr(await mounted.ino("one"), NewAttributes(mtime_ns=PAST), None)


async def test_a_file_without_a_name(mount: Mount) -> None:
    share = MemShare()
    mounted = await mount(share)
    ino = await make(mounted, "f")
    opened = await mounted.fs.open(ino, os.O_RDWR)
    await mounted.fs.unlink(1, b"f")
    entry = await mounted.fs.setattr(ino, NewAttributes(mtime_ns=PAST, mode=0o600, size=9), opened.fh)
    assert (entry.stat.mtime_ns, entry.stat.size, entry.stat.nlink) == (CUT, 9, 0)
    await mounted.fs.release(opened.fh)


async def test_a_file_that_is_renamed_meanwhile(mount: Mount, nursery: trio.Nursery) -> None:
    share = MemShare()
    share.add("d/f")
    mounted = await mount(share)
    ino = await mounted.ino("d/f")
    with share.held("change"):
        nursery.start_soon(mounted.fs.setattr, ino, NewAttributes(mtime_ns=PAST), None)
        await wait_all_tasks_blocked()
        await mounted.fs.rename(1, b"d", 1, b"e", 0)
    await wait_all_tasks_blocked()
    assert share.node("e/f").written_ns == CUT


async def test_a_mode_that_is_compared_with_a_file_that_is_renamed_meanwhile(
    mount: Mount, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    share = MemShare()
    share.add("d/f")
    mounted = await mount(share)
    ino = await mounted.ino("d/f")
    await trio.sleep(2)  # the attributes are asked for again
    with share.held("stat"):
        nursery.start_soon(mounted.fs.setattr, ino, NewAttributes(mode=0o444), None)
        await wait_all_tasks_blocked()
        await mounted.fs.rename(1, b"d", 1, b"e", 0)
    await wait_all_tasks_blocked()
    assert share.node("e/f").attributes & Attributes.READONLY


async def test_a_change_that_finds_no_file_waits_for_a_rename_under_way(mount: Mount, nursery: trio.Nursery) -> None:
    share = MemShare()
    share.add("f")
    mounted = await mount(share)
    ino = await mounted.ino("f")
    renamed = answers_late(share, "rename")
    nursery.start_soon(mounted.fs.rename, 1, b"f", 1, b"g", 0)
    await wait_all_tasks_blocked()
    nursery.start_soon(mounted.fs.setattr, ino, NewAttributes(mtime_ns=PAST), None)
    await wait_all_tasks_blocked()
    renamed()
    await wait_all_tasks_blocked()
    assert share.node("g").written_ns == CUT


async def test_a_size_of_a_file_that_is_renamed_meanwhile(mount: Mount, nursery: trio.Nursery) -> None:
    share = MemShare()
    share.add("d/f")
    mounted = await mount(share)
    ino = await mounted.ino("d/f")
    with share.held("change"):
        nursery.start_soon(mounted.fs.setattr, ino, NewAttributes(size=5), None)
        await wait_all_tasks_blocked()
        await mounted.fs.rename(1, b"d", 1, b"e", 0)
    await wait_all_tasks_blocked()
    assert len(share.node("e/f").data) == 5
