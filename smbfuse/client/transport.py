"""TCP to the server, on 445 or 139: how a connection is made.

Theory of operation. Every address of the host is tried on port 445, a new attempt each quarter second or as soon as one
has failed; port 139 joins a second later, because it is older and its protocol weaker. The first attempt that leads to
a usable session wins: a connection on 445, a confirmed NetBIOS session on 139. `port=` pins one port.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import math
import socket as stdlib_socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from smbfuse.client.stream import TcpStream
from smbfuse.config import Network, Target
from smbfuse.engine.liveness import Patience
from smbfuse.errors import ConnectFailed, DecodeError, Reason, SmbError
from smbfuse.wire import nbss

log = logging.getLogger(__name__)

DIRECT_PORT: Final = 445
NETBIOS_PORT: Final = 139
NAME_SERVICE_PORT: Final = 137
STAGGER_S: Final = 0.25  # between attempts, as RFC 8305 proposes
NETBIOS_HEAD_START_S: Final = 1.0  # how long 445 has the race for itself
NODE_STATUS_TIMEOUT_S: Final = 1.5
MOST_RETARGETS: Final = 2
_KEEPALIVE_PROBES: Final = 2
_LONGEST_KEEPALIVE_S: Final = 32767  # that the kernel takes

# Name resolution blocks a thread for as long as the resolver likes: it must not starve the other users of threads.
_resolver_threads = trio.CapacityLimiter(8)


@dataclass(slots=True)
class _Race:
    """What the attempts of one `connect` have come to."""

    winner: TcpStream | None = None
    failures: list[tuple[int, OSError | SmbError]] = field(default_factory=list)  # (port, why)
    another_failed: trio.Event = field(default_factory=trio.Event)

    def lose(self, port: int, error: OSError | SmbError) -> None:
        self.failures.append((port, error))
        self.another_failed.set()


async def connect(target: Target, network: Network, *, useless: Mapping[str, float] | None = None) -> TcpStream:
    """Return a connection to the server, with its NetBIOS session made where the port needs one.

    `useless`: addresses that took connections lately and were of no use, and when; the last one is tried last.
    Cost: 1 round trip on 445; 2 on 139, more if the server wants its own name called.
    Raises: ConnectFailed, whose message says what to do.
    """
    since = useless or {}
    addresses = sorted(await resolve(target), key=lambda one: since.get(str(one[1][0]), -math.inf))
    ports = (target.port,) if target.port is not None else (DIRECT_PORT, NETBIOS_PORT)
    race = _Race()
    async with trio.open_nursery() as nursery:
        for port in ports:
            for family, address in addresses:
                failed = trio.Event()
                nursery.start_soon(_attempt, race, family, address, port, target, network, failed, nursery.cancel_scope)
                with trio.move_on_after(STAGGER_S):
                    await failed.wait()
            if port != ports[-1]:
                await _all_failed(race, len(addresses), NETBIOS_HEAD_START_S)
    if race.winner is not None:
        return race.winner
    raise await _explain(target, network, race, addresses)


async def resolve(target: Target) -> Sequence[tuple[int, tuple[object, ...]]]:
    """Return the server's addresses as (family, socket address), in the resolver's order.

    Raises: ConnectFailed(NO_SUCH_HOST).
    """
    name = target.address or target.host
    literal = name.lower().removesuffix(".ipv6-literal.net")
    if literal != name.lower():
        name = literal.replace("-", ":").replace("s", "%")
    try:
        found = await trio.to_thread.run_sync(
            lambda: stdlib_socket.getaddrinfo(name, None, type=stdlib_socket.SOCK_STREAM),
            limiter=_resolver_threads,
            abandon_on_cancel=True,
        )
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConnectFailed(
            f"no such host: {name!r} ({reason}); check the name, or give the address with -o ip=ADDRESS",
            reason=Reason.NO_SUCH_HOST,
            errno=errno.EHOSTUNREACH,
        ) from None
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


async def _all_failed(race: _Race, attempts: int, patience_s: float) -> None:
    """Return when so many attempts have failed, or `patience_s` later. A winner cancels the wait."""
    with trio.move_on_after(patience_s):
        while len(race.failures) < attempts:
            race.another_failed = trio.Event()
            await race.another_failed.wait()


async def _attempt(
    race: _Race,
    family: int,
    address: tuple[object, ...],
    port: int,
    target: Target,
    network: Network,
    failed: trio.Event,
    scope: trio.CancelScope,
) -> None:
    try:
        with trio.fail_after(network.connect_timeout_s):
            wants_session = network.netbios_session if network.netbios_session is not None else port == NETBIOS_PORT
            if wants_session:
                stream = await _netbios_session(family, address, port, target, network)
            else:
                stream = await _dial(family, address, port, network, netbios=False)
    except trio.TooSlowError:
        race.lose(port, TimeoutError(errno.ETIMEDOUT, "no answer"))
        failed.set()
    except (OSError, SmbError) as error:
        race.lose(port, error)
        failed.set()
    else:
        if race.winner is None:
            race.winner = stream
            scope.cancel()
        else:
            stream.close()


async def _dial(family: int, address: tuple[object, ...], port: int, network: Network, *, netbios: bool) -> TcpStream:
    socket = trio.socket.socket(family, stdlib_socket.SOCK_STREAM)
    try:
        socket.setsockopt(stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_NODELAY, 1)
        _set_patience(socket, network)
        if network.source_address:
            await socket.bind((network.source_address, 0))
        where = (address[0], port, *address[2:])
        await socket.connect(where)
    except BaseException:
        socket.close()
        raise
    host = f"[{address[0]}]" if family == stdlib_socket.AF_INET6 else str(address[0])
    return TcpStream(socket, str(address[0]), f"{host}:{port}", netbios=netbios)


def _set_patience(socket: trio.socket.SocketType, network: Network) -> None:
    """Have the kernel give a dead host up when we would: it knows of what is sent and of what is idle, not of servers.

    Where `Connection` asks on the same schedule, its ECHO comes first. TCP_USER_TIMEOUT overrules the count of
    keepalive probes, so both say the same.
    """
    patience = Patience.within(network.timeo_s, network.echo_interval_s)
    dead_after_s = max(1, math.ceil(patience.dead_after_s))
    tcp = stdlib_socket.IPPROTO_TCP
    socket.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_KEEPALIVE, 1)
    idle_s = min(max(1, patience.idle_s), _LONGEST_KEEPALIVE_S)
    socket.setsockopt(tcp, stdlib_socket.TCP_KEEPIDLE, math.ceil(idle_s))
    socket.setsockopt(tcp, stdlib_socket.TCP_KEEPINTVL, math.ceil(dead_after_s / _KEEPALIVE_PROBES))
    socket.setsockopt(tcp, stdlib_socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)
    socket.setsockopt(tcp, stdlib_socket.TCP_USER_TIMEOUT, dead_after_s * 1000)


async def _netbios_session(
    family: int, address: tuple[object, ...], port: int, target: Target, network: Network
) -> TcpStream:
    """Dial and make a NetBIOS session, trying the names a server may answer to.  RFC 1002 4.3.

    Raises: ConnectFailed(NETBIOS_REFUSED) with the server's last refusal in words.
    """
    calling = (network.netbios_name or stdlib_socket.gethostname().split(".")[0])[:15].upper()
    tried: list[str] = []
    refusal = ""
    for find_names in _called_names(address, target, network):
        for called in await find_names():
            if called in tried:
                continue
            tried.append(called)
            where: tuple[int, tuple[object, ...], int] = (family, address, port)
            for _ in range(MOST_RETARGETS + 1):
                stream = await _dial(*where, network, netbios=True)
                answer, body = await _request_session(stream, called, calling)
                if answer == nbss.POSITIVE_RESPONSE:
                    log.debug("NetBIOS session made peer=%s called=%s", stream.peer, called)
                    return stream
                stream.close()
                if answer == nbss.NEGATIVE_RESPONSE:
                    refusal = nbss.refusal(body)[1]
                    break
                host, other_port = nbss.decode_retarget(body)
                log.info("server sends us elsewhere peer=%s to=%s:%d", stream.peer, host, other_port)
                refusal = "it sends us from place to place"
                where = (stdlib_socket.AF_INET, (host,), other_port)
    names = ", ".join(tried)
    raise ConnectFailed(
        f"{target.host} refused the NetBIOS session ({refusal}; called as {names}); "
        "give the server's own NetBIOS name with -o servern=NAME",
        reason=Reason.NETBIOS_REFUSED,
        errno=errno.ECONNREFUSED,
    )


async def _request_session(stream: TcpStream, called: str, calling: str) -> tuple[int, bytes]:
    """Send one session request; return the answer's type and body. The stream is closed on any failure."""
    try:
        await stream.send_all([nbss.encode_session_request(called, calling)])
        answer, body = await stream.receive_packet()
        if answer not in (nbss.POSITIVE_RESPONSE, nbss.NEGATIVE_RESPONSE, nbss.RETARGET_RESPONSE):
            raise DecodeError(f"session packet of type 0x{answer:02X} answers a session request")
    except BaseException:
        stream.close()
        raise
    return answer, body


