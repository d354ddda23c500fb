"""The control socket: found by mount point, private, bounded, and only for its user and root."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from smbfuse.daemon import control
from tests.conftest import ExpectedWarnings


def answer(request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"you asked": request}


def mode(path: Path) -> int | None:
    """Return a file's permissions, None if there is none."""
    return path.stat().st_mode & 0o777 if path.exists() else None


def replace_with_a_file(path: Path) -> None:
    path.unlink()
    path.write_text("another's")


def open_to_all(path: Path) -> None:
    """Give away what the modes of a socket and its folder protect."""
    path.chmod(0o666)
    path.parent.chmod(0o755)


async def flood(stream: trio.SocketStream) -> None:
    while True:
        await stream.send_all(b"x" * 4096)


async def ask(path: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    return await trio.to_thread.run_sync(lambda: control.ask(path, request, timeout_s=5))


@pytest.fixture
def path() -> Iterator[Path]:
    # Not below pytest's own folder: a Unix address has room for 107 bytes.
    with tempfile.TemporaryDirectory(prefix="smbfuse-") as folder:
        yield control.socket_path(Path(folder, "smbfuse"), "/mnt/Größe")


async def test_a_request_is_answered_while_it_serves(path: Path) -> None:
    async with control.serving(path, answer):
        assert await ask(path, {"request": "status"}) == {"you asked": {"request": "status"}}
        assert [mode(one) for one in (path, path.parent)] == [0o600, 0o700]
    assert mode(path) is None
    with pytest.raises(FileNotFoundError):
        await ask(path, {})


async def test_several_requests_on_one_connection(path: Path) -> None:
    async with control.serving(path, answer):
        stream = await trio.open_unix_socket(str(path))
        await stream.send_all(b'{"a": 1}\n{"b": 2}\n')
        received = b""
        while received.count(b"\n") < 2:
            received += await stream.receive_some()
        assert [json.loads(line) for line in received.splitlines()] == [
            {"you asked": {"a": 1}},
            {"you asked": {"b": 2}},
        ]
        await stream.aclose()


@pytest.mark.parametrize("line", [b"nonsense", b"[1]", b"\xff\xfe", b"[" * 4000, b""])
async def test_nonsense_is_answered_as_such(path: Path, line: bytes) -> None:
    async with control.serving(path, answer):
        stream = await trio.open_unix_socket(str(path))
        await stream.send_all(line + b"\n")
        assert json.loads(await stream.receive_some())["error"].startswith("not ")
        await stream.aclose()


async def test_a_line_without_end_is_cut_off(path: Path) -> None:
    async with control.serving(path, answer):
        stream = await trio.open_unix_socket(str(path))
        with pytest.raises(trio.BrokenResourceError):
            await flood(stream)
        await stream.aclose()


async def test_a_client_that_says_nothing_is_left(path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with control.serving(path, answer):
        stream = await trio.open_unix_socket(str(path))
        assert await stream.receive_some() == b""
        await stream.aclose()


async def test_the_socket_of_a_killed_smbfuse_is_replaced(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with control.serving(path, answer):
        assert await ask(path, {"x": 1}) == {"you asked": {"x": 1}}


async def test_the_socket_of_a_later_mount_is_left_alone(path: Path) -> None:
    async with control.serving(path, answer):
        replace_with_a_file(path)
    assert mode(path) is not None


@pytest.mark.parametrize("trap", ["file", "symlink", "open to others"])
async def test_a_folder_that_is_a_trap_is_not_used(tmp_path: Path, trap: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    folder = tmp_path / "smbfuse"
    if trap == "file":
        folder.touch()
    elif trap == "symlink":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.mkdir()
        folder.chmod(0o755)
    async with control.serving(folder / "x.sock", answer):
        assert "no control socket" in caplog.text
    assert not (tmp_path / "elsewhere" / "x.sock").exists()


@pytest.mark.root
async def test_another_user_is_refused_whatever_the_modes_say(
    tmp_path: Path, path: Path, expected_warnings: ExpectedWarnings
) -> None:
    expected_warnings("was refused")
    program = (
        "import os, socket, sys\nfd = socket.socket(socket.AF_UNIX)\nos.chdir(sys.argv[1])\nos.setuid(65534)\n"
        "fd.connect(sys.argv[2])\n"
        "try: fd.sendall(b'{}\\n'); print(fd.recv(100))\nexcept ConnectionError: print(b'')"
    )
    async with control.serving(path, answer):
        open_to_all(path)
        command = [sys.executable, "-c", program, str(path.parent), path.name]
        ran = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    assert ran.stdout == b"b''\n", ran.stderr


def test_where_sockets_are() -> None:
    assert control.folder_for(0, "/run/user/0") == Path("/run/smbfuse")
    assert control.folder_for(1000, "/run/user/1000") == Path("/run/user/1000/smbfuse")
    assert control.folder_for(1000, "") == Path("/tmp/smbfuse-1000")
    assert control.folder_for(1000, "relative") == Path("/tmp/smbfuse-1000")
    one, other = (control.socket_path(Path("/x"), point) for point in ("/mnt/a", "/mnt/b"))
    assert one != other
    assert len(str(control.socket_path(Path("/run/user/4294967295/smbfuse"), "/" + "long" * 1000))) < 108


def test_asking_somebody_who_does_not_answer(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "mute"))
        mute.listen()
        with pytest.raises(TimeoutError):
            control.ask(tmp_path / "mute", {}, timeout_s=0.1)


def test_sockets_are_found(tmp_path: Path) -> None:
    for name in ("b.sock", "a.sock", "other"):
        (tmp_path / name).touch()
    found = list(control.sockets([tmp_path / "missing", tmp_path]))
    assert [path.name for path in found] == ["a.sock", "b.sock"]


def test_the_runtime_folder_is_made_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        control.make_folder(tmp_path / "new")
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    control.make_folder(tmp_path / "new")
    assert subprocess.run(["ls", tmp_path / "new"], capture_output=True, check=True).stdout == b""


# -- stories


class Counting:
    """Tells numbers as fast as they are heard, and knows how many are told to now."""

    def __init__(self, last: int | None = None) -> None:
        self.last = last
        self.telling = 0

    def __call__(self, request: Mapping[str, Any]) -> "Mapping[str, Any] | control.Story":
        return self.count if request.get("request") == "count" else answer(request)

    async def count(self, tell: control.Tell) -> None:
        self.telling += 1
        try:
            number = 0
            while number != self.last:
                await tell({"number": number, "padding": "x" * 1000})
                number += 1
        finally:
            self.telling -= 1


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while True:
            if condition():
                return
            await trio.sleep(0.01)


async def test_a_story_is_told_to_its_end(path: Path) -> None:
    heard: list[int] = []
    async with control.serving(path, Counting(200)):
        await control.follow(path, {"request": "count"}, lambda line: heard.append(line["number"]))
    assert heard == list(range(200))


async def test_a_story_ends_when_its_listener_leaves(path: Path) -> None:
    counting = Counting()
    async with control.serving(path, counting):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(control.follow, path, {"request": "count"}, lambda line: None)
            await until(lambda: counting.telling == 3)
            nursery.cancel_scope.cancel()
        await until(lambda: not counting.telling)


async def test_listeners_who_do_not_listen_hold_up_nobody_and_are_not_many(path: Path) -> None:
    counting = Counting()
    async with control.serving(path, counting):
        streams = []
        for _ in range(20):
            stream = await trio.open_unix_socket(path)
            await stream.send_all(b'{"request": "count"}\n')
            streams.append(stream)
        await until(lambda: counting.telling == 16)
        assert await ask(path, {"request": "status"}) == {"you asked": {"request": "status"}}
        with trio.fail_after(10):
            refused = [await stream.receive_some() for stream in streams[16:]]
        assert refused == [b'{"error": "too many listen already"}\n'] * 4
        for stream in streams:
            await stream.aclose()
        await until(lambda: not counting.telling)


async def test_a_mount_that_ends_in_the_middle_of_a_story_ends_it(path: Path) -> None:
    numbers: list[int] = []
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery, control.serving(path, Counting()):
            nursery.start_soon(control.follow, path, {"request": "count"}, lambda line: numbers.append(1))
            await until(lambda: bool(numbers))
