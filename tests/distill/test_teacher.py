"""Teachers from every kind of checkpoint, and every way one can be wrong."""

import itertools
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tailmatch.distill.teacher import load_network, read_network, warn_if_near_chance
from tailmatch.engine.card import Card
from tailmatch.engine.checkpoint import save_weights
from tailmatch.errors import UserError
from tailmatch.models import build_model, head_of
from tailmatch.models.classifiers import ScaledLinear, replace_head
from tailmatch.models.feature_model import CosineLinear

NAME = "wrn-10-1"
State = dict[str, torch.Tensor]


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
    "wrapped": r"All its names begin with 'backbone\.'",
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
        state = {f"backbone.{key}": value for key, value in state.items()}
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
    junk = (
        b"not a checkpoint at all",
        b"",
        b"lr: 0.1\nepochs: 90\n",
        b"(dp0\n.",
        bytes(range(256)),
        b"PK\x03\x04broken",
        b"\x80\x02}q",
    )
    for name, content in itertools.product(("broken.pth", "broken.safetensors", "notes.txt"), junk):
        (tmp_path / name).write_bytes(content)
        refusal = r"neither a PyTorch nor a safetensors checkpoint of tensors alone; where|damaged \(it is cut off"
        with pytest.raises(UserError, match=refusal):
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


def of_two_parts(state: State) -> dict[str, object]:
    """As classifier-balancing saves a network after its best epoch."""
    parts: dict[str, State] = {"feat_model": {}, "classifier": {}}
    for key, value in state.items():
        parts["classifier" if key.startswith("fc.") else "feat_model"][f"module.{key}"] = value
    return {"epoch": 90, "best_epoch": 88, "state_dict_best": parts, "best_acc": 0.44, "centroids": None}


def contrastive(state: State) -> dict[str, object]:
    """As PaCo, and DKL's scripts for it, do."""
    renamed = {f"module.encoder_q.{key}": value for key, value in state.items() if not key.startswith("fc.")}
    renamed |= {key.replace("_q.", "_k."): torch.zeros_like(value) for key, value in renamed.items()}
    renamed |= {f"module.encoder_q.fc.{layer}.weight": torch.randn(4, 4) for layer in (0, 2, 4)}
    renamed |= {f"module.linear.{key}": state[f"fc.{key}"] for key in ("weight", "bias")}
    renamed |= {"module.queue": torch.randn(8, 4), "module.queue_l": torch.zeros(8), "module.queue_ptr": torch.zeros(1)}
    return {"epoch": 400, "arch": "resnet50", "state_dict": renamed}


AUTHORS = {
    "two parts": (
        of_two_parts,
        ("taken from 'state_dict_best'", "feat_model.* read as *", "classifier.fc.* read as fc.*"),
    ),
    "encoder": (
        lambda state: {"state_dict": {f"module.encoder.{key}": value for key, value in state.items()}},
        ("module.* read as *", "encoder.* read as *"),
    ),
    "contrastive": (
        contrastive,
        ("encoder_q.* read as *", "linear.* read as fc.*", "left out encoder_k.*, encoder_q.fc.*, queue*"),
    ),
}


@pytest.mark.parametrize("form", list(AUTHORS))
def test_reads_the_authors_forms_and_says_what_it_renamed(tmp_path: Path, state: State, form: str) -> None:
    save, said = AUTHORS[form]
    torch.save(save(state), tmp_path / "teacher.pth")
    _, network, changes = read_network(NAME, tmp_path / "teacher.pth", 10, 1, 8)
    own = network.state_dict()
    assert all(torch.equal(own[key], value) for key, value in state.items())
    assert set(said) <= set(changes)


def test_the_factors_of_a_learned_scaling_are_multiplied_into_the_classifier(tmp_path: Path, state: State) -> None:
    saved, scales = of_two_parts(state), torch.rand(10) + 0.5
    saved["state_dict_best"]["classifier"]["scales"] = scales  # type: ignore[index]
    torch.save(saved, tmp_path / "teacher.pth")
    _, network, changes = read_network(NAME, tmp_path / "teacher.pth", 10, 1, 8)
    plain = build_model(NAME, 10, 1, 8)
    plain.load_state_dict(state)
    images = torch.randn(5, 1, 8, 8)
    torch.testing.assert_close(network.eval()(images), plain.eval()(images) * scales)
    assert "classifier.scales multiplied into the classifier" in changes


def test_an_authors_form_of_another_network_is_refused_with_its_layers(tmp_path: Path, state: State) -> None:
    saved = of_two_parts(state)
    saved["state_dict_best"]["feat_model"]["module.fc_add.weight"] = torch.zeros(512, 2048)  # type: ignore[index]
    torch.save(saved, tmp_path / "extra.pth")
    with pytest.raises(UserError, match=r"1 layers unexpected \(fc_add\.weight\)"):
        load(tmp_path / "extra.pth")
    torch.save(contrastive(build_model("wrn-16-1", 10, 1, 8).state_dict()), tmp_path / "deeper.pth")
    with pytest.raises(UserError, match=r"layers unexpected .*deeper network"):
        load(tmp_path / "deeper.pth")


def card(**changes: Any) -> Card:
    names = tuple("abcdefghij")
    whole = {"task": "longtail", "dataset": "digits", "model": NAME, "class_names": names, "channels": 1}
    return Card(**whole | {"image_size": 8, "mean": (0.3,), "std": (0.4,)} | changes)


def finished_run(folder: Path, state: State, card: Card | None) -> Path:
    folder.mkdir()
    save_weights(folder / "weights.safetensors", state, card)
    (folder / "result.json").write_text('{"status": "finished"}')
    return folder


@pytest.mark.parametrize(("head", "kind"), [("cosine", CosineLinear), ("scaled", ScaledLinear)])
def test_a_run_of_any_task_knows_its_classifier(tmp_path: Path, head: str, kind: type[torch.nn.Module]) -> None:
    model = build_model(NAME, 10, 1, 8)
    replace_head(model, head, scale=12.0 if head == "cosine" else None)
    saved = card(task="ssl", head=head, head_scale=12.0 if head == "cosine" else None)
    _, network = load(finished_run(tmp_path / "run", model.state_dict(), saved), name=None)
    assert type(head_of(network)) is kind
    images = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(network.eval()(images), model.eval()(images))


UNFIT = {
    "own": (card(model="MyNet", own_model=True), "holds a network of the user's own, MyNet"),
    "abc": (card(head="balanced"), "holds a network with a second classifier"),
    "other": (card(model="wrn-16-1"), "does not fit wrn-16-1"),
    "older": (None, "says nothing of its network"),
}


@pytest.mark.parametrize("what", list(UNFIT))
def test_a_run_whose_network_no_name_builds_is_refused(tmp_path: Path, state: State, what: str) -> None:
    with pytest.raises(UserError, match=UNFIT[what][1]):
        load(finished_run(tmp_path / "run", state, UNFIT[what][0]), name=None)
