"""The list: every behaviour, by subject. Importing this package fills `BEHAVIOURS`."""

from tests.posix.behaviours import (  # noqa: F401  # imported for what they put on the list
    append,
    creation,
    directories,
    errors,
    flags,
    handles,
    holes,
    links,
    listing,
    locks,
    mapping,
    modes,
    names,
    renames,
    symlinks,
    syncing,
    times,
    truncation,
    unlinking,
    writing,
)
