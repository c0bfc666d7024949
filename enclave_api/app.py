"""The composition root: config → keys → stores → floors → server. The only place that picks adapters."""

import asyncio
import gc
import hashlib
import signal
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import Connection, Engine

import enclave_api
from audit.errors import HeixiaError
from audit.kinds import EnclaveStarted
from audit.ledger import Ledger, Position
from audit.schema import database_errors, forget_overwritten, open_engine
from audit.source import DatabaseSource
from enclave_api.attestation.evidence import EnclaveFacts, code_digest
from enclave_api.attestation.hardware_attester import HardwareAttester
from enclave_api.attestation.simulated import Attester, Simulated
from enclave_api.attestation.tsm import ReportFolder
from enclave_api.audit_desk import AuditDesk
from enclave_api.config import GRACE_S, Settings
from enclave_api.epoch_checks import check_root
from enclave_api.errors import AddressTaken, HomeInvalid, WallsMissing
from enclave_api.grpc_server import make_server
from enclave_api.home import Home, log_signer
from enclave_api.identity import Role
from enclave_api.key_epochs import KeyEpochs
from enclave_api.key_ring import KeyRing
from enclave_api.keys import Keys
from enclave_api.log_http import LogDoor
from enclave_api.metrics import Metrics
from enclave_api.nightly import Nightly, check_in_process
from enclave_api.service import ServeOptions, Service
from enclave_api.start_checks import allow_descriptors, alone, check_past, make_anchor, start_anchor
from enclave_api.witness_http import bind
from enclave_api.witnesses import Trust, Witnesses
from model_registry.key_epochs import Epoch, begin_epoch, read_epochs
from model_registry.registry import Registry
from sandbox.consent_store import ConsentStore
from sandbox.decision import Decider, DecisionSettings, Enclave
from sandbox.jail.pool import JailPool
from sandbox.jail.required import explain_missing
from sandbox.jail.settings import JailSettings
from sandbox.vault.catalog import load_catalog
from sandbox.vault.datasets import Datasets
from sandbox.vault.vault import Vault
from sandbox.versions import Versions

GC_THRESHOLD = 20_000  # objects between two looks of the collector: a call leaves a thousand, nearly none in cycles

_log = structlog.get_logger("heixia")


def utc_now() -> datetime:
    """The clock that everything is given."""
    return datetime.now(UTC)


