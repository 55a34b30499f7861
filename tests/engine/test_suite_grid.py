"""A suite's file: what it multiplies out to, and what is wrong with it by file and line."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tailmatch import cli
from tailmatch.distill.config import DistillConfig
from tailmatch.distill.resolve import resolved as distill_resolved
from tailmatch.engine.suite.config import SuiteConfig, suite_names
from tailmatch.engine.suite.plan import FindTask, PlannedRun, TrainingTask, plan
from tailmatch.engine.suite.processes import words_of
from tailmatch.errors import UserError, unknown_name
from tailmatch.longtail.config import LongtailConfig
from tailmatch.longtail.resolve import resolved as longtail_resolved
from tailmatch.ssl.config import SSLConfig
from tailmatch.ssl.resolve import resolved as ssl_resolved

TASKS = {
    "ssl": TrainingTask(SSLConfig, ssl_resolved, "tailmatch.ssl.build:rehearsed"),
    "longtail": TrainingTask(LongtailConfig, longtail_resolved, "tailmatch.longtail.build:rehearsed"),
    "distill": TrainingTask(DistillConfig, distill_resolved, "tailmatch.distill.build:rehearsed"),
}


def find_task(name: str) -> TrainingTask:
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name]


Planned = Callable[..., list[PlannedRun]]


@pytest.fixture
def planned(tmp_path: Path) -> Planned:
    """The runs of a suite's text."""

    def make(text: str, find: FindTask = find_task, **options: object) -> list[PlannedRun]:
        (tmp_path / "mine.yaml").write_text(text)
        return plan(SuiteConfig(name=str(tmp_path / "mine.yaml"), out=Path("out"), **options), find)

    return make


def names(runs: list[PlannedRun]) -> list[str]:
    return [run.name for run in runs]


# -- multiplying out --------------------------------------------------------------------------------------------------


def test_lists_are_multiplied_and_every_method_comes_before_the_next_seed(planned: Planned) -> None:
    runs = planned(
        """
        task: ssl
        seeds: [0, 1]
        options: {dataset: digits, steps: 1_000}
        runs:
          - algorithm: [fixmatch, freematch]
            loss: [ce, ikl]
          - algorithm: supervised
        """
    )
    methods = ["fixmatch-ce", "fixmatch-ikl", "freematch-ce", "freematch-ikl", "supervised"]
    assert names(runs) == [f"{method}-s{seed}" for seed in (0, 1) for method in methods]
    assert runs[1].words == (
        "--dataset",
        "digits",
        "--steps",
        "1_000",
        "--algorithm",
        "fixmatch",
        "--loss",
        "ikl",
        "--seed",
        "0",
    )
    assert runs[1].config.optim.steps == 1000
    assert runs[1].config.algorithm.threshold == 0.95  # resolved
    assert [run.config.run.seed for run in runs] == [0] * 5 + [1] * 5


def test_numbers_carry_their_option_in_the_name_and_null_leaves_an_option_out(planned: Planned) -> None:
    runs = planned("{task: longtail, runs: [{label_loss: ldam, drw: [null, 0.8], decay_all: [true, false]}]}")
    assert names(runs) == [
        "ldam-decay-alltrue-s0",
        "ldam-decay-allfalse-s0",
        "ldam-drw0.8-decay-alltrue-s0",
        "ldam-drw0.8-decay-allfalse-s0",
    ]
    assert [run.config.method.drw for run in runs] == [None, None, 0.8, 0.8]
    assert [run.config.optim.decay_all for run in runs] == [True, False, True, False]


def test_options_of_several_words_flags_and_dotted_options_reach_the_task(planned: Planned) -> None:
    (run,) = planned(
        """
        task: longtail
        options: {config: cifar100_lt, data-root: somewhere, milestones: [[0.5, 0.75]], nesterov: true, decay_all: yes}
        runs: [{name: one, loss: kl, teacher: resnet56, teacher_checkpoint: t.pt, loss.temperature: 2}]
        """
    )
    assert run.name == "one-s0"
    assert run.config.optim.milestones == (0.5, 0.75)
    assert run.config.optim.nesterov
    assert run.config.optim.decay_all  # the recipe's own value: no flag is needed
    assert run.config.loss.temperature == 2


