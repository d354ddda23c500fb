"""The inside of a relay: it listens, carries bytes both ways, and has done to each piece what is to be done to it."""

import socket
from collections import Counter
from collections.abc import Sequence
from typing import Final

import trio

from tests.support.denial import denial, keeps_alive
from tests.support.harm import RESET, Fault, Flow, Harm
from tests.support.record import SESSION_MESSAGE, PacketStream, Pdu

CHUNK: Final = 256 * 1024
QUEUED_CHUNKS: Final = 256  # per direction: room for a fast link with a long delay


class Carrier:
    """Connections to `target` by one port of `host`, while the tasks of a relay run. Of one thread alone."""

    def __init__(
        self, target: tuple[str, int], host: str, port: int, round_trip_s: float, rate: float | None, keep: int
    ) -> None:
        self.target = target
        self.host = host
        self.port = port
        self.round_trip_s = round_trip_s
        self.keep = keep
        self.accepted = 0  # connections so far
        self._pdus: list[Pdu] = []
        self._flows: list[Flow] = []
        self._struck: Counter[Fault] = Counter()
        self._harm = {to_server: Harm(self._struck, rate=rate) for to_server in (True, False)}
        self._ignoring = self._led = self._moved = False
        self._began = 0.0
        self._listener: trio.socket.SocketType | None = None
        self._nursery: trio.Nursery | None = None

    def _now(self) -> float:
        return trio.current_time() - self._began

    async def _listen(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            await listener.bind((self.host, self.port))
            listener.listen(128)
            self.port = listener.getsockname()[1]
            self._listener = listener
            task_status.started()
            while self._listener is listener:
                try:
                    client, _ = await listener.accept()
                except (trio.ClosedResourceError, OSError):
                    if self._listener is listener:
                        raise
                    return  # `refuse` closed it
                assert self._nursery is not None
                self._nursery.start_soon(self._carry, client)

    async def _carry(self, client: trio.socket.SocketType) -> None:
        number = self.accepted
        self.accepted += 1
        self._struck["lead"] += self._led
        self._struck["move"] += self._moved
        server = trio.socket.socket()
        flow = Flow(number, client, server)
        self._flows.append(flow)
        try:
            with flow.scope:
                try:
                    await server.connect(self.target)
                    for one in (client, server):
                        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._forward, flow, True)
                        nursery.start_soon(self._forward, flow, False)
                except* OSError:
                    flow.manner = "rst"  # one side was reset or refused: so is the other
        finally:
            flow.close()
            self._flows.remove(flow)

    async def _forward(self, flow: Flow, to_server: bool) -> None:
        source = flow.client if to_server else flow.server
        stream = PacketStream(flow.number, to_server, self.keep)
        send, receive = trio.open_memory_channel[tuple[float, bytes]](QUEUED_CHUNKS)
        sorting = False  # packet by packet
        async with trio.open_nursery() as nursery, send:
            nursery.start_soon(self._deliver, flow, to_server, stream, receive)
            while True:
                chunk = await source.recv(CHUNK)
                if chunk and to_server and flow.resets:
                    self._struck["forget"] += len(chunk)
                    # Only the client hears of it: nobody tells the server.
                    flow.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    flow.client.close()
                    await trio.sleep_forever()
                if stream.between:
                    sorting = to_server and (self._ignoring or flow.denied is not None)
                pdus = stream.arrived(chunk, self._now())
                self._pdus.extend(pdus)
                if sorting and chunk:
                    chunk = await self._sorted(flow, pdus)
                    if not chunk:
                        continue
                await send.send((trio.current_time() + self.round_trip_s / 2, chunk))
                if not chunk:
                    return

    async def _sorted(self, flow: Flow, pdus: Sequence[Pdu]) -> bytes:
        """Return what of these packets the server is to get; the rest is answered here, or by nobody."""
        passing = []
        for pdu in pdus:
            if flow.denied is not None and pdu.kind == SESSION_MESSAGE:
                self._struck["deny"] += 1
                await flow.client.send(denial(pdu.data, flow.denied))
            elif self._ignoring and not keeps_alive(pdu.data):
                self._struck["ignore"] += 1
            else:
                passing.append(pdu.framed)
        return b"".join(passing)

    async def _deliver(
        self,
        flow: Flow,
        to_server: bool,
        stream: PacketStream,
        chunks: trio.MemoryReceiveChannel[tuple[float, bytes]],
    ) -> None:
        sink = flow.server if to_server else flow.client
        harm = self._harm[to_server]
        async for due_s, chunk in chunks:
            if due_s > trio.current_time():
                self._struck["delay"] += 1
                await trio.sleep_until(due_s)
            if not await harm.passed(len(chunk)):
                continue
            if to_server in flow.forgotten:
                self._struck["forget"] += len(chunk)
                continue
            if not chunk:
                sink.shutdown(socket.SHUT_WR)
                return
            for piece in harm.pieces(chunk):
                await harm.in_turn(len(piece))
                passing, cut = harm.within_cut(piece)
                await self._send(sink, stream, passing)
                if cut:
                    self._struck["cut"] += 1
                    flow.cut(harm.cut_manner)
                    await trio.sleep_forever()
                await harm.segment_sent(sink)

    async def _send(self, sink: trio.socket.SocketType, stream: PacketStream, piece: bytes) -> None:
        # Noted before it goes: the answer to it may be here before this task has its turn again.
        left_s = self._now()
        view = memoryview(piece)
        while view:
            view = view[await sink.send(view) :]
        stream.left(len(piece), left_s)
