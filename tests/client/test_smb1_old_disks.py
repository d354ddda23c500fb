"""Writing on servers that no longer exist, in memory: no NT commands, one request at a time, share passwords, NT 4."""

import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import trio

from smbfuse.client.smb1_session import Smb1Session
from smbfuse.client.smb1_share import Smb1Share
from smbfuse.config import Login, Sec, Secret
from smbfuse.errors import Busy, Denied, Exists, NoSpace, NotFound, SmbError, Unsupported, WrongKind
from smbfuse.share import Attributes, Caching, Change, Creation, Features, Kind, OpenIntent
from smbfuse.status import NtStatus
from smbfuse.wire.smb1 import files
from smbfuse.wire.smb1.header import Command
from smbfuse.wire.smb1.levels import FsLevel, PathLevel
from smbfuse.wire.smb1.message import Block, Message
from smbfuse.wire.smb1.negotiate import Capabilities, SecurityMode
from tests.client.smb1_disk import Disk
from tests.client.smb1_server import NT, PASSWORD, Refused, settings
from tests.client.test_smb1_old_servers import read_all

NT_LEVELS = frozenset({PathLevel.QUERY_FILE_ALL_INFO, PathLevel.INFO_STANDARD, FsLevel.INFO_ALLOCATION})
MAKING = OpenIntent(write=True, creation=Creation.EXCLUSIVE)
WRITING = OpenIntent(write=True)
EVERYTHING = Caching.READ | Caching.WRITE | Caching.HANDLE
MOMENT = 1_234_567_890  # even: DOS times have 2 s


@asynccontextmanager
async def mounted(server: Disk, **network: Any) -> AsyncIterator[Smb1Share]:
    login = Login(user="ursula", password=Secret(PASSWORD), sec=Sec.NTLM)
    async with trio.open_nursery() as nursery:
        session = await Smb1Session.establish(server, nursery, **{**settings(**network), "login": login})
        share = await session.connect_share("share")
        yield share
        await share.aclose()
        await session.aclose()


DISKS: dict[str, Callable[[], Disk]] = {
    "the oldest": Disk,
    "one request at a time": lambda: Disk(max_mpx_count=1),
    "share passwords": lambda: Disk(security_mode=SecurityMode.ENCRYPT_PASSWORDS),
    "before LAN Manager": lambda: Disk(path_information=False, lan_manager=False),
    "times by the oldest command": lambda: Disk(lan_manager=False),
    "NT 4": lambda: Disk(capabilities=NT, known_levels=NT_LEVELS),
    "NT without large files": lambda: Disk(capabilities=NT & ~Capabilities.LARGE_FILES, known_levels=NT_LEVELS),
    "NT without Unicode": lambda: Disk(capabilities=NT & ~Capabilities.UNICODE, known_levels=NT_LEVELS),
    "NT with DOS errors": lambda: Disk(capabilities=NT & ~Capabilities.STATUS32, known_levels=NT_LEVELS),
    "NT with large writes": lambda: Disk(capabilities=NT | Capabilities.LARGE_WRITEX, known_levels=NT_LEVELS),
    "NT, one request at a time": lambda: Disk(capabilities=NT, known_levels=NT_LEVELS, max_mpx_count=1),
}
every_disk = pytest.mark.parametrize("what", DISKS)


