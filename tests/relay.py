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
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import trio

from tests.support.carrier import Carrier
from tests.support.harm import Fault, Harm, Manner, somewhere
from tests.support.record import Pdu, dependent_round_trips, requests

COMMAND_TIMEOUT_S: Final = 10.0
WHOLE: Final = 1 << 24  # keep: as long as a packet can be


class Relay(Carrier):
    """Forward one port of `host`, a loopback address, to `target`, under control.

    `round_trip_s` is added to each round trip, half of it each way; requests under way together share it.
    `rate` is bytes a second each way, None for no limit. `keep` is how many bytes of each packet are recorded.
    """

    def __init__(
        self,
        target: tuple[str, int],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        round_trip_s: float = 0.0,
        rate: float | None = None,
        keep: int = WHOLE,
    ) -> None:
        super().__init__(target, host, port, round_trip_s, rate, keep)
        self._token: trio.lowlevel.TrioToken | None = None

    # -- running it

    @classmethod
    @contextlib.contextmanager
    def started(
        cls,
        target: tuple[str, int],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        round_trip_s: float = 0.0,
        rate: float | None = None,
        keep: int = WHOLE,
    ) -> Iterator["Relay"]:
        """Run a relay in a thread of its own; on exit its connections are cut."""
        relay = cls(target, host=host, port=port, round_trip_s=round_trip_s, rate=rate, keep=keep)
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

    def struck(self, fault: Fault) -> int:
        """Return how often a fault has struck so far.

        Counted are connections for `cut`, `lead` and `move`, messages for `deny` and `ignore`, pieces for `hold`,
        `delay` and `throttle`, bytes for the others. A `refuse` has struck if the port opened again to somebody who was
        without a connection: who is refused is heard of by the kernel alone.
        """
        return self._struck[fault]

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

    def cut_somewhere(self, within: int, *, seed: str, to_server: bool = False, manner: Manner = "rst") -> int:
        """Cut as `cut_after` does, at a byte from 1 to `within` that the seed chooses; return which."""
        count = somewhere(within, seed)
        self.cut_after(count, to_server=to_server, manner=manner)
        return count

    def flip(self, count: int, *, to_server: bool = False) -> None:
        """Change one bit of the byte behind the next `count` in one direction, once. The record keeps what came."""
        self._set_harm(to_server, not to_server, lambda harm: setattr(harm, "flip_at", count))

    def trickle(self, count: float = math.inf, *, to_server: bool = True, to_client: bool = True) -> None:
        """Send each of the next `count` bytes of a direction in a segment of its own; some 10,000 a second."""
        self._set_harm(to_server, to_client, lambda harm: setattr(harm, "trickle", count))

    def delay(self, round_trip_s: float) -> None:
        """Add `round_trip_s` to each round trip that begins from now on; 0 for none."""
        self._command(lambda: setattr(self, "round_trip_s", round_trip_s))

    def throttle(self, rate: float | None, *, to_server: bool = True, to_client: bool = True) -> None:
        """Let `rate` bytes a second pass from now on; None for no limit."""
        self._set_harm(to_server, to_client, lambda harm: setattr(harm, "rate", rate))

    def swallow(self, *, to_server: bool = True, to_client: bool = True) -> None:
        """Let bytes vanish while the connections stand; what is lost stays lost after `heal`."""
        self._set_harm(to_server, to_client, lambda harm: setattr(harm, "swallow", True))

    def hold(self, *, to_server: bool = True, to_client: bool = True) -> None:
        """Keep bytes back while the connections stand; `heal` lets them go on, in order."""

        def close(harm: Harm) -> None:
            if harm.gate is None:
                harm.gate = trio.Event()

        self._set_harm(to_server, to_client, close)

    def ignore(self) -> None:
        """Let nothing through to the server but logins and ECHOs, as if its disk did not answer any more.

        For messages in the clear and without signatures, which count what has passed.
        """
        self._command(lambda: setattr(self, "_ignoring", True))

    def heal(self) -> None:
        """End `swallow`, `hold`, `trickle`, `ignore`, and a `cut_after` or `flip` that has not struck."""
        self._command(lambda: setattr(self, "_ignoring", False))
        self._set_harm(True, True, Harm.heal)

    def refuse(self) -> None:
        """Close the port: whoever dials is refused. Connections that stand are left alone."""

        def close() -> None:
            if self._listener is not None:
                self._listener.close()
                self._listener = None

        self._command(close)

    def accept(self) -> None:
        """Open the port again, the same one unless the relay has moved."""
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
                self._struck["refuse"] += not self._flows
                self._nursery.start_soon(listen, self._nursery)

        self._command(start)
        if self._token is None or not _inside(self._token):
            listening.result(COMMAND_TIMEOUT_S)

    def refuse_for(self, seconds: float) -> None:
        """Close the port, and open it again after a while."""
        self.refuse()

        async def open_again() -> None:
            await trio.sleep(seconds)
            self.accept()

        def start() -> None:
            if self._nursery is not None:
                self._nursery.start_soon(open_again)

        self._command(start)

    def lead(self, target: tuple[str, int]) -> None:
        """Lead connections to another server from now on. Those that stand are left alone."""

        def change() -> None:
            self.target, self._led = target, True

        self._command(change)

    def move(self, *, host: str | None = None, port: int | None = None) -> None:
        """Listen at another address or port from now on; at the old one dials are refused."""
        self.refuse()

        def change() -> None:
            self.host, self.port, self._moved = host or self.host, self.port if port is None else port, True

        self._command(change)
        self.accept()

    def forget(self, *, answer: bool = True, to_server: bool = True, to_client: bool = True) -> None:
        """Forget every connection, as a router does after a long silence: neither side is told.

        What the client sends later is answered with RST; without `answer` by nothing, for ever, and one direction alone
        may be forgotten. New connections work.
        """
        forgotten = frozenset(way for way, wanted in ((True, to_server), (False, to_client)) if wanted)

        def forget_all() -> None:
            for flow in self._flows:
                flow.forgotten, flow.resets = forgotten, answer

        self._command(forget_all)

    def deny(self, status: int) -> None:
        """Answer every request on the connections that stand with `status`, instead of the server. New ones work.

        For messages in the clear; see `tests.support.denial`. One that is on its way still reaches the server.
        """

        def deny_all() -> None:
            for flow in self._flows:
                flow.denied = status

        self._command(deny_all)

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

    def _set_harm(self, to_server: bool, to_client: bool, change: Callable[[Harm], None]) -> None:
        def change_all() -> None:
            for direction, wanted in ((True, to_server), (False, to_client)):
                if wanted:
                    change(self._harm[direction])

        self._command(change_all)

    def _cut_all(self, manner: Manner) -> None:
        for flow in self._flows:
            self._struck["cut"] += 1
            flow.cut(manner)


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
