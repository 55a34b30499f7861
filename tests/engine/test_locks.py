"""One process at a time."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tailmatch.engine.locks import locked
from tailmatch.engine.suite.processes import environment
from tailmatch.errors import UserError

HOLD = """
import sys, time
from pathlib import Path
from tailmatch.engine.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
    Path(sys.argv[2]).write_text("left first")
"""


def test_another_process_waits_or_is_refused(tmp_path: Path) -> None:
    lock, sign = tmp_path / "lock", tmp_path / "sign"
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock), str(sign)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(1),
    )
    assert other.stdin is not None
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    with pytest.raises(UserError, match="somebody is in there"), locked(lock, "somebody is in there"):
        pass
    other.stdin.write(b"leave\n")
    other.stdin.flush()
    with locked(lock):
        assert sign.read_text() == "left first"
    other.communicate()


def test_a_process_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock), str(tmp_path / "sign")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(1),
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    other.kill()
    other.wait()
    begun = time.monotonic()
    with locked(lock, "still held"):
        assert time.monotonic() - begun < 60
    other.communicate()
