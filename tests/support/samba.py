"""A real Samba server of the tests' own: temporary folder, free ports on loopback, options per test.

Nothing of the machine's own Samba is read or changed. Run as root or as an ordinary user; the login is the ordinary
user of the tests either way.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.folders import public_folder
from tests.support.samba_programs import INSTALLED, SambaPrograms
from tests.support.users import User, ordinary_user

PASSWORD: Final = "SecREt01"
FOLDER_NAME: Final = "Größe [ä] 🐙"  # what a careless client breaks on: accents, brackets, beyond the BMP
START_TIMEOUT_S: Final = 20.0
STOP_TIMEOUT_S: Final = 10.0
# A test run that is killed takes its servers with it; their children follow by themselves. The signal comes when the
# thread ends that started the process, so servers are started from a thread that lasts: fixtures' is the main one.
WITH_US: Final = ("setpriv", "--pdeathsig", "KILL")
ATTEMPTS: Final = 3  # a port that was free may be taken before smbd binds it

# Everything that Samba can speak is allowed; a test narrows it by its own options.
PERMISSIVE: Final[Mapping[str, str]] = {
    "server min protocol": "CORE",
    "ntlm auth": "ntlmv1-permitted",
    "lanman auth": "yes",
    "raw NTLMv2 auth": "yes",
    "map to guest": "never",
}


class SambaFailed(RuntimeError):
    """smbd did not start, or a Samba tool failed; the message ends with what it wrote."""


def free_ports(count: int) -> list[int]:
    """Return `count` TCP ports that nobody listens on at 127.0.0.1, now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def smbd_path() -> str | None:
    """Return where smbd is installed, None if it is not."""
    return INSTALLED.path("smbd")


