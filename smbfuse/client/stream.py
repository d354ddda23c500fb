"""A connected TCP socket: received into place, and sent from several buffers at once."""

from __future__ import annotations

import errno
import fcntl
import socket as stdlib_socket
import struct
import termios
from collections.abc import Sequence
from typing import Final, Protocol

import trio

from smbfuse.errors import DecodeError
from smbfuse.wire import nbss
from smbfuse.wire.record import Buffer

MOST_BUFFERS: Final = 512  # in one sendmsg; the kernel takes 1,024
_QUEUED: Final = struct.Struct("i")  # what SIOCOUTQ answers, which has the number of TIOCOUTQ; tcp(7)


class ByteStream(Protocol):
    """What a connection needs of a transport."""

    peer: str

    async def receive_into(self, buffer: memoryview) -> int:
        """Fill the start of `buffer`, return the count; 0 is the end."""
        ...

    async def send_all(self, buffers: Sequence[Buffer]) -> None:
        """Send every byte of `buffers` in order. Cancelled: nobody knows how much was sent."""
        ...

    def send_now(self, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
        """Send what can leave without waiting, and return the rest, in order.  Raises: OSError."""
        ...

    def undelivered(self) -> int:
        """Return how many bytes of what `send_all` was given are not known to have reached the other host."""
        ...

    def close(self) -> None:
        """Close at once; whoever waits on the stream is woken with an error."""
        ...


class TcpStream:
    """A connected TCP socket. Implements `ByteStream`.

    The socket is the system's own: trio's would pass through the scheduler once more after each message that it sends.
    """

    def __init__(self, socket: trio.socket.SocketType, address: str, peer: str, *, netbios: bool) -> None:
        self._socket = stdlib_socket.socket(fileno=socket.detach())
        self._socket.setblocking(False)
        self.address = address
        self.peer = peer  # address and port
        self.netbios = netbios  # a NetBIOS session was made on it
        self._unsent = 0  # bytes of `send_all` that the kernel has not taken yet

    def __repr__(self) -> str:
        return f"<TcpStream {self.peer}>"

    async def receive_into(self, buffer: memoryview) -> int:
        """Fill the start of `buffer` and return the count; 0 is the end of the stream."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            try:
                count = self._socket.recv_into(buffer)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._socket)
            else:
                if count == len(buffer):  # there is more: others have their turn before it
                    await trio.lowlevel.cancel_shielded_checkpoint()
                return count

    async def receive_exactly(self, count: int) -> bytes:
        """Return `count` bytes; raises OSError (ECONNRESET) if the stream ends before."""
        buffer = memoryview(bytearray(count))
        have = 0
        while have < count:
            got = await self.receive_into(buffer[have:])
            if got == 0:
                raise ConnectionResetError(errno.ECONNRESET, "the server closed the connection")
            have += got
        return bytes(buffer)

    async def receive_packet(self) -> tuple[int, bytes]:
        """Return the next session packet as (type, body), keepalives skipped. For use before a `Connection` runs.

        Raises: OSError, DecodeError (of a type that no SMB server sends: its length is not waited for).
        """
        while True:
            kind, length = nbss.decode_header(await self.receive_exactly(nbss.HEADER_SIZE))
            if kind not in nbss.SERVER_PACKETS:
                raise DecodeError(f"{self.peer} sends no session packets, but something of type 0x{kind:02X}")
            body = await self.receive_exactly(length)
            if kind != nbss.KEEPALIVE:
                return kind, body

    async def send_all(self, buffers: Sequence[Buffer]) -> None:
        """Send every byte of `buffers`, in order, with as few system calls as the kernel allows."""
        waiting = self.send_now(buffers)
        while waiting:
            await trio.lowlevel.wait_writable(self._socket)
            waiting = self.send_now(waiting)

    def send_now(self, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
        """Send what the kernel takes at once, and return the rest, for `send_all`.  Raises: OSError."""
        self._unsent = sum(map(len, buffers))
        while self._unsent:
            try:
                sent = self._socket.sendmsg(buffers[:MOST_BUFFERS])
            except BlockingIOError:
                return buffers
            self._unsent -= sent
            if self._unsent:
                buffers = _behind(buffers, sent)
        return ()

    def undelivered(self) -> int:
        """Return how many bytes given to `send_all` the other host has not acknowledged."""
        queued = fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, bytes(_QUEUED.size))
        return self._unsent + int(_QUEUED.unpack(queued)[0])

    def close(self) -> None:
        """Close at once; whoever waits on the socket is woken with ClosedResourceError."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


def _behind(buffers: Sequence[Buffer], sent: int) -> list[Buffer]:
    """Return what is left of `buffers` behind the first `sent` bytes; nothing is copied."""
    at = 0
    while sent >= len(buffers[at]):
        sent -= len(buffers[at])
        at += 1
    return [memoryview(buffers[at])[sent:], *buffers[at + 1 :]]
