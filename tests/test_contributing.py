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


SECOND_STAGE = '''

@torch.no_grad()
def shrink(model: nn.Module, strength: float = 0.5) -> TrainedPart:
    """The old weights, those of each class a little nearer to their mean."""
    head = head_of(model)
    head.weight.lerp_(head.weight.mean(0, keepdim=True), strength)
    return TrainedPart.only(head.requires_grad_(True), strength=strength)
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
