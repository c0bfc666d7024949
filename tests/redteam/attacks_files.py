"""Attacks on files, other processes' files, and sockets."""
# ruff: noqa: D103 - what an attack tries stands in its decorator

import ctypes
import errno
import os
import socket
import struct

from tests.redteam.attack import DESCRIPTOR, FILE, ONE_SHOT, SECCOMP, attack
from tests.redteam.kernel import ABSTRACT, PORT, SCRATCH, buffer, call

_NO_FILE = {"empty_root": "refused: ENOENT", "landlock": "refused: EACCES"}


@attack("open a file", FILE, alone=_NO_FILE)
def open_a_file() -> object:
    return os.read(os.open("/etc/passwd", os.O_RDONLY), 16)


@attack("list a directory", FILE, alone=_NO_FILE)
def list_a_directory() -> object:
    return os.listdir("/etc")


@attack("create a file", FILE | {"rlimits"}, alone={**_NO_FILE, "rlimits": "refused: EFBIG"})
def create_a_file() -> object:
    return os.write(os.open("/tmp", os.O_TMPFILE | os.O_WRONLY, 0o600), b"a citizen's income")


@attack("make a hard link", FILE, alone=_NO_FILE)
def make_a_hard_link() -> object:
    os.link(f"{SCRATCH}/neighbour", f"{SCRATCH}/{os.urandom(8).hex()}")
    return "linked"


@attack("open a file by its handle", FILE, privileged=True, alone={"privileges": "refused: EPERM"})
def open_by_handle() -> object:
    handle = buffer(struct.pack("=Ii", 128, 0), 136)
    call("name_to_handle_at", -100, b"/etc", handle, buffer(b"", 8), 0)
    directory = os.open("/etc", os.O_RDONLY)
    return call("open_by_handle_at", directory, handle, os.O_RDONLY)


@attack("watch files", DESCRIPTOR)
def watch_files() -> object:
    return call("inotify_init1", 0)


@attack("read its own memory map", FILE, alone=_NO_FILE)
def read_own_map() -> object:
    return os.read(os.open("/proc/self/maps", os.O_RDONLY), 16)


@attack("read process 1 in /proc", FILE, alone=_NO_FILE)
def read_process_1() -> object:
    return os.read(os.open("/proc/1/status", os.O_RDONLY), 16)


@attack("list other processes", FILE, alone={"empty_root": "refused: ENOENT", "landlock": "refused: EACCES"})
def list_processes() -> object:
    return [name for name in os.listdir("/proc") if name.isdigit()][:3]


@attack(
    "write its own memory through /proc", FILE | {"not_dumpable"}, alone={**_NO_FILE, "not_dumpable": "refused: EACCES"}
)
def write_own_memory() -> object:
    memory = os.open("/proc/self/mem", os.O_RDWR)
    target = buffer(b"before")
    return os.pwrite(memory, b"after!", ctypes.addressof(target))


@attack(
    "read its template's memory through /proc",
    FILE | {"not_dumpable"},
    alone={**_NO_FILE, "not_dumpable": "refused: EACCES"},
    positions=(ONE_SHOT,),
)
def read_templates_memory() -> object:
    status = os.read(os.open("/proc/self/status", os.O_RDONLY), 4096)
    parent = int(status.split(b"PPid:")[1].split()[0])
    secret = buffer(b"inherited")
    return os.pread(os.open(f"/proc/{parent}/mem", os.O_RDONLY), 9, ctypes.addressof(secret))


@attack("shared memory by name", FILE, alone=_NO_FILE)
def shm_open() -> object:
    library = ctypes.CDLL(None, use_errno=True)
    name = b"/heixia-" + os.urandom(8).hex().encode()
    if library.shm_open(name, os.O_CREAT | os.O_RDWR, 0o600) < 0:
        raise OSError(ctypes.get_errno(), "shm_open")
    library.shm_unlink(name)
    return "opened"


@attack("run a program", FILE, alone=_NO_FILE, works=("ended: 7",))
def run_a_program() -> object:
    os.execv("/bin/sh", ["sh", "-c", "exit 7"])


# --- sockets ----------------------------------------------------------------------------------------------------------


@attack(
    "connect to a port of the machine",
    DESCRIPTOR | {"network_namespace", "landlock"},
    alone={"network_namespace": "refused: ENETUNREACH", "landlock": "refused: EACCES"},
)
def connect_tcp() -> object:
    socket.socket().connect(("127.0.0.1", PORT))
    return "connected"


@attack(
    "send a datagram",
    DESCRIPTOR | {"network_namespace"},
    alone={"network_namespace": "refused: ENETUNREACH"},
)
def send_datagram() -> object:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", PORT))


@attack("open an IPv6 socket", DESCRIPTOR)
def open_inet6() -> object:
    return socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).fileno()


@attack("connect to a unix socket by path", DESCRIPTOR | {"empty_root"}, alone={"empty_root": "refused: ENOENT"})
def connect_unix() -> object:
    socket.socket(socket.AF_UNIX).connect(f"{SCRATCH}/door")
    return "connected"


@attack(
    "connect to an abstract unix socket",
    DESCRIPTOR | {"network_namespace", "landlock"},
    alone={"network_namespace": "refused: ECONNREFUSED", "landlock": "refused: EPERM"},
)
def connect_abstract() -> object:
    socket.socket(socket.AF_UNIX).connect(ABSTRACT)
    return "connected"


@attack("open a netlink socket", DESCRIPTOR)
def open_netlink() -> object:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).fileno()


@attack("open a packet socket", DESCRIPTOR | {"capabilities"}, alone={"capabilities": "refused: EPERM"})
def open_packet() -> object:
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW).fileno()


@attack("open a raw socket", DESCRIPTOR | {"capabilities"}, alone={"capabilities": "refused: EPERM"})
def open_raw() -> object:
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).fileno()


@attack("open a socket to the hypervisor", DESCRIPTOR)
def open_vsock() -> object:
    return socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).fileno()


@attack("open a socket to the kernel's ciphers", DESCRIPTOR)
def open_alg() -> object:
    return socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET).fileno()


@attack("make a socket pair", DESCRIPTOR, alone={"one_shot_rlimits": "refused: EMFILE"})
def make_a_socket_pair() -> object:
    return socket.socketpair()[0].fileno()


@attack("make a pipe", DESCRIPTOR, alone={"one_shot_rlimits": "refused: EMFILE"})
def make_a_pipe() -> object:
    return os.pipe()


@attack("send its descriptor over the channel", SECCOMP)
def smuggle_a_descriptor() -> object:
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=3)
    try:
        return socket.send_fds(channel, [b"x"], [3])
    finally:
        channel.detach()


@attack("duplicate the channel", DESCRIPTOR, alone={"one_shot_rlimits": "refused: EINVAL"}, positions=(ONE_SHOT,))
def duplicate_the_channel() -> object:
    return os.dup(3)


@attack("control the channel's device", SECCOMP)
def control_the_channel() -> object:
    return call("ioctl", 3, 0x541B, buffer(b"", 8))  # FIONREAD, the same call as TIOCSTI


@attack("push input into a terminal", FILE, works=("refused: EIO", "refused: EPERM"))
def push_terminal_input() -> object:
    terminal = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    return call("ioctl", terminal, 0x5412, buffer(b"x", 8))  # TIOCSTI; newer kernels refuse it to everybody


@attack("a file behind a missing root", FILE, alone=_NO_FILE)
def climb_out() -> object:
    descriptor = os.open("../../../../../etc/passwd", os.O_RDONLY)
    if not os.read(descriptor, 1):
        raise OSError(errno.ENOENT, "nothing there")
    return descriptor
