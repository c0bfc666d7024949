"""New rules for a model that the enclave has: a manifest like the last one, its digests and terms anew."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from joserfc.jwk import KeySet

from audit.event import format_time
from model_registry.bundle import RecipientKey, Sample, encode_content
from model_registry.convert import Converted
from model_registry.errors import ManifestInvalid
from model_registry.manifest import Digests, Manifest, decode_manifest, make_manifest, payload_of, verify_manifest
from model_registry.signing import SigningKey, key_of

LEVELS_MAX = 1024  # what an operator may allow at most; the enclave judges by its own setting


@dataclass(frozen=True)
class NewRules:
    """What changes. Samples are rows with the limits that the bank computed under the new rules.

    Attributes:
        rules: YAML; empty = no rules, the model's output is the limit.
        levels: the grid; None = as before.
        samples: parity samples.
        comment: for the manifest; None = as before.
        model: the bank's own copy of the model and its fields, to be compared with what the enclave says; None = the
            enclave, whose evidence was verified, is believed.
        evidence_policy: SHA-256, hex, of the policy file that the enclave was judged by this time.
    """

    rules: str
    levels: Sequence[int] | None = None
    samples: Sequence[Sample] = ()
    comment: str | None = None
    model: Converted | None = None
    evidence_policy: str | None = None

    def content(self) -> bytes:
        """The content to seal; raises BundleInvalid."""
        return encode_content(b"", self.rules.encode(), self.samples)

    def manifest(self, before: Manifest, recipient: RecipientKey) -> Manifest:
        """The manifest to sign, over `content`.

        Raises:
            ManifestInvalid: a member is wrong, or the bank's own copy differs from what it is to be for.
        """
        if self.model is not None:
            _compare(self.model, before)
        digests = Digests(
            bundle=hashlib.sha256(self.content()).hexdigest(),
            model=before.digests.model,
            rules=hashlib.sha256(self.rules.encode()).hexdigest(),
        )
        changed: dict[str, object] = {
            "digests": digests.model_dump(),
            "recipients": [recipient.key_id],
            "created": format_time(datetime.now(UTC)),
            "evidence_policy": self.evidence_policy,
        }
        if self.levels is not None:
            changed["levels"] = list(self.levels)
        if self.comment is not None:
            changed["comment"] = self.comment
        return make_manifest(LEVELS_MAX, **{**before.model_dump(by_alias=True), **changed})


def declared(jws: str, version: str, key: SigningKey) -> Manifest:
    """The manifest of a version as the enclave tells it; verified where the caller's own key signed it.

    Raises:
        SignatureInvalid, ManifestInvalid: it is none, or another product's.
    """
    manifest = decode_manifest(payload_of(jws), LEVELS_MAX)
    if key_of(jws) == key.kid:
        manifest = verify_manifest(jws, KeySet([key]), LEVELS_MAX)
    if manifest.product != version.rpartition("@")[0]:
        raise ManifestInvalid("product", public="the enclave told another product's manifest")
    return manifest


def _compare(model: Converted, before: Manifest) -> None:
    own = {
        "fields": [(f.name, f.type, f.missing) for f in model.fields],
        "inputs": [i.model_dump() for i in model.inputs],
        "output": model.output.model_dump(),
        "model": hashlib.sha256(model.onnx).hexdigest(),
    }
    told = {
        "fields": [(f.name, f.type, f.missing) for f in before.fields],
        "inputs": [i.model_dump() for i in before.inputs],
        "output": before.output.model_dump(),
        "model": before.digests.model,
    }
    if differing := [name for name in own if own[name] != told[name]]:
        public = f"{', '.join(differing)}: your files say other than the version's manifest"
        raise ManifestInvalid("own copy", public=public)
