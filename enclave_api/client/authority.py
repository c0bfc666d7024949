"""The SDK for consent authorities: sign what a company consented to, register it, revoke it."""

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from heixia.consent.v1 import consent_pb2 as pb
from heixia.consent.v1 import consent_pb2_grpc

from enclave_api.client.connection import Client
from model_registry.signing import SigningKey, thumbprint
from sandbox.consent import Consent, make_consent, sign_consent

NOTICE_TEXT = (
    "本企业授权郑州市政务数据平台在隔离环境中使用下列部门数据，由所列银行的信用模型计算一次预授信额度；"
    "银行只得到额度，不得到任何数据。授权可随时撤回。"
)


PURPOSES = {
    "precredit": "计算贷款预授信额度 / to compute a pre-approved credit limit",
    "monitoring": "贷后定期重算额度 / to compute the limit anew at intervals while the loan runs",
}


@dataclass(frozen=True)
class Grant:
    """What a company consents to, in the words of a form; the rest of the claims follow from it.

    `frequency`: at most so many uses in a unit of the calendar, such as ("month", 31); `monitoring` must have one.
    `replaces`: the id of a consent that this one ends.
    """

    subject: str
    institution: str
    products: Sequence[str]
    names: Sequence[str]
    days: int = 31
    max_uses: int = 1
    purpose: str = "precredit"
    frequency: tuple[str, int] | None = None
    replaces: str | None = None


def draft_consent(grant: Grant, authority: str, now: datetime, subject_key: SigningKey | None = None) -> Consent:
    """The claims for a grant, ready to sign; raises ConsentInvalid where a cap is exceeded."""
    optional: dict[str, Any] = {
        "frequency": grant.frequency and {"unit": grant.frequency[0], "value": grant.frequency[1]},
        "replaces": grant.replaces,
        "cnf": subject_key and {"jkt": thumbprint(subject_key)},
    }
    begin = int(now.timestamp())
    departments = sorted({name.partition(".")[0] for name in grant.names})
    return make_consent(
        schema="heixia.consent/v1",
        jti=str(uuid.uuid4()),
        iss=authority,
        sub=grant.subject,
        iat=begin,
        nbf=begin,
        exp=int((now + timedelta(days=grant.days)).timestamp()),
        purpose={"code": grant.purpose, "text": PURPOSES.get(grant.purpose, grant.purpose)},
        institution=grant.institution,
        products=list(grant.products),
        data=[
            {
                "department": department,
                "names": sorted(n for n in set(grant.names) if n.startswith(department + ".")),
                "why": "模型输入 / input of the institution's model",
            }
            for department in departments
        ],
        max_uses=grant.max_uses,
        fetch="one-time" if grant.max_uses == 1 and grant.frequency is None else "periodic",
        notice={
            "id": "precredit-notice-1",
            "sha256": hashlib.sha256(NOTICE_TEXT.encode()).hexdigest(),
            "language": "zh-CN",
            "method": "app",
            "shown_at": begin,
        },
        separate_consents=[f"{department} → {grant.institution}" for department in departments],
        withdraw="同一渠道随时撤回 / at any time, where it was given",
        automated_decision={"used": True, "contest": "向银行申请人工复核 / ask the bank for a human review"},
        **{name: value for name, value in optional.items() if value is not None},
    )


class Authority(Client):
    """A consent authority."""

    def sign(self, grant: Grant, now: datetime, subject_key: SigningKey | None = None) -> bytes:
        """Signs a consent for a grant; its issuer is the organisation that the signing key is named after.

        Where the company signs too, with a key of its own, pass that key.
        """
        key = self.credentials.signing_key()
        authority = str(key.kid).rpartition("/")[0]
        return sign_consent(draft_consent(grant, authority, now, subject_key), key, subject_key)

    def register(self, consent_jws: bytes) -> pb.Consent:
        """Registers a signed consent."""
        return self.call(self._stub.RegisterConsent, pb.RegisterConsentRequest(consent_jws=consent_jws)).consent

    def get(self, consent_id: str) -> pb.Consent:
        """One consent of this authority's."""
        return self.call(self._stub.GetConsent, pb.GetConsentRequest(consent_id=consent_id)).consent

    def revoke(self, consent_id: str, reason: str) -> pb.RevokeConsentResponse:
        """Revokes; returns when durable."""
        return self.call(self._stub.RevokeConsent, pb.RevokeConsentRequest(consent_id=consent_id, reason=reason))

    def pause(self, consent_id: str, reason: str) -> pb.Consent:
        """Pauses."""
        request = pb.PauseConsentRequest(consent_id=consent_id, reason=reason)
        return self.call(self._stub.PauseConsent, request).consent

    def resume(self, consent_id: str, reason: str) -> pb.Consent:
        """Resumes."""
        request = pb.ResumeConsentRequest(consent_id=consent_id, reason=reason)
        return self.call(self._stub.ResumeConsent, request).consent

    @property
    def _stub(self) -> consent_pb2_grpc.ConsentServiceStub:
        return consent_pb2_grpc.ConsentServiceStub(self.channel)
