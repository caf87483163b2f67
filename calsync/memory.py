"""What a process holds of the machine's memory."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def give_back() -> None:
    """Return to the system what was freed but lies below what is in use, where the C library can (glibc: malloc_trim).

    Reading a whole calendar takes as much memory for a moment as keeping it takes for good.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
