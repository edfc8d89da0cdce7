"""Every figure: a function from records to a matplotlib figure and its caption."""

from dpft.analysis.captions import Draw
from dpft.analysis.curves import compute, curves_by_denoising_steps, from_scratch, sample_efficiency
from dpft.analysis.diagnostics import chains, diagnostics
from dpft.analysis.scores import aggregates, denoising_steps, steps_to_threshold

FIGURES: dict[str, Draw] = {
    "sample_efficiency": sample_efficiency,
    "from_scratch": from_scratch,
    "denoising_steps": denoising_steps,
    "curves_by_denoising_steps": curves_by_denoising_steps,
    "compute": compute,
    "aggregates": aggregates,
    "steps_to_threshold": steps_to_threshold,
    "diagnostics": diagnostics,
    "chains": chains,
}
