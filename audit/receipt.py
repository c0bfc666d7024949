"""The receipt: what a caller keeps of an answered call, and how anyone checks it offline.

The log holds commitments to limit and outcome. The opening, {salt, limit}, is in the caller's hands alone; whoever is
shown it sees that the entry speaks of this very limit. A receipt shown without it still proves that the call was
made, under which consent and by which version.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import Any, Final, Self

from audit.errors import EventInvalid, ProofInvalid
from audit.event import decode
from audit.kinds import Decision, Event
from audit.member import INTEGER_MAX
from audit.note import Checkpoint, Note, NoteVerifier, decode_base64, encode_base64
from audit.policy import NONE, Policy
from audit.proof import TlogProof

SCHEMA: Final = "heixia.receipt/v1"
RECEIPT_CHARACTERS_MAX: Final = 2_000_000  # the largest proof, escaped, and the largest entry
SALT_BYTES: Final = 32
QUORUM_STEP: Final = "tree is cosigned by the quorum"
OFFER: Final = "offer"
NO_OFFER: Final = "none"


def limit_commitment(salt: bytes, limit: int) -> str:
    """Commit to a limit: SHA-256("heixia limit v1", newline, salt, limit in decimal), as hex.

    Args:
        salt: 32 random bytes, of this call alone.
        limit: whole yuan, 0 = no offer.

    Raises:
        ProofInvalid: a salt of another length, or a limit below 0 or above 2**53 - 1.
    """
    if len(salt) != SALT_BYTES or type(limit) is not int or not 0 <= limit <= INTEGER_MAX:
        raise ProofInvalid("a salt is not 32 bytes long, or a limit is out of range")
    return sha256(b"heixia limit v1\n" + salt + str(limit).encode("ascii")).hexdigest()


def outcome_salt(salt: bytes) -> bytes:
    """Derive the salt of the outcome, which may be opened alone: it does not lead back to the limit's."""
    return sha256(b"heixia outcome salt v1\n" + salt).digest()


def outcome_commitment(derived_salt: bytes, outcome: str) -> str:
    """Commit to `offer` or `none`: SHA-256("heixia outcome v1", newline, outcome_salt(salt), outcome), as hex.

    Raises:
        ProofInvalid: a salt of another length, or another outcome.
    """
    if len(derived_salt) != SALT_BYTES or outcome not in (OFFER, NO_OFFER):
        raise ProofInvalid("a salt is not 32 bytes long, or an outcome is neither offer nor none")
    return sha256(b"heixia outcome v1\n" + derived_salt + outcome.encode("ascii")).hexdigest()


@dataclass(frozen=True)
class Opening:
    """What opens the commitments of a decision: 32 bytes of salt, and the limit in whole yuan (0 = no offer)."""

    salt: bytes
    limit: int

    @property
    def outcome(self) -> str:
        """`offer` or `none`."""
        return OFFER if self.limit else NO_OFFER


