"""The inline engine: one run after another in this process, for debugging; breakpoints work."""

from pydantic import BaseModel, ConfigDict

from dpft.sweeps.attempts import its_own, note
from dpft.sweeps.board import SweepProgress
from dpft.sweeps.launch import CRASHED, DIVERGED, DONE, INTERRUPTED, STOPPED, LaunchedHere, Sweep


class InlineEngine(LaunchedHere):
    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)

    def __init__(self, options: Options) -> None:
        self.options = options

    def at_once(self, runs: int) -> int:
        return 1

    def submit(self, sweep: Sweep, names: list[str], resumes: int = 0) -> bool:
        from dpft.sweeps.cli import main

        with sweep.launching("inline", self.options, names), SweepProgress(sweep, names) as shown:
            for name in names:
                run = sweep.run(name)
                try:
                    code = main(sweep.request(name))
                    if code in (STOPPED, INTERRUPTED):
                        raise KeyboardInterrupt
                    reason = "" if code in (DONE, DIVERGED) else note(run, code, 1, 1)
                except OSError as error:
                    code, reason = CRASHED, its_own(error)
                shown.ended(name, code, reason)
        return True
