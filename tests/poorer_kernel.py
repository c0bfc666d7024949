"""Starts a command on a kernel that lacks something: `python tests/poorer_kernel.py landlock,namespaces COMMAND…`.

What is lacking is refused by a system call filter that the command and all it starts inherit, with the very errors that
a kernel without it, or a container's default profile, gives.
"""

import errno
import os
import sys

import pyseccomp

_NEW_USER = 0x1000_0000  # CLONE_NEWUSER
REFUSALS = {
    "landlock": (errno.ENOSYS, ["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"], None),
    "namespaces": (errno.EPERM, ["clone", "unshare"], pyseccomp.Arg(0, pyseccomp.MASKED_EQ, _NEW_USER, _NEW_USER)),
    "seccomp": (errno.EPERM, ["seccomp"], None),
    "mount": (errno.EPERM, ["mount"], None),
}


def main(lacking: str, *command: str) -> None:
    """Refuses, then becomes the command."""
    refusing = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    for code, names, argument in (REFUSALS[name] for name in lacking.split(",")):
        for name in names:
            refusing.add_rule(pyseccomp.ERRNO(code), name, *([argument] if argument else []))
    refusing.load()
    os.execv(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
