"""Leases and oplocks of a connection: what is held, who hears of a break, what the server is answered, in any order.

Nothing is awaited here: everything happens as it arrives.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smbfuse.client.smb2_grants import (
    MOST_EARLY,
    Asking,
    Smb2Grants,
    of_lease_state,
    to_lease_state,
    to_oplock_level,
)
from smbfuse.client.smb2_tree import Smb2Tree
from smbfuse.engine.smb2_exchange import Reply, Request
from smbfuse.share import Caching
from smbfuse.status import NtStatus
from smbfuse.wire.smb2.breaks import LeaseBreak, LeaseBreakAcknowledgment, OplockBreak
from smbfuse.wire.smb2.create import CreateContext, CreateResponse, OplockLevel
from smbfuse.wire.smb2.header import Command
from smbfuse.wire.smb2.lease import LEASE, LeaseFlags, LeaseV1, LeaseV2, decode_lease

NOTHING = Caching.NONE
R = Caching.READ
RW = R | Caching.WRITE
RH = R | Caching.HANDLE
RWH = RW | RH
ANYTHING = st.sampled_from([Caching(bits) for bits in range(8)])

HEADER = bytes(64)
REFUSED = NtStatus.ACCESS_DENIED


class Holder:
    """Hears breaks."""

    def __init__(self, key: bytes = b"the key of a file") -> None:
        self.key = key[:16]
        self.heard: list[tuple[Caching, bool] | str] = []

    def broken(self, remaining: Caching, *, acknowledge: bool) -> None:
        self.heard.append((remaining, acknowledge))

    def lost(self) -> None:
        self.heard.append("lost")

    def regained(self) -> None:
        self.heard.append("regained")


@dataclass
class Sent:
    """An acknowledgement that was sent, and who waits for its answer."""

    request: Request
    on_first_reply: Callable[[Reply], None] | None = None

    @property
    def caching(self) -> Caching:
        """What it says is still kept."""
        element = HEADER + self.request.body
        if len(self.request.body) == 24:
            level = OplockBreak.decode(element).oplock_level
            return {0: NOTHING, 1: R, 8: RW, 9: RWH}[level]
        return of_lease_state(LeaseBreakAcknowledgment.decode(element).lease_state)

    def answer(self, status: int) -> None:
        assert self.on_first_reply is not None
        self.on_first_reply(Reply(status, memoryview(HEADER), 1, 1))


@dataclass
class Tree:
    """What grants need of a tree."""

    sent: list[Sent] = field(default_factory=list)
    folders: dict[str, bytes] = field(default_factory=dict)

    def submit(self, request: Request, *, urgent: bool) -> Sent:
        assert request.command == Command.OPLOCK_BREAK
        assert urgent
        self.sent.append(Sent(request))
        return self.sent[-1]

    def folder_key(self, path: str) -> bytes:
        return self.folders.get(path.rpartition("/")[0], b"")

    def answers(self) -> list[Caching]:
        return [sent.caching for sent in self.sent]


class Server:
    """A connection's grants with one tree, and a server that answers CREATEs and breaks what it granted."""

    def __init__(self, version: int = 2) -> None:
        self.grants = Smb2Grants(version, directories=version == 2)
        self.tree = Tree()
        self.epoch = 0
        self._handles = 0

    def ask(self, holder: Holder, wanted: Caching = RWH, path: str = "file") -> Asking:
        asking = self.grants.ask(cast("Smb2Tree", self.tree), path, holder, wanted)
        assert asking is not None
        return asking

    def reply(
        self, asking: Asking, granted: Caching, *, epoch: int | None = None, flags: int = 0, status: int = 0
    ) -> bytes:
        """Let the reply to a CREATE arrive; return the handle."""
        self._handles += 1
        file_id = self._handles.to_bytes(16, "big")
        level = int(to_oplock_level(granted))
        contexts: tuple[CreateContext, ...] = ()
        if asking.contexts:
            level = int(OplockLevel.LEASE)
            key = decode_lease(asking.contexts[0].data).lease_key
            state = to_lease_state(granted)
            if self.grants.version == 2:
                self.epoch = self.epoch + 1 if epoch is None else epoch
                lease: LeaseV1 | LeaseV2 = LeaseV2(key, state, flags, epoch=self.epoch)
            else:
                lease = LeaseV1(key, state, flags)
            contexts = (CreateContext(LEASE, lease.encode()),)
        created = CreateResponse(level, 0, 1, 0, 0, 0, 0, 0, 0, 0x20, file_id, contexts)
        asking.answered(Reply(status, memoryview(HEADER + created.encode()), 1, 1))
        return file_id

    def open(self, holder: Holder, granted: Caching = RWH, *, told: bool = True) -> bytes:
        file_id = self.reply(self.ask(holder), granted)
        if told:
            self.grants.delivered(file_id)
        return file_id

    def take(
        self, holder: Holder, file_id: bytes, remaining: Caching, *, must_answer: bool = True, epoch: int | None = None
    ) -> None:
        """Let a break arrive; whether an oplock's is to be answered, its level says."""
        if not self.grants.version:
            self.grants.broke(OplockBreak(int(to_oplock_level(remaining)), file_id))
            return
        self.epoch = self.epoch + 1 if epoch is None else epoch
        flags = 1 if must_answer else 0
        self.grants.broke(LeaseBreak(self.epoch, flags, holder.key, 7, to_lease_state(remaining), 0, 0, 0))


