"""Named pipes over SMB2 and 3: see `pipes`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smbfuse import status
from smbfuse.client import smb2_requests
from smbfuse.client.pipes import WHOLE_OR_PART
from smbfuse.engine.smb2_exchange import Request
from smbfuse.wire import srvsvc
from smbfuse.wire.smb2.control import ControlCode, IoctlResponse
from smbfuse.wire.smb2.create import Access, CreateOptions, CreateResponse
from smbfuse.wire.smb2.header import Command
from smbfuse.wire.smb2.io import decode_read, encode_read

if TYPE_CHECKING:
    from smbfuse.client.smb2_tree import Smb2Tree


class Smb2Pipe:
    """A pipe over SMB2. Implements `Pipe`."""

    def __init__(self, tree: Smb2Tree, file_id: bytes) -> None:
        self._tree = tree
        self._file_id = file_id

    @classmethod
    async def open(cls, tree: Smb2Tree, name: str) -> Smb2Pipe:
        """Open the pipe `name` in the tree IPC$.  Cost: 1 round trip.  Raises: NotFound, Denied."""
        access = Access.FILE_READ_DATA | Access.FILE_WRITE_DATA | Access.SYNCHRONIZE
        reply = await tree.ask(smb2_requests.create(name, access, CreateOptions(0)), name)
        return cls(tree, CreateResponse.decode(reply.element).file_id)

    async def transceive(self, message: bytes) -> bytes:
        """Send a message by FSCTL_PIPE_TRANSCEIVE; see `Pipe.transceive`.  [MS-FSCC] 2.3.51."""
        request = smb2_requests.file_control(
            ControlCode.FSCTL_PIPE_TRANSCEIVE, message, size=srvsvc.MAX_FRAGMENT, file_id=self._file_id
        )
        reply = await self._tree.wait(self._tree.queue(request))
        if reply.status not in WHOLE_OR_PART:
            raise status.error(reply.status, "FSCTL_PIPE_TRANSCEIVE")
        return IoctlResponse.decode(reply.element).output

    async def read(self) -> bytes:
        """Read on; see `Pipe.read`."""
        body = encode_read(self._file_id, 0, srvsvc.MAX_FRAGMENT)
        reply = await self._tree.wait(self._tree.queue(Request(Command.READ, body, payload=srvsvc.MAX_FRAGMENT)))
        if reply.status not in WHOLE_OR_PART:
            raise status.error(reply.status, "READ")
        return bytes(decode_read(reply.element))

    def close(self) -> None:
        """Send a CLOSE; see `Pipe.close`."""
        self._tree.submit(smb2_requests.close(self._file_id))
