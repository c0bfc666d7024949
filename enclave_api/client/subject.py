"""The SDK for data subjects and whoever may look for them: what was disclosed, to whom, out of which budget."""

from dataclasses import dataclass

from heixia.consent.v1 import consent_pb2 as pb
from heixia.consent.v1 import consent_pb2_grpc

from enclave_api.client.connection import Client


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


class Subject(Client):
    """A data subject, or an authority that registered a consent of it."""

    def disclosure(self, subject: str) -> list[Disclosure]:
        """What was disclosed about a subject, newest year first; a subject may ask about itself alone."""
        return ask_disclosure(self, subject)


def ask_disclosure(client: Client, subject: str) -> list[Disclosure]:
    """Asks as any client; for an auditor an empty `subject` is all of them together."""
    stub = consent_pb2_grpc.ConsentServiceStub(client.channel)
    answer = client.call(stub.GetSubjectDisclosure, pb.GetSubjectDisclosureRequest(subject=subject))
    return [Disclosure(d.institution, d.year, d.bits_milli, d.budget_milli, d.subjects) for d in answer.disclosures]
