"""Who may keep what: the leases and oplocks of one connection, from the CREATE that asks to the break that ends them.

A lease (2.1 and later) belongs to a key, so to all handles that were opened with it; an oplock (2.0.2, and servers
without leases) to one handle. Everything here happens in the order of the wire, inside the connection's reader: a reply
to a CREATE counts from its arrival, whether or not its caller has run since, because the next message may be the break
of what it granted. A grant that no caller has been told of yet is given back without asking anybody.

A break may also overtake the reply. For a key that an open is under way for, or a handle that nobody knows yet while
oplocks are asked for, it is kept until the reply comes.  [MS-SMB2] 3.2.5.7.4, 3.2.5.7.5, 3.2.5.19.
"""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

from smbfuse.engine.smb2_exchange import Reply, Request
from smbfuse.errors import DecodeError
from smbfuse.share import Caching, GrantHolder
from smbfuse.status import NtStatus
from smbfuse.wire.smb2.breaks import BreakFlags, LeaseBreak, LeaseBreakAcknowledgment, OplockBreak
from smbfuse.wire.smb2.create import CreateContext, CreateResponse, OplockLevel, find_context
from smbfuse.wire.smb2.header import Command
from smbfuse.wire.smb2.lease import (
    EPOCHS,
    LEASE,
    LeaseFlags,
    LeaseState,
    LeaseV1,
    LeaseV2,
    decode_lease,
    is_newer,
)

if TYPE_CHECKING:
    from smbfuse.client.smb2_tree import Smb2Tree

log = logging.getLogger(__name__)

MOST_EARLY: Final = 64  # breaks kept of handles that nobody knows yet; a server that sends more makes them up

_STATES: Final = (
    (Caching.READ, LeaseState.READ_CACHING),
    (Caching.WRITE, LeaseState.WRITE_CACHING),
    (Caching.HANDLE, LeaseState.HANDLE_CACHING),
)
_OPLOCKS: Final = {
    int(OplockLevel.NONE): Caching.NONE,
    int(OplockLevel.LEVEL_II): Caching.READ,
    int(OplockLevel.EXCLUSIVE): Caching.READ | Caching.WRITE,
    int(OplockLevel.BATCH): Caching.READ | Caching.WRITE | Caching.HANDLE,
}


def _of_lease_state(state: int) -> Caching:
    caching = Caching.NONE
    for own, wire in _STATES:
        if wire & state:
            caching |= own
    return caching


_ALL_STATES: Final = 7
_CACHING: Final = tuple(_of_lease_state(state) for state in range(_ALL_STATES + 1))
_LEASE_STATE: Final = {caching: state | int(LeaseState.READ_CACHING) for state, caching in enumerate(_CACHING) if state}


def to_lease_state(caching: Caching) -> int:
    """Return the LeaseState that asks for `caching`; without READ there is no lease at all, so it comes along."""
    return _LEASE_STATE.get(caching, 0)


def of_lease_state(state: int) -> Caching:
    """Return what a LeaseState allows; bits that do not exist allow nothing."""
    return _CACHING[state & _ALL_STATES]


def to_oplock_level(caching: Caching) -> OplockLevel:
    """Return the oplock level that gives most of `caching` and no more; without WRITE none keeps a handle."""
    if Caching.WRITE in caching:
        return OplockLevel.BATCH if Caching.HANDLE in caching else OplockLevel.EXCLUSIVE
    return OplockLevel.LEVEL_II if Caching.READ in caching else OplockLevel.NONE


def lease_of_nobody(parent: bytes) -> CreateContext:
    """Return the context of an open that keeps nothing, and breaks no lease on its folder that has the key `parent`."""
    lease = LeaseV2(secrets.token_bytes(16), 0, LeaseFlags.PARENT_LEASE_KEY_SET, parent_lease_key=parent)
    return CreateContext(LEASE, lease.encode())


class _Early(NamedTuple):
    """A break that came before the reply to the CREATE whose grant it takes back, or after the grant had ended."""

    remaining: Caching
    epoch: int
    acknowledge: bool


