"""A small SMB2 server over an in-memory stream, whose every answer a test may change.

It executes compounds, signs what came signed and seals what came sealed, with the product's own encoders; the login is
a fake (`FakeLogin`), so that both sides know the key.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from smbfuse.engine.protect import PreauthHash
from smbfuse.status import NtStatus
from smbfuse.wire import nbss, reparse
from smbfuse.wire.dirlist import DirectoryEntry, encode_page
from smbfuse.wire.dtyp import EPOCH_DELTA
from smbfuse.wire.fscc import (
    FileAllInformation,
    FileBasicInformation,
    FileFsFullSizeInformation,
    FileFsSizeInformation,
    FileInformation,
    FileInternalInformation,
    FileStandardInformation,
    VolumeInformation,
)
from smbfuse.wire.fscc_changes import FileEndOfFileInformation
from smbfuse.wire.smb2 import breaks, control, create, info, io, notify, session
from smbfuse.wire.smb2.errors import ErrorResponse
from smbfuse.wire.smb2.header import (
    RELATED_FILE_ID,
    TRANSFORM_PROTOCOL_ID,
    UNSOLICITED,
    Arrived,
    Command,
    Header,
    HeaderFlags,
    join_compound,
    split_compound,
)
from smbfuse.wire.smb2.negotiate import (
    Capabilities,
    ContextType,
    NegotiateContext,
    NegotiateRequest,
    NegotiateResponse,
    algorithms,
    decode_algorithms,
    preauth_integrity,
)
from tests.support.server_protection import ServerProtection

SESSION_ID: Final = 0x1122334455667788
SESSION_KEY: Final = b"a key of 16 byte"
SERVER_GUID: Final = b"the server's id."
VOLUME_ID: Final = 77
PAGE_ENTRIES: Final = 100  # of a listing, whatever the client allows
TIME: Final = EPOCH_DELTA + 10_000_000  # one second after 1970

Answer = tuple[int, bytes]  # status and body


class FakeLogin:
    """The client's side of a login in two legs, whose key the server knows."""

    name = "fake"
    session_key = SESSION_KEY

    def __init__(self) -> None:
        self.complete = False

    def step(self, token: bytes) -> bytes:
        self.complete = bool(token)
        return b"authenticate" if token else b"begin"

    def finish(self, token: bytes) -> None:
        assert self.complete


@dataclass
class Node:
    """A file, a folder or a reparse point of the server."""

    data: bytes | None = b""  # None: a folder
    file_id: int = 1
    attributes: int = 0x20
    point: reparse.ReparsePoint | None = None
    names: list[DirectoryEntry] = field(default_factory=list)


@dataclass
class _Handle:
    node: Node
    listed: int = 0


def entry(
    name: str, *, folder: bool = False, attributes: int = 0x20, ea_size: int = 0, file_id: int = 9
) -> DirectoryEntry:
    """Return one name of a listing."""
    return DirectoryEntry(name, TIME, TIME, TIME, TIME, 5, 4096, 0x10 if folder else attributes, ea_size, file_id)


