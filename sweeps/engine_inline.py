"""The inline engine: one run after another in this process, for debugging; breakpoints work."""

from pydantic import BaseModel, ConfigDict

from dpft.sweeps.launch import INTERRUPTED, STOPPED, LaunchedHere, Sweep
from dpft.sweeps.progress import SweepProgress


class InlineEngine(LaunchedHere):
    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)

    def __init__(self, options: Options) -> None:
        self.options = options

    def submit(self, sweep: Sweep, names: list[str], resumes: int = 0) -> bool:
        from dpft.sweeps.cli import main

        with sweep.launching("inline", self.options, names), SweepProgress(len(names)) as ended:
            for name in names:
                code = main(sweep.request(name))
                if code in (STOPPED, INTERRUPTED):
                    raise KeyboardInterrupt
                ended(name, code)
        return True
