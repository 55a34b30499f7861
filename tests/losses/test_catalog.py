"""The catalog, the modules and the functions agree, and importing them pulls in nothing else."""

import inspect
import subprocess
import sys
from importlib import import_module

import pytest
import torch

import tailmatch.losses as public
from tailmatch.losses import LABEL_LOSSES, LOSSES, LossRow, build_label_loss, build_loss

ALL_ROWS = [*LOSSES.items(), *LABEL_LOSSES.items()]


@pytest.mark.parametrize(("name", "row"), ALL_ROWS, ids=[name for name, _ in ALL_ROWS])
def test_options_are_the_constructors_own(name: str, row: LossRow) -> None:
    file, class_name = row.target.split(":")
    parameters = inspect.signature(getattr(import_module(f"tailmatch.losses.{file}"), class_name)).parameters
    keywords = {key: value.default for key, value in parameters.items() if value.kind is value.KEYWORD_ONLY}
    assert keywords == {option: entry.default for option, entry in row.options.items()}
    assert ("num_classes" in parameters) == row.takes_num_classes
    for entry in row.options.values():
        assert entry.default is None or isinstance(entry.default, entry.kind)
        assert not entry.choices or entry.default in entry.choices


@pytest.mark.parametrize(("name", "row"), ALL_ROWS, ids=[name for name, _ in ALL_ROWS])
def test_described_in_a_paragraph(name: str, row: LossRow) -> None:
    assert "\n" not in row.description
    assert row.description.endswith(".")


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_called_alike(name: str, batch) -> None:
    loss = build_loss(name, 7)
    loss.observe(batch.teacher.detach(), batch.labels, batch.mask)
    loss.roll()
    loss.synchronize()
    value = loss(batch.student, batch.teacher, batch.labels, sample_weight=batch.mask)
    assert value.shape == ()
    value.backward()
    assert batch.student.grad.isfinite().all()
    assert batch.teacher.grad is None


@pytest.mark.parametrize("name", LABEL_LOSSES)
def test_every_label_loss_is_called_alike(name: str, batch) -> None:
    loss = build_label_loss(name, [9, 8, 5, 4, 2, 1, 0])
    value = loss(batch.student, batch.labels, sample_weight=batch.mask)
    assert value.shape == ()
    value.backward()
    assert batch.student.grad.isfinite().all()


@pytest.mark.parametrize("option", ["class", "sample"])
def test_options_reach_the_loss(option: str, batch) -> None:
    built = build_loss("ikl", 7, weights=option, beta=0.1, weight_temperature=2.0, detach_teacher=False)
    direct = public.IKL(7, weights=option, beta=0.1, weight_temperature=2.0, detach_teacher=False)
    args = (batch.student, batch.teacher, batch.labels)
    assert torch.equal(built(*args), direct(*args))


def test_hard_pseudo_labels_come_from_the_teacher_where_there_are_no_labels(batch) -> None:
    loss = build_loss("ce", 7)
    torch.testing.assert_close(
        loss(batch.student, batch.teacher), loss(batch.student, batch.teacher, batch.teacher.argmax(-1))
    )


def test_every_public_name_exists() -> None:
    for name in public.__all__:
        assert getattr(public, name) is not None
    files = {"build", "catalog", "checks", "modules", "divergence", "decoupled", "frequency"}
    assert not files & set(public.__all__)


def test_importing_the_losses_imports_torch_and_no_other_room() -> None:
    code = (
        "import sys, torch\n"
        "before = set(sys.modules)\n"
        "import tailmatch.losses as losses\n"
        "for name in losses.__all__: getattr(losses, name)\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "ours = {name for name in sys.modules if name.startswith('tailmatch.')}\n"
        "rooms = {name.split('.')[1] for name in ours}\n"
        "print(sorted(new - set(sys.stdlib_module_names)), sorted(rooms))\n"
    )
    assert run_python(code) == "['tailmatch'] ['_public', 'errors', 'losses']"


def test_the_catalog_imports_no_torch() -> None:
    code = "import sys\nfrom tailmatch.losses import LOSSES\nprint('torch' in sys.modules, 'numpy' in sys.modules)"
    assert run_python(code) == "False False"


def run_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout.strip()
