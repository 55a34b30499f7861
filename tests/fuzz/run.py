"""Try any number of inputs on every reader: `python tests/fuzz/run.py --examples 10000 [--reader npz]`.

Each reader has a process of its own, so that one that crashes is a fault like any other. A fault is shown with the
smallest input that makes it, which hypothesis keeps under .hypothesis/ and tries first again.
"""

import argparse
import faulthandler
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, given, seed, settings

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.append(str(HERE.parents[1]))  # behind the standard library, whose ssl is another

from readers import READERS, Attempt, Reader, attempt  # noqa: E402  (found by the lines above)

HUNG_SECONDS = 30
"""After so many an input is given up; one that cannot be interrupted ends the process a while later."""


def trial(reader: Reader, examples: int, note: Callable[[Attempt], object], number: int = 0) -> Callable[[], None]:
    """A function that tries up to so many inputs, the ones of this number, and raises at the first fault."""

    @seed(number)
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(reader.inputs)
    def try_inputs(value: Any) -> None:
        faulthandler.dump_traceback_later(3 * HUNG_SECONDS, exit=True)
        signal.setitimer(signal.ITIMER_REAL, HUNG_SECONDS)
        try:
            note(attempt(reader, value))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            faulthandler.cancel_dump_traceback_later()

    return try_inputs


def tried(name: str, examples: int) -> dict[str, Any]:
    """All inputs of one reader. hypothesis ends early where it runs out of new ones, and is then begun anew."""

    def hung(*_: object) -> None:
        raise TimeoutError(f"more than {HUNG_SECONDS} s")

    signal.signal(signal.SIGALRM, hung)
    seen: list[Attempt] = []
    begun, faults, number = time.perf_counter(), 0, 0
    while len(seen) < examples and not faults:
        before = len(seen)
        try:
            trial(READERS[name], examples - before, seen.append, number)()
        except Exception as error:  # any is a fault, and the next reader is to be tried all the same
            faults += 1
            print(f"{name}: {type(error).__name__}: {error}\n" + "\n".join(getattr(error, "__notes__", [])))
        number += 1
        if len(seen) == before:
            break
    read = sum(one.read for one in seen)
    return {
        "inputs": len(seen),
        "read": read,
        "refused": len(seen) - read,
        "faults": faults,
        "slowest_ms": round(1000 * max((one.seconds for one in seen), default=0), 1),
        "seconds": round(time.perf_counter() - begun, 1),
    }


def in_own_process(name: str, examples: int) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        words = ["--reader", name, "--examples", str(examples), "--json", str(file)]
        code = subprocess.run([sys.executable, "-X", "faulthandler", __file__, *words]).returncode
        if file.exists():
            found: dict[str, Any] = json.loads(file.read_text())[name]
            return found
        print(f"{name}: its process ended with {code}", flush=True)
        return {"faults": 1, "ended_with": code}


def main() -> int:
    """Returns the exit code: 0 where no reader has a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=1000, help="inputs for each reader (default: 1000)")
    parser.add_argument("--reader", choices=list(READERS), action="append", help="only this one; may be given again")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the counts of each reader there")
    parser.add_argument("--record", action="store_true", help="put them into benchmarks/results/reliability.json too")
    options = parser.parse_args()
    names = options.reader or list(READERS)
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        one = tried(name, options.examples) if len(names) == 1 else in_own_process(name, options.examples)
        found[name] = one
        if len(names) == 1:
            said = f"{one['inputs']:,} inputs, {one['read']:,} read, {one['refused']:,} refused"
            print(f"{name:<14}{said}, slowest {one['slowest_ms']} ms, {one['seconds']} s", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if options.record:
        sys.path.insert(0, str(HERE.parents[1] / "benchmarks"))
        from reliability import record, recorded

        record("fuzzing", {"readers": recorded("fuzzing").get("readers", {}) | found})
    return 1 if any(one["faults"] for one in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
