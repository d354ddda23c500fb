"""The one relay of the tests: it stands between a client and a server, records what passes, and does harm when asked.

In a test, in a thread of its own:

    with Relay.started(("127.0.0.1", server.port), round_trip_s=0.02) as relay:
        mount … -o port={relay.port}
        mark = relay.mark()
        relay.cut()
        relay.round_trips(mark)

In a trio test: `await nursery.start(relay.serve)`. From a shell: `python -m tests.relay --help`.

Every command below works from any thread. Directions are told by `to_server` and `to_client`.
"""

import argparse
import concurrent.futures
import contextlib
import json
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import trio

from tests.support.record import PacketStream, Pdu, dependent_round_trips, requests

CHUNK: Final = 256 * 1024
QUEUED_CHUNKS: Final = 256  # per direction: room for a fast link with a long delay
COMMAND_TIMEOUT_S: Final = 10.0
WHOLE: Final = 1 << 24  # keep: as long as a packet can be
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER of no time: close() sends RST

Manner = Literal["fin", "rst"]


@dataclass(slots=True)
class _Harm:
    """What is being done to one direction of all connections."""

    swallow: bool = False
    gate: trio.Event | None = None  # bytes wait here while it is not set
    cut_after: int | None = None  # bytes that may still pass
    cut_manner: Manner = "fin"
    next_free_s: float = 0.0  # a throttled direction is busy until then


@dataclass(slots=True, eq=False)
class _Flow:
    """One client's connection and its twin to the server."""

    number: int
    client: trio.socket.SocketType
    server: trio.socket.SocketType
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    forgotten: Literal["", "answer", "silence"] = ""
    manner: Manner = "fin"

    def cut(self, manner: Manner) -> None:
        """End both connections soon."""
        self.manner = manner
        self.scope.cancel()

    def close(self) -> None:
        """Close both sockets, as the manner of the cut has it."""
        for one in (self.client, self.server):
            if self.manner == "rst":
                with contextlib.suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            one.close()


