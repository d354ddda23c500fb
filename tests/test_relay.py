"""The relay itself: what it records must be what passed, what it breaks must be broken as said."""

import contextlib
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from tests.relay import Relay
from tests.support.record import PacketStream, Pdu, dependent_round_trips
from tests.support.samba import wait_for


def smb2(identity: int, size: int = 64) -> bytes:
    """Return a framed message with an SMB2 MessageId."""
    body = bytearray(size)
    body[:4] = b"\xfeSMB"
    struct.pack_into("<Q", body, 24, identity)
    return struct.pack(">I", size) + bytes(body)


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that returns every byte it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            while chunk := peer.recv(65536):
                peer.sendall(chunk)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def dial(relay: Relay) -> socket.socket:
    return socket.create_connection(("127.0.0.1", relay.port), timeout=10)


def ask(peer: socket.socket, message: bytes) -> bytes:
    peer.sendall(message)
    answer = b""
    while len(answer) < len(message):
        chunk = peer.recv(65536)
        if not chunk:
            break
        answer += chunk
    return answer


def test_bytes_pass_unchanged_and_are_recorded_both_ways(echo: tuple[str, int]) -> None:
    with Relay.started(echo) as relay, dial(relay) as peer:
        messages = [smb2(number, 64 + 1000 * number) for number in range(20)]
        assert [ask(peer, message) for message in messages] == messages
        out = [pdu for pdu in relay.pdus() if pdu.to_server]
        back = [pdu for pdu in relay.pdus() if not pdu.to_server]
        assert [pdu.data for pdu in out] == [message[4:] for message in messages] == [pdu.data for pdu in back]
        assert [pdu.identity for pdu in out] == list(range(20))
        assert relay.requests() == 20
        assert relay.requests(relay.mark()) == 0


def test_a_delay_costs_each_round_trip_once_and_shared_ones_together(echo: tuple[str, int]) -> None:
    with Relay.started(echo, round_trip_s=0.1) as relay, dial(relay) as peer:
        began = time.monotonic()
        ask(peer, smb2(0))
        ask(peer, smb2(1))
        assert 0.2 <= time.monotonic() - began < 10
        assert relay.round_trips() == 2
        mark = relay.mark()
        burst = [smb2(number) for number in range(2, 12)]
        peer.sendall(burst[0])
        time.sleep(0.02)  # not with the others, but before the answer
        assert ask(peer, b"".join(burst[1:])).startswith(burst[0])
        assert wait_for(lambda: relay.requests(mark) == 10, 5)
        assert relay.round_trips(mark) == 1


def test_throttling_holds_the_rate(echo: tuple[str, int]) -> None:
    with Relay.started(echo, rate=1_000_000) as relay, dial(relay) as peer:
        began = time.monotonic()
        ask(peer, smb2(0, 300_000))
        assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize("manner, ending", [("fin", b""), ("rst", ConnectionResetError)])
def test_a_cut_ends_both_sides_as_said(echo: tuple[str, int], manner: str, ending: object) -> None:
    with Relay.started(echo) as relay, dial(relay) as peer:
        ask(peer, smb2(0))
        relay.cut("fin" if manner == "fin" else "rst")
        if ending == b"":
            assert peer.recv(1) == b""
        else:
            with pytest.raises(ConnectionResetError):
                peer.recv(1)
        assert wait_for(lambda: relay.connections() == 0, 5)
        with dial(relay) as again:
            assert ask(again, smb2(1)) == smb2(1)


def test_a_cut_at_a_byte_lets_exactly_so_many_pass(echo: tuple[str, int]) -> None:
    with Relay.started(echo) as relay, dial(relay) as peer:
        relay.cut_after(100, manner="fin")
        peer.sendall(smb2(0, 5000))
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := peer.recv(65536):
                got += chunk
        assert got == smb2(0, 5000)[:100]


