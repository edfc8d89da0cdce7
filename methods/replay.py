"""A ring of transitions on the run's device; sampling costs the same however many rows there are."""

import torch
from torch import Tensor


class Replay:
    """Rows of named tensors. The oldest are overwritten; only filled rows are saved."""

    def __init__(self, capacity: int, device: torch.device) -> None:
        self.capacity, self.device = capacity, device
        self.added = 0  # rows ever added
        self.columns: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(self, **rows: Tensor) -> None:
        """Append rows, each tensor [m, ...] with m at most the capacity."""
        count = len(next(iter(rows.values())))
        if not self.columns:
            self.columns = {
                name: torch.empty((self.capacity, *value.shape[1:]), dtype=value.dtype, device=self.device)
                for name, value in rows.items()
            }
        at = (self.added + torch.arange(count, device=self.device)) % self.capacity
        for name, value in rows.items():
            self.columns[name][at] = value.to(self.device)
        self.added += count

    def rows(self) -> dict[str, Tensor]:
        """All filled rows, each tensor [len, ...], in the order of the ring; not copied."""
        return {name: column[: len(self)] for name, column in self.columns.items()}

    def sample(self, shape: tuple[int, ...], rng: torch.Generator) -> dict[str, Tensor]:
        """Rows drawn uniformly with replacement, each tensor [*shape, ...]."""
        at = torch.randint(len(self), shape, generator=rng, device=self.device)
        return {name: column[at] for name, column in self.columns.items()}

    def state_dict(self) -> dict[str, object]:
        return {
            "added": self.added,
            "columns": {name: value.clone() for name, value in self.rows().items()},
        }

    def load_state_dict(self, state: dict) -> None:
        self.added, self.columns = 0, {}
        if state["columns"]:
            self.add(**state["columns"])
        self.added = state["added"]
