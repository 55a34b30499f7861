"""A teacher's store as the cache of a student on images, which sees the teacher's views: the loss is the live one's."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tailmatch.cli import main
from tailmatch.datasets import load_dataset
from tailmatch.distill.step import Distillation, FrozenTeacher
from tailmatch.engine.card import Card
from tailmatch.engine.checkpoint import save_weights
from tailmatch.engine.device import Autocast
from tailmatch.engine.distributed import World
from tailmatch.engine.profile import Profile
from tailmatch.errors import UserError
from tailmatch.inference.load import load_run
from tailmatch.longtail.build import build_task
from tailmatch.longtail.config import DistillationOptions, LongtailConfig, MethodOptions, TeacherLossOptions
from tailmatch.longtail.data_options import DataOptions
from tailmatch.longtail.resolve import resolved
from tailmatch.longtail.task import LongtailTask
from tailmatch.models import build_model

CPU, SIZE, CLASSES = torch.device("cpu"), 20, 6
QUIET = Profile(False, CPU)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of noise, a teacher of them, and its stores: whole, with the largest logits, with plain views alone."""
    folder = tmp_path_factory.mktemp("cache")
    random = np.random.default_rng(0)
    arrays = {}
    for split, each in (("train", 12), ("test", 4)):
        arrays[f"{split}_images"] = random.integers(0, 256, (each * CLASSES, SIZE, SIZE, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(each * CLASSES) % CLASSES
    np.savez(folder / "noise.npz", **arrays)
    dataset = load_dataset("npz", folder / "noise.npz")
    torch.manual_seed(0)
    card = Card(
        task="longtail",
        dataset="noise",
        model="resnet20",
        class_names=dataset.class_names,
        channels=3,
        image_size=SIZE,
        mean=dataset.mean,
        std=dataset.std,
    )
    save_weights(folder / "teacher.safetensors", build_model("resnet20", CLASSES, 3, SIZE).state_dict(), card)
    call = ["embed", "--dataset", "npz", "--data-root", str(folder / "noise.npz"), "--strong", "0"]
    call += ["--backbone", str(folder / "teacher.safetensors"), "--device", "cpu", "--precision", "fp32"]
    assert main([*call, "--weak", "3", "--out", str(folder / "whole")]) == 0
    assert main([*call, "--weak", "3", "--logits", "top-2", "--out", str(folder / "top")]) == 0
    assert main([*call, "--weak", "0", "--out", str(folder / "plain")]) == 0
    return folder


def task_of(made: Path, store: str, **data: object) -> LongtailTask:
    config = LongtailConfig(
        data=DataOptions(dataset="npz", data_root=made / "noise.npz", **data),  # type: ignore[arg-type]
        method=MethodOptions(model="resnet8"),
        distillation=DistillationOptions(teacher_store=made / store),
        loss=TeacherLossOptions(name="ikl"),
    )
    config = resolved(config)
    return build_task(config, CPU, World())


def cached_and_live(made: Path, store: str, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of the store and of the network itself on a step's images, and the losses from them."""
    task = task_of(made, store, imbalance=4)
    assert isinstance(task.method, Distillation)
    live = FrozenTeacher(load_run(made / "teacher.safetensors", device="cpu").model, Autocast.pick("fp32", CPU))
    batch = task.images.batch(step, QUIET)
    student = task.model.eval()
    losses = []
    for teacher in (task.method.teacher, live):
        task.method.teacher = teacher
        terms = task.method(student, batch.images, batch.labels, QUIET, batch.known_by)
        losses.append(terms["distillation"].detach())
        task.method.loss.roll()
        task.method.loss.class_means.means.fill_(1 / CLASSES)  # type: ignore[union-attr]
    cached = task_of(made, store, imbalance=4).method.teacher  # type: ignore[union-attr]
    return cached(batch.images, batch.known_by), live(batch.images), *losses


@pytest.mark.parametrize("step", [0, 3])
def test_the_loss_is_that_of_the_live_teacher(made: Path, step: int) -> None:
    cached, live, its_loss, live_loss = cached_and_live(made, "whole", step)
    # Half precision keeps eleven bits; batches of another size add the last bits of single precision.
    torch.testing.assert_close(cached, live, rtol=2**-11, atol=1e-4)
    torch.testing.assert_close(its_loss, live_loss, rtol=2e-3, atol=1e-5)


def test_the_largest_logits_carry_what_is_left_evenly(made: Path) -> None:
    cached, live, _, _ = cached_and_live(made, "top", 1)
    found, expected = cached.softmax(1), live.softmax(1)
    largest = expected.topk(2).indices
    torch.testing.assert_close(found.gather(1, largest), expected.gather(1, largest), rtol=2e-3, atol=1e-4)
    rest = (1 - expected.gather(1, largest).sum(1, keepdim=True)) / (CLASSES - 2)
    others = torch.ones_like(found, dtype=torch.bool).scatter(1, largest, False)
    torch.testing.assert_close(found[others].view(len(found), -1), rest.expand(-1, CLASSES - 2), rtol=1e-2, atol=1e-4)


def test_every_stored_view_comes_up_and_is_another_one(made: Path) -> None:
    images = task_of(made, "whole").images
    seen: dict[int, set[bytes]] = {}
    for step in range(40):
        batch = images.batch(step, QUIET)
        assert batch.views is not None
        for image, index, view in zip(batch.images, batch.indices.tolist(), batch.views.tolist(), strict=True):
            seen.setdefault((index, view), set()).add(image.numpy().tobytes())  # type: ignore[arg-type]
    assert len(seen) > 0.9 * 3 * 12 * CLASSES
    assert len(set().union(*seen.values())) > 0.9 * len(seen)  # a mirrored or moved image is seldom like another
    assert all(len(pixels) == 1 for pixels in seen.values())  # a view is the same whenever it comes
    again = task_of(made, "whole").images.batch(5, QUIET)
    assert torch.equal(again.images, images.batch(5, QUIET).images)


def test_a_store_of_plain_views_teaches_by_these(made: Path) -> None:
    task = task_of(made, "plain")
    batch = task.images.batch(0, QUIET)
    assert batch.views is None
    said = task.method.teacher(batch.images, batch.known_by)  # type: ignore[union-attr]
    train = load_dataset("npz", made / "noise.npz").train.images
    live = load_run(made / "teacher.safetensors", device="cpu")
    with torch.inference_mode():
        expected = live.model(live.preprocess(train[batch.indices]))
    torch.testing.assert_close(said, expected, rtol=2**-11, atol=1e-4)


def test_a_student_of_other_images_is_refused(made: Path) -> None:
    arrays = dict(np.load(made / "noise.npz"))
    arrays["train_images"] = arrays["train_images"][:, ::-1].copy()
    other = made / "other"
    other.mkdir()
    np.savez(other / "noise.npz", **arrays)
    (other / "whole").symlink_to(made / "whole")
    with pytest.raises(UserError, match="is not of the images of noise: 72 of its 72 train images"):
        task_of(other, "whole")