def _called_names(
    address: tuple[object, ...], target: Target, network: Network
) -> Sequence[Callable[[], Awaitable[list[str]]]]:
    """Return the sources of called names, cheapest first; each is asked only if those before were refused."""

    async def given() -> list[str]:
        return [network.server_netbios_name[:15].upper()]

    async def wildcard() -> list[str]:
        return [nbss.ANY_SERVER]

    async def own_name() -> list[str]:
        return await _node_status(str(address[0]))

    async def host_name() -> list[str]:
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(target.host.partition("%")[0])
            return []
        return [target.host.split(".")[0][:15].upper()]

    return [given] if network.server_netbios_name else [wildcard, own_name, host_name]


async def _node_status(host: str) -> list[str]:
    """Ask the host's NetBIOS name service for the name of its file server.  RFC 1002 4.2.17. [] if it is silent."""
    with contextlib.suppress(OSError, DecodeError), trio.move_on_after(NODE_STATUS_TIMEOUT_S):
        family = stdlib_socket.AF_INET6 if ":" in host else stdlib_socket.AF_INET
        with trio.socket.socket(family, stdlib_socket.SOCK_DGRAM) as socket:
            await socket.connect((host, NAME_SERVICE_PORT))
            await socket.send(nbss.encode_node_status_query(transaction_id=1))
            name = nbss.NodeStatus.decode(await socket.recv(2048)).server_name
            return [name] if name else []
    return []


