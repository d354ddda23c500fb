"""Oplocks of SMB1, without a server: who is told of a break, what is acknowledged, and breaks that come too early."""

from collections.abc import Callable
from typing import cast

import pytest
import trio
import trio.testing

from smbfuse.client.connection import Connection
from smbfuse.client.smb1_oplocks import MOST_EARLY, Oplock, Oplocks
from smbfuse.client.waiter import OTHERS_PATIENCE_S
from smbfuse.engine.smb1 import Smb1Engine
from smbfuse.engine.smb1_exchange import Tree
from smbfuse.errors import ConnectionLost, Timeout
from smbfuse.share import Caching, OpenIntent
from smbfuse.wire.smb1.control import BREAK_TO_LEVEL_II, BREAK_TO_NONE, OPLOCK_RELEASE, LockingRequest
from smbfuse.wire.smb1.files import OplockLevel
from smbfuse.wire.smb1.header import Command, decode_header
from smbfuse.wire.smb1.message import UNICODE, decode_message
from tests.client.smb1_disk import Disk
from tests.client.smb1_server import NT
from tests.client.test_smb1_old_disks import NT_LEVELS, mounted
from tests.engine.test_smb1 import engine as new_engine
from tests.engine.test_smb1_writing import notice

TREE = Tree(7, 0x18)
READ_WRITE = Caching.READ | Caching.WRITE
EVERYTHING = READ_WRITE | Caching.HANDLE


class Holder:
    key = bytes(16)

    def __init__(self) -> None:
        self.breaks: list[tuple[Caching, bool]] = []
        self.losses = 0

    def broken(self, remaining: Caching, *, acknowledge: bool) -> None:
        self.breaks.append((remaining, acknowledge))

    def lost(self) -> None:
        self.losses += 1

    def regained(self) -> None:
        """Hear what nobody here counts."""


class Talk:
    """An engine with its oplocks, and what was acknowledged so far."""

    def __init__(self) -> None:
        self.engine: Smb1Engine = new_engine()
        self.oplocks = Oplocks(cast("Connection", self), self.engine, enabled=True)

    def post(self) -> None:
        """Stand in for the connection: what is to be sent is asked for by `acknowledged`."""

    def open(self, fid: int, holder: Holder, granted: int, wanted: Caching = EVERYTHING, tree: Tree = TREE) -> Oplock:
        with self.oplocks.opening():
            oplock = self.oplocks.opened(tree, fid, holder, wanted, granted)
        assert oplock is not None
        return oplock

    def break_to(self, fid: int, level: int) -> None:
        self.engine.arrived(notice(fid, level))

    def acknowledged(self) -> list[tuple[int, int]]:
        """Return FID and level of each acknowledgment that leaves now."""
        found = []
        for _, *buffers in self.engine.outgoing():
            _, (block,) = decode_message(memoryview(b"".join(buffers)))
            said = LockingRequest.decode_block(block, UNICODE)
            assert said.type_of_lock == OPLOCK_RELEASE
            assert said.number_of_locks == said.number_of_unlocks == 0
            found.append((said.fid, said.new_oplock_level))
        return found


@pytest.mark.parametrize(
    "granted, wanted, kept",
    [
        (OplockLevel.BATCH, EVERYTHING, EVERYTHING),
        (OplockLevel.BATCH, READ_WRITE, READ_WRITE),
        (OplockLevel.EXCLUSIVE, EVERYTHING, READ_WRITE),
        (OplockLevel.EXCLUSIVE, Caching.READ, Caching.READ),
        (OplockLevel.LEVEL_II, EVERYTHING, Caching.READ),
        (OplockLevel.LEVEL_II, Caching.WRITE, Caching.NONE),
    ],
)
def test_a_grant_is_what_was_both_wanted_and_given(granted: int, wanted: Caching, kept: Caching) -> None:
    assert Talk().open(5, Holder(), granted, wanted).caching == kept


@pytest.mark.parametrize("granted", [OplockLevel.NONE, 4, 0xFF])
def test_no_oplock_is_none(granted: int) -> None:
    talk = Talk()
    with talk.oplocks.opening():
        assert talk.oplocks.opened(TREE, 5, Holder(), EVERYTHING, granted) is None