class _Grant:
    """What one lease key, or one handle with an oplock, holds now."""

    __slots__ = ("asked", "due", "early", "epoch", "handles", "holder", "key", "state", "told")

    def __init__(self, holder: GrantHolder, key: bytes | None) -> None:
        self.holder = holder
        self.key = key  # None: an oplock
        self.state = Caching.NONE
        self.epoch: int | None = None  # None: a lease of version 1, an oplock, or nothing granted yet
        self.handles: dict[bytes, Smb2Tree] = {}  # open ones, by FileId
        self.told: set[bytes] = set()  # those whose caller has them
        self.asked = 0  # opens under way
        self.due: Caching | None = None  # the server waits to hear that nothing beyond this is kept
        self.early: _Early | None = None


class Asking:
    """One CREATE's question for a grant: what goes into the request, and what becomes of it."""

    def __init__(self, grants: Smb2Grants, grant: _Grant, tree: Smb2Tree, wanted: Caching, parent: bytes) -> None:
        self.contexts: tuple[CreateContext, ...] = ()
        self.created: CreateResponse | None = None  # the reply, decoded, if the file was opened
        self._grants = grants
        self._grant = grant
        self._tree = tree
        self._open = True
        if grant.key is None:
            self.oplock_level = to_oplock_level(wanted)
        else:
            self.oplock_level = OplockLevel.LEASE
            self.contexts = (CreateContext(LEASE, grants.lease(grant, wanted, parent)),)

    def answered(self, reply: Reply) -> None:
        """Hear the reply to the CREATE, the moment it arrives."""
        if reply.status == NtStatus.SUCCESS:
            try:
                self.created = CreateResponse.decode(reply.element)
            except DecodeError as error:
                log.debug("nothing granted by a reply that cannot be read: %s", error)
        if self.created is not None and self._open:
            self._grants.opened(self._grant, self._tree, self.created)
        self.withdrawn()

    def withdrawn(self) -> None:
        """Hear that no reply is to be expected any longer. Callable again."""
        if self._open:
            self._open = False
            self._grants.ended(self._grant)


