"""The company's own signature beside its authority's, at a real server: where it is asked for, whose is not it."""

import json
from pathlib import Path

import pytest
import rfc8785
from joserfc.jwk import ECKey

from enclave_api.cli.example import LEVELS
from model_registry.signing import SigningKey, own_key, sign_general, thumbprint
from sandbox.consent import TYP
from tests.integration.conftest import Stage
from tests.integration.test_bad_consents import ask, claims
from tests.room import refused


def both(stage: Stage, company: int, key: SigningKey, **changes: object) -> bytes:
    """A consent with both signatures; `cnf` names the key unless told otherwise."""
    made = claims(stage, company, **{"cnf": {"jkt": thumbprint(key)}, **changes})
    left_out = {name: value for name, value in made.items() if value is not None}
    return sign_general(rfc8785.dumps(left_out), [stage.room.office.credentials.signing_key()], TYP, key)


def require(stage: Stage, asked: str) -> None:
    """Restarts the server with another setting."""
    path = stage.room.home.path / "heixia.toml"
    stage.room.stop()
    other = {"required": "optional", "optional": "required"}[asked]
    path.write_text(path.read_text().replace(f'subject_signature = "{other}"', f'subject_signature = "{asked}"'))
    stage.room.start()
    assert f'subject_signature = "{asked}"' in path.read_text()


@pytest.mark.parametrize("key", [own_key(), ECKey.generate_key("P-256")], ids=["Ed25519", "P-256"])
def test_a_companys_own_signature_counts(stage: Stage, key: SigningKey) -> None:
    """Registered and used, with a key of either kind; neither the log nor the server's words have the key."""
    consent_id = stage.room.office.register(both(stage, 1, key)).consent_id
    assert ask(stage, 1, consent_id).yuan in LEVELS
    text = json.dumps(stage.room.entries()) + stage.room.log.read_text()
    assert thumbprint(key) not in text
    assert str(key.as_dict()["x"]) not in text


def test_anothers_signature_is_not_the_companys(stage: Stage) -> None:
    """`cnf` of another key, `cnf` without a signature, a signature without `cnf`, a signature over other claims."""
    key, other = own_key(), own_key()
    mine = json.loads(both(stage, 1, key))
    theirs = json.loads(both(stage, 2, key))
    lonely = {**mine, "signatures": mine["signatures"][:1]}
    mixed = {**mine, "signatures": [mine["signatures"][0], theirs["signatures"][1]]}
    turned = {**mine, "signatures": mine["signatures"][::-1]}
    for raw in (
        both(stage, 1, key, cnf={"jkt": thumbprint(other)}),
        both(stage, 1, key, cnf=None),
        *(json.dumps(shape).encode() for shape in (lonely, mixed, turned)),
    ):
        with stage.room.gains(), refused("consent_invalid"):
            stage.room.office.register(raw)


def test_where_it_is_asked_for_nothing_goes_without(stage: Stage) -> None:
    """Under "required" an authority's signature alone registers nothing, and permits no use of what was registered."""
    alone, own = stage.consent(3, uses=2), stage.room.office.register(both(stage, 4, own_key())).consent_id
    require(stage, "required")
    with stage.room.gains("refusal"), refused("consent_invalid"):
        ask(stage, 3, alone)
    with stage.room.gains(), refused("consent_invalid"):
        stage.consent(5)
    assert ask(stage, 4, own).yuan in LEVELS
    assert ask(stage, 6, stage.room.office.register(both(stage, 6, own_key())).consent_id).yuan in LEVELS
    require(stage, "optional")
    assert ask(stage, 3, alone).yuan in LEVELS


def test_tightened_caps_hold_for_what_was_registered_before(stage: Stage, tmp_path: Path) -> None:
    """A setting may tighten a cap, for old consents too; one that would widen it is refused at the start."""
    long, short = stage.consent(7, days=31), stage.consent(8, days=5)
    path = stage.room.home.path / "heixia.toml"
    text = path.read_text()
    stage.room.stop()
    path.write_text(text.replace("precredit_days_max = 31", "precredit_days_max = 10"))
    stage.room.start()
    with stage.room.gains("refusal"), refused("consent_invalid"):
        ask(stage, 7, long)
    with stage.room.gains(), refused("consent_invalid"):
        stage.consent(9, days=11)
    assert ask(stage, 8, short).yuan in LEVELS
    stage.room.stop()
    for setting, cap in (("precredit_days_max", 31), ("precredit_uses_max", 5), ("monitoring_days_max", 365)):
        path.write_text(text.replace(f"{setting} = {cap}", f"{setting} = {cap + 1}"))
        with pytest.raises(RuntimeError, match=setting):
            stage.room.start()
    path.write_text(text)
    stage.room.start()
