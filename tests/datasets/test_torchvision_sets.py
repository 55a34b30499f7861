"""CIFAR, SVHN and STL-10 from miniature archives of the true format, served from loopback through torchvision."""

import functools
import hashlib
import io
import os
import pickle
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from tailmatch.datasets import ImageSet, load_dataset, torchvision_sets
from tailmatch.datasets.base import ReadSets
from tailmatch.datasets.cifar_batches import OfArrays
from tailmatch.errors import UserError
from tailmatch.torchvision_import import torchvision

NUMBERS = np.random.default_rng(0)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


@pytest.fixture
def server(tmp_path):
    """(folder that is served, its URL)."""
    place = tmp_path / "served"
    place.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=place)) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield place, f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def tar(place, folder: str, files: dict[str, bytes]) -> str:
    """Write the archive and return its MD5."""
    with tarfile.open(place, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return md5(place.read_bytes())


def replaced(monkeypatch, name: str, **attributes):
    """torchvision's class of that name, told where the miniature is and what its checksums are."""
    datasets = torchvision("datasets")
    monkeypatch.setattr(datasets, name, type(name, (getattr(datasets, name),), attributes))


@pytest.fixture
def cifar(server, monkeypatch):
    """A CIFAR-10 of 20 training images in two batches and 10 test images: {"train": pixels, "test": pixels}."""
    place, url = server
    pixels = {name: NUMBERS.integers(0, 256, (10, 3072), dtype=np.uint8) for name in ("b1", "b2", "test_batch")}
    files = {
        name: pickle.dumps({"data": data, "labels": list(range(10)), "batch_label": name}, protocol=2)
        for name, data in pixels.items()
    }
    files["batches.meta"] = pickle.dumps({"label_names": [f"class {number}" for number in range(10)]}, protocol=2)
    replaced(
        monkeypatch,
        "CIFAR10",
        url=f"{url}/mini.tar.gz",
        filename="mini.tar.gz",
        tgz_md5=tar(place / "mini.tar.gz", "cifar-10-batches-py", files),
        train_list=[[name, md5(files[name])] for name in ("b1", "b2")],
        test_list=[["test_batch", md5(files["test_batch"])]],
        meta={"filename": "batches.meta", "key": "label_names", "md5": md5(files["batches.meta"])},
    )
    return {"train": np.concatenate([pixels["b1"], pixels["b2"]]), "test": pixels["test_batch"]}


def test_cifar_is_downloaded_and_read(cifar, tmp_path):
    dataset = load_dataset("cifar10", tmp_path / "data")
    assert torch.equal(dataset.train.images.flatten(1), torch.from_numpy(cifar["train"]))
    assert torch.equal(dataset.test.images.flatten(1), torch.from_numpy(cifar["test"]))
    assert dataset.train.images.shape == (20, 3, 32, 32)
    assert dataset.train.images.is_contiguous()
    assert dataset.train.labels.tolist() == list(range(10)) * 2
    assert dataset.class_names[3] == "class 3"
    assert (dataset.flip, dataset.crop_padding) == (True, 4)
    again = load_dataset("cifar10", tmp_path / "data", download=False)
    assert torch.equal(again.train.images, dataset.train.images)


def test_data_is_the_folder_without_a_root(cifar, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    load_dataset("cifar10")
    assert (tmp_path / "data" / "cifar-10-batches-py").is_dir()


def test_an_archive_put_there_by_hand_needs_no_download(cifar, server, tmp_path):
    (tmp_path / "data").mkdir()
    (server[0] / "mini.tar.gz").rename(tmp_path / "data" / "mini.tar.gz")
    assert len(load_dataset("cifar10", tmp_path / "data", download=False).train) == 20


def refusal_of(name, root, **options) -> str:
    with pytest.raises(UserError) as refusal:
        load_dataset(name, root, **options)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_missing(cifar, tmp_path):
    sentence = refusal_of("cifar10", tmp_path / "data", download=False)
    assert "CIFAR10 is missing in" in sentence
    assert "load it with download=True" in sentence
    assert "mini.tar.gz into" in sentence


def test_truncated_archive_is_named_then_fetched_again(cifar, server, tmp_path):
    whole = (server[0] / "mini.tar.gz").read_bytes()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mini.tar.gz").write_bytes(whole[: len(whole) // 2])
    assert "CIFAR10 is truncated or altered in" in refusal_of("cifar10", tmp_path / "data", download=False)
    assert len(load_dataset("cifar10", tmp_path / "data").train) == 20


def test_altered_batch_is_never_unpickled(cifar, tmp_path):
    load_dataset("cifar10", tmp_path / "data")
    batch = tmp_path / "data" / "cifar-10-batches-py" / "b2"
    batch.write_bytes(batch.read_bytes()[:-5])
    (tmp_path / "data" / "mini.tar.gz").unlink()
    assert "CIFAR10 is truncated or altered in" in refusal_of("cifar10", tmp_path / "data", download=False)
    assert len(load_dataset("cifar10", tmp_path / "data").train) == 20


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("made by a pickle",)


def test_a_batch_that_names_anything_but_arrays_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for content in (Hostile(), {"data": Hostile()}, [np.load], os.system):
        with pytest.raises(RuntimeError, match="which no batch of CIFAR does"):
            OfArrays(pickle.dumps(content, protocol=2)).load()
    assert not list(tmp_path.iterdir())
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert np.array_equal(OfArrays(pickle.dumps({"data": array, "labels": [1]}, protocol=2)).load()["data"], array)
    for other in (array.astype(np.int64), np.array([None])):  # numpy would be broken by the states that such may have
        with pytest.raises(RuntimeError, match="other arrays than rows of bytes"):
            OfArrays(pickle.dumps({"data": other}, protocol=2)).load()
    with pytest.raises(RuntimeError, match="no dictionary"):
        OfArrays(pickle.dumps(array, protocol=2)).load()


def test_another_file_is_served(cifar, server, tmp_path):
    (server[0] / "mini.tar.gz").write_bytes(b"an error page")
    assert "is not the published file (mini.tar.gz has another checksum)" in refusal_of("cifar10", tmp_path / "data")


def test_no_network(cifar, server, tmp_path):
    (server[0] / "mini.tar.gz").unlink()
    sentence = refusal_of("cifar10", tmp_path / "data")
    assert "CIFAR10 could not be downloaded into" in sentence
    assert "404" in sentence
    assert "mini.tar.gz yourself and put mini.tar.gz into" in sentence


def test_root_is_a_file(cifar, tmp_path):
    (tmp_path / "file").write_text("")
    assert "is a file" in refusal_of("cifar10", tmp_path / "file")


def write_svhn(place, split: str, count: int) -> tuple[np.ndarray, str]:
    """(images [H, W, C, N], MD5) of a MATLAB file whose labels are 1..10, 10 standing for the digit 0."""
    from scipy.io import savemat

    images = NUMBERS.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
    savemat(place / f"{split}.mat", {"X": images, "y": np.arange(count, dtype=np.uint8)[:, None] % 10 + 1})
    return images, md5((place / f"{split}.mat").read_bytes())


def test_svhn_with_and_without_extra(server, tmp_path, monkeypatch):
    place, url = server
    sizes = {"train": 11, "test": 10, "extra": 13}
    written = {split: write_svhn(place, split, count) for split, count in sizes.items()}
    split_list = {split: [f"{url}/{split}.mat", f"{split}.mat", written[split][1]] for split in sizes}
    replaced(monkeypatch, "SVHN", split_list=split_list)

    dataset = load_dataset("svhn", tmp_path / "data")
    assert not (tmp_path / "data" / "extra.mat").exists()
    assert dataset.train.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert torch.equal(dataset.train.images, torch.from_numpy(written["train"][0]).permute(3, 2, 0, 1))
    assert not dataset.flip

    dataset = load_dataset("svhn", tmp_path / "data", extra=True)
    assert len(dataset.train) == 24
    assert dataset.train.images.is_contiguous()
    assert torch.equal(dataset.train.images[11:], torch.from_numpy(written["extra"][0]).permute(3, 2, 0, 1))

    (tmp_path / "data" / "test.mat").write_bytes(b"half")
    sentence = refusal_of("svhn", tmp_path / "data", download=False)
    assert "SVHN is truncated or altered" in sentence
    assert "test.mat" in sentence


def test_stl10_folds_and_unlabelled_images(server, tmp_path, monkeypatch):
    place, url = server
    pixels = {part: NUMBERS.integers(0, 256, (count, 3, 96, 96), dtype=np.uint8)
              for part, count in (("train", 20), ("test", 10), ("unlabeled", 4))}  # fmt: skip
    files = {f"{part}_X.bin": images.transpose(0, 1, 3, 2).tobytes() for part, images in pixels.items()}
    files |= {"train_y.bin": bytes([*range(1, 11)] * 2), "test_y.bin": bytes(range(1, 11))}
    files["class_names.txt"] = "\n".join(f"thing {number}" for number in range(10)).encode()
    files["fold_indices.txt"] = "\n".join(f"{2 * fold} {2 * fold + 1} " for fold in range(10)).encode()
    checked = {name: [name, md5(content)] for name, content in files.items()}
    replaced(
        monkeypatch,
        "STL10",
        url=f"{url}/stl.tar.gz",
        filename="stl.tar.gz",
        tgz_md5=tar(place / "stl.tar.gz", "stl10_binary", files),
        train_list=[checked["train_X.bin"], checked["train_y.bin"], checked["unlabeled_X.bin"]],
        test_list=[checked["test_X.bin"], checked["test_y.bin"]],
    )
    dataset = load_dataset("stl10", tmp_path / "data")
    for part, images in pixels.items():
        assert torch.equal(getattr(dataset, part).images, torch.from_numpy(images))
    assert dataset.train.labels.tolist() == list(range(10)) * 2
    assert dataset.unlabeled.labels.tolist() == [-1] * 4
    assert dataset.class_names[9] == "thing 9"
    assert dataset.crop_padding == 12

    fold = load_dataset("stl10", tmp_path / "data", fold=3)
    assert torch.equal(fold.train.images, torch.from_numpy(pixels["train"][6:8]))
    assert "folds 0 to 9, got 10" in refusal_of("stl10", tmp_path / "data", fold=10)


@pytest.mark.parametrize(
    ("name", "head", "tail", "total"), [("cifar10-lt", 5000, 50, 12_406), ("cifar100-lt", 500, 5, 10_847)]
)
def test_cifar_lt_has_the_golden_totals(name, head, tail, total, monkeypatch):
    """Labels as in the real sets; the pixels do not matter."""
    num_classes = 50_000 // head
    labels = torch.arange(num_classes).repeat(head)
    images = ImageSet(images=torch.zeros(50_000, 3, 1, 1, dtype=torch.uint8), labels=labels)
    sets = ReadSets(class_names=tuple(map(str, range(num_classes))), train=images, test=images)
    monkeypatch.setattr(torchvision_sets, "read_cifar", lambda *_, **__: sets)
    counts = load_dataset(name).train_class_counts
    assert (int(counts[0]), int(counts[-1]), int(counts.sum())) == (head, tail, total)
    assert int(load_dataset(name, lt_shape="step").train_class_counts.sum()) == 25_250