@pytest.mark.parametrize("granted", [OplockLevel.BATCH, OplockLevel.EXCLUSIVE])
def test_the_server_waits_until_what_was_kept_is_given_up(granted: int) -> None:
    talk, holder = Talk(), Holder()
    oplock = talk.open(5, holder, granted)
    talk.break_to(5, BREAK_TO_LEVEL_II)
    assert holder.breaks == [(Caching.READ, True)]
    assert oplock.caching == Caching.READ
    assert not talk.acknowledged()
    talk.oplocks.answer(holder, Caching.READ)
    talk.oplocks.answer(holder, Caching.READ)
    assert talk.acknowledged() == [(5, BREAK_TO_LEVEL_II)]
    talk.break_to(5, BREAK_TO_NONE)  # a Level II oplock: the server waits for nobody
    assert holder.breaks[1:] == [(Caching.NONE, False)]
    talk.oplocks.answer(holder, Caching.NONE)
    assert not talk.acknowledged()


@pytest.mark.parametrize(
    "level, answered, said, left",
    [
        (BREAK_TO_LEVEL_II, Caching.READ, BREAK_TO_LEVEL_II, Caching.READ),
        (BREAK_TO_LEVEL_II, Caching.NONE, BREAK_TO_NONE, Caching.NONE),
        (BREAK_TO_NONE, Caching.NONE, BREAK_TO_NONE, Caching.NONE),
        (BREAK_TO_NONE, Caching.READ, BREAK_TO_NONE, Caching.NONE),  # no more than was left
    ],
)
def test_a_holder_may_keep_what_was_left_to_it_or_less(level: int, answered: Caching, said: int, left: Caching) -> None:
    talk, holder = Talk(), Holder()
    oplock = talk.open(5, holder, OplockLevel.BATCH)
    talk.break_to(5, level)
    talk.oplocks.answer(holder, answered)
    assert talk.acknowledged() == [(5, said)]
    assert oplock.caching == left


def test_a_break_that_takes_nothing_from_the_holder_is_acknowledged_at_once() -> None:
    talk, holder = Talk(), Holder()
    talk.open(5, holder, OplockLevel.EXCLUSIVE, Caching.READ)
    talk.break_to(5, BREAK_TO_LEVEL_II)
    assert holder.breaks == []
    assert talk.acknowledged() == [(5, BREAK_TO_LEVEL_II)]


def test_a_break_that_goes_on_before_it_is_acknowledged_is_acknowledged_once() -> None:
    talk, holder = Talk(), Holder()
    talk.open(5, holder, OplockLevel.BATCH)
    talk.break_to(5, BREAK_TO_LEVEL_II)
    talk.break_to(5, BREAK_TO_NONE)
    assert holder.breaks == [(Caching.READ, True), (Caching.NONE, True)]
    talk.oplocks.answer(holder, Caching.NONE)
    assert talk.acknowledged() == [(5, BREAK_TO_NONE)]


def test_a_break_of_our_own_doing_waits_for_nobody() -> None:
    talk, holder = Talk(), Holder()
    oplock = talk.open(5, holder, OplockLevel.BATCH)
    oplock.yielding = True
    talk.break_to(5, BREAK_TO_LEVEL_II)
    assert talk.acknowledged() == [(5, BREAK_TO_LEVEL_II)]
    assert holder.breaks == [(Caching.READ, False)]


def test_a_holder_answers_for_every_handle_of_its_file_and_for_no_other() -> None:
    talk, holder, other = Talk(), Holder(), Holder()
    for fid, who in ((5, holder), (6, holder), (7, other)):
        talk.open(fid, who, OplockLevel.BATCH)
        talk.break_to(fid, BREAK_TO_NONE)
    talk.oplocks.answer(holder, Caching.NONE)
    assert talk.acknowledged() == [(5, BREAK_TO_NONE), (6, BREAK_TO_NONE)]


def test_what_is_closed_needs_no_answer() -> None:
    talk, holder = Talk(), Holder()
    oplock = talk.open(5, holder, OplockLevel.BATCH)
    talk.break_to(5, BREAK_TO_NONE)
    talk.oplocks.closed(5)
    talk.oplocks.answer(holder, Caching.NONE)
    talk.break_to(5, BREAK_TO_NONE)
    assert not talk.acknowledged()
    assert oplock.caching is Caching.NONE
    assert len(holder.breaks) == 1


# --- breaks that come before the open is known ------------------------------------------------------------------------


def test_a_break_before_the_opener_has_run_lowers_what_it_gets() -> None:
    talk, holder = Talk(), Holder()
    with talk.oplocks.opening():
        talk.break_to(5, BREAK_TO_LEVEL_II)
        assert not talk.acknowledged()  # of what nobody knows yet
        oplock = talk.oplocks.opened(TREE, 5, holder, EVERYTHING, OplockLevel.BATCH)
    assert oplock is not None
    assert oplock.caching == Caching.READ
    assert holder.breaks == []
    assert talk.acknowledged() == [(5, BREAK_TO_LEVEL_II)]