@pytest.fixture(params=[0, 1, 2], ids=["oplocks", "leases v1", "leases v2"])
def server(request: pytest.FixtureRequest) -> Server:
    return Server(request.param)


def lower(server: Server) -> Caching:
    """Return what a break leaves when another client opens the file."""
    return RH if server.grants.version else R


# -- words


@given(ANYTHING)
def test_what_is_asked_for_is_never_less_than_wanted_and_never_without_reading(wanted: Caching) -> None:
    asked = of_lease_state(to_lease_state(wanted))
    assert asked == (wanted | R if wanted else NOTHING)


@pytest.mark.parametrize(
    "wanted, level",
    [(NOTHING, 0), (R, 1), (RH, 1), (RW, 8), (Caching.WRITE, 8), (RWH, 9), (Caching.HANDLE, 0)],
)
def test_an_oplock_never_gives_more_than_was_wanted(wanted: Caching, level: int) -> None:
    assert to_oplock_level(wanted) == level


def test_bits_that_do_not_exist_allow_nothing() -> None:
    assert of_lease_state(0xFFFFFFF8) == NOTHING


def test_nothing_is_asked_for_without_a_holder_a_wish_or_leave() -> None:
    grants = Smb2Grants(2, directories=True)
    tree = cast("Smb2Tree", Tree())
    assert grants.ask(tree, "f", None, RWH) is None
    assert grants.ask(tree, "f", Holder(), NOTHING) is None
    declined = Smb2Grants(2, directories=True, enabled=False)
    assert declined.ask(tree, "f", Holder(), RWH) is None
    assert (declined.leases, declined.directories) == (False, False)


@pytest.mark.parametrize("version, level", [(0, OplockLevel.BATCH), (1, OplockLevel.LEASE), (2, OplockLevel.LEASE)])
def test_the_question_is_put_in_the_words_of_the_dialect(version: int, level: OplockLevel) -> None:
    server = Server(version)
    server.tree.folders["folder"] = b"key of the folder"[:16]
    asking = server.ask(Holder(), RWH, "folder/file")
    assert asking.oplock_level == level
    leases = [decode_lease(context.data) for context in asking.contexts]
    expected: dict[int, list[LeaseV1 | LeaseV2]] = {
        0: [],
        1: [LeaseV1(Holder().key, 7)],
        2: [LeaseV2(Holder().key, 7, LeaseFlags.PARENT_LEASE_KEY_SET, 0, b"key of the folder"[:16], 0)],
    }
    assert leases == expected[version]


def test_a_key_is_shown_while_handles_are_open_with_it_even_if_nothing_is_wanted() -> None:
    server, holder = Server(), Holder()
    file_id = server.open(holder)
    asking = server.ask(holder, NOTHING)
    assert decode_lease(asking.contexts[0].data) == LeaseV2(holder.key, 0, epoch=1)
    asking.withdrawn()
    assert server.grants.caching(file_id) == RWH
    server.grants.closed(file_id)
    assert server.grants.ask(cast("Smb2Tree", server.tree), "file", holder, NOTHING) is None


# -- grants and breaks


