"""Equal tuning: what is drawn, what is judged, what the final runs get; the trainings are toys, but for the last."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml

from tailmatch import cli
from tailmatch.engine.config import flat, to_yaml
from tailmatch.engine.suite import run as suite
from tailmatch.engine.suite.choice import FILE, chosen_trials
from tailmatch.engine.suite.config import SuiteConfig, suite_names, suite_path
from tailmatch.engine.suite.grid import read_grid
from tailmatch.engine.suite.plan import PlannedRun
from tailmatch.engine.suite.suite_file import SuiteFile
from tailmatch.engine.suite.tuning import Range, Study, read_study
from tailmatch.errors import UserError

TUNED = """
task: longtail
seeds: [0, 1]
options: {dataset: digits-lt}
tune:
  trials: 4
  seeds: [100, 101]
  options: {epochs: 3}
  ranges:
    - lr: {log: [0.01, 1.0]}
    - for: {loss: [kl, dkd]}
      loss.temperature: [1, 2, 4]
    - for: {loss: dkd}
      loss.temperature: [8]
      loss.beta: {linear: [0.5, 8.0]}
runs:
  - {name: teacher, model: wrn-16-2-relu}
  - label_loss: [cross-entropy, ldam]
  - {loss: [kl, dkd], teacher_checkpoint: "@teacher"}
