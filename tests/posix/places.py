"""Where the list is run: dialects, and the options that change what a mount of them can do."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.users import ROOT

SYSTEM_PYTHON: Final = "/usr/bin/python3"  # the list needs nothing else, and every user may run it


@dataclass(frozen=True, slots=True)
class Place:
    """One kind of mount."""

    name: str
    options: Mapping[str, str | bool] = field(default_factory=dict)
    posix_extensions: bool = False  # of SMB 3.1.1: a newer Samba has them
    subjects: Sequence[str] = ()  # modules of the list; none: all of it
    soak: bool = False  # what it shows another place nearly shows


UNIX: Final = "1.0"
NO_UNIX: Final = "1.0 nounix"
POSIX: Final = "3.1.1 posix"
MFSYMLINKS: Final = "3.1.1 mfsymlinks"

PLACES: Final = (
    Place(UNIX, {"vers": "1.0"}),
    Place(NO_UNIX, {"vers": "1.0", "nounix": True}),
    Place("2.0", {"vers": "2.0"}, soak=True),
    Place("2.1", {"vers": "2.1"}, soak=True),
    Place("3.1.1", {"vers": "3.1.1"}),
    Place("3.1.1 sealed", {"vers": "3.1.1", "seal": True}, soak=True),
    Place(MFSYMLINKS, {"vers": "3.1.1", "mfsymlinks": True}, subjects=("symlinks",)),
    Place(POSIX, {"vers": "3.1.1"}, posix_extensions=True),
)


class Result(NamedTuple):
    """What happened to one behaviour; see `run.py`."""

    name: str
    outcome: str
    errno: str | None
    detail: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.name}: {self.errno or self.outcome} after {self.seconds} s: {self.detail}"


def copy_list(folder: Path) -> Path:
    """Copy the list to where every user can read it and return what PYTHONPATH is to be."""
    shutil.copytree(ROOT / "tests" / "posix", folder / "tests" / "posix", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests" / "__init__.py").touch()
    subprocess.run(["chmod", "-R", "a+rX", str(folder / "tests")], check=True, timeout=60)
    return folder


def command(path: Path, folder: Path, names: Sequence[str]) -> list[str]:
    """Return the command that runs behaviours in `folder`, which must be empty."""
    environment = [f"PYTHONPATH={path}", "PYTHONDONTWRITEBYTECODE=1"]
    return ["env", *environment, SYSTEM_PYTHON, "-m", "tests.posix.run", str(folder), *names]


def results(said: str) -> dict[str, Result]:
    """Read what the command said."""
    told = (Result(**json.loads(line)) for line in said.splitlines())
    return {result.name: result for result in told}
