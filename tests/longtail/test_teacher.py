"""Teachers from every kind of checkpoint, and every way one can be wrong."""

import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tailmatch.engine.checkpoint import save_weights
from tailmatch.engine.options import Precision, RunOptions
from tailmatch.errors import UserError
from tailmatch.longtail.build import teacher_precision
from tailmatch.longtail.config import LongtailConfig
from tailmatch.longtail.teacher import load_network, warn_if_near_chance
from tailmatch.models import build_model

NAME = "wrn-10-1"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return build_model(NAME, 10, 1, 8).state_dict()


def load(path: Path, name: str | None = NAME, classes: int = 10) -> tuple[str, torch.nn.Module]:
    return load_network(name, path, classes, 1, 8)


@pytest.mark.parametrize("kind", ["plain", "module", "compiled", "state_dict", "model", "safetensors", "no counters"])
def test_reads_the_usual_forms(tmp_path: Path, state: dict[str, torch.Tensor], kind: str) -> None:
    path = tmp_path / ("teacher.safetensors" if kind == "safetensors" else "teacher.pth")
    if kind == "safetensors":
        save_weights(path, state)
    elif kind == "module":
        torch.save({f"module.{key}": value for key, value in state.items()}, path)
    elif kind == "compiled":
        torch.save({"state_dict": {f"module._orig_mod.{key}": value for key, value in state.items()}}, path)
    elif kind in ("state_dict", "model"):
        torch.save({kind: state, "epoch": 90, "best": 0.5}, path)
    elif kind == "no counters":
        torch.save({key: value for key, value in state.items() if not key.endswith("tracked")}, path)
    else:
        torch.save(state, path)
    name, model = load(path)
    assert name == NAME
    own = model.state_dict()
    assert all(torch.equal(own[key], value) for key, value in state.items())


def test_reads_a_torchvision_checkpoint(tmp_path: Path) -> None:
    from tailmatch.torchvision_import import torchvision

    original = torchvision("models").resnet18(num_classes=4)
    torch.save(original.state_dict(), tmp_path / "resnet18-0123abcd.pth")
    _, model = load_network("resnet18", tmp_path / "resnet18-0123abcd.pth", 4, 3, 32)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model.eval()(images), original.eval()(images))


def test_a_run_folder_knows_its_network(plain_run: Path) -> None:
    name, model = load(plain_run, name=None)
    assert name == "wrn-digits"
    assert sum(p.numel() for p in model.parameters()) == 77_562


def test_refuses_another_name_than_the_run_folders(plain_run: Path) -> None:
    with pytest.raises(UserError, match=r"holds a wrn-digits, not a wrn-10-1; leave out --teacher"):
        load(plain_run)


MISFITS = {
    "classes": (r"2 layers of another shape \(fc\.weight, fc\.bias\).*trained for 10 classes.*has 7"),
    "deeper": r"18 layers? unexpected|layers unexpected .*deeper network",
    "shallower": r"layers missing .*shallower network",
    "wrapped": r"All its names begin with 'encoder\.'",
    "another": r"layers missing .*layers unexpected .*another kind of network",
    "wider": r"of another shape .*narrower or wider",
}


@pytest.mark.parametrize("kind", list(MISFITS))
def test_a_misfit_names_layers_and_cause(tmp_path: Path, state: dict[str, torch.Tensor], kind: str) -> None:
    path, name, classes = tmp_path / "teacher.pth", NAME, 7 if kind == "classes" else 10
    if kind == "deeper":
        state = build_model("wrn-16-1", 10, 1, 8).state_dict()
    elif kind == "shallower":
        name = "wrn-16-1"
    elif kind == "wrapped":
        state = {f"encoder.{key}": value for key, value in state.items()}
    elif kind == "another":
        state = build_model("resnet20", 10, 1, 8).state_dict()
    elif kind == "wider":
        state = build_model("wrn-10-2", 10, 1, 8).state_dict()
    torch.save(state, path)
    with pytest.raises(UserError, match=MISFITS[kind]) as caught:
        load(path, name, classes)
    assert str(path) in str(caught.value)
    assert f"does not fit {name}" in str(caught.value)


class _Runs:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("this must never run",))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_refuses_to_unpickle_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "teacher.pth"
    torch.save({"state_dict": _Runs()}, path)
    with pytest.raises(UserError, match="tensors alone"):
        load(path)
    path.write_bytes(pickle.dumps(_Runs()))
    with pytest.raises(UserError, match="tensors alone"):
        load(path)
    assert "must never run" not in capsys.readouterr().out


def test_refuses_what_is_no_checkpoint(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    for name in (NAME, None):
        with pytest.raises(UserError, match=r"There is no checkpoint .*absent\.pth"):
            load(tmp_path / "absent.pth", name)
    for name in ("broken.pth", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"not a checkpoint at all")
        with pytest.raises(
            UserError, match=r"is neither a PyTorch nor a safetensors checkpoint of tensors alone; where"
        ):
            load(tmp_path / name)
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(UserError, match="holds no state dict"):
        load(tmp_path / "empty.pth")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="not a finished run"):
        load(tmp_path / "folder")
    save_file(state, tmp_path / "good.safetensors")
    with pytest.raises(UserError, match=re.escape("give --teacher")):
        load(tmp_path / "good.safetensors", name=None)


@pytest.mark.parametrize(("asked", "got"), [("auto", torch.bfloat16), ("fp16", torch.bfloat16), ("fp32", None)])
def test_full_precision_asked_for_holds_for_the_teacher(
    monkeypatch: pytest.MonkeyPatch, asked: Precision, got: torch.dtype | None
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    config = LongtailConfig(run=RunOptions(precision=asked))
    assert teacher_precision(config, torch.device("cuda")).dtype == got


def test_warns_loudly_of_a_teacher_near_chance(capsys: pytest.CaptureFixture[str]) -> None:
    nothing = {"many": None, "medium": None, "few": None}
    warn_if_near_chance("resnet50", {"all": 0.12, **nothing}, 10)
    said = capsys.readouterr().err
    assert "WARNING" in said
    assert "12.0 %" in said
    assert "10.0 %" in said
    warn_if_near_chance("resnet50", {"all": 0.2, **nothing}, 10)
    warn_if_near_chance("resnet50", {"all": 0.48, **nothing}, 1000)
    assert capsys.readouterr().err == ""