@every_disk
async def test_files_are_made_written_cut_and_flushed(what: str) -> None:
    server = DISKS[what]()
    data = bytes(range(256)) * 100
    async with mounted(server) as share:
        file = await share.open("neu", MAKING)
        assert file.created
        assert (file.stat.kind, file.stat.size) == (Kind.FILE, 0)
        at = 0
        while at < len(data):
            piece = data[at : at + share.limits.write]
            at += await file.write(at, [piece[:1], piece[1:]])
        await file.flush()
        assert server.flushed == ["neu"]
        await file.change(Change(size=300))
        assert (await file.refresh()).size == 300
        await file.aclose()
        assert await read_all(share, "neu") == data[:300]
        assert (await share.change("neu", Change(size=5))).size == 5
        with pytest.raises(Exists):
            await share.open("neu", MAKING)
        again = await share.open("neu", OpenIntent(write=True, creation=Creation.IF_ABSENT))
        assert not again.created
        assert again.stat.size == 5
        await again.aclose()
        emptied = await share.open("neu", OpenIntent(write=True, truncate=True))
        assert emptied.stat.size == 0
        await emptied.aclose()
        with pytest.raises(NotFound):
            await share.open("nowhere", WRITING)
    assert server.files["neu"] == b""
    assert server.most_in_flight <= server.max_mpx_count
    opened = [block for _, blocks in server.requests for block in blocks if block.command == Command.OPEN_ANDX]
    writing = [files.OpenAndxRequest.decode_block(block, server.strings).access_mode & 3 != 0 for block in opened]
    assert any(writing) != server.is_nt


@every_disk
async def test_names_are_made_renamed_replaced_and_removed(what: str) -> None:
    server = DISKS[what]()
    async with mounted(server) as share:
        assert (await share.make_directory("Ordner")).kind is Kind.DIRECTORY
        with pytest.raises(Exists):
            await share.make_directory("Ordner")
        with pytest.raises(WrongKind) as refused:
            await share.open("Ordner", WRITING)
        assert refused.value.errno == errno.EISDIR
        await share.remove("Ordner", Kind.DIRECTORY)
        await share.rename("a.txt", "b.txt", replace=False)
        with pytest.raises(Exists):
            await share.rename("b.txt", "größe", replace=False)
        await share.rename("b.txt", "größe", replace=True)
        await share.rename("größe", "GRÖßE", replace=False)
        assert sorted(server.files) == ["GRÖßE", "c"]
        assert server.files["GRÖßE"] == b"hello"
        await share.remove("c", Kind.FILE)
        assert sorted(server.files) == ["GRÖßE"]
        with pytest.raises(NotFound):
            await share.remove("*", Kind.FILE)
        assert not server.folders
    assert server.most_in_flight <= server.max_mpx_count


@every_disk
async def test_times_and_attributes_are_set_as_well_as_the_server_can(what: str) -> None:
    server = DISKS[what]()
    async with mounted(server) as share:
        found = await share.change("a.txt", Change(written_ns=MOMENT * 10**9, accessed_ns=MOMENT * 10**9))
        assert found.written_ns == MOMENT * 10**9
        found = await share.change("a.txt", Change(attributes=Attributes.READONLY | Attributes.HIDDEN))
        assert found.attributes == Attributes.READONLY | Attributes.HIDDEN
        assert found.written_ns == MOMENT * 10**9
        file = await share.open("c", WRITING)
        await file.change(Change(written_ns=(MOMENT + 2) * 10**9, attributes=Attributes.ARCHIVE))
        assert (await file.refresh()).written_ns == (MOMENT + 2) * 10**9
        with pytest.raises(Unsupported):
            await file.change(Change(mode=0o600))
        await file.aclose()


@every_disk
async def test_a_file_that_is_made_without_write_bits_is_read_only(what: str) -> None:
    async with mounted(DISKS[what]()) as share:
        file = await share.open("neu", OpenIntent(write=True, creation=Creation.EXCLUSIVE, mode=0o444))
        await file.write(0, [b"x"])
        await file.aclose()
        assert (await share.stat("neu")).attributes & Attributes.READONLY


