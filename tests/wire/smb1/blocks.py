"""Which class reads which block, and the messages of captures."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from smbfuse.status import NtStatus
from smbfuse.wire.record import Record
from smbfuse.wire.smb1 import changes, control, files, io, names, negotiate, session, trans2, transaction, write
from smbfuse.wire.smb1.header import PROTOCOL, Command, Flags2, Header
from smbfuse.wire.smb1.message import Block, Strings, decode_message
from tests.fuzz.gather import messages

OWN_CAPTURES: Final = Path(__file__).parents[2] / "data" / "pcaps"
SHARED_CAPTURES: Final = Path(__file__).parents[4] / "shared" / "pcaps"

REQUESTS: Final[dict[int, Any]] = {
    Command.CREATE_DIRECTORY: names.CreateDirectoryRequest.decode_block,
    Command.DELETE_DIRECTORY: names.DeleteDirectoryRequest.decode_block,
    Command.CLOSE: files.CloseRequest.decode_block,
    Command.FLUSH: write.FlushRequest.decode_block,
    Command.DELETE: names.DeleteRequest.decode_block,
    Command.RENAME: names.RenameRequest.decode_block,
    Command.QUERY_INFORMATION: names.QueryInformationRequest.decode_block,
    Command.SET_INFORMATION: names.SetInformationRequest.decode_block,
    Command.SET_INFORMATION2: write.SetInformation2Request.decode_block,
    Command.LOCKING_ANDX: control.LockingRequest.decode_block,
    Command.TRANSACTION: transaction.TransactionRequest.decode_block,
    Command.TRANSACTION_SECONDARY: transaction.TransactionSecondary.decode_block,
    Command.ECHO: control.EchoMessage.decode_block,
    Command.OPEN_ANDX: files.OpenAndxRequest.decode_block,
    Command.READ_ANDX: io.ReadRequest.decode_block,
    Command.WRITE_ANDX: write.WriteRequest.decode_block,
    Command.TRANSACTION2: transaction.TransactionRequest.decode_block,
    Command.TRANSACTION2_SECONDARY: transaction.TransactionSecondary.decode_block,
    Command.FIND_CLOSE2: trans2.FindClose2Request.decode_block,
    Command.TREE_DISCONNECT: session.TreeDisconnectMessage.decode_block,
    Command.NEGOTIATE: negotiate.NegotiateRequest.decode_block,
    Command.SESSION_SETUP_ANDX: session.decode_setup_request,
    Command.LOGOFF_ANDX: session.LogoffMessage.decode_block,
    Command.TREE_CONNECT_ANDX: session.TreeConnectRequest.decode_block,
    Command.QUERY_INFORMATION_DISK: files.QueryInformationDiskRequest.decode_block,
    Command.NT_TRANSACT: transaction.NtTransactRequest.decode_block,
    Command.NT_TRANSACT_SECONDARY: transaction.NtTransactSecondary.decode_block,
    Command.NT_CREATE_ANDX: files.NtCreateRequest.decode_block,
    Command.NT_CANCEL: control.NtCancelRequest.decode_block,
    Command.NT_RENAME: names.NtRenameRequest.decode_block,
}
RESPONSES: Final[dict[int, Any]] = {
    Command.CLOSE: files.EmptyResponse.decode_block,
    Command.QUERY_INFORMATION: names.QueryInformationResponse.decode_block,
    Command.TRANSACTION: transaction.TransactionPart.decode_block,
    Command.ECHO: control.EchoMessage.decode_block,
    Command.OPEN_ANDX: files.decode_open_response,
    Command.READ_ANDX: io.ReadResponse.decode_block,
    Command.WRITE_ANDX: write.WriteResponse.decode_block,
    Command.TRANSACTION2: transaction.TransactionPart.decode_block,
    Command.TREE_DISCONNECT: session.TreeDisconnectMessage.decode_block,
    Command.NEGOTIATE: negotiate.decode_negotiate_response,
    Command.SESSION_SETUP_ANDX: session.SessionSetupResponse.decode_block,
    Command.LOGOFF_ANDX: session.LogoffMessage.decode_block,
    Command.TREE_CONNECT_ANDX: session.TreeConnectResponse.decode_block,
    Command.QUERY_INFORMATION_DISK: files.QueryInformationDiskResponse.decode_block,
    Command.NT_TRANSACT: transaction.TransactionPart.decode_block,
    Command.NT_CREATE_ANDX: files.decode_create_response,
}
PARAMETERS: Final[dict[int, type[Any]]] = {
    trans2.Subcommand.FIND_FIRST2: trans2.FindFirst2Request,
    trans2.Subcommand.FIND_NEXT2: trans2.FindNext2Request,
    trans2.Subcommand.QUERY_FS_INFORMATION: trans2.QueryFsRequest,
    trans2.Subcommand.SET_FS_INFORMATION: trans2.SetFsRequest,
    trans2.Subcommand.QUERY_PATH_INFORMATION: trans2.QueryPathRequest,
    trans2.Subcommand.SET_PATH_INFORMATION: changes.SetPathRequest,
    trans2.Subcommand.QUERY_FILE_INFORMATION: trans2.QueryFileRequest,
    trans2.Subcommand.SET_FILE_INFORMATION: changes.SetFileRequest,
}
WITH_DATA: Final = {NtStatus.SUCCESS, NtStatus.MORE_PROCESSING_REQUIRED, NtStatus.BUFFER_OVERFLOW}


class Message(NamedTuple):
    """One SMB1 message of a capture."""

    number: int  # counted from 0, in its capture
    header: Header
    blocks: list[Block]
    data: bytes

    @property
    def strings(self) -> Strings:
        return Strings(bool(self.header.flags2 & Flags2.UNICODE))

    def values(self) -> Iterator[tuple[Block, Any]]:
        """Yield each block with what it is decoded to; blocks that nobody here reads are left away."""
        table = RESPONSES if self.header.is_reply else REQUESTS
        for block in self.blocks:
            if self.header.is_reply and not block.words and self.header.status not in WITH_DATA:
                return  # an error; what a server sends along with one is read
            if block.command in table and not (self.header.is_reply and is_interim(block)):
                yield block, table[block.command](block, self.strings)


def is_interim(block: Block) -> bool:
    """Tell whether a transaction's response only asks for the rest of the request."""
    return not block.words and block.command in (Command.TRANSACTION, Command.TRANSACTION2, Command.NT_TRANSACT)


def smb1_messages(capture: Path) -> Iterator[Message]:
    """Yield the SMB1 messages of a capture; raises DecodeError at the first that is none."""
    for number, data in enumerate(message for message in messages(capture) if message[:4] == PROTOCOL):
        header, blocks = decode_message(memoryview(data))
        yield Message(number, header, blocks, data)


def parameters_of(value: transaction.TransactionRequest, strings: Strings) -> Any:
    """Return what a TRANSACTION2's parameters are decoded to; None for subcommands that nobody here reads."""
    kind = PARAMETERS.get(value.setup[0]) if value.command == Command.TRANSACTION2 and value.setup else None
    if kind is None:
        return None
    return kind.decode(value.parameters) if issubclass(kind, Record) else kind.decode(value.parameters, strings)
