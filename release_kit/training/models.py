"""Model folders: which of them may be opened, how they are opened, and what is written back.

A base model is a stranger's folder. It is read as data only: safetensors and no pickle, no code
of its own, no adapter that points elsewhere, and no network. transformers fills a tensor that
the folder lacks with random numbers, so every one of them is accounted for here.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release_kit.errors import Unfinished, UnusableInput
from release_kit.progress import Watcher
from release_kit.release import TrainingPlan

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_PARTS = ("tokenizer_config.json", "preprocessor_config.json", "processor_config.json")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_OTHER_WEIGHTS = ("*.safetensors*", "*.h5", "*.msgpack", "*.gguf", "*.onnx")
SHARD = 5 * 10**9
"""Bytes of the largest file of weights: what the Hub's client writes (huggingface_hub 2.4,
MAX_SHARD_SIZE)."""
_SHOWN = 8


@dataclass(frozen=True)
class Loaded:
    """A model with what makes its inputs, in memory."""

    model: Any
    """A transformers PreTrainedModel in float32."""
    processor: Any
    """What makes the model's inputs: a transformers tokenizer with a padding token, an image
    processor, or a processor that has both."""
    labels: tuple[str, ...]
    """Label i is class i of the model's head; empty where the task has no classes."""
    new_tensors: tuple[str, ...]
    """Tensors that the folder did not hold and that were drawn at random."""


