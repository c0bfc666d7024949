"""Versions made ready to run: manifest verified, join compiled, model loaded behind the walls, once per version."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from model_registry.errors import ModelRefused, Reason
from model_registry.manifest import Manifest
from model_registry.registry import Registry
from sandbox.jail.pool import JailPool, Program
from sandbox.vault.catalog import Catalog, layout_hash
from sandbox.vault.vault import JoinPlan, code_lists, compile_plan


@dataclass(frozen=True)
class ReadyVersion:
    """What a call needs of a version."""

    name: str
    manifest: Manifest
    bundle_hash: str
    rules_hash: str
    plan: JoinPlan
    layouts: dict[str, str]


@dataclass
class Versions:
    """The versions that run, loaded on first need."""

    registry: Registry
    pool: JailPool
    catalog: Catalog
    _ready: dict[str, ReadyVersion] = field(default_factory=dict)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)

    async def ready(self, name: str) -> ReadyVersion:
        """A version loaded and warm; raises ModelRefused where it does not load any more, JailUnavailable now."""
        if (found := self._ready.get(name)) is not None:
            return found
        async with self._locks.setdefault(name, asyncio.Lock()):
            if name not in self._ready:
                async with self._turn("load", name):
                    self._ready[name] = await self._load(name)
            return self._ready[name]

    async def prepare(self, name: str) -> None:
        """Before a promotion: loads the version, its samples' limits compared, and has a process wait for calls.

        Raises:
            ModelRefused: it does not load any more, or differs from its samples; says why.
            JailUnavailable: not now.
        """
        await self.ready(name)
        await self.pool.warm(name)

    async def inspect(self, manifest: Manifest, content: bytes, base: bytes) -> Sequence[Reason]:
        """Admission: the fields against the catalogue here, everything else behind the walls; no reasons = admitted."""
        if reasons := _field_reasons(self.catalog, manifest):
            return reasons
        async with self._turn("inspect", manifest.product):
            return (await self.pool.inspect(self._program(manifest, content, base))).reasons

    async def forget(self, name: str) -> None:
        """Unloads a version that will not run again; what it has begun it finishes."""
        async with self._locks.setdefault(name, asyncio.Lock()):  # it may be loading just now
            self._ready.pop(name, None)
            await self.pool.unload(name)
        self._locks.pop(name, None)

    def _turn(self, what: str, name: str) -> asyncio.Lock:
        """One at a time an institution: the few places that there are at once are not all one bank's."""
        return self._locks.setdefault(f"{what} {name.partition('/')[0]}", asyncio.Lock())

    async def _load(self, name: str) -> ReadyVersion:
        opened = await asyncio.to_thread(self.registry.open_content, name)
        manifest = opened.manifest
        if reasons := _field_reasons(self.catalog, manifest):
            raise ModelRefused(reasons)
        report = await self.pool.load(name, self._program(manifest, opened.content, opened.base))
        if report.reasons:
            raise ModelRefused(report.reasons, name)
        plan = compile_plan(self.catalog, manifest.field_names)
        layouts = {dataset: layout_hash(self.catalog.dataset(dataset)) for dataset in plan.datasets}
        return ReadyVersion(name, manifest, opened.bundle_hash, opened.rules_hash, plan, layouts)

    def _program(self, manifest: Manifest, content: bytes, base: bytes) -> Program:
        return Program(manifest.encode(), content, code_lists(self.catalog, manifest.field_names), base)


def _field_reasons(catalog: Catalog, manifest: Manifest) -> list[Reason]:
    reasons = []
    for declared in manifest.fields:
        known = catalog.fields.get(declared.name)
        if known is None:
            reasons.append(Reason("field_unknown", declared.name, "the catalogue has no such field"))
        elif known.type != declared.type:
            text = f"the catalogue says {known.type.value}, the manifest {declared.type}"
            reasons.append(Reason("field_type", declared.name, text))
    return reasons
