"""The connection: every exchange ends, in whatever pieces bytes arrive and however the other side behaves."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from smbfuse.client import departures
from smbfuse.client.connection import SCRATCH_SIZE, Connection
from smbfuse.client.waiter import OTHERS_PATIENCE_S
from smbfuse.errors import ConnectionLost, Timeout
from smbfuse.wire import nbss
from smbfuse.wire.record import Buffer
from tests.client.echo_engine import EchoEngine

TIMEO_S = 30.0
ECHO_INTERVAL_S = 15.0
Deliver = Callable[[trio.abc.Stream, bytes], Awaitable[None]]


class PairedStream:
    """One end of an in-memory byte stream, as a connection wants it; the test holds the other end."""

    peer = "memory"

    def __init__(self) -> None:
        self.end, self.server = trio.testing.memory_stream_pair()
        self.queued: Callable[[float], int] = lambda _now: 0  # bytes that have not arrived, by the time

    async def receive_into(self, buffer: memoryview) -> int:
        data = await self.end.receive_some(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    async def send_all(self, buffers: Sequence[Buffer]) -> None:
        await self.end.send_all(b"".join(buffers))

    def send_now(self, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
        return buffers

    def undelivered(self) -> int:
        return self.queued(trio.current_time())

    def close(self) -> None:
        self.end.receive_stream.close()


class Slept:
    """How long the machine has slept, as a test says."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@asynccontextmanager
async def connected(
    *, stream: PairedStream | None = None, slept: Slept | None = None
) -> AsyncIterator[tuple[Connection, EchoEngine, trio.abc.Stream]]:
    stream = stream or PairedStream()
    engine = EchoEngine()
    connection = Connection(stream, engine, timeo_s=TIMEO_S, echo_interval_s=ECHO_INTERVAL_S, slept_s=slept or Slept())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        yield connection, engine, stream.server
        nursery.cancel_scope.cancel()


async def request_of(server: trio.abc.Stream) -> tuple[int, bytes]:
    header = await exactly(server, 4)
    body = await exactly(server, nbss.decode_header(header)[1])
    return int.from_bytes(body[:4], "big"), body[4:]


