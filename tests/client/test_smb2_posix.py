"""The POSIX extensions with a scripted server: who has them, what is asked of whom, and what answers are worth."""

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from smbfuse.client.smb2_share import Smb2Share
from smbfuse.config import Network
from smbfuse.errors import Denied, NoSpace, ProtocolError, StatusError, Unsupported
from smbfuse.share import Caching, Change, Features, Kind, OpenIntent
from smbfuse.status import NtStatus
from smbfuse.wire.descriptor import Descriptor, SecurityInformation, Sid, allowing, nfs_mode, unix_group, unix_user
from smbfuse.wire.smb2.create import Access, CreateContext, CreateOptions, CreateRequest, CreateResponse, find_context
from smbfuse.wire.smb2.errors import ErrorResponse
from smbfuse.wire.smb2.header import Command
from smbfuse.wire.smb2.info import (
    InfoType,
    QueryDirectoryRequest,
    QueryDirectoryResponse,
    QueryInfoRequest,
    QueryInfoResponse,
    SetInfoRequest,
)
from smbfuse.wire.smb2.negotiate import ContextType, NegotiateContext, NegotiateRequest, algorithms, preauth_integrity
from smbfuse.wire.smb2.posix import (
    POSIX_EXTENSIONS,
    POSIX_INFORMATION,
    FileFsPosixInformation,
    PosixAttributes,
    PosixEntry,
    PosixInformation,
    PosixType,
    encode_posix_page,
    posix_extensions_available,
)
from tests.client.smb2_fixtures import fake_login, session, settled
from tests.client.smb2_server import TIME, Answer, Node, Smb2Server

__all__ = ["fake_login"]

C, Q, S, X = Command.CREATE, Command.QUERY_INFO, Command.SET_INFO, Command.CLOSE

MINE = PosixAttributes(2, 0, 0o640, unix_user(1000).encode(), unix_group(100).encode())
FOUND = PosixInformation(TIME, TIME, TIME, TIME, 5, 4096, 0x20, 77, 2049, MINE)


def contexts(*more: NegotiateContext) -> list[NegotiateContext]:
    """Return an answer to NEGOTIATE with `more` contexts."""
    chosen = [algorithms(ContextType.ENCRYPTION_CAPABILITIES, [2]), algorithms(ContextType.SIGNING_CAPABILITIES, [2])]
    return [preauth_integrity(b"salt"), *chosen, *more]


class PosixServer:
    """Gives a scripted server the extensions; `has` is whether the share has them too."""

    def __init__(self, server: Smb2Server, *, has: bool = True) -> None:
        self.server = server
        self.has = has
        self.found = FOUND
        self.names: list[str] = []
        self.modes: list[int | None] = []
        self.changes: list[SetInfoRequest] = []
        self.classes: list[int] = []
        self.context: bytes | None = None  # of the create context's answer, instead of the right one
        server.contexts = contexts(posix_extensions_available())
        server.answers |= {C: self.create, Q: self.query_info, S: self.set_info}
        server.answers[Command.QUERY_DIRECTORY] = self.query_directory
        self.pages = [encode_posix_page([PosixEntry(".", FOUND), PosixEntry("a\\b", FOUND)])]

    def create(self, element: bytes) -> Answer | None:
        request = CreateRequest.decode(element)
        mode = find_context(request.contexts, POSIX_EXTENSIONS)
        self.names.append(request.name)
        self.modes.append(int.from_bytes(mode, "little") if mode is not None else None)
        status, body = self.server._create(element)
        if status or mode is None or not self.has:
            return status, body
        made = CreateResponse.decode(bytes(64) + body)
        told = CreateContext(POSIX_EXTENSIONS, self.found.posix.encode() if self.context is None else self.context)
        return 0, dataclasses.replace(made, contexts=(*made.contexts, told)).encode()

    def query_info(self, element: bytes) -> Answer | None:
        request = QueryInfoRequest.decode(element)
        self.classes.append(request.file_info_class)
        if request.file_info_class != POSIX_INFORMATION:
            return None
        if not self.has:
            return NtStatus.INVALID_LEVEL, ErrorResponse().encode()
        if request.info_type == InfoType.FILESYSTEM:
            return 0, QueryInfoResponse(FileFsPosixInformation(1, 1, 1, 1, 1, 1, 1, 1).encode()).encode()
        return 0, QueryInfoResponse(self.found.encode()).encode()

    def query_directory(self, element: bytes) -> Answer | None:
        self.classes.append(QueryDirectoryRequest.decode(element).file_information_class)
        if not self.pages:
            return NtStatus.NO_MORE_FILES, ErrorResponse().encode()
        return 0, QueryDirectoryResponse(memoryview(self.pages.pop(0))).encode()

    def set_info(self, element: bytes) -> Answer | None:
        self.changes.append(SetInfoRequest.decode(element))
        return None


