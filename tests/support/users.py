"""The ordinary user that mounts in tests belong to, and a smbfuse that this user can run.

smbfuse is for ordinary users, so its tests mount as one. Run by root, the suite makes a system account of its own;
run by anybody else, that is the user. A clone below a private folder (/root, an encrypted home) cannot be read by that
account: then the package is copied and a virtual environment made in a temporary folder, once a session.
"""

import contextlib
import functools
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ACCOUNT: Final = "smbfuse-test"
ROOT: Final = Path(__file__).resolve().parents[2]  # the clone


@dataclass(frozen=True, slots=True)
class User:
    """A system account."""

    name: str
    uid: int
    gid: int

    @property
    def current(self) -> bool:
        """Whether this process runs as that user already."""
        return os.geteuid() == self.uid

    def run_options(self) -> dict[str, Any]:
        """Return what makes `subprocess` start a process as this user: nothing if we are that user."""
        return {} if self.current else {"user": self.uid, "group": self.gid, "extra_groups": []}

    def owns(self, path: Path) -> Path:
        """Give `path` to this user and return it."""
        if not self.current:
            os.chown(path, self.uid, self.gid)
        return path


@functools.cache
def ordinary_user() -> User:
    """Return the user that mounts in tests: the current one, or as root the account made for that.

    The account has no password, no shell and no home. It stays: another run of the suite may be using it.
    """
    if os.geteuid() != 0:
        entry = pwd.getpwuid(os.geteuid())
        return User(entry.pw_name, entry.pw_uid, entry.pw_gid)
    try:
        entry = pwd.getpwnam(ACCOUNT)
    except KeyError:
        command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", ACCOUNT]
        made = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        # Two test processes may try at once: what counts is that the account is there now.
        try:
            entry = pwd.getpwnam(ACCOUNT)
        except KeyError:
            raise RuntimeError(f"useradd made no user {ACCOUNT}: {made.stderr.strip()}") from None
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid)


@contextlib.contextmanager
def public_folder(prefix: str) -> Iterator[Path]:
    """Make a temporary folder that every user may enter, unlike pytest's own; remove it at the end."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Installation:
    """A way to run smbfuse as the ordinary user."""

    command: tuple[str, ...]  # what stands for `smbfuse` on a command line
    environment: Mapping[str, str]

    def argv(self, arguments: Sequence[str]) -> list[str]:
        """Return the whole command line of `smbfuse ARGUMENTS`."""
        return [*self.command, *arguments]


def _environment(**more: str) -> dict[str, str]:
    # Nothing of the developer's own environment (USER, PASSWD, KRB5CCNAME, proxies) may change a result.
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1", **more}


def _runs(installation: Installation, user: User) -> bool:
    """Tell whether `user` can read the interpreter, the package and all it imports."""
    command = [*installation.command[:-2], "-c", "import smbfuse.cli.main, pyfuse3, spnego, cryptography, rich"]
    try:
        ran = subprocess.run(
            command,
            env=dict(installation.environment),
            cwd="/",
            capture_output=True,
            timeout=60,
            check=False,
            **user.run_options(),
        )
    except PermissionError:
        return False
    return ran.returncode == 0


@contextlib.contextmanager
def installation_for(user: User) -> Iterator[Installation]:
    """Provide a smbfuse that `user` can run: this very interpreter if it may be read, else a copy of everything.

    The copy is this interpreter's packages and the clone's package beside the distribution's Python of the same
    version: compiled modules fit no other.
    """
    here = Installation((sys.executable, "-m", "smbfuse"), _environment(PYTHONPATH=str(ROOT)))
    if user.current or _runs(here, user):
        yield here
        return
    with public_folder("smbfuse-readable-") as folder:
        ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(ROOT / "smbfuse", folder / "smbfuse", ignore=ignore)
        for place in sys.path:
            if place.endswith(("site-packages", "dist-packages")) and Path(place).is_dir():
                shutil.copytree(place, folder / "packages", dirs_exist_ok=True, ignore=ignore)
        interpreter = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
        environment = _environment(PYTHONPATH=f"{folder}:{folder / 'packages'}")
        copy = Installation((interpreter, "-m", "smbfuse"), environment)
        if not _runs(copy, user):
            raise RuntimeError(f"{user.name} can run neither {sys.executable} nor a copy of it with {interpreter}")
        yield copy
