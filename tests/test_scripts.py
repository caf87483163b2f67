"""The scripts of a checkout do what they are asked, or refuse."""

import shutil
import subprocess

import pytest

from support.samples import ROOT


@pytest.mark.parametrize("arguments", [("notify", "postgres"), ("irc",)])
def test_install_refuses_what_it_would_otherwise_leave_out_in_silence(tmp_path, arguments):
    (tmp_path / "scripts").mkdir()
    script = shutil.copy(ROOT / "scripts" / "install", tmp_path / "scripts")
    environ = {"PATH": "/usr/bin:/bin", "PYTHON": "false"}  # it would install nothing if it took them
    said = subprocess.run([script, *arguments], env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr == f"usage: {script} [notify|postgres|dev]; dev has both extras\n"
    assert not (tmp_path / ".venv").exists()
