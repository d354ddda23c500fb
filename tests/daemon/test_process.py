"""The process around a mount, with a server in memory: how it begins, what it leaves alone, how it ends."""

import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smbfuse.cli.exits import Exit
from smbfuse.daemon import control
from tests.daemon.conftest import ROOT, Program, gone
from tests.support.samba import wait_for

pytestmark = pytest.mark.mounts

END_S = 20.0  # for what takes 5 s by its own clock; who waits for a server here waits for 1000


def test_a_daemon_has_left_its_terminal_and_ends_with_its_mount(program: Program) -> None:
    pid = program.mount()
    assert program.read() == "content"
    process = Path(f"/proc/{pid}")
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    session, terminal = int(fields[3]), int(fields[4])
    assert (session, terminal) == (pid, 0)
    assert (process / "cwd").readlink() == Path("/")
    assert [(process / "fd" / str(number)).readlink() for number in range(3)] == [Path("/dev/null")] * 3
    limits = (process / "limits").read_text().splitlines()
    assert next(line for line in limits if line.startswith("Max core")).split()[4:6] == ["0", "0"]
    program.unmount()
    assert wait_for(lambda: gone(pid), END_S)
    assert program.trace() == ["login somebody first", "leaving", "left"]
    folder = control.folder_for(os.geteuid(), str(program.runtime))
    assert not control.socket_path(folder, str(program.point)).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_daemon_cleanly(program: Program, number: signal.Signals) -> None:
    pid = program.mount()
    os.kill(pid, signal.SIGHUP)  # means nothing to a daemon
    assert program.read() == "content"
    os.kill(pid, number)
    assert wait_for(lambda: gone(pid), END_S)
    assert not program.mounted()
    assert program.trace()[-1] == "left"


def test_a_lost_terminal_ends_a_mount_in_the_foreground(program: Program) -> None:
    process = program.mount_in_foreground()
    process.send_signal(signal.SIGHUP)
    assert process.wait(END_S) == 0
    assert not program.mounted()


def test_a_mount_in_use_ends_all_the_same(program: Program) -> None:
    process = program.mount_in_foreground()
    with subprocess.Popen(["sleep", "60"], cwd=program.point) as inside:
        process.send_signal(signal.SIGTERM)
        assert process.wait(END_S) == 0
        inside.kill()
    assert not program.mounted()
    assert program.trace()[-1] == "left"


def test_callers_who_wait_for_a_silent_server_are_let_go_at_the_end(program: Program) -> None:
    process = program.mount_in_foreground("silent")
    caller = subprocess.Popen(["cat", program.point / "file"], stderr=subprocess.PIPE)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(END_S) == 0
    assert caller.communicate(timeout=END_S)[1] != b""


def test_a_second_signal_waits_for_no_server(program: Program) -> None:
    process = program.mount_in_foreground("lame")
    process.send_signal(signal.SIGTERM)
    assert wait_for(lambda: program.trace()[-1] == "leaving", END_S)
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == Exit.ABORTED  # the farewell alone has 6
    assert program.trace()[-1] == "leaving"


def test_a_server_that_never_says_goodbye_is_left_after_a_while(program: Program) -> None:
    process = program.mount_in_foreground("lame")
    program.unmount()
    assert process.wait(END_S) == 0


@pytest.mark.parametrize(
    "host, code, words",
    [
        ("nohost", Exit.NO_SUCH_HOST, "no such host"),
        ("noshare", Exit.NO_SUCH_SHARE, "has no share 'share'"),
        ("locked", Exit.ACCOUNT_LOCKED, "locked"),
        ("bug", Exit.INTERNAL, "this is a bug in smbfuse (ZeroDivisionError: a bug)"),
    ],
)
@pytest.mark.parametrize("flags", [[], ["-f"]], ids=["background", "foreground"])
def test_what_prevents_a_mount_is_one_sentence_and_a_code(
    program: Program, host: str, code: Exit, words: str, flags: list[str]
) -> None:
    ran = program.run(f"//{host}/share", program.point, *flags)
    assert "Traceback" not in ran.stderr
    assert words in ran.stderr
    assert (ran.returncode, ran.stdout) == (code, "")
    assert len(ran.stderr.splitlines()) == 1
    assert not program.mounted()


def test_a_daemon_that_is_killed_while_it_starts_is_missed(program: Program) -> None:
    ran = program.run("//dies/share", program.point)
    assert ran.returncode == Exit.INTERNAL
    assert "did not say why" in ran.stderr


