"""Open files that the server keeps beyond their connection: what is asked for, reclaimed, refused, and said twice."""

import errno
from collections.abc import Callable

import pytest
from trio.testing import MockClock

from smbfuse.client.smb2_grants import to_lease_state
from smbfuse.errors import Busy, Exists, SmbError, StaleHandle
from smbfuse.share import Caching, Creation, OpenIntent
from smbfuse.status import NtStatus
from smbfuse.wire.smb2 import durable
from smbfuse.wire.smb2.create import CreateContext, CreateRequest, Disposition, find_context
from smbfuse.wire.smb2.header import Command
from tests.client.durable_server import Machine
from tests.client.smb2_fixtures import fake_login  # noqa: F401 - for all tests
from tests.client.smb2_server import TIME, Node
from tests.conftest import ExpectedWarnings

RH = Caching.READ | Caching.HANDLE
RWH = RH | Caching.WRITE
V1, V2 = durable.DURABLE_REQUEST, durable.DURABLE_REQUEST_V2
RECLAIMS = {durable.DURABLE_RECONNECT, durable.DURABLE_RECONNECT_V2}


class Holder:
    """Keeps count of what it hears."""

    def __init__(self) -> None:
        self.key = b"0123456789abcdef"
        self.losses = 0
        self.regains = 0

    def broken(self, remaining: Caching, *, acknowledge: bool) -> None:
        raise AssertionError("nothing breaks here")

    def lost(self) -> None:
        self.losses += 1

    def regained(self) -> None:
        self.regains += 1


def writing(holder: Holder | None = None, creation: Creation = Creation.NEVER) -> OpenIntent:
    return OpenIntent(write=True, creation=creation, holder=holder or Holder(), wanted=RWH)


def a_machine(dialect: int = 0x0311, **more: object) -> Machine:
    machine = Machine(dialect=dialect, leases=dialect > 0x0202, **more)  # type: ignore[arg-type]  # a test knows them
    machine.nodes["file"] = Node(b"0123456789", file_id=5)
    return machine


def named(request: CreateRequest) -> set[bytes]:
    return {context.name for context in request.contexts}


def reclaims(machine: Machine) -> list[CreateRequest]:
    return [request for request in machine.creates() if named(request) & RECLAIMS]


def told(machine: Machine, command: Command) -> list[tuple[int, bool]]:
    """Return the channel sequence, and whether it is a replay, of each request of `command`."""
    return [(sequence, replay) for asked, sequence, replay, _ in machine.asked if asked == command]


@pytest.mark.parametrize("dialect", [0x0202, 0x0210, 0x0300, 0x0302, 0x0311])
async def test_an_open_is_reclaimed_with_its_grant(autojump_clock: MockClock, dialect: int) -> None:
    machine, holder = a_machine(dialect), Holder()
    async with machine.share() as share:
        file = await share.open("file", writing(holder))
        assert V1 in named(machine.creates()[-1]) if dialect < 0x0300 else V2 in named(machine.creates()[-1])
        for losses in range(1, 4):
            await machine.cut()
            assert holder.losses == losses
            assert await file.write(losses, [b"x"]) == 1
            assert (file.caching, holder.regains) == (RWH, losses)
        assert len(reclaims(machine)) == 3
        assert [sequence for sequence, _ in told(machine, Command.WRITE)] == (
            [1, 2, 3] if dialect >= 0x0300 else [0] * 3
        )
        assert bytes(await file.read(0, 10)) == b"0xxx456789"
        await file.aclose()
        await share.stat("file")
        assert not machine.opens
    assert len(machine.client_guids) == 1  # leases belong to it


@pytest.mark.parametrize("left", [Caching.NONE, Caching.READ, RH])
async def test_of_a_grant_that_is_less_when_it_is_reclaimed_the_holder_hears_what_is_left(
    autojump_clock: MockClock, left: Caching
) -> None:
    machine, holder = a_machine(), Holder()
    async with machine.share() as share:
        file = await share.open("file", writing(holder))
        await machine.cut()
        machine.lease_state = to_lease_state(left)
        assert await file.write(0, [b"x"]) == 1
        assert len(reclaims(machine)) == 1
        assert (file.caching, holder.regains) == (left, 1 if left else 0)
        await file.aclose()