@asynccontextmanager
async def posix_share(*, has: bool = True) -> AsyncIterator[tuple[Smb2Share, PosixServer]]:
    made: list[PosixServer] = []

    def prepare(server: Smb2Server) -> None:
        server.nodes["file"] = Node(b"12345", file_id=77)
        server.nodes["a/b\\c"] = Node(b"12345", file_id=77)
        server.nodes["a\\b"] = Node(b"12345", file_id=77)
        made.append(PosixServer(server, has=has))

    async with session(prepare) as (established, _):
        share = await established.connect_share("share")
        made[0].server.commands()
        yield share, made[0]


# -- who has them


@pytest.mark.parametrize("wanted", [True, False])
async def test_they_are_offered_unless_they_are_declined(wanted: bool) -> None:
    async with session(network=Network(unix_extensions=wanted)) as (_, server):
        offered = NegotiateRequest.decode(server.requests[0][1]).contexts
        assert (posix_extensions_available() in offered) == wanted


@pytest.mark.parametrize(
    "answer, has",
    [
        (contexts(posix_extensions_available()), True),
        (contexts(), False),
        (contexts(NegotiateContext(ContextType.POSIX_EXTENSIONS_AVAILABLE, b"something else 1")), False),
    ],
    ids=["yes", "no", "another"],
)
async def test_a_server_has_them_that_says_so(answer: list[NegotiateContext], has: bool) -> None:
    def prepare(server: Smb2Server) -> None:
        server.contexts = answer

    async with session(prepare) as (established, _):
        assert established.negotiated.posix == has


async def test_what_was_not_offered_is_not_believed() -> None:
    def prepare(server: Smb2Server) -> None:
        server.contexts = contexts(posix_extensions_available())

    async with session(prepare, network=Network(unix_extensions=False)) as (established, _):
        assert not established.negotiated.posix


async def test_each_share_is_asked_once() -> None:
    async with posix_share() as (share, server):
        assert Features.POSIX | Features.CASE_SENSITIVE in share.features
        assert server.names == [""]


async def test_a_share_without_them_is_spoken_to_as_windows_has_it() -> None:
    async with posix_share(has=False) as (share, server):
        assert Features.POSIX not in share.features
        await share.stat("a/b")
        assert (server.names[-1], server.modes[-1]) == ("a\\b", None)
        with pytest.raises(Unsupported):
            await share.change("a/b", Change(mode=0o600))


async def test_a_share_that_answers_nonsense_is_one_without_them() -> None:
    async with session(lambda server: PosixServer(server).server.answers.update({C: _nonsense})) as (established, _):
        share = await established.connect_share("share")
        assert Features.POSIX not in share.features


def _nonsense(element: bytes) -> Answer:
    return NtStatus.INVALID_PARAMETER, ErrorResponse().encode()


# -- what is asked, and what answers are worth


async def test_paths_keep_their_slashes_and_names_their_backslashes() -> None:
    async with posix_share() as (share, server):
        found = await share.stat("a/b\\c")
        assert server.names[-1] == "a/b\\c"
        assert server.server.commands() == [[C, Q, X]]
    assert (found.kind, found.size, found.mode, found.uid, found.gid, found.links) == (
        Kind.FILE,
        5,
        0o640,
        1000,
        100,
        2,
    )
    assert (found.file_id, found.written_ns) == (77, 10**9)


async def test_what_is_made_has_the_mode_that_was_asked_for() -> None:
    async with posix_share() as (share, server):
        server.server.nodes["folder"] = Node(None)
        await share.make_directory("folder", 0o2751)
        assert server.modes[-1] == 0o2751


