"""Writing over SMB2 against a real Samba, dialect by dialect, plain, signed and sealed, beside a second session.

The waist's contract is tested elsewhere, for every dialect alike (`test_share_writing`). Here is what is SMB2's own:
which grants the server keeps, by its own word (smbstatus), who hears of a break and when the server goes on, and the
facts about Samba that `smb2_changes` tells.
"""

import itertools
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
import trio

from smbfuse.client import transport
from smbfuse.client.smb2_session import Smb2Session
from smbfuse.client.smb2_share import Smb2Share
from smbfuse.config import Login, Network, Secret, Security, Target, Vers
from smbfuse.engine.smb2_exchange import Request
from smbfuse.errors import Busy, ConnectionLost, Denied, Exists, NotEmpty, NotFound, SmbError, StatusError, WrongKind
from smbfuse.share import Attributes, Buffer, Caching, Change, Creation, Kind, OpenDirectory, OpenFile, OpenIntent
from smbfuse.status import NtStatus
from smbfuse.wire.smb2.create import IMPERSONATION, Access, CreateRequest
from smbfuse.wire.smb2.header import Command
from tests.support.samba import PASSWORD, SambaServer, samba_server
from tests.support.samba_programs import newer_samba

pytestmark = pytest.mark.samba

MOMENT: Final = 1_500_000_000_123_456_700  # a time in whole 100 ns
NOTHING, R = Caching.NONE, Caching.READ
RW, RH = R | Caching.WRITE, R | Caching.HANDLE
RWH = RW | RH
WRITING: Final = OpenIntent(write=True)
MAKING: Final = OpenIntent(write=True, creation=Creation.EXCLUSIVE)

_names = itertools.count()


@dataclass(frozen=True)
class Manner:
    """A dialect, and how it is protected."""

    vers: Vers
    sign: bool = False
    seal: bool = False
    leases: bool = True  # oplocks otherwise

    def __str__(self) -> str:
        return f"{self.vers.value}{' signed' if self.sign else ' sealed' if self.seal else ''}"


EVERY_DIALECT: Final = [
    Manner(Vers.SMB202, leases=False),
    Manner(Vers.SMB210),
    Manner(Vers.SMB300),
    Manner(Vers.SMB302),
    Manner(Vers.SMB311),
]
EVERY_MANNER: Final = [
    *EVERY_DIALECT,
    Manner(Vers.SMB202, sign=True, leases=False),
    Manner(Vers.SMB210, sign=True),
    Manner(Vers.SMB300, sign=True),
    Manner(Vers.SMB300, seal=True),
    Manner(Vers.SMB311, sign=True),
    Manner(Vers.SMB311, seal=True),
]
BEST: Final = Manner(Vers.SMB311)


@pytest.fixture(scope="module")
def server() -> Iterator[SambaServer]:
    """Provide a server whose share its user may write."""
    with samba_server() as server:
        server.user.owns(server.root)
        yield server


@pytest.fixture(scope="module")
def newer() -> Iterator[SambaServer]:
    """Provide one that leases folders."""
    with samba_server(programs=newer_samba()) as server:
        server.user.owns(server.root)
        yield server


@dataclass
class Holder:
    """Keeps what a grant allows; gives it up as soon as `ready` is set."""

    nursery: trio.Nursery
    key: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    handle: OpenFile | OpenDirectory | None = None
    heard: list[tuple[Caching, bool] | str] = field(default_factory=list)
    ready: trio.Event = field(default_factory=trio.Event)
    hears: trio.Event = field(default_factory=trio.Event)

    def broken(self, remaining: Caching, *, acknowledge: bool) -> None:
        self.heard.append((remaining, acknowledge))
        self.hears.set()
        if acknowledge:
            self.nursery.start_soon(self._give_up, remaining)

    def lost(self) -> None:
        self.heard.append("lost")

    def regained(self) -> None:
        self.heard.append("regained")

    async def _give_up(self, remaining: Caching) -> None:
        await self.ready.wait()
        assert self.handle is not None
        await self.handle.acknowledge(remaining)


