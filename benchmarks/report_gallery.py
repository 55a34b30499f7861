"""The report in four situations, as pictures at two widths and in both themes, to be looked at.

    python benchmarks/report_gallery.py --out gallery               # trains the small runs first: about ten minutes
    python benchmarks/report_gallery.py --out gallery --only folder # one situation; runs that are there are taken

The situations: nine semi-supervised runs (three algorithms, three seeds), long-tailed runs with and without a teacher,
both together, and an imbalanced folder of twelve classes of one's own. Everything goes through the command line. The
pictures need chromium with chromedriver (Debian: apt-get install chromium chromium-driver); without them the reports
are written all the same.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.analysis.browser import CHROMIUM, DRIVER, WHY_MISSING, Browser  # noqa: E402

SITUATIONS = ("ssl", "longtail", "both", "folder")
WIDTHS = (380, 1400)
COLORS = {"red": (200, 60, 50), "green": (60, 160, 80), "blue": (60, 90, 190)}
SHAPES = ("circle", "cross", "square", "triangle")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs, the reports and the pictures")
    parser.add_argument("--only", choices=SITUATIONS, help="one situation instead of all four")
    parser.add_argument("--steps", type=int, default=100, help="steps of every run")
    options = parser.parse_args()
    for situation in [options.only] if options.only else SITUATIONS:
        page = report(situation, options.out.resolve(), options.steps)
        if CHROMIUM and DRIVER:
            photograph(page, options.out / "pictures", situation)
    if not (CHROMIUM and DRIVER):
        print(f"no pictures: {WHY_MISSING}")


def report(situation: str, out: Path, steps: int) -> Path:
    """Train what is not there yet, analyse, and return the page."""
    parts = ("ssl", "longtail") if situation == "both" else (situation,)
    if "folder" in parts and not (out / "shapes").exists():
        draw_shapes(out / "shapes")
    for part in parts:
        for name, words in trainings(part, out):
            if not (out / part / name / "weights.safetensors").exists():
                run(*words, "--steps", str(steps), "--out", str(out / part / name))
    run("analyze", *(str(out / part) for part in parts), "--out", str(out / "reports" / situation))
    return out / "reports" / situation / "report.html"


def trainings(part: str, out: Path) -> Iterator[tuple[str, list[str]]]:
    """(name of the run, words of its command) of a situation."""
    if part == "ssl":
        for algorithm in ("fixmatch", "flexmatch", "freematch"):
            for seed in range(3):
                yield f"{algorithm}-{seed}", ["ssl", "--algorithm", algorithm, "--seed", str(seed)]
    elif part == "longtail":
        for seed in range(2):
            for loss in ("kl", "ikl"):
                yield f"{loss}-{seed}", ["longtail", "--loss", loss, "--baseline", "--seed", str(seed)]
    else:
        own = ["--dataset", "folder", "--data-root", str(out / "shapes")]
        for seed in range(2):
            for loss in ("cross-entropy", "balanced-softmax"):
                words = ["longtail", *own, "--label-loss", loss, "--model", "resnet20", "--seed", str(seed)]
                yield f"{loss}-{seed}", words


def run(*words: str) -> None:
    print("python run.py", *words, flush=True)
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *words], check=True, env=environment, stdout=subprocess.DEVNULL
    )


def draw_shapes(folder: Path) -> None:
    """Twelve classes of coloured shapes, from 60 training images down to 4, with 15 test images each."""
    names = [f"{color} {shape}" for shape in SHAPES for color in COLORS]
    for place, name in enumerate(names):
        generator = np.random.default_rng(place)
        train = round(60 * 15 ** (-place / (len(names) - 1)))
        for split, count in (("train", train), ("test", 15)):
            target = folder / split / name
            target.mkdir(parents=True)
            for number in range(count):
                one_shape(name, generator).save(target / f"{number:03}.png")


def one_shape(name: str, generator: np.random.Generator) -> Image.Image:
    """A shape at a random place and size, its colour and the background noisy enough to be mistaken."""
    color, shape = name.split()
    picture = Image.fromarray(generator.integers(90, 210, (32, 32, 3), dtype=np.uint8))
    fill = tuple(int(value) for value in np.clip(generator.normal(COLORS[color], 55), 0, 255))
    half = int(generator.integers(5, 10))
    x, y = (int(value) for value in generator.integers(half + 1, 31 - half, 2))
    pen = ImageDraw.Draw(picture)
    box = (x - half, y - half, x + half, y + half)
    if shape == "circle":
        pen.ellipse(box, fill=fill)
    elif shape == "square":
        pen.rectangle(box, fill=fill)
    elif shape == "triangle":
        pen.polygon([(x, y - half), (x + half, y + half), (x - half, y + half)], fill=fill)
    else:
        third = half // 3
        pen.rectangle((x - half, y - third, x + half, y + third), fill=fill)
        pen.rectangle((x - third, y - half, x + third, y + half), fill=fill)
    return picture


def photograph(page: Path, folder: Path, situation: str) -> None:
    """The whole page at every width in both themes."""
    folder.mkdir(parents=True, exist_ok=True)
    with Browser(folder) as browser:
        for theme in ("light", "dark"):
            for width in WIDTHS:
                browser.prefer(theme)
                browser.resize(width)
                browser.open(page)
                sideways = browser.run("return document.documentElement.scrollWidth > innerWidth")
                picture = browser.screenshot(folder / f"{situation}-{width}-{theme}.png", whole=True)
                print(picture, "scrolls sideways!" if sideways else "", flush=True)


if __name__ == "__main__":
    main()
