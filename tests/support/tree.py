"""A tree of files whose every byte is known, and the ways to compare what a mount shows of it."""

import hashlib
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MIB: Final = 1 << 20
CHUNK: Final = 4 * MIB

# Around every boundary that a client has: empty, one block, one page, one old SMB1 transfer, the 64 KiB limits.
SIZES: Final = (0, 1, 4095, 4096, 4097, 16644, 61440, 65535, 65536, 65537, 131072, 1048577)
NAMES: Final = (
    "plain",
    "naïve [x]",
    "🐙 octopus",
    "Ünïcödé",
    "two  spaces",
    "per%cent & quote'",
    "UPPER.Case",
    "n" * 250,
)
FOLDERS: Final = ("", "Ordner [é] 🐚", "a", "a/b", "a/b/c/d/e/f/g/h", "empty")


@dataclass(frozen=True, slots=True)
class Tree:
    """A folder of `files` and one big file, as they lie on the server's disk."""

    folder: Path
    files: int
    big: Path

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of each file by its path within the tree."""
        return hashes(self.folder)


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below `folder` by its relative path. Never for a mount: it is read right here."""
    return {str(path.relative_to(folder)): sha256(path) for path in walk(folder)}


def walk(folder: Path) -> Iterator[Path]:
    """Yield every file below `folder`."""
    for top, _, names in os.walk(folder):
        for name in names:
            yield Path(top, name)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a local file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_random(path: Path, size: int, source: random.Random) -> None:
    """Fill a file with reproducible noise."""
    with path.open("wb") as file:
        for start in range(0, size, CHUNK):
            file.write(source.randbytes(min(CHUNK, size - start)))


def grow(folder: Path, *, files: int, total: int, seed: int) -> Tree:
    """Fill `folder` with `files` files of together about `total` bytes, one of them big, in folders of strange names.

    Times are set in the past and odd: 100 ns steps, what SMB can carry.
    """
    source = random.Random(seed)
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    places = [name for name in FOLDERS if name != "empty"]
    left = total
    for number in range(files - 1):
        size = SIZES[number % len(SIZES)]
        name = f"{NAMES[number % len(NAMES)]} {number}"
        path = folder / places[number % len(places)] / name
        write_random(path, size, source)
        when_ns = 1_000_000_000_000_000_000 + number * 86_400_000_000_000 + number * 100
        os.utime(path, ns=(when_ns, when_ns))
        left -= size
    big = folder / "big.bin"
    write_random(big, max(left, 8 * MIB), source)
    os.utime(big, ns=(1_234_567_890_123_456_700,) * 2)
    return Tree(folder, files, big)
