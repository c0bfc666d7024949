"""Another bank's version is refused by its name: nothing is looked up, opened, loaded or queued for it."""

import asyncio
from typing import Any, NoReturn

import pytest

from audit.errors import CallerError
from model_registry.errors import ProductUnknown, VersionUnknown
from model_registry.registry import Registry

THEIRS, BY = "bank/loan@1", "institution/other/eve"


class Untouched:
    """Stands for a ledger, a database, keys: whoever touches it fails."""

    def __getattr__(self, name: str) -> NoReturn:
        raise AssertionError(f"{name} was asked for another bank's version")


async def _never(*_: object) -> Any:
    raise AssertionError("loaded or inspected for another bank's version")


def test_no_work_is_done_for_anothers_version() -> None:
    """Whatever is asked by another institution ends before the ledger, the database or a bundle is touched."""
    nothing: Any = Untouched()
    registry = Registry(nothing, nothing, nothing, nothing, nothing, 64)
    asked = [
        registry.approve(THEIRS, "other", BY),
        registry.promote(THEIRS, "other", BY, _never),
        registry.rollback("bank/loan", "other", BY, _never),
        registry.rollback("other/loan", "other", BY, _never, THEIRS),
        registry.suspend(THEIRS, "institution/other", BY, "security"),
        registry.resume(THEIRS, "institution/other", BY, "security"),
        registry.retire(THEIRS, "other", BY),
        registry.replace_rules(THEIRS, nothing, "other", BY, _never),
    ]
    for one in asked:
        with pytest.raises(CallerError) as refusal:
            asyncio.run(one)
        assert isinstance(refusal.value, VersionUnknown | ProductUnknown)
        assert not refusal.value.public
    with pytest.raises(VersionUnknown):
        registry.get(THEIRS, "other")
    assert registry.list("bank/loan", "other") == []
    assert registry.history("bank/loan", "other", None, 10) == []
    assert registry.champion_at("bank/loan", "other", None) == (None, None)
