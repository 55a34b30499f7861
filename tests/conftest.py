"""What every test relies on."""

import signal

# Tests in the background (`nohup`, `&`) inherit "ignore" for these, and so would the runs that they start and stop.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
