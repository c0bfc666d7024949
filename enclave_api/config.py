"""Frozen settings, read once from the home's `heixia.toml`. Every limit has its unit in its name and a reason."""

import hashlib
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, Self

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from enclave_api.errors import HomeInvalid
from model_registry.manifest import LEVELS_MAX, explain
from sandbox.consent import CAPS, Terms

GRACE_S = 10.0  # calls in flight at a stop get this long to finish

# The text that `heixia init` writes; the comments are the operator's documentation.
TEMPLATE = """\
# Settings of this enclave. Every change is visible in its evidence (configuration digest).
trust_domain = "{trust_domain}"      # of client certificates: spiffe://<trust domain>/<role>/<organisation>
log_origin = "{log_origin}"          # name of the log: first line of every checkpoint; never change it

evidence = "simulated"         # no hardware vouches; "tsm": a report of SEV-SNP or TDX through Linux' configfs-tsm
isolation = "one-shot"         # a process for each call; "warm": one for many calls of a version, which is weaker
release_quantum_ms = 50        # answers leave at multiples of this, and a little later by chance: time tells no data
score_deadline_ms = 20         # a model has exactly this long in every call, whatever the data; at most half of that
budget_bits_per_year = 64      # disclosed about one company to one institution in a calendar year, at most
levels_max = 64                # of a product's grid: 6 bits an answer
precredit_days_max = 31        # caps of consents, asked at registration and at every use; they can only be tightened
precredit_uses_max = 5
monitoring_days_max = 365
subject_signature = "optional" # "required": a consent must carry the company's own signature beside the authority's
rpcs_in_flight_max = 256       # further calls are refused at once instead of queueing without end
fsck_hour_utc = 18             # the whole log is checked daily at this hour, 0 to 23, or "off"; 18 = 02:00 in China
"""


class Settings(BaseModel):
    """What the operator may set."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    trust_domain: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,253}$")]
    log_origin: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9./-]{0,200}$")]
    evidence: Literal["simulated", "tsm"] = "simulated"
    isolation: Literal["one-shot", "warm"] = "one-shot"
    release_quantum_ms: int = Field(50, ge=0, le=1000)
    score_deadline_ms: int = Field(20, ge=10, le=60_000)
    budget_bits_per_year: int = Field(64, ge=1, le=100_000)
    levels_max: int = Field(LEVELS_MAX, ge=2, le=1024)
    precredit_days_max: int = Field(CAPS["precredit"].days, ge=1, le=CAPS["precredit"].days)
    precredit_uses_max: int = Field(CAPS["precredit"].uses, ge=1, le=CAPS["precredit"].uses)
    monitoring_days_max: int = Field(CAPS["monitoring"].days, ge=1, le=CAPS["monitoring"].days)
    subject_signature: Literal["optional", "required"] = "optional"
    rpcs_in_flight_max: int = Field(256, ge=1, le=10_000)
    fsck_hour_utc: Annotated[int, Field(ge=0, le=23)] | Literal["off"] = 18

    @model_validator(mode="after")
    def _slot_fits(self) -> Self:
        # a late model's end still shows in what leaves soon after (docs/adr/0008-one-slot-a-call.md)
        if 0 < self.release_quantum_ms < 2 * self.score_deadline_ms:
            raise ValueError("score_deadline_ms must be at most half of release_quantum_ms, or that one 0")
        return self

    @property
    def terms(self) -> Terms:
        """What is asked of consents."""
        precredit = replace(CAPS["precredit"], days=self.precredit_days_max, uses=self.precredit_uses_max)
        monitoring = replace(CAPS["monitoring"], days=self.monitoring_days_max)
        return Terms({"precredit": precredit, "monitoring": monitoring}, self.subject_signature == "required")

    @property
    def digest(self) -> str:
        """SHA-256, hex, of the settings as RFC 8785 JSON; part of the evidence."""
        return hashlib.sha256(rfc8785.dumps(self.model_dump(mode="json"))).hexdigest()


def load_settings(path: Path) -> Settings:
    """Reads `heixia.toml`; raises HomeInvalid naming the setting at fault."""
    try:
        return Settings.model_validate(tomllib.loads(path.read_text()))
    except OSError as error:
        raise HomeInvalid("no settings", public=f"{path} is missing; make a home with `heixia init`") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HomeInvalid("settings", public=f"{path.name}: {error}") from error
    except ValidationError as error:
        raise HomeInvalid("settings", public=f"{path.name}: {explain(error)}") from error
