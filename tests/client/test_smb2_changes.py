"""Making, writing, changing, renaming and removing over SMB2: what is sent, what it costs, what a refusal becomes."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from smbfuse.client.smb2_grants import of_lease_state
from smbfuse.client.smb2_share import Smb2Share
from smbfuse.config import Network
from smbfuse.errors import Busy, Denied, Exists, NoSpace, NotEmpty, ProtocolError, SmbError, Unsupported
from smbfuse.share import Attributes, Caching, Change, Creation, Features, Kind, OpenIntent
from smbfuse.status import NtStatus
from smbfuse.wire.dtyp import EPOCH_DELTA
from smbfuse.wire.fscc import FileAttributes, FileBasicInformation, FileInformation
from smbfuse.wire.fscc_changes import FileDispositionInformation, FileEndOfFileInformation, FileRenameInformation
from smbfuse.wire.smb2.create import (
    Access,
    CreateContext,
    CreateOptions,
    CreateRequest,
    CreateResponse,
    Disposition,
    find_context,
)
from smbfuse.wire.smb2.errors import ErrorResponse
from smbfuse.wire.smb2.header import Command
from smbfuse.wire.smb2.info import SetInfoRequest
from smbfuse.wire.smb2.io import WriteResponse
from smbfuse.wire.smb2.lease import LEASE, LeaseFlags, LeaseV2, decode_lease
from smbfuse.wire.smb2.negotiate import Capabilities
from tests.client.smb2_fixtures import fake_login, give_up, session, settled
from tests.client.smb2_server import Answer, Node, Smb2Server

__all__ = ["fake_login"]

C, X, R, W, F = Command.CREATE, Command.CLOSE, Command.READ, Command.WRITE, Command.FLUSH
S, Q = Command.SET_INFO, Command.QUERY_INFO
CONTENT = b"0123456789"
WRITING = OpenIntent(write=True)
T = TypeVar("T")


def with_files(server: Smb2Server) -> None:
    server.capabilities |= Capabilities.LEASING | Capabilities.DIRECTORY_LEASING
    server.nodes["file"] = Node(CONTENT, file_id=11)
    server.nodes["folder"] = Node(None, file_id=12, attributes=0x10)


@asynccontextmanager
async def share_of(network: Network = Network()) -> AsyncIterator[tuple[Smb2Share, Smb2Server]]:  # noqa: B008 - frozen
    async with session(with_files, network=network) as (established, server):
        share = await established.connect_share("Büro")
        server.commands()
        server.requests.clear()
        yield share, server


def asked(server: Smb2Server, command: Command, kind: type[T]) -> list[T]:
    """Return the requests of one command, read."""
    return [kind.decode(element) for header, element in server.requests if header.command == command]  # type: ignore[attr-defined]


def refusing(status: int, *, times: int = 1) -> Callable[[bytes], Answer | None]:
    left = [status] * times
    return lambda _element: (left.pop(), ErrorResponse().encode()) if left else None


class Holder:
    key = b"the key of it..."

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def broken(self, remaining: Caching, *, acknowledge: bool) -> None:
        self.heard.append((remaining, acknowledge))

    def lost(self) -> None:
        self.heard.append("lost")

    def regained(self) -> None:
        self.heard.append("regained")


def leasing(server: Smb2Server, granted: int = 7) -> None:
    """Have the server grant every lease that it is asked for."""

    def create(element: bytes) -> Answer:
        status, body = server._create(element)
        data = find_context(CreateRequest.decode(element).contexts, LEASE)
        if status or data is None:
            return status, body
        wanted = decode_lease(data)
        lease = LeaseV2(wanted.lease_key, wanted.lease_state & granted, epoch=1)
        made = CreateResponse.decode(bytes(64) + body)
        contexts = (*made.contexts, CreateContext(LEASE, lease.encode()))
        values = {name: getattr(made, name) for name in CreateResponse._NAMES}
        return 0, CreateResponse(**{**values, "oplock_level": 0xFF, "contexts": contexts}).encode()

    server.answers[C] = create


# -- opening


@pytest.mark.parametrize(
    "intent, disposition, access",
    [
        (OpenIntent(), Disposition.OPEN, 0x100081),
        (OpenIntent(write=True), Disposition.OPEN, 0x100187),
        (OpenIntent(read=False, write=True), Disposition.OPEN, 0x100186),
        (OpenIntent(read=False, truncate=True), Disposition.OPEN, 0x100186),
        (OpenIntent(write=True, creation=Creation.IF_ABSENT), Disposition.OPEN_IF, 0x100187),
        (OpenIntent(write=True, creation=Creation.EXCLUSIVE), Disposition.CREATE, 0x100187),
    ],
)
async def test_an_intent_becomes_access_and_disposition(
    intent: OpenIntent, disposition: Disposition, access: int
) -> None:
    async with share_of() as (share, server):
        path = "new" if intent.creation is Creation.EXCLUSIVE else "file"
        file = await share.open(path, intent)
        (request,) = asked(server, C, CreateRequest)
        assert (request.create_disposition, request.desired_access) == (disposition, access)
        assert request.create_options == CreateOptions.NON_DIRECTORY_FILE
        assert request.share_access == 7
        assert file.created == (intent.creation is Creation.EXCLUSIVE)
        assert file.caching is Caching.NONE


@pytest.mark.parametrize("mode, attributes", [(None, 0x80), (0o644, 0x80), (0o200, 0x80), (0o444, 0x1), (0o000, 0x1)])
async def test_a_mode_that_nobody_may_write_by_makes_a_read_only_file(mode: int | None, attributes: int) -> None:
    async with share_of() as (share, server):
        await share.open("new", OpenIntent(write=True, creation=Creation.IF_ABSENT, mode=mode))
        assert server.nodes["new"].attributes == attributes


async def test_truncation_costs_no_further_trip_and_the_file_is_told_as_it_is_then() -> None:
    async with share_of() as (share, server):
        file = await share.open("file", OpenIntent(write=True, truncate=True, first_bytes=10))
        assert server.commands() == [[C, S, Q]]
        assert (file.stat.size, file.stat.links, file.first) == (0, 3, None)
        (change,) = asked(server, S, SetInfoRequest)
        assert change.file_info_class == FileInformation.END_OF_FILE
        assert FileEndOfFileInformation.decode(change.data).end_of_file == 0


async def test_a_file_that_may_not_be_emptied_is_closed_again_and_not_opened_otherwise() -> None:
    async with share_of() as (share, server):
        server.statuses[S] = NtStatus.ACCESS_DENIED
        with pytest.raises(Denied):
            await share.open("new", OpenIntent(write=True, truncate=True, creation=Creation.EXCLUSIVE))
        assert await settled(share, server) == [[C, S, Q], [X]]
        assert server.handles == {}


async def test_a_file_whose_attributes_are_hidden_is_emptied_all_the_same() -> None:
    async with share_of() as (share, server):
        server.statuses[Q] = NtStatus.ACCESS_DENIED
        file = await share.open("file", OpenIntent(read=False, write=True, truncate=True))
        assert (file.stat.size, file.stat.file_id) == (0, 11)


@pytest.mark.parametrize(
    "read, accesses", [(True, [0x100187, 0x100087]), (False, [0x100186, 0x100086, 0x100006])], ids=["both", "writing"]
)
async def test_what_is_not_needed_for_writing_is_not_insisted_on(read: bool, accesses: list[int]) -> None:
    async with share_of() as (share, server):
        server.answers[C] = refusing(NtStatus.ACCESS_DENIED, times=len(accesses) - 1)
        file = await share.open("file", OpenIntent(read=read, write=True))
        assert [request.desired_access for request in asked(server, C, CreateRequest)] == accesses
        await file.aclose()
        server.requests.clear()
        server.answers[C] = refusing(NtStatus.ACCESS_DENIED, times=len(accesses))
        with pytest.raises(Denied):
            await share.open("file", OpenIntent(read=read, write=True))
        assert len(asked(server, C, CreateRequest)) == len(accesses)


@pytest.mark.parametrize(
    "status", [NtStatus.FILE_IS_A_DIRECTORY, NtStatus.STOPPED_ON_SYMLINK], ids=lambda row: row.name
)
async def test_whatever_has_the_name_is_in_the_way_of_an_exclusive_open(status: NtStatus) -> None:
    async with share_of() as (share, server):
        server.statuses[C] = status
        with pytest.raises(Exists):
            await share.open("folder", OpenIntent(write=True, creation=Creation.EXCLUSIVE))


async def test_a_refused_reading_is_not_tried_again() -> None:
    async with share_of() as (share, server):
        server.statuses[C] = NtStatus.ACCESS_DENIED
        with pytest.raises(Denied):
            await share.open("file", OpenIntent())
        assert server.commands() == [[C]]


# -- writing


async def test_a_write_is_one_request_with_all_its_pieces() -> None:
    async with share_of() as (share, server):
        file = await share.open("file", WRITING)
        assert await file.write(8, [b"ab", memoryview(b"cd"), bytearray(b"ef")]) == 6
        await file.flush()
        assert server.nodes["file"].data == b"01234567abcdef"
        assert server.commands() == [[C], [W], [F]]


async def test_a_write_is_cut_to_what_the_server_and_its_credits_allow() -> None:
    def few_credits(server: Smb2Server) -> None:
        server.credits = 2
        server.max_size = 1 << 20

    network = Network(max_credits=4, wsize=150_000)
    async with session(few_credits, network=network) as (established, server):
        share = await established.connect_share("Büro")
        assert share.limits.write == 150_000
        file = await share.open("new", OpenIntent(write=True, creation=Creation.IF_ABSENT))
        most = share.tree.largest_write()
        assert most < 200_000
        pieces = [bytes([number]) * 50_000 for number in range(4)]
        assert await file.write(0, pieces) == most
        assert server.nodes["new"].data == b"".join(pieces)[:most]


@pytest.mark.parametrize("count", [0, 6, 1 << 31])
async def test_a_server_that_has_written_nothing_or_too_much_is_not_believed(count: int) -> None:
    async with share_of() as (share, server):
        file = await share.open("file", WRITING)
        server.answers[W] = lambda _: (0, WriteResponse(count, 0, b"").encode())
        with pytest.raises(ProtocolError):
            await file.write(0, [b"hello"])


async def test_fewer_bytes_may_be_taken() -> None:
    async with share_of() as (share, server):
        file = await share.open("file", WRITING)
        server.answers[W] = lambda _: (0, WriteResponse(3, 0, b"").encode())
        assert await file.write(0, [b"hello"]) == 3


@pytest.mark.parametrize(
    "status, error",
    [
        (NtStatus.DISK_FULL, NoSpace),
        (NtStatus.FILE_LOCK_CONFLICT, Busy),
        (NtStatus.ACCESS_DENIED, Denied),
    ],
    ids=lambda part: part.name if isinstance(part, NtStatus) else "",
)
async def test_a_refused_write_or_flush_says_why(status: NtStatus, error: type[SmbError]) -> None:
    async with share_of() as (share, server):
        file = await share.open("file", WRITING)
        server.statuses.update({W: status, F: status, S: status})
        for call in (lambda: file.write(0, [b"x"]), file.flush, lambda: file.change(Change(size=0))):
            with pytest.raises(error):
                await call()


async def test_a_handle_tells_what_its_file_is_now() -> None:
    async with share_of() as (share, server):
        file = await share.open("file", WRITING)
        await file.write(10, [b"more"])
        found = await file.refresh()
        assert (found.size, found.links, found.volume_id) == (14, 3, file.stat.volume_id)
        assert server.commands() == [[C], [W], [Q]]


async def test_a_handle_changes_the_size_first_and_the_times_after_it() -> None:
    async with share_of() as (share, server):
        file = await share.open("file", WRITING)
        await file.change(Change(size=3, written_ns=250, accessed_ns=-100, attributes=0))
        size, basic = asked(server, S, SetInfoRequest)
        assert FileEndOfFileInformation.decode(size.data).end_of_file == 3
        assert FileBasicInformation.decode(basic.data) == FileBasicInformation(
            0, EPOCH_DELTA - 1, EPOCH_DELTA + 2, 0, FileAttributes.NORMAL
        )
        server.commands()
        await file.change(Change())
        assert server.commands() == []


async def test_modes_and_owners_are_not_for_servers_without_them() -> None:
    async with share_of() as (share, server):
        file = await share.open("file", WRITING)
        assert Features.POSIX not in share.features
        for change in (Change(mode=0o600), Change(uid=0), Change(gid=0)):
            with pytest.raises(Unsupported):
                await file.change(change)
            with pytest.raises(Unsupported):
                await share.change("file", change)
        assert server.commands() == [[C]]


# -- names and attributes by path

CALLS: dict[str, tuple[Callable[[Smb2Share], Awaitable[object]], list[Command]]] = {
    "make_directory": (lambda share: share.make_directory("new folder"), [C, Q, X]),
    "remove a file": (lambda share: share.remove("file", Kind.FILE), [C, S, X]),
    "remove a folder": (lambda share: share.remove("folder", Kind.DIRECTORY), [C, S, X]),
    "rename": (lambda share: share.rename("file", "folder/new", replace=False), [C, S, X]),
    "link": (lambda share: share.link("file", "folder/new"), [C, S, X]),
    "change": (lambda share: share.change("file", Change(size=1, written_ns=0)), [C, S, S, Q, X]),
}


@pytest.mark.parametrize("name", CALLS)
async def test_each_change_is_one_trip_and_leaves_no_handle(name: str) -> None:
    call, commands = CALLS[name]
    async with share_of() as (share, server):
        await call(share)
        assert server.commands() == [commands]
        assert server.handles == {}


@pytest.mark.parametrize("name", CALLS)
async def test_each_change_works_without_compounds(name: str) -> None:
    call, commands = CALLS[name]
    async with share_of() as (share, server):
        share.tree.engine.compounds.enabled = False
        await call(share)
        assert server.commands() == [[command] for command in commands]
        assert server.handles == {}


@pytest.mark.parametrize("name", CALLS)
async def test_each_change_that_is_refused_says_why_and_leaves_no_handle(name: str) -> None:
    call, commands = CALLS[name]
    async with share_of() as (share, server):
        server.statuses[C] = NtStatus.SHARING_VIOLATION
        with pytest.raises(Busy):
            await call(share)
        server.statuses = {S: NtStatus.DIRECTORY_NOT_EMPTY, Q: NtStatus.DIRECTORY_NOT_EMPTY}
        with pytest.raises(NotEmpty):
            await call(share)
        assert server.commands() == [commands, commands]
        assert server.handles == {}


@pytest.mark.parametrize("name", CALLS)
async def test_a_server_that_stops_at_the_refusal_has_the_file_closed_once_more(name: str) -> None:
    call, _ = CALLS[name]
    async with share_of() as (share, server):
        server.statuses = {S: NtStatus.ACCESS_DENIED, Q: NtStatus.ACCESS_DENIED}
        server.answers[X] = refusing(NtStatus.ACCESS_DENIED)
        with pytest.raises(Denied):
            await call(share)
        await settled(share, server)
        assert server.handles == {}


@pytest.mark.parametrize("name", CALLS)
async def test_each_change_may_be_given_up_at_any_time(name: str) -> None:
    call, _ = CALLS[name]
    async with share_of() as (share, server):
        await give_up(call, share, server)
        assert server.handles == {}
        assert share.tree.engine.window.taken == 0


@pytest.mark.parametrize(
    "kind, options",
    [(Kind.FILE, 0x200040), (Kind.DIRECTORY, 0x200001), (Kind.FIFO, 0x200040), (Kind.SYMLINK, 0x200000)],
)
async def test_what_is_removed_must_be_of_its_kind_and_is_never_followed(kind: Kind, options: int) -> None:
    async with share_of() as (share, server):
        await share.remove("folder" if kind is Kind.DIRECTORY else "file", kind)
        (request,) = asked(server, C, CreateRequest)
        assert (request.create_options, request.desired_access) == (options, Access.DELETE)
        (change,) = asked(server, S, SetInfoRequest)
        assert change.file_info_class == FileInformation.DISPOSITION
        assert FileDispositionInformation.decode(change.data).delete_pending == 1


async def test_a_read_only_file_is_removed_with_its_attribute_given_back() -> None:
    async with share_of() as (share, server):
        server.nodes["file"].attributes = 0x21
        server.answers[S] = refusing(NtStatus.CANNOT_DELETE)
        await share.remove("file", Kind.FILE)
        assert server.commands() == [[C, S, X], [C, S, S, S, X]]
        changes = asked(server, S, SetInfoRequest)
        assert [change.file_info_class for change in changes] == [13, 4, 13, 4]
        basic = [FileBasicInformation.decode(change.data) for change in changes if len(change.data) > 1]
        assert [change.file_attributes for change in basic] == [0x20, 0x21]
        assert server.handles == {}


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param(lambda server: server.answers.update({S: refusing(NtStatus.CANNOT_DELETE, times=9)}), id="at all"),
        pytest.param(
            lambda server: server.answers.update(
                {S: refusing(NtStatus.CANNOT_DELETE), C: create_once(server, NtStatus.ACCESS_DENIED)}
            ),
            id="its attributes",
        ),
    ],
)
async def test_a_read_only_file_that_may_not_be_changed_stays(prepare: Callable[[Smb2Server], None]) -> None:
    async with share_of() as (share, server):
        server.nodes["file"].attributes = 0x1
        prepare(server)
        with pytest.raises(Denied, match="CANNOT_DELETE"):
            await share.remove("file", Kind.FILE)
        assert server.handles == {}


def create_once(server: Smb2Server, status: int) -> Callable[[bytes], Answer]:
    left = [True]
    return lambda element: server._create(element) if left and left.pop() else (status, ErrorResponse().encode())


@pytest.mark.parametrize("replace", [False, True])
async def test_a_rename_says_where_to_in_the_server_s_words(replace: bool) -> None:
    async with share_of() as (share, server):
        await share.rename("file", "folder/Größe 🐙", replace=replace)
        (change,) = asked(server, S, SetInfoRequest)
        assert change.file_info_class == FileInformation.RENAME
        assert FileRenameInformation.decode(change.data) == FileRenameInformation(replace, "folder\\Größe 🐙")


async def test_a_link_never_replaces() -> None:
    async with share_of() as (share, server):
        server.statuses[S] = NtStatus.OBJECT_NAME_COLLISION
        with pytest.raises(Exists):
            await share.link("file", "folder")
        (change,) = asked(server, S, SetInfoRequest)
        assert change.file_info_class == FileInformation.LINK
        assert FileRenameInformation.decode(change.data) == FileRenameInformation(False, "folder")


async def test_a_change_asks_for_no_more_access_than_it_needs() -> None:
    async with share_of() as (share, server):
        for change in (Change(size=1), Change(written_ns=1), Change(attributes=Attributes.HIDDEN), Change()):
            await share.change("file", change)
        wanted = [request.desired_access for request in asked(server, C, CreateRequest)]
        assert wanted == [0x82, 0x180, 0x180, 0x80]


async def test_a_change_returns_what_the_file_is_then() -> None:
    async with share_of() as (share, _):
        found = await share.change("file", Change(size=3, attributes=Attributes.HIDDEN))
        assert (found.size, found.attributes, found.links) == (3, Attributes.HIDDEN, 3)


# -- grants in opens


async def test_a_lease_is_asked_for_granted_and_ended_by_the_close() -> None:
    async with share_of() as (share, server):
        leasing(server, granted=3)
        holder = Holder()
        wanted = Caching.READ | Caching.WRITE | Caching.HANDLE
        file = await share.open("file", OpenIntent(write=True, holder=holder, wanted=wanted))
        (request,) = asked(server, C, CreateRequest)
        data = find_context(request.contexts, LEASE)
        assert data is not None
        assert decode_lease(data) == LeaseV2(holder.key, 7)
        assert request.requested_oplock_level == 0xFF
        assert file.caching == Caching.READ | Caching.HANDLE
        await file.aclose()
        assert file.caching is Caching.NONE
        assert repr(share.tree.grants) == "<Smb2Grants version 2, 0 keys, 0 handles>"


@pytest.mark.parametrize(
    "call",
    [
        lambda share, holder: share.remove("file", Kind.FILE, holder),
        lambda share, holder: share.rename("file", "new", replace=False, holder=holder),
        lambda share, holder: share.change("file", Change(size=1), holder),
    ],
    ids=["remove", "rename", "change"],
)
async def test_what_is_changed_by_path_shows_the_holder_s_key(
    call: Callable[[Smb2Share, Holder], Awaitable[object]],
) -> None:
    async with share_of() as (share, server):
        leasing(server)
        holder = Holder()
        await call(share, holder)
        server.nodes["file"] = Node(CONTENT)
        await share.open("file", OpenIntent(holder=holder, wanted=Caching.READ))
        await call(share, holder)
        shown = [find_context(request.contexts, LEASE) for request in asked(server, C, CreateRequest)]
        assert [data is not None for data in shown] == [False, True, True]
        assert shown[2] is not None
        assert decode_lease(shown[2]).lease_key == holder.key
        assert of_lease_state(decode_lease(shown[2]).lease_state) is Caching.NONE


async def test_a_key_that_another_path_has_is_left_out_the_second_time() -> None:
    async with share_of() as (share, server):
        holder = Holder()
        for _ in range(2):
            server.answers[C] = refusing(NtStatus.INVALID_PARAMETER)
            file = await share.open("file", OpenIntent(holder=holder, wanted=Caching.READ))
            await file.aclose()
            listing = await share.open_directory("folder", holder) if _ else None
            if listing is not None:
                await listing.aclose()
        keys = [find_context(request.contexts, LEASE) is not None for request in asked(server, C, CreateRequest)]
        assert keys == [True, False, True, False, True]
        server.answers[C] = refusing(NtStatus.INVALID_PARAMETER, times=9)
        with pytest.raises(SmbError):
            await share.open("file", OpenIntent(holder=holder, wanted=Caching.READ))


async def test_what_changes_a_leased_folder_names_its_key() -> None:
    async with share_of() as (share, server):
        leasing(server)
        server.nodes["folder\\inside"] = Node(b"")
        holder = Holder()
        listing = await share.open_directory("folder", holder)
        assert listing.caching == Caching.READ | Caching.HANDLE
        server.requests.clear()
        await share.stat("folder/inside")
        await share.change("folder/inside", Change(size=1))
        await share.remove("folder/inside", Kind.FILE)
        await share.make_directory("folder/new")
        await share.remove("file", Kind.FILE)
        await listing.aclose()
        await share.remove("folder/new", Kind.DIRECTORY)
        parents = list(parent_keys(asked(server, C, CreateRequest)))
        assert parents == [None, holder.key, holder.key, holder.key, None, None]


def parent_keys(requests: Iterable[CreateRequest]) -> Iterable[bytes | None]:
    for request in requests:
        data = find_context(request.contexts, LEASE)
        lease = decode_lease(data) if data is not None else None
        named = isinstance(lease, LeaseV2) and lease.lease_flags & LeaseFlags.PARENT_LEASE_KEY_SET
        yield lease.parent_lease_key if isinstance(lease, LeaseV2) and named else None


@pytest.mark.parametrize("leased", [True, False], ids=["that holds the lease too", "without a lease"])
async def test_a_folder_stays_leased_when_another_listing_of_it_ends(leased: bool) -> None:
    async with share_of() as (share, server):
        leasing(server)
        server.nodes["folder\\inside"] = Node(b"")
        holder = Holder()
        listing = await share.open_directory("folder", holder)
        ending = await share.open_directory("folder", holder if leased else None)
        server.requests.clear()
        await ending.aclose()
        await share.change("folder/inside", Change(size=1))
        await listing.aclose()
        await share.change("folder/inside", Change(size=1))
        assert list(parent_keys(asked(server, C, CreateRequest))) == [holder.key, None]


async def test_nothing_is_asked_for_if_the_user_wants_no_leases() -> None:
    async with share_of(network=Network(leases=False)) as (share, server):
        file = await share.open("file", OpenIntent(holder=Holder(), wanted=Caching.READ))
        (request,) = asked(server, C, CreateRequest)
        assert request.requested_oplock_level == 0
        assert find_context(request.contexts, LEASE) is None
        assert file.caching is Caching.NONE
        assert not share.features & (Features.LEASES | Features.DIRECTORY_LEASES)


async def test_a_break_is_told_to_the_holder_and_answered_by_its_handle() -> None:
    async with share_of() as (share, server):
        leasing(server)
        holder = Holder()
        file = await share.open("file", OpenIntent(holder=holder, wanted=Caching.READ | Caching.HANDLE))
        await server.take_back(holder.key, 1, epoch=2)
        await share.echo()
        assert holder.heard == [(Caching.READ, True)]
        server.commands()
        await file.acknowledge(Caching.READ)
        await file.acknowledge(Caching.READ)
        assert await settled(share, server) == [[Command.OPLOCK_BREAK]]
        await file.stand_aside()


async def test_the_end_of_the_connection_is_told_to_the_holder() -> None:
    async with share_of() as (share, server):
        leasing(server)
        holder = Holder()
        file = await share.open("file", OpenIntent(holder=holder, wanted=Caching.READ))
        server.cut_at = Command.ECHO
        with pytest.raises(SmbError):
            await share.echo()
        assert (holder.heard, file.caching) == (["lost"], Caching.NONE)
        await file.aclose()