@dataclass
class Stage:
    """Two sessions with one share, and a name that nobody else uses."""

    server: SambaServer
    nursery: trio.Nursery
    here: Smb2Share
    there: Smb2Share
    name: str

    def path(self, name: str = "") -> Path:
        return self.server.root / (name or self.name)

    async def holding(self, wanted: Caching = RWH, *, patient: bool = False, name: str = "") -> tuple[Holder, OpenFile]:
        """Open the file here with a grant."""
        holder = Holder(self.nursery)
        if not patient:
            holder.ready.set()
        intent = OpenIntent(write=True, creation=Creation.IF_ABSENT, holder=holder, wanted=wanted)
        holder.handle = file = await self.here.open(name or self.name, intent)
        return holder, file

    async def make(self, name: str, content: bytes = b"content") -> OpenFile:
        file = await self.here.open(name, MAKING)
        await file.write(0, [content])
        return file

    async def made(self, name: str, content: bytes = b"content") -> None:
        await (await self.make(name, content)).aclose()
        await self.here.echo()  # the close has been executed before it

    async def granted(self) -> list[str]:
        """Return what the server itself says it has granted on the file."""
        return await trio.to_thread.run_sync(self.server.grants, self.path())


@asynccontextmanager
async def session(server: SambaServer, nursery: trio.Nursery, manner: Manner) -> AsyncIterator[Smb2Share]:
    target = Target("127.0.0.1", "share", port=server.port)
    network = Network(timeo_s=20.0)
    established = await Smb2Session.establish(
        await transport.connect(target, network),
        nursery,
        target=target,
        login=Login(user=server.user.name, password=Secret(PASSWORD)),
        security=Security(vers=manner.vers, sign=manner.sign, seal=manner.seal),
        network=network,
    )
    try:
        yield await established.connect_share("share")
    finally:
        await established.aclose()


@asynccontextmanager
async def stage_of(server: SambaServer, manner: Manner) -> AsyncIterator[Stage]:
    async with trio.open_nursery() as nursery:
        async with session(server, nursery, manner) as here, session(server, nursery, manner) as there:
            statistics = here.statistics()
            assert statistics.dialect.startswith(manner.vers.value)
            assert (bool(statistics.signing), bool(statistics.sealing)) == (manner.sign, manner.seal)
            yield Stage(server, nursery, here, there, f"Stück {next(_names)}")
        nursery.cancel_scope.cancel()


@pytest.fixture(params=EVERY_MANNER, ids=str)
async def stage(request: pytest.FixtureRequest, server: SambaServer) -> AsyncIterator[Stage]:
    """Provide the stage in every dialect, plain and protected."""
    async with stage_of(server, request.param) as staged:
        yield staged


# -- data


async def test_pieces_become_one_run_of_bytes(stage: Stage) -> None:
    content = secrets.token_bytes(300_000)
    pieces: list[Buffer] = [content[:1], memoryview(content)[1:100_001], bytearray(content[100_001:])]
    file = await stage.make(stage.name, b"")
    written = 0
    while written < len(content):  # 2.0.2 takes 64 KiB at once
        left = content[written:]
        count = await file.write(written, [left] if written else pieces)
        assert count == min(len(left), stage.here.limits.write)
        written += count
    await file.flush()
    assert stage.path().read_bytes() == content
    assert bytes(await file.read(99_990, 20)) == content[99_990:100_010]
    await file.aclose()


async def test_a_write_may_leave_a_hole_and_a_size_may_be_set(stage: Stage) -> None:
    file = await stage.make(stage.name, b"begin")
    await file.write(5_000_000_000, [b"end"])
    assert (await file.refresh()).size == 5_000_000_003
    await file.change(Change(size=7))
    await file.aclose()
    assert stage.path().read_bytes() == b"begin\0\0"
    assert (await stage.here.change(stage.name, Change(size=2))).size == 2
    assert stage.path().read_bytes() == b"be"


# -- grants


