"""Open files beside a loss: written once and whole, proven the same or void, and grants that end and come again."""

import contextlib
import errno
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from smbfuse.client.reconnect import ReconnectingShare
from smbfuse.client.reopening import ReconnectingFile
from smbfuse.errors import Busy, ConnectionLost, Denied, Orphaned, SmbError, StaleHandle, Timeout
from smbfuse.share import Attributes, Caching, Change, Creation, Features, Kind, OpenIntent
from smbfuse.status import NtStatus, error
from tests.client.severed import DIAL_S, Harm, World
from tests.conftest import ExpectedWarnings

UNSENT, REQUEST_LOST, ANSWER_LOST, LATE, IGNORED = Harm
LOSSES = [UNSENT, REQUEST_LOST, ANSWER_LOST]
WRITING = OpenIntent(write=True)
READING = OpenIntent()
EVERYTHING = Caching.READ | Caching.WRITE | Caching.HANDLE


class Holder:
    """Keeps count of what it hears."""

    def __init__(self, key: bytes = b"0123456789abcdef") -> None:
        self.key = key
        self.losses = 0
        self.regains = 0
        self.breaks: list[Caching] = []

    def broken(self, remaining: Caching, *, acknowledge: bool) -> None:
        self.breaks.append(remaining)

    def lost(self) -> None:
        self.losses += 1

    def regained(self) -> None:
        self.regains += 1


def a_world(grants: Caching = Caching.NONE, features: Features = Features.POSIX) -> World:
    world = World(grants=grants, features=features)
    world.disk.add("file", b"0123456789")
    return world


@contextlib.asynccontextmanager
async def a_file(
    intent: OpenIntent, grants: Caching = Caching.NONE, features: Features = Features.POSIX
) -> AsyncIterator[tuple[World, ReconnectingShare, ReconnectingFile]]:
    """Yield a world, the share in it, and the share's file, opened."""
    world = a_world(grants, features)
    async with world.share() as share:
        yield world, share, await share.open("file", intent)


ByHandle = Callable[[ReconnectingFile], Awaitable[object]]
BY_HANDLE: list[tuple[str, ByHandle]] = [
    ("read", lambda file: file.read(2, 3)),
    ("write", lambda file: file.write(8, [b"ab", b"cd"])),
    ("flush", lambda file: file.flush()),
    ("refresh", lambda file: file.refresh()),
    ("change_open", lambda file: file.change(Change(size=4))),
    ("change_open", lambda file: file.change(Change(written_ns=1_000_000_000))),
]


@pytest.mark.parametrize("harm", LOSSES)
@pytest.mark.parametrize("operation, call", BY_HANDLE, ids=[one[0] for one in BY_HANDLE])
async def test_every_call_of_a_file_goes_on(
    autojump_clock: MockClock, operation: str, call: ByHandle, harm: Harm
) -> None:
    untouched, world = a_world(), a_world()
    async with untouched.share() as share:
        expected = await call(await share.open("file", WRITING))
    async with world.share() as share:
        file = await share.open("file", WRITING)
        world.cut(operation, harm, harm)
        answer = await call(file)
        assert world.dials == 3
        if operation in ("read", "write"):
            assert answer == expected
        assert world.disk.node("file").data == untouched.disk.node("file").data
        await file.aclose()
    assert world.line is not None
    assert world.line.memory.open_files == 0


async def test_a_file_is_never_made_or_emptied_again(autojump_clock: MockClock) -> None:
    world = a_world()
    intent = OpenIntent(write=True, creation=Creation.IF_ABSENT, truncate=True, first_bytes=4096, mode=0o600)
    async with world.share() as share:
        file = await share.open("file", intent)
        await file.write(0, [b"kept"])
        world.lose()
        await file.write(4, [b" too"])
        assert world.disk.node("file").data == b"kept too"
        world.disk.remove("file")
        world.lose()
        with pytest.raises(StaleHandle):
            await file.write(0, [b"x"])
        assert "file" not in world.disk.root.children


