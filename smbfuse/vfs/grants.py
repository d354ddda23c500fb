"""What the server allows to keep of one file, and who hears that it takes it back."""

import secrets
from typing import Final, Protocol

from smbfuse.share import Caching

READING: Final = Caching.READ | Caching.HANDLE  # asked for to read
WRITING: Final = READING | Caching.WRITE
_KEY_SIZE: Final = 16  # bytes


class Listener(Protocol):
    """Who answers breaks: plain calls, which start tasks where there is something to do."""

    def broken(self, remaining: Caching, acknowledge: bool) -> None:
        """Hear that only `remaining` is left; see `share.GrantHolder.broken`."""
        ...

    def lost(self) -> None:
        """Hear that the grant has ended with its connection."""
        ...

    def regained(self) -> None:
        """Hear that there is one again, of which the open files can tell."""
        ...


class Grant:
    """The grant on one file, whoever opened it and however often. Implements `share.GrantHolder`.

    It exists before the file is open, because the open asks for it: a break that overtakes the answer to the open is
    kept for whoever listens afterwards.
    """

    def __init__(self) -> None:
        self.key = secrets.token_bytes(_KEY_SIZE)
        self.current = Caching.NONE
        self._listener: Listener | None = None
        self._missed: list[tuple[Caching, bool]] = []

    def __repr__(self) -> str:
        return f"<Grant {self.key.hex()} {self.current!r}>"

    def tell(self, listener: Listener) -> None:
        """Have `listener` hear of breaks, and of those that came already."""
        self._listener = listener
        missed, self._missed = self._missed, []
        for remaining, acknowledge in missed:
            listener.broken(remaining, acknowledge)

    def given(self, caching: Caching) -> None:
        """Take what an open was granted."""
        self.current = caching

    def broken(self, remaining: Caching, *, acknowledge: bool) -> None:
        """Hear that the server takes it back, down to `remaining`; see `share.GrantHolder`."""
        self.current &= remaining
        if self._listener is None:
            self._missed.append((remaining, acknowledge))
        else:
            self._listener.broken(remaining, acknowledge)

    def lost(self) -> None:
        """Hear that the connection has ended; see `share.GrantHolder`."""
        self.current = Caching.NONE
        self._missed.clear()
        if self._listener is not None:
            self._listener.lost()

    def regained(self) -> None:
        """Hear that there is one again, which counts once it is `given`; see `share.GrantHolder`."""
        if self._listener is not None:
            self._listener.regained()
