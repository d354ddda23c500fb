"""Every implementation of the waist is held to one contract: in memory, each dialect on Samba, and beside losses.

The list is `contract_files`, `contract_names`, `contract_grants` and `contract_watching`. The last places play it
through a relay that cuts the connection in the middle of every answer: each call is executed, and nobody hears of it.
"""

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest
import trio

from smbfuse.client.negotiate import open_source
from smbfuse.config import Config, Login, Network, Secret, Security, Target, Vers
from smbfuse.share import Features, Share
from tests.interop import contract_files, contract_grants, contract_names, contract_watching
from tests.interop.contract import CHECKS, EVERYTHING, Check, Stage
from tests.relay import Relay
from tests.support.mem_share import MemShare
from tests.support.samba import PASSWORD, SambaServer, samba_server
from tests.support.samba_programs import newer_samba

LISTS: Final = (contract_files, contract_names, contract_grants, contract_watching)
TIMEO_S: Final = 20.0
PAUSE_S: Final = 0.06  # between calls whose answers are lost: what was made before one is older than its files' times
_numbers = itertools.count()


@dataclass(frozen=True)
class Place:
    """One way to have a share."""

    name: str
    vers: Vers | None = None  # None: in memory
    unix: bool = False
    newer: bool = False  # a Samba with directory leases; `unix`: and with the POSIX extensions
    features: Features = Features.NONE  # in memory
    lossy: bool = False
    soak: bool = False


EVERY_FEATURE: Final = (
    Features.HARD_LINKS
    | Features.SYMLINKS
    | Features.MAKES_SYMLINKS
    | Features.SPECIAL_FILES
    | Features.EXTENDED_ATTRIBUTES
    | Features.LEASES
    | Features.DIRECTORY_LEASES
    | Features.NOTIFY
)
PLACES: Final = [
    Place("memory", features=EVERY_FEATURE),
    Place("memory, POSIX", features=EVERY_FEATURE | Features.POSIX | Features.CASE_SENSITIVE),
    Place("SMB1", Vers.SMB1),
    Place("SMB1, UNIX extensions", Vers.SMB1, unix=True),
    Place("2.0.2", Vers.SMB202),
    Place("2.1", Vers.SMB210),
    Place("3.0", Vers.SMB300, soak=True),
    Place("3.1.1", Vers.SMB311),
    Place("3.1.1, newer", Vers.SMB311, newer=True),
    Place("3.1.1, POSIX extensions", Vers.SMB311, unix=True, newer=True),
    Place("SMB1, losses", Vers.SMB1, lossy=True),
    Place("SMB1, UNIX extensions, losses", Vers.SMB1, unix=True, lossy=True, soak=True),
    Place("3.1.1, losses", Vers.SMB311, lossy=True),
    Place("3.1.1, POSIX extensions, losses", Vers.SMB311, unix=True, newer=True, lossy=True, soak=True),
]


def cases() -> Iterator[Any]:
    for place in PLACES:
        for check in CHECKS:
            if (check.lossy or not place.lossy) and (check.in_memory or place.vers is not None):
                marks = [pytest.mark.samba] if place.vers else []
                marks += [pytest.mark.soak] if place.soak else []
                yield pytest.param(place, check, id=f"{place.name}: {check.name}", marks=marks)


SHARE_OPTIONS: Final = {
    "ea support": "yes",
    "store dos attributes": "yes",
    "create mask": "0777",
    "directory mask": "0777",
    "smb3 unix extensions": "yes",
}


@pytest.fixture(scope="module")
def installed() -> Iterator[SambaServer]:
    """A Samba with everything that writers may meet, extended attributes included."""
    with samba_server(share_options=SHARE_OPTIONS) as server:
        server.user.owns(server.root)
        yield server


@pytest.fixture(scope="module")
def newer() -> Iterator[SambaServer]:
    """The same, of 4.22 or later."""
    options = {"smb3 unix extensions": "yes", "smb3 directory leases": "yes"}
    with samba_server(options=options, share_options=SHARE_OPTIONS, programs=newer_samba()) as server:
        server.user.owns(server.root)
        yield server


@pytest.mark.parametrize("place, check", list(cases()))
async def test_the_contract_is_kept(place: Place, check: Check, request: pytest.FixtureRequest) -> None:
    async with stage(place, request) as played:
        features = played.share.features
        if not check.applies(features):
            pytest.skip(f"for shares with {check.needs!r} and without {check.without!r}; this one has {features!r}")
        await check.play(played)


@contextlib.asynccontextmanager
async def stage(place: Place, request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    """Make a place ready: two clients, and an empty folder."""
    folder = f"Stück {next(_numbers)}"
    if place.vers is None:
        memory = MemShare(
            features=place.features, grants=EVERYTHING, case_sensitive=Features.CASE_SENSITIVE in place.features
        )
        await memory.make_directory(folder)
        yield Stage(memory, memory.other_client(), folder)
        return
    server: SambaServer = request.getfixturevalue("newer" if place.newer else "installed")
    async with contextlib.AsyncExitStack() as stack:
        other = await stack.enter_async_context(connected(server, place, server.port))
        await other.make_directory(folder)
        if place.lossy:
            relay = stack.enter_context(Relay.started(("127.0.0.1", server.port)))
            share = await stack.enter_async_context(connected(server, place, relay.port))
            yield Stage(Losing(share, relay), other, folder)
        else:
            yield Stage(await stack.enter_async_context(connected(server, place, server.port)), other, folder)


@contextlib.asynccontextmanager
async def connected(server: SambaServer, place: Place, port: int) -> AsyncIterator[Share]:
    """Log in and connect the share, as a mount does."""
    config = Config(
        target=Target(host="127.0.0.1", share="share", port=port),
        login=Login(user=server.user.name, password=Secret(PASSWORD)),
        security=Security(vers=place.vers or Vers.DEFAULT),
        network=replace(Network(), timeo_s=TIMEO_S, unix_extensions=place.unix),
    )
    async with trio.open_nursery() as nursery:
        source = await open_source(config, nursery)
        try:
            yield await source.share("")
        finally:
            with trio.CancelScope(shield=True):
                await source.aclose()
            nursery.cancel_scope.cancel()


class Losing:
    """A share, file or listing whose every answer is cut on its way, once."""

    NO_ANSWER: Final = ("aclose", "acknowledge", "statistics")

    def __init__(self, near: Any, relay: Relay) -> None:
        self._near = near
        self._relay = relay

    def __getattr__(self, name: str) -> Any:
        near = getattr(self._near, name)
        if not callable(near) or name in self.NO_ANSWER:
            return near
        return self._losing(near)

    def _losing(self, call: Callable[..., Any]) -> Callable[..., Any]:
        async def made(*args: Any, **kwargs: Any) -> Any:
            await trio.sleep(PAUSE_S)
            self._relay.cut_after(1)  # a byte of the answer comes through
            try:
                answer = await call(*args, **kwargs)
            finally:
                self._relay.heal()
            return Losing(answer, self._relay) if hasattr(answer, "aclose") else answer

        return made
