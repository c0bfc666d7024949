"""The walls around untrusted bytes: namespaces, an empty root, Landlock, seccomp, limits. Works for root and others.

Two positions. A *template* stands behind every wall before it receives a byte that a stranger wrote; a *one-shot*,
forked from it, adds a tighter filter and limits. Each wall is built by one function that returns why it is on, and
raises `OSError` where the kernel refuses; a wall that is missing is reported, never silently so. Who may go on without
one is not decided here.
Sources: landlock(7), seccomp(2), user_namespaces(7), pid_namespaces(7), pivot_root(2); bubblewrap's bubblewrap.c.
"""

import contextlib
import ctypes
import os
import platform
import resource
import signal
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sandbox.jail import filters

CHANNEL_FD = 3  # the one descriptor that stays open
WallReport = dict[str, dict[str, object]]
_Call = tuple[object, ...]  # a system call's number and arguments, as ctypes takes them

_libc = ctypes.CDLL(None, use_errno=True)
_python = ctypes.PyDLL(None, use_errno=True)  # keeps the interpreter lock over a raw clone
_direct, _fork = _python.syscall, _python.fork  # looking a name up in a library again costs a child forty pages
_PR_SET_PDEATHSIG, _PR_GET_DUMPABLE, _PR_SET_DUMPABLE, _PR_GET_SECCOMP = 1, 3, 4, 21
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_GET_NO_NEW_PRIVS = 24, 38, 39
_CLONE, _PIVOT_ROOT, _CAPSET = {
    "x86_64": (56, 155, 126),
    "aarch64": (220, 41, 91),
}.get(platform.machine(), (-1, -1, -1))
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446  # the same number on every architecture
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT = 1, 2, 4, 8, 32
_MS_REC, _MS_PRIVATE, _MNT_DETACH = 0x4000, 1 << 18, 2
_LAST_FD = 0xFFFF_FFFF

NAMESPACES = {
    "user_namespace": 0x1000_0000,
    "mount_namespace": 0x0002_0000,
    "pid_namespace": 0x2000_0000,
    "network_namespace": 0x4000_0000,
    "ipc_namespace": 0x0800_0000,
    "uts_namespace": 0x0400_0000,
    "cgroup_namespace": 0x0200_0000,
}
_had_namespaces = False
NOBODY = 65_534  # the overflow id: owns nothing on a sane machine


@dataclass(frozen=True)
class Limits:
    """Resource limits of walled processes.

    Attributes:
        memory_bytes: address space beyond what the zygote has mapped; a bomb ends as a failed allocation.
        load_cpu_s: CPU seconds for parsing and loading a model.
        score_cpu_s: CPU seconds of a one-shot; the server's deadline is shorter, this holds if the server is gone.
        processes: template and one-shots together (counted for each user namespace).
    """

    memory_bytes: int
    load_cpu_s: int
    score_cpu_s: int
    processes: int


def become_nobody() -> None:
    """Give up root for good, so that what follows is the same for root and for an ordinary user.

    Where the kernel refuses (root of a container without other ids) the report says so: `unprivileged_user` is off.
    """
    if os.getuid() == 0:
        with contextlib.suppress(OSError):
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)


@dataclass(frozen=True)
class Origin:
    """What a child cannot see for itself from behind the walls.

    Attributes:
        user: the real user id outside; inside it shows as nobody whatever it is.
        refusal: why there are no namespaces; "" where there are.
    """

    user: int
    refusal: str


def fork_apart() -> tuple[int, Origin]:
    """Fork into fresh namespaces, as process 1 of its own; without them where the kernel always refuses.

    Only for a single-threaded process. Once it has had namespaces it never goes without: what was reported of the first
    child holds for the later ones, also where the machine has run out of them meanwhile.

    Returns:
        (0 in the child or its process id in the parent, where it came from).

    Raises:
        OSError: no process could be had at all, or none with namespaces after there was one.
    """
    global _had_namespaces  # noqa: PLW0603 - a fact about this process, as the namespaces are
    user = os.getuid()
    flags = sum(NAMESPACES.values()) | signal.SIGCHLD
    # unshare(2) cannot put the caller itself into a pid namespace; a raw clone can, with Python's own fork hooks
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = _python.syscall(ctypes.c_long(_CLONE), ctypes.c_ulong(flags), None, None, None, None)
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0, Origin(user, "")
    error = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid > 0:
        _had_namespaces = True
        return pid, Origin(user, "")
    if _had_namespaces:
        raise OSError(error, os.strerror(error))
    return os.fork(), Origin(user, f"clone: {os.strerror(error)}")


def fork() -> int:
    """Fork without Python's own hooks, which cost a child a millisecond: they repair what other threads may have held.

    Only for a single-threaded process whose child runs one known, straight path. The C library's hooks run.

    Raises:
        OSError: no more processes or memory.
    """
    return _checked(_fork())


