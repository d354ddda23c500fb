"""News of this machine's network: an address or a route has come or gone.  rtnetlink(7).

Every user may listen. Where that is forbidden all the same (a sandbox without AF_NETLINK), nothing is heard, and the
deadlines of each connection find out later what could have been told at once.
"""

from __future__ import annotations

import errno
import logging
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Final

import trio

log = logging.getLogger(__name__)

GROUPS: Final = 0x10 | 0x40 | 0x100 | 0x400  # RTMGRP_IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE
RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_NEWROUTE: Final = 24
RTM_DELROUTE: Final = 25
RTM_F_CLONED: Final = 0x200  # a route that the kernel has only looked up
SETTLE_S: Final = 0.5  # one change comes as several messages

_NLMSGHDR: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_RTMSG: Final = struct.Struct("=8BI")  # family, lengths, tos, table, protocol, scope, type; flags
_DATAGRAM_SIZE: Final = 64 * 1024
_ALIGNMENT: Final = 4


async def watch(changed: Callable[[], None]) -> None:
    """Call `changed` soon after each change of an address or a route, until cancelled; return if none can be heard of.

    Changes that come together are told once.
    """
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as listener:
            listener.setblocking(False)
            listener.bind((0, GROUPS))
            while True:
                await trio.lowlevel.wait_readable(listener)
                if _drain(listener):
                    await trio.sleep(SETTLE_S)
                    _drain(listener)
                    log.debug("the network has changed")
                    changed()
    except OSError as error:
        log.info("changes of the network are not heard of: %s", error)


def is_change(datagram: bytes) -> bool:
    """Tell whether a datagram of the kernel has news of an address or a route."""
    return any(
        kind in (RTM_NEWADDR, RTM_DELADDR) or (kind in (RTM_NEWROUTE, RTM_DELROUTE) and not _is_cloned(payload))
        for kind, payload in _messages(datagram)
    )


def _messages(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _NLMSGHDR.size <= len(datagram):
        length, kind, _flags, _sequence, _port = _NLMSGHDR.unpack_from(datagram, at)
        if length < _NLMSGHDR.size:
            return
        yield kind, datagram[at + _NLMSGHDR.size : at + length]
        at += length + -length % _ALIGNMENT


def _is_cloned(payload: bytes) -> bool:
    return len(payload) >= _RTMSG.size and bool(_RTMSG.unpack_from(payload)[-1] & RTM_F_CLONED)


def _drain(listener: socket.socket) -> bool:
    """Take what has come; return whether it is news."""
    news = False
    while True:
        try:
            datagram, (port, _groups) = listener.recvfrom(_DATAGRAM_SIZE)
        except BlockingIOError:
            return news
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            news = True  # there was more than the kernel kept for us
            continue
        # Port 0 is the kernel: whoever else may send to us is not believed.
        news = news or (port == 0 and is_change(datagram))
