"""Extended attributes through real mounts, as programs see them."""

from collections.abc import Callable, Iterator

import pytest

from tests.support.mounts import Mount
from tests.support.samba import SambaServer, samba_server

pytestmark = [pytest.mark.samba, pytest.mark.mounts]

DIALECTS = ["1.0", "2.0", "3.1.1"]

ATTRIBUTES = """
import errno, os, struct, sys

path = os.path.join(sys.argv[1], "Größe [1]")
open(path, "w").write("content")
os.setxattr(path, "user.name", bytes(range(256)))
os.setxattr(path, "user.other", b"2")
assert sorted(os.listxattr(path)) == ["user.name", "user.other"], os.listxattr(path)
assert os.getxattr(path, "user.name") == bytes(range(256))
os.setxattr(path, "user.other", b"33", os.XATTR_REPLACE)
assert os.getxattr(path, "user.other") == b"33"
os.removexattr(path, "user.other")
assert os.listxattr(path) == ["user.name"]

def refused(code, call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        assert error.errno == code, error
    else:
        raise AssertionError(arguments)

refused(errno.ENODATA, os.getxattr, path, "user.other")
refused(errno.ENODATA, os.removexattr, path, "user.other")
refused(errno.EEXIST, os.setxattr, path, "user.name", b"1", os.XATTR_CREATE)
refused(errno.ENODATA, os.setxattr, path, "user.absent", b"1", os.XATTR_REPLACE)
refused(errno.EOPNOTSUPP, os.getxattr, path, "system.cifs_acl")
refused(errno.EOPNOTSUPP, os.getxattr, path, "security.selinux")

(attributes,) = struct.unpack("<I", os.getxattr(path, "user.cifs.dosattrib"))
os.setxattr(path, "user.cifs.dosattrib", struct.pack("<I", attributes | 2))
assert os.getxattr(path, "user.cifs.dosattrib") == struct.pack("<I", attributes | 2)
made = struct.pack("<Q", 131_000_000_000_000_000)
os.setxattr(path, "user.cifs.creationtime", made)
assert os.getxattr(path, "user.cifs.creationtime") == made
print("done")
"""

DESCRIPTORS = """
import errno, os, sys

path = os.path.join(sys.argv[1], "file")
open(path, "w").write("content")
descriptor = os.getxattr(path, "system.cifs_acl")
assert descriptor[:1] == b"\\x01" and len(descriptor) > 20, descriptor
assert os.getxattr(path, "system.cifs_ntsd") == descriptor
os.setxattr(path, "system.cifs_acl", descriptor)
assert os.listxattr(path) == []
try:
    os.setxattr(path, "user.name", b"1")
except OSError as error:
    assert error.errno == errno.EOPNOTSUPP, error
else:
    raise AssertionError("user.name was set")
print("done")
"""

NONE = """
import errno, os, sys

path = os.path.join(sys.argv[1], "file")
open(path, "w").write("content")
for call, *more in (os.listxattr,), (os.getxattr, "user.name"), (os.setxattr, "user.name", b"1"):
    try:
        call(path, *more)
    except OSError as error:
        assert error.errno == errno.EOPNOTSUPP, error
    else:
        raise AssertionError("no error")
print("done")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[SambaServer]:
    options = {"ea support": "yes", "store dos attributes": "yes"}
    with samba_server(options={"server min protocol": "NT1"}, share_options=options) as server:
        server.user.owns(server.root)
        yield server


def run(server: SambaServer, mount: Callable[..., Mount], options: dict[str, str | bool], program: str) -> None:
    """Run a program in a folder of its own on a mount."""
    folder = server.user.owns_new(server.root / f"{len(list(server.root.iterdir()))} ü")
    mounted = mount(server, options, subfolder=f"/{folder.name}")
    assert mounted.python(program, mounted.point) == "done\n"


@pytest.mark.parametrize("vers", DIALECTS)
def test_user_attributes_and_those_of_dos(server: SambaServer, mount: Callable[..., Mount], vers: str) -> None:
    run(server, mount, {"vers": vers, "user_xattr": True, "nounix": True}, ATTRIBUTES)


@pytest.mark.parametrize("vers", DIALECTS)
def test_security_descriptors(server: SambaServer, mount: Callable[..., Mount], vers: str) -> None:
    run(server, mount, {"vers": vers, "cifsacl": True, "nounix": True}, DESCRIPTORS)


def test_without_the_options_there_are_none(server: SambaServer, mount: Callable[..., Mount]) -> None:
    run(server, mount, {"vers": "3.1.1"}, NONE)
