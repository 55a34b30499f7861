"""Images per second and core of the ImageNet loading, against torchvision's ImageFolder with the reference transforms.

    python benchmarks/imagenet_loading.py       # one CPU core, about two minutes: table, results/imagenet_loading.json

Both sides read the same generated JPEG files (pieces of photographs with sensor noise, about 500 x 375 pixels and 100
KB, as ImageNet's are) through a DataLoader without workers, on one thread. The reference ends in normalised float
batches, since its workers normalise; ours ends in uint8 batches, since a GPU normalises them in no time, and "in full
on the CPU" adds that. Contestants alternate; each gets the median over the rounds of its processor time, which other
programs do not lengthen.

The second table compares pixels: one crop box per image, cut by us and by torchvision.
"""

import argparse
import io
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a checkout that is not installed

from tailmatch.datasets.files import decode
from tailmatch.datasets.files.decode import Box, Picture
from tailmatch.datasets.files.file_set import FileSet, read_folders
from tailmatch.datasets.files.loader import ImageLoader
from tailmatch.datasets.files.views import EvalView, TrainView, crop, draws_of
from tailmatch.datasets.prepare.resize import resize_all
from tailmatch.datasets.weak_augment import Normalize
from tailmatch.engine.sampling import EpochPlan, EvalPlan
from tailmatch.torchvision_import import torchvision

RESULTS = Path(__file__).parent / "results"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = ((500, 375), (500, 375), (500, 375), (375, 500), (500, 333))
BATCH = 32
Contestant = Callable[[int], None]


def write_images(root: Path, count: int) -> float:
    """A folder of two classes; returns the files' mean size in KB."""
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    draws = np.random.default_rng(0)
    total = 0
    for index in range(count):
        width, height = SIZES[index % len(SIZES)]
        photo, zoom = photos[index % 2], draws.uniform(0.55, 0.85)
        w, h = int(width * zoom), int(height * zoom)
        left, top = int(draws.integers(0, photo.width - w)), int(draws.integers(0, photo.height - h))
        piece = photo.crop((left, top, left + w, top + h)).resize((width, height), Image.Resampling.BICUBIC)
        noise = draws.normal(0, draws.uniform(6, 12), (height, width, 1))
        pixels = (np.asarray(piece, dtype=np.float64) + noise).clip(0, 255).astype(np.uint8)
        path = root / "train" / f"class{index % 2}" / f"{index}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, "JPEG", quality=92)
        total += path.stat().st_size
    return total / count / 1000


@contextmanager
def pillow_only(active: bool = True):
    """Without the optional decoder."""
    kept = decode.simplejpeg
    if active:
        decode.simplejpeg = None
    try:
        yield
    finally:
        decode.simplejpeg = kept


def reference(root: Path, train: bool) -> Contestant:
    """torchvision's loading as its own training recipes have it."""
    t = torchvision("transforms")
    random = [t.RandomResizedCrop(224), t.RandomHorizontalFlip()]
    steps = [*(random if train else [t.Resize(256), t.CenterCrop(224)]), t.ToTensor(), t.Normalize(MEAN, STD)]
    images = torchvision("datasets").ImageFolder(str(root / "train"), t.Compose(steps))
    loader = torch.utils.data.DataLoader(images, batch_size=BATCH, shuffle=train, drop_last=train)

    def epoch(number: int) -> None:
        torch.manual_seed(number)
        for _ in loader:
            pass

    return epoch


def ours(files: FileSet, train: bool, *, simplejpeg: bool = True, in_full: bool = False) -> Contestant:
    """Our loading of the same images."""
    normalize = Normalize(MEAN, STD)
    if train:
        plan = EpochPlan(images=len(files), batch_size=BATCH, seed=0)
        steps = plan.steps_per_epoch
        loader = ImageLoader(files, TrainView(), plan, 10**6)
    else:
        evaluation = EvalPlan(images=len(files), batch_size=BATCH)
        steps = evaluation.steps
        loader = ImageLoader(files, EvalView(), evaluation, steps)

    def epoch(number: int) -> None:
        with pillow_only(not simplejpeg):
            for step in range(steps):
                batch = loader.batch(number * steps + step if train else step)
                if in_full:
                    normalize(batch.images)

    return epoch


