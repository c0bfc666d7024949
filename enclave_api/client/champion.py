"""Who was champion, as a bank was told it: the version, and the entries of the log that show it."""

from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from heixia.registry.v1 import registry_pb2 as pb

from audit.champion import ChampionProof, LoggedPromotion
from audit.event import decode, floor_time
from audit.kinds import VersionPromoted


@dataclass(frozen=True)
class Champion:
    """A product's champion at a moment.

    Attributes:
        version: `<institution>/<product>@<n>`; empty = the product had none.
        index: of the entry that made it champion; None where there is none.
        since, until: from that entry's time to the next promotion's; None where there is none.
        proof: to keep (`dump`) and to check offline; None where the product was never promoted to.
    """

    version: str
    index: int | None
    since: datetime | None
    until: datetime | None
    proof: ChampionProof | None

    @classmethod
    def of(cls, answer: pb.GetChampionResponse, product: str, at: datetime | None) -> "Champion":
        """What an answer's entries say, which the log signed, not what is beside them; raises EventInvalid."""
        promotion = _logged(answer.promotion) if answer.HasField("promotion") else None
        after = _logged(answer.next) if answer.HasField("next") else None
        since, until = (decode(one.entry)[1] if one else None for one in (promotion, after))
        event = decode(promotion.entry)[0] if promotion else None
        version = event.version if isinstance(event, VersionPromoted) else ""
        proof = None
        if promotion or after:
            moment = floor_time(at or max(datetime.now(UTC), since or datetime.min.replace(tzinfo=UTC)))
            proof = ChampionProof(product, moment, promotion, after)
        return cls(version, answer.promoted_index if promotion else None, since, until, proof)


def stamp(at: datetime | None) -> Timestamp | None:
    """A moment as protobuf has it; None = unset."""
    if at is None:
        return None
    made = Timestamp()
    made.FromDatetime(at)
    return made


def _logged(wire: pb.Promotion) -> LoggedPromotion:
    return LoggedPromotion(wire.entry, wire.proof)
