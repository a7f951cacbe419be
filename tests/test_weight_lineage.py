"""Tensors read in blocks, and models held against each other: tiny real ones, and damaged files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from release_kit.weight_files import DamagedWeights
from release_kit.weight_lineage import Comparison, compare, fit_of, is_adapter
from release_kit.weight_tensors import (
    BLOCK,
    Weights,
    as_numbers,
    has_no_number,
    is_shard,
    raw_blocks,
    read_tensors,
    read_weights,
    same_bytes,
    sampled,
    weights_in,
)
from tests.bundles import save_shards, save_tensors, tensors_of
from tests.tiny_models import tiny_bert

FILE = "model.safetensors"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("base"))


def _opened(folder: Path) -> Any:
    from transformers import BertForSequenceClassification

    from release_kit.training.models import quiet

    with quiet():
        return BertForSequenceClassification.from_pretrained(folder, num_labels=3)


def _trained(model: Any, steps: int = 20) -> Any:
    """Train every parameter on made-up tokens."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for _ in range(steps):
            tokens = torch.randint(5, 90, (8, 12))
            loss = model(input_ids=tokens, labels=tokens[:, 0] % 3).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def _saved(model: Any, folder: Path) -> Weights:
    from release_kit.training.models import quiet

    with quiet():
        model.save_pretrained(folder)
    return _weights(folder)


def _weights(folder: Path) -> Weights:
    (file, _), *more = weights_in(folder.iterdir())
    assert not more
    return read_weights(file)


def _as_trained(base: Path, folder: Path) -> Weights:
    return _saved(_trained(_opened(base)), folder)


def _as_cast(base: Path, folder: Path) -> Weights:
    import torch

    return _saved(_opened(base).to(torch.bfloat16), folder)


def _as_merged_lora(base: Path, folder: Path) -> Weights:
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(_opened(base), LoraConfig(r=8, target_modules=["query", "value"]))
    return _saved(_trained(adapted).merge_and_unload(), folder)


def _as_random(base: Path, folder: Path) -> Weights:
    import torch
    from transformers import BertModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        return _saved(BertModel(_opened(base).config), folder)


def _as_resized(base: Path, folder: Path) -> Weights:
    model = _opened(base)
    model.resize_token_embeddings(model.config.vocab_size + 7, mean_resizing=False)
    return _saved(model, folder)


def _as_sharded(base: Path, folder: Path) -> Weights:
    model = _opened(base)
    model.save_pretrained(folder, max_shard_size=40_000)
    assert len(list(folder.glob("*-of-*.safetensors"))) > 1
    return _weights(folder)