async def test_a_reader_that_comes_late_waits_until_the_writer_has_given_up_its_grant(
    stage: Stage, request: pytest.FixtureRequest
) -> None:
    leases = request.node.callspec.params["stage"].leases
    remaining = RH if leases else R
    holder, file = await stage.holding(patient=True)
    assert file.caching == RWH
    assert await stage.granted() in (["RWH"], ["BATCH"], ["EXCLUSIVE+BATCH"])
    arrived: list[bytes] = []
    over = trio.Event()

    async def read() -> None:
        other = await stage.there.open(stage.name, OpenIntent(first_bytes=100))
        assert other.first is not None
        arrived.append(bytes(other.first))
        await other.aclose()
        over.set()

    stage.nursery.start_soon(read)
    with trio.fail_after(10):
        await holder.hears.wait()
    assert holder.heard == [(remaining, True)]
    assert file.caching == remaining
    await file.write(0, [b"what was kept back"])
    assert arrived == []
    holder.ready.set()
    with trio.fail_after(10):
        await over.wait()
    assert arrived == [b"what was kept back"]
    await file.aclose()


async def test_a_handle_that_is_closed_needs_no_acknowledgement(stage: Stage) -> None:
    holder, file = await stage.holding(patient=True)
    stage.nursery.start_soon(_close_when_heard, holder, file)
    with trio.fail_after(10):
        other = await stage.there.open(stage.name, WRITING)
    await other.aclose()
    assert len(holder.heard) == 1
    await stage.here.echo()


async def _close_when_heard(holder: Holder, file: OpenFile) -> None:
    await holder.hears.wait()
    await file.aclose()


async def test_reading_is_taken_back_by_a_write_without_being_waited_for(stage: Stage) -> None:
    holder, file = await stage.holding(R)
    other = await stage.there.open(stage.name, WRITING)
    assert file.caching == R
    await other.write(0, [b"other"])
    with trio.fail_after(10):
        await holder.hears.wait()
    assert holder.heard == [(NOTHING, False)]
    assert file.caching == NOTHING
    await file.aclose()
    await other.aclose()


@pytest.mark.parametrize("manner", [manner for manner in EVERY_DIALECT if manner.leases], ids=str)
async def test_handles_with_one_key_do_not_break_each_other(server: SambaServer, manner: Manner) -> None:
    async with stage_of(server, manner) as stage:
        holder, file = await stage.holding()
        second = await stage.here.open(stage.name, OpenIntent(holder=holder, wanted=RWH))
        await second.aclose()
        changed = await stage.here.change(stage.name, Change(size=10), holder)
        await stage.here.rename(stage.name, stage.name + " 2", replace=True, holder=holder)
        await file.write(0, [b"1"])
        assert (changed.size, file.caching, holder.heard) == (10, RWH, [])
        await stage.here.remove(stage.name + " 2", Kind.FILE, holder)
        assert holder.heard == []
        await file.aclose()


@pytest.mark.parametrize("manner", [manner for manner in EVERY_DIALECT if manner.leases], ids=str)
async def test_a_lease_grows_with_what_further_handles_want(server: SambaServer, manner: Manner) -> None:
    async with stage_of(server, manner) as stage:
        holder, file = await stage.holding(R)
        assert file.caching == R
        second = await stage.here.open(stage.name, OpenIntent(write=True, holder=holder, wanted=RWH))
        assert second.caching == file.caching == RWH
        assert await stage.granted() == ["RWH", "RWH"]
        assert holder.heard == []
        await file.aclose()
        assert second.caching == RWH
        await second.aclose()


@pytest.mark.parametrize("manner", [manner for manner in EVERY_DIALECT if manner.leases], ids=str)
async def test_another_name_of_the_file_does_without_its_key(server: SambaServer, manner: Manner) -> None:
    async with stage_of(server, manner) as stage:
        holder, file = await stage.holding()
        await stage.here.link(stage.name, stage.name + " 2")
        again = await stage.here.open(stage.name + " 2", OpenIntent(holder=holder, wanted=RWH))
        assert again.caching == NOTHING
        assert (await stage.here.change(stage.name + " 2", Change(size=3), holder)).size == 3
        await again.aclose()
        await file.aclose()


