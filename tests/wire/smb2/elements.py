"""Which class reads which element, and the elements of captures."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from smbfuse.status import NtStatus
from smbfuse.wire.smb2 import control, create, errors, info, io, negotiate, notify, session
from smbfuse.wire.smb2.header import PROTOCOL_ID, Arrived, Command, HeaderFlags, split_compound
from smbfuse.wire.smb2.message import HEADER_SIZE
from tests.fuzz.gather import messages

OWN_CAPTURES: Final = Path(__file__).parents[2] / "data" / "pcaps"
SHARED_CAPTURES: Final = Path(__file__).parents[4] / "shared" / "pcaps"

REQUESTS: Final[dict[int, Any]] = {
    Command.NEGOTIATE: negotiate.NegotiateRequest,
    Command.SESSION_SETUP: session.SessionSetupRequest,
    Command.LOGOFF: session.LogoffRequest,
    Command.TREE_CONNECT: session.TreeConnectRequest,
    Command.TREE_DISCONNECT: session.TreeDisconnectRequest,
    Command.CREATE: create.CreateRequest,
    Command.CLOSE: create.CloseRequest,
    Command.FLUSH: io.FlushRequest,
    Command.READ: io.ReadRequest,
    Command.WRITE: io.WriteRequest,
    Command.IOCTL: control.IoctlRequest,
    Command.ECHO: control.EchoRequest,
    Command.CANCEL: control.CancelRequest,
    Command.QUERY_DIRECTORY: info.QueryDirectoryRequest,
    Command.CHANGE_NOTIFY: notify.ChangeNotifyRequest,
    Command.QUERY_INFO: info.QueryInfoRequest,
    Command.SET_INFO: info.SetInfoRequest,
}
RESPONSES: Final[dict[int, Any]] = {
    Command.NEGOTIATE: negotiate.NegotiateResponse,
    Command.SESSION_SETUP: session.SessionSetupResponse,
    Command.LOGOFF: session.LogoffResponse,
    Command.TREE_CONNECT: session.TreeConnectResponse,
    Command.TREE_DISCONNECT: session.TreeDisconnectResponse,
    Command.CREATE: create.CreateResponse,
    Command.CLOSE: create.CloseResponse,
    Command.FLUSH: io.FlushResponse,
    Command.READ: io.ReadResponse,
    Command.WRITE: io.WriteResponse,
    Command.IOCTL: control.IoctlResponse,
    Command.ECHO: control.EchoResponse,
    Command.QUERY_DIRECTORY: info.QueryDirectoryResponse,
    Command.CHANGE_NOTIFY: notify.ChangeNotifyResponse,
    Command.QUERY_INFO: info.QueryInfoResponse,
    Command.SET_INFO: info.SetInfoResponse,
}

_WITH_DATA: Final = {NtStatus.SUCCESS, NtStatus.MORE_PROCESSING_REQUIRED, NtStatus.BUFFER_OVERFLOW}


class Element(NamedTuple):
    """One request or response of a capture."""

    header: Arrived
    data: bytes

    @property
    def is_response(self) -> bool:
        return bool(self.header.flags & HeaderFlags.SERVER_TO_REDIR)

    @property
    def body(self) -> bytes:
        return self.data[HEADER_SIZE:]

    @property
    def kind(self) -> Any:
        """The class that reads it; None for commands that are not implemented."""
        if not self.is_response:
            return REQUESTS.get(self.header.command)
        if self.header.status not in _WITH_DATA:
            return errors.ErrorResponse
        return RESPONSES.get(self.header.command)


def elements(capture: Path) -> Iterator[Element]:
    """Yield the SMB2 elements of a capture that are neither encrypted nor compressed; raises DecodeError."""
    for message in messages(capture):
        if message[:4] == PROTOCOL_ID:
            for header, element in split_compound(memoryview(message)):
                yield Element(header, bytes(element))
