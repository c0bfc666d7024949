"""Versions for the wire: what an institution reads of its own, and the little that others who may stop them read."""

from collections.abc import Sequence
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from heixia.registry.v1 import registry_pb2

from enclave_api.converters import page_token, timestamp
from enclave_api.identity import Principal, Role
from model_registry.lifecycle import State
from model_registry.version_history import Noted
from model_registry.version_rows import Product, Version


def version(domain: Version, who: Principal) -> registry_pb2.Version:
    """A version, as `who` may read it.

    Whoever is not of its institution, and may only stop it, reads neither reasons, which quote the bank's model and
    rules, nor persons.
    """
    own = who.role is Role.INSTITUTION and who.organisation == domain.institution
    return registry_pb2.Version(
        version=domain.version,
        state=_state(domain.state),
        beneath=_state(domain.beneath),
        suspended_by=domain.suspended_by,
        bundle_hash=domain.bundle_hash,
        manifest_hash=domain.manifest_hash,
        model_hash=domain.model_hash,
        rules_hash=domain.rules_hash,
        model_of=domain.model_of,
        submitted_by=domain.submitted_by if own else _without_person(domain.submitted_by),
        submitted_at=_moment(domain.submitted_at),
        approved_by=domain.approved_by if own else _without_person(domain.approved_by),
        approved_at=_moment(domain.approved_at),
        champion_since=_moment(domain.champion_since),
        reasons=[registry_pb2.Reason(code=r.code, where=r.where, text=r.text) for r in domain.reasons if own],
    )


def product(domain: Product) -> registry_pb2.Product:
    """A product, as its own institution reads it."""
    return registry_pb2.Product(
        product=domain.product,
        champion=domain.champion or "",
        suspended_by=domain.suspended_by,
        versions=domain.versions,
    )


def changes(noted: Sequence[Noted], count: int, who: Principal) -> registry_pb2.ListVersionChangesResponse:
    """A page of at most `count` changes; where more were found there is a next one. Others' persons are not named."""
    page = noted[:count]
    own = f"{who.role}/{who.organisation}/"
    shown = [
        registry_pb2.VersionChange(
            index=one.index,
            at=_moment(one.at),
            version=one.version,
            kind=one.kind,
            by=one.by if one.by.startswith(own) else _without_person(one.by),
            why=one.why,
        )
        for one in page
    ]
    token = page_token(page[-1].index) if len(noted) > count else ""
    return registry_pb2.ListVersionChangesResponse(changes=shown, next_page_token=token)


def _state(state: State) -> registry_pb2.VersionState.ValueType:
    return registry_pb2.VersionState.Value(f"VERSION_STATE_{state.name}")


def _moment(ms: int | None) -> Timestamp | None:
    return None if ms is None else timestamp(datetime.fromtimestamp(ms / 1000, UTC))


def _without_person(by: str) -> str:
    return "/".join(by.split("/")[:2])