async def test_an_open_that_is_given_up_leaves_no_handle_and_no_grant(stage: Stage) -> None:
    for _ in range(5):
        with trio.move_on_after(0):
            await stage.holding()
    with trio.fail_after(30):
        await stage.here.echo()
        while await stage.granted():  # an ECHO may overtake the CLOSEs, for which nobody waits
            await stage.here.echo()
    with trio.fail_after(10):
        other = await stage.there.open(
            stage.name, OpenIntent(write=True, creation=Creation.IF_ABSENT, holder=Holder(stage.nursery), wanted=RWH)
        )
    assert other.caching == RWH
    await other.aclose()


async def test_the_end_of_the_connection_ends_every_grant(server: SambaServer) -> None:
    async with stage_of(server, BEST) as stage:
        holder, file = await stage.holding()
        stage.here.tree.connection.abort(ConnectionLost("cut by the test", sent=True))
        assert (holder.heard, file.caching) == (["lost"], NOTHING)
        await file.acknowledge(NOTHING)
        await file.aclose()


# -- directory leases, of Samba 4.22


@pytest.mark.parametrize("manner", [Manner(Vers.SMB300), BEST, Manner(Vers.SMB311, seal=True)], ids=str)
async def test_a_folder_is_leased_and_taken_back_when_somebody_else_changes_it(
    newer: SambaServer, manner: Manner
) -> None:
    async with stage_of(newer, manner) as stage:
        await stage.here.make_directory(stage.name)
        holder = Holder(stage.nursery)
        holder.ready.set()
        holder.handle = listing = await stage.here.open_directory(stage.name, holder)
        assert listing.caching == RH
        assert await stage.granted() == ["RH"]
        await (await stage.there.open(f"{stage.name}/new", MAKING)).aclose()
        with trio.fail_after(10):
            await holder.hears.wait()
        assert holder.heard == [(NOTHING, True)]
        assert listing.caching == NOTHING
        await listing.aclose()


async def test_what_we_change_ourselves_breaks_no_lease_of_our_folders(newer: SambaServer) -> None:
    async with stage_of(newer, BEST) as stage:
        await stage.here.make_directory(stage.name)
        holder = Holder(stage.nursery)
        holder.handle = listing = await stage.here.open_directory(stage.name, holder)
        inside = stage.name + "/"
        file_holder, file = await stage.holding(name=inside + "leased")
        await file.write(0, [b"1"])
        await stage.made(inside + "a")
        await stage.here.make_directory(inside + "sub")
        await stage.here.rename(inside + "a", inside + "b", replace=False)
        await stage.here.change(inside + "b", Change(written_ns=MOMENT))
        await stage.here.remove(inside + "b", Kind.FILE)
        await stage.here.remove(inside + "sub", Kind.DIRECTORY)
        await file.aclose()
        await stage.here.echo()
        await trio.sleep(0.2)
        assert (listing.caching, holder.heard, file_holder.heard) == (RH, [], [])
        await listing.aclose()
        await stage.made(inside + "after the lease")


# -- names and attributes: what `smb2_changes` tells of Samba


@pytest.fixture
async def plain(server: SambaServer) -> AsyncIterator[Stage]:
    """Provide the stage once, for what does not depend on the dialect."""
    async with stage_of(server, BEST) as staged:
        await staged.here.make_directory(staged.name)
        yield staged


async def test_a_removed_file_that_is_open_keeps_its_name_taken(plain: Stage) -> None:
    path = f"{plain.name}/file"
    file = await plain.make(path)
    await plain.here.remove(path, Kind.FILE)
    for call in (
        lambda: plain.here.open(path, OpenIntent()),
        lambda: plain.here.open(path, OpenIntent(write=True, creation=Creation.IF_ABSENT)),
        lambda: plain.here.remove(path, Kind.FILE),
        lambda: plain.here.rename(path, path + "2", replace=False),
        lambda: plain.there.stat(path),
    ):
        with pytest.raises(StatusError) as caught:
            await call()
        assert caught.value.status == NtStatus.DELETE_PENDING
    await file.write(0, [b"goes on"])
    assert bytes(await file.read(0, 7)) == b"goes on"
    await file.aclose()
    with pytest.raises(NotFound):
        await plain.here.stat(path)


