"""Temporary folders that other users may enter, and what the kernel has mounted where."""

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


def mount_table() -> dict[Path, str]:
    """Return mount points and their filesystem types, read without touching any of them."""
    table = {}
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        fields = line.split(" ")
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4])
        table[Path(point)] = fields[fields.index("-") + 1]
    return table


@contextlib.contextmanager
def public_folder(prefix: str) -> Iterator[Path]:
    """Make a temporary folder that every user may enter, unlike pytest's own; remove it at the end.

    It is left alone while something is mounted below it: removing would reach through to the server's files.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        if not any(folder in point.parents for point in mount_table()):
            shutil.rmtree(folder, ignore_errors=True)
