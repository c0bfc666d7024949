"""The commented policy file that `heixia bank evidence-policy` writes.

Fingerprints are SHA-256 of the DER of the vendors' root certificates. ARK-Milan and ARK-Genoa: as google/go-sev-guest
publishes them in verify/trust/ask_ark_*.pem, ARK-Turin: in its ask_ark_turin_vlek.pem (AMD's own place is
kdsintf.amd.com/vcek/v1/<product>/cert_chain). Intel SGX Root CA: google/go-tdx-guest, verify/trusted_root.pem (Intel's
own place is certificates.trustedservices.intel.com). A bank compares them with the vendor's before it relies on them.
"""

import json
from typing import get_args

from enclave_api.attestation.evidence import code_digest
from enclave_api.attestation.sev_snp_policy import PLATFORM_BITS
from enclave_api.attestation.tdx_policy import TcbStatus, TdxPolicy
from sandbox.jail.required import REQUIRED

ROOTS = {
    "ARK-Milan": "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
    "ARK-Genoa": "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
    "ARK-Turin": "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
    "Intel SGX Root CA": "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3",
}
TEMPLATE = """\
# What this bank accepts of an enclave. Unknown names are refused, and so is a file that would check nothing.
# Its SHA-256 stands in the manifest of every bundle sealed under it.

accept_simulated = {accept_simulated}       # true: accept evidence that no hardware vouches for. Development alone

# The code that may run: digests of whole installations of Heixia. This is the one of the installation that wrote this
# file: review that, not the number. Without a digest no enclave is accepted: a measurement says which machine was
# started, not which application it installed.
code_digests = ["{code_digest}"]

# config_digests = [""]         # settings, trust files, catalogue; shown by `heixia bank evidence`. Left out: any
# age_minutes_max = 15          # evidence made longer before the time of verification (--at) is refused. Left out: any

# Walls that may be missing, and processes that serve many calls: both weaken what docs/threat-model.md promises.
accept_missing_walls = []       # of: {walls}
accept_warm = false

# Tables for the hardware that is accepted; delete the # of one, and put in what you accept. Compare the fingerprints
# of roots with those that AMD (kdsintf.amd.com) and Intel (certificates.trustedservices.intel.com) publish.
# [sev-snp]
# roots = [                           # SHA-256 of the root certificate (DER)
#     "{milan}",   # ARK-Milan
#     "{genoa}",   # ARK-Genoa
#     "{turin}",   # ARK-Turin
# ]
# measurements = ["96 hex digits"]    # MEASUREMENT: recompute it from the VM's image, do not copy it from evidence
# minimum_tcb.Milan = {{ bootloader = 4, tee = 0, snp = 24, microcode = 219 }}   # an example: AMD's security bulletins
#                                     # have the numbers; one floor for each line of processors that you accept
# chips = ["128 hex digits"]          # CHIP_ID of machines. Left out: any chip that AMD vouches for
# csp_ids = [""]                      # cloud providers whose VLEK is accepted. Left out: any
# vmpl_max = 0                        # least privileged level that may ask: 0 to 3
# minimum_guest_svn = 0
# host_data = "64 hex digits"
# id_key_digests = ["96 hex digits"]  # SHA-384 of keys that sign ID blocks
# require_no_smt = false
# accept_migration_agent = false
# require_platform = ["alias_check"]  # of: {platform}
# require_mitigations = 0
# require_crl = false                 # a current revocation list of the root must be given (--certs)
#
# [tdx]
# roots = ["{intel}"]   # Intel SGX Root CA
# measurements = ["96 hex digits"]    # MRTD: the firmware of the VM
# rtmr0 = ["96 hex digits"]           # runtime measurements: firmware's configuration. Left out: not judged
# rtmr1 = ["96 hex digits"]           # kernel; an enclave's evidence is refused without this and the next
# rtmr2 = ["96 hex digits"]           # kernel's command line, initrd
# rtmr3 = ["96 hex digits"]
# mr_seam = ["96 hex digits"]         # TDX module. Left out: by Intel's module identity
# mr_config_id = ["96 hex digits"]
# mr_owner = ["96 hex digits"]
# mr_owner_config = ["96 hex digits"]
# mr_service_td = ["96 hex digits"]   # service guests (migration) that may be bound. Left out: none
# tcb_status = ["UpToDate"]           # further:
#     {statuses}
# tee_tcb_svn_min = "32 hex digits"
# tcb_evaluation_min = 0              # smallest tcbEvaluationDataNumber of Intel's collateral
# td_attributes_required = []
# td_attributes_allowed = {attributes}
# xfam_allowed = "16 hex digits"
# qe = {{ mr_signer = "64 hex digits", isv_prod_id = 2, isv_svn_min = 4 }}   # in place of Intel's QE identity
# require_crls = true                 # revocation lists of the root and the PCK CA must be given (--certs)
"""


def policy_template(*, accept_simulated: bool) -> str:
    """The file's text, with the code digest of this installation."""
    lines, line = list[str](), ""
    for name in REQUIRED:
        if len(line) + len(name) > 80:
            lines.append(line.rstrip())
            line = ""
        line += f"{name}, "
    walls = "\n#     ".join([*lines, line.rstrip(", ")])
    return TEMPLATE.format(
        accept_simulated="true " if accept_simulated else "false",
        code_digest=code_digest(),
        walls=walls,
        milan=ROOTS["ARK-Milan"],
        genoa=ROOTS["ARK-Genoa"],
        turin=ROOTS["ARK-Turin"],
        intel=ROOTS["Intel SGX Root CA"],
        platform=", ".join(PLATFORM_BITS),
        statuses=", ".join(get_args(TcbStatus)[1:]),
        attributes=json.dumps(TdxPolicy.model_fields["td_attributes_allowed"].default),
    )
