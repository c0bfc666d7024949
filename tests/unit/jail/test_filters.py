"""The system call filters, run in a model of the kernel's BPF machine."""

import struct

import pyseccomp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.jail import filters

_X86, _ARM = filters.ARCHITECTURES["x86_64"][1], filters.ARCHITECTURES["aarch64"][1]


def run(program: bytes, number: int, architecture: int = _X86, arguments: tuple[int, ...] = ()) -> int:
    """What the kernel would return for a call (classic BPF over struct seccomp_data)."""
    padded = (*arguments, *(0,) * (6 - len(arguments)))
    data = struct.pack("=IIQ6Q", number, architecture, 0, *padded)
    instructions = list(struct.iter_unpack("=HBBI", program))
    accumulator = at = 0
    while True:
        code, yes, no, value = instructions[at]
        at += 1
        if code == 0x20:
            accumulator = struct.unpack_from("=I", data, value)[0]
        elif code == 0x54:
            accumulator &= value
        elif code == 0x15:
            at += yes if accumulator == value else no
        elif code == 0x35:
            at += yes if accumulator >= value else no
        else:
            assert code == 0x06
            return int(value)


def number(name: str) -> int:
    """The x86-64 number of a call."""
    return filters.SYSCALLS[name][0]


@pytest.mark.parametrize("machine", sorted(filters.ARCHITECTURES))
def test_numbers_are_those_of_libseccomp(machine: str) -> None:
    """Every number of both tables is the one that libseccomp knows."""
    architecture = {"x86_64": pyseccomp.Arch.X86_64, "aarch64": pyseccomp.Arch.AARCH64}[machine]
    column = filters.ARCHITECTURES[machine][0]
    for name, numbers in filters.SYSCALLS.items():
        assert pyseccomp.resolve_syscall(architecture, name) == numbers[column], name


@given(st.integers(0, 2**32 - 1), st.sampled_from([_X86, _ARM, 0x4000_0003]))
def test_what_is_not_listed_is_killed(call: int, architecture: int) -> None:
    """Calls without a rule, of another architecture or of the x32 table kill the process."""
    listed = {number(rule.name) for rule in filters.TEMPLATE}
    verdict = run(filters.assemble(filters.TEMPLATE, "x86_64"), call, architecture)
    if call not in listed or architecture != _X86:
        assert verdict == filters.KILL


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 2**64 - 1), min_size=6, max_size=6))
def test_a_one_shot_may_do_nothing_that_a_template_may_not(call: int, arguments: list[int]) -> None:
    """The second filter only takes away."""
    one_shot = run(filters.assemble(filters.ONE_SHOT, "x86_64"), call, arguments=tuple(arguments))
    template = run(filters.assemble(filters.TEMPLATE, "x86_64"), call, arguments=tuple(arguments))
    assert one_shot == filters.KILL or template == filters.ALLOW


@pytest.mark.parametrize(
    ("name", "arguments", "allowed"),
    [
        ("mmap", (0, 4096, 3, 0x22), True),
        ("mmap", (0, 4096, 7, 0x22), False),  # executable
        ("mmap", (0, 4096, 3, 0x21), False),  # shared
        ("mmap", (0, 4096, 3, 0x23), False),  # shared, validated
        ("mmap", (0, 4096, 3, 0x02), False),  # of a file
        ("mprotect", (0, 4096, 1), True),
        ("mprotect", (0, 4096, 5), False),
        ("madvise", (0, 4096, 4), True),
        ("madvise", (0, 4096, 12), False),  # mergeable
        ("read", (3,), True),
    ],
)
def test_arguments_of_a_one_shot(name: str, arguments: tuple[int, ...], allowed: bool) -> None:
    """Memory is private and never executable."""
    verdict = run(filters.assemble(filters.ONE_SHOT, "x86_64"), number(name), arguments=arguments)
    assert (verdict == filters.ALLOW) is allowed


@pytest.mark.parametrize(
    ("name", "arguments", "allowed"),
    [
        ("clone", (0x01200011,), True),
        ("clone", (0x003D0F00,), False),  # a thread
        ("clone", (0x10000011,), False),  # a user namespace
        ("prctl", (1, 9), True),
        ("prctl", (4, 1), False),  # dumpable again
        ("prlimit64", (0, 0), True),
        ("prlimit64", (1, 0), False),  # another process
    ],
)
def test_arguments_of_a_template(name: str, arguments: tuple[int, ...], allowed: bool) -> None:
    """A template forks as fork(2) does, and changes nobody's limits but its own."""
    verdict = run(filters.assemble(filters.TEMPLATE, "x86_64"), number(name), arguments=arguments)
    assert (verdict == filters.ALLOW) is allowed


@pytest.mark.parametrize("name", ["clone", "recvmsg", "prctl", "seccomp", "close", "dup3", "prlimit64"])
def test_a_one_shot_cannot_fork_or_take_descriptors(name: str) -> None:
    """What a template needs to make children is gone in a child."""
    assert run(filters.assemble(filters.ONE_SHOT, "x86_64"), number(name), arguments=(0x01200011,)) == filters.KILL
