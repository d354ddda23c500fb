"""Named pipes over SMB1: see `pipes`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from smbfuse import status
from smbfuse.client.pipes import WHOLE_OR_PART
from smbfuse.status import NtStatus
from smbfuse.wire import srvsvc
from smbfuse.wire.smb1 import files
from smbfuse.wire.smb1.header import Command
from smbfuse.wire.smb1.io import Read, decode_read
from smbfuse.wire.smb1.transaction import TransactionRequest

if TYPE_CHECKING:
    from smbfuse.client.smb1_tree import Smb1Tree

TRANSACT_NMPIPE: Final = 0x0026  # [MS-CIFS] 2.2.5.6


class Smb1Pipe:
    """A pipe over SMB1. Implements `Pipe`."""

    def __init__(self, tree: Smb1Tree, fid: int) -> None:
        self._tree = tree
        self._fid = fid

    @classmethod
    async def open(cls, tree: Smb1Tree, name: str) -> Smb1Pipe:
        """Open the pipe `name` in the tree IPC$.  Cost: 1 round trip.  Raises: NotFound, Denied, Unsupported."""
        access, share = files.NtAccess, files.NtShare
        request = files.NtCreateRequest(
            flags=0,
            root_directory_fid=0,
            desired_access=int(access.READ_DATA | access.WRITE_DATA | access.SYNCHRONIZE),
            allocation_size=0,
            ext_file_attributes=0,
            share_access=int(share.READ | share.WRITE),
            create_disposition=files.NtDisposition.OPEN,
            create_options=0,
            impersonation_level=files.IMPERSONATION,
            security_flags=0,
            file_name=f"\\{name}",
        )
        reply = await tree.perform_one(tree.submit(request))
        if reply.status != NtStatus.SUCCESS:
            raise status.error(reply.status, "NT_CREATE_ANDX", name)
        return cls(tree, files.decode_create_response(reply.block, tree.strings).fid)

    async def transceive(self, message: bytes) -> bytes:
        """Send a message by TRANS_TRANSACT_NMPIPE; see `Pipe.transceive`.  [MS-CIFS] 2.2.5.6."""
        request = TransactionRequest(
            command=Command.TRANSACTION,
            setup=(TRANSACT_NMPIPE, self._fid),
            parameters=b"",
            data=message,
            total_parameter_count=0,
            total_data_count=len(message),
            max_parameter_count=0,
            max_data_count=srvsvc.MAX_FRAGMENT,
            name="\\PIPE\\",
        )
        exchange = self._tree.engine.transact(request, tree=self._tree.tree)
        self._tree.connection.post()
        reply = await self._tree.perform_one(exchange)
        if reply.status not in WHOLE_OR_PART:
            raise status.error(reply.status, "TRANSACT_NMPIPE")
        return bytes(reply.data)

    async def read(self) -> bytes:
        """Read on; see `Pipe.read`."""
        reply = await self._tree.perform_one(self._tree.submit(Read(self._fid, 0, srvsvc.MAX_FRAGMENT)))
        if reply.status not in WHOLE_OR_PART:
            raise status.error(reply.status, "READ_ANDX")
        return bytes(decode_read(reply.block))

    def close(self) -> None:
        """Send a CLOSE; see `Pipe.close`."""
        self._tree.submit(files.CloseRequest(self._fid, 0))
