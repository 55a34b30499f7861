"""A few inputs for every reader of what others may have written; tests/fuzz/run.py tries any number."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("hypothesis")
sys.path.insert(0, str(Path(__file__).resolve().parent))

from readers import LONGEST_SECONDS, READERS, Attempt, Reader, attempt

EXAMPLES = 25


def _run_module() -> ModuleType:
    """run.py beside this file; `run` is the name of the program in the checkout's root too."""
    spec = importlib.util.spec_from_file_location("fuzz_run", Path(__file__).parent / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", list(READERS))
def test_every_input_is_read_or_refused(name: str) -> None:
    seen: list[Attempt] = []
    _run_module().trial(READERS[name], EXAMPLES, seen.append)()
    assert len(seen) >= EXAMPLES // 2


def test_as_many_inputs_are_tried_as_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a reader with three inputs too: hypothesis alone would stop after these."""
    from hypothesis import strategies as st

    module = _run_module()
    monkeypatch.setitem(module.READERS, "npz", Reader(st.integers(0, 2), lambda given, folder: given > 0))
    found = module.tried("npz", 10)
    assert (found["inputs"], found["faults"]) == (10, 0)
    assert found["read"] + found["refused"] == 10
    assert found["read"] > found["refused"] > 0


def test_an_input_that_takes_too_long_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr(sys.modules[attempt.__module__].time, "perf_counter", lambda: next(clock))
    assert LONGEST_SECONDS == 5
    with pytest.raises(AssertionError, match=r"6\.0 s"):
        attempt(Reader(READERS["npz"].inputs, lambda given, folder: None), b"")


def test_a_crash_is_a_fault_of_its_reader_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    module = _run_module()
    monkeypatch.setattr(module.subprocess, "run", lambda words: subprocess.CompletedProcess(words, -11))
    assert module.in_own_process("npz", 3) == {"faults": 1, "ended_with": -11}
