"""Attacks on other processes, on process creation, and on state that the next call might find."""
# ruff: noqa: D103 - what an attack tries stands in its decorator

import ctypes
import os
import signal
import struct

from tests.redteam.attack import DESCRIPTOR, ONE_SHOT, PROCESS, SECCOMP, TEMPLATE, attack
from tests.redteam.kernel import (
    BOMB_BYTES,
    NEW_NET,
    NEW_UTS,
    SECRET,
    VICTIM,
    buffer,
    call,
    cpu_seconds,
    outcome_of,
    vector,
)

_UNSEEN = {"namespaces": "refused: ESRCH", "landlock": "refused: EPERM"}
_CAPABLE = SECCOMP | {"capabilities"}
_NO_CAPABILITY = {"capabilities": "refused: EPERM"}


@attack("trace another process", PROCESS, alone=_UNSEEN)
def trace_another() -> object:
    return call("ptrace", 0x4206, VICTIM, 0, 0)  # PTRACE_SEIZE


@attack("have itself traced", SECCOMP)
def have_itself_traced() -> object:
    return call("ptrace", 0, 0, 0, 0)


@attack("read another process's memory", PROCESS, alone=_UNSEEN)
def read_memory() -> object:
    local = buffer(b"", 8)
    call("process_vm_readv", VICTIM, vector(ctypes.addressof(local), 6), 1, vector(SECRET, 6), 1, 0)
    assert local.raw.startswith(b"secret")
    return local.raw


@attack("write another process's memory", PROCESS, alone=_UNSEEN)
def write_memory() -> object:
    local = buffer(b"secret")
    return call("process_vm_writev", VICTIM, vector(ctypes.addressof(local), 6), 1, vector(SECRET, 6), 1, 0)


@attack(
    "read its template's memory",
    SECCOMP | {"not_dumpable"},
    alone={"not_dumpable": "refused: EPERM"},
    positions=(ONE_SHOT,),
)
def read_templates_memory() -> object:
    local, secret = buffer(b"", 16), buffer(b"inherited")
    here, there = vector(ctypes.addressof(local), 4), vector(ctypes.addressof(secret), 4)
    return call("process_vm_readv", 1, here, 1, there, 1, 0)


@attack("signal the server", PROCESS, alone=_UNSEEN)
def signal_the_server() -> object:
    os.kill(VICTIM, 0)
    return "signalled"


@attack("signal a thread of the server", PROCESS, alone=_UNSEEN)
def signal_a_thread() -> object:
    return call("tgkill", VICTIM, VICTIM, 0)


@attack("signal the server through a descriptor", PROCESS, alone={"namespaces": "refused: ESRCH"})
def signal_through_a_descriptor() -> object:
    return call("pidfd_send_signal", call("pidfd_open", VICTIM, 0), 0, None, 0)


@attack("queue a signal to the server", PROCESS, alone=_UNSEEN)
def queue_a_signal() -> object:
    information = buffer(struct.pack("=iii", signal.SIGURG, 0, -1), 128)  # ignored by whom it reaches
    return call("rt_sigqueueinfo", VICTIM, signal.SIGURG, information)


@attack("signal its template", SECCOMP, positions=(ONE_SHOT,))
def signal_its_template() -> object:
    os.kill(1, 0)
    return "signalled"


@attack(
    "take a descriptor from the server", PROCESS, alone={"namespaces": "refused: ESRCH", "landlock": "refused: EPERM"}
)
def take_a_descriptor() -> object:
    return call("pidfd_getfd", call("pidfd_open", VICTIM, 0), 0, 0)


@attack("set another process's limits", PROCESS, alone={"namespaces": "refused: ESRCH"})
def set_anothers_limits() -> object:
    return call("prlimit64", VICTIM, 7, None, buffer(b"", 16))


# --- processes --------------------------------------------------------------------------------------------------------


@attack("fork", DESCRIPTOR, alone={"one_shot_rlimits": "refused: EAGAIN"}, positions=(ONE_SHOT,))
def fork() -> object:
    child = os.fork()
    if child == 0:
        os._exit(0)
    return child


@attack("fork without end", DESCRIPTOR | {"rlimits"}, stopped="refused: EAGAIN", positions=(TEMPLATE,))
def fork_bomb() -> object:
    for _ in range(80):
        if os.fork() == 0:
            os.read(3, 1)
            os._exit(0)
    return "80 at once"


@attack("start a thread", DESCRIPTOR, alone={"one_shot_rlimits": "refused: RuntimeError"})
def start_a_thread() -> object:
    import _thread

    return _thread.start_new_thread(int, ())


