"""Directory leases: asked for with listings, kept while names are in use, and what is forgotten when they break."""

import errno
import os

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from smbfuse.config import Cache, CacheMode
from smbfuse.share import Caching, Features, Kind
from smbfuse.vfs.contested import MOMENT_S
from tests.support.mem_share import MemShare
from tests.vfs.mounted import Mount
from tests.vfs.test_changes import CALLER, make, refusal, rename
from tests.vfs.test_removal import rmdir, unlink

LEASED = Features.DIRECTORY_LEASES | Features.LEASES
LONG = Cache(attributes_s=600.0, directories_s=600.0)


def leased_share() -> MemShare:
    return MemShare(features=LEASED, grants=Caching.READ | Caching.HANDLE)


def leases(share: MemShare, path: str) -> int:
    return len([grant for grant in share.node(path).grants if grant.client is share])


@pytest.mark.parametrize("mode", [CacheMode.STRICT, CacheMode.LOOSE])
async def test_a_folder_that_was_listed_is_kept_open_for_its_lease(
    mount: Mount, autojump_clock: MockClock, mode: CacheMode
) -> None:
    share = leased_share()
    share.add("d/f")
    mounted = await mount(share, cache=Cache(mode=mode))
    await mounted.names("d")
    await wait_all_tasks_blocked()
    assert leases(share, "d") == 1
    await trio.sleep(100)
    assert (leases(share, "d"), share.open_directories) == (0, 0)


async def test_a_lease_is_kept_while_names_are_asked_for(mount: Mount, autojump_clock: MockClock) -> None:
    share = leased_share()
    share.add("d/f")
    mounted = await mount(share)
    await mounted.names("d")
    folder = await mounted.ino("d")
    (grant,) = share.node("d").grants
    for _ in range(10):
        await trio.sleep(0.7)
        await mounted.fs.lookup(folder, b"f")
    assert share.node("d").grants == [grant]


@pytest.mark.parametrize(
    "features, cache",
    [
        (Features.LEASES, Cache()),
        (LEASED, Cache(mode=CacheMode.NONE)),
        (LEASED, Cache(attributes_s=0.0, directories_s=0.0)),
    ],
)
async def test_no_lease_where_none_is_to_be_had_or_would_do_any_good(
    mount: Mount, features: Features, cache: Cache
) -> None:
    share = MemShare(features=features, grants=Caching.READ | Caching.HANDLE)
    share.add("d/f")
    mounted = await mount(share, cache=cache)
    await mounted.names("d")
    await wait_all_tasks_blocked()
    assert (leases(share, "d"), share.open_directories) == (0, 0)


async def test_what_another_client_does_is_seen_at_once(mount: Mount, autojump_clock: MockClock) -> None:
    share = leased_share()
    share.add("d/f", b"old")
    share.add("d/sub/g")
    other = share.other_client()
    mounted = await mount(share, cache=LONG)
    assert await mounted.names("d") == [b".", b"..", b"f", b"sub"]
    assert await mounted.ino("d/new") == 0

    await other.make_directory("d/new")
    assert await mounted.ino("d/new") != 0
    assert (await mounted.ino("d"), b"new") in mounted.kernel.entries
    assert await mounted.names("d") == [b".", b"..", b"f", b"sub", b"new"]

    await other.remove("d/f", Kind.FILE)
    assert await mounted.ino("d/f") == 0
    assert (await mounted.ino("d"), b"f") in mounted.kernel.entries
    assert await mounted.names("d") == [b".", b"..", b"sub", b"new"]

    await other.rename("d/new", "d/newer", replace=False)
    assert await mounted.names("d") == [b".", b"..", b"sub", b"newer"]


async def test_a_folder_that_is_still_there_is_not_taken_from_who_works_in_it(mount: Mount) -> None:
    share = leased_share()
    share.add("d/sub/g")
    share.add_folder("d/gone")
    other = share.other_client()
    mounted = await mount(share, cache=LONG)
    await mounted.names("d")
    await other.remove("d/gone", Kind.DIRECTORY)
    await wait_all_tasks_blocked()
    told = {name for _, name in mounted.kernel.entries}
    assert b"gone" in told
    assert b"sub" not in told


async def test_a_break_is_answered_and_gives_the_handle_back(mount: Mount) -> None:
    share = leased_share()
    share.add("d/f")
    mounted = await mount(share, cache=LONG)
    await mounted.names("d")
    grant = share.break_grant("d")
    await wait_all_tasks_blocked()
    assert (grant.answered, grant.opens) == (None, 0)
    assert share.open_directories == 1  # the root's


