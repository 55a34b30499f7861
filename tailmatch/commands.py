"""The subcommands: one table that the command line, `evaluate` and `suite` all read. Free of torch, for `--help`."""

from dataclasses import dataclass

from tailmatch.errors import unknown_name


@dataclass(frozen=True)
class Command:
    """A subcommand: what it is for, its configuration (`module:Class`) and what it runs (`module:function`)."""

    help: str
    config: str
    run: str
    parse: str = ""  # what reads its words, where these are not its configuration's options alone
    # Of those that train, which take recipes, run folders and --resume:
    resolved: str = ""  # what fills in the defaults that depend on other options
    build: str = ""  # what makes the task, with its data and its network
    rehearse: str = ""  # the same for a suite's look ahead: quicker, and as far as can be known before

    @property
    def trains(self) -> bool:
        return bool(self.build)


COMMANDS = {
    "ssl": Command(
        "learn from few labels",
        "ssl.config:SSLConfig",
        "ssl.command:run",
        resolved="ssl.resolve:resolved",
        build="ssl.build:build_task",
        rehearse="ssl.build:rehearsed",
    ),
    "longtail": Command(
        "learn from a long tail, alone or from a teacher",
        "longtail.config:LongtailConfig",
        "longtail.command:run",
        resolved="longtail.resolve:resolved",
        build="longtail.build:build_task",
        rehearse="longtail.build:rehearsed",
    ),
    "distill": Command(
        "learn from a teacher on balanced classes, or train a network alone",
        "distill.config:DistillConfig",
        "distill.command:run",
        resolved="distill.resolve:resolved",
        build="distill.build:build_task",
        rehearse="distill.build:rehearsed",
    ),
    "evaluate": Command("test saved weights again", "evaluate_config:EvaluateConfig", "evaluate:run"),
    "predict": Command(
        "say what is in images, by a finished run's network", "inference.config:PredictConfig", "inference.predict:run"
    ),
    "export": Command(
        "write a run's network as ONNX, or for the Hugging Face hub",
        "inference.config:ExportConfig",
        "inference.export:run",
    ),
    "analyze": Command(
        "compare runs: tables, charts, a report", "analysis.config:AnalyzeConfig", "analysis.analyze:analyze"
    ),
    "runs": Command("list the runs there are, newest first", "runs_config:RunsConfig", "runs:run"),
    "data": Command("get large data sets ready", "datasets.prepare.config:DataConfig", "datasets.prepare.command:run"),
    "embed": Command(
        "store what a pretrained network says of every image, for runs of seconds",
        "features.embed.config:EmbedConfig",
        "features.embed.command:run",
    ),
    "suite": Command("run a grid of trainings and report on them", "engine.suite.config:SuiteConfig", "cli:run_suite"),
    "compare": Command(
        "compare methods by one call: every combination, over several seeds",
        "engine.suite.config:CompareConfig",
        "cli:run_compare",
        parse="engine.suite.compare:parse",
    ),
}
TASKS = {name: command for name, command in COMMANDS.items() if command.trains}


def task_named(name: str) -> Command:
    """The command that trains this task.

    Raises:
        UserError: for a command that trains nothing, or none at all.
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name]