def need(*packages: str) -> None:
    """Check that the packages of the optional part of release-kit are there, importing none.

    Raises:
        Unfinished: one of them is not installed.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise Unfinished(
            f"training and evaluation need {', '.join(missing)}, not installed here",
            hint="pip install 'release-kit[train]'",
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from writing to the terminal, and put its settings back afterwards."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def check_folder(folder: Path, *, weights: bool = True) -> None:
    """Check, before any library opens `folder`, that it is a model and nothing but data.

    Without `weights` it may lack them, as where only its form and its tokenizer are used.

    Raises:
        UnusableInput: it is no folder, has no readable config.json, wants to run code of its
            own, is an adapter, or has no weights in safetensors.
    """
    if not folder.is_dir():
        raise UnusableInput(f"{folder}: there is no such model folder")
    if (folder / "adapter_config.json").exists():
        raise UnusableInput(
            f"{folder}: is an adapter, not a whole model",
            hint="merge the adapter into its base model first",
        )
    config = _json_object(folder / "config.json")
    others = {name: _json_object(folder / name) for name in _PARTS if (folder / name).exists()}
    for name, data in {"config.json": config, **others}.items():
        if "auto_map" in data:
            raise UnusableInput(
                f"{folder / name}: wants to run code of its own (auto_map), which is never run",
                hint="choose a model whose architecture is part of transformers",
            )
    if not weights or any((folder / name).is_file() for name in _WEIGHTS):
        return
    if any(True for pattern in _PICKLES for _ in folder.glob(pattern)):
        raise UnusableInput(
            f"{folder}: holds its weights only as a pickle, which runs code when it is opened",
            hint="get the model.safetensors of this model, or convert it on a machine you can lose",
        )
    raise UnusableInput(f"{folder}: holds no weights; model.safetensors is missing")


def holds_weights(folder: Path) -> bool:
    """Tell whether `folder` holds weights, be it in a form or a state that is refused."""
    return any(True for pattern in (*_PICKLES, *_OTHER_WEIGHTS) for _ in folder.glob(pattern))


def _json_object(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UnusableInput(
            f"{path.parent}: is not a model folder; {path.name} is missing"
        ) from None
    except OSError as error:
        raise UnusableInput(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError):
        raise UnusableInput(f"{path}: is not JSON") from None
    if not isinstance(data, dict):
        raise UnusableInput(f"{path}: is not a JSON object")
    return data


def open_model(
    kind: str,
    folder: Path,
    *,
    labels: tuple[str, ...] | None = None,
    processor: str | None = "AutoTokenizer",
    settings: Mapping[str, Any] | None = None,
    scratch: bool = False,
) -> Loaded:
    """Load the model and the processor in `folder`, in float32, from this disk only.

    `kind` and `processor` name transformers' auto classes, no `processor` where the task makes
    its own; `settings` go into the model's config. With `labels`, be there any or not, `folder`
    holds a base model: it gets a head for them, and what lies outside its body, and a pooler that
    the folder lacks as a whole, may start from random numbers; with `scratch` everything does,
    and no weights are read. With None it is a model that was trained here: the labels are those
    of config.json, and every tensor must be there.

    Raises:
        UnusableInput: the folder fails `check_folder`, transformers cannot open it, a tensor is
            missing, has another shape or holds NaN or infinity, or the tokenizer does not fit.
    """
    check_folder(folder, weights=not scratch)
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        if labels:
            config.id2label = dict(enumerate(labels))
            config.label2id = {label: index for index, label in enumerate(labels)}
        for name, value in (settings or {}).items():
            setattr(config, name, value)
        auto = getattr(transformers, kind)
        model, info = _scratch(auto, config) if scratch else _load(auto, folder, config)
        reader = processor and open_processor(processor, folder)
    except UnusableInput:
        raise
    # A broken folder makes transformers raise anything at all.
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0]
        raise UnusableInput(
            f"{folder}: transformers cannot open this model: {type(error).__name__}: {said}"
        ) from error

    new = (
        tuple(sorted(model.state_dict()))
        if scratch
        else _new_tensors(folder, model, info, head=labels is not None)
    )
    if broken := not_finite(model):
        raise UnusableInput(f"{folder}: NaN or infinity stands in {_names(broken)}")
    tokenizer = getattr(reader, "tokenizer", reader)
    if hasattr(tokenizer, "all_special_ids"):
        _check_tokenizer(folder, model, tokenizer)
    if labels is None:
        names = config.id2label
        labels = tuple(str(names[index]) for index in range(len(names)))
    return Loaded(model, reader, labels, new)


def open_processor(kind: str, folder: Path) -> Any:
    """Return what makes a model's inputs, from this disk only; `kind` is an auto class's name.

    Raises:
        UnusableInput: the folder is no model's, or transformers cannot open it.
    """
    check_folder(folder, weights=False)
    import transformers

    try:
        return getattr(transformers, kind).from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    # A broken folder makes transformers raise anything at all.
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0]
        raise UnusableInput(
            f"{folder}: transformers cannot open its {kind}: {type(error).__name__}: {said}"
        ) from error


def _scratch(auto: Any, config: Any) -> tuple[Any, dict[str, Any]]:
    import torch

    return auto.from_config(config, dtype=torch.float32, trust_remote_code=False), {}


def _load(auto: Any, folder: Path, config: Any) -> tuple[Any, dict[str, Any]]:
    import torch

    model, info = auto.from_pretrained(
        folder,
        config=config,
        # Half-precision weights lose the small updates of fine-tuning.
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        # A head of another size is reported like a missing one instead of raised.
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    return model, info


def _new_tensors(folder: Path, model: Any, info: dict[str, Any], *, head: bool) -> tuple[str, ...]:
    new = set(info["missing_keys"]) | {
        entry if isinstance(entry, str) else entry[0] for entry in info["mismatched_keys"]
    }
    allowed: set[str] = set()
    if head:
        names = set(model.state_dict())
        inside = f"{model.base_model_prefix}."
        # T5 names a prefix that no tensor has: such a model is all body.
        body = any(name.startswith(inside) for name in names)
        allowed = {name for name in names if body and not name.startswith(inside)}
        # Checkpoints of masked language models have no pooler. Half a pooler is damage.
        pooler = {name for name in names if ".pooler." in name}
        if pooler <= new:
            allowed |= pooler
    if refused := sorted(new - allowed):
        raise UnusableInput(
            f"{folder}: tensors are missing or have another shape than config.json says:"
            f" {_names(refused)}",
            hint="transformers would fill them with random numbers; get the whole model again",
        )
    return tuple(sorted(new))


def _check_tokenizer(folder: Path, model: Any, tokenizer: Any) -> None:
    # Where the vocabulary file is missing, transformers builds a tokenizer of special tokens.
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise UnusableInput(f"{folder}: the tokenizer has no vocabulary; its files are missing")
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise UnusableInput(
            f"{folder}: the tokenizer knows {len(tokenizer)} tokens, the model only {rows}"
        )
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token is None:
            raise UnusableInput(f"{folder}: the tokenizer has neither a padding nor an end token")
        tokenizer.pad_token = tokenizer.eos_token
    # Decoders look for the last token that is not padding, so the model must know it too.
    model.config.pad_token_id = tokenizer.pad_token_id


def device_of() -> Any:
    """Return the accelerator that torch finds, or the CPU."""
    import torch

    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


def in_half(plan: TrainingPlan) -> bool:
    """Tell whether the plan's arithmetic is bfloat16 here: by itself where the GPU has it."""
    import torch

    if plan.precision != "auto":
        return plan.precision == "bfloat16"
    return bool(
        torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    )


