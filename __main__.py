"""`python -m dpft`: the console command."""

import sys

from dpft.sweeps.cli import main

sys.exit(main())
