"""The activation of the value networks is torch's Mish, to rounding, as is its gradient."""

import pytest
import torch
from torch.nn import functional

from dpft.methods.policy.denoiser import Mish

X = torch.cat([torch.linspace(-30, 30, 4001), torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4])])


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float64, 1e-12), (torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
def test_mish_is_torchs(dtype, rounding):
    x = X.to(dtype).requires_grad_()
    y, exact = Mish()(x), functional.mish(x.double())
    assert y.dtype == dtype
    weight = torch.rand(len(x), generator=torch.Generator().manual_seed(0)).to(dtype)
    (slope,) = torch.autograd.grad((y * weight).sum(), x)
    (exact_slope,) = torch.autograd.grad((exact * weight.double()).sum(), x)
    assert slope.dtype == dtype
    assert torch.allclose(y.double(), exact, rtol=rounding, atol=rounding)
    assert torch.allclose(slope.double(), exact_slope.double(), rtol=rounding, atol=rounding)


def test_mish_without_gradient_is_the_same():
    with torch.no_grad():
        assert torch.equal(Mish()(X), Mish()(X.clone().requires_grad_()))


def test_the_gradient_of_mish_is_its_derivative():
    x = torch.linspace(-6, 6, 25, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Mish(), x)


def test_the_gradient_of_mish_can_be_differentiated():
    """As an energy's would be: without a second derivative of its own, the gradient of a gradient is silently wrong."""
    x = torch.linspace(-6, 6, 25, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(Mish(), x)