def test_of_several_early_breaks_the_lowest_counts() -> None:
    talk = Talk()
    with talk.oplocks.opening():
        for level in (BREAK_TO_NONE, BREAK_TO_LEVEL_II):
            talk.break_to(5, level)
        oplock = talk.oplocks.opened(TREE, 5, Holder(), EVERYTHING, OplockLevel.BATCH)
    assert oplock is not None
    assert oplock.caching is Caching.NONE
    assert talk.acknowledged() == [(5, BREAK_TO_NONE)]


def test_an_early_break_does_not_outlive_the_opens_that_it_may_belong_to() -> None:
    talk = Talk()
    with talk.oplocks.opening():
        with talk.oplocks.opening():
            talk.break_to(5, BREAK_TO_NONE)
        # Another one is still under way, and it may be meant.
        oplock = talk.oplocks.opened(TREE, 5, Holder(), EVERYTHING, OplockLevel.BATCH)
        assert oplock is not None
        assert oplock.caching is Caching.NONE
        talk.break_to(6, BREAK_TO_NONE)
    talk.break_to(7, BREAK_TO_NONE)  # while nothing is opened, a FID that nobody knows is nobody's
    for fid in (6, 7):
        assert talk.open(fid, Holder(), OplockLevel.BATCH).caching == EVERYTHING


def test_a_server_that_makes_up_breaks_fills_no_memory() -> None:
    talk = Talk()
    with talk.oplocks.opening():
        for fid in range(1000):
            talk.break_to(fid, BREAK_TO_NONE)
        assert len(talk.oplocks._early) == MOST_EARLY


# --- ends -------------------------------------------------------------------------------------------------------------


def test_the_end_of_the_connection_is_told_once_to_each_holder() -> None:
    talk, holder, other = Talk(), Holder(), Holder()
    oplocks = [talk.open(fid, who, OplockLevel.BATCH) for fid, who in ((5, holder), (6, holder), (7, other))]
    for _ in range(2):
        talk.engine.lost(ConnectionLost("cut", sent=True))
    assert (holder.losses, other.losses) == (1, 1)
    assert all(oplock.caching is Caching.NONE for oplock in oplocks)


def test_the_end_of_a_tree_ends_what_was_granted_there() -> None:
    talk, holder, other = Talk(), Holder(), Holder()
    talk.open(5, holder, OplockLevel.BATCH)
    elsewhere = talk.open(6, other, OplockLevel.BATCH, tree=Tree(8, 0))
    talk.oplocks.disconnected(TREE)
    assert (holder.losses, other.losses) == (1, 0)
    assert elsewhere.caching == EVERYTHING


# --- patience ---------------------------------------------------------------------------------------------------------


class Slow(Disk):
    """Answers the opens of NT only when it is let: somebody else's oplock is in the way."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.held: list[bytes] = []

    def _take(self, pdu: bytes) -> None:
        if decode_header(pdu).command == Command.NT_CREATE_ANDX:
            self.held.append(pdu)
        else:
            super()._take(pdu)

    async def let(self) -> None:
        for pdu in self.held:
            super()._take(pdu)
        await self.send_all(())


@pytest.fixture
def slow() -> Callable[[], Slow]:
    return lambda: Slow(capabilities=NT, known_levels=NT_LEVELS)


async def test_an_open_waits_as_long_as_another_client_may_take(
    slow: Callable[[], Slow], autojump_clock: trio.testing.MockClock
) -> None:
    server = slow()
    async with mounted(server, timeo_s=6.0) as share, trio.open_nursery() as nursery:

        async def open_there() -> None:
            file = await share.open("a.txt", OpenIntent(write=True))
            await file.aclose()

        nursery.start_soon(open_there)
        await trio.sleep(OTHERS_PATIENCE_S - 5)
        assert server.held
        await server.let()


async def test_an_open_does_not_wait_for_ever(slow: Callable[[], Slow], autojump_clock: trio.testing.MockClock) -> None:
    server = slow()
    async with mounted(server, timeo_s=6.0) as share:
        before = trio.current_time()
        with pytest.raises(Timeout):
            await share.open("a.txt", OpenIntent(write=True))
        assert trio.current_time() - before == pytest.approx(OTHERS_PATIENCE_S, abs=1)
        await server.let()
