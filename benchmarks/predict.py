"""How long `predict` takes from the call to the last line: 1,000 images of 32 x 32 pixels, as PNG files and as an npz.

    python benchmarks/predict.py                      # three calls each, the median counts
    python benchmarks/predict.py --images 10000

The network is FixMatch's for CIFAR-10 (wrn-28-2) with weights as drawn: what they say does not change the time. The
call is a process of its own, so starting Python and importing torch are part of the time.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a checkout that is not installed

from tailmatch.engine.card import Card
from tailmatch.engine.checkpoint import save_weights
from tailmatch.models import build_model

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "predict.json"
SIDE, CLASSES = 32, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--model", default="wrn-28-2")
    parser.add_argument("--calls", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_weights(folder / "weights.safetensors", options.model)
        write_images(folder, options.images)
        seconds = {source: [call(folder, source) for _ in range(options.calls)] for source in ("files", "images.npz")}
    figures = {
        "images": options.images,
        "side": SIDE,
        "model": options.model,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "median_seconds": {source: round(statistics.median(found), 2) for source, found in seconds.items()},
        "seconds": {source: [round(one, 2) for one in found] for source, found in seconds.items()},
    }
    print(json.dumps(figures, indent=2))
    RESULT.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def write_weights(path: Path, model: str) -> None:
    torch.manual_seed(0)
    card = Card(
        task="ssl",
        dataset="cifar10",
        model=model,
        class_names=tuple(map(str, range(CLASSES))),
        channels=3,
        image_size=SIDE,
        mean=(0.49, 0.48, 0.45),
        std=(0.25, 0.24, 0.26),
    )
    save_weights(path, build_model(model, CLASSES, 3, SIDE).state_dict(), card)


def write_images(folder: Path, count: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    np.savez(folder / "images.npz", images=images)
    (folder / "files").mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / "files" / f"{index:06}.png")


def call(folder: Path, source: str) -> float:
    words = [sys.executable, str(ROOT / "run.py"), "predict", "weights.safetensors", source, "--out", "predictions.csv"]
    begun = time.perf_counter()
    subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
