"""torchvision must come in beside whatever torch is installed, in a fresh interpreter."""

import subprocess
import sys


def test_imports_in_a_fresh_interpreter_without_a_warning():
    code = (
        "from tailmatch.torchvision_import import torchvision\n"
        "print(torchvision('transforms.v2').__name__, torchvision().models.__name__)\n"
        "import torchvision as imported_again\n"
        "print(imported_again is torchvision() is torchvision())"
    )
    command = [sys.executable, "-W", "error::UserWarning", "-c", code]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split() == ["torchvision.transforms.v2", "torchvision.models", "True"]
