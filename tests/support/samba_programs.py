"""Which Samba a test server is made of: the installed one, or one that is only unpacked.

Directory leases and the POSIX extensions of SMB 3.1.1 came with Samba 4.22. Where an older one is installed, `./dev
test` unpacks the backported one beside the clone's files; another folder is named by SMBFUSE_TEST_SAMBA.
"""

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.users import ROOT

VARIABLE: Final = "SMBFUSE_TEST_SAMBA"  # a folder with usr/sbin/smbd and all its libraries below it
UNPACKED: Final = ROOT / ".samba-newer"
NEWER: Final = (4, 22)

_SBIN: Final = ":/usr/sbin:/usr/local/sbin:/usr/local/samba/sbin"  # not on every user's PATH


@dataclass(frozen=True, slots=True)
class SambaPrograms:
    """The programs of one Samba. `folder` is where it is unpacked; None: it is installed.

    `preload` is a library that they find before their own; see quota.c.
    """

    folder: Path | None = None
    preload: Path | None = None

    def path(self, name: str) -> str | None:
        """Return where the program `name` is; None: it is not there."""
        if self.folder is None:
            return shutil.which(name, path=os.environ.get("PATH", "") + _SBIN)
        return shutil.which(name, path=f"{self.folder}/usr/bin:{self.folder}/usr/sbin")

    def environment(self) -> Mapping[str, str]:
        """Return the environment that the programs need to find their libraries."""
        environment = dict(os.environ)
        if self.folder is not None:
            libraries = sorted(map(str, self.folder.glob("usr/lib/*-linux-gnu")))
            environment["LD_LIBRARY_PATH"] = ":".join([*libraries, *(f"{library}/samba" for library in libraries)])
        if self.preload is not None:
            environment["LD_PRELOAD"] = str(self.preload)
        return environment

    def version(self) -> tuple[int, int]:
        """Return major and minor version; (0, 0) if there is no smbd that runs."""
        smbd = self.path("smbd")
        if smbd is None:
            return (0, 0)
        ran = subprocess.run(
            [smbd, "--version"], env=self.environment(), capture_output=True, text=True, timeout=60, check=False
        )
        found = re.match(r"Version (\d+)\.(\d+)", ran.stdout)
        return (int(found[1]), int(found[2])) if found else (0, 0)


INSTALLED: Final = SambaPrograms()


@functools.cache
def newer_samba() -> SambaPrograms:
    """Return a Samba of 4.22 or later; skips the test where there is none."""
    places = [os.environ.get(VARIABLE), UNPACKED]
    candidates = [INSTALLED, *(SambaPrograms(Path(place)) for place in places if place)]
    for programs in candidates:
        if programs.version() >= NEWER:
            return programs
    pytest.skip(
        f"no Samba 4.22 or later: neither installed, nor in ${VARIABLE}, nor in {UNPACKED} (./dev test puts it)"
    )
