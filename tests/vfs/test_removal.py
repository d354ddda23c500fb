"""Names that go: files that live on while they are open, folders, protected files; and nothing left behind."""

import errno
import logging
import os
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from smbfuse.config import Cache
from smbfuse.errors import SmbError
from smbfuse.share import Attributes, Caching, Change, Features, FileStat, GrantHolder, Kind
from smbfuse.status import NtStatus, error
from smbfuse.vfs.undoing import UNDO_S
from tests.support.mem_share import MemShare
from tests.vfs.mounted import Mount, Mounted
from tests.vfs.test_changes import CALLER, make, refusal


async def unlink(mounted: Mounted, path: str) -> None:
    above, _, name = path.rpartition("/")
    await mounted.fs.unlink(await mounted.ino(above), name.encode())


async def rmdir(mounted: Mounted, path: str) -> None:
    above, _, name = path.rpartition("/")
    await mounted.fs.rmdir(await mounted.ino(above), name.encode())


def hidden(share: MemShare) -> list[str]:
    return [name for name in share.root.children if name.startswith(".smbfuse-")]


async def test_a_file_is_removed_with_one_request(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    share.add("d/f")
    mounted = await mount(share)
    folder = await mounted.ino("d")
    await mounted.ino("d/f")
    share.calls.clear()
    await mounted.fs.unlink(folder, b"f")
    assert (share.calls["remove"], share.calls.total()) == (1, 1)
    assert (await mounted.fs.lookup(folder, b"f")).stat.ino == 0
    assert share.calls.total() == 1
    assert mounted.kernel.entries == []  # it knows


async def test_a_removed_name_is_gone_under_every_spelling(mount: Mount) -> None:
    share = MemShare()
    share.add("Name")
    mounted = await mount(share)
    for name in ("Name", "name", "NAME"):
        assert await mounted.ino(name)
    await unlink(mounted, "name")
    assert {name for _, name in mounted.kernel.entries} == {b"Name", b"NAME"}
    assert [await mounted.ino(name) for name in ("Name", "name", "NAME")] == [0, 0, 0]
    ino = await make(mounted, "NAME")
    assert [await mounted.ino(name) for name in ("Name", "name", "NAME")] == [ino, ino, ino]


async def test_what_is_not_there_and_what_is_no_file(mount: Mount) -> None:
    share = MemShare()
    share.add("d/f")
    mounted = await mount(share)
    with refusal(errno.ENOENT):
        await unlink(mounted, "none")
    with refusal(errno.ENOENT):
        await rmdir(mounted, "none")
    with refusal(errno.ENOTDIR):
        await rmdir(mounted, "d/f")
    with refusal(errno.ENOTEMPTY):
        await rmdir(mounted, "d")
    for name in (b".", b".."):
        with refusal(errno.EINVAL):
            await mounted.fs.unlink(1, name)
    assert await mounted.ino("d/f")


@pytest.mark.parametrize("posix", [Features.NONE, Features.POSIX])
async def test_an_open_file_lives_on_without_its_name(mount: Mount, posix: Features) -> None:
    share = MemShare(features=posix)
    share.add("d/f", b"old")
    mounted = await mount(share)
    ino = await mounted.ino("d/f")
    opened = await mounted.fs.open(ino, os.O_RDWR)
    await unlink(mounted, "d/f")
    assert await mounted.ino("d/f") == 0
    assert await mounted.names("d") == [b".", b".."]
    assert await mounted.names() == [b".", b"..", b"d"]
    other = await make(mounted, "d/f", b"another")
    assert other != ino
    await mounted.fs.write(opened.fh, 3, b"er")
    assert bytes(await mounted.fs.read(opened.fh, 0, 100)) == b"older"
    stat = (await mounted.fs.getattr(ino)).stat
    assert (stat.nlink, stat.size) == (0, 5)
    await mounted.fs.release(opened.fh)
    mounted.fs.forget([(ino, 1)])
    await wait_all_tasks_blocked(0.05)
    assert list(share.root.children) == ["d"]
    assert await mounted.read_all("d/f") == b"another"


async def test_a_folder_goes_whose_files_are_still_open(mount: Mount) -> None:
    share = MemShare()
    share.add("d/f", b"bytes")
    mounted = await mount(share)
    opened = await mounted.fs.open(await mounted.ino("d/f"), os.O_RDONLY)
    await unlink(mounted, "d/f")
    await rmdir(mounted, "d")
    assert await mounted.names() == [b".", b".."]
    assert bytes(await mounted.fs.read(opened.fh, 0, 100)) == b"bytes"
    await mounted.fs.release(opened.fh)


async def test_a_file_is_hidden_in_its_folder_where_the_root_takes_nothing(mount: Mount) -> None:
    share = MemShare()
    share.add("d/f")
    share.add("d/g")
    mounted = await mount(share)
    share.fail("rename", error(NtStatus.ACCESS_DENIED, "RENAME"))
    for number, name in enumerate(("d/f", "d/g"), 2):
        await mounted.fs.open(await mounted.ino(name), os.O_RDONLY)
        await unlink(mounted, name)
        assert share.calls["rename"] == number  # the root is tried once
    assert hidden(share) == []
    assert await mounted.names("d") == [b".", b".."]
    with refusal(errno.ENOTEMPTY):
        await rmdir(mounted, "d")


async def test_nobody_finds_a_hidden_file_here(mount: Mount) -> None:
    share = MemShare()
    share.add("f")
    mounted = await mount(share)
    await mounted.fs.open(await mounted.ino("f"), os.O_RDONLY)
    await unlink(mounted, "f")
    (name,) = hidden(share)
    assert await mounted.ino(name) == 0
    assert await mounted.ino(name.upper()) == 0


async def test_what_a_dead_mount_has_left_is_an_ordinary_file(mount: Mount) -> None:
    share = MemShare()
    share.add(".smbfuse-0123456789abcdef")
    mounted = await mount(share)
    assert await mounted.names() == [b".", b"..", b".smbfuse-0123456789abcdef"]
    await unlink(mounted, ".smbfuse-0123456789abcdef")
    assert share.root.children == {}


async def test_a_hidden_file_that_cannot_be_removed_yet_is_removed_at_its_last_close(mount: Mount) -> None:
    share = MemShare()
    share.add("f")
    mounted = await mount(share)
    ino = await mounted.ino("f")
    opened = await mounted.fs.open(ino, os.O_RDONLY)
    share.fail("remove", error(NtStatus.SHARING_VIOLATION, "REMOVE"))
    await unlink(mounted, "f")
    await mounted.fs.release(opened.fh)
    assert len(hidden(share)) == 1
    mounted.fs.forget([(ino, 1)])
    await wait_all_tasks_blocked(0.05)
    assert share.root.children == {}


async def test_the_end_of_the_mount_leaves_no_hidden_file(mount: Mount) -> None:
    share = MemShare()
    share.add("f")
    mounted = await mount(share)
    opened = await mounted.fs.open(await mounted.ino("f"), os.O_RDONLY)
    share.fail("remove", error(NtStatus.SHARING_VIOLATION, "REMOVE"))
    await unlink(mounted, "f")
    assert await mounted.fs.drain(trio.current_time() + 5, ending=False) == []
    assert len(hidden(share)) == 1  # it is open, and goes on being
    await mounted.fs.release(opened.fh)
    await wait_all_tasks_blocked(0.05)
    assert await mounted.fs.drain(trio.current_time() + 5) == []
    assert share.root.children == {}


async def test_a_name_that_stays_taken_is_given_free_by_our_own_close(mount: Mount) -> None:
    share = MemShare(grants=Caching.READ | Caching.HANDLE)
    mounted = await mount(share)
    for _ in range(3):
        await make(mounted, "f", b"bytes")  # kept open for a while
        await unlink(mounted, "f")
    assert share.root.children == {}


async def test_a_protected_file_is_removed(mount: Mount) -> None:
    share = MemShare()
    share.add("f").attributes = Attributes.READONLY | Attributes.ARCHIVE
    mounted = await mount(share)
    await unlink(mounted, "f")
    assert share.root.children == {}


async def test_a_protected_file_that_cannot_be_removed_stays_protected(mount: Mount) -> None:
    share = MemShare()
    share.add("f").attributes = Attributes.READONLY | Attributes.ARCHIVE
    mounted = await mount(share)
    await mounted.ino("f")
    share.fail("remove", error(NtStatus.CANNOT_DELETE, "REMOVE"))
    share.fail("remove", error(NtStatus.SHARING_VIOLATION, "REMOVE"))
    with refusal(errno.EBUSY):
        await unlink(mounted, "f")
    assert share.node("f").attributes == Attributes.READONLY | Attributes.ARCHIVE
    assert share.calls["change"] == 2


@pytest.mark.parametrize("slow", ["change", "remove"])
async def test_a_protected_file_whose_removal_is_given_up_half_way_stays_protected(
    mount: Mount, autojump_clock: MockClock, slow: str
) -> None:
    class Slow(MemShare):
        """Carries out at once what it answers late."""

        async def change(self, path: str, change: Change, holder: GrantHolder | None = None) -> FileStat:
            stat = await super().change(path, change, holder)
            await trio.sleep(2 if slow == "change" else 0)
            return stat

        async def remove(self, path: str, kind: Kind, holder: GrantHolder | None = None) -> None:
            await trio.sleep(2 if slow == "remove" and not self.node(path).attributes & Attributes.READONLY else 0)
            await super().remove(path, kind, holder)

    share = Slow()
    share.add("f").attributes = Attributes.READONLY | Attributes.ARCHIVE
    mounted = await mount(share)
    await mounted.ino("f")
    with trio.move_on_after(1) as patience:
        await unlink(mounted, "f")
    assert patience.cancelled_caught
    assert share.node("f").attributes == Attributes.READONLY | Attributes.ARCHIVE


async def test_a_protected_file_is_protected_again_however_long_that_takes(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = MemShare()
    share.add("f").attributes = Attributes.READONLY | Attributes.ARCHIVE
    mounted = await mount(share)
    await mounted.ino("f")
    share.fail("remove", error(NtStatus.CANNOT_DELETE, "REMOVE"), times=2)
    share.delays["change"] = 30
    began = trio.current_time()
    with refusal(errno.EACCES):
        await unlink(mounted, "f")
    assert trio.current_time() - began == pytest.approx(30 + UNDO_S)
    await trio.sleep(31)
    assert share.node("f").attributes == Attributes.READONLY | Attributes.ARCHIVE


@pytest.mark.parametrize("links", [1, 2])
async def test_a_file_that_stays_without_its_protection_is_told_of(
    mount: Mount, caplog: pytest.LogCaptureFixture, links: int
) -> None:
    class Withdrawn(MemShare):
        async def change(self, path: str, change: Change, holder: GrantHolder | None = None) -> FileStat:
            if change.attributes is not None and change.attributes & Attributes.READONLY:
                raise error(NtStatus.ACCESS_DENIED, "SET_INFO")
            return await super().change(path, change, holder)

    share = Withdrawn(features=Features.HARD_LINKS)
    mounted = await mount(share)
    ino = await make(mounted, "a")
    if links == 2:
        await mounted.fs.link(ino, 1, b"b")
    share.node("a").attributes = Attributes.READONLY
    if links == 1:
        share.fail("remove", error(NtStatus.CANNOT_DELETE, "REMOVE"), times=2)
    with caplog.at_level(logging.INFO), refusal(errno.EACCES) if links == 1 else nullcontext():
        await unlink(mounted, "a")
        await wait_all_tasks_blocked(0.05)
    (told,) = [record.message for record in caplog.records if "may not be read-only any more" in record.message]
    assert repr("a" if links == 1 else "b") in told


async def test_one_of_two_names_of_a_protected_file(mount: Mount) -> None:
    share = MemShare(features=Features.HARD_LINKS)
    mounted = await mount(share)
    ino = await make(mounted, "a")
    await mounted.fs.link(ino, 1, b"b")
    await share.change("a", Change(attributes=Attributes.READONLY))
    await unlink(mounted, "a")
    await wait_all_tasks_blocked(0.05)
    assert share.node("b").attributes & Attributes.READONLY
    assert await mounted.ino("b") == ino
    assert (await mounted.fs.getattr(ino)).stat.nlink == 1


async def test_an_open_file_with_another_name_keeps_that(mount: Mount) -> None:
    share = MemShare(features=Features.HARD_LINKS | Features.POSIX)
    mounted = await mount(share)
    ino = await make(mounted, "a", b"bytes")
    await mounted.fs.link(ino, 1, b"b")
    opened = await mounted.fs.open(ino, os.O_RDONLY)
    await unlink(mounted, "a")
    assert (await mounted.ino("a"), await mounted.ino("b")) == (0, ino)
    assert (await mounted.fs.getattr(ino)).stat.nlink == 1
    assert bytes(await mounted.fs.read(opened.fh, 0, 100)) == b"bytes"
    await mounted.fs.release(opened.fh)
    assert await mounted.read_all("b") == b"bytes"


# -- folders that are being listed


@pytest.mark.parametrize("read", [False, True])
async def test_a_folder_that_is_being_listed_goes(mount: Mount, *, read: bool) -> None:
    share = MemShare()
    share.add_folder("d")
    mounted = await mount(share, cache=Cache(directories_s=30.0))
    ino = await mounted.ino("d")
    fh = await mounted.fs.opendir(ino)
    if read:
        assert len(await mounted.drain(fh)) == 2
    await rmdir(mounted, "d")
    assert share.root.children == {}
    assert await mounted.ino("d") == 0
    assert len(await mounted.drain(fh)) == 2
    await mounted.fs.releasedir(fh)


async def test_a_listing_under_way_shows_no_name_that_is_gone(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare(page_entries=2)
    for name in "abcdef":
        share.add(f"d/{name}")
    mounted = await mount(share, cache=Cache(attributes_s=60.0, directories_s=60.0))
    folder = await mounted.ino("d")
    fh = await mounted.fs.opendir(folder)
    for gone in (b"b", b"e"):
        await mounted.fs.lookup(folder, gone)
        await mounted.fs.unlink(folder, gone)
    await mounted.fs.rename(folder, b"c", folder, b"x", 0)
    await make(mounted, "d/e")
    names = [entry.name for entry in await mounted.drain(fh)]
    assert b"b" not in names
    assert b"c" not in names
    assert len(names) == len(set(names))
    assert {b"a", b"d", b"f"} <= set(names)
    assert sorted(await mounted.names("d")) == [b".", b"..", b"a", b"d", b"e", b"f", b"x"]
    await mounted.fs.releasedir(fh)


async def test_a_listing_under_way_shows_no_name_that_went_under_another_spelling(mount: Mount) -> None:
    share = MemShare()
    share.add("d/Name")
    mounted = await mount(share)
    folder = await mounted.ino("d")
    fh = await mounted.fs.opendir(folder)
    await mounted.fs.lookup(folder, b"NAME")
    await mounted.fs.unlink(folder, b"NAME")
    assert [entry.name for entry in await mounted.drain(fh)] == [b".", b".."]
    await mounted.fs.releasedir(fh)


async def test_a_folder_is_emptied_while_it_is_listed(mount: Mount) -> None:
    share = MemShare(page_entries=50)
    for number in range(500):
        share.add(f"d/{number}")
    mounted = await mount(share)
    folder = await mounted.ino("d")
    fh = await mounted.fs.opendir(folder)
    cookie = 0
    while listed := await mounted.fs.readdir(fh, cookie):
        for entry in listed:
            if entry.name not in (b".", b".."):
                mounted.fs.accepted(entry.entry.stat.ino)
                await mounted.fs.unlink(folder, entry.name)
        cookie = listed[-1].next_cookie
    await mounted.fs.releasedir(fh)
    await rmdir(mounted, "d")
    assert share.root.children == {}


# -- answers that come late


def answers_late(share: MemShare, operation: str) -> Callable[[], None]:
    """Let the next answer to an operation be of the time it was asked, and come once the returned call was made."""
    gate = trio.Event()
    perform: Callable[..., Coroutine[Any, Any, Any]] = getattr(share, operation)

    async def late(*arguments: object, **options: object) -> object:
        setattr(share, operation, perform)
        result: object = None
        refused: SmbError | None = None
        try:
            result = await perform(*arguments, **options)
        except SmbError as error:
            refused = error
        await gate.wait()
        if refused is not None:
            raise refused
        return result

    setattr(share, operation, late)
    return gate.set


async def test_a_file_that_a_transfer_holds_open_is_closed_before_it_is_removed(
    mount: Mount, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = MemShare()
    share.add("f", b"bytes")
    mounted = await mount(share)
    open_then: list[int] = []
    remove = share.remove

    async def watched(path: str, kind: Kind, holder: GrantHolder | None = None) -> None:
        open_then.append(share.open_files)
        await remove(path, kind, holder)

    monkeypatch.setattr(share, "remove", watched)
    opened = await mounted.fs.open(await mounted.ino("f"), 0)
    (file,) = mounted.fs._files._table.all()
    file.hold()  # as what its last close has begun does, or a block on its way
    await mounted.fs.release(opened.fh)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mounted.fs.unlink, 1, b"f")
        await wait_all_tasks_blocked()
        assert open_then == []
        file.let_go()
    assert open_then == [0]  # a server keeps the name of what is open
    assert await mounted.names("") == [b".", b".."]


async def test_an_answer_from_before_a_removal_does_not_bring_the_file_back(
    mount: Mount, nursery: trio.Nursery
) -> None:
    share = MemShare()
    share.add("d/f")
    mounted = await mount(share)
    folder = await mounted.ino("d")
    answer = answers_late(share, "stat")
    found = []

    async def lookup() -> None:
        found.append((await mounted.fs.lookup(folder, b"f")).stat.ino)

    nursery.start_soon(lookup)
    await wait_all_tasks_blocked()
    await mounted.fs.unlink(folder, b"f")
    answer()
    await wait_all_tasks_blocked()
    assert found == [0]
    assert (await mounted.fs.lookup(folder, b"f")).stat.ino == 0


async def test_an_answer_from_before_a_file_was_made_does_not_hide_it(mount: Mount, nursery: trio.Nursery) -> None:
    share = MemShare()
    mounted = await mount(share)
    answer = answers_late(share, "stat")
    found = []

    async def lookup() -> None:
        found.append((await mounted.fs.lookup(1, b"f")).stat.ino)

    nursery.start_soon(lookup)
    await wait_all_tasks_blocked()
    entry = await mounted.fs.mkdir(1, b"f", 0o755, CALLER)
    answer()
    await wait_all_tasks_blocked()
    assert found == [entry.stat.ino]


async def test_a_question_about_a_file_that_is_renamed_meanwhile_is_asked_again(
    mount: Mount, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    share = MemShare()
    share.add("d/e/f", b"bytes")
    mounted = await mount(share)
    ino = await mounted.ino("d/e/f")
    folder = await mounted.ino("d/e")
    sizes = []

    async def stat() -> None:
        sizes.append((await mounted.fs.getattr(ino)).stat.size)

    async def lookup() -> None:
        sizes.append((await mounted.fs.lookup(folder, b"f")).stat.size)

    await trio.sleep(2)
    with share.held("stat"):
        nursery.start_soon(stat)
        nursery.start_soon(lookup)
        await wait_all_tasks_blocked()
        await mounted.fs.rename(1, b"d", 1, b"g", 0)
    await wait_all_tasks_blocked()
    assert sizes == [5, 5]


async def test_a_listing_from_before_a_removal_does_not_bring_the_file_back(
    mount: Mount, nursery: trio.Nursery
) -> None:
    share = MemShare(page_entries=1)
    share.add("d/a")
    share.add("d/b")
    mounted = await mount(share)
    folder = await mounted.ino("d")
    await mounted.ino("d/b")
    fh = await mounted.fs.opendir(folder)
    listed: list[bytes] = []

    async def read() -> None:
        listed.extend([entry.name for entry in await mounted.drain(fh)])

    with share.held("page"):
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        await mounted.fs.unlink(folder, b"b")
    await wait_all_tasks_blocked()
    assert b"b" not in listed
    assert await mounted.ino("d/b") == 0


async def test_nobody_misses_a_name_while_it_is_given_to_another_file(
    mount: Mount, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    share = MemShare()
    share.add("d/f", b"old")
    share.add("d/new", b"newer")
    mounted = await mount(share)
    folder, old = await mounted.ino("d"), await mounted.ino("d/f")
    await mounted.fs.open(old, os.O_RDONLY)  # so that it is moved out of the way first
    await trio.sleep(2)
    found = []

    async def lookup() -> None:
        found.append((await mounted.fs.lookup(folder, b"f")).stat.size)

    async def open_again() -> None:
        with refusal(errno.ESTALE):  # and the kernel looks the name up again
            await mounted.fs.open(old, os.O_WRONLY)
        found.append((await mounted.fs.lookup(folder, b"f")).stat.size)

    renaming = answers_late(share, "rename")
    nursery.start_soon(mounted.fs.rename, folder, b"new", folder, b"f", 0)
    await wait_all_tasks_blocked()
    assert "f" not in share.node("d").children
    nursery.start_soon(lookup)
    nursery.start_soon(open_again)
    await wait_all_tasks_blocked()
    assert found == []
    renaming()
    await wait_all_tasks_blocked()
    assert found == [5, 5]


@pytest.mark.parametrize("change", ["unlink", "rename"])
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_TRUNC])
@pytest.mark.parametrize("features", [Features.NONE, Features.POSIX])
async def test_a_file_that_is_just_being_opened_lives_on(
    mount: Mount, nursery: trio.Nursery, change: str, flags: int, features: Features
) -> None:
    share = MemShare(features=features)
    share.add("d/f", b"bytes")
    share.add("d/new", b"new")
    mounted = await mount(share)
    folder, ino = await mounted.ino("d"), await mounted.ino("d/f")
    await mounted.ino("d/new")
    handles: list[int] = []

    async def open_it() -> None:
        handles.append((await mounted.fs.open(ino, flags)).fh)

    answered = answers_late(share, "open")
    nursery.start_soon(open_it)
    await wait_all_tasks_blocked()
    if change == "unlink":
        nursery.start_soon(mounted.fs.unlink, folder, b"f")
    else:
        nursery.start_soon(mounted.fs.rename, folder, b"new", folder, b"f", 0)
    await wait_all_tasks_blocked()
    answered()
    await wait_all_tasks_blocked()
    assert set(share.node("d").children) == ({"new"} if change == "unlink" else {"f"})
    if flags & os.O_ACCMODE == os.O_RDONLY:
        assert bytes(await mounted.fs.read(handles[0], 0, 100)) == b"bytes"
    else:
        await mounted.fs.write(handles[0], 0, b"BYTES")
        assert bytes(await mounted.fs.read(handles[0], 0, 100)) == b"BYTES"
    await mounted.fs.release(handles[0])


async def test_a_file_is_removed_under_an_open_that_hangs(
    mount: Mount, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    share = MemShare()
    share.add("d/f", b"bytes")
    mounted = await mount(share)
    folder, ino = await mounted.ino("d"), await mounted.ino("d/f")
    answered = answers_late(share, "open")

    async def open_it() -> None:
        with refusal(errno.ESTALE):
            await mounted.fs.open(ino, os.O_RDONLY)

    nursery.start_soon(open_it)
    await wait_all_tasks_blocked()
    await mounted.fs.unlink(folder, b"f")
    await mounted.fs.rmdir(1, b"d")
    answered()
    await trio.sleep(1)
    assert share.open_files == 0
    mounted.fs.forget([(ino, 1)])
    await trio.sleep(1)
    assert share.root.children == {}


# -- two at once


async def test_changes_of_one_folder_take_turns(mount: Mount, nursery: trio.Nursery) -> None:
    share = MemShare()
    share.add("f")
    mounted = await mount(share)
    await mounted.ino("f")
    made = []

    async def make_again() -> None:
        made.append(await make(mounted, "f"))

    with share.held("remove"):
        nursery.start_soon(mounted.fs.unlink, 1, b"f")
        await wait_all_tasks_blocked()
        nursery.start_soon(make_again)
        await wait_all_tasks_blocked()
        assert made == []
    await wait_all_tasks_blocked()
    assert await mounted.ino("f") == made[0] == share.node("f").file_id


async def test_changes_of_two_folders_do_not_wait_for_each_other(mount: Mount, nursery: trio.Nursery) -> None:
    share = MemShare()
    share.add("d/f")
    share.add_folder("e")
    mounted = await mount(share)
    folder, other = await mounted.ino("d"), await mounted.ino("e")
    await mounted.ino("d/f")
    with share.held("remove"):
        nursery.start_soon(mounted.fs.unlink, folder, b"f")
        await wait_all_tasks_blocked()
        await mounted.fs.mkdir(other, b"g", 0o755, CALLER)
        assert await mounted.ino("e/g")


async def test_renames_between_two_folders_in_both_directions(mount: Mount, nursery: trio.Nursery) -> None:
    share = MemShare()
    share.add("a/x", b"x")
    share.add("b/y", b"yy")
    share.delays["rename"] = 0.01
    mounted = await mount(share)
    one, two = await mounted.ino("a"), await mounted.ino("b")
    numbers = {await mounted.ino("a/x"), await mounted.ino("b/y")}
    with trio.fail_after(5):
        async with trio.open_nursery() as both:
            both.start_soon(mounted.fs.rename, one, b"x", two, b"x", 0)
            both.start_soon(mounted.fs.rename, two, b"y", one, b"y", 0)
    assert {await mounted.ino("b/x"), await mounted.ino("a/y")} == numbers
    assert (set(share.node("a").children), set(share.node("b").children)) == ({"y"}, {"x"})


async def test_a_change_below_a_folder_that_is_renamed_meanwhile(mount: Mount, nursery: trio.Nursery) -> None:
    share = MemShare()
    share.add_folder("d/e")
    mounted = await mount(share)
    folder = await mounted.ino("d/e")
    with share.held("make_directory"):
        nursery.start_soon(mounted.fs.mkdir, folder, b"new", 0o755, CALLER)
        await wait_all_tasks_blocked()
        await mounted.fs.rename(1, b"d", 1, b"g", 0)
    await wait_all_tasks_blocked()
    assert await mounted.ino("g/e/new") == share.node("g/e/new").file_id
