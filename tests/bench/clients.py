"""What a workload is run on besides the peers: smbfuse itself, a filesystem in memory, and smbclient as the pace."""

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.bench.peers import Address, running
from tests.support.folders import mount_table, public_folder
from tests.support.mounts import Mount, Options, mounted
from tests.support.samba import SambaServer
from tests.support.users import Installation, User

SMBCLIENT: Final = "smbclient"
MEMORY: Final = "from memory"
OURS: Final = "smbfuse"
KIB: Final = 1024


class Failed(Exception):
    """A client did not do what was asked of it; the message says what. `figures` are of what it did all the same."""

    def __init__(self, message: str, figures: Mapping[str, float] | None = None) -> None:
        super().__init__(message)
        self.figures = dict(figures or {})


@dataclass(frozen=True, slots=True)
class Ours:
    """smbfuse with some options. A peer's way to be mounted, and `mount` for who needs more than the folder."""

    installation: Installation
    options: Options = field(default_factory=dict)
    name: str = OURS
    durable: bool = True

    def absent(self, server: SambaServer) -> str | None:
        return None

    def mount(
        self, server: SambaServer, user: User, address: Address | None = None
    ) -> contextlib.AbstractContextManager[Mount]:
        """Mount the share afresh."""
        options = dict(self.options) if address is None else {**self.options, "port": address.port}
        return mounted(server, options, user=user, installation=self.installation)

    @contextlib.contextmanager
    def mounted(self, server: SambaServer, user: User, address: Address | None = None) -> Iterator[Path]:
        with self.mount(server, user, address) as mount:
            yield mount.point


@dataclass(frozen=True, slots=True)
class Memory:
    """A filesystem that answers from memory: what pyfuse3 and the kernel alone allow."""

    installation: Installation
    shown: Sequence[str]  # what of the share's top folder is there
    name: str = MEMORY
    durable: bool = False

    def absent(self, server: SambaServer) -> str | None:
        return None

    @contextlib.contextmanager
    def mounted(self, server: SambaServer, user: User, address: Address | None = None) -> Iterator[Path]:
        """Show the names and sizes of the share's files; there is no server, and no address of it."""
        program = Path(__file__).with_name("memory.py").read_text(encoding="utf-8")
        with public_folder("smbfuse-memory-") as folder:
            point, tree = user.owns_new(folder / "mount"), folder / "tree.json"
            tops = [server.root / name for name in self.shown]
            paths = [path for top in tops if top.exists() for path in (top, *top.rglob("*"))]
            sizes = {str(path.relative_to(server.root)): _size(path) for path in paths}
            tree.write_text(json.dumps(sizes))
            command = [self.installation.interpreter, "-c", program, str(point), str(tree)]
            here = dict(self.installation.environment)
            with running(command, lambda: point in mount_table(), point, user, here, folder / "log"):
                yield point


def _size(path: Path) -> int | None:
    return None if path.is_dir() else path.stat().st_size


def run_as(user: User, *command: str | Path, timeout_s: float = 600.0) -> dict[str, float]:
    """Run a program as `user` and return the figures it prints.

    Raises: Failed if it fails, or does not end in time (its mount's end frees it).
    """
    process = subprocess.Popen(
        [str(word) for word in command],
        cwd="/",
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/nonexistent"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        **user.run_options(),
    )
    try:
        out, error = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Failed(f"no end within {timeout_s:g} s") from None
    if process.returncode:
        raise Failed((error.strip().splitlines() or [f"exit code {process.returncode}"])[-1])
    figures: dict[str, float] = json.loads(out.splitlines()[-1])
    return figures


def python(user: User, program: str, *arguments: Any, timeout_s: float = 600.0) -> dict[str, float]:
    """Run one of `programs` with the distribution's Python."""
    return run_as(user, "/usr/bin/python3", "-c", program, *map(str, arguments), timeout_s=timeout_s)


def transfer_mib_s(server: SambaServer, command: str, settings: Mapping[str, str], *, dialect: str = "SMB3") -> float:
    """Return how fast smbclient's `get` or `put` went by its own figure, which leaves out its start and login."""
    argv = ["smbclient", f"--configfile={server.configuration}", f"--port={server.port}", "//127.0.0.1/share"]
    argv += [f"--user={server.user.name}%{server.password}", f"--max-protocol={dialect}", "--command", command]
    argv += [f"--option={name}={value}" for name, value in {"client min protocol": "NT1", **settings}.items()]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
    rate = re.search(r"([0-9.]+) ?(?:KiloBytes/sec|kb/s)", ran.stdout + ran.stderr)
    if ran.returncode or rate is None:
        raise Failed(f"smbclient: {(ran.stdout + ran.stderr).strip()[-200:]}")
    return float(rate[1]) / KIB


def wall_s(command: Sequence[str | Path], environment: Mapping[str, str], user: User) -> float:
    """Return how long a command takes from its start to its end."""
    timed = (
        "import subprocess, sys, time; began = time.perf_counter(); "
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); print(time.perf_counter() - began)"
    )
    argv = ["/usr/bin/python3", "-c", timed, *map(str, command)]
    ran = subprocess.run(
        argv, env=dict(environment), cwd="/", capture_output=True, text=True, timeout=60, **user.run_options()
    )
    if ran.returncode:
        raise Failed(ran.stderr.strip()[-300:])
    return float(ran.stdout)
