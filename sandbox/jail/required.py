"""Which walls a server must have, which of them a report lacks, what to do about it, and what isolation is then called.

Values alone: nothing here asks the kernel, so that a client judges a report with the very rule the server starts by.
"""

from collections.abc import Mapping

_NAMESPACES = (
    "user_namespace",
    "mount_namespace",
    "pid_namespace",
    "network_namespace",
    "ipc_namespace",
    "uts_namespace",
    "cgroup_namespace",
)
# All of them: docs/adr/0006-required-walls.md goes through those that a machine may lack.
REQUIRED = (
    *_NAMESPACES,
    "unprivileged_user",
    "empty_root",
    "environment",
    "descriptors",
    "capabilities",
    "no_new_privileges",
    "rlimits",
    "dies_with_parent",
    "not_dumpable",
    "children_unseen",
    "landlock",
    "seccomp",
    "one_shot_descriptors",
    "one_shot_dies_with_parent",
    "one_shot_rlimits",
    "one_shot_seccomp",
)
MODES = ("one-shot", "warm")  # a process for each call; a process for many calls of one version

_USER_NAMESPACES = (
    "allow user namespaces: sysctl user.max_user_namespaces above 0, kernel.unprivileged_userns_clone=1 (Debian),"
    " kernel.apparmor_restrict_unprivileged_userns=0 or an AppArmor profile with `userns` (Ubuntu), no"
    " RestrictNamespaces in the systemd unit; in a container a seccomp profile that allows clone with CLONE_NEWUSER"
)
_SECCOMP = "Linux on x86_64 or aarch64 with CONFIG_SECCOMP_FILTER; in a container a seccomp profile that allows seccomp"
_REMEDIES = {
    **dict.fromkeys(_NAMESPACES, _USER_NAMESPACES),
    "unprivileged_user": (
        "serve as an ordinary user (systemd User=, docker --user, podman --userns=keep-id), or as a root that may"
        " become one: capabilities SETUID and SETGID, and more than one user id"
    ),
    "empty_root": (
        "it needs the user and mount namespaces above; where they are on, a profile (AppArmor, SELinux, a container's"
        " seccomp) that allows mount, umount2 and pivot_root inside them"
    ),
    "landlock": (
        "Linux 5.13 or newer with CONFIG_SECURITY_LANDLOCK, and `landlock` in the boot parameter lsm= where it is set;"
        " in a container a seccomp profile that allows landlock_create_ruleset and landlock_restrict_self"
    ),
    "seccomp": _SECCOMP,
    "one_shot_seccomp": _SECCOMP,
}
_ANY = "every Linux since 5.13 gives it to an ordinary process: look for a profile of the container that refuses it"


def missing(report: object) -> list[str]:
    """The walls that are not surely there: required or reported, and not reported on.

    Args:
        report: name → {on, why}, or whatever came instead: a wall that is absent, malformed, or whose `on` is
            anything but the boolean true is missing.

    Returns:
        Names, the required ones first, in the order of `REQUIRED`.
    """
    walls = _members(report)
    names = (*REQUIRED, *(name for name in walls if name not in REQUIRED))
    return [name for name in names if _members(walls.get(name)).get("on") is not True]


def isolation(mode: str, report: object) -> str:
    """What evidence, the log and receipts call the isolation in force: the mode, and `-weak` where a wall is missing.

    Args:
        mode: one of `MODES`.
        report: as for `missing`.
    """
    return f"{mode}-weak" if missing(report) else mode


def explain_missing(report: object) -> str:
    """The missing walls, each with the kernel's reason and what to do: one indented line for each cause; "" = none."""
    causes: dict[tuple[str, str], list[str]] = {}
    for name in missing(report):
        why = str(_members(_members(report).get(name)).get("why", "not reported"))
        causes.setdefault((why, _REMEDIES.get(name, _ANY)), []).append(name)
    return "".join(f"\n  {', '.join(names)} ({why}): {remedy}" for (why, remedy), names in causes.items())


def _members(found: object) -> Mapping[str, object]:
    return found if isinstance(found, Mapping) else {}
