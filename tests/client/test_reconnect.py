"""Reconnecting: one dial for everybody, what reads is repeated, handles are proven, and never a lower protection."""

import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import pytest
import trio
from trio.testing import MockClock

from smbfuse.client.outage import LONGEST_PAUSE_S
from smbfuse.client.reconnect import ReconnectingShare
from smbfuse.client.session import Identity
from smbfuse.client.shares import Shares
from smbfuse.client.supervisor import Supervisor
from smbfuse.client.tree import MOST_REPEATS
from smbfuse.errors import (
    AuthenticationFailed,
    ConnectionLost,
    NotFound,
    NoTicket,
    SecurityRefused,
    SessionGone,
    SmbError,
    StaleHandle,
)
from smbfuse.share import (
    Attributes,
    Caching,
    DirEntry,
    Features,
    FileStat,
    GrantHolder,
    Kind,
    Opened,
    OpenFile,
    OpenIntent,
)
from smbfuse.status import NtStatus
from tests.conftest import ExpectedWarnings

STAT = FileStat(Kind.FILE, 10, 4096, Attributes.ARCHIVE, 1, 2, 3, 4, file_id=77)
DERIVED = STAT._replace(created_ns=2)  # a creation time that is but the earliest of the others
STRONG = Identity(dialect=0x0311, signing=3, sealing=2, server=b"guid")
TIMEO_S = 30.0


@dataclass
class World:
    """The server's side of the story: what it holds, how it answers, and what it was asked."""

    files: dict[str, FileStat] = field(default_factory=lambda: {"a": STAT})
    dials: int = 0
    tree_connects: int = 0
    refuse: list[SmbError] = field(default_factory=list)  # for the next dials, first one first
    identity: Identity = STRONG
    names: Iterator[bytes] = field(default_factory=lambda: itertools.repeat(b""))  # of the server, if it has several
    dial_time_s: float = 1.0
    connections: list["FakeConnection"] = field(default_factory=list)
    peers: Iterator[str] = field(default_factory=lambda: itertools.repeat("fake"))
    fail_reads: list[SmbError] = field(default_factory=list)
    silence_s: float = 0.0  # before a read fails
    closed: list[str] = field(default_factory=list)

    async def dial(self, nursery: trio.Nursery) -> "FakeSession":
        self.dials += 1
        await trio.sleep(self.dial_time_s)
        if self.refuse:
            raise self.refuse.pop(0)
        self.connections.append(FakeConnection(next(self.peers)))
        identity = replace(self.identity, server=next(self.names) or self.identity.server)
        return FakeSession(self, self.connections[-1], identity)

    def cut(self) -> None:
        self.connections[-1].abort(ConnectionLost("cut", sent=True))


class FakeConnection:
    def __init__(self, peer: str) -> None:
        self.lost_because: SmbError | None = None
        self.on_ended: Callable[[], None] | None = None
        self.stream = type("Stream", (), {"peer": peer})
        self.probing = False
        self.silent_since: float | None = None
        self.doubts = 0

    def doubt(self) -> None:
        self.doubts += 1

    def abort(self, error: SmbError) -> None:
        if self.lost_because is None:
            self.lost_because = error
            if self.on_ended is not None:
                self.on_ended()

    def check(self) -> None:
        if self.lost_because is not None:
            raise ConnectionLost(str(self.lost_because), sent=True)


class FakeSession:
    def __init__(self, world: World, connection: FakeConnection, identity: Identity) -> None:
        self.world = world
        self.connection = connection
        self.identity = identity
        self.clock = None

    async def connect_share(self, name: str) -> "FakeShare":
        self.connection.check()
        self.world.tree_connects += 1
        await trio.lowlevel.checkpoint()
        if name == "missing":
            raise NotFound("no such share", status=NtStatus.BAD_NETWORK_NAME)
        return FakeShare(self.world, self.connection)

    async def aclose(self) -> None:
        self.connection.abort(ConnectionLost("logged off", sent=False))