class Smb2Grants:
    """The grants of one connection. `version` is of its leases: 1, 2, or 0 where there are only oplocks."""

    def __init__(self, version: int, *, directories: bool, enabled: bool = True) -> None:
        self.version = version
        self.directories = directories and enabled  # folders are leased too
        self.enabled = enabled
        self._by_key: dict[bytes, _Grant] = {}
        self._by_handle: dict[bytes, _Grant] = {}
        self._oplocks_asked = 0
        self._early: dict[bytes, int] = {}  # level by FileId, of breaks that came before the reply to their CREATE

    def __repr__(self) -> str:
        return f"<Smb2Grants version {self.version}, {len(self._by_key)} keys, {len(self._by_handle)} handles>"

    @property
    def leases(self) -> bool:
        """Whether what is granted belongs to a key: then opens with one key do not break each other's."""
        return self.enabled and bool(self.version)

    # --- asking -------------------------------------------------------------------------------------------------------

    def ask(self, tree: Smb2Tree, path: str, holder: GrantHolder | None, wanted: Caching) -> Asking | None:
        """Return the question for `wanted`, to be part of the CREATE of `path`; None where nothing is asked for."""
        if holder is None or not self.enabled or not (wanted or self.is_held(holder)):
            return None
        if self.version:
            grant = self._by_key.get(holder.key)
            if grant is None:
                grant = self._by_key[holder.key] = _Grant(holder, holder.key)
        else:
            grant = _Grant(holder, None)
            self._oplocks_asked += 1
        grant.asked += 1
        return Asking(self, grant, tree, wanted, tree.folder_key(path))

    def is_held(self, holder: GrantHolder) -> bool:
        """Tell whether handles are open with the holder's key: only then does an open need it, not to break them."""
        grant = self._by_key.get(holder.key)
        return grant is not None and bool(grant.handles or grant.asked)

    def lease(self, grant: _Grant, wanted: Caching, parent: bytes) -> bytes:
        """Return the data of the lease context that asks for `wanted`."""
        assert grant.key is not None
        state = to_lease_state(wanted)
        if self.version == 1:
            return LeaseV1(grant.key, state).encode()
        flags = LeaseFlags.PARENT_LEASE_KEY_SET if parent else 0
        return LeaseV2(grant.key, state, flags, 0, parent.ljust(16, b"\0"), grant.epoch or 0).encode()

    # --- what becomes of it -------------------------------------------------------------------------------------------

    def opened(self, grant: _Grant, tree: Smb2Tree, created: CreateResponse) -> None:
        """Take over what the reply to a CREATE grants; it has just arrived."""
        grant.handles[created.file_id] = tree
        self._by_handle[created.file_id] = grant
        if grant.key is None:
            grant.state = _OPLOCKS.get(created.oplock_level, Caching.NONE)
            if (level := self._early.pop(created.file_id, None)) is not None:
                self._oplock_broke(grant, level)
            return
        lease = self._lease_of(grant.key, created)
        if lease is None:
            return
        early, grant.early = grant.early, None
        epoch = lease.epoch if isinstance(lease, LeaseV2) else None
        granted = of_lease_state(lease.lease_state)
        before, known = grant.state, grant.epoch
        first = len(grant.handles) == 1
        if early is not None and epoch is not None and is_newer(epoch, early.epoch):
            early = None  # it broke an earlier lease with this key, which ended with its last handle
        if first or epoch is None or known is None:
            grant.state, grant.epoch = granted, epoch
        elif is_newer(epoch, known):
            grant.state, grant.epoch = granted, epoch
            upgraded = granted != before and before in granted
            if before and (epoch - known) % EPOCHS > int(upgraded):
                # Somebody has changed the file meanwhile, whose break was lost on its way: 3.2.5.7.5, "purge cache".
                self._tell(grant, Caching.NONE)
        if grant.due is not None:
            grant.state &= grant.due
        if early is not None:
            grant.state &= early.remaining
            if early.acknowledge:
                grant.due = early.remaining
        elif lease.lease_flags & LeaseFlags.BREAK_IN_PROGRESS and grant.due is None and not grant.told:
            # Its notification came while nobody held the key, and was ignored. Nothing is kept, so nothing is owed.
            grant.state = grant.due = Caching.NONE
        self._answer_for_nobody(grant)

    def ended(self, grant: _Grant) -> None:
        """Note that one open less is under way for `grant`."""
        grant.asked -= 1
        if grant.key is None:
            self._oplocks_asked -= 1
            if not self._oplocks_asked:
                self._early.clear()
        self._forget_if_over(grant)

    def delivered(self, file_id: bytes) -> None:
        """Note that the caller has the handle now: from here on a break is told to the holder."""
        grant = self._by_handle.get(file_id)
        if grant is not None:
            grant.told.add(file_id)

    def closed(self, file_id: bytes) -> None:
        """Note that a handle is being closed; what it alone held is held no longer, and owed no answer."""
        grant = self._by_handle.pop(file_id, None)
        if grant is None:
            return
        grant.handles.pop(file_id, None)
        grant.told.discard(file_id)
        if not grant.handles:
            grant.state, grant.due = Caching.NONE, None
        self._answer_for_nobody(grant)
        self._forget_if_over(grant)

    def caching(self, file_id: bytes) -> Caching:
        """Return what may be kept by the handle's grant now."""
        grant = self._by_handle.get(file_id)
        return grant.state if grant is not None else Caching.NONE

    def acknowledge(self, file_id: bytes, remaining: Caching) -> None:
        """Tell the server that nothing beyond `remaining` is kept, if it waits to hear that.

        An answer to an earlier break, while a later one that leaves less waits for its own, is none.
        """
        grant = self._by_handle.get(file_id)
        if grant is not None and grant.due is not None and not remaining & ~grant.due:
            grant.state &= remaining
            self._send(grant)

    def lost(self) -> None:
        """Note that the connection has ended, and every grant with it. Callable again."""
        held = {id(grant): grant for grant in (*self._by_key.values(), *self._by_handle.values())}
        self._by_key.clear()
        self._by_handle.clear()
        self._early.clear()
        holders = {id(grant.holder): grant.holder for grant in held.values() if grant.told}
        for grant in held.values():
            grant.state, grant.due, grant.early = Caching.NONE, None, None
            grant.handles.clear()
            grant.told.clear()
        for holder in holders.values():
            holder.lost()

    # --- breaks -------------------------------------------------------------------------------------------------------

    def broke(self, notification: OplockBreak | LeaseBreak) -> None:
        """Hear that the server takes a grant back. What nobody here knows (any longer) is ignored, never answered."""
        if isinstance(notification, OplockBreak):
            grant = self._by_handle.get(notification.file_id)
            if grant is not None and grant.key is None:
                self._oplock_broke(grant, notification.oplock_level)
            elif grant is None and self._oplocks_asked and len(self._early) < MOST_EARLY:
                self._early[notification.file_id] = notification.oplock_level
            return
        grant = self._by_key.get(notification.lease_key)
        if grant is None:
            log.debug("break of a lease that is over: %s", notification)
            return
        remaining = of_lease_state(notification.new_lease_state)
        must_answer = bool(notification.flags & BreakFlags.ACK_REQUIRED)
        if not grant.handles:
            grant.early = _Early(remaining, notification.new_epoch, must_answer)
            return
        purge = False
        if grant.epoch is not None:
            newer = is_newer(notification.new_epoch, grant.epoch)
            if not newer and not must_answer:
                log.debug("break of a lease that was granted anew since: %s", notification)
                return
            purge = newer and remaining == grant.state and (notification.new_epoch - grant.epoch) % EPOCHS > 1
            grant.epoch = notification.new_epoch if newer else grant.epoch
        self._take_back(grant, Caching.NONE if purge else remaining, remaining, must_answer=must_answer)

    def _oplock_broke(self, grant: _Grant, level: int) -> None:
        remaining = _OPLOCKS.get(level, Caching.NONE)
        # Only a break from level II is a mere message.  3.2.5.19.1
        self._take_back(grant, remaining, remaining, must_answer=Caching.WRITE in grant.state)

    def _take_back(self, grant: _Grant, kept: Caching, remaining: Caching, *, must_answer: bool) -> None:
        """Lower a grant to `remaining`, have its holder keep no more than `kept`, and see to the answer."""
        before = grant.state
        grant.state &= remaining
        if must_answer:
            owed = grant.due is not None
            grant.due = grant.state
            if not owed and not before & ~kept:
                self._send(grant)  # the server believes that we hold more than we do
                return
        if not grant.told:
            self._answer_for_nobody(grant)
        elif must_answer or before & ~kept:
            grant.holder.broken(grant.state & kept, acknowledge=must_answer)

    def _tell(self, grant: _Grant, remaining: Caching) -> None:
        if grant.told:
            grant.holder.broken(remaining, acknowledge=False)

    def _answer_for_nobody(self, grant: _Grant) -> None:
        """Answer a break at once if no caller has a handle that the grant belongs to: nothing is kept by it."""
        if grant.due is not None and grant.handles and not grant.told:
            self._send(grant)

    def _send(self, grant: _Grant) -> None:
        """Acknowledge what is due. Nobody waits for the answer, but a refusal ends the grant (3.2.5.19.3 and 4)."""
        grant.due = None
        file_id, tree = next(iter(grant.handles.items()))
        if grant.key is None:
            body = OplockBreak(to_oplock_level(grant.state), file_id).encode()
        else:
            body = LeaseBreakAcknowledgment(0, grant.key, to_lease_state(grant.state)).encode()
        exchange = tree.submit(Request(Command.OPLOCK_BREAK, body), urgent=True)
        exchange.on_first_reply = lambda reply: self._acknowledged(grant, file_id, reply)

    def _acknowledged(self, grant: _Grant, file_id: bytes, reply: Reply) -> None:
        if reply.status == NtStatus.SUCCESS or file_id not in grant.handles:
            return
        log.debug("acknowledgement refused status=0x%08X", reply.status)
        if grant.state:
            grant.state = Caching.NONE
            self._tell(grant, Caching.NONE)

    def _lease_of(self, key: bytes, created: CreateResponse) -> LeaseV1 | LeaseV2 | None:
        data = find_context(created.contexts, LEASE)
        if created.oplock_level != OplockLevel.LEASE or data is None:
            return None
        try:
            lease = decode_lease(data)
        except DecodeError as error:
            log.debug("no lease: %s", error)
            return None
        return lease if lease.lease_key == key else None

    def _forget_if_over(self, grant: _Grant) -> None:
        if grant.key is not None and not grant.handles and not grant.asked and self._by_key.get(grant.key) is grant:
            del self._by_key[grant.key]
