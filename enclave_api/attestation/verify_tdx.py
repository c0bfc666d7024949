"""TDX quotes verified offline, step by step (docs/formats.md, "Evidence").

The order and the rules are those of Intel's quote verification (Intel TDX DCAP Quoting Library API; Provisioning
Certification Service API, version 4). Steps that hang on one that did not pass are skipped. What the guest is judged
by (debugging, attributes, measurement) is looked at in any quote that can be read, so that all faults are told at once;
but nothing of a quote that nobody vouches for is said to have passed.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from enclave_api.attestation.hardware import HardwareVerdict, Material
from enclave_api.attestation.steps import Step, StepFailed, StepSkipped, run_step, skipped
from enclave_api.attestation.tdx_collateral import Collateral, Signers, collateral_of, newest, verified_by
from enclave_api.attestation.tdx_guest import check_attributes, check_debug, check_measurements, guest_facts
from enclave_api.attestation.tdx_pck import Platform, platform_of
from enclave_api.attestation.tdx_policy import TdxPolicy
from enclave_api.attestation.tdx_quote import Quote, parse_quote
from enclave_api.attestation.tdx_statements import EnclaveLevel, PlatformLevel, QeIdentity, Signed, Statement, TcbInfo
from enclave_api.attestation.tdx_tcb import REVOKED as STATUS_REVOKED
from enclave_api.attestation.tdx_tcb import (
    UP_TO_DATE,
    check_module,
    check_pinned_qe,
    check_qe,
    overall_status,
    platform_level,
)
from enclave_api.attestation.x509_certificates import certificates_of, fingerprint, name_of, readable_certificates
from enclave_api.attestation.x509_chain import Chain, chain_to_root
from enclave_api.attestation.x509_revocation import check_not_revoked

__all__ = ["STEPS", "TdxPolicy", "verify_tdx"]

READABLE = "quote readable"
CHAIN = "chain to the vendor's root"
REVOKED = "not revoked"
QE_REPORT = "QE report signature"
QE_IDENTITY = "QE identity accepted"
SIGNATURE = "report signature"
TCB_INFO = "TCB info for this platform"
MODULE = "TDX module identity accepted"
LEVEL = "TCB level met"
STATUS = "TCB status accepted"
DEBUG = "debug off"
ATTRIBUTES = "TD attributes accepted"
MEASUREMENT = "measurement accepted"
STEPS = (
    *(READABLE, CHAIN, REVOKED, QE_REPORT, QE_IDENTITY, SIGNATURE),
    *(TCB_INFO, MODULE, LEVEL, STATUS, DEBUG, ATTRIBUTES, MEASUREMENT),
)
GUEST = (DEBUG, ATTRIBUTES, MEASUREMENT)
_VOUCHED = (REVOKED, QE_IDENTITY, SIGNATURE)
_PCK = "Intel SGX PCK Certificate"
_PCK_CAS = ("Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA")


def verify_tdx(quote: bytes, material: Material, policy: TdxPolicy, at: datetime) -> HardwareVerdict:
    """Verifies a quote at a time; the report data are returned, not judged.

    Never raises for evidence, however malformed: it fails the step, and skips those that hang on it.

    Args:
        quote: version 4 or 5, with padding or without.
        material: TCB info, QE identity, their signers' certificates, revocation lists, in any order and among others.
        policy: what is accepted.
        at: the time at which certificates, statements and lists must hold, with a time zone.
    """
    try:
        found = parse_quote(quote)
    except StepFailed as error:
        blocked = (skipped(name, "the quote cannot be read") for name in STEPS[1:])
        return HardwareVerdict((Step(READABLE, "failed", str(error)), *blocked))
    checks = _Checks(found, material, policy, at)
    steps = [Step(READABLE, "passed", f"version {found.version}, TDX {checks.tdx_version}")]
    blocked_names: set[str] = set()
    for name, check, needs in checks.table():
        missing = next((need for need in needs if need in blocked_names), None)
        step = _step(name, check, missing)
        steps.append(step)
        if missing or step.outcome == "failed":
            blocked_names.add(name)
    return HardwareVerdict(tuple(steps), found.report.report_data, checks.facts)


def _step(name: str, check: Callable[[], str], missing: str | None) -> Step:
    if missing and name not in GUEST:
        return skipped(name, f"hangs on: {missing}")
    step = run_step(name, check)
    # a fault is told in any case; that there is none, only of a quote that somebody vouches for
    return skipped(name, f"hangs on: {missing}") if missing and step.outcome == "passed" else step


class _Checks:
    """The checks of one quote; each returns why it passed, raises StepFailed or StepSkipped."""

    def __init__(self, quote: Quote, material: Material, policy: TdxPolicy, at: datetime) -> None:
        self._quote = quote
        self._policy = policy
        self._at = at
        self._material = material
        self.tdx_version = "1.0" if quote.report.tee_tcb_svn2 is None else "1.5"
        self.facts: dict[str, Any] = {"quote_version": quote.version, **guest_facts(quote.report)}
        # each set by its step, read by those that hang on it
        self._chain: Chain
        self._platform: Platform
        self._info: TcbInfo
        self._enclave: EnclaveLevel | None = None  # None: named by the policy
        self._module: EnclaveLevel | None = None  # None: judged with the platform

    def table(self) -> tuple[tuple[str, Callable[[], str], tuple[str, ...]], ...]:
        """Each step's name, its check, and the steps without which it is not made."""
        return (
            (CHAIN, self._check_chain, ()),
            (REVOKED, self._check_revoked, (CHAIN,)),
            (QE_REPORT, self._check_qe_report, (CHAIN,)),
            (QE_IDENTITY, self._check_qe_identity, (QE_REPORT,)),
            (SIGNATURE, self._check_signature, (QE_REPORT,)),
            (TCB_INFO, self._check_tcb_info, (CHAIN,)),
            (MODULE, self._check_module, (SIGNATURE, TCB_INFO)),
            (LEVEL, self._check_level, (SIGNATURE, TCB_INFO)),
            (STATUS, self._check_status, (QE_IDENTITY, MODULE, LEVEL)),
            (DEBUG, lambda: check_debug(self._quote.report), _VOUCHED),
            (ATTRIBUTES, lambda: check_attributes(self._quote.report, self._policy), _VOUCHED),
            (MEASUREMENT, lambda: check_measurements(self._quote.report, self._policy), _VOUCHED),
        )

    @cached_property
    def _collateral(self) -> Collateral:
        return collateral_of(self._material)

    @cached_property
    def _certificates(self) -> list[x509.Certificate]:
        return readable_certificates((*certificates_of(self._quote.pck_chain), *self._collateral.certificates))

    def _check_chain(self) -> str:
        """The PCK certificate, first of the quote, by a PCK CA by a root of the policy; all valid at the time."""
        own = readable_certificates(certificates_of(self._quote.pck_chain)[:1])
        if not own:
            raise StepFailed("the quote has no readable certificate")
        chain = chain_to_root(own[0], self._certificates, frozenset(self._policy.roots), self._at)
        if len(chain) != 3 or name_of(chain[0]) != _PCK or name_of(chain[1]) not in _PCK_CAS:
            raise StepFailed("the quote's certificate is no PCK certificate by a PCK CA by a root")
        self._platform = platform_of(chain[0])
        self._chain = chain
        self.facts |= {
            "fmspc": self._platform.fmspc,
            "pce_id": self._platform.pce_id,
            "pce_svn": self._platform.pce_svn,
            "cpu_svn_components": list(self._platform.components),
        }
        return f"{_PCK} by {name_of(chain[1])} by the policy's root {fingerprint(chain[-1])[:16]}…"

    def _check_revoked(self) -> str:
        lacking = [
            name_of(issuer)
            for certificate, issuer in zip(self._chain, self._chain[1:], strict=False)
            if not self._has_list(certificate, issuer)
        ]
        if not lacking:
            return "by current lists of the PCK CA and of the root"
        told = f"no revocation list of {' and of '.join(lacking)} is given"
        raise StepFailed(told) if self._policy.require_crls else StepSkipped(f"{told}; the policy asks for none")

    def _has_list(self, certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
        return check_not_revoked(certificate, issuer, self._collateral.crls, self._at)

    def _check_qe_report(self) -> str:
        """The PCK key signs the quoting enclave's report, whose data name the attestation key."""
        quote = self._quote
        if not verified_by(self._chain[0].public_key(), quote.qe_signature, quote.qe_report.raw):
            raise StepFailed("the quoting enclave's report is not signed by the PCK key")
        bound = sha256(quote.attestation_key + quote.qe_auth_data).digest() + bytes(32)
        if quote.qe_report.report_data != bound:
            raise StepFailed("the quoting enclave's report names another attestation key")
        return "by the PCK key, for this attestation key"

    def _check_qe_identity(self) -> str:
        report, pin = self._quote.qe_report, self._policy.qe
        if pin is not None:
            check_pinned_qe(report, pin)
            return f"the one that the policy names, ISVSVN {report.isv_svn}, without Intel's word on it"
        candidates = self._given(self._collateral.qe_identities)
        identity = newest(QeIdentity, candidates, self._signer_keys, self._at, self._check_evaluation)
        self._enclave = check_qe(report, identity)
        self._tell("qe", self._enclave)
        return _not_revoked("TD_QE", self._enclave)

    def _check_signature(self) -> str:
        quote = self._quote
        try:
            key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + quote.attestation_key)
        except ValueError:
            raise StepFailed("the attestation key is no point of P-256") from None
        if not verified_by(key, quote.signature, quote.signed):
            raise StepFailed("the quote is not signed by the attestation key")
        return "ECDSA P-256 by the attestation key"

    def _check_tcb_info(self) -> str:
        candidates = self._given(self._collateral.tcb_infos)
        self._info = newest(TcbInfo, candidates, self._signer_keys, self._at, self._check_platform)
        self.facts["tcb_evaluation"] = self._info.tcb_evaluation_data_number
        return f"FMSPC {self._info.fmspc}, holds until {self._info.next_update:%Y-%m-%dT%H:%M:%SZ}"

    def _check_module(self) -> str:
        self._module = check_module(self._quote.report, self._info)
        if self._module is None:
            self.facts["module_status"] = UP_TO_DATE
            return "major version 0, judged with the platform"
        self._tell("module", self._module)
        return _not_revoked("TDX module", self._module)

    def _check_level(self) -> str:
        level = platform_level(self._info, self._platform, self._quote.report.tee_tcb_svn)
        self._tell("platform", level)
        return _not_revoked("platform", level)

    def _check_status(self) -> str:
        """The status of platform, module and quoting enclave together, and the policy's floors."""
        report, policy = self._quote.report, self._policy
        module, enclave = (part.tcb_status if part else UP_TO_DATE for part in (self._module, self._enclave))
        status = overall_status(self._info, self._platform, report, module, enclave)
        self.facts["tcb_status"] = status
        if status not in policy.tcb_status:
            raise StepFailed(f"{status}; accepted: {', '.join(policy.tcb_status)}")
        floor = bytes.fromhex(policy.tee_tcb_svn_min or "")
        if any(has < asked for has, asked in zip(report.tee_tcb_svn, floor, strict=False)):
            raise StepFailed(f"{status}, but TEE_TCB_SVN {report.tee_tcb_svn.hex()} is below the policy's floor")
        return status

    @cached_property
    def _signer_keys(self) -> list[object]:
        policy = self._policy
        roots, crls = frozenset(policy.roots), self._collateral.crls
        return Signers(roots, self._certificates, crls, policy.require_crls, self._at).keys()

    def _check_platform(self, info: TcbInfo) -> None:
        platform = self._platform
        if (info.fmspc, info.pce_id) != (platform.fmspc, platform.pce_id):
            told = f"FMSPC {info.fmspc}, PCE id {info.pce_id}"
            raise StepFailed(f"for {told}; the platform has {platform.fmspc} and {platform.pce_id}")
        self._check_evaluation(info)

    def _check_evaluation(self, statement: Statement) -> None:
        number, floor = statement.tcb_evaluation_data_number, self._policy.tcb_evaluation_min
        if number < floor:
            raise StepFailed(f"of TCB evaluation {number}; the policy asks for {floor} at least")

    def _given(self, candidates: Sequence[Signed]) -> Sequence[Signed]:
        if not candidates:
            problems = self._collateral.problems
            raise StepFailed(f"none is given{f' ({problems[0]})' if problems else ''}")
        return candidates

    def _tell(self, what: str, level: PlatformLevel | EnclaveLevel) -> None:
        self.facts[f"{what}_status"] = level.tcb_status
        if level.advisory_ids:
            self.facts[f"{what}_advisories"] = list(level.advisory_ids)


def _not_revoked(what: str, level: PlatformLevel | EnclaveLevel) -> str:
    """A level's status as a reason; whether the policy accepts it is judged with all the others together."""
    if level.tcb_status == STATUS_REVOKED:
        raise StepFailed(f"{what}: {level.tcb_status}")
    return f"{what}: {level.tcb_status}, level of {level.tcb_date:%Y-%m-%d}"
