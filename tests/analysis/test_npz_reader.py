"""Reading arrays in pieces: the same values whatever the layout, and one sentence for whatever is broken."""

import os
import zipfile
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


HEADERS = {
    "a shape of 80 PiB": "{'descr': '<f8', 'fortran_order': False, 'shape': (11258999068426240,)}",
    "a shape beyond 64 bits": "{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296, 4)}",
    "a shape of True": "{'descr': '<i8', 'fortran_order': False, 'shape': (True,)}",
    "a negative shape": "{'descr': '<i8', 'fortran_order': False, 'shape': (-1,)}",
    "brackets": "(" * 900,
    "closed brackets": "(" * 900 + ")" * 900,
    "no literal": "{'descr': __import__('os').getcwd(), 'fortran_order': False, 'shape': (1,)}",
    "no type": "{'descr': 'hello', 'fortran_order': False, 'shape': (1,)}",
    "words without letters": "{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,)}",
    "long words": "{'descr': '<U1000000000', 'fortran_order': False, 'shape': (1,)}",
    "one number less": "{'descr': '<i8', 'fortran_order': False, 'shape': ()}",
    "nothing": "",
}


def with_header(path: Path, header: str, data: bytes = bytes(16)) -> None:
    text = header.encode() + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("labels.npy", content)


@pytest.mark.parametrize("header", HEADERS.values(), ids=list(HEADERS))
def test_headers_that_claim_something_else_are_refused(header: str, tmp_path: Path) -> None:
    with_header(tmp_path / "a.npz", header)
    with pytest.raises(BrokenFile, match=r"a\.npz: labels is damaged \(.+\)") as refusal:
        NpzReader(tmp_path / "a.npz")
    assert len(str(refusal.value)) < 400
    assert "\n" not in str(refusal.value)


def test_names_that_no_file_could_be_written_with_are_refused(tmp_path: Path) -> None:
    for code in (0xD800, 0xDCFF, 0x110000):
        data = code.to_bytes(4, "little") * 2
        with_header(tmp_path / "a.npz", "{'descr': '<U2', 'fortran_order': False, 'shape': (1,)}", data)
        with pytest.raises(BrokenFile, match="a name in it is no text"):
            NpzReader(tmp_path / "a.npz").read("labels")


def test_one_number_has_no_rows(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.array(3))
    with pytest.raises(BrokenFile, match="images is one number, and many are wanted"):
        list(NpzReader(tmp_path / "a.npz").row_chunks("images", 4))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npz")
    with pytest.raises(BrokenFile, match=r"a\.npz: is no file"):
        NpzReader(tmp_path / "a.npz")


def test_a_flipped_bit_is_noticed_or_changes_nothing(tmp_path: Path, arrays: dict) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    whole, noticed = path.read_bytes(), 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        try:
            file = NpzReader(path)
            found = {name: file.read(name) for name in file.shapes}
        except BrokenFile:
            noticed += 1
        else:
            assert found.keys() == arrays.keys(), "an array that one may do without must not go unnoticed"
            for name, array in found.items():
                np.testing.assert_array_equal(array, arrays[name])
    assert noticed > len(whole) / 7 * 0.7
