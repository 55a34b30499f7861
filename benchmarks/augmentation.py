"""How long the weak and the strong views of a batch take: batched tensor operations against one PIL image at a time.

    python benchmarks/augmentation.py                 # one CPU core: table, and results/augmentation.json
    python benchmarks/augmentation.py --device cuda   # the batched side on a GPU: results/augmentation-cuda.json

Both sides start from a uint8 array and end with two uint8 batches: the weak view, and the strong one (weak again, two
random operations with probability 0.5 each, cutout). They make the same views: the tests hold each operation to PIL
bit by bit. The last column adds what comes next in a training step, both views as normalised floats. Both sides run on
one thread and are timed in processor time, their repetitions alternate, and medians are reported.
"""

import argparse
import json
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import PIL
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a checkout that is not installed

from benchmarks import pil_augmentation as pil
from tailmatch.datasets.strong_augment import STRONG_POOL, StrongAugment
from tailmatch.datasets.weak_augment import Normalize, WeakAugment

RESULTS = Path(__file__).parent / "results"
Batch = tuple[int, int, int, int]
CASES: dict[str, tuple[Batch, int, tuple[str, ...]]] = {
    "CIFAR, 448 of 3 x 32 x 32": ((448, 3, 32, 32), 4, STRONG_POOL),
    "digits, 448 of 1 x 8 x 8": ((448, 1, 8, 8), 1, STRONG_POOL),
    "STL-10, 448 of 3 x 96 x 96": ((448, 3, 96, 96), 12, STRONG_POOL),
}


def pil_views(images: np.ndarray, padding: int, pool: tuple[str, ...]) -> list[np.ndarray]:
    """[weak, strong], each uint8 [B, C, H, W]."""
    pictures = [pil.to_picture(image) for image in images]
    weak = np.stack([pil.to_array(pil.weak(picture, padding, True)) for picture in pictures])
    strong = np.stack([pil.to_array(pil.strong(picture, padding, True, pool)) for picture in pictures])
    return [weak, strong]


def usual_normalize(images: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """ToTensor and Normalize as a data loader runs them, image by image."""
    return np.stack([(image.astype(np.float32) / 255 - mean) / std for image in images])


def milliseconds(action: Callable[[], object], device: torch.device) -> float:
    """On a CPU thread the processor's time, which other programs do not lengthen; on a GPU the time until done."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = clock()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (clock() - start) * 1000


def measure(case: str, repeats: int, inner: int, device: torch.device) -> dict[str, float | str]:
    """Medians over `repeats`; the batched side runs `inner` times in each, as it is much shorter."""
    shape, padding, pool = CASES[case]
    cpu = torch.device("cpu")
    # Smooth pictures with noise: every operation has something to do, and nothing is downloaded.
    wave = np.random.default_rng(0).normal(size=(*shape[:2], 4, 4)).repeat(shape[2] // 4, 2).repeat(shape[3] // 4, 3)
    noise = np.random.default_rng(1).normal(size=shape)
    array = (128 + 50 * wave + 10 * noise).clip(0, 255).astype(np.uint8)
    images = torch.from_numpy(array).to(device)
    mean, std = (0.5,) * shape[1], (0.25,) * shape[1]
    generator = torch.Generator().manual_seed(0)
    random.seed(0)
    weak, strong = WeakAugment(padding=padding), StrongAugment(padding=padding, pool=pool)
    normalize = Normalize(mean, std)
    per_channel = [np.array(numbers, dtype=np.float32).reshape(-1, 1, 1) for numbers in (mean, std)]
    reference_views = pil_views(array, padding, pool)
    views = torch.cat([weak(images, generator), strong(images, generator)])
    batched: dict[str, Callable[[], object]] = {
        "batched_weak": lambda: weak(images, generator),
        "batched_strong": lambda: strong(images, generator),
        "batched_normalize": lambda: normalize(views),
    }
    times: dict[str, list[float]] = {name: [] for name in ("pil_views", "pil_normalize", *batched)}
    for action in batched.values():
        milliseconds(action, device)
    for _ in range(repeats):
        times["pil_views"].append(milliseconds(lambda: pil_views(array, padding, pool), cpu))
        times["pil_normalize"].append(
            milliseconds(lambda: [usual_normalize(view, *per_channel) for view in reference_views], cpu)
        )
        for _ in range(inner):
            for name, action in batched.items():
                times[name].append(milliseconds(action, device))
    medians = {f"{name}_ms": statistics.median(values) for name, values in times.items()}
    ours = medians["batched_weak_ms"] + medians["batched_strong_ms"]
    with_floats = medians["pil_views_ms"] + medians["pil_normalize_ms"], ours + medians["batched_normalize_ms"]
    return {
        "case": case,
        **medians,
        "batched_views_ms": ours,
        "times_faster": medians["pil_views_ms"] / ours,
        "times_faster_with_floats": with_floats[0] / with_floats[1],
    }


def processor() -> str:
    """The CPU's name, where the system tells it."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def table(rows: list[dict[str, float | str]]) -> str:
    lines = [
        "| batch | PIL, ms | weak, ms | strong, ms | weak + strong, ms | faster | faster with floats |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        numbers = [row["pil_views_ms"], row["batched_weak_ms"], row["batched_strong_ms"], row["batched_views_ms"]]
        cells = [f"{number:.2f}" for number in numbers]
        factors = [f"{row[name]:.0f} ×" for name in ("times_faster", "times_faster_with_floats")]
        lines.append(f"| {' | '.join([str(row['case']), *cells, *factors])} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="where the batched side runs")
    parser.add_argument("--repeats", type=int, default=7, help="PIL repetitions")
    parser.add_argument("--inner", type=int, default=10, help="batched repetitions in each of them")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    rows = [measure(case, arguments.repeats, arguments.inner, device) for case in CASES]
    record = {
        "schema": 1,
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else processor(),
        "threads": 1,
        "clock": "process_time" if device.type == "cpu" else "perf_counter",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "pillow": PIL.__version__},
        "repeats": arguments.repeats,
        "inner": arguments.inner,
        "cases": rows,
    }
    path = RESULTS / ("augmentation.json" if device.type == "cpu" else f"augmentation-{device.type}.json")
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(table(rows))
    print(f"written to {path}")


if __name__ == "__main__":
    main()