@every_disk
async def test_nobody_is_asked_for_an_oplock_where_none_can_be_broken(what: str) -> None:
    class Holder:
        key = bytes(16)

        def broken(self, remaining: Caching, *, acknowledge: bool) -> None:
            raise AssertionError

        def lost(self) -> None:
            raise AssertionError

        def regained(self) -> None:
            raise AssertionError

    server = DISKS[what]()
    async with mounted(server) as share:
        for write in (True, False):
            file = await share.open("a.txt", OpenIntent(write=write, holder=Holder(), wanted=EVERYTHING))
            assert file.caching is Caching.NONE
            await file.acknowledge(Caching.NONE)
            await file.aclose()
    asked = set()
    for _, blocks in server.requests:
        for block in blocks:
            if block.command == Command.OPEN_ANDX:
                flags = files.OpenAndxRequest.decode_block(block, server.strings).flags
                asked.add(bool(flags & files.OpenFlags.REQUEST_OPLOCK))
                assert not flags & files.OpenFlags.REQUEST_OPBATCH  # it would be kept, and forbid deletion
            elif block.command == Command.NT_CREATE_ANDX:
                flags = files.NtCreateRequest.decode_block(block, server.strings).flags
                asked.add(bool(flags & files.NtCreateFlags.REQUEST_OPLOCK))
    assert asked == {server.max_mpx_count > 1}


async def test_without_nt_commands_there_is_no_link_no_descriptor_and_no_better_handle() -> None:
    server = Disk()
    async with mounted(server) as share:
        assert share.features is Features.NONE
        with pytest.raises(Unsupported):
            await share.link("a.txt", "b.txt")
        with pytest.raises(Unsupported):
            await share.security_descriptor("a.txt")
        with pytest.raises(Unsupported):
            await share.make_link("b.txt", "a.txt")
        with pytest.raises(Unsupported):
            await share.make_node("b.txt", Kind.FIFO, None, None)
        file = await share.open("a.txt", OpenIntent())
        before = len(server.requests)
        await file.stand_aside()
        assert len(server.requests) == before
        await file.aclose()


async def test_nt_gives_a_file_a_further_name() -> None:
    server = Disk(capabilities=NT, known_levels=NT_LEVELS)
    async with mounted(server) as share:
        assert Features.HARD_LINKS in share.features
        await share.link("a.txt", "b.txt")
        with pytest.raises(Exists):
            await share.link("a.txt", "c")
    assert server.files["b.txt"] == b"hello"


async def test_what_nt_4_sets_by_handle_only_is_asked_for_by_path_once() -> None:
    server = Disk(capabilities=NT, known_levels=NT_LEVELS)
    async with mounted(server) as share:
        await share.change("a.txt", Change(size=3))
        await share.change("a.txt", Change(size=2, attributes=Attributes.HIDDEN))
        before = len(server.requests)
        await share.change("a.txt", Change(size=1))
        assert server.commands[before:] == ["NT_CREATE_ANDX", "TRANSACTION2", "CLOSE", "TRANSACTION2"]
    assert server.files["a.txt"] == b"h"


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "capabilities, buffer, limit",
    [
        (NT, 4356, 4096),  # of 4356 bytes, 64 are header
        (NT, 16644, 16384),
        (NT | Capabilities.LARGE_WRITEX, 4356, 65536),
        (NT, 0x1FFFF, 65024),  # 16 bits of length without large writes
    ],
)
async def test_a_write_is_as_large_as_was_agreed_on(capabilities: Capabilities, buffer: int, limit: int) -> None:
    server = Disk(capabilities=capabilities, known_levels=NT_LEVELS, max_buffer_size=buffer)
    async with mounted(server) as share:
        assert share.limits.write == limit
        file = await share.open("a.txt", WRITING)
        assert await file.write(0, [b"x" * 200_000]) == limit
        await file.aclose()
    assert server.files["a.txt"] == b"x" * limit


async def test_a_disk_that_fills_up_is_told_after_what_still_fitted() -> None:
    server = Disk(capabilities=NT, known_levels=NT_LEVELS, most_written=10)
    async with mounted(server) as share:
        file = await share.open("c", WRITING)
        assert await file.write(0, [b"x" * 100]) == 10
        server.most_written = 0
        with pytest.raises(NoSpace):
            await file.write(10, [b"x" * 90])
        await file.aclose()
    assert server.files["c"] == b"x" * 10