"""
METHODS = ["cross-entropy", "ldam", "kl", "dkd"]
Capture = pytest.CaptureFixture[str]


def study_of(tmp_path: Path, text: str = TUNED, seeds: Sequence[int] = ()) -> Study:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    file = SuiteFile(path)
    study = read_study(file, read_grid(file, seeds))
    assert study is not None
    return study


# -- what is drawn ----------------------------------------------------------------------------------------------------


def test_every_method_gets_as_many_different_trials_and_the_first_is_as_given(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    assert list(study.trials) == METHODS
    for trials in study.trials.values():
        changes = [trial.changes for trial in trials]
        assert [trial.number for trial in trials] == [0, 1, 2, 3]
        assert changes[0] == {}
        assert len({tuple(change.items()) for change in changes}) == 4
        assert [run.seed for run in trials[0].runs] == [100, 101]


def test_values_come_from_the_ranges_of_the_runs_that_they_are_for(tmp_path: Path) -> None:
    trials = study_of(tmp_path).trials
    assert {tuple(trial.changes) for trial in trials["ldam"][1:]} == {("lr",)}
    assert {tuple(trial.changes) for trial in trials["kl"][1:]} == {("lr", "loss.temperature")}
    assert {trial.changes["loss.temperature"] for trial in trials["kl"][1:]} <= {"1", "2", "4"}
    assert {trial.changes["loss.temperature"] for trial in trials["dkd"][1:]} == {"8"}  # the later range counts
    for one in trials["dkd"][1:]:
        assert 0.01 <= float(str(one.changes["lr"])) <= 1
        assert 0.5 <= float(str(one.changes["loss.beta"])) <= 8


def test_the_same_call_draws_the_same_values_and_more_trials_come_after_those_there_were(tmp_path: Path) -> None:
    four, again = study_of(tmp_path).trials, study_of(tmp_path).trials
    seven = study_of(tmp_path, TUNED.replace("trials: 4", "trials: 7")).trials
    for method in METHODS:
        changes = [trial.changes for trial in four[method]]
        assert changes == [trial.changes for trial in again[method]]
        assert changes == [trial.changes for trial in seven[method]][:4]


def test_trials_have_their_options_and_teachers_of_their_seed(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    assert [run.name for run in study.others] == ["teacher-s100", "teacher-s101"]
    assert all(run.values["epochs"] == "3" for run in study.runs)
    kl = study.trials["kl"][2].runs[1]
    assert (kl.name, kl.seed, kl.values["teacher_checkpoint"]) == ("kl-t2-s101", 101, "@teacher")
    names = [run.name for run in study.runs]
    assert names.index("dkd-t0-s101") < names.index("cross-entropy-t1-s100")  # a trial of every method, then the next


def test_a_range_is_filled_evenly_on_its_scale() -> None:
    places = np.linspace(0, 1, 1000, endpoint=False)
    log = np.array([float(str(Range(node=None, bounds=(0.01, 1.0), log=True).at(place))) for place in places])
    assert np.isclose((log < 0.1).mean(), 0.5, atol=0.01)
    linear = np.array([float(str(Range(node=None, bounds=(0.0, 4.0)).at(place))) for place in places])
    assert np.isclose((linear < 1).mean(), 0.25, atol=0.01)
    whole = [Range(node=None, bounds=(1, 4), whole=True).at(place) for place in places]
    assert {value: whole.count(value) for value in whole} == {"1": 250, "2": 250, "3": 250, "4": 250}
    choices = [Range(node=None, choices=("a", None)).at(place) for place in (0.0, 0.49, 0.5, 0.99)]
    assert choices == ["a", "a", None, None]


REFUSED = {
    "seeds that final runs have": ("seeds: [100, 101]", "seeds: [1, 100]", r"mine.yaml:6: the seed 1 of the trials"),
    "too few trials": ("trials: 4", "trials: 1", r"mine.yaml:6: trials must be a whole number of 2 or more, got 1"),
    "no ranges": ("  ranges:\n", "  range:\n", r"unknown entry 'range'. Did you mean 'ranges'\?"),
    "an unknown scale": ("{log: [0.01, 1.0]}", "{logs: [0.01, 1.0]}", r"mine.yaml:10: unknown entry 'logs'"),
    "a log range from zero": ("[0.01, 1.0]", "[0, 1.0]", r"with LOW below HIGH \(and above 0 for log\), got 0 1.0"),
    "a range upside down": ("[0.01, 1.0]", "[1.0, 0.1]", r"with LOW below HIGH"),
    "words for bounds": ("[0.01, 1.0]", "[low, high]", r"the range of lr must be a list .*, got low high"),
    "three bounds": ("[0.01, 1.0]", "[1, 2, 3]", r"the range of lr must be a list of values, or .*, got 1 2 3"),
    "a bare value": ("{log: [0.01, 1.0]}", "0.1", r"mine.yaml:10: the range of lr must be a list of values, or"),
    "fewer combinations than trials": (
        "- lr: {log: [0.01, 1.0]}", "- lr: [0.1, 0.2]", r"mine.yaml:6: cross-entropy has 3 combinations in the ranges",
    ),
    "nothing to vary": ("- lr: {log", "- for: {loss: kl}\n      lr: {log", r"cross-entropy has nothing to vary"),
    "a block with seeds of its own": (
        "- label_loss: [cross-entropy, ldam]", "- {label_loss: ldam, seeds: [7, 8]}",
        r"mine.yaml:18: a block with `seeds:` of its own cannot be tuned",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_is_refused(case: str, tmp_path: Path) -> None:
    old, new, message = REFUSED[case]
    assert old in TUNED
    with pytest.raises(UserError, match=message):
        study_of(tmp_path, TUNED.replace(old, new))


def test_seeds_of_the_command_line_are_kept_apart_from_those_of_the_trials(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the seeds 100, 101 of the trials would judge the final runs too"):
        study_of(tmp_path, seeds=(100, 101))


# -- what is judged, and what the final runs get ----------------------------------------------------------------------


class Toy:
    """A training that ends at once; its accuracy is a formula of its options."""

    def __init__(self, run: PlannedRun, outcome: str) -> None:
        lr = float(flat(run.config)["lr"])
        score = 1 - abs(np.log10(lr / 0.2)) / 3
        run.folder.mkdir(parents=True, exist_ok=True)
        (run.folder / "config.yaml").write_text(to_yaml(run.config, run.task))
        result = {
            "status": outcome,
            "accuracy": {"last": {"all": score - 0.1}},
            "val_accuracy": {"last": {"all": 0.0, "balanced": score + run.seed / 1e4}},
        }
        (run.folder / "result.json").write_text(json.dumps(result))
        (run.folder / "log.txt").write_text("error: The loss became nan at step 3.\n")
        self.code = {"finished": 0, "failed": 2}.get(outcome, 1)

    def exit_code(self) -> int:
        return self.code

    def stop(self) -> None: ...

    kill = stop


class Toys:
    """Starts them, with another outcome than `finished` where one is given by name."""

    threads, seconds_per_turn, slots = 1, 0.0, 4

    def __init__(self, **outcomes: str) -> None:
        self.outcomes = {name.replace("_", "-"): outcome for name, outcome in outcomes.items()}
        self.started: list[PlannedRun] = []

    def describe(self) -> str:
        return "toys"

    def start(self, runs: Sequence[PlannedRun]) -> list[Toy]:
        self.started += runs
        return [Toy(run, self.outcomes.get(run.name, "finished")) for run in runs]

    def close(self) -> None:
        """Nothing is kept warm."""


Call = Callable[..., tuple[int, Toys]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """The suite's command with toys; its folder is `out`."""
    (tmp_path / "mine.yaml").write_text(TUNED)
    monkeypatch.setattr(suite, "check_data", lambda *_: None)
    monkeypatch.setattr(suite.subprocess, "call", lambda *_, **__: 0)

    def make(*words: str, **outcomes: str) -> tuple[int, Toys]:
        toys = Toys(**outcomes)
        monkeypatch.setattr(suite, "local_engine", lambda *_: toys)
        return cli.main(["suite", str(tmp_path / "mine.yaml"), "--out", str(tmp_path / "out"), *words]), toys

    return make


