"""A Samba whose user has a quota; see quota.c for how, and why so."""

import dataclasses
import subprocess
from pathlib import Path

from tests.support.samba_programs import INSTALLED, SambaPrograms

SOURCE = Path(__file__).with_suffix(".c")


def samba_with_quota(library: Path, folder: Path, length: int, status: int | None = None) -> SambaPrograms:
    """Return the installed Samba with a quota of `length` bytes for the files in `folder`.

    A write beyond it is answered with `status`, or what Samba makes of EDQUOT. `library` is made for it.
    """
    macros = {"FOLDER": f'"{folder}"', "BYTES": length} | ({} if status is None else {"STATUS": f"{status:#x}u"})
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run([*command, *(f"-D{name}={value}" for name, value in macros.items())], check=True, timeout=120)
    library.chmod(0o755)
    return dataclasses.replace(INSTALLED, preload=library)