@pytest.mark.parametrize("harm", LOSSES)
async def test_writes_under_way_together_are_all_made(autojump_clock: MockClock, harm: Harm) -> None:
    async with a_file(WRITING) as (world, _, file):
        world.cut("write", harm)
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(file.write, 4 * number, [b"%04d" % number])
        assert world.disk.node("file").data == b"".join(b"%04d" % number for number in range(8))
        assert world.dials == 2
        assert world.line is not None
        assert world.line.memory.calls["open"] == 1


async def test_what_one_handle_writes_makes_no_other_stale(autojump_clock: MockClock) -> None:
    async with a_file(READING) as (world, share, reader):
        writer = await share.open("file", WRITING)
        await writer.write(10, [b"more"])
        world.lose()
        assert bytes(await reader.read(10, 4)) == b"more"
        await writer.write(14, [b"and more"])
        await writer.aclose()
        world.lose()
        assert bytes(await reader.read(14, 8)) == b"and more"


ByPath = Callable[[ReconnectingShare], Awaitable[object]]
BY_PATH: list[tuple[str, ByPath]] = [
    ("change of times", lambda share: share.change("file", Change(written_ns=1_000_000_000))),
    ("change of size", lambda share: share.change("file", Change(size=7))),
    ("link", lambda share: share.link("file", "second")),
    ("attribute", lambda share: share.set_extended_attribute("file", "name", b"value")),
    ("descriptor", lambda share: share.set_security_descriptor("file", b"descriptor")),
    ("rename", lambda share: share.rename("file", "renamed", replace=False)),
    ("emptying", lambda share: share.open("file", OpenIntent(write=True, truncate=True))),
]


@pytest.mark.parametrize("name, call", BY_PATH, ids=[one[0] for one in BY_PATH])
@pytest.mark.parametrize("harm", [None, *LOSSES])
async def test_what_is_changed_here_by_path_makes_no_handle_stale(
    autojump_clock: MockClock, name: str, call: ByPath, harm: Harm | None
) -> None:
    features = Features.POSIX | Features.HARD_LINKS | Features.EXTENDED_ATTRIBUTES
    async with a_file(READING, features=features) as (world, share, reader):
        await trio.sleep(10)
        if harm is not None:
            world.harm_at = (world.calls.total() + 1, harm)
        await call(share)
        world.disk.node(reader.path or "").changed_ns += 100  # a server may note the change of its names late
        world.lose()
        assert bytes(await reader.read(0, 20)) == bytes(world.disk.node(reader.path or "").data)


async def test_another_clients_change_makes_a_reading_handle_stale(autojump_clock: MockClock) -> None:
    async with a_file(READING) as (world, share, reader):
        world.lose()
        world.disk.write("file", b"9876543210")
        for _ in range(2):
            with pytest.raises(StaleHandle):
                await reader.read(0, 10)
        assert bytes(await (await share.open("file", READING)).read(0, 10)) == b"9876543210"


async def test_a_change_that_was_seen_before_the_loss_makes_nothing_stale(autojump_clock: MockClock) -> None:
    async with a_file(READING) as (world, share, reader):
        world.disk.write("file", b"longer than before")
        await share.stat("file")
        world.lose()
        assert bytes(await reader.read(0, 6)) == b"longer"
        world.disk.write("file", b"short")
        await reader.refresh()
        world.lose()
        assert bytes(await reader.read(0, 10)) == b"short"


def replace(world: World) -> None:
    """Let another client put a file in the place of ours; filesystems give it the number that has just become free."""
    number = world.disk.remove("file").file_id
    world.disk.add("file", b"another's file", file_id=number)


async def stat_it(share: ReconnectingShare) -> None:
    await share.stat("file")


async def open_it(share: ReconnectingShare) -> None:
    await (await share.open("file", READING)).aclose()


LOOKS = [stat_it, open_it]


@pytest.mark.parametrize("look", LOOKS)
async def test_a_look_at_what_another_has_changed_proves_nothing(
    autojump_clock: MockClock, look: Callable[[ReconnectingShare], Awaitable[None]]
) -> None:
    async with a_file(READING) as (world, share, reader):
        world.lose()
        world.disk.write("file", b"9876543210")
        await look(share)
        with pytest.raises(StaleHandle):
            await reader.read(0, 10)


