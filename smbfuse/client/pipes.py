"""Named pipes of a server, as far as it takes to ask which shares it has.

Both dialects open the pipe, send one RPC message and take one back in the same exchange; what does not fit comes by
reading on.  [MS-SRVS] 2.1, 3.1.4.8
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from smbfuse import status
from smbfuse.client import smb2_requests
from smbfuse.engine.smb2_exchange import Request
from smbfuse.errors import ProtocolError
from smbfuse.status import NtStatus
from smbfuse.wire import srvsvc
from smbfuse.wire.smb1 import files as smb1_files
from smbfuse.wire.smb1.header import Command as Smb1Command
from smbfuse.wire.smb1.io import Read, decode_read
from smbfuse.wire.smb1.transaction import TransactionRequest
from smbfuse.wire.smb2.control import ControlCode, IoctlResponse
from smbfuse.wire.smb2.create import Access, CreateOptions, CreateResponse
from smbfuse.wire.smb2.header import Command as Smb2Command
from smbfuse.wire.smb2.io import decode_read as decode_smb2_read
from smbfuse.wire.smb2.io import encode_read as encode_smb2_read

if TYPE_CHECKING:
    from smbfuse.client.smb1_tree import Smb1Tree
    from smbfuse.client.smb2_tree import Smb2Tree

PIPES: Final = "IPC$"  # the share that has a server's pipes
MOST_FRAGMENTS: Final = 1000  # of one reply: 4 MB of share names
TRANSACT_NMPIPE: Final = 0x0026  # [MS-CIFS] 2.2.5.6

_WHOLE_OR_PART: Final = frozenset({NtStatus.SUCCESS, NtStatus.BUFFER_OVERFLOW})


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
        reply = await self._tree.wait(self._tree.submit(request))
        if reply.status not in _WHOLE_OR_PART:
            raise status.error(reply.status, "FSCTL_PIPE_TRANSCEIVE")
        return IoctlResponse.decode(reply.element).output

    async def read(self) -> bytes:
        """Read on; see `Pipe.read`."""
        body = encode_smb2_read(self._file_id, 0, srvsvc.MAX_FRAGMENT)
        reply = await self._tree.wait(self._tree.submit(Request(Smb2Command.READ, body, payload=srvsvc.MAX_FRAGMENT)))
        if reply.status not in _WHOLE_OR_PART:
            raise status.error(reply.status, "READ")
        return bytes(decode_smb2_read(reply.element))

    def close(self) -> None:
        """Send a CLOSE; see `Pipe.close`."""
        self._tree.submit(smb2_requests.close(self._file_id))


class Smb1Pipe:
    """A pipe over SMB1. Implements `Pipe`."""

    def __init__(self, tree: Smb1Tree, fid: int) -> None:
        self._tree = tree
        self._fid = fid

    @classmethod
    async def open(cls, tree: Smb1Tree, name: str) -> Smb1Pipe:
        """Open the pipe `name` in the tree IPC$.  Cost: 1 round trip.  Raises: NotFound, Denied, Unsupported."""
        access, share = smb1_files.NtAccess, smb1_files.NtShare
        request = smb1_files.NtCreateRequest(
            flags=0,
            root_directory_fid=0,
            desired_access=int(access.READ_DATA | access.WRITE_DATA | access.SYNCHRONIZE),
            allocation_size=0,
            ext_file_attributes=0,
            share_access=int(share.READ | share.WRITE),
            create_disposition=smb1_files.NtDisposition.OPEN,
            create_options=0,
            impersonation_level=smb1_files.IMPERSONATION,
            security_flags=0,
            file_name=f"\\{name}",
        )
        reply = await tree.perform_one(tree.submit(request))
        if reply.status != NtStatus.SUCCESS:
            raise status.error(reply.status, "NT_CREATE_ANDX", name)
        return cls(tree, smb1_files.decode_create_response(reply.block, tree.strings).fid)

    async def transceive(self, message: bytes) -> bytes:
        """Send a message by TRANS_TRANSACT_NMPIPE; see `Pipe.transceive`.  [MS-CIFS] 2.2.5.6."""
        request = TransactionRequest(
            command=Smb1Command.TRANSACTION,
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
        if reply.status not in _WHOLE_OR_PART:
            raise status.error(reply.status, "TRANSACT_NMPIPE")
        return bytes(reply.data)

    async def read(self) -> bytes:
        """Read on; see `Pipe.read`."""
        reply = await self._tree.perform_one(self._tree.submit(Read(self._fid, 0, srvsvc.MAX_FRAGMENT)))
        if reply.status not in _WHOLE_OR_PART:
            raise status.error(reply.status, "READ_ANDX")
        return bytes(decode_read(reply.block))

    def close(self) -> None:
        """Send a CLOSE; see `Pipe.close`."""
        self._tree.submit(smb1_files.CloseRequest(self._fid, 0))
