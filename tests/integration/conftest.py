"""A running enclave with data, a champion and made-up companies, shared by the tests of a module."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from enclave_api.cli.example import FIELDS, Example, train_lightgbm
from sandbox.vault.catalog import load_catalog
from sandbox.vault.synthetic import World, generate
from tests.room import Room, datasets_of

PRODUCT = "zhongyuan/quick-loan"


@dataclass
class Stage:
    """A room that is ready for calls."""

    room: Room
    world: World
    example: Example
    version: str

    def consent(self, company: int, **options: int) -> str:
        """A consent of the company for everything the product reads."""
        return self.room.consent(self.world.subjects[company], PRODUCT, datasets_of(FIELDS), **options)


@pytest.fixture(scope="session")
def world() -> World:
    """Made-up companies."""
    return generate(load_catalog(), 300, 7)


@pytest.fixture(scope="session")
def example(world: World) -> Example:
    """A small trained model over them."""
    return train_lightgbm(world, PRODUCT, trees=30)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, world: World, example: Example) -> Iterator[Stage]:
    """A served enclave with loaded data and a champion."""
    room = Room.make(tmp_path_factory.mktemp("room")).start()
    try:
        room.load(world, datasets_of(FIELDS))
        yield Stage(room, world, example, room.launch(example))
    finally:
        room.stop()
