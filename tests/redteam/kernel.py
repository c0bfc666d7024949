"""What an attack has at hand: raw system calls by name, on x86-64 and arm64.

The text of this file stands before every attack (see attack.py), so it imports only what a zygote has imported already:
behind the walls no file can be opened.
"""

import ctypes
import os
import platform
import struct
import time

VICTIM = 0  # process id of an unwalled process of the same user; a runner puts the true one here
SECRET = 0  # an address in that process where b"secret" stands
PORT = 0  # a loopback TCP port on which somebody listens
SCRATCH = "/nowhere"  # a directory everybody may write, with a file `neighbour` and a unix socket `door`
ABSTRACT = b"\0nobody"  # the name of an abstract unix socket on which somebody listens
BOMB_BYTES = 2**30  # more than the memory limit

NEW_UTS, NEW_NET = 0x0400_0000, 0x4000_0000
GETPID_BY_INT80 = bytes.fromhex("b814000000cd80c3")  # mov eax, 20; int 0x80; ret
COLUMN = 0 if platform.machine() == "x86_64" else 1
# name: (x86_64, aarch64); checked against libseccomp's table by a test
NUMBERS = {
    "ioctl": (16, 29),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "madvise": (28, 233),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "setitimer": (38, 103),
    "clone": (56, 220),
    "wait4": (61, 260),
    "kill": (62, 129),
    "ptrace": (101, 117),
    "syslog": (103, 116),
    "rt_sigprocmask": (14, 135),
    "rt_sigaction": (13, 134),
    "rt_sigqueueinfo": (129, 138),
    "personality": (135, 92),
    "setpriority": (141, 140),
    "sched_setscheduler": (144, 119),
    "mlock": (149, 228),
    "pivot_root": (155, 41),
    "prctl": (157, 167),
    "chroot": (161, 51),
    "acct": (163, 89),
    "mount": (165, 40),
    "umount2": (166, 39),
    "swapon": (167, 224),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "init_module": (175, 105),
    "quotactl": (179, 60),
    "gettid": (186, 178),
    "futex": (202, 98),
    "sched_setaffinity": (203, 122),
    "sched_getaffinity": (204, 123),
    "timer_create": (222, 107),
    "clock_settime": (227, 112),
    "clock_gettime": (228, 113),
    "tgkill": (234, 131),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "kexec_load": (246, 104),
    "waitid": (247, 95),
    "add_key": (248, 217),
    "keyctl": (250, 219),
    "ioprio_set": (251, 30),
    "unshare": (272, 97),
    "set_robust_list": (273, 99),
    "inotify_init1": (294, 26),
    "perf_event_open": (298, 241),
    "prlimit64": (302, 261),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "setns": (308, 268),
    "getcpu": (309, 168),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "seccomp": (317, 277),
    "memfd_create": (319, 279),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "membarrier": (324, 283),
    "rseq": (334, 293),
    "pidfd_send_signal": (424, 424),
    "io_uring_setup": (425, 425),
    "pidfd_open": (434, 434),
    "clone3": (435, 435),
    "pidfd_getfd": (438, 438),
}
_open_program = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0x7FFF_0000), 8)  # return SECCOMP_RET_ALLOW
_libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> int:
    """Make a system call; raises OSError as the kernel refuses it."""
    return call_number(NUMBERS[name][COLUMN], *arguments)


def call_number(number: int, *arguments: object) -> int:
    """Make a system call by its number, numbers of arguments as whole registers."""
    registers = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = int(_libc.syscall(ctypes.c_long(number), *registers))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def outcome_of(name: str, *arguments: object) -> int:
    """The error number of a system call, 0 where it succeeds; for calls whose refusal tells something."""
    try:
        call(name, *arguments)
    except OSError as error:
        return error.errno or 0
    return 0


def buffer(data: bytes, size: int = 0) -> ctypes.Array[ctypes.c_char]:
    """Memory of our own that the kernel can read and write."""
    return ctypes.create_string_buffer(data, max(size, len(data)))


def map_memory(protection: int, flags: int, size: int = 4096) -> int:
    """mmap(2) of fresh memory; returns its address."""
    _libc.mmap.restype = ctypes.c_void_p
    address = _libc.mmap(None, ctypes.c_size_t(size), protection, flags, -1, ctypes.c_long(0))
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(address)


def vector(address: int, size: int) -> ctypes.Array[ctypes.c_char]:
    """A struct iovec."""
    return buffer(struct.pack("PN", address, size))


def open_filter() -> ctypes.Array[ctypes.c_char]:
    """A struct sock_fprog that allows everything."""
    return buffer(struct.pack("@HP", 1, ctypes.addressof(_open_program)))


def cpu_seconds() -> float:
    """CPU time of this process."""
    return time.process_time()


def run_code(code: bytes) -> int:
    """Run machine code and return what it leaves in the first result register."""
    address = map_memory(7, 0x22)
    ctypes.memmove(address, code, len(code))
    return int(ctypes.CFUNCTYPE(ctypes.c_long)(address)())