async def test_a_break_while_the_folder_is_listed(mount: Mount) -> None:
    share = leased_share()
    share.page_entries = 1
    for name in "abc":
        share.add(f"d/{name}")
    mounted = await mount(share, cache=LONG)
    fh = await mounted.fs.opendir(await mounted.ino("d"))
    first = (await mounted.fs.readdir(fh, 0))[:3]
    grant = share.break_grant("d")
    await wait_all_tasks_blocked()
    assert grant.answers == [Caching.NONE]
    rest = await mounted.drain(fh, first[-1].next_cookie)
    assert [entry.name for entry in [*first, *rest]] == [b".", b"..", b"a", b"b", b"c"]
    await mounted.fs.releasedir(fh)
    await wait_all_tasks_blocked()
    assert (grant.opens, share.open_directories) == (0, 1)


async def test_a_lease_that_is_refused_right_after_its_break_is_asked_for_again(
    mount: Mount, autojump_clock: MockClock
) -> None:
    """Samba 4.22 refuses now and then while another client is still at work in the folder."""
    share = leased_share()
    share.add("d/f")
    other = share.other_client()
    mounted = await mount(share, cache=LONG)
    await mounted.names("d")
    await other.make_directory("d/new")
    share.grants = Caching.NONE
    await mounted.names("d")
    await wait_all_tasks_blocked()
    assert leases(share, "d") == 0
    share.grants = Caching.READ | Caching.HANDLE
    await other.make_directory("d/newer")
    assert b"newer" not in await mounted.names("d")  # nobody has told us
    await trio.sleep(MOMENT_S + 0.1)
    assert b"newer" in await mounted.names("d")
    assert leases(share, "d") == 1


async def test_an_answer_from_before_the_break_is_asked_for_again(mount: Mount, nursery: trio.Nursery) -> None:
    share = leased_share()
    share.add_folder("d")
    mounted = await mount(share, cache=LONG)
    await mounted.names("d")
    folder = await mounted.ino("d")
    found = []

    async def lookup() -> None:
        found.append((await mounted.fs.lookup(folder, b"f")).stat.ino)

    with share.held("stat"):
        nursery.start_soon(lookup)
        await wait_all_tasks_blocked()
        share.break_grant("d")
        asked = share.calls["stat"]
    await wait_all_tasks_blocked()
    assert share.calls["stat"] == asked + 1
    assert found == [0]


async def test_a_lost_connection_ends_what_was_promised(mount: Mount) -> None:
    share = leased_share()
    share.add("d/f")
    mounted = await mount(share, cache=LONG)
    await mounted.names("d")
    share.lose_connection()
    share.disk.remove("d/f")
    assert await mounted.ino("d/f") == 0


async def test_our_own_changes_leave_the_lease_and_are_seen(mount: Mount) -> None:
    share = leased_share()
    share.add("d/f")
    mounted = await mount(share, cache=LONG)
    await mounted.names("d")
    await make(mounted, "d/g")
    await unlink(mounted, "d/f")
    await mounted.fs.mkdir(await mounted.ino("d"), b"h", 0o755, CALLER)
    assert leases(share, "d") == 1
    assert await mounted.names("d") == [b".", b"..", b"g", b"h"]


async def test_a_leased_folder_is_removed_and_renamed(mount: Mount) -> None:
    share = leased_share()
    share.add("d/e/f")
    mounted = await mount(share, cache=LONG)
    await mounted.names("d")
    await mounted.names("d/e")
    await rename(mounted, "d", "g")
    assert await mounted.names("g/e") == [b".", b"..", b"f"]
    await unlink(mounted, "g/e/f")
    await rmdir(mounted, "g/e")
    assert share.node("g").children == {}
    with refusal(errno.ENOENT):
        await rmdir(mounted, "g/e")
    opened = await mounted.fs.create(await mounted.ino("g"), b"e", 0o644, os.O_WRONLY, CALLER)
    await mounted.fs.release(opened[1].fh)


async def test_leases_are_not_kept_without_bound(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smbfuse.vfs.folderleases.LEASES_MAX", 3)
    share = leased_share()
    for name in "abcdef":
        share.add(f"{name}/f")
    mounted = await mount(share, cache=LONG)
    for name in "acebdf":  # in no order, so that none is listed ahead
        await mounted.names(name)
    await wait_all_tasks_blocked()
    # The root is among those that were used last.
    assert [leases(share, name) for name in ("", *"abcdef")] == [1, 0, 0, 0, 1, 0, 1]
