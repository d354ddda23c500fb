"""A host whose address a test chooses, and changes while a mount stands; see hosts.c for how, and why so."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

NAME: Final = "nas.example"
SOURCE: Final = Path(__file__).with_suffix(".c")


class Host:
    """The name `nas.example` for processes that are started with `environment`."""

    def __init__(self, folder: Path, address: str) -> None:
        """Make what it needs in `folder`, which everybody must be able to read."""
        self._address = folder / "address"
        self._library = folder / "hosts.so"
        self.move(address)
        macros = {"NAME": f'"{NAME}"', "HOSTS": f'"{self._address}"'}
        command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(self._library)]
        options = [*(f"-D{name}={value}" for name, value in macros.items()), str(SOURCE), "-ldl"]
        subprocess.run([*command, *options], check=True, timeout=120)
        self._library.chmod(0o755)

    @property
    def environment(self) -> Mapping[str, str]:
        return {"LD_PRELOAD": str(self._library)}

    def move(self, address: str) -> None:
        """Let the name lead to `address` from the next question on."""
        self._address.write_text(f"{address}\n")
