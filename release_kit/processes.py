"""Which of several processes this is, as torchrun and accelerate tell it by the environment."""

from __future__ import annotations

import os


def count() -> int:
    """Return how many processes work together; 1 where nobody started several."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Tell whether this is the process that writes, prints and keeps what was made."""
    return int(os.environ.get("RANK", "0")) == 0


def is_first_here() -> bool:
    """Tell whether this is the first process on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0
