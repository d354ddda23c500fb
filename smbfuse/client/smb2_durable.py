"""Durable handles: opens that the server is asked to keep when the connection is lost, and what it gives them back for.

Asked for in the CREATE, for files that are opened to be written: version 1 up to 2.1, version 2 from 3.0, persistent
where the share is continuously available. Servers grant it with a handle lease or a batch oplock only (a persistent one
always). What is not granted is asked for once more by FSCTL_LMR_REQUEST_RESILIENCY, where the server knows that.

What is lost and then closed here is still open there: it is reclaimed only to be closed, as soon as there is a tree.
[MS-SMB2] 3.2.4.3.5, 3.2.4.4, 3.2.4.20.7.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from smbfuse.client import smb2_requests
from smbfuse.errors import DecodeError
from smbfuse.share import Caching, DurableOpen
from smbfuse.status import NtStatus
from smbfuse.wire.smb2.control import ControlCode, NetworkResiliencyRequest
from smbfuse.wire.smb2.create import (
    QUERY_ON_DISK_ID,
    CreateContext,
    CreateOptions,
    CreateResponse,
    OplockLevel,
    find_context,
)
from smbfuse.wire.smb2.durable import (
    DURABLE_RECONNECT,
    DURABLE_RECONNECT_V2,
    DURABLE_REQUEST,
    DURABLE_REQUEST_V2,
    DurableFlags,
    DurableReconnect,
    DurableReconnectV2,
    DurableRequest,
    DurableRequestV2,
    DurableResponseV2,
)

if TYPE_CHECKING:
    from smbfuse.client.smb2_grants import Asking
    from smbfuse.client.smb2_tree import Smb2Tree
    from smbfuse.engine.smb2_exchange import Reply, Request, Smb2Exchange

log = logging.getLogger(__name__)

KEPT_MS: Final = 60_000  # how long a resilient open is to be kept; of a durable one the server decides

_QUESTION_V1: Final = (CreateContext(DURABLE_REQUEST, DurableRequest().encode()),)


class Claim(NamedTuple):
    """What the server gives a lost open back for."""

    file_id: bytes
    create_guid: bytes  # b"": it is known by its FileId alone (version 1, resilient)
    persistent: bool
    oplock_level: int  # as granted
    lease: CreateContext | None  # the one that was granted a lease
    answered: tuple[CreateContext, ...]  # what the server said of the file

    def context(self) -> CreateContext:
        """Return the create context that reclaims the open."""
        if not self.create_guid:
            return CreateContext(DURABLE_RECONNECT, DurableReconnect(self.file_id).encode())
        flags = DurableFlags.PERSISTENT if self.persistent else 0
        return CreateContext(DURABLE_RECONNECT_V2, DurableReconnectV2(self.file_id, self.create_guid, flags).encode())

    def completed(self, created: CreateResponse) -> CreateResponse:
        """Return the reply to a reconnect with what the first one said of the file: it may not be asked again."""
        return replace(created, contexts=(*created.contexts, *self.answered))


class Durability:
    """What one share keeps of what is open, from connection to connection. Without a tree it keeps nothing."""

    def __init__(self) -> None:
        self.version = 0  # of its durable handles; 0: none
        self._persistent = False
        self._resiliency: bool | None = None  # whether it knows resilient handles; None: not asked yet
        self._tree: Smb2Tree | None = None
        self._held: set[bytes] = set()  # FileIds of what can be reclaimed
        self._doubtful: set[bytes] = set()  # FileIds of what it has been asked to make resilient
        self._closed_here: list[tuple[str, Claim]] = []  # lost, and wanted no longer

    def __repr__(self) -> str:
        return f"<Durability version {self.version}, {len(self._held)} held>"

    @property
    def holds(self) -> bool:
        """Whether anything is open that can be reclaimed."""
        return bool(self._held)

    def connected(self, tree: Smb2Tree, version: int, *, persistent: bool, resiliency: bool) -> None:
        """Go on with a new tree of the same share."""
        self.version = version
        self._persistent = persistent
        self._resiliency = None if resiliency and self._resiliency is None else resiliency and self._resiliency
        self._tree = tree
        closed_here, self._closed_here = self._closed_here, []
        for path, claim in closed_here:
            self._give_back(path, claim)

    def question(self, durable: DurableOpen, wanted: Caching, *, asks: bool) -> tuple[CreateContext, ...]:
        """Return what a CREATE carries that is to be kept; `asks`: it asks for the grant `wanted` too."""
        if not self.version or not (self._persistent or (asks and Caching.HANDLE in wanted)):
            return ()
        if self.version == 1:
            return _QUESTION_V1
        durable.key = durable.key or secrets.token_bytes(16)
        flags = DurableFlags.PERSISTENT if self._persistent else 0
        return (CreateContext(DURABLE_REQUEST_V2, DurableRequestV2(0, flags, durable.key).encode()),)

    def opened(self, tree: Smb2Tree, durable: DurableOpen, created: CreateResponse, asking: Asking | None) -> None:
        """Take over what the reply to such a CREATE grants; if it is nothing, ask for a resilient handle.

        Cost: no round trip; 1 request that nobody waits for where nothing was granted and it is not refused for good.
        """
        lease = asking.contexts[0] if asking is not None and created.oplock_level == OplockLevel.LEASE else None
        on_disk = tuple(context for context in created.contexts if context.name == QUERY_ON_DISK_ID)
        claim = Claim(created.file_id, b"", False, created.oplock_level, lease, on_disk)
        if self.version == 1 and find_context(created.contexts, DURABLE_REQUEST) is not None:
            self._hold(durable, claim)
        elif durable.key and (flags := _granted(created)) is not None:
            persistent = bool(flags & DurableFlags.PERSISTENT)
            self._hold(durable, claim._replace(create_guid=durable.key, persistent=persistent))
        elif self._resiliency is not False:
            self._ask_resiliency(tree, durable, claim)

    def reclaimed(self, durable: DurableOpen, claim: Claim, file_id: bytes) -> None:
        """Note that the server has given an open back, and under which FileId."""
        self._held.discard(claim.file_id)
        self._hold(durable, claim._replace(file_id=file_id))

    def refused(self, durable: DurableOpen, claim: Claim) -> None:
        """Note that the server does not give an open back."""
        self._held.discard(claim.file_id)
        durable.claim = None

    def closed(self, durable: DurableOpen, file_id: bytes, path: str, exchange: Smb2Exchange) -> None:
        """Note that a handle is being closed by `exchange`: if that gets lost, the server may still keep the open."""
        self._held.discard(file_id)
        self._doubtful.discard(file_id)
        claim, durable.claim = durable.claim, None
        if not isinstance(claim, Claim):
            return

        def ended() -> None:
            if exchange.error is not None:
                self._give_back(path, claim)

        if exchange.done:
            ended()
        else:
            exchange.on_done = ended

    def _hold(self, durable: DurableOpen, claim: Claim) -> None:
        durable.claim = claim
        self._held.add(claim.file_id)

    def _ask_resiliency(self, tree: Smb2Tree, durable: DurableOpen, claim: Claim) -> None:
        def answered(reply: Reply) -> None:
            still_open = claim.file_id in self._doubtful
            self._doubtful.discard(claim.file_id)
            if reply.status not in (NtStatus.SUCCESS, NtStatus.FILE_CLOSED):
                log.debug("no resilient handles: %s", NtStatus(reply.status).name)
                self._resiliency = False
            elif still_open and reply.status == NtStatus.SUCCESS:
                self._resiliency = True
                self._hold(durable, claim)

        self._doubtful.add(claim.file_id)
        data = NetworkResiliencyRequest(KEPT_MS).encode()
        request = smb2_requests.file_control(ControlCode.FSCTL_LMR_REQUEST_RESILIENCY, data, file_id=claim.file_id)
        tree.submit(request).on_first_reply = answered

    def _give_back(self, path: str, claim: Claim) -> None:
        tree = self._tree
        if tree is None or tree.connection.lost_because is not None:
            self._closed_here.append((path, claim))
            return
        leases = () if claim.lease is None else (claim.lease,)
        request = reconnect(tree, path, claim, claim.oplock_level, leases)
        tree.engine.submit((request, smb2_requests.close()), tree=tree.tree)
        tree.connection.post()


def reconnect(
    tree: Smb2Tree, path: str, claim: Claim, oplock_level: int, contexts: tuple[CreateContext, ...]
) -> Request:
    """Return the CREATE that reclaims an open, with the oplock or lease that it had; `path` names it for its lease.

    What it asks for besides is ignored: access and the rest are those of the open itself. No other context may be in it
    but the lease's: Samba (4.17) refuses it then.
    """
    return smb2_requests.create(
        path,
        smb2_requests.LOOK,
        CreateOptions.NON_DIRECTORY_FILE,
        oplock_level=OplockLevel(oplock_level),
        contexts=(claim.context(), *contexts),
        manner=tree.manner,
    )


def _granted(created: CreateResponse) -> int | None:
    """Return the flags of a durable handle of version 2; None: there is none."""
    data = find_context(created.contexts, DURABLE_REQUEST_V2)
    if data is None:
        return None
    try:
        return DurableResponseV2.decode(data).flags
    except DecodeError as error:
        log.debug("no durable handle: %s", error)
        return None