class FakeShare:
    features = Features.NONE

    def __init__(self, world: World, connection: FakeConnection) -> None:
        self.world = world
        self.connection = connection

    async def stat(self, path: str) -> FileStat:
        await trio.lowlevel.checkpoint()
        self.connection.check()
        try:
            return self.world.files[path]
        except KeyError:
            raise NotFound(path, status=NtStatus.OBJECT_NAME_NOT_FOUND) from None

    async def open(self, path: str, intent: OpenIntent) -> "FakeFile":
        return FakeFile(self, path, await self.stat(path))

    async def open_ahead(self, files: Sequence[tuple[str, OpenIntent]], opened: Opened) -> None:
        for index, (path, intent) in enumerate(files):
            try:
                opened(index, await self.open(path, intent))  # type: ignore[arg-type]  # a fake
            except SmbError as error:
                opened(index, error)

    async def open_directory(self, path: str, holder: GrantHolder | None) -> "FakeDirectory":
        self.connection.check()
        return FakeDirectory(self)

    async def aclose(self) -> None:
        self.world.closed.append("tree")


class FakeFile:
    caching = Caching.NONE
    created = False
    first = None

    def __init__(self, share: FakeShare, path: str, stat: FileStat) -> None:
        self.share, self.path, self.stat = share, path, stat

    async def read(self, offset: int, length: int) -> memoryview:
        await trio.lowlevel.checkpoint()
        self.share.connection.check()
        if self.share.world.fail_reads:
            if self.share.world.silence_s:
                self.share.connection.silent_since = trio.current_time()
                await trio.sleep(self.share.world.silence_s)
            raise self.share.world.fail_reads.pop(0)
        return memoryview(b"0123456789"[offset : offset + length])

    async def aclose(self) -> None:
        self.share.world.closed.append(self.path)


class FakeDirectory:
    """Gives its names two a page, in the order of the world's dict."""

    stat = None

    def __init__(self, share: FakeShare) -> None:
        self.share = share
        self.names = list(share.world.files.items())

    async def page(self) -> Sequence[DirEntry]:
        await trio.lowlevel.checkpoint()
        self.share.connection.check()
        given, self.names = self.names[:2], self.names[2:]
        return [DirEntry(name, stat) for name, stat in given]

    async def aclose(self) -> None:
        self.share.world.closed.append("directory")


