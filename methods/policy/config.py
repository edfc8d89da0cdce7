"""Settings of the policy and of its pre-training."""

from typing import Literal

from pydantic import Field

from dpft.methods.fields import Count, PositiveInterval, ResidualWidths, Settings, check_inside


class PolicyConfig(Settings):
    """The policy that is fine-tuned: a residual MLP, as denoiser or as Gaussian mean."""

    hidden: ResidualWidths = (256, 256, 256)  # widths, an odd number of equal layers (DPPO's Gym files: 512 x 3)
    activation: Literal["relu", "mish", "tanh"] = "relu"  # DPPO's Gym files: relu
    time_dim: Count = Field(16, ge=4, multiple_of=2)  # width of the time embedding (DPPO: 16)
    prediction: Literal["auto", "epsilon", "x0"] = "auto"  # what the denoiser predicts; auto: x0 below K = 5
    x0_clip: float = Field(1.0, gt=0)  # bound on the predicted clean chunk, normalised units (DPPO: 1)
    clip_gradient: Literal["hard", "inward", "straight-through"] = "hard"  # gradient of that bound where it is active
    std_init: float = Field(0.1, gt=0)  # Gaussian policy: first standard deviation, normalised units (DPPO: 0.1)
    std_bounds: PositiveInterval = (0.01, 0.2)  # Gaussian policy: range of the learned deviation (DPPO)

    def model_post_init(self, _context: object) -> None:
        check_inside("std_init", self.std_init, "std_bounds", self.std_bounds)

    def resolved(self, denoising_steps: int) -> "PolicyConfig":
        """`auto` decided: with few steps epsilon prediction and the x0 clip leave no gradient."""
        if self.prediction != "auto":
            return self
        return self.model_copy(update={"prediction": "x0" if denoising_steps < 5 else "epsilon"})


class PretrainConfig(Settings):
    """Behaviour cloning on the demonstrations."""

    steps: Count = Field(4_000, ge=0)  # gradient steps
    batch: Count = Field(256, ge=1)  # chunks per step (DPPO: 128)
    learning_rate: float = Field(1e-3, gt=0)  # AdamW, cosine decay to a tenth (DPPO: 1e-3 to 1e-4)
    weight_decay: float = Field(1e-6, ge=0)  # DPPO: 1e-6
    ema_decay: float = Field(0.995, ge=0, lt=1)  # average of the weights, the policy that is kept (DPPO: 0.995)
    ema_every: Count = Field(10, ge=1)  # gradient steps between two updates of the average (DPPO: 10)

    def model_post_init(self, _context: object) -> None:
        if 0 < self.steps < self.ema_every:
            raise ValueError(
                f"{self.steps} steps end before the average that is kept is first updated, after {self.ema_every}: "
                "give more steps, or a smaller ema_every"
            )
