"""What a process sets once before it computes."""

import ctypes
from contextlib import suppress

import torch

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # malloc.h of glibc: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD


def use_cpu(threads: int) -> None:
    """Give torch so many threads, and have glibc keep freed memory, since the next minibatch wants it again: giving
    it back and faulting it in anew takes up to a tenth of an update. Other C libraries are left as they are."""
    torch.set_num_threads(threads)
    with suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_THRESHOLD, 32 << 20)  # bytes, the most that it takes
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
