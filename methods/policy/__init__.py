"""The policy being fine-tuned: denoiser, noise schedule, the chain, pre-training, files."""

from methods.policy.chain import Chain
from methods.policy.checkpoint import load_policy, save_policy
from methods.policy.config import PolicyConfig, PretrainConfig
from methods.policy.models import DiffusionPolicy, GaussianPolicy, make_policy
from methods.policy.pretrain import pretrain

__all__ = [
    "Chain",
    "DiffusionPolicy",
    "GaussianPolicy",
    "PolicyConfig",
    "PretrainConfig",
    "load_policy",
    "make_policy",
    "pretrain",
    "save_policy",
]
