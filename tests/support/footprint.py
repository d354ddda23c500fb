"""What a running smbfuse takes of the machine: memory, descriptors, threads, tasks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tests.support.mounts import Mount
from tests.support.samba import wait_for

MOST_THREADS: Final = (
    12  # that are made when they are needed, and stay: those that tell the kernel, and those of libraries
)


@dataclass(frozen=True, slots=True)
class Footprint:
    """At one moment."""

    resident: int  # bytes
    descriptors: int
    threads: int
    tasks: int

    @classmethod
    def of(cls, mount: Mount) -> Self:
        """Look at a mount's process."""
        told = mount.status()
        process = Path("/proc", str(told["pid"]))
        said = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        return cls(
            resident=int(said["VmRSS"].split()[0]) * 1024,
            descriptors=len(list((process / "fd").iterdir())),
            threads=int(said["Threads"]),
            tasks=int(told["tasks"]),
        )

    def exceeds(self, before: "Footprint", growth: int) -> bool:
        """Tell whether there is more of anything than before; of memory, by more than `growth` bytes."""
        return (
            self.resident > before.resident + growth
            or self.descriptors > before.descriptors
            or self.threads > before.threads + MOST_THREADS
            or self.tasks > before.tasks
        )


def settles(mount: Mount, before: Footprint, *, growth: int, within_s: float) -> None:
    """Wait until a mount takes no more than before.  Raises: AssertionError if it goes on taking more."""
    seen: list[Footprint] = []

    def is_back() -> bool:
        seen.append(Footprint.of(mount))
        return not seen[-1].exceeds(before, growth)

    assert wait_for(is_back, within_s, pause_s=0.5), f"{seen[-1]}\nand before it was\n{before}"
