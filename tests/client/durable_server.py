"""A scripted SMB2 server that keeps open files beyond their connections: durable, persistent and resilient handles."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace

import trio

from smbfuse.client.reconnect import ReconnectingShare
from smbfuse.client.smb2_session import Smb2Session
from smbfuse.client.supervisor import Supervisor
from smbfuse.config import Network, Security
from smbfuse.status import NtStatus
from smbfuse.wire.smb2 import control, create, durable, session
from smbfuse.wire.smb2.errors import ErrorResponse
from smbfuse.wire.smb2.header import Arrived, Command, HeaderFlags
from smbfuse.wire.smb2.lease import LEASE, LeaseV1, LeaseV2, decode_lease
from smbfuse.wire.smb2.negotiate import Capabilities, NegotiateContext, NegotiateResponse
from tests.client.smb2_fixtures import SOMEBODY, TARGET
from tests.client.smb2_server import TIME, Answer, Node, Smb2Server, _Handle
from tests.client.test_connection import PairedStream

TIMEO_S = 30.0
UNSUPPORTED = int(NtStatus.NOT_SUPPORTED)


@dataclass(eq=False)
class Kept:
    """One open."""

    persistent_id: bytes
    node: Node
    name: str
    guid: bytes = b""
    lease: bytes = b""  # its key
    durable: bool = False
    persistent: bool = False
    connection: "KeepingServer | None" = None
    file_id: bytes = b""
    action: int = 0  # this and what follows: as its CREATE was answered
    level: int = 0
    answers: list[create.CreateContext] = field(default_factory=list)


@dataclass
class Machine:
    """What outlives the connections of the server."""

    dialect: int = 0x0311
    leases: bool = True
    grants: bool = True  # durable handles, to who asks for them
    lease_state: int = 7
    knows_replays: bool = False  # a CREATE that comes again is answered as before
    available: bool = False  # the share is continuously available
    resilient: int = UNSUPPORTED  # what FSCTL_LMR_REQUEST_RESILIENCY is answered
    nodes: dict[str, Node] = field(default_factory=lambda: {"": Node(None, attributes=0x10)})
    opens: list[Kept] = field(default_factory=list)
    connections: "list[KeepingServer]" = field(default_factory=list)
    asked: list[tuple[Command, int, bool, bytes]] = field(default_factory=list)  # with sequence, replay flag, element
    session: Smb2Session | None = None  # the client's last one
    client_guids: set[bytes] = field(default_factory=set)
    refusals: dict[Command, list[int]] = field(default_factory=dict)  # the next answers
    dial_s: float = 0.0  # how long a new connection takes
    began: int = 0  # what its clock said when trio's did say 0, as a FILETIME; 0: it tells no time
    before: Callable[[Command], None] | None = None  # is told of each request before it is executed

    @property
    def server(self) -> "KeepingServer":
        """The connection in force."""
        return self.connections[-1]

    async def cut(self) -> None:
        """End the connection in force."""
        await self.server.end()

    def creates(self) -> list[create.CreateRequest]:
        """Return the CREATEs so far."""
        return [create.CreateRequest.decode(element) for command, _, _, element in self.asked if command == 5]

    @contextlib.asynccontextmanager
    async def share(self) -> AsyncIterator[ReconnectingShare]:
        """Mount the share."""

        async def dial(nursery: trio.Nursery) -> Smb2Session:
            if self.connections:
                await trio.sleep(self.dial_s)
            stream = PairedStream()
            server = KeepingServer(stream.server, self)
            self.connections.append(server)
            nursery.start_soon(server.run)
            self.session = await Smb2Session.establish(
                stream,
                nursery,
                target=TARGET,
                login=SOMEBODY,
                security=Security(),
                network=Network(timeo_s=TIMEO_S),
                previous=self.session,
            )
            return self.session

        async with trio.open_nursery() as nursery:
            supervisor = Supervisor(dial, nursery, timeo_s=TIMEO_S)
            share = ReconnectingShare(supervisor, "share")
            await share.connect()
            yield share
            await share.aclose()
            await supervisor.aclose()
            nursery.cancel_scope.cancel()


class KeepingServer(Smb2Server):
    """One connection of the machine."""

    def __init__(self, stream: trio.abc.Stream, machine: Machine) -> None:
        super().__init__(stream)
        self.machine = machine
        self.dialect = machine.dialect
        self.nodes = machine.nodes
        self._replaying = False
        self.capabilities |= int(Capabilities.PERSISTENT_HANDLES if machine.available else 0)
        if machine.leases:
            self.capabilities |= int(Capabilities.LEASING)

    async def run(self) -> None:
        """Answer until the client has gone; what is durable is kept then."""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await super().run()
        for kept in tuple(self.machine.opens):
            if kept.connection is self:
                kept.connection = None
                if not kept.durable:
                    self.machine.opens.remove(kept)

    async def end(self) -> None:
        """End the connection."""
        await self._stream.aclose()
        await trio.testing.wait_all_tasks_blocked()

    def negotiation(self, contexts: list[NegotiateContext]) -> NegotiateResponse:
        said = super().negotiation(contexts)
        began = self.machine.began
        return replace(said, system_time=began + int(trio.current_time() * 10_000_000)) if began else said

    def _execute(self, header: Arrived, element: bytes) -> Answer:
        machine, command = self.machine, Command(header.command)
        machine.asked.append((command, header.status, bool(header.flags & HeaderFlags.REPLAY_OPERATION), element))
        self._replaying = bool(header.flags & HeaderFlags.REPLAY_OPERATION)
        if machine.before is not None:
            machine.before(command)
        if command is Command.NEGOTIATE:
            answer = super()._execute(header, element)
            assert self._offer is not None
            machine.client_guids.add(self._offer.client_guid)
            return answer
        if machine.refusals.get(command):
            if status := machine.refusals[command].pop(0):
                return status, ErrorResponse().encode()
        elif command is Command.TREE_CONNECT:
            capabilities = session.ShareCapabilities.CONTINUOUS_AVAILABILITY if machine.available else 0
            return 0, session.TreeConnectResponse(1, 0, capabilities, 0x1F01FF).encode()
        return super()._execute(header, element)

    def _create(self, element: bytes) -> Answer:
        request = create.CreateRequest.decode(element)
        contexts = {context.name: context.data for context in request.contexts}
        lease = decode_lease(contexts[LEASE]) if LEASE in contexts else None
        if durable.DURABLE_RECONNECT in contexts or durable.DURABLE_RECONNECT_V2 in contexts:
            return self._reconnect(request, contexts, lease)
        if self._replaying and self.machine.knows_replays and durable.DURABLE_REQUEST_V2 in contexts:
            guid = durable.DurableRequestV2.decode(contexts[durable.DURABLE_REQUEST_V2]).create_guid
            for kept in self.machine.opens:
                if kept.guid == guid:
                    kept.connection = self
                    return 0, self._answered(kept, kept.action, kept.level, kept.answers)
        if request.create_disposition == create.Disposition.CREATE and request.name in self.nodes:
            return NtStatus.OBJECT_NAME_COLLISION, ErrorResponse().encode()
        status, body = super()._create(element)
        if status:
            return status, body
        machine = self.machine
        created = create.CreateResponse.decode(bytes(64) + body)
        number = created.file_id[8:]
        kept = Kept(number, self.handles.pop(created.file_id).node, request.name, connection=self)
        answers = list(created.contexts)
        level = 0
        if lease is not None and machine.lease_state:
            level, kept.lease = 255, lease.lease_key
            answers.append(_granted(lease, machine.lease_state))
        elif machine.lease_state & 2:
            level = request.requested_oplock_level
        if machine.grants and durable.DURABLE_REQUEST in contexts:
            kept.durable = True
            answers.append(create.CreateContext(durable.DURABLE_REQUEST, bytes(8)))
        elif machine.grants and durable.DURABLE_REQUEST_V2 in contexts:
            asked = durable.DurableRequestV2.decode(contexts[durable.DURABLE_REQUEST_V2])
            kept.durable, kept.guid = True, asked.create_guid
            kept.persistent = machine.available and bool(asked.flags & 2)
            said = durable.DurableResponseV2(60_000, asked.flags if kept.persistent else 0)
            answers.append(create.CreateContext(durable.DURABLE_REQUEST_V2, said.encode()))
        machine.opens.append(kept)
        kept.action, kept.level, kept.answers = created.create_action, level, answers
        return 0, self._answered(kept, created.create_action, level, answers)

    def _reconnect(
        self, request: create.CreateRequest, contexts: dict[bytes, bytes], lease: LeaseV1 | LeaseV2 | None
    ) -> Answer:
        """[MS-SMB2] 3.3.5.9.7, 3.3.5.9.12, as strict as Samba."""
        guid, persistent = b"", False
        if (data := contexts.get(durable.DURABLE_RECONNECT_V2)) is not None:
            claim = durable.DurableReconnectV2.decode(data)
            file_id, guid, persistent = claim.file_id, claim.create_guid, bool(claim.flags & 2)
        else:
            file_id = durable.DurableReconnect.decode(contexts[durable.DURABLE_RECONNECT]).file_id
        for kept in self.machine.opens:
            if (
                kept.connection is None
                and (kept.persistent_id, kept.guid, kept.persistent) == (file_id[:8], guid, persistent)
                and kept.lease == (lease.lease_key if lease is not None else b"")
                and len(contexts) == 1 + (lease is not None)
                and request.name == kept.name
            ):
                kept.connection = self
                level = 255 if lease is not None else request.requested_oplock_level
                answers = [_granted(lease, self.machine.lease_state)] if lease is not None else []
                return 0, self._answered(kept, create.CreateAction.OPENED, level, answers)
        return NtStatus.OBJECT_NAME_NOT_FOUND, ErrorResponse().encode()

    def _answered(self, kept: Kept, action: int, level: int, contexts: list[create.CreateContext]) -> bytes:
        volatile = (len(self.machine.asked) << 8).to_bytes(8, "little")
        kept.file_id = kept.persistent_id + volatile
        self.handles[kept.file_id] = _Handle(kept.node)
        node = kept.node
        size = len(node.data or b"")
        times = (TIME,) * 4
        response = create.CreateResponse(
            level, 0, action, *times, 4096, size, node.attributes, kept.file_id, tuple(contexts)
        )
        return response.encode()

    def _close(self, element: bytes) -> Answer:
        file_id = create.CloseRequest.decode(element).file_id
        self.machine.opens[:] = [kept for kept in self.machine.opens if kept.file_id != file_id]
        return super()._close(element)

    def _ioctl(self, element: bytes) -> Answer:
        request = control.IoctlRequest.decode(element)
        if request.ctl_code != control.ControlCode.FSCTL_LMR_REQUEST_RESILIENCY:
            return super()._ioctl(element)
        assert control.NetworkResiliencyRequest.decode(request.input).timeout > 0
        if self.machine.resilient:
            return self.machine.resilient, ErrorResponse().encode()
        for kept in self.machine.opens:
            kept.durable |= kept.file_id == request.file_id
        return 0, control.IoctlResponse(request.ctl_code, request.file_id, b"", b"", 0).encode()


def _granted(lease: LeaseV1 | LeaseV2, state: int) -> create.CreateContext:
    granted = lease.lease_state & state
    if isinstance(lease, LeaseV2):
        return create.CreateContext(LEASE, LeaseV2(lease.lease_key, granted, 0, 0, bytes(16), 1).encode())
    return create.CreateContext(LEASE, LeaseV1(lease.lease_key, granted).encode())
