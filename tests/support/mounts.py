"""Real mounts: smbfuse as the ordinary user through fusermount3, in a process of its own, every step with a deadline.

The test process never touches the mount itself: were smbfuse to hang, the test would hang with it, beyond reach of any
signal. Commands run in processes of their own; one that does not end in time is freed by ending the mount.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.support.folders import mount_table, public_folder
from tests.support.samba import SambaServer, wait_for
from tests.support.users import Installation, User

READY_TIMEOUT_S: Final = 30.0
END_TIMEOUT_S: Final = 20.0
COMMAND_TIMEOUT_S: Final = 60.0
POINT_NAME: Final = "Einhängung [é] 🐚"

# A line of the daemon's log that a user should act on, or that nobody should ever see.
ALARM: Final = re.compile(r"\b(WARNING|ERROR|CRITICAL)\b|Traceback \(most recent call last\)")

# A test run that is killed ends its mounts; as with the servers, started from a thread that lasts.
WITH_US: Final = ("setpriv", "--pdeathsig", "TERM")

Options = Mapping[str, str | int | bool]


class Unanswered(AssertionError):
    """A command on a mount did not end in time."""


def mount_options(options: Options) -> str:
    """Return the `-o` text: {"vers": "3.0", "sign": True, "seal": False} is "vers=3.0,sign"."""
    doubled = {name: str(value).replace(",", ",,") for name, value in options.items()}  # a comma in a value is doubled
    words = [
        name if value is True else f"{name}={doubled[name]}" for name, value in options.items() if value is not False
    ]
    return ",".join(words)


class Mount:
    """One running smbfuse and its mount point."""

    def __init__(
        self, point: Path, user: User, installation: Installation, process: subprocess.Popen[bytes], log: Path
    ) -> None:
        self.point = point
        self.user = user
        self.installation = installation
        self.process = process
        self.log = log

    def run(
        self, *command: str | Path, timeout_s: float = COMMAND_TIMEOUT_S, check: bool = True, text: str | None = None
    ) -> str:
        """Run a command as the mounting user, in the mount's folder of mount points; return its standard output.

        Raises: Unanswered if it does not end in time (the mount is then ended too: nothing else frees a caller that
        the kernel has handed over), AssertionError if `check` and it fails.
        """
        code, out, error = self.run_all(*command, timeout_s=timeout_s, text=text)
        if check:
            assert code == 0, f"{command} ended with {code}: {error}\n{out[-2000:]}\n{self.log_text()}"
        return out

    def run_all(
        self, *command: str | Path, timeout_s: float = COMMAND_TIMEOUT_S, text: str | None = None
    ) -> tuple[int, str, str]:
        """Run a command as `run` does; return its exit code, standard output and standard error."""
        with self.start(*command) as process:
            try:
                out, error = process.communicate(None if text is None else text.encode(), timeout=timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                self.abort()
                raise Unanswered(f"{command} did not end within {timeout_s:g} s\n{self.log_text()}") from None
        return process.returncode, out.decode(errors="surrogateescape"), error.decode(errors="replace")

    def start(self, *command: str | Path) -> subprocess.Popen[bytes]:
        """Start a command as the mounting user and leave it to the caller."""
        return subprocess.Popen(
            list(command),
            cwd=self.point.parent,
            env=dict(self.installation.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **self.user.run_options(),
        )

    def python(self, program: str, *arguments: str | Path, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run a short Python program against the mount."""
        return self.run("/usr/bin/python3", "-c", program, *arguments, timeout_s=timeout_s)

    def status(self) -> dict[str, Any]:
        """Return what `smbfuse status --json` says of this mount."""
        told = json.loads(self.run(self.installation.program, "status", "--json", self.point))
        assert isinstance(told, dict)
        return told

    def unmount(self) -> int:
        """Unmount as a user does, wait for smbfuse to end, and return its exit code."""
        complaint = self._fusermount("-u")
        assert not self.mounted(), complaint
        return self.process.wait(END_TIMEOUT_S)

    def abort(self) -> None:
        """End everything, whatever state it is in: afterwards nothing is mounted, and smbfuse does not run."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(END_TIMEOUT_S)
        if self.mounted():
            self._fusermount("-uz")

    def mounted(self) -> bool:
        """Tell whether the kernel has something mounted at the mount point."""
        return self.point in mount_table()

    def log_text(self) -> str:
        """Return what smbfuse has written so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def alarms(self, announced: Sequence[str] = ()) -> list[str]:
        """Return the lines of the log that would have alarmed a user, but for those announced."""
        lines = [line for line in self.log_text().splitlines() if ALARM.search(line)]
        return [line for line in lines if not any(part in line for part in announced)]

    def _fusermount(self, *flags: str) -> str:
        command = ["fusermount3", *flags, str(self.point)]
        ran = subprocess.run(
            command, capture_output=True, text=True, timeout=END_TIMEOUT_S, check=False, **self.user.run_options()
        )
        return str(ran.stderr)


def target(source: SambaServer | str, options: Options) -> tuple[str, dict[str, str | int | bool]]:
    """Return smbfuse's first argument and its options: a server's port and login, unless `options` say otherwise."""
    if isinstance(source, str):
        return source, dict(options)
    filled: dict[str, str | int | bool] = {"port": source.port, **options}
    if not {"credentials", "username", "guest"} & set(filled) and filled.get("sec") != "none":
        filled["credentials"] = str(source.credentials())
    return source.url, filled


@contextlib.contextmanager
def mounted(
    source: SambaServer | str,
    options: Options = {},  # noqa: B006  # never changed
    *,
    user: User,
    installation: Installation,
    subfolder: str = "",
    announced: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Mount]:
    """Mount `source` as `user`, wait until the kernel has it, unmount at the end.

    On the way out smbfuse must end with 0 and must have logged no alarm but those `announced`. A body that failed keeps
    its own error.
    """
    url, filled = target(source, options)
    with public_folder("smbfuse-mount-") as folder:
        point = user.owns_new(folder / POINT_NAME)
        log = folder / "log"
        command = [*WITH_US, str(installation.program), url + subfolder, str(point), "-f", "-o", mount_options(filled)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd="/",
                env={**installation.environment, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **user.run_options(),
            )
        mount = Mount(point, user, installation, process, log)
        try:
            wait_for(lambda: process.poll() is not None or mount.mounted(), READY_TIMEOUT_S, pause_s=0.02)
            assert mount.mounted(), f"{' '.join(command)} did not mount:\n{mount.log_text()}"
            yield mount
            if process.poll() is None:
                code = mount.unmount()
                assert code == 0, f"smbfuse ended with {code}:\n{mount.log_text()}"
            alarms = mount.alarms(announced)
            assert not alarms, "smbfuse logged what nobody announced:\n" + "\n".join(alarms)
        finally:
            mount.abort()