async def test_open_files_and_their_folders_may_be_renamed(plain: Stage) -> None:
    await plain.here.make_directory(f"{plain.name}/folder")
    file = await plain.make(f"{plain.name}/folder/file")
    await plain.here.rename(f"{plain.name}/folder/file", f"{plain.name}/folder/other", replace=False)
    await plain.here.rename(f"{plain.name}/folder", f"{plain.name}/elsewhere", replace=False)
    await file.write(0, [b"still the same"])
    await file.aclose()
    assert plain.path(f"{plain.name}/elsewhere/other").read_bytes() == b"still the same"


async def test_what_has_the_name_is_replaced_unless_it_is_open_or_of_another_kind(plain: Stage) -> None:
    def path(name: str) -> str:
        return f"{plain.name}/{name}"

    for name in ("a", "b"):
        await plain.made(path(name), name.encode())
    for name in ("empty", "full", "folder"):
        await plain.here.make_directory(path(name))
    await plain.made(path("full/file"))
    kept = await plain.here.open(path("b"), OpenIntent())
    refusals: list[tuple[str, str, bool, type[SmbError]]] = [
        ("a", "b", False, Exists),
        ("a", "b", True, Denied),
        ("a", "empty", True, Exists),
        ("folder", "a", True, Exists),
        ("folder", "full", True, NotEmpty),
        ("folder", "empty", False, Exists),
    ]
    for source, target, replace, error in refusals:
        with pytest.raises(error):
            await plain.here.rename(path(source), path(target), replace=replace)
    await kept.aclose()
    await plain.here.rename(path("a"), path("b"), replace=True)
    await plain.here.rename(path("folder"), path("empty"), replace=True)
    assert plain.path(path("b")).read_bytes() == b"a"
    assert {child.name for child in plain.path().iterdir()} == {"b", "empty", "full"}


@pytest.mark.parametrize("replace", [False, True])
async def test_case_alone_may_change(plain: Stage, replace: bool) -> None:
    await plain.made(f"{plain.name}/groß")
    await plain.here.rename(f"{plain.name}/groß", f"{plain.name}/GROß", replace=replace)
    assert [child.name for child in plain.path().iterdir()] == ["GROß"]


async def test_a_file_without_a_mode_to_write_by_is_read_only_and_can_be_removed_all_the_same(plain: Stage) -> None:
    path = f"{plain.name}/file"
    file = await plain.here.open(path, OpenIntent(write=True, creation=Creation.IF_ABSENT, mode=0o444))
    await file.write(0, [b"its maker may write"])
    await file.aclose()
    assert (await plain.here.stat(path)).attributes & Attributes.READONLY
    with pytest.raises(Denied):
        await plain.here.open(path, WRITING)
    await plain.here.link(path, path + "2")
    await plain.here.remove(path, Kind.FILE)
    left = await plain.here.stat(path + "2")
    assert left.attributes & Attributes.READONLY
    await plain.made(f"{plain.name}/new", b"new")
    await plain.here.rename(f"{plain.name}/new", path + "2", replace=True)
    assert plain.path(path + "2").read_bytes() == b"new"


async def test_times_set_by_a_handle_stick_over_later_writes_and_the_close(stage: Stage) -> None:
    file = await stage.make(stage.name)
    await file.change(Change(written_ns=MOMENT, accessed_ns=MOMENT + 100))
    await file.write(0, [b"later"])
    await file.flush()
    there = await file.refresh()
    assert (there.written_ns, there.accessed_ns) == (MOMENT, MOMENT + 100)
    await file.aclose()
    await stage.here.echo()
    assert (await stage.there.stat(stage.name)).written_ns == MOMENT


