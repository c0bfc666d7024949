"""Two system call filters as BPF programs: what a template may call, and the little that is left to a one-shot.

Assembled here rather than by libseccomp: the whole program can be read, equal input gives equal bytes, and no shared
library is searched for (which forks) in the zygote. The numbers are checked against libseccomp by a test.
Source: Documentation/userspace-api/seccomp_filter.rst; include/uapi/linux/{seccomp,filter,audit}.h.
"""

import platform
import signal
import struct
from collections.abc import Sequence
from dataclasses import dataclass

_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06  # BPF_LD|W|ABS, ALU|AND|K, JMP|JEQ, JMP|JGE, RET
KILL, ALLOW = 0x8000_0000, 0x7FFF_0000  # SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_ALLOW
_X32_BIT = 0x4000_0000  # x86-64 calls with this bit are the x32 ABI, another table under the same architecture
_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data

# name: (x86_64, aarch64)
SYSCALLS = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "recvmsg": (47, 212),
    "clone": (56, 220),
    "exit": (60, 93),
    "gettimeofday": (96, 169),
    "prctl": (157, 167),
    "gettid": (186, 178),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "exit_group": (231, 94),
    "set_robust_list": (273, 99),
    "dup3": (292, 24),
    "prlimit64": (302, 261),
    "seccomp": (317, 277),
    "getrandom": (318, 278),
    "rseq": (334, 293),
    "close_range": (436, 436),
}
ARCHITECTURES = {"x86_64": (0, 0xC000_003E), "aarch64": (1, 0xC000_00B7)}  # column in SYSCALLS, AUDIT_ARCH_*


@dataclass(frozen=True)
class Test:
    """A condition on an argument: (low 32 bits & mask) == value."""

    argument: int
    mask: int
    value: int


@dataclass(frozen=True)
class Rule:
    """Allow a call where every test holds; several rules for one call are alternatives."""

    name: str
    tests: tuple[Test, ...] = ()


def _exactly(argument: int, value: int) -> Test:
    return Test(argument, 0xFFFF_FFFF, value)


_PROT_EXEC, _MAP_TYPE, _MAP_PRIVATE, _MAP_ANONYMOUS = 4, 0x0F, 0x02, 0x20
_FORK = 0x0120_0000 | signal.SIGCHLD  # CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID: fork() as glibc calls it, no thread
_PR_SET_PDEATHSIG, _PR_GET_SECCOMP = 1, 21
_SECCOMP_SET_MODE_FILTER = 1
_FUTEX_COMMAND = 0xFFFF_FFFF & ~(128 | 256)  # beside the private flag and the choice of clock
_FUTEX = (0, 1, 9, 10)  # WAIT, WAKE and their bitset forms; not the locks whose word names an owner by process id
_MADVICE = (4, 8, 14, 15)  # DONTNEED, FREE, HUGEPAGE, NOHUGEPAGE; not MERGEABLE, whose timing tells of other processes

_COMPUTE = (
    Rule("read"),
    Rule("write"),
    # private and anonymous: no memory shared with anybody, no file mapped, nothing made executable
    Rule(
        "mmap",
        (Test(2, _PROT_EXEC, 0), Test(3, _MAP_TYPE | _MAP_ANONYMOUS, _MAP_PRIVATE | _MAP_ANONYMOUS)),
    ),
    Rule("mprotect", (Test(2, _PROT_EXEC, 0),)),
    Rule("munmap"),
    Rule("mremap"),
    Rule("brk"),
    *(Rule("madvise", (_exactly(2, advice),)) for advice in _MADVICE),
    *(Rule("futex", (Test(1, _FUTEX_COMMAND, command),)) for command in _FUTEX),
    Rule("rt_sigreturn"),
    Rule("restart_syscall"),
    # of itself alone: of others both would tell one call whether, and how hard, another is at work
    Rule("sched_getaffinity", (_exactly(0, 0),)),
    Rule("clock_gettime", (Test(0, 0x8000_0000, 0),)),  # a negative clock is another process's CPU time
    Rule("gettimeofday"),
    Rule("getrandom"),
    Rule("exit"),
    Rule("exit_group"),
)
ONE_SHOT = _COMPUTE
TEMPLATE = (
    *_COMPUTE,
    Rule("recvmsg"),
    Rule("clone", (_exactly(0, _FORK),)),
    # what a child does between fork and its own filter
    Rule("rt_sigprocmask"),
    Rule("set_robust_list"),
    Rule("rseq"),
    Rule("gettid"),
    Rule("dup3"),
    Rule("close"),
    Rule("close_range"),
    Rule("prlimit64", (_exactly(0, 0),)),
    Rule("prctl", (_exactly(0, _PR_SET_PDEATHSIG), _exactly(1, signal.SIGKILL))),  # set, never lifted
    Rule("prctl", (_exactly(0, _PR_GET_SECCOMP),)),
    # no flags: a listener would see, and answer, its children's calls
    Rule("seccomp", (_exactly(0, _SECCOMP_SET_MODE_FILTER), _exactly(1, 0))),
)


def number_of(name: str) -> int:
    """This machine's number of a system call; -1, which no kernel serves, on a machine not in `ARCHITECTURES`."""
    column, _ = ARCHITECTURES.get(platform.machine(), (None, 0))
    return -1 if column is None else SYSCALLS[name][column]


def assemble(rules: Sequence[Rule], machine: str | None = None) -> bytes:
    """Assemble a filter: allow what a rule allows, kill the process for anything else.

    Args:
        rules: alternatives, tried in order.
        machine: as `platform.machine()`; None = this one.

    Returns:
        struct sock_filter instructions for seccomp(2).

    Raises:
        KeyError: the machine is not one of `ARCHITECTURES`.
    """
    column, architecture = ARCHITECTURES[machine or platform.machine()]
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, KILL),
    ]
    for rule in rules:
        program += _rule(rule, SYSCALLS[rule.name][column])
    program.append((_RETURN, 0, 0, KILL))
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)


def _rule(rule: Rule, number: int) -> list[tuple[int, int, int, int]]:
    length = 2 + 3 * len(rule.tests) + 1
    block = [(_LOAD, 0, 0, _NUMBER), (_EQUAL, 0, length - 2, number)]
    for test in rule.tests:
        block.append((_LOAD, 0, 0, _ARGUMENTS + 8 * test.argument))  # low half: both machines are little-endian
        block.append((_AND, 0, 0, test.mask))
        block.append((_EQUAL, 0, length - len(block) - 1, test.value))
    block.append((_RETURN, 0, 0, ALLOW))
    return block
