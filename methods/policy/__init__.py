"""The policy being fine-tuned: denoiser, noise schedule, the chain, pre-training, files."""

from dpft.methods.policy.chain import Chain
from dpft.methods.policy.checkpoint import load_policy, save_policy
from dpft.methods.policy.config import PolicyConfig, PretrainConfig
from dpft.methods.policy.models import DiffusionPolicy, GaussianPolicy, make_policy
from dpft.methods.policy.pretrain import pretrain

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