def test_excluded_pairs_are_left_out(planned: Planned) -> None:
    runs = planned(
        """
        {task: ssl, runs: [{algorithm: [fixmatch, freematch], loss: [ce, ikl]}],
         exclude: [{algorithm: freematch, loss: ikl}]}
        """
    )
    assert names(runs) == ["fixmatch-ce-s0", "fixmatch-ikl-s0", "freematch-ce-s0"]


def test_a_reference_is_the_folder_of_the_run_with_the_same_seed_and_setting_which_comes_first(
    planned: Planned,
) -> None:
    runs = planned(
        """
        task: longtail
        seeds: [0, 1]
        options: {config: cifar100_lt, imbalance: [10, 100]}
        runs:
          - {loss: kl, teacher_checkpoint: "@teacher"}
          - {name: teacher, model: resnet56}
        """
    )
    by_name = {run.name: run for run in runs}
    student = by_name["imbalance100-kl-s1"]
    assert student.needs == ("teacher-imbalance100-s1",)
    assert "--teacher-checkpoint out/teacher-imbalance100-s1" in " ".join(student.words)
    assert all(names(runs).index(need) < names(runs).index(run.name) for run in runs for need in run.needs)
    assert {run.report for run in runs} == {"cifar100-lt-imbalance10", "cifar100-lt-imbalance100"}


def test_one_teacher_may_serve_all_seeds(planned: Planned) -> None:
    runs = planned(
        """
        task: longtail
        runs:
          - {name: teacher, seeds: [7], model: wrn-16-2-relu}
          - {loss: kl, teacher_checkpoint: "@teacher"}
        """,
        seeds=(1, 2),
    )
    assert names(runs) == ["teacher-s7", "kl-s1", "kl-s2"]
    assert all(run.needs == ("teacher-s7",) for run in runs[1:])


def test_words_after_two_dashes_go_to_every_run(planned: Planned) -> None:
    runs = planned(
        "{task: ssl, options: {steps: 5}, runs: [{algorithm: [supervised, fixmatch]}]}", words=("--steps", "7")
    )
    assert [run.config.optim.steps for run in runs] == [7, 7]


# -- refusals ---------------------------------------------------------------------------------------------------------

