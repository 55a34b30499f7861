"""What CONTRIBUTING says it takes to add a part is all that it takes: each is added for real to a copy of the code."""

import json
import os
from pathlib import Path

import pytest

from .documents import Checkout

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(os.name != "posix" or not (ROOT / ".git").exists(), reason="not a checkout with bash")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout.of(ROOT, tmp_path)


def insert(checkout: Checkout, name: str, text: str, before: str = "") -> None:
    """Put text before a line that is there once, or at the end."""
    path = checkout.place / name
    content = path.read_text(encoding="utf-8")
    if before:
        assert content.count(before) == 1
        text += before
    path.write_text(content.replace(before, text) if before else content + text, encoding="utf-8")


LOSS = """

@declares(LOSSES, "lorentz", "losses.lorentz:Lorentz")
class LorentzOptions:
    \"""Logarithm of the squared distance of the logits.\"""

    strength: float = number(1.0, "factor on the squared distance", excluded=0)
"""
ITS_FILE = """
from inspect import unwrap

from torch import Tensor

from tailmatch.declare import checks
from tailmatch.losses.catalog import LorentzOptions
from tailmatch.losses.checks import check_pair, reduce_rows, working_dtype
from tailmatch.losses.modules import TeacherLoss


@checks(LorentzOptions)
def lorentz(
    student: Tensor,
    teacher: Tensor,
    *,
    strength: float = 1.0,
    sample_weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    check_pair(student, teacher, sample_weight, reduction)
    dtype = working_dtype(student, teacher)
    rows_B = (strength * (student.to(dtype) - teacher.detach().to(dtype)).square().sum(-1)).log1p()
    return reduce_rows(rows_B, sample_weight, reduction)


class Lorentz(LorentzOptions, TeacherLoss):
    \"""`lorentz` as a module.\"""

    divergence = staticmethod(unwrap(lorentz))
"""
SHORT = "--steps 2 --batch-size 4 --threads 1 --device cpu"


def test_a_teacher_loss_with_an_option_is_a_row_and_a_file(checkout: Checkout) -> None:
    insert(checkout, "losses/catalog.py", LOSS)
    (checkout.place / "losses/lorentz.py").write_text(ITS_FILE)
    assert checkout.traces() == ["losses/catalog.py", "losses/lorentz.py"]
    shown = checkout.bash("python run.py ssl --loss lorentz --loss.strength 2 --dry-run --print-config", "")
    assert "name: lorentz" in shown
    assert "strength: 2.0" in shown
    for task in ("ssl", "longtail"):
        checkout.bash(f"python run.py {task} --loss lorentz --loss.strength 2 {SHORT} --out runs/{task}", "the loss")
        assert "strength: 2.0" in (checkout.place / f"runs/{task}/config.yaml").read_text()
    refused = checkout.bash("python run.py ssl --loss lorentz --loss.strength 0 2>&1 || true", "")
    assert "loss.strength must be a finite number greater than 0; got 0.0" in refused
    foreign = checkout.bash("python run.py ssl --loss kl --loss.strength 1 2>&1 || true", "")
    assert "Loss 'kl' has no option 'strength'" in foreign
    assert "Factor on the squared distance (lorentz)" in checkout.bash("python run.py ssl --help", "")
    checkout.bash("python -m pytest -q tests/losses/test_catalog.py tests/losses/test_numerics.py -k lorentz", "tests")


FEATURE_METHOD = """

@declares(FEATURE_METHODS, "moments", "distill.features.moments:Moments")
class MomentsOptions(FeatureOptions):
    \"""Squared error between the means of the pooled features.\"""

    strength: float = number(1.0, "factor on the squared error", excluded=0)
"""
ITS_FEATURE_FILE = """
from torch import Tensor

from tailmatch.distill.features.base import Activations, FeatureMethod
from tailmatch.distill.features.catalog import MomentsOptions


class Moments(MomentsOptions, FeatureMethod):
    def compare(self, student: Activations, teacher: Activations, labels: Tensor, index: Tensor) -> Tensor:
        return self.strength * (student.pooled.mean(1) - teacher.pooled.mean(1)).square().mean()
"""