async def build(
    home: Home, options: ServeOptions, stack: AsyncExitStack, on_fatal: Callable[[BaseException], None]
) -> Service:
    """Opens a home and wires the floors; what must be closed is pushed on `stack`.

    Raises:
        HomeInvalid, PassphraseWrong, RootForeign, EpochDiffers, CatalogInvalid, LedgerCorrupt, LedgerBusy,
            LedgerRolledBack, BudgetDiffers, Database*: nothing was changed.
        WallsMissing: likewise; not raised where the options accept weak isolation.
        EvidenceUnavailable: likewise; the settings ask for hardware's evidence and there is none.
    """
    settings, keeper = home.settings(), home.keeper(options.passphrase)
    keys = keeper.keys
    catalog = load_catalog(home.path / "catalog.yaml")
    attester = await _attester(settings, stack)
    pool = await _pool(settings, options.accept_weak_isolation)
    stack.push_async_callback(pool.close)
    engine = open_engine(home.database, create=False)
    stack.callback(engine.dispose)
    signer = log_signer(keys, settings.log_origin)
    check_root(engine, signer.verifiers)
    folder = options.anchor or home.anchor
    anchor = make_anchor(folder)
    stack.callback(anchor.close)
    hearers = [anchor.put]
    ledger = Ledger.open(engine, signer, settings.log_origin, utc_now, on_fatal, lambda new: _tell(hearers, new))
    stack.callback(ledger.close)
    epochs = KeyEpochs(
        keeper, ledger, engine, KeyRing(utc_now), utc_now, _facts(home, settings, keys, engine, pool, attester)
    )
    unsaid = epochs.check()
    trust = Trust.load(home, signer.verifiers)
    seen = await asyncio.to_thread(trust.remembered)
    await check_past(ledger, engine, folder, signer.verifier, accept=options.accept_rollback, seen=seen)
    start_anchor(anchor, ledger.checkpoint)
    await epochs.settle(unsaid)
    forget_overwritten(engine)  # a server killed after an erasure may have left the key in the write-ahead log
    metrics = Metrics()
    cosigning = Witnesses(trust, ledger, engine, metrics, on_fatal).start()
    stack.callback(cosigning.close)
    hearers.append(cosigning.put)
    vault = Vault(engine, keys.vault, catalog)
    stack.callback(vault.close)
    notes = AESGCM(keys.derive("registry notes"))
    registry = Registry(ledger, engine, home.trusted(Role.INSTITUTION), epochs.ring, notes, settings.levels_max)
    consents = ConsentStore(ledger, engine, keys.vault, home.trusted(Role.AUTHORITY), settings.terms)
    versions = Versions(registry, pool, catalog)
    facts = epochs.facts
    rules = DecisionSettings(settings.release_quantum_ms, settings.budget_bits_per_year * 1000)
    room = Enclave(facts.evidence_hash, facts.format, facts.isolation)
    reader = stack.enter_context(engine.connect())
    decider = Decider(ledger, reader, vault, consents, versions, rules, room, utc_now)
    epochs.tell_decisions = partial(_name_evidence, decider)
    if options.step_metrics:
        decider.observe = metrics.step
    datasets = Datasets(ledger, engine, vault)
    desk = AuditDesk(ledger, engine, home.index, rules.budget_milli, settings.release_quantum_ms)
    stack.callback(desk.close)
    floors = (ledger, vault, registry, consents, datasets, versions, decider)
    return Service(settings, engine, *floors, epochs, attester, metrics, desk)


def _name_evidence(decider: Decider, evidence_hash: str) -> None:
    decider.enclave = replace(decider.enclave, evidence_hash=evidence_hash)


def _tell(hearers: Sequence[Callable[[str], None]], checkpoint: str) -> None:
    for hear in hearers:
        hear(checkpoint)


async def _attester(settings: Settings, stack: AsyncExitStack) -> Attester:
    if settings.evidence == "simulated":
        return Simulated()
    made = await asyncio.to_thread(HardwareAttester, ReportFolder())
    stack.callback(made.close)
    return made


async def _pool(settings: Settings, accept_weak_isolation: bool) -> JailPool:
    jail = JailSettings(
        isolation=settings.isolation,
        score_deadline_ms=settings.score_deadline_ms,
        constant_time=settings.release_quantum_ms > 0,  # answers that leave at once tell their time anyway
    )
    pool = await JailPool.start(jail)
    if (lacking := explain_missing(pool.walls)) and not accept_weak_isolation:
        await pool.close()
        hint = "Or let evidence and receipts say that it is weak, and banks refuse it: --accept-weak-isolation"
        raise WallsMissing("walls", public=f"{lacking}\n{hint}")
    return pool


