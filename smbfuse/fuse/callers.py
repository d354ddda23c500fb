"""What the program that waits for an answer of ours is doing, as far as its kernel tells.

A lookup does not say what it is for. It matters in one case: where the server ignores case, `rename("readme",
"README")` first looks "README" up, is told that it is the same file, and the kernel then has nothing to rename. Such a
lookup must find nothing. Whether the caller is in a rename shows in /proc/<thread>/syscall: root may read it of
everybody, others of their own processes unless Yama forbids it (kernel.yama.ptrace_scope above 0). Where it cannot be
read, a rename that changes nothing but case does nothing, as on the kernel client's mounts.
"""

import platform
from collections.abc import Mapping
from typing import Final

# rename, renameat, renameat2: asm/unistd.h of each architecture. The generic table serves all newer ones.
_GENERIC: Final = frozenset({38, 276})
_RENAMES: Final[Mapping[str, frozenset[int]]] = {
    "x86_64": frozenset({82, 264, 316}),
    "i686": frozenset({38, 302, 353}),
    "armv7l": frozenset({38, 329, 382}),
    "ppc64le": frozenset({38, 293, 357}),
    "s390x": frozenset({38, 295, 347}),
    "aarch64": _GENERIC,
    "riscv64": _GENERIC,
    "loongarch64": _GENERIC,
}
_OURS: Final = _RENAMES.get(platform.machine(), frozenset())


def is_renaming(thread: int) -> bool:
    """Tell whether a thread, whose request we hold, is in rename(2), renameat(2) or renameat2(2); no is also "unknown".

    Cost: some 10 µs.
    """
    try:
        with open(f"/proc/{thread:d}/syscall", encoding="ascii") as file:
            number = file.read(64).partition(" ")[0]
    except (OSError, ValueError):
        return False
    return number.isdigit() and int(number) in _OURS
