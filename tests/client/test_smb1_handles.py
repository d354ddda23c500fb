"""Handles of an SMB1 server are given back once, and always: whatever answers it gives, and whoever gives up when."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import trio
import trio.testing

from smbfuse.client import smb1_names
from smbfuse.client.smb1_share import Smb1Share
from smbfuse.client.smb1_stat import StatQuery
from smbfuse.errors import ConnectionLost, DecodeError, ProtocolError, StaleHandle, StatusError
from smbfuse.share import Caching, Creation, FileStat, Kind, OpenFile, OpenIntent
from smbfuse.status import NtStatus
from smbfuse.wire import nbss
from smbfuse.wire.smb1 import files, io
from smbfuse.wire.smb1.changes import SetLevel, SetPathRequest
from smbfuse.wire.smb1.control import BREAK_TO_NONE
from smbfuse.wire.smb1.header import Command, decode_header
from smbfuse.wire.smb1.levels import PathLevel, UnixBasic, UnixCapabilities, UnixInfo2
from smbfuse.wire.smb1.listing import FindLevel
from smbfuse.wire.smb1.message import Block, Message
from smbfuse.wire.smb1.negotiate import Capabilities
from smbfuse.wire.smb1.posix import PosixOpenResponse
from smbfuse.wire.smb1.trans2 import Subcommand
from smbfuse.wire.smb1.transaction import TransactionPart, TransactionRequest
from tests.client.smb1_disk import Disk
from tests.client.smb1_server import FILETIME, NT, Refused
from tests.client.test_smb1_old_disks import NT_LEVELS, mounted
from tests.engine.test_smb1_writing import notice


@dataclass
class Counting(Disk):
    """Like Windows NT 4; knows what it has opened and what was closed, and keeps `held` commands waiting."""

    capabilities: Capabilities = NT
    known_levels: frozenset[int] = NT_LEVELS
    opened: list[int] = field(default_factory=list)
    held: set[Command] = field(default_factory=set)
    waiting: list[bytes] = field(default_factory=list)

    @property
    def closed(self) -> Counter[int]:
        """How often each FID was closed."""
        blocks = [block for _, chain in self.requests for block in chain if block.command == Command.CLOSE]
        return Counter(files.CloseRequest.decode_block(block, self.strings).fid for block in blocks)

    def _open(self, name: str) -> int:
        self.opened.append(super()._open(name))
        return self.opened[-1]

    def _take(self, pdu: bytes) -> None:
        if decode_header(pdu).command in self.held:
            self.waiting.append(pdu)
        else:
            super()._take(pdu)

    async def let(self) -> None:
        """Answer what was kept waiting."""
        self.held.clear()
        waiting, self.waiting = self.waiting, []
        for pdu in waiting:
            super()._take(pdu)
        await self.send_all(())


@asynccontextmanager
async def with_file(server: Counting) -> AsyncIterator[tuple[Smb1Share, OpenFile]]:
    """Yield the server's share, and a file of it that is open to read."""
    async with mounted(server) as share:
        yield share, await share.open("a.txt", OpenIntent())


async def begin(nursery: trio.Nursery, call: Callable[..., Awaitable[object]], *arguments: object) -> None:
    """Start a call that has to wait, and let it go as far as it comes."""
    nursery.start_soon(call, *arguments)
    await trio.testing.wait_all_tasks_blocked()


class Holder:
    key = bytes(16)

    def __init__(self) -> None:
        self.breaks: list[tuple[Caching, bool]] = []

    def broken(self, remaining: Caching, *, acknowledge: bool) -> None:
        self.breaks.append((remaining, acknowledge))

    def lost(self) -> None:
        """Hear that the mount ends."""

    def regained(self) -> None:
        """Hear of nothing: no connection ends before the mount."""


async def test_first_bytes_that_are_nonsense_leave_no_handle_behind() -> None:
    class Generous(Counting):
        def _reply(self, block: Block) -> Message:
            if block.command == Command.READ_ANDX:
                return io.ReadResponse(0xFFFF, 0, b"", b"more than was asked for")
            return super()._reply(block)

    server = Generous()
    async with mounted(server) as share:
        with pytest.raises(ProtocolError):
            await share.open("a.txt", OpenIntent(first_bytes=4))
    assert server.opened == [1]
    assert server.closed == {1: 1}


