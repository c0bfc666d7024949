"""C2SP tlog-policy: whom an offline verifier trusts, as a text file.

    log <vkey> [<url>]
    witness <name> <vkey> [<url>]
    group <name> <k|any|all> <member> ...
    quorum <name|none>

A checkpoint is accepted if one of the logs signed it under its own origin, and the quorum of witnesses cosigned it. A
log with two keys has two lines, either of which is enough: who does not trust Ed25519 any more takes that line out.

Source: c2sp.org/tlog-policy.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from audit.errors import ProofInvalid
from audit.note import COSIGNATURE, ED25519, ML_DSA_44, Checkpoint, Note, NoteVerifier, parse_decimal

POLICY_CHARACTERS_MAX: Final = 1_000_000
NONE: Final = "none"
LOG_TYPES: Final = (ED25519, ML_DSA_44)
WITNESS_TYPES: Final = (COSIGNATURE, ML_DSA_44)
_SPACE: Final = re.compile(r"[ \t]+")


@dataclass(frozen=True)
class Group:
    """A group witnesses a checkpoint if at least `threshold` of its members do."""

    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True)
class Policy:
    """Logs and witnesses by key, and the quorum: the name of a witness or group, or `none`."""

    logs: tuple[NoteVerifier, ...]
    quorum: str = NONE
    witnesses: dict[str, NoteVerifier] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)  # of the witnesses that have one; not looked into here

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Read a policy.

        Args:
            text: or a file's bytes, which may be no UTF-8 in names, addresses and comments.

        Raises:
            ProofInvalid: malformed, or a key of a type not supported here; the message names the line.
        """
        if isinstance(text, bytes):
            text = text.decode(
                errors="surrogateescape"
            )  # octets are opaque, and come out of it as different as they were
        if len(text) > POLICY_CHARACTERS_MAX or any((c < " " and c not in "\t\n") or c == "\x7f" for c in text):
            raise ProofInvalid("a policy is too long or holds control characters")
        if not text.endswith("\n"):
            raise ProofInvalid("a policy does not end in a newline: it may be cut")
        parser = _Parser()
        for number, line in enumerate(text[:-1].split("\n"), 1):
            try:
                parser.take(line.strip(" \t"))
            except ProofInvalid as error:
                raise ProofInvalid(f"policy line {number}: {error}") from error
        if parser.quorum is None:
            raise ProofInvalid("a policy has no quorum line")
        return cls(tuple(parser.logs), parser.quorum, parser.witnesses, parser.groups, parser.urls)

    def signers(self, note: Note) -> frozenset[NoteVerifier]:
        """Return the keys of this policy that signed a note.

        Raises:
            ProofInvalid: none did, or one's signature fails.
        """
        return frozenset(note.verify([*self.logs, *self.witnesses.values()]))

    def check_log(self, checkpoint: Checkpoint, signers: Collection[NoteVerifier]) -> tuple[NoteVerifier, ...]:
        """Return the keys, in the policy's order, under which a checkpoint is its log's.

        Raises:
            ProofInvalid: none of the logs signed it, or only one of another name than its origin.
        """
        if logs := tuple(log for log in self.logs if log in signers and log.name == checkpoint.origin):
            return logs
        raise ProofInvalid("the checkpoint is not signed by a log of the policy under its own origin")

    def check_quorum(self, signers: Collection[NoteVerifier]) -> None:
        """Check that enough witnesses cosigned.

        Raises:
            ProofInvalid: they did not.
        """
        if self.quorum != NONE and not self._witnessed(self.quorum, signers):
            raise ProofInvalid("the checkpoint is not cosigned by the policy's quorum")

    def verify(self, checkpoint: str) -> Checkpoint:
        """Accept or refuse a signed checkpoint.

        Raises:
            ProofInvalid: malformed, or not signed as the policy asks.
        """
        note = Note.parse(checkpoint)
        signers = self.signers(note)
        head = Checkpoint.parse(note.text)
        self.check_log(head, signers)
        self.check_quorum(signers)
        return head

    def _witnessed(self, name: str, signers: Collection[NoteVerifier]) -> bool:
        if name in self.witnesses:
            return self.witnesses[name] in signers
        group = self.groups[name]  # members stand on earlier lines, so this ends
        return sum(self._witnessed(member, signers) for member in group.members) >= group.threshold


class _Parser:
    def __init__(self) -> None:
        self.logs: list[NoteVerifier] = []
        self.witnesses: dict[str, NoteVerifier] = {}
        self.groups: dict[str, Group] = {}
        self.urls: dict[str, str] = {}
        self.quorum: str | None = None
        self._members: set[str] = set()
        self._lines: Final[dict[str, Callable[[Sequence[str]], None]]] = {
            "log": self._log,
            "witness": self._witness,
            "group": self._group,
            "quorum": self._quorum,
        }

    def take(self, line: str) -> None:
        if not line or line.startswith("#"):
            return
        keyword, *items = _SPACE.split(line)
        if keyword not in self._lines:
            raise ProofInvalid("an unknown keyword")
        self._lines[keyword](items)

    def _log(self, items: Sequence[str]) -> None:
        _count(items, 1, 2)
        self.logs.append(_key(items[0], LOG_TYPES, self.logs))

    def _witness(self, items: Sequence[str]) -> None:
        _count(items, 2, 3)
        self._check_new(items[0])
        self.witnesses[items[0]] = _key(items[1], WITNESS_TYPES, self.witnesses.values())
        if len(items) == 3:
            self.urls[items[0]] = items[2]

    def _group(self, items: Sequence[str]) -> None:
        _count(items, 3, len(items))
        name, rule, *members = items
        self._check_new(name)
        for member in members:
            self._check_defined(member)
            if member in self._members:  # so that each witness counts in one way only
                raise ProofInvalid("a name is a group's member for the second time")
            self._members.add(member)
        threshold = {"any": 1, "all": len(members)}.get(rule) or parse_decimal(rule)
        if not 1 <= threshold <= len(members):
            raise ProofInvalid("a group's threshold is not between 1 and its number of members")
        self.groups[name] = Group(threshold, tuple(members))

    def _quorum(self, items: Sequence[str]) -> None:
        _count(items, 1, 1)
        if self.quorum is not None:
            raise ProofInvalid("a second quorum line")
        if items[0] != NONE:
            self._check_defined(items[0])
        self.quorum = items[0]

    def _check_new(self, name: str) -> None:
        if name == NONE or name in self.witnesses or name in self.groups:
            raise ProofInvalid("a name is taken or reserved")

    def _check_defined(self, name: str) -> None:
        if name not in self.witnesses and name not in self.groups:
            raise ProofInvalid("a name is not defined on an earlier line")


def _count(items: Sequence[str], least: int, most: int) -> None:
    if not least <= len(items) <= most:
        raise ProofInvalid("a wrong number of items")


def _key(vkey: str, wanted: Collection[int], taken: Collection[NoteVerifier]) -> NoteVerifier:
    verifier = NoteVerifier.parse(vkey)
    if verifier.type not in wanted:
        supported = " or ".join(f"0x{each:02x}" for each in wanted)
        raise ProofInvalid(f"a key of type 0x{verifier.type:02x} where {supported} is supported")
    if any(verifier.key == other.key for other in taken):
        raise ProofInvalid("a public key for the second time")
    return verifier