class Smb2Server:
    """Answers what comes over `stream`. Change `answers`, `statuses` and the flags before or between requests."""

    guid = SERVER_GUID

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.dialect = 0x0311
        self.security_mode = 1
        self.capabilities = int(Capabilities.LARGE_MTU | Capabilities.ENCRYPTION)
        self.max_size = 1 << 20
        self.contexts: list[NegotiateContext] | None = None  # instead of the right ones
        self.session_flags = 0
        self.share_flags = 0
        self.share_type = int(session.ShareType.DISK)
        self.credits = 64  # granted with each answer
        self.login_legs = 2
        self.sign_login = True
        self.nodes: dict[str, Node] = {"": Node(None, attributes=0x10)}
        self.statuses: dict[Command, int] = {}
        self.answers: dict[Command, Callable[[bytes], Answer | None]] = {}  # None: the usual answer
        self.pdus: list[list[Command]] = []
        self.requests: list[tuple[Arrived, bytes]] = []
        self.handles: dict[bytes, _Handle] = {}
        self.cut_at: Command | None = None  # the connection ends when this is asked
        self.standing: dict[int, Arrived] = {}  # CHANGE_NOTIFYs by message id, until `tell` answers one
        self.hold = trio.Event()  # nothing is answered until it is set
        self.hold.set()
        self._protection: ServerProtection | None = None
        self._preauth = PreauthHash()
        self._legs = 0
        self._next_handle = 0
        self._offer: NegotiateRequest | None = None
        self._chosen: tuple[int | None, int] = (None, 0)  # cipher and signing algorithm

    async def run(self) -> None:
        """Answer until the client has gone."""
        received = bytearray()
        while data := await self._stream.receive_some(65536):
            received += data
            while len(received) >= 4 and len(received) >= 4 + nbss.decode_header(received)[1]:
                length = nbss.decode_header(received)[1]
                message = bytes(received[4 : 4 + length])
                del received[: 4 + length]
                await self.hold.wait()
                answer = self._answer(message)
                if self.cut_at is not None and self.cut_at in self.pdus[-1]:
                    await self._stream.aclose()
                    return
                if answer is not None:
                    await self._stream.send_all(nbss.frame(len(answer)) + answer)

    async def take_back(self, lease_key: bytes, remaining: int, *, epoch: int) -> None:
        """Send a lease break that is to be acknowledged."""
        header = Header(Command.OPLOCK_BREAK, UNSOLICITED, flags=HeaderFlags.SERVER_TO_REDIR)
        notice = header.encode() + breaks.LeaseBreak(epoch, 1, lease_key, 7, remaining, 0, 0, 0).encode()
        await self._stream.send_all(nbss.frame(len(notice)) + notice)

    async def tell(self, changes: bytes = b"", status: int = 0) -> None:
        """Answer the oldest CHANGE_NOTIFY."""
        request = self.standing.pop(next(iter(self.standing)))
        body = ErrorResponse() if status else notify.ChangeNotifyResponse(memoryview(changes))
        answer = self._reply(request, status, body.encode(), credits=0)
        await self._stream.send_all(nbss.frame(len(answer)) + answer)

    def commands(self) -> list[list[Command]]:
        """Return the commands of each PDU since the last call."""
        seen, self.pdus = self.pdus, []
        return seen

    def _answer(self, message: bytes) -> bytes | None:
        sealed = message[:4] == TRANSFORM_PROTOCOL_ID
        if sealed:
            assert self._protection is not None
            message = self._protection.unseal(message)
        elements = [(header, bytes(element)) for header, element in split_compound(memoryview(message))]
        self.requests += elements
        self.pdus.append([Command(header.command) for header, _ in elements])
        replies: list[bytes] = []
        current = b""
        failed = 0
        for header, element in elements:
            if header.command == Command.CANCEL:
                if (cancelled := self.standing.pop(header.message_id, None)) is not None:
                    replies.append(self._reply(cancelled, NtStatus.CANCELLED, ErrorResponse().encode(), credits=0))
                continue
            if header.flags & HeaderFlags.RELATED_OPERATIONS and failed:
                replies.append(self._reply(header, failed, ErrorResponse().encode()))
                continue
            status, body = self._execute(header, element.replace(RELATED_FILE_ID, current) if current else element)
            if header.command == Command.CREATE:
                failed = status or (NtStatus.UNSUCCESSFUL if len(body) < 80 else 0)
                current = body[64:80]
            replies.append(self._reply(header, status, body))
        if not replies:
            return None
        joined = join_compound(replies)
        if sealed and self._protection is not None:
            return self._protection.seal(SESSION_ID, joined)
        signed = b""
        for (header, _), (_, part) in zip(elements, split_compound(memoryview(joined)), strict=False):
            piece = bytearray(part)
            if self._protection is not None and (header.flags & HeaderFlags.SIGNED or self._ends_login(header)):
                self._protection.sign(piece, header.message_id)
            signed += piece
        return signed

    def _ends_login(self, header: Arrived) -> bool:
        return header.command == Command.SESSION_SETUP and self.sign_login

    def _reply(self, request: Arrived, status: int, body: bytes, *, credits: int | None = None) -> bytes:
        if status == NtStatus.PENDING:
            self.standing[request.message_id] = request
        header = Header(
            request.command,
            request.message_id,
            credit_charge=request.credit_charge,
            status=status,
            credits=self.credits if credits is None else credits,
            flags=HeaderFlags.SERVER_TO_REDIR
            | (HeaderFlags.ASYNC_COMMAND if status == NtStatus.PENDING else HeaderFlags(0)),
            tree_id=5 if request.command == Command.TREE_CONNECT else request.tree_id,
            session_id=SESSION_ID if request.command != Command.NEGOTIATE else 0,
        )
        whole = header.encode() + body
        if request.command == Command.NEGOTIATE or status == NtStatus.MORE_PROCESSING_REQUIRED:
            self._preauth.update(whole)
        return whole

    def _execute(self, header: Arrived, element: bytes) -> Answer:
        command = Command(header.command)
        if command in (Command.NEGOTIATE, Command.SESSION_SETUP):
            self._preauth.update(element)
        usual: dict[Command, Callable[[bytes], Answer]] = {
            Command.NEGOTIATE: self._negotiate,
            Command.SESSION_SETUP: self._session_setup,
            Command.TREE_CONNECT: self._tree_connect,
            Command.CREATE: self._create,
            Command.CLOSE: self._close,
            Command.READ: self._read,
            Command.WRITE: self._write,
            Command.SET_INFO: self._set_info,
            Command.QUERY_INFO: self._query_info,
            Command.QUERY_DIRECTORY: self._query_directory,
            Command.IOCTL: self._ioctl,
            Command.CHANGE_NOTIFY: lambda _element: (NtStatus.PENDING, ErrorResponse().encode()),
        }
        if (changed := self.answers.get(command)) is not None and (answer := changed(element)) is not None:
            return answer
        if status := self.statuses.get(command, 0):
            return status, ErrorResponse().encode()
        return usual[command](element) if command in usual else (0, control.EchoResponse().encode())

    # -- login

    def _negotiate(self, element: bytes) -> Answer:
        self._offer = NegotiateRequest.decode(element)
        contexts: list[NegotiateContext] = []
        if self.dialect == 0x0311:
            offered = {kind: data for kind, data in self._offer.contexts}
            cipher = decode_algorithms(offered[ContextType.ENCRYPTION_CAPABILITIES])[0]
            signing = decode_algorithms(offered[ContextType.SIGNING_CAPABILITIES])[0]
            self._chosen = (cipher, signing)
            contexts = [
                preauth_integrity(b"salt"),
                algorithms(ContextType.ENCRYPTION_CAPABILITIES, [cipher]),
                algorithms(ContextType.SIGNING_CAPABILITIES, [signing]),
            ]
        else:
            self._chosen = (1 if self.dialect >= 0x0300 else None, 1 if self.dialect >= 0x0300 else 0)
        return 0, self.negotiation(self.contexts if self.contexts is not None else contexts).encode()

    def negotiation(self, contexts: list[NegotiateContext]) -> NegotiateResponse:
        """Return the answer to a NEGOTIATE."""
        return NegotiateResponse(
            security_mode=self.security_mode,
            dialect_revision=self.dialect,
            server_guid=self.guid,
            capabilities=self.capabilities,
            max_transact_size=self.max_size,
            max_read_size=self.max_size,
            max_write_size=self.max_size,
            token=b"hint",
            contexts=tuple(contexts),
        )

    def _session_setup(self, _element: bytes) -> Answer:
        self._legs += 1
        if self._legs < self.login_legs:
            return NtStatus.MORE_PROCESSING_REQUIRED, session.SessionSetupResponse(0, b"challenge").encode()
        if not self.session_flags & (session.SessionFlags.IS_GUEST | session.SessionFlags.IS_NULL):
            cipher, signing = self._chosen
            self._protection = ServerProtection(
                self.dialect, SESSION_KEY, preauth=self._preauth.digest, signing_id=signing, cipher_id=cipher
            )
        return 0, session.SessionSetupResponse(self.session_flags, b"").encode()

    def _tree_connect(self, _element: bytes) -> Answer:
        return 0, session.TreeConnectResponse(self.share_type, self.share_flags, 0, 0x1F01FF).encode()

    # -- files

    def _create(self, element: bytes) -> Answer:
        request = create.CreateRequest.decode(element)
        node = self.nodes.get(request.name)
        action = create.CreateAction.OPENED
        if node is None and request.create_disposition in (create.Disposition.CREATE, create.Disposition.OPEN_IF):
            folder = request.create_options & create.CreateOptions.DIRECTORY_FILE
            node = self.nodes[request.name] = Node(None if folder else b"", attributes=request.file_attributes)
            action = create.CreateAction.CREATED
        elif node is None:
            return NtStatus.OBJECT_NAME_NOT_FOUND, ErrorResponse().encode()
        self._next_handle += 1
        file_id = self._next_handle.to_bytes(16, "big")
        self.handles[file_id] = _Handle(node)
        contexts = tuple(
            create.CreateContext(context.name, create.OnDiskId(node.file_id, VOLUME_ID).encode())
            for context in request.contexts
            if context.name == create.QUERY_ON_DISK_ID
        )
        size = len(node.data or b"")
        attributes = node.attributes if node.data is not None else node.attributes | 0x10
        times = (TIME, TIME, TIME, TIME)
        response = create.CreateResponse(0, 0, action, *times, 4096, size, attributes, file_id, contexts)
        return 0, response.encode()

    def _close(self, element: bytes) -> Answer:
        del self.handles[create.CloseRequest.decode(element).file_id]
        return 0, create.CloseResponse(0, 0, 0, 0, 0, 0, 0, 0).encode()

    def _read(self, element: bytes) -> Answer:
        request = io.ReadRequest.decode(element)
        data = self.handles[request.file_id].node.data or b""
        part = data[request.offset : request.offset + request.length]
        return (0, io.ReadResponse(part, 0, 0).encode()) if part else (NtStatus.END_OF_FILE, ErrorResponse().encode())

    def _write(self, element: bytes) -> Answer:
        request = io.WriteRequest.decode(element)
        node = self.handles[request.file_id].node
        old = (node.data or b"").ljust(request.offset, b"\0")
        node.data = old[: request.offset] + request.data + old[request.offset + len(request.data) :]
        return 0, io.WriteResponse(len(request.data), 0, b"").encode()

    def _set_info(self, element: bytes) -> Answer:
        request = info.SetInfoRequest.decode(element)
        node = self.handles[request.file_id].node
        if request.file_info_class == FileInformation.END_OF_FILE:
            size = FileEndOfFileInformation.decode(request.data).end_of_file
            node.data = (node.data or b"")[:size].ljust(size, b"\0")
        elif request.file_info_class == FileInformation.BASIC:
            node.attributes = FileBasicInformation.decode(request.data).file_attributes or node.attributes
        return 0, info.SetInfoResponse().encode()

    def _query_info(self, element: bytes) -> Answer:
        request = info.QueryInfoRequest.decode(element)
        node = self.handles[request.file_id].node
        if request.info_type == info.InfoType.FILESYSTEM:
            if request.file_info_class == VolumeInformation.FULL_SIZE:
                return 0, info.QueryInfoResponse(FileFsFullSizeInformation(100, 40, 50, 2, 512).encode()).encode()
            return 0, info.QueryInfoResponse(FileFsSizeInformation(100, 40, 2, 512).encode()).encode()
        assert request.file_info_class == FileInformation.ALL
        information = FileAllInformation(
            FileBasicInformation(TIME, TIME, TIME, TIME, node.attributes),
            FileStandardInformation(4096, len(node.data or b""), 3, 0, node.data is None),
            FileInternalInformation(node.file_id),
            0,
            0x80,
            0,
            0,
            0,
            "\\name",
        )
        return 0, info.QueryInfoResponse(information.encode()).encode()

    def _query_directory(self, element: bytes) -> Answer:
        request = info.QueryDirectoryRequest.decode(element)
        handle = self.handles[request.file_id]
        names = [entry(".", folder=True), entry("..", folder=True), *handle.node.names]
        page = names[handle.listed : handle.listed + PAGE_ENTRIES]
        handle.listed += len(page)
        if not page:
            return NtStatus.NO_MORE_FILES, ErrorResponse().encode()
        kind = FileInformation(request.file_information_class)
        return 0, info.QueryDirectoryResponse(memoryview(encode_page(kind, page))).encode()

    def _ioctl(self, element: bytes) -> Answer:
        request = control.IoctlRequest.decode(element)
        if request.ctl_code == control.ControlCode.FSCTL_VALIDATE_NEGOTIATE_INFO:
            said = control.ValidateNegotiateInfoRequest.decode(request.input)
            assert self._offer is not None
            assert (said.dialects, said.client_guid) == (self._offer.dialects, self._offer.client_guid)
            proof = control.ValidateNegotiateInfoResponse(
                self.capabilities, self.guid, self.security_mode, self.dialect
            )
            return 0, control.IoctlResponse(request.ctl_code, request.file_id, b"", proof.encode(), 0).encode()
        point = self.handles[request.file_id].node.point
        if point is None:
            return NtStatus.NOT_A_REPARSE_POINT, ErrorResponse().encode()
        output = reparse.encode(point)
        return 0, control.IoctlResponse(request.ctl_code, request.file_id, b"", output, 0).encode()
