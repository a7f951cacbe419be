"""Encoded rows as the Trainer reads them, with fresh random changes in each epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# Apart from the streams of training, so that no validation row is changed like a training row.
_VALIDATION = 2**32 - 1


class Rows:
    """A dataset for torch, whose random changes depend on seed, epoch and row alone.

    So a resumed training, or one on several machines, draws what one in one go would draw. For
    validation (`fixed`) every epoch sees the same changes, so that its losses can be compared.
    """

    def __init__(
        self,
        rows: Sequence[dict[str, Any]],
        draw: Callable[[dict[str, Any], np.random.Generator], dict[str, Any]] | None,
        seed: int,
        *,
        fixed: bool = False,
    ) -> None:
        self.rows = rows
        self._draw = draw
        self._seed = seed
        self._fixed = fixed
        self._epoch = _VALIDATION if fixed else 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        if self._draw is None:
            return self.rows[row]
        random = np.random.default_rng((self._seed, self._epoch, row))
        return self._draw(self.rows[row], random)

    def set_epoch(self, epoch: int) -> None:
        """Go on to an epoch, 0-based; accelerate calls this."""
        if not self._fixed:
            self._epoch = epoch
