import pytest
import trio

from smbfuse.config import Cache, View
from tests.support.mem_share import MemShare, MemSource
from tests.vfs.mounted import Mount, Mounted

USER_VIEW = View(uid=1000, gid=1000)


@pytest.fixture
def mount(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> Mount:
    """Return a function that mounts shares in memory. Time passes only while everybody waits."""

    async def start(
        *shares: MemShare, cache: Cache = Cache(), view: View = USER_VIEW, whole_server: bool = False
    ) -> Mounted:
        mounted = Mounted(MemSource(*shares, whole_server=whole_server), cache, view)
        await nursery.start(mounted.fs.run)
        return mounted

    return start