def in_batches(
    loaded: Loaded,
    rows: Sequence[Mapping[str, Any]],
    collate: Callable[[list[Any]], Mapping[str, Any]],
    plan: TrainingPlan,
    watcher: Watcher,
    *,
    without: Collection[str] = ("labels",),
    run: Callable[[Any, Mapping[str, Any]], Any] | None = None,
) -> Iterator[tuple[list[int], Any, Mapping[str, Any]]]:
    """Yield (places of the rows, the model's outputs, its inputs) for one batch after another.

    The model reads the rows without the entries in `without`, in evaluation mode and without
    gradients; `run(model, inputs)` may call it in another way, such as to generate. Rows of like
    length share a batch, so that little is padding. Progress goes to `watcher` as "evaluating",
    counted in rows.
    """
    import torch

    device = device_of()
    model = loaded.model.to(device).eval()
    order = sorted(range(len(rows)), key=lambda row: length_of(rows[row]), reverse=True)
    size = max(1, plan.batch_size // plan.accumulate)
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        batch = collate(
            [{name: v for name, v in rows[row].items() if name not in without} for row in chosen]
        )
        inputs = {name: value.to(device) for name, value in batch.items()}
        with torch.inference_mode():
            outputs = run(model, inputs) if run else model(**inputs)
        yield chosen, outputs, inputs
        watcher.step("evaluating", start + len(chosen), len(order))


def length_of(row: Mapping[str, Any]) -> int:
    """Return the length of the first entry of a row, by which rows share batches; 0 for none."""
    first = next(iter(row.values()), ())
    return len(first) if isinstance(first, Sized) else 0


def longest_text(loaded: Loaded) -> int | None:
    """Return how many tokens the model can read at once; None when it does not say."""
    limits = [
        limit
        for limit in (
            getattr(loaded.model.config, "max_position_embeddings", None),
            getattr(loaded.processor, "model_max_length", None),
        )
        # Tokenizers that know no limit say 10**30.
        if isinstance(limit, int) and 0 < limit < 10**9
    ]
    return min(limits, default=None)


def not_finite(model: Any) -> tuple[str, ...]:
    """Return the names of the tensors that hold NaN or an infinity, sorted."""
    return tuple(
        sorted(
            name
            for name, tensor in model.state_dict().items()
            if tensor.is_floating_point() and not bool(tensor.isfinite().all())
        )
    )


def save_model(loaded: Loaded, folder: Path) -> None:
    """Write the weights, config.json and the processor's files into `folder`, mode 0644.

    The weights are model.safetensors, or shards of it with their index where they are large.

    Raises:
        OSError: `folder` cannot be written.
        SafetensorError: the weights cannot be written.
    """
    # Where and how it was opened here is nobody else's business, and not theirs to repeat.
    loaded.model.config.name_or_path = ""
    loaded.model.save_pretrained(folder, max_shard_size=SHARD)
    save_processor(loaded, folder)
    for file in folder.iterdir():
        file.chmod(0o644)


def save_processor(loaded: Loaded, folder: Path) -> None:
    """Write the processor's files into `folder`, without what this run told it.

    Raises:
        OSError: `folder` cannot be written.
    """
    tokenizer = getattr(loaded.processor, "tokenizer", loaded.processor)
    # It remembers how the last batch was cut and padded, and would write that down.
    if getattr(tokenizer, "backend_tokenizer", None) is not None:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    for name in ("is_local", "local_files_only"):
        getattr(tokenizer, "init_kwargs", {}).pop(name, None)
    loaded.processor.save_pretrained(folder)


def _names(names: Iterable[str]) -> str:
    listed = list(names)
    more = len(listed) - _SHOWN
    return ", ".join(listed[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
