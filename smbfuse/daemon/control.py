"""The control socket of a mount: one JSON request a line, one JSON answer a line, or a story of many.

A Unix socket of mode 0600 in a folder that is the user's alone, named after the mount point so that it is found without
a register. Only the same user and root are answered, whatever the file modes say. The mount point itself is never
touched: a mount that hangs must be able to say so.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import trio

log = logging.getLogger(__name__)

Tell = Callable[[Mapping[str, Any]], Awaitable[None]]
"""Sends a client one more line."""
Story = Callable[[Tell], Awaitable[None]]
"""An answer of many lines: runs until it is at its end, or cancelled because its listener has gone. Never raises."""
Answer = Callable[[Mapping[str, Any]], "Mapping[str, Any] | Story"]
"""request -> answer, both JSON objects, or a story; never raises."""

_MOST_LINE: Final = 4096  # bytes of a request
_MOST_CLIENTS: Final = 16
_MOST_LISTENERS: Final = 16  # to stories
_PATIENCE_S: Final = 5.0  # for a client to ask and to take its answer
_BACKLOG: Final = 16
_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid; unix(7)


class UnsafeFolder(Exception):
    """The folder for sockets could be another user's trap."""


def folder_for(uid: int, runtime_dir: str) -> Path:
    """Return where a user's control sockets are; `runtime_dir` is their $XDG_RUNTIME_DIR or ''."""
    if uid == 0:
        return Path("/run/smbfuse")
    return Path(runtime_dir, "smbfuse") if os.path.isabs(runtime_dir) else Path(f"/tmp/smbfuse-{uid}")


def all_folders() -> list[Path]:
    """Return every folder where a mount of any user may have its socket, for root."""
    return [Path("/run/smbfuse"), *Path("/run/user").glob("*/smbfuse"), *Path("/tmp").glob("smbfuse-[0-9]*")]


def socket_path(folder: Path, mountpoint: str) -> Path:
    """Return the socket of the mount at `mountpoint` (absolute, resolved): a Unix address has room for 107 bytes."""
    return folder / f"{hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:24]}.sock"


def make_folder(folder: Path) -> None:
    """Make the folder for sockets, or accept the one that is there if it is ours alone.

    Raises: UnsafeFolder, OSError.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise UnsafeFolder(f"{folder} is not a private folder of ours")


@contextlib.asynccontextmanager
async def serving(path: Path, answer: Answer) -> AsyncIterator[None]:
    """Answer requests on the socket `path` within the block; the socket is gone afterwards.

    Without a socket the mount works all the same, so a failure to make one is logged and that is all.
    """
    try:
        make_folder(path.parent)
        listener = _listen(path)
    except (OSError, UnsafeFolder) as error:
        log.info("no control socket, so `smbfuse status` will not see this mount: %s", error)
        yield
        return
    inode = _inode(path)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_accept, listener, answer)
            yield
            nursery.cancel_scope.cancel()
    finally:
        listener.close()
        if _inode(path) == inode:  # a later mount in the same place may have its own by now
            _remove(path)


def ask(path: Path, request: Mapping[str, Any], *, timeout_s: float = _PATIENCE_S) -> dict[str, Any]:
    """Send one request and return the answer. Blocks; not for the process that serves.

    Raises: OSError (nobody there, or no answer in time), ValueError (no JSON object).
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(timeout_s)
        client.connect(str(path))
        client.sendall(json.dumps(request).encode() + b"\n")
        with client.makefile("rb") as lines:
            line = lines.readline()
    answer = json.loads(line)
    if not isinstance(answer, dict):
        raise ValueError(f"{path}: no JSON object")
    return answer


def bury(path: Path) -> None:
    """Take away a socket that nobody listens on any more: its smbfuse was killed."""
    with contextlib.suppress(OSError):
        path.unlink()


def sockets(folders: Sequence[Path]) -> Iterator[Path]:
    """Yield the sockets in `folders`; whether somebody answers on them is another question."""
    for folder in folders:
        with contextlib.suppress(OSError):
            yield from sorted(folder.glob("*.sock"))


