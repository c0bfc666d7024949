"""Evidence policies as files: what is written is what is checked, or the file is refused."""

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from enclave_api.attestation.evidence import code_digest
from enclave_api.attestation.policy import Policy, UnsafeAcceptSimulated, UnsafeAcceptWarm, UnsafeAcceptWeakIsolation
from enclave_api.attestation.policy_file import POLICY_BYTES_MAX, load_policy, members, parse_policy
from enclave_api.attestation.policy_template import ROOTS, policy_template
from enclave_api.attestation.sev_snp_policy import SevSnpPolicy, TcbFloor
from enclave_api.attestation.tdx_policy import TdxPolicy
from enclave_api.errors import PolicyInvalid
from tests.conftest import fixture_file

DIGEST, MEASUREMENT = "ab" * 32, "cd" * 48
SNP = f"""
[sev-snp]
roots = ["{DIGEST}"]
measurements = ["{MEASUREMENT}"]
minimum_tcb.Milan = {{ bootloader = 4, tee = 0, snp = 24, microcode = 219 }}
"""
TDX = f"""
[tdx]
roots = ["{DIGEST}"]
measurements = ["{MEASUREMENT}"]
"""
GOOD = f"""\
accept_simulated = true
code_digests = ["{DIGEST}"]
config_digests = ["{DIGEST}"]
age_minutes_max = 15
accept_missing_walls = ["landlock", "seccomp"]
accept_warm = true
{SNP}{TDX}"""


def refusal(text: str) -> str:
    """Why a file is refused."""
    with pytest.raises(PolicyInvalid) as caught:
        parse_policy(text.encode(), "evidence.toml")
    assert caught.value.public.isprintable()
    return caught.value.public


def test_a_file_and_the_sdk_make_the_same_policy() -> None:
    """One model: what a file says equals what code says, unsafe markers included."""
    hardware: dict[str, Any] = {"roots": [DIGEST], "measurements": [MEASUREMENT]}
    floor = {"bootloader": 4, "tee": 0, "snp": 24, "microcode": 219}
    assert parse_policy(GOOD.encode()).policy == Policy(
        simulated=UnsafeAcceptSimulated(),
        code_digests=(DIGEST,),
        config_digests=(DIGEST,),
        age_minutes_max=15,
        weak_isolation=UnsafeAcceptWeakIsolation(("landlock", "seccomp")),
        warm=UnsafeAcceptWarm(),
        sev_snp=SevSnpPolicy(**hardware, minimum_tcb={"Milan": TcbFloor(**floor)}),
        tdx=TdxPolicy(**hardware),
    )


def test_what_is_left_out_is_refused_of_an_enclave() -> None:
    """The least file accepts nothing that weakens it."""
    policy = parse_policy(SNP.encode()).policy
    assert (policy.simulated, policy.weak_isolation, policy.warm, policy.tdx) == (None, None, None, None)
    told_so = "accept_simulated = false\naccept_warm = false\naccept_missing_walls = []\n"
    assert parse_policy((told_so + SNP).encode()).policy == policy


def test_the_digest_is_of_the_bytes(tmp_path: Path) -> None:
    """A comment changes the digest, not the policy."""
    file = tmp_path / "evidence.toml"
    file.write_text(GOOD + "# signed off by Ms Li\n")
    loaded = load_policy(file)
    assert loaded.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert loaded.policy == parse_policy(GOOD.encode()).policy


