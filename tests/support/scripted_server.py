"""A server for what no real one does on demand: ordinary until its script says otherwise, in a thread of its own.

    with ScriptedServer.started({"file": b"data", "folder": {}}, accounts=tmp_path) as server:
        server.script.on(Command.READ, lambda asked, answer: ...)
        # connect to 127.0.0.1, server.port

It speaks SMB2 and SMB1, whichever the client begins with.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import trio

from smbfuse.wire import nbss
from tests.support.script import Files, Raw, Script, Tree
from tests.support.scripted_smb1 import Smb1Server
from tests.support.scripted_smb2 import Smb2Server

USER: Final = "ursula"
PASSWORD: Final = "Größe 🐙"

_SMB1: Final = b"\xffSMB"
_START_TIMEOUT_S: Final = 10.0


class ScriptedServer:
    """One listening port, and the connections made to it. Commands work from any thread."""

    def __init__(self, tree: Tree, *, smb1: dict[str, Any] | None = None, **smb2: Any) -> None:
        """Show `tree`. `smb1` and the other arguments are those of `Smb1Server` and `Smb2Server`."""
        self.script = Script()
        self.port = 0
        self.connections = 0  # made so far
        self.errors: list[BaseException] = []  # of the server itself: a test's own mistake
        self._files = Files(tree)
        self._smb1 = smb1 or {}
        self._smb2 = smb2
        self._ready = threading.Event()
        self._scope: trio.CancelScope | None = None
        self._open: set[trio.CancelScope] = set()
        self._token: trio.lowlevel.TrioToken | None = None

    @classmethod
    @contextlib.contextmanager
    def started(cls, tree: Tree, *, accounts: Path, **settings: Any) -> Iterator["ScriptedServer"]:
        """Serve until the block ends. `accounts` is a folder for the file that pyspnego reads its accounts from.

        A failure of the server itself (not one of its script's) fails the block.
        """
        server = cls(tree, **settings)
        file = accounts / "accounts"
        file.write_text(f":{USER}:{PASSWORD}\n", encoding="utf-8")
        before = os.environ.get("NTLM_USER_FILE")
        os.environ["NTLM_USER_FILE"] = str(file)
        thread = threading.Thread(target=server._run, name="scripted server", daemon=True)
        thread.start()
        try:
            assert server._ready.wait(_START_TIMEOUT_S), f"the server did not start: {server.errors}"
            yield server
        finally:
            server._stop()
            thread.join(_START_TIMEOUT_S)
            if before is None:
                del os.environ["NTLM_USER_FILE"]
            else:
                os.environ["NTLM_USER_FILE"] = before
        assert not thread.is_alive(), "the server did not stop"
        if server.errors:
            raise server.errors[0]

    def change(self, **smb2: Any) -> None:
        """Be another SMB2 server for the connections to come, and end those there are."""
        self._smb2.update(smb2)
        self._in_thread(self._hang_up)

    def _in_thread(self, call: Callable[[], object]) -> None:
        if self._token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(call)

    def _hang_up(self) -> None:
        for scope in self._open:
            scope.cancel()

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:
            self.errors.append(error)

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        with trio.CancelScope() as self._scope:
            self._ready.set()
            await trio.serve_listeners(self._connection, [listener])

    def _stop(self) -> None:
        if self._scope is not None:
            self._in_thread(self._scope.cancel)

    async def _connection(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        with trio.CancelScope() as scope:
            self._open.add(scope)
            await self._talk(stream)
        self._open.discard(scope)

    async def _talk(self, stream: trio.SocketStream) -> None:
        states: dict[bool, Smb1Server | Smb2Server] = {}
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            packets = _Packets(stream)
            while (pdu := await packets.next()) is not None:
                speaks_smb1 = pdu[:4] == _SMB1
                state = states.get(speaks_smb1)
                if state is None:
                    state = states[speaks_smb1] = self._new_state(speaks_smb1=speaks_smb1)
                try:
                    messages, hang_up = state.respond(pdu)
                except Exception as error:  # told to the test in the end; here the client sees a closed connection
                    self.errors.append(error)
                    return
                for message in messages:
                    await stream.send_all(message if isinstance(message, Raw) else nbss.frame(len(message)) + message)
                if hang_up:
                    return

    def _new_state(self, *, speaks_smb1: bool) -> Smb1Server | Smb2Server:
        if speaks_smb1:
            return Smb1Server(self._files, self.script, **self._smb1)
        return Smb2Server(self._files, self.script, **self._smb2)


class _Packets:
    """The session messages of a connection, one after the other."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = b""

    async def next(self) -> bytes | None:
        """Return the next message; None at the end of the connection."""
        while True:
            if len(self._buffer) >= nbss.HEADER_SIZE:
                _kind, length = nbss.decode_header(self._buffer[: nbss.HEADER_SIZE])
                end = nbss.HEADER_SIZE + length
                if len(self._buffer) >= end:
                    pdu, self._buffer = self._buffer[nbss.HEADER_SIZE : end], self._buffer[end:]
                    return pdu
            chunk = await self._stream.receive_some()
            if not chunk:
                return None
            self._buffer += chunk
