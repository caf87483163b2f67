"""The scripts of a checkout: what is asked of them is done, or refused."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_a_second_extra_is_refused_rather_than_left_out_in_silence(tmp_path):
    (tmp_path / "scripts").mkdir()
    script = shutil.copy(ROOT / "scripts" / "install", tmp_path / "scripts")
    environ = {"PATH": "/usr/bin:/bin", "PYTHON": "false"}  # it would install nothing if it took them
    said = subprocess.run([script, "test", "notify"], env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr == f"usage: {script} [EXTRA]; call it once for each extra\n"
    assert not (tmp_path / ".venv").exists()
