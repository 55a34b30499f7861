"""The loader: the same pixels whatever the workers, the processes, and where a run was cut off."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tailmatch.datasets.files.file_set import FileSet
from tailmatch.datasets.files.loader import ImageBatch, ImageLoader
from tailmatch.datasets.files.views import EvalView, TrainView
from tailmatch.engine.sampling import Draws, EpochPlan, EvalPlan
from tailmatch.errors import UserError

VIEW = TrainView(size=32)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> FileSet:
    root = tmp_path_factory.mktemp("files")
    draws = np.random.default_rng(0)
    for index in range(20):
        Image.fromarray(draws.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(root / f"{index}.jpg")
    return FileSet.of(root, [f"{index}.jpg" for index in range(20)], [index % 3 for index in range(20)])


def same(first: ImageBatch, second: ImageBatch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_batches_are_uint8(files: FileSet) -> None:
    with ImageLoader(files, VIEW, EpochPlan(images=20, batch_size=6, seed=0), 3) as loader:
        batch = loader.batch(0)
    assert batch.images.shape == (6, 3, 32, 32)
    assert batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous()
    assert torch.equal(batch.labels, batch.indices % 3)


def test_neither_workers_nor_resuming_change_a_pixel(files: FileSet) -> None:
    plan = EpochPlan(images=20, batch_size=6, seed=3)
    assert plan.steps_per_epoch == 3
    whole = list(ImageLoader(files, VIEW, plan, 8, seed=3).batches())
    assert len(whole) == 8
    with ImageLoader(files, VIEW, plan, 8, seed=3, workers=2) as loader:
        assert all(same(a, b) for a, b in zip(loader.batches(), whole, strict=True))
        # From the middle of an epoch, backwards, and the last.
        for step in (4, 5, 1, 2, 7):
            assert same(loader.batch(step), whole[step])
    resumed = ImageLoader(files, VIEW, plan, 8, seed=3)
    assert all(same(a, b) for a, b in zip(resumed.batches(5), whole[5:], strict=True))
    # Another epoch is another order and other crops; another seed too.
    assert not torch.equal(whole[0].indices, whole[3].indices)
    other = ImageLoader(files, VIEW, plan, 8, seed=4).batch(0)
    assert torch.equal(other.indices, whole[0].indices)
    assert not torch.equal(other.images, whole[0].images)


def test_loading_leaves_the_global_random_numbers_alone(files: FileSet) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    list(ImageLoader(files, VIEW, EpochPlan(images=20, batch_size=6, seed=3), 4).batches(2))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # noqa: NPY002


def test_every_image_comes_once_an_epoch() -> None:
    plan = EpochPlan(images=21, batch_size=5, seed=0)
    seen = np.concatenate([plan(step).indices for step in range(4, 8)])
    assert len(set(seen.tolist())) == 20
    assert {int(draw) for step in range(4, 8) for draw in plan(step).draws} == {1}


def test_processes_share_the_batch_of_one() -> None:
    alone = EpochPlan(images=20, batch_size=6, seed=3)
    for step in (0, 4):
        parts = [EpochPlan(images=20, batch_size=6, seed=3, rank=rank, world_size=3)(step) for rank in range(3)]
        assert all(len(part.indices) == 2 for part in parts)
        merged = np.stack([part.indices for part in parts], axis=1).ravel()
        assert np.array_equal(merged, alone(step).indices)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_leaves_none_out_and_repeats_none(world_size: int) -> None:
    seen: list[int] = []
    for rank in range(world_size):
        plan = EvalPlan(images=20, batch_size=3, rank=rank, world_size=world_size)
        mine = [index for step in range(plan.steps) for index in plan(step).indices.tolist()]
        assert mine == list(range(rank, 20, world_size))
        seen += mine
    assert sorted(seen) == list(range(20))


def test_evaluation_is_in_the_order_of_the_set(files: FileSet) -> None:
    plan = EvalPlan(images=20, batch_size=8)
    with ImageLoader(files, EvalView(size=28, short_side=32), plan, plan.steps, workers=1) as loader:
        batches = list(loader.batches())
    assert [len(batch.labels) for batch in batches] == [8, 8, 4]
    assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(20))


def test_a_repeated_image_gets_a_crop_of_its_own(files: FileSet) -> None:
    def balanced(step: int) -> Draws:
        return Draws(np.array([7, 7]), np.array([2 * step, 2 * step + 1]))

    images = ImageLoader(files, VIEW, balanced, 2).batch(1).images
    assert not torch.equal(images[0], images[1])


def test_plans_refuse_batches_that_do_not_fit() -> None:
    with pytest.raises(UserError, match="A batch of 5 does not divide among 2 processes"):
        EpochPlan(images=20, batch_size=5, seed=0, world_size=2)
    with pytest.raises(UserError, match="3 images do not fill a batch of 4"):
        EpochPlan(images=3, batch_size=4, seed=0)
    with pytest.raises(IndexError, match=r"steps 0 \.\.\. 1, got 2"):
        ImageLoader(FileSet.of(Path(), ["a"], [0]), VIEW, EvalPlan(images=1, batch_size=1), 2).batch(2)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_named(tmp_path: Path, workers: int) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        Image.new("RGB", (40, 30)).save(tmp_path / name)
    files = FileSet.of(tmp_path, ["a.jpg", "b.jpg", "c.jpg", "gone.jpg"], [0, 1, 2, 3])
    whole = (tmp_path / "b.jpg").read_bytes()
    for content, reason in ((whole[: len(whole) - 20], "truncated"), (b"", "not an image"), (b"text", "not an image")):
        (tmp_path / "b.jpg").write_bytes(content)
        with (
            ImageLoader(files, VIEW, EvalPlan(images=3, batch_size=3), 1, workers=workers) as loader,
            pytest.raises(UserError, match=rf"b\.jpg cannot be read \(.*{reason}.*\); `run\.py data check`"),
        ):
            loader.batch(0)
    (tmp_path / "b.jpg").write_bytes(whole)
    with pytest.raises(UserError, match=r"gone\.jpg cannot be read \(no such file"):
        list(ImageLoader(files, VIEW, EvalPlan(images=4, batch_size=4), 1, workers=workers).batches())


def worker_ids(loader: ImageLoader) -> list[int]:
    return [worker.pid for worker in loader._running._workers]  # type: ignore[union-attr]


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def gone_within(processes: list[int], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while any(alive(process) for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(alive(process) for process in processes)


def test_closing_ends_the_workers(files: FileSet) -> None:
    with ImageLoader(files, VIEW, EpochPlan(images=20, batch_size=5, seed=0), 100, workers=2) as loader:
        loader.batch(0)
        processes = worker_ids(loader)
        assert all(alive(process) for process in processes)
    assert gone_within(processes, 5)
    assert loader.batch(1).labels.shape == (5,)  # closing is no end: the next batch starts new ones
    loader.close()


def test_a_dead_worker_is_reported(files: FileSet) -> None:
    with ImageLoader(files, VIEW, EpochPlan(images=20, batch_size=5, seed=0), 10_000, workers=1) as loader:
        loader.batch(0)
        os.kill(worker_ids(loader)[0], signal.SIGKILL)
        with pytest.raises(UserError, match="A process that decodes images has died"):
            list(loader.batches(1))


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_an_interrupt_leaves_no_process_behind(files: FileSet) -> None:
    program = f"""
        from pathlib import Path
        from tailmatch.datasets.files.file_set import FileSet
        from tailmatch.datasets.files.loader import ImageLoader
        from tailmatch.engine.sampling import EpochPlan
        from tailmatch.datasets.files.views import TrainView
        files = FileSet.of(Path({str(files.root)!r}), [f"{{i}}.jpg" for i in range(20)], [0] * 20)
        loader = ImageLoader(files, TrainView(size=32), EpochPlan(images=20, batch_size=5, seed=0), 10**9, workers=2)
        try:
            for step, batch in enumerate(loader.batches()):
                if step == 0:
                    print(*[worker.pid for worker in loader._running._workers], flush=True)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    workers = [int(word) for word in process.stdout.readline().split()]
    assert len(workers) == 2
    os.killpg(process.pid, signal.SIGINT)  # what the terminal does: every process gets it
    out, errors = process.communicate(timeout=20)
    assert out == "interrupted\n"
    assert "Traceback" not in errors
    assert process.returncode == 0
    assert gone_within(workers, 5)
