"""Making, linking and renaming names: what the server is asked, and what is shown afterwards under every spelling."""

import errno
import os
import stat as modes

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from smbfuse.config import Cache, CacheMode, ModeChanges, View
from smbfuse.errors import ConnectionLost, SmbError, Timeout
from smbfuse.share import Attributes, Caching, Features, Kind
from smbfuse.status import NtStatus, error
from smbfuse.vfs.posix import Caller
from tests.support.mem_share import MemShare
from tests.vfs.mounted import Mount, Mounted

CALLER = Caller(1000, 1000, 0o022)
WRITE = os.O_WRONLY
NOREPLACE = 1
EXCHANGE = 2


def refusal(number: int) -> "pytest.RaisesExc[SmbError]":
    return pytest.raises(SmbError, check=lambda error: error.errno == number)


async def make(mounted: Mounted, path: str, data: bytes = b"") -> int:
    """Make a file as a program does, and return its number."""
    above, _, name = path.rpartition("/")
    entry, opened = await mounted.fs.create(await mounted.ino(above), name.encode(), 0o644, WRITE, CALLER)
    if data:
        assert await mounted.fs.write(opened.fh, 0, data) == len(data)
    await mounted.fs.flush(opened.fh)
    await mounted.fs.release(opened.fh)
    return entry.stat.ino


async def rename(mounted: Mounted, old: str, new: str, flags: int = 0) -> None:
    above, _, name = old.rpartition("/")
    new_above, _, new_name = new.rpartition("/")
    await mounted.fs.rename(
        await mounted.ino(above), name.encode(), await mounted.ino(new_above), new_name.encode(), flags
    )


# -- making


