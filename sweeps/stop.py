"""Being asked to stop."""

import signal
from types import FrameType

ASKING = (signal.SIGTERM, signal.SIGUSR2)  # SLURM's words for "time is up"; Ctrl-C is a third


class StopSignal:
    """Notes Ctrl-C, SIGTERM and SIGUSR2 instead of breaking off, so that a loop can end where nothing is lost."""

    def __init__(self, *numbers: signal.Signals) -> None:
        self.asked = False
        self.before = {number: signal.signal(number, self._note) for number in numbers or (signal.SIGINT, *ASKING)}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def restore(self) -> None:
        """Let them do again what they did before."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
