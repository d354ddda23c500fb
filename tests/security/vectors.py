"""The test vectors of vectors.json: figures from specifications and observed exchanges, each with its source."""

import json
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

_ALL: Final[list[dict[str, Any]]] = json.loads(Path(__file__).with_name("vectors.json").read_text(encoding="utf-8"))


class Vector(NamedTuple):
    """One vector. `given` and `expected` hold hexadecimal strings, texts and numbers as in the file."""

    name: str
    given: dict[str, Any]
    expected: dict[str, Any]

    def bytes(self, key: str) -> bytes:
        """Return a hexadecimal entry of either side as bytes."""
        return bytes.fromhex((self.given | self.expected)[key])

    @property
    def dialect(self) -> int:
        """The DialectRevision, from its field or from the name ("…, dialect 0x311 cipher 2")."""
        text = self.given.get("dialect") or self.name.partition("dialect ")[2].split()[0]
        return int(text, 16)


def vectors(part: str) -> list[Vector]:
    """Return the vectors whose name contains `part`; none at all is an error, so that no test can pass by vanishing."""
    found = [Vector(row["name"], row["inputs"], row["outputs"]) for row in _ALL if part in row["name"]]
    assert found, f"no vector named …{part}…"
    return found


def vector(part: str) -> Vector:
    """Return the one vector whose name contains `part`."""
    (found,) = vectors(part)
    return found


def each(*parts: str) -> pytest.MarkDecorator:
    """Run a test once for each vector whose name contains one of `parts`, as its argument `vector`."""
    rows = [found for part in parts for found in vectors(part)]
    return pytest.mark.parametrize("vector", rows, ids=[row.name for row in rows])