def enter_template(limits: Limits, origin: Origin) -> WallReport:
    """Build every wall around this process, in the order that lets each be built.

    Args:
        limits: resource limits.
        origin: from `fork_apart`.

    Returns:
        The report, wall by wall. `CHANNEL_FD` is the only descriptor left.
    """
    report: WallReport = {}
    for name in NAMESPACES:
        report[name] = {"on": not origin.refusal, "why": origin.refusal or "own namespace since clone"}
    # read before /proc is gone; without a user namespace the count is the whole user's and would stop strangers
    mapped = _mapped_bytes()
    processes = None if origin.refusal else limits.processes
    _build(report, "unprivileged_user", lambda: _not_root(origin.user))
    _build(report, "empty_root", lambda: _empty_root(origin))
    _build(report, "environment", _clear_environment)
    _build(report, "descriptors", _close_descriptors)
    _build(report, "capabilities", _drop_capabilities)
    _build(report, "no_new_privileges", _no_new_privileges)
    _build(report, "rlimits", lambda: _template_rlimits(mapped + limits.memory_bytes, limits.load_cpu_s, processes))
    _build(report, "dies_with_parent", die_with_parent)
    _build(report, "not_dumpable", hide)
    _build(report, "children_unseen", _ignore_children)
    _build(report, "landlock", _landlock)
    _build(report, "seccomp", lambda: _seccomp(_TEMPLATE_FILTER))
    return report


def loaded() -> None:
    """End the CPU limit of loading: the template lives long, and the model has run its last byte in it."""
    resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def give_back() -> None:
    """Return free heap memory to the kernel and put the rest in order, so that children map and copy less."""
    _libc.malloc_trim(ctypes.c_size_t(0))


class OneShotWalls:
    """What a one-shot has beyond its template's walls, made ready in the template; its filter allows exactly these.

    A process per call pays for every page that it touches first, so what happens here is prepared system calls alone.
    """

    def __init__(self, limits: Limits) -> None:
        def calls(name: str, *each: _Call) -> tuple[_Call, ...]:
            return tuple(_call(name, *arguments) for arguments in each)

        cpu_s = limits.score_cpu_s
        bounds = ((resource.RLIMIT_CPU, cpu_s), (resource.RLIMIT_NOFILE, 0), (resource.RLIMIT_NPROC, 0))
        descriptors = calls("close_range", (0, CHANNEL_FD - 1, 0), (CHANNEL_FD + 1, _LAST_FD, 0))
        parent = calls("prctl", (_PR_SET_PDEATHSIG, int(signal.SIGKILL)))
        # open descriptors stay usable; not one more can be had
        rlimits = calls("prlimit64", *((0, kind, _rlimit(value), None) for kind, value in bounds))
        self._walls = (
            ("one_shot_descriptors", "one open descriptor, the channel", descriptors),
            ("one_shot_dies_with_parent", "killed with its parent", parent),
            ("one_shot_rlimits", f"CPU {cpu_s} s, no new descriptor, no process", rlimits),
            ("one_shot_seccomp", _ONE_SHOT_FILTER.why, _ONE_SHOT_FILTER.calls),
        )

    def enter(self) -> WallReport:
        """Build them; the report names what is missing."""
        return {name: _enter(why, calls) for name, why, calls in self._walls}


def _enter(why: str, calls: Sequence[_Call]) -> dict[str, object]:
    for call in calls:
        if _direct(*call) < 0:
            return {"on": False, "why": os.strerror(ctypes.get_errno())}
    return {"on": bool(calls), "why": why}


def _call(name: str, *arguments: object) -> _Call:
    number = filters.number_of(name)
    return (ctypes.c_long(number), *(ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments))


def _rlimit(value: int) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(struct.pack("=QQ", value, value), 16)  # struct rlimit64


def _build(report: WallReport, name: str, build: Callable[[], str]) -> None:
    try:
        report[name] = {"on": True, "why": build()}
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        report[name] = {"on": False, "why": reason}


def _checked(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def _prctl(option: int, argument: int = 0) -> int:
    zero = ctypes.c_ulong(0)
    return _checked(_libc.prctl(ctypes.c_int(option), ctypes.c_ulong(argument), zero, zero, zero))


def _syscall(number: int, *arguments: object) -> int:
    if number < 0:
        raise OSError(0, f"no system call numbers for {platform.machine()}")
    return _checked(_libc.syscall(ctypes.c_long(number), *arguments))


def _mapped_bytes() -> int:
    # raw bytes: a text file would import its codec, which the zygote's user may not be able to read
    descriptor = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(os.read(descriptor, 64).split()[0]) * resource.getpagesize()
    finally:
        os.close(descriptor)


def _not_root(user: int) -> str:
    if user == 0:
        raise OSError(0, "still root outside the user namespace")
    return f"user {user} outside, nobody inside"


def _empty_root(origin: Origin) -> str:
    if origin.refusal:  # without a mount namespace of its own this would empty the root of the whole machine
        raise OSError(0, "no mount namespace to empty")
    _mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None)
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    place = next(path for path in (b"/tmp", b"/run", b"/usr", b"/") if os.path.isdir(path))
    _mount(b"none", place, b"tmpfs", flags, b"size=4k,nr_inodes=1,mode=100")
    os.chdir(place)
    _syscall(_PIVOT_ROOT, ctypes.c_char_p(b"."), ctypes.c_char_p(b"."))
    _checked(_libc.umount2(ctypes.c_char_p(b"."), ctypes.c_int(_MNT_DETACH)))
    os.chdir("/")
    _mount(None, b"/", None, flags | _MS_REMOUNT | _MS_RDONLY, None)
    if os.path.lexists("/proc") or os.path.lexists("/etc"):
        raise OSError(0, "the old root is still seen")
    return "an empty read-only file system without inodes"


