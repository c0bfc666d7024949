"""What the wheel holds, and whose names they are."""

import importlib.metadata
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OURS = ("audit", "enclave_api", "heixia", "model_registry", "sandbox")


def test_nobody_else_owns_our_names() -> None:
    """The package index has projects of the same top-level names; none of them may be installed beside us."""
    owners = importlib.metadata.packages_distributions()
    assert {name: set(owners.get(name, ["heixia"])) for name in OURS} == {name: {"heixia"} for name in OURS}


def test_lock_files_hold_hashes_and_no_address() -> None:
    """Every locked package has a hash, and no index is named."""
    for lock in (ROOT / "requirements").glob("*.lock"):
        text = lock.read_text()
        assert "://" not in text
        assert text.count("==") <= text.count("--hash=sha256:")


def test_a_server_needs_nothing_of_a_bank() -> None:
    """Training libraries stay on the bank's side."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["bank"]
    locked = (ROOT / "requirements" / "server.lock").read_text()
    for requirement in extras:
        assert f"\n{requirement.partition('>')[0]}==" not in locked
