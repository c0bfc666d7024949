"""The SDK for banks: verify the enclave, seal, submit, approve, promote.

with Bank.connect("127.0.0.1:7443", "clients/institution-zhongyuan-alice") as alice:
    fields = alice.fields(["tax.declaration.sales_12m", ...])
    model = from_lightgbm(booster, fields)
    offer = Offer("zhongyuan/quick-loan", levels=[0, 50_000, 100_000], rules=rules_yaml)
    key = alice.verify_enclave(Policy(simulated=UnsafeAcceptSimulated())).recipient()
    version = alice.submit(alice.seal(model, offer, key, samples))
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from heixia.attestation.v1 import attestation_pb2, attestation_pb2_grpc
from heixia.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from heixia.registry.v1 import registry_pb2 as pb
from heixia.registry.v1 import registry_pb2_grpc

from audit.event import format_time
from enclave_api.attestation.evidence import NONCE_BYTES, Evidence
from enclave_api.attestation.hardware import Material
from enclave_api.attestation.policy import Policy
from enclave_api.attestation.verify import Verdict, verify_evidence
from enclave_api.client.connection import UPLOAD_TIMEOUT_S
from enclave_api.client.new_rules import NewRules, declared
from enclave_api.client.server_certificate import key_hash
from enclave_api.client.version_life import VersionLife
from enclave_api.errors import ConnectionFailed, EvidenceRefused
from enclave_api.wire_limits import CHUNK_BYTES_MAX
from model_registry.bundle import RecipientKey, Sample, SealedBundle, digests_of, encode_content, seal_bundle
from model_registry.convert import Converted, FieldSpec
from model_registry.manifest import Manifest, make_manifest, sign_manifest
from model_registry.rules import compile_rules
from model_registry.rules.cases import check_rules
from sandbox.gate import snap

Row = Mapping[str, float | int | bool | str | None]
NO_MATERIAL = Material()


@dataclass(frozen=True)
class Offer:
    """What a product promises: its grid of limits, the rules, how long a limit and the data hold."""

    product: str
    levels: Sequence[int]
    rules: str = ""
    limit_valid_days: int = 30
    data_max_age_days: int = 400
    comment: str = ""


@dataclass(frozen=True)
class Asked:
    """Evidence as it came, the nonce it was asked with, and the key (`tls_key_hash`) of the connection it came by."""

    evidence: Evidence
    nonce: bytes
    tls_key_hash: str


def own_limits(offer: Offer, fields: Sequence[FieldSpec]) -> Callable[[Row, float], int]:
    """How the bank computes a limit itself: its model's score, then its rules, then the grid.

    Args:
        offer: rules and levels; the rules are compiled once.
        fields: the model's fields.

    Returns:
        (row, score) → limit in yuan; the row's values by full field name, None or absent = missing, the score of the
        bank's own, native model.

    Raises:
        RulesInvalid: the rules do not compile.
    """
    rules = compile_rules(offer.rules.encode(), _kinds(fields), _codes(fields))
    numbers = {f.name for f in fields if f.type == "number"}

    def limit(row: Row, score: float) -> int:
        # 5 is 5.0 in a bank's own row; the vault hands out nothing but floats for numbers
        typed = {n: float(v) if n in numbers and isinstance(v, int) else v for n, v in row.items()}
        amount = rules.limit(score, typed)
        return snap(0.0 if amount is None else amount, offer.levels)

    return limit


def check_offer(offer: Offer, fields: Sequence[FieldSpec]) -> None:
    """Compiles an offer's rules and runs their cases over its levels; raises RulesInvalid, RulesCaseFailed."""
    kinds, codes = _kinds(fields), _codes(fields)
    check_rules(offer.rules.encode(), kinds, codes, lambda yuan: snap(yuan, offer.levels))


def _kinds(fields: Sequence[FieldSpec]) -> dict[str, str]:
    return {field.name: field.type for field in fields}


def _codes(fields: Sequence[FieldSpec]) -> dict[str, Sequence[str]]:
    return {field.name: field.codes for field in fields}


def vector_of(fields: Sequence[FieldSpec], row: Row) -> tuple[float, ...]:
    """A row in manifest order: NaN = missing, category = index in its code list, boolean = 0/1."""
    return tuple(_number(field, row.get(field.name)) for field in fields)


def _number(field: FieldSpec, value: float | int | bool | str | None) -> float:
    if value is None:
        return math.nan
    return float(field.codes.index(value)) if isinstance(value, str) else float(value)


