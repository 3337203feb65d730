"""One process per state directory."""

import os
import subprocess
import sys

import pytest

from peerd.state.errors import StateError
from peerd.state.lock import StateLock

HOLD = """
import pathlib, sys
from peerd.state.lock import StateLock
lock = StateLock(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_holder_is_refused_by_name(tmp_path):
    """The message says which process and what to do."""
    with StateLock(tmp_path), pytest.raises(StateError) as error:
        StateLock(tmp_path)
    assert f"in use by another peerd (process {os.getpid()})" in str(error.value)
    assert "--state-dir of its own" in str(error.value)


def test_it_is_free_again_after_close(tmp_path):
    """Closing twice is harmless."""
    lock = StateLock(tmp_path)
    lock.close()
    lock.close()
    StateLock(tmp_path).close()


def test_another_process_holds_it_until_it_dies(tmp_path):
    """The kernel lets go when the holder is killed."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StateError, match=f"process {holder.pid}"):
            StateLock(tmp_path)
        holder.kill()
    StateLock(tmp_path).close()
