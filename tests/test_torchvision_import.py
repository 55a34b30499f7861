"""torchvision must come in beside whatever torch is installed, in a fresh interpreter."""

import subprocess
import sys


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True)


def test_imports_in_a_fresh_interpreter():
    code = (
        "from tailmatch.torchvision_import import torchvision\n"
        "print(torchvision() is torchvision(), torchvision('transforms.v2').__name__, torchvision().models.__name__)"
    )
    finished = run_python(code)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split() == ["True", "torchvision.transforms.v2", "torchvision.models"]


def test_passes_where_torchvision_is_imported_already():
    code = (
        "from tailmatch.torchvision_import import torchvision\n"
        "torchvision('datasets')\n"
        "import torchvision as theirs\n"
        "print(theirs is torchvision())"
    )
    finished = run_python(code)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split() == ["True"]
