"""Does a model derive from another one: their tensors side by side, in blocks, without torch.

Weights that were trained further keep the direction of those that they started from: the cosine of
a fine-tuned matrix to its base is near 1, that of two models trained apart near 0, since in so many
dimensions chance finds no common direction. A LoRA delta that was merged is a change of low rank.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass
from itertools import product, takewhile
from statistics import median

import numpy as np

from release_kit.weight_tensors import Tensor, Weights, as_numbers, raw_blocks, same_bytes, sampled

LARGEST_RANK = 256
"""A rank is told up to here: that of so many rows and columns, evenly spread."""
_RANKED = 4
"""Matrices whose change has its rank taken."""
_PREFIXES = 8
"""Prefixes of names that are tried on either side."""
_OF_A_PART = 10
"""A prefix stands before one in so many names at least: a head of a few tensors is no model."""
_DEEPEST_PREFIX = 3
# As peft names them: LoRA and DoRA, of an embedding too; LoHa; IA3.
_ADAPTED = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_(embedding_)?[AB]|hada_w[12]_[ab]|ia3_l)(\.weight)?"
)
_PEFT = "base_model.model."

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Comparison:
    """How the tensors of a model agree with those of another one."""

    tensors: int
    """Tensors that both have, in one shape, or with other rows added."""
    equal: int
    """Those of them with the same values."""
    matrices: int
    """Matrices among them that point somewhere."""
    cosine: float | None
    """The median of the matrices' cosines; None without matrices."""
    change: float | None
    """The median of the matrices' changes, each by its norm and as a share of the base's."""
    shared: float
    """The share of the parameters of the smaller of the two that both have."""
    changed_parameters: int
    """Parameters that do not stand in the base as they are: changed, or new."""
    missing_parameters: int
    """Parameters of the base that the model does not have."""
    ranks: tuple[int, ...]
    """The rank of the change of some changed matrices, each at most `LARGEST_RANK`."""
    full_ranks: tuple[int, ...]
    """What those ranks would be were the changes of full rank."""


@dataclass(frozen=True)
class AdapterFit:
    """How an adapter fits a base."""

    matrices: int
    """Matrices of the base that it changes."""
    misfits: int
    """Those of them that the base does not have, or has in another shape."""


def is_adapter(weights: Weights) -> bool:
    """Tell whether the weights are those of an adapter, as peft names them."""
    return any(_ADAPTED.fullmatch(name) for name in weights.tensors)


def fit_of(adapter: Weights, base: Weights) -> AdapterFit:
    """Return how an adapter fits the matrices of the base that it changes."""
    modules: dict[str, dict[str, Shape]] = {}
    for name, tensor in adapter.tensors.items():
        if found := _ADAPTED.fullmatch(name):
            module = f"{found['module'].removeprefix(_PEFT)}.weight"
            modules.setdefault(module, {})[found["part"]] = tensor.shape
    shapes = _shapes(base)
    # Their shapes are not those of the base, so only the names are matched.
    names = _namesakes(dict.fromkeys(modules, (1,)), dict.fromkeys(shapes, (1,)))
    misfits = sum(
        module not in names or not _fits(parts, shapes[names[module]])
        for module, parts in modules.items()
    )
    return AdapterFit(len(modules), misfits)


def _fits(parts: Mapping[str, Shape], base: Shape) -> bool:
    """Tell whether the parts of an adapter can change a matrix of the shape `base`.

    Rows and columns are those of the matrix; later dimensions, as of a convolution, are columns.
    """
    match parts:
        case {"lora_A": (rank, *inward), "lora_B": (outward, other, *_)}:
            wanted = (outward, math.prod(inward))
        case {"lora_embedding_A": (rank, outward), "lora_embedding_B": (inward, other)}:
            wanted = (outward, inward)
        case {
            "hada_w1_a": (outward, rank),
            "hada_w1_b": (other, inward),
            "hada_w2_a": (_, _),
            "hada_w2_b": (_, _),
        } if parts["hada_w1_a"] == parts["hada_w2_a"] and parts["hada_w1_b"] == parts["hada_w2_b"]:
            wanted = (outward, inward)
        case {"ia3_l": (int(length), 1) | (1, int(length))}:
            # One factor for each row, or for each column.
            return length in base
        case _:
            return False
    if rank != other or not base:
        return False
    # GPT-2 keeps its matrices transposed.
    return (base[0], math.prod(base[1:])) in {wanted, wanted[::-1]}


def compare(own: Weights, base: Weights) -> Comparison:
    """Compare a model with another one, tensor by tensor.

    Names are matched with and without the prefixes that either side puts before them. Where one
    has more rows, as after a change of the vocabulary, the common rows are compared. A tensor of
    the model that is a copy of another of its own, such as a tied output layer, counts as that.

    Raises:
        DamagedWeights: a file has become shorter than its header says.
        OSError: a file cannot be read.
    """
    names = _namesakes(_shapes(own), _shapes(base))
    pairs = {
        name: (own.tensors[name], base.tensors[other])
        for name, other in names.items()
        if _comparable(own.tensors[name].shape, base.tensors[other].shape)
    }
    measured = {name: _measure(*pair) for name, pair in pairs.items()}
    equal = {name for name, found in measured.items() if found.equal}
    counterparts = {names[name] for name in pairs}
    copies, base_copies = _copies(own, set(pairs)), _copies(base, counterparts)
    all_own = sum(t.count for name, t in own.tensors.items() if name not in copies)
    all_base = sum(t.count for name, t in base.tensors.items() if name not in base_copies)
    common = sum(min(one.count, other.count) for one, other in pairs.values())
    pointing = [found for found in measured.values() if found.cosine is not None]
    ranked = _spread(
        [
            pair
            for name, pair in sorted(pairs.items())
            # A matrix that is not numbers has no direction, and no rank either.
            if name not in equal and measured[name].cosine and pair[0].shape == pair[1].shape
        ]
    )
    return Comparison(
        tensors=len(pairs),
        equal=len(equal),
        matrices=len(pointing),
        cosine=median(found.cosine or 0.0 for found in pointing) if pointing else None,
        change=median(found.change for found in pointing) if pointing else None,
        shared=common / max(min(all_own, all_base), 1),
        changed_parameters=all_own - sum(own.tensors[name].count for name in equal),
        missing_parameters=sum(
            tensor.count
            for name, tensor in base.tensors.items()
            if tensor.is_float and name not in counterparts | base_copies
        ),
        ranks=tuple(_rank(*pair) for pair in ranked),
        full_ranks=tuple(_full_rank(one) for one, _ in ranked),
    )


