"""One flipped bit in a file that later commands trust is noticed, wherever it is."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tailmatch.checksums import Damaged, verify_safetensors, verify_zip
from tailmatch.engine.checkpoint import load_checkpoint, load_newest, load_weights, save_checkpoint, save_weights
from tailmatch.engine.config import read_recipe, to_yaml
from tailmatch.engine.files import write_sealed_json
from tailmatch.engine.recorded import result_of
from tailmatch.engine.records import RunFolder
from tailmatch.errors import UserError
from tailmatch.guarded_text import Unreadable, read_json, read_yaml
from tailmatch.models.state_file import read_state
from tailmatch.ssl.config import SSLConfig
from tests.small_files import CARD, RESULT, STATE, is_state


def flips(path: Path, every: int = 1):  # type: ignore[no-untyped-def]
    """The file with one bit of every n-th byte flipped, one after the other."""
    whole = path.read_bytes()
    for place, bit in zip(range(0, len(whole), every), itertools.cycle(range(8)), strict=False):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        yield place
    path.write_bytes(whole)


def test_a_flipped_bit_in_weights_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, STATE, CARD)
    passed = named = 0
    for place in flips(path):
        try:
            card, state = load_weights(path)
        except UserError as error:
            named += str(path) in str(error)
        else:
            assert card == CARD, place
            assert is_state(state), place
            passed += 1
    assert passed == 0
    assert named == path.stat().st_size
    assert load_weights(path)[0] == CARD


def test_a_flipped_bit_in_a_checkpoint_leads_to_the_one_before(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 5, {"weights": torch.ones(3), "number": 1.25})
    path = save_checkpoint(tmp_path, 10, {"weights": torch.full((3,), 2.0), "number": 2.5})
    noticed = 0
    for place in flips(path):
        step, state, remarks = load_newest(tmp_path)  # type: ignore[misc]
        assert (step, state["number"], state["weights"].tolist()) in [(5, 1.25, [1.0] * 3), (10, 2.5, [2.0] * 3)], place
        assert len(remarks) == (step == 5)
        noticed += step == 5
    assert noticed > 150
    assert load_checkpoint(path)[0] == 10


def test_what_is_damaged_twice_is_noticed_where_one_place_is_the_name_of_the_checksum(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, STATE, CARD)
    whole = path.read_bytes()
    name = whole.index(b"tailmatch_sha256")
    for place in range(name, name + 16):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        damaged[-3] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"its checksum has another name|not a whole safetensors file"):
            load_weights(path)


def test_a_flipped_bit_in_a_teacher_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    torch.save(STATE, path)
    named = 0
    for place in flips(path, every=3):
        try:
            state = read_state(path).state
        except UserError as error:
            named += str(path) in str(error)
        else:
            assert is_state(state), place
    assert named > 100


def test_files_of_other_programs_need_no_checksum(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "theirs.safetensors", {"format": "pt"})
    assert not verify_safetensors(tmp_path / "theirs.safetensors")
    assert is_state(dict(read_state(tmp_path / "theirs.safetensors").state))
    torch.save(STATE, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert not verify_zip(tmp_path / "old.pt")
    assert is_state(dict(read_state(tmp_path / "old.pt").state))


def test_other_programs_read_what_has_a_checksum(tmp_path: Path) -> None:
    save_weights(tmp_path / "ours.safetensors", STATE, CARD)
    assert verify_safetensors(tmp_path / "ours.safetensors")
    assert is_state(load_file(tmp_path / "ours.safetensors"))


def test_several_entries_of_the_header_keep_their_order(tmp_path: Path) -> None:
    found = {save_checkpoint(tmp_path, 1, {"x": torch.ones(1)}).read_bytes() for _ in range(8)}
    assert len(found) == 1


@pytest.mark.parametrize("content", [b"", b"\x00" * 7, b"\xff" * 8, b"\x10" + b"\x00" * 7 + b"{}"])
def test_what_has_no_header_is_damaged(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(Damaged, match="it is cut off, or no safetensors file"):
        verify_safetensors(tmp_path / "file")


TEACHERS = {
    "text": b"no teacher at all\n" * 9,
    "empty": b"",
    "pickle of a list": b"\x80\x02]q\x00.",
}


@pytest.mark.parametrize("content", TEACHERS.values(), ids=list(TEACHERS))
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_teacher_that_is_none_is_refused_by_name(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"teacher{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match="teacher"):
        read_state(path)


@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        (torch.ones(2, dtype=torch.complex64), "fc.bias holds complex numbers"),
        (torch.tensor([1.0, float("nan")]), "fc.bias holds NaN or infinite numbers"),
        (torch.tensor([1.0, float("inf")], dtype=torch.bfloat16), "fc.bias holds NaN or infinite numbers"),
    ],
)
def test_weights_that_no_network_can_have_are_refused(tensor: torch.Tensor, why: str, tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.ones(2, 2), "fc.bias": tensor}, tmp_path / "teacher.pt")
    with pytest.raises(UserError, match=rf"teacher\.pt cannot be used: {why}"):
        read_state(tmp_path / "teacher.pt")


def test_an_npz_file_is_a_zip_archive(tmp_path: Path) -> None:
    path = tmp_path / "arrays.npz"
    np.savez(path, numbers=np.arange(100))
    assert verify_zip(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + bytes([whole[200] ^ 4]) + whole[201:])
    with pytest.raises(Damaged, match=r"the bytes of numbers\.npy in it do not have their checksum"):
        verify_zip(path)


# -- texts -------------------------------------------------------------------------------------------------------------


def test_a_flipped_bit_in_json_of_ours_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_sealed_json(path, RESULT)
    for place in flips(path):
        with pytest.raises(Unreadable):
            read_json(path)
        assert result_of(tmp_path) == {}, place
    assert read_json(path) == RESULT
    assert result_of(tmp_path)["status"] == "finished"


def test_a_flipped_bit_in_a_recorded_configuration_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_config(to_yaml(SSLConfig(), "ssl"))
    for place in flips(folder.config_file):
        with pytest.raises(UserError) as refusal:
            read_recipe(SSLConfig(), folder.config_file, "ssl")
        assert str(folder.config_file) in str(refusal.value), place
    assert read_recipe(SSLConfig(), folder.config_file, "ssl") == SSLConfig()


def test_a_changed_configuration_says_what_to_do_and_is_read_once_that_is_done(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_config(to_yaml(SSLConfig(), "ssl"))
    first, _, others = folder.config_file.read_text().partition("\n")
    folder.config_file.write_text(f"{first}\n{others.replace('seed: 0', 'seed: 3')}")
    with pytest.raises(UserError, match=r"or was changed: .* take the line with tailmatch_sha256 out"):
        read_recipe(SSLConfig(), folder.config_file, "ssl")
    folder.config_file.write_text(others.replace("seed: 0", "seed: 3"))
    assert read_recipe(SSLConfig(), folder.config_file, "ssl").run.seed == 3


def test_texts_without_a_checksum_are_read(tmp_path: Path) -> None:
    """Of earlier versions, of other programs, and of people."""
    for text in ('{"schema": 1}', '{"a_name_16_long_": "' + "word " * 20 + '"}', '{"' + "ab" * 8 + '": 3}', "[]", "{}"):
        (tmp_path / "file.json").write_text(text)
        assert read_json(tmp_path / "file.json") == yaml.safe_load(text)
    (tmp_path / "file.yaml").write_text(
        "# sixteen letters : and so on, up to eighty signs and more of them in this line\nlr: 1\n"
    )
    assert read_yaml(tmp_path / "file.yaml") == {"lr": 1}


def test_damaged_curves_are_not_gone_on_with(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.open_metrics(0)
    for step in range(1, 5):
        folder.log(step, step / 3, {"train/loss": 1 / step})
    checksum, path = folder.metrics_checksum(), tmp_path / "metrics.jsonl"
    folder.log(5, 2.0, {"train/loss": 0.1})
    folder.close("interrupted")
    whole = path.read_bytes()
    rows_of_5 = len(whole) - whole.rindex(b"\n", 0, -1)
    for place in range(0, len(whole) - rows_of_5, 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        with pytest.raises(UserError, match=r"metrics\.jsonl is damaged, or was changed: its rows up to step 4"):
            RunFolder(tmp_path).open_metrics(4, checksum)
        assert len(path.read_bytes()) == len(whole), "nothing is lost"
    path.unlink()
    RunFolder(tmp_path).open_metrics(4, checksum)  # as the sentence says: it goes on without them
    assert path.read_bytes() == b""
    path.write_bytes(whole)
    RunFolder(tmp_path).open_metrics(4, checksum)
    assert path.read_bytes() == whole[: len(whole) - rows_of_5 + 1]
