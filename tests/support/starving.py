"""How long a thread was ready to run and had no core: silence that a loaded machine makes, and no loop of ours."""

from pathlib import Path
from typing import Final

THIS_THREAD: Final = Path("/proc/thread-self/schedstat")


def main_thread(pid: int) -> Path:
    """Return where the kernel counts for another process's main thread."""
    return Path(f"/proc/{pid}/schedstat")


def starved_s(counters: Path = THIS_THREAD) -> float:
    """Return for how many seconds a thread has waited for a core so far; 0.0 where the kernel does not count it.

    Spec: Documentation/scheduler/sched-stats.rst of the kernel.
    """
    try:
        return int(counters.read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0
