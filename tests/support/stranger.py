"""A client of another make, in a process of its own: it opens without sharing, locks ranges, answers no break.

`Stranger` is for tests; the process is this module run by itself, with impacket. It reads lines of JSON, a method of
`Handles` and its arguments, and answers each with a line: {"value": …} or {"status": NTSTATUS}.
"""

import contextlib
import json
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

from tests.support.samba import SambaServer
from tests.support.users import ROOT

READ_DATA: Final = 0x00120089  # FILE_GENERIC_READ.  [MS-SMB2] 2.2.13.1.1
WRITE_DATA: Final = 0x00120116  # FILE_GENERIC_WRITE
SHARE_NOTHING: Final = 0
SHARE_ALL: Final = 7
BATCH: Final = 9  # SMB2_OPLOCK_LEVEL_BATCH.  [MS-SMB2] 2.2.13
ANSWER_S: Final = 60.0


class Refused(Exception):
    """The server answered with an error; `status` is the NTSTATUS."""

    def __init__(self, status: int) -> None:
        super().__init__(f"0x{status:08X}")
        self.status = status


class Stranger:
    """Such a client, connected to a server's share."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def do(self, method: str, *arguments: Any) -> Any:
        """Call a method there and return its answer.  Raises: Refused."""
        asking, answering = self._process.stdin, self._process.stdout
        assert asking is not None
        assert answering is not None
        asking.write(json.dumps([method, *arguments]).encode() + b"\n")
        asking.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(answering, selectors.EVENT_READ)
            assert selector.select(ANSWER_S), f"{method} was not answered"
        line = answering.readline()
        assert line, f"{method} ended the client"
        answer = json.loads(line)
        if "status" in answer:
            raise Refused(answer["status"])
        return answer["value"]

    def open(self, path: str, *, access: int = READ_DATA, share: int = SHARE_ALL, oplock: int = 0) -> str:
        """Open a file that exists and return what stands for the handle."""
        return str(self.do("open", path, access, share, oplock))

    def lock(self, handle: str, offset: int, length: int) -> None:
        """Lock a range, for itself alone, at once or not at all."""
        self.do("lock", handle, offset, length)

    def read(self, handle: str, offset: int, length: int) -> bytes:
        """Read bytes."""
        return bytes.fromhex(self.do("read", handle, offset, length))

    def write(self, handle: str, offset: int, data: bytes) -> None:
        """Write bytes."""
        self.do("write", handle, offset, data.hex())

    def close(self, handle: str) -> None:
        """Close a handle."""
        self.do("close", handle)

    def vanish(self) -> None:
        """End at once, without a word to the server."""
        self._process.kill()
        self._process.wait(ANSWER_S)


@contextlib.contextmanager
def stranger_on(server: SambaServer, share: str = "share") -> Iterator[Stranger]:
    """Run such a client for a while."""
    login = [str(server.port), server.user.name, server.password, share]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.stranger", *login],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    stranger = Stranger(process)
    try:
        yield stranger
    finally:
        stranger.vanish()
        process.communicate()


def serve(port: int, user: str, password: str, share: str) -> None:
    """Be that client, until the input ends."""
    from impacket import smb3structs  # slow to import, and only ever in this process
    from impacket.smbconnection import SMBConnection

    connection = SMBConnection("127.0.0.1", "127.0.0.1", sess_port=port, preferredDialect=smb3structs.SMB2_DIALECT_21)
    connection.login(user, password)
    tree = connection.connectTree(share)
    server = connection.getSMBServer()
    handles: dict[str, bytes] = {}

    def opening(path: str, access: int, share_access: int, oplock: int) -> str:
        handle = connection.openFile(
            tree, path.replace("/", "\\"), access, share_access, 0, smb3structs.FILE_OPEN, oplockLevel=oplock
        )
        handles[handle.hex()] = handle
        return str(handle.hex())

    def lock(handle: str, offset: int, length: int) -> None:
        element = smb3structs.SMB2_LOCK_ELEMENT()
        element["Offset"], element["Length"] = offset, length
        element["Flags"] = smb3structs.SMB2_LOCKFLAG_EXCLUSIVE_LOCK | smb3structs.SMB2_LOCKFLAG_FAIL_IMMEDIATELY
        asked = smb3structs.SMB2Lock()
        asked["FileID"], asked["LockCount"], asked["LockSequence"] = handles[handle], 1, 0
        asked["Locks"] = element.getData()
        packet = server.SMB_PACKET()
        packet["Command"], packet["TreeID"], packet["Data"] = smb3structs.SMB2_LOCK, tree, asked
        server.recvSMB(server.sendSMB(packet)).isValidAnswer(0)

    methods: dict[str, Callable[..., Any]] = {
        "open": opening,
        "lock": lock,
        "read": lambda handle, offset, length: connection.readFile(tree, handles[handle], offset, length).hex(),
        "write": lambda handle, offset, data: connection.writeFile(tree, handles[handle], bytes.fromhex(data), offset),
        "close": lambda handle: connection.closeFile(tree, handles.pop(handle)),
    }
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        try:
            answer = {"value": methods[method](*arguments)}
        except Exception as error:  # two exceptions of impacket say it, each in its own way
            code = getattr(error, "getErrorCode", getattr(error, "get_error_code", None))
            if code is None:
                raise
            answer = {"status": code()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]), *sys.argv[2:])