async def _explain(
    target: Target, network: Network, race: _Race, addresses: Sequence[tuple[int, tuple[object, ...]]]
) -> ConnectFailed:
    """Turn the failures of a race into the one error that helps most."""
    for _, error in race.failures:
        if isinstance(error, ConnectFailed):
            return error
    port, error = race.failures[0]
    where = f"{target.host} port {port}" if target.port is not None else f"{target.host} (ports 445 and 139)"
    number = error.errno if isinstance(error, OSError) else errno.EIO
    if target.port == DIRECT_PORT and await _listens(addresses, NETBIOS_PORT, network):
        return ConnectFailed(
            f"nothing listens on {target.host} port 445, but port 139 answers: leave out port=445, or give port=139",
            reason=Reason.NETBIOS_ONLY,
            errno=errno.ECONNREFUSED,
        )
    if number == errno.ECONNREFUSED:
        return ConnectFailed(
            f"connection refused by {where}: no SMB server runs there, or a firewall rejects it",
            reason=Reason.REFUSED,
            errno=errno.ECONNREFUSED,
        )
    if number == errno.ETIMEDOUT:
        return ConnectFailed(
            f"no answer from {where} within {network.connect_timeout_s:g} s: is the server switched on, "
            "and does a firewall let the port through?",
            reason=Reason.TIMED_OUT,
            errno=errno.EHOSTDOWN,
        )
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ConnectFailed(
        f"cannot reach {where}: {text}; check the network",
        reason=Reason.UNREACHABLE,
        errno=number or errno.EHOSTUNREACH,
    )


async def _listens(addresses: Sequence[tuple[int, tuple[object, ...]]], port: int, network: Network) -> bool:
    for family, address in addresses:
        with contextlib.suppress(OSError), trio.move_on_after(1):
            (await _dial(family, address, port, network, netbios=False)).close()
            return True
    return False