def test_a_break_is_told_answered_once_and_no_more_than_granted(server: Server) -> None:
    holder = Holder()
    file_id = server.open(holder)
    assert server.grants.caching(file_id) == RWH
    remaining = lower(server)
    server.take(holder, file_id, remaining)
    assert holder.heard == [(remaining, True)]
    assert server.grants.caching(file_id) == remaining
    assert server.tree.answers() == []
    server.grants.acknowledge(file_id, remaining)
    server.grants.acknowledge(file_id, remaining)
    assert server.tree.answers() == [remaining]


def test_more_may_be_given_up_than_is_taken_back(server: Server) -> None:
    holder = Holder()
    file_id = server.open(holder)
    server.take(holder, file_id, lower(server))
    server.grants.acknowledge(file_id, NOTHING)
    assert server.tree.answers() == [NOTHING]
    assert server.grants.caching(file_id) == NOTHING


def test_a_break_of_reading_alone_is_never_answered(server: Server) -> None:
    holder = Holder()
    file_id = server.open(holder, R)
    server.take(holder, file_id, NOTHING, must_answer=False)
    server.grants.acknowledge(file_id, NOTHING)
    assert holder.heard == [(NOTHING, False)]
    assert server.tree.answers() == []


def test_an_answer_to_an_earlier_break_is_none_to_a_later_one() -> None:
    server, holder = Server(), Holder()
    file_id = server.open(holder)
    server.take(holder, file_id, RH)
    server.take(holder, file_id, NOTHING)
    server.grants.acknowledge(file_id, RH)
    assert server.tree.answers() == []
    server.grants.acknowledge(file_id, NOTHING)
    assert server.tree.answers() == [NOTHING]
    assert holder.heard == [(RH, True), (NOTHING, True)]


def test_a_break_of_more_than_is_held_is_answered_without_asking_anybody() -> None:
    server, holder = Server(), Holder()
    file_id = server.open(holder, R)
    server.take(holder, file_id, RH)
    assert (holder.heard, server.tree.answers()) == ([], [R])


def test_a_refused_answer_ends_the_grant(server: Server) -> None:
    holder = Holder()
    file_id = server.open(holder)
    server.take(holder, file_id, lower(server))
    server.grants.acknowledge(file_id, lower(server))
    server.tree.sent[0].answer(NtStatus.SUCCESS)
    assert server.grants.caching(file_id) == lower(server)
    server.tree.sent[0].answer(REFUSED)
    assert server.grants.caching(file_id) == NOTHING
    assert holder.heard[1:] == [(NOTHING, False)]


def test_a_closed_handle_owes_no_answer(server: Server) -> None:
    holder = Holder()
    file_id = server.open(holder)
    server.take(holder, file_id, lower(server))
    server.grants.closed(file_id)
    server.grants.acknowledge(file_id, lower(server))
    server.take(holder, file_id, NOTHING)
    assert server.tree.answers() == []
    assert len(holder.heard) == 1
    assert server.grants.caching(file_id) == NOTHING


def test_a_break_that_nobody_can_mean_is_ignored(server: Server) -> None:
    server.take(Holder(), bytes(16), NOTHING)
    server.grants.broke(OplockBreak(0xEE, bytes(16)))
    server.grants.broke(LeaseBreak(0, 1, bytes(16), 7, 0xFFFFFFFF, 0, 0, 0))
    assert server.tree.answers() == []


def test_an_oplock_break_of_a_leased_handle_is_ignored() -> None:
    server, holder = Server(), Holder()
    file_id = server.open(holder)
    server.grants.broke(OplockBreak(0, file_id))
    assert (holder.heard, server.grants.caching(file_id)) == ([], RWH)


def test_handles_of_one_key_share_a_lease_and_each_handle_has_its_own_oplock(server: Server) -> None:
    holder = Holder()
    first, second = server.open(holder), server.open(holder)
    server.take(holder, first, lower(server))
    shared = bool(server.grants.version)
    assert server.grants.caching(second) == (lower(server) if shared else RWH)
    server.grants.closed(first)
    assert server.tree.answers() == []  # the holder still has a handle of the lease, and may be writing
    server.grants.acknowledge(second, lower(server))
    assert server.tree.answers() == ([lower(server)] if shared else [])


# -- replies that nobody has seen yet


def test_a_grant_that_nobody_has_been_told_of_is_given_back_at_once(server: Server) -> None:
    holder = Holder()
    file_id = server.open(holder, told=False)
    server.take(holder, file_id, lower(server))
    assert (holder.heard, server.tree.answers()) == ([], [lower(server)])
    server.grants.delivered(file_id)
    assert server.grants.caching(file_id) == lower(server)


