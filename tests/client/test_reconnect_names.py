"""A loss in the middle of a change of names: executed once, and the program is told what is so."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock

from smbfuse.client import departures
from smbfuse.client.reconnect import ReconnectingShare
from smbfuse.errors import ConnectionLost, Exists, NotFound, SmbError, StaleHandle, Timeout, WrongKind
from smbfuse.share import Change, Creation, Features, Kind, OpenIntent
from smbfuse.status import NtStatus, error
from tests.client.severed import TIMEO_S, Harm, World

UNSENT, REQUEST_LOST, ANSWER_LOST, LATE, IGNORED = Harm
EVERYTHING = (
    Features.POSIX
    | Features.HARD_LINKS
    | Features.MAKES_SYMLINKS
    | Features.SYMLINKS
    | Features.SPECIAL_FILES
    | Features.EXTENDED_ATTRIBUTES
)
EXCLUSIVE = OpenIntent(write=True, creation=Creation.EXCLUSIVE)


@dataclass(frozen=True)
class Act:
    """A call that may not happen twice, and how to see on the disk that it has happened once."""

    operation: str
    call: Callable[[ReconnectingShare], Awaitable[object]]
    happened: Callable[[World], bool]
    made: str = ""  # the name that it makes


def there(world: World, path: str) -> bool:
    try:
        world.disk.node(path)
    except NotFound:
        return False
    return True


ACTS = [
    Act("make_directory", lambda share: share.make_directory("new"), lambda world: there(world, "new"), "new"),
    Act(
        "make_link",
        lambda share: share.make_link("new", "to/there"),
        lambda world: there(world, "new") and world.disk.node("new").target == "to/there",
        "new",
    ),
    Act(
        "make_node",
        lambda share: share.make_node("new", Kind.FIFO, None, 0o600),
        lambda world: there(world, "new") and world.disk.node("new").kind is Kind.FIFO,
        "new",
    ),
    Act("open", lambda share: share.open("new", EXCLUSIVE), lambda world: there(world, "new"), "new"),
    Act(
        "link", lambda share: share.link("old", "new"), lambda world: world.disk.root.children["old"].links == 2, "new"
    ),
    Act("remove", lambda share: share.remove("old", Kind.FILE), lambda world: not there(world, "old")),
    Act("remove", lambda share: share.remove("folder", Kind.DIRECTORY), lambda world: not there(world, "folder")),
    Act(
        "rename",
        lambda share: share.rename("old", "new", replace=True),
        lambda world: there(world, "new") and not there(world, "old"),
    ),
    Act(
        "rename",
        lambda share: share.rename("old", "Old", replace=False),
        lambda world: list(world.disk.root.children) == ["folder", "Old"],
    ),
]
MAKING = [act for act in ACTS if act.made and act.operation != "link"]


def name(act: Act) -> str:
    return act.operation


def a_world() -> World:
    world = World(features=EVERYTHING)
    world.disk.add_folder("folder")
    world.disk.add("old", b"bytes")
    return world


@contextlib.asynccontextmanager
async def a_minute_later(world: World) -> AsyncIterator[ReconnectingShare]:
    """Connect, and wait until nothing that is there can have been made just now."""
    async with world.share() as share:
        await trio.sleep(60)
        yield share


@pytest.mark.parametrize("harms", [[UNSENT], [REQUEST_LOST], [ANSWER_LOST], [REQUEST_LOST, ANSWER_LOST]])
@pytest.mark.parametrize("act", ACTS, ids=name)
async def test_it_happens_once_and_is_answered_so(autojump_clock: MockClock, act: Act, harms: list[Harm]) -> None:
    world = a_world()
    async with a_minute_later(world) as share:
        world.cut(act.operation, *harms)
        await act.call(share)
        assert act.happened(world)
        assert world.dials == 1 + len(harms)


@pytest.mark.parametrize(
    "status", [NtStatus.NETWORK_NAME_DELETED, NtStatus.USER_SESSION_DELETED], ids=lambda status: status.name
)
@pytest.mark.parametrize("act", ACTS, ids=name)
async def test_it_happens_once_when_the_session_ends_between_its_requests(
    autojump_clock: MockClock, act: Act, status: NtStatus
) -> None:
    """What makes a name asks about it afterwards: that may be refused, and the name is there."""

    def end() -> None:
        raise error(status, "QUERY_INFO")

    world = a_world()
    async with a_minute_later(world) as share:
        world.afterwards[act.operation] = end
        await act.call(share)
        assert act.happened(world)
        assert world.dials == (1 if status is NtStatus.NETWORK_NAME_DELETED else 2)


@pytest.mark.parametrize("act", ACTS, ids=name)
async def test_it_happens_once_when_what_follows_it_never_leaves(autojump_clock: MockClock, act: Act) -> None:
    """What makes a name asks about it afterwards: that this has not left says nothing of what has."""
    world = a_world()

    def lose() -> None:
        departures.note()
        world.lose()
        raise ConnectionLost("not sent", sent=False)

    async with a_minute_later(world) as share:
        world.afterwards[act.operation] = lose
        await act.call(share)
        assert act.happened(world)
        assert world.dials == 2


@pytest.mark.parametrize("act", ACTS[:-1], ids=name)  # a look cannot tell the last one's two spellings apart
async def test_what_is_found_done_after_a_timeout_is_done(autojump_clock: MockClock, act: Act) -> None:
    world = a_world()
    async with a_minute_later(world) as share:
        world.cut(act.operation, LATE)
        await act.call(share)
        assert act.happened(world)
        assert world.dials == 1


@pytest.mark.parametrize("act", ACTS, ids=name)
async def test_what_is_not_done_after_a_timeout_may_still_be(autojump_clock: MockClock, act: Act) -> None:
    world = a_world()
    async with a_minute_later(world) as share:
        world.cut(act.operation, IGNORED)
        with pytest.raises(Timeout):
            await act.call(share)
        assert not act.happened(world)


@pytest.mark.parametrize("act", MAKING, ids=name)
async def test_what_was_there_before_is_not_taken_for_ours(autojump_clock: MockClock, act: Act) -> None:
    world = a_world()
    async with world.share() as share:
        await act.call(share)
        await trio.sleep(1)
        world.cut(act.operation, ANSWER_LOST)  # of the refusal
        with pytest.raises(Exists):
            await act.call(share)


@pytest.mark.parametrize("act", MAKING, ids=name)
async def test_what_another_client_made_after_the_loss_is_not_taken_for_ours(
    autojump_clock: MockClock, act: Act
) -> None:
    world = a_world()
    async with a_minute_later(world) as share:
        world.cut(act.operation, REQUEST_LOST)

        async def another() -> None:
            await trio.sleep(2)  # while there is no connection
            await act.call(world.other())  # type: ignore[arg-type]  # the same calls

        async with trio.open_nursery() as nursery:
            nursery.start_soon(another)
            with pytest.raises(Exists):
                await act.call(share)


@pytest.mark.parametrize("act", MAKING, ids=name)
async def test_what_was_made_by_a_clock_that_ticks_late_is_ours(autojump_clock: MockClock, act: Act) -> None:
    world = a_world()
    async with a_minute_later(world) as share:
        world.disk.lag_ns = 15_000_000
        world.cut(act.operation, ANSWER_LOST)
        await act.call(share)
        assert act.happened(world)


@pytest.mark.parametrize("act", MAKING, ids=name)
async def test_what_was_made_a_moment_before_is_not_taken_for_ours(autojump_clock: MockClock, act: Act) -> None:
    world = a_world()
    async with a_minute_later(world) as share:
        await act.call(world.other())  # type: ignore[arg-type]  # the same calls
        await trio.sleep(0.03)
        world.cut(act.operation, ANSWER_LOST)  # of the refusal
        with pytest.raises(Exists):
            await act.call(share)


@pytest.mark.parametrize("act", MAKING, ids=name)
async def test_without_the_servers_clock_nothing_is_taken_for_ours(autojump_clock: MockClock, act: Act) -> None:
    world = a_world()
    world.tells_time = False
    async with a_minute_later(world) as share:
        world.cut(act.operation, ANSWER_LOST)
        with pytest.raises(Exists):
            await act.call(share)


async def test_a_folder_that_has_something_in_it_is_not_taken_for_ours(autojump_clock: MockClock) -> None:
    world = a_world()
    async with world.share() as share:
        world.cut("make_directory", ANSWER_LOST)
        world.disk.add("new/from another client")
        with pytest.raises(Exists):
            await share.make_directory("new")


async def test_a_link_to_elsewhere_is_not_taken_for_ours(autojump_clock: MockClock) -> None:
    world = a_world()
    async with world.share() as share:
        world.cut("make_link", REQUEST_LOST)
        world.disk.add_symlink("new", "elsewhere")
        with pytest.raises(Exists):
            await share.make_link("new", "there")


async def test_a_name_that_leads_to_another_file_is_no_link_of_ours(autojump_clock: MockClock) -> None:
    world = a_world()
    async with world.share() as share:
        world.cut("link", REQUEST_LOST)
        world.disk.add("new")
        with pytest.raises(Exists):
            await share.link("old", "new")


async def test_what_the_server_refuses_is_refused_after_a_loss_too(autojump_clock: MockClock) -> None:
    world = a_world()
    async with world.share() as share:
        for harm in (UNSENT, REQUEST_LOST, ANSWER_LOST):
            world.cut("make_directory", harm)
            with pytest.raises(NotFound):
                await share.make_directory("absent/new")
            world.cut("rename", harm)
            with pytest.raises(NotFound):
                await share.rename("absent", "new", replace=True)


async def test_a_removed_file_that_another_client_made_again_stays(autojump_clock: MockClock) -> None:
    world = a_world()
    async with a_minute_later(world) as share:
        world.cut("remove", ANSWER_LOST)

        async def another() -> None:
            await trio.sleep(2.5)
            await world.other().open("old", EXCLUSIVE)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(another)
            await share.remove("old", Kind.FILE)
        assert there(world, "old")


async def test_a_removed_file_in_whose_place_is_a_folder_is_refused_as_what_it_is(autojump_clock: MockClock) -> None:
    world = a_world()
    async with world.share() as share:
        world.cut("remove", ANSWER_LOST)
        with pytest.raises(WrongKind):
            await share.remove("folder", Kind.FILE)
        assert there(world, "folder")


@pytest.mark.parametrize("act", [act for act in MAKING if act.operation in ("make_link", "make_node")], ids=name)
async def test_half_of_a_reparse_point_is_removed_to_begin_again(autojump_clock: MockClock, act: Act) -> None:
    world = a_world()
    async with a_minute_later(world) as share:
        world.cut(act.operation, REQUEST_LOST)
        world.disk.add("new")
        await act.call(share)
        assert act.happened(world)
        await share.remove("new", Kind.FIFO)
        world.cut(act.operation, REQUEST_LOST)
        world.disk.add("new", b"not ours")
        with pytest.raises(Exists):
            await act.call(share)


async def test_a_rename_executed_later_than_it_was_looked_for_is_a_rename(autojump_clock: MockClock) -> None:
    world = a_world()
    async with world.share() as share:
        world.cut("rename", REQUEST_LOST)
        world.afterwards["stat"] = lambda: world.disk.rename("old", "new")
        await share.rename("old", "new", replace=True)
        assert there(world, "new")


async def test_a_target_that_is_not_the_open_source_is_no_rename_of_ours(autojump_clock: MockClock) -> None:
    world = a_world()
    world.disk.add("new", b"another file")
    async with world.share() as share:
        file = await share.open("old", OpenIntent())
        world.cut("rename", REQUEST_LOST)
        world.disk.remove("old")
        with pytest.raises(NotFound):
            await share.rename("old", "new", replace=True)
        await file.aclose()


async def test_when_both_names_are_gone_there_is_nothing_to_rename(autojump_clock: MockClock) -> None:
    world = a_world()
    async with world.share() as share:
        world.cut("rename", REQUEST_LOST)
        world.disk.remove("old")
        with pytest.raises(NotFound):
            await share.rename("old", "new", replace=True)


async def test_while_nobody_can_look_the_answer_is_that_nobody_knows(autojump_clock: MockClock) -> None:
    world = a_world()
    async with world.share() as share:
        world.cut("remove", REQUEST_LOST)
        world.cut("stat", *[UNSENT] * 20)
        began = trio.current_time()
        with pytest.raises(ConnectionLost) as raised:
            await share.remove("old", Kind.FILE)
        assert raised.value.sent
        assert trio.current_time() - began <= 5 * TIMEO_S


@pytest.mark.parametrize("harm", [UNSENT, REQUEST_LOST, ANSWER_LOST])
async def test_an_exclusive_open_tells_that_it_made_the_file(autojump_clock: MockClock, harm: Harm) -> None:
    world = a_world()
    async with a_minute_later(world) as share:
        world.cut("open", harm)
        file = await share.open("new", EXCLUSIVE)
        assert file.created
        await file.write(0, [b"mine"])
        assert world.disk.node("new").data == b"mine"
        assert world.disk.node("new").file_id == file.stat.file_id


@pytest.mark.parametrize("harm", [UNSENT, REQUEST_LOST, ANSWER_LOST])
@pytest.mark.parametrize("name, made", [("new", True), ("old", False)])
async def test_an_open_tells_whether_it_made_the_file(
    autojump_clock: MockClock, harm: Harm, name: str, made: bool
) -> None:
    world = a_world()
    async with a_minute_later(world) as share:
        world.cut("open", harm)
        file = await share.open(name, OpenIntent(write=True, creation=Creation.IF_ABSENT))
        assert file.created is made


Repeatable = Callable[[ReconnectingShare], Awaitable[object]]
REPEATABLE: list[tuple[str, Repeatable]] = [
    ("stat", lambda share: share.stat("old")),
    ("read_link", lambda share: share.read_link("link")),
    ("change", lambda share: share.change("old", Change(written_ns=1_000_000_000))),
    ("change", lambda share: share.change("old", Change(size=3))),
    ("extended_attributes", lambda share: share.extended_attributes("old")),
    ("set_extended_attribute", lambda share: share.set_extended_attribute("old", "name", b"value")),
    ("security_descriptor", lambda share: share.security_descriptor("old")),
    ("set_security_descriptor", lambda share: share.set_security_descriptor("old", b"descriptor")),
    ("space", lambda share: share.space()),
    ("echo", lambda share: share.echo()),
]


@pytest.mark.parametrize("harm", [UNSENT, REQUEST_LOST, ANSWER_LOST])
@pytest.mark.parametrize("operation, call", REPEATABLE, ids=[one[0] for one in REPEATABLE])
async def test_what_may_happen_twice_is_repeated(
    autojump_clock: MockClock, operation: str, call: Repeatable, harm: Harm
) -> None:
    world = a_world()
    world.disk.add_symlink("link", "there")
    async with world.share() as share:
        world.cut(operation, harm, harm)
        answer = await call(share)
        assert world.dials == 3
        assert world.calls[operation] == 3
        if operation not in ("change", "set_extended_attribute", "set_security_descriptor"):
            assert answer == await call(share)
    assert world.disk.node("old").extended.get("name", b"value") == b"value"


async def test_every_path_is_below_the_mounts_folder(autojump_clock: MockClock) -> None:
    world = World(features=EVERYTHING)
    world.disk.add("folder/old")
    async with world.share(path="folder") as share:
        await share.make_directory("one")
        await share.make_link("two", "old")
        await share.make_node("three", Kind.SOCKET, None, None)
        await (await share.open("four", EXCLUSIVE)).aclose()
        await share.link("old", "five")
        await share.rename("one", "six", replace=False)
        await share.remove("four", Kind.FILE)
        await share.set_extended_attribute("old", "name", b"value")
        await share.set_security_descriptor("old", b"descriptor")
        await share.change("old", Change(size=7))
        assert await share.extended_attributes("old") == {"name": b"value"}
        assert await share.security_descriptor("old") == b"descriptor"
        assert await share.read_link("two") == "old"
        assert (await share.stat("")).file_id == world.disk.node("folder").file_id
        assert list(world.disk.root.children) == ["folder"]
        assert set(world.disk.node("folder").children) == {"old", "two", "three", "five", "six"}
        assert len(world.disk.node("folder/old").data) == 7


async def test_a_refusal_is_passed_on_as_it_is(autojump_clock: MockClock) -> None:
    world = a_world()
    async with world.share() as share:
        refusals: list[tuple[type[SmbError], Callable[[], Awaitable[object]]]] = [
            (Exists, lambda: share.make_directory("old")),
            (Exists, lambda: share.open("old", EXCLUSIVE)),
            (Exists, lambda: share.rename("old", "folder", replace=False)),
            (NotFound, lambda: share.remove("absent", Kind.FILE)),
            (StaleHandle, lambda: _closed(share)),
        ]
        for expected, call in refusals:
            with pytest.raises(expected):
                await call()
        assert world.dials == 1


async def _closed(share: ReconnectingShare) -> None:
    file = await share.open("old", OpenIntent())
    await file.aclose()
    await file.read(0, 1)