def _mount(source: bytes | None, target: bytes, kind: bytes | None, flags: int, data: bytes | None) -> None:
    arguments = [ctypes.c_char_p(text) for text in (source, target, kind)]
    _checked(_libc.mount(*arguments, ctypes.c_ulong(flags), ctypes.c_char_p(data)))


def _clear_environment() -> str:
    os.environ.clear()
    _libc.clearenv()
    return "empty"


def _close_descriptors() -> str:
    os.closerange(0, CHANNEL_FD)
    os.closerange(CHANNEL_FD + 1, 1 << 20)
    return "one open descriptor, the channel"


def _drop_capabilities() -> str:
    for capability in range(64):
        if _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) < 0:
            break  # past the kernel's last one, or not held: the sets below are what counts
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x2008_0522, 0))  # _LINUX_CAPABILITY_VERSION_3, self
    _syscall(_CAPSET, header, ctypes.create_string_buffer(24))
    return "none held"


def _no_new_privileges() -> str:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if _prctl(_PR_GET_NO_NEW_PRIVS) != 1:
        raise OSError(0, "not kept")
    return "set"


def _template_rlimits(address_space: int, cpu_s: int, processes: int | None) -> str:
    # only the soft CPU limit: `loaded` raises it again. Process 1 of a namespace ignores its signal unless somebody
    # handles it: the C library's _exit does, with the signal's number as the status.
    _libc.signal(signal.SIGXCPU, ctypes.cast(_libc._exit, ctypes.c_void_p))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, resource.RLIM_INFINITY))
    _limit(resource.RLIMIT_AS, address_space)
    for kind in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE):
        _limit(kind, 0)
    _limit(resource.RLIMIT_NOFILE, CHANNEL_FD + 5)  # its channel, and a child's on the way through
    if processes is not None:
        _limit(resource.RLIMIT_NPROC, processes)
    return f"address space {address_space} bytes, CPU {cpu_s} s to load, {processes or 'uncounted'} processes, no files"


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (bound, bound))


def die_with_parent() -> str:
    """Have the kernel kill this process when its parent is gone.

    The parent may have died before; then the channel reads end-of-file, which ends the process as well.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return "killed with its parent"


def hide() -> str:
    """Close this process to debuggers and core dumps, and its /proc entries to its own user."""
    _prctl(_PR_SET_DUMPABLE, 0)
    if _prctl(_PR_GET_DUMPABLE) != 0:
        raise OSError(0, "not kept")
    return "no core, no ptrace, /proc entries closed"


def _ignore_children() -> str:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    return "exit statuses are discarded by the kernel; waiting is not allowed by the filter"


def _landlock() -> str:
    abi = _syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    files = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)) - 1
    network = 3 if abi >= 4 else 0  # bind and connect of TCP
    scopes = 3 if abi >= 6 else 0  # abstract sockets and signals
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    attributes = ctypes.create_string_buffer(struct.pack("=QQQ", files, network, scopes)[:size], size)
    ruleset = _syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        _syscall(_LANDLOCK_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)
    return f"ABI {abi}, no rule"


def _seccomp(program: "_Program") -> str:
    if not program.calls:
        raise OSError(0, program.why)
    for call in program.calls:
        _checked(_direct(*call))
    return program.why


class _Program:
    """A filter and the call that installs it, made in the zygote; every child inherits the bytes."""

    def __init__(self, rules: tuple[filters.Rule, ...]) -> None:
        self.calls: tuple[_Call, ...] = ()
        self.why = f"no filter for {platform.machine()}"
        if platform.machine() not in filters.ARCHITECTURES:
            return
        code = filters.assemble(rules)
        self._buffer = ctypes.create_string_buffer(code, len(code))
        header = struct.pack("@HP", len(code) // 8, ctypes.addressof(self._buffer))  # struct sock_fprog
        # SECCOMP_SET_MODE_FILTER, no flags
        self.calls = (_call("seccomp", 1, 0, ctypes.create_string_buffer(header, len(header))),)
        self.why = f"{len(code) // 8} instructions, kills what is not allowed"


_TEMPLATE_FILTER = _Program(filters.TEMPLATE)
_ONE_SHOT_FILTER = _Program(filters.ONE_SHOT)
