"""ag.leaks looks through a whole process: its tests run in a small one of their own, without what others have left."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_in_a_process_of_its_own():
    options = ["-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, HERE / "alone" / "leaks.py"]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
