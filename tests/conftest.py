"""What every test relies on."""

import os
import signal

# Two threads that wait for each other on a busy core are many times slower than one; runs that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Tests in the background (`nohup`, `&`) inherit "ignore" for these, and so would the runs that they start and stop.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: a worker for each core that this process may use; more than eight would want much memory."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, 8)