def test_a_method_that_compares_features_is_a_row_and_a_file(checkout: Checkout) -> None:
    insert(checkout, "distill/features/catalog.py", FEATURE_METHOD)
    insert(checkout, "distill/features/catalog.py", '    "moments": 3.0,\n', before='    "reviewkd": 1.0,\n')
    (checkout.place / "distill/features/moments.py").write_text(ITS_FEATURE_FILE)
    assert checkout.traces() == ["distill/features/catalog.py", "distill/features/moments.py"]
    words = f"python run.py distill --method moments --method.strength 2 --baseline False {SHORT}"
    checkout.bash(f"{words} --out runs/moments", "the method")
    recorded = (checkout.place / "runs/moments/config.yaml").read_text()
    assert "strength: 2.0" in recorded
    assert "kd_weight: 3.0" in recorded


LABEL_LOSS = """

@declares(LABEL_LOSSES, "smoothed", "losses.smoothed:Smoothed")
class SmoothedOptions(CountsOptions):
    \"""Cross-entropy with a share of each label spread over all classes.\"""

    smoothing: float = number(0.1, "share of the label that is spread", high=1, excluded=1)
"""
ITS_LABEL_FILE = """
from torch import Tensor

from tailmatch.losses.catalog import SmoothedOptions
from tailmatch.losses.entropies import cross_entropy
from tailmatch.losses.label_modules import LabelLoss


def smoothed(logits: Tensor, labels: Tensor, *, smoothing: float = 0.1, **keywords: Tensor) -> Tensor:
    spread = -logits.log_softmax(-1).mean()
    return (1 - smoothing) * cross_entropy(logits, labels, **keywords) + smoothing * spread


class Smoothed(SmoothedOptions, LabelLoss):
    \"""`smoothed` as a module.\"""

    function, takes_counts = staticmethod(smoothed), False
"""


def test_a_label_loss_with_an_option_is_a_row_and_a_file(checkout: Checkout) -> None:
    insert(checkout, "losses/catalog.py", LABEL_LOSS)
    (checkout.place / "losses/smoothed.py").write_text(ITS_LABEL_FILE)
    assert checkout.traces() == ["losses/catalog.py", "losses/smoothed.py"]
    words = f"--label-loss smoothed --label-loss.smoothing 0.25 {SHORT} --out runs/one"
    checkout.bash(f"python run.py longtail {words}", "the label loss")
    assert "smoothing: 0.25" in (checkout.place / "runs/one/config.yaml").read_text()
    refused = checkout.bash("python run.py longtail --label-loss smoothed --label-loss.smoothing 1 2>&1 || true", "")
    assert "label_loss.smoothing must be a finite number at least 0 and below 1; got 1.0" in refused


RULE = """

class SurestShare(Acceptance):
    \"""The surest of a step's images.\"""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, seen: Predictions) -> Tensor:
        confidence_U = seen.unlabeled.amax(1)
        return (confidence_U >= confidence_U.quantile(1 - self.share)).float()
"""
ITS_RULE_ROW = """    "surest": Part(
        "ssl.acceptance:SurestShare", "the surest of a step", {"share": number(0.5, "share accepted", high=1)}
    ),
"""


def test_a_rule_of_acceptance_with_an_option_is_a_class_and_a_row(checkout: Checkout) -> None:
    insert(checkout, "ssl/acceptance.py", RULE)
    insert(checkout, "ssl/catalog.py", ITS_RULE_ROW, before='    "dash": Part(')
    assert checkout.traces() == ["ssl/acceptance.py", "ssl/catalog.py"]
    words = f"--acceptance surest --share 0.25 --unlabeled-ratio 4 {SHORT} --out runs/one"
    said = checkout.bash(f"python run.py ssl {words}", "the rule")
    assert "25.0 % accepted" in said
    assert "share: 0.25" in (checkout.place / "runs/one/config.yaml").read_text()
    assert "share: 0.5" in checkout.bash("python run.py ssl --acceptance surest --print-config", "")
    refused = checkout.bash("python run.py ssl --acceptance surest --share 2 2>&1 || true", "")
    assert "share must be a finite number at least 0 and at most 1; got 2.0" in refused
    foreign = checkout.bash("python run.py ssl --share 1 2>&1 || true", "")
    assert "--share belongs to --acceptance surest; leave it out" in foreign
    checkout.bash("python -m pytest -q tests/ssl/test_acceptance.py", "tests")


