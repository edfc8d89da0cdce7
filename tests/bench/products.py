"""What matrix products cost by themselves: the limit that a benchmark is shown beside."""

import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

Sizes = tuple[int, int, int]  # rows, inner, columns


class Products(TorchDispatchMode):
    """Counts the matrix products that are made within it, by size."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[Sizes] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            left, right = args[-2:]
            self.count[(*left.shape, right.shape[1])] += 1
        return func(*args, **(kwargs or {}))


def seconds(sizes: Sizes, dtype: torch.dtype = torch.float32, least: float = 0.05) -> float:
    """CPU seconds of one product, the median of several."""
    rows, inner, columns = sizes
    left, right = torch.randn(rows, inner).to(dtype), torch.randn(inner, columns).to(dtype)
    times: list[float] = []
    while len(times) < 5 or sum(times) < least:
        started = time.process_time()
        torch.mm(left, right)
        times.append(time.process_time() - started)
    return float(np.median(times))


def limit(work: Callable[[], object]) -> float:
    """CPU seconds of all matrix products of some work, made one after another and nothing else."""
    with Products() as products:
        work()
    return sum(number * seconds(sizes) for sizes, number in products.count.items())
