"""Handles of an SMB1 server are given back once, and always: whatever answers it gives, and whoever gives up when."""

from collections import Counter
from dataclasses import dataclass, field

import pytest

from smbfuse.errors import ProtocolError
from smbfuse.share import OpenIntent
from smbfuse.wire.smb1 import files, io
from smbfuse.wire.smb1.header import Command, decode_header
from smbfuse.wire.smb1.message import Block, Message
from smbfuse.wire.smb1.negotiate import Capabilities
from tests.client.smb1_disk import Disk
from tests.client.smb1_server import NT
from tests.client.test_smb1_old_disks import NT_LEVELS, mounted

READING = OpenIntent()


@dataclass
class Counting(Disk):
    """Like Windows NT 4; knows what it has opened and what was closed, and keeps `held` commands waiting."""

    capabilities: Capabilities = NT
    known_levels: frozenset[int] = NT_LEVELS
    opened: list[int] = field(default_factory=list)
    held: set[Command] = field(default_factory=set)
    waiting: list[bytes] = field(default_factory=list)

    @property
    def closed(self) -> Counter[int]:
        """How often each FID was closed."""
        blocks = [block for _, chain in self.requests for block in chain if block.command == Command.CLOSE]
        return Counter(files.CloseRequest.decode_block(block, self.strings).fid for block in blocks)

    def _open(self, name: str) -> int:
        self.opened.append(super()._open(name))
        return self.opened[-1]

    def _take(self, pdu: bytes) -> None:
        if decode_header(pdu).command in self.held:
            self.waiting.append(pdu)
        else:
            super()._take(pdu)

    async def let(self) -> None:
        """Answer what was kept waiting."""
        self.held.clear()
        waiting, self.waiting = self.waiting, []
        for pdu in waiting:
            super()._take(pdu)
        await self.send_all(())


async def test_first_bytes_that_are_nonsense_leave_no_handle_behind() -> None:
    class Generous(Counting):
        def _reply(self, block: Block) -> Message:
            if block.command == Command.READ_ANDX:
                return io.ReadResponse(0xFFFF, 0, b"", b"more than was asked for")
            return super()._reply(block)

    server = Generous()
    async with mounted(server) as share:
        with pytest.raises(ProtocolError):
            await share.open("a.txt", OpenIntent(first_bytes=4))
    assert server.opened == [1]
    assert server.closed == {1: 1}