async def test_a_file_is_made_with_one_request_and_known_at_once(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    mounted = await mount(share)
    share.calls.clear()
    entry, opened = await mounted.fs.create(1, "Büro".encode(), 0o666, WRITE, CALLER)
    assert (share.calls["open"], share.calls.total()) == (1, 1)
    assert share.opened[0][1].mode == 0o644
    assert (await mounted.fs.lookup(1, "Büro".encode())).stat.ino == entry.stat.ino
    assert (await mounted.fs.getattr(entry.stat.ino)).stat.size == 0
    assert share.calls.total() == 1
    await mounted.fs.release(opened.fh)


async def test_what_is_made_counts_one_lookup(mount: Mount) -> None:
    share = MemShare(features=Features.HARD_LINKS | Features.MAKES_SYMLINKS)
    mounted = await mount(share)
    entries = [
        await mounted.fs.mkdir(1, b"d", 0o755, CALLER),
        await mounted.fs.mknod(1, b"f", modes.S_IFREG | 0o644, 0, CALLER),
        await mounted.fs.symlink(1, b"s", b"f", CALLER),
    ]
    entries.append(await mounted.fs.link(entries[1].stat.ino, 1, b"g"))
    kinds = [modes.S_IFMT(entry.stat.mode) for entry in entries]
    assert kinds == [modes.S_IFDIR, modes.S_IFREG, modes.S_IFLNK, modes.S_IFREG]
    assert entries[3].stat.ino == entries[1].stat.ino
    assert entries[3].stat.nlink == 2
    inodes = mounted.fs.statistics().inodes
    mounted.fs.forget([(entries[0].stat.ino, 1), (entries[1].stat.ino, 2), (entries[2].stat.ino, 1)])
    assert mounted.fs.statistics().inodes == inodes - 3


async def test_an_exclusive_file_is_made_once(mount: Mount) -> None:
    share = MemShare()
    share.add("f", b"there")
    mounted = await mount(share)
    with refusal(errno.EEXIST):
        await mounted.fs.create(1, b"f", 0o644, WRITE | os.O_EXCL, CALLER)
    entry, opened = await mounted.fs.create(1, b"f", 0o644, WRITE, CALLER)
    assert entry.stat.size == 5
    await mounted.fs.release(opened.fh)


@pytest.mark.parametrize(
    "name, number",
    [
        (b"x" * 256, errno.ENAMETOOLONG),
        (b"\xff", errno.EINVAL),
        (b".", errno.EEXIST),
        (b"..", errno.EEXIST),
    ],
)
async def test_names_that_cannot_be_made(mount: Mount, name: bytes, number: int) -> None:
    share = MemShare()
    mounted = await mount(share)
    with refusal(number):
        await mounted.fs.mkdir(1, name, 0o755, CALLER)
    with refusal(number):
        await mounted.fs.create(1, name, 0o644, WRITE, CALLER)
    assert share.root.children == {}


async def test_names_that_windows_forbids_are_mapped_when_they_are_made(mount: Mount) -> None:
    share = MemShare()
    mounted = await mount(share)
    for name in ("a:b", "what?", "end.", "back\\slash"):
        await make(mounted, name)
    assert set(share.root.children) == {"a\uf022b", "what\uf025", "end\uf029", "back\uf026slash"}
    assert sorted(await mounted.names())[2:] == [b"a:b", b"back\\slash", b"end.", b"what?"]


@pytest.mark.parametrize("kind", [modes.S_IFIFO, modes.S_IFSOCK, modes.S_IFCHR])
async def test_special_files_where_the_server_has_them(mount: Mount, kind: int) -> None:
    mounted = await mount(MemShare(features=Features.SPECIAL_FILES))
    entry = await mounted.fs.mknod(1, b"n", kind | 0o600, os.makedev(5, 300), CALLER)
    assert modes.S_IFMT(entry.stat.mode) == kind
    assert entry.stat.rdev == (os.makedev(5, 300) if kind == modes.S_IFCHR else 0)
    other = await mount(MemShare())
    with refusal(errno.EPERM):
        await other.fs.mknod(1, b"n", kind | 0o600, 0, CALLER)


async def test_a_mode_without_write_bits_protects_the_file(mount: Mount) -> None:
    share = MemShare()
    mounted = await mount(share)
    entry, opened = await mounted.fs.create(1, b"f", 0o444, WRITE, CALLER)
    assert share.node("f").attributes & Attributes.READONLY
    assert not entry.stat.mode & 0o222
    await mounted.fs.write(opened.fh, 0, b"all the same")
    await mounted.fs.release(opened.fh)
    assert bytes(share.node("f").data) == b"all the same"


async def test_made_names_appear_under_every_spelling(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    mounted = await mount(share)
    for name in (b"readme", b"README", b"ReadMe"):
        assert (await mounted.fs.lookup(1, name)).stat.ino == 0
    ino = await make(mounted, "ReadMe")
    assert {name for _, name in mounted.kernel.entries} == {b"readme", b"README"}
    assert [await mounted.ino(name) for name in ("readme", "README", "ReadMe")] == [ino] * 3


async def test_a_listing_that_is_kept_shows_what_was_made_since(mount: Mount) -> None:
    share = MemShare()
    share.add("a")
    mounted = await mount(share, cache=Cache(directories_s=60.0))
    assert await mounted.names() == [b".", b"..", b"a"]
    await make(mounted, "b")
    assert await mounted.names() == [b".", b"..", b"a", b"b"]


async def test_a_folder_that_was_opened_before_shows_what_was_made_since(mount: Mount) -> None:
    mounted = await mount(MemShare())
    fh = await mounted.fs.opendir(1)
    await make(mounted, "f")
    assert [entry.name for entry in await mounted.drain(fh)] == [b".", b"..", b"f"]
    await mounted.fs.mkdir(1, b"d", 0o755, CALLER)
    assert [entry.name for entry in await mounted.drain(fh)] == [b".", b"..", b"f", b"d"]
    await mounted.fs.releasedir(fh)


async def test_a_folder_has_another_time_after_a_change(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    share.add("d/f")
    mounted = await mount(share)
    before = (await mounted.find("d")).stat.mtime_ns
    await make(mounted, "d/g")
    assert (await mounted.find("d")).stat.mtime_ns > before


async def test_the_root_of_a_server_is_not_changed(mount: Mount) -> None:
    mounted = await mount(MemShare("one"), MemShare("two"), whole_server=True)
    await mounted.ino("one")
    with refusal(errno.EPERM):
        await mounted.fs.mkdir(1, b"d", 0o755, CALLER)
    with refusal(errno.EPERM):
        await mounted.fs.rmdir(1, b"one")
    with refusal(errno.EPERM):
        await mounted.fs.rename(1, b"one", 1, b"three", 0)
    with refusal(errno.EXDEV):
        await make(mounted, "one/f")
        await rename(mounted, "one/f", "two/f")


async def test_links_between_shares_and_where_there_are_none(mount: Mount) -> None:
    mounted = await mount(
        MemShare("one", features=Features.HARD_LINKS), MemShare("two", features=Features.HARD_LINKS), whole_server=True
    )
    ino = await make(mounted, "one/f")
    with refusal(errno.EXDEV):
        await mounted.fs.link(ino, await mounted.ino("two"), b"g")
    plain = await mount(MemShare())
    with refusal(errno.EPERM):
        await plain.fs.link(await make(plain, "f"), 1, b"g")


async def test_a_failure_that_leaves_everything_open_is_looked_into(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    mounted = await mount(share)
    assert await mounted.ino("d") == 0
    share.fail("make_directory", Timeout("late"))
    with pytest.raises(Timeout):
        await mounted.fs.mkdir(1, b"d", 0o755, CALLER)
    share.add_folder("d")  # it was made all the same
    assert await mounted.ino("d") != 0


# -- renaming


async def test_a_rename_moves_the_node(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    share.add("d/f", b"bytes")
    share.add_folder("e")
    mounted = await mount(share)
    ino = await mounted.ino("d/f")
    await rename(mounted, "d/f", "e/g")
    assert await mounted.ino("d/f") == 0
    assert await mounted.ino("e/g") == ino
    assert await mounted.read_all("e/g") == b"bytes"
    assert await mounted.names("d") == [b".", b".."]
    await trio.sleep(2)
    assert await mounted.ino("e/g") == ino


@pytest.mark.parametrize("posix", [Features.NONE, Features.POSIX])
async def test_a_rename_replaces_a_file(mount: Mount, posix: Features) -> None:
    share = MemShare(features=posix)
    mounted = await mount(share)
    ino = await make(mounted, "new", b"new")
    old = await make(mounted, "f", b"old")
    share.calls.clear()
    await rename(mounted, "new", "f")
    assert share.calls["rename"] == 1
    assert await mounted.ino("f") == ino
    assert await mounted.ino("new") == 0
    assert set(share.root.children) == {"f"}
    with pytest.raises(SmbError):
        await mounted.fs.getattr(old)


@pytest.mark.parametrize("posix", [Features.NONE, Features.POSIX])
async def test_a_rename_over_an_open_file_leaves_that_to_who_has_it_open(mount: Mount, posix: Features) -> None:
    share = MemShare(features=posix)
    share.add("d/f", b"old")
    share.add("d/new", b"new")
    mounted = await mount(share)
    old = await mounted.ino("d/f")
    opened = await mounted.fs.open(old, os.O_RDWR)
    await rename(mounted, "d/new", "d/f")
    assert await mounted.read_all("d/f") == b"new"
    assert await mounted.names("d") == [b".", b"..", b"f"]
    assert b".smbfuse" not in b"".join(await mounted.names())
    assert bytes(await mounted.fs.read(opened.fh, 0, 100)) == b"old"
    assert await mounted.fs.write(opened.fh, 3, b"er") == 2
    assert bytes(await mounted.fs.read(opened.fh, 0, 100)) == b"older"
    assert (await mounted.fs.getattr(old)).stat.nlink == 0
    await mounted.fs.release(opened.fh)
    mounted.fs.forget([(old, 1)])
    await wait_all_tasks_blocked(0.05)
    assert list(share.root.children) == ["d"]


async def test_a_rename_that_fails_puts_an_open_target_back(mount: Mount) -> None:
    share = MemShare()
    share.add("d/f", b"old")
    share.add("d/new", b"new")
    mounted = await mount(share)
    old = await mounted.ino("d/f")
    opened = await mounted.fs.open(old, os.O_RDONLY)
    share.fail("rename", error(NtStatus.ACCESS_DENIED, "RENAME"), path="d/new")
    with refusal(errno.EACCES):
        await rename(mounted, "d/new", "d/f")
    assert set(share.node("d").children) == {"f", "new"}
    assert await mounted.ino("d/f") == old
    assert await mounted.names("d") == [b".", b"..", b"new", b"f"]
    await mounted.fs.release(opened.fh)


async def test_a_protected_target_is_replaced_too(mount: Mount) -> None:
    share = MemShare()
    share.add("f", b"old").attributes = Attributes.READONLY
    share.add("new", b"new")
    mounted = await mount(share)
    await rename(mounted, "new", "f")
    assert {name: bytes(node.data) for name, node in share.root.children.items()} == {"f": b"new"}


async def test_a_folder_replaces_an_empty_one_and_no_other(mount: Mount) -> None:
    share = MemShare()
    share.add("d/f")
    share.add_folder("empty")
    share.add("full/f")
    share.add("file")
    mounted = await mount(share)
    ino = await mounted.ino("d")
    await rename(mounted, "d", "empty")
    assert await mounted.ino("empty") == ino
    assert await mounted.ino("empty/f")
    with refusal(errno.ENOTEMPTY):
        await rename(mounted, "empty", "full")
    with refusal(errno.ENOTDIR):
        await mounted.ino("file")
        await rename(mounted, "empty", "file")
    with refusal(errno.EISDIR):
        await mounted.ino("empty")
        await rename(mounted, "file", "empty")
    assert set(share.root.children) == {"empty", "full", "file"}


async def test_an_empty_folder_that_was_removed_for_nothing_is_made_again(mount: Mount) -> None:
    share = MemShare()
    share.add("d/f")
    share.add_folder("empty")
    mounted = await mount(share)
    await mounted.ino("empty")
    share.fail("rename", error(NtStatus.ACCESS_DENIED, "RENAME"), path="d")
    with refusal(errno.EACCES):
        await rename(mounted, "d", "empty")
    assert set(share.root.children) == {"d", "empty"}
    assert await mounted.ino("empty") == share.node("empty").file_id


async def test_rename_flags(mount: Mount) -> None:
    share = MemShare()
    share.add("a")
    share.add("b")
    mounted = await mount(share)
    await mounted.ino("b")
    with refusal(errno.EEXIST):
        await rename(mounted, "a", "b", NOREPLACE)
    with refusal(errno.EINVAL):
        await rename(mounted, "a", "b", EXCHANGE)
    await rename(mounted, "a", "c", NOREPLACE)
    assert set(share.root.children) == {"b", "c"}


async def test_rename_of_what_is_not_there_and_into_itself(mount: Mount) -> None:
    share = MemShare()
    share.add_folder("d/e")
    mounted = await mount(share)
    with refusal(errno.ENOENT):
        await rename(mounted, "none", "some")
    for target in ("d/e/f", "d/f"):
        with refusal(errno.EINVAL):
            await rename(mounted, "d", target)
    assert share.calls["rename"] == 0


async def test_a_rename_onto_another_name_of_the_file_does_nothing(mount: Mount) -> None:
    share = MemShare(features=Features.HARD_LINKS)
    mounted = await mount(share)
    ino = await make(mounted, "a")
    await mounted.fs.link(ino, 1, b"b")
    await rename(mounted, "a", "b")
    assert set(share.root.children) == {"a", "b"}
    assert [await mounted.ino("a"), await mounted.ino("b")] == [ino, ino]
    with refusal(errno.EEXIST):
        await rename(mounted, "a", "b", NOREPLACE)


async def test_one_of_two_names_is_renamed(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare(features=Features.HARD_LINKS)
    mounted = await mount(share)
    ino = await make(mounted, "a")
    await mounted.fs.link(ino, 1, b"b")
    for old, new in (("a", "c"), ("b", "d")):
        await rename(mounted, old, new)
        assert (await mounted.ino(old), await mounted.ino(new)) == (0, ino)
    await trio.sleep(2)
    assert [await mounted.ino("c"), await mounted.ino("d")] == [ino, ino]
    assert (await mounted.fs.getattr(ino)).stat.nlink == 2


async def test_only_the_case_changes(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    share.add("readme", b"bytes")
    share.add("docs/f")
    mounted = await mount(share)
    for old, new in (("readme", "README"), ("docs", "Docs")):
        ino = await mounted.ino(old)
        assert await mounted.ino(new) == ino
        found = await mounted.fs.lookup(1, new.encode(), lambda: True)
        assert found.stat.ino == 0  # or the kernel had nothing to rename
        await rename(mounted, old, new)
        assert new in share.root.children
        assert (await mounted.fs.lookup(1, new.encode(), lambda: True)).stat.ino == ino
        assert await mounted.ino(old) == ino
    assert sorted(await mounted.names()) == [b".", b"..", b"Docs", b"README"]
    assert await mounted.ino("Docs/f")


async def test_renamed_names_are_right_under_every_spelling(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    share.add("Old", b"bytes")
    mounted = await mount(share)
    ino = await mounted.ino("Old")
    for name in ("old", "OLD"):
        assert await mounted.ino(name) == ino
    for name in ("new", "NEW"):
        assert await mounted.ino(name) == 0
    await rename(mounted, "Old", "New")
    told = {name for _, name in mounted.kernel.entries}
    assert {b"old", b"OLD", b"new", b"NEW"} <= told
    assert not told & {b"Old", b"New"}  # the kernel has changed these itself
    assert [await mounted.ino(name) for name in ("Old", "old", "OLD")] == [0, 0, 0]
    assert [await mounted.ino(name) for name in ("new", "NEW", "New")] == [ino] * 3


async def test_everything_below_a_renamed_folder_is_found(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    share.add("d/e/f", b"bytes")
    mounted = await mount(share)
    ino = await mounted.ino("d/e/f")
    await rename(mounted, "d", "g")
    assert await mounted.ino("g/e/f") == ino
    await trio.sleep(2)
    assert (await mounted.fs.getattr(ino)).stat.size == 5
    assert await mounted.read_all("g/e/f") == b"bytes"


async def test_a_folder_whose_files_were_just_open_is_renamed(mount: Mount) -> None:
    share = MemShare(grants=Caching.READ | Caching.WRITE | Caching.HANDLE)
    mounted = await mount(share)
    await mounted.fs.mkdir(1, b"d", 0o755, CALLER)
    await make(mounted, "d/f", b"bytes")
    assert await mounted.names("d") == [b".", b"..", b"f"]
    await rename(mounted, "d", "e")
    assert await mounted.read_all("e/f") == b"bytes"


async def test_a_connection_lost_in_a_rename_leaves_nothing_believed(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    share.add("a", b"bytes")
    mounted = await mount(share)
    await mounted.ino("a")
    assert await mounted.ino("b") == 0
    share.fail("rename", ConnectionLost("gone", sent=True))
    with pytest.raises(ConnectionLost):
        await rename(mounted, "a", "b")
    share.disk.rename("a", "b")  # it was done all the same
    assert (await mounted.ino("a"), bool(await mounted.ino("b"))) == (0, True)


@pytest.mark.parametrize("cache", [CacheMode.STRICT, CacheMode.LOOSE, CacheMode.NONE])
async def test_a_save_by_rename_again_and_again(mount: Mount, cache: CacheMode) -> None:
    share = MemShare(grants=Caching.READ | Caching.WRITE | Caching.HANDLE)
    mounted = await mount(share, cache=Cache(mode=cache))
    for number in range(5):
        content = b"version %d" % number
        await make(mounted, "f~", content)
        await rename(mounted, "f~", "f")
        assert await mounted.read_all("f") == content
    assert list(share.root.children) == ["f"]


async def test_modes_and_owners_are_remembered_where_that_is_asked_for(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    view = View(uid=1000, gid=1000, mode_changes=ModeChanges.REMEMBER)
    mounted = await mount(share, view=view)
    entry = await mounted.fs.mkdir(1, b"d", 0o750, Caller(7, 8, 0))
    await trio.sleep(2)
    stat = (await mounted.fs.getattr(entry.stat.ino)).stat
    assert (stat.mode, stat.uid, stat.gid) == (modes.S_IFDIR | 0o750, 7, 8)
    assert share.node("d").kind is Kind.DIRECTORY
