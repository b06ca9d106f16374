"""Starting `worker.py`."""

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]


def start(verb: str, root: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start one of its verbs; its output is a pipe."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.serving.inference_log.worker", verb, str(root), *arguments],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
