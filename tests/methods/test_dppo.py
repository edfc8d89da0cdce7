"""What is particular to DPPO: which steps are fine-tuned, and how far each may move."""

import pytest
import torch

from dpft.envs import DataError
from dpft.methods.conformance import build
from dpft.methods.dppo import DPPO, DPPOConfig


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_last_step_has_the_same_clip_whatever_their_number(steps):
    method = build(DPPO, {"finetuned_steps": steps, "clip": 0.05, "clip_base": 0.01})
    widths = method.clip_width(torch.arange(steps))
    assert widths[-1].item() == pytest.approx(0.05)
    assert steps == 1 or widths[0].item() == pytest.approx(0.01)


def test_from_scratch_no_step_stays_with_a_random_network():
    assert DPPOConfig().resolved(20).finetuned_steps == 10
    assert DPPOConfig().resolved(20, from_scratch=True).finetuned_steps == 20
    assert DPPOConfig(sampler="ddim", sampler_steps=5).resolved(20, from_scratch=True).finetuned_steps == 5
    with pytest.raises(DataError, match=r"finetuned_steps is 10 of 20 steps, but from scratch"):
        DPPOConfig(finetuned_steps=10).resolved(20, from_scratch=True)
