"""Intel's rules for the status of platform, TDX module and quoting enclave."""

import itertools
from typing import Any

import pytest

from enclave_api.attestation.steps import StepFailed
from enclave_api.attestation.tdx_pck import Platform
from enclave_api.attestation.tdx_quote import TdReport, parse_quote
from enclave_api.attestation.tdx_statements import TcbInfo
from enclave_api.attestation.tdx_tcb import check_module, merged, overall_status, platform_level
from enclave_api.attestation.verify_tdx import STATUS
from tests.unit.tdx_machine import (
    COMPONENTS,
    FMSPC,
    SVN10,
    Scene,
    answer,
    body,
    failed,
    level,
    levels,
    module,
    tcb,
    tcb_info,
)

PLATFORM = Platform(FMSPC, "0000", 13, COMPONENTS)
LOWER = (3, 3, *COMPONENTS[2:])
ALL = (
    *("UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded"),
    *("OutOfDate", "OutOfDateConfigurationNeeded", "Revoked"),
)
OUTDATED = {
    "UpToDate": "OutOfDate",
    "SWHardeningNeeded": "OutOfDate",
    "ConfigurationNeeded": "OutOfDateConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded": "OutOfDateConfigurationNeeded",
    "OutOfDate": "OutOfDate",
    "OutOfDateConfigurationNeeded": "OutOfDateConfigurationNeeded",
    "Revoked": "Revoked",
}


def info(**changes: Any) -> TcbInfo:
    """A TCB info as it is read."""
    return TcbInfo.model_validate(tcb_info(**changes))


def report(svn: tuple[int, ...], svn2: tuple[int, ...] | None = None) -> TdReport:
    """A TD report with these first bytes of TEE_TCB_SVN (and of TEE_TCB_SVN2)."""
    changes = {"tee_tcb_svn": bytes((*svn, *[0] * (16 - len(svn))))}
    if svn2:
        changes["tee_tcb_svn2"] = bytes((*svn2, *[0] * (16 - len(svn2))))
    return parse_quote(Scene(version=5, body=body(**changes)).quote).report


def test_statuses_merge_as_intel_says() -> None:
    """Up to date changes nothing, out of date turns the others, revoked ends all; the same for module and QE."""
    for status in ALL:
        assert merged(status, "UpToDate") == status
        assert merged(status, "OutOfDate") == OUTDATED[status]
        assert merged(status, "Revoked") == "Revoked"


def test_merging_never_makes_a_status_better() -> None:
    """A status that parts do not have counts as out of date; none of 49 pairs is up to date unless both are."""
    for status, part in itertools.product(ALL, ALL):
        assert (merged(status, part) == "UpToDate") == (status == part == "UpToDate")


@pytest.mark.parametrize("status", ALL)
def test_every_status_of_a_level_reaches_the_verdict(status: str) -> None:
    """Accepted where the policy names it; Revoked never."""
    scene = Scene(info=answer("tcbInfo", tcb_info(tcbLevels=[level(tcb(COMPONENTS, 13, (5, 0, 3)), status)])))
    if status == "Revoked":
        accepting = scene.but(policy={"tcb_status": tuple(ALL[:-1])})
        assert failed(accepting.verdict()) == ["TCB level met"]
        return
    assert failed(scene.verdict()) == ([] if status == "UpToDate" else [STATUS])
    assert not failed(scene.but(policy={"tcb_status": (status,)}).verdict())


@pytest.mark.parametrize("order", [1, -1])
def test_levels_are_tried_from_the_highest_whatever_their_order(order: int) -> None:
    """The order in the file does not matter."""
    pairs = [level(tcb(COMPONENTS, 13, (5, 0, 3)), "UpToDate"), level(tcb(LOWER, 5, (3, 0, 2)), "OutOfDate")]
    known = info(
        tcbLevels=pairs[::order],
        tdxModuleIdentities=[module(id="TDX_01", tcbLevels=levels((6, "UpToDate"), (2, "OutOfDate"))[::order])],
    )
    assert platform_level(known, PLATFORM, SVN10).tcb_status == "UpToDate"
    found = check_module(report((7, 1, 3)), known)
    assert found is not None
    assert found.tcb_status == "UpToDate"