WRONG = {
    "a misspelt name": (
        f'code_digest = ["{DIGEST}"]\n{SNP}',
        "line 1: code_digest: no such member, did you mean code_digests",
    ),
    "a name of the SDK": (f"weak_isolation = true\n{SNP}", "line 1: weak_isolation: no such member"),
    "an unknown table": (f"{SNP}[nitro]\nroots = []\n", "line 6: nitro: no such member; known are accept_simulated"),
    "a misspelt name in a table": (
        SNP + "vmpl_min = 1\n",
        "line 6: sev-snp.vmpl_min: no such member, did you mean vmpl_max?",
    ),
    "a misspelt part of the floor": (
        SNP.replace("tee", "tees"),
        "line 5: sev-snp.minimum_tcb.Milan.tees: no such member",
    ),
    "no roots": (SNP.replace("roots", "# roots"), "line 2: sev-snp.roots: is missing"),
    "an empty list of roots": (f"[tdx]\nroots = []\nmeasurements = ['{MEASUREMENT}']\n", "line 2: tdx.roots: "),
    "no measurements": (SNP.replace("measurements", "# measurements"), "sev-snp.measurements: is missing"),
    "an empty list of configurations": ("config_digests = []\n" + SNP, "line 1: config_digests: "),
    "true as a number": (SNP + "vmpl_max = true\n", "line 6: sev-snp.vmpl_max: "),
    "a text as a number": (TDX + 'tcb_evaluation_min = "17"\n', "line 5: tdx.tcb_evaluation_min: "),
    "a word as a flag": (TDX + 'require_crls = "off"\n', "line 5: tdx.require_crls: "),
    "a digest too short": (SNP.replace(DIGEST, DIGEST[1:]), "line 3: sev-snp.roots.0: "),
    "true as a text": ('accept_simulated = "true"\n' + SNP, "line 1: accept_simulated: must be true or false"),
    "one as true": ("accept_warm = 1\n" + SNP, "line 1: accept_warm: must be true or false"),
    "a wall nobody built": (
        'accept_missing_walls = ["moat"]\n' + SNP,
        "no wall is called 'moat'; the walls are user_name",
    ),
    "walls as a flag": ("accept_missing_walls = true\n" + SNP, "line 1: accept_missing_walls: must be a list"),
    "an age of nothing": ("age_minutes_max = 0\n" + SNP, "line 1: age_minutes_max: "),
    "an age as a text": ('age_minutes_max = "15"\n' + SNP, "line 1: age_minutes_max: "),
    "no TOML": ("accept_simulated: true", "evidence.toml: "),
    "a name twice": ("accept_warm = true\naccept_warm = false\n" + SNP, "line 2"),
    "nothing": ("", "accepts no format"),
    "a digest and no format": (f'code_digests = ["{DIGEST}"]\n', "accepts no format"),
    "simulated without code": ("accept_simulated = true\n", "would check nothing of the enclave"),
    "simulated without code, beside hardware": (
        "accept_simulated = true\n" + SNP,
        "would check nothing of the enclave",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_at_fault_is_refused(name: str) -> None:
    """Each fault is named with its line and what to do; none is passed over."""
    text, told = WRONG[name]
    assert told in refusal(text)


def test_odd_bytes_are_refused() -> None:
    """No text, too long, too deep, control characters in a name: refused in printable words."""
    deep, long = b"a = " + b"[" * 60_000, b"age_minutes_max = " + b"9" * 5_000
    for content in (b"\xff\xfe", b"#" * (POLICY_BYTES_MAX + 1), deep, long):
        with pytest.raises(PolicyInvalid):
            parse_policy(content)
    refusal('"\\u001b[2J" = 1\n')


def filled(template: str, table: str) -> str:
    """The template with the lines of one table made live and its placeholders filled in."""
    lines, live = list[str](), False
    for line in template.splitlines():
        bare = line.removeprefix("# ")
        if bare.startswith("["):
            live = bare == f"[{table}]"
        is_code = bool(re.match(r"(\[|\w[\w.]* = |\"|\]|    \")", bare))
        lines.append(bare if live and is_code else line)
    text = "\n".join(lines)
    for digits in (32, 64, 96, 128, 16):
        text = text.replace(f'"{digits} hex digits"', f'"{"0" * digits}"')
    return text


@pytest.mark.parametrize("table", ["sev-snp", "tdx"])
def test_the_template_is_whole(table: str) -> None:
    """As it is, it checks nothing and is refused; filled in it is a policy, and it speaks of every member there is."""
    template = policy_template(accept_simulated=False)
    assert "accepts no format" in refusal(template)
    policy = parse_policy(filled(template, table).encode()).policy
    assert (policy.sev_snp is not None, policy.tdx is not None) == (table == "sev-snp", table == "tdx")
    assert policy.code_digests == (code_digest(),)
    for name in (*members(), *members((table,))):
        assert re.search(rf"^#? ?\[?{re.escape(name)}\b", template, re.MULTILINE), name


def test_the_template_for_development_is_ready() -> None:
    """With simulated evidence accepted, nothing is left to fill in."""
    policy = parse_policy(policy_template(accept_simulated=True).encode()).policy
    assert policy == Policy(simulated=UnsafeAcceptSimulated(), code_digests=(code_digest(),))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("ARK-Milan", "snp/ask_ark_milan.pem"),
        ("ARK-Genoa", "snp/ask_ark_genoa.pem"),
        ("Intel SGX Root CA", "tdx/intel_sgx_root_ca.pem"),
    ],
)
def test_fingerprints_are_the_vendors(name: str, file: str) -> None:
    """The fingerprints that the template offers are those of the vendors' published roots."""
    found = x509.load_pem_x509_certificates(fixture_file(f"attestation/{file}").read_bytes())
    (root,) = [c for c in found if c.subject == c.issuer]
    assert name in root.subject.rfc4514_string()
    assert root.fingerprint(SHA256()).hex() == ROOTS[name]
