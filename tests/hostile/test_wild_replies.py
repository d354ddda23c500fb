"""Replies that are no replies: whatever the server sends for whatever command, each caller gets a value or an errno.

Every row is one kind of nonsense; it is said in answer to each command that reading needs, again and again, on every
connection that the share makes. Afterwards the server is an ordinary one, and everything works.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest

from smbfuse.config import Vers
from smbfuse.status import NtStatus
from smbfuse.wire.smb1.header import Command as Command1
from smbfuse.wire.smb2.errors import ErrorContext, ErrorResponse, SymlinkError
from smbfuse.wire.smb2.header import UNSOLICITED, Command, Header, HeaderFlags
from tests.hostile.shares import OPERATIONS, connected, serves_again, survives
from tests.support.script import Action, Answer, Asked, Raw
from tests.support.scripted_server import ScriptedServer

Start = Callable[..., ScriptedServer]
Change = Callable[[Asked, Answer], None]

GARBAGE: Final = random.Random(7).randbytes(400)
BREAK: Final = Header(Command.OPLOCK_BREAK, UNSOLICITED, flags=HeaderFlags.SERVER_TO_REDIR).encode()


def header(**changes: int) -> Change:
    """Return the action that changes fields of the header."""

    def change(_asked: Asked, answer: Answer) -> None:
        answer.header = replace(answer.header, **changes)

    return change


def body(make: Callable[[bytes], bytes]) -> Change:
    """Return the action that changes the body."""

    def change(_asked: Asked, answer: Answer) -> None:
        answer.body = make(answer.body)

    return change


def error(status: int, data: bytes) -> Change:
    """Return the action that answers with an error and this body."""

    def change(_asked: Asked, answer: Answer) -> None:
        answer.header = replace(answer.header, status=status)
        answer.body = data

    return change


def before(message: bytes) -> Change:
    """Return the action that sends a message first."""

    def change(_asked: Asked, answer: Answer) -> None:
        answer.before.append(message)

    return change


def another_id(_asked: Asked, answer: Answer) -> None:
    answer.header = replace(answer.header, message_id=answer.header.message_id + 1000)


def twice(_asked: Asked, answer: Answer) -> None:
    answer.before.append(answer.header.encode() + answer.body)


def another_mid(_asked: Asked, answer: Answer) -> None:
    answer.header = replace(answer.header, mid=(answer.header.mid + 100) % 0xFFFF)


def hang_up(_asked: Asked, answer: Answer) -> None:
    answer.silent = answer.hang_up = True


def cut_on_wire(_asked: Asked, answer: Answer) -> None:
    answer.on_wire = lambda message: message[: len(message) // 2]


_LINK: Final = SymlinkError(0xFFFE, 1, "..\\" * 300, "").encode()

FRAMES: Final[dict[str, Action]] = {
    "a keepalive": before(Raw(b"\x85\0\0\0")),
    "a keepalive with a body": before(Raw(b"\x85\0\0\4body")),
    "a session response within the session": before(Raw(b"\x82\0\0\0")),
    "a session refusal within the session": before(Raw(b"\x83\0\0\1\x80")),
    "a packet of no known kind": before(Raw(b"\x99\0\0\0")),
    "many empty packets": before(Raw(bytes(4) * 1000)),
}
SMB2: Final[dict[str, Action]] = {
    **FRAMES,
    "another command": header(command=Command.FLUSH),
    "an id that nobody waits for": another_id,
    "a request instead of a response": header(flags=0),
    "twice": twice,
    "another session and tree": header(session_id=1, tree_id=0xFFFFFFFF),
    "a header cut short": b"\xfeSMB" + bytes(20),
    "nothing at all": b"",
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "SMB1": b"\xffSMB" + bytes(60),
    "garbage": GARBAGE,
    "encrypted garbage": b"\xfdSMB" + GARBAGE,
    "compressed": b"\xfcSMB" + GARBAGE,
    "NextCommand out of the message": header(next_command=0xFFFFFFF8),
    "NextCommand within the header": header(next_command=8),
    "NextCommand not aligned": header(next_command=67),
    "a body cut short": body(lambda data: data[:5]),
    "no body": body(lambda _data: b""),
    "a body of ones": body(lambda data: b"\xff" * len(data)),
    "a body of zeros": body(lambda data: bytes(len(data))),
    "a body of garbage": body(lambda data: data[:2] + GARBAGE),
    "half a message": cut_on_wire,
    "an error without a body": error(NtStatus.ACCESS_DENIED, b""),
    "an error of endless data": error(NtStatus.ACCESS_DENIED, ErrorResponse(b"").encode()[:4] + b"\xff" * 5),
    "a status that nobody knows": error(0xC0DEAD00, ErrorResponse().encode()),
    "a warning that nobody knows": error(0x8000FFFF, ErrorResponse().encode()),
    "pending, but not asynchronous": header(status=NtStatus.PENDING),
    "more processing required": header(status=NtStatus.MORE_PROCESSING_REQUIRED),
    "no more files": error(NtStatus.NO_MORE_FILES, ErrorResponse().encode()),
    "overflow": header(status=NtStatus.BUFFER_OVERFLOW),
    "a link that leads in circles": error(NtStatus.STOPPED_ON_SYMLINK, ErrorResponse(_LINK).encode()),
    "a link of the newest form": error(
        NtStatus.STOPPED_ON_SYMLINK, ErrorResponse(contexts=(ErrorContext(0, _LINK), ErrorContext(0, b"SYML"))).encode()
    ),
    "a link that says nothing": error(NtStatus.STOPPED_ON_SYMLINK, ErrorResponse().encode()),
    "the share is gone": error(NtStatus.NETWORK_NAME_DELETED, ErrorResponse().encode()),
    "the session is gone": error(NtStatus.USER_SESSION_DELETED, ErrorResponse().encode()),
    "the session has expired": error(NtStatus.NETWORK_SESSION_EXPIRED, ErrorResponse().encode()),
    "a break cut short": before(BREAK + b"\x18\0"),
    "a break of nothing": before(BREAK + b"\x18\0" + bytes(22)),
    "something unasked": before(Header(Command.READ, UNSOLICITED, flags=HeaderFlags.SERVER_TO_REDIR).encode()),
    "no more credits": header(credits=0),
    "too many credits": header(credits=0xFFFF),
    "the end of the connection": hang_up,
}
SMB2_COMMANDS: Final = (
    Command.CREATE,
    Command.READ,
    Command.QUERY_DIRECTORY,
    Command.QUERY_INFO,
    Command.CLOSE,
    Command.IOCTL,
    Command.ECHO,
)

SMB1: Final[dict[str, Action]] = {
    **FRAMES,
    "another command": header(command=0x2F),
    "an id that nobody waits for": another_mid,
    "another process": header(pid_low=1, pid_high=1),
    "a request instead of a response": header(flags=0),
    "another session and tree": header(uid=99, tid=99),
    "a header cut short": b"\xffSMB" + bytes(20),
    "nothing at all": b"",
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "SMB2": b"\xfeSMB" + bytes(60),
    "garbage": GARBAGE,
    "garbage behind a header": b"\xffSMB" + GARBAGE,
    "a body cut short": body(lambda data: data[:5]),
    "no body": body(lambda _data: b""),
    "a body of ones": body(lambda data: b"\xff" * len(data)),
    "a body of zeros": body(lambda data: bytes(len(data))),
    "a body of garbage": body(lambda data: data[:1] + GARBAGE),
    "half a message": cut_on_wire,
    "a chain that goes back": body(lambda data: data[:1] + b"\x2e\0\x10\0" + data[5:]),
    "a chain out of the message": body(lambda data: data[:1] + b"\x2e\0\xff\xff" + data[5:]),
    "a status that nobody knows": error(0xC0DEAD00, bytes(3)),
    "a warning that nobody knows": error(0x8000FFFF, bytes(3)),
    "pending": header(status=NtStatus.PENDING),
    "more processing required": header(status=NtStatus.MORE_PROCESSING_REQUIRED),
    "no more files": error(NtStatus.NO_MORE_FILES, bytes(3)),
    "overflow": header(status=NtStatus.BUFFER_OVERFLOW),
    "the share is gone": error(NtStatus.NETWORK_NAME_DELETED, bytes(3)),
    "the session is gone": error(NtStatus.SMB_BAD_UID, bytes(3)),
    "a DOS error": header(status=0x00020001, flags2=0x8001),
    "a DOS error that nobody knows": header(status=0xFFFF0077, flags2=0x8001),
    "success without words": error(0, bytes(3)),
    "a lock request": before(b"\xffSMB\x24" + bytes(4) + b"\0" + bytes(18) + b"\xff\xff\xff\xff" + bytes(3)),
    "the end of the connection": hang_up,
}
SMB1_COMMANDS: Final = (
    Command1.OPEN_ANDX,
    Command1.READ_ANDX,
    Command1.TRANSACTION2,
    Command1.CLOSE,
    Command1.NT_CREATE_ANDX,
    Command1.ECHO,
)


@pytest.mark.parametrize("command", SMB2_COMMANDS, ids=lambda command: command.name)
@pytest.mark.parametrize("kind", SMB2)
async def test_smb2(hostile: Start, kind: str, command: Command) -> None:
    server = hostile()
    async with connected(server) as share:
        server.script.on(command, SMB2[kind])
        for operation in OPERATIONS.values():
            await survives(share, operation)
        await serves_again(server, share)


@pytest.mark.parametrize("command", SMB1_COMMANDS, ids=lambda command: command.name)
@pytest.mark.parametrize("kind", SMB1)
async def test_smb1(hostile: Start, kind: str, command: Command1) -> None:
    server = hostile()
    async with connected(server, vers=Vers.SMB1) as share:
        server.script.on(command, SMB1[kind])
        for operation in OPERATIONS.values():
            await survives(share, operation)
        await serves_again(server, share)


@pytest.mark.parametrize("vers", [Vers.SMB311, Vers.SMB1], ids=lambda vers: vers.value)
async def test_the_same_server_left_alone_serves(hostile: Start, vers: Vers) -> None:
    server = hostile()
    async with connected(server, vers=vers) as share:
        await serves_again(server, share)
