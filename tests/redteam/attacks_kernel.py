"""Attacks on memory protection, on the filter itself, and on the kernel's rarer doors."""
# ruff: noqa: D103 - what an attack tries stands in its decorator

import os
import struct

from tests.redteam.attack import DESCRIPTOR, FILE, ONE_SHOT, SECCOMP, TEMPLATE, attack
from tests.redteam.kernel import (
    GETPID_BY_INT80,
    buffer,
    call,
    call_number,
    map_memory,
    open_filter,
    outcome_of,
    run_code,
)

_CAPABLE = SECCOMP | {"capabilities"}
_NO_CAPABILITY = {"capabilities": "refused: EPERM"}
_NO_PRIVILEGE = {"privileges": "refused: EPERM"}  # as an ordinary user, whose capabilities end with its namespace


@attack("share memory")
def share_memory() -> object:
    return map_memory(3, 0x21)  # MAP_SHARED | MAP_ANONYMOUS


@attack("share memory, System V")
def share_memory_sysv() -> object:
    return call("shmget", 0, 4096, 0o600)


@attack("share a semaphore, System V")
def share_a_semaphore() -> object:
    return call("semget", 0, 1, 0o600)


@attack("share a message queue, System V")
def share_messages() -> object:
    return call("msgget", 0, 0o600)


@attack(
    "open a message queue",
    DESCRIPTOR | {"namespaces", "rlimits", "landlock"},
    alone={"namespaces": "refused: EOVERFLOW", "rlimits": "refused: EMFILE", "landlock": "refused: EACCES"},
)
def open_a_message_queue() -> object:
    name = b"heixia-" + os.urandom(8).hex().encode()
    try:
        return call("mq_open", name, os.O_CREAT | os.O_RDWR, 0o600, None)
    finally:
        outcome_of("mq_unlink", name)


@attack("make a memory file", DESCRIPTOR, alone={"one_shot_rlimits": "refused: EMFILE"})
def make_a_memory_file() -> object:
    return call("memfd_create", b"x", 0)


@attack("map executable memory")
def map_executable() -> object:
    return map_memory(7, 0x22)


@attack("make memory executable")
def make_executable() -> object:
    return call("mprotect", map_memory(3, 0x22), 4096, 5)


@attack("lock memory", SECCOMP | {"rlimits"}, alone={"rlimits": "refused: EPERM"})
def lock_memory() -> object:
    return call("mlock", map_memory(3, 0x22), 4096)


@attack("have equal pages merged", lacking={"refused: EINVAL": "the kernel does not merge pages"})
def merge_pages() -> object:
    return call("madvise", map_memory(3, 0x22), 4096, 12)  # MADV_MERGEABLE


@attack("handle its own page faults", DESCRIPTOR)
def handle_page_faults() -> object:
    return call("userfaultfd", 1)  # UFFD_USER_MODE_ONLY


@attack("disturb other processes by barriers")
def barrier() -> object:
    return call("membarrier", 1, 0, 0)  # MEMBARRIER_CMD_GLOBAL


@attack(
    "submit work by a ring",
    DESCRIPTOR | {"rlimits"},
    alone={"rlimits": "refused: ENOMEM"},
    lacking={"refused: EPERM": "the machine forbids io_uring"},
)
def submit_by_a_ring() -> object:
    return call("io_uring_setup", 1, buffer(b"", 120))


@attack("load a kernel program", DESCRIPTOR, privileged=True, alone=_NO_PRIVILEGE)
def load_a_kernel_program() -> object:
    return call("bpf", 0, buffer(struct.pack("=4I", 2, 4, 8, 1), 128), 128)  # BPF_MAP_CREATE of an array


@attack("keep a key in the kernel")
def keep_a_key() -> object:
    return call("add_key", b"user", b"secret", b"x", 1, -2)  # KEY_SPEC_PROCESS_KEYRING


@attack("ask the kernel's keyring")
def ask_the_keyring() -> object:
    return call("keyctl", 0, -2, 1, 0, 0)  # KEYCTL_GET_KEYRING_ID


@attack("count events", DESCRIPTOR, lacking={"refused: EACCES": "the machine forbids perf events"})
def count_events() -> object:
    attributes = buffer(struct.pack("=IIQQQQQ", 1, 112, 0, 0, 0, 0, 0x60), 112)  # a software clock, without the kernel
    return call("perf_event_open", attributes, 0, -1, -1, 0)