@pytest.mark.parametrize(
    "mode, attributes, tag, kind",
    [
        (0o644, 0x20, 0, Kind.FILE),
        (0o755, 0x10, 0, Kind.DIRECTORY),  # a server that leaves the type away
        (0o755 | PosixType.DIRECTORY << 12, 0x10, 0, Kind.DIRECTORY),
        (0o777 | PosixType.SYMLINK << 12, 0x400, 0xA000000C, Kind.SYMLINK),
        (0o644 | PosixType.FIFO << 12, 0x400, 0x80000014, Kind.FIFO),
        (0o644 | PosixType.SOCKET << 12, 0x400, 0x80000014, Kind.SOCKET),
        (0o644, 0x400, 0x80000024, Kind.FIFO),  # one of WSL, for which POSIX' own types are silent
    ],
)
async def test_every_type(mode: int, attributes: int, tag: int, kind: Kind) -> None:
    posix = MINE._replace(mode=mode, reparse_tag=tag)
    async with posix_share() as (share, server):
        server.found = FOUND._replace(file_attributes=attributes, posix=posix)
        server.pages = [encode_posix_page([PosixEntry("x", server.found)])]
        listing = await share.open_directory("")
        (listed,) = await listing.page()
        await listing.aclose()
        assert listed.stat.kind is kind
        assert (await share.stat("file")).kind is kind
        assert listed.stat.mode == 0o777 if kind is Kind.SYMLINK else mode & 0o7777


@pytest.mark.parametrize("sid", [Sid(5, (21, 1, 2, 3, 1001)), Sid(0, (0,)), Sid(5, (32, 544))])
async def test_owners_that_only_a_domain_knows_are_nobody(sid: Sid) -> None:
    async with posix_share() as (share, server):
        server.found = FOUND._replace(posix=MINE._replace(owner=sid.encode(), group=sid.encode()))
        found = await share.stat("file")
        assert (found.uid, found.gid) == (None, None)


async def test_a_listing_is_in_their_class() -> None:
    async with posix_share() as (share, server):
        listing = await share.open_directory("")
        (entry,) = await listing.page()
        assert list(await listing.page()) == []
        await listing.aclose()
        assert set(server.classes[1:]) == {POSIX_INFORMATION}
    assert (entry.name, entry.stat.mode, entry.stat.uid) == ("a\\b", 0o640, 1000)


async def test_mode_and_owners_are_parts_of_a_descriptor_the_owners_first() -> None:
    async with posix_share() as (share, server):
        await share.change("file", Change(mode=0o4755, uid=7, gid=8, written_ns=0))
        assert server.server.commands() == [[C, S, S, S, Q, X]]
        parts = [(change.info_type, change.additional_information) for change in server.changes]
        descriptors = [Descriptor.decode(change.data) for change in server.changes[1:]]
    owners = SecurityInformation.OWNER | SecurityInformation.GROUP
    assert parts == [(InfoType.FILE, 0), (InfoType.SECURITY, owners), (InfoType.SECURITY, SecurityInformation.DACL)]
    assert descriptors == [
        Descriptor(unix_user(7), unix_group(8)),
        Descriptor(dacl=allowing([nfs_mode(0o4755)])),
    ]


@pytest.mark.parametrize("context", [b"", b"short", MINE.encode()[:-1], bytes(12) + b"\x01\xff" + bytes(30)])
async def test_a_context_that_is_nonsense_ends_the_call_and_leaves_nothing_open(context: bytes) -> None:
    async with posix_share() as (share, server):
        server.context = context
        with pytest.raises(ProtocolError):
            await share.open("file", OpenIntent())
        with pytest.raises(ProtocolError):
            await share.open_directory("")
        await settled(share, server.server)
        assert server.server.handles == {}


async def test_information_that_is_nonsense_is_an_error() -> None:
    async with posix_share() as (share, server):
        server.server.answers[Q] = lambda _element: (0, QueryInfoResponse(b"nonsense").encode())
        with pytest.raises(ProtocolError):
            await share.stat("file")
        server.server.answers[Q] = lambda _element: (NtStatus.ACCESS_DENIED, ErrorResponse().encode())
        with pytest.raises(StatusError):
            await share.stat("file")


# -- what Samba (4.22) refuses for want of mode bits