class Bank(VersionLife):
    """A person of an institution."""

    def verify_enclave(
        self, policy: Policy, *, at: datetime | None = None, material: Material = NO_MATERIAL
    ) -> Verdict:
        """Asks for fresh evidence and checks it; `recipient()` of the verdict is the key to seal to.

        Args:
            policy: what must hold.
            at: the time to judge by; None = now.
            material: certificates, revocation lists and collateral of the bank's own.

        Raises:
            ConnectionFailed, CredentialsMissing, Refused.
            EvidenceRefused: the server changed its certificate between the handshake and the channel.
        """
        asked = self.ask_evidence()
        time = at or datetime.now(UTC)
        return verify_evidence(
            asked.evidence, asked.nonce, policy, at=time, tls_key_hash=asked.tls_key_hash, material=material
        )

    def ask_evidence(self) -> Asked:
        """Fresh evidence, not judged yet; the channel is pinned to the certificate that it came under."""
        certificate, nonce = self.pin(), os.urandom(NONCE_BYTES)
        stub = attestation_pb2_grpc.AttestationServiceStub(self.channel)
        try:
            answer = self.call(stub.GetEvidence, attestation_pb2.GetEvidenceRequest(nonce=nonce))
        except ConnectionFailed as error:
            if "CERTIFICATE_VERIFY_FAILED" not in str(error):
                raise
            reason = "TLS key = connection: the server's certificate changed between the handshake and the channel"
            raise EvidenceRefused("pinned", public=reason) from error
        return Asked(_evidence(answer.evidence), nonce, key_hash(certificate))

    def fields(self, names: Sequence[str]) -> list[FieldSpec]:
        """What the catalogue says of the named fields; raises Refused where there is none."""
        stub = catalog_pb2_grpc.CatalogServiceStub(self.channel)
        known: dict[str, catalog_pb2.Field] = {}
        for dataset in dict.fromkeys(name.rpartition(".")[0] for name in names):
            answer = self.call(stub.GetDataset, catalog_pb2.GetDatasetRequest(name=dataset))
            known.update({field.name: field for field in answer.dataset.fields})
        return [FieldSpec.of(name, known) for name in names]

    def seal(
        self,
        model: Converted,
        offer: Offer,
        recipient: RecipientKey,
        samples: Sequence[Sample] = (),
        *,
        evidence_policy: str | None = None,
    ) -> SealedBundle:
        """Signs a manifest and seals model, rules and parity samples to the enclave.

        Args:
            model: the model.
            offer: what the product promises.
            recipient: of a verdict.
            samples: rows with the bank's own limits.
            evidence_policy: SHA-256, hex, of the policy file that the enclave was judged by; the manifest names it.

        Raises:
            ManifestInvalid, RulesInvalid, RulesCaseFailed, BundleInvalid: before anything is sent.
        """
        check_offer(offer, model.fields)
        content = encode_content(model.onnx, offer.rules.encode(), samples)
        manifest = draft_manifest(model, offer, recipient, content, evidence_policy)
        return seal_bundle(content, sign_manifest(manifest, self.credentials.signing_key()), [recipient])

    def submit(self, bundle: SealedBundle) -> pb.Version:
        """Uploads a sealed bundle and waits for its inspection; raises Refused with the reasons."""
        stub = registry_pb2_grpc.RegistryServiceStub(self.channel)
        return self.call(stub.SubmitVersion, _parts(bundle), UPLOAD_TIMEOUT_S).version

    def replace_rules(self, version: str, new: NewRules, recipient: RecipientKey) -> pb.Version:
        """Seals new rules for a version's model and submits them as the product's next version, to be approved as any.

        Args:
            version: whose model they are for, `<institution>/<product>@<n>`.
            new: the rules, and what else changes.
            recipient: the enclave's key.

        Raises:
            RulesInvalid, RulesCaseFailed, ManifestInvalid, SignatureInvalid, BundleInvalid: before anything is sent.
            Refused: with the reasons.
        """
        told = self.call(self._stub.GetVersion, pb.GetVersionRequest(version=version))
        key = self.credentials.signing_key()
        before = declared(told.manifest_jws, version, key)
        fields = self.fields(before.field_names)
        kinds, codes, levels = _kinds(fields), _codes(fields), new.levels or before.levels
        check_rules(new.rules.encode(), kinds, codes, lambda yuan: snap(yuan, levels))
        bundle = seal_bundle(new.content(), sign_manifest(new.manifest(before, recipient), key), [recipient])
        request = pb.ReplaceRulesRequest(version=version, header=_header(bundle), ciphertext=bundle.ciphertext)
        return self.call(self._stub.ReplaceRules, request, UPLOAD_TIMEOUT_S).version


def _evidence(wire: attestation_pb2.Evidence) -> Evidence:
    """Evidence from the wire; nothing in it is believed before it is verified."""
    return Evidence(wire.claims, wire.format, wire.report, tuple(wire.certificates))


def draft_manifest(
    model: Converted, offer: Offer, recipient: RecipientKey, content: bytes, evidence_policy: str | None = None
) -> Manifest:
    """The manifest of a model under an offer, ready to sign; raises ManifestInvalid."""
    return make_manifest(
        schema="heixia.manifest/v1",
        product=offer.product,
        fields=[{"name": f.name, "type": f.type, "missing": f.missing} for f in model.fields],
        inputs=[i.model_dump() for i in model.inputs],
        output=model.output,
        levels=list(offer.levels),
        limit_valid_days=offer.limit_valid_days,
        data_max_age_days=offer.data_max_age_days,
        digests=digests_of(model.onnx, offer.rules.encode(), content),
        evidence_policy=evidence_policy,
        recipients=[recipient.key_id],
        created=format_time(datetime.now(UTC)),
        comment=offer.comment,
    )


def _parts(bundle: SealedBundle) -> Iterator[pb.SubmitVersionRequest]:
    yield pb.SubmitVersionRequest(header=_header(bundle))
    for start in range(0, len(bundle.ciphertext), CHUNK_BYTES_MAX):
        yield pb.SubmitVersionRequest(chunk=bundle.ciphertext[start : start + CHUNK_BYTES_MAX])


def _header(bundle: SealedBundle) -> pb.BundleHeader:
    return pb.BundleHeader(
        manifest_jws=bundle.manifest_jws, sealed_keys=bundle.sealed_keys, ciphertext_bytes=len(bundle.ciphertext)
    )