def _shapes(weights: Weights) -> dict[str, Shape]:
    return {name: tensor.shape for name, tensor in weights.tensors.items()}


def _namesakes(own: Mapping[str, Shape], base: Mapping[str, Shape]) -> dict[str, str]:
    """Return name → name in the base, by the two prefixes under which most parameters match.

    Both prefixes may be empty, and the shortest that do as well are taken.
    """
    best: tuple[tuple[int, int], dict[str, str]] = ((-1, 0), {})
    for own_prefix, base_prefix in product(_prefixes(own), _prefixes(base)):
        short = {name.removeprefix(own_prefix): name for name in own}
        found = {
            short[name]: other
            for other in base
            if (name := other.removeprefix(base_prefix)) in short
        }
        parameters = sum(
            math.prod(own[name]) for name, other in found.items() if own[name] == base[other]
        )
        score = (parameters, -len(own_prefix) - len(base_prefix))
        if score > best[0]:
            best = (score, found)
    return best[1]


def _prefixes(names: Mapping[str, Shape]) -> list[str]:
    counts: Counter[str] = Counter()
    for name in names:
        words = name.split(".")[:-1][:_DEEPEST_PREFIX]
        # A number counts layers, and a prefix stands before all of them.
        words = list(takewhile(lambda word: not word.isdigit(), words))
        counts.update(f"{'.'.join(words[:depth])}." for depth in range(1, len(words) + 1))
    common = counts.most_common(_PREFIXES)
    return ["", *(prefix for prefix, count in common if count * _OF_A_PART >= len(names))]


def _comparable(one: Shape, other: Shape) -> bool:
    return one == other or (len(one) == len(other) > 1 and one[1:] == other[1:])


@dataclass(frozen=True)
class _Measured:
    equal: bool
    cosine: float | None
    """None for what has no direction to compare."""
    change: float


def _measure(one: Tensor, base: Tensor) -> _Measured:
    """Compare the rows that both tensors have."""
    if not (one.is_float and base.is_float):
        return _Measured(same_bytes(one, base), None, 0.0)
    count = min(one.count, base.count)
    equal = one.shape == base.shape
    product_, own_square, base_square, change = 0.0, 0.0, 0.0, 0.0
    # NaN and the infinities are told by their own finding, not by a warning of numpy.
    with np.errstate(all="ignore"):
        blocks = zip(raw_blocks(one, count), raw_blocks(base, count), strict=True)
        for own_words, base_words in blocks:
            x, y = as_numbers(own_words, one.dtype), as_numbers(base_words, base.dtype)
            equal = equal and bool(np.array_equal(x, y))
            product_ += float(x @ y)
            own_square += float(x @ x)
            base_square += float(y @ y)
            x -= y
            change += float(x @ x)
    if not one.is_matrix or not 0 < base_square < math.inf:
        return _Measured(equal, None, 0.0)
    norms = math.sqrt(own_square) * math.sqrt(base_square)
    # What is no number, or nothing at all, resembles nothing.
    known = 0 < norms < math.inf
    return _Measured(
        equal,
        max(-1.0, min(product_ / norms, 1.0)) if known else 0.0,
        math.sqrt(change / base_square) if known else math.inf,
    )


def _copies(weights: Weights, known: Set[str]) -> frozenset[str]:
    """Return the matrices outside `known` that hold the very bytes of one in it."""
    return frozenset(
        name
        for name, tensor in weights.tensors.items()
        if name not in known and tensor.is_matrix
        if any(same_bytes(tensor, weights.tensors[other]) for other in known)
    )


def _spread(pairs: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    last = len(pairs) - 1
    picked = {round(step * last / (_RANKED - 1)) for step in range(_RANKED)} if pairs else set()
    return [pairs[number] for number in sorted(picked)]


def _rank(one: Tensor, base: Tensor) -> int:
    """Return the numerical rank of the change of a matrix.

    Rounding alone makes every change a matrix of full rank, but of small singular values: those of
    m × n numbers drawn apart with deviation s stay below s (√m + √n) (Vershynin, Introduction to
    the non-asymptotic analysis of random matrices, theorem 5.32).
    """
    before = sampled(base, LARGEST_RANK)
    change = sampled(one, LARGEST_RANK) - before
    rounding = one.step * math.sqrt(float(np.mean(before**2)))
    noise = rounding * sum(math.sqrt(length) for length in change.shape)
    return int((np.linalg.svd(change, compute_uv=False) > noise).sum())


def _full_rank(tensor: Tensor) -> int:
    rows = tensor.shape[0]
    return min(rows, tensor.count // rows, LARGEST_RANK)
