"""Several texts in one row, so that little of a batch is padding."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Any

_FIRST, _SECOND = 5, 4
# Of the greatest logit. Float32 of another batch shape differs by less than the second, and what
# a neighbour changes within one shape is nothing at all.
_LEAK, _NOISE = 1e-6, 1e-4


def bins(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Return which texts share a row of at most `size` tokens, by their places.

    Longest first, each into the fullest row that has room (best fit decreasing, Johnson 1973).
    """
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        at = bisect_left(room, (lengths[place], 0))
        left, row = room.pop(at) if at < len(room) else (size, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(place)
        insort(room, (left - lengths[place], row))
    return rows


def keeps_texts_apart(model: Any) -> bool:
    """Tell whether two texts in one row, told apart by their positions alone, stay apart.

    Position ids that begin again at 0 are all that says where a text begins: transformers' masks
    honour them, recurrent models and some kernels do not. So it is tried: the second of two texts
    must get the logits that it gets alone, whatever the first one says. With a cache of keys and
    values no mask would tell them apart; the Trainer turns it off.
    """
    import torch

    vocabulary = model.get_input_embeddings().num_embeddings
    ids = torch.arange(1, _FIRST + _SECOND + 1, device=model.device)[None] % vocabulary
    other = ids.clone()
    other[:, :_FIRST] = (ids[:, :_FIRST] + vocabulary // 2) % vocabulary
    positions = torch.tensor([[*range(_FIRST), *range(_SECOND)]], device=model.device)
    was = model.training
    model.eval()
    try:
        with torch.inference_mode():
            packed, beside = (
                model(input_ids=row, position_ids=positions, use_cache=False).logits[:, _FIRST:]
                for row in (ids, other)
            )
            alone = model(input_ids=ids[:, _FIRST:], use_cache=False).logits
    except Exception:  # noqa: BLE001 - a model that knows no positions may say so in any way
        return False
    finally:
        model.train(was)
    scale = float(alone.abs().max())
    return (
        float((packed - beside).abs().max()) <= _LEAK * scale
        and float((packed - alone).abs().max()) <= _NOISE * scale
    )
