"""A step of distillation with the teacher's logits out of a feature store, beside the same step with the live teacher.

    python benchmarks/teacher_cache.py
    python benchmarks/teacher_cache.py --teacher resnet110 --student resnet20 --rounds 10

The pair is one of the usual ones on CIFAR-100, of 32 x 32 pixels, 100 classes and 64 images a step; images are noise,
of which the time does not depend. Both steps are those of a run (the views, both networks, the loss, backward, the
update), taken in turn, so that what else the machine does falls on both; the medians are compared. Making the store is
not counted: it is made once for all runs, and `embed` says how long that takes.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a checkout that is not installed

from tailmatch.cli import main as run
from tailmatch.datasets import load_dataset
from tailmatch.distill.step import Distillation
from tailmatch.engine.card import Card
from tailmatch.engine.checkpoint import save_weights
from tailmatch.engine.distributed import World
from tailmatch.engine.optim import build_optimizer
from tailmatch.engine.profile import Profile
from tailmatch.longtail.build import build_task
from tailmatch.longtail.config import DistillationOptions, LongtailConfig, MethodOptions, TeacherLossOptions
from tailmatch.longtail.data_options import DataOptions
from tailmatch.longtail.resolve import resolved
from tailmatch.longtail.task import LongtailTask
from tailmatch.models import build_model

RESULT = Path(__file__).resolve().parent / "results" / "teacher_cache.json"
SIZE, CLASSES, IMAGES, BATCH = 32, 100, 400, 64
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="resnet56")
    parser.add_argument("--student", default="resnet20")
    parser.add_argument("--rounds", type=int, default=8, help="each is one step with either teacher")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    load = [round(load, 1) for load in os.getloadavg()]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make(folder, options.teacher)
        store = {"teacher_store": folder / "store"}
        live = {"teacher": options.teacher, "teacher_checkpoint": folder / "teacher.safetensors"}
        steppers = {"cached": Stepper(folder, options.student, store), "live": Stepper(folder, options.student, live)}
        seconds: dict[str, list[float]] = {name: [] for name in steppers}
        for number in range(options.rounds + 2):
            for name, stepper in steppers.items():
                taken = stepper.step(number)
                if number >= 2:  # the first two set the libraries up
                    seconds[name].append(taken)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    figures = {
        "teacher": options.teacher,
        "student": options.student,
        "images_per_step": BATCH,
        "threads": options.threads,
        "cores": os.cpu_count(),
        "load": load,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "rounds": options.rounds,
        "cpu_seconds_per_step": {name: round(median, 4) for name, median in medians.items()},
        "live_over_cached": round(medians["live"] / medians["cached"], 2),
    }
    print(json.dumps(figures, indent=2))
    RESULT.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def make(folder: Path, teacher: str) -> None:
    """Images, a teacher that was never trained, and its store with two weak views of each image."""
    random = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", IMAGES), ("test", CLASSES)):
        arrays[f"{split}_images"] = random.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count) % CLASSES
    np.savez(folder / "noise.npz", **arrays)
    dataset = load_dataset("npz", folder / "noise.npz")
    card = Card(
        task="longtail",
        dataset="noise",
        model=teacher,
        class_names=dataset.class_names,
        channels=3,
        image_size=SIZE,
        mean=dataset.mean,
        std=dataset.std,
    )
    save_weights(folder / "teacher.safetensors", build_model(teacher, CLASSES, 3, SIZE).state_dict(), card)
    words = ["embed", "--dataset", "npz", "--data-root", str(folder / "noise.npz"), "--out", str(folder / "store")]
    words += ["--backbone", str(folder / "teacher.safetensors"), "--weak", "2", "--strong", "0", "--device", "cpu"]
    assert run(words) == 0


class Stepper:
    """Takes the steps of a run with one teacher."""

    def __init__(self, folder: Path, student: str, teacher: dict[str, object]) -> None:
        defaults = LongtailConfig.suited_to("npz")
        config = LongtailConfig(
            data=DataOptions(dataset="npz", data_root=folder / "noise.npz"),
            method=MethodOptions(model=student),
            distillation=DistillationOptions(**teacher),  # type: ignore[arg-type]
            loss=TeacherLossOptions(name="ikl"),
            optim=type(defaults.optim)(**{**vars(defaults.optim), "batch_size": BATCH}),
        )
        self.task: LongtailTask = build_task(resolved(config), CPU, World())
        assert isinstance(self.task.method, Distillation)
        self.optimizer = build_optimizer(self.task.parameters(), config.optim, self.task.rate_factors())
        self.task.model.train()

    def step(self, number: int) -> float:
        """Seconds of the processor that it took."""
        begun = time.process_time()
        result = self.task.step(self.task.model, number, Profile(False, CPU))
        self.optimizer.zero_grad(set_to_none=True)
        result.loss.backward()
        self.optimizer.step()
        return time.process_time() - begun


if __name__ == "__main__":
    main()