SECOND_STAGE = '''

@torch.no_grad()
def shrink(model: nn.Module, strength: float = 0.5) -> TrainedPart:
    """The old weights, those of each class a little nearer to their mean."""
    head = head_of(model)
    head.weight.lerp_(head.weight.mean(0, keepdim=True), strength)
    return TrainedPart(modules=(head.requires_grad_(True),), notes={"strength": strength})
'''
ITS_ROW = """    "shrink": SecondStage(
        target="longtail.two_stage:shrink",
        description="the old weights, nearer to their mean",
        trains=False,
        options={"strength": number(0.5, "how much nearer", high=1)},
    ),
"""


def test_a_second_stage_with_an_option_is_a_function_and_a_row(checkout: Checkout) -> None:
    insert(checkout, "longtail/two_stage.py", SECOND_STAGE)
    insert(checkout, "longtail/catalog.py", ITS_ROW, before='    "ncm": SecondStage(\n')
    assert checkout.traces() == ["longtail/catalog.py", "longtail/two_stage.py"]

    first = "python run.py longtail --steps 1 --threads 1 --device cpu --out runs/first"
    second = "python run.py longtail --stage2 shrink --from runs/first --strength 0.25 --threads 1 --out runs/second"
    checkout.bash(f"{first} && {second}", "the second stage")
    result = json.loads((checkout.place / "runs/second/result.json").read_text())
    assert (result["method"], result["strength"], result["steps"]) == ("shrink", 0.25, 0)

    refused = "python run.py longtail --stage2 shrink --from runs/first --strength 2 2>&1 || true"
    assert "strength must be a finite number at least 0 and at most 1; got 2.0" in checkout.bash(refused, "")
    wrong = "python run.py longtail --stage2 crt --from runs/first --strength 1 2>&1 || true"
    assert "--strength is an option of --stage2 shrink." in checkout.bash(wrong, "")
    listed = checkout.bash("python run.py longtail --help", "")
    assert "--stage2 {crt,lws,tau-norm,shrink,ncm}" in listed
    assert "How much nearer (shrink)" in listed


CHART = '''"""How many test samples each class has."""

import pandas as pd
from matplotlib.figure import Figure

from tailmatch.analysis.charts.base import Chart


class TestSamples(Chart):
    stem = "test_samples"
    title = "Test samples"

    def compute(self) -> pd.DataFrame:
        counts = pd.Series(self.methods[0].runs[0].labels).value_counts().sort_index()
        return counts.rename_axis("class").reset_index(name="samples")

    def height(self) -> float:
        return 2.0

    def draw(self, figure: Figure) -> None:
        figure.subplots().bar(self.frame()["class"], self.frame()["samples"])

    def caption(self) -> str:
        return "Test samples of each class."

    def alt(self) -> str:
        return f"{len(self.frame())} classes."
'''


def test_a_plot_is_a_class_and_a_line(checkout: Checkout) -> None:
    checkout.write("analysis/charts/samples.py", CHART)
    insert(checkout, "analysis/figures.py", "    TestSamples,\n", before="    Differences,\n    ClassAccuracy,\n")
    imported = "from tailmatch.analysis.charts.samples import TestSamples\n"
    insert(checkout, "analysis/figures.py", imported, before="from tailmatch.analysis.charts.teacher import")
    assert checkout.traces() == ["analysis/figures.py"]
    train = "python run.py longtail --steps 1 --threads 1 --device cpu --out runs/one"
    checkout.bash(f"{train} && python run.py analyze runs/one --out runs/report", "the plot")
    assert "Test samples of each class." in (checkout.place / "runs/report/report.html").read_text()
    assert "9," in (checkout.place / "runs/report/figures/test_samples.csv").read_text()


