"""The SDK for data subjects and whoever may look for them: consents, uses, receipts, disclosure, erasure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from heixia.consent.v1 import consent_pb2 as pb
from heixia.consent.v1 import consent_pb2_grpc

from audit.receipt import Opening, Receipt
from enclave_api.client.connection import Client
from enclave_api.errors import CredentialsMissing

PAGE = 100  # uses asked for at once

_OUTCOMES = {
    pb.USE_OUTCOME_OFFER: "offer",
    pb.USE_OUTCOME_NO_OFFER: "no offer",
    pb.USE_OUTCOME_UNKNOWN: "unknown",
}


@dataclass(frozen=True)
class Disclosure:
    """Thousandths of a bit that an institution was told in a calendar year, and may be told, about so many subjects."""

    institution: str
    year: int
    spent_milli: int
    budget_milli: int
    subjects: int

    @property
    def left_milli(self) -> int:
        """What may still be told."""
        return max(0, self.budget_milli - self.spent_milli)


@dataclass(frozen=True)
class Use:
    """One use of a subject's data. `outcome`: `offer`, `no offer`, or `unknown` where the subject was erased since."""

    at: datetime
    institution: str
    product: str
    purpose: str
    departments: tuple[str, ...]
    outcome: str
    bits_milli: int
    consent_id: str
    index: int


@dataclass(frozen=True)
class Uses:
    """Some uses, newest first; `token` is where they ended, empty = no more. The log knows nothing before `since`."""

    uses: tuple[Use, ...]
    token: str
    total: int
    since: datetime


@dataclass(frozen=True)
class Erased:
    """An erasure: its entry, and whether the key is in no file of the database any more (otherwise soon)."""

    index: int
    removed: bool


class Subject(Client):
    """A data subject, or an authority that registered a consent of it. A subject may ask about itself alone."""

    def own_name(self) -> str:
        """The subject that this client's certificate is of; raises CredentialsMissing where it is no subject's."""
        try:
            made = x509.load_pem_x509_certificate((self.credentials.folder / "cert.pem").read_bytes())
            names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
        except (OSError, ValueError, x509.ExtensionNotFound) as error:
            public = f"{self.credentials.folder} has no usable cert.pem"
            raise CredentialsMissing("certificate", public=public) from error
        _, role, name = (*uri.removeprefix("spiffe://").split("/"), "", "")[:3]
        if role != "subject":
            raise CredentialsMissing("role", public=f"none of a subject in {self.credentials.folder}; name the subject")
        return name

    def consents(self, subject: str) -> list[pb.SubjectConsent]:
        """Every consent of a subject, newest first."""
        return list(self.call(self._stub.ListSubjectConsents, pb.ListSubjectConsentsRequest(subject=subject)).consents)

    def uses(self, subject: str, *, size: int = PAGE, token: str = "") -> Uses:
        """A page of the uses of a subject's data; at most 500."""
        request = pb.ListSubjectUsesRequest(subject=subject, page_size=size, page_token=token)
        answer = self.call(self._stub.ListSubjectUses, request)
        since = answer.since.ToDatetime(UTC)
        return Uses(tuple(map(_use, answer.uses)), answer.next_page_token, answer.total, since)

    def all_uses(self, subject: str) -> Iterator[Use]:
        """Every use, newest first, a page at a time."""
        page = self.uses(subject)
        yield from page.uses
        while page.token:
            page = self.uses(subject, token=page.token)
            yield from page.uses

    def receipt(self, subject: str, index: int) -> Receipt:
        """The receipt of one use, under today's checkpoint; opened for the subject itself alone, until it is erased."""
        answer = self.call(self._stub.GetSubjectReceipt, pb.GetSubjectReceiptRequest(subject=subject, index=index))
        shown = answer.HasField("opening")
        opening = Opening(answer.opening.salt, answer.opening.limit_yuan) if shown else None
        return Receipt(answer.entry, answer.proof, opening)

    def revoke(self, consent_id: str, reason: str = "subject-request") -> pb.RevokeConsentResponse:
        """Revokes a consent of one's own; returns when durable."""
        return self.call(self._stub.RevokeConsent, pb.RevokeConsentRequest(consent_id=consent_id, reason=reason))

    def erase(self, subject: str) -> Erased:
        """Destroys what was kept about a subject: limits, salts, consent texts. Not to be undone."""
        answer = self.call(self._stub.EraseSubject, pb.EraseSubjectRequest(subject=subject))
        return Erased(answer.index, answer.removed)

    def disclosure(self, subject: str) -> list[Disclosure]:
        """What was disclosed about a subject, newest year first."""
        return ask_disclosure(self, subject)

    @property
    def _stub(self) -> consent_pb2_grpc.ConsentServiceStub:
        return consent_pb2_grpc.ConsentServiceStub(self.channel)


def _use(wire: pb.Use) -> Use:
    return Use(
        at=wire.at.ToDatetime(UTC),
        institution=wire.institution,
        product=wire.product,
        purpose=wire.purpose,
        departments=tuple(wire.departments),
        outcome=_OUTCOMES.get(wire.outcome, "unknown"),
        bits_milli=wire.bits_milli,
        consent_id=wire.consent_id,
        index=wire.index,
    )


def ask_disclosure(client: Client, subject: str) -> list[Disclosure]:
    """Asks as any client; for an auditor an empty `subject` is all of them together."""
    stub = consent_pb2_grpc.ConsentServiceStub(client.channel)
    answer = client.call(stub.GetSubjectDisclosure, pb.GetSubjectDisclosureRequest(subject=subject))
    return [Disclosure(d.institution, d.year, d.bits_milli, d.budget_milli, d.subjects) for d in answer.disclosures]