@pytest.mark.parametrize("look", LOOKS)
async def test_another_file_that_got_the_number_of_ours_is_not_written_to(
    autojump_clock: MockClock, look: Callable[[ReconnectingShare], Awaitable[None]]
) -> None:
    async with a_file(WRITING) as (world, share, writer):
        await writer.write(0, [b"ours"])
        world.lose()
        replace(world)
        await look(share)
        with pytest.raises(StaleHandle):
            await writer.write(0, [b"OURS"])
        assert world.disk.node("file").data == b"another's file"


async def test_a_file_whose_handle_the_server_has_closed_is_not_proven_by_a_look_either(
    autojump_clock: MockClock,
) -> None:
    async with a_file(WRITING) as (world, share, writer):
        assert world.line is not None
        world.line.memory.fail("write", error(NtStatus.FILE_CLOSED, "WRITE"))
        world.line.memory.fail("open", error(NtStatus.SHARING_VIOLATION, "CREATE"))
        with pytest.raises(Busy):
            await writer.write(0, [b"ours"])
        replace(world)
        await share.stat("file")
        with pytest.raises(StaleHandle):
            await writer.write(0, [b"OURS"])
        assert world.disk.node("file").data == b"another's file"


async def test_what_was_proven_after_a_loss_is_kept_up_with_again(autojump_clock: MockClock) -> None:
    async with a_file(READING) as (world, share, reader):
        world.lose()
        await reader.read(0, 1)
        world.disk.write("file", b"longer than before")
        await share.stat("file")
        world.lose()
        assert bytes(await reader.read(0, 6)) == b"longer"


async def test_where_files_have_no_numbers_the_next_one_of_a_name_is_another(autojump_clock: MockClock) -> None:
    world = World(features=Features.NONE)
    world.disk.add("file", b"0123456789", file_id=0)
    async with world.share() as share:
        first = await share.open("file", WRITING)
        await share.rename("file", "moved", replace=False)
        world.disk.add("file", b"another's", file_id=0)
        second = await share.open("file", WRITING)
        world.lose()
        await first.write(0, [b"ours"])
        await second.write(0, [b"ANOTHER"])
        assert world.disk.node("moved").data == b"ours456789"
        assert world.disk.node("file").data == b"ANOTHER's"


async def test_another_clients_writing_beside_ours_is_no_loss(autojump_clock: MockClock) -> None:
    async with a_file(WRITING) as (world, _, writer):
        await writer.write(0, [b"ours"])
        world.lose()
        world.disk.write("file", b"ours, them")  # of the same size
        assert await writer.write(0, [b"OURS"]) == 4
        assert world.disk.node("file").data == b"OURS, them"


async def test_a_change_of_size_by_another_makes_a_writing_handle_stale(autojump_clock: MockClock) -> None:
    async with a_file(WRITING) as (world, _, writer):
        await writer.write(0, [b"ours"])
        world.lose()
        world.disk.write("file", b"cut")
        with pytest.raises(StaleHandle):
            await writer.write(0, [b"OURS"])
        assert world.disk.node("file").data == b"cut"


