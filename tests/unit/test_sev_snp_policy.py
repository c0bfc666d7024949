"""What a policy can ask of a made-up SEV-SNP machine, each member alone."""

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.snp_machine import CHIP, MEASUREMENT, TCB, Machine, judged

GOOD = Machine()


@pytest.mark.parametrize(
    ("policy", "steps"),
    [
        ({"chips": [CHIP.hex()]}, set()),
        ({"chips": ["ab" * 64]}, {"chip accepted"}),
        ({"minimum_guest_svn": 7}, set()),
        ({"minimum_guest_svn": 8}, {"guest policy accepted"}),
        ({"host_data": "c0" * 32}, set()),
        ({"host_data": "c1" * 32}, {"guest policy accepted"}),
        ({"id_key_digests": ["e0" * 48]}, set()),
        ({"id_key_digests": ["e1" * 48]}, {"guest policy accepted"}),
        ({"require_no_smt": True}, set()),
        ({"require_platform": ["ecc"]}, {"guest policy accepted"}),
        ({"require_mitigations": 1}, {"guest policy accepted"}),
        ({"require_crl": True}, {"not revoked"}),
        ({"measurements": ["00" * 48]}, {"measurement accepted"}),
        ({"minimum_tcb": {"Milan": {**TCB, "microcode": 214}}}, {"TCB floor met"}),
        ({"minimum_tcb": {"Milan": {**TCB, "snp": 0}}}, set()),
        ({"minimum_tcb": {"Genoa": TCB}}, {"TCB floor met"}),
    ],
)
def test_the_policy_is_what_is_asked(policy: dict[str, Any], steps: set[str]) -> None:
    """Each member alone."""
    assert judged(GOOD, **policy) == steps


@pytest.mark.parametrize(
    ("members", "policy"),
    [
        ({0x30: b"\x02"}, {"vmpl_max": 2}),
        ({0x0A: b"\x06"}, {"accept_migration_agent": True}),
        ({0x40: b"\x24"}, {"require_platform": ["ecc", "alias_check"]}),
        ({0x40: b"\x40"}, {}),  # a bit that later specifications name
    ],
)
def test_what_the_policy_allows_passes(members: dict[int, bytes], policy: dict[str, Any]) -> None:
    """The same report is refused, or something is missing, without that member."""
    assert judged(replace(GOOD, members=members), **policy) == set()


def test_smt_is_refused_by_the_guest_s_policy_and_by_the_machine() -> None:
    """Either is enough."""
    for members in ({0x0A: b"\x03"}, {0x40: b"\x01"}):
        machine = replace(GOOD, members=members)
        assert judged(machine) == set()
        assert judged(machine, require_no_smt=True) == {"guest policy accepted"}


def test_mitigations_are_asked_of_both_vectors() -> None:
    """LAUNCH_MIT_VECTOR has bits 0 and 1, CURRENT_MIT_VECTOR also 2."""
    machine = Machine(version=5)
    assert judged(machine, require_mitigations=3) == set()
    assert judged(machine, require_mitigations=4) == {"guest policy accepted"}


def test_a_vlek_is_accepted_by_provider() -> None:
    """It names no chip: a policy of chips alone refuses it unless the report does."""
    machine = Machine(kind="VLEK")
    assert judged(machine, csp_ids=["cloud.example"]) == set()
    assert judged(machine, csp_ids=["cloud.example.org"]) == {"chip accepted"}
    assert judged(machine, chips=[CHIP.hex()]) == {"chip accepted"}
    assert judged(replace(machine, chip=CHIP), chips=[CHIP.hex()]) == set()
    assert judged(machine, chips=[CHIP.hex()], csp_ids=["cloud.example"]) == set()


def test_a_vcek_is_refused_where_providers_alone_are_named() -> None:
    """It tells none: a policy that names providers would otherwise ask for nothing."""
    assert judged(GOOD, csp_ids=["cloud.example"]) == {"chip accepted"}
    assert judged(GOOD, chips=[CHIP.hex()], csp_ids=["cloud.example"]) == set()


def test_the_fmc_of_a_turin_counts() -> None:
    """In the floor and in the certificate."""
    machine = Machine("Turin", 5)
    assert judged(machine, minimum_tcb={"Turin": {**machine.tcb, "fmc": 4}}) == {"TCB floor met"}
    assert judged(machine, machine.material(machine.leaf(o3_9=b"\x02\x01\x02"))) == {"certificate matches report"}


@pytest.mark.parametrize(
    "changes",
    [
        {"minimum_tcb": {}},
        {"minimum_tcb": {"Rome": TCB}},
        {"minimum_tcb": {"Milan": {**TCB, "fmc": 1}}},
        {"minimum_tcb": {"Turin": TCB}},
        {"minimum_tcb": {"Milan": {"snp": 1}}},
        {"measurements": []},
        {"roots": []},
        {"measurements": [MEASUREMENT.hex().upper()]},
        {"vmpl_max": 4},
        {"chips": []},
        {"accept_debug": True},
    ],
)
def test_a_policy_that_says_nothing_or_too_much_is_refused(changes: dict[str, Any]) -> None:
    """Empty lists, unknown members and lines, a debug switch."""
    with pytest.raises(ValueError, match="validation error"):
        GOOD.policy(**changes)
