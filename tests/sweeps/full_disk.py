"""A disk that is full, for a process: no file of it may grow beyond a limit."""

import subprocess
import sys

LIMITED = """
import resource, sys
from dpft.sweeps.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(main(sys.argv[2:]))
"""


def dpft(limit: int, *arguments: str) -> subprocess.CompletedProcess:
    """The command where files grow to `limit` bytes."""
    return subprocess.run([sys.executable, "-c", LIMITED, str(limit), *arguments], capture_output=True, text=True)
