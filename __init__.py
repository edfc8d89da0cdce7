"""DPFT: fine-tuning diffusion policies with reinforcement learning, compared."""

from importlib.metadata import version

__version__ = version("dpft")
