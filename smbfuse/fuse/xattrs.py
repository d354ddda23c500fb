"""The handlers of extended attributes, for mounts that show some (`user_xattr`, `cifsacl`).

They are handlers of their own because the kernel asks for `security.capability` before every write, and stops only if
getxattr was once answered ENOSYS: a mount that shows none leaves them out, and pyfuse3 answers so.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyfuse3 import InodeT, RequestContext, XAttrNameT

from smbfuse.fuse import boundary
from smbfuse.fuse.boundary import total
from smbfuse.fuse.operations import Operations


class OperationsWithXattrs(Operations):
    """`Operations`, and extended attributes."""

    @total
    async def getxattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> bytes:
        return boundary.attribute_value(await self._filesystem.getxattr(inode, name))

    @total
    async def setxattr(self, inode: InodeT, name: XAttrNameT, value: bytes, ctx: RequestContext) -> None:
        # XATTR_CREATE and XATTR_REPLACE do not come this far: pyfuse3 asks `getxattr` first, and answers by itself.
        await self._filesystem.setxattr(inode, name, value, 0)

    @total
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[XAttrNameT]:
        return boundary.attribute_names(await self._filesystem.listxattr(inode))

    @total
    async def removexattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> None:
        await self._filesystem.removexattr(inode, name)
