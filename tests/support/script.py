"""What a scripted server is told to do: its small tree of files, and which answers a test replaces.

A test says `server.script.on(Command.READ, action)`. The action is a function that is given the request and the answer
that an ordinary server would give, and changes that; or bytes, which take the place of the whole message.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Union

Tree = Mapping[str, Union["Tree", bytes]]  # a folder by its names; a file is its bytes

MOMENT: Final = 0x01DC5B0000000000  # a FILETIME in 2025: every time of every file
FOREVER: Final = 1 << 30


class Raw(bytes):
    """Bytes that are sent as they are, instead of a message: without a session header of their own."""


@dataclass(slots=True)
class Answer:
    """One response that is about to leave. A script changes it in place."""

    header: Any  # the dialect's Header; frozen, to be replaced
    body: bytes  # SMB2: what follows the header. SMB1: the blocks
    silent: bool = False  # send nothing
    pdu: bytes | None = None  # send this instead of the whole message
    before: list[bytes] = field(default_factory=list)  # whole messages to send first, unprotected
    on_wire: Callable[[bytes], bytes] | None = None  # what becomes of the message once it is signed or sealed
    tampered: bool = False  # an attacker changes it on its way: the server itself believes in what it was
    hang_up: bool = False  # close the connection behind it


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as a script sees it."""

    header: Any
    element: bytes  # the whole message, or the whole element of a compound
    path: str | None = None  # what it concerns, where the server knows


Action = Callable[[Asked, Answer], None] | bytes


class Script:
    """Actions by command. Written by the test, read by the server's thread."""

    def __init__(self) -> None:
        self.asked: Counter[int] = Counter()
        self._actions: dict[int, list[tuple[Action, list[int]]]] = {}

    def on(self, command: int, action: Action, *, times: int = FOREVER) -> None:
        """Let `action` change the next `times` answers to `command`; one action after the other, each to its end."""
        self._actions.setdefault(int(command), []).append((action, [times]))

    def clear(self) -> None:
        """Be an ordinary server again."""
        self._actions.clear()

    def apply(self, asked: Asked, answer: Answer) -> None:
        """Change `answer` as the test wants."""
        command = int(asked.header.command)
        self.asked[command] += 1
        waiting = self._actions.get(command, [])
        while waiting and waiting[0][1][0] <= 0:
            waiting.pop(0)
        if not waiting:
            return
        action, left = waiting[0]
        left[0] -= 1
        if isinstance(action, bytes):
            answer.pdu = action
        else:
            action(asked, answer)


@dataclass(frozen=True, slots=True)
class Node:
    """One file or folder of the tree."""

    name: str
    path: str  # components joined by a backslash, '' for the root
    file_id: int
    content: bytes
    children: tuple["Node", ...] | None  # None: a file

    @property
    def is_folder(self) -> bool:
        return self.children is not None

    @property
    def attributes(self) -> int:
        """FileAttributes: DIRECTORY or ARCHIVE."""
        return 0x10 if self.is_folder else 0x20


class Files:
    """The tree that a scripted server shows; names are compared as they are."""

    def __init__(self, tree: Tree) -> None:
        self._next_id = 1000
        self.root = self._node("", "", tree)
        self._by_path = {node.path: node for node in self._all(self.root)}

    def find(self, path: str) -> Node | None:
        """Return what `path` names, with or without a leading backslash."""
        return self._by_path.get(path.strip("\\"))

    def _node(self, name: str, path: str, content: Tree | bytes) -> Node:
        self._next_id += 1
        number = self._next_id
        if isinstance(content, bytes):
            return Node(name, path, number, content, None)
        prefix = f"{path}\\" if path else ""
        children = tuple(self._node(child, prefix + child, inner) for child, inner in content.items())
        return Node(name, path, number, b"", children)

    def _all(self, node: Node) -> Iterator[Node]:
        yield node
        for child in node.children or ():
            yield from self._all(child)
