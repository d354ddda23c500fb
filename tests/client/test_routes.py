"""News of the network: what counts as a change, and that the kernel's own is heard."""

import errno
import shutil
import socket
import struct
import subprocess
import sys

import pytest
import trio

from smbfuse.client import routes


def message(kind: int, payload: bytes = bytes(8)) -> bytes:
    body = struct.pack("=IHHII", 16 + len(payload), kind, 0, 0, 0) + payload
    return body + bytes(-len(body) % 4)


def route(kind: int, flags: int = 0) -> bytes:
    return message(kind, bytes(8) + flags.to_bytes(4, sys.byteorder))


@pytest.mark.parametrize(
    "datagram, change",
    [
        (message(routes.RTM_NEWADDR), True),
        (message(routes.RTM_DELADDR), True),
        (route(routes.RTM_NEWROUTE), True),
        (route(routes.RTM_DELROUTE), True),
        (route(routes.RTM_NEWROUTE, routes.RTM_F_CLONED), False),
        (message(16), False),  # RTM_NEWLINK
        (message(16, bytes(5)) + message(routes.RTM_DELADDR), True),
        (b"", False),
        (message(routes.RTM_NEWADDR)[:15], False),
        (bytes(64), False),
    ],
)
def test_a_change_is_an_address_or_a_route_that_comes_or_goes(datagram: bytes, change: bool) -> None:
    assert routes.is_change(datagram) is change


async def test_without_such_a_socket_nothing_is_heard_and_nothing_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_args: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", forbidden)
    with trio.fail_after(5):
        await routes.watch(lambda: pytest.fail("heard of something"))


PROGRAM = """
import subprocess, trio
from smbfuse.client import routes

async def main():
    heard = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(routes.watch, heard.set)
        await trio.testing.wait_all_tasks_blocked()
        await trio.run_process(["ip", "address", "add", "127.7.7.7/8", "dev", "lo"])
        with trio.fail_after(10):
            await heard.wait()
        nursery.cancel_scope.cancel()

import trio.testing
trio.run(main)
"""


@pytest.mark.root
@pytest.mark.skipif(shutil.which("ip") is None, reason="not installed: ip (apt install iproute2)")
def test_the_kernel_tells_of_an_address_that_has_come() -> None:
    """In a network of its own, so that nobody else's is changed."""
    subprocess.run(["unshare", "--net", sys.executable, "-c", PROGRAM], check=True, timeout=30)