def options_of(folder: Path) -> dict[str, object]:
    return yaml.safe_load((folder / "config.yaml").read_text())


def test_final_runs_have_the_values_of_the_trial_that_validation_chose(call: Call, tmp_path: Path) -> None:
    code, toys = call()
    assert code == 0
    assert len(toys.started) == 2 + 4 * 4 * 2 + 5 * 2
    record = json.loads((tmp_path / "out" / FILE).read_text())
    assert (record["trials"], record["seeds"], list(record["methods"])) == (4, [100, 101], METHODS)
    for method, told in record["methods"].items():
        scores = [np.mean(trial["validation"]) for trial in told["trials"]]
        chosen = told["trials"][told["chosen"]]["changes"]
        assert told["chosen"] == int(np.argmax(scores))
        assert told["runs"] == [f"{method}-s0", f"{method}-s1"]
        for name in told["runs"]:
            options = options_of(tmp_path / "out" / name)
            assert options["lr"] == float(chosen.get("lr", 0.1))
            assert options["epochs"] == 60  # what only trials have is theirs alone
    dkd = options_of(tmp_path / "out" / "dkd-s1")["loss"]
    assert dkd["beta"] == float(
        record["methods"]["dkd"]["trials"][record["methods"]["dkd"]["chosen"]]["changes"]["loss.beta"]
    )
    assert options_of(tmp_path / "out" / "teacher-s0")["lr"] == 0.1


def test_the_same_call_goes_on_and_more_trials_are_added(call: Call, tmp_path: Path) -> None:
    assert call()[0] == 0
    assert call()[1].started == []
    (tmp_path / "mine.yaml").write_text(TUNED.replace("trials: 4", "trials: 5"))
    code, toys = call()
    assert {run.name.rpartition("-t")[2][:1] for run in toys.started if "-t4" in run.name} == {"4"}
    assert sum("-t4" in run.name for run in toys.started) == 4 * 2
    assert code in (0, 2)  # where a new trial wins, the runs of the old choice are in the way, and it is said


def test_a_trial_that_diverged_is_an_answer_and_never_chosen(call: Call, tmp_path: Path, capsys: Capture) -> None:
    lost = {f"{method}_t{number}_s101": "failed" for method in ("kl", "dkd") for number in (0, 1, 2)}
    code, _ = call(**lost)
    assert code == 0
    record = json.loads((tmp_path / "out" / FILE).read_text())["methods"]
    assert record["kl"]["chosen"] == 3
    assert record["kl"]["trials"][0]["validation"][1] is None
    said = capsys.readouterr().out
    assert "diverged (the loss was no number any more): kl-t0-s101, dkd-t0-s101" in said
    assert "diverged -> " in said
    assert not any("-t0-" in run.name for run in call()[1].started)  # and it is not tried again


def test_where_every_trial_diverged_the_method_is_named(call: Call, capsys: Capture) -> None:
    assert call(**{f"kl_t{number}_s100": "failed" for number in range(4)})[0] == 2
    assert "Every trial of kl diverged; give it ranges with lower values" in capsys.readouterr().err