MODELS: dict[str, tuple[Callable[[Path, Path], Weights], Callable[[Comparison], bool]]] = {
    "trained": (
        _as_trained,
        lambda c: 0.97 < c.cosine < 0.9999 and c.equal == 0 and min(c.ranks) > 16,
    ),
    "cast to bf16": (_as_cast, lambda c: c.cosine > 0.9999 and set(c.ranks) == {0}),
    "merged LoRA": (_as_merged_lora, lambda c: set(c.ranks) == {8} and 30 < c.equal < c.tensors),
    "random": (_as_random, lambda c: abs(c.cosine) < 0.1 and c.change > 1.3 and c.shared == 1),
    "resized": (_as_resized, lambda c: c.cosine == 1 and c.equal == c.tensors - 1 and not c.ranks),
    "sharded": (_as_sharded, lambda c: c.cosine == 1 and c.equal == c.tensors),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_was_made_of_a_base_is_told_by_its_tensors(
    name: str, base: Path, tmp_path: Path
) -> None:
    make, is_so = MODELS[name]
    own = make(base, tmp_path / "own")
    found = compare(own, _weights(base))
    assert is_so(found), found
    assert (found.tensors, found.shared, found.missing_parameters) == (39, 1.0, 0)
    # The head is new: two tensors, with three labels.
    new = sum(t.count for t in own.tensors.values() if "classifier" in t.name)
    assert new == (0 if name == "random" else 3 * 32 + 3)
    assert found.changed_parameters >= new
    if name == "sharded":
        assert found.changed_parameters == new


def test_an_equal_model_has_changed_nothing_and_a_part_of_it_lacks_the_rest(base: Path) -> None:
    whole = _weights(base)
    same = compare(whole, whole)
    assert (same.equal, same.changed_parameters, same.change, same.ranks) == (39, 0, 0, ())
    part = replace(whole, tensors={n: t for n, t in whole.tensors.items() if "pooler" not in n})
    found = compare(part, whole)
    assert (found.changed_parameters, found.missing_parameters) == (0, 32 * 32 + 32)
    more = compare(whole, part)
    assert (more.equal, more.tensors, more.changed_parameters) == (37, 37, 32 * 32 + 32)
    assert found.shared == 1


def test_two_unrelated_models_averaged_stay_at_half_a_right_angle(
    base: Path, tmp_path: Path
) -> None:
    one, other = _weights(base), _as_random(base, tmp_path / "other")
    theirs = tensors_of(other.file)
    merged = {n: (t + theirs[n]) / np.float32(2) for n, t in tensors_of(one.file).items()}
    save_tensors(tmp_path / FILE, merged)
    for parent in (one, other):
        cosine = compare(read_weights(tmp_path / FILE), parent).cosine
        assert cosine
        assert 0.66 < cosine < 0.76


def _made(folder: Path, name: str = FILE, **tensors: Any) -> Weights:
    folder.mkdir(exist_ok=True)
    save_tensors(folder / name, {n.replace("__", "."): t for n, t in tensors.items()})
    return read_weights(folder / name)


DRAW = np.random.default_rng(3)
EMBEDDING, INNER = (DRAW.normal(size=(20, 6)).astype("f4") for _ in "ab")


def test_a_tied_layer_that_one_side_stores_twice_is_neither_new_nor_missing(
    tmp_path: Path,
) -> None:
    tied = {"model__embed__weight": EMBEDDING, "model__inner__weight": INNER}
    once = _made(tmp_path / "once", **tied)
    twice = _made(tmp_path / "twice", **tied, lm_head__weight=EMBEDDING)
    for found in (compare(once, twice), compare(twice, once)):
        assert (found.changed_parameters, found.missing_parameters) == (0, 0)
        assert found.shared == 1
    untied = _made(tmp_path / "untied", **tied, lm_head__weight=EMBEDDING + 1)
    assert compare(untied, once).changed_parameters == EMBEDDING.size
    assert compare(once, untied).missing_parameters == EMBEDDING.size


def test_names_are_matched_under_prefixes_of_either_side(tmp_path: Path) -> None:
    plain = _made(tmp_path / "plain", embed__weight=EMBEDDING, layers__0__inner=INNER)
    for prefix in ("bert__", "_orig_mod__model__", "model__language_model__text__"):
        own = {f"{prefix}embed__weight": EMBEDDING, f"{prefix}layers__0__inner": INNER}
        wrapped = _made(tmp_path / "wrapped", **own, other__head=INNER[:2])
        for found in (compare(wrapped, plain), compare(plain, wrapped)):
            assert (found.tensors, found.equal, found.cosine) == (2, 2, 1)
    elsewhere = _made(tmp_path / "elsewhere", embed__bias=EMBEDDING, layers__1__inner=INNER)
    assert compare(elsewhere, plain).tensors == 0
    assert compare(elsewhere, plain).cosine is None


def test_what_has_no_direction_resembles_nothing_and_hides_nothing(tmp_path: Path) -> None:
    one = _made(tmp_path / "one", a=EMBEDDING, b=INNER, c=np.ones(9, "f4"), d=np.arange(5))
    zero = _made(tmp_path / "zero", a=EMBEDDING * 0, b=INNER, c=np.ones(9, "f4"), d=np.arange(5))
    broken = _made(tmp_path / "nan", a=EMBEDDING * np.nan, b=INNER, c=np.ones(9, "f4"))
    assert compare(zero, one).cosine == pytest.approx(0.5)
    # A base of zeros has nothing to be near to.
    assert compare(one, zero).cosine == 1
    assert compare(broken, one).cosine == pytest.approx(0.5)
    lacking = compare(broken, one)
    assert (lacking.change, lacking.ranks) == (float("inf"), ())
    # Whole numbers, such as positions, are made anew by whoever loads the model.
    assert lacking.missing_parameters == 0
    vectors = _made(tmp_path / "vectors", c=np.ones(9, "f4"), d=np.arange(5))
    assert compare(vectors, one).cosine is None
    assert compare(vectors, one).equal == 2


def test_a_larger_matrix_is_compared_in_blocks_and_ranked_by_a_sample(tmp_path: Path) -> None:
    rows = 2 * BLOCK // 700
    big = DRAW.normal(size=(rows, 700)).astype("f4")
    delta = DRAW.normal(size=(rows, 5)) @ DRAW.normal(size=(5, 700)) * 0.01
    one, base = _made(tmp_path / "a", m=(big + delta).astype("f4")), _made(tmp_path / "b", m=big)
    found = compare(one, base)
    exact = float(np.sum(big * (big + delta)) / np.linalg.norm(big) / np.linalg.norm(big + delta))
    assert found.cosine == pytest.approx(exact, abs=1e-6)
    assert (found.ranks, found.full_ranks) == ((5,), (256,))
    end = big.copy()
    end[-1, -1] += 1
    assert compare(_made(tmp_path / "c", m=end), base).equal == 0


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_numbers_of_each_width_are_read_as_torch_reads_them(dtype: str, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    kind = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16}
    values = torch.linspace(-9, 9, 35).reshape(7, 5).to(kind.get(dtype, torch.bfloat16))
    bad = {
        float("nan"): values.clone(),
        float("inf"): values.clone(),
        -float("inf"): values.clone(),
    }
    for number, tensor in bad.items():
        tensor[6, 4] = number
    largest = torch.full((7, 5), torch.finfo(values.dtype).max, dtype=values.dtype)
    save_file(
        {"v": values, "max": largest, **{f"bad{i}": t for i, t in enumerate(bad.values())}},
        tmp_path / FILE,
    )
    tensors = read_tensors(tmp_path / FILE)
    assert {t.dtype for t in tensors.values()} == {dtype}
    (words,) = raw_blocks(tensors["v"])
    assert as_numbers(words, dtype).tolist() == values.double().reshape(-1).tolist()
    assert sampled(tensors["v"], 3).tolist() == values.double()[::3, ::2].tolist()
    for name, tensor in tensors.items():
        assert [has_no_number(b, dtype) for b in raw_blocks(tensor)] == ["bad" in name]
    assert not same_bytes(tensors["v"], tensors["max"])
    assert same_bytes(tensors["v"], tensors["v"])


# adapters


def _adapter(base: Path, folder: Path, config: Any) -> Weights:
    from peft import get_peft_model

    get_peft_model(_opened(base), config).save_pretrained(folder)
    return read_weights(folder / "adapter_model.safetensors")


@pytest.mark.parametrize("kind", ["lora", "dora", "loha", "ia3"])
def test_an_adapter_fits_the_base_it_was_made_for_and_no_other(
    kind: str, base: Path, tmp_path: Path
) -> None:
    from peft import IA3Config, LoHaConfig, LoraConfig

    modules = ["query", "output.dense"]
    config = {
        "lora": lambda: LoraConfig(r=4, target_modules=[*modules, "word_embeddings"]),
        "dora": lambda: LoraConfig(r=4, target_modules=modules, use_dora=True),
        "loha": lambda: LoHaConfig(r=4, target_modules=modules),
        "ia3": lambda: IA3Config(target_modules=modules, feedforward_modules=["output.dense"]),
    }[kind]()
    adapter, whole = _adapter(base, tmp_path / "adapter", config), _weights(base)
    assert is_adapter(adapter)
    assert not is_adapter(whole)
    fit = fit_of(adapter, whole)
    assert (fit.matrices, fit.misfits) == (7 if kind == "lora" else 6, 0)
    # A base of another width, and one with a layer less.
    arrays = tensors_of(whole.file)
    wider = {n: np.pad(t, [(0, 8)] * t.ndim) for n, t in arrays.items()}
    shallow = {n: t for n, t in arrays.items() if "layer.1" not in n}
    for other, misfits in ((wider, fit.matrices), (shallow, 3)):
        save_tensors(tmp_path / FILE, other)
        assert fit_of(adapter, read_weights(tmp_path / FILE)).misfits == misfits


def test_a_pair_must_be_whole_and_may_be_for_a_matrix_stored_the_other_way(
    tmp_path: Path,
) -> None:
    down, up = np.zeros((2, 6), "f4"), np.zeros((20, 2), "f4")
    name = "base_model__model__h__attn"
    pair = {f"{name}__lora_A__weight": down, f"{name}__lora_B__weight": up}
    base = _made(tmp_path / "base", transformer__h__attn__weight=EMBEDDING)
    turned = _made(tmp_path / "turned", h__attn__weight=EMBEDDING.T.copy())
    adapter = _made(tmp_path / "adapter", **pair)
    for one in (base, turned):
        assert fit_of(adapter, one).misfits == 0
    alone = _made(tmp_path / "alone", **{f"{name}__lora_A__weight": down})
    uneven = _made(tmp_path / "uneven", **{**pair, f"{name}__lora_A__weight": down[:1]})
    for one in (alone, uneven):
        assert fit_of(one, base).misfits == 1


# shards


def _index(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Weights:
    save_tensors(folder / FILE, {"a.weight": EMBEDDING, "b.weight": INNER})
    save_shards(folder, tensors_of(folder / FILE))
    file = folder / "model.safetensors.index.json"
    changed = change(json.loads(file.read_text()))
    file.write_bytes(changed if isinstance(changed, bytes) else json.dumps(changed).encode())
    return read_weights(file)


def _map(**shards: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    renamed = {name.replace("_weight", ".weight"): shard for name, shard in shards.items()}
    return lambda index: {**index, "weight_map": {**index["weight_map"], **renamed}}


FIRST = "model-00001-of-00002.safetensors"


def test_shards_are_read_as_one_model(tmp_path: Path) -> None:
    found = _index(tmp_path, lambda index: index)
    assert set(found.tensors) == {"a.weight", "b.weight"}
    assert len({tensor.file for tensor in found.tensors.values()}) == 2
    (_, parts), *more = weights_in(tmp_path.iterdir())
    assert not more
    assert parts == {tensor.file for tensor in found.tensors.values()}
    assert all(is_shard(part.name) for part in parts)
    assert not is_shard(FILE)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_map(a_weight=f"../{FIRST}"), "outside its folder"),
        (_map(a_weight=f"/etc/{FIRST}"), "outside its folder"),
        (_map(a_weight=f"..\\{FIRST}"), "outside its folder"),
        (_map(a_weight="a\x00.safetensors"), "outside its folder"),
        (_map(a_weight="model.bin"), "no safetensors file"),
        (_map(a_weight=7), "no safetensors file"),
        (_map(a_weight=None), "no safetensors file"),
        (_map(b_weight=FIRST), "exactly what the index says"),
        (_map(c_weight=FIRST), "exactly what the index says"),
        (lambda index: {"weight_map": {"b.weight": FIRST}}, "exactly what the index says"),
        (_map(a_weight="model-00003-of-00003.safetensors"), "is not there"),
        (lambda index: {"weight_map": []}, "no weight_map"),
        (lambda index: {"weight_map": {}}, "no weight_map"),
        (lambda index: [], "no weight_map"),
        (lambda index: b"{", "no weight_map"),
        (lambda index: b'{"weight_map": {"a": "x", "a": "y"}}', "no weight_map"),
        (lambda index: b"\xff", "no weight_map"),
    ],
)  # fmt: skip
def test_an_index_that_deceives_is_refused(change: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(DamagedWeights, match=said):
        _index(tmp_path, change)


def test_a_file_cut_after_its_header_was_read_is_damage_not_silence(tmp_path: Path) -> None:
    tensor = _made(tmp_path, a=EMBEDDING).tensors["a"]
    tensor.file.write_bytes(tensor.file.read_bytes()[:-1])
    for read in (lambda: list(raw_blocks(tensor)), lambda: sampled(tensor, 256)):
        with pytest.raises(DamagedWeights, match="ends inside a tensor"):
            read()
