"""`data prepare` and `data check` on a miniature ImageNet-LT, its lists served from this machine."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from tailmatch.datasets.files.catalog import FILE_DATASETS, file_recipe
from tailmatch.datasets.files.load import load_file_dataset
from tailmatch.datasets.files.loader import ImageLoader
from tailmatch.datasets.prepare.command import check, list_datasets, prepare, run
from tailmatch.datasets.prepare.config import CheckConfig, DataConfig, PrepareConfig
from tailmatch.datasets.prepare.fetch import git_blob
from tailmatch.engine.command_line import parse
from tailmatch.engine.sampling import EpochPlan
from tailmatch.errors import UserError
from tailmatch.guarded_text import read_json
from tests.datasets.miniature_imagenet import (
    SYNSETS,
    TEST_PER_CLASS,
    TRAIN_COUNTS,
    VAL_PER_CLASS,
    Miniature,
    build_miniature,
    served,
)


def config_for(miniature: Miniature, **changes: object) -> PrepareConfig:
    config = PrepareConfig(dataset="imagenet-lt", root=miniature.root, checksum=miniature.checksums, workers=0)
    return replace(config, **changes)  # type: ignore[arg-type]


def prepared(miniature: Miniature, **changes: object) -> int:
    with served(miniature.lists) as url:
        return prepare(config_for(miniature, lists_url=url, **changes))


def checked(miniature: Miniature, **changes: object) -> int:
    return check(CheckConfig(dataset="imagenet-lt", root=miniature.root, workers=0, **changes))  # type: ignore[arg-type]


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []


@pytest.mark.parametrize("layout", ["folders", "kaggle"])
def test_prepares_either_layout(tmp_path: Path, layout: str, capsys: pytest.CaptureFixture[str]) -> None:
    miniature = build_miniature(tmp_path / "imagenet", layout)  # type: ignore[arg-type]
    assert prepared(miniature) == 0
    assert "imagenet-lt is ready" in capsys.readouterr().out
    dataset = load_file_dataset("imagenet-lt", miniature.root)
    assert dataset.class_names == SYNSETS
    assert dataset.train_class_counts.tolist() == list(TRAIN_COUNTS)
    assert dataset.val is not None
    assert (len(dataset.val), len(dataset.test)) == (6 * VAL_PER_CLASS, 6 * TEST_PER_CLASS)
    for files in (dataset.train, dataset.val, dataset.test):
        assert all(Path(files.path(index)).is_file() for index in range(len(files)))
    plan = EpochPlan(images=len(dataset.train), batch_size=8, seed=0)
    with ImageLoader(dataset.train, dataset.train_view, plan, 1) as loader:
        assert loader.batch(0).images.shape == (8, 3, 224, 224)
    assert checked(miniature) == 0
    assert checked(miniature, verify="pixels") == 0
    assert "imagenet-lt is complete" in capsys.readouterr().out


def test_prepares_again_without_the_network(miniature: Miniature) -> None:
    assert prepared(miniature) == 0
    assert prepare(config_for(miniature)) == 0


def test_lists_may_come_from_a_folder(miniature: Miniature, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    with pytest.raises(UserError, match=r"ImageNet_LT_train\.txt cannot be read: No such file"):
        prepare(config_for(miniature, lists_url=str(tmp_path / "lists")))
    for name, content in miniature.lists.items():
        (tmp_path / "lists" / name).write_bytes(content)
    assert prepare(config_for(miniature, lists_url=str(tmp_path / "lists"))) == 0
    with pytest.raises(UserError, match="http or https address or from a folder, got 'ftp://x'"):
        prepare(config_for(miniature, lists_url="ftp://x"))


def test_the_record_moves_with_the_images(miniature: Miniature, tmp_path: Path) -> None:
    assert prepared(miniature) == 0
    moved = miniature.root.rename(tmp_path / "elsewhere")
    files = load_file_dataset("imagenet-lt", moved).train
    assert Path(files.path(0)).is_file()


def test_the_images_may_be_read_only(miniature: Miniature, tmp_path: Path) -> None:
    apart = tmp_path / "apart"
    assert prepared(miniature, prepared=apart) == 0
    assert leftovers(miniature.root / "tailmatch") == []
    assert len(load_file_dataset("imagenet-lt", apart).train) == sum(TRAIN_COUNTS)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be written .* name another folder with --prepared"):
        prepared(miniature, prepared=tmp_path / "file" / "below")


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("missing", r"ImageNet_LT_train\.txt cannot be fetched: the server answers 404 .*; try again, or name another"),
        ("cut", r"ImageNet_LT_train\.txt was cut off after [\d,]+ of [\d,]+ bytes; try again"),
        ("silent", r"cannot be fetched: nothing came within 0\.2 seconds; try again"),
    ],
)
def test_a_bad_transfer_is_one_sentence_and_leaves_nothing(miniature: Miniature, behaviour: str, message: str) -> None:
    config = config_for(miniature, timeout=0.2)
    with served(miniature.lists, behaviour) as url, pytest.raises(UserError, match=message):
        prepare(replace(config, lists_url=url))
    assert leftovers(config.folder) == []


def test_no_server_is_one_sentence(miniature: Miniature) -> None:
    with served({}) as url:
        pass
    with pytest.raises(UserError, match=r"cannot be fetched: .*refused"):
        prepare(config_for(miniature, lists_url=url))


def test_an_altered_list_is_refused_and_not_kept(miniature: Miniature) -> None:
    altered = dict(miniature.lists)
    altered["ImageNet_LT_val.txt"] = altered["ImageNet_LT_val.txt"].replace(b" 0\n", b" 1\n", 1)
    config = config_for(miniature)
    with served(altered) as url, pytest.raises(UserError, match=r"is not the val list of imagenet-lt: its hash is not"):
        prepare(replace(config, lists_url=url))
    assert "ImageNet_LT_val.txt" not in leftovers(config.folder)
    assert "prepared.json" not in leftovers(config.folder)


def test_lists_of_ones_own_by_either_hash_or_none(miniature: Miniature) -> None:
    blob = git_blob(miniature.lists["ImageNet_LT_train.txt"])
    assert prepared(miniature, checksum=(f"train={blob}", "val=any", "test=any")) == 0
    for word, message in (
        ("train=12", r"must be a SHA-256 \(64 hexadecimal digits\).*got '12'"),
        ("tests=any", "Did you mean 'test'"),
    ):
        with pytest.raises(UserError, match=message):
            prepared(miniature, checksum=(word,))


def test_without_a_checksum_the_published_numbers_count(miniature: Miniature) -> None:
    with pytest.raises(UserError, match="is not the train list of imagenet-lt: its hash is not a063f095"):
        prepared(miniature, checksum=())
    with pytest.raises(UserError, match=r"is not the val list of imagenet-lt: it has .* bytes, not 804,172"):
        prepared(miniature, checksum=("train=any",))


def test_mixed_up_classes_get_numbers_only_in_lists_of_ones_own(miniature: Miniature) -> None:
    lines = miniature.lists["ImageNet_LT_train.txt"].splitlines(keepends=True)
    lines[0] = lines[0].replace(b" 0\n", b" 5\n")
    mixed = replace(miniature, lists={**miniature.lists, "ImageNet_LT_train.txt": b"".join(lines)})
    assert prepared(mixed) == 0
    assert load_file_dataset("imagenet-lt", mixed.root).class_names[5] == "class 5"


def test_missing_images_are_counted_and_named(miniature: Miniature, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepared(miniature) == 0
    gone = sorted((miniature.root / "train" / SYNSETS[0]).iterdir())[:7]
    for path in gone:
        path.unlink()
    assert checked(miniature) == 1
    out = capsys.readouterr().out
    assert "of 62 train images are missing: train/n01440764/" in out
    assert "imagenet-lt is not complete" in out
    assert prepared(miniature) == 1
    out = capsys.readouterr().out
    assert "and" in out
    assert "Nothing was prepared" in out
    with pytest.raises(UserError, match="imagenet-lt has not been prepared"):
        load_file_dataset("imagenet-lt", miniature.root)


@pytest.mark.parametrize("verify", ["headers", "pixels"])
def test_unreadable_images_are_counted_and_named(
    miniature: Miniature, capsys: pytest.CaptureFixture[str], verify: str
) -> None:
    broken = sorted((miniature.root / "train" / SYNSETS[1]).iterdir())[:3]
    broken[0].write_bytes(broken[0].read_bytes()[:900])
    broken[1].write_bytes(b"")
    broken[2].write_text("an error page")
    assert prepared(miniature, verify=verify) == 1
    out = capsys.readouterr().out
    found = [line for line in out.splitlines() if "cannot be read" in line]
    assert len(found) == 1
    assert found[0].startswith("3 of ")
    assert all(f"{path.parent.name}/{path.name}" in found[0] for path in broken if path.name)
    assert "not an image" in found[0]
    assert prepared(miniature, verify="names") == 0


def test_images_that_are_nowhere_are_one_sentence(miniature: Miniature, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"None of the \d+ images listed as train/\.\.\. is under .*; looked for"):
        prepared(replace(miniature, root=tmp_path / "empty"))
    with pytest.raises(UserError, match="There is no folder"):
        prepared(replace(miniature, root=tmp_path / "nowhere"))


def test_copies_are_made_once_resumed_and_used(miniature: Miniature, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepared(miniature, resize=40) == 0
    copies = miniature.root / "tailmatch" / "imagenet-lt" / "resized-40-q95"
    dataset = load_file_dataset("imagenet-lt", miniature.root)
    assert dataset.train.root == copies
    assert dataset.test.root == miniature.root.resolve()
    assert load_file_dataset("imagenet-lt", miniature.root, resized=False).train.root == miniature.root.resolve()
    for index in range(len(dataset.train)):
        with (
            Image.open(dataset.train.path(index)) as copy,
            Image.open(miniature.root / dataset.train.relative(index)) as o,
        ):
            assert min(copy.size) == 40
            assert abs(copy.width / copy.height - o.width / o.height) < 0.03
    times = {path: path.stat().st_mtime_ns for path in copies.rglob("*.JPEG")}
    cut, whole = sorted(times)[:2]
    cut.write_bytes(cut.read_bytes()[:100])
    assert checked(miniature) == 1
    assert "copies in" in capsys.readouterr().out
    assert prepared(miniature, resize=40) == 0
    assert Image.open(cut).size
    assert whole.stat().st_mtime_ns == times[whole]
    assert checked(miniature) == 0
    assert not [name for name in leftovers(copies) if name.startswith(".")]


def test_several_processes_do_the_same(miniature: Miniature) -> None:
    assert prepared(miniature, resize=40) == 0
    copies = miniature.root / "tailmatch" / "imagenet-lt" / "resized-40-q95"
    one = {path.name: path.read_bytes() for path in copies.rglob("*.JPEG")}
    for path in copies.rglob("*.JPEG"):
        path.unlink()
    assert prepared(miniature, resize=40, workers=2) == 0
    assert {path.name: path.read_bytes() for path in copies.rglob("*.JPEG")} == one


def test_an_altered_list_or_record_is_refused_later(miniature: Miniature) -> None:
    assert prepared(miniature) == 0
    folder = miniature.root / "tailmatch" / "imagenet-lt"
    record = read_json(folder / "prepared.json")
    for changed, message in (
        ({**record, "schema": 99}, "written by another version"),
        ({**record, "dataset": "places-lt"}, "is of places-lt, not of imagenet-lt"),
        ({"schema": 1}, "cannot be used"),
        ([], "cannot be used"),
    ):
        (folder / "prepared.json").write_text(json.dumps(changed))
        with pytest.raises(UserError, match=message):
            load_file_dataset("imagenet-lt", miniature.root)
    (folder / "prepared.json").write_text(json.dumps(record))
    path = folder / "ImageNet_LT_test.txt"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"ImageNet_LT_test\.txt has been altered since"):
        load_file_dataset("imagenet-lt", miniature.root)
    with pytest.raises(UserError, match="has been altered since"):
        checked(miniature)


def test_imagenet_itself_is_listed_from_its_folders(tmp_path: Path) -> None:
    any_size = ("train=any", "test=any")
    for layout in ("folders", "kaggle"):
        miniature = build_miniature(tmp_path / layout, layout)
        config = PrepareConfig(dataset="imagenet", root=miniature.root, workers=0)
        if layout == "kaggle":
            with pytest.raises(UserError, match=r"not in folders by class, and LOC_val_solution\.csv"):
                prepare(config)
            rows = [line.split() for line in miniature.lists["ImageNet_LT_test.txt"].decode().splitlines()]
            solution = [f"{Path(path).stem},{SYNSETS[int(label)]} 1 2 3 4 \n" for path, label in rows]
            (miniature.root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "".join(solution))
        with pytest.raises(UserError, match="is not the train list of imagenet: it lists 74 images, not 1,281,167"):
            prepare(config)
        assert prepare(replace(config, checksum=any_size)) == 0
        dataset = load_file_dataset("imagenet", miniature.root)
        assert dataset.val is None
        assert dataset.class_names == SYNSETS
        assert dataset.test.class_counts(6).tolist() == [TEST_PER_CLASS] * 6


def test_inaturalist_comes_from_its_annotations(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("val", 2)):
        images = [{"id": i, "file_name": f"train_val2018/Aves/{i % 2}/{split}{i}.jpg"} for i in range(count)]
        for image in images:
            place = tmp_path / str(image["file_name"])
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (30, 20)).save(place)
        notes = [{"image_id": i, "category_id": i % 2} for i in range(count)]
        (tmp_path / f"{split}2018.json").write_text(json.dumps({"images": images, "annotations": notes}))
    config = PrepareConfig(dataset="inaturalist2018", root=tmp_path, workers=0)
    with pytest.raises(UserError, match="it lists 3 images, not 437,513"):
        prepare(config)
    assert prepare(replace(config, checksum=("train=any", "test=any"))) == 0
    dataset = load_file_dataset("inaturalist2018", tmp_path, image_size=64)
    assert dataset.train_class_counts.tolist() == [2, 1]
    assert torch.equal(dataset.train_class_counts, torch.tensor([2, 1]))
    assert dataset.eval_view.short_side == 73


def test_the_recipes_hold_the_published_sizes() -> None:
    published = {
        "imagenet": (1000, {"train": 1_281_167, "test": 50_000}),
        "imagenet-lt": (1000, {"train": 115_846, "val": 20_000, "test": 50_000}),
        "inaturalist2018": (8142, {"train": 437_513, "test": 24_426}),
        "places-lt": (365, {"train": 62_500, "val": 7_300, "test": 36_500}),
    }
    assert set(FILE_DATASETS) == set(published)
    for name, (classes, sizes) in published.items():
        recipe = file_recipe(name)
        assert recipe.name == name
        assert recipe.classes == classes
        assert {split: row.images for split, row in recipe.lists.items()} == sizes
        for row in recipe.lists.values():  # evaluated splits are balanced
            assert row.smallest <= row.largest
            assert row.smallest != row.largest or row.images == classes * row.smallest
    with pytest.raises(UserError, match="Did you mean 'imagenet-lt'"):
        file_recipe("imagenetlt")


def test_git_names_a_file_like_git() -> None:
    assert git_blob(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert git_blob(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_the_command_line(miniature: Miniature, capsys: pytest.CaptureFixture[str]) -> None:
    images = ["imagenet-lt", "--root", str(miniature.root), "--workers", "0"]
    words = ["prepare", *images, "--checksum", *miniature.checksums]
    with served(miniature.lists) as url:
        assert run(parse(DataConfig, [*words, "--lists-url", url], "data")) == 0
    assert run(parse(DataConfig, ["check", *images], "data")) == 0
    assert run(parse(DataConfig, ["list"], "data")) == 0
    out = capsys.readouterr().out
    assert "data prepare imagenet-lt --root DIR" in out
    assert "digits" in out
    with pytest.raises(UserError, match=r"resize must be at least 32 pixels, got 3\."):
        parse(DataConfig, [*words, "--resize", "3"], "data")


def test_listing_needs_no_options() -> None:
    assert list_datasets() == 0


def test_preparing_needs_no_torch() -> None:
    program = "import sys, tailmatch.datasets.prepare; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