async def serve(home: Home, options: ServeOptions, ready: Callable[[int, EnclaveFacts, str | None], None]) -> None:
    """Serves until SIGTERM or SIGINT, then lets calls in flight finish.

    Args:
        home: made by `heixia init`.
        options: how.
        ready: called once when calls are answered, with their port, the evidence's facts, and where the log is served.

    Raises:
        AddressTaken, and whatever `build` raises.
        DatabaseFull, DatabaseUnreadable, LedgerCorrupt: why the ledger stopped itself; start the process anew.
    """
    stop: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()

    def end(cause: BaseException | None = None) -> None:
        loop.call_soon_threadsafe(_resolve, stop, cause)

    async with AsyncExitStack() as stack:
        stack.enter_context(alone(home))
        allow_descriptors()
        enclave = await build(home, options, stack, end)
        server, port = await make_server(home, options, enclave)
        if options.metrics:
            stack.callback(_serve_metrics(enclave.metrics, options.metrics))
        log_url = _serve_log(enclave, options.log_listen, stack) if options.log_listen else None
        await record_start(enclave)
        await server.start()
        # Beside the calls: what some bank left half submitted must not keep everybody waiting.
        inspections = asyncio.create_task(_finish_inspections(enclave))
        stack.callback(inspections.cancel)
        stack.push_async_callback(_end_nightly, _start_nightly(home, enclave))
        following = asyncio.create_task(enclave.desk.follow())
        stack.callback(following.cancel)
        stack.callback(asyncio.create_task(enclave.epochs.run_forever()).cancel)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end)
        gc.collect()
        gc.set_threshold(GC_THRESHOLD)
        gc.freeze()  # what a start allocates lives as long as the process; the collector need not walk it in every call
        _log.info("serving", listen=options.listen, evidence=enclave.facts.format, isolation=enclave.facts.isolation)
        ready(port, enclave.facts, log_url)
        cause = await stop
        _log.info("stopping", cause=type(cause).__name__ if cause else "signal")
        await server.stop(GRACE_S)
        if cause is not None:
            with database_errors():
                raise cause


def _resolve(stop: asyncio.Future[BaseException | None], cause: BaseException | None) -> None:
    if not stop.done():
        stop.set_result(cause)


def _facts(
    home: Home, settings: Settings, keys: Keys, engine: Engine, pool: JailPool, attester: Attester
) -> EnclaveFacts:
    try:
        certificate = x509.load_pem_x509_certificate((home.path / "tls" / "server.pem").read_bytes())
    except (OSError, ValueError) as error:
        raise HomeInvalid("tls", public="tls/server.pem is missing or damaged") from error
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with engine.connect() as connection:
        epoch = max([keys.epoch, *(one.number for one in read_epochs(connection))])
    return EnclaveFacts(
        recipient=keys.recipient(epoch).public(),
        epoch=epoch,
        ledger_vkey=log_signer(keys, settings.log_origin).verifier.vkey,
        tls_key_hash=hashlib.sha256(spki).hexdigest(),
        code_digest=code_digest(),
        config_digest=home.config_digest(settings),
        mode=settings.isolation,
        walls=pool.walls,
        started=utc_now(),
        format=attester.format,
    )


def _start_nightly(home: Home, enclave: Service) -> "asyncio.Task[None] | None":
    hour = enclave.settings.fsck_hour_utc
    if hour == "off":
        return None
    check = partial(check_in_process, home.path)
    return asyncio.create_task(Nightly(enclave.ledger, enclave.metrics, check, hour, utc_now).run_forever())


async def _end_nightly(task: "asyncio.Task[None] | None") -> None:
    if task is not None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _finish_inspections(enclave: Service) -> None:
    try:
        await enclave.registry.finish_inspections(enclave.versions.inspect)
    except HeixiaError as error:
        _log.error("inspections not finished", code=error.code)


async def record_start(enclave: Service) -> None:
    """Writes the entry of a start; the first one of a home makes epoch 0 of its key."""

    def change(connection: Connection, position: Position) -> tuple[EnclaveStarted, None]:
        facts = enclave.facts
        if not read_epochs(connection):
            begin_epoch(connection, Epoch(facts.epoch, facts.recipient.key_id, position.index, position.time))
        event = EnclaveStarted(
            evidence_hash=facts.evidence_hash,
            evidence_format=facts.format,
            isolation=facts.isolation,
            version=enclave_api.__version__,
            epoch=facts.epoch,
            key_id=facts.recipient.key_id,
        )
        return event, None

    await enclave.ledger.append(change)


def _serve_log(enclave: Service, address: str, stack: AsyncExitStack) -> str:
    source = DatabaseSource(enclave.engine, lambda: enclave.ledger.published)
    door = LogDoor(source, bind(address, "--log-listen"))
    stack.callback(door.close)
    return door.url


def _serve_metrics(metrics: Metrics, address: str) -> Callable[[], None]:
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise AddressTaken("metrics", public=f"{address} for --metrics is not HOST:PORT")
    return metrics.serve(host, int(port)).shutdown