def test_a_break_may_overtake_the_reply_that_granted(server: Server) -> None:
    holder = Holder()
    asking = server.ask(holder)
    coming = (1).to_bytes(16, "big")
    server.take(holder, coming, lower(server), epoch=2)
    assert server.tree.answers() == []
    file_id = server.reply(asking, RWH, epoch=1)
    assert file_id == coming
    assert server.grants.caching(file_id) == lower(server)
    assert (holder.heard, server.tree.answers()) == ([], [lower(server)])


def test_a_break_of_a_lease_that_had_ended_does_not_touch_the_next_one() -> None:
    server, holder = Server(), Holder()
    server.grants.closed(server.open(holder))
    asking = server.ask(holder)
    server.take(holder, b"", NOTHING, epoch=2)
    file_id = server.reply(asking, RWH, epoch=3)
    assert (server.grants.caching(file_id), server.tree.answers()) == (RWH, [])


def test_early_breaks_of_oplocks_are_forgotten_with_the_last_open_and_never_too_many() -> None:
    server = Server(0)
    asking, another = server.ask(Holder()), server.ask(Holder())
    for number in range(2 * MOST_EARLY):
        server.take(Holder(), number.to_bytes(16, "little"), NOTHING)
    assert len(server.grants._early) == MOST_EARLY
    asking.withdrawn()
    asking.withdrawn()
    assert server.grants._early
    another.withdrawn()
    assert not server.grants._early


def test_an_open_that_joins_a_lease_while_it_breaks_gets_no_more_than_is_left() -> None:
    for version in (1, 2):
        server, holder = Server(version), Holder()
        first = server.open(holder)
        asking = server.ask(holder)
        server.take(holder, first, RH)
        second = server.reply(asking, RWH, epoch=1, flags=LeaseFlags.BREAK_IN_PROGRESS)
        assert server.grants.caching(second) == RH
        server.grants.delivered(second)
        server.grants.acknowledge(second, RH)
        assert server.tree.answers() == [RH]


def test_who_joins_when_everybody_else_has_left_is_not_made_to_answer_for_them() -> None:
    server, holder = Server(), Holder()
    first = server.open(holder)
    asking = server.ask(holder)
    server.take(holder, first, NOTHING)
    second = server.reply(asking, RWH, epoch=1)
    server.grants.closed(first)
    assert server.tree.answers() == [NOTHING]
    assert server.grants.caching(second) == NOTHING


def test_a_lease_that_is_already_breaking_for_nobody_is_given_back() -> None:
    server, holder = Server(), Holder()
    file_id = server.reply(server.ask(holder), RWH, flags=LeaseFlags.BREAK_IN_PROGRESS)
    assert (server.grants.caching(file_id), server.tree.answers()) == (NOTHING, [NOTHING])


def test_a_refused_or_unreadable_create_grants_nothing(server: Server) -> None:
    holder = Holder()
    server.reply(server.ask(holder), RWH, status=REFUSED)
    asking = server.ask(holder)
    asking.answered(Reply(0, memoryview(HEADER + b"\x59\0 too short"), 1, 1))
    assert (server.grants._by_key, server.grants._by_handle) == ({}, {})


@pytest.mark.parametrize(
    "data", [LeaseV2(b"another key here", 7).encode(), b"no lease", b""], ids=["another key", "malformed", "none"]
)
def test_a_lease_that_is_not_ours_is_none(data: bytes) -> None:
    server = Server()
    contexts = (CreateContext(LEASE, data),) if data else ()
    created = CreateResponse(OplockLevel.LEASE, 0, 1, 0, 0, 0, 0, 0, 0, 0x20, bytes(16), contexts)
    server.ask(Holder()).answered(Reply(0, memoryview(HEADER + created.encode()), 1, 1))
    assert server.grants.caching(bytes(16)) == NOTHING


# -- epochs.  [MS-SMB2] 3.2.5.7.5, 3.2.5.19.2


