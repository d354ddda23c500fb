"""Listing folders: cost, cookies, failure, names that no folder can hold."""

import errno
import logging

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from smbfuse.config import Cache, CacheMode
from smbfuse.errors import Denied, SmbError, Timeout
from tests.support.mem_share import MemShare
from tests.vfs.mounted import Mount

DENIED = 0xC0000022


def folder_of(count: int, *, page_entries: int = 1000) -> MemShare:
    share = MemShare(page_entries=page_entries)
    share.add_folder("d")
    for number in range(count):
        share.add(f"d/file {number:06}", b"x" * (number % 7))
    return share


async def test_dots_come_first_with_the_numbers_of_the_folder_and_the_one_above(mount: Mount) -> None:
    share = folder_of(1)
    mounted = await mount(share)
    listed = await mounted.entries("d")
    assert [entry.name for entry in listed] == [b".", b"..", b"file 000000"]
    assert [entry.entry.stat.ino for entry in listed[:2]] == [await mounted.ino("d"), 1]
    assert [entry.next_cookie for entry in listed] == [1, 2, 3]
    assert [entry.entry.stat.ino for entry in (await mounted.entries())[:2]] == [1, 1]


async def test_an_empty_folder_has_dots_only(mount: Mount) -> None:
    mounted = await mount(folder_of(0))
    assert await mounted.names("d") == [b".", b".."]


async def test_ls_l_costs_the_listing_alone(mount: Mount) -> None:
    share = folder_of(2500, page_entries=1000)
    mounted = await mount(share)
    ino = await mounted.ino("d")
    await wait_all_tasks_blocked()  # the listing of the root, by the mount
    before = share.calls.copy()
    listed = await mounted.entries("d")
    for entry in listed[2:]:
        assert (await mounted.fs.lookup(ino, entry.name)).stat == entry.entry.stat
        await mounted.fs.getattr(entry.entry.stat.ino)
    assert share.calls["stat"] == before["stat"]
    assert share.calls["open_directory"] - before["open_directory"] == 1
    assert share.calls["page"] - before["page"] == 3


async def test_again_within_the_time_out_costs_nothing(mount: Mount, autojump_clock: MockClock) -> None:
    share = folder_of(50)
    mounted = await mount(share)
    first = await mounted.names("d")
    before = share.calls.total()
    assert await mounted.names("d") == first
    closes = share.calls["close_directory"]
    assert share.calls.total() == before
    await trio.sleep(1.1)
    await mounted.names("d")
    assert share.calls["close_directory"] == closes + 1


async def test_the_mount_itself_has_listed_the_root(mount: Mount) -> None:
    share = folder_of(3)
    mounted = await mount(share)
    await mounted.names()
    assert share.calls["open_directory"] == 1
    assert share.calls["stat"] == 0


async def test_a_hundred_thousand_entries(mount: Mount) -> None:
    share = folder_of(100_000, page_entries=8000)
    mounted = await mount(share)
    listed = await mounted.entries("d", take=1000)
    assert len(listed) == 100_002
    assert len({entry.entry.stat.ino for entry in listed}) == 100_002
    mounted.fs.forget([(entry.entry.stat.ino, 1) for entry in listed[2:]])
    assert mounted.fs.statistics().inodes == 2


async def test_cookies_mean_the_same_however_the_folder_changes(mount: Mount, autojump_clock: MockClock) -> None:
    share = folder_of(200)
    mounted = await mount(share)
    fh = await mounted.fs.opendir(await mounted.ino("d"))
    first = (await mounted.fs.readdir(fh, 0))[:20]
    for number in range(0, 200, 2):
        share.disk.remove(f"d/file {number:06}")
        share.add(f"d/new {number}")
    await trio.sleep(5)
    assert (await mounted.names("d"))[2:] != [entry.name for entry in first[2:]]
    rest = await mounted.drain(fh, first[-1].next_cookie)
    names = [entry.name for entry in [*first, *rest]]
    assert names == [b".", b"..", *(b"file %06d" % number for number in range(200))]
    again = await mounted.fs.readdir(fh, first[4].next_cookie)
    assert again[0].name == first[5].name  # seekdir


async def test_entries_that_the_kernel_did_not_take_come_again_and_are_not_counted(mount: Mount) -> None:
    share = folder_of(100)
    mounted = await mount(share)
    fh = await mounted.fs.opendir(await mounted.ino("d"))
    offered = await mounted.fs.readdir(fh, 0)
    assert len(offered) > 3
    mounted.fs.accepted(offered[2].entry.stat.ino)
    again = await mounted.fs.readdir(fh, 3)
    assert again[0].name == offered[3].name
    await mounted.fs.releasedir(fh)
    assert mounted.fs.statistics().inodes == 3  # the root, the folder, and what was taken


