"""Runs on a data set and with a network of one's own: what is recorded of them, and how they are tested again."""

import json

import pytest
import torch
from torch import nn

from tailmatch.analysis.reading import read_runs
from tailmatch.cli import main
from tailmatch.errors import UserError
from tailmatch.evaluate import evaluate
from tailmatch.ssl import AddOn, train

SHORT = {"labels": 8, "batch_size": 8, "steps": 8, "eval_every": 4, "device": "cpu", "unlabeled_ratio": 1}


@pytest.fixture
def own_run(small_dataset, small_net, tmp_path):
    torch.manual_seed(3)
    result = train(dataset=small_dataset, model=small_net(), **SHORT, out=tmp_path / "own")
    return tmp_path / "own", result


def test_what_was_used_is_recorded(own_run, small_net):
    run, result = own_run
    lines = (run / "config.yaml").read_text().splitlines()
    network = f"{small_net.__module__}.SmallNet"
    assert {"dataset: quarters", f"model: {network}", "own_parts:", f"  model: {network}"} <= set(lines)
    assert not any("npz" in line or "wrn-28-2" in line for line in lines)
    assert (result["dataset"], result["model"]) == ("quarters", "SmallNet")
    assert result["own_parts"] == {"dataset": "quarters", "model": network}


def test_the_folder_is_named_after_the_data_set(small_dataset, small_net, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = train(dataset=small_dataset, model=small_net(), **{**SHORT, "steps": 1})["folder"]
    assert folder.startswith("runs/ssl/quarters_8-fixmatch-ce-s0-")


def test_evaluate_from_python_finds_what_the_run_found(own_run, small_dataset, small_net):
    run, result = own_run
    found = evaluate(run, dataset=small_dataset, model=small_net(), device="cpu")
    assert found == {"test": result["accuracy"]["last"]}
    with pytest.raises(UserError, match="There are no weights at"):
        evaluate(run, weights=run / "other.safetensors", dataset=small_dataset, model=small_net(), device="cpu")


def test_evaluate_on_the_command_line_says_what_to_do(own_run, capsys):
    run, _ = own_run
    assert main(["evaluate", str(run), "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert f"{run} was trained on dataset quarters, model " in said
    assert f"`from tailmatch.evaluate import evaluate; evaluate({str(run)!r}, dataset=..., model=...)`" in said


def test_evaluate_wants_the_parts_of_the_run_and_no_others(own_run, small_dataset, small_net, tmp_path):
    run, _ = own_run
    with pytest.raises(UserError, match=r"was trained on model .*SmallNet, which the user brought"):
        evaluate(run, dataset=small_dataset)
    with pytest.raises(UserError, match=r"was not trained on views of the user's own, but on dataset quarters"):
        evaluate(run, dataset=small_dataset, model=small_net(), views=nn.Identity())
    train(labels=40, steps=1, device="cpu", out=tmp_path / "named")
    with pytest.raises(UserError, match=r"was not trained on dataset of the user's own; leave out dataset\."):
        evaluate(tmp_path / "named", dataset=small_dataset)
    assert set(evaluate(tmp_path / "named", device="cpu")) == {"test"}


class Doubled(AddOn):
    """An add-on that changes what is evaluated."""

    def evaluated(self, logits):
        return logits.flip(1)


def test_parts_that_only_train_are_not_asked_for_and_those_that_evaluate_are(small_dataset, small_net, tmp_path):
    parts = {"dataset": small_dataset, "model": small_net(), "add_ons": (Doubled(),)}
    result = train(**parts, acceptance=_Every(), **SHORT, out=tmp_path / "own")
    again = evaluate(tmp_path / "own", **{**parts, "model": small_net()}, device="cpu")
    assert again["test"] == result["accuracy"]["last"]
    with pytest.raises(UserError, match=r"was trained on add_ons .*Doubled"):
        evaluate(tmp_path / "own", dataset=small_dataset, model=small_net())


class _Every(nn.Module):
    """Accepts all."""

    def forward(self, seen):
        return torch.ones(len(seen.index))

    def fairness(self, *_):
        return None

    def thresholds(self):
        return None


def test_only_python_starts_or_resumes_such_a_run_again(own_run, small_dataset, small_net, tmp_path, capsys):
    run, result = own_run
    for words in (["--config", str(run)], ["--resume", str(run)]):
        assert main(["ssl", *words, "--device", "cpu"]) == 2
        said = capsys.readouterr().err
        assert "is of a run made from Python with parts of the user's own (dataset quarters, model " in said
        assert "and give dataset, model again." in said
    torch.manual_seed(3)
    again = train(config=run, dataset=small_dataset, model=small_net(), out=tmp_path / "again")
    assert again["accuracy"] == result["accuracy"]
    assert (tmp_path / "again" / "config.yaml").read_text() == (run / "config.yaml").read_text()


def test_the_analysis_names_the_parts_once(own_run):
    run, _ = own_run
    (found,), problems = read_runs([run])
    assert not problems
    assert found.settings["dataset"] == "quarters"
    assert not any(name.startswith("own_parts") for name in found.settings)
    assert json.loads((run / "result.json").read_text())["status"] == "finished"
