"""An SMB2 server without I/O, ordinary unless its script says otherwise: 2.0.2 to 3.1.1, plain, signed and sealed.

It logs in anybody whom pyspnego's acceptor knows (NTLM), and the anonymous user; it shows one small tree, to be read.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import spnego

from smbfuse.security.keys import PreauthHash
from smbfuse.status import NtStatus
from smbfuse.wire.dirlist import DirectoryEntry, encode_page
from smbfuse.wire.fscc import (
    FileAllInformation,
    FileBasicInformation,
    FileFsFullSizeInformation,
    FileInformation,
    FileInternalInformation,
    FileStandardInformation,
)
from smbfuse.wire.smb2.control import (
    ControlCode,
    EchoResponse,
    IoctlRequest,
    IoctlResponse,
    ValidateNegotiateInfoResponse,
)
from smbfuse.wire.smb2.create import (
    QUERY_ON_DISK_ID,
    CloseResponse,
    CreateContext,
    CreateOptions,
    CreateRequest,
    CreateResponse,
    OnDiskId,
    find_context,
)
from smbfuse.wire.smb2.errors import ErrorResponse
from smbfuse.wire.smb2.header import RELATED_FILE_ID, Command, Header, HeaderFlags, split_compound
from smbfuse.wire.smb2.info import (
    InfoType,
    QueryDirectoryFlags,
    QueryDirectoryRequest,
    QueryDirectoryResponse,
    QueryInfoRequest,
    QueryInfoResponse,
)
from smbfuse.wire.smb2.io import ReadRequest, ReadResponse
from smbfuse.wire.smb2.message import ALIGNMENT, HEADER_SIZE
from smbfuse.wire.smb2.negotiate import (
    Capabilities,
    ContextType,
    NegotiateRequest,
    NegotiateResponse,
    SecurityMode,
    algorithms,
    decode_algorithms,
    preauth_integrity,
)
from smbfuse.wire.smb2.session import (
    LogoffResponse,
    SessionFlags,
    SessionSetupRequest,
    SessionSetupResponse,
    ShareType,
    TreeConnectRequest,
    TreeConnectResponse,
    TreeDisconnectResponse,
)
from tests.support.script import MOMENT, Answer, Asked, Files, Node, Script
from tests.support.server_protection import ServerProtection

ALL_DIALECTS: Final = (0x0202, 0x0210, 0x0300, 0x0302, 0x0311)
SESSION_ID: Final = 0x1122334455667788
TREE_ID: Final = 7
VOLUME_ID: Final = 0x42
MAX_SIZE: Final = 1 << 20
MOST_CREDITS: Final = 256
SHARE: Final = "share"
CLUSTER: Final = 4096

_HAS_ENCRYPTION: Final = 0x0300
_CONTEXTS: Final = 0x0311
_NTLM_AUTHENTICATE: Final = b"NTLMSSP\0\3\0\0\0"
_SECURITY: Final = {0x0202: 0, 0x0210: 0, 0x0300: 1, 0x0302: 1, 0x0311: 1}  # the signing algorithm of each dialect


class Refused(Exception):
    """The request is answered with an error status."""

    def __init__(self, status: NtStatus, data: bytes = b"") -> None:
        super().__init__(status.name)
        self.status = status
        self.data = data


@dataclass(slots=True)
class _Open:
    """One handle: what it opened, and where its listing stands."""

    node: Node
    position: int = 0


class Smb2Server:
    """The protocol state of one connection."""

    def __init__(
        self,
        files: Files,
        script: Script,
        *,
        dialects: Sequence[int] = ALL_DIALECTS,
        sign: bool = False,
        seal: bool = False,
    ) -> None:
        self.dialect = 0
        self._files = files
        self._script = script
        self._dialects = dialects
        self._sign = sign
        self._seal = seal
        self._guid = bytes(range(16))
        self._preauth = PreauthHash()
        self._signing_id = 0
        self._cipher_id: int | None = None
        self._acceptor: spnego.ContextProxy | None = None
        self._protection: ServerProtection | None = None
        self._opens: dict[bytes, _Open] = {}
        self._handlers = {
            Command.NEGOTIATE: self._negotiate,
            Command.SESSION_SETUP: self._session_setup,
            Command.LOGOFF: lambda _element, _related: LogoffResponse().encode(),
            Command.TREE_CONNECT: self._tree_connect,
            Command.TREE_DISCONNECT: lambda _element, _related: TreeDisconnectResponse().encode(),
            Command.CREATE: self._create,
            Command.CLOSE: self._close,
            Command.READ: self._read,
            Command.IOCTL: self._ioctl,
            Command.ECHO: lambda _element, _related: EchoResponse().encode(),
            Command.QUERY_DIRECTORY: self._query_directory,
            Command.QUERY_INFO: self._query_info,
        }

    def respond(self, pdu: bytes) -> tuple[list[bytes], bool]:
        """Return the messages that answer `pdu`, and whether the connection is to be closed behind them."""
        sealed = pdu[:4] == b"\xfdSMB"
        if sealed:
            assert self._protection is not None
            pdu = self._protection.unseal(pdu)
        answers: list[Answer] = []
        related = _Related()
        protection = self._protection  # as it was: the last answer of a login is signed with keys that it makes
        for header, view in split_compound(memoryview(pdu)):
            element = bytes(view)
            if header.command != Command.CANCEL:
                answers.append(self._answer(Header.decode(element), element, related))
        hang_up = any(answer.hang_up for answer in answers)
        answers = [answer for answer in answers if not answer.silent]
        out = [message for answer in answers for message in answer.before]
        raw = [answer.pdu for answer in answers if answer.pdu is not None]
        whole = [answer for answer in answers if answer.pdu is None]
        if whole:
            message = self._assemble(whole, sealed=sealed and protection is not None)
            for answer in whole:
                if answer.on_wire is not None:
                    message = answer.on_wire(message)
            out.append(message)
        return out + raw, hang_up

    def _answer(self, header: Header, element: bytes, related: "_Related") -> Answer:
        hashed = header.command in (Command.NEGOTIATE, Command.SESSION_SETUP)
        if hashed:
            self._preauth.update(element)
        status = NtStatus.SUCCESS
        try:
            if related.status and header.flags & HeaderFlags.RELATED_OPERATIONS:
                raise Refused(related.status)
            handler = self._handlers.get(Command(header.command))
            if handler is None:
                raise Refused(NtStatus.NOT_SUPPORTED)
            body = handler(element, related)
            status = related.interim or NtStatus.SUCCESS
        except Refused as refused:
            status, body = refused.status, ErrorResponse(refused.data).encode()
            if header.command == Command.CREATE:
                related.status = status
        related.interim = None
        answer = Answer(
            Header(
                header.command,
                header.message_id,
                credit_charge=header.credit_charge,
                status=status,
                credits=min(max(header.credits, 1), MOST_CREDITS),
                flags=HeaderFlags.SERVER_TO_REDIR | header.flags & HeaderFlags.RELATED_OPERATIONS,
                tree_id=TREE_ID if header.command == Command.TREE_CONNECT else header.tree_id,
                session_id=SESSION_ID if header.command == Command.SESSION_SETUP else header.session_id,
            ),
            body,
        )
        honest = answer.header.encode() + answer.body
        self._script.apply(Asked(header, element, related.path), answer)
        if not answer.tampered:
            honest = answer.header.encode() + answer.body
        if header.command == Command.NEGOTIATE or (
            hashed and answer.header.status == NtStatus.MORE_PROCESSING_REQUIRED
        ):
            self._preauth.update(honest)
        return answer

    def _assemble(self, answers: Sequence[Answer], *, sealed: bool) -> bytes:
        elements = []
        for number, answer in enumerate(answers, 1):
            element = bytearray(answer.header.encode() + answer.body)
            if number < len(answers):
                element += bytes(-len(element) % ALIGNMENT)
                if not answer.header.next_command:
                    element[20:24] = len(element).to_bytes(4, "little")
            interim = answer.header.status == NtStatus.PENDING
            if self._protection is not None and not sealed and not interim:
                self._protection.sign(element, answer.header.message_id)
            elements.append(bytes(element))
        message = b"".join(elements)
        return self._protection.seal(SESSION_ID, message) if sealed and self._protection is not None else message

    # --- login --------------------------------------------------------------------------------------------------------

    def _negotiate(self, element: bytes, _related: "_Related") -> bytes:
        asked = NegotiateRequest.decode(element)
        common = set(asked.dialects) & set(self._dialects)
        if not common:
            raise Refused(NtStatus.NOT_SUPPORTED)
        self.dialect = max(common)
        self._signing_id = _SECURITY[self.dialect]
        contexts = [preauth_integrity(secrets.token_bytes(32))]
        if self.dialect == _CONTEXTS:
            for context_type, data in asked.contexts:
                if context_type == ContextType.ENCRYPTION_CAPABILITIES:
                    self._cipher_id = decode_algorithms(data)[0]
                    contexts.append(algorithms(ContextType.ENCRYPTION_CAPABILITIES, [self._cipher_id]))
                elif context_type == ContextType.SIGNING_CAPABILITIES:
                    self._signing_id = decode_algorithms(data)[0]
                    contexts.append(algorithms(ContextType.SIGNING_CAPABILITIES, [self._signing_id]))
        elif self.dialect >= _HAS_ENCRYPTION:
            self._cipher_id = 1
        return self.negotiate_response(contexts if self.dialect == _CONTEXTS else ()).encode()

    def negotiate_response(self, contexts: Sequence[tuple[int, bytes]] = ()) -> NegotiateResponse:
        """Return what the server says of itself."""
        large = Capabilities.LARGE_MTU if self.dialect > ALL_DIALECTS[0] else 0
        encryption = Capabilities.ENCRYPTION if _HAS_ENCRYPTION <= self.dialect < _CONTEXTS else 0
        size = MAX_SIZE if large else 65536
        mode = SecurityMode.SIGNING_ENABLED | (SecurityMode.SIGNING_REQUIRED if self._sign else 0)
        return NegotiateResponse(
            security_mode=mode,
            dialect_revision=self.dialect,
            server_guid=self._guid,
            capabilities=large | encryption,
            max_transact_size=size,
            max_read_size=size,
            max_write_size=size,
            system_time=MOMENT,
            contexts=tuple(contexts),  # type: ignore[arg-type]  # pairs are what a NegotiateContext is
        )

    def _session_setup(self, element: bytes, related: "_Related") -> bytes:
        token = SessionSetupRequest.decode(element).token
        anonymous = token.startswith(_NTLM_AUTHENTICATE) and not int.from_bytes(token[36:38], "little")
        if anonymous:
            return SessionSetupResponse(SessionFlags.IS_NULL, b"").encode()
        if self._acceptor is None:
            raw = token.startswith(b"NTLMSSP")
            options = spnego.NegotiateOptions.use_ntlm if raw else spnego.NegotiateOptions.use_negotiate
            self._acceptor = spnego.server(protocol="ntlm" if raw else "negotiate", options=options)
        try:
            answer = self._acceptor.step(token) or b""
        except (spnego.exceptions.SpnegoError, ValueError):  # ValueError: a token that comes out of order
            raise Refused(NtStatus.LOGON_FAILURE) from None
        if not self._acceptor.complete:
            related.interim = NtStatus.MORE_PROCESSING_REQUIRED
            return SessionSetupResponse(0, answer).encode()
        self._protection = ServerProtection(
            self.dialect,
            self._acceptor.session_key,
            preauth=self._preauth.digest,
            signing_id=self._signing_id,
            cipher_id=self._cipher_id,
        )
        flags = SessionFlags.ENCRYPT_DATA if self._seal else 0
        return SessionSetupResponse(flags, answer).encode()

    def _tree_connect(self, element: bytes, _related: "_Related") -> bytes:
        if TreeConnectRequest.decode(element).path.rpartition("\\")[2].casefold() != SHARE:
            raise Refused(NtStatus.BAD_NETWORK_NAME)
        return TreeConnectResponse(ShareType.DISK, 0, 0, 0x1F01FF).encode()

    # --- files --------------------------------------------------------------------------------------------------------

    def _create(self, element: bytes, related: "_Related") -> bytes:
        asked = CreateRequest.decode(element)
        related.path = asked.name
        node = self._files.find(asked.name)
        if node is None:
            raise Refused(NtStatus.OBJECT_NAME_NOT_FOUND)
        if asked.create_options & CreateOptions.DIRECTORY_FILE and not node.is_folder:
            raise Refused(NtStatus.NOT_A_DIRECTORY)
        if asked.create_options & CreateOptions.NON_DIRECTORY_FILE and node.is_folder:
            raise Refused(NtStatus.FILE_IS_A_DIRECTORY)
        related.file_id = secrets.token_bytes(16)
        self._opens[related.file_id] = _Open(node)
        contexts: tuple[CreateContext, ...] = ()
        if find_context(asked.contexts, QUERY_ON_DISK_ID) is not None:
            contexts = (CreateContext(QUERY_ON_DISK_ID, OnDiskId(node.file_id, VOLUME_ID).encode()),)
        size = len(node.content)
        return CreateResponse(
            0, 0, 1, MOMENT, MOMENT, MOMENT, MOMENT, _clusters(size), size, node.attributes, related.file_id, contexts
        ).encode()

    def _close(self, element: bytes, related: "_Related") -> bytes:
        self._opens.pop(related.file(element[HEADER_SIZE + 8 : HEADER_SIZE + 24]), None)
        return CloseResponse(0, 0, 0, 0, 0, 0, 0, 0).encode()

    def _opened(self, file_id: bytes, related: "_Related") -> _Open:
        found = self._opens.get(related.file(file_id))
        if found is None:
            raise Refused(NtStatus.FILE_CLOSED)
        related.path = found.node.path
        return found

    def _read(self, element: bytes, related: "_Related") -> bytes:
        asked = ReadRequest.decode(element)
        content = self._opened(asked.file_id, related).node.content
        data = content[asked.offset : asked.offset + asked.length]
        if not data:
            raise Refused(NtStatus.END_OF_FILE)
        return ReadResponse(data, 0, 0).encode()

    def _query_directory(self, element: bytes, related: "_Related") -> bytes:
        asked = QueryDirectoryRequest.decode(element)
        opened = self._opened(asked.file_id, related)
        if asked.flags & (QueryDirectoryFlags.RESTART_SCANS | QueryDirectoryFlags.REOPEN):
            opened.position = 0
        names = [
            (".", opened.node),
            ("..", opened.node),
            *((child.name, child) for child in opened.node.children or ()),
        ]
        kind = FileInformation(asked.file_information_class)
        entries: list[DirectoryEntry] = []
        page = b""
        for name, node in names[opened.position :]:
            longer = encode_page(kind, [*entries, entry_of(name, node)])
            if len(longer) > asked.output_buffer_length:
                break
            entries.append(entry_of(name, node))
            page = longer
        if not entries:
            raise Refused(NtStatus.NO_MORE_FILES)
        opened.position += len(entries)
        return QueryDirectoryResponse(memoryview(page)).encode()

    def _query_info(self, element: bytes, related: "_Related") -> bytes:
        asked = QueryInfoRequest.decode(element)
        node = self._opened(asked.file_id, related).node
        if asked.info_type == InfoType.FILESYSTEM:
            return QueryInfoResponse(FileFsFullSizeInformation(1000, 500, 600, 8, 512).encode()).encode()
        if asked.info_type != InfoType.FILE or asked.file_info_class != FileInformation.ALL:
            raise Refused(NtStatus.INVALID_INFO_CLASS)
        return QueryInfoResponse(all_information(node).encode()).encode()

    def _ioctl(self, element: bytes, related: "_Related") -> bytes:
        asked = IoctlRequest.decode(element)
        if asked.ctl_code != ControlCode.FSCTL_VALIDATE_NEGOTIATE_INFO:
            raise Refused(NtStatus.NOT_A_REPARSE_POINT)
        said = self.negotiate_response()
        proof = ValidateNegotiateInfoResponse(said.capabilities, self._guid, said.security_mode, self.dialect)
        return IoctlResponse(asked.ctl_code, asked.file_id, b"", proof.encode(), 0).encode()


@dataclass(slots=True)
class _Related:
    """What later elements of a compound take over from earlier ones."""

    file_id: bytes = RELATED_FILE_ID
    status: NtStatus | None = None  # of a CREATE that failed
    interim: NtStatus | None = None  # not an error, yet not the end
    path: str | None = None

    def file(self, file_id: bytes) -> bytes:
        return self.file_id if file_id == RELATED_FILE_ID else file_id


def entry_of(name: str, node: Node) -> DirectoryEntry:
    """Return the entry of a listing that shows `node` as `name`."""
    size = len(node.content)
    times = (MOMENT, MOMENT, MOMENT, MOMENT)
    return DirectoryEntry(name, *times, size, _clusters(size), node.attributes, 0, node.file_id)


def all_information(node: Node) -> FileAllInformation:
    """Return the attributes of `node`."""
    size = len(node.content)
    return FileAllInformation(
        FileBasicInformation(MOMENT, MOMENT, MOMENT, MOMENT, node.attributes),
        FileStandardInformation(_clusters(size), size, 1, 0, int(node.is_folder)),
        FileInternalInformation(node.file_id),
        0,
        0x81,
        0,
        0,
        0,
        "\\" + node.path,
    )


def with_header(answer: Answer, **changes: int) -> None:
    """Change fields of an SMB2 answer's header."""
    answer.header = replace(answer.header, **changes)


def _clusters(size: int) -> int:
    return -(-size // CLUSTER) * CLUSTER
