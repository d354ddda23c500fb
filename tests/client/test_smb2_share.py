"""A share over SMB2: what each call costs, what it gives, and that no handle is left open."""

import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from smbfuse.client.smb2_share import Smb2Share
from smbfuse.config import Network
from smbfuse.errors import (
    Busy,
    ConnectionLost,
    Denied,
    NotFound,
    ProtocolError,
    SessionGone,
    SmbError,
    StaleHandle,
    Timeout,
    Unsupported,
    WrongKind,
)
from smbfuse.share import Features, Kind, OpenFile, OpenIntent
from smbfuse.status import NtStatus
from smbfuse.wire import reparse
from smbfuse.wire.dirlist import encode_page
from smbfuse.wire.fscc import FileFsSizeInformation, FileInformation
from smbfuse.wire.reparse import NfsType, ReparseTag
from smbfuse.wire.smb2.errors import ErrorResponse
from smbfuse.wire.smb2.header import Command
from smbfuse.wire.smb2.info import QueryDirectoryResponse, QueryInfoRequest, QueryInfoResponse
from smbfuse.wire.smb2.io import ReadResponse
from tests.client.smb2_fixtures import Prepare, fake_login, give_up, session, settled
from tests.client.smb2_server import PAGE_ENTRIES, VOLUME_ID, Answer, Node, Smb2Server, entry

__all__ = ["fake_login"]

C, Q, R, X = Command.CREATE, Command.QUERY_INFO, Command.READ, Command.CLOSE
D, I = Command.QUERY_DIRECTORY, Command.IOCTL  # noqa: E741 - one letter for each command
CONTENT = bytes(range(256)) * 1000


def with_files(server: Smb2Server) -> None:
    server.nodes |= {
        "Büro\\é.bin": Node(CONTENT, file_id=11),
        "empty.txt": Node(b"", file_id=12),
        "Büro": Node(None, attributes=0x10, file_id=13),
    }


@asynccontextmanager
async def share_of(prepare: Prepare = with_files, **more: Network) -> AsyncIterator[tuple[Smb2Share, Smb2Server]]:
    async with session(prepare, **more) as (established, server):  # type: ignore[arg-type]  # passed through
        share = await established.connect_share("share")
        server.commands()
        yield share, server


# -- stat


async def test_stat_is_one_compound_and_tells_everything() -> None:
    async with share_of() as (share, server):
        found = await share.stat("Büro/é.bin")
        assert server.commands() == [[C, Q, X]]
        assert server.handles == {}
    assert (found.kind, found.size, found.allocation, found.attributes) == (Kind.FILE, len(CONTENT), 4096, 0x20)
    assert (found.file_id, found.volume_id, found.links) == (11, VOLUME_ID, 3)
    assert found.written_ns == 10**9


async def test_the_root_has_an_empty_name() -> None:
    async with share_of() as (share, _):
        assert (await share.stat("")).kind is Kind.DIRECTORY


@pytest.mark.parametrize(
    "point, attributes, kind, device",
    [
        (reparse.SymlinkReparse("a", "a", 1), 0x420, Kind.SYMLINK, None),
        (reparse.WslSymlinkReparse("a"), 0x420, Kind.SYMLINK, None),
        (reparse.NfsReparse(NfsType.SYMLINK, "a"), 0x420, Kind.SYMLINK, None),
        (reparse.NfsReparse(NfsType.FIFO), 0x420, Kind.FIFO, None),
        (reparse.NfsReparse(NfsType.CHARACTER, device=(1, 3)), 0x420, Kind.CHARACTER_DEVICE, (1, 3)),
        (reparse.NfsReparse(0x77), 0x420, Kind.FILE, None),
        (reparse.OtherReparse(ReparseTag.AF_UNIX, b""), 0x420, Kind.SOCKET, None),
        (reparse.OtherReparse(0x80000013, b"dedup"), 0x420, Kind.FILE, None),
        (reparse.MountPointReparse("\\??\\C:", ""), 0x410, Kind.DIRECTORY, None),
        (None, 0x420, Kind.FILE, None),
    ],
    ids=["symlink", "wsl", "nfs", "fifo", "device", "nfs other", "socket", "dedup", "junction", "untold"],
)
async def test_the_kind_of_a_reparse_point_costs_one_more_trip(
    point: reparse.ReparsePoint | None, attributes: int, kind: Kind, device: tuple[int, int] | None
) -> None:
    async with share_of() as (share, server):
        server.nodes["link"] = Node(b"", attributes=attributes, point=point)
        found = await share.stat("link")
        assert (found.kind, found.device) == (kind, device)
        assert server.commands() == [[C, Q, X], [C, I, X]]
        assert server.handles == {}