async def test_the_file_is_reclaimed_whatever_became_of_its_name(autojump_clock: MockClock) -> None:
    machine = a_machine()
    async with machine.share() as share:
        renamed, removed = await share.open("file", writing()), await share.open("file", writing())
        removed.path = None  # as after a removal: the server lets it go with its last handle
        await machine.cut()
        machine.nodes["other"] = machine.nodes.pop("file")
        assert bytes(await removed.read(0, 3)) == b"012"
        assert bytes(await renamed.read(0, 3)) == b"012"
        await renamed.aclose()
        await removed.aclose()


Asks = Callable[[Machine], OpenIntent]
NOT_ASKED: dict[str, Asks] = {
    "to read": lambda _machine: OpenIntent(holder=Holder(), wanted=RH),
    "without a grant": lambda _machine: OpenIntent(write=True),
    "with a grant that keeps no handle": lambda _machine: OpenIntent(
        write=True, holder=Holder(), wanted=Caching.READ | Caching.WRITE
    ),
}


@pytest.mark.parametrize("case", NOT_ASKED)
@pytest.mark.parametrize("dialect", [0x0202, 0x0210, 0x0311])
async def test_nothing_is_asked_for_where_nothing_is_won(autojump_clock: MockClock, dialect: int, case: str) -> None:
    machine = a_machine(dialect)
    async with machine.share() as share:
        file = await share.open("file", NOT_ASKED[case](machine))
        await machine.cut()
        assert bytes(await file.read(0, 3)) == b"012"
        assert not {V1, V2} & {name for request in machine.creates() for name in named(request)}
        assert not reclaims(machine)
        await file.aclose()


REFUSALS = [
    NtStatus.OBJECT_NAME_NOT_FOUND,
    NtStatus.INVALID_PARAMETER,
    NtStatus.ACCESS_DENIED,
    NtStatus.NOT_SUPPORTED,
    NtStatus.FILE_CLOSED,
    0xC0DEAD00,
]


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_what_is_refused_is_opened_by_its_path_and_made_durable_again(
    autojump_clock: MockClock, refusal: int
) -> None:
    machine = a_machine()
    async with machine.share() as share:
        file = await share.open("file", writing())
        await machine.cut()
        machine.opens.clear()
        machine.refusals[Command.CREATE] = [refusal]
        assert await file.write(0, [b"x"]) == 1
        assert len(reclaims(machine)) == 1
        await machine.cut()
        assert await file.write(1, [b"x"]) == 1
        assert len(reclaims(machine)) == 2
        assert len(machine.opens) == 1
        await file.aclose()


async def test_what_was_never_granted_is_not_reclaimed(autojump_clock: MockClock) -> None:
    machine = a_machine(grants=False)
    async with machine.share() as share:
        file = await share.open("file", writing())
        await machine.cut()
        assert await file.write(0, [b"x"]) == 1
        assert not reclaims(machine)
        assert told(machine, Command.WRITE) == [(0, False)]  # nothing was open that the server had kept
        await file.aclose()


async def test_a_grant_that_cannot_be_read_is_none(autojump_clock: MockClock) -> None:
    machine = a_machine(grants=False)
    async with machine.share() as share:
        original = machine.server._answered

        def nonsense(kept: object, action: int, level: int, contexts: list[CreateContext]) -> bytes:
            return original(kept, action, level, [*contexts, CreateContext(V2, b"short")])  # type: ignore[arg-type]

        machine.server._answered = nonsense  # type: ignore[method-assign]
        file = await share.open("file", writing())
        await machine.cut()
        assert await file.write(0, [b"x"]) == 1
        assert not reclaims(machine)
        await file.aclose()


async def test_a_server_that_gives_back_another_file_is_not_believed(autojump_clock: MockClock) -> None:
    machine = a_machine()
    async with machine.share() as share:
        file = await share.open("file", writing())
        await machine.cut()
        machine.opens[0].node = Node(None, attributes=0x10)
        assert await file.write(0, [b"x"]) == 1
        assert machine.nodes["file"].data == b"x123456789"
        await file.aclose()


