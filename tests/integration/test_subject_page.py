"""The commands of docs/subject.md run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.integration.conftest import PRODUCT, Stage
from tests.subjects import credentials_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "subject.md"


def test_the_page_runs(stage: Stage, tmp_path: Path) -> None:
    """Every command succeeds, in order; the uses are told before and after the erasure, the receipts verify."""
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    subject, consent_id = stage.world.subjects[190], stage.consent(190, uses=5)
    for _ in range(2):
        stage.room.portal.request_limit(subject=subject, product=PRODUCT, consent_id=consent_id)
    environment = {
        **os.environ,
        "HEIXIA_SERVER": stage.room.server,
        "HEIXIA_POLICY": str(stage.room.home.policy),
        "ME": str(credentials_of(stage.room, subject, tmp_path)),
        "CONSENT": consent_id,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    script = ["bash", "-ec", block]
    with stage.room.gains("consent.revoked", "subject.erased", changes={"consent", "subject_key", "erased_subject"}):
        done = subprocess.run(
            script, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.count("2 uses in all") == 2
    assert done.stdout.count("what came of it is erased") == 2
    assert len(list((tmp_path / "receipts").glob("*.json"))) == 2
    assert "gone from every file" in done.stdout
    assert subject not in done.stdout + done.stderr
