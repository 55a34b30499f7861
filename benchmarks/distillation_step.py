"""How much of a distillation step goes into the loss, at ImageNet-LT's batch of 128 and 1000 classes.

    python benchmarks/distillation_step.py                 # CPU: ResNet-18 from a ResNet-18 on 64 x 64 pixels
    python benchmarks/distillation_step.py --device cuda   # ResNet-50 from a ResNeXt-101-32x4d on 224 x 224 pixels

The whole step is what `longtail` runs: teacher forward, student forward, both losses, class means, backward, SGD. The
loss's part is timed alone on logits of the same shape, its backward to the student's logits included. Repetitions of
both alternate, so that whatever else the machine does falls on both; medians are reported, by processor time on one CPU
thread (which other programs hardly lengthen) and by events on a GPU. Written to results/distillation_step.json.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a checkout that is not installed

from tailmatch.distill.step import Distillation, FrozenTeacher
from tailmatch.engine.device import Autocast
from tailmatch.engine.optim import build_optimizer
from tailmatch.engine.options import OptimOptions
from tailmatch.engine.profile import Profile
from tailmatch.losses import build_label_loss, build_loss
from tailmatch.models import build_model

BATCH, CLASSES = 128, 1000
RESULTS = Path(__file__).parent / "results"
LOSSES = ("kl", "ikl", "gkl", "dkd")


class Step:
    """One distillation step, whole, or its losses alone."""

    def __init__(self, loss: str, names: tuple[str, str], size: int, device: torch.device) -> None:
        layout = torch.channels_last
        teacher, self.student = (build_model(name, CLASSES).to(device, memory_format=layout) for name in names)
        self.images = torch.randn(BATCH, 3, size, size, device=device).to(memory_format=layout)
        self.labels = torch.randint(CLASSES, (BATCH,), device=device)
        self.autocast = Autocast.pick("auto", device)
        counts = (1280 * 256 ** -torch.linspace(0, 1, CLASSES)).int()
        self.method = Distillation(
            FrozenTeacher(teacher, self.autocast),
            build_label_loss("balanced-softmax", counts).to(device),
            build_loss(loss, CLASSES).to(device),
        )
        self.optimizer = build_optimizer(self.student.parameters(), OptimOptions(lr=1e-4))
        self.profile = Profile(False, device)
        self.student_logits = torch.randn(BATCH, CLASSES, device=device, requires_grad=True)
        self.teacher_logits = torch.randn(BATCH, CLASSES, device=device)

    def whole(self) -> None:
        with self.autocast():
            losses = self.method(self.student, self.images, self.labels, self.profile)
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        self.optimizer.step()

    def losses(self) -> None:
        self.student_logits.grad = None
        hard = self.method.label_loss(self.student_logits, self.labels)
        divergence = self.method.loss(self.student_logits, self.teacher_logits, self.labels)
        self.method.loss.observe(self.teacher_logits, self.labels)
        (hard + divergence).backward()


def seconds(function: Callable[[], None], device: torch.device) -> float:
    if device.type != "cuda":
        start = time.process_time()
        function()
        return time.process_time() - start
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    before.record()
    function()
    after.record()
    torch.cuda.synchronize(device)
    return before.elapsed_time(after) / 1000


def measure(loss: str, names: tuple[str, str], size: int, device: torch.device, repeats: int) -> dict[str, Any]:
    torch.manual_seed(0)
    step = Step(loss, names, size, device)
    step.whole()
    step.losses()
    whole, alone = [], []
    for _ in range(repeats):
        whole.append(seconds(step.whole, device))
        # The loss is short: several in a row, so that the clock's resolution does not show.
        alone += [seconds(step.losses, device) for _ in range(5)]
    step_ms, loss_ms = 1000 * statistics.median(whole), 1000 * statistics.median(alone)
    return {"loss": loss, "step_ms": round(step_ms, 3), "loss_ms": round(loss_ms, 3), "share": loss_ms / step_ms}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_num_threads(1)
    on_gpu = device.type == "cuda"
    names, size = (("resnext101_32x4d", "resnet50"), 224) if on_gpu else (("resnet18", "resnet18"), 64)
    rows = [measure(loss, names, size, device, options.repeats) for loss in LOSSES]
    print(f"{names[0]} -> {names[1]}, batch {BATCH}, {CLASSES} classes, {size} x {size} pixels, {device}")
    print(f"{'loss':<8}{'step ms':>12}{'losses ms':>12}{'share':>9}")
    for row in rows:
        print(f"{row['loss']:<8}{row['step_ms']:>12.2f}{row['loss_ms']:>12.3f}{row['share']:>9.2%}")
    record = {
        "date": date.today().isoformat(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if on_gpu else f"{platform.machine()} CPU, 1 thread",
        "teacher": names[0],
        "student": names[1],
        "batch": BATCH,
        "classes": CLASSES,
        "pixels": size,
        "rows": rows,
    }
    path = RESULTS / f"distillation_step{'-cuda' if on_gpu else ''}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