async def test_what_others_have_written_beside_a_kept_open_is_no_matter(autojump_clock: MockClock) -> None:
    machine = a_machine()
    async with machine.share() as share:
        file = await share.open("file", writing())
        await machine.cut()
        machine.nodes["file"].data = b"much longer than before"
        assert await file.write(0, [b"x"]) == 1
        assert machine.nodes["file"].data == b"xuch longer than before"
        await file.aclose()


async def test_bytes_on_their_way_do_not_undo_what_others_have_written(
    autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("bytes 0 to 3 of it were on their way")
    machine = a_machine()
    async with machine.share() as share:
        file = await share.open("file", writing())

        def change(command: Command) -> None:
            if command is Command.NEGOTIATE:
                machine.nodes["file"].data = b"much longer than before"

        machine.before = change
        machine.server.cut_at = Command.WRITE
        with pytest.raises(SmbError) as raised:
            await file.write(0, [b"ours"])
        assert raised.value.errno == errno.EIO
        assert machine.nodes["file"].data == b"much longer than before"
        await file.aclose()
        await share.stat("file")
        assert not machine.opens


@pytest.mark.parametrize("dialect", [0x0202, 0x0210, 0x0311])
@pytest.mark.parametrize("noticed", ["at once", "by the close", "after the next connection"])
async def test_what_is_closed_while_it_is_lost_is_given_back(
    autojump_clock: MockClock, dialect: int, noticed: str
) -> None:
    machine = a_machine(dialect)
    async with machine.share() as share:
        file = await share.open("file", writing())
        if noticed == "by the close":
            machine.refusals[Command.CLOSE] = [NtStatus.UNSUCCESSFUL]  # not executed
            machine.server.cut_at = Command.CLOSE
        else:
            await machine.cut()
        if noticed == "after the next connection":
            await share.stat("file")
        await file.aclose()
        await share.echo()
        await share.stat("file")
        assert not machine.opens
        assert len(reclaims(machine)) == 1


# -- persistent


async def test_on_a_share_that_is_always_available_handles_are_persistent(autojump_clock: MockClock) -> None:
    machine = a_machine(available=True)
    async with machine.share() as share:
        leased = await share.open("file", writing())
        bare = await share.open("file", OpenIntent(write=True))  # no grant is needed
        assert [kept.persistent for kept in machine.opens] == [True, True]
        await machine.cut()
        assert await leased.write(0, [b"x"]) == 1
        assert await bare.write(1, [b"x"]) == 1
        claims = [find_context(request.contexts, durable.DURABLE_RECONNECT_V2) for request in reclaims(machine)]
        assert [durable.DurableReconnectV2.decode(claim or b"").flags for claim in claims] == [2, 2]
        await leased.aclose()
        await bare.aclose()


async def test_a_server_that_is_taking_over_is_asked_again(autojump_clock: MockClock) -> None:
    machine = a_machine(available=True)
    async with machine.share() as share:
        file = await share.open("file", writing())
        await machine.cut()
        machine.refusals[Command.CREATE] = [NtStatus.FILE_NOT_AVAILABLE] * 3
        assert await file.write(0, [b"x"]) == 1
        assert len(reclaims(machine)) == 4
        await machine.cut()
        machine.refusals[Command.CREATE] = [NtStatus.FILE_NOT_AVAILABLE] * 6
        assert await file.write(0, [b"x"]) == 1  # by its path, in the end
        assert len(reclaims(machine)) == 10
        await file.aclose()


# -- resilient


@pytest.mark.parametrize("lease_state", [0, 1])
@pytest.mark.parametrize("dialect", [0x0210, 0x0311])
async def test_what_is_not_durable_is_made_resilient_where_the_server_can(
    autojump_clock: MockClock, dialect: int, lease_state: int
) -> None:
    machine = a_machine(dialect, grants=False, lease_state=lease_state, resilient=0)
    async with machine.share() as share:
        file = await share.open("file", writing())
        await share.stat("file")
        (kept,) = machine.opens
        assert kept.durable
        await machine.cut()
        assert await file.write(0, [b"x"]) == 1
        assert machine.opens == [kept]
        (again,) = reclaims(machine)
        assert durable.DURABLE_RECONNECT in named(again)
        await file.aclose()


async def test_who_knows_no_resilient_handles_is_asked_once(autojump_clock: MockClock) -> None:
    machine = a_machine(grants=False)
    async with machine.share() as share:
        for _ in range(3):
            file = await share.open("file", writing())
            await share.stat("file")
            await file.aclose()
            await machine.cut()
        assert len(told(machine, Command.IOCTL)) == 1


async def test_a_file_closed_before_it_is_resilient_is_not_held(autojump_clock: MockClock) -> None:
    machine = a_machine(grants=False, resilient=0)
    async with machine.share() as share:
        await (await share.open("file", writing())).aclose()
        await share.stat("file")
        assert not machine.opens
        await machine.cut()
        await share.stat("file")
        assert not reclaims(machine)
        assert not any(sequence for _, sequence, _, _ in machine.asked)


# -- what comes again


async def test_the_channel_sequence_never_leaves_what_a_new_open_believes(autojump_clock: MockClock) -> None:
    machine = a_machine()
    async with machine.share() as share:
        file = await share.open("file", writing())
        assert machine.session is not None
        machine.session.engine.channel_sequence = 0x7FFE
        for _ in range(2):
            await machine.cut()
            assert await file.write(0, [b"x"]) == 1
        assert [sequence for sequence, _ in told(machine, Command.WRITE)] == [0x7FFF, 0]
        await file.aclose()


async def test_a_write_that_comes_again_says_so(autojump_clock: MockClock) -> None:
    machine = a_machine()
    async with machine.share() as share:
        file = await share.open("file", writing())
        machine.server.cut_at = Command.WRITE
        assert await file.write(0, [b"x"]) == 1
        assert await file.write(0, [b"y"]) == 1
        assert told(machine, Command.WRITE) == [(0, False), (1, True), (1, False)]
        await file.aclose()


async def test_what_the_server_has_still_in_hand_is_asked_again(autojump_clock: MockClock) -> None:
    machine = a_machine()
    async with machine.share() as share:
        file = await share.open("file", writing())
        await machine.cut()
        machine.refusals[Command.WRITE] = [NtStatus.FILE_NOT_AVAILABLE] * 2
        assert await file.write(0, [b"x"]) == 1
        assert told(machine, Command.WRITE) == [(1, False), (1, True), (1, True)]
        machine.refusals[Command.WRITE] = [NtStatus.FILE_NOT_AVAILABLE] * 6
        with pytest.raises(Busy):
            await file.write(0, [b"x"])
        await file.aclose()


@pytest.mark.parametrize("creation", [Creation.IF_ABSENT, Creation.EXCLUSIVE])
async def test_a_create_that_comes_again_is_the_same(autojump_clock: MockClock, creation: Creation) -> None:
    machine = a_machine()
    async with machine.share() as share:
        machine.refusals[Command.CREATE] = [NtStatus.UNSUCCESSFUL]  # not executed
        machine.server.cut_at = Command.CREATE
        file = await share.open("new", writing(creation=creation))
        assert file.created
        makings = [
            (find_context(CreateRequest.decode(element).contexts, V2), replay)
            for command, _, replay, element in machine.asked
            if command is Command.CREATE and V2 in named(CreateRequest.decode(element))
        ]
        assert [replay for _, replay in makings] == [False, True]
        assert len({question for question, _ in makings}) == 1
        await file.aclose()


async def test_a_create_that_was_executed_for_another_session_is_made_anew(autojump_clock: MockClock) -> None:
    machine = a_machine()
    async with machine.share() as share:
        machine.server.cut_at = Command.CREATE
        machine.before = lambda command: (
            machine.refusals.update({Command.CREATE: [NtStatus.DUPLICATE_OBJECTID]})
            if command is Command.TREE_CONNECT and len(machine.connections) == 2
            else None
        )
        file = await share.open("file", writing(creation=Creation.IF_ABSENT))
        questions = [find_context(request.contexts, V2) for request in machine.creates()]
        assert questions[0] == questions[1] != questions[2]
        assert [replay for _, replay in told(machine, Command.CREATE)] == [False, True, False]
        await file.aclose()


@pytest.mark.parametrize("losses", [1, 2])
@pytest.mark.parametrize("creation", [Creation.IF_ABSENT, Creation.EXCLUSIVE])
async def test_a_create_that_was_executed_is_answered_again_by_who_knows_it(
    autojump_clock: MockClock, creation: Creation, losses: int
) -> None:
    machine = a_machine(knows_replays=True)
    async with machine.share() as share:
        cut_makings(machine, losses)
        file = await share.open("new", writing(creation=creation))
        assert file.created  # by the server's word: its clock tells nothing here
        assert [replay for _, replay in told(machine, Command.CREATE)] == [False] + losses * [True]
        assert len(machine.opens) == 1
        await file.aclose()
        assert not reclaims(machine)


async def test_a_name_that_was_taken_meanwhile_is_not_ours(autojump_clock: MockClock) -> None:
    machine = a_machine(knows_replays=True)
    async with machine.share() as share:
        machine.refusals[Command.CREATE] = [NtStatus.UNSUCCESSFUL]  # not executed
        machine.server.cut_at = Command.CREATE
        machine.before = lambda command: (
            machine.nodes.update(new=Node(b"", file_id=7)) if command is Command.TREE_CONNECT else None
        )
        with pytest.raises(Exists):
            await share.open("new", writing(creation=Creation.EXCLUSIVE))
        assert not machine.opens


async def test_what_came_again_and_was_lost_again_is_ours_by_the_clock(autojump_clock: MockClock) -> None:
    machine = a_machine(dial_s=3.0, began=TIME - 30_000_000)  # what is made has the time of the second connection
    async with machine.share() as share:
        machine.refusals[Command.CREATE] = [NtStatus.UNSUCCESSFUL]  # not executed
        cut_makings(machine, 2)
        file = await share.open("new", writing(creation=Creation.EXCLUSIVE))
        assert file.created
        makings = [request for request in machine.creates() if request.create_disposition == Disposition.CREATE]
        assert len(makings) == 3
        await file.aclose()


def cut_makings(machine: Machine, count: int) -> None:
    """Let the next `count` connections end with a CREATE that is executed, and whose answer never comes."""
    machine.server.cut_at = Command.CREATE
    left = count - 1

    def next_connection(command: Command) -> None:
        nonlocal left
        if command is Command.TREE_CONNECT and left:
            left -= 1
            machine.server.cut_at = Command.CREATE

    machine.before = next_connection


@pytest.mark.parametrize("dialect", [0x0202, 0x0210])
async def test_nothing_is_replayed_before_3_0(autojump_clock: MockClock, dialect: int) -> None:
    machine = a_machine(dialect)
    async with machine.share() as share:
        machine.server.cut_at = Command.CREATE
        file = await share.open("file", writing(creation=Creation.IF_ABSENT))
        machine.server.cut_at = Command.WRITE
        await file.write(0, [b"x"])
        assert not any(replay or sequence for _, sequence, replay, _ in machine.asked)
        await file.aclose()


async def test_what_the_server_has_closed_by_itself_is_not_reclaimed(autojump_clock: MockClock) -> None:
    machine = a_machine()
    async with machine.share() as share:
        file = await share.open("file", writing())
        machine.refusals[Command.WRITE] = [NtStatus.FILE_CLOSED]
        assert await file.write(0, [b"x"]) == 1
        assert not reclaims(machine)
        await file.aclose()


async def test_what_was_reclaimed_is_kept_up_with_again(autojump_clock: MockClock) -> None:
    machine = a_machine()
    async with machine.share() as share:
        file = await share.open("file", writing())
        await machine.cut()
        await file.write(0, [b"x"])
        machine.nodes["file"].data = b"another's, and longer"
        await share.stat("file")
        await machine.cut()
        machine.opens.clear()
        assert bytes(await file.read(0, 9)) == b"another's"  # by its path
        await file.aclose()


async def test_a_file_that_is_void_is_not_reclaimed(autojump_clock: MockClock) -> None:
    machine = a_machine()
    async with machine.share() as share:
        file = await share.open("file", writing())
        await machine.cut()
        machine.opens.clear()
        machine.nodes["file"] = Node(b"another", file_id=6)
        for _ in range(2):
            with pytest.raises(StaleHandle):
                await file.write(0, [b"x"])
        assert len(reclaims(machine)) == 1
        assert machine.creates()[-1].create_disposition == Disposition.OPEN
        await file.aclose()