DATASET = '''"""Stripes that lie or stand, to be told apart."""

import torch

from tailmatch.datasets.base import ImageSet, ReadSets


def read_stripes() -> ReadSets:
    def drawn(count: int) -> ImageSet:
        labels = torch.arange(count) % 2
        lying = (torch.arange(16) % 4 < 2).to(torch.uint8).mul(255).repeat(16, 1)
        images = torch.stack([lying if label else lying.T for label in labels])[:, None]
        return ImageSet(images=images.contiguous(), labels=labels)

    return ReadSets(class_names=("standing", "lying"), train=drawn(200), test=drawn(40))
'''
ITS_DEFAULTS = """    "stripes": DatasetRow(
        description="16x16 stripes: 2 classes, 200 train, 40 test",
        obtain="nothing to get",
        reader="stripes:read_stripes",
        source="library",
        flip=False,
        crop_padding=1,
        ssl={**_SSL, "model": "wrn-10-1", "lr": 0.02},
        longtail={**_LONGTAIL, "model": "wrn-10-1-relu", "epochs": 7},
    ),
"""


def test_a_data_set_with_defaults_for_both_tasks_is_a_reader_and_a_row(checkout: Checkout) -> None:
    checkout.write("datasets/stripes.py", DATASET)
    insert(checkout, "datasets/catalog.py", ITS_DEFAULTS, before='    "folder": DatasetRow(\n')
    assert checkout.traces() == ["datasets/catalog.py"]
    data = "--dataset stripes --threads 1 --device cpu"
    shown = checkout.bash(f"python run.py ssl {data} --labels 8 --print-config", "the data set")
    assert "model: wrn-10-1\n" in shown
    assert "lr: 0.02\n" in shown
    shown = checkout.bash(f"python run.py longtail {data} --print-config", "")
    assert "model: wrn-10-1-relu\n" in shown
    assert "epochs: 7\n" in shown
    train = f"python run.py ssl {data} --labels 8 --steps 1 --out runs/few"
    checkout.bash(f"{train} && python run.py longtail {data} --imbalance 10 --steps 1 --out runs/tail", "")
    for name in ("few", "tail"):
        assert json.loads((checkout.place / "runs" / name / "result.json").read_text())["dataset"] == "stripes"
    assert "stripes" in checkout.bash("python run.py data list", "")


LIST = """# Fruit: photographs of one's own, a folder a class.
#   python run.py data prepare fruit --root /path/to/fruit
name: fruit
description: "fruit: 3 classes of 8 ... 2 images, 14 train, 6 test"
classes: 3
lists:
  train: {file: fruit_train.txt, images: 14, smallest: 2, largest: 8}
  test: {file: fruit_test.txt, images: 6, smallest: 2, largest: 2}
folders:
  train: [train]
  test: [held_out]
mean: [0.5, 0.5, 0.5]
std: [0.25, 0.25, 0.25]
longtail: {model: resnet10, epochs: 3, batch_size: 4, lr: 0.02, schedule: cosine}
"""
PICTURES = """
import pathlib, PIL.Image
for split, counts in {"train": (8, 4, 2), "held_out": (2, 2, 2)}.items():
    for name, count in zip(("apple", "pear", "quince"), counts):
        folder = pathlib.Path("fruit", split, name)
        folder.mkdir(parents=True)
        for image in range(count):
            PIL.Image.new("RGB", (40, 36), (image * 9, 80, 120)).save(folder / f"{image}.jpg")
"""


def test_a_data_set_in_files_is_a_list(checkout: Checkout) -> None:
    checkout.write("datasets/files/lists/fruit.yaml", LIST)
    checkout.write("pictures.py", PICTURES)
    checkout.bash("python pictures.py && python run.py data prepare fruit --root fruit --workers 0", "the pictures")
    assert "fruit is complete" in checkout.bash("python run.py data check fruit --root fruit --workers 0", "")
    data = "--dataset fruit --data-root fruit --image-size 32 --threads 1 --device cpu"
    assert "epochs: 3\n" in checkout.bash(f"python run.py longtail {data} --print-config", "")
    checkout.bash(f"python run.py longtail {data} --steps 1 --out runs/fruit", "")
    result = json.loads((checkout.place / "runs" / "fruit" / "result.json").read_text())
    assert (result["dataset"], result["class_names"]) == ("fruit", ["apple", "pear", "quince"])