# -- open and read


async def test_open_brings_the_first_bytes_in_the_same_trip() -> None:
    async with share_of() as (share, server):
        file = await share.open("Büro/é.bin", OpenIntent(first_bytes=1000))
        assert server.commands() == [[C, R]]
        assert file.first is not None
        assert bytes(file.first) == CONTENT[:1000]
        assert (file.stat.size, file.stat.file_id, file.stat.volume_id) == (len(CONTENT), 11, VOLUME_ID)
        await file.aclose()
        await file.aclose()
        assert await settled(share, server) == [[X]]
        assert server.handles == {}


async def test_open_alone_is_one_request() -> None:
    async with share_of() as (share, server):
        file = await share.open("Büro/é.bin", OpenIntent())
        assert server.commands() == [[C]]
        assert file.first is None


async def test_several_files_are_opened_in_one_trip_and_told_one_by_one() -> None:
    async with share_of() as (share, server):
        told: dict[int, OpenFile | SmbError] = {}
        server.hold = trio.Event()
        intent = OpenIntent(first_bytes=1000)
        files = [("Büro/é.bin", intent), ("missing", intent), ("Büro", intent), ("empty.txt", intent)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(share.open_ahead, files, told.__setitem__)
            await trio.testing.wait_all_tasks_blocked()
            assert told == {}
            server.hold.set()
        assert server.commands() == [[C, R]] * 4
        opened, missing, folder, empty = (told[index] for index in range(4))
        assert isinstance(missing, NotFound)
        assert isinstance(folder, SmbError)
        assert not isinstance(opened, SmbError)
        assert not isinstance(empty, SmbError)
        assert bytes(opened.first or b"") == CONTENT[:1000]
        await opened.aclose()
        await empty.aclose()
        await settled(share, server)
        assert server.handles == {}


async def test_nothing_stays_open_of_several_that_nobody_waits_for_any_longer() -> None:
    def told(index: int, result: OpenFile | SmbError) -> None:
        raise AssertionError(f"{index} was told after all: {result}")

    async with share_of() as (share, server):
        files = [("Büro/é.bin", OpenIntent()), ("empty.txt", OpenIntent(first_bytes=10))]
        await give_up(lambda share: share.open_ahead(files, told), share, server)
        assert server.handles == {}


async def test_what_a_lost_connection_interrupts_of_several_is_told_to_be_so() -> None:
    async with share_of() as (share, server):
        told: dict[int, OpenFile | SmbError] = {}
        server.hold = trio.Event()
        async with trio.open_nursery() as nursery:
            files = [("Büro/é.bin", OpenIntent()), ("empty.txt", OpenIntent())]
            nursery.start_soon(share.open_ahead, files, told.__setitem__)
            await trio.testing.wait_all_tasks_blocked()
            share.tree.connection.abort(ConnectionLost("cut", sent=True))
        assert sorted(told) == [0, 1]
        assert all(isinstance(result, ConnectionLost) for result in told.values())


async def test_the_first_bytes_of_an_empty_file_are_none() -> None:
    async with share_of() as (share, _):
        file = await share.open("empty.txt", OpenIntent(first_bytes=10))
        assert file.first is not None
        assert bytes(file.first) == b""


async def test_a_file_whose_first_bytes_are_locked_is_open_all_the_same() -> None:
    async with share_of() as (share, server):
        server.statuses[R] = NtStatus.FILE_LOCK_CONFLICT
        file = await share.open("Büro/é.bin", OpenIntent(first_bytes=10))
        assert file.first is None
        with pytest.raises(Busy):
            await file.read(0, 10)


async def test_reading_takes_one_request_a_call_and_ends_with_nothing() -> None:
    async with share_of() as (share, server):
        file = await share.open("Büro/é.bin", OpenIntent())
        server.commands()
        assert bytes(await file.read(300, 1000)) == CONTENT[300:1300]
        assert bytes(await file.read(len(CONTENT) - 10, 1000)) == CONTENT[-10:]
        assert bytes(await file.read(len(CONTENT), 1000)) == b""
        assert server.commands() == [[R]] * 3
        view = await file.read(0, 10)
        assert view.readonly


async def test_what_was_read_is_not_copied_out_of_its_message() -> None:
    async with share_of() as (share, _):
        file = await share.open("Büro/é.bin", OpenIntent())
        view = await file.read(0, 1000)
        assert view.obj is not None
        assert len(view.obj) > 1000  # type: ignore[arg-type]  # the whole message


async def test_a_read_is_shorter_where_the_server_gives_few_credits() -> None:
    def stingy(server: Smb2Server) -> None:
        with_files(server)
        server.credits = 1

    async with share_of(stingy) as (share, _):
        file = await share.open("Büro/é.bin", OpenIntent())
        assert len(await file.read(0, 200_000)) == 65536


async def test_more_bytes_than_were_asked_for_are_refused() -> None:
    async with share_of() as (share, server):
        file = await share.open("Büro/é.bin", OpenIntent())
        server.answers[R] = lambda _: (0, ReadResponse(b"too much", 0, 0).encode())
        with pytest.raises(ProtocolError):
            await file.read(0, 3)


# -- listings


@pytest.mark.parametrize("count", [0, 1, PAGE_ENTRIES - 2, PAGE_ENTRIES * 3 + 5])
async def test_a_listing_gives_every_name_once_without_dots(count: int) -> None:
    async with share_of() as (share, server):
        server.nodes["Büro"].names = [entry(f"ä{number}.txt", file_id=number + 100) for number in range(count)]
        directory = await share.open_directory("Büro")
        assert server.commands() == [[C, D, D]]
        names = []
        while page := await directory.page():
            names += [(listed.name, listed.stat.file_id) for listed in page]
        assert names == [(f"ä{number}.txt", number + 100) for number in range(count)]
        assert await directory.page() == ()
        await directory.aclose()
        pdus = await settled(share, server)
        assert pdus.count([X]) == 1
        assert server.handles == {}


async def test_the_next_page_is_asked_for_while_one_is_worked_on() -> None:
    async with share_of() as (share, server):
        server.nodes["Büro"].names = [entry(str(number)) for number in range(PAGE_ENTRIES * 5)]
        directory = await share.open_directory("Büro")
        server.commands()
        await directory.page()
        assert await settled(share, server) == []
        await directory.page()  # the last of those that came with the open
        assert await settled(share, server) == [[D]]
        await directory.page()
        assert await settled(share, server) == [[D]]


async def test_a_listing_can_be_left_at_any_point() -> None:
    async with share_of() as (share, server):
        server.nodes["Büro"].names = [entry(str(number)) for number in range(PAGE_ENTRIES * 5)]
        for pages in range(4):
            directory = await share.open_directory("Büro")
            for _ in range(pages):
                await directory.page()
            await directory.aclose()
            assert await directory.page() == ()
        await settled(share, server)
        assert server.handles == {}


async def test_entries_tell_their_kind() -> None:
    async with share_of() as (share, server):
        server.nodes[""].names = [
            entry("folder", folder=True),
            entry("file"),
            entry("link", attributes=0x420, ea_size=ReparseTag.SYMLINK),
            entry("fifo", attributes=0x420, ea_size=ReparseTag.LX_FIFO),
            entry("cloud", attributes=0x420, ea_size=0x9000001A),
            entry("with attributes", attributes=0x20, ea_size=ReparseTag.SYMLINK),
            entry("unknown", file_id=2**64 - 1),
        ]
        directory = await share.open_directory("")
        page = await directory.page()
    assert [listed.stat.kind for listed in page] == [
        Kind.DIRECTORY,
        Kind.FILE,
        Kind.SYMLINK,
        Kind.FIFO,
        Kind.FILE,
        Kind.FILE,
        Kind.FILE,
    ]
    assert [listed.stat.file_id for listed in page] == [9] * 6 + [0]


@pytest.mark.parametrize("status", [NtStatus.NO_SUCH_FILE, NtStatus.NO_MORE_FILES], ids=lambda status: status.name)
async def test_a_folder_without_even_dots_is_empty(status: NtStatus) -> None:
    async with share_of() as (share, server):
        server.statuses[D] = status
        directory = await share.open_directory("Büro")
        assert await directory.page() == ()


async def test_a_listing_without_names_does_not_go_on_for_ever() -> None:
    page = encode_page(FileInformation.ID_BOTH_DIRECTORY, [entry("."), entry("..")])
    async with share_of() as (share, server):
        server.answers[D] = lambda _: (0, QueryDirectoryResponse(memoryview(page)).encode())
        directory = await share.open_directory("Büro")
        with pytest.raises(ProtocolError, match="without a name"):
            await directory.page()


async def test_a_listing_that_fails_says_why() -> None:
    async with share_of() as (share, server):
        server.statuses[D] = NtStatus.ACCESS_DENIED
        directory = await share.open_directory("Büro")
        with pytest.raises(Denied):
            await directory.page()


# -- links, room, sign of life


@pytest.mark.parametrize(
    "point, target",
    [
        (reparse.SymlinkReparse("..\\a\\é", "x", 1), "../a/é"),
        (reparse.SymlinkReparse("\\??\\C:\\dir\\file", "x"), "/mnt/c/dir/file"),
        (reparse.SymlinkReparse("\\??\\UNC\\srv\\share\\x", "x"), "//srv/share/x"),
        (reparse.SymlinkReparse("\\dir\\file", "x"), "/dir/file"),
        (reparse.SymlinkReparse("/etc/passwd", "x"), "/etc/passwd"),
        (reparse.WslSymlinkReparse("../a b"), "../a b"),
        (reparse.NfsReparse(NfsType.SYMLINK, "../a\\b\0hidden"), "../a\\b"),
    ],
    ids=["relative", "drive", "unc", "rooted", "posix", "wsl", "nfs"],
)
async def test_where_a_link_leads(point: reparse.ReparsePoint, target: str) -> None:
    async with share_of() as (share, server):
        server.nodes["link"] = Node(b"", attributes=0x420, point=point)
        assert await share.read_link("link") == target
        assert server.commands() == [[C, I, X]]


@pytest.mark.parametrize(
    "point, kind",
    [
        (None, WrongKind),
        (reparse.MountPointReparse("\\??\\C:", ""), WrongKind),
        (reparse.NfsReparse(NfsType.FIFO), WrongKind),
        (reparse.OtherReparse(0x80000013, b""), Unsupported),
    ],
    ids=["file", "junction", "fifo", "unknown"],
)
async def test_what_is_no_link_cannot_be_read_as_one(point: reparse.ReparsePoint | None, kind: type[SmbError]) -> None:
    async with share_of() as (share, server):
        server.nodes["link"] = Node(b"", point=point)
        with pytest.raises(kind):
            await share.read_link("link")


@pytest.mark.parametrize(
    "status", [NtStatus.INVALID_DEVICE_REQUEST, NtStatus.NOT_SUPPORTED], ids=lambda status: status.name
)
async def test_a_server_without_reparse_points_has_no_links(status: NtStatus) -> None:
    async with share_of() as (share, server):
        server.statuses[I] = status
        with pytest.raises(WrongKind):
            await share.read_link("empty.txt")


async def test_the_room_is_told_in_bytes() -> None:
    async with share_of() as (share, server):
        space = await share.space()
        assert (space.total, space.free, space.available, space.block_size) == (102400, 51200, 40960, 1024)
        assert server.commands() == [[C, Q, Q, X]]


async def test_the_room_is_told_by_the_older_class_where_the_newer_is_not_known() -> None:
    def old(element: bytes) -> Answer | None:
        if QueryInfoRequest.decode(element).file_info_class == 7:
            return 0, QueryInfoResponse(b"oops").encode()
        return 0, QueryInfoResponse(FileFsSizeInformation(-5, 40, 2, 512).encode()).encode()

    async with share_of() as (share, server):
        server.answers[Q] = old
        space = await share.space()
        assert (space.total, space.available) == (0, 40960)


async def test_what_a_share_says_of_itself() -> None:
    async with share_of() as (share, _):
        await share.stat("")
        assert (share.name, share.incarnation) == ("share", 1)
        assert Features.COMPOUND in share.features
        numbers = share.statistics()
        assert numbers.round_trips == 5  # negotiation, two legs of the login, the tree, and the stat
        assert numbers.requests == 7
        assert numbers.bytes_sent > 0
        assert numbers.connects == 1
        assert share.limits.in_flight > 1


async def test_leaving_disconnects_the_tree() -> None:
    async with share_of() as (share, server):
        await share.aclose()
        assert server.commands() == [[Command.TREE_DISCONNECT]]


# -- without compounds


async def test_everything_works_without_compounds() -> None:
    async with share_of() as (share, server):
        share.tree.engine.compounds.enabled = False
        assert (await share.stat("Büro/é.bin")).file_id == 11
        assert server.commands() == [[C], [Q], [X]]
        file = await share.open("Büro/é.bin", OpenIntent(first_bytes=10))
        assert file.first is not None
        assert bytes(file.first) == CONTENT[:10]
        await file.aclose()
        server.nodes["Büro"].names = [entry("a"), entry("b")]
        directory = await share.open_directory("Büro")
        assert [listed.name for listed in await directory.page()] == ["a", "b"]
        await directory.aclose()
        with pytest.raises(NotFound):
            await share.stat("nothing")
        assert await settled(share, server)
        assert server.handles == {}
        assert Features.COMPOUND not in share.features


# -- refusals


async def call_stat(share: Smb2Share) -> object:
    return await share.stat("empty.txt")


async def call_open(share: Smb2Share) -> object:
    return await share.open("empty.txt", OpenIntent(first_bytes=10))


async def call_open_directory(share: Smb2Share) -> object:
    return await share.open_directory("Büro")


async def call_read_link(share: Smb2Share) -> object:
    return await share.read_link("empty.txt")


async def call_space(share: Smb2Share) -> object:
    return await share.space()


CALLS: list[Callable[[Smb2Share], Awaitable[object]]] = [
    call_stat,
    call_open,
    call_open_directory,
    call_read_link,
    call_space,
]


@pytest.mark.parametrize(
    "status, kind",
    [
        (NtStatus.OBJECT_NAME_NOT_FOUND, NotFound),
        (NtStatus.ACCESS_DENIED, Denied),
        (NtStatus.SHARING_VIOLATION, Busy),
        (NtStatus.USER_SESSION_DELETED, SessionGone),
        (NtStatus.NETWORK_SESSION_EXPIRED, SessionGone),
        (NtStatus.NETWORK_NAME_DELETED, SessionGone),
    ],
    ids=lambda part: part.name if isinstance(part, NtStatus) else "",
)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
async def test_what_a_create_is_refused_with_is_raised(
    call: Callable[[Smb2Share], Awaitable[object]], status: NtStatus, kind: type[SmbError]
) -> None:
    async with share_of() as (share, server):
        server.statuses[C] = status
        with pytest.raises(kind) as caught:
            await call(share)
        assert caught.value.errno == status.errno


async def test_a_symlink_that_is_in_the_way_of_opening_is_one_too_many() -> None:
    async with share_of() as (share, server):
        server.statuses[C] = NtStatus.STOPPED_ON_SYMLINK
        with pytest.raises(WrongKind) as caught:
            await share.open("empty.txt", OpenIntent())
        assert caught.value.errno == errno.ELOOP
        with pytest.raises(Unsupported):
            await share.stat("empty.txt")


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
async def test_an_answer_cut_short_is_refused(call: Callable[[Smb2Share], Awaitable[object]]) -> None:
    async with share_of() as (share, server):
        server.answers[C] = lambda _: (0, b"\x59\x00 too short")
        with pytest.raises(SmbError):
            await call(share)


async def test_a_folder_is_no_file_and_a_file_no_folder_even_if_the_server_lets_them() -> None:
    async with share_of() as (share, server):
        with pytest.raises(WrongKind) as caught:
            await share.open("Büro", OpenIntent())
        assert caught.value.errno == NtStatus.FILE_IS_A_DIRECTORY.errno
        with pytest.raises(WrongKind) as caught:
            await share.open_directory("empty.txt")
        assert caught.value.errno == NtStatus.NOT_A_DIRECTORY.errno
        await settled(share, server)
        assert server.handles == {}


async def test_a_handle_that_the_server_forgot_is_stale() -> None:
    async with share_of() as (share, server):
        file = await share.open("Büro/é.bin", OpenIntent())
        server.answers[R] = lambda _: (NtStatus.FILE_CLOSED, ErrorResponse().encode())
        with pytest.raises(StaleHandle):
            await file.read(0, 10)


# -- cancelling and loss


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
async def test_no_handle_stays_open_when_nobody_waits_any_longer(
    call: Callable[[Smb2Share], Awaitable[object]],
) -> None:
    async with share_of() as (share, server):
        await give_up(call, share, server)
        assert server.handles == {}
        assert share.tree.engine.window.taken == 0


def damaged(server: Smb2Server) -> Callable[[bytes], Answer]:
    """Answer a CREATE with contexts that do not lie inside the response."""

    def create(element: bytes) -> Answer:
        status, body = server._create(element)
        return status, body[:84] + (1 << 20).to_bytes(4, "little") + body[88:]

    return create


@pytest.mark.parametrize("call", [call_open, call_open_directory], ids=lambda call: call.__name__)
async def test_a_handle_whose_response_cannot_be_read_is_closed(
    call: Callable[[Smb2Share], Awaitable[object]],
) -> None:
    async with share_of() as (share, server):
        server.answers[Command.CREATE] = damaged(server)
        with pytest.raises(ProtocolError):
            await call(share)
        await settled(share, server)
        assert server.handles == {}
        await give_up(call, share, server)
        assert server.handles == {}


async def test_a_call_that_is_not_answered_ends(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with share_of(network=Network(timeo_s=5)) as (share, server):
        server.hold = trio.Event()
        with pytest.raises((Timeout, ConnectionLost)):
            await share.open("Büro/é.bin", OpenIntent())


async def test_a_call_on_a_lost_connection_fails_at_once() -> None:
    async with share_of() as (share, server):
        server.cut_at = Command.READ
        file = await share.open("Büro/é.bin", OpenIntent())
        with pytest.raises(ConnectionLost):
            await file.read(0, 10)
        with pytest.raises(ConnectionLost):
            await share.stat("")
        await file.aclose()
        await share.aclose()


@pytest.mark.parametrize(
    "call", [lambda share, path: share.stat(path), lambda share, path: share.open(path, OpenIntent())]
)
async def test_a_path_that_fits_no_request_is_too_long(
    call: Callable[[Smb2Share, str], Awaitable[object]],
) -> None:
    async with share_of() as (share, server):
        with pytest.raises(NotFound):
            await call(share, "\U0001f4c1" * 16_383)
        with pytest.raises(NotFound):
            await call(share, "a" * 32_767)
        server.commands()
        with pytest.raises(SmbError) as caught:
            await call(share, "\U0001f4c1" * 16_384)
        assert caught.value.errno == errno.ENAMETOOLONG
        assert server.commands() == []
