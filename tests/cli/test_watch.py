"""`smbfuse watch`: its lines, its mistakes, and what it prints of a real share."""

import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from smbfuse.cli import watch
from smbfuse.cli.exits import CannotMount, Exit
from smbfuse.share import Happened, Notice
from tests.support.samba import PASSWORD, SambaServer, samba_server

ROOT = Path(__file__).resolve().parents[2]
SOON_S = 30.0  # a limit, never a pause


@pytest.mark.parametrize(
    "notice, text, told",
    [
        (Notice(Happened.ADDED, "Büro/a b"), "added     Büro/a b", {"what": "added", "path": "Büro/a b"}),
        (Notice(Happened.REMOVED, "a"), "removed   a", {"what": "removed", "path": "a"}),
        (Notice(Happened.MODIFIED, "\x1b[2J"), r"modified  \x1b[2J", {"what": "modified", "path": "\x1b[2J"}),
        (Notice(Happened.MODIFIED, "\ud800"), r"modified  \ud800", {"what": "modified", "path": "\ud800"}),
        (
            Notice(Happened.RENAMED, "new\n", "old"),
            r"renamed   old -> new\n",
            {"what": "renamed", "path": "new\n", "old_path": "old"},
        ),
        (
            Notice(Happened.ANYTHING),
            "anything  may have changed: too much at once, or the connection was lost",
            {"what": "anything"},
        ),
    ],
)
def test_a_change_is_one_line(notice: Notice, text: str, told: dict[str, str]) -> None:
    assert watch.as_text(notice) == text
    line = watch.as_json(notice)
    assert line.isascii()
    assert "\n" not in line
    assert json.loads(line) == told


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "usage: smbfuse watch"),
        (["//h/s", "/mnt"], "unrecognized arguments: /mnt"),
        (["//h/s", "--recursive"], "--recursive"),
        (["//h"], "which share of h is to be watched?"),
        (["h"], "is no share"),
    ],
    ids=str,
)
def test_a_mistake_is_one_sentence(arguments: list[str], words: str) -> None:
    with pytest.raises(CannotMount, match=words.replace("?", r"\?")) as raised:
        watch.run(arguments, {"PASSWD": "x"})
    assert raised.value.code is Exit.USAGE


@pytest.fixture(scope="module")
def server() -> Iterator[SambaServer]:
    with samba_server() as server:
        server.user.owns(server.root)
        yield server


class Watching:
    """The command under way, and what it prints, line by line."""

    def __init__(self, server: SambaServer, source: str, *more: str) -> None:
        options = f"port={server.port},username={server.user.name}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "smbfuse", "watch", source, "-o", options, *more],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "PASSWD": PASSWORD},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: queue.Queue[str] = queue.Queue()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        first = self.process.stderr.readline()
        assert first.startswith("smbfuse: watching "), first

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                self.lines.put(line.rstrip("\n"))

    def hears(self, folder: Path) -> None:
        """Wait until the server tells of changes: now and then Samba 4.17 keeps the first one to itself."""
        for number in itertools.count():
            (folder / f"probe {number}").mkdir()
            try:
                self.lines.get(timeout=SOON_S / 10)
            except queue.Empty:
                assert number < 10, "not one change is told"
            else:
                return

    def until(self, line: str) -> None:
        while self.lines.get(timeout=SOON_S) != line:
            pass

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        code = self.process.wait(SOON_S)
        self._reader.join(SOON_S)
        assert self.process.stderr is not None
        with self.process.stderr as complaints:
            assert complaints.read() == ""
        return code


@pytest.mark.samba
@pytest.mark.parametrize("vers", ["1.0", "3.1.1"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_others_change_is_printed_until_a_signal_comes(
    server: SambaServer, vers: str, number: signal.Signals
) -> None:
    folder = server.root / f"Stück {vers} {number.name}"
    (folder / "sub").mkdir(parents=True)
    server.user.owns(folder)
    server.user.owns(folder / "sub")
    watching = Watching(server, f"//127.0.0.1/share/{folder.name}", "-o", f"vers={vers}")
    watching.hears(folder)
    server.smbclient(f'cd "{folder.name}"; mkdir neu; rename neu alt; rmdir alt; mkdir "sub/Büro"')
    for line in ("added     neu", "renamed   neu -> alt", "removed   alt", "added     sub/Büro"):
        watching.until(line)
    assert watching.end(number) == Exit.OK


@pytest.mark.samba
def test_json_and_the_folder_alone(server: SambaServer) -> None:
    folder = server.root / "flach"
    (folder / "sub").mkdir(parents=True)
    server.user.owns(folder)
    server.user.owns(folder / "sub")
    watching = Watching(server, f"//127.0.0.1/share/{folder.name}", "--json", "--flat")
    watching.hears(folder)
    server.smbclient(f'cd "{folder.name}"; mkdir sub/below; mkdir beside')
    while (told := json.loads(watching.lines.get(timeout=SOON_S)))["path"] != "beside":
        assert told["path"] != "sub/below"
    assert watching.end(signal.SIGINT) == Exit.OK


@pytest.mark.samba
@pytest.mark.parametrize(
    "source, code, words",
    [
        ("share/missing", Exit.NO_SUCH_FOLDER, "the share 'share' has no folder 'missing'"),
        ("share/file", Exit.NO_SUCH_FOLDER, "the share 'share' has no folder 'file'"),
        ("other", Exit.NO_SUCH_SHARE, "127.0.0.1 has no share 'other'"),
    ],
)
def test_what_is_not_there_is_one_sentence(server: SambaServer, source: str, code: Exit, words: str) -> None:
    (server.root / "file").touch()
    options = f"port={server.port},username={server.user.name}"
    ran = subprocess.run(
        [sys.executable, "-m", "smbfuse", "watch", f"//127.0.0.1/{source}", "-o", options],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PASSWD": PASSWORD},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == code
    assert ran.stderr.startswith(f"smbfuse: {words}")
    assert len(ran.stderr.splitlines()) == 1
