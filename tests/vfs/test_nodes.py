"""Node numbers: never two live files under one, never another number for a living file."""

import errno
import os

import pytest
import trio
from trio.testing import MockClock

from smbfuse.config import Cache, View
from smbfuse.errors import SmbError
from smbfuse.share import Features, Kind
from smbfuse.vfs.nodes import OWN_NUMBERS
from smbfuse.vfs.posix import Caller, Entry
from tests.support.mem_share import MemShare
from tests.vfs.mounted import Mount, closed

CALLER = Caller(1000, 1000, 0o022)
EAGER = Cache(attributes_s=0.0, directories_s=0.0)  # every question goes to the server


async def test_the_servers_file_id_is_the_inode_number(mount: Mount) -> None:
    share = MemShare()
    share.add("a", file_id=0xDEADBEEF)
    share.add_folder("d", file_id=1 << 63 | 5)
    mounted = await mount(share)
    assert await mounted.ino("a") == 0xDEADBEEF
    assert await mounted.ino("d") == 1 << 63 | 5


@pytest.mark.parametrize("file_id", [0, 1, (1 << 64) - 1, OWN_NUMBERS.start + 7])
async def test_an_id_that_is_none_is_replaced(mount: Mount, file_id: int) -> None:
    share = MemShare()
    share.add("a", file_id=file_id)
    mounted = await mount(share)
    ino = await mounted.ino("a")
    assert ino in OWN_NUMBERS
    assert await mounted.ino("a") == ino


async def test_noserverino_never_uses_the_servers_ids(mount: Mount) -> None:
    share = MemShare()
    share.add("a", file_id=500)
    mounted = await mount(share, view=View(server_inode=False), cache=EAGER)
    ino = await mounted.ino("a")
    assert ino in OWN_NUMBERS
    share.node("a").file_id = 501  # ids that are worth nothing do not make it another file
    assert await mounted.ino("a") == ino


async def test_a_second_disk_below_the_share_repeats_numbers(mount: Mount) -> None:
    share = MemShare()
    created = share.add("same", b"first", file_id=77).created_ns
    share.add_folder("mnt", volume_id=2, file_id=2)
    share.add_folder("other", file_id=900)
    share.add_folder("mnt/folder", file_id=900)
    share.add("mnt/same", b"second", file_id=77).created_ns = created
    mounted = await mount(share)
    for _ in range(2):  # by listing and by lookup
        assert await mounted.ino("same") == 77
        second = await mounted.ino("mnt/same")
        assert second in OWN_NUMBERS
        assert await mounted.ino("other") != await mounted.ino("mnt/folder")
        assert await mounted.read_all("mnt/same") == b"second"
        assert await mounted.read_all("same") == b"first"
        await mounted.entries()
        await mounted.entries("mnt")
        assert await mounted.ino("mnt/same") == second


async def test_a_listing_alone_never_makes_a_hard_link(mount: Mount) -> None:
    share = MemShare()
    share.add("a", file_id=77)
    share.disk.link("a", "b")
    mounted = await mount(share)
    listed = {entry.name: entry.entry.stat.ino for entry in await mounted.entries()}
    assert listed[b"a"] != listed[b"b"]


