"""The house itself: which room may import what, how long a module may be, what must carry a docstring.

The table below is the design: a new edge between rooms is a decision, made by changing it here with a reason.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

PACKAGE: Final = Path(__file__).resolve().parents[1] / "smbfuse"
LONGEST_MODULE: Final = 400  # lines

CORE: Final = {"errors", "status", "config", "share"}


class Room(NamedTuple):
    """What a room may import: rooms of smbfuse, and third-party packages."""

    rooms: frozenset[str]
    third_party: frozenset[str] = frozenset()


def room(*rooms: str, third_party: tuple[str, ...] = ()) -> Room:
    return Room(frozenset(rooms), frozenset(third_party))


# Sans-I/O up to the engine; sockets and trio in the client; POSIX in vfs; pyfuse3 in fuse. The waist, `share`, is all
# that the two halves have in common.
ROOMS: Final = {
    "__init__": room(),
    "__main__": room("cli"),
    "errors": room(),
    "status": room("errors"),
    "config": room("errors"),
    "share": room("errors"),
    "wire": room("errors", "status"),
    "security": room("errors", "wire", "config", third_party=("cryptography", "spnego")),
    "engine": room("wire", "security", "status", "errors"),
    "client": room("engine", "wire", "security", "share", "config", "status", "errors", third_party=("trio",)),
    "vfs": room("share", "config", "errors", third_party=("trio",)),
    "fuse": room("vfs", "share", "config", "errors", third_party=("pyfuse3", "trio")),
    "daemon": room("fuse", "vfs", "client", "share", "config", "errors", third_party=("trio", "jeepney")),
    "cli": room(
        *("daemon", "fuse", "vfs", "client", "engine", "security", "wire", *CORE, "__init__"),
        third_party=("trio", "rich", "keyring"),
    ),
}  # fmt: skip

# Sockets have one home, so that everything else can be driven without a network.
SOCKETS: Final = {"socket", "ssl", "select", "selectors", "asyncio"}
SOCKET_MODULES: Final = {
    "client/transport.py": "the connection to the server is made",
    "client/stream.py": "and carries bytes",
    "client/routes.py": "the kernel's news of addresses and routes",
    "daemon/control.py": "the unix socket that `smbfuse status` asks",
    "daemon/notify.py": "the datagram that tells systemd READY",
    "cli/status.py": "the asking end of the control socket",
    "fuse/loop.py": "poll(2) on the descriptor of /dev/fuse",
}

# Modules longer than 400 lines, each with the reason why it is still one idea.
LONG_MODULES: Final[dict[str, str]] = {}


class Import(NamedTuple):
    """One import statement: where it stands and the module it names."""

    line: int
    module: str


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[Import]:
    """Yield every import of a module, those inside functions and `if TYPE_CHECKING` too: a late edge is an edge."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: a relative import hides its room"
            if node.module == "smbfuse":
                for alias in node.names:
                    # `from smbfuse import __version__` names no module but the package itself.
                    found = (PACKAGE / alias.name).is_dir() or (PACKAGE / f"{alias.name}.py").is_file()
                    yield Import(node.lineno, f"smbfuse.{alias.name}" if found else "smbfuse.__init__")
            else:
                yield Import(node.lineno, node.module or "")


def forbidden(path: Path) -> Iterator[str]:
    """Yield a sentence for every import that the table does not allow."""
    own = room_of(path)
    allowed = ROOMS[own]
    for line, module in imports(path):
        top, _, rest = module.partition(".")
        at = f"{name_of(path)}:{line}"
        if top == "smbfuse":
            target = rest.partition(".")[0] or "__init__"
            if target not in (own, *allowed.rooms):
                yield f"{at}: {own} may not import smbfuse.{target}"
        elif top in SOCKETS:
            if name_of(path) not in SOCKET_MODULES:
                yield f"{at}: {top} belongs in {', '.join(SOCKET_MODULES)}"
        elif top not in sys.stdlib_module_names and top not in allowed.third_party:
            yield f"{at}: {own} may not import {top}"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_keep_to_their_room(path: Path) -> None:
    assert room_of(path) in ROOMS, f"{name_of(path)} is in a room that the table does not know"
    assert list(forbidden(path)) == []


def test_the_table_has_no_cycle() -> None:
    order: list[str] = []

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"rooms import each other: {' -> '.join((*above, name))}"
        for below in sorted(ROOMS[name].rooms):
            visit(below, (*above, name))
        order.append(name)

    for name in ROOMS:
        visit(name, ())


def test_the_check_itself_finds_what_it_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    guilty = {
        "wire/a.py": "import trio",
        "vfs/b.py": "def late():\n    from smbfuse.client import connection",
        "engine/c.py": "import socket",
        "fuse/d.py": "from smbfuse import client",
    }
    (tmp_path / "client").mkdir()
    for name, text in guilty.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        assert len(list(forbidden(tmp_path / name))) == 1, name


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_is_one_idea_long(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    name = name_of(path)
    if name in LONG_MODULES:
        assert lines > LONGEST_MODULE, f"{name} has become short: take it off the list"
    else:
        assert lines <= LONGEST_MODULE, f"{name} has {lines} lines: look for the second idea in it, or list why not"


def test_the_lists_of_exceptions_name_real_modules() -> None:
    names = {name_of(path) for path in modules()}
    assert set(LONG_MODULES) <= names
    assert set(SOCKET_MODULES) <= names


def public_without_docstring(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if ast.get_docstring(tree) is None:
        yield f"{name_of(path)}: the module"
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None:
            yield f"{name_of(path)}:{node.lineno}: {node.name}"


@pytest.mark.parametrize("path", [path for path in modules() if path.stat().st_size], ids=name_of)
def test_what_is_public_says_what_it_is_for(path: Path) -> None:
    assert list(public_without_docstring(path)) == []


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_no_module_is_named_after_nothing(path: Path) -> None:
    assert path.stem not in {"utils", "util", "helpers", "common", "misc"}
