"""Watches on one connection, over both dialects: what is told, what ends them, and that nobody waits for them."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from smbfuse.client.connection import Connection
from smbfuse.client.smb1_share import Smb1Share
from smbfuse.client.smb2_share import Smb2Share
from smbfuse.client.watching import notices_of
from smbfuse.config import Network
from smbfuse.engine.smb1 import Smb1Engine
from smbfuse.engine.smb2 import Smb2Engine
from smbfuse.errors import ConnectionLost, DecodeError, Denied, NotFound, SmbError, StaleHandle, Unsupported
from smbfuse.share import Features, Happened, Notice
from smbfuse.status import NtStatus
from smbfuse.wire import nbss
from smbfuse.wire.notify import FileNotifyInformation, NotifyAction, encode_notifications
from smbfuse.wire.smb1 import files, nt_transact, transaction
from smbfuse.wire.smb1.header import Command as Command1
from smbfuse.wire.smb1.header import Flags, Flags2, Header
from smbfuse.wire.smb1.message import Block, Message, decode_message, encode_message
from smbfuse.wire.smb2 import notify
from smbfuse.wire.smb2.errors import ErrorResponse
from smbfuse.wire.smb2.header import Command
from tests.client.smb1_disk import Disk
from tests.client.smb1_server import FILETIME, NT, Nothing
from tests.client.smb2_fixtures import fake_login, session, settled
from tests.client.smb2_server import Answer, Node, Smb2Server
from tests.client.test_smb1_old_disks import NT_LEVELS, mounted

__all__ = ["fake_login"]

ANYTHING = Notice(Happened.ANYTHING)
ADDED, REMOVED, MODIFIED = NotifyAction.ADDED, NotifyAction.REMOVED, NotifyAction.MODIFIED
OLD, NEW = NotifyAction.RENAMED_OLD_NAME, NotifyAction.RENAMED_NEW_NAME


# -- what the server says, in our words


@pytest.mark.parametrize(
    "told, notices",
    [
        ([(ADDED, "a"), (MODIFIED, "Büro\\b")], [Notice(Happened.ADDED, "a"), Notice(Happened.MODIFIED, "Büro/b")]),
        ([(NotifyAction.REMOVED_BY_DELETE, "a")], [Notice(Happened.REMOVED, "a")]),
        ([(OLD, "d\\a"), (NEW, "d\\b")], [Notice(Happened.RENAMED, "d/b", "d/a")]),
        ([(OLD, "a")], [Notice(Happened.REMOVED, "a")]),
        ([(NEW, "b")], [Notice(Happened.ADDED, "b")]),
        (
            [(OLD, "a"), (ADDED, "c"), (NEW, "b")],
            [Notice(Happened.REMOVED, "a"), Notice(Happened.ADDED, "c"), Notice(Happened.ADDED, "b")],
        ),
        ([(OLD, "a"), (OLD, "b"), (NEW, "c")], [Notice(Happened.REMOVED, "a"), Notice(Happened.RENAMED, "c", "b")]),
        ([(0x63, "a"), (ADDED, "b")], [ANYTHING, Notice(Happened.ADDED, "b")]),
        ([(ADDED, "")], [ANYTHING]),
        ([(ADDED, "a\\..\\..\\b")], [ANYTHING]),
        ([(ADDED, "\\a")], [ANYTHING]),
        ([(ADDED, "a\0")], [ANYTHING]),
        ([(OLD, "a"), (NEW, ".")], [Notice(Happened.REMOVED, "a"), ANYTHING]),
    ],
)
def test_what_is_told_becomes_plain_values(told: list[tuple[int, str]], notices: list[Notice]) -> None:
    assert list(notices_of(FileNotifyInformation(*one) for one in told)) == notices


# -- both dialects


@dataclass
class Watched(Disk):
    """An SMB1 server whose folder `d` can be watched: what happens is told by `tell`."""

    capabilities: int = NT  # type: ignore[assignment]  # of the base it is a Capabilities
    known_levels: frozenset[int] = NT_LEVELS
    refuses: NtStatus | None = None
    at_once: Callable[[], tuple[bytes, int]] | None = None  # what every request is answered with
    standing: list[Header] = field(default_factory=list)
    setups: list[nt_transact.NotifyChangeSetup] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)

    async def tell(self, changes: bytes = b"", status: int = 0) -> None:
        self._answer(self.standing.pop(0), changes, status)

    def _answer(self, asked: Header, changes: bytes, status: int) -> None:
        flags2 = Flags2.NT_STATUS | Flags2.UNICODE
        header = Header(
            Command1.NT_TRANSACT,
            status,
            Flags.REPLY,
            flags2,
            0,
            bytes(8),
            asked.tid,
            asked.pid_low,
            asked.uid,
            asked.mid,
        )
        part: Message = Nothing(Command1.NT_TRANSACT)
        if not status:
            size = len(changes)
            part = transaction.TransactionPart(Command1.NT_TRANSACT, size, 0, changes, 0, b"", 0)
        message = encode_message(header, (part,), self.strings)
        self._outbox += nbss.frame(len(message)) + message
        self._arrived.set()

    def _take(self, pdu: bytes) -> None:
        header, (block, *_) = decode_message(memoryview(pdu))
        if block.command == Command1.NT_CANCEL:
            self.cancelled.append(header.mid)
            (asked,) = [one for one in self.standing if one.mid == header.mid]
            self.standing.remove(asked)
            self._answer(asked, b"", NtStatus.CANCELLED)
        elif block.command == Command1.NT_TRANSACT:
            request = transaction.NtTransactRequest.decode_block(block, self.strings)
            assert request.function == nt_transact.NtFunction.NOTIFY_CHANGE
            self.setups.append(nt_transact.NotifyChangeSetup.decode(request.setup))
            self.standing.append(header)
            if self.at_once is not None:
                self.standing.clear()
                self._answer(header, *self.at_once())
            if self.refuses is not None:
                self.standing.clear()
                self._answer(header, b"", self.refuses)
        else:
            super()._take(pdu)

    def _reply(self, block: Block) -> Message:
        if block.command == Command1.NT_CREATE_ANDX:
            asked = files.NtCreateRequest.decode_block(block, self.strings)
            if asked.file_name == "\\d":
                times = (FILETIME, FILETIME, FILETIME, FILETIME)
                return files.NtCreateResponse(0, self._open("d"), 1, *times, 0x10, 0, 0, 0, 0, 1)
        return super()._reply(block)


Connected = Smb2Share | Smb1Share
Connect = Callable[..., AbstractAsyncContextManager[tuple[Connected, Smb2Server | Watched]]]
NETWORK = Network(timeo_s=30.0)


@asynccontextmanager
async def smb2(refuses: NtStatus | None = None, **changes: int) -> AsyncIterator[tuple[Smb2Share, Smb2Server]]:
    def prepare(server: Smb2Server) -> None:
        server.nodes["d"] = Node(None)
        if refuses is not None:
            server.statuses[Command.CHANGE_NOTIFY] = refuses
        for name, value in changes.items():
            setattr(server, name, value)

    async with session(prepare, network=NETWORK) as (established, server):
        yield await established.connect_share("share"), server


@asynccontextmanager
async def smb1(refuses: NtStatus | None = None, **changes: int) -> AsyncIterator[tuple[Smb1Share, Watched]]:
    server = Watched(refuses=refuses, **changes)  # type: ignore[arg-type]  # fields that a test names
    async with mounted(server, timeo_s=30.0) as share:
        yield share, server


both = pytest.mark.parametrize("connected", [smb2, smb1])


def changes(*told: tuple[int, str]) -> bytes:
    return encode_notifications(FileNotifyInformation(*one) for one in told)


@both
async def test_what_happens_is_told_and_the_next_request_stands_at_once(connected: Connect) -> None:
    async with connected() as (share, server):
        watch = await share.watch("d")
        assert len(server.standing) == 1
        assert watch.stands
        for number in range(3):
            await server.tell(changes((ADDED, f"é{number}")))
            assert await watch.notices() == [Notice(Happened.ADDED, f"é{number}")]
            await wait_all_tasks_blocked()
            assert len(server.standing) == 1
        await watch.aclose()


@both
@pytest.mark.parametrize("recursive", [True, False])
async def test_the_request_says_what_is_to_be_told(connected: Connect, recursive: bool) -> None:
    async with connected() as (share, server):
        watch = await share.watch("d", recursive=recursive)
        if isinstance(server, Watched):
            (setup,) = server.setups
            assert (setup.watch_tree, setup.completion_filter) == (recursive, 0x1DF)
        else:
            (element,) = [element for header, element in server.requests if header.command == Command.CHANGE_NOTIFY]
            request = notify.ChangeNotifyRequest.decode(element)
            assert (request.flags, request.completion_filter) == (recursive, 0x1DF)
            assert request.output_buffer_length == 65536
        await watch.aclose()


@both
@pytest.mark.parametrize("status", [NtStatus.NOTIFY_ENUM_DIR, NtStatus.SUCCESS])
async def test_too_much_at_once_may_be_anything_and_the_watch_goes_on(connected: Connect, status: NtStatus) -> None:
    async with connected() as (share, server):
        watch = await share.watch("d")
        await server.tell(b"", status)
        assert await watch.notices() == [ANYTHING]
        await wait_all_tasks_blocked()
        await server.tell(changes((REMOVED, "a")))
        assert await watch.notices() == [Notice(Happened.REMOVED, "a")]
        await watch.aclose()


@both
@pytest.mark.parametrize(
    "status, error",
    [
        (NtStatus.DELETE_PENDING, NotFound),
        (NtStatus.NOTIFY_CLEANUP, StaleHandle),
        (NtStatus.CANCELLED, StaleHandle),
        (NtStatus.ACCESS_DENIED, Denied),
    ],
)
async def test_what_ends_a_watch_is_told_each_time(
    connected: Connect, status: NtStatus, error: type[Exception]
) -> None:
    async with connected() as (share, server):
        watch = await share.watch("d")
        await server.tell(b"", status)
        for _ in range(2):
            with pytest.raises(error):
                await watch.notices()
        assert not watch.stands
        assert server.standing in ([], {})
        await watch.aclose()


@both
async def test_strange_bytes_end_the_watch_and_nothing_else(connected: Connect) -> None:
    async with connected() as (share, server):
        watch = await share.watch("d")
        await server.tell(b"\1\2\3")
        with pytest.raises(DecodeError):
            await watch.notices()
        await watch.aclose()
        await share.stat("")


@asynccontextmanager
async def answering(connected: Connect, status: NtStatus, told: bytes) -> AsyncIterator[tuple[Connected, list[float]]]:
    """Have every request for changes answered at once; give the share, and the times of these requests."""
    times: list[float] = []

    def answer_smb1() -> tuple[bytes, int]:
        times.append(trio.current_time())
        return told, status

    def answer_smb2(_element: bytes) -> Answer:
        times.append(trio.current_time())
        body = ErrorResponse() if status else notify.ChangeNotifyResponse(memoryview(told))
        return status, body.encode()

    async with connected() as (share, server):
        if isinstance(server, Watched):
            server.at_once = answer_smb1
        else:
            server.answers[Command.CHANGE_NOTIFY] = answer_smb2
        yield share, times


@both
@pytest.mark.parametrize(
    "status, told",
    [
        (NtStatus.NOTIFY_ENUM_DIR, b""),
        (NtStatus.SUCCESS, changes((MODIFIED, "a"))),
        (NtStatus.SUCCESS, changes(*[(MODIFIED, f"a name of some length {number}") for number in range(500)])),
        (NtStatus.SUCCESS, changes((0x7777, "a"))),
        (NtStatus.SUCCESS, changes((ADDED, "..\\..\\a"))),
    ],
    ids=["too much", "one", "many", "no action", "no name"],
)
async def test_a_server_that_always_answers_at_once_is_asked_now_and_then(
    connected: Connect, autojump_clock: MockClock, status: NtStatus, told: bytes
) -> None:
    async with answering(connected, status, told) as (share, times):
        watch = await share.watch("d")
        with trio.move_on_after(60):
            while True:
                assert await watch.notices()
        assert 100 < len(times) < 700
        await share.stat("")
        assert watch.stands
        await watch.aclose()


@both
@pytest.mark.parametrize(
    "status, told",
    [
        (NtStatus.SUCCESS, b"\1\2\3"),
        (NtStatus.SUCCESS, b"\xff" * 60),
        (NtStatus.NOTIFY_CLEANUP, b""),
        (NtStatus.ACCESS_DENIED, b""),
        (NtStatus(0xC0000001), b""),
        (NtStatus.INSUFFICIENT_RESOURCES, b""),
    ],
)
async def test_nonsense_at_once_ends_a_watch_after_a_request_or_two(
    connected: Connect, autojump_clock: MockClock, status: NtStatus, told: bytes
) -> None:
    async with answering(connected, status, told) as (share, times):
        with pytest.raises(SmbError):
            await (await share.watch("d")).notices()
        await trio.sleep(60)
        assert len(times) <= 2
        await share.stat("")
        assert connection_of(share).lost_because is None


@both
async def test_a_closed_watch_is_cancelled_and_gives_everything_back(connected: Connect) -> None:
    async with connected() as (share, server):
        watch = await share.watch("d")
        await watch.aclose()
        await watch.aclose()
        with pytest.raises(StaleHandle):
            await watch.notices()
        await share.echo()
        await share.echo()
        assert server.standing in ([], {})
        window = engine_of(share).window
        assert (window.claims, window.standing, window.taken) == (0, 0, 0)
        if isinstance(server, Smb2Server):
            assert not server.handles


@both
async def test_a_wait_that_is_given_up_leaves_the_request_standing(
    connected: Connect, autojump_clock: MockClock
) -> None:
    async with connected() as (share, server):
        watch = await share.watch("d")
        with trio.move_on_after(1):
            await watch.notices()
        assert len(server.standing) == 1
        await server.tell(changes((ADDED, "a")))
        assert await watch.notices() == [Notice(Happened.ADDED, "a")]
        await watch.aclose()


@both
async def test_a_silent_watch_is_no_reason_to_call_the_server_late(
    connected: Connect, autojump_clock: MockClock
) -> None:
    async with connected() as (share, _):
        watch = await share.watch("d")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.notices)
            await trio.sleep(50_000)
            assert watch.stands
            await share.stat("")
            nursery.cancel_scope.cancel()
        await watch.aclose()


@both
@pytest.mark.parametrize("status", [NtStatus.NOT_IMPLEMENTED, NtStatus.NOT_SUPPORTED, NtStatus.INVALID_DEVICE_REQUEST])
async def test_a_server_that_knows_no_watches_is_asked_once(connected: Connect, status: NtStatus) -> None:
    async with connected(refuses=status) as (share, _):
        assert Features.NOTIFY in share.features
        with pytest.raises(Unsupported):
            await share.watch("d")
        assert Features.NOTIFY not in share.features
        assert engine_of(share).window.claims == 0


@both
async def test_a_refusal_of_one_folder_says_nothing_of_others(connected: Connect) -> None:
    async with connected(refuses=NtStatus.ACCESS_DENIED) as (share, _):
        with pytest.raises(Denied):
            await share.watch("d")
        assert Features.NOTIFY in share.features


@both
async def test_the_end_of_the_connection_ends_the_watch(connected: Connect) -> None:
    async with connected() as (share, _):
        watch = await share.watch("d")
        async with trio.open_nursery() as nursery:

            async def waits() -> None:
                with pytest.raises(ConnectionLost):
                    await watch.notices()

            nursery.start_soon(waits)
            await wait_all_tasks_blocked()
            connection_of(share).abort(ConnectionLost("cut", sent=True))
        assert not watch.stands
        await watch.aclose()
        assert engine_of(share).window.claims == 0


# -- what is a dialect's own


@pytest.mark.parametrize("places, most", [(1, 0), (2, 1), (3, 1), (5, 2)])
async def test_watches_leave_half_of_max_mpx_count(places: int, most: int) -> None:
    async with smb1(max_mpx_count=places) as (share, server):
        assert (Features.NOTIFY in share.features) == (most > 0)
        watches = [await share.watch("d") for _ in range(most)]
        with pytest.raises(Unsupported):
            await share.watch("d")
        for name in ("a.txt", "größe"):
            await share.stat(name)
        assert len(server.standing) == most
        for watch in watches:
            await watch.aclose()


async def test_a_server_without_nt_commands_is_not_asked() -> None:
    async with mounted(Disk()) as share:
        assert Features.NOTIFY not in share.features
        with pytest.raises(Unsupported):
            await share.watch("")


async def test_a_success_that_tells_nothing_at_once_is_a_server_that_does_not_know_what_it_was_asked() -> None:
    async with smb2() as (share, server):
        server.answers[Command.CHANGE_NOTIFY] = lambda _: (0, notify.ChangeNotifyResponse(memoryview(b"")).encode())
        with pytest.raises(Unsupported):
            await share.watch("d")
        assert Features.NOTIFY not in share.features


async def test_changes_that_come_with_the_first_answer_are_told() -> None:
    async with smb2() as (share, server):
        told = notify.ChangeNotifyResponse(memoryview(changes((ADDED, "a"))))
        server.answers[Command.CHANGE_NOTIFY] = lambda _: (0, told.encode())
        watch = await share.watch("d")
        del server.answers[Command.CHANGE_NOTIFY]
        assert await watch.notices() == [Notice(Happened.ADDED, "a")]
        await watch.aclose()


async def test_with_one_credit_nothing_is_watched() -> None:
    async with smb2(credits=1) as (share, _):
        with pytest.raises(Unsupported):
            await share.watch("d")


async def test_with_few_credits_a_watch_takes_none_for_good() -> None:
    async with smb2(credits=2) as (share, server):
        server.credits = 1
        watch = await share.watch("d")
        before = engine_of(share).window.capacity
        for number in range(5):
            await server.tell(changes((ADDED, str(number))))
            await watch.notices()
            await share.stat("d")
        assert engine_of(share).window.capacity == before
        assert engine_of(share).window.standing == 0
        await watch.aclose()
        assert [Command.CANCEL] in await settled(share, server)


def engine_of(share: Connected) -> Smb1Engine | Smb2Engine:
    return share.tree.engine if isinstance(share, Smb2Share) else share._tree.engine


def connection_of(share: Connected) -> Connection:
    return share.tree.connection if isinstance(share, Smb2Share) else share._tree.connection