async def test_beyond_4_gib_nothing_is_written_or_cut_without_large_files() -> None:
    async with mounted(Disk()) as share:
        file = await share.open("a.txt", WRITING)
        for request in (file.write(0xFFFFFFFF, [b"two"]), file.change(Change(size=1 << 32))):
            with pytest.raises(Unsupported) as refused:
                await request
            assert refused.value.errno == errno.EFBIG
        assert await file.write(0, [b"ok"]) == 2
        await file.aclose()


async def test_what_is_closed_is_used_no_more() -> None:
    server = Disk(capabilities=NT, known_levels=NT_LEVELS)
    async with mounted(server) as share:
        file = await share.open("a.txt", WRITING)
        await file.aclose()
        await file.aclose()
        before = len(server.requests)
        for request in (
            file.read(0, 1),
            file.write(0, [b"x"]),
            file.flush(),
            file.refresh(),
            file.change(Change(size=1)),
        ):
            with pytest.raises(SmbError):
                await request
        await file.stand_aside()
        await share.echo()
        assert sorted(server.commands[before:]) == ["CLOSE", "ECHO"]  # an ECHO may overtake what nobody waits for


# --- renames that fail half-way ---------------------------------------------------------------------------------------


@dataclass
class Stubborn(Disk):
    """Refuses the n-th RENAME, counted from 1, and DELETE if told to."""

    refuse: int = 0
    keeps: bool = False
    renames: int = 0

    def _reply(self, block: Block) -> Message:
        if block.command == Command.RENAME:
            self.renames += 1
            if self.renames == self.refuse:
                raise Refused(NtStatus.ACCESS_DENIED)
        if block.command == Command.DELETE and self.keeps:
            raise Refused(NtStatus.ACCESS_DENIED)
        return super()._reply(block)


@pytest.mark.parametrize("refuse, keeps", [(2, False), (3, False), (0, True)])
async def test_a_replacement_that_fails_half_way_leaves_everything_as_it_was(refuse: int, keeps: bool) -> None:
    server = Stubborn(refuse=refuse, keeps=keeps)
    before = dict(server.files)
    async with mounted(server) as share:
        with pytest.raises(Denied):
            await share.rename("a.txt", "c", replace=True)
    assert server.files == before


async def test_a_change_of_case_that_fails_half_way_leaves_the_name_as_it_was() -> None:
    server = Stubborn(refuse=3)
    async with mounted(server) as share:
        with pytest.raises(Denied):
            await share.rename("a.txt", "A.txt", replace=False)
    assert "a.txt" in server.files


async def test_what_cannot_be_put_back_is_said_where_it_is(expected_warnings: Callable[..., None]) -> None:
    class Treacherous(Stubborn):
        def _reply(self, block: Block) -> Message:
            if block.command == Command.RENAME and self.renames >= 2:
                self.renames += 1
                raise Refused(NtStatus.ACCESS_DENIED)
            return super()._reply(block)

    expected_warnings("a rename failed half-way: what was 'c' is called '.smbfuse-")
    server = Treacherous()
    async with mounted(server) as share:
        with pytest.raises(Denied):
            await share.rename("a.txt", "c", replace=True)
    assert "a.txt" in server.files


# --- removing what is open --------------------------------------------------------------------------------------------


async def test_a_file_that_others_have_open_goes_by_a_handle() -> None:
    class Shared(Disk):
        def _reply(self, block: Block) -> Message:
            if block.command == Command.DELETE:
                raise Refused(NtStatus.SHARING_VIOLATION)
            return super()._reply(block)

    server = Shared(capabilities=NT, known_levels=NT_LEVELS)
    async with mounted(server) as share:
        await share.remove("a.txt", Kind.FILE)
    assert "a.txt" not in server.files
    old = Shared()
    async with mounted(old) as share:
        with pytest.raises(Busy):
            await share.remove("a.txt", Kind.FILE)


async def test_what_we_have_open_goes_by_a_handle_at_once() -> None:
    server = Disk(capabilities=NT, known_levels=NT_LEVELS)
    async with mounted(server) as share:
        file = await share.open("a.txt", WRITING)
        await share.remove("A.TXT".lower(), Kind.FILE)
        assert "DELETE" not in server.commands
        await file.aclose()