async def test_a_change_by_path_sets_all_at_once_and_tells_what_came_of_it(plain: Stage) -> None:
    path = f"{plain.name}/file"
    await plain.made(path, b"0123456789")
    hidden = Attributes.HIDDEN | Attributes.ARCHIVE
    changed = await plain.here.change(path, Change(size=4, written_ns=MOMENT, attributes=hidden))
    assert (changed.size, changed.written_ns, changed.attributes) == (4, MOMENT, hidden)
    assert await plain.there.stat(path) == changed
    bare = await plain.here.change(path, Change(attributes=0))
    assert not bare.attributes & hidden
    assert bare.written_ns == MOMENT


async def test_truncation_keeps_attributes_that_an_overwriting_open_would_drop(plain: Stage) -> None:
    path = f"{plain.name}/file"
    await plain.made(path)
    await plain.here.change(path, Change(attributes=Attributes.HIDDEN))
    await plain.here.set_extended_attribute(path, "user.note", b"kept")
    for creation in (Creation.NEVER, Creation.IF_ABSENT):
        file = await plain.here.open(path, OpenIntent(write=True, truncate=True, creation=creation, first_bytes=10))
        assert (file.stat.size, file.created, file.first) == (0, False, None)
        await file.write(0, [b"again"])
        await file.aclose()
    found = await plain.here.stat(path)
    assert found.attributes & Attributes.HIDDEN
    assert "kept" in {value.decode() for value in (await plain.here.extended_attributes(path)).values()}
    new = await plain.here.open(path + "2", OpenIntent(write=True, truncate=True, creation=Creation.IF_ABSENT))
    assert new.created
    await new.aclose()


async def test_where_reading_is_refused_writing_may_still_be_allowed(plain: Stage) -> None:
    path = f"{plain.name}/file"
    await plain.made(path)
    plain.path(path).chmod(0o222)
    with pytest.raises(Denied):
        await plain.here.open(path, WRITING)
    file = await plain.here.open(path, OpenIntent(read=False, write=True))
    await file.write(0, [b"unseen"])
    with pytest.raises(SmbError):
        await file.read(0, 1)
    await file.aclose()
    assert plain.path(path).read_bytes() == b"unseent"
    emptied = await plain.here.open(path, OpenIntent(read=False, truncate=True))
    assert emptied.stat.size == 0
    await emptied.write(0, [b"unseen"])
    await emptied.aclose()
    assert plain.path(path).read_bytes() == b"unseen"


async def test_who_shares_nothing_keeps_others_out(plain: Stage) -> None:
    path = f"{plain.name}/file"
    await plain.made(path)
    tree = plain.there.tree
    alone = CreateRequest(0, 0, IMPERSONATION, 0, Access.FILE_READ_DATA, 0, 0, 1, 0, path.replace("/", "\\"))
    created, _ = await tree.opening(path, [Request(Command.CREATE, alone.encode())])
    for call in (
        lambda: plain.here.open(path, WRITING),
        lambda: plain.here.remove(path, Kind.FILE),
        lambda: plain.here.rename(path, path + "2", replace=False),
        lambda: plain.here.change(path, Change(size=1)),
    ):
        with pytest.raises(Busy):
            await call()
    assert (await plain.here.change(path, Change(written_ns=MOMENT))).written_ns == MOMENT
    tree.close(created.file_id)
    await plain.there.echo()
    await plain.here.remove(path, Kind.FILE)


async def test_kinds_are_told_apart(plain: Stage) -> None:
    await plain.made(f"{plain.name}/file")
    for call in (
        lambda: plain.here.open(plain.name, WRITING),
        lambda: plain.here.remove(plain.name, Kind.FILE),
        lambda: plain.here.remove(f"{plain.name}/file", Kind.DIRECTORY),
    ):
        with pytest.raises(WrongKind):
            await call()
    with pytest.raises(NotEmpty):
        await plain.here.remove(plain.name, Kind.DIRECTORY)
