"""The ordinary user that mounts in tests belong to, and a smbfuse that this user can run.

smbfuse is for ordinary users, so its tests mount as one. Run by root, the suite makes a system account of its own;
run by anybody else, that is the user. A clone below a private folder (/root, an encrypted home) cannot be read by that
account: then the package is copied and a virtual environment made in a temporary folder, once a session.
"""

import contextlib
import functools
import os
import pwd
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.folders import public_folder

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

    def owns_new(self, folder: Path) -> Path:
        """Make `folder`, give it to this user and return it."""
        folder.mkdir()
        return self.owns(folder)


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


@dataclass(frozen=True, slots=True)
class Installation:
    """A smbfuse that an ordinary user can run."""

    program: Path  # an executable called `smbfuse`, in a folder of its own that may lead PATH
    interpreter: str
    environment: Mapping[str, str]  # nothing of the developer's own: USER, PASSWD or a proxy could change a result

    def runs_for(self, user: User) -> bool:
        """Tell whether `user` can read the interpreter, the package and all it imports."""
        try:
            ran = subprocess.run(
                [self.interpreter, "-c", "import smbfuse.cli.main, pyfuse3, spnego, cryptography, rich, jeepney"],
                env=dict(self.environment),
                cwd="/",
                capture_output=True,
                timeout=60,
                check=False,
                **user.run_options(),
            )
        except PermissionError:
            return False
        return ran.returncode == 0


START: Final = """#!/bin/sh
PYTHONPATH={path} exec {interpreter} -c 'import sys; from smbfuse.cli.main import main; sys.exit(main())' "$@"
"""


def _install(folder: Path, interpreter: str, *path: Path) -> Installation:
    program = folder / "bin" / "smbfuse"
    program.parent.mkdir(exist_ok=True)
    joined = ":".join(map(str, path))
    program.write_text(START.format(path=shlex.quote(joined), interpreter=shlex.quote(interpreter)))
    program.chmod(0o755)
    search = f"{program.parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    environment = {"PATH": search, "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": joined}
    return Installation(program, interpreter, environment)


@contextlib.contextmanager
def installation_for(user: User) -> Iterator[Installation]:
    """Provide a smbfuse that `user` can run: the clone with this very interpreter if both may be read, else a copy.

    The copy is this interpreter's packages and the clone's package, run by the distribution's Python of the same
    version: compiled modules fit no other.
    """
    with public_folder("smbfuse-program-") as folder:
        here = _install(folder, sys.executable, ROOT)
        if here.runs_for(user):
            yield here
            return
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "smbfuse", folder / "smbfuse", ignore=ignore)
        for place in filter(os.path.isdir, sys.path):
            if place.endswith(("site-packages", "dist-packages")):
                shutil.copytree(place, folder / "packages", dirs_exist_ok=True, ignore=ignore)
        interpreter = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
        copy = _install(folder, interpreter, folder, folder / "packages")
        if not copy.runs_for(user):
            raise RuntimeError(f"{user.name} can run neither {sys.executable} nor a copy of it with {interpreter}")
        yield copy
