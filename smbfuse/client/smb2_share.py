"""A share over SMB2: each call is one compound, that is one round trip."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from smbfuse.client import smb2_attributes, smb2_changes, smb2_links, smb2_requests, smb2_stat, smb2_watch
from smbfuse.client.session import farewell, share_statistics
from smbfuse.client.smb2_directory import Smb2Directory, open_directory
from smbfuse.client.smb2_files import Smb2File
from smbfuse.client.smb2_open import open_ahead, open_file
from smbfuse.client.smb2_tree import PAGE_SIZE, Smb2Tree, information
from smbfuse.client.watching import StandingWatch
from smbfuse.engine.smb2_exchange import Request
from smbfuse.errors import SmbError
from smbfuse.share import (
    Buffer,
    Change,
    Features,
    FileStat,
    GrantHolder,
    Kind,
    Limits,
    LinkForm,
    Opened,
    OpenIntent,
    ShareStatistics,
    Space,
)
from smbfuse.wire.fscc import FileFsFullSizeInformation, FileFsSizeInformation, VolumeInformation
from smbfuse.wire.smb2.create import CreateOptions
from smbfuse.wire.smb2.header import Command
from smbfuse.wire.smb2.info import InfoType
from smbfuse.wire.smb2.session import TreeDisconnectRequest

if TYPE_CHECKING:
    from smbfuse.client.smb2_session import Smb2Session

log = logging.getLogger(__name__)


# What can be asked of every server. None tells beforehand whether it keeps reparse points and EAs: Samba does,
# and sets no flag for it in FileFsAttributeInformation; one that does not answers NOT_SUPPORTED.
_ALWAYS: Final = (
    Features.SYMLINKS
    | Features.MAKES_SYMLINKS
    | Features.SPECIAL_FILES
    | Features.HARD_LINKS
    | Features.EXTENDED_ATTRIBUTES
)


class Smb2Share:
    """A connected tree. Implements `share.Share`."""

    incarnation: Final = 1

    def __init__(self, session: Smb2Session, name: str, tree: Smb2Tree) -> None:
        self._session = session
        self._name = name
        self.tree = tree
        self._limits: Limits | None = None

    def __repr__(self) -> str:
        return f"<Smb2Share {self._name!r} of {self._session!r}>"

    @property
    def name(self) -> str:
        return self._name

    @property
    def limits(self) -> Limits:
        # Asked for with each open file, and seldom another than the last time.
        in_flight = max(1, self.tree.engine.window.capacity)
        request = self.tree.engine.flow.request
        if self._limits is None or self._limits.in_flight != in_flight or self._limits.request != request:
            sizes = self.tree.sizes
            self._limits = Limits(sizes.read, sizes.write, min(sizes.transact, PAGE_SIZE), in_flight, request)
        return self._limits

    @property
    def features(self) -> Features:
        tree = self.tree
        grants = tree.grants
        return _features(
            tree.manner.features,
            tree.reparse_points is not False,
            tree.engine.compounds.enabled,
            grants.leases,
            grants.directories,
            tree.notifies,
        )

    async def stat(self, path: str) -> FileStat:
        """Return what `path` is; see `Share.stat`.  Cost: 1 round trip, 2 for a reparse point."""
        return await smb2_stat.look(self.tree, path)

    async def open(self, path: str, intent: OpenIntent) -> Smb2File:
        """Open a file, or make it; see `Share.open`.  Cost: 1 round trip."""
        return await open_file(self.tree, path, intent)

    async def open_ahead(self, files: Sequence[tuple[str, OpenIntent]], opened: Opened) -> None:
        """Open several files at once; see `Share.open_ahead`.  Cost: 1 round trip."""
        await open_ahead(self.tree, files, opened)

    async def open_directory(self, path: str, holder: GrantHolder | None = None) -> Smb2Directory:
        """Begin to list a folder; see `Share.open_directory`.  Cost: 1 round trip."""
        return await open_directory(self.tree, path, holder)

    async def watch(self, path: str, *, recursive: bool = True) -> StandingWatch:
        """Watch a folder; see `Share.watch`.  Cost: 2 round trips."""
        return await smb2_watch.watch(self.tree, path, recursive=recursive)

    async def read_link(self, path: str) -> str:
        """Return a symlink's target; see `Share.read_link`.  Cost: 1 round trip."""
        return await smb2_stat.read_link(self.tree, path)

    async def make_directory(self, path: str, mode: int | None = None) -> FileStat:
        """Make a folder; see `Share.make_directory`.  Cost: 1 round trip."""
        return await smb2_changes.make_directory(self.tree, path, mode)

    async def make_link(self, path: str, target: str, form: LinkForm = LinkForm.NATIVE) -> FileStat:
        """Make a symlink; see `Share.make_link`.  Cost: 1 round trip, 2 for a native one in Windows' manner."""
        return await smb2_links.make_link(self.tree, path, target, form)

    async def make_node(
        self,
        path: str,
        kind: Kind,
        device: tuple[int, int] | None,
        mode: int | None,
        form: LinkForm = LinkForm.NATIVE,
    ) -> FileStat:
        """Make a FIFO, socket or device node; see `Share.make_node`.  Cost: 1 round trip."""
        return await smb2_links.make_node(self.tree, path, kind, device, mode, form)

    async def link(self, existing: str, path: str) -> None:
        """Give a file a further name; see `Share.link`.  Cost: 1 round trip."""
        await smb2_changes.link(self.tree, existing, path)

    async def remove(self, path: str, kind: Kind, holder: GrantHolder | None = None) -> None:
        """Remove a name; see `Share.remove`.  Cost: 1 round trip, 2 for a read-only file."""
        await smb2_changes.remove(self.tree, path, kind, holder)

    async def rename(self, source: str, target: str, *, replace: bool, holder: GrantHolder | None = None) -> None:
        """Give a file or folder another name; see `Share.rename`.  Cost: 1 round trip."""
        await smb2_changes.rename(self.tree, source, target, replace=replace, holder=holder)

    async def change(self, path: str, change: Change, holder: GrantHolder | None = None) -> FileStat:
        """Change attributes by path; see `Share.change`.  Cost: 1 round trip."""
        return await smb2_changes.change(self.tree, path, change, holder)

    async def extended_attributes(self, path: str) -> Mapping[str, bytes]:
        """Return a file's EAs; see `Share.extended_attributes`.  Cost: 1 round trip."""
        return await smb2_attributes.extended_attributes(self.tree, path)

    async def set_extended_attribute(self, path: str, name: str, value: Buffer) -> None:
        """Set one EA; see `Share.set_extended_attribute`.  Cost: 1 round trip."""
        await smb2_attributes.set_extended_attribute(self.tree, path, name, value)

    async def security_descriptor(self, path: str) -> bytes:
        """Return owner, group and DACL; see `Share.security_descriptor`.  Cost: 1 round trip."""
        return await smb2_attributes.security_descriptor(self.tree, path)

    async def set_security_descriptor(self, path: str, descriptor: Buffer) -> None:
        """Set the DACL, and owners; see `Share.set_security_descriptor`.  Cost: 1 round trip."""
        await smb2_attributes.set_security_descriptor(self.tree, path, descriptor)

    async def space(self) -> Space:
        """Return the room on the volume; see `Share.space`.

        Cost: 1 round trip: CREATE, two QUERY_INFOs, CLOSE. The second asks for the older information class, which has
        no number of its own for this user: some servers know only that, and answer the first with next to nothing.
        """
        volume = InfoType.FILESYSTEM
        replies = await self.tree.compound(
            "",
            self.tree.create("", smb2_requests.LOOK, CreateOptions(0)),
            smb2_requests.query_info(volume, VolumeInformation.FULL_SIZE, FileFsFullSizeInformation.SIZE),
            smb2_requests.query_info(volume, VolumeInformation.SIZE, FileFsSizeInformation.SIZE),
            smb2_requests.close(),
        )
        try:
            full = FileFsFullSizeInformation.decode(information(replies[1], ""))
        except SmbError as error:
            log.debug("no FileFsFullSizeInformation: %s", error)
        else:
            unit = full.sectors_per_allocation_unit * full.bytes_per_sector
            return _space(
                unit,
                full.total_allocation_units,
                full.actual_available_allocation_units,
                full.caller_available_allocation_units,
            )
        size = FileFsSizeInformation.decode(information(replies[2], ""))
        unit = size.sectors_per_allocation_unit * size.bytes_per_sector
        return _space(
            unit, size.total_allocation_units, size.available_allocation_units, size.available_allocation_units
        )

    async def echo(self) -> None:
        """Ask the server for a sign of life; see `Share.echo`."""
        await self.tree.connection.perform(self.tree.engine.ping())

    async def aclose(self) -> None:
        """Disconnect the tree, which closes what is open in it. The login stays: other shares may use it."""
        with farewell("tree disconnect"):
            # Not urgent: it must not overtake the CLOSEs before it.
            request = Request(Command.TREE_DISCONNECT, TreeDisconnectRequest().encode())
            await self.tree.wait(self.tree.queue(request))

    def statistics(self) -> ShareStatistics:
        """Return counters of the connection, which other shares may use too, and what was negotiated."""
        protection = self.tree.engine.protection
        sealed = protection is not None and (protection.seal_all or self.tree.tree.seal)
        return share_statistics(
            self.tree.connection,
            dialect=self._session.negotiated.dialect.label,
            signing=self._session.signing_name,
            sealing=protection.sealing_name if protection is not None and sealed else "",
            login=self._session.login_name,
        )


@functools.cache
def _features(
    manners: Features, reparse_points: bool, compounds: bool, leases: bool, directories: bool, notifies: bool
) -> Features:
    """Return what a share has; kept, because putting flags together takes longer than to look this up."""
    features = _ALWAYS | manners
    if not reparse_points:
        features &= ~(Features.MAKES_SYMLINKS | Features.SPECIAL_FILES)
    if compounds:
        features |= Features.COMPOUND
    if leases:
        features |= Features.LEASES
    if directories:
        features |= Features.DIRECTORY_LEASES
    if notifies:
        features |= Features.NOTIFY
    return features


def _space(unit: int, total: int, free: int, available: int) -> Space:
    """Return the room in bytes; numbers of units that are negative (signed on the wire) count as none."""
    return Space(max(0, total) * unit, max(0, free) * unit, max(0, available) * unit, block_size=unit)
