"""The demo, with a training of one epoch."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_demo(tmp_path):
    page = tmp_path / "demo" / "index.html"
    command = [sys.executable, ROOT / "tools" / "demo.py", "--epochs", "1", "--out", page.parent]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"The page is at {page}" in done.stdout
    text = page.read_text(encoding="utf-8")
    commands = re.findall(r"^\$ (.*)$", done.stdout, re.MULTILINE)
    assert len(commands) == 6
    for shown in commands:
        assert f"$ {shown}" in text
    assert text.count("<svg") == 1
    assert text.count('class="slider"') == 5
    assert not re.search(r'(src|href)="(?!data:|#)', text)


def test_demo_refuses_a_folder_that_holds_other_things(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    command = [sys.executable, ROOT / "tools" / "demo.py", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "holds something other than a demo" in done.stderr
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
