"""Runs on stores say what is in images: the store's backbone is built again, and stands in front of the head."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tailmatch import load_run
from tailmatch.cli import main
from tailmatch.datasets import load_dataset
from tailmatch.engine.card import Card
from tailmatch.engine.checkpoint import save_weights
from tailmatch.errors import UserError
from tailmatch.models import build_model


def backbone(file: Path, seed: int) -> Path:
    """A network of digits that was never trained, which is as good as any other here."""
    torch.manual_seed(seed)
    names = tuple(map(str, range(10)))
    about = {"task": "ssl", "dataset": "digits", "model": "cnn-digits", "class_names": names}
    card = Card(**about, channels=1, image_size=8, mean=(0.3,), std=(0.4,))  # type: ignore[arg-type]
    file.parent.mkdir(exist_ok=True)
    save_weights(file, build_model("cnn-digits", 10, 1).state_dict(), card)
    return file


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a backbone, its store, and a run of each task on that."""
    folder = tmp_path_factory.mktemp("made")
    weights = backbone(folder / "backbone" / "weights.safetensors", 0)
    call = ["embed", "--dataset", "digits", "--backbone", str(weights), "--out", str(folder / "store")]
    assert main([*call, "--weak", "0", "--strong", "0", "--device", "cpu", "--precision", "fp32"]) == 0
    of_store = ["--dataset", "store", "--data-root", str(folder / "store"), "--device", "cpu", "--steps", "20"]
    assert main(["longtail", *of_store, "--model", "cosine", "--out", str(folder / "longtail")]) == 0
    add_on = ["--add-on", "logit-adjust-posthoc", "--labels", "40"]
    assert main(["ssl", *of_store, *add_on, "--model", "mlp-16", "--out", str(folder / "ssl")]) == 0
    return folder


@pytest.mark.parametrize("task", ["longtail", "ssl"])
def test_images_get_the_logits_that_their_features_have(made: Path, task: str, tmp_path: Path) -> None:
    run = load_run(made / task, device="cpu")
    images = load_dataset("digits").test.images
    with torch.inference_mode():
        found = run.model(run.preprocess(images))
    expected = np.load(made / task / "predictions.npz")["logits"]
    np.testing.assert_allclose(found.numpy(), expected, atol=0.02)  # features near a rounding edge of half precision
    assert (np.abs(found.numpy() - expected) < 1e-4).mean() > 0.99
    file = tmp_path / "digit.png"
    Image.fromarray(images[7, 0].numpy()).save(file)
    assert main(["predict", str(made / task), str(file), "--out", str(tmp_path / "said.csv")]) == 0
    likeliest = (tmp_path / "said.csv").read_text().splitlines()[1].split(",")[1]
    assert likeliest == run.class_names[int(expected[7].argmax())]


def test_a_backbone_that_is_gone_or_another_one_is_refused(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    shutil.copytree(made, folder)
    place = folder / "store" / "weights.json"
    config = folder / "longtail" / "config.yaml"
    config.write_text(config.read_text().replace(str(made), str(folder)))
    with pytest.raises(UserError, match=r"config\.yaml .*was changed"):
        load_run(folder / "longtail", device="cpu")
    config.write_text(config.read_text().partition("\n")[2])  # without the line of its checksum
    other = backbone(folder / "other" / "weights.safetensors", 1)
    place.write_text(json.dumps({"backbone": str(other), "weights": None}))
    with pytest.raises(UserError, match=r"those that are here are others .*bring the weights that the store was made"):
        load_run(folder / "longtail", device="cpu")
    place.write_text(json.dumps({"backbone": str(folder / "nowhere"), "weights": None}))
    with pytest.raises(UserError, match="takes the features of cnn-digits, which is not to be had: Unknown backbone"):
        load_run(folder / "longtail", device="cpu")
    place.unlink()
    with pytest.raises(UserError, match="not to be had: Nobody publishes weights of cnn-digits"):
        load_run(folder / "longtail", device="cpu")