class Relay:
    """Forward one loopback port, of the address `host`, to `target`, under control.

    `round_trip_s` is added to each round trip, half of it each way; requests under way together share it.
    `rate` is bytes a second each way, None for no limit. `keep` is how many bytes of each packet are recorded.
    """

    def __init__(
        self,
        target: tuple[str, int],
        *,
        port: int = 0,
        round_trip_s: float = 0.0,
        rate: float | None = None,
        keep: int = WHOLE,
        host: str = "127.0.0.1",
    ) -> None:
        self.target = target
        self.host = host
        self.port = port
        self.round_trip_s = round_trip_s
        self.rate = rate
        self.keep = keep
        self.accepted = 0  # connections so far
        self._pdus: list[Pdu] = []
        self._flows: list[_Flow] = []
        self._harm = {True: _Harm(), False: _Harm()}  # by to_server
        self._began = 0.0
        self._listener: trio.socket.SocketType | None = None
        self._nursery: trio.Nursery | None = None
        self._token: trio.lowlevel.TrioToken | None = None

    # -- running it

    @classmethod
    @contextlib.contextmanager
    def started(
        cls,
        target: tuple[str, int],
        *,
        port: int = 0,
        round_trip_s: float = 0.0,
        rate: float | None = None,
        keep: int = WHOLE,
        host: str = "127.0.0.1",
    ) -> Iterator["Relay"]:
        """Run a relay in a thread of its own; on exit its connections are cut."""
        relay = cls(target, port=port, round_trip_s=round_trip_s, rate=rate, keep=keep, host=host)
        ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        scope = trio.CancelScope()

        async def main() -> None:
            try:
                with scope:
                    async with trio.open_nursery() as nursery:
                        await nursery.start(relay.serve)
                        ready.set_result(None)
            except BaseException as error:
                if ready.done():
                    raise
                ready.set_exception(error)

        thread = threading.Thread(target=trio.run, args=(main,), name="relay", daemon=True)
        thread.start()
        ready.result(COMMAND_TIMEOUT_S)
        try:
            yield relay
        finally:
            relay._command(scope.cancel)
            thread.join(COMMAND_TIMEOUT_S)

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and forward until cancelled; `port` is known once this has started."""
        self._token = trio.lowlevel.current_trio_token()
        self._began = trio.current_time()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self._listen)
            task_status.started()
            await trio.sleep_forever()

    # -- evidence

    def mark(self) -> int:
        """Return the place in the record where what happens from now on begins."""
        return len(self._pdus)

    def pdus(self, mark: int = 0) -> Sequence[Pdu]:
        """Return the packets recorded since `mark`, in the order in which they came to the relay."""
        return self._pdus[mark:]

    def requests(self, mark: int = 0) -> int:
        """Count the messages to the server since `mark`; a compound is one."""
        return requests(self.pdus(mark))

    def round_trips(self, mark: int = 0) -> int:
        """Count the dependent round trips since `mark`; exact if the relay delays, else an upper bound."""
        return dependent_round_trips(self.pdus(mark))

    def connections(self) -> int:
        """Count the connections that stand now."""
        return len(self._flows)

    # -- harm

    def cut(self, manner: Manner = "rst") -> None:
        """End every connection now, both sides alike: with RST, or with FIN."""
        self._command(lambda: self._cut_all(manner))

    def cut_after(self, count: int, *, to_server: bool = False, manner: Manner = "rst") -> None:
        """End the connection over which `count` more bytes have passed in one direction: the packet there is cut."""

        def arm() -> None:
            harm = self._harm[to_server]
            harm.cut_after, harm.cut_manner = count, manner

        self._command(arm)

    def swallow(self, *, to_server: bool = True, to_client: bool = True) -> None:
        """Let bytes vanish while the connections stand; what is lost stays lost after `heal`."""
        self._set_harm(to_server, to_client, lambda harm: setattr(harm, "swallow", True))

    def hold(self, *, to_server: bool = True, to_client: bool = True) -> None:
        """Keep bytes back while the connections stand; `heal` lets them go on, in order."""

        def close(harm: _Harm) -> None:
            if harm.gate is None:
                harm.gate = trio.Event()

        self._set_harm(to_server, to_client, close)

    def heal(self) -> None:
        """End `swallow`, `hold` and a `cut_after` that has not struck, in both directions."""

        def open_gate(harm: _Harm) -> None:
            if harm.gate is not None:
                harm.gate.set()
            harm.gate, harm.swallow, harm.cut_after = None, False, None

        self._set_harm(True, True, open_gate)

    def refuse(self) -> None:
        """Close the port: whoever dials is refused. Connections that stand are left alone."""

        def close() -> None:
            if self._listener is not None:
                self._listener.close()
                self._listener = None

        self._command(close)

    def accept(self) -> None:
        """Open the port again, the same one."""
        listening: concurrent.futures.Future[None] = concurrent.futures.Future()

        async def listen(nursery: trio.Nursery) -> None:
            try:
                await nursery.start(self._listen)
            except OSError as error:
                listening.set_exception(error)
            else:
                listening.set_result(None)

        def start() -> None:
            if self._nursery is None or self._listener is not None:
                listening.set_result(None)
            else:
                self._nursery.start_soon(listen, self._nursery)

        self._command(start)
        if self._token is None or not _inside(self._token):
            listening.result(COMMAND_TIMEOUT_S)

    def forget(self, *, answer: bool = True) -> None:
        """Forget every connection, as a router does after a long silence: neither side is told.

        What the client sends later is answered with RST; without `answer` by nothing, for ever. New connections work.
        """

        def forget_all() -> None:
            for flow in self._flows:
                flow.forgotten = "answer" if answer else "silence"

        self._command(forget_all)

    # -- the inside

    def _command(self, action: Callable[[], None]) -> None:
        if self._token is None:
            action()  # before it runs, a relay is just data
            return
        if _inside(self._token):
            action()
            return
        done: concurrent.futures.Future[None] = concurrent.futures.Future()

        def run() -> None:
            try:
                action()
            except Exception as error:
                done.set_exception(error)
            else:
                done.set_result(None)

        self._token.run_sync_soon(run)
        done.result(COMMAND_TIMEOUT_S)

    def _set_harm(self, to_server: bool, to_client: bool, change: Callable[[_Harm], None]) -> None:
        def change_all() -> None:
            for direction, wanted in ((True, to_server), (False, to_client)):
                if wanted:
                    change(self._harm[direction])

        self._command(change_all)

    def _cut_all(self, manner: Manner) -> None:
        for flow in self._flows:
            flow.cut(manner)

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
        server = trio.socket.socket()
        flow = _Flow(number, client, server)
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

    async def _forward(self, flow: _Flow, to_server: bool) -> None:
        source = flow.client if to_server else flow.server
        stream = PacketStream(flow.number, to_server, self.keep)
        send, receive = trio.open_memory_channel[tuple[float, bytes]](QUEUED_CHUNKS)
        async with trio.open_nursery() as nursery, send:
            nursery.start_soon(self._deliver, flow, to_server, stream, receive)
            while True:
                chunk = await source.recv(CHUNK)
                if chunk and to_server and flow.forgotten == "answer":
                    # Only the client hears of it: nobody tells the server.
                    flow.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    flow.client.close()
                    await trio.sleep_forever()
                self._pdus.extend(stream.arrived(chunk, self._now()))
                await send.send((trio.current_time() + self.round_trip_s / 2, chunk))
                if not chunk:
                    return

    async def _deliver(
        self,
        flow: _Flow,
        to_server: bool,
        stream: PacketStream,
        chunks: trio.MemoryReceiveChannel[tuple[float, bytes]],
    ) -> None:
        sink = flow.server if to_server else flow.client
        harm = self._harm[to_server]
        async for due_s, chunk in chunks:
            await trio.sleep_until(due_s)
            while harm.gate is not None:
                await harm.gate.wait()
            if harm.swallow or flow.forgotten:
                continue
            if not chunk:
                sink.shutdown(socket.SHUT_WR)
                return
            for piece in self._pieces(chunk):
                if self.rate is not None:
                    harm.next_free_s = max(harm.next_free_s, trio.current_time()) + len(piece) / self.rate
                    await trio.sleep_until(harm.next_free_s)
                if harm.cut_after is not None and len(piece) >= harm.cut_after:
                    await self._send(sink, stream, piece[: harm.cut_after])
                    harm.cut_after = None
                    flow.cut(harm.cut_manner)
                    await trio.sleep_forever()
                await self._send(sink, stream, piece)
                if harm.cut_after is not None:
                    harm.cut_after -= len(piece)

    def _pieces(self, chunk: bytes) -> Iterator[bytes]:
        # A throttled chunk goes in pieces of a twentieth of a second: a slow link is slow, it does not stutter.
        step = len(chunk) if self.rate is None else max(1, int(self.rate / 20))
        for start in range(0, len(chunk), step):
            yield chunk[start : start + step]

    async def _send(self, sink: trio.socket.SocketType, stream: PacketStream, piece: bytes) -> None:
        # Noted before it goes: the answer to it may be here before this task has its turn again.
        left_s = self._now()
        view = memoryview(piece)
        while view:
            view = view[await sink.send(view) :]
        stream.left(len(piece), left_s)


def _inside(token: trio.lowlevel.TrioToken) -> bool:
    return trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is token


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a relay from the command line until SIGINT, SIGTERM or the end of standard input; report what passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.relay", description=__doc__.splitlines()[0])
    parser.add_argument("target", help="HOST:PORT of the server; an address, not a name")
    parser.add_argument("--port", type=int, default=0, help="listen here on 127.0.0.1 (default: a free port)")
    parser.add_argument("--round-trip", type=float, default=0, metavar="MS", help="added to each round trip")
    parser.add_argument("--rate", type=float, metavar="BYTES", help="bytes a second, each way")
    parser.add_argument(
        "--cut-after", type=int, metavar="BYTES", help="reset the connection behind so many from the server"
    )
    parser.add_argument("--record", metavar="FILE", help="write each packet to FILE as one JSON object a line")
    options = parser.parse_args(arguments)
    host, _, port = options.target.rpartition(":")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = {"port": options.port, "round_trip_s": options.round_trip / 1000, "rate": options.rate}
    with Relay.started((host, int(port)), **settings) as relay:
        if options.cut_after is not None:
            relay.cut_after(options.cut_after)
        print(f"127.0.0.1:{relay.port} -> {options.target}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            sys.stdin.read()
    if options.record:
        with open(options.record, "w", encoding="utf-8") as file:
            for pdu in relay.pdus():
                row = {name: getattr(pdu, name) for name in Pdu.__slots__}
                file.write(json.dumps({**row, "data": pdu.data.hex()}) + "\n")
    print(f"{relay.accepted} connections, {relay.requests()} requests, {relay.round_trips()} dependent round trips")
    return 0


if __name__ == "__main__":
    sys.exit(main())
