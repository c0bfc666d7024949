"""The zygote: one single-threaded interpreter with everything imported, from which templates are forked.

Started by the server as `python -I -B -m sandbox.jail.zygote DESCRIPTOR LIMITS` with an environment of ours. It reads
nothing a stranger wrote: each order is one descriptor, which the forked template takes as its channel. It ends when the
server closes its socket or dies.
"""

import gc
import json
import os
import signal
import socket
import sys
import warnings
from typing import NoReturn

import numpy as np

from sandbox.jail import channel, first_program, memory, template, walls


def main(arguments: list[str]) -> NoReturn:
    """Say hello, then fork a template for each descriptor that arrives.

    Args:
        arguments: [descriptor of a SOCK_SEQPACKET socket, JSON of walls.Limits].
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=int(arguments[0]))
    limits = walls.Limits(**json.loads(arguments[1]))
    _settle()
    threads = len(os.listdir("/proc/self/task"))
    sock.send(json.dumps({"threads": threads, "user": os.getuid()}).encode())
    if threads != 1:  # a fork would copy locks that the other threads hold
        sys.exit(1)
    while True:
        order, ancillary, _, _ = sock.recvmsg(1, socket.CMSG_SPACE(4))
        descriptor = channel.descriptor_of(ancillary)
        if order != channel.OPEN or descriptor is None:
            sys.exit(0)
        _fork_template(descriptor, limits)
        os.close(descriptor)


def _settle() -> None:
    # a stranger's bytes must find nothing to provoke that opens a file: no warnings, no late imports, no tracebacks
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which then closes the socket
    os.nice(10)  # the server comes first: a model that computes must not hold up anybody's answer, or tell its time
    walls.become_nobody()
    # after giving up root, as that resets both
    walls.die_with_parent()
    walls.hide()
    first_program.rehearse()
    gc.collect()
    gc.freeze()
    gc.disable()
    memory.use_huge_pages()


def _fork_template(descriptor: int, limits: walls.Limits) -> None:
    try:
        child, origin = walls.fork_apart()
    except OSError:  # no memory or processes: the closed descriptor tells the server
        return
    if child == 0:
        template.run_template(descriptor, limits, origin)


if __name__ == "__main__":
    main(sys.argv[1:])
