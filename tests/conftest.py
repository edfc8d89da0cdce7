"""Hypothesis draws the same examples each time; `--hypothesis-profile default` looks for new ones."""

from hypothesis import settings

settings.register_profile("fixed", derandomize=True)
settings.load_profile("fixed")
