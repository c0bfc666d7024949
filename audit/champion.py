"""Who was champion at a time, as a file that anyone checks offline.

Two entries of the log tell it: the promotion that made a version champion, and the product's next one, which names the
promotion before it by version and index. Where the next one exists, the log itself says that there was none between
them. Where there is none yet, the file shows that the version became champion, and when; that no later promotion stands
in the log, only the log as a whole shows (`heixia audit fsck`, `heixia audit search --kind version.promoted`), as it
shows that what entries say of each other is so.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

from audit.errors import EventInvalid, ProofInvalid
from audit.event import decode, format_time, parse_time
from audit.kinds import VersionPromoted
from audit.note import decode_base64, encode_base64
from audit.policy import Policy
from audit.proof import TlogProof
from audit.receipt import Step

SCHEMA: Final = "heixia.champion/v1"
CHARACTERS_MAX: Final = 4_000_000  # two of the largest proofs, escaped
UNTOLD: Final = "none was told: that there is none, the whole log shows and no single entry"


@dataclass(frozen=True)
class LoggedPromotion:
    """The bytes of a `version.promoted` entry, and its tlog-proof."""

    entry: bytes
    proof: str


@dataclass(frozen=True)
class ChampionProof:
    """What shows who was a product's champion at a moment; at least one of the two entries is there.

    Attributes:
        product: `<institution>/<product>`.
        at: the moment.
        promotion: of who was champion then; None = the product had none.
        next: the product's promotion after it; None = there was none yet.
    """

    product: str
    at: datetime
    promotion: LoggedPromotion | None
    next: LoggedPromotion | None

    @classmethod
    def load(cls, text: str) -> Self:
        """Read a file; its contents are judged by `verify_champion`.

        Raises:
            ProofInvalid: not JSON of this schema, or a member missing, unknown or of a wrong type.
        """
        if len(text) > CHARACTERS_MAX:
            raise ProofInvalid("a champion's proof is too long")
        try:
            read = json.loads(text)
            if read.keys() != {"schema", "product", "at", "promotion", "next"} or read["schema"] != SCHEMA:
                raise ProofInvalid(f"no members of {SCHEMA}")
            both = [_logged(read[name]) for name in ("promotion", "next")]
            made = cls(str(read["product"]), parse_time(read["at"]), *both)
        except (ValueError, TypeError, AttributeError, RecursionError, EventInvalid) as error:
            raise ProofInvalid(f"not a file of {SCHEMA}") from error
        if both == [None, None]:
            raise ProofInvalid("a champion's proof holds no entry")
        return made

    def dump(self) -> str:
        """Write it as JSON."""
        members = {"schema": SCHEMA, "product": self.product, "at": format_time(self.at)}
        both = {name: one and {"entry": encode_base64(one.entry), "proof": one.proof} for name, one in self._both()}
        return json.dumps({**members, **both}, indent=2) + "\n"

    def _both(self) -> tuple[tuple[str, LoggedPromotion | None], ...]:
        return ("promotion", self.promotion), ("next", self.next)


def verify_champion(proof: ChampionProof, policy: Policy) -> list[Step]:
    """Check a champion's proof offline, against a policy alone. Never raises.

    Returns:
        Always the same six steps; the proof holds if and only if all are ok.
    """
    found = _Findings(proof, policy)
    return [
        _step("promotion is the product's", found.check_promotion),
        _step("promotion was made by then", found.check_time),
        _step("promotion is in a signed tree", lambda: found.check_tree(proof.promotion)),
        _step("next promotion is the product's, and later", found.check_next),
        _step("next promotion names this one before it", found.check_link),
        _step("next promotion is in a signed tree", lambda: found.check_tree(proof.next)),
    ]


def _step(name: str, check: Callable[[], str]) -> Step:
    try:
        return Step(name, True, check())
    except (ProofInvalid, EventInvalid) as error:
        return Step(name, False, str(error))


class _Findings:
    def __init__(self, proof: ChampionProof, policy: Policy) -> None:
        self._proof, self._policy = proof, policy

    def check_promotion(self) -> str:
        if self._proof.promotion is None:
            return "none was told: the product had no champion"
        event, _ = self._read(self._proof.promotion)
        return f"{event.version}, by {event.by}"

    def check_time(self) -> str:
        if self._proof.promotion is None:
            return "none was told"
        _, time = self._read(self._proof.promotion)
        if time > self._proof.at:
            raise ProofInvalid(f"it was made later, {format_time(time)}")
        return f"{format_time(time)}, asked for {format_time(self._proof.at)}"

    def check_next(self) -> str:
        if self._proof.next is None:
            return UNTOLD
        event, time = self._read(self._proof.next)
        if time <= self._proof.at:
            raise ProofInvalid(f"it was made by then, {format_time(time)}")
        return f"{event.version}, {format_time(time)}"

    def check_link(self) -> str:
        if self._proof.next is None:
            return UNTOLD
        event, _ = self._read(self._proof.next)
        before: tuple[str | None, int | None] = (None, None)
        if (promotion := self._proof.promotion) is not None:
            before = self._read(promotion)[0].version, TlogProof.parse(promotion.proof).index
        if (event.previous, event.previous_index) != before:
            raise ProofInvalid("it names another promotion before it: one is left out")
        return f"before it: {event.previous or 'none'}, entry {event.previous_index}"

    def check_tree(self, logged: LoggedPromotion | None) -> str:
        if logged is None:
            return "none was told"
        proof = TlogProof.parse(logged.proof)
        checkpoint = proof.verify_inclusion(logged.entry)
        self._policy.verify(proof.checkpoint)
        return f"index {proof.index} of {checkpoint.size}, signed as the policy asks"

    def _read(self, logged: LoggedPromotion) -> tuple[VersionPromoted, datetime]:
        event, time = decode(logged.entry)
        if not isinstance(event, VersionPromoted) or event.version.rpartition("@")[0] != self._proof.product:
            raise ProofInvalid("the entry is no promotion of the product")
        return event, time


def _logged(read: Any) -> LoggedPromotion | None:
    if read is None:
        return None
    if read.keys() != {"entry", "proof"}:
        raise ProofInvalid("an entry lacks members or has unknown ones")
    if not isinstance(read["proof"], str) or not isinstance(read["entry"], str):
        raise ProofInvalid("an entry's members are no text")
    return LoggedPromotion(decode_base64(read["entry"]), read["proof"])