async def test_an_open_that_has_left_is_never_said_not_to_have_been_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is told so repeats it: an exclusive one would then meet the file that it has made."""

    async def never_left(_query: StatQuery) -> FileStat:
        raise ConnectionLost("cut between the two requests", sent=False)

    server = Counting()
    async with mounted(server) as share:
        monkeypatch.setattr(StatQuery, "result", never_left)
        with pytest.raises(ConnectionLost) as lost:
            await share.open("new.txt", OpenIntent(read=True, write=True, creation=Creation.EXCLUSIVE))
    assert lost.value.sent
    assert server.opened == [1]


# --- a handle that is to stand aside ----------------------------------------------------------------------------------


async def test_a_file_that_is_closed_while_it_is_opened_again_is_closed_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = Counting(held={Command.NT_CREATE_ANDX})
    async with with_file(server) as (share, file), trio.open_nursery() as nursery:
        await begin(nursery, file.stand_aside)
        assert server.waiting
        await file.aclose()
        await share.echo()
        await server.let()
    assert server.opened == [1, 2]
    assert server.closed == {1: 1, 2: 1}


async def test_a_file_that_is_closed_while_its_old_handle_is_in_use_is_closed_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = Counting(held={Command.READ_ANDX})
    async with with_file(server) as (share, file), trio.open_nursery() as nursery:
        await begin(nursery, file.read, 0, 5)
        await begin(nursery, file.stand_aside)
        assert server.opened == [1, 2]
        await file.aclose()
        await share.echo()
        assert server.closed == {2: 1}  # the old one is being read
        await server.let()
    assert server.closed == {1: 1, 2: 1}


async def test_whoever_gives_up_standing_aside_leaves_no_handle_behind(autojump_clock: trio.testing.MockClock) -> None:
    server = Counting(held={Command.READ_ANDX})
    async with with_file(server) as (_, file):
        async with trio.open_nursery() as nursery:
            await begin(nursery, file.read, 0, 5)
            with trio.move_on_after(1) as scope:
                await file.stand_aside()
            assert scope.cancelled_caught
            assert not server.closed
            await server.let()
        await file.aclose()
    assert server.opened == [1, 2]
    assert server.closed == {1: 1, 2: 1}


async def test_a_file_is_closed_behind_its_reads(autojump_clock: trio.testing.MockClock) -> None:
    server = Counting(held={Command.READ_ANDX})
    async with with_file(server) as (share, file):
        brought = []

        async def read() -> None:
            brought.append(bytes(await file.read(0, 5)))

        async with trio.open_nursery() as nursery:
            await begin(nursery, read)
            await file.aclose()
            await share.echo()
            assert not server.closed
            await server.let()
        assert brought == [b"hello"]
    assert server.closed == {1: 1}


async def test_a_handle_that_could_not_stand_aside_is_asked_for_what_it_keeps(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Exclusive(Counting):
        """Gives whoever asks with OPEN_ANDX an oplock, and lets nobody open the file a second time."""

        def _reply(self, block: Block) -> Message:
            if block.command == Command.NT_CREATE_ANDX:
                raise Refused(NtStatus.ACCESS_DENIED)
            reply = super()._reply(block)
            if isinstance(reply, files.OpenAndxResponse):
                return replace(reply, open_results=reply.open_results | files.OpenResult.OPLOCK)
            return reply

    server, holder = Exclusive(), Holder()
    async with mounted(server) as share:
        file = await share.open("a.txt", OpenIntent(holder=holder, wanted=Caching.READ))
        assert file.caching is Caching.READ
        with pytest.raises(StaleHandle):
            await file.stand_aside()
        broken = notice(server.opened[0], BREAK_TO_NONE)
        server._outbox += nbss.frame(len(broken)) + broken
        await server.let()
        await share.echo()
        assert holder.breaks == [(Caching.NONE, True)]
        assert "LOCKING_ANDX" not in server.commands
        await file.aclose()


# --- a hidden name that is to go with its last writer -----------------------------------------------------------------


async def test_a_name_whose_last_writer_closes_while_it_is_removed_goes_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Posix(Counting):
        def _opened(self, path: str, **how: Any) -> tuple[str, bool]:
            return super()._opened(path.lstrip("/"), **how)

    server = Posix()
    async with mounted(server) as share:
        tree = share._tree
        writers = [await share.open("a.txt", OpenIntent(write=True)) for _ in range(2)]
        tree.unix = UnixCapabilities.POSIX_PATHNAMES | UnixCapabilities.POSIX_PATH_OPERATIONS
        server.held.add(Command.NT_CREATE_ANDX)
        async with trio.open_nursery() as nursery:
            await begin(nursery, smb1_names.remove, tree, "a.txt", Kind.FILE, Holder())
            for writer in writers:
                await writer.aclose()
            await share.echo()
            assert server.closed == {1: 1, 2: 1}
            await server.let()
        await share.echo()
        assert server.closed == {1: 1, 2: 1, 3: 1}


# --- a folder that its owner may not read -----------------------------------------------------------------------------


@dataclass
class Guarded(Counting):
    """Has one folder, which is not empty; its `modes` are what it had, the present one last.

    From the `silent_from`-th request for it on, counted from 1, all are kept waiting.
    """

    modes: list[int] = field(default_factory=lambda: [0o300])
    silent_from: int = 0
    asked: int = 0

    def _take(self, pdu: bytes) -> None:
        if decode_header(pdu).command in (Command.DELETE_DIRECTORY, Command.TRANSACTION2):
            self.asked += 1
            if self.asked == self.silent_from:
                self.held |= {Command.DELETE_DIRECTORY, Command.TRANSACTION2}
        super()._take(pdu)

    def _reply(self, block: Block) -> Message:
        if block.command == Command.DELETE_DIRECTORY:
            readable = self.modes[-1] & 0o400
            raise Refused(NtStatus.DIRECTORY_NOT_EMPTY if readable else NtStatus.ACCESS_DENIED)
        return super()._reply(block)

    def _transaction(self, asked: TransactionRequest) -> TransactionPart:
        if asked.setup[0] == Subcommand.SET_PATH_INFORMATION:
            self.modes.append(UnixBasic.decode(asked.data).permissions)
            return TransactionPart(Command.TRANSACTION2, 2, 0, bytes(2), 0, b"", 0)
        assert asked.setup[0] == Subcommand.QUERY_PATH_INFORMATION
        told = info2(self.modes[-1])
        return TransactionPart(Command.TRANSACTION2, 2, len(told), bytes(2), 0, told, 0)


def info2(mode: int) -> bytes:
    """Return the description of a folder."""
    return UnixInfo2(0, 0, FILETIME, FILETIME, FILETIME, 0, 0, 1, 0, 0, 7, mode, 2, FILETIME, 0, 0).encode()


async def test_a_folder_that_cannot_be_removed_has_its_mode_again() -> None:
    server = Guarded()
    async with mounted(server) as share:
        share._tree.adopt_unix(UnixCapabilities.POSIX_PATHNAMES)
        with pytest.raises(StatusError) as refusal:
            await share.remove("folder", Kind.DIRECTORY)
    assert refusal.value.status == NtStatus.DIRECTORY_NOT_EMPTY
    assert server.modes == [0o300, 0o700, 0o300]


@pytest.mark.parametrize("step", [3, 4], ids=["while its mode is changed", "while it is removed"])
async def test_a_folder_whose_removal_is_given_up_half_way_has_its_mode_again(
    step: int, autojump_clock: trio.testing.MockClock
) -> None:
    server = Guarded(silent_from=step)
    async with mounted(server) as share:
        share._tree.adopt_unix(UnixCapabilities.POSIX_PATHNAMES)
        patience = trio.CancelScope()

        async def remove() -> None:
            with patience:
                await share.remove("folder", Kind.DIRECTORY)

        async with trio.open_nursery() as nursery:
            await begin(nursery, remove)
            assert server.asked == step
            patience.cancel()
            await trio.testing.wait_all_tasks_blocked()
            await server.let()
        assert patience.cancelled_caught
    assert server.modes == [0o300, 0o700, 0o300]


# --- answers that cannot be read --------------------------------------------------------------------------------------


async def test_a_listing_that_does_not_come_to_an_end_leaves_no_search_behind() -> None:
    class Endless(Counting):
        def _page(self, sid: int, level: int) -> tuple[int, int, bytes]:
            return 0, 0, b""

    server = Endless(known_levels=NT_LEVELS | {FindLevel.INFO_STANDARD})
    async with mounted(server) as share:
        with pytest.raises(ProtocolError):
            await share.open_directory("")
    assert server.commands.count("FIND_CLOSE2") == 1


async def test_a_file_that_is_opened_but_not_described_is_closed() -> None:
    class Vague(Counting):
        def _transaction(self, asked: TransactionRequest) -> TransactionPart:
            if asked.setup[0] == Subcommand.SET_PATH_INFORMATION:
                level = SetPathRequest.decode(asked.parameters, self.strings).information_level
                if level != SetLevel.POSIX_PATH_OPEN:
                    raise Refused(NtStatus.INVALID_INFO_CLASS)
                opened = PosixOpenResponse(0, self._open("a.txt"), 1, PathLevel.UNIX_BASIC).encode()
                return TransactionPart(Command.TRANSACTION2, 2, len(opened), bytes(2), 0, opened, 0)
            return super()._transaction(asked)

    server = Vague()
    async with mounted(server) as share:
        share._tree.unix = UnixCapabilities.POSIX_PATHNAMES | UnixCapabilities.POSIX_PATH_OPERATIONS
        with pytest.raises(DecodeError):
            await share.open("a.txt", OpenIntent(write=True))
    assert server.opened == [1]
    assert server.closed == {1: 1}
