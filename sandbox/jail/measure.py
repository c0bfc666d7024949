"""What a model takes of the machine, measured behind the walls: no /proc, no getrusage, a clock and the allocator."""

import ctypes
import time

RUN_CPU_US_MAX = 10_000  # one row; half of a call's slot, or it would never make an offer; real ones take 0.02 to 2 ms
MEMORY_BYTES_MAX = 512 * 2**20  # a loaded model; half of the address space, five times the bytes of a large forest


class _Mallinfo(ctypes.Structure):
    """struct mallinfo2 (glibc >= 2.33)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    ]


# looked up at import: behind the walls there is no file to look in
_mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
if _mallinfo is not None:
    _mallinfo.restype = _Mallinfo


def allocated_bytes() -> int:
    """Memory that this process has in use from the allocator; 0 where the C library does not tell."""
    if _mallinfo is None:
        return 0
    told = _mallinfo()
    return int(told.uordblks + told.hblkhd)


def cpu_us() -> float:
    """CPU time that this thread, the only one there is, has taken, in microseconds.

    Not the process's: under RLIMIT_CPU the kernel counts that in ticks of several milliseconds.
    """
    return time.clock_gettime_ns(time.CLOCK_THREAD_CPUTIME_ID) / 1000


def clock_ms() -> float:
    """A clock for durations, in milliseconds."""
    return time.monotonic_ns() / 1e6
