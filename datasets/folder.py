"""People's own images: `train/` and `test/`, in each a folder per class; decoded once, kept as one uint8 tensor."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image

from tailmatch.datasets.base import ImageSet, ReadSets, unlabeled_set
from tailmatch.datasets.class_checks import check_classes
from tailmatch.datasets.one_image import GRAY_MODES, check_depth, square_pixels
from tailmatch.errors import UserError

EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

Found = TypeVar("Found")


def read_folder(root: Path | None, image_size: int | None = None) -> ReadSets:
    """Read `root/train` and `root/test`, and `root/val` and `root/unlabeled` where they are.

    Classes are the folders of `train/`, in alphabetical order, or in that of the numbers where all names are numbers.
    Images are scaled until the shorter side fits, then cropped at the centre. They are gray if all of them are.

    Args:
        image_size: the side of the images in pixels; None: the size they have, if all have one.

    Raises:
        UserError: one sentence that names the folder or file and what is wrong with it.
    """
    if root is None:
        raise UserError("Dataset folder needs to know where the images are: --data-root DIR.")
    if not root.is_dir():
        raise UserError(f"There is no folder {root}; dataset folder reads DIR/train and DIR/test.")
    if image_size is not None and image_size < 1:
        raise UserError(f"--image-size is the side of the images in pixels, got {image_size}.")
    class_names = _class_names(root / "train")
    parts = {part: _labelled_files(root / part, class_names) for part in ("train", "test")}
    if (root / "val").is_dir():
        parts["val"] = _labelled_files(root / "val", class_names)
    files = {part: [path for path, _ in labelled] for part, labelled in parts.items()}
    if (root / "unlabeled").is_dir():
        files["unlabeled"] = image_files(root / "unlabeled")
    size, channels = _common_format([path for paths in files.values() for path in paths], image_size)
    images = {part: _decoded(paths, size, channels) for part, paths in files.items()}
    sets = {
        part: ImageSet(images=images[part], labels=torch.tensor([label for _, label in labelled], dtype=torch.int64))
        for part, labelled in parts.items()
    }
    unlabeled = unlabeled_set(images["unlabeled"]) if "unlabeled" in images else None
    return check_classes(
        ReadSets(
            class_names=class_names, train=sets["train"], test=sets["test"], val=sets.get("val"), unlabeled=unlabeled
        ),
        root,
    )


def _class_names(train: Path) -> tuple[str, ...]:
    if not train.is_dir():
        raise UserError(
            f"There is no folder {train}; dataset folder reads train/ and test/, a folder per class in each."
        )
    names = [place.name for place in train.iterdir() if place.is_dir() and not place.name.startswith(".")]
    if not names:
        raise UserError(f"{train} holds no folders; it must hold one per class, with that class's images.")
    return tuple(sorted(names, key=int) if all(name.isdecimal() for name in names) else sorted(names))


def _labelled_files(part: Path, class_names: Sequence[str]) -> list[tuple[Path, int]]:
    """(file, label) of every image of `train`, `test` or `val`, class by class."""
    if not part.is_dir():
        raise UserError(
            f"There is no folder {part}; dataset folder reads train/ and test/, a folder per class in each."
        )
    label_of = {name: label for label, name in enumerate(class_names)}
    found: list[tuple[Path, int]] = []
    for place in sorted(part.iterdir()):
        if not place.is_dir() or place.name.startswith("."):
            continue
        files = image_files(place)
        if place.name not in label_of:
            raise UserError(
                f"Class {place.name!r} is in {part} but not in {part.parent / 'train'}: a class that is never trained "
                f"cannot be recognised; add training images or take it out."
            )
        if not files:
            raise UserError(f"{place} holds no images ({', '.join(EXTENSIONS)}): add some, or take the class out.")
        found += [(path, label_of[place.name]) for path in files]
    if not found:
        raise UserError(f"{part} holds no images; it must hold a folder per class, with that class's images.")
    return sorted(found, key=lambda pair: pair[1])


def image_files(place: Path) -> list[Path]:
    """Every image below `place`, also in nested and linked folders, in a fixed order."""
    found = [
        Path(folder) / name
        for folder, _, names in os.walk(place, followlinks=True)
        for name in names
        if name.lower().endswith(EXTENSIONS) and not name.startswith(".")
    ]
    return sorted(found)


def _common_format(paths: list[Path], image_size: int | None) -> tuple[int, int]:
    """(side in pixels, channels) that all images are to have, from their headers."""

    def header(_: int, path: Path) -> tuple[tuple[int, int], str]:
        with Image.open(path) as image:
            check_depth(image)
            return image.size, image.mode

    headers = _for_each(header, paths)
    channels = 1 if all(mode in GRAY_MODES for _, mode in headers) else 3
    if image_size is None:
        first = headers[0][0]
        for path, (size, _) in zip(paths, headers, strict=True):
            if size != first or size[0] != size[1]:
                raise UserError(
                    f"The images differ in size or are not square ({paths[0]} has {first[0]}x{first[1]} pixels, {path} "
                    f"{size[0]}x{size[1]}): say to which size they are to be brought, such as --image-size 64."
                )
        image_size = first[0]
    _check_memory(len(paths), channels, image_size)
    return image_size, channels


def _check_memory(count: int, channels: int, image_size: int) -> None:
    needed = count * channels * image_size**2
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not every system tells
        return
    if needed > 0.8 * memory:
        raise UserError(
            f"{count} images of {image_size}x{image_size} pixels take {needed / 2**30:.1f} GiB, and this machine has "
            f"{memory / 2**30:.1f}: say a smaller --image-size."
        )


def _decoded(paths: list[Path], size: int, channels: int) -> torch.Tensor:
    """uint8 [N, C, size, size]."""
    pixels = np.empty((len(paths), channels, size, size), dtype=np.uint8)

    def decode(index: int, path: Path) -> None:
        with Image.open(path) as opened:
            pixels[index] = square_pixels(opened, size, channels)

    _for_each(decode, paths)
    return torch.from_numpy(pixels)


def _for_each(work: Callable[[int, Path], Found], paths: Sequence[Path]) -> list[Found]:
    """The work on every file, on several threads (Pillow decodes outside Python's lock); names the unreadable ones."""
    results: dict[int, Found] = {}
    unreadable: dict[int, str] = {}

    def attempt(index: int) -> None:
        try:
            results[index] = work(index, paths[index])
        except Exception as error:  # what a decoder makes of broken bytes can be of any kind
            unreadable[index] = f"{paths[index]} ({' '.join(str(error).split())})"

    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 16)) as pool:
        list(pool.map(attempt, range(len(paths))))
    if unreadable:
        some = [unreadable[index] for index in sorted(unreadable)][:3]
        more = ", …" if len(unreadable) > len(some) else ""
        count = "1 image cannot" if len(unreadable) == 1 else f"{len(unreadable)} images cannot"
        raise UserError(f"{count} be read: {', '.join(some)}{more}; replace or delete.")
    return [results[index] for index in range(len(paths))]