@attack("mount", _CAPABLE | {"landlock"}, alone={**_NO_CAPABILITY, "landlock": "refused: EPERM"})
def mount() -> object:
    return call("mount", b"none", b"/", b"tmpfs", 0, None)


@attack("unmount", _CAPABLE | {"landlock"}, alone={**_NO_CAPABILITY, "landlock": "refused: EPERM"})
def unmount() -> object:
    os.chdir("/")
    call("mount", b"none", b"/", b"tmpfs", 0, None)
    os.chdir("/..")
    return call("umount2", b".", 2)


@attack("change its root", _CAPABLE, alone=_NO_CAPABILITY)
def change_its_root() -> object:
    return call("chroot", b"/")


@attack(
    "exchange the root",
    _CAPABLE | FILE,
    alone={**_NO_CAPABILITY, "landlock": "refused: EPERM", "empty_root": "refused: ENOENT"},
)
def exchange_the_root() -> object:
    os.chdir("/tmp")
    call("mount", b"none", b"/tmp", b"tmpfs", 0, None)
    os.chdir("/tmp")
    return call("pivot_root", b".", b".")


@attack("allow itself what is forbidden", FILE, positions=(ONE_SHOT,))
def loosen_in_a_one_shot() -> object:
    call("seccomp", 1, 0, open_filter())
    return os.listdir("/etc")


@attack("lay an open filter over the strict one", FILE, positions=(TEMPLATE,))
def loosen_in_a_template() -> object:
    call("seccomp", 1, 0, open_filter())  # allowed, and changes nothing
    return os.listdir("/etc")


@attack("supervise its children's calls", DESCRIPTOR, alone={"one_shot_rlimits": "refused: EMFILE"})
def supervise_children() -> object:
    return call("seccomp", 1, 8, open_filter())  # a listener's descriptor


@attack("rename the machine", _CAPABLE, alone=_NO_CAPABILITY)
def rename_the_machine() -> object:
    return call("sethostname", b"owned", 5)


@attack("restart the machine", _CAPABLE, alone=_NO_CAPABILITY, works=("killed: SIGHUP",))
def restart_the_machine() -> object:
    # in a pid namespace of its own it ends that namespace; the harness has no run without one for this attack
    return call("reboot", 0xFEE1DEAD - 2**32, 672274793, 0x01234567, None)


@attack("use a file as swap", privileged=True, alone=_NO_PRIVILEGE, works=("refused: ENOENT",))
def use_as_swap() -> object:
    return call("swapon", b"/nowhere", 0)


@attack("account to a file", privileged=True, alone=_NO_PRIVILEGE, works=("refused: ENOENT", "refused: EACCES"))
def account_to_a_file() -> object:
    return call("acct", b"/nowhere")


@attack("load a kernel module", privileged=True, alone=_NO_PRIVILEGE, works=("refused: ENOEXEC", "refused: EFAULT"))
def load_a_module() -> object:
    return call("init_module", None, 0, b"")


@attack("load another kernel", privileged=True, alone=_NO_PRIVILEGE)
def load_another_kernel() -> object:
    return call("kexec_load", 0, 0, None, 0)


# The control stops at the kernel's own privilege check: a run as the machine's root would turn its clock.
@attack("set the clock", works=("refused: EPERM",))
def set_the_clock() -> object:
    return call("clock_settime", 0, buffer(struct.pack("=qq", 1, 0)))


@attack("sync quotas")
def sync_quotas() -> object:
    return call("quotactl", 0x800001 << 8, None, 0, None)


@attack("read the kernel's log", privileged=True)
def read_the_log() -> object:
    return call("syslog", 10, None, 0)


@attack("use the x32 table of calls", lacking={"refused: ENOSYS": "the kernel lacks the x32 table"})
def use_x32() -> object:
    return call_number(0x4000_0000 | 39)  # getpid


@attack("use the 32-bit entry", lacking={"killed: SIGILL": "the machine has no such entry"})
def use_int80() -> object:
    return run_code(GETPID_BY_INT80)


@attack("ask which core it is on")
def ask_its_core() -> object:
    return call("getcpu", buffer(b"", 4), None, None)