def test_nothing_is_chosen_while_a_trial_is_missing(call: Call, tmp_path: Path, capsys: Capture) -> None:
    code, toys = call(ldam_t2_s100="crashed")
    assert code == suite.SOME_BROKE
    assert "1 trials are missing (ldam-t2-s100, ...)" in capsys.readouterr().out
    assert not any(run.folder.parent.name == "out" for run in toys.started)
    assert call()[0] == 0


def test_only_tunes_the_methods_of_the_chosen_runs(call: Call) -> None:
    code, toys = call("--only", "ldam-s0")
    assert code == 0
    assert {run.name.split("-t")[0] for run in toys.started if run.folder.parent.name == "tune"} - {"teacher"} >= {
        "ldam"
    }
    assert [run.name for run in toys.started if run.folder.parent.name == "out"] == ["ldam-s0"]


def test_without_tuning_the_runs_are_as_given(call: Call, tmp_path: Path) -> None:
    code, toys = call("--no-tune")
    assert (code, len(toys.started)) == (0, 10)
    assert not (tmp_path / "out" / "tune").exists()


def test_dry_run_lists_trials_and_says_that_they_decide(call: Call, tmp_path: Path, capsys: Capture) -> None:
    assert call("--dry-run")[0] == 0
    said = capsys.readouterr().out
    assert "dkd-t3-s101" in said
    assert "Trials will choose the options of 4 methods; the final runs are shown as given." in said
    assert not (tmp_path / "out").exists()


def test_unfinished_trials_choose_nothing(call: Call, tmp_path: Path) -> None:
    call("--only", "kl-s0")
    study = study_of(tmp_path)
    assert list(chosen_trials(study, tmp_path / "out" / "tune")) == ["kl"]


# -- real runs --------------------------------------------------------------------------------------------------------

REAL = """
task: ssl
options: {dataset: digits, steps: 4, batch_size: 4}
tune: {trials: 2, seeds: [9], options: {val_fraction: 0.2}, ranges: [lr: [0.01, 0.02]]}
runs: [{algorithm: supervised}]
"""


def test_trials_without_validation_images_are_refused_before_the_first(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "mine.yaml").write_text(REAL.replace("options: {val_fraction: 0.2}, ", ""))
    assert cli.main(["suite", str(tmp_path / "mine.yaml"), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "mine.yaml:5: supervised-t0-s9 and 1 more: it has no validation images to be judged on; add " in said
    assert not (tmp_path / "out").exists()


def test_a_real_suite_is_tuned_and_its_report_says_how(tmp_path: Path, capfd: Capture) -> None:
    (tmp_path / "mine.yaml").write_text(REAL)
    assert cli.main(["suite", str(tmp_path / "mine.yaml"), "--out", str(tmp_path / "out")]) == 0
    said = capfd.readouterr().out
    assert "Chosen of 2 trials each" in said
    trial = options_of(tmp_path / "out" / "tune" / "supervised-t1-s9")
    assert trial["val_fraction"] == 0.2
    assert options_of(tmp_path / "out" / "supervised-s0")["val_fraction"] is None
    page = (tmp_path / "out" / "analysis" / "report.html").read_text()
    assert "How the methods were tuned" in page
    assert "Tuned alike, with 2 trials each on validation images." in page
    assert (tmp_path / "out" / "analysis" / "figures" / "tuning.png").is_file()
    assert cli.main(["analyze", str(tmp_path / "out"), "--out", str(tmp_path / "again"), "--no-figures"]) == 0
    assert "supervised-t1-s9" not in (tmp_path / "again" / "report.html").read_text()  # trials are no results


@pytest.mark.parametrize("name", suite_names())
def test_the_trials_of_a_shipped_suite_can_be(name: str) -> None:
    file = SuiteFile(suite_path(name))
    study = read_study(file, read_grid(file))
    if study is not None:
        of_store = ("--data-root", "STORE") if name.startswith("store") else ()
        of_store += ("--teacher-store", "SHARP") if name == "store_distillation" else ()
        planned = suite.plan(SuiteConfig(name=name, words=of_store), cli._training_task, study.runs)
        assert len(planned) == len(study.runs)