def _listen(path: Path) -> trio.socket.SocketType:
    """Bind and listen. A socket that is there already belongs to a smbfuse that was killed: one mount, one smbfuse.

    The name appears when somebody listens behind it, so that who finds nobody there may take it away.
    """
    unborn = path.with_suffix(f".{os.getpid()}")
    _remove(unborn)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        before = os.umask(0o177)
        try:
            listener.bind(str(unborn))
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
        unborn.rename(path)
    except BaseException:
        listener.close()
        raise
    return trio.socket.from_stdlib_socket(listener)


def _inode(path: Path) -> int | None:
    with contextlib.suppress(OSError):
        return path.lstat().st_ino
    return None


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


async def follow(path: Path, request: Mapping[str, Any], heard: Callable[[Mapping[str, Any]], None]) -> None:
    """Send one request and call `heard` with each line of the answer, until there is no more to tell, or no mount.

    Raises: OSError (nobody there), ValueError (no JSON object), what `heard` raises.
    """
    async with await trio.open_unix_socket(path) as stream:
        pending = bytearray()
        with contextlib.suppress(trio.BrokenResourceError):  # a mount that ends in the middle of a line
            await stream.send_all(json.dumps(request).encode() + b"\n")
            async for chunk in stream:
                pending += chunk
                *lines, pending = pending.split(b"\n")
                for line in lines:
                    told = json.loads(line)
                    if not isinstance(told, dict):
                        raise ValueError(f"{path}: no JSON object")
                    heard(told)


async def _accept(listener: trio.socket.SocketType, answer: Answer) -> None:
    clients = trio.CapacityLimiter(_MOST_CLIENTS)
    listeners = trio.CapacityLimiter(_MOST_LISTENERS)
    async with trio.open_nursery() as nursery:
        while True:
            try:
                client, _ = await listener.accept()
            except OSError as error:
                log.debug("control socket: %s", error)  # out of descriptors, say: the next client may have more luck
                await trio.sleep(0.1)
                continue
            nursery.start_soon(_serve_client, client, answer, clients, listeners)


async def _serve_client(
    client: trio.socket.SocketType, answer: Answer, clients: trio.CapacityLimiter, listeners: trio.CapacityLimiter
) -> None:
    with client, contextlib.suppress(OSError):
        story = None
        with trio.move_on_after(_PATIENCE_S):
            async with clients:
                story = await _answer_lines(client, answer)
        if story is None:
            return
        try:
            listeners.acquire_nowait()
        except trio.WouldBlock:
            await _send(client, {"error": "too many listen already"})
            return
        try:
            await _tell_story(client, story)
        finally:
            listeners.release()


async def _answer_lines(client: trio.socket.SocketType, answer: Answer) -> Story | None:
    """Answer a client's requests until it leaves, or asks for a story, which is returned."""
    uid = _CREDENTIALS.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[1]
    if uid not in (0, os.geteuid()):
        log.warning("user %d asked for the status of this mount, and was refused", uid)
        return None
    pending = b""
    while True:
        while b"\n" not in pending:
            chunk = await client.recv(_MOST_LINE)
            if not chunk or len(pending) > _MOST_LINE:
                return None
            pending += chunk
        line, _, pending = pending.partition(b"\n")
        response = _respond(line, answer)
        if callable(response):
            return response
        await _send(client, response)


async def _tell_story(client: trio.socket.SocketType, story: Story) -> None:
    """Tell a story for as long as somebody listens. Who is slow to listen is waited for: it is his story alone."""
    async with trio.open_nursery() as nursery:

        async def tell(line: Mapping[str, Any]) -> None:
            try:
                await _send(client, line)
            except OSError:
                nursery.cancel_scope.cancel()
                await trio.lowlevel.checkpoint()

        async def watch_listener() -> None:
            with contextlib.suppress(OSError):
                while await client.recv(_MOST_LINE):
                    pass
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch_listener)
        await story(tell)
        nursery.cancel_scope.cancel()


def _respond(line: bytes, answer: Answer) -> Mapping[str, Any] | Story:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        return {"error": "not JSON"}
    if not isinstance(request, dict):
        return {"error": "not a JSON object"}
    return answer(request)


async def _send(client: trio.socket.SocketType, line: Mapping[str, Any]) -> None:
    view = memoryview(json.dumps(line, default=str).encode() + b"\n")
    while view:
        view = view[await client.send(view) :]
