"""Being asked to stop."""

import signal
from types import FrameType


class StopSignal:
    """Notes Ctrl-C and SIGTERM instead of breaking off, so that a loop can end where nothing is lost."""

    def __init__(self) -> None:
        self.asked = False
        self.before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def restore(self) -> None:
        """Let the two do again what they did before."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
