"""The one console command, `dpft`. Verbs are imported only when called, so that help is instant."""

import io
import sys
from collections.abc import Callable
from importlib import import_module

from dpft.arguments import printable
from dpft.envs.task import DataError

# verb -> (module:function taking the remaining arguments and returning the exit code, one line of help)
VERBS = {
    "methods": ("dpft.sweeps.listing:methods", "list the methods"),
    "tasks": ("dpft.sweeps.listing:tasks", "list the tasks"),
    "grids": ("dpft.sweeps.listing:grids", "list the grids that come with the suite"),
    "demos": ("dpft.sweeps.commands:demos", "make or check demonstrations"),
    "pretrain": ("dpft.sweeps.commands:pretrain", "clone a base policy and show where it is"),
    "train": ("dpft.sweeps.commands:train", "one run: fine-tune a base policy"),
    "eval": ("dpft.sweeps.commands:evaluate", "evaluate a run's policy over many episodes"),
    "sweep": ("dpft.sweeps.sweep_commands:sweep", "a grid of runs, on this machine or on SLURM"),
    "tune": ("dpft.sweeps.tune:tune", "search settings of each method, under the same budget"),
    "status": ("dpft.sweeps.status:main", "how a sweep stands"),
    "resume": ("dpft.sweeps.sweep_commands:resume", "make a sweep's runs that are missing or lost"),
    "cancel": ("dpft.sweeps.sweep_commands:cancel", "stop a sweep"),
    "publish": ("dpft.sweeps.commands:publish", "copy a sweep's records to results/"),
    "figures": ("dpft.analysis.cli:figures", "draw a sweep's figures and tables"),
    "compare": ("dpft.analysis.compare:compare", "is B worse than A, on matched seeds?"),
    "report": ("dpft.analysis.report:report", "one HTML page about a sweep"),
    "import-curve": ("dpft.sweeps.curve_import:main", "a curve of another codebase, beside ours"),
    "video": ("dpft.sweeps.video:main", "film an episode, before and after fine-tuning"),
    "train-expert": ("dpft.sweeps.expert:main", "train an expert that makes demonstrations"),
    "check-method": ("dpft.methods.conformance:main", "run the conformance tests on a method of yours"),
}


def usage() -> str:
    lines = [f"  {verb:<14}{line}" for verb, (_, line) in VERBS.items()]
    return "\n".join(
        [
            "usage: dpft VERB [options]",
            "",
            "Fine-tune diffusion policies with reinforcement learning, and compare ways of doing it.",
            "",
            *lines,
            "",
            "dpft VERB --help explains a verb. Start with: dpft sweep quickstart --workers 2",
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """Run one verb; bad input is one line on stderr and exit code 2."""
    arguments = sys.argv[1:] if argv is None else argv
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal or pipe that does not take every character
        sys.stdout.reconfigure(errors="backslashreplace")
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        from dpft import __version__

        print(f"dpft {__version__}")
        return 0
    verb, *rest = arguments
    try:
        if verb not in VERBS:
            import difflib

            near = difflib.get_close_matches(verb, VERBS, 1)
            raise DataError(f"unknown verb {verb!r}: " + (f"did you mean {near[0]}?" if near else "see dpft --help"))
        module, function = VERBS[verb][0].split(":")
        command: Callable[[list[str]], int] = getattr(import_module(module), function)
        return command(rest)
    except BrokenPipeError:
        return 0
    except DataError as error:
        print(printable(f"dpft {verb}: {error}"), file=sys.stderr)
        return 2
    except OSError as error:  # of a disk or its permissions, where no verb foresaw it
        where = f"{error.filename}: " if error.filename else ""
        print(printable(f"dpft {verb}: {where}{error.strerror or error}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"dpft {verb}: stopped", file=sys.stderr)
        return 130
