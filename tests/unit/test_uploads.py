"""Places for uploads, and their deadlines."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from enclave_api import uploads
from enclave_api.errors import Busy, RequestInvalid
from enclave_api.identity import Principal, Role
from enclave_api.uploads import Uploads, timed


def bank(number: int) -> Principal:
    """One of many banks."""
    return Principal(Role.INSTITUTION, f"bank{number}", "alice")


async def test_one_place_an_organisation_and_so_many_in_all() -> None:
    """A second upload of the same bank waits for nobody's place but its own; a place is free again after an error."""
    places = Uploads()
    async with places.place(bank(0)):
        with pytest.raises(Busy):
            async with places.place(Principal(Role.INSTITUTION, "bank0", "bob")):
                raise AssertionError
        async with places.place(Principal(Role.STEWARD, "bank0")):
            pass
    with pytest.raises(ZeroDivisionError):
        async with places.place(bank(0)):
            raise ZeroDivisionError
    held = [places.place(bank(n)) for n in range(uploads.UPLOADS_MAX)]
    for place in held:
        await place.__aenter__()
    with pytest.raises(Busy):
        async with places.place(bank(99)):
            raise AssertionError
    for place in held:
        await place.__aexit__(None, None, None)


async def test_a_silent_sender_loses_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that come are handed on; one that does not come in time ends the upload."""
    monkeypatch.setattr(uploads, "PART_DEADLINE_S", 0.01)

    async def parts() -> AsyncIterator[int]:
        yield 1
        yield 2
        await asyncio.Event().wait()

    taken = timed(parts())
    assert [await anext(taken), await anext(taken)] == [1, 2]
    with pytest.raises(RequestInvalid):
        await anext(taken)


async def test_all_parts_arrive() -> None:
    """An upload that ends is handed on whole."""

    async def parts() -> AsyncIterator[int]:
        for number in range(5):
            yield number

    assert [part async for part in timed(parts())] == [0, 1, 2, 3, 4]