def test_the_second_password_is_tried_once(program: Program) -> None:
    program.environment["PASSWD2"] = "second"
    program.mount("rotated")
    assert program.trace() == ["login somebody first", "login somebody second"]


def test_a_locked_account_is_not_tried_again(program: Program) -> None:
    program.environment["PASSWD2"] = "second"
    assert program.run("//locked/share", program.point).returncode == Exit.ACCOUNT_LOCKED
    assert len(program.trace()) == 1


def test_an_interrupted_start_leaves_nothing_behind(program: Program) -> None:
    process = program.start("//never/share", program.point)
    assert wait_for(lambda: program.trace() != [], 20)
    process.send_signal(signal.SIGINT)
    assert process.wait(END_S) == Exit.INTERRUPTED
    assert process.communicate()[1] == "smbfuse: interrupted\n"
    listed = subprocess.run(["pgrep", "-f", str(program.point)], capture_output=True, text=True, check=False)
    assert wait_for(lambda: all(gone(int(pid)) for pid in listed.stdout.split()), END_S)


def test_what_a_killed_smbfuse_left_is_cleared_and_said(program: Program) -> None:
    pid = program.mount()
    os.kill(pid, signal.SIGKILL)
    assert wait_for(lambda: gone(pid), END_S)
    assert program.mounted()
    ran = program.run("//memory/share", program.point)
    assert ran.returncode == 0
    assert ran.stderr == f"smbfuse: cleared {program.point}, which a smbfuse that was killed had left behind\n"
    assert program.read() == "content"


def test_a_mount_point_in_use_is_busy(program: Program) -> None:
    program.mount()
    ran = program.run("//memory/share", program.point)
    assert ran.returncode == Exit.MOUNTPOINT_BUSY
    assert f"//memory/share is already mounted on {program.point}" in ran.stderr
    assert program.read() == "content"


def test_a_password_leaves_the_command_line(program: Program) -> None:
    process = program.mount_in_foreground("memory", "-o", "username=bob,password=gEheim,,1")
    shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    assert b"username=bob,password=*********" in shown
    assert b"gEheim" not in shown
    assert program.trace() == ["login bob gEheim,1"]
    program.unmount()
    out, error = process.communicate(timeout=10)
    assert "the password on the command line could be read by everybody" in error
    assert "gEheim" not in out + error


def test_systemd_is_told(program: Program) -> None:
    address = program.folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(20)
        program.environment["NOTIFY_SOCKET"] = str(address)
        process = program.start("//memory/share", program.point, "-f")
        assert manager.recv(4096).decode().splitlines()[0] == "READY=1"
        assert program.mounted()
        process.send_signal(signal.SIGTERM)
        told = dict(line.split("=", 1) for line in manager.recv(4096).decode().splitlines())
        assert told["STOPPING"] == "1"
        assert int(told["EXTEND_TIMEOUT_USEC"]) > 60_000_000  # flush_timeout=, and what comes after it
        assert process.wait(END_S) == 0


def test_the_log_can_go_to_a_file(program: Program) -> None:
    log = program.folder / "log"
    assert program.run("//memory/share", program.point, "-v", "-o", f"log_file={log}").returncode == 0
    pid = int(program.status()["pid"])
    program.unmount()
    assert wait_for(lambda: gone(pid), END_S)
    text = log.read_text()
    assert f"mounted source=//memory/share mountpoint={program.point}" in text
    assert "unmounted source" in text
    assert log.stat().st_mode & 0o077 == 0


def test_the_password_is_asked_for_on_the_terminal(program: Program) -> None:
    del program.environment["PASSWD"]
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        command = [sys.executable, "-m", "tests.daemon.program", "//memory/share", str(program.point)]
        os.execve(sys.executable, command, program.environment)
    try:
        shown = b""
        while b"Password for somebody on memory: " not in shown:
            assert select.select([terminal], [], [], 20)[0], shown
            shown += os.read(terminal, 1024)
        os.write(terminal, b"typed\n")
        _, status = os.waitpid(child, 0)
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert b"typed" not in shown
    assert program.trace() == ["login somebody typed"]


def test_without_a_terminal_nobody_is_asked(program: Program) -> None:
    del program.environment["PASSWD"]
    ran = program.run("//memory/share", program.point)
    assert ran.returncode == Exit.NO_PASSWORD
    assert "no terminal to ask on" in ran.stderr
    assert program.trace() == []
