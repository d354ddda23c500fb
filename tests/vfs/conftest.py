import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from smbfuse.config import Cache, View
from tests.support.mem_share import MemShare
from tests.support.mem_source import MemSource
from tests.vfs.mounted import DEFAULT_CACHE, Mount, Mounted

USER_VIEW = View(uid=1000, gid=1000)


@pytest.fixture
def mount(nursery: trio.Nursery) -> Mount:
    """Return a function that mounts shares in memory. A test where time matters asks for `autojump_clock` too."""

    async def start(
        *shares: MemShare, cache: Cache = DEFAULT_CACHE, view: View = USER_VIEW, whole_server: bool = False
    ) -> Mounted:
        mounted = Mounted(MemSource(*shares, whole_server=whole_server), cache, view)
        await nursery.start(mounted.fs.run)
        await (
            wait_all_tasks_blocked()
        )  # the listing of the root goes on for a moment: what a test counts comes after it
        return mounted

    return start
