"""The catalog, the modules and the functions agree, and importing them pulls in nothing else."""

import copy
import inspect
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest
import torch

import tailmatch.losses as public
from tailmatch._public import load_named
from tailmatch.declare import Option
from tailmatch.losses import LABEL_LOSSES, LOSSES, LossRow, build_label_loss, build_loss

COUNTS = [9, 8, 5, 4, 2, 1, 0]
ALL_ROWS = [*LOSSES.items(), *LABEL_LOSSES.items()]


@pytest.mark.parametrize(("name", "row"), ALL_ROWS, ids=[name for name, _ in ALL_ROWS])
def test_a_constructor_has_its_rows_options_and_explains_them(name: str, row: LossRow) -> None:
    made = load_named(row.target)
    parameters = inspect.signature(made).parameters.values()
    keywords = {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
    assert keywords == {option: entry.default for option, entry in row.options.items()}
    assert [each.annotation for each in parameters if each.name == "num_classes"] in ([], [int])
    for option, entry in row.options.items():
        assert f"{option}: {entry.help}" in made.__doc__
        assert entry.default is None or isinstance(entry.default, entry.kind)
        entry.check(option, entry.default)


FUNCTIONS = {
    public.kl: "kl", public.js: "js", public.mse: "mse", public.soft_cross_entropy: "soft-ce", public.dkd: "dkd",
    public.decoupled_kl: "dkl", public.class_balanced: "class-balanced", public.focal: "focal", public.ldam: "ldam",
    public.logit_adjusted: "logit-adjusted", public.vs: "vs", public.lade: "lade", public.bkd: "bkd",
    public.ltkd: "ltkd", public.dist: "dist",
}  # fmt: skip


@pytest.mark.parametrize(("function", "name"), FUNCTIONS.items(), ids=FUNCTIONS.values())
def test_a_function_has_the_defaults_of_its_module(function: Callable[..., torch.Tensor], name: str) -> None:
    given = {key: value.default for key, value in inspect.signature(function).parameters.items()}
    declared = dict(ALL_ROWS)[name].options
    assert {option: given[option] for option in declared} == {name: entry.default for name, entry in declared.items()}


@pytest.mark.parametrize(("name", "row"), ALL_ROWS, ids=[name for name, _ in ALL_ROWS])
def test_described_in_a_paragraph(name: str, row: LossRow) -> None:
    assert "\n" not in row.description
    assert row.description.endswith(".")


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_called_alike(name: str, batch) -> None:
    loss = build_loss(name, 7, COUNTS)
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


@pytest.mark.parametrize("name", [*LOSSES, *LABEL_LOSSES])
def test_values_are_checked_when_a_loss_is_made_and_no_more(name: str, batch, monkeypatch: pytest.MonkeyPatch) -> None:
    made = build_loss(name, 7, COUNTS) if name in LOSSES else build_label_loss(name, COUNTS)
    loss = pickle.loads(pickle.dumps(copy.deepcopy(made)))
    monkeypatch.setattr(Option, "check", lambda *_: pytest.fail("checked again"))
    loss(batch.student, *((batch.teacher,) if name in LOSSES else ()), batch.labels)


def test_a_loss_of_ones_own_needs_a_function_alone(batch) -> None:
    own = public.TeacherLoss(partial(public.kl, temperature=2.0))
    inputs = (batch.student, batch.teacher, batch.labels, batch.mask)
    assert torch.equal(own(*inputs), public.KL(temperature=2.0)(*inputs))


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
    assert run_python(code) == "['tailmatch'] ['_public', 'declare', 'errors', 'losses']"


def test_the_catalog_imports_no_torch() -> None:
    code = "import sys\nfrom tailmatch.losses import LOSSES\nprint('torch' in sys.modules, 'numpy' in sys.modules)"
    assert run_python(code) == "False False"


def run_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout.strip()
