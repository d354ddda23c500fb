"""A server that is stopped in the middle of everything: what is asked of the mount ends within the promised time."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Final

import pytest

from tests.support.mounts import Mount
from tests.support.samba import SambaServer, wait_for

pytestmark = [pytest.mark.mounts, pytest.mark.samba, pytest.mark.timeout(240)]

DIALECTS: Final = ["1.0", pytest.param("2.1", marks=pytest.mark.soak), "3.1.1"]
TIMEO_S: Final = 4
# Processes are started too, on a machine that may have other things to do; who waits takes longer.
AT_ONCE_S: Final = 3.5
PROMISED_S: Final = TIMEO_S + 2.0 + AT_ONCE_S  # docs/connections.md, on such a machine
BACK_S: Final = 30.0

COMPLETE: Final = 'cd "$0" && compgen -f wo'  # what a shell does when Tab is pressed
COMMANDS: Final[Mapping[str, Callable[[Path], tuple[str | Path, ...]]]] = {
    "ls": lambda point: ("ls", "-l", point / "never listed"),
    "stat": lambda point: ("stat", point / "never listed" / "file"),
    "cat": lambda point: ("cat", point / "long"),
    "df": lambda point: ("df", point),
    "cp out": lambda point: ("cp", point / "long", point.parent / "copy"),
    "cp in": lambda point: ("cp", "/bin/sh", point / "never listed" / "new"),
    "rm": lambda point: ("rm", "-f", point / "word"),
    "compgen": lambda point: ("bash", "-c", COMPLETE, point),
}
MAY_SUCCEED: Final = {"df", "compgen"}  # with what was known before


@dataclass(frozen=True, slots=True)
class Silenced:
    """A mount, and its server, which can be stopped."""

    server: SambaServer
    mount: Mount

    def start_all(self) -> dict[str, Popen[bytes]]:
        """Start every command at once: all of them are the first to meet the silence."""
        return {name: self.mount.start(*command(self.mount.point)) for name, command in COMMANDS.items()}

    def end_all(self, running: Mapping[str, Popen[bytes]], within_s: float) -> None:
        """Wait until each has ended.  Raises: AssertionError if one has not in time."""
        ended = wait_for(lambda: all(one.poll() is not None for one in running.values()), within_s, pause_s=0.02)
        hung = [name for name, process in running.items() if process.poll() is None]
        if hung:
            self.mount.abort()  # nothing else frees them
        for process in running.values():
            process.communicate(timeout=20)
        assert ended, f"still waiting after {within_s:g} s: {hung}\n{self.mount.log_text()}"

    def is_back(self) -> bool:
        """Tell whether the mount shows what is on the server."""
        return self.mount.run_all("ls", self.mount.point / "never listed")[:2] == (0, "file\n")


@pytest.fixture(params=DIALECTS)
def silenced(
    request: pytest.FixtureRequest, start_samba: Callable[..., SambaServer], mount: Callable[..., Mount]
) -> Silenced:
    """Provide a mount that knows little of its share."""
    server = start_samba()
    server.user.owns_new(server.root / "never listed")
    (server.root / "never listed" / "file").write_text("file")
    (server.root / "long").write_bytes(bytes(5_000_000))
    (server.root / "word").write_text("word")
    server.user.owns(server.root)
    mounted = mount(server, {"vers": request.param, "timeo": TIMEO_S})
    mounted.run("ls", mounted.point)
    mounted.run("df", mounted.point)
    return Silenced(server, mounted)


def test_the_first_to_ask_wait_as_promised_and_the_others_not_at_all(silenced: Silenced) -> None:
    mounted = silenced.mount
    with silenced.server.paused():
        first = silenced.start_all()
        silenced.end_all(first, PROMISED_S)
        for name, process in first.items():
            assert process.returncode != 0 or name in MAY_SUCCEED, name
        for name, command in COMMANDS.items():
            began = time.monotonic()
            code, _, error = mounted.run_all(*command(mounted.point), timeout_s=PROMISED_S + 10)
            took_s = time.monotonic() - began
            assert took_s < AT_ONCE_S, f"{name} took {took_s:.1f} s"
            if code == 0:
                assert name in MAY_SUCCEED, name
            else:
                assert "Host is down" in error or name == "compgen", error
    assert wait_for(silenced.is_back, BACK_S)
    assert mounted.run("cat", mounted.point / "never listed" / "file") == "file"


def test_whoever_waits_and_is_killed_is_gone_in_time(silenced: Silenced) -> None:
    with silenced.server.paused():
        running = silenced.start_all()
        time.sleep(TIMEO_S / 4)
        waiting = [process for process in running.values() if process.poll() is None]
        assert len(waiting) >= 4, "nobody waits"
        for process in waiting:
            process.kill()
        silenced.end_all(running, PROMISED_S)
    assert wait_for(silenced.is_back, BACK_S)


@pytest.mark.parametrize("asked", [False, True], ids=["nobody has asked", "somebody has asked"])
def test_the_mount_is_taken_down_in_time(silenced: Silenced, asked: bool) -> None:
    mounted = silenced.mount
    with silenced.server.paused():
        if asked:
            silenced.end_all(silenced.start_all(), PROMISED_S)
        began = time.monotonic()
        mounted.run("fusermount3", "-u", mounted.point, timeout_s=PROMISED_S + 10)
        assert time.monotonic() - began < AT_ONCE_S
        assert not mounted.mounted()
        assert mounted.process.wait(PROMISED_S + 10) == 0, mounted.log_text()
        assert time.monotonic() - began < PROMISED_S
