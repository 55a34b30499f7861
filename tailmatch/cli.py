"""The subcommands, each a configuration class and a function, both imported only when asked for.

`--help` must answer at once, so nothing here or in a configuration's module may import torch.
"""

import errno
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tailmatch import __version__
from tailmatch._public import load_named
from tailmatch.errors import UserError, unknown_name


@dataclass(frozen=True)
class Command:
    """A subcommand: what it is for, its configuration (`module:Class`) and what it runs (`module:function`)."""

    help: str
    config: str
    run: str
    trains: bool = False  # takes recipes, run folders and --resume
    resolved: str = ""  # where it trains: what fills in the defaults that depend on other options


COMMANDS = {
    "ssl": Command("learn from few labels", "ssl.config:SSLConfig", "ssl.command:run", True, "ssl.resolve:resolved"),
    "longtail": Command(
        "learn from a long tail, alone or from a teacher",
        "longtail.config:LongtailConfig",
        "longtail.command:run",
        True,
        "longtail.resolve:resolved",
    ),
    "evaluate": Command("test saved weights again", "evaluate_config:EvaluateConfig", "evaluate:run"),
    "analyze": Command(
        "compare runs: tables, charts, a report", "analysis.config:AnalyzeConfig", "analysis.analyze:analyze"
    ),
    "data": Command("get large data sets ready", "datasets.prepare.config:DataConfig", "datasets.prepare.command:run"),
    "suite": Command("run a grid of trainings and report on them", "engine.suite.config:SuiteConfig", "cli:run_suite"),
}


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = list(sys.argv[1:] if words is None else words)
    try:
        return _dispatch(words)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head` closed the pipe: not an error, and nothing may be printed any more
        sys.stderr.close()
        return 141
    except OSError as error:
        print(f"error: {_in_words(error)}", file=sys.stderr)
        return 2


def _in_words(error: OSError) -> str:
    """What the system refused, where, and what to do about it."""
    advice = {
        errno.ENOSPC: "make room, then go on with --resume",
        errno.EDQUOT: "make room, then go on with --resume",
        errno.EACCES: "choose a place that you may write to with --out",
        errno.EPERM: "choose a place that you may write to with --out",
        errno.EROFS: "choose a place that you may write to with --out",
        errno.ENOTDIR: "a part of this path is a file and not a folder",
    }
    where = "" if error.filename is None else f"{error.filename}: "
    remedy = advice.get(error.errno or 0)
    return f"{where}{error.strerror or error}{f'; {remedy}' if remedy else ''}."


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if words[0] == "--version":
        print(f"tailmatch {__version__}")
        return 0
    name, rest = words[0], words[1:]
    if name not in COMMANDS:
        raise unknown_name("command", name, COMMANDS)
    command, program = COMMANDS[name], f"{_program()} {name}"
    config_type: Any = load_named(command.config)
    from tailmatch.engine import command_line

    if command.trains:
        config: Any = command_line.parse_run(config_type, name, rest, program)
    else:
        config = command_line.parse(config_type, rest, program)
    return load_named(command.run)(config)


def run_suite(config: Any) -> int:
    """A suite checks its runs by their tasks' own rules, which engine/ does not know and is handed here."""
    from tailmatch.engine.suite import run as suite
    from tailmatch.engine.suite.plan import TrainingTask

    def find_task(name: str) -> TrainingTask:
        tasks = {task: command for task, command in COMMANDS.items() if command.trains}
        if name not in tasks:
            raise unknown_name("task", name, tasks)
        return TrainingTask(load_named(tasks[name].config), load_named(tasks[name].resolved))

    return suite.run(config, find_task)


def _program() -> str:
    return "python run.py" if sys.argv and sys.argv[0].endswith("run.py") else "tailmatch"


def _overview() -> str:
    program = _program()
    rows = "\n".join(f"  {name:<10} {command.help}" for name, command in COMMANDS.items())
    return (
        f"usage: {program} COMMAND [options]\n\n"
        f"Learning from few labels and from long tails, through one shared loss module.\n\n"
        f"commands:\n{rows}\n\n"
        f"{program} COMMAND --help lists a command's options with their defaults and choices.\n"
        f"Start with: {program} ssl --loss ikl"
    )