class Modes:
    """Lets times be set and groups be given away only while the owner has every right by the mode, as Samba does."""

    def __init__(self, server: PosixServer, mode: int) -> None:
        self.server = server
        self.mode = mode
        self.owned = True
        self.refused: int = NtStatus.SUCCESS  # of times
        self._set_mode(mode)
        server.server.answers |= {C: self.create, S: self.set_info}

    def _set_mode(self, mode: int) -> None:
        self.mode = mode
        self.server.found = FOUND._replace(posix=MINE._replace(mode=mode))

    def create(self, element: bytes) -> Answer | None:
        access = CreateRequest.decode(element).desired_access
        by_mode = access & (Access.FILE_WRITE_ATTRIBUTES | Access.WRITE_OWNER | Access.FILE_WRITE_DATA)
        if (by_mode and self.mode & 0o700 != 0o700) or (access & Access.WRITE_DAC and not self.owned):
            return NtStatus.ACCESS_DENIED, ErrorResponse().encode()
        return self.server.create(element)

    def set_info(self, element: bytes) -> Answer | None:
        request = SetInfoRequest.decode(element)
        if request.additional_information == SecurityInformation.DACL:
            self._set_mode(int.from_bytes(request.data[-4:], "little"))
        elif self.refused:
            return self.refused, ErrorResponse().encode()
        return self.server.set_info(element)


async def test_the_owner_is_lent_the_bits_that_setting_times_takes() -> None:
    async with posix_share() as (share, server):
        modes = Modes(server, 0o444)
        changed = await share.change("file", Change(written_ns=0))
        assert changed.mode == modes.mode == 0o444
        assert server.server.commands() == [[C, S, Q, X], [C, Q, X], [C, S, Q, X], [C, S, S, Q, X]]
        changed = await share.change("file", Change(gid=7, mode=0o640))
        assert changed.mode == modes.mode == 0o640


@pytest.mark.parametrize("change", [Change(written_ns=0), Change(mode=0o600), Change(gid=7)])
async def test_nobody_else_is(change: Change) -> None:
    async with posix_share() as (share, server):
        modes = Modes(server, 0o644)
        modes.owned = False
        with pytest.raises(Denied):
            await share.change("file", change)
        assert modes.mode == 0o644


async def test_a_file_that_forbids_writing_is_not_cut() -> None:
    async with posix_share() as (share, server):
        Modes(server, 0o444)
        with pytest.raises(Denied):
            await share.change("file", Change(size=0))
        assert server.server.commands() == [[C, S, Q, X]]


async def test_what_was_lent_is_taken_back_if_the_change_fails_all_the_same() -> None:
    async with posix_share() as (share, server):
        modes = Modes(server, 0o444)
        modes.refused = NtStatus.DISK_FULL
        with pytest.raises(NoSpace):
            await share.change("file", Change(written_ns=0))
        assert modes.mode == 0o444


# -- files that lose their name while they are written


class Holder:
    key = b"sixteen bytes on"

    def broken(self, remaining: Caching, *, acknowledge: bool) -> None: ...

    def lost(self) -> None: ...

    def regained(self) -> None: ...


async def test_a_file_that_is_written_is_deleted_by_a_handle_that_is_closed_last() -> None:
    async with posix_share() as (share, server):
        holder = Holder()
        files = [await share.open("file", OpenIntent(write=True, holder=holder)) for _ in range(2)]
        await settled(share, server.server)
        await share.remove("file", Kind.FILE, holder)
        assert await settled(share, server.server) == [[C]]
        (element,) = [element for header, element in server.server.requests if header.command == C][-1:]
        assert CreateRequest.decode(element).create_options & CreateOptions.DELETE_ON_CLOSE
        await files[0].aclose()
        assert await settled(share, server.server) == [[X]]
        await files[1].aclose()
        assert await settled(share, server.server) == [[X], [X]]
        assert server.server.handles == {}


async def test_a_file_that_is_not_written_is_deleted_at_once() -> None:
    async with posix_share() as (share, server):
        holder = Holder()
        written = await share.open("a/b\\c", OpenIntent(write=True))
        server.found = FOUND._replace(inode=78)
        server.server.nodes["file"].file_id = 78
        read = await share.open("file", OpenIntent(holder=holder))
        await settled(share, server.server)
        await share.remove("file", Kind.FILE, holder)
        assert await settled(share, server.server) == [[C], [X]]
        await read.aclose()
        await written.aclose()
        await share.remove("file", Kind.FILE, holder)
        assert (await settled(share, server.server))[-1] == [C, S, X]
        assert server.server.handles == {}
