"""An SMB1 server in memory that can be as old, and as odd, as a test wants it. A `ByteStream` without a network.

It knows one folder of files, and answers each request with what its age allows: Unicode or a code page, NTSTATUS or
DOS errors, the information levels in `known_levels`, OPEN_ANDX or not, chains or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from smbfuse.config import Login, Network, Secret, Security, Target, Vers
from smbfuse.security.challenge import lm, ntlm_v1
from smbfuse.status import NtStatus
from smbfuse.wire import nbss
from smbfuse.wire.fscc import FileBasicInformation, FileStandardInformation
from smbfuse.wire.record import Buffer
from smbfuse.wire.smb1 import files, io, levels, listing, names, negotiate, session, trans2, transaction
from smbfuse.wire.smb1.control import EchoMessage
from smbfuse.wire.smb1.header import Command, Flags, Flags2, Header
from smbfuse.wire.smb1.levels import FsLevel, PathLevel
from smbfuse.wire.smb1.listing import FindLevel
from smbfuse.wire.smb1.message import Block, Message, Strings, decode_message, encode_message
from smbfuse.wire.smb1.negotiate import Capabilities, SecurityMode
from smbfuse.wire.smb1.trans2 import Subcommand

PASSWORD: Final = "Secret"
CHALLENGE: Final = bytes(range(8))
ZONE_MINUTES: Final = -60  # an hour east of UTC
WRITTEN: Final = 1_600_000_000  # in UTC, even: DOS times have 2 s
DATE, CLOCK = levels.unix_to_dos_time(WRITTEN, ZONE_MINUTES)
FILETIME: Final = 132_444_736_000_000_000
UID, TID = 0x0B00, 0x0C00

OLD: Final = Capabilities(0)
NT: Final = Capabilities.UNICODE | Capabilities.NT_SMBS | Capabilities.STATUS32 | Capabilities.LARGE_FILES

_DOS: Final = {
    NtStatus.OBJECT_NAME_NOT_FOUND: 0x00020001,
    NtStatus.NO_SUCH_FILE: 0x00120001,
    NtStatus.ACCESS_DENIED: 0x00050001,
    NtStatus.FILE_IS_A_DIRECTORY: 0x00050001,
    NtStatus.OBJECT_NAME_COLLISION: 0x00500001,
    NtStatus.SHARING_VIOLATION: 0x00200001,
    NtStatus.INVALID_INFO_CLASS: 0x007C0001,
    NtStatus.LOGON_FAILURE: 0x00020002,
    NtStatus.WRONG_PASSWORD: 0x00020002,
    NtStatus.SMB_BAD_COMMAND: 0x00400002,
}


class Refused(Exception):
    """The request is answered with an error."""

    def __init__(self, status: NtStatus) -> None:
        super().__init__(status.name)
        self.status = status


@dataclass
class Nothing:
    """The empty block of an error, or of a response without content."""

    command: int

    def encode_block(self, at: int, strings: Strings) -> bytes:
        return bytes(3)


@dataclass
class Server:
    """What the server is like. The defaults make a Windows of the nineties."""

    capabilities: Capabilities = OLD
    security_mode: SecurityMode = SecurityMode.USER_LEVEL | SecurityMode.ENCRYPT_PASSWORDS
    max_mpx_count: int = 50
    max_buffer_size: int = 4356
    known_levels: frozenset[int] = frozenset({PathLevel.INFO_STANDARD, FsLevel.INFO_ALLOCATION})
    path_information: bool = True  # else only the oldest command tells of files and of the disk
    chains: bool = True
    open_andx: bool = True
    page_entries: int = 2
    most_read: int = 0xFFFF
    files: dict[str, bytes] = field(default_factory=lambda: {"a.txt": b"hello", "größe": b"x" * 9000, "c": b""})
    requests: list[tuple[Header, list[Block]]] = field(default_factory=list)
    most_in_flight: int = 0
    peer: str = "scripted"

    def __post_init__(self) -> None:
        self._arrived, self._closed = trio.Event(), False
        self._outbox = bytearray()
        self._opens: dict[int, str] = {}
        self._searches: dict[int, list[str]] = {}
        self._next_id = 0

    @property
    def strings(self) -> Strings:
        return Strings(bool(self.capabilities & Capabilities.UNICODE), "cp850")

    @property
    def commands(self) -> list[str]:
        """Names of what was asked, chains joined by '+'."""
        return ["+".join(Command(block.command).name for block in blocks) for _, blocks in self.requests]

    # --- ByteStream ---------------------------------------------------------------------------------------------------

    async def receive_into(self, buffer: memoryview) -> int:
        while not self._outbox and not self._closed:
            self._arrived = trio.Event()
            await self._arrived.wait()
        await trio.lowlevel.checkpoint()
        count = min(len(buffer), len(self._outbox))
        buffer[:count] = self._outbox[:count]
        del self._outbox[:count]
        return count

    def send_now(self, buffers: Sequence[Buffer]) -> Sequence[Buffer]:
        return buffers

    def undelivered(self) -> int:
        return 0

    async def send_all(self, buffers: Sequence[Buffer]) -> None:
        data = b"".join(buffers)
        count = 0
        while data:
            _, length = nbss.decode_header(data)
            self._take(data[4 : 4 + length])
            data = data[4 + length :]
            count += 1
        self.most_in_flight = max(self.most_in_flight, count)
        self._arrived.set()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        self._closed = True
        self._arrived.set()

    # --- the server ---------------------------------------------------------------------------------------------------

    def _take(self, pdu: bytes) -> None:
        header, blocks = decode_message(memoryview(pdu))
        self.requests.append((header, blocks))
        status, replies = NtStatus.SUCCESS, []
        for block in blocks if self.chains else blocks[:1]:
            try:
                replies.append(self._reply(block))
            except Refused as refused:
                status = refused.status
                replies.append(Nothing(block.command))
                break
        flags2 = Flags2.UNICODE if self.strings.unicode else Flags2(0)
        value: int = status
        if self.capabilities & Capabilities.STATUS32:
            flags2 |= Flags2.NT_STATUS
        elif status:
            value = _DOS[status]
        tid = TID if header.command == Command.TREE_CONNECT_ANDX else header.tid
        uid = UID if header.command == Command.SESSION_SETUP_ANDX else header.uid
        pid = (header.pid_high, header.pid_low)
        answer = Header(header.command, value, Flags.REPLY, int(flags2), pid[0], bytes(8), tid, pid[1], uid, header.mid)
        message = encode_message(answer, replies, self.strings)
        self._outbox += nbss.frame(len(message)) + message

    def _reply(self, block: Block) -> Message:
        match block.command:
            case Command.NEGOTIATE:
                return negotiate.NegotiateResponse(
                    dialect_index=0,
                    security_mode=self.security_mode,
                    max_mpx_count=self.max_mpx_count,
                    max_number_vcs=1,
                    max_buffer_size=self.max_buffer_size,
                    max_raw_size=65536,
                    session_key=0,
                    capabilities=self.capabilities,
                    system_time=FILETIME,
                    server_time_zone=ZONE_MINUTES,
                    challenge=CHALLENGE,
                )
            case Command.SESSION_SETUP_ANDX:
                return self._log_in(session.SessionSetupRequest.decode_block(block, self.strings))
            case Command.TREE_CONNECT_ANDX:
                return self._connect(session.TreeConnectRequest.decode_block(block, self.strings))
            case Command.ECHO:
                return EchoMessage.decode_block(block, self.strings)
            case Command.OPEN_ANDX if self.open_andx:
                name = self._known(files.OpenAndxRequest.decode_block(block, self.strings).file_name)
                local = WRITTEN - ZONE_MINUTES * 60
                return files.OpenAndxResponse(self._open(name), 0x20, local, len(self.files[name]), 0, 0, 0, 1)
            case Command.NT_CREATE_ANDX if self.capabilities & Capabilities.NT_SMBS:
                name = self._known(files.NtCreateRequest.decode_block(block, self.strings).file_name)
                size, fid = len(self.files[name]), self._open(name)
                times = (FILETIME, FILETIME, FILETIME, FILETIME)
                return files.NtCreateResponse(0, fid, 1, *times, 0x20, size, size, 0, 0, 0)
            case Command.READ_ANDX:
                read = io.ReadRequest.decode_block(block, self.strings)
                content = self.files[self._opens[read.fid or self._next_id]]
                data = content[read.offset : read.offset + min(read.max_count, self.most_read)]
                return io.ReadResponse(0xFFFF, 0, b"", data)
            case Command.CLOSE | Command.FIND_CLOSE2 | Command.TREE_DISCONNECT:
                return Nothing(block.command)
            case Command.LOGOFF_ANDX:
                return session.LogoffMessage()
            case Command.QUERY_INFORMATION:
                asked = names.QueryInformationRequest.decode_block(block, self.strings)
                name = self._known(asked.name, folder=True)
                attributes = 0x10 if not name else 0x20
                local = WRITTEN - ZONE_MINUTES * 60
                return names.QueryInformationResponse(attributes, local, len(self.files.get(name, b"")))
            case Command.QUERY_INFORMATION_DISK:
                return files.QueryInformationDiskResponse(1000, 4, 512, 500)
            case Command.TRANSACTION2:
                return self._transaction(transaction.TransactionRequest.decode_block(block, self.strings))
        raise Refused(NtStatus.SMB_BAD_COMMAND)

    def _log_in(self, asked: session.SessionSetupRequest) -> session.SessionSetupResponse:
        if self.security_mode & SecurityMode.USER_LEVEL and not self._is_password(
            asked.unicode_password or asked.oem_password
        ):
            raise Refused(NtStatus.LOGON_FAILURE)
        return session.SessionSetupResponse(0)

    def _connect(self, asked: session.TreeConnectRequest) -> session.TreeConnectResponse:
        if not asked.path.casefold().endswith("\\share"):
            raise Refused(NtStatus.OBJECT_NAME_NOT_FOUND)
        if not self.security_mode & SecurityMode.USER_LEVEL and not self._is_password(asked.password):
            raise Refused(NtStatus.WRONG_PASSWORD)
        return session.TreeConnectResponse(None, None, "A:")

    def _is_password(self, given: bytes) -> bool:
        if not self.security_mode & SecurityMode.ENCRYPT_PASSWORDS:
            return given in (PASSWORD.encode() + b"\0", (PASSWORD + "\0").encode("utf-16-le"))
        return given in (ntlm_v1(PASSWORD, CHALLENGE).unicode, lm(PASSWORD, CHALLENGE, "cp850").oem)

    def _known(self, path: str, *, folder: bool = False) -> str:
        name = path.lstrip("\\")
        if name not in self.files and not (folder and not name):
            raise Refused(NtStatus.OBJECT_NAME_NOT_FOUND)
        return name

    def _open(self, name: str) -> int:
        self._next_id += 1
        self._opens[self._next_id] = name
        return self._next_id

    # --- transactions -------------------------------------------------------------------------------------------------

    def _transaction(self, asked: transaction.TransactionRequest) -> transaction.TransactionPart:
        parameters, subcommand = asked.parameters, asked.setup[0]
        if subcommand == Subcommand.FIND_FIRST2:
            first = trans2.FindFirst2Request.decode(parameters, self.strings)
            self._level(first.information_level)
            self._next_id += 1
            self._searches[self._next_id] = [".", "..", *self.files]
            count, end, data = self._page(self._next_id, first.information_level)
            return _part(trans2.FindFirst2Response(self._next_id, count, end, 0, 0).encode(), data)
        if subcommand == Subcommand.FIND_NEXT2:
            following = trans2.FindNext2Request.decode(parameters, self.strings)
            count, end, data = self._page(following.sid, following.information_level)
            return _part(trans2.FindNext2Response(count, end, 0, 0).encode(), data)
        if not self.path_information:
            raise Refused(NtStatus.SMB_BAD_COMMAND)
        if subcommand == Subcommand.QUERY_PATH_INFORMATION:
            by_path = trans2.QueryPathRequest.decode(parameters, self.strings)
            self._level(by_path.information_level)
            name = self._known(by_path.file_name, folder=True)
            return _part(bytes(2), self._information(by_path.information_level, name))
        if subcommand == Subcommand.QUERY_FS_INFORMATION:
            level = trans2.QueryFsRequest.decode(parameters).information_level
            self._level(level)
            return _part(b"", levels.InfoAllocation(0, 4, 1000, 500, 512).encode())
        raise Refused(NtStatus.INVALID_INFO_CLASS)

    def _level(self, level: int) -> None:
        if level not in self.known_levels:
            raise Refused(NtStatus.INVALID_INFO_CLASS)

    def _information(self, level: int, name: str) -> bytes:
        if level == PathLevel.INFO_STANDARD:
            return self._standard(name).encode()
        size, folder = len(self.files.get(name, b"")), int(not name)
        basic = FileBasicInformation(FILETIME, FILETIME, FILETIME, FILETIME, 0x10 if folder else 0x20)
        return levels.QueryFileAllInfo(basic, FileStandardInformation(size, size, 1, 0, folder), 0, name).encode(
            self.strings
        )

    def _standard(self, name: str) -> levels.InfoStandard:
        size = len(self.files.get(name, b""))
        attributes = 0x20 if name in self.files else 0x10
        return levels.InfoStandard(DATE, CLOCK, DATE, CLOCK, DATE, CLOCK, size, size, attributes)

    def _page(self, sid: int, level: int) -> tuple[int, int, bytes]:
        names = self._searches[sid]
        now, names[:] = names[: self.page_entries], names[self.page_entries :]
        assert level == FindLevel.INFO_STANDARD
        entries = [listing.StandardEntry(name, self._standard(name), 0) for name in now]
        return len(now), int(not names), listing.encode_standard_page(entries, self.strings)


def _part(parameters: bytes, data: bytes) -> transaction.TransactionPart:
    return transaction.TransactionPart(Command.TRANSACTION2, len(parameters), len(data), parameters, 0, data, 0)


def settings(**network: Any) -> dict[str, Any]:
    """Return what a session is established with, for the server's one user."""
    return {
        "target": Target(host="server", share="share"),
        "login": Login(user="ursula", password=Secret(PASSWORD)),
        "security": Security(vers=Vers.SMB1),
        "network": Network(**{"timeo_s": 5.0, **network}),
    }