async def test_bytes_on_their_way_into_a_file_that_another_changed_are_named(
    autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("bytes 4096 to 4099, 8192 to 8195 of it were on their way and may not be on the server")
    async with a_file(WRITING) as (world, _, writer):
        outcomes: list[SmbError] = []

        async def write(offset: int) -> None:
            with pytest.raises(SmbError) as raised:
                await writer.write(offset, [b"ours"])
            outcomes.append(raised.value)

        async with trio.open_nursery() as nursery:
            world.line.memory.delays["write"] = 1  # type: ignore[union-attr]  # connected
            nursery.start_soon(write, 8192)
            await trio.sleep(0.5)
            world.cut("write", REQUEST_LOST)
            nursery.start_soon(write, 4096)
            await trio.sleep(1)
            world.disk.write("file", b"?" * 10_000)
        assert [(type(outcome), outcome.errno) for outcome in outcomes] == [(SmbError, errno.EIO)] * 2
        with pytest.raises(SmbError) as raised:
            await writer.flush()
        assert raised.value.errno == errno.EIO
        await writer.aclose()
        assert world.disk.node("file").data == b"?" * 10_000


async def test_bytes_on_their_way_into_a_file_that_was_replaced_are_named(
    autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("bytes 20 to 23 of it were on their way")
    async with a_file(WRITING) as (world, _, writer):
        world.cut("write", REQUEST_LOST)
        world.disk.remove("file")
        world.disk.add("file", b"another one")
        with pytest.raises(StaleHandle):
            await writer.write(20, [b"ours"])
        assert world.disk.node("file").data == b"another one"


@pytest.mark.parametrize("how", ["removed", "replaced"])
async def test_bytes_on_their_way_into_a_file_that_we_removed_alarm_nobody(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    caplog.set_level("INFO")
    async with a_file(WRITING) as (world, share, writer):
        if how == "removed":
            await share.remove("file", Kind.FILE)
        else:
            world.disk.add("another", b"another one")
            await share.rename("another", "file", replace=True)
        world.cut("write", REQUEST_LOST)
        with pytest.raises(Orphaned):
            await writer.write(20, [b"ours"])
    (said,) = [record for record in caplog.records if "on their way" in record.getMessage()]
    assert (said.levelname, said.getMessage()) == (
        "INFO",
        "'file': it was removed, and then the connection was lost;"
        " bytes 20 to 23 of it were on their way and may not be on the server",
    )


async def test_bytes_on_their_way_into_a_file_that_has_another_name_left_are_named(
    autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("bytes 20 to 23 of it were on their way")
    world = a_world(features=Features.POSIX | Features.HARD_LINKS)
    async with world.share() as share:
        await share.link("file", "another name")
        writer = await share.open("file", WRITING)
        await writer.refresh()
        await share.remove("file", Kind.FILE)
        world.cut("write", REQUEST_LOST)
        with pytest.raises(StaleHandle) as raised:
            await writer.write(20, [b"ours"])
        assert type(raised.value) is StaleHandle


async def test_bytes_that_were_confirmed_later_are_not_named(autojump_clock: MockClock) -> None:
    async with a_file(WRITING) as (world, _, writer):
        world.cut("write", LATE)
        with pytest.raises(Timeout):
            await writer.write(20, [b"ours"])
        await writer.write(16, [b"all ours"])
        world.lose()
        world.disk.write("file", b"?" * 30)
        with pytest.raises(StaleHandle):
            await writer.write(0, [b"x"])


@pytest.mark.parametrize("harm", LOSSES)
@pytest.mark.parametrize("sizes", [(4,), (4, 12), (12, 4)])
async def test_a_resizing_that_is_lost_is_made_and_proves_the_file(
    autojump_clock: MockClock, harm: Harm, sizes: tuple[int, ...]
) -> None:
    world = a_world()
    async with world.share() as share:
        reader, writer = await share.open("file", READING), await share.open("file", WRITING)
        for size in sizes:
            world.cut("change_open", harm)
            await writer.change(Change(size=size))
            assert len(world.disk.node("file").data) == size
        world.lose()
        assert len(await reader.read(0, 20)) == sizes[-1]


async def test_a_file_without_an_id_is_proven_by_what_there_is(autojump_clock: MockClock) -> None:
    world = a_world()
    async with world.share() as share:
        world.line.memory.gives_ids = False  # type: ignore[union-attr]  # connected
        writer, reader = await share.open("file", WRITING), await share.open("file", READING)
        assert writer.known is reader.known
        await writer.write(10, [b"more"])
        await writer.aclose()
        world.cut("open", UNSENT)
        world.lose()
        with pytest.raises(StaleHandle):  # now the server gives ids: it is not what it was
            await reader.read(0, 10)


# -- names


async def test_a_path_follows_renames(autojump_clock: MockClock) -> None:
    world = a_world()
    world.disk.add("folder/deep/file", b"deep")
    async with world.share() as share:
        near, deep = await share.open("file", READING), await share.open("FOLDER/deep/file", READING)
        listing = await share.open_directory("folder/deep")
        beside = await share.open_directory("")
        await share.rename("File", "folder/near", replace=False)
        await share.rename("folder", "elsewhere", replace=False)
        assert (near.path, deep.path) == ("elsewhere/near", "elsewhere/deep/file")
        assert (listing.path, beside.path) == ("elsewhere/deep", "")
        world.lose()
        assert bytes(await near.read(0, 10)) == b"0123456789"
        assert bytes(await deep.read(0, 10)) == b"deep"
        assert [entry.name for entry in await listing.page()] == ["file"]


async def test_names_that_only_look_alike_do_not_follow(autojump_clock: MockClock) -> None:
    world = a_world(features=Features.POSIX | Features.CASE_SENSITIVE)
    for path in ("fil", "FILE", "files/file"):
        world.disk.add(path, path.encode())
    async with world.share() as share:
        files = [await share.open(path, READING) for path in ("fil", "FILE", "files/file")]
        await share.rename("file", "renamed", replace=False)
        assert [file.path for file in files] == ["fil", "FILE", "files/file"]


@pytest.mark.parametrize("harm", LOSSES)
async def test_a_reader_waits_for_the_rename_that_takes_its_file_away(autojump_clock: MockClock, harm: Harm) -> None:
    async with a_file(READING) as (world, share, reader):
        world.cut("rename", harm)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: share.rename("file", "renamed", replace=True))
            nursery.start_soon(reader.read, 0, 10)
        assert reader.path == "renamed"
        assert bytes(await reader.read(0, 10)) == b"0123456789"


async def test_what_was_replaced_or_removed_here_has_no_name_to_come_back_by(autojump_clock: MockClock) -> None:
    world = a_world()
    world.disk.add("replaced", b"0123456789")
    async with world.share() as share:
        replaced, removed = await share.open("replaced", READING), await share.open("file", READING)
        await share.rename("file", "replaced", replace=True)
        assert bytes(await replaced.read(0, 4)) == b"0123"  # by its handle
        await share.remove("replaced", Kind.FILE)
        world.disk.add("replaced", b"0123456789")
        world.lose()
        for file in (replaced, removed):
            assert file.path is None
            with pytest.raises(StaleHandle):
                await file.read(0, 4)
            await file.aclose()


# -- grants


async def test_every_holder_hears_of_each_loss_once(autojump_clock: MockClock) -> None:
    world = a_world(EVERYTHING, Features.POSIX | Features.DIRECTORY_LEASES)
    world.disk.add("second")
    async with world.share() as share:
        holders = [Holder(b"%016d" % number) for number in range(4)]
        first = OpenIntent(holder=holders[0], wanted=EVERYTHING)
        handles = [await share.open("file", first), await share.open("file", first)]
        await share.open("second", OpenIntent(holder=holders[1]))  # wants nothing, and is told all the same
        await share.open_directory("", holders[2])
        closed = await share.open("second", OpenIntent(holder=holders[3], wanted=EVERYTHING))
        await closed.aclose()
        world.lose()
        assert [holder.losses for holder in holders] == [1, 1, 1, 0]
        await handles[0].read(0, 1)
        assert [holder.losses for holder in holders] == [1, 1, 1, 0]
        world.lose()
        assert [holder.losses for holder in holders] == [2, 2, 2, 0]


async def test_a_handle_that_is_opened_again_asks_for_its_grant_again(autojump_clock: MockClock) -> None:
    world = a_world(EVERYTHING)
    async with world.share() as share:
        holder = Holder()
        file = await share.open("file", OpenIntent(write=True, holder=holder, wanted=EVERYTHING))
        assert file.caching == EVERYTHING
        world.lose()
        assert file.caching == Caching.NONE
        await file.acknowledge(Caching.NONE)
        await file.stand_aside()
        await file.read(0, 1)
        assert (file.caching, holder.regains) == (EVERYTHING, 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.other().open, "file", READING)
            await trio.sleep(1)
            assert holder.breaks == [Caching.READ | Caching.HANDLE]
            await file.acknowledge(Caching.READ | Caching.HANDLE)
        assert file.caching == Caching.READ | Caching.HANDLE
        world.lose()
        await file.aclose()
        assert file.caching == Caching.NONE


async def test_a_listing_that_is_begun_again_asks_for_its_grant_again(autojump_clock: MockClock) -> None:
    world = a_world(EVERYTHING, Features.DIRECTORY_LEASES)
    async with world.share() as share:
        holder = Holder()
        listing = await share.open_directory("", holder)
        assert listing.caching == Caching.READ | Caching.HANDLE
        world.lose()
        assert listing.caching == Caching.NONE
        await listing.acknowledge(Caching.NONE)
        assert [entry.name for entry in await listing.page()] == ["file"]
        assert listing.caching == Caching.READ | Caching.HANDLE
        world.lose()
        await listing.aclose()
        await listing.aclose()


async def test_a_listing_of_another_folder_is_not_gone_on_with(autojump_clock: MockClock) -> None:
    world = a_world()
    world.disk.add("folder/one")
    async with world.share() as share:
        listing = await share.open_directory("folder")
        world.lose()
        world.disk.rename("folder", "away")
        world.disk.add("folder/two")
        with pytest.raises(StaleHandle):
            await listing.page()


async def test_a_handle_that_the_server_closes_is_opened_once_for_all_who_read(autojump_clock: MockClock) -> None:
    world = a_world(EVERYTHING)
    async with world.share() as share:
        holder = Holder()
        file = await share.open("file", OpenIntent(holder=holder, wanted=EVERYTHING))
        memory = world.line.memory  # type: ignore[union-attr]  # connected
        memory.fail("read", error(NtStatus.FILE_CLOSED, "READ"), times=5)
        async with trio.open_nursery() as nursery:
            with memory.held("read"):
                for _ in range(5):
                    nursery.start_soon(file.read, 0, 4)
                await trio.sleep(1)
        assert memory.calls["open"] == 2
        assert (holder.losses, holder.regains) == (1, 1)
        assert world.dials == 1


# -- manners


@contextlib.asynccontextmanager
async def a_lost_handle_that_set_the_time(world: World) -> AsyncIterator[tuple[ReconnectingShare, ReconnectingFile]]:
    async with world.share() as share:
        file = await share.open("file", WRITING)
        await file.change(Change(written_ns=1_000_000_000))
        world.lose()
        yield share, file


async def test_a_time_that_was_set_is_not_moved_by_writes_after_a_loss(autojump_clock: MockClock) -> None:
    world = a_world()
    async with a_lost_handle_that_set_the_time(world) as (share, file):
        await file.write(0, [b"later"])
        assert world.disk.node("file").written_ns == 1_000_000_000
        await share.change("file", Change(written_ns=2_000_000_000))
        world.lose()
        await file.write(0, [b"still"])
        assert world.disk.node("file").written_ns == 2_000_000_000


async def test_a_time_that_somebody_moved_since_is_not_set_again(autojump_clock: MockClock) -> None:
    world = a_world()
    async with a_lost_handle_that_set_the_time(world) as (_, file):
        world.disk.node("file").written_ns = 3_000_000_000
        await file.read(0, 1)
        assert world.disk.node("file").written_ns == 3_000_000_000


async def test_a_server_that_refuses_the_time_now_takes_the_bytes_all_the_same(autojump_clock: MockClock) -> None:
    world = a_world()
    async with a_lost_handle_that_set_the_time(world) as (share, file):
        await share.echo()
        refusal = error(NtStatus.ACCESS_DENIED, "SET_INFO")
        assert isinstance(refusal, Denied)
        world.line.memory.fail("change_open", refusal)  # type: ignore[union-attr]  # connected
        assert await file.write(0, [b"later"]) == 5


@pytest.mark.parametrize("harm", LOSSES)
async def test_a_file_that_was_made_read_only_is_written_on(autojump_clock: MockClock, harm: Harm) -> None:
    world = a_world(features=Features.NONE)
    async with world.share() as share:
        file = await share.open("new", OpenIntent(write=True, creation=Creation.EXCLUSIVE, mode=0o444))
        world.cut("write", harm, harm)
        await file.write(0, [b"bytes"])
        assert world.disk.node("new").data == b"bytes"
        assert world.disk.node("new").attributes == Attributes.READONLY | Attributes.ARCHIVE
        await file.aclose()


@pytest.mark.parametrize("operation", ["change", "change_open"])
@pytest.mark.parametrize("harm", LOSSES)
async def test_a_loss_while_the_protection_of_a_file_is_lifted_does_not_take_it_away(
    autojump_clock: MockClock, harm: Harm, operation: str
) -> None:
    world = a_world(features=Features.NONE)
    async with world.share() as share:
        file = await share.open("new", OpenIntent(write=True, creation=Creation.EXCLUSIVE, mode=0o444))
        world.lose()
        world.cut(operation, harm)
        await file.write(0, [b"bytes"])
        assert world.disk.node("new").data == b"bytes"
        assert world.disk.node("new").attributes == Attributes.READONLY | Attributes.ARCHIVE


async def test_a_file_that_cannot_be_opened_again_is_as_protected_as_before(autojump_clock: MockClock) -> None:
    world = a_world(features=Features.NONE)
    async with world.share() as share:
        file = await share.open("new", OpenIntent(write=True, creation=Creation.EXCLUSIVE, mode=0o444))
        world.lose()
        await share.echo()
        memory = world.line.memory  # type: ignore[union-attr]  # connected
        world.afterwards["change"] = lambda: memory.fail("open", error(NtStatus.SHARING_VIOLATION, "CREATE"))
        with pytest.raises(Busy):
            await file.write(0, [b"bytes"])
        assert world.disk.node("new").attributes == Attributes.READONLY | Attributes.ARCHIVE
        world.afterwards["change"] = lambda: memory.delays.update(open=60)
        with trio.move_on_after(30):
            await file.write(0, [b"bytes"])
        assert world.disk.node("new").attributes == Attributes.READONLY | Attributes.ARCHIVE
        assert memory.open_files == 0


async def test_a_protection_that_cannot_be_put_back_is_told(
    autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("may not be read-only any more")
    world = a_world(features=Features.NONE)
    async with world.share() as share:
        file = await share.open("new", OpenIntent(write=True, creation=Creation.EXCLUSIVE, mode=0o444))
        world.lose()
        await share.echo()
        memory = world.line.memory  # type: ignore[union-attr]  # connected

        def forbid() -> None:
            for operation in ("open", "change"):
                memory.fail(operation, error(NtStatus.ACCESS_DENIED, operation))

        world.afterwards["change"] = forbid
        with pytest.raises(Denied):
            await file.write(0, [b"bytes"])
        await file.write(0, [b"bytes"])
        assert world.disk.node("new").attributes == Attributes.READONLY | Attributes.ARCHIVE


async def test_a_handle_that_is_given_up_while_it_is_made_like_the_lost_one_is_closed_again(
    autojump_clock: MockClock,
) -> None:
    async with a_file(READING, features=Features.NONE) as (world, share, file):
        await file.stand_aside()
        world.lose()
        await share.echo()
        memory = world.line.memory  # type: ignore[union-attr]  # connected
        memory.opens_forbid_deletion = True
        memory.delays["stand_aside"] = 60
        with trio.move_on_after(30):
            await file.read(0, 1)
        assert memory.open_files == 0


async def test_a_file_that_another_made_read_only_is_not_written_on(autojump_clock: MockClock) -> None:
    async with a_file(WRITING, features=Features.NONE) as (world, _, file):
        world.lose()
        world.disk.node("file").attributes |= Attributes.READONLY
        with pytest.raises(Denied):
            await file.write(0, [b"bytes"])
        world.disk.node("file").attributes = 0
        assert await file.write(0, [b"bytes"]) == 5  # it was not given up


async def test_a_handle_that_cannot_be_made_like_the_lost_one_is_closed_again(autojump_clock: MockClock) -> None:
    async with a_file(READING, features=Features.NONE) as (world, share, file):
        await file.stand_aside()
        world.lose()
        await share.echo()
        memory = world.line.memory  # type: ignore[union-attr]  # connected
        memory.opens_forbid_deletion = True
        memory.fail("stand_aside", error(NtStatus.SHARING_VIOLATION, "OPEN"))
        with pytest.raises(Busy):
            await file.read(0, 1)
        assert memory.open_files == 0
        assert bytes(await file.read(0, 1)) == b"0"


async def test_a_handle_that_stood_aside_does_so_again(autojump_clock: MockClock) -> None:
    world = a_world(features=Features.NONE)
    async with world.share() as share:
        world.line.memory.opens_forbid_deletion = True  # type: ignore[union-attr]  # connected
        file = await share.open("file", READING)
        world.cut("stand_aside", REQUEST_LOST)
        await file.stand_aside()
        await share.echo()
        world.line.memory.opens_forbid_deletion = True  # type: ignore[union-attr]  # connected again
        await file.read(0, 1)
        await share.rename("file", "renamed", replace=False)


async def test_closing_a_void_or_closed_handle_is_nothing(autojump_clock: MockClock) -> None:
    async with a_file(WRITING) as (world, share, file):
        world.lose()
        await file.aclose()
        await file.aclose()
        again = await share.open("file", WRITING)
        await again.aclose()
        await again.aclose()
        assert world.line is not None
        assert world.line.memory.calls["close"] == 1


async def test_a_file_that_is_closed_while_it_is_opened_again_leaves_nothing_open(autojump_clock: MockClock) -> None:
    async with a_file(READING) as (world, _, file):
        world.lose()

        async def read() -> None:
            with pytest.raises(StaleHandle):
                await file.read(0, 1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.sleep(DIAL_S / 2)
            await file.aclose()
        assert world.line is not None
        assert world.line.memory.open_files == 0


async def test_while_the_server_is_gone_what_was_sent_stays_sent(autojump_clock: MockClock) -> None:
    async with a_file(WRITING) as (world, _, file):
        world.cut("write", ANSWER_LOST)
        world.refuses = True
        with pytest.raises(ConnectionLost, match="refused") as raised:
            await file.write(0, [b"x"])
        assert raised.value.sent
        with pytest.raises(ConnectionLost, match="refused") as raised:
            await file.write(0, [b"x"])
        assert not raised.value.sent


# -- a cut anywhere


async def story(share: ReconnectingShare) -> list[object]:
    """Do a little of everything, one after another, and return what every call answered."""
    told: list[object] = []
    await share.make_directory("folder")
    file = await share.open("folder/new", OpenIntent(write=True, creation=Creation.EXCLUSIVE))
    told.append(file.created)
    told.append(await file.write(0, [b"one ", b"two "]))
    told.append(await file.write(8, [b"three"]))
    reader = await share.open("folder/new", READING)
    await file.change(Change(size=11))
    told.append(bytes(await reader.read(0, 100)))
    await share.rename("folder/new", "folder/renamed", replace=False)
    await file.flush()
    told.append((await file.refresh()).size)
    await file.aclose()
    told.append(bytes(await reader.read(4, 100)))
    await share.rename("folder/renamed", "file", replace=True)
    await reader.aclose()
    listing = await share.open_directory("folder")
    told.append([entry.name for entry in await listing.page()])
    await listing.aclose()
    await share.remove("folder", Kind.DIRECTORY)
    told.append((await share.stat("file")).size)
    return told


async def test_a_cut_at_any_call_changes_nothing_of_the_story(autojump_clock: MockClock) -> None:
    plain = a_world()
    async with plain.share() as share:
        expected = await story(share)
    calls = plain.calls.total()
    assert calls >= 15
    for harm in LOSSES:
        for number in range(1, calls + 1):
            world = a_world()
            world.harm_at = (number, harm)
            async with world.share() as share:
                assert await story(share) == expected, f"{harm} at call {number}"
            assert world.dials == 2
            assert list(world.disk.root.children) == ["file"]
            assert world.disk.node("file").data == plain.disk.node("file").data
            assert world.disk.node("file").links == 1


async def test_a_story_given_up_at_any_moment_leaves_a_share_that_works(autojump_clock: MockClock) -> None:
    """Cancel it at every moment of a slow line, a loss included: nothing hangs, and the next caller is served."""
    for moment in range(0, 40):
        world = a_world()
        world.harm_at = (8, ANSWER_LOST)
        async with world.share() as share:
            assert world.line is not None
            for operation in ("open", "write", "rename", "stat", "change_open", "read"):
                world.line.memory.delays[operation] = 0.5
            with trio.move_on_after(moment * 0.25):
                await story(share)
            world.line.memory.delays.clear()
            world.harm_at = None
            assert (await share.stat("")).kind is Kind.DIRECTORY