@attack("clone into a new namespace", DESCRIPTOR | {"capabilities"}, alone=_NO_CAPABILITY)
def clone_into_a_namespace() -> object:
    child = call("clone", NEW_UTS | signal.SIGCHLD, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    return child


@attack("clone by the newer call", DESCRIPTOR)
def clone_newer() -> object:
    child = call("clone3", buffer(struct.pack("=8Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)), 64)
    if child == 0:
        os._exit(0)
    return child


@attack("make a namespace", _CAPABLE, alone=_NO_CAPABILITY)
def make_a_namespace() -> object:
    return call("unshare", NEW_NET)


@attack("enter another namespace", _CAPABLE | DESCRIPTOR, alone=_NO_CAPABILITY)
def enter_a_namespace() -> object:
    return call("setns", call("pidfd_open", os.getpid(), 0), NEW_UTS)


@attack(
    "wait for a child's exit status",
    SECCOMP | {"children_unseen"},
    alone={"children_unseen": "refused: ECHILD"},
    positions=(TEMPLATE,),
)
def wait_for_a_child() -> object:
    child = os.fork()
    if child == 0:
        os._exit(42)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@attack(
    "wait by the newer call",
    SECCOMP | {"children_unseen"},
    alone={"children_unseen": "refused: ECHILD"},
    positions=(TEMPLATE,),
)
def waitid_for_a_child() -> object:
    child = os.fork()
    if child == 0:
        os._exit(42)
    return call("waitid", 0, 0, buffer(b"", 128), 4, None)


@attack("allocate without end", frozenset({"rlimits"}), stopped="refused: MemoryError")
def memory_bomb() -> object:
    return len(bytearray(BOMB_BYTES))


# Process 1 of a namespace ignores SIGXCPU as long as nothing handles it; walls.py has libc's _exit do so.
@attack("compute without end while loading", frozenset({"rlimits"}), stopped="ended: 24", positions=(TEMPLATE,))
def spin_while_loading() -> object:
    while cpu_seconds() < 1.6:
        pass
    return "went on past its second"


@attack(
    "compute without end in a call",
    frozenset({"one_shot_rlimits", "rlimits"}),
    stopped="killed: SIGKILL",
    positions=(ONE_SHOT,),
)
def spin_in_a_call() -> object:
    while cpu_seconds() < 1.6:
        pass
    return "went on past its second"


# --- what the next call might find ------------------------------------------------------------------------------------


@attack("change its priority")
def change_priority() -> object:
    return call("setpriority", 0, 0, 5)


@attack("change its scheduling")
def change_scheduling() -> object:
    return call("sched_setscheduler", 0, 3, buffer(b"", 4))  # SCHED_BATCH


@attack("change its priority for disks")
def change_io_priority() -> object:
    return call("ioprio_set", 1, 0, 3 << 13)


@attack("choose its core")
def choose_a_core() -> object:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return "chosen"


@attack("change its limits", positions=(ONE_SHOT,))
def change_limits() -> object:
    return call("prlimit64", 0, 3, buffer(struct.pack("=QQ", 2**20, 2**20)), None)


@attack("change its signal mask", positions=(ONE_SHOT,))
def change_signal_mask() -> object:
    return signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])


@attack("handle a signal")
def handle_a_signal() -> object:
    return call("rt_sigaction", signal.SIGUSR1, None, buffer(b"", 32), 8)


@attack("set a timer")
def set_a_timer() -> object:
    return call("setitimer", 0, buffer(struct.pack("=4q", 0, 0, 1000, 0)), None)


@attack("make a timer")
def make_a_timer() -> object:
    return call("timer_create", 1, None, buffer(b"", 8))


@attack("register a list of robust locks", positions=(ONE_SHOT,))
def register_robust_list() -> object:
    return call("set_robust_list", buffer(b"", 24), 24)


@attack(
    "register a restartable sequence",
    works=("refused: EINVAL", "refused: EBUSY", "refused: EPERM"),
    positions=(ONE_SHOT,),
)
def register_sequence() -> object:
    return call("rseq", buffer(b"", 64), 32, 0, 0x12345678)


@attack("learn which processes live by a lock's owner")
def lock_oracle() -> object:
    library = ctypes.CDLL(None)
    answers = []
    for owner in (1, 2**22 - 7):
        word = ctypes.c_uint32(owner)
        timeout = buffer(struct.pack("=qq", 1, 0))
        answers.append(outcome_of("futex", ctypes.byref(word), 6 | 128, 0, timeout, None, 0))  # FUTEX_LOCK_PI
    assert answers[0] != answers[1], library
    return answers


@attack("learn which processes live by their cores")
def affinity_oracle() -> object:
    return call("sched_getaffinity", 1, 128, buffer(b"", 128))


@attack("read another process's CPU clock")
def clock_oracle() -> object:
    return call("clock_gettime", (~1 << 3) | 2, buffer(b"", 16))  # CPU time of process 1


# A silent process that stood in line for a core is taken for starved, and its call costs no bits.
@attack("stand in line for a core at will")
def stand_in_line() -> object:
    os.sched_yield()
    return "stood"


@attack("outlive its parent")
def outlive_its_parent() -> object:
    return call("prctl", 1, 0, 0, 0, 0)


@attack("change its name")
def change_its_name() -> object:
    return call("prctl", 15, b"secret", 0, 0, 0)


@attack("be dumpable again")
def be_dumpable() -> object:
    return call("prctl", 4, 1, 0, 0, 0)


@attack("move its memory's borders", SECCOMP, works=("refused: EPERM",))
def move_borders() -> object:
    return call("prctl", 35, 1, 0, 0, 0)  # PR_SET_MM


@attack("change its personality")
def change_personality() -> object:
    return call("personality", 0x0040000)  # ADDR_NO_RANDOMIZE