REFUSED = {
    "a typo in an option": (
        "task: ssl\nruns:\n  - algorithm: fixmatch\n    los: ce",
        r"mine.yaml:4: unknown option 'los'. Did you mean 'loss'\?",
    ),
    "a typo in a value": (
        "task: ssl\nruns:\n  - algorithm: fixmatch\n  - algorithm: fixmach",
        r"mine.yaml:4: fixmach-s0: Unknown algorithm 'fixmach'. Did you mean 'fixmatch'\?",
    ),
    "a word for a number": (
        "task: ssl\nruns:\n  - algorithm: supervised\n    lr: [0.1,\n      fast]",
        r"mine.yaml:5: lr must be a number, got 'fast'.",
    ),
    "a choice that is none": (
        "task: ssl\noptions: {optimizer: adam}\nruns: [{algorithm: supervised}]",
        r"mine.yaml:2: optimizer must be one of sgd, adamw, got 'adam'.",
    ),
    "a value out of range": (
        "task: ssl\nruns: [{lr: [0.1, -1]}]",
        r"mine.yaml:2: lr-1-s0: lr must be above 0, got -1.0.",
    ),
    "a seed that is none": (
        "task: ssl\nseeds: [0, -1]\nruns:\n  - {algorithm: supervised}",
        r"mine.yaml:4: supervised-s-1: seed must lie between 0 and 2\^63 - 1, got -1.",
    ),
    "parts that do not fit": (
        "task: ssl\nruns:\n  - {algorithm: supervised, loss: ikl}",
        r"mine.yaml:3: supervised-ikl-s0: supervised looks at no unlabelled image",
    ),
    "an unknown task": ("task: sll\nruns: [{lr: 1}]", r"mine.yaml:2: Unknown task 'sll'. Did you mean 'ssl'\?"),
    "no task": ("runs: [{lr: 1}]", r"mine.yaml:1: the block has no `task:`"),
    "an unknown entry": ("task: ssl\nrun: []", r"mine.yaml:2: unknown entry 'run'. Did you mean 'runs'\?"),
    "no runs": ("task: ssl", r"mine.yaml:1: a suite needs `runs:`"),
    "an empty file": ("", r"mine.yaml: a suite must hold `name: value` lines"),
    "what is no YAML": ("task: [", r"mine.yaml:\d+ is not YAML"),
    "an entry twice": ("task: ssl\nruns:\n  - lr: 1\n    lr: 2", r"mine.yaml:4: lr stands twice; keep one."),
    "an option that is the suite's": ("task: ssl\nruns: [{seed: 3}]", r"mine.yaml:2: seed is the suite's to give"),
    "a mapping for a value": ("task: ssl\nruns: [{loss: {name: ikl}}]", r"write its options as `loss.beta: 0.1`"),
    "an empty list": ("task: ssl\nruns: [{lr: []}]", r"mine.yaml:2: lr has an empty list; leave it out."),
    "seeds that are none": ("task: ssl\nseeds: [a]\nruns: [{lr: 1}]", r"mine.yaml:2: seeds must be whole numbers."),
    "seeds twice": ("task: ssl\nseeds: [1, 1]\nruns: [{lr: 1}]", r"mine.yaml:2: seeds must differ from each other."),
    "two runs of one name": (
        "task: ssl\nruns:\n  - {loss: ikl, loss.beta: 0.1}\n  - {loss: ikl, beta: 1}\n  - {loss: ikl, loss.beta: 0.1}",
        r"mine.yaml:5: two runs are called ikl-beta0.1-s0 \(the other is of .*mine.yaml:3\)",
    ),
    "a reference to nothing": (
        'task: longtail\nruns:\n  - {name: teacher}\n  - {loss: kl, teacher_checkpoint: "@teecher"}',
        r"mine.yaml:4: there is no block named 'teecher' to refer to. Did you mean 'teacher'\?",
    ),
    "a reference to several": (
        'task: longtail\nruns:\n  - {name: t, lr: [0.1, 0.2]}\n  - {loss: kl, teacher_checkpoint: "@t"}',
        r"mine.yaml:4: '@t' must mean one run, and 2 are possible for kl-s0",
    ),
    "a circle": (
        'task: longtail\nruns: [{name: a, loss: kl, teacher: wrn-digits, teacher_checkpoint: "@a"}]',
        r"The runs a-s0 wait for each other",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_is_refused(case: str, planned: Planned) -> None:
    text, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        planned(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": (1, 1)}, "seeds must differ from each other, got 1 1"),
        ({"jobs": 0}, "jobs must be above 0, got 0"),
        ({"threads": 0}, "threads must be above 0, got 0"),
        ({"threads": 100_000}, "for each core of this machine, got 100000"),
        ({"threads": 0, "engine": "slurm"}, "threads must be above 0, got 0"),
        ({"words": ("--out", "x")}, "--out is the suite's to give"),
        ({"words": ("--seed=3",)}, "--seed=3 is the suite's to give"),
    ],
)
def test_options_are_refused(options: dict[str, object], message: str) -> None:
    assert any(message in problem for problem in SuiteConfig(name="digits_ssl", **options).problems())


def test_a_cluster_may_have_more_cores_than_the_machine_that_asks_it() -> None:
    assert SuiteConfig(name="digits_ssl", engine="slurm", threads=1_000).problems() == []


def test_an_unknown_suite_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["suite", "digits-ssl", "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert "Unknown suite 'digits-ssl'. Did you mean 'digits_ssl'? Suites: cifar100_pairs, " in error
    assert cli.main(["suite", "nowhere.yaml", "--dry-run"]) == 2
    assert "No suite file 'nowhere.yaml'" in capsys.readouterr().err


def test_a_block_takes_an_option_that_the_call_gives(planned: Planned, tmp_path: Path) -> None:
    text = """
    task: longtail
    options: {dataset: store, data_root: $data_root, lr: [0.1, 0.2]}
    runs:
      - {name: teacher, data_root: $teacher_store, epochs: 3}
      - {label_loss: focal}
      - {loss: kl, teacher_store: $teacher_store, teacher_checkpoint: "@teacher"}
    """
    words = ("--data-root", "COARSE", "--teacher-store", "SHARP", "--epochs", "2")
    runs = {run.name: run for run in planned(text, words=words)}
    of_each = ("teacher-lr0.1", "teacher-lr0.2", "lr0.1-focal", "lr0.2-focal", "lr0.1-kl", "lr0.2-kl")
    assert list(runs) == [f"{name}-s0" for name in of_each]
    roots = {name: (str(run.config.data.data_root), run.config.optim.epochs) for name, run in runs.items()}
    assert roots["teacher-lr0.1-s0"] == ("SHARP", 2)  # what no block asks for goes to every run
    assert roots["lr0.2-focal-s0"] == roots["lr0.2-kl-s0"] == ("COARSE", 2)
    assert "--teacher-store" not in runs["lr0.1-focal-s0"].words
    taught = runs["lr0.2-kl-s0"]
    assert taught.words[taught.words.index("--teacher-store") + 1] == "SHARP"
    assert taught.needs == ("teacher-lr0.2-s0",)
    with pytest.raises(UserError, match=r"yaml:5: this suite needs --teacher-store; .*: -- --teacher-store \.\.\.$"):
        planned(text, words=words[:2])


# -- the suites that ship ---------------------------------------------------------------------------------------------

SHIPPED = {
    "cifar100_pairs": (348, 12),
    "cifar_lt_distillation": (72, 3),
    "digits_distillation": (120, 1),
    "digits_longtail": (60, 1),
    "digits_ssl": (85, 1),
    "digits_ssl_longtail": (45, 1),
    "fixmatch_cifar": (36, 6),
    "imagenet_lt_distillation": (19, 1),
    "store_distillation": (120, 2),
    "store_longtail": (360, 3),
    "store_ssl": (210, 3),
}


def test_the_list_of_suites() -> None:
    assert suite_names() == sorted(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_suite_is_valid(name: str) -> None:
    of_store = ("--data-root", "STORE") if name.startswith("store") else ()
    of_store += ("--teacher-store", "SHARP") if name == "store_distillation" else ()
    runs = plan(SuiteConfig(name=name, words=of_store), find_task)
    assert (len(runs), len({run.report for run in runs})) == SHIPPED[name]
    assert all(run.folder.parent == Path("runs/suites") / name for run in runs)


def test_help_and_dry_run_import_no_torch(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text("{task: ssl, runs: [{algorithm: supervised}]}")
    code = (
        "import sys; from tailmatch.cli import main\n"
        f"code = main(['suite', {str(tmp_path / 'tiny.yaml')!r}, '--dry-run', '--out', {str(tmp_path / 'out')!r}])\n"
        "try: main(['suite', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(code or ('torch' in sys.modules) * 3)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "new       supervised-s0  tailmatch ssl --algorithm supervised --seed 0" in done.stdout
    assert not (tmp_path / "out").exists()


def test_where_runs_are_shown_is_told_to_each_of_them_whether_new_or_begun(planned: Planned, tmp_path: Path) -> None:
    (run,) = planned("{task: ssl, runs: [{loss: ikl}]}", track=("wandb", "mlflow"))
    assert words_of(run, None)[:6] == ["ssl", "--loss", "ikl", "--track", "wandb", "mlflow"]
    begun = replace(run, folder=tmp_path / "begun")
    begun.folder.mkdir()
    (begun.folder / "config.yaml").write_text("task: ssl\n")
    assert words_of(begun, None) == ["ssl", "--resume", str(begun.folder), "--track", "wandb", "mlflow"]
