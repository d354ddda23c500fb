"""What the real mounts of this folder read."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from smbfuse.cli.exits import Exit
from tests.relay import Relay
from tests.support.folders import mount_table, public_folder
from tests.support.mounts import Mount, Options, mount_options
from tests.support.pair import Pair, pair_on
from tests.support.samba import PASSWORD, SambaServer, samba_server
from tests.support.tree import MIB, Tree, grow
from tests.support.users import Installation, User


@pytest.fixture(scope="session")
def signing_samba(samba: SambaServer) -> Iterator[SambaServer]:
    """Provide a server over the same files that signs SMB1 too, if the client can."""
    with samba_server(options={"server signing": "auto"}, shares={"share": samba.root}) as server:
        yield server


@pytest.fixture(scope="session")
def tree(samba: SambaServer) -> Tree:
    """Provide 300 files and 64 MiB on the shared server."""
    folder = samba.root / "Baum [ö] 🌳"
    folder.mkdir()
    return grow(folder, files=300, total=64 * MIB, seed=20261)


@pytest.fixture(scope="session")
def large_tree(samba: SambaServer) -> Tree:
    """Provide 5,000 files, a file of 1 GiB and a sparse one of 5 GiB on the shared server."""
    folder = samba.root / "Wald [ö] 🌲"
    folder.mkdir()
    grown = grow(folder, files=5000, total=1900 * MIB, seed=20262)
    with (folder / "sparse.bin").open("wb") as file:
        file.truncate(5 << 30)
        for offset in (0, (4 << 30) - 7, (5 << 30) - 13):  # over the edge of 32 bits, and at the very end
            file.seek(offset)
            file.write(b"not a hole   ")
    os.utime(folder / "sparse.bin", ns=(1_234_567_890_123_456_700,) * 2)  # SMB has steps of 100 ns
    return Tree(folder, grown.files + 1, grown.big)


@pytest.fixture
def relay_to() -> Iterator[Callable[..., Relay]]:
    """Provide `relay_to(port, **settings)`: a running relay to that port of 127.0.0.1."""
    with contextlib.ExitStack() as stack:
        yield lambda port, **settings: stack.enter_context(Relay.started(("127.0.0.1", port), **settings))


@pytest.fixture
def pair_of(
    samba: SambaServer, share_folder: Path, mount: Callable[..., Mount], user: User
) -> Iterator[Callable[..., Pair]]:
    """Provide `pair_of(options)`: two mounts of one folder with these options.

    The server tells them of nothing (`nonotify`) unless the options say so: what a grant or a time limit promises is to
    be shown without that help.
    """
    user.owns(share_folder)
    with contextlib.ExitStack() as stack:

        def make(options: Options, server: SambaServer = samba) -> Pair:
            folder = share_folder if server is samba else user.owns_new(server.root / "pair [ü]")
            return stack.enter_context(pair_on(server, folder, mount, {"nonotify": True, **options}))

        yield make


@pytest.fixture
def point(user: User) -> Iterator[Path]:
    """Provide an empty folder of the user's."""
    with public_folder("smbfuse-point-") as folder:
        yield user.owns_new(folder / "point")


@pytest.fixture
def refused(user: User, installation: Installation, point: Path) -> Callable[..., str]:
    """Provide `refused(exit, source, options)`: mounting must fail with that code; returns the one sentence."""

    def run(
        expected: Exit,
        source: str,
        options: Options,
        *,
        at: Path = point,
        environment: Mapping[str, str] = {},  # never changed
    ) -> str:
        ran = subprocess.run(
            [installation.program, source, at, "-o", mount_options(options)],
            cwd="/",
            env={**installation.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **user.run_options(),
        )
        said: str = ran.stderr.strip()
        assert (ran.returncode, ran.stdout) == (expected, ""), said
        assert "Traceback" not in said
        assert said.startswith("smbfuse: ")
        assert len(said.splitlines()) == 1, said
        assert PASSWORD not in said
        assert at not in mount_table()
        return said

    return run
