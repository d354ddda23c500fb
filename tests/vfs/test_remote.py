"""Changes that others make, told by the server: what is let go of, what is left alone, and that ours cost nothing."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from smbfuse.config import Cache, CacheMode
from smbfuse.errors import ConnectionLost, SmbError
from smbfuse.share import Features, Limits
from smbfuse.status import NtStatus, error
from smbfuse.vfs import remote
from smbfuse.vfs.recent import ECHO_S
from smbfuse.vfs.remote import PAUSE_MAX_S, PAUSE_S, REST_MAX_S
from tests.support.mem_share import MemShare
from tests.vfs.mounted import Mount, Mounted
from tests.vfs.test_changes import make, rename
from tests.vfs.test_removal import unlink

LONG = Cache(attributes_s=600.0, directories_s=600.0)


def watched_share() -> MemShare:
    return MemShare(features=Features.NOTIFY)


async def settled(mounted: Mounted) -> None:
    """Let what was told be taken in."""
    await wait_all_tasks_blocked()
    mounted.kernel.entries.clear()
    mounted.kernel.inodes.clear()


async def calls(share: MemShare) -> tuple[int, int]:
    await wait_all_tasks_blocked()
    return share.calls["stat"], share.calls["open_directory"]


@pytest.mark.parametrize(
    "features, cache, watched",
    [
        (Features.NOTIFY, LONG, True),
        (Features.NOTIFY, Cache(mode=CacheMode.LOOSE), True),
        (Features.NOTIFY, Cache(attributes_s=0.0, directories_s=60.0), True),
        (Features.NOTIFY, Cache(), True),
        (Features.NOTIFY, Cache(notify=False), False),
        (Features.NOTIFY, Cache(attributes_s=0.0, directories_s=0.0), False),
        (Features.NOTIFY, Cache(mode=CacheMode.NONE, attributes_s=600.0), False),
        (Features.NONE, LONG, False),
    ],
)
async def test_a_share_is_watched_where_anything_is_believed_and_the_server_can(
    mount: Mount, features: Features, cache: Cache, watched: bool
) -> None:
    share = MemShare(features=features)
    await mount(share, cache=cache)
    assert [watch.path for watch in share.watches] == [""] * watched


@pytest.mark.parametrize("in_flight, cache, watched", [(3, Cache(), False), (4, Cache(), True), (3, LONG, True)])
async def test_a_server_that_takes_few_requests_at_once_is_left_them_where_little_is_believed(
    mount: Mount, in_flight: int, cache: Cache, watched: bool
) -> None:
    limits = Limits(read=1 << 16, write=1 << 16, transact=1 << 16, in_flight=in_flight)
    share = MemShare(features=Features.NOTIFY, limits=limits)
    await mount(share, cache=cache)
    assert len(share.watches) == watched


async def test_every_share_of_a_server_that_is_used_is_watched(mount: Mount) -> None:
    share, unused = MemShare("a", features=Features.NOTIFY), MemShare("b", features=Features.NOTIFY)
    share.add("d/f")
    mounted = await mount(share, unused, cache=LONG, whole_server=True)
    await mounted.names("a/d")
    await wait_all_tasks_blocked()
    assert (len(share.watches), len(unused.watches)) == (1, 0)
    share.add("d/g")
    await wait_all_tasks_blocked()
    assert await mounted.names("a/d") == [b".", b"..", b"f", b"g"]


async def test_a_new_name_is_seen_at_once(mount: Mount) -> None:
    share = watched_share()
    share.add("d/f")
    mounted = await mount(share, cache=LONG)
    assert await mounted.names("d") == [b".", b"..", b"f"]
    assert await mounted.ino("d/new") == 0
    share.add("d/new")
    await wait_all_tasks_blocked()
    assert (await mounted.ino("d"), b"new") in mounted.kernel.entries
    assert await mounted.ino("d/new") != 0
    assert await mounted.names("d") == [b".", b"..", b"f", b"new"]


async def test_a_name_that_went_is_gone_at_once(mount: Mount) -> None:
    share = watched_share()
    share.add("d/f")
    share.add("d/g")
    mounted = await mount(share, cache=LONG)
    await mounted.names("d")
    share.disk.remove("d/f")
    await wait_all_tasks_blocked()
    assert (await mounted.ino("d"), b"f") in mounted.kernel.entries
    assert await mounted.ino("d/f") == 0
    assert await mounted.names("d") == [b".", b"..", b"g"]


async def test_a_rename_is_both(mount: Mount) -> None:
    share = watched_share()
    share.add("d/f", b"data")
    mounted = await mount(share, cache=LONG)
    await mounted.names("d")
    assert await mounted.ino("d/g") == 0
    share.disk.rename("d/f", "d/g")
    await wait_all_tasks_blocked()
    assert await mounted.ino("d/f") == 0
    assert (await mounted.find("d/g")).stat.size == 4
    assert await mounted.names("d") == [b".", b"..", b"g"]


async def test_new_content_is_seen_at_once_and_costs_no_listing(mount: Mount) -> None:
    share = watched_share()
    share.add("d/f", b"old")
    mounted = await mount(share, cache=LONG)
    await mounted.names("d")
    assert await mounted.read_all("d/f") == b"old"
    _, listings = await calls(share)
    share.write("d/f", b"newer")
    await wait_all_tasks_blocked()
    assert (await mounted.ino("d/f"), True) in mounted.kernel.inodes
    assert (await mounted.find("d/f")).stat.size == 5
    assert await mounted.read_all("d/f") == b"newer"
    await mounted.names("d")
    assert (await calls(share))[1] == listings


async def test_who_has_a_file_open_sees_its_new_content_also_after_its_name_was_told(mount: Mount) -> None:
    share = watched_share()
    mounted = await mount(share, cache=LONG)
    with share.held("notices"):  # that there is a new name is told late
        share.add("f", b"old")
        ino = await mounted.ino("f")
        fh = (await mounted.fs.open(ino, 0)).fh
    await wait_all_tasks_blocked()
    assert (1, b"f") in mounted.kernel.entries
    mounted.kernel.inodes.clear()
    share.write("f", b"new")
    await wait_all_tasks_blocked()
    assert (ino, True) in mounted.kernel.inodes  # who reads asks by no name
    await mounted.fs.getattr(ino)
    assert bytes(await mounted.fs.read(fh, 0, 3)) == b"new"
    await mounted.fs.release(fh)


async def test_what_an_open_finds_is_not_lost_over_a_change_that_is_told_meanwhile(
    mount: Mount, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    share = watched_share()
    share.add("f", b"old")
    mounted = await mount(share, cache=LONG)
    ino = await mounted.ino("f")
    found: list[int] = []

    async def opens() -> None:
        found.append((await mounted.fs.open(ino, 0)).fh)

    await trio.sleep(1)
    with share.held("open"):
        nursery.start_soon(opens)
        await trio.sleep(1)
        share.write("f", b"newer, and longer")
        await wait_all_tasks_blocked()
    await wait_all_tasks_blocked()
    assert bytes(await mounted.fs.read(found[0], 0, 100)) == b"newer, and longer"
    asked, _ = await calls(share)
    assert (await mounted.fs.getattr(ino)).stat.size == 17
    assert (await calls(share))[0] == asked + 1  # nobody knows which was first
    assert (await mounted.fs.getattr(ino)).attr_timeout_s > 500
    await mounted.fs.release(found[0])


async def test_an_answer_that_was_asked_for_before_a_change_was_told_is_shown_and_not_believed(
    mount: Mount, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    share = watched_share()
    share.add("f", b"old")
    mounted = await mount(share, cache=LONG)
    ino = await mounted.ino("f")
    await trio.sleep(1000)
    shown: list[tuple[int, float]] = []

    async def looks() -> None:
        entry = await mounted.fs.getattr(ino)
        shown.append((entry.stat.size, entry.attr_timeout_s))

    with share.held("stat"):
        nursery.start_soon(looks)
        await trio.sleep(1)
        share.write("f", b"newer")
        await wait_all_tasks_blocked()
    await wait_all_tasks_blocked()
    await looks()
    assert shown[0] == (5, 0.0)
    assert shown[1][0] == 5
    assert shown[1][1] > 500


@pytest.mark.parametrize("mode", [CacheMode.STRICT, CacheMode.LOOSE])
async def test_a_kernel_that_hears_of_sizes_with_names_alone_is_to_ask_for_the_name(
    mount: Mount, mode: CacheMode
) -> None:
    share = watched_share()
    share.add("f", b"old")
    mounted = await mount(share, cache=Cache(mode=mode, attributes_s=600.0, directories_s=600.0))
    before = await mounted.find("f")
    await settled(mounted)
    share.write("f", b"newer")
    await wait_all_tasks_blocked()
    assert ((1, b"f") in mounted.kernel.entries) == (mode is CacheMode.LOOSE)
    after = await mounted.find("f")
    assert after.stat.size == 5
    assert (after.generation != before.generation) == (mode is CacheMode.LOOSE)


async def test_exactly_what_changed_is_let_go_of(mount: Mount) -> None:
    share = watched_share()
    for path in ("d/f", "d/g", "e/f", "e/sub/x"):
        share.add(path)
    mounted = await mount(share, cache=LONG)
    for folder in ("", "d", "e", "e/sub"):
        await mounted.names(folder)
    await settled(mounted)
    before = await calls(share)
    share.disk.remove("d/f")
    await wait_all_tasks_blocked()
    d = await mounted.ino("d")
    assert mounted.kernel.entries == [(d, b"f")]
    assert {ino for ino, _ in mounted.kernel.inodes} == {d}
    for path in ("d/g", "e/f", "e/sub/x"):
        await mounted.find(path)
    for folder in ("e", "e/sub", "d", "d"):
        await mounted.names(folder)
    stats, listings = await calls(share)
    assert listings - before[1] == 1
    assert stats - before[0] <= 1  # of the folder, whose times have changed


async def test_a_thousand_changed_names_cost_one_listing_of_each_changed_folder(mount: Mount) -> None:
    share = watched_share()
    for number in range(1000):
        share.add(f"{number % 10}/f{number}")
    mounted = await mount(share, cache=LONG)
    for folder in ("", *map(str, range(10))):
        await mounted.names(folder)
    before = share.calls["open_directory"]
    for number in range(1000):
        if number % 10 < 7:
            share.disk.rename(f"{number % 10}/f{number}", f"{number % 10}/g{number}")
    await wait_all_tasks_blocked()
    for _ in range(2):
        for number in range(10):
            names = await mounted.names(str(number))
            assert len(names) == 102
            assert all(name[:1] == (b"g" if number < 7 else b"f") for name in names[2:])
    assert share.calls["open_directory"] - before == 7


async def test_a_folder_is_not_taken_from_who_works_in_it_but_asked_for(mount: Mount) -> None:
    share = watched_share()
    share.add_folder("d/gone")
    share.add("d/stays/f")
    mounted = await mount(share, cache=LONG)
    await mounted.names("d")
    folder = share.disk.node("d/stays")
    share.disk.remove("d/gone")
    await wait_all_tasks_blocked()
    folder.attributes |= 2
    share.disk.stirred.stir()
    await wait_all_tasks_blocked()
    told = {name for _, name in mounted.kernel.entries}
    assert b"gone" in told
    assert b"stays" not in told


async def test_a_listing_that_began_before_a_name_was_told_does_not_take_it_away(
    mount: Mount, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    share = watched_share()
    share.add("d/f")
    share.add("d/sub/f")
    share.add_folder("e")
    mounted = await mount(share, cache=LONG)
    ino = await mounted.ino("d/sub")
    await trio.sleep(1)
    with share.held("stat"):  # by which the folder is asked for, as soon as it is told of
        with share.held("page"):
            folder = await mounted.ino("d")
            share.disk.rename("d/sub", "e/sub")
            fh = await mounted.fs.opendir(folder)
            nursery.start_soon(mounted.drain, fh)
            await trio.sleep(1)
            share.disk.rename("e/sub", "d/sub")
            await trio.sleep(1)
        await trio.sleep(1)
    await trio.sleep(1)
    assert (await mounted.fs.getattr(ino)).stat.nlink > 0
    assert await mounted.names("d") == [b".", b"..", b"f", b"sub"]
    assert await mounted.ino("d/sub") == ino


async def test_what_was_missed_may_be_anything(mount: Mount, autojump_clock: MockClock) -> None:
    share = watched_share()
    share.add("d/f", b"1")
    share.add("d/sub/g", b"1")
    mounted = await mount(share, cache=LONG)
    for folder in ("", "d", "d/sub"):
        await mounted.names(folder)
    assert await mounted.ino("d/new") == 0
    share.watches[0].overflowed = True
    share.disk.write("d/sub/g", b"22")
    share.disk.write("d/f", b"22")
    share.disk.remove("d/f")
    share.add("d/new")
    await trio.sleep(1)
    assert await mounted.ino("d/f") == 0
    assert await mounted.ino("d/new") != 0
    assert (await mounted.find("d/sub/g")).stat.size == 2
    assert await mounted.names("d") == [b".", b"..", b"sub", b"new"]
    assert b"sub" not in {name for _, name in mounted.kernel.entries}


async def test_a_server_that_never_knows_what_has_happened_keeps_nobody_busy(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = watched_share()
    for number in range(100):
        share.add(f"{number}/f")
    mounted = await mount(share, cache=LONG)
    for number in range(100):
        await mounted.names(str(number))
    asked = share.calls["stat"]
    (watch,) = share.watches
    for _ in range(6000):
        watch.overflowed = True
        share.disk.stirred.stir()
        await trio.sleep(0.1)
    assert share.calls["notices"] < 100
    assert share.calls["stat"] - asked < 600 * 6  # in ten minutes
    share.add("0/g")
    await trio.sleep(REST_MAX_S)
    assert await mounted.names("0") == [b".", b"..", b"f", b"g"]


async def test_a_lost_connection_is_survived(mount: Mount, autojump_clock: MockClock) -> None:
    share = watched_share()
    share.add("d/f")
    mounted = await mount(share, cache=LONG)
    await mounted.names("d")
    share.lose_connection()
    share.add("d/g")
    await trio.sleep(60)
    assert await mounted.names("d") == [b".", b"..", b"f", b"g"]
    share.add("d/h")
    await wait_all_tasks_blocked()
    assert await mounted.names("d") == [b".", b"..", b"f", b"g", b"h"]


@pytest.mark.parametrize("when", ["watch", "notices"])
async def test_where_watching_ends_the_connection_it_is_tried_less_and_less(
    mount: Mount, autojump_clock: MockClock, when: str
) -> None:
    share = watched_share()
    share.fail(when, ConnectionLost("reset by the server", sent=True), times=1000)
    await mount(share, cache=LONG)
    await trio.sleep(3600)
    assert share.calls[when] < 15
    share._failures.clear()
    await trio.sleep(PAUSE_MAX_S)
    share.add("f")
    await trio.sleep(1)
    assert share.watches[-1].open
    assert share.calls["notices"] > 1


async def test_nothing_is_asked_for_while_the_server_is_out_of_reach(mount: Mount, autojump_clock: MockClock) -> None:
    share = watched_share()
    mounted = await mount(share, cache=LONG)
    mounted.source.reachable = False
    share.fail("notices", ConnectionLost("no connection", sent=False), times=1000)
    share.lose_connection()
    await trio.sleep(1)
    asked = share.calls["notices"]
    await trio.sleep(3600)
    assert share.calls["notices"] == asked
    share._failures.clear()
    mounted.source.reachable = True
    share.add("f")
    await trio.sleep(PAUSE_S)
    assert await mounted.ino("f") != 0


@pytest.mark.parametrize("when", ["watch", "notices"])
async def test_a_refusal_ends_the_watch_and_nothing_else(mount: Mount, autojump_clock: MockClock, when: str) -> None:
    share = watched_share()
    share.add("d/f")
    refused: SmbError = error(NtStatus.NOT_SUPPORTED, "NOTIFY")
    share.fail(when, refused)
    mounted = await mount(share, cache=LONG)
    assert await mounted.names("d") == [b".", b"..", b"f"]
    await trio.sleep(60)
    assert not any(watch.open for watch in share.watches)


# -- our own changes


async def test_our_own_changes_cost_no_question_and_are_not_taken_from_the_kernel(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = watched_share()
    share.add("d/f")
    mounted = await mount(share, cache=LONG)
    await mounted.names("d")
    await settled(mounted)
    await make(mounted, "d/ours", b"data")
    await wait_all_tasks_blocked()
    assert b"ours" not in {name for _, name in mounted.kernel.entries}
    assert (await mounted.ino("d/ours"), True) not in mounted.kernel.inodes
    before, _ = await calls(share)
    assert (await mounted.find("d/ours")).stat.size == 4
    stats, _ = await calls(share)
    assert stats - before <= 1  # of the folder, whose times have changed


async def test_an_echo_does_not_outgrow_a_listing_that_is_being_read(mount: Mount, autojump_clock: MockClock) -> None:
    share = watched_share()
    share.page_entries = 1
    for number in range(5):
        share.add(f"d/{number}")
    mounted = await mount(share, cache=LONG)
    await wait_all_tasks_blocked()
    with share.held("notices"):
        await make(mounted, "d/ours")
        fh = await mounted.fs.opendir(await mounted.ino("d"))
        (*_, last) = await mounted.fs.readdir(fh, 0)
    await wait_all_tasks_blocked()
    await mounted.drain(fh, last.next_cookie)
    await mounted.fs.releasedir(fh)
    _, listings = await calls(share)
    assert len(await mounted.names("d")) == 8
    assert (await calls(share))[1] == listings


async def test_no_echo_ever_costs_a_listing(mount: Mount, autojump_clock: MockClock) -> None:
    share = watched_share()
    share.add("d/f")
    mounted = await mount(share, cache=LONG)
    await make(mounted, "d/a")
    await make(mounted, "d/b")
    await rename(mounted, "d/a", "d/c")
    await unlink(mounted, "d/b")
    await mounted.names("d")
    _, listings = await calls(share)
    for _ in range(5):
        await trio.sleep(ECHO_S)
        assert await mounted.names("d") == [b".", b"..", b"f", b"c"]
    assert (await calls(share))[1] == listings


async def test_what_another_does_right_after_us_is_seen_a_moment_later(mount: Mount, autojump_clock: MockClock) -> None:
    share = watched_share()
    share.add_folder("d")
    mounted = await mount(share, cache=LONG)
    await make(mounted, "d/ours")
    await mounted.names("d")
    await wait_all_tasks_blocked()
    share.write("d/ours", b"theirs")
    await trio.sleep(2 * ECHO_S + 1)
    assert (await mounted.find("d/ours")).stat.size == 6
    await make(mounted, "d/more")
    await mounted.names("d")
    await wait_all_tasks_blocked()
    share.disk.remove("d/more")
    await trio.sleep(2 * ECHO_S + 1)
    assert await mounted.ino("d/more") == 0
    assert await mounted.names("d") == [b".", b"..", b"ours"]


async def test_that_a_name_came_right_after_we_removed_it_is_not_forgotten_over_its_content(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = watched_share()
    share.add("d/f")
    mounted = await mount(share, cache=LONG)
    await mounted.names("d")
    await unlink(mounted, "d/f")
    await wait_all_tasks_blocked()
    share.add("d/f")
    await wait_all_tasks_blocked()
    share.write("d/f", b"theirs")
    await trio.sleep(2 * ECHO_S + 1)
    assert (await mounted.find("d/f")).stat.size == 6


async def test_names_that_were_hidden_here_are_nobodys(mount: Mount, autojump_clock: MockClock) -> None:
    share = watched_share()
    share.add("d/f", b"data")
    mounted = await mount(share, cache=LONG)
    opened = await mounted.fs.open(await mounted.ino("d/f"), 0)
    await unlink(mounted, "d/f")
    await mounted.names("d")
    _, listings = await calls(share)
    await trio.sleep(3 * ECHO_S)
    assert await mounted.names("d") == [b".", b".."]
    assert (await calls(share))[1] == listings
    assert bytes(await mounted.fs.read(opened.fh, 0, 10)) == b"data"
    await mounted.fs.release(opened.fh)


# -- where little is believed


async def test_what_another_does_is_seen_at_once_also_where_it_soon_would_be(mount: Mount) -> None:
    share = watched_share()
    share.add("d/f", b"old")
    mounted = await mount(share, cache=Cache(attributes_s=3.0, directories_s=3.0))
    assert await mounted.names("d") == [b".", b"..", b"f"]
    assert await mounted.ino("d/new") == 0
    share.add("d/new")
    share.write("d/f", b"newer")
    await wait_all_tasks_blocked()
    assert await mounted.ino("d/new") != 0
    assert (await mounted.find("d/f")).stat.size == 5
    assert await mounted.names("d") == [b".", b"..", b"f", b"new"]


async def test_our_own_changes_leave_nothing_to_be_done_where_it_would_come_too_late(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = watched_share()
    share.add_folder("d")
    mounted = await mount(share)
    await make(mounted, "d/ours", b"data")
    await mounted.names("d")
    await trio.sleep(0.1)  # the kernel's pages go a moment after a write
    await settled(mounted)
    asked = await calls(share)
    await trio.sleep(10)
    assert (mounted.kernel.entries, mounted.kernel.inodes) == ([], [])
    assert await calls(share) == asked


@pytest.mark.parametrize("many", [False, True])
async def test_what_was_missed_lapses_by_itself_where_there_is_too_much_of_it(
    mount: Mount, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    monkeypatch.setattr(remote, "ALL_MAX", 3 if many else 1000)
    share = watched_share()
    for number in range(5):
        share.add(f"d/{number}", b"old")
    mounted = await mount(share)
    await mounted.names("d")
    share.watches[0].overflowed = True
    share.write("d/1", b"newer")
    await wait_all_tasks_blocked()
    assert (await mounted.find("d/1")).stat.size == (3 if many else 5)
    await trio.sleep(1)
    assert (await mounted.find("d/1")).stat.size == 5
