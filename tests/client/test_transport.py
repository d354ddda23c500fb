"""Reaching the server: ports, names, NetBIOS sessions, and what is said when it cannot be reached."""

import errno
import math
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest
import trio
import trio.testing

from smbfuse.client import transport
from smbfuse.config import Network, Target
from smbfuse.errors import ConnectFailed, Reason
from smbfuse.wire import nbss

NETWORK = Network(connect_timeout_s=2.0, netbios_name="tester")
REFUSED = bytes((nbss.NEGATIVE_RESPONSE, 0, 0, 1, nbss.CALLED_NAME_NOT_PRESENT))
CONFIRMED = bytes((nbss.POSITIVE_RESPONSE, 0, 0, 0))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class NetbiosServer:
    """Answers session requests by what `answer` makes of the called name; keeps who was called by whom."""

    def __init__(self, answer: Callable[[str], bytes]) -> None:
        self.answer = answer
        self.calls: list[tuple[str, str]] = []
        self.port = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            data = b""
            while len(data) < 72:
                more = await stream.receive_some(72 - len(data))
                if not more:
                    return
                data += more
            called, calling = nbss.decode_session_request(data[4:])
            self.calls.append((called, calling))
            await stream.send_all(self.answer(called))
            await stream.receive_some()


@asynccontextmanager
async def netbios_server(answer: Callable[[str], bytes]) -> AsyncIterator[NetbiosServer]:
    server = NetbiosServer(answer)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, server.serve, 0, host="127.0.0.1"))
        server.port = listeners[0].socket.getsockname()[1]
        yield server
        nursery.cancel_scope.cancel()


def target(port: int | None = None, host: str = "127.0.0.1", address: str | None = None) -> Target:
    return Target(host=host, share="share", port=port, address=address)


async def test_a_direct_connection_has_no_session_request_and_no_delay() -> None:
    async with netbios_server(lambda called: b"") as server:
        stream = await transport.connect(target(server.port), NETWORK)
        assert not stream.netbios
        assert stream._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        stream.close()
        assert server.calls == []


@pytest.mark.parametrize(
    "timeo_s, echo_interval_s, idle_s, dead_after_s",
    [(30.0, 15.0, 15, 10), (3.0, 0.5, 1, 1), (math.inf, math.inf, 32767, 10)],
)
async def test_the_kernel_is_as_patient_as_we_are(
    timeo_s: float, echo_interval_s: float, idle_s: int, dead_after_s: int
) -> None:
    network = replace(NETWORK, timeo_s=timeo_s, echo_interval_s=echo_interval_s)
    async with netbios_server(lambda called: b"") as server:
        stream = await transport.connect(target(server.port), network)
        assert stream._socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert stream._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == idle_s
        assert stream._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == dead_after_s * 1000
        stream.close()


