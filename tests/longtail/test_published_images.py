"""The images of a run as its source had them: beyond their edges, their normalisation, an epoch's last batch."""

from pathlib import Path

import pytest
import torch
import yaml

from tailmatch.distill.images import Images
from tailmatch.engine.command_line import parse_run
from tailmatch.engine.distributed import World
from tailmatch.engine.profile import Profile
from tailmatch.longtail.build import build_data
from tailmatch.longtail.config import LongtailConfig
from tailmatch.longtail.resolve import resolved
from tests.longtail.conftest import Longtail

PIXELS = ("--pixel-mean", "0.3", "--pixel-std", "0.4")


def images_of(*words: str) -> tuple[Images, int]:
    config = resolved(parse_run(LongtailConfig, "longtail", words, "run.py longtail"))
    images, timetable = build_data(config, torch.device("cpu"), World())
    return images, timetable.steps_per_epoch


def test_pixels_are_normalised_as_asked_for_and_black_lies_beyond_the_edges() -> None:
    black, steps = images_of("--crop-fill", "zero", *PIXELS, "--incomplete-batch", "keep")
    reflected, _ = images_of("--crop-fill", "reflect", *PIXELS, "--incomplete-batch", "keep")
    assert steps == -(-len(black.labels["train"]) // 32)
    sizes = []
    for step in range(steps):
        batches = [images.batch(step, Profile(False, torch.device("cpu"))) for images in (black, reflected)]
        pixels, others = (batch.images * 0.4 + 0.3 for batch in batches)
        torch.testing.assert_close(pixels * 255, (pixels * 255).round(), rtol=0, atol=1e-3)  # grey levels again
        changed = (pixels - others).abs() > 1e-3
        assert changed.any()
        torch.testing.assert_close(pixels[changed], torch.zeros(int(changed.sum())), rtol=0, atol=1e-6)
        sizes.append(len(pixels))
    assert sizes[:-1] == [32] * (steps - 1)
    assert sum(sizes) == len(black.labels["train"])
    assert torch.equal(next(black.split("test")), next(reflected.split("test")))


def test_a_run_records_them(longtail: Longtail, tmp_path: Path) -> None:
    words = ("--crop-fill", "zero", *PIXELS, "--incomplete-batch", "keep", "--epochs", 1, "--out", tmp_path / "run")
    assert longtail(*words) == 0
    recorded = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (recorded["crop_fill"], recorded["pixel_mean"], recorded["pixel_std"]) == ("zero", [0.3], [0.4])
    assert recorded["incomplete_batch"] == "keep"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--incomplete-batch", "keep", "--batchnorm", "chunks:4"), "ends each epoch with one of 13 images"),
        (
            ("--pixel-mean", "0.3", "0.3", "0.3"),
            "--pixel-mean takes a number for each of the images' 1 channels, got 3",
        ),
        (("--pixel-std", "0"), "pixel_std must be above 0"),
        (("--pixel-mean", "127"), "pixel_mean must lie between 0 and 1"),
        (("--dataset", "imagenet-lt", "--crop-fill", "zero"), "crop_fill is for images in memory"),
    ],
)
def test_what_does_not_go_together_is_refused(
    longtail: Longtail, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert longtail(*words, "--dry-run") == 2
    assert said in capsys.readouterr().err
