"""The list of names must cost nothing to read."""

import subprocess
import sys

import pytest

from tailmatch.errors import UserError
from tailmatch.models import MODELS, PATTERNS, check_model_name


def test_reading_the_catalogue_imports_neither_torch_nor_numpy():
    code = (
        "import sys\n"
        "from tailmatch.models import MODELS, PATTERNS, check_model_name\n"
        "check_model_name('wrn-28-2')\n"
        "print(sorted({'torch', 'torchvision', 'numpy'} & sys.modules.keys()))"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


def test_every_model_and_pattern_has_one_line_of_description():
    for description in (*MODELS.values(), *PATTERNS.values()):
        assert description
        assert "\n" not in description


@pytest.mark.parametrize("name", [*MODELS, "wrn-10-4", "wrn-40-2-relu", "resnet50-cifar", "timm:anything"])
def test_known_names_pass(name):
    check_model_name(name)


@pytest.mark.parametrize(
    "name", ["", "wrn-30-2", "wrn-28", "resnet18-cifar-cifar", "mobilenet_v2-cifar", "resnet20-cifar"]
)
def test_other_names_do_not(name):
    with pytest.raises(UserError):
        check_model_name(name)
