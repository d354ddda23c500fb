"""What is asked for before anybody asks: what it costs the server, how long it is believed, that nothing is left."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from smbfuse.config import Cache, CacheMode
from smbfuse.errors import Busy, Denied, NotFound
from smbfuse.share import Caching, Features, Limits, OpenIntent
from smbfuse.vfs.file import JOIN_S
from smbfuse.vfs.speculation import ENTRIES_MAX
from tests.support.mem_files import MemFile
from tests.support.mem_share import MemShare
from tests.vfs.mounted import Mount, Mounted
from tests.vfs.test_removal import answers_late

FEW_IN_FLIGHT = Limits(read=1 << 20, write=1 << 20, transact=1 << 20, in_flight=7)
LIFETIME_S = 1.0


def folder_of(
    count: int, *, features: Features = Features.COMPOUND, page_entries: int = 1000, limits: Limits | None = None
) -> MemShare:
    share = MemShare(features=features, page_entries=page_entries, limits=limits)
    share.add_folder("d")
    for number in range(count):
        share.add(f"d/{number:05}", b"%05d" % number * 100)
    return share


async def read_by_name(mounted: Mounted, numbers: range, *, pause_s: float = 0.001) -> None:
    """Do as `cat d/*` does, without listing: look up, open, read, close; then let the kernel forget."""
    folder = await mounted.ino("d")
    for number in numbers:
        ino = (await mounted.fs.lookup(folder, b"%05d" % number)).stat.ino
        opened = await mounted.fs.open(ino, 0)
        assert bytes(await mounted.fs.read(opened.fh, 0, 4096)) == b"%05d" % number * 100
        await mounted.fs.release(opened.fh)
        mounted.fs.forget([(ino, 1)])
        await trio.sleep(pause_s)


async def nothing_is_left(mounted: Mounted, share: MemShare) -> None:
    """Let the time of everything held run out, and count."""
    await trio.sleep(2 * LIFETIME_S)
    statistics = mounted.fs.statistics()
    assert share.open_files == share.open_directories == statistics.speculation.held == statistics.open_files == 0
    assert statistics.inodes <= 2  # the root, and the folder while the kernel has it


# -- names


async def test_names_looked_up_one_by_one_are_listed_after_the_third(mount: Mount, autojump_clock: MockClock) -> None:
    share = folder_of(500)
    mounted = await mount(share)
    folder = await mounted.ino("d")
    before = share.calls.copy()
    for number in range(500):
        assert (await mounted.fs.lookup(folder, b"%05d" % number)).stat.size == 500
        await trio.sleep(0.001)
    assert share.calls["stat"] - before["stat"] == 3
    assert share.calls["open_directory"] - before["open_directory"] == 1
    assert mounted.fs.statistics().speculation.answered >= 497


async def test_a_listing_made_for_somebody_else_answers_too(mount: Mount, autojump_clock: MockClock) -> None:
    share = folder_of(100)
    mounted = await mount(share)
    folder = await mounted.ino("d")
    await mounted.fs.releasedir(await mounted.fs.opendir(folder))
    before = share.calls.total()
    assert (await mounted.fs.lookup(folder, b"00099")).stat.size == 500
    assert share.calls.total() == before


async def test_a_listing_is_believed_as_long_as_attributes_are(mount: Mount, autojump_clock: MockClock) -> None:
    share = folder_of(10)
    mounted = await mount(share, cache=Cache(directories_s=60.0))
    folder = await mounted.ino("d")
    await mounted.fs.releasedir(await mounted.fs.opendir(folder))
    share.write("d/00005", b"longer than it was" * 100)
    await trio.sleep(0.7)
    entry = await mounted.fs.lookup(folder, b"00005")
    assert entry.stat.size == 500
    assert entry.attr_timeout_s == pytest.approx(0.3)
    await trio.sleep(0.4)
    assert (await mounted.fs.lookup(folder, b"00005")).stat.size == 1800


async def test_what_a_listing_does_not_show_is_asked_for(mount: Mount, autojump_clock: MockClock) -> None:
    share = folder_of(10)
    mounted = await mount(share)
    folder = await mounted.ino("d")
    await mounted.fs.releasedir(await mounted.fs.opendir(folder))
    share.add("d/.snapshot/new", b"never listed")
    assert (await mounted.fs.lookup(folder, b".snapshot")).stat.ino
    assert (await mounted.fs.lookup(folder, b"00003")).stat.ino
    assert (await mounted.fs.lookup(folder, b"none")).stat.ino == 0


async def test_what_was_found_gone_is_not_recalled(mount: Mount, autojump_clock: MockClock) -> None:
    share = folder_of(10)
    mounted = await mount(share)
    folder = await mounted.ino("d")
    await mounted.fs.releasedir(await mounted.fs.opendir(folder))
    ino = (await mounted.fs.lookup(folder, b"00003")).stat.ino
    share.disk.remove("d/00003")
    with pytest.raises(NotFound):
        await mounted.fs.open(ino, 0)
    assert (await mounted.fs.lookup(folder, b"00003")).stat.ino == 0


async def test_a_few_names_of_a_huge_folder_do_not_list_it_over_and_over(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = folder_of(30_000, page_entries=5000)
    mounted = await mount(share, cache=Cache(attributes_s=0.1, directories_s=0.1))
    folder = await mounted.ino("d")
    for number in range(0, 30_000, 300):
        assert (await mounted.fs.lookup(folder, b"%05d" % number)).stat.ino
        await trio.sleep(0.2)
    assert mounted.fs.statistics().speculation.listed <= 5
    assert share.calls["page"] <= 5 * (ENTRIES_MAX // 5000 + 1)


async def test_who_removes_all_files_of_a_folder_asks_for_none(mount: Mount, autojump_clock: MockClock) -> None:
    """Do as `rm -r`: list, then remove; the kernel looks each name up again that it may no longer believe."""
    share = folder_of(60)
    mounted = await mount(share)
    folder = await mounted.ino("d")
    listed = {entry.name: entry.entry for entry in (await mounted.entries("d"))[2:]}
    believed_until = trio.current_time() + LIFETIME_S
    for operation in ("stat", "open_directory", "page", "remove"):
        share.delays[operation] = 0.05
    before = share.calls.copy()
    for name, entry in listed.items():
        if trio.current_time() >= believed_until:
            assert (await mounted.fs.lookup(folder, name)).stat.ino == entry.stat.ino
        await mounted.fs.unlink(folder, name)
    assert share.calls["stat"] - before["stat"] == 0
    assert share.calls["open_directory"] - before["open_directory"] <= 2 * 60 * 0.05 / LIFETIME_S
    await mounted.fs.rmdir(1, b"d")
    assert share.open_directories == 0


async def test_a_few_removals_list_nothing(mount: Mount, autojump_clock: MockClock) -> None:
    share = folder_of(1000)
    mounted = await mount(share)
    folder = await mounted.ino("d")
    await mounted.entries("d")
    before = share.calls["open_directory"]
    for number in range(15):
        await mounted.fs.unlink(folder, b"%05d" % number)
        await trio.sleep(0.06)
    assert share.calls["open_directory"] == before


async def test_a_huge_folder_is_listed_in_part(mount: Mount, autojump_clock: MockClock) -> None:
    share = folder_of(ENTRIES_MAX + 10_000)
    mounted = await mount(share)
    folder = await mounted.ino("d")
    for number in range(3):
        await mounted.fs.lookup(folder, b"%05d" % number)
    await trio.sleep(0.1)
    assert share.calls["page"] <= ENTRIES_MAX // 1000 + 1
    assert (await mounted.fs.lookup(folder, b"%05d" % (ENTRIES_MAX + 5000))).stat.ino
    await trio.sleep(2 * LIFETIME_S)
    assert share.open_directories == 0


async def test_a_folder_that_cannot_be_listed_is_looked_up_as_before(
    mount: Mount, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    share = folder_of(50)
    mounted = await mount(share)
    share.fail("open_directory", Denied("no listing", status=0xC0000022), path="d", times=1000)
    await read_by_name(mounted, range(50))
    assert not caplog.records


# -- files


async def test_small_files_read_by_name_cost_one_open_each(mount: Mount, autojump_clock: MockClock) -> None:
    share = folder_of(300)
    mounted = await mount(share)
    before = share.calls.copy()
    await read_by_name(mounted, range(300))
    assert share.calls["open"] == 300
    assert share.calls["stat"] - before["stat"] == 3
    assert share.reads == []
    speculation = mounted.fs.statistics().speculation
    assert speculation.opened == speculation.taken > 280
    await nothing_is_left(mounted, share)


async def test_their_opens_overlap(mount: Mount, autojump_clock: MockClock) -> None:
    share = folder_of(300)
    mounted = await mount(share)
    await mounted.fs.releasedir(await mounted.fs.opendir(await mounted.ino("d")))
    share.delays["open"] = 0.02
    began = trio.current_time()
    await read_by_name(mounted, range(300), pause_s=0.0)
    assert trio.current_time() - began < 300 * 0.02 / 5
    assert 4 < share.most_in_flight <= share.limits.in_flight // 2 + 1


@pytest.mark.parametrize(
    "cache, features, limits",
    [
        pytest.param(Cache(mode=CacheMode.NONE), Features.COMPOUND, None, id="cache=none"),
        pytest.param(Cache(attributes_s=0.0), Features.COMPOUND, None, id="actimeo=0"),
        pytest.param(Cache(), Features.NONE, None, id="SMB1"),
        pytest.param(Cache(), Features.COMPOUND, FEW_IN_FLIGHT, id="few requests at once"),
        pytest.param(Cache(size=1 << 20), Features.COMPOUND, None, id="small cache"),
    ],
)
async def test_nothing_is_opened_ahead_where_it_could_do_harm(
    mount: Mount, autojump_clock: MockClock, cache: Cache, features: Features, limits: Limits | None
) -> None:
    share = folder_of(50, features=features, limits=limits)
    mounted = await mount(share, cache=cache)
    await read_by_name(mounted, range(25))
    assert mounted.fs.statistics().speculation.opened == 0
    assert share.calls["open"] == 25


async def test_cache_none_asks_for_nothing_at_all(mount: Mount, autojump_clock: MockClock) -> None:
    share = folder_of(50)
    mounted = await mount(share, cache=Cache(mode=CacheMode.NONE))
    folder = await mounted.ino("d")
    await wait_all_tasks_blocked()  # the mount's own listing of the root has ended
    before = share.calls.copy()
    for number in range(50):
        await mounted.fs.lookup(folder, b"%05d" % number)
    await wait_all_tasks_blocked()
    assert share.calls - before == {"stat": 50}


async def test_what_nobody_comes_for_is_closed_in_time(mount: Mount, autojump_clock: MockClock) -> None:
    share = folder_of(50)
    mounted = await mount(share)
    await read_by_name(mounted, range(20))
    assert share.open_files > 0
    assert mounted.fs.statistics().speculation.held > 0
    await trio.sleep(LIFETIME_S + 0.05)
    assert share.open_files == 0
    await nothing_is_left(mounted, share)


async def test_a_wrong_guess_is_closed_at_once(mount: Mount, autojump_clock: MockClock) -> None:
    share = folder_of(200)
    mounted = await mount(share)
    await read_by_name(mounted, range(20))
    assert share.open_files > 0
    await read_by_name(mounted, range(150, 151), pause_s=0.02)
    assert mounted.fs.statistics().speculation.held == share.open_files == 0


async def test_a_change_after_an_open_ahead_is_seen_when_its_time_is_over(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = folder_of(50)
    mounted = await mount(share)
    await read_by_name(mounted, range(20))
    assert "d/00020" in [path for operation, path in share.log if operation == "open"]
    share.write("d/00020", b"new")
    assert await mounted.read_all("d/00020") == b"00020" * 100  # as old as attributes may be
    share.write("d/00021", b"new")
    await trio.sleep(LIFETIME_S + 0.05)
    assert await mounted.read_all("d/00020") == b"new"
    assert await mounted.read_all("d/00021") == b"new"


async def test_a_file_that_was_opened_ahead_stays_open_no_longer_for_being_used(
    mount: Mount, autojump_clock: MockClock
) -> None:
    """A server that tells nothing new of a file while it is open would be believed for twice as long."""
    share = folder_of(50, features=Features.COMPOUND | Features.LEASES)
    share.grants = Caching.READ | Caching.HANDLE
    mounted = await mount(share)
    await read_by_name(mounted, range(20))
    await trio.sleep(0.8 * LIFETIME_S)
    opens = share.calls["open"]
    assert await mounted.read_all("d/00020") == b"00020" * 100
    assert share.calls["open"] == opens  # it was opened ahead
    assert share.open_files > 0
    await trio.sleep(0.3 * LIFETIME_S)
    assert share.open_files == 0


async def test_a_file_deleted_after_an_open_ahead_is_gone_when_its_time_is_over(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = folder_of(50)
    mounted = await mount(share)
    await read_by_name(mounted, range(20))
    ino = await mounted.ino("d/00020")
    share.disk.remove("d/00020")
    await trio.sleep(LIFETIME_S + 0.05)
    with pytest.raises(NotFound):
        await mounted.fs.getattr(ino)
    assert await mounted.ino("d/00020") == 0
    assert share.open_files == 0


async def test_who_opens_what_is_being_opened_joins(mount: Mount, autojump_clock: MockClock) -> None:
    share = folder_of(50)
    mounted = await mount(share)
    await read_by_name(mounted, range(10))
    await trio.sleep(LIFETIME_S + 0.1)
    opens = share.calls["open"]
    await mounted.fs.releasedir(await mounted.fs.opendir(await mounted.ino("d")))
    share.delays["open"] = 0.1
    began = trio.current_time()
    await read_by_name(mounted, range(20, 24), pause_s=0.0)
    assert trio.current_time() - began == pytest.approx(0.4)  # three by themselves, the fourth was ahead
    assert len([path for operation, path in share.log if (operation, path) == ("open", "d/00023")]) == 1
    assert share.calls["open"] - opens <= 4 + 3


async def test_an_open_ahead_that_hangs_holds_up_nobody_for_long(mount: Mount, autojump_clock: MockClock) -> None:
    share = folder_of(50)
    mounted = await mount(share)
    await mounted.fs.releasedir(await mounted.fs.opendir(await mounted.ino("d")))
    await read_by_name(mounted, range(2))
    opened = await mounted.fs.open(await mounted.ino("d/00002"), 0)  # the next are about to be opened
    share.delays["open"] = 50.0
    await wait_all_tasks_blocked()
    assert share.in_flight > 0
    share.delays["open"] = 0.0
    with trio.fail_after(JOIN_S + 0.1):
        await read_by_name(mounted, range(3, 4))
    await mounted.fs.release(opened.fh)


async def test_one_open_ahead_that_hangs_keeps_the_others_from_nobody(
    mount: Mount, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = folder_of(50)
    mounted = await mount(share)
    await mounted.fs.releasedir(await mounted.fs.opendir(await mounted.ino("d")))
    answered, perform = trio.Event(), share.open

    async def open_late(path: str, intent: OpenIntent) -> MemFile:
        if path == "d/00003":
            await answered.wait()
        return await perform(path, intent)

    monkeypatch.setattr(share, "open", open_late)
    await read_by_name(mounted, range(3))  # the next are opened ahead
    await wait_all_tasks_blocked()
    began, opens = trio.current_time(), share.calls["open"]
    await read_by_name(mounted, range(4, 5), pause_s=0)
    assert (trio.current_time(), share.calls["open"]) == (began, opens)
    answered.set()
    await nothing_is_left(mounted, share)


async def test_a_file_that_is_being_opened_ahead_is_removed_when_that_has_ended(
    mount: Mount, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    share = folder_of(4)
    mounted = await mount(share)
    folder = await mounted.ino("d")
    await mounted.fs.releasedir(await mounted.fs.opendir(folder))
    await read_by_name(mounted, range(2))
    opened = await mounted.fs.open(await mounted.ino("d/00002"), 0)  # the last one is about to be opened
    answered = answers_late(share, "open")
    await wait_all_tasks_blocked()
    assert share.log[-1] == ("open", "d/00003")
    removed = answers_late(share, "remove")
    nursery.start_soon(mounted.fs.unlink, folder, b"00003")
    await wait_all_tasks_blocked()
    answered()
    await wait_all_tasks_blocked()
    removed()
    await wait_all_tasks_blocked()
    assert sorted(share.node("d").children) == ["00000", "00001", "00002"]
    assert list(share.root.children) == ["d"]
    await mounted.fs.release(opened.fh)


async def test_errors_of_guesses_are_seen_by_nobody(
    mount: Mount, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    share = folder_of(60)
    mounted = await mount(share)
    for number in (20, 21, 35):
        share.fail("open", Busy("locked for the moment", status=0xC0000043), path=f"d/{number:05}")
    await read_by_name(mounted, range(60))
    assert share.calls["open"] == 63  # the failed ones again, by who wanted them
    assert not caplog.records
    await nothing_is_left(mounted, share)


async def test_a_handle_closed_while_another_open_is_under_way_is_not_used(
    mount: Mount, autojump_clock: MockClock
) -> None:
    share = folder_of(1)
    mounted = await mount(share)
    ino = await mounted.ino("d/00000")
    first = await mounted.fs.open(ino, 0)
    await trio.sleep(LIFETIME_S + 0.1)  # the second open asks the server
    share.delays["open"] = 0.1
    handles = []

    async def open_again() -> None:
        handles.append((await mounted.fs.open(ino, 0)).fh)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(open_again)
        await trio.sleep(0.05)
        await mounted.fs.release(first.fh)
    await trio.sleep(0.1)
    assert share.open_files == 1
    assert bytes(await mounted.fs.read(handles[0], 0, 5)) == b"00000"
    await mounted.fs.release(handles[0])
    mounted.fs.forget([(ino, 1)])
    await nothing_is_left(mounted, share)
