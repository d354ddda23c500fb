"""A folder to work in as the ordinary user: on a mount, or a local one that shows whether the work itself is right."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.folders import public_folder
from tests.support.users import User

WORK_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Workplace:
    """`folder` is where the work is done, `local` an ordinary folder beside it."""

    folder: Path
    local: Path
    on_server: Path  # the same folder as the server has it on its disk; `folder` itself without a server
    run: Callable[..., str]  # run(*command, timeout_s=…) -> standard output

    def sh(self, script: str, *arguments: str | Path, timeout_s: float = WORK_TIMEOUT_S) -> str:
        """Run a shell script in `folder`; $1 and on are `arguments`. It ends with its first failure."""
        home = f"HOME={self.local}"
        said = self.run("env", home, "sh", "-euc", f'cd "$0"\n{script}', self.folder, *arguments, timeout_s=timeout_s)
        return str(said)

    def python(self, program: str, *arguments: str | Path, timeout_s: float = WORK_TIMEOUT_S) -> str:
        """Run a Python program in `folder` with the distribution's Python."""
        return self.sh(
            'program=$1; shift; exec /usr/bin/python3 -c "$program" "$@"', program, *arguments, timeout_s=timeout_s
        )


@contextmanager
def local_workplace(user: User) -> Iterator[Workplace]:
    """Provide a workplace without a server."""
    with public_folder("smbfuse-work-") as parent:
        folder, local = user.owns_new(parent / "Größe [ä] 🐙"), user.owns_new(parent / "local")

        def run(*command: str | Path, timeout_s: float = WORK_TIMEOUT_S) -> str:
            ran = subprocess.run(
                command,
                cwd=parent,
                env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"},
                capture_output=True,
                text=True,
                errors="surrogateescape",
                timeout=timeout_s,
                check=False,
                **user.run_options(),
            )
            assert ran.returncode == 0, f"{command} ended with {ran.returncode}: {ran.stderr}"
            return str(ran.stdout)

        yield Workplace(folder, local, folder, run)


def needs(*programs: str) -> None:
    """Skip the test if one of these programs is not installed."""
    absent = [program for program in programs if shutil.which(program) is None]
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)} (apt install {' '.join(absent)})")