@dataclass(frozen=True)
class Receipt:
    """An entry's bytes, its tlog-proof, and the opening where its holder shows it."""

    entry: bytes
    proof: str
    opening: Opening | None

    @classmethod
    def load(cls, text: str) -> Self:
        """Read a receipt; its contents are judged by `verify_receipt`.

        Raises:
            ProofInvalid: not JSON of this schema, or a member missing, unknown or of a wrong type.
        """
        if len(text) > RECEIPT_CHARACTERS_MAX:
            raise ProofInvalid("a receipt is too long")
        try:
            loaded = json.loads(text, object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise ProofInvalid("a receipt is not JSON") from error
        members = _members(loaded, {"schema": str, "entry": str, "proof": str, "opening": (dict, type(None))})
        if members["schema"] != SCHEMA:
            raise ProofInvalid(f"a receipt's schema is not {SCHEMA}")
        opening = members["opening"]
        return cls(decode_base64(members["entry"]), members["proof"], None if opening is None else _opening(opening))

    def dump(self) -> str:
        """Write the receipt as JSON, one member a line."""
        opening = self.opening and {"salt": self.opening.salt.hex(), "limit": self.opening.limit}
        members = {"schema": SCHEMA, "entry": encode_base64(self.entry), "proof": self.proof, "opening": opening}
        return json.dumps(members, indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Step:
    """One step of a verification: what was checked, whether it holds, and why not (or what was found)."""

    name: str
    ok: bool
    detail: str


def verify_receipt(receipt: Receipt, policy: Policy) -> list[Step]:
    """Check a receipt offline, against a policy alone. Never raises; a step that needs a failed one fails too.

    Returns:
        Always the same six steps; the receipt holds if and only if all are ok.
    """
    found = _Findings(receipt, policy)
    return [
        _step("entry parses", found.parse),
        _step("entry is a decision", found.check_kind),
        _step("opening matches the commitments", found.check_opening),
        _step("entry is in the tree", found.check_inclusion),
        _step("tree is signed by a log of the policy", found.check_log),
        _step(QUORUM_STEP, found.check_quorum),
    ]


def _step(name: str, check: Callable[[], str]) -> Step:
    try:
        return Step(name, True, check())
    except (ProofInvalid, EventInvalid) as error:
        return Step(name, False, str(error))


class _Findings:
    """The checks in order, each returning its detail; later ones use what earlier ones found."""

    def __init__(self, receipt: Receipt, policy: Policy) -> None:
        self._receipt, self._policy = receipt, policy
        self._event: Event | None = None

    def parse(self) -> str:
        self._event, time = decode(self._receipt.entry)
        return f"kind {self._event.kind}, {time.isoformat(timespec='milliseconds')}"

    def check_kind(self) -> str:
        decision = self._decision()
        return f"version {decision.version}, isolation {decision.isolation}, evidence {decision.evidence_format}"

    def check_opening(self) -> str:
        decision, opening = self._decision(), self._receipt.opening
        if opening is None:
            return "not opened: says nothing about the limit"
        limit = limit_commitment(opening.salt, opening.limit)
        outcome = outcome_commitment(outcome_salt(opening.salt), opening.outcome)
        if not (compare_digest(limit, decision.limit) and compare_digest(outcome, decision.outcome)):
            raise ProofInvalid("salt and limit are not those that the entry commits to")
        return f"limit {opening.limit} yuan"

    def check_inclusion(self) -> str:
        proof = TlogProof.parse(self._receipt.proof)
        checkpoint = proof.verify_inclusion(self._receipt.entry)
        return f"index {proof.index} of {checkpoint.size}"

    def check_log(self) -> str:
        checkpoint, signers = self._signers()
        return ", ".join(log.label for log in self._policy.check_log(checkpoint, signers))

    def check_quorum(self) -> str:
        _, signers = self._signers()
        self._policy.check_quorum(signers)
        return "no witnesses asked for" if self._policy.quorum == NONE else f"quorum {self._policy.quorum}"

    def _decision(self) -> Decision:
        if not isinstance(self._event, Decision):
            raise ProofInvalid("the entry is no decision")
        return self._event

    def _signers(self) -> tuple[Checkpoint, frozenset[NoteVerifier]]:
        note = Note.parse(TlogProof.parse(self._receipt.proof).checkpoint)
        return Checkpoint.parse(note.text), self._policy.signers(note)


def _opening(loaded: Mapping[str, Any]) -> Opening:
    members = _members(loaded, {"salt": str, "limit": int})
    try:
        salt = bytes.fromhex(members["salt"])
    except ValueError as error:
        raise ProofInvalid("a receipt's salt is not hex") from error
    if salt.hex() != members["salt"] or isinstance(members["limit"], bool):
        raise ProofInvalid("a receipt's salt is not lower-case hex, or its limit no number")
    limit_commitment(salt, members["limit"])  # for its ranges
    return Opening(salt, members["limit"])


def _members(loaded: object, shape: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(loaded, dict) or loaded.keys() != shape.keys():
        raise ProofInvalid("a receipt lacks members or has unknown ones")
    for name, types in shape.items():
        if not isinstance(loaded[name], types):
            raise ProofInvalid(f"a receipt's {name} is of a wrong type")
    return loaded


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ProofInvalid("a receipt has a member twice")
    return members
