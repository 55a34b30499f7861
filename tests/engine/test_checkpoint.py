"""Checkpoints come back as they were, survive a crash in writing, and are never unpickled."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from tailmatch.engine.checkpoint import checkpoints, load_checkpoint, load_newest, save_checkpoint, save_weights
from tailmatch.engine.files import write_atomically, write_json, write_text
from tailmatch.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def trained_adamw() -> torch.optim.Optimizer:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return optimizer


STATE = {
    "optimizer": trained_adamw().state_dict(),
    "halves": torch.tensor([1.5, -2.0, float("inf")], dtype=torch.bfloat16),
    "empty": torch.zeros(0, 3),
    "number": torch.tensor(7, dtype=torch.int64),
    "mask": torch.tensor([True, False]),
    "bytes": torch.get_rng_state(),
    "nested": {3: [torch.ones(2), {"deep.name": torch.zeros(1)}], "none": None, "word": "ü", "nothing": {}, "list": []},
    "numbers": [1, 2.5, float("inf"), True, -0.1 + 0.2],
}


def assert_same(found: object, expected: object) -> None:
    if isinstance(expected, torch.Tensor):
        assert isinstance(found, torch.Tensor)
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
    elif isinstance(expected, dict):
        assert isinstance(found, dict)
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert_same(found[key], value)
    elif isinstance(expected, (list, tuple)):
        assert isinstance(found, list)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == expected
        assert type(found) is type(expected)


def test_a_nested_state_comes_back_as_it_was(tmp_path: Path) -> None:
    step, state = load_checkpoint(save_checkpoint(tmp_path, 12, STATE))
    assert step == 12
    assert_same(state, STATE)


def test_two_names_for_one_memory_and_other_layouts_are_kept_apart(tmp_path: Path) -> None:
    weight = torch.arange(24.0).reshape(2, 3, 2, 2).to(memory_format=torch.channels_last)
    _, state = load_checkpoint(save_checkpoint(tmp_path, 1, {"a": weight, "b": weight, "part": weight[:, 1]}))
    assert torch.equal(state["a"], weight)
    assert torch.equal(state["b"], weight)
    assert torch.equal(state["part"], weight[:, 1])


def test_tensors_stand_in_the_file_under_their_dotted_path(tmp_path: Path) -> None:
    from safetensors import safe_open

    path = save_checkpoint(tmp_path, 1, {"task": {"loss.class_means.means": torch.eye(2)}, "list": [torch.ones(1)]})
    with safe_open(path, framework="np") as file:
        assert set(file.keys()) == {"task.loss.class_means.means", "list.0"}


def test_a_path_that_two_tensors_would_share_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"a\.b"):
        save_checkpoint(tmp_path, 1, {"a": {"b": torch.ones(1)}, "a.b": torch.zeros(1)})


def test_two_generations_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15, 99_999_999):
        save_checkpoint(tmp_path, step, {"x": torch.tensor(step)})
    assert [path.name for path in checkpoints(tmp_path)] == [
        "step_00000015.safetensors",
        "step_99999999.safetensors",
    ]
    assert load_newest(tmp_path)[0] == 99_999_999  # type: ignore[index]


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "without state", "a folder"])
def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path: Path, damage: str) -> None:
    save_checkpoint(tmp_path, 5, {"x": torch.tensor(5.0)})
    newest = save_checkpoint(tmp_path, 10, {"x": torch.tensor(10.0)})
    hurt(newest, damage)
    step, state, remarks = load_newest(tmp_path)  # type: ignore[misc]
    assert (step, float(state["x"])) == (5, 5.0)
    assert len(remarks) == 1
    assert remarks[0].startswith("step_00000010.safetensors cannot be read (")
    assert remarks[0].endswith("going back to the one before.")


def hurt(path: Path, damage: str) -> None:
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-3])
    elif damage == "garbage":
        path.write_bytes(b"\x00\xff" * 50)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "without state":
        save_weights(path, {"x": torch.ones(1)})
    else:
        path.unlink()
        path.mkdir()


def test_it_is_an_error_when_all_of_them_are_damaged(tmp_path: Path) -> None:
    for step in (5, 10):
        hurt(save_checkpoint(tmp_path, step, {"x": torch.ones(3)}), "truncated")
    with pytest.raises(UserError, match=r"None of the checkpoints in .* can be read: .*00000010.*00000005"):
        load_newest(tmp_path)


def test_no_checkpoint_at_all_is_no_error(tmp_path: Path) -> None:
    assert load_newest(tmp_path) is None
    assert load_newest(tmp_path / "nowhere") is None


@pytest.mark.parametrize("moment", ["while writing", "before the rename"])
def test_a_crash_in_writing_leaves_the_old_file(tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    def write(file: object) -> None:
        file.write(b"ne")  # type: ignore[attr-defined]
        if moment == "while writing":
            raise RuntimeError("crash")

    if moment == "before the rename":
        monkeypatch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(RuntimeError("crash")))
    with pytest.raises(RuntimeError, match="crash"):
        write_atomically(path, write)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_the_file_is_durable_before_it_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = []
    real_replace = Path.replace
    monkeypatch.setattr("os.fsync", lambda handle: events.append("fsync"))
    monkeypatch.setattr(Path, "replace", lambda self, to: (events.append("rename"), real_replace(self, to)))
    write_text(tmp_path / "file", "text")
    assert events == ["fsync", "rename", "fsync"]  # the file, its name, and the folder that holds the name


def test_a_full_disk_says_which_file_was_to_be_written(tmp_path: Path) -> None:
    def write(file: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left") as error:
        write_atomically(tmp_path / "file", write)
    assert error.value.filename == str(tmp_path / "file")


def test_json_never_holds_a_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "x.json", {"accuracy": float("nan")})


def test_weights_have_their_plain_names(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    save_weights(tmp_path / "w.safetensors", model.state_dict())
    other = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    other.load_state_dict(load_file(tmp_path / "w.safetensors"))
    assert_same(dict(other.state_dict()), dict(model.state_dict()))


# -- nothing is unpickled ----------------------------------------------------------------------------------------------

FORBIDDEN = {
    r"\b(import|from) +(pickle|dill|joblib|shelve|marshal)\b(?! import (_?Unpickl(ingError|er)|dumps)\b)": "a pickle",
    r"\bpickle\.loads?\(": "pickle",
    r"\bUnpickler\(": "an unpickler of everything",
    r"torch\.load\((?![^)]*weights_only=True)": "torch.load without weights_only=True",
    r"torch\.hub\.(?!get_dir|download_url_to_file)": "code from the net",
    r"allow_pickle *= *True": "object arrays",
    r"(np|numpy)\.load\((?![^)]*allow_pickle=False)": "np.load without a stated allow_pickle=False",
    r"read_pickle|to_pickle": "pandas' pickles",
    r"yaml\.(unsafe_load|full_load|UnsafeLoader|FullLoader|Loader\b)": "an unsafe YAML loader",
    r"yaml\.load\((?![^)]*(Safe|Base)Loader)": "yaml.load without a safe loader",
    r"(?<![\w.])(eval|exec)\(": "evaluated text",
}
FOLDERS = (
    *("ssl", "longtail", "distill", "datasets", "features", "losses", "models", "engine", "inference", "analysis"),
    *("tailmatch", "benchmarks"),
)
SOURCES = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))


def test_nothing_is_unpickled_anywhere() -> None:
    assert len(SOURCES) > 50
    found = []
    for file in SOURCES:
        text = file.read_text(encoding="utf-8")
        for pattern, what in FORBIDDEN.items():
            for match in re.finditer(pattern, text):
                line = text[: match.start()].count("\n") + 1
                found.append(f"{file.relative_to(ROOT)}:{line}: {what}")
    assert not found


@pytest.mark.parametrize(
    "line",
    ["import pickle", "torch.load(path)", "np.load(file)", "yaml.load(text, Loader=Loader)", "x = eval(text)"],
)
def test_the_search_would_find_it(line: str) -> None:
    assert any(re.search(pattern, line) for pattern in FORBIDDEN)
