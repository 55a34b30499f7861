"""From an image of any kind to the network's input, by the same steps as the run's evaluations took.

Shape suffixes: N images, C channels, H and W pixels.
"""

import io
import os
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tailmatch.datasets.files.decode import Picture, reason_of
from tailmatch.datasets.files.views import EvalView
from tailmatch.datasets.one_image import check_depth, square_pixels
from tailmatch.datasets.weak_augment import Normalize
from tailmatch.engine.card import Card
from tailmatch.engine.files import read_plain
from tailmatch.errors import UserError

OneImage: TypeAlias = str | os.PathLike[str] | Image.Image
Images: TypeAlias = OneImage | Sequence[OneImage] | Tensor | NDArray[np.uint8]


class Preprocess:
    """Turns images into the input of one network.

    Files and Pillow images of any size become gray or RGB as the network asks, and are scaled and cropped as in
    evaluation. Arrays and tensors must be uint8 and have the network's channels: [N, C, H, W], [N, H, W, C], or for a
    gray network [N, H, W]; a colour network also takes one image without N.
    """

    def __init__(self, card: Card, device: torch.device | str = "cpu") -> None:
        self.card, self.device = card, torch.device(device)
        self._view = None if card.short_side is None else EvalView(size=card.image_size, short_side=card.short_side)
        self._normalize = Normalize(card.mean, card.std)

    def __call__(self, images: Images) -> Tensor:
        """float [N, C, size, size], normalised, on the device.

        Raises:
            UserError: for an image that cannot be read, or an array of another type or shape.
        """
        return self.normalized(self.pixels(images))

    def chunks(self, images: Images, size: int) -> Iterator[Tensor]:
        """The pixels of up to `size` images at a time; those in files are read no earlier."""
        if isinstance(images, list | tuple):
            for start in range(0, max(len(images), 1), size):
                yield self.pixels(images[start : start + size])
        else:
            yield from self.pixels(images).split(size)

    def normalized(self, pixels: Tensor) -> Tensor:
        """What `pixels` gave, as the network's input."""
        return self._normalize(pixels.to(self.device))

    def pixels(self, images: Images) -> Tensor:
        """uint8 [N, C, size, size], scaled and cropped."""
        if isinstance(images, Tensor | np.ndarray):
            return self._of_array(images)
        several = [images] if isinstance(images, str | os.PathLike | Image.Image) else list(images)
        if not several:
            raise UserError("Got no images; give at least one.")
        return torch.from_numpy(np.stack([self._of_one(image) for image in several]))

    def of_file(self, path: str | os.PathLike[str]) -> NDArray[np.uint8]:
        """uint8 [C, size, size] of an image file."""
        try:
            data = read_plain(path)
            with Image.open(io.BytesIO(data)) as opened:
                check_depth(opened)
                if self._view is None:
                    return square_pixels(opened, self.card.image_size, self.card.channels)
            return self._view.centre(Picture(data).decode()).numpy()
        except Exception as error:  # what a decoder makes of broken bytes can be of any kind
            raise UserError(f"{os.fspath(path)} cannot be read: {reason_of(error)}.") from error

    def _of_one(self, image: Any) -> NDArray[np.uint8]:
        if isinstance(image, str | os.PathLike):
            return self.of_file(image)
        if not isinstance(image, Image.Image):
            raise UserError(
                f"Images are paths, Pillow images, or one uint8 array or tensor of several, got {type(image).__name__}."
            )
        try:
            check_depth(image)
        except ValueError as error:
            raise UserError(f"The image cannot be used: {error}.") from None
        return self._of_pillow(image.copy())  # decoding at a fraction of the size would change the caller's image

    def _of_pillow(self, image: Image.Image) -> NDArray[np.uint8]:
        if self._view is None:
            return square_pixels(image, self.card.image_size, self.card.channels)
        return self._view.centre(np.array(image.convert("RGB"))).numpy()

    def _of_array(self, images: Tensor | NDArray[np.uint8]) -> Tensor:
        if (kind := str(images.dtype).removeprefix("torch.")) != "uint8":
            raise UserError(f"Images in arrays are uint8, 0 to 255, got {kind}.")
        if isinstance(images, np.ndarray):
            images = torch.from_numpy(np.require(images, requirements=["C", "W"]))  # copied only where it must be
        pixels = self._channels_first(images)
        size = self.card.image_size
        if self._view is None and pixels.shape[2:] == (size, size):
            return pixels.contiguous()
        rows = pixels.permute(0, 2, 3, 1).cpu().numpy()
        squeezed = rows[..., 0] if self.card.channels == 1 else rows
        return torch.from_numpy(np.stack([self._of_pillow(Image.fromarray(image)) for image in squeezed]))

    def _channels_first(self, images: Tensor) -> Tensor:
        """[N, C, H, W] of any layout that these channels allow."""
        channels = self.card.channels
        shape = list(images.shape)
        if images.ndim == 3:
            images = images[:, None] if channels == 1 else images[None]
        if images.ndim != 4 or channels not in (images.shape[1], images.shape[3]) or 0 in images.shape:
            plain = " or [N, H, W]" if channels == 1 else ""
            raise UserError(
                f"The network takes {self.card.colours} images, as arrays [N, {channels}, H, W], "
                f"[N, H, W, {channels}]{plain}, got {shape}."
            )
        return images if images.shape[1] == channels else images.permute(0, 3, 1, 2)
