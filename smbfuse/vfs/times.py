"""Times as servers keep them: steps of 100 ns from 1601 on, in 63 bits (FILETIME).  [MS-FSCC] 2.1.1."""

from typing import Final

_STEP_NS: Final = 100
_EPOCH: Final = 116_444_736_000_000_000  # 1970 as a FILETIME
_EARLIEST: Final = 1  # as a FILETIME: 0 is no time
_LATEST: Final = (1 << 63) - 1  # in the year 30828


def nearest(time_ns: int) -> int:
    """Return the time that a server can keep and that is nearest to one in nanoseconds since 1970."""
    return from_filetime(min(max(to_filetime(time_ns), _EARLIEST), _LATEST))


def to_filetime(time_ns: int) -> int:
    """Return a time in nanoseconds since 1970 as a FILETIME, cut to its steps."""
    return time_ns // _STEP_NS + _EPOCH


def from_filetime(filetime: int) -> int:
    """Return a FILETIME in nanoseconds since 1970."""
    return (filetime - _EPOCH) * _STEP_NS


def is_time(filetime: int) -> bool:
    """Tell whether a number is a time at all."""
    return _EARLIEST <= filetime <= _LATEST
