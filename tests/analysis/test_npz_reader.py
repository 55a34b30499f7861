"""Reading arrays in pieces: the same values whatever the layout, and one sentence for whatever is broken."""

from pathlib import Path

import numpy as np
import pytest

from tailmatch.analysis.npz_reader import BrokenFile, NpzReader


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "logits": generator.normal(size=(103, 7)).astype(np.float16),
        "labels": generator.integers(0, 7, 103),
        "class_names": np.array(["å", "b"]),
        "seed": np.array(3),
    }


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_pieces_are_the_array(tmp_path: Path, arrays: dict, save: object, order: str) -> None:
    arrays["logits"] = np.asarray(arrays["logits"], order=order)
    save(tmp_path / "a.npz", **arrays)
    file = NpzReader(tmp_path / "a.npz")
    assert file.shapes == {name: array.shape for name, array in arrays.items()}
    for name, array in arrays.items():
        np.testing.assert_array_equal(file.read(name), array)
    chunks = list(file.row_chunks("logits", 10))
    assert [len(chunk) for chunk in chunks] == [10] * 10 + [3]
    np.testing.assert_array_equal(np.concatenate(chunks), arrays["logits"])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_file_cut_off_anywhere_is_named(tmp_path: Path, arrays: dict, save: object) -> None:
    path = tmp_path / "a.npz"
    save(path, **arrays)
    whole = path.read_bytes()
    for keep in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:keep])
        with pytest.raises(BrokenFile, match=r"a\.npz: not a whole npz file"):
            NpzReader(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damage_inside_is_noticed(tmp_path: Path, arrays: dict, save: object) -> None:
    path = tmp_path / "a.npz"
    save(path, **arrays)
    data = bytearray(path.read_bytes())
    place = len(data) // 3  # inside the logits
    data[place : place + 20] = bytes(20)
    path.write_bytes(data)
    with pytest.raises(BrokenFile, match="logits is damaged"):
        list(NpzReader(path).row_chunks("logits", 10))


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", labels=np.array([{"a": 1}], dtype=object))
    with pytest.raises(BrokenFile, match="labels holds Python objects, which could run code"):
        NpzReader(tmp_path / "a.npz")


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_text("hello")
    with pytest.raises(BrokenFile, match="not a whole npz file"):
        NpzReader(tmp_path / "a.npz")
    with pytest.raises(BrokenFile, match=r"cannot be opened \(No such file"):
        NpzReader(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz")
    with pytest.raises(BrokenFile, match=r"holds no arrays|not a whole npz file"):
        NpzReader(tmp_path / "c.npz")