def test_held_bytes_come_later_and_swallowed_ones_never(echo: tuple[str, int]) -> None:
    with Relay.started(echo) as relay, dial(relay) as peer:
        peer.settimeout(0.2)
        relay.hold(to_server=False)
        peer.sendall(smb2(0))
        with pytest.raises(TimeoutError):
            peer.recv(1)
        assert relay.struck("hold") == 1
        relay.heal()
        assert ask(peer, b"") == b""
        peer.settimeout(10)
        assert len(peer.recv(65536)) == 68
        relay.swallow(to_server=False)
        peer.sendall(smb2(1))
        assert wait_for(lambda: len(relay.pdus()) == 4, 5)
        assert relay.pdus()[-1].left_s is None
        assert wait_for(lambda: relay.struck("swallow") == 68, 5)
        relay.heal()
        assert ask(peer, smb2(2)) == smb2(2)


def test_a_refusing_relay_refuses_and_comes_back_on_its_port(echo: tuple[str, int]) -> None:
    with Relay.started(echo) as relay, dial(relay) as peer:
        assert ask(peer, smb2(9)) == smb2(9)  # the relay has taken the connection
        relay.refuse()
        with pytest.raises(ConnectionRefusedError):
            dial(relay)
        assert ask(peer, smb2(0)) == smb2(0)
        port = relay.port
        relay.accept()
        assert relay.port == port
        with dial(relay) as again:
            assert ask(again, smb2(1)) == smb2(1)


@pytest.mark.parametrize("to_server", [True, False])
def test_a_cut_somewhere_is_at_the_byte_that_its_seed_chooses(echo: tuple[str, int], to_server: bool) -> None:
    places = set()
    for seed in ("1", "1", "2"):
        with Relay.started(echo) as relay, dial(relay) as peer:
            at = relay.cut_somewhere(4000, seed=seed, to_server=to_server, manner="fin")
            assert 1 <= at <= 4000
            places.add(at)
            assert relay.struck("cut") == 0
            got = b""
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                got = ask(peer, smb2(0, 5000))
            assert relay.struck("cut") == 1
            assert got == smb2(0, 5000)[: len(got)]
            assert to_server or len(got) == at
    assert len(places) == 2


@pytest.mark.parametrize("to_server", [True, False])
def test_one_byte_is_flipped_once(echo: tuple[str, int], to_server: bool) -> None:
    with Relay.started(echo) as relay, dial(relay) as peer:
        ask(peer, smb2(0))
        relay.flip(100, to_server=to_server)
        assert ask(peer, smb2(1)) == smb2(1)
        assert relay.struck("flip") == 0
        sent = smb2(2)
        got = ask(peer, sent)
        assert [at for at in range(len(sent)) if got[at] != sent[at]] == [100 - len(sent)]
        assert relay.struck("flip") == 1
        assert ask(peer, smb2(3)) == smb2(3)


def test_a_trickle_sends_each_byte_in_a_segment_of_its_own(echo: tuple[str, int]) -> None:
    with Relay.started(echo) as relay, dial(relay) as peer:
        ask(peer, smb2(0))
        before = data_segments(peer)
        relay.trickle()
        assert ask(peer, smb2(1, 500)) == smb2(1, 500)
        assert data_segments(peer) - before >= 504
        assert relay.struck("trickle") == 2 * 504
        relay.heal()
        before = data_segments(peer)
        assert ask(peer, smb2(2, 500)) == smb2(2, 500)
        assert data_segments(peer) - before < 504
        relay.trickle(100, to_server=False)
        assert ask(peer, smb2(3, 500)) == smb2(3, 500)
        assert relay.struck("trickle") == 2 * 504 + 100


def data_segments(peer: socket.socket) -> int:
    """Return how many segments with data have come."""
    return int(struct.unpack_from("I", peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160), 152)[0])


def test_delay_and_rate_are_set_while_it_runs(echo: tuple[str, int]) -> None:
    with Relay.started(echo) as relay, dial(relay) as peer:
        ask(peer, smb2(0))
        assert relay.struck("delay") == relay.struck("throttle") == 0
        relay.delay(0.2)
        began = time.monotonic()
        ask(peer, smb2(1))
        assert time.monotonic() - began >= 0.2
        assert relay.struck("delay") >= 2
        relay.delay(0)
        relay.throttle(1_000_000, to_server=False)
        began = time.monotonic()
        ask(peer, smb2(2, 300_000))
        assert time.monotonic() - began >= 0.3
        struck = relay.struck("throttle")
        assert struck >= 6
        relay.throttle(None)
        ask(peer, smb2(3, 300_000))
        assert relay.struck("throttle") == struck


