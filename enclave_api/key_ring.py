"""The HPKE keys in force: by key id, for whoever must open what was sealed to one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from enclave_api.keys import Keys
from model_registry.bundle import RecipientSecret
from model_registry.key_epochs import Epoch


@dataclass(frozen=True)
class _Held:
    secret: RecipientSecret
    until: datetime | None


class KeyRing(Mapping[str, RecipientSecret]):
    """Secrets of living epochs. One whose date has come is not there, though its destruction may be an hour away.

    Read from any thread: what it holds is exchanged as a whole.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._held: dict[str, _Held] = {}

    def hold(self, keys: Keys, epochs: Sequence[Epoch]) -> None:
        """Holds the keys of those epochs that `keys` still leads to, and no others."""
        kept = {key_id: held.secret for key_id, held in self._held.items()}
        self._held = {
            one.key_id: _Held(kept.get(one.key_id) or keys.recipient(one.number), one.destroy_at)
            for one in epochs
            if one.number >= keys.epoch
        }

    def expect(self, secret: RecipientSecret) -> None:
        """Holds a key that is about to become the newest, until `hold` says what became of it."""
        self._held = {**self._held, secret.public().key_id: _Held(secret, None)}

    def __getitem__(self, key_id: str) -> RecipientSecret:
        """The secret; raises KeyError."""
        held = self._held[key_id]
        if held.until is not None and held.until <= self._clock():
            raise KeyError(key_id)
        return held.secret

    def __iter__(self) -> Iterator[str]:
        """The key ids that are not past their date."""
        return (key_id for key_id in list(self._held) if key_id in self)

    def __len__(self) -> int:
        """How many they are."""
        return sum(1 for _ in self)
