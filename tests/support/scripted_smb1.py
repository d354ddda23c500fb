"""An SMB1 server without I/O (NT LM 0.12, bare challenge), ordinary unless its script says otherwise.

It logs in whoever answers the challenge as its one user would, and anybody without a name; it signs if told to. It
shows one small tree, to be read with OPEN_ANDX, READ_ANDX and TRANSACTION2.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from smbfuse.security.challenge import nt_hash, ntowf_v2
from smbfuse.security.signing import Md5Mac
from smbfuse.status import NtStatus
from smbfuse.wire.dirlist import encode_page
from smbfuse.wire.fscc import FileFsAttributeInformation, FileFsFullSizeInformation, FileInformation
from smbfuse.wire.smb1.control import EchoMessage
from smbfuse.wire.smb1.files import (
    CloseRequest,
    EmptyResponse,
    NtCreateRequest,
    NtCreateResponse,
    OpenAndxRequest,
    OpenAndxResponse,
)
from smbfuse.wire.smb1.header import HEADER_SIZE, SIGNATURE_OFFSET, Command, Flags, Flags2, Header
from smbfuse.wire.smb1.io import ReadRequest, ReadResponse
from smbfuse.wire.smb1.levels import FsLevel, PathLevel, QueryFileAllInfo
from smbfuse.wire.smb1.listing import FindLevel
from smbfuse.wire.smb1.message import UNICODE, Block, decode_message, encode_message
from smbfuse.wire.smb1.negotiate import NT_LM_012, Capabilities, NegotiateRequest, NegotiateResponse, SecurityMode
from smbfuse.wire.smb1.session import (
    LogoffMessage,
    SessionSetupRequest,
    SessionSetupResponse,
    TreeConnectRequest,
    TreeConnectResponse,
    TreeDisconnectMessage,
)
from smbfuse.wire.smb1.trans2 import (
    FindClose2Request,
    FindFirst2Request,
    FindFirst2Response,
    FindFlags,
    FindNext2Request,
    FindNext2Response,
    QueryFileRequest,
    QueryFsRequest,
    QueryPathRequest,
    Subcommand,
)
from smbfuse.wire.smb1.transaction import TransactionPart, TransactionRequest
from tests.support.script import MOMENT, Answer, Asked, Files, Node, Script
from tests.support.scripted_smb2 import SHARE, all_information, entry_of

USER: Final = "ursula"
PASSWORD: Final = "Größe 🐙"
UID: Final = 11
TID: Final = 7
CHALLENGE: Final = bytes(range(8))
CAPABILITIES: Final = (
    Capabilities.UNICODE
    | Capabilities.LARGE_FILES
    | Capabilities.NT_SMBS
    | Capabilities.STATUS32
    | Capabilities.NT_FIND
    | Capabilities.INFOLEVEL_PASSTHRU
    | Capabilities.LARGE_READX
)

_SIGNATURE: Final = slice(SIGNATURE_OFFSET, SIGNATURE_OFFSET + 8)


class Refused(Exception):
    """The request is answered with an error status and an empty block."""

    def __init__(self, status: NtStatus) -> None:
        super().__init__(status.name)
        self.status = status


@dataclass(slots=True)
class _Search:
    """One listing under way."""

    node: Node
    position: int = 0


class Smb1Server:
    """The protocol state of one connection."""

    def __init__(self, files: Files, script: Script, *, sign: bool = False, max_mpx_count: int = 50) -> None:
        self._files = files
        self._script = script
        self._sign = sign
        self._max_mpx_count = max_mpx_count
        self._opens: dict[int, Node] = {}
        self._searches: dict[int, _Search] = {}
        self._next_id = 100
        self._mac: Md5Mac | None = None
        self._sequence = 0  # of the next request
        self._path: str | None = None

    def respond(self, pdu: bytes) -> tuple[list[bytes], bool]:
        """Return the messages that answer `pdu`, and whether the connection is to be closed behind them."""
        header, blocks = decode_message(memoryview(pdu))
        number = self._sequence + 1
        self._sequence += 1 if header.command == Command.NT_CANCEL else 2
        if header.command == Command.NT_CANCEL:
            return [], False
        status = NtStatus.SUCCESS
        replies: list[Any] = []
        self._path = None
        for block in blocks:
            try:
                replies.append(self._reply(block))
            except Refused as refused:
                status = refused.status
                replies.append(_Nothing(block.command))
                break
        flags2 = Flags2.LONG_NAMES | Flags2.NT_STATUS | Flags2.UNICODE
        uid = UID if header.command == Command.SESSION_SETUP_ANDX else header.uid
        tid = TID if header.command == Command.TREE_CONNECT_ANDX else header.tid
        answering = Header(
            header.command, status, Flags.REPLY, flags2, header.pid_high, bytes(8), tid, header.pid_low, uid, header.mid
        )
        answer = Answer(answering, body_of(replies))
        if header.command == Command.SESSION_SETUP_ANDX:
            number = 1  # of the response that ends a login, whatever came before it
        self._script.apply(Asked(header, pdu, self._path), answer)
        if answer.silent:
            return list(answer.before), answer.hang_up
        message = answer.pdu if answer.pdu is not None else self._assembled(answer, number)
        if answer.on_wire is not None:
            message = answer.on_wire(message)
        return [*answer.before, message], answer.hang_up

    def _assembled(self, answer: Answer, number: int) -> bytes:
        message = bytearray(encode_message(answer.header, (), UNICODE) + answer.body)
        if self._mac is not None:
            message[10] |= Flags2.SECURITY_SIGNATURE
            message[_SIGNATURE] = number.to_bytes(8, "little")
            message[_SIGNATURE] = self._mac.signature((message,))
        return bytes(message)

    def _reply(self, block: Block) -> Any:
        match block.command:
            case Command.NEGOTIATE:
                return self._negotiate(NegotiateRequest.decode_block(block, UNICODE))
            case Command.SESSION_SETUP_ANDX:
                return self._session_setup(SessionSetupRequest.decode_block(block, UNICODE))
            case Command.LOGOFF_ANDX:
                return LogoffMessage()
            case Command.TREE_CONNECT_ANDX:
                path = TreeConnectRequest.decode_block(block, UNICODE).path
                if path.rpartition("\\")[2].casefold() != SHARE:
                    raise Refused(NtStatus.BAD_NETWORK_NAME)
                return TreeConnectResponse(1, None, "A:", "NTFS")
            case Command.TREE_DISCONNECT:
                return TreeDisconnectMessage()
            case Command.ECHO:
                return EchoMessage.decode_block(block, UNICODE)
            case Command.OPEN_ANDX:
                asked = OpenAndxRequest.decode_block(block, UNICODE)
                node = self._file(asked.file_name)
                return OpenAndxResponse(self._open(node), node.attributes, 0, len(node.content), 0, 0, 0, 1)
            case Command.NT_CREATE_ANDX:
                created = NtCreateRequest.decode_block(block, UNICODE)
                node = self._find(created.file_name)
                size, times = len(node.content), (MOMENT, MOMENT, MOMENT, MOMENT)
                fid = self._open(node)
                return NtCreateResponse(0, fid, 1, *times, node.attributes, size, size, 0, 0, int(node.is_folder))
            case Command.READ_ANDX:
                return self._read(ReadRequest.decode_block(block, UNICODE))
            case Command.CLOSE:
                self._opens.pop(CloseRequest.decode_block(block, UNICODE).fid, None)
                return EmptyResponse()
            case Command.FIND_CLOSE2:
                self._searches.pop(FindClose2Request.decode_block(block, UNICODE).search_handle, None)
                return _Nothing(Command.FIND_CLOSE2)
            case Command.TRANSACTION2:
                return self._transaction(TransactionRequest.decode_block(block, UNICODE))
        raise Refused(NtStatus.SMB_BAD_COMMAND)

    # --- login --------------------------------------------------------------------------------------------------------

    def _negotiate(self, asked: NegotiateRequest) -> NegotiateResponse:
        if NT_LM_012 not in asked.dialects:
            raise Refused(NtStatus.NOT_SUPPORTED)
        mode = SecurityMode.USER_LEVEL | SecurityMode.ENCRYPT_PASSWORDS | SecurityMode.SIGNATURES_ENABLED
        if self._sign:
            mode |= SecurityMode.SIGNATURES_REQUIRED
        return NegotiateResponse(
            dialect_index=asked.dialects.index(NT_LM_012),
            security_mode=mode,
            max_mpx_count=self._max_mpx_count,
            max_number_vcs=1,
            max_buffer_size=16644,
            max_raw_size=65536,
            session_key=0,
            capabilities=CAPABILITIES,
            system_time=MOMENT,
            server_time_zone=0,
            challenge=CHALLENGE,
            domain_name="GROUP",
            server_name="SERVER",
        )

    def _session_setup(self, asked: SessionSetupRequest) -> SessionSetupResponse:
        if asked.account_name:
            response = asked.unicode_password
            key = ntowf_v2(nt_hash(PASSWORD), USER, asked.primary_domain)
            proof = hmac.digest(key, CHALLENGE + response[16:], "md5")
            if asked.account_name != USER or proof != response[:16]:
                raise Refused(NtStatus.LOGON_FAILURE)
            if self._sign:
                self._mac = Md5Mac(hmac.digest(key, proof, "md5") + response)
                self._sequence = 2
                return SessionSetupResponse(0, None, "Unix", "scripted", "GROUP")
        return SessionSetupResponse(0, None, "Unix", "scripted", "GROUP")

    # --- files --------------------------------------------------------------------------------------------------------

    def _find(self, path: str) -> Node:
        self._path = path.strip("\\")
        node = self._files.find(path)
        if node is None:
            raise Refused(NtStatus.OBJECT_NAME_NOT_FOUND)
        return node

    def _file(self, path: str) -> Node:
        node = self._find(path)
        if node.is_folder:
            raise Refused(NtStatus.FILE_IS_A_DIRECTORY)
        return node

    def _open(self, node: Node) -> int:
        self._next_id += 1
        self._opens[self._next_id] = node
        return self._next_id

    def _opened(self, fid: int) -> Node:
        # In a chain the FID is the one that the command before has opened.
        node = self._opens.get(self._next_id if fid == 0 else fid)
        if node is None:
            raise Refused(NtStatus.INVALID_HANDLE)
        self._path = node.path
        return node

    def _read(self, asked: ReadRequest) -> ReadResponse:
        offset = asked.offset | (asked.offset_high or 0) << 32
        length = asked.max_count | asked.max_count_high << 16
        return ReadResponse(0xFFFF, 0, b"\0", self._opened(asked.fid).content[offset : offset + length])

    def _transaction(self, asked: TransactionRequest) -> TransactionPart:
        parameters, data = asked.parameters, b""
        match asked.setup[0]:
            case Subcommand.FIND_FIRST2:
                first = FindFirst2Request.decode(parameters, UNICODE)
                self._next_id += 1
                search = self._searches[self._next_id] = _Search(self._folder(first.file_name))
                count, end, data = self._page(search, first.information_level, asked.max_data_count)
                if not count:
                    raise Refused(NtStatus.NO_SUCH_FILE)
                if end and first.flags & FindFlags.CLOSE_AT_EOS:
                    del self._searches[self._next_id]
                return part_of(FindFirst2Response(self._next_id, count, end, 0, 0).encode(), data)
            case Subcommand.FIND_NEXT2:
                following = FindNext2Request.decode(parameters, UNICODE)
                search_under_way = self._searches.get(following.sid)
                if search_under_way is None:
                    raise Refused(NtStatus.INVALID_HANDLE)
                count, end, data = self._page(search_under_way, following.information_level, asked.max_data_count)
                return part_of(FindNext2Response(count, end, 0, 0).encode(), data)
            case Subcommand.QUERY_PATH_INFORMATION:
                by_path = QueryPathRequest.decode(parameters, UNICODE)
                level, node = by_path.information_level, self._find(by_path.file_name)
            case Subcommand.QUERY_FILE_INFORMATION:
                by_handle = QueryFileRequest.decode(parameters)
                level, node = by_handle.information_level, self._opened(by_handle.fid)
            case Subcommand.QUERY_FS_INFORMATION:
                return part_of(b"", self._volume(QueryFsRequest.decode(parameters).information_level))
            case _:
                raise Refused(NtStatus.NOT_SUPPORTED)
        return part_of(bytes(2), _information(level, node))

    def _folder(self, pattern: str) -> Node:
        node = self._find(pattern.rpartition("\\")[0])
        if not node.is_folder:
            raise Refused(NtStatus.NOT_A_DIRECTORY)
        return node

    def _page(self, search: _Search, level: int, room: int) -> tuple[int, int, bytes]:
        """Return the number of entries, 1 at the end of the search, and the page."""
        if level != FindLevel.ID_FULL_DIRECTORY_INFO:
            raise Refused(NtStatus.INVALID_INFO_CLASS)
        names = [(".", search.node), ("..", search.node)]
        names += [(child.name, child) for child in search.node.children or ()]
        entries: list[Any] = []
        page = b""
        for name, node in names[search.position :]:
            longer = encode_page(FileInformation.ID_FULL_DIRECTORY, [*entries, entry_of(name, node)])
            if len(longer) > room:
                break
            entries.append(entry_of(name, node))
            page = longer
        search.position += len(entries)
        return len(entries), int(search.position == len(names)), page

    def _volume(self, level: int) -> bytes:
        if level == FsLevel.PASS_THROUGH_FULL_SIZE:
            return FileFsFullSizeInformation(1000, 500, 600, 8, 512).encode()
        if level == FsLevel.QUERY_FS_ATTRIBUTE_INFO:
            return FileFsAttributeInformation(0x4F, 255, "NTFS").encode()
        raise Refused(NtStatus.INVALID_INFO_CLASS)


def _information(level: int, node: Node) -> bytes:
    whole = all_information(node)
    match level:
        case PathLevel.PASS_THROUGH_ALL:
            return whole.encode()
        case PathLevel.QUERY_FILE_ALL_INFO:
            return QueryFileAllInfo(whole.basic, whole.standard, 0, whole.file_name).encode(UNICODE)
        case PathLevel.PASS_THROUGH_INTERNAL:
            return whole.internal.encode()
    raise Refused(NtStatus.INVALID_INFO_CLASS)


@dataclass(frozen=True, slots=True)
class _Nothing:
    """The empty block of an error, or of a response without content."""

    command: int

    def encode_block(self, _at: int, _strings: object) -> bytes:
        return bytes(3)


def body_of(replies: Sequence[Any]) -> bytes:
    """Return the blocks of a response, as they stand behind its header."""
    header = Header(replies[0].command, 0, 0, 0, 0, bytes(8), 0, 0, 0, 0)
    return bytes(encode_message(header, replies, UNICODE)[HEADER_SIZE:])


def part_of(parameters: bytes, data: bytes) -> TransactionPart:
    """Return a TRANSACTION2 response that is whole in one message."""
    return TransactionPart(Command.TRANSACTION2, len(parameters), len(data), parameters, 0, data, 0)


def with_header(answer: Answer, **changes: int) -> None:
    """Change fields of an SMB1 answer's header."""
    answer.header = replace(answer.header, **changes)