def measure(contestants: dict[str, Contestant], images: int, rounds: int) -> dict[str, float]:
    """Images per second of processor time, the median over alternating rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, epoch in contestants.items():
            start = time.process_time()
            epoch(number)
            if number:  # the first round warms up
                seconds[name].append(time.process_time() - start)
    return {name: images / statistics.median(times) for name, times in seconds.items()}


def pixel_differences(files: FileSet) -> dict[str, dict[str, float]]:
    """Grey levels (0 ... 255) between our crops and torchvision's, same box; and between the two decoders."""
    cut = torchvision("transforms.functional").resized_crop
    differences: dict[str, list[float]] = {"crops against the reference": [], "large crops, decoded at half size": []}
    decoders = []
    for index in range(len(files)):
        data = Path(files.path(index)).read_bytes()
        for name, content in zip(differences, (data, enlarged(data)), strict=True):
            picture = Picture(content)
            scale = (0.08, 1.0) if content is data else (0.75, 1.0)
            box = TrainView(scale=scale).box(picture.width, picture.height, draws_of(0, 0, index))
            if content is not data:  # on edges that both sizes have, or the shift would be measured too
                box = Box(*(edge // 8 * 8 for edge in box))
            image = Image.open(io.BytesIO(content)).convert("RGB")
            theirs = np.asarray(cut(image, box.top, box.left, box.height, box.width, [224, 224]), dtype=int)
            differences[name].append(float(np.abs(crop(picture, box, 224).permute(1, 2, 0).numpy() - theirs).mean()))
        with pillow_only():
            pillow = Picture(data).decode()
        decoders.append(float(np.abs(Picture(data).decode().astype(int) - pillow).max()))
    figures = {name: {"mean": statistics.mean(values), "worst": max(values)} for name, values in differences.items()}
    return {**figures, "simplejpeg against Pillow": {"mean": statistics.mean(decoders), "worst": max(decoders)}}


def enlarged(data: bytes) -> bytes:
    """The image at three times its size: one of those that are decoded smaller."""
    out = io.BytesIO()
    image = Image.open(io.BytesIO(data))
    image.resize((image.width * 3, image.height * 3), Image.Resampling.BICUBIC).save(out, "JPEG", quality=92)
    return out.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=RESULTS / "imagenet_loading.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    accelerated = decode.simplejpeg is not None
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        kilobytes = write_images(root, options.images)
        files, _ = read_folders(root, "train")
        copies = {}
        for side in (320, 256):
            failed = resize_all(root, root / f"{side}", files.relatives(), side, 95, 1)
            assert not failed
            copies[side] = FileSet(root=root / f"{side}", paths=files.paths, labels=files.labels)
        training = {
            "reference": reference(root, True),
            **({"ours": ours(files, True)} if accelerated else {}),
            "ours, Pillow only": ours(files, True, simplejpeg=False),
            "ours, in full on the CPU": ours(files, True, in_full=True),
            "ours, copies of 320": ours(copies[320], True),
            "ours, copies of 256": ours(copies[256], True),
        }
        evaluation = {"reference": reference(root, False), "ours": ours(files, False)}
        speeds = {
            "training": measure(training, len(files) // BATCH * BATCH, options.rounds),
            "evaluation": measure(evaluation, len(files), options.rounds),
        }
        differences = pixel_differences(files)
    report(speeds, differences, kilobytes, options)


def report(
    speeds: dict[str, dict[str, float]], differences: dict, kilobytes: float, options: argparse.Namespace
) -> None:
    """Print the tables and write the record."""
    rows = {}
    for task, figures in speeds.items():
        print(f"\n{task + ', images/s and core':<36}{'':>9}  of the reference")
        for name, speed in figures.items():
            ratio = speed / figures["reference"]
            rows[f"{task}: {name}"] = {"images_per_second_per_core": round(speed, 1), "ratio": round(ratio, 3)}
            print(f"{name:<36}{speed:>9.0f}  {ratio:.2f}")
    print(f"\n{'grey levels (of 255) between':<36}{'mean':>9}{'worst image':>14}")
    for name, figure in differences.items():
        print(f"{name:<36}{figure['mean']:>9.3f}{figure['worst']:>14.3f}")
    simplejpeg = decode.simplejpeg
    record = {
        "benchmark": "imagenet_loading",
        "date": date.today().isoformat(),
        "machine": {"processor": platform.processor() or platform.machine(), "threads": 1},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision().__version__,
            "pillow": PIL.__version__,
            "simplejpeg": simplejpeg.__version__ if simplejpeg else None,
        },
        "images": {"count": options.images, "mean_kilobytes": round(kilobytes, 1), "sizes": sorted(set(SIZES))},
        "rounds": options.rounds,
        "speeds": rows,
        "grey_levels": {name: {k: round(v, 4) for k, v in figure.items()} for name, figure in differences.items()},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten to {options.out}")


if __name__ == "__main__":
    main()
