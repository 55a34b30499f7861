"""People's own images: real small files, and one sentence for each way they can be unusable."""

import numpy as np
import pytest
import torch
from PIL import Image

from tailmatch.datasets import folder, load_dataset
from tailmatch.datasets.own_data import name_of
from tailmatch.errors import UserError

COLORS = {"apple": (200, 30, 30), "berry": (30, 30, 200), "cedar": (30, 200, 30)}


def write_image(path, color, size=(16, 16), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).convert(mode).save(path, **options)


@pytest.fixture
def root(tmp_path):
    """Three classes of 16x16 images: three for training, two for testing, JPEG and PNG in turn."""
    for part, count in (("train", 3), ("test", 2)):
        for name, color in COLORS.items():
            for number in range(count):
                write_image(tmp_path / part / name / f"{number}.{'png' if number % 2 else 'jpg'}", color)
    return tmp_path


def test_classes_and_pixels(root):
    dataset = load_dataset("folder", root)
    assert dataset.class_names == ("apple", "berry", "cedar")
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert dataset.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert dataset.train.images.shape == (9, 3, 16, 16)
    assert dataset.train.images.is_contiguous()
    wanted = torch.tensor([COLORS[dataset.class_names[label]] for label in dataset.train.labels])
    close = (dataset.train.images.mean((2, 3), dtype=torch.float64) - wanted).abs() < 3  # JPEG rounds colours
    assert close.all()
    assert dataset.crop_padding == 2


def test_images_are_scaled_and_cropped_to_one_size(root):
    left_half_white = np.zeros((40, 80, 3), np.uint8)
    left_half_white[:, :40] = 255
    Image.fromarray(left_half_white).save(root / "train" / "apple" / "0.jpg", quality=95)
    dataset = load_dataset("folder", root, image_size=10)
    assert dataset.image_size == 10
    image = dataset.train.images[0].float()
    assert image[:, :, :4].mean() > 240
    assert image[:, :, 6:].mean() < 15


def test_large_jpegs_are_decoded_at_a_fraction_of_their_size_without_harm(root):
    ramp = np.tile(np.linspace(0, 255, 640).astype(np.uint8), (640, 1))
    Image.fromarray(ramp).convert("RGB").save(root / "train" / "apple" / "0.jpg", quality=95)
    image = load_dataset("folder", root, image_size=16).train.images[0, 0].float()
    wanted = torch.from_numpy(ramp).float().reshape(640, 16, 40).mean((0, 2))
    assert (image - wanted).abs().max() < 4


def test_gray_stays_gray_and_mixed_becomes_rgb(root):
    for place in root.glob("*/*/*"):
        Image.open(place).convert("L").save(place)
    assert load_dataset("folder", root).channels == 1
    write_image(root / "train" / "apple" / "9.png", (9, 9, 9), mode="P")
    assert load_dataset("folder", root).channels == 3


def test_turned_photographs_are_set_upright(root):
    path = root / "train" / "apple" / "0.png"
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(picture).save(path, exif=exif)
    image = load_dataset("folder", root).train.images[1]
    assert int(image[:, :8].max()) == 0
    assert int(image[:, 8:].min()) == 255


def test_numbered_classes_come_in_numeric_order(tmp_path):
    for part in ("train", "test"):
        for number in range(11):
            write_image(tmp_path / part / str(number) / "a.png", (20 * number, 0, 0), size=(4, 4))
    dataset = load_dataset("folder", tmp_path)
    assert dataset.class_names == tuple(str(number) for number in range(11))
    assert dataset.train.images[:, 0, 0, 0].tolist() == [20 * number for number in range(11)]


def test_optional_parts_and_nested_files(root):
    write_image(root / "val" / "berry" / "a.png", COLORS["berry"])
    write_image(root / "unlabeled" / "deep" / "er" / "b.PNG", (1, 2, 3))
    (root / "train" / ".DS_Store").write_bytes(b"x")
    (root / "train" / "apple" / "notes.txt").write_text("not an image")
    dataset = load_dataset("folder", root)
    assert dataset.val.labels.tolist() == [1]
    assert dataset.unlabeled.labels.tolist() == [-1]
    assert dataset.unlabeled.images[0, :, 0, 0].tolist() == [1, 2, 3]
    assert len(dataset.train) == 9


def test_validation_by_option(root):
    dataset = load_dataset("folder", root, val_fraction=0.34)
    assert dataset.val.class_counts(3).tolist() == [1, 1, 1]
    assert dataset.train_class_counts.tolist() == [2, 2, 2]


def refusal_of(root, **options) -> str:
    with pytest.raises(UserError) as refusal:
        load_dataset("folder", root, **options)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_corrupt_images_are_named(root):
    whole = root / "train" / "apple" / "0.jpg"
    whole.write_bytes(whole.read_bytes()[:400])
    assert f"1 image cannot be read: {whole} (" in refusal_of(root)
    for number in range(5):
        (root / "test" / "berry" / f"bad{number}.png").write_bytes(b"not a picture")
    sentence = refusal_of(root)
    assert sentence.startswith("6 images cannot be read: ")
    assert "bad0.png" in sentence
    assert "bad4.png" not in sentence
    assert ", …" in sentence


def test_a_png_cut_in_its_pixels_is_named(root):
    path = root / "train" / "cedar" / "1.png"
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:500])
    assert f"1 image cannot be read: {path} (" in refusal_of(root)


