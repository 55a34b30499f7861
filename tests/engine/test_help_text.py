"""What --help says of defaults: the values that they come to, with the other words of the line."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tailmatch.cli import main

ROOT = Path(__file__).resolve().parents[2]


def help_of(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, str]:
    """The help's words on each option."""
    with pytest.raises(SystemExit) as stop:
        main([*words, "--help"])
    assert not stop.value.code
    entries: list[str] = []
    for line in capsys.readouterr().out.splitlines():
        if re.match(r"  -+[a-z]", line):
            entries.append(line)
        elif line.startswith("    ") and entries:
            entries[-1] += line
    texts = [" ".join(entry.split()) for entry in entries]
    return {re.match(r".*?--([a-z0-9.-]+)", text).group(1): text for text in texts}  # type: ignore[union-attr]


def hint(text: str) -> str:
    """What stands in the brackets behind an option's help."""
    found = re.search(r"\(((?:default|given|not an option)[^()]*)\)$", text)
    return found.group(1) if found else ""


@pytest.mark.parametrize("task", ["ssl", "longtail", "distill"])
def test_no_default_reads_none_where_a_value_is_meant(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    texts = help_of(capsys, task)
    assert len(texts) > 70
    assert not [text for text in texts.values() if "None" in text]
    unset = [option for option, text in texts.items() if hint(text) == "default: none"]
    assert len(unset) < 25
    assert not {"model", "batch-size", "loss.beta", "lr", "nesterov"} & set(unset)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ssl"], {"labels": "default: 40", "threshold": "default: 0.95", "model": "default: cnn-digits"}),
        (["ssl", "--algorithm", "flexmatch"], {"threshold": "default: 0.95", "acceptance": "default: curriculum"}),
        (["ssl", "--algorithm", "flexmatch"], {"algorithm": "given: flexmatch"}),
        (["ssl", "--algorithm=freematch"], {"acceptance": "default: self-adaptive", "threshold": "default: none"}),
        (["ssl", "--dataset", "cifar100"], {"model": "default: wrn-28-8", "steps": "default: 1048576"}),
        (["ssl", "--config", "cifar10_40"], {"dataset": "default: cifar10", "eval-every": "default: 5120"}),
        (["ssl"], {"loss": "default: auto, here ce", "loss.beta": "not an option of ce"}),
        (["ssl", "--loss", "ikl"], {"loss.beta": "default: 0.1", "loss.weights": "default: class"}),
        (["ssl", "--loss", "ikl"], {"loss.teacher-temperature": "default: as the temperature"}),
        (["ssl", "--algorithm", "supervised"], {"loss.beta": "default: the loss's own"}),
        (["longtail"], {"epochs": "default: 60", "sampler": "default: instance", "head": "default: linear"}),
        (["longtail", "--label-loss", "ldam"], {"head": "default: cosine", "label-loss.scale": "default: 30.0"}),
        (["longtail", "--label-loss", "focal"], {"label-loss.gamma": "default: 2.0"}),
        (["longtail", "--loss", "ikl"], {"teacher": "default: wrn-16-2-relu", "loss.beta": "default: 1.0"}),
        (["longtail", "--dataset", "imagenet-lt"], {"epochs": "default: 90", "warmup": "default: 10.0"}),
        (
            ["distill"],
            {"teacher": "default: wrn-16-2-relu", "method.beta": "default: 1.0", "kd-weight": "default: 1.0"},
        ),
        (["distill", "--dataset", "cifar100", "--method", "none"], {"epochs": "default: 240", "lr": "default: 0.05"}),
        # With nothing set, and no value that could be: what the docstring says of the default is enough.
        (["ssl"], {"clip-grad": "", "out": "", "threads": "", "resume": "default: none", "fold": "default: none"}),
    ],
)
def test_defaults_are_shown_as_the_rest_of_the_line_makes_them(
    words: list[str], expected: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    texts = help_of(capsys, *words)
    assert {option: hint(texts[option]) for option in expected} == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        # No teacher yet: refused when it runs, and the data set's defaults are known all the same.
        (["--dataset", "imagenet-lt", "--loss", "gkl"], {"epochs": "default: 90", "loss": "given: gkl"}),
        (["--label-loss", "nonsense"], {"epochs": "default: 60"}),
        (["--epocs", "3"], {"epochs": "default: 60"}),
    ],
)
def test_help_comes_whatever_else_is_on_the_line(
    words: list[str], expected: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    texts = help_of(capsys, "longtail", *words)
    assert {option: hint(texts[option]) for option in expected} == expected


@pytest.mark.parametrize("command", ["ssl", "longtail", "distill", "suite", "evaluate", "analyze", "data"])
def test_no_command_offers_none_as_a_word(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not [text for text in help_of(capsys, command).values() if "None" in text]


def test_both_directions_of_a_switch_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys, "ssl")["nesterov"]
    assert text == "--nesterov, --no-nesterov Nesterov's form of momentum. (default: True)"
    assert main(["longtail", "--config", "cifar10_lt", "--no-decay-all", "--print-config"]) == 0
    assert "decay_all: false" in capsys.readouterr().out  # the recipe says true


def test_help_imports_nothing_that_takes_long() -> None:
    script = (
        "import sys; from tailmatch.cli import main\n"
        "try: main(['ssl', '--algorithm', 'flexmatch', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(sum(name in sys.modules for name in ('torch', 'numpy', 'typeguard')))"
    )
    assert (
        subprocess.run([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.DEVNULL, check=False).returncode == 0
    )