async def with_share(world: World, use: Callable[[ReconnectingShare], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        supervisor = Supervisor(world.dial, nursery, timeo_s=TIMEO_S)  # type: ignore[arg-type]  # fakes
        share = ReconnectingShare(supervisor, "share", path="below")
        world.files = {f"below/{name}": stat for name, stat in world.files.items()}
        await share.connect()
        await use(share)
        await supervisor.aclose()


async def test_ten_callers_who_lose_the_connection_cause_one_dial(autojump_clock: MockClock) -> None:
    world = World()

    async def use(share: ReconnectingShare) -> None:
        world.cut()
        async with trio.open_nursery() as callers:
            for _ in range(10):
                callers.start_soon(share.stat, "a")
        assert world.dials == 2
        assert world.tree_connects == 2
        assert share.incarnation == 2

    await with_share(world, use)


async def test_files_opened_ahead_survive_a_loss_as_any_others_do(autojump_clock: MockClock) -> None:
    world = World(files={"a": STAT, "b": STAT._replace(file_id=78)})

    async def use(share: ReconnectingShare) -> None:
        told: dict[int, OpenFile | SmbError] = {}
        await share.open_ahead([(name, OpenIntent()) for name in ("a", "missing", "b")], told.__setitem__)
        first, missing, second = (told[index] for index in range(3))
        assert isinstance(missing, NotFound)
        assert not isinstance(first, SmbError)
        assert not isinstance(second, SmbError)
        world.cut()
        assert bytes(await first.read(0, 10)) == b"0123456789"
        await second.aclose()
        assert world.dials == 2
        assert world.closed == []  # the handle of the lost connection went with it
        await first.aclose()
        assert world.closed == ["below/a"]

    await with_share(world, use)


async def test_what_a_loss_interrupts_of_an_open_ahead_is_not_asked_again(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()

    async def use(share: ReconnectingShare) -> None:
        async def cut(self: FakeShare, path: str) -> FileStat:
            self.world.cut()
            raise ConnectionLost("cut", sent=True)

        monkeypatch.setattr(FakeShare, "stat", cut)
        told: dict[int, OpenFile | SmbError] = {}
        await share.open_ahead([("a", OpenIntent())], told.__setitem__)
        assert isinstance(told[0], ConnectionLost)
        assert world.dials == 1

    await with_share(world, use)


async def test_an_outage_shorter_than_the_deadline_is_waited_out(autojump_clock: MockClock) -> None:
    world = World()

    async def use(share: ReconnectingShare) -> None:
        world.refuse = [ConnectionLost("refused", sent=False) for _ in range(4)]
        world.cut()
        assert await share.stat("a") == STAT

    await with_share(world, use)


async def test_a_longer_outage_is_an_error_within_the_deadline(autojump_clock: MockClock) -> None:
    world = World()

    async def use(share: ReconnectingShare) -> None:
        world.refuse = [ConnectionLost("refused", sent=False) for _ in range(1000)]
        world.cut()
        began = trio.current_time()
        with pytest.raises(ConnectionLost, match="refused"):
            await share.stat("a")
        assert trio.current_time() - began <= TIMEO_S
        world.refuse.clear()
        await trio.sleep(LONGEST_PAUSE_S + world.dial_time_s)
        assert await share.stat("a") == STAT

    await with_share(world, use)


async def test_a_dial_that_hangs_ends_with_the_deadline(autojump_clock: MockClock) -> None:
    world = World()

    async def use(share: ReconnectingShare) -> None:
        world.dial_time_s = 10 * TIMEO_S
        world.cut()
        began = trio.current_time()
        with pytest.raises(SmbError):
            await share.stat("a")
        assert trio.current_time() - began == pytest.approx(TIMEO_S, abs=1)

    await with_share(world, use)


@pytest.mark.parametrize(
    "later, words",
    [
        (Identity(0x0302, 3, 2, b"guid"), "older dialect"),
        (Identity(0x0311, 1, 2, b"guid"), "weaker signing"),
        (Identity(0x0311, 3, 0, b"guid"), "weaker encryption"),
        (Identity(0x0311, 3, 2, b"another"), "another server"),
    ],
)
async def test_a_new_connection_never_accepts_less(
    autojump_clock: MockClock, expected_warnings: ExpectedWarnings, later: Identity, words: str
) -> None:
    expected_warnings("not connected again, and not tried any more")
    world = World()

    async def use(share: ReconnectingShare) -> None:
        world.identity = later
        world.cut()
        for _ in range(2):
            with pytest.raises(SecurityRefused, match=words):
                await share.stat("a")
        assert world.dials == (2 if later.server == STRONG.server else 3)  # whoever is unknown is asked twice

    await with_share(world, use)


async def test_a_server_that_calls_itself_otherwise_on_each_connection_is_known_by_nothing(
    autojump_clock: MockClock,
) -> None:
    world = World(names=(b"%d" % number for number in itertools.count()))

    async def use(share: ReconnectingShare) -> None:
        world.cut()
        assert await share.stat("a") == STAT
        assert world.dials == 3
        world.cut()
        assert await share.stat("a") == STAT
        assert world.dials == 4  # known by now

    await with_share(world, use)


async def test_several_servers_behind_one_name_are_several_servers(
    autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("another server answered")
    world = World(
        names=(b"%d" % number for number in itertools.count()),
        peers=(f"10.0.0.{number}:445" for number in itertools.count()),
    )

    async def use(share: ReconnectingShare) -> None:
        world.cut()
        with pytest.raises(SecurityRefused, match="another server"):
            await share.stat("a")

    await with_share(world, use)


async def test_a_server_without_a_name_of_its_own_may_not_offer_less(
    autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("not connected again, and not tried any more")
    world = World(names=(b"%d" % number for number in itertools.count()))

    async def use(share: ReconnectingShare) -> None:
        world.identity = replace(STRONG, signing=1)
        world.cut()
        with pytest.raises(SecurityRefused, match="weaker signing"):
            await share.stat("a")

    await with_share(world, use)


async def test_a_refused_login_is_final(autojump_clock: MockClock, expected_warnings: ExpectedWarnings) -> None:
    expected_warnings("not connected again, and not tried any more")
    world = World()

    async def use(share: ReconnectingShare) -> None:
        world.refuse = [AuthenticationFailed("wrong password")]
        world.cut()
        for _ in range(3):
            with pytest.raises(AuthenticationFailed):
                await share.stat("a")
        assert world.dials == 2

    await with_share(world, use)


async def test_a_ticket_that_is_missing_may_come(
    autojump_clock: MockClock, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("not connected again as long as there is no ticket")
    world = World()

    async def use(share: ReconnectingShare) -> None:
        world.refuse = [NoTicket("it has expired") for _ in range(4)]
        world.cut()
        assert (await share.stat("a")).file_id == STAT.file_id
        assert world.dials == 6

    await with_share(world, use)


async def test_a_mount_that_never_worked_fails_at_once(autojump_clock: MockClock) -> None:
    world = World(refuse=[ConnectionLost("refused", sent=False)])
    async with trio.open_nursery() as nursery:
        share = ReconnectingShare(Supervisor(world.dial, nursery, timeo_s=TIMEO_S), "share")  # type: ignore[arg-type]
        with pytest.raises(ConnectionLost):
            await share.connect()
    assert world.dials == 1


async def test_a_request_that_kills_every_connection_is_given_up(autojump_clock: MockClock) -> None:
    world = World()

    async def use(share: ReconnectingShare) -> None:
        file = await share.open("a", OpenIntent())
        world.fail_reads = [ConnectionLost("killed by this", sent=True) for _ in range(100)]
        with pytest.raises(ConnectionLost, match="killed by this"):
            await file.read(0, 4)
        assert world.dials == 1 + MOST_REPEATS

    await with_share(world, use)


async def test_a_call_that_falls_silent_on_each_connection_ends_with_the_deadline(autojump_clock: MockClock) -> None:
    world = World(silence_s=11.0)

    async def use(share: ReconnectingShare) -> None:
        file = await share.open("a", OpenIntent())
        began = trio.current_time()
        world.fail_reads = [ConnectionLost("no sign of life", sent=True) for _ in range(100)]
        with pytest.raises(ConnectionLost, match="no sign of life"):
            await file.read(0, 4)
        assert TIMEO_S <= trio.current_time() - began < TIMEO_S + world.silence_s

    await with_share(world, use)


async def test_a_file_that_is_the_same_goes_on(autojump_clock: MockClock) -> None:
    world = World()

    async def use(share: ReconnectingShare) -> None:
        file = await share.open("a", OpenIntent())
        world.cut()
        assert bytes(await file.read(2, 3)) == b"234"
        world.closed.clear()
        await file.aclose()
        assert world.closed == ["below/a"]

    await with_share(world, use)


@pytest.mark.parametrize(
    "changed",
    [{"file_id": 78}, {"size": 11}, {"written_ns": 33}, {"changed_ns": 44}, {"created_ns": 11}, {"volume_id": 5}],
)
async def test_a_file_that_is_not_provably_the_same_is_stale(
    autojump_clock: MockClock, changed: dict[str, int]
) -> None:
    world = World()

    async def use(share: ReconnectingShare) -> None:
        file = await share.open("a", OpenIntent())
        world.files["below/a"] = STAT._replace(**changed)  # type: ignore[arg-type]
        world.cut()
        with pytest.raises(StaleHandle):
            await file.read(0, 1)
        assert await share.stat("a") == STAT._replace(**changed)  # type: ignore[arg-type]

    await with_share(world, use)


async def test_a_creation_time_that_only_follows_the_access_time_proves_nothing(autojump_clock: MockClock) -> None:
    world = World(files={"a": DERIVED})

    async def use(share: ReconnectingShare) -> None:
        file = await share.open("a", OpenIntent())
        world.files["below/a"] = DERIVED._replace(accessed_ns=9, created_ns=3)
        world.cut()
        assert bytes(await file.read(2, 3)) == b"234"

    await with_share(world, use)


async def test_a_handle_that_the_server_closed_is_opened_once_more(autojump_clock: MockClock) -> None:
    world = World()

    async def use(share: ReconnectingShare) -> None:
        file = await share.open("a", OpenIntent())
        world.fail_reads = [StaleHandle("closed", status=NtStatus.FILE_CLOSED)]
        assert bytes(await file.read(0, 2)) == b"01"
        world.fail_reads = [StaleHandle("closed", status=NtStatus.FILE_CLOSED) for _ in range(2)]
        with pytest.raises(StaleHandle):
            await file.read(0, 2)
        assert world.dials == 1

    await with_share(world, use)


async def test_a_tree_that_is_gone_is_connected_again_on_the_same_login(autojump_clock: MockClock) -> None:
    world = World()

    async def use(share: ReconnectingShare) -> None:
        file = await share.open("a", OpenIntent())
        world.fail_reads = [SessionGone("tree gone", status=NtStatus.NETWORK_NAME_DELETED)]
        assert bytes(await file.read(0, 2)) == b"01"
        assert (world.dials, world.tree_connects) == (1, 2)

    await with_share(world, use)


async def test_a_session_that_is_gone_is_made_again(autojump_clock: MockClock) -> None:
    world = World()

    async def use(share: ReconnectingShare) -> None:
        file = await share.open("a", OpenIntent())
        world.fail_reads = [SessionGone("expired", status=NtStatus.NETWORK_SESSION_EXPIRED)]
        assert bytes(await file.read(0, 2)) == b"01"
        assert (world.dials, world.tree_connects) == (2, 2)

    await with_share(world, use)


async def test_a_listing_goes_on_without_repeating_names(autojump_clock: MockClock) -> None:
    world = World(files={name: STAT for name in "abcdefg"})

    async def use(share: ReconnectingShare) -> None:
        directory = await share.open_directory("")
        names = [entry.name for entry in await directory.page()]
        world.cut()
        world.files["below/new"] = STAT
        while page := await directory.page():
            names += [entry.name for entry in page]
        assert sorted(names) == sorted([*(f"below/{name}" for name in "abcdefg"), "below/new"])

    await with_share(world, use)


async def test_the_tree_is_given_back_after_all_that_is_open_in_it(autojump_clock: MockClock) -> None:
    world = World()

    async def use(share: ReconnectingShare) -> None:
        closed_before = await share.open("a", OpenIntent())
        await closed_before.aclose()
        file = await share.open("a", OpenIntent())
        directory = await share.open_directory("")
        await share.aclose()
        assert world.closed[0] == "below/a"
        assert sorted(world.closed[1:3]) == ["below/a", "directory"]
        assert world.closed[3:] == ["tree"]
        # Whoever held them gives them back late, to nobody.
        await file.aclose()
        await directory.aclose()

    await with_share(world, use)


async def test_a_whole_server_connects_each_share_once_whatever_its_spelling(autojump_clock: MockClock) -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        shares = Shares(Supervisor(world.dial, nursery, timeo_s=TIMEO_S), "")  # type: ignore[arg-type]
        assert shares.whole_server
        async with trio.open_nursery() as callers:
            for name in ("Photos", "PHOTOS", "photos"):
                callers.start_soon(shares.share, name)
        assert (world.dials, world.tree_connects) == (1, 1)
        with pytest.raises(NotFound):
            await shares.share("missing")
        assert [share.name.casefold() for share in shares.connected()] == ["photos"]
        await shares.aclose()
        assert world.closed == ["tree"]


async def test_a_share_is_connected_once_after_a_first_try_that_failed(autojump_clock: MockClock) -> None:
    world = World(refuse=[ConnectionLost("refused", sent=False)])
    async with trio.open_nursery() as nursery:
        shares = Shares(Supervisor(world.dial, nursery, timeo_s=TIMEO_S), "")  # type: ignore[arg-type]

        async def fail() -> None:
            with pytest.raises(ConnectionLost):
                await shares.share("photos")

        async with trio.open_nursery() as callers:
            callers.start_soon(fail)
            await trio.sleep(world.dial_time_s / 2)
            callers.start_soon(shares.share, "photos")
            await trio.sleep(world.dial_time_s)
            callers.start_soon(shares.share, "photos")
        assert (world.dials, world.tree_connects) == (2, 1)
        await shares.aclose()


async def test_a_mount_of_one_share_has_no_other(autojump_clock: MockClock) -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        shares = Shares(Supervisor(world.dial, nursery, timeo_s=TIMEO_S), "share")  # type: ignore[arg-type]
        with pytest.raises(NotFound):
            await shares.share("other")
        await shares.aclose()


async def test_after_the_end_every_call_fails_at_once(autojump_clock: MockClock) -> None:
    world = World()

    async def use(share: ReconnectingShare) -> None:
        await share._supervisor.aclose()
        began = trio.current_time()
        with pytest.raises(ConnectionLost):
            await share.stat("a")
        assert trio.current_time() == began

    await with_share(world, use)
