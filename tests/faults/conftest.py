"""What a fault is done to: a server, a relay before it, a name that leads to the relay, and mounts through all that."""

import contextlib
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.faults.expected import TIMEO_S
from tests.relay import Relay
from tests.support.folders import public_folder
from tests.support.hosts import NAME, Host
from tests.support.mounts import Mount, mounted
from tests.support.samba import SambaServer, free_ports, samba_server
from tests.support.users import Installation, User

OPTIONS: Final[Mapping[str, str | int | bool]] = {"timeo": int(TIMEO_S), "mfsymlinks": True, "user_xattr": True}


@dataclass(slots=True)
class Stage:
    """Servers that last for a module, by their own options; and mounts of a folder on one of them."""

    user: User
    installation: Installation
    stack: contextlib.ExitStack
    servers: dict[tuple[tuple[str, str], ...], SambaServer] = field(default_factory=dict)

    def server(self, options: Mapping[str, str]) -> SambaServer:
        """Return the server with these options; it is started for whoever asks first."""
        key = tuple(options.items())
        if key not in self.servers:
            started = samba_server(options=options, also_ports=free_ports(1))
            self.servers[key] = self.stack.enter_context(started)
        return self.servers[key]

    @contextlib.contextmanager
    def folder_on(self, server: SambaServer) -> Iterator[Path]:
        """Make a folder on `server`, which its user owns."""
        folder = self.user.owns_new(server.root / f"fault {uuid.uuid4().hex[:8]}")
        yield folder
        shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def relay_to(self, server: SambaServer) -> Iterator[tuple[Relay, Host]]:
        """Run a relay to `server`, and give it a name."""
        with Relay.started(("127.0.0.1", server.port)) as relay, public_folder("smbfuse-host-") as folder:
            yield relay, Host(folder, relay.host)

    @contextlib.contextmanager
    def mount(
        self,
        server: SambaServer,
        relay: Relay,
        host: Host,
        subfolder: str,
        options: Mapping[str, str | bool],
        announced: Sequence[str] = (),
    ) -> Iterator[Mount]:
        """Mount a folder of `server` by the name of the relay."""
        login: dict[str, str | int | bool] = {"credentials": str(server.credentials()), "port": relay.port}
        with mounted(
            f"//{NAME}/share/{subfolder}",
            {**OPTIONS, **login, **options},
            user=self.user,
            installation=self.installation,
            announced=announced,
            environment=host.environment,
        ) as mount:
            yield mount


@pytest.fixture(scope="module")
def stage(user: User, installation: Installation) -> Iterator[Stage]:
    """Provide the stage of a module."""
    with contextlib.ExitStack() as stack:
        yield Stage(user, installation, stack)