@pytest.mark.parametrize(
    "before, granted, step, holds, purged",
    [
        pytest.param(RH, RH, 0, RH, False, id="no change"),
        pytest.param(RH, RH, 1, RH, True, id="purge"),
        pytest.param(R, RH, 1, RH, False, id="upgrade"),
        pytest.param(R, RWH, 2, RWH, True, id="upgrade and purge"),
        pytest.param(R, NOTHING, 1, NOTHING, True, id="lost meanwhile"),
        pytest.param(NOTHING, RWH, 5, RWH, False, id="nothing kept to be purged"),
        pytest.param(R, RWH, -1, R, False, id="an older reply"),
    ],
)
def test_the_epoch_says_what_a_further_open_means(
    before: Caching, granted: Caching, step: int, holds: Caching, purged: bool
) -> None:
    server, holder = Server(), Holder()
    epoch = 0xFFFE
    first = server.reply(server.ask(holder), before, epoch=epoch)
    server.grants.delivered(first)
    second = server.reply(server.ask(holder), granted, epoch=(epoch + step) % 0x10000)
    assert server.grants.caching(first) == server.grants.caching(second) == holds
    assert holder.heard == ([(NOTHING, False)] if purged else [])


def test_a_break_that_is_older_than_the_grant_is_ignored_unless_it_must_be_answered() -> None:
    server, holder = Server(), Holder()
    file_id = server.reply(server.ask(holder), RWH, epoch=9)
    server.grants.delivered(file_id)
    server.take(holder, file_id, NOTHING, must_answer=False, epoch=8)
    assert (holder.heard, server.grants.caching(file_id)) == ([], RWH)
    server.take(holder, file_id, R, must_answer=True, epoch=8)
    assert (holder.heard, server.grants.caching(file_id)) == ([(R, True)], R)


def test_a_break_that_changes_nothing_but_skips_an_epoch_purges() -> None:
    server, holder = Server(), Holder()
    file_id = server.reply(server.ask(holder), RH, epoch=1)
    server.grants.delivered(file_id)
    server.take(holder, file_id, RH, must_answer=False, epoch=3)
    assert (holder.heard, server.grants.caching(file_id)) == ([(NOTHING, False)], RH)


# -- the end


def test_each_holder_that_has_a_handle_hears_of_the_loss_once(server: Server) -> None:
    holder, unaware, asker = Holder(b"a" * 16), Holder(b"b" * 16), Holder(b"c" * 16)
    handles = [server.open(holder), server.open(holder), server.open(unaware, told=False)]
    asking = server.ask(asker)
    server.grants.lost()
    server.grants.lost()
    asking.withdrawn()
    assert [one.heard.count("lost") for one in (holder, unaware, asker)] == [1, 0, 0]
    assert [server.grants.caching(handle) for handle in handles] == [NOTHING] * 3
    server.grants.acknowledge(handles[0], NOTHING)
    server.grants.closed(handles[0])
    assert server.tree.answers() == []


# -- whatever comes, in whatever order

STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "reply", "deliver", "close", "break", "answer", "withdraw"]), st.integers(0, 3)),
    max_size=30,
)


@given(STEPS, st.sampled_from([0, 1, 2]), st.data())
def test_no_order_of_events_leaves_a_handle_with_more_than_granted_or_an_answer_nobody_asked_for(
    steps: list[tuple[str, int]], version: int, data: st.DataObject
) -> None:
    server, holder = Server(version), Holder()
    asked: list[Asking] = []
    handles: list[bytes] = []
    must_answer = 0
    for step, number in steps:
        if step == "ask":
            asked.append(server.ask(holder))
        elif step in ("reply", "withdraw") and asked:
            asking = asked.pop(number % len(asked))
            if step == "withdraw":
                asking.withdrawn()
            else:
                handles.append(server.reply(asking, data.draw(st.sampled_from([NOTHING, R, RW, RH, RWH]))))
        elif step == "break":
            file_id = handles[number % len(handles)] if handles else bytes(16)
            remaining = data.draw(st.sampled_from([NOTHING, R, RH]))
            server.take(holder, file_id, remaining)
            must_answer += 1
            if file_id in handles:
                assert not server.grants.caching(file_id) & ~remaining
        elif handles:
            file_id = handles[number % len(handles)]
            if step == "deliver":
                server.grants.delivered(file_id)
            elif step == "answer":
                server.grants.acknowledge(file_id, server.grants.caching(file_id))
            else:
                server.grants.closed(handles.pop(number % len(handles)))
    assert len(server.tree.sent) <= must_answer
    for file_id in handles:
        server.grants.closed(file_id)
    for asking in asked:
        asking.withdrawn()
    assert (server.grants._by_key, server.grants._by_handle, server.grants._early) == ({}, {}, {})