@pytest.mark.parametrize("number", range(16))
def test_each_component_counts(number: int) -> None:
    """One component below is enough to miss a level, of the CPU and of TDX."""
    ones = (1,) * 16
    known = info(tcbLevels=[level(tcb(ones, 1, ones), "UpToDate")])
    less = tuple(0 if at == number else 1 for at in range(16))
    svn = bytes((1, 0, *[1] * 14))  # of major version 0, whose byte is never 1
    own = info(tcbLevels=[level(tcb(ones, 1, svn), "UpToDate")])
    assert platform_level(own, Platform(FMSPC, "0000", 1, ones), svn)
    with pytest.raises(StepFailed, match=f"component {number + 1} 0 < 1"):
        platform_level(own, Platform(FMSPC, "0000", 1, less), svn)
    if number != 1:
        lower = bytes(value and (at != number) for at, value in enumerate(svn))
        with pytest.raises(StepFailed, match=f"TDX component {number + 1} 0 < 1"):
            platform_level(own, Platform(FMSPC, "0000", 1, ones), lower)
    with pytest.raises(StepFailed, match="PCESVN 0 < 1"):
        platform_level(known, Platform(FMSPC, "0000", 0, ones), bytes(ones))


def test_a_newer_module_is_judged_by_its_own_levels() -> None:
    """From major version 1 on the platform's levels do not ask bytes 0 and 1; the module's identity does."""
    known = info()
    assert platform_level(known, PLATFORM, bytes((2, 1, 3, *[0] * 13))).tcb_status == "UpToDate"
    found = check_module(report((2, 1, 3)), known)
    assert found is not None
    assert found.tcb_status == "OutOfDate"
    assert check_module(report((5, 0, 3)), known) is None


@pytest.mark.parametrize(
    ("identity", "told"),
    [
        (module(mrsigner="01" * 48), "signed by another"),
        (module(attributes="0100000000000000"), "attributes"),
        (module(attributesMask="00" * 8, attributes="0100000000000000"), "attributes"),
        (module(id="TDX_02"), "no TDX module of major version 1"),
    ],
)
def test_the_identity_of_the_version_counts_not_that_of_the_base(identity: dict[str, Any], told: str) -> None:
    """Signer and attributes are those of the identity `TDX_01`."""
    known = info(tdxModuleIdentities=[{"id": "TDX_01", "tcbLevels": levels((1, "UpToDate"))} | identity])
    with pytest.raises(StepFailed, match=told):
        check_module(report((6, 1, 3)), known)


def test_attributes_outside_the_mask_must_be_zero() -> None:
    """A mask says what is compared; what is not compared may not be set either."""
    known = info(tdxModule=module(attributesMask="00" * 8))
    assert check_module(report((5, 0, 3)), known) is None
    strange = parse_quote(Scene(body=body(seam_attributes=b"\x01" + bytes(7))).quote).report
    with pytest.raises(StepFailed, match="SEAMATTRIBUTES"):
        check_module(strange, known)


def test_no_identities_means_no_newer_module() -> None:
    """TCB info without identities knows modules of major version 0 alone."""
    absent = tcb_info()
    del absent["tdxModuleIdentities"]
    with pytest.raises(StepFailed, match="no TDX module"):
        check_module(report((6, 1, 3)), TcbInfo.model_validate(absent))


RELAUNCH = {
    "new module of the same version": ("UpToDate", (6, 1, 3), "TDRelaunchAdvised"),
    "newer than asked": ("UpToDate", (9, 1, 9), "TDRelaunchAdvised"),
    "module of major version 0": ("UpToDate", (5, 0, 3), "TDRelaunchAdvised"),
    "with configuration": ("ConfigurationNeeded", (6, 1, 3), "TDRelaunchAdvisedConfigurationNeeded"),
    "still old": ("UpToDate", (5, 1, 3), "OutOfDate"),
    "old microcode": ("UpToDate", (6, 1, 2), "OutOfDate"),
    "old module of major version 0": ("UpToDate", (4, 0, 3), "OutOfDate"),
    "platform out of date itself": ("OutOfDate", (6, 1, 3), "OutOfDate"),
}


@pytest.mark.parametrize("case", RELAUNCH)
def test_guests_started_before_an_update_are_advised_to_relaunch(case: str) -> None:
    """TDX 1.5: the guest's own module is out of date, the machine's is not any more."""
    platform_status, svn2, expected = RELAUNCH[case]
    known = info(tcbLevels=[level(tcb(COMPONENTS, 13, (5, 0, 3)), platform_status)])
    found = overall_status(known, PLATFORM, report((3, 1, 3), svn2), "OutOfDate", "UpToDate")
    assert found == expected


def test_no_relaunch_is_advised_where_more_is_wrong() -> None:
    """A quoting enclave out of date, or a report of TDX 1.0, which does not say what the machine has now."""
    args = (info(), PLATFORM)
    assert overall_status(*args, report((3, 1, 3), (6, 1, 3)), "OutOfDate", "OutOfDate") == "OutOfDate"
    assert overall_status(*args, report((3, 1, 3)), "OutOfDate", "UpToDate") == "OutOfDate"
    with pytest.raises(StepFailed, match="major version 7"):
        overall_status(*args, report((3, 1, 3), (6, 7, 3)), "OutOfDate", "UpToDate")