def test_more_than_8_bits_are_refused(root):
    Image.fromarray(np.full((16, 16), 40_000, np.uint16)).save(root / "train" / "apple" / "deep.png")
    assert "save it with 8 bits a channel" in refusal_of(root)


def test_sizes_that_differ_need_to_be_told(root):
    write_image(root / "test" / "apple" / "wide.png", (0, 0, 0), size=(20, 16))
    sentence = refusal_of(root)
    assert "wide.png 20x16" in sentence
    assert "--image-size 64" in sentence
    assert load_dataset("folder", root, image_size=16).image_size == 16


def test_empty_class(root):
    (root / "train" / "dill").mkdir()
    assert f"{root / 'train' / 'dill'} holds no images" in refusal_of(root)


def test_class_only_in_test(root):
    write_image(root / "test" / "elder" / "a.png", (0, 0, 0))
    assert f"Class 'elder' is in {root / 'test'} but not among the 3 classes" in refusal_of(root)


def test_class_without_test_images_is_fine(root):
    for path in (root / "test" / "apple").iterdir():
        path.unlink()
    (root / "test" / "apple").rmdir()
    assert load_dataset("folder", root).test.class_counts(3).tolist() == [0, 2, 2]


def test_missing_folders(tmp_path, root):
    assert "There is no folder" in refusal_of(tmp_path / "nowhere")
    only_train = tmp_path / "only"
    write_image(only_train / "train" / "a" / "1.png", (0, 0, 0))
    assert f"or take --data-root {only_train / 'train'}, of which a share is held out" in refusal_of(only_train)
    (only_train / "test").mkdir()
    assert f"{only_train / 'test'} holds no folders" in refusal_of(only_train)
    flat = tmp_path / "flat"
    write_image(flat / "train" / "1.png", (0, 0, 0))
    assert f"{flat / 'train'} holds no folders; it must hold one per class" in refusal_of(flat)
    assert "got 0" in refusal_of(root, image_size=0)


def test_one_class(tmp_path):
    for part in ("train", "test"):
        write_image(tmp_path / part / "a" / "1.png", (0, 0, 0))
    assert "has one class only, 'a'" in refusal_of(tmp_path)


def test_more_pixels_than_memory(root, monkeypatch):
    monkeypatch.setattr(folder.os, "sysconf", lambda name: 64)
    assert "say a smaller --image-size" in refusal_of(root)


@pytest.fixture
def flat(tmp_path):
    """Classes without train/ and test/ above them: ten, five and one image, each of its own shade."""
    for name, count in {"ant": 10, "bee": 5, "cicada": 1}.items():
        for number in range(count):
            write_image(tmp_path / "flat" / name / f"{number}.png", (20 * number, len(name), 0))
    return tmp_path / "flat"


def test_a_flat_folder_is_split_alike_whatever_the_seed(flat):
    dataset = load_dataset("folder", flat)
    assert (dataset.name, dataset.class_names) == ("flat", ("ant", "bee", "cicada"))
    assert dataset.train_class_counts.tolist() == [8, 4, 1]
    assert dataset.test.class_counts(3).tolist() == [2, 1, 0]
    assert dataset.held_out.tolist() == [2, 7, 12]
    assert torch.equal(load_dataset("folder", flat, seed=7).test.images, dataset.test.images)
    train, test = ({image.numpy().tobytes() for image in part.images} for part in (dataset.train, dataset.test))
    assert not train & test
    assert load_dataset("folder", flat, test_fraction=0.5).test.class_counts(3).tolist() == [5, 2, 0]


def test_a_flat_folder_may_have_images_for_validation_and_without_a_label(flat):
    write_image(flat / "unlabeled" / "a.png", (0, 0, 0))
    write_image(flat / "val" / "bee" / "a.png", (0, 0, 0))
    dataset = load_dataset("folder", flat)
    assert (len(dataset.unlabeled), dataset.val.labels.tolist(), dataset.num_classes) == (1, [1], 3)


def test_what_cannot_be_held_out_is_refused(root, flat, tmp_path):
    assert "--test-fraction is for a folder without train/ and test/" in refusal_of(root, test_fraction=0.2)
    assert "must lie between 0 and 1, got 1" in refusal_of(flat, test_fraction=1.0)
    for name in ("a", "b"):
        write_image(tmp_path / "single" / name / "1.png", (0, 0, 0))
    assert "No class of" in refusal_of(tmp_path / "single")
    (tmp_path / "empty").mkdir()
    assert "empty holds no folders" in refusal_of(tmp_path / "empty")
    with pytest.raises(UserError, match="--test-fraction is an option of dataset folder, got dataset 'digits'"):
        load_dataset("digits", test_fraction=0.1)


def test_a_class_may_be_called_like_a_part(tmp_path):
    for part in ("train", "test"):
        for name in ("train", "unlabeled"):
            write_image(tmp_path / part / name / "1.png", (0, 0, 0))
    assert load_dataset("folder", tmp_path).class_names == ("train", "unlabeled")


def test_own_data_are_called_by_their_place(tmp_path, monkeypatch):
    (tmp_path / "my shots").mkdir()
    monkeypatch.chdir(tmp_path / "my shots")
    assert name_of("folder", ".") == name_of("folder", tmp_path / "my shots") == "my shots"
    assert name_of("npz", "../medical.npz") == "medical"
    assert name_of("folder", "digits") == "own-digits"  # or it would be taken for those in every comparison
    assert (name_of("folder", None), name_of("folder", "/"), name_of("cifar10", "data")) == (
        "folder",
        "folder",
        "cifar10",
    )
