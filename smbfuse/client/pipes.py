"""Named pipes of a server, as far as it takes to ask which shares it has.

Both dialects open the pipe, send one RPC message and take one back in the same exchange; what does not fit comes by
reading on.  [MS-SRVS] 2.1, 3.1.4.8
"""

from __future__ import annotations

from typing import Final, Protocol

from smbfuse.errors import ProtocolError
from smbfuse.status import NtStatus
from smbfuse.wire import srvsvc

PIPES: Final = "IPC$"  # the share that has a server's pipes
MOST_FRAGMENTS: Final = 1000  # of one reply: 4 MB of share names
WHOLE_OR_PART: Final = frozenset({NtStatus.SUCCESS, NtStatus.BUFFER_OVERFLOW})


class Pipe(Protocol):
    """An open named pipe in message mode."""

    async def transceive(self, message: bytes) -> bytes:
        """Send a message and return the first part of the answer.  Cost: 1 round trip."""
        ...

    async def read(self) -> bytes:
        """Return the next part of the answer.  Cost: 1 round trip."""
        ...

    def close(self) -> None:
        """Give the pipe back; nobody waits for the answer."""
        ...


async def list_shares(pipe: Pipe, server: str) -> list[srvsvc.ShareInfo]:
    """Ask the Server Service behind `pipe` for all shares of `server`.

    Cost: 2 round trips, one more for every 4 KiB of names.
    Raises: ProtocolError (DecodeError among them), Denied, and what ends a connection.
    """
    srvsvc.check_bind_ack(await pipe.transceive(srvsvc.encode_bind()))
    received = await pipe.transceive(srvsvc.encode_share_enum(server))
    stub = b""
    for _ in range(MOST_FRAGMENTS):
        while (missing := srvsvc.missing(received)) > 0:
            part = await pipe.read()
            if not part:
                raise ProtocolError(f"the list of shares ends {missing} bytes early")
            received += part
        data, last = srvsvc.decode_fragment(received)
        stub += data
        if last:
            return srvsvc.decode_share_enum(stub)
        received = received[srvsvc.fragment_length(received) :] or await pipe.read()
    raise ProtocolError("the list of shares never ends")