async def test_hard_links_share_a_number_where_the_volume_is_known(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    share.add("one/a", b"x" * 100, file_id=77)
    share.add_folder("two")
    share.disk.link("one/a", "two/b")
    mounted = await mount(share)
    assert await mounted.ino("one/a") == await mounted.ino("two/b") == 77
    assert (await mounted.find("two/b")).stat.nlink == 2
    share.disk.remove("one/a")
    await trio.sleep(2)
    assert await mounted.ino("one/a") == 0
    assert await mounted.ino("two/b") == 77
    assert await mounted.read_all("two/b") == b"x" * 100


async def test_one_link_counted_is_no_hard_link(mount: Mount) -> None:
    share = MemShare()
    node = share.add("a", file_id=77)
    share.disk.link("a", "b")
    node.links = 1
    mounted = await mount(share)
    assert await mounted.ino("a") != await mounted.ino("b")


async def test_two_folders_never_share_a_number(mount: Mount) -> None:
    share = MemShare()
    share.add_folder("a", file_id=77)
    share.add_folder("b", file_id=77).created_ns = share.node("a").created_ns
    mounted = await mount(share)
    assert await mounted.ino("a") != await mounted.ino("b")


async def test_deleted_and_made_again_while_open_is_another_inode(mount: Mount, autojump_clock: MockClock) -> None:
    share = MemShare()
    share.add("f", b"old bytes", file_id=77)
    mounted = await mount(share)
    old = await mounted.ino("f")
    opened = await mounted.fs.open(old, 0)
    share.disk.remove("f")
    share.add("f", b"new", file_id=77)  # the number is used again at once
    await trio.sleep(2)
    new = await mounted.ino("f")
    assert new != old
    assert await mounted.read_all("f") == b"new"
    assert bytes(await mounted.fs.read(opened.fh, 0, 100)) == b"old bytes"
    entry = await mounted.fs.getattr(old)
    assert (entry.stat.ino, entry.stat.nlink, entry.stat.size) == (old, 0, 9)
    assert await mounted.ino("f") == new


async def test_a_creation_time_that_moves_with_the_others_makes_no_other_file(
    mount: Mount, autojump_clock: MockClock
) -> None:
    # Samba, for files made on the server itself: reading moves the access time, and the "creation" time with it.
    share = MemShare()
    file = share.add("log", b"one", file_id=77)
    file.created_ns = file.written_ns
    mounted = await mount(share)
    opened = await mounted.fs.open(await mounted.ino("log"), 0)
    for size in range(1, 4):
        share.write("log", b"line\n" * size)
        file.created_ns = file.written_ns
        await trio.sleep(2)
        assert await mounted.ino("log") == 77
        entry = await mounted.fs.getattr(77)
        assert (entry.stat.size, entry.stat.nlink, entry.generation) == (5 * size, 1, 0)
        assert bytes(await mounted.fs.read(opened.fh, 0, 100)) == b"line\n" * size


async def test_a_number_used_again_by_another_name_while_open(mount: Mount) -> None:
    share = MemShare()
    share.add("f", b"old", file_id=77)
    mounted = await mount(share)
    await mounted.fs.open(await mounted.ino("f"), 0)
    share.disk.remove("f")
    share.add("g", b"new", file_id=77)
    assert await mounted.ino("g") in OWN_NUMBERS


async def test_a_number_used_again_by_a_closed_file_gets_another_generation(mount: Mount) -> None:
    share = MemShare()
    share.add("f", b"old", file_id=77)
    mounted = await mount(share, cache=EAGER)
    before = await mounted.find("f")
    share.disk.remove("f")
    share.add("f", b"other", file_id=77)
    after = await mounted.find("f")
    assert (after.stat.ino, after.generation) == (77, before.generation + 1)
    assert await mounted.read_all("f") == b"other"
    mounted.fs.forget([(77, 3)])  # two lookups here and one in read_all, of both files
    assert mounted.fs.statistics().inodes == 1


@pytest.mark.parametrize("kind", [Kind.DIRECTORY, Kind.FILE])
async def test_what_is_made_is_none_that_was_removed_before(mount: Mount, kind: Kind) -> None:
    """The kernel may not have let go of the former yet: it would find the new one elsewhere, or dead."""
    share = MemShare()
    share.disk.keeps_creation = False
    mounted = await mount(share, cache=EAGER)

    async def make(name: bytes) -> Entry:
        if kind is Kind.DIRECTORY:
            return await mounted.fs.mkdir(1, name, 0o755, CALLER)
        entry, opened = await mounted.fs.create(1, name, 0o644, os.O_RDWR | os.O_EXCL, CALLER)
        await closed(mounted, opened.fh)
        return entry

    before = await make(b"old")
    share.disk.use_again(before.stat.ino)
    await (mounted.fs.rmdir if kind is Kind.DIRECTORY else mounted.fs.unlink)(1, b"old")
    after = await make(b"new")
    assert (after.stat.ino, after.generation) == (before.stat.ino, before.generation + 1)
    assert (await mounted.find("new")).generation == after.generation


async def test_what_another_client_made_in_the_place_of_a_folder_removed_here_is_another(mount: Mount) -> None:
    share = MemShare()
    share.disk.keeps_creation = False
    mounted = await mount(share, cache=EAGER)
    before = await mounted.fs.mkdir(1, b"old", 0o755, CALLER)
    await mounted.fs.rmdir(1, b"old")
    share.add_folder("new", file_id=before.stat.ino)
    after = await mounted.find("new")
    assert (after.stat.ino, after.generation) == (before.stat.ino, before.generation + 1)


@pytest.mark.parametrize("kind", [Kind.DIRECTORY, Kind.FILE])
async def test_a_number_of_what_is_below_a_folder_that_is_gone_is_used_again(mount: Mount, kind: Kind) -> None:
    share = MemShare(features=Features.HARD_LINKS)
    share.disk.keeps_creation = False
    (share.add_folder if kind is Kind.DIRECTORY else share.add)("above/below", file_id=77)
    mounted = await mount(share, cache=EAGER)
    assert await mounted.ino("above/below") == 77
    share.disk.remove("above")
    assert await mounted.ino("above") == 0
    (share.add_folder if kind is Kind.DIRECTORY else share.add)("new", file_id=77)
    assert await mounted.ino("new") in OWN_NUMBERS


async def test_a_further_name_keeps_its_number_when_the_first_is_removed(mount: Mount) -> None:
    share = MemShare(features=Features.HARD_LINKS)
    share.add("f", b"bytes", file_id=77)
    share.disk.link("f", "g")
    mounted = await mount(share, cache=EAGER)
    await mounted.fs.open(await mounted.ino("f"), 0)
    await mounted.fs.unlink(1, b"f")
    assert await mounted.ino("g") == 77


async def test_a_creation_time_that_is_known_better_later_makes_no_other_file(
    mount: Mount, autojump_clock: MockClock
) -> None:
    """Samba gives the earliest of the other times, and then an earlier one that it has kept."""
    share = MemShare()
    file = share.add("f", b"bytes", file_id=77)
    kept, file.created_ns = file.created_ns, file.written_ns
    mounted = await mount(share, cache=EAGER)
    opened = await mounted.fs.open(await mounted.ino("f"), 0)
    file.created_ns = kept
    entry = await mounted.find("f")
    assert (entry.stat.ino, entry.generation) == (77, 0)
    assert bytes(await mounted.fs.read(opened.fh, 0, 9)) == b"bytes"


async def test_a_file_renamed_by_another_client_keeps_its_number_while_open(mount: Mount) -> None:
    share = MemShare()
    share.add("f", b"bytes", file_id=77)
    mounted = await mount(share, cache=EAGER)
    opened = await mounted.fs.open(await mounted.ino("f"), 0)
    share.disk.rename("f", "g")
    assert await mounted.ino("f") == 0
    assert await mounted.ino("g") == 77
    assert (await mounted.fs.getattr(77)).stat.nlink == 1
    assert bytes(await mounted.fs.read(opened.fh, 0, 9)) == b"bytes"


async def test_a_replaced_folder_is_stale_and_what_is_below_it_too(mount: Mount) -> None:
    share = MemShare()
    share.add("d/f")
    mounted = await mount(share, cache=EAGER)
    folder, file = await mounted.ino("d"), await mounted.ino("d/f")
    share.disk.remove("d")
    share.add("d/f")
    assert await mounted.ino("d") != folder
    with pytest.raises(SmbError) as stale:
        await mounted.fs.getattr(file)
    assert stale.value.errno == errno.ESTALE
    assert await mounted.ino("d/f") not in (0, file)


async def test_ids_that_change_with_each_answer_are_given_up(mount: Mount) -> None:
    share = MemShare()
    node = share.add("f", b"bytes", file_id=77)
    mounted = await mount(share, cache=EAGER)
    ino = await mounted.ino("f")
    for wild in (78, 79, 80):
        node.file_id = wild
        assert await mounted.ino("f") == ino
        await mounted.entries()
    assert await mounted.ino("f") == ino


async def test_a_server_without_ids(mount: Mount) -> None:
    share = MemShare()
    share.gives_ids = False
    share.add("a", b"a")
    share.add("b", b"b")
    mounted = await mount(share, cache=EAGER)
    first = await mounted.ino("a")
    await mounted.entries()
    assert await mounted.ino("a") == first != await mounted.ino("b")


async def test_spellings_that_differ_in_case_are_one_node(mount: Mount) -> None:
    share = MemShare()
    share.add("Größe.TXT", file_id=77)
    mounted = await mount(share)
    assert await mounted.ino("Größe.TXT") == await mounted.ino("größe.txt") == 77
    assert await mounted.ino("GRÖßE.txt") == 77
    before = share.calls["stat"]
    assert await mounted.ino("größe.txt") == 77
    assert share.calls["stat"] == before


async def test_a_case_sensitive_server_has_two(mount: Mount) -> None:
    share = MemShare(case_sensitive=True)
    share.add("Foo")
    share.add("foo")
    mounted = await mount(share)
    assert 0 != await mounted.ino("Foo") != await mounted.ino("foo") != 0
    assert await mounted.ino("FOO") == 0


async def test_two_files_that_differ_in_case_only_behind_a_server_that_ignores_it(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = MemShare()
    share.add("Foo", b"upper", file_id=77)
    share.add("foo", b"lower", file_id=78)
    mounted = await mount(share)
    for _ in range(2):
        assert (await mounted.ino("Foo"), await mounted.ino("foo")) == (77, 78)
        assert await mounted.read_all("foo") == b"lower"
        assert await mounted.read_all("Foo") == b"upper"
        assert sorted(await mounted.names())[2:] == [b"Foo", b"foo"]
        await trio.sleep(2)


async def test_a_name_whose_case_was_changed_is_shown_anew(mount: Mount) -> None:
    share = MemShare()
    share.add("foo", file_id=77)
    mounted = await mount(share, cache=EAGER)
    assert await mounted.ino("foo") == 77
    share.disk.rename("foo", "FOO")
    assert b"FOO" in await mounted.names()
    assert await mounted.ino("FOO") == 77
    assert (1, b"foo") in mounted.kernel.entries


async def test_forgotten_nodes_are_dropped_with_the_folders_kept_for_them(mount: Mount) -> None:
    share = MemShare()
    share.add("a/b/c")
    mounted = await mount(share)
    a, b, c = await mounted.ino("a"), await mounted.ino("a/b"), await mounted.ino("a/b/c")
    mounted.fs.forget([(a, 100), (b, 100)])
    assert mounted.fs.statistics().inodes == 4  # the path of c is still needed
    mounted.fs.forget([(c, 1)])
    assert mounted.fs.statistics().inodes == 1


async def test_forget_never_raises(mount: Mount) -> None:
    share = MemShare()
    share.add("a")
    mounted = await mount(share)
    ino = await mounted.ino("a")
    mounted.fs.forget([(ino, 5), (ino, 1), (12345, 1), (1, 1000), (0, 0)])
    assert mounted.fs.statistics().inodes == 1
    assert (await mounted.fs.getattr(1)).stat.ino == 1
    with pytest.raises(SmbError) as stale:
        await mounted.fs.getattr(ino)
    assert stale.value.errno == errno.ESTALE


async def test_an_open_file_survives_being_forgotten(mount: Mount) -> None:
    share = MemShare()
    share.add("a", b"bytes")
    mounted = await mount(share)
    ino = await mounted.ino("a")
    opened = await mounted.fs.open(ino, 0)
    mounted.fs.forget([(ino, 1)])
    assert bytes(await mounted.fs.read(opened.fh, 0, 9)) == b"bytes"
    await mounted.fs.release(opened.fh)
    assert mounted.fs.statistics().inodes == 1
