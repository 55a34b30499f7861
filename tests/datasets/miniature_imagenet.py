"""A miniature ImageNet-LT of real small JPEG files in the true directory shape, and its lists on a loopback server."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

SYNSETS = ("n01440764", "n01443537", "n01484850", "n01491361", "n01494475", "n01496331")
TRAIN_COUNTS = (24, 16, 10, 6, 4, 2)
VAL_PER_CLASS, TEST_PER_CLASS = 2, 5
Layout = Literal["folders", "kaggle"]


@dataclass(frozen=True)
class Miniature:
    """Where it is, and its lists."""

    root: Path
    lists: dict[str, bytes]
    """By the name of the list file."""

    @property
    def checksums(self) -> tuple[str, ...]:
        """What `--checksum` takes, since these are not the published lists."""
        return tuple(
            f"{split}={hashlib.sha256(self.lists[f'ImageNet_LT_{split}.txt']).hexdigest()}"
            for split in ("train", "val", "test")
        )


def build_miniature(root: Path, layout: Layout = "folders", side: int = 64) -> Miniature:
    """Write the images, as most people unpack ImageNet (`folders`) or as Kaggle packs it (`kaggle`: val/ is flat)."""
    draws = np.random.default_rng(0)
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    base = root if layout == "folders" else root / "ILSVRC" / "Data" / "CLS-LOC"
    rows: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    number = 0
    for label, synset in enumerate(SYNSETS):
        for split, count in (("train", TRAIN_COUNTS[label]), ("val", VAL_PER_CLASS), ("test", TEST_PER_CLASS)):
            for _ in range(count):
                number += 1
                if split == "test":
                    listed = f"val/{synset}/ILSVRC2012_val_{number:08d}.JPEG"
                    place = base / (listed if layout == "folders" else f"val/ILSVRC2012_val_{number:08d}.JPEG")
                else:
                    listed = f"train/{synset}/{synset}_{number}.JPEG"
                    place = base / listed
                place.parent.mkdir(parents=True, exist_ok=True)
                _picture(photos[number % 2], label, side, draws).save(place, "JPEG", quality=90)
                rows[split].append(f"{listed} {label}\n")
    lists = {f"ImageNet_LT_{split}.txt": "".join(lines).encode() for split, lines in rows.items()}
    return Miniature(root, lists)


def _picture(photo: Image.Image, label: int, side: int, draws: np.random.Generator) -> Image.Image:
    """A piece of a photograph, tinted by its class so that a small model can tell the classes apart."""
    width, height = side + int(draws.integers(0, side // 2)), side + int(draws.integers(0, side // 4))
    left, top = int(draws.integers(0, photo.width - width)), int(draws.integers(0, photo.height - height))
    piece = np.asarray(photo.crop((left, top, left + width, top + height)), dtype=np.float64)
    tint = np.array([(label >> bit) & 1 for bit in range(3)]) * 90.0 - 30.0
    return Image.fromarray((piece * 0.6 + tint).clip(0, 255).astype(np.uint8))


@contextmanager
def served(files: dict[str, bytes], behaviour: str = "good") -> Iterator[str]:
    """The address of a folder of files on this machine.

    Args:
        behaviour: `good`; `missing`: every file is a 404; `cut`: connections end half-way; `silent`: nothing is sent.
    """
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files.get(self.path.rpartition("/")[2])
            if behaviour == "silent":
                done.wait(10)
                return
            if content is None or behaviour == "missing":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if behaviour == "cut" else content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/lists"
    finally:
        done.set()
        server.shutdown()
        thread.join()
        server.server_close()
