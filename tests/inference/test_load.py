"""A loaded run gives what the run's own evaluation gave, from the weights' file alone."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tailmatch import load_run
from tailmatch.datasets import load_dataset
from tailmatch.engine.checkpoint import load_weights, save_weights
from tailmatch.errors import UserError
from tailmatch.ssl import AddOn, train
from tests.inference.conftest import RUNS, MakeRun, OwnNet, recorded_logits


@pytest.mark.parametrize("name", RUNS)
def test_the_weights_alone_give_what_the_evaluation_gave(
    name: str, trained: MakeRun, digits: Tensor, tmp_path: Path
) -> None:
    expected = recorded_logits(trained(name))
    alone = shutil.copy(trained(name) / "weights.safetensors", tmp_path / "mailed.safetensors")
    run = load_run(alone, device="cpu")
    with torch.inference_mode():
        found = run.model(run.preprocess(digits))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert run.class_names == tuple("0123456789")
    probabilities, labels = expected.softmax(1).topk(2)
    for ranking, label, probability in zip(
        run.predict(digits, top=2, batch_size=100), labels, probabilities, strict=True
    ):
        assert [name for name, _ in ranking] == [str(int(one)) for one in label]
        assert [share for _, share in ranking] == pytest.approx(probability.tolist(), abs=1e-4)


def test_the_kinds_of_classifiers_are_what_they_should_be(trained: MakeRun) -> None:
    cards = {name: load_weights(trained(name) / "weights.safetensors")[0] for name in RUNS}
    heads = {name: card.head for name, card in cards.items() if card.head != "linear"}
    assert heads == {"cosine head": "cosine", "factors": "scaled", "nearest mean": "cosine", "abc": "balanced"}
    assert {name for name, card in cards.items() if card.logit_shift} == {"shifted logits", "adjusted"}
    assert {card.dataset for card in cards.values()} == {"digits", "digits-lt"}


def test_selected_weights_are_others(trained: MakeRun, digits: Tensor) -> None:
    run = trained("resnet")
    last, selected = (load_run(run, weights=weights, device="cpu") for weights in ("last", "selected"))
    assert (last.file.name, selected.file.name) == ("weights.safetensors", "selected.safetensors")
    for loaded in (last, selected):
        with torch.inference_mode():
            found = loaded.model(loaded.preprocess(digits))
        torch.testing.assert_close(found, recorded_logits(run, loaded is selected), rtol=1e-4, atol=1e-4)


def test_nothing_of_the_callers_changes(trained: MakeRun, digits: Tensor) -> None:
    before = torch.random.get_rng_state()
    run = load_run(trained("cnn-digits"), device="cpu")
    image = Image.fromarray(digits[0, 0].numpy()).resize((31, 20))
    run.predict(image)
    assert image.size == (31, 20)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not run.model.training


# -- images ------------------------------------------------------------------------------------------------------------


def test_an_image_may_come_in_any_form(trained: MakeRun, digits: Tensor, tmp_path: Path) -> None:
    preprocess = load_run(trained("cnn-digits"), device="cpu").preprocess
    expected = preprocess(digits[:3])
    assert expected.shape == (3, 1, 8, 8)
    torch.testing.assert_close(expected, (digits[:3] / 255 - 0.3057) / 0.3759)
    forms = [digits[:3].numpy(), digits[:3, 0], digits[:3].permute(0, 2, 3, 1).numpy()]
    pillow = [Image.fromarray(image.numpy()) for image in digits[:3, 0]]
    palette = [image.convert("RGB").quantize(256) for image in pillow]
    forms += [pillow, tuple(pillow), [image.convert("RGBA") for image in pillow], palette]
    for index, image in enumerate(pillow):
        image.save(tmp_path / f"{index}.png")
    forms += [[tmp_path / f"{index}.png" for index in range(3)], [str(tmp_path / f"{index}.png") for index in range(3)]]
    for form in forms:
        torch.testing.assert_close(preprocess(form), expected)
    torch.testing.assert_close(preprocess(pillow[0]), expected[:1])


def test_other_sizes_are_scaled_and_cropped_as_the_folders_reader_does(
    trained: MakeRun, digits: Tensor, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for label in ("a", "b"):
            (tmp_path / part / label).mkdir(parents=True)
            for index in range(2):
                pixels = rng.integers(0, 256, (40 + index, 30), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / label / f"{index}.png")
    expected = load_dataset("folder", tmp_path, image_size=8).test.images
    preprocess = load_run(trained("cnn-digits"), device="cpu").preprocess
    paths = sorted((tmp_path / "test").rglob("*.png"))
    assert torch.equal(preprocess.pixels(paths), expected)
    assert torch.equal(preprocess.pixels([Image.open(path) for path in paths]), expected)
    same_size = np.stack([np.asarray(Image.open(path)) for path in paths[::2]])
    assert torch.equal(preprocess.pixels(same_size), expected[::2])


def test_images_of_files_are_prepared_as_their_evaluation_does(trained: MakeRun, tmp_path: Path) -> None:
    from tailmatch.datasets.files.views import EvalView, draws_of

    card, state = load_weights(trained("cnn-digits") / "weights.safetensors")
    state["features.0.weight"] = state["features.0.weight"].repeat(1, 3, 1, 1)
    card = replace(card, channels=3, image_size=28, short_side=32, mean=(0.5,) * 3, std=(0.25,) * 3)
    save_weights(tmp_path / "w.safetensors", state, card)
    preprocess = load_run(tmp_path / "w.safetensors", device="cpu").preprocess
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    image.save(tmp_path / "a.jpg")
    expected = EvalView(size=28, short_side=32)((tmp_path / "a.jpg").read_bytes(), draws_of(0, 0, 0))
    assert torch.equal(preprocess.pixels(tmp_path / "a.jpg")[0], expected)
    assert torch.equal(preprocess.pixels(Image.open(tmp_path / "a.jpg"))[0], expected)
    assert torch.equal(preprocess.pixels(np.asarray(Image.open(tmp_path / "a.jpg")))[0], expected)


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        ([], "Got no images; give at least one."),
        ("none.png", r"none.png cannot be read: no such file or directory\."),
        ([7], "Images are paths, Pillow images, or one uint8 array or tensor of several, got int"),
        (np.zeros((2, 8, 8)), "Images in arrays are uint8, 0 to 255, got float64"),
        (np.zeros((2, 3, 8, 8), np.uint8), r"takes gray images, as arrays \[N, 1, H, W\], .* got \[2, 3, 8, 8\]"),
        (torch.zeros(0, 1, 8, 8, dtype=torch.uint8), r"got \[0, 1, 8, 8\]"),
        (Image.new("I;16", (8, 8)), "its pixels are of Pillow's mode 'I;16'; save it with 8 bits a channel"),
    ],
)
def test_what_is_no_image_is_refused(images: object, sentence: str, trained: MakeRun) -> None:
    with pytest.raises(UserError, match=sentence):
        load_run(trained("cnn-digits"), device="cpu").predict(images)  # type: ignore[arg-type]


# -- runs that cannot be loaded ----------------------------------------------------------------------------------------


def test_a_network_of_ones_own_is_asked_for(tmp_path: Path, digits: Tensor) -> None:
    options = {"steps": 4, "out": tmp_path / "own", "device": "cpu", "threads": 1}
    train(dataset="digits", labels=40, model=OwnNet(), **options)
    asked = r"a network of the user's own, .*OwnNet: .*load_run\('.*weights.safetensors', model=\.\.\.\)"
    with pytest.raises(UserError, match=asked):
        load_run(tmp_path / "own")
    run = load_run(tmp_path / "own", model=OwnNet(), device="cpu")
    with torch.inference_mode():
        torch.testing.assert_close(run.model(run.preprocess(digits)), recorded_logits(tmp_path / "own"))
    with pytest.raises(UserError, match=r"does not fit the network .*OwnNet: size mismatch for fc.weight"):
        load_run(tmp_path / "own", model=OwnNet(7))


class Halved(AddOn):
    """Does to the logits what no shift can."""

    def evaluated(self, logits_NC: Tensor) -> Tensor:
        return logits_NC / 2


class Wrapped(AddOn):
    """Puts more around the network than its name says."""

    def extend(self, model: nn.Module) -> nn.Module:
        return nn.Sequential(model)


def test_what_a_file_cannot_carry_is_said(tmp_path: Path) -> None:
    options = {"dataset": "digits", "labels": 40, "steps": 2, "device": "cpu", "threads": 1}
    train(**options, add_ons=(Halved(),), out=tmp_path / "halved")
    with pytest.raises(UserError, match=r"was evaluated through add_ons of the user's own, which no file can carry"):
        load_run(tmp_path / "halved")
    train(**options, add_ons=(Wrapped(),), out=tmp_path / "wrapped")
    with pytest.raises(
        UserError, match=r"holds the weights of a network of the user's own, torch.nn.modules.container"
    ):
        load_run(tmp_path / "wrapped")


def test_a_run_that_is_none_or_not_finished_is_refused(trained: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no run folder or file .*nothing; `runs` lists what there is"):
        load_run(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"is no run folder: config.yaml is missing"):
        load_run(tmp_path)
    with pytest.raises(UserError, match=r"has no selected.safetensors, since it held out no validation images"):
        load_run(trained("cnn-digits"), weights="selected")
    with pytest.raises(UserError, match=r"is a file of weights; --weights selected chooses between those of a run"):
        load_run(trained("resnet") / "weights.safetensors", weights="selected")
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(trained("resnet") / "config.yaml", begun)
    with pytest.raises(UserError, match=r"the run was cut off before its first evaluation; go on with it by --resume"):
        load_run(begun)
    (begun / "result.json").write_text('{"status": "running", "steps": 7, "total_steps": 24}')
    with pytest.raises(UserError, match=r"has no weights.safetensors: the run has not finished, at step 7 of 24"):
        load_run(begun)
    (begun / "result.json").write_text('{"status": "failed", "error": "nan at 3", "steps": 3, "total_steps": 24}')
    with pytest.raises(UserError, match=r"the run has failed \(nan at 3\), at step 3 of 24"):
        load_run(begun)


def test_the_package_stays_light_until_it_is_asked_for() -> None:
    code = (
        "import sys, tailmatch; from tailmatch import __version__; assert 'torch' not in sys.modules; "
        "from tailmatch import load_run; assert 'pandas' not in sys.modules; print(load_run.__name__)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "load_run\n"