async def test_what_the_other_host_has_not_acknowledged_is_undelivered() -> None:
    size = 64 << 20  # more than the buffers of both hosts take
    async with trio.open_nursery() as nursery:
        listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
        stream = await transport.connect(target(listener.socket.getsockname()[1]), NETWORK)
        server = await listener.accept()
        assert stream.undelivered() == 0
        left_over = stream.send_now([bytes(size // 2), bytes(size // 2)])
        assert 0 < sum(map(len, left_over)) < size
        nursery.start_soon(stream.send_all, left_over)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert size // 2 < stream.undelivered() < size
        left = size
        while left:
            left -= len(await server.receive_some(1 << 20))
        while stream.undelivered():  # noqa: ASYNC110 # the kernel tells nobody
            await trio.sleep(0.01)
        stream.close()
        await server.aclose()
        await listener.aclose()


async def test_a_session_is_requested_with_called_and_calling_name() -> None:
    async with netbios_server(lambda called: CONFIRMED) as server:
        stream = await transport.connect(target(server.port), replace(NETWORK, netbios_session=True))
        assert stream.netbios
        assert server.calls == [("*SMBSERVER", "TESTER")]
        stream.close()


async def test_the_hosts_own_name_is_called_when_the_wildcard_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_node_status(host: str) -> list[str]:
        return []

    monkeypatch.setattr(transport, "_node_status", no_node_status)
    async with netbios_server(lambda called: CONFIRMED if called == "OLDNAS" else REFUSED) as server:
        where = target(server.port, host="oldnas.example.org", address="127.0.0.1")
        stream = await transport.connect(where, replace(NETWORK, netbios_session=True))
        assert [called for called, _ in server.calls] == ["*SMBSERVER", "OLDNAS"]
        stream.close()


async def test_the_name_from_the_node_status_is_called_before_the_hosts_name(monkeypatch: pytest.MonkeyPatch) -> None:
    server_names = nbss.NodeStatus(
        1, (nbss.NodeName("WORKGROUP", 0x00, True), nbss.NodeName("TRUENAME", nbss.SUFFIX_SERVER, False)), bytes(6)
    )
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as name_service:
        await name_service.bind(("127.0.0.1", 0))
        monkeypatch.setattr(transport, "NAME_SERVICE_PORT", name_service.getsockname()[1])

        async def answer_node_status() -> None:
            query, client = await name_service.recvfrom(512)
            assert nbss.decode_node_status_query(query) == 1
            await name_service.sendto(server_names.encode(), client)

        async with netbios_server(lambda called: CONFIRMED if called == "TRUENAME" else REFUSED) as server:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer_node_status)
                stream = await transport.connect(target(server.port), replace(NETWORK, netbios_session=True))
            assert [called for called, _ in server.calls] == ["*SMBSERVER", "TRUENAME"]
            stream.close()


async def test_a_name_given_by_the_user_is_the_only_one_called() -> None:
    async with netbios_server(lambda called: REFUSED) as server:
        network = replace(NETWORK, netbios_session=True, server_netbios_name="mynas")
        with pytest.raises(ConnectFailed, match="does not have the called name") as caught:
            await transport.connect(target(server.port), network)
        assert caught.value.reason is Reason.NETBIOS_REFUSED
        assert server.calls == [("MYNAS", "TESTER")]


async def test_a_retarget_is_followed() -> None:
    async with netbios_server(lambda called: CONFIRMED) as other:
        there = bytes((127, 0, 0, 1)) + other.port.to_bytes(2, "big")
        retarget = bytes((nbss.RETARGET_RESPONSE, 0, 0, len(there))) + there
        async with netbios_server(lambda called: retarget) as server:
            stream = await transport.connect(target(server.port), replace(NETWORK, netbios_session=True))
            assert stream.peer == f"127.0.0.1:{other.port}"
            assert len(server.calls) == len(other.calls) == 1
            stream.close()


async def test_a_server_that_sends_us_in_circles_is_given_up() -> None:
    def circle(called: str) -> bytes:
        there = bytes((127, 0, 0, 1)) + server.port.to_bytes(2, "big")
        return bytes((nbss.RETARGET_RESPONSE, 0, 0, len(there))) + there

    async with netbios_server(circle) as server:
        network = replace(NETWORK, netbios_session=True, server_netbios_name="ROUND")
        with pytest.raises(ConnectFailed) as caught:
            await transport.connect(target(server.port), network)
        assert caught.value.reason is Reason.NETBIOS_REFUSED
        assert len(server.calls) == transport.MOST_RETARGETS + 1


async def test_139_is_tried_when_nothing_listens_on_445(monkeypatch: pytest.MonkeyPatch) -> None:
    async with netbios_server(lambda called: CONFIRMED) as server:
        monkeypatch.setattr(transport, "DIRECT_PORT", free_port())
        monkeypatch.setattr(transport, "NETBIOS_PORT", server.port)
        began = trio.current_time()
        stream = await transport.connect(target(), NETWORK)
        assert stream.netbios
        assert trio.current_time() - began < transport.NETBIOS_HEAD_START_S  # a refusal is not waited for
        stream.close()


async def test_445_wins_when_both_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with netbios_server(lambda called: b"") as direct, netbios_server(lambda called: CONFIRMED) as netbios:
        monkeypatch.setattr(transport, "DIRECT_PORT", direct.port)
        monkeypatch.setattr(transport, "NETBIOS_PORT", netbios.port)
        stream = await transport.connect(target(), NETWORK)
        assert stream.peer.endswith(f":{direct.port}")
        assert netbios.calls == []
        stream.close()


async def test_every_address_of_a_name_is_tried() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    # "localhost" is ::1 first on most machines, where nobody listens on this port.
    stream = await transport.connect(target(port, host="localhost"), NETWORK)
    assert stream.peer == f"127.0.0.1:{port}"
    stream.close()
    await listeners[0].aclose()


async def test_ipv6_addresses_are_dialled_and_shown_in_brackets() -> None:
    try:
        listeners = await trio.open_tcp_listeners(0, host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    port = listeners[0].socket.getsockname()[1]
    stream = await transport.connect(target(port, host="::1"), NETWORK)
    assert stream.peer == f"[::1]:{port}"
    stream.close()
    await listeners[0].aclose()


async def test_a_refused_connection_says_so() -> None:
    with pytest.raises(ConnectFailed, match="connection refused") as caught:
        await transport.connect(target(free_port()), NETWORK)
    assert caught.value.reason is Reason.REFUSED
    assert caught.value.errno == errno.ECONNREFUSED


async def test_an_unknown_host_says_so() -> None:
    with pytest.raises(ConnectFailed, match=r"no such host: 'no-such-host.invalid'") as caught:
        await transport.connect(target(host="no-such-host.invalid"), NETWORK)
    assert caught.value.reason is Reason.NO_SUCH_HOST


async def test_a_host_that_does_not_answer_is_given_up_in_time() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # The backlog of a socket that never accepts is full after one or two: later connections get no answer.
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        try:
            began = trio.current_time()
            with pytest.raises(ConnectFailed, match="no answer") as caught:
                await transport.connect(target(full.getsockname()[1]), replace(NETWORK, connect_timeout_s=0.5))
            assert caught.value.reason is Reason.TIMED_OUT
            assert trio.current_time() - began < 5
        finally:
            for filler in fillers:
                filler.close()


async def test_port_445_closed_and_139_open_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with netbios_server(lambda called: CONFIRMED) as server:
        closed = free_port()
        monkeypatch.setattr(transport, "DIRECT_PORT", closed)
        monkeypatch.setattr(transport, "NETBIOS_PORT", server.port)
        with pytest.raises(ConnectFailed, match="port 139 answers") as caught:
            await transport.connect(target(closed), NETWORK)
        assert caught.value.reason is Reason.NETBIOS_ONLY


async def test_send_all_sends_more_buffers_than_one_call_takes() -> None:
    received = bytearray()
    finished = trio.Event()

    async def collect(stream: trio.SocketStream) -> None:
        async for data in stream:
            received.extend(data)
        finished.set()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, collect, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        stream = await transport.connect(target(port), NETWORK)
        buffers = [bytes((index % 251,)) * (index % 7000) for index in range(2000)]
        await stream.send_all(buffers)
        stream.close()
        expected = b"".join(buffers)
        with trio.fail_after(10):
            await finished.wait()
        assert received == expected
        nursery.cancel_scope.cancel()