class SambaServer:
    """One smbd with one share called `share` and, if asked for, more of them.

    `options` go to [global], over `PERMISSIVE`; with `permissive=False` the server keeps Samba's own defaults.
    `share_options` go to every share; `shares` names further shares and their folders. `also_ports` are fixed ports to
    listen on as well, for clients that know no other. `programs` is the Samba it is made of: `newer_samba()` for what
    4.22 brought.

    Use as a context manager; `start` and `stop` by hand let a test restart it on the same ports.
    """

    def __init__(
        self,
        folder: Path,
        *,
        options: Mapping[str, str] | None = None,
        share_options: Mapping[str, str] | None = None,
        shares: Mapping[str, Path] | None = None,
        permissive: bool = True,
        also_ports: Sequence[int] = (),
        user: User | None = None,
        programs: SambaPrograms = INSTALLED,
    ) -> None:
        self.folder = folder
        self.options = {**(PERMISSIVE if permissive else {}), **(options or {})}
        self.share_options = dict(share_options or {})
        self.also_ports = tuple(also_ports)
        self.user = user or ordinary_user()
        self.password = PASSWORD
        self.programs = programs
        self.root = folder / FOLDER_NAME  # what `share` shows
        self.shares = {"share": self.root, **(shares or {})}
        self.port = 0  # as 445: messages at once
        self.netbios_port = 0  # as 139: a session request is sent first
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """The share as smbfuse's first argument."""
        return "//127.0.0.1/share"

    @property
    def configuration(self) -> Path:
        return self.folder / "smb.conf"

    def start(self) -> None:
        """Start smbd and wait until both ports answer; a second start uses the ports of the first."""
        chosen = self.port != 0
        for attempt in range(ATTEMPTS):
            if not chosen:
                self.port, self.netbios_port = free_ports(2)
            self._write_configuration()
            if attempt == 0:
                self.set_password(self.user.name, self.password)
            self._spawn()
            if self._answers():
                return
            self.kill()
        raise SambaFailed(f"smbd did not start:\n{self.log_text()}")

    def stop(self) -> None:
        """End smbd as its service would: it closes its connections itself."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End smbd and every process that serves a connection at once, without a word to any client."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill smbd and start it again on the same ports."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Stop every process of the server: connections stay, nothing answers (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        self._signal(signal.SIGCONT)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Keep the server stopped within the block."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    @contextlib.contextmanager
    def notifier_paused(self) -> Iterator[None]:
        """Keep the process that tells the others of changes stopped within the block."""
        assert self._process is not None
        group = self._process.pid
        folders = [path for path in Path("/proc").glob("[0-9]*") if _is_notifier(path)]
        (pid,) = (int(path.name) for path in folders if os.getpgid(int(path.name)) == group)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def reconfigure(self, share_options: Mapping[str, str], *, without: Collection[str] = ()) -> None:
        """Change the options of every share, or take shares away; who uses a share is disconnected from it.

        Connections and logins stay. What is not said here is as it was at the start.
        """
        self._write_configuration({**self.share_options, **share_options}, without=without)
        self._control("reload-config")
        for name in self.shares:
            self.close_share(name)

    def close_share(self, name: str) -> None:
        """Take the share away from who uses it; it may be connected again, and the login stays."""
        self._control("close-share", name)

    def end_clients(self) -> int:
        """Kill the process that serves each client, with its connection; return how many there were."""
        pids = self._client_pids()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(pids)

    def set_password(self, name: str, password: str) -> None:
        """Give the system account `name` a password on this server; works as root and as anybody."""
        command = ["pdbedit", f"--configfile={self.configuration}", "--create", "--password-from-stdin", "--user", name]
        self._tool(command, text=f"{password}\n{password}\n")

    def set_account(self, flags: str) -> None:
        """Set the account flags of the login: "[D]" disables it, "[L]" locks it, "[]" restores it."""
        configuration = f"--configfile={self.configuration}"
        self._tool(["pdbedit", configuration, "--modify", "--account-control", flags, "--user", self.user.name])

    def credentials(self, password: str | None = None) -> Path:
        """Write a `credentials=` file that only the ordinary user can read, and return its path."""
        handle, name = tempfile.mkstemp(prefix="credentials-", dir=self.folder)  # mode 0600
        os.close(handle)
        path = Path(name)
        path.write_text(f"username={self.user.name}\npassword={password or self.password}\n")
        return self.user.owns(path)

    def smbclient(self, command: str, *, dialect: str = "SMB3", share: str = "share", timeout_s: float = 60) -> str:
        """Run one smbclient command line against the share and return all that it said, reports of speed included."""
        argv = ["smbclient", f"--configfile={self.configuration}", f"--port={self.port}", f"//127.0.0.1/{share}"]
        argv += [f"--user={self.user.name}%{self.password}", f"--max-protocol={dialect}", "--command", command]
        argv += ["--option=client min protocol=NT1"]
        return self._tool(argv, timeout_s=timeout_s, errors_too=True)

    def connections(self) -> int:
        """Return how many client connections smbd serves now."""
        return len(self._client_pids())

    def grants(self, path: Path) -> list[str]:
        """Return what the server has granted on each open of a file below one of its shares, in letters, sorted.

        Leases are "R", "RH", "RW", "RWH"; oplocks "EXCLUSIVE", "BATCH", "EXCLUSIVE+BATCH" or "LEVEL_II"; "" is none.
        """
        listed = json.loads(self._tool(["smbstatus", f"--configfile={self.configuration}", "--locks", "--json"]))
        opens = [
            one
            for file in listed.get("open_files", {}).values()
            if Path(file["service_path"], file["filename"]) == path
            for one in file["opens"].values()
        ]
        said = (str(one["lease"].get("text") or one["oplock"].get("text") or "").strip() for one in opens)
        return sorted(text.replace("LEASE()", "") for text in said)

    def log_text(self) -> str:
        """Return the end of every log that smbd has written, for the message of a failed test."""
        logs = sorted((self.folder / "log").glob("log.*"))
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-4000:]}" for path in logs)

    def _client_pids(self) -> list[int]:
        listed = self._tool(["smbstatus", f"--configfile={self.configuration}", "--processes", "--numeric"])
        first = (line.split()[0] for line in listed.splitlines() if line.strip())
        return [int(word) for word in first if word.isdigit()]

    def _control(self, *message: str) -> None:
        self._tool(["smbcontrol", f"--configfile={self.configuration}", "smbd", *message])

    def _write_configuration(
        self, share_options: Mapping[str, str] | None = None, *, without: Collection[str] = ()
    ) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        for name in ("private", "lock", "state", "cache", "pid", "ncalrpc", "log"):
            (self.folder / name).mkdir(exist_ok=True)
        settings = {
            "workgroup": "LABGRP",
            "netbios name": "LABSRV",
            "smb ports": " ".join(map(str, (self.port, self.netbios_port, *self.also_ports))),
            "interfaces": "lo",
            "bind interfaces only": "yes",
            "private dir": self.folder / "private",
            "lock directory": self.folder / "lock",
            "state directory": self.folder / "state",
            "cache directory": self.folder / "cache",
            "pid directory": self.folder / "pid",
            "ncalrpc dir": self.folder / "ncalrpc",
            "log file": self.folder / "log" / "log.%m",
            "passdb backend": f"smbpasswd:{self.folder}/private/smbpasswd",
            "disable spoolss": "yes",
            "load printers": "no",
            "usershare max shares": "0",
            "unix charset": "UTF-8",
            **self.options,
        }
        lines = ["[global]", *(f"  {key} = {value}" for key, value in settings.items())]
        for name, path in self.shares.items():
            path.mkdir(parents=True, exist_ok=True)
            if name in without:
                continue
            share = {
                "path": path,
                "read only": "no",
                **(self.share_options if share_options is None else share_options),
            }
            lines += [f"[{name}]", *(f"  {key} = {value}" for key, value in share.items())]
        self.configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _spawn(self) -> None:
        smbd = self.programs.path("smbd")
        if smbd is None:
            raise SambaFailed("smbd is not installed")
        log = self.folder / "log"
        with (log / "log.output").open("ab") as output:
            self._process = subprocess.Popen(
                [
                    *WITH_US,
                    smbd,
                    "--foreground",
                    "--no-process-group",
                    f"--configfile={self.configuration}",
                    f"--log-basename={log}",
                ],
                env=self.programs.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # its children share our process's group: one signal reaches all of them
            )

    def _answers(self) -> bool:
        return wait_for(
            lambda: self._ended() or (_accepts(self.port) and _accepts(self.netbios_port)), START_TIMEOUT_S
        ) and (not self._ended())

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._signal(number)
        self._signal(signal.SIGCONT)  # a paused server takes no SIGTERM
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pass
        self._signal(signal.SIGKILL)  # children that outlive their parent
        self._process.wait(STOP_TIMEOUT_S)
        self._process = None
        self._end_helpers()

    def _end_helpers(self) -> None:
        """End the RPC services that smbd started on demand: daemons with a session of their own, told by their file."""
        ours = f"--configfile={self.configuration}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if ours in (process / "cmdline").read_bytes().split(b"\0"):
                    os.kill(int(process.name), signal.SIGKILL)

    def _tool(self, argv: list[str], *, text: str = "", timeout_s: float = 60, errors_too: bool = False) -> str:
        program = self.programs.path(argv[0]) or argv[0]
        ran = subprocess.run(
            [program, *argv[1:]],
            env=self.programs.environment(),
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if ran.returncode != 0:
            raise SambaFailed(f"{argv[0]} ended with {ran.returncode}:\n{ran.stdout}{ran.stderr}")
        return ran.stdout + ran.stderr if errors_too else ran.stdout


def wait_for(condition: Callable[[], bool], timeout_s: float, *, pause_s: float = 0.05) -> bool:
    """Ask `condition` until it is true or `timeout_s` has passed; return what it said last.

    The last question begins when the time is over: an answer that was long on its way proves nothing about then.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        over = time.monotonic() >= deadline
        if condition():
            return True
        if over:
            return False
        time.sleep(pause_s)


def _is_notifier(process: Path) -> bool:
    try:
        return "notifyd" in (process / "comm").read_text()
    except OSError:  # it has ended
        return False


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def samba_server(
    *,
    options: Mapping[str, str] | None = None,
    share_options: Mapping[str, str] | None = None,
    shares: Mapping[str, Path] | None = None,
    permissive: bool = True,
    also_ports: Sequence[int] = (),
    programs: SambaPrograms = INSTALLED,
) -> Iterator[SambaServer]:
    """Run a server in a temporary folder of its own; both are gone at the end, whatever happens in between."""
    with public_folder("smbfuse-samba-") as folder:
        server = SambaServer(
            folder,
            options=options,
            share_options=share_options,
            shares=shares,
            permissive=permissive,
            also_ports=also_ports,
            programs=programs,
        )
        with server:
            yield server