async def test_rewinding_shows_what_is_there_now(mount: Mount, autojump_clock: MockClock) -> None:
    share = folder_of(3)
    mounted = await mount(share)
    fh = await mounted.fs.opendir(await mounted.ino("d"))
    assert len(await mounted.drain(fh)) == 5
    share.add("d/another")
    await trio.sleep(2)
    assert len(await mounted.drain(fh)) == 6


async def test_the_next_page_is_asked_for_while_one_is_handed_out(mount: Mount) -> None:
    share = folder_of(300, page_entries=100)
    mounted = await mount(share)
    fh = await mounted.fs.opendir(await mounted.ino("d"))
    await mounted.fs.readdir(fh, 0)
    await wait_all_tasks_blocked()
    assert [path for operation, path in share.log if operation == "page"].count("d") == 1
    await mounted.fs.readdir(fh, 110)  # in the second page
    await wait_all_tasks_blocked()
    assert [path for operation, path in share.log if operation == "page"].count("d") == 2


async def test_a_listing_nobody_reads_on_is_given_up(mount: Mount, autojump_clock: MockClock) -> None:
    share = folder_of(300, page_entries=100)
    mounted = await mount(share)
    fh = await mounted.fs.opendir(await mounted.ino("d"))
    await mounted.fs.releasedir(fh)
    await trio.sleep(3)
    assert share.open_directories == 0


async def test_readers_at_once_share_one_listing(mount: Mount) -> None:
    share = folder_of(300, page_entries=100)
    share.delays["open_directory"] = 0.01
    mounted = await mount(share)
    ino = await mounted.ino("d")
    before = share.calls["open_directory"]
    lengths: list[int] = []

    async def reader() -> None:
        lengths.append(len(await mounted.drain(await mounted.fs.opendir(ino))))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(reader)
    assert lengths == [302] * 5
    assert share.calls["open_directory"] == before + 1


async def test_a_folder_that_cannot_be_read_is_an_error_and_never_empty(mount: Mount) -> None:
    share = folder_of(5)
    mounted = await mount(share)
    ino = await mounted.ino("d")
    share.fail("open_directory", Denied("no", status=DENIED), path="d")
    with pytest.raises(Denied):
        await mounted.fs.opendir(ino)
    assert len(await mounted.names("d")) == 7


async def test_a_listing_that_breaks_off_is_an_error_at_its_end(mount: Mount) -> None:
    share = folder_of(300, page_entries=100)
    mounted = await mount(share)
    share.fail("page", Timeout("gone"), path="d")
    fh = await mounted.fs.opendir(await mounted.ino("d"))
    cookie = 0
    while cookie < 102:  # the first page, and the dots
        cookie = (await mounted.fs.readdir(fh, cookie))[-1].next_cookie
    with pytest.raises(Timeout):
        await mounted.fs.readdir(fh, cookie)
    await mounted.fs.releasedir(fh)
    assert len(await mounted.names("d")) == 302


async def test_a_root_that_cannot_be_listed_is_no_mount(mount: Mount) -> None:
    share = folder_of(1)
    share.fail("open_directory", Denied("no", status=DENIED))
    with pytest.raises(Denied):
        await mount(share)


async def test_only_folders_are_opened(mount: Mount) -> None:
    mounted = await mount(folder_of(1))
    with pytest.raises(SmbError) as refused:
        await mounted.fs.opendir(await mounted.ino("d/file 000000"))
    assert refused.value.errno == errno.ENOTDIR


async def test_a_name_that_vanished_is_cut_by_the_listing(mount: Mount, autojump_clock: MockClock) -> None:
    share = folder_of(3)
    mounted = await mount(share, cache=Cache(attributes_s=60.0, directories_s=1.0))
    folder, ino = await mounted.ino("d"), await mounted.ino("d/file 000001")
    share.disk.remove("d/file 000001")
    await trio.sleep(1.5)
    assert b"file 000001" not in await mounted.names("d")
    assert (folder, b"file 000001") in mounted.kernel.entries
    assert await mounted.ino("d/file 000001") == 0
    with pytest.raises(SmbError):
        await mounted.fs.getattr(ino)