def test_a_relay_refuses_for_a_while(echo: tuple[str, int]) -> None:
    with Relay.started(echo) as relay:
        with dial(relay) as peer:
            ask(peer, smb2(0))
            relay.refuse_for(0.5)
            relay.cut()
            assert wait_for(lambda: relay.connections() == 0, 5)
        with pytest.raises(ConnectionRefusedError):
            dial(relay)
        assert relay.struck("refuse") == 0
        assert wait_for(lambda: relay.struck("refuse") == 1, 10)
        assert wait_for(lambda: accepts(relay), 10)


def accepts(relay: Relay) -> bool:
    try:
        dial(relay).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_relay_leads_to_another_server(echo: tuple[str, int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        target = nobody.getsockname()
    with Relay.started(target) as relay:
        relay.lead(echo)
        with dial(relay) as peer:
            assert ask(peer, smb2(0)) == smb2(0)
        assert relay.struck("lead") == 1


def test_a_relay_moves_to_another_address_and_port(echo: tuple[str, int]) -> None:
    with Relay.started(echo) as relay, dial(relay) as peer:
        ask(peer, smb2(0))
        port = relay.port
        relay.move(host="127.0.0.2")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=10)
        with socket.create_connection(("127.0.0.2", port), timeout=10) as there:
            assert ask(there, smb2(1)) == smb2(1)
        assert relay.struck("move") == 1
        relay.move(host="127.0.0.1", port=0)
        with dial(relay) as there:
            assert ask(there, smb2(2)) == smb2(2)
        assert ask(peer, smb2(3)) == smb2(3)


def test_a_forgotten_flow_is_reset_at_the_next_word_not_before(echo: tuple[str, int]) -> None:
    with Relay.started(echo) as relay, dial(relay) as peer:
        ask(peer, smb2(0))
        relay.forget()
        peer.settimeout(0.2)
        with pytest.raises(TimeoutError):
            peer.recv(1)
        peer.settimeout(10)
        peer.sendall(smb2(1))
        with pytest.raises(ConnectionResetError):
            peer.recv(1)
        assert relay.struck("forget") > 0
        with dial(relay) as again:
            assert ask(again, smb2(2)) == smb2(2)


@pytest.mark.parametrize("to_server", [True, False])
def test_one_direction_of_a_flow_can_be_forgotten(echo: tuple[str, int], to_server: bool) -> None:
    with Relay.started(echo) as relay, dial(relay) as peer:
        ask(peer, smb2(0))
        relay.forget(answer=False, to_server=to_server, to_client=not to_server)
        peer.sendall(smb2(1))
        assert wait_for(lambda: relay.struck("forget") == 68, 5)
        assert len(relay.pdus()) == (3 if to_server else 4)
        with dial(relay) as again:
            assert ask(again, smb2(2)) == smb2(2)


def smb1(mid: int) -> bytes:
    """Return a framed SMB1 message."""
    body = bytearray(35)
    body[:5] = b"\xffSMB\x32"
    struct.pack_into("<H", body, 30, mid)
    return struct.pack(">I", len(body)) + bytes(body)


@pytest.mark.parametrize("message, at", [(smb2, 8), (smb1, 5)], ids=["SMB2", "SMB1"])
def test_a_denied_request_does_not_reach_the_server(
    echo: tuple[str, int], message: Callable[[int], bytes], at: int
) -> None:
    with Relay.started(echo) as relay, dial(relay) as peer:
        ask(peer, message(7))
        relay.deny(0xC0000203)
        peer.sendall(message(8))
        answer = peer.recv(65536)
        assert len(answer) == 4 + int.from_bytes(answer[:4], "big")
        assert struct.unpack_from("<I", answer, 4 + at)[0] == 0xC0000203
        assert relay.struck("deny") == 1
        assert [pdu.identity for pdu in relay.pdus()] == [7, 7, 8]
        with dial(relay) as again:
            assert ask(again, message(9)) == message(9)


@pytest.mark.parametrize("message, at, sign_of_life", [(smb2, 12, 13), (smb1, 4, 0x2B)], ids=["SMB2", "SMB1"])
def test_a_server_that_ignores_us_is_alive(
    echo: tuple[str, int], message: Callable[[int], bytes], at: int, sign_of_life: int
) -> None:
    alive = bytearray(message(2))
    alive[4 + at] = sign_of_life
    asked = bytearray(message(1))
    asked[4 + at] = 5  # CREATE, or CLOSE
    with Relay.started(echo) as relay, dial(relay) as peer:
        assert ask(peer, message(0)) == message(0)
        relay.ignore()
        for part in (asked[:10], asked[10:] + alive + asked):
            peer.sendall(part)
            time.sleep(0.05)
        assert ask(peer, b"") == b""
        assert peer.recv(65536) == alive
        assert wait_for(lambda: relay.struck("ignore") == 2, 5)
        relay.heal()
        assert ask(peer, bytes(asked)) == asked


def test_every_request_of_a_compound_is_denied(echo: tuple[str, int]) -> None:
    first, second = bytearray(smb2(1)[4:]), smb2(2)[4:]
    struct.pack_into("<I", first, 20, 64)
    with Relay.started(echo) as relay, dial(relay) as peer:
        ask(peer, smb2(0))
        relay.deny(0xC000035C)
        peer.sendall(struct.pack(">I", 128) + bytes(first) + second)
        answer = peer.recv(65536)[4:]
        (following,) = struct.unpack_from("<I", answer, 20)
        assert following % 8 == 0
        assert [struct.unpack_from("<Q", answer, start + 24)[0] for start in (0, following)] == [1, 2]
        assert [struct.unpack_from("<I", answer, start + 8)[0] for start in (0, following)] == [0xC000035C] * 2


def test_a_server_that_is_not_there_resets_the_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        target = nobody.getsockname()
    # The reset may come before the connection is ours to read from.
    with Relay.started(target) as relay, pytest.raises(ConnectionResetError), dial(relay) as peer:
        peer.recv(1)


async def test_it_runs_in_a_trio_nursery_too(echo: tuple[str, int]) -> None:
    async with trio.open_nursery() as nursery:
        relay = Relay(echo)
        await nursery.start(relay.serve)
        async with await trio.open_tcp_stream("127.0.0.1", relay.port) as stream:
            await stream.send_all(smb2(7))
            assert await stream.receive_some() == smb2(7)
            relay.cut()
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        nursery.cancel_scope.cancel()


def test_packets_are_told_however_the_bytes_are_cut() -> None:
    wire = smb2(1) + b"\x85\0\0\0" + smb2(2, 300)
    for step in (1, 3, 68, len(wire)):
        stream = PacketStream(0, True, keep=100)
        done = [pdu for at in range(0, len(wire), step) for pdu in stream.arrived(wire[at : at + step], 1.0)]
        assert [(pdu.kind, pdu.length, len(pdu.data)) for pdu in done] == [(0, 64, 64), (0x85, 0, 0), (0, 300, 100)]
        stream.left(68, 2.0)
        assert [pdu.left_s for pdu in done] == [2.0, None, None]


def test_round_trips_follow_the_longest_chain() -> None:
    def pdu(identity: int, to_server: bool, arrived: float, left: float) -> Pdu:
        return Pdu(0, to_server, 0, 64, smb2(identity)[4:], arrived, left)

    crossing = [
        pdu(1, True, 0, 1),
        pdu(1, False, 2, 3),
        pdu(2, True, 2.5, 3.5),
        pdu(2, False, 4, 5),
        pdu(3, True, 4, 5),
    ]
    # 2 was sent before 1's answer was delivered; 3 after that, but before 2's.
    assert dependent_round_trips(crossing) == 2


def test_the_command_line_records_to_a_file(echo: tuple[str, int], tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    command = [sys.executable, "-m", "tests.relay", f"127.0.0.1:{echo[1]}", "--record", str(record)]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().split(" ")[0].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
            ask(peer, smb2(5))
        report, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "1 connections, 1 requests, 1 dependent round trips" in report
    rows = [json.loads(line) for line in record.read_text().splitlines()]
    assert [(row["to_server"], bytes.fromhex(row["data"])) for row in rows] == [
        (True, smb2(5)[4:]),
        (False, smb2(5)[4:]),
    ]
