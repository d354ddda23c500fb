"""Lookups, attributes, links, room on the volume, whole servers; and that nobody waits for others."""

import dataclasses
import errno
import functools
import json
import stat as posix
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from smbfuse.config import Cache, CacheMode, View
from smbfuse.errors import Denied, NotFound, SmbError, Timeout
from smbfuse.share import Attributes, Features
from tests.support.mem_disk import MemNode
from tests.support.mem_share import MemShare
from tests.vfs.mounted import Mount

DENIED = 0xC0000022


def _exact(share: MemShare, path: str) -> MemNode:
    at = share.root
    for name in filter(None, path.split("/")):
        if name not in at.children:
            raise NotFound(path, status=0xC0000034)
        at = at.children[name]
    return at


async def test_a_lookup_costs_one_round_trip_or_none(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    share.add("a/b")
    mounted = await mount(share)
    counts = []
    for _ in range(3):
        await mounted.find("a/b")
        counts.append(share.calls["stat"])
    assert counts == [1, 1, 1]  # the mount has listed the root
    await trio.sleep(1.1)
    await mounted.find("a/b")
    assert share.calls["stat"] == 4  # the root, which the test asks for first, too


async def test_the_kernel_may_keep_an_answer_as_long_as_it_is_good_and_no_longer(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = MemShare()
    share.add("d/a")
    share.delays["stat"] = 0.25
    mounted = await mount(share, cache=Cache(attributes_s=2.0, directories_s=2.0))
    entry = await mounted.find("d/a")
    assert entry.attr_timeout_s == entry.entry_timeout_s == pytest.approx(1.75)  # counted from the question
    await trio.sleep(1)
    assert (await mounted.find("d/a")).attr_timeout_s == pytest.approx(0.75)


async def test_a_name_that_is_not_there_is_remembered(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    mounted = await mount(share)
    for name in (b"none", b"none"):
        entry = await mounted.fs.lookup(1, name)
        assert (entry.stat.ino, entry.entry_timeout_s > 0) == (0, True)
    assert share.calls["stat"] == 1
    share.add("None")
    await trio.sleep(1.1)
    assert (await mounted.fs.lookup(1, b"none")).stat.ino != 0


async def test_a_name_that_appears_is_taken_from_every_spelling_the_kernel_believes_missing(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = MemShare()
    mounted = await mount(share)
    await mounted.fs.lookup(1, b"none")
    await mounted.fs.lookup(1, b"NONE")
    share.add("None")
    await trio.sleep(1.1)
    await mounted.fs.lookup(1, b"None")
    assert {name for _, name in mounted.kernel.entries} == {b"none", b"NONE"}


async def test_a_server_that_minds_case_without_saying_so(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare(case_sensitive=True)
    share.features = Features.NONE
    share.add("Foo", b"bytes")
    share.node = functools.partial(_exact, share)
    mounted = await mount(share)
    ino = await mounted.ino("Foo")
    opened = await mounted.fs.open(ino, 0)
    assert await mounted.ino("FOO") == 0
    assert await mounted.ino("Foo") == ino
    assert b"Foo" in await mounted.names()
    await trio.sleep(1.1)
    assert await mounted.ino("FOO") == 0
    assert await mounted.ino("Foo") == ino
    assert (await mounted.fs.getattr(ino)).stat.nlink == 1
    await mounted.fs.release(opened.fh)


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\\b"])
async def test_a_name_that_cannot_be_is_not_there(mount: Mount, name: bytes) -> None:
    mounted = await mount(MemShare())
    assert (await mounted.fs.lookup(1, name)).stat.ino == 0


async def test_a_name_that_is_too_long_is_said_to_be(mount: Mount) -> None:
    mounted = await mount(MemShare())
    assert (await mounted.fs.lookup(1, b"x" * 255)).stat.ino == 0
    with pytest.raises(SmbError) as refused:
        await mounted.fs.lookup(1, b"x" * 256)
    assert refused.value.errno == errno.ENAMETOOLONG


async def test_a_name_in_the_other_mapping_is_found(mount: Mount) -> None:
    share = MemShare()
    share.add("a\uf03ab", b"sfu")
    mounted = await mount(share)
    assert await mounted.read_all("a:b") == b"sfu"


async def test_an_older_answer_never_replaces_a_newer_one(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    share.add("d/f", b"old")
    mounted = await mount(share, cache=Cache(attributes_s=60.0, directories_s=0.0))
    folder = await mounted.ino("d")
    fh = await mounted.fs.opendir(folder)  # knows the old size
    share.write("d/f", b"newer")
    assert (await mounted.fs.lookup(folder, b"f")).stat.size == 5
    listed = await mounted.drain(fh)
    assert listed[2].entry.stat.size == 5
    assert (await mounted.fs.lookup(folder, b"f")).stat.size == 5


async def test_errors_of_the_server_reach_the_caller_and_are_not_remembered(mount: Mount) -> None:
    share = MemShare()
    share.add("d/a")
    mounted = await mount(share)
    folder = await mounted.ino("d")
    for error in (Denied("no", status=DENIED), Timeout("late")):
        share.fail("stat", error, path="d/a")
        with pytest.raises(type(error)):
            await mounted.fs.lookup(folder, b"a")
    assert await mounted.ino("d/a")


async def test_a_file_as_the_parent_of_a_lookup(mount: Mount) -> None:
    share = MemShare()
    share.add("a")
    mounted = await mount(share)
    with pytest.raises(SmbError) as refused:
        await mounted.fs.lookup(await mounted.ino("a"), b"b")
    assert refused.value.errno == errno.ENOTDIR


async def test_dots_are_looked_up_too(mount: Mount) -> None:
    share = MemShare()
    share.add("a/b/c")
    mounted = await mount(share)
    a, b = await mounted.ino("a"), await mounted.ino("a/b")
    assert (await mounted.fs.lookup(b, b".")).stat.ino == b
    assert (await mounted.fs.lookup(b, b"..")).stat.ino == a
    assert (await mounted.fs.lookup(1, b"..")).stat.ino == 1


async def test_getattr_of_a_name_that_is_gone(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    share.add("a")
    mounted = await mount(share)
    ino = await mounted.ino("a")
    share.disk.remove("a")
    await trio.sleep(2)
    with pytest.raises(NotFound):
        await mounted.fs.getattr(ino)
    assert (1, b"a") in mounted.kernel.entries
    with pytest.raises(SmbError) as stale:
        await mounted.fs.getattr(ino)
    assert stale.value.errno == errno.ESTALE


async def test_a_file_in_a_folder_that_went_shows_its_last_attributes_while_open(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = MemShare()
    share.add("d/f", b"bytes")
    mounted = await mount(share)
    ino = await mounted.ino("d/f")
    opened = await mounted.fs.open(ino, 0)
    share.disk.remove("d")
    await trio.sleep(2)
    assert await mounted.ino("d") == 0
    assert (await mounted.fs.getattr(ino)).stat.size == 5
    assert bytes(await mounted.fs.read(opened.fh, 0, 9)) == b"bytes"
    await mounted.fs.release(opened.fh)
    with pytest.raises(SmbError) as stale:
        await mounted.fs.getattr(ino)
    assert stale.value.errno == errno.ESTALE


async def test_forty_levels_deep(mount: Mount) -> None:
    path = "/".join(f"level {number} ü" for number in range(40)) + "/file"
    share = MemShare()
    share.add(path, b"deep")
    mounted = await mount(share)
    assert await mounted.read_all(path) == b"deep"


async def test_attributes_as_the_mount_shows_them(mount: Mount) -> None:
    share = MemShare()
    share.add("f", b"x" * 1000, attributes=int(Attributes.READONLY), allocation=4096, written_ns=123_456_700)
    share.add_folder("d", attributes=int(Attributes.READONLY))
    share.add("p", mode=0o640, uid=5, gid=6, links=3, allocation=512)
    view = View(uid=1000, gid=100, file_mode=0o644, dir_mode=0o750)
    mounted = await mount(share, view=view)
    file, folder, posix_file = [(await mounted.find(name)).stat for name in "fdp"]
    assert (oct(file.mode), file.uid, file.gid, file.size, file.blocks) == ("0o100444", 1000, 100, 1000, 8)
    assert file.mtime_ns == 123_456_700
    assert oct(folder.mode) == "0o40750"  # read-only forbids nothing on a folder
    assert (oct(posix_file.mode), posix_file.uid, posix_file.gid, posix_file.nlink) == ("0o100640", 5, 6, 3)


async def test_access_by_what_is_shown(mount: Mount) -> None:
    share = MemShare()
    share.add("f", mode=0o640, uid=5, gid=6)
    share.add_folder("d")
    mounted = await mount(share)
    f = await mounted.ino("f")
    cases = [(5, (1,), 6, True), (5, (1,), 1, False), (9, (6,), 4, True), (9, (6,), 2, False), (9, (9,), 4, False)]
    for uid, gids, mode, answer in cases:
        assert await mounted.fs.access(f, mode, uid, gids) is answer
    assert await mounted.fs.access(f, 6, 0, ())
    assert not await mounted.fs.access(f, 1, 0, ())  # nobody may run it
    assert await mounted.fs.access(await mounted.ino("d"), 7, 0, ())
    assert await mounted.fs.access(f, 0, 9, ())


async def test_readlink_contains_by_default(mount: Mount) -> None:
    share = MemShare()
    share.add_symlink("d/inside", "../file")
    share.add_symlink("d/outside", "../../file")
    share.add_symlink("absolute", "/etc/passwd")
    contained, free = await mount(share), await mount(share, view=View(contain_symlinks=False))
    assert await contained.fs.readlink(await contained.ino("d/inside")) == b"../file"
    for path in ("d/outside", "absolute"):
        with pytest.raises(SmbError) as refused:
            await contained.fs.readlink(await contained.ino(path))
        assert refused.value.errno == errno.EPERM
    assert await free.fs.readlink(await free.ino("absolute")) == b"/etc/passwd"
    assert posix.S_ISLNK((await contained.find("absolute")).stat.mode)


async def test_readlink_of_a_symlink_that_is_renamed_meanwhile(mount: Mount, nursery: trio.Nursery) -> None:
    share = MemShare()
    share.add_symlink("d/e/l", "../t")
    mounted = await mount(share)
    ino = await mounted.ino("d/e/l")
    targets = []

    async def ask() -> None:
        targets.append(await mounted.fs.readlink(ino))

    with share.held("read_link"):
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        await mounted.fs.rename(1, b"d", 1, b"g", 0)
    await wait_all_tasks_blocked()
    assert targets == [b"../t"]


async def test_readlink_of_a_file(mount: Mount) -> None:
    share = MemShare()
    share.add("f")
    mounted = await mount(share)
    with pytest.raises(SmbError) as refused:
        await mounted.fs.readlink(await mounted.ino("f"))
    assert refused.value.errno == errno.EINVAL


async def test_five_hundred_blocked_callers_hold_up_nobody(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    share.add("d/known", b"bytes")
    for number in range(500):
        share.add(f"e/blocked {number}")
    mounted = await mount(share)
    folder = await mounted.ino("e")
    known = await mounted.ino("d/known")
    opened = await mounted.fs.open(known, 0)
    await mounted.fs.read(opened.fh, 0, 5)
    await mounted.names("d")
    await mounted.fs.statfs()
    with share.held("stat"), share.held("read"), share.held("open_directory"), share.held("space"):
        async with trio.open_nursery() as nursery:
            for number in range(500):
                nursery.start_soon(mounted.fs.lookup, folder, b"blocked %d" % number)
            await trio.sleep(0.1)
            assert share.in_flight == 500
            with trio.fail_after(0):
                assert (await mounted.fs.getattr(known)).stat.size == 5
                assert await mounted.names("d") == [b".", b"..", b"known"]
                assert bytes(await mounted.fs.read(opened.fh, 0, 5)) == b"bytes"
                await mounted.fs.statfs()
                assert mounted.fs.statistics().inodes >= 3
            await trio.sleep(60)
            began = trio.current_time()
            await mounted.fs.statfs()  # an old figure rather than none
            assert trio.current_time() - began <= 1
            nursery.cancel_scope.cancel()


async def test_room_on_the_volume_is_asked_for_once(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    share.delays["space"] = 0.1
    mounted = await mount(share)
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(mounted.fs.statfs)
    assert share.calls["space"] == 1
    await trio.sleep(3)
    assert (await mounted.fs.statfs()).total == 1 << 40
    assert share.calls["space"] == 2


async def test_room_that_was_never_known_is_an_error(mount: Mount) -> None:
    share = MemShare()
    share.fail("space", Timeout("late"))
    mounted = await mount(share)
    with pytest.raises(Timeout):
        await mounted.fs.statfs()
    assert (await mounted.fs.statfs()).block_size == 4096


async def test_a_whole_servers_folders_are_its_shares(mount: Mount, autojump_clock: MockClock) -> None:
    first, second = MemShare("Daten"), MemShare("Größe 📁")
    for number, share in enumerate((first, second)):
        share.add("same/f", b"share %d" % number, file_id=77)
    mounted = await mount(first, second, whole_server=True)
    assert await mounted.names() == [b".", b".."]  # no share was asked for yet
    assert await mounted.read_all("Daten/same/f") == b"share 0"
    assert await mounted.read_all("größe 📁/same/f") == b"share 1"
    assert await mounted.ino("Daten/same/f") != await mounted.ino("Größe 📁/same/f")
    assert await mounted.ino("DATEN") == await mounted.ino("Daten")
    assert await mounted.ino("absent") == 0
    assert await mounted.names() == [b".", b"..", b"Daten", "größe 📁".encode()]  # as first asked for
    assert mounted.source.calls["connect"] == 2
    assert (await mounted.entries("Daten"))[1].entry.stat.ino == 1
    await trio.sleep(5)
    assert await mounted.read_all("Daten/same/f") == b"share 0"
    assert (await mounted.fs.getattr(1)).stat.ino == 1
    assert (await mounted.fs.statfs()).total == 1 << 40


async def test_a_link_does_not_lead_from_one_share_to_another(mount: Mount) -> None:
    share = MemShare("Daten")
    share.add_symlink("l", "../Other/x")
    mounted = await mount(share, whole_server=True)
    with pytest.raises(SmbError) as refused:
        await mounted.fs.readlink(await mounted.ino("Daten/l"))
    assert refused.value.errno == errno.EPERM


async def test_room_of_a_server_none_of_whose_shares_is_in_use(mount: Mount) -> None:
    mounted = await mount(MemShare("Daten"), whole_server=True)
    assert (await mounted.fs.statfs()).total == 0


async def test_without_a_cache_nothing_is_kept(mount: Mount) -> None:
    share = MemShare()
    share.add("a")
    mounted = await mount(share, cache=Cache(mode=CacheMode.NONE, attributes_s=60.0))
    for count in (1, 2, 3):
        entry = await mounted.fs.lookup(1, b"a")
        assert (entry.attr_timeout_s, entry.entry_timeout_s) == (0.0, 0.0)
        assert share.calls["stat"] == count
    assert (await mounted.fs.lookup(1, b"b")).entry_timeout_s == 0.0


async def test_loose_keeps_longer(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    share.add("d/a")
    mounted = await mount(share, cache=Cache(mode=CacheMode.LOOSE))
    await mounted.find("d/a")
    await trio.sleep(20)
    await mounted.find("d/a")
    assert share.calls["stat"] == 1
    await trio.sleep(20)
    await mounted.find("d/a")
    assert share.calls["stat"] > 1


async def test_a_cancelled_lookup_leaves_nothing_behind(mount: Mount) -> None:
    share = MemShare()
    share.add("d/a")
    mounted = await mount(share)
    folder = await mounted.ino("d")
    with share.held("stat"), trio.move_on_after(0.01):
        await mounted.fs.lookup(folder, b"a")
    await wait_all_tasks_blocked()
    assert mounted.fs.statistics().inodes == 2
    assert await mounted.ino("d/a")


async def test_statistics_can_be_printed(mount: Mount) -> None:
    share = MemShare()
    share.add("a", b"bytes")
    mounted = await mount(share)
    await mounted.read_all("a")
    shown = json.loads(json.dumps(dataclasses.asdict(mounted.fs.statistics())))
    assert shown["inodes"] == 2
    assert shown["blocks"]["hits"] == 1
    assert shown["shares"] == [share.name]


@pytest.mark.parametrize("attributes_s, directories_s", [(60.0, 1.0), (1.0, 60.0)])
async def test_a_name_is_believed_no_longer_than_folders_are_nor_than_its_attributes(
    mount: Mount, autojump_clock: MockClock, attributes_s: float, directories_s: float
) -> None:
    share = MemShare()
    share.add("d/f", b"text")
    mounted = await mount(share, cache=Cache(attributes_s=attributes_s, directories_s=directories_s))
    folder = await mounted.fs.lookup(1, b"d")
    file = await mounted.fs.lookup(folder.stat.ino, b"f")
    absent = await mounted.fs.lookup(folder.stat.ino, b"not there")
    assert (folder.entry_timeout_s, folder.attr_timeout_s) == (1.0, 1.0)
    assert (file.entry_timeout_s, file.attr_timeout_s) == (1.0, attributes_s)
    assert (absent.stat.ino, absent.entry_timeout_s) == (0, 1.0)

    async def asks(question: Callable[[], Awaitable[object]]) -> bool:
        before = share.calls["stat"]
        await question()
        return share.calls["stat"] > before

    await trio.sleep(10)
    assert await asks(lambda: mounted.fs.getattr(file.stat.ino)) == (attributes_s < 10)
    assert await asks(lambda: mounted.fs.getattr(folder.stat.ino))
    assert await asks(lambda: mounted.fs.lookup(folder.stat.ino, b"not there"))
    await trio.sleep(10)
    assert await asks(lambda: mounted.fs.lookup(folder.stat.ino, b"f"))