async def test_what_a_listing_shows_is_no_longer_believed_to_be_missing(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = folder_of(1)
    mounted = await mount(share, cache=Cache(attributes_s=60.0, directories_s=60.0))
    folder = await mounted.ino("d")
    assert (await mounted.fs.lookup(folder, b"new")).stat.ino == 0
    share.add("d/new")
    assert b"new" in await mounted.names("d")
    assert mounted.kernel.entries == [(folder, b"new")]
    assert (await mounted.fs.lookup(folder, b"new")).stat.ino != 0


async def test_a_listing_does_not_bring_back_what_a_later_question_found_gone(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = folder_of(60)
    mounted = await mount(share, cache=Cache(directories_s=60.0))
    ino = await mounted.ino("d")
    fh = await mounted.fs.opendir(ino)
    await trio.sleep(1.1)
    share.disk.remove("d/file 000050")
    assert (await mounted.fs.lookup(ino, b"file 000050")).stat.ino == 0
    assert b"file 000050" not in [entry.name for entry in await mounted.drain(fh)]


async def test_every_name_is_shown_once_and_leads_to_its_file(mount: Mount, caplog: pytest.LogCaptureFixture) -> None:
    share = MemShare()
    share.add_folder("d")
    names = {
        "plain": b"plain",
        "a\uf022b": b"a:b",
        "a\uf03ab": "a\uf03ab".encode(),  # the same to look at: shown undecoded
        "dot\uf029": b"dot.",
        "\ud83d alone": b"\xed\xa0\xbd alone",
        "trailing.": b"trailing.",
        "control\uf007": b"control\x07",
        "é" * 200 + ".jpeg": None,
        "é" * 200 + "!.jpeg": None,
    }
    for number, name in enumerate(names):
        share.add(f"d/{name}", b"content %d" % number)
    mounted = await mount(share, cache=Cache(attributes_s=0.0, directories_s=0.0))
    listed = (await mounted.entries("d"))[2:]
    assert len({entry.name for entry in listed}) == len(names)
    ino = await mounted.ino("d")
    for number, (expected, entry) in enumerate(zip(names.values(), listed, strict=True)):
        assert expected in (None, entry.name)
        found = await mounted.fs.lookup(ino, entry.name)
        assert found.stat.ino == entry.entry.stat.ino
        opened = await mounted.fs.open(found.stat.ino, 0)
        assert bytes(await mounted.fs.read(opened.fh, 0, 100)) == b"content %d" % number


async def test_names_that_no_path_can_hold_are_shown_with_one_log_line(
    mount: Mount, caplog: pytest.LogCaptureFixture
) -> None:
    share = MemShare()
    folder = share.add_folder("d")
    for name in ("a/b", "nul\0", "back\\slash", ".", "..", ""):
        folder.children[name] = share.add("elsewhere", b"1234567")
    mounted = await mount(share)
    with caplog.at_level(logging.INFO):
        listed = (await mounted.entries("d"))[2:]
    assert [entry.name for entry in listed] == ["a\uf02fb".encode(), "nul\uf000".encode(), b"back\\slash"]
    assert all(entry.entry.stat.size == 7 for entry in listed)
    assert len([record for record in caplog.records if "no folder can hold" in record.message]) == 1


async def test_a_shortened_name_is_found_without_a_listing_before(mount: Mount) -> None:
    share = MemShare()
    long = "é" * 200 + ".jpeg"
    share.add(f"d/{long}", b"content")
    mounted = await mount(share)
    shown = (await mounted.entries("d"))[2].name
    other = await mount(share)
    found = await other.fs.lookup(await other.ino("d"), shown)
    assert found.stat.size == 7
    assert (await other.fs.lookup(await other.ino("d"), b"x~0123abcd")).stat.ino == 0


async def test_a_name_listed_in_one_mapping_and_made_again_in_the_other_is_found(mount: Mount) -> None:
    share = MemShare()
    share.add("d/a\uf03ab", b"sfu")
    mounted = await mount(share, cache=Cache(attributes_s=0.0, directories_s=0.0))
    await mounted.entries("d")
    share.disk.remove("d/a\uf03ab")
    share.add("d/a\uf022b", b"sfm!")
    assert (await mounted.find("d/a:b")).stat.size == 4


async def test_no_cache_lists_anew_each_time(mount: Mount) -> None:
    share = folder_of(3)
    mounted = await mount(share, cache=Cache(mode=CacheMode.NONE))
    assert len(await mounted.names("d")) == 5
    share.add("d/new")
    assert len(await mounted.names("d")) == 6


async def test_a_shares_wild_names_do_not_make_two_entries_of_one(mount: Mount) -> None:
    share = MemShare(folder_stat=False)
    for name in ("x\uf022", "x\uf03a"):
        share.add(f"d/{name}")
    mounted = await mount(share)
    for _ in range(2):
        assert len(set(await mounted.names("d"))) == 4
