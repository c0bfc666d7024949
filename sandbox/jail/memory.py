"""Huge pages for the zygote, so that its forks of forks map and copy little.

A fork copies a page table entry for each resident page of the heap, and a child faults on each piece of program text
that it touches first. Both are most of what a process per call costs. So, once everything is imported, heap and text
are moved into 2 MiB pages, which children share whole. Where the kernel declines, everything works as before, slower.
Sources: madvise(2), MADV_COLLAPSE; Documentation/admin-guide/mm/transhuge.rst.
"""

import ctypes
import mmap

_HUGE = 2 * 2**20
_MADV_HUGEPAGE, _MADV_COLLAPSE = 14, 25
_MREMAP_MAYMOVE, _MREMAP_FIXED = 1, 2

_INTERPRETER = ctypes.cast(ctypes.pythonapi.Py_IncRef, ctypes.c_void_p).value or 0
_libc = ctypes.CDLL(None, use_errno=True)
_SIZE, _ADDRESS, _INT = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int
_libc.madvise.argtypes = _libc.mprotect.argtypes = (_ADDRESS, _SIZE, _INT)
_libc.mmap.argtypes = (_ADDRESS, _SIZE, _INT, _INT, _INT, ctypes.c_long)
_libc.mremap.argtypes = (_ADDRESS, _SIZE, _SIZE, _INT, _ADDRESS)
_libc.munmap.argtypes = (_ADDRESS, _SIZE)
_libc.mmap.restype = _libc.mremap.restype = _ADDRESS


def use_huge_pages() -> None:
    """Move this process's heap and program text into huge pages, as far as they fill whole ones."""
    with open("/proc/self/maps") as file:
        maps = [line.split() for line in file]
    for parts in maps:
        first, last = (int(address, 16) for address in parts[0].split("-"))
        if parts[1] == "rw-p" and (len(parts) < 6 or parts[5] == "[heap]"):
            start, end = -(-first // _HUGE) * _HUGE, last // _HUGE * _HUGE
            _libc.madvise(start, max(end - start, 0), _MADV_HUGEPAGE)
            for at in range(start, end, _HUGE):
                _libc.madvise(at, _HUGE, _MADV_COLLAPSE)
        elif parts[1] == "r-xp" and len(parts) > 5 and parts[5].startswith("/"):
            start, end = -(-first // _HUGE) * _HUGE, last // _HUGE * _HUGE
            if first <= _INTERPRETER < last:
                start, end = first, last
            if end > start:
                _move_text(start, end - start)


def _move_text(start: int, size: int) -> None:
    writable, private = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    room = _libc.mmap(None, size + _HUGE, writable, private, -1, 0)
    if room is None or room == ctypes.c_void_p(-1).value:
        return
    copy = room + (start - room) % _HUGE  # the same place within a huge page, or it could not stay one
    _libc.madvise(copy, size, _MADV_HUGEPAGE)
    ctypes.memmove(copy, start, size)
    if _libc.mprotect(copy, size, mmap.PROT_READ | mmap.PROT_EXEC):  # a policy may forbid it: the text stays as it was
        _libc.munmap(room, size + _HUGE)
        return
    _libc.mremap(copy, size, size, _MREMAP_MAYMOVE | _MREMAP_FIXED, start)
    if copy > room:
        _libc.munmap(room, copy - room)
    if copy < room + _HUGE:
        _libc.munmap(copy + size, room + _HUGE - copy)
