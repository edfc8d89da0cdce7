"""How a diffusion policy is sampled: the settings that every diffusion method shares."""

from typing import Literal, Self

from pydantic import Field

from dpft.envs.task import DataError
from dpft.methods.fields import Count
from dpft.methods.interface import MethodConfig


class SamplingConfig(MethodConfig):
    """The sampler is independent of K, the schedule that the base was trained with."""

    sampler: Literal["ddpm", "ddim"] = "ddpm"  # DDPM runs every step; DDIM (Song et al. 2021) may skip some
    sampler_steps: Count | None = Field(None, ge=1, le=100)  # denoising steps run; none: K for ddpm, min(5, K) for ddim
    spacing: Literal["trailing", "leading"] = "trailing"  # ddim's timesteps; released dppo and dsrl: leading

    def model_post_init(self, context: object) -> None:
        super().model_post_init(context)
        if self.sampler == "ddpm" and self.spacing != "trailing":
            raise ValueError("spacing chooses DDIM's timesteps: give sampler ddim, or leave spacing out")

    def resolved(self, denoising_steps: int, from_scratch: bool = False) -> Self:
        steps = self.sampler_steps or (denoising_steps if self.sampler == "ddpm" else min(5, denoising_steps))
        if steps > denoising_steps or (self.sampler == "ddpm" and steps != denoising_steps):
            raise DataError(
                f"settings.sampler_steps is {steps} but the base has {denoising_steps} denoising steps: "
                "ddpm runs all of them, ddim at most as many"
            )
        return self.model_copy(update={"sampler_steps": steps})

    def check_last(self, name: str) -> None:
        """Raises DataError where the field, a number of last steps, is more than there are."""
        last = getattr(self, name)
        if last is not None and self.sampler_steps is not None and last > self.sampler_steps:
            raise DataError(f"settings.{name} is {last}, more than the sampler's {self.sampler_steps} steps")
