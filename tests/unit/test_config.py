"""Settings that contradict each other."""

from pathlib import Path

import pytest

from enclave_api.config import TEMPLATE, load_settings
from enclave_api.errors import HomeInvalid

TEXT = TEMPLATE.format(trust_domain="heixia.test", log_origin="heixia.test/log")


@pytest.mark.parametrize(("quantum", "slot", "fits"), [(50, 20, True), (50, 26, False), (0, 1000, True)])
def test_a_slot_is_at_most_half_of_the_quantum(tmp_path: Path, quantum: int, slot: int, fits: bool) -> None:
    """A longer one would show in the time of answers: it is refused, and the refusal says what to set."""
    file = tmp_path / "heixia.toml"
    file.write_text(
        TEXT.replace("release_quantum_ms = 50", f"release_quantum_ms = {quantum}").replace("= 20 ", f"= {slot} ")
    )
    if fits:
        assert load_settings(file).score_deadline_ms == slot
        return
    with pytest.raises(HomeInvalid) as refusal:
        load_settings(file)
    assert "score_deadline_ms must be at most half of release_quantum_ms" in refusal.value.public