async def exactly(server: trio.abc.Stream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += await server.receive_some(count - len(data))
    return data


def answer(sequence: int, text: bytes) -> bytes:
    body = sequence.to_bytes(4, "big") + text
    return nbss.frame(len(body)) + body


async def whole(server: trio.abc.Stream, data: bytes) -> None:
    await server.send_all(data)


async def byte_by_byte(server: trio.abc.Stream, data: bytes) -> None:
    for index in range(len(data)):
        await server.send_all(data[index : index + 1])
        await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize("deliver", [whole, byte_by_byte])
async def test_replies_reach_their_exchange_however_the_bytes_are_cut(deliver: Deliver) -> None:
    async with connected() as (connection, engine, server):
        first, second = engine.submit(b"one"), engine.submit(b"two")

        async def serve() -> None:
            numbers = [(await request_of(server))[0] for _ in range(2)]
            keepalive = bytes((nbss.KEEPALIVE, 0, 0, 0))
            await deliver(server, answer(numbers[1], b"TWO") + keepalive + answer(numbers[0], b"ONE"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            assert await connection.perform(second) == [b"TWO"]
            assert await connection.perform(first) == [b"ONE"]


async def test_a_reply_larger_than_the_scratch_buffer_arrives_whole() -> None:
    text = bytes(range(256)) * (3 * SCRATCH_SIZE // 256)
    async with connected() as (connection, engine, server):

        async def serve() -> None:
            number, _ = await request_of(server)
            await server.send_all(answer(number, text) + answer(number + 1, b"next"))

        exchange, following = engine.submit(b"large"), engine.submit(b"next")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            assert (await connection.perform(exchange))[0] == text
            assert await connection.perform(following) == [b"next"]


async def test_the_end_of_the_stream_ends_every_exchange_and_tells_if_it_was_sent() -> None:
    async with connected() as (connection, engine, server):
        exchange = engine.submit(b"lost")

        async def serve() -> None:
            await request_of(server)
            await server.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            with pytest.raises(ConnectionLost) as caught:
                await connection.perform(exchange)
        assert caught.value.sent
        with pytest.raises(ConnectionLost) as caught:
            await connection.perform(engine.submit(b"too late"))
        assert not caught.value.sent


@pytest.mark.parametrize(
    "nonsense",
    [
        answer(99, b"an answer to nothing"),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        bytes((nbss.POSITIVE_RESPONSE, 0, 0, 0)),
        bytes((nbss.KEEPALIVE, 0, 0xFF, 0xFF)) + bytes(16),
    ],
)
async def test_nonsense_from_the_server_ends_the_connection(nonsense: bytes) -> None:
    async with connected() as (connection, engine, server):
        exchange = engine.submit(b"hello")

        async def serve() -> None:
            await request_of(server)
            await server.send_all(nonsense)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            with pytest.raises(ConnectionLost):
                await connection.perform(exchange)
        assert connection.ended.is_set()


async def test_the_end_is_told_once_and_before_anybody_who_waits_runs_again(autojump_clock: MockClock) -> None:
    async with connected() as (connection, engine, server):
        heard: list[str] = []
        connection.on_ended = lambda: heard.append("end")

        async def ask() -> None:
            with pytest.raises(ConnectionLost):
                await connection.perform(engine.submit(b"never answered"))
            heard.append("caller")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await request_of(server)
            connection.abort(ConnectionLost("cut", sent=True))
            assert heard == ["end"]
        connection.abort(ConnectionLost("cut again", sent=True))
        assert heard == ["end", "caller"]


async def test_a_silent_server_is_probed_and_then_given_up(autojump_clock: MockClock) -> None:
    async with connected() as (connection, engine, _server):
        began = trio.current_time()
        with pytest.raises(ConnectionLost, match="no sign of life"):
            await connection.perform(engine.submit(b"anybody there?"))
        assert engine.pings == 1
        assert trio.current_time() - began == pytest.approx(10, abs=0.1)


async def test_a_server_that_answers_pings_but_not_the_request_is_a_timeout(autojump_clock: MockClock) -> None:
    async with connected() as (connection, engine, server):

        async def serve() -> None:
            while True:
                number, text = await request_of(server)
                if text == b"ping":
                    await server.send_all(answer(number, b"pong"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            exchange = engine.submit(b"never answered")
            began = trio.current_time()
            with pytest.raises(Timeout):
                await connection.perform(exchange)
            assert trio.current_time() - began == pytest.approx(TIMEO_S, abs=0.1)
            assert engine.cancelled == [exchange.sequence]
            assert connection.lost_because is None
            nursery.cancel_scope.cancel()


async def test_what_leaves_late_is_no_reason_to_wait_longer_for_what_left_before(autojump_clock: MockClock) -> None:
    stream = PairedStream()
    stream.queued = lambda now: 8 if now >= TIMEO_S else 0  # a sign of life asked for just now, say
    async with connected(stream=stream) as (connection, engine, server):

        async def serve() -> None:
            while True:
                number, text = await request_of(server)
                if text == b"ping":
                    await server.send_all(answer(number, b"pong"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            with pytest.raises(Timeout):
                await connection.perform(engine.submit(b"never answered"))
            assert trio.current_time() == pytest.approx(TIMEO_S, abs=0.1)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("several", [False, True])
async def test_what_never_had_its_turn_is_a_timeout_and_no_loss(autojump_clock: MockClock, several: bool) -> None:
    async with connected() as (connection, engine, server):
        engine.window = 0

        async def serve() -> None:
            while True:
                number, text = await request_of(server)
                assert text == b"ping"
                await server.send_all(answer(number, b"pong"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            exchange = engine.submit(b"never sent")
            if several:
                told: list[object] = []
                await connection.perform_each([exchange], lambda _index: told.append(exchange.error))
                assert told == [exchange.error]
                assert isinstance(exchange.error, Timeout)
            else:
                with pytest.raises(Timeout):
                    await connection.perform(exchange)
            assert trio.current_time() == pytest.approx(TIMEO_S, abs=0.1)
            assert engine.cancelled == [exchange.sequence]
            assert connection.lost_because is None
            nursery.cancel_scope.cancel()


async def test_who_is_told_that_the_server_is_at_work_waits_for_other_clients(autojump_clock: MockClock) -> None:
    async with connected() as (connection, engine, server):

        async def serve() -> None:
            while True:
                number, text = await request_of(server)
                if text == b"ping":
                    await server.send_all(answer(number, b"pong"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            exchange = engine.submit(b"held up")
            exchange.in_hand = True
            began = trio.current_time()
            with pytest.raises(Timeout):
                await connection.perform(exchange)
            assert trio.current_time() - began == pytest.approx(OTHERS_PATIENCE_S, abs=0.1)
            nursery.cancel_scope.cancel()


async def test_a_reply_that_trickles_is_not_taken_for_a_dead_server(autojump_clock: MockClock) -> None:
    async with connected() as (connection, engine, server):

        async def serve() -> None:
            number, _ = await request_of(server)
            data = answer(number, bytes(100))
            for index in range(len(data)):
                await trio.sleep(2)
                await server.send_all(data[index : index + 1])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            assert await connection.perform(engine.submit(b"slow")) == [bytes(100)]
        assert trio.current_time() > 3 * TIMEO_S


async def test_who_waits_behind_a_slow_reply_waits_with_it(autojump_clock: MockClock) -> None:
    async with connected() as (connection, engine, server):

        async def serve() -> None:
            first, second = (await request_of(server))[0], (await request_of(server))[0]
            data = answer(first, bytes(100))
            for index in range(len(data)):
                await trio.sleep(1)
                await server.send_all(data[index : index + 1])
            await server.send_all(answer(second, b"at last"))

        slow, behind = engine.submit(b"slow"), engine.submit(b"behind")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            assert await connection.perform(behind) == [b"at last"]
        assert slow.done


async def test_what_is_sent_later_and_slowly_keeps_nobody_waiting_longer(autojump_clock: MockClock) -> None:
    stream = PairedStream()
    async with connected(stream=stream) as (connection, engine, server):

        async def answer_pings() -> None:
            while True:
                number, text = await request_of(server)
                if text == b"ping":
                    await server.send_all(answer(number, text))

        async def send_much() -> None:
            await trio.sleep(TIMEO_S / 10)
            connection.bytes_sent += 100_000
            stream.queued = lambda now: 100_000 - round(now - began)  # on a link that takes days

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_pings)
            nursery.start_soon(send_much)
            with pytest.raises(Timeout):
                await connection.perform(engine.submit(b"left at once"))
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began < 1.5 * TIMEO_S


async def test_a_cancelled_caller_abandons_its_exchange_and_cuts_nothing() -> None:
    async with connected() as (connection, engine, server):
        exchange = engine.submit(b"given up")
        with trio.move_on_after(0.05):
            await connection.perform(exchange)
        assert exchange.abandoned
        assert engine.cancelled == [exchange.sequence]
        following = engine.submit(b"next")

        async def serve() -> None:
            for _ in range(2):
                number, text = await request_of(server)
                await server.send_all(answer(number, text.upper()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            assert await connection.perform(following) == [b"NEXT"]


class RoomyStream(PairedStream):
    """A stream that takes some bytes at once, as the kernel does; the rest waits for its turn."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.taken: list[tuple[str, bytes]] = []

    def send_now(self, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
        data = b"".join(buffers)
        self.taken.append(("at once", data[: self.room]))
        return [data[self.room :]] if data[self.room :] else []

    async def send_all(self, buffers: Sequence[Buffer]) -> None:
        await trio.lowlevel.checkpoint()
        self.taken.append(("by the writer", b"".join(buffers)))


async def test_who_is_alone_is_sent_at_once_and_who_comes_meanwhile_in_his_turn() -> None:
    stream = RoomyStream(1000)
    async with connected(stream=stream) as (connection, engine, _), trio.open_nursery() as nursery:
        await trio.testing.wait_all_tasks_blocked()  # nobody has anything to send
        for text in (b"first", b"second"):
            nursery.start_soon(connection.perform, engine.submit(text))
            engine.window = 1
            await trio.testing.wait_all_tasks_blocked()
        assert [(how, data[8:]) for how, data in stream.taken] == [("at once", b"first"), ("by the writer", b"second")]
        nursery.cancel_scope.cancel()


async def test_what_cannot_be_sent_at_once_is_sent_before_anything_else() -> None:
    stream = RoomyStream(6)
    async with connected(stream=stream) as (connection, engine, _):
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            for text in (b"first", b"second"):
                engine.window = 1
                nursery.start_soon(connection.perform, engine.submit(text))
                await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert [how for how, _ in stream.taken] == ["at once", "by the writer", "by the writer"]
        sent = b"".join(data for _, data in stream.taken)
        assert sent == b"".join(
            nbss.frame(4 + len(text)) + number.to_bytes(4, "big") + text
            for number, text in ((1, b"first"), (2, b"second"))
        )


async def test_what_has_left_of_a_call_is_known_whatever_is_lost_afterwards() -> None:
    async with connected() as (connection, engine, server):
        engine.window = 1
        with departures.noted() as departed:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.perform, engine.submit(b"first"))
                number, _ = await request_of(server)
                before = departed.any  # until it is known what became of it
                await server.send_all(answer(number, b"done"))
            assert (before, departed.any) == (False, True)
            engine.window = 0
            with departures.noted() as departed_later:
                behind = engine.submit(b"never leaves")
                connection.abort(ConnectionLost("cut", sent=True))
                with pytest.raises(ConnectionLost) as raised:
                    await connection.perform(behind)
                assert (raised.value.sent, departed_later.any) == (False, False)


async def test_several_exchanges_are_told_as_they_end_in_whatever_order() -> None:
    async with connected() as (connection, engine, server):
        exchanges = [engine.submit(text) for text in (b"slow", b"quick", b"last")]
        told: list[int] = []

        async def serve() -> None:
            numbers = [(await request_of(server))[0] for _ in exchanges]
            for index in (1, 2, 0):
                await server.send_all(answer(numbers[index], b"%d" % index))
                await trio.testing.wait_all_tasks_blocked()
                assert told[-1] == index

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await connection.perform_each(exchanges, told.append)
            assert told == [1, 2, 0]
        assert [exchange.replies for exchange in exchanges] == [[b"0"], [b"1"], [b"2"]]


async def test_what_is_left_of_several_when_nothing_comes_any_more_is_late(autojump_clock: MockClock) -> None:
    async with connected() as (connection, engine, server):
        first, *rest = exchanges = [engine.submit(text) for text in (b"answered", b"never", b"neither")]

        async def serve() -> None:
            await trio.sleep(5)
            while True:
                number, text = await request_of(server)
                if text in (b"answered", b"ping"):
                    await server.send_all(answer(number, b"here"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            told: list[int] = []
            await connection.perform_each(exchanges, told.append)
            assert told == [0, 1, 2]
            assert trio.current_time() == pytest.approx(5 + TIMEO_S, abs=0.1)
            assert first.error is None
            assert all(isinstance(one.error, Timeout) for one in rest)
            assert engine.cancelled == [one.sequence for one in rest]
            nursery.cancel_scope.cancel()


async def test_who_gives_up_several_hears_no_more_of_them() -> None:
    async with connected() as (connection, engine, server):
        exchanges = [engine.submit(text) for text in (b"one", b"other")]
        told: list[int] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.perform_each, exchanges, told.append)
            numbers = [(await request_of(server))[0] for _ in exchanges]
            nursery.cancel_scope.cancel()
        assert engine.cancelled == numbers
        await server.send_all(answer(numbers[0], b"too late"))
        await trio.testing.wait_all_tasks_blocked()
        assert told == []


async def test_a_lost_connection_ends_each_of_several() -> None:
    async with connected() as (connection, engine, server):
        exchanges = [engine.submit(text) for text in (b"one", b"other")]
        told: list[int] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.perform_each, exchanges, told.append)
            await request_of(server)
            await server.aclose()
        assert sorted(told) == [0, 1]
        assert all(isinstance(exchange.error, ConnectionLost) for exchange in exchanges)


async def pong(server: trio.abc.Stream) -> None:
    """Answer what is asked for a sign of life, and nothing else."""
    while True:
        number, text = await request_of(server)
        if text == b"ping":
            await server.send_all(answer(number, b"pong"))


async def test_an_idle_connection_is_asked_each_interval_though_nobody_waits(autojump_clock: MockClock) -> None:
    async with connected() as (connection, engine, server), trio.open_nursery() as nursery:
        nursery.start_soon(pong, server)
        await trio.sleep(4 * ECHO_INTERVAL_S + 1)
        assert engine.pings == 4
        assert connection.lost_because is None
        nursery.cancel_scope.cancel()


async def test_a_dead_peer_is_known_on_an_idle_connection_after_one_missed_echo(autojump_clock: MockClock) -> None:
    async with connected() as (connection, engine, _server):
        with trio.fail_after(ECHO_INTERVAL_S + 10.5):
            await connection.ended.wait()
        assert engine.pings == 1
        assert "no sign of life" in str(connection.lost_because)


async def test_a_dead_peer_is_known_in_time_however_often_its_callers_give_up(autojump_clock: MockClock) -> None:
    async with connected() as (connection, engine, _server):
        while connection.lost_because is None:
            with trio.move_on_after(3):
                try:
                    await connection.perform(engine.submit(b"given up soon"))
                except ConnectionLost:
                    break
        assert trio.current_time() == pytest.approx(10, abs=0.1)


async def test_a_standing_request_is_no_question_and_has_no_deadline(autojump_clock: MockClock) -> None:
    async with connected() as (connection, engine, server), trio.open_nursery() as nursery:
        nursery.start_soon(pong, server)
        exchange = engine.submit(b"tell me when something changes")
        exchange.standing = True
        nursery.start_soon(connection.perform, exchange)
        await trio.sleep(3 * TIMEO_S + 1)
        assert engine.pings == 3 * TIMEO_S // ECHO_INTERVAL_S
        await server.send_all(answer(exchange.sequence, b"something changed"))
        await trio.testing.wait_all_tasks_blocked()
        assert exchange.replies == [b"something changed"]
        nursery.cancel_scope.cancel()


async def test_a_connection_that_is_doubted_is_asked_at_once(autojump_clock: MockClock) -> None:
    async with connected() as (connection, engine, _server):
        await trio.sleep(3)
        connection.doubt()
        await trio.testing.wait_all_tasks_blocked()
        assert engine.pings == 1
        await connection.ended.wait()
        assert trio.current_time() == pytest.approx(13, abs=0.1)


async def test_who_asks_first_after_this_machine_has_slept_has_the_connection_asked(autojump_clock: MockClock) -> None:
    slept = Slept()
    async with connected(slept=slept) as (connection, engine, server), trio.open_nursery() as nursery:
        nursery.start_soon(pong, server)
        await trio.sleep(1)
        slept.seconds = 3600.0
        with trio.move_on_after(1):
            await connection.perform(engine.submit(b"good morning"))
        assert engine.pings == 1
        with trio.move_on_after(1):
            await connection.perform(engine.submit(b"nothing new"))
        assert engine.pings == 1
        nursery.cancel_scope.cancel()


async def test_what_takes_long_to_leave_is_neither_late_nor_a_sign_of_death(autojump_clock: MockClock) -> None:
    """40 s of a slow link, over which nothing comes back."""
    stream = PairedStream()
    size, slow_s = 4_000_000, 40.0
    stream.queued = lambda now: max(0, round(size * (1 - now / slow_s)))
    async with connected(stream=stream) as (connection, engine, server), trio.open_nursery() as nursery:

        async def serve() -> None:
            number, _ = await request_of(server)
            await trio.sleep_until(slow_s + 1)
            await server.send_all(answer(number, b"written"))

        nursery.start_soon(serve)
        with trio.fail_after(2 * slow_s):
            assert await connection.perform(engine.submit(bytes(size))) == [b"written"]
