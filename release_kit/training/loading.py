"""Take a model that was made elsewhere: look it through, as data only, and copy what loads it.

Headers and numbers are read without torch. Whether the weights hold every tensor that config.json
asks for, only transformers can tell; where it cannot, that is told.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release_kit.bundle import MANIFEST, read_bundle
from release_kit.custom_code import custom_code
from release_kit.errors import Problem, UnusableInput
from release_kit.files import sha256_file, whole_folder
from release_kit.progress import SILENT, Watcher
from release_kit.strict_json import parse_json
from release_kit.training.models import open_model, quiet
from release_kit.weight_files import DamagedWeights, read_gguf
from release_kit.weight_tensors import (
    GGUF_SUFFIX,
    INDEX_SUFFIX,
    SUFFIX,
    Tensor,
    has_no_number,
    is_shard,
    raw_blocks,
    read_gguf_tensors,
    read_weights,
    weights_in,
)

CONFIG = "config.json"
ADAPTER = "adapter_config.json"
_MODULES = "modules.json"
_FORMS = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".spm", ".vocab", ".bpe")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
# What a bundle has of its own.
_DOCUMENTS = ("readme", "licen", "unlicen", "copying", "notice", "copyright", "use_policy")
_LARGEST = 1 << 24
# How llama.cpp calls the parts of a large model.
_SPLIT = re.compile(r"(.*)-\d{5}-of-(\d{5})\.gguf")
_SHOWN = 5

_SPEECH = "automatic-speech-recognition"
# How the name of an architecture ends → the task of `training.tasks` and the Hub's word for it.
_HEADS = {
    "ForSequenceClassification": ("text-classification", "text-classification"),
    "ForTokenClassification": ("token-classification", "token-classification"),
    "ForQuestionAnswering": ("question-answering", "question-answering"),
    "ForMaskedLM": ("masked-lm", "fill-mask"),
    "ForCausalLM": ("causal-lm", "text-generation"),
    "LMHeadModel": ("causal-lm", "text-generation"),
    "ForImageClassification": ("image-classification", "image-classification"),
    "ForCTC": ("speech-ctc", _SPEECH),
    "WhisperForConditionalGeneration": ("speech-seq2seq", _SPEECH),
    "Speech2TextForConditionalGeneration": ("speech-seq2seq", _SPEECH),
    "SpeechEncoderDecoderModel": ("speech-seq2seq", _SPEECH),
    "EncoderDecoderModel": ("", ""),
    "DoubleHeadsModel": ("", ""),
    "Model": ("", "feature-extraction"),
}
# peft's words.
_TASK_TYPES = {
    "SEQ_CLS": _HEADS["ForSequenceClassification"],
    "TOKEN_CLS": _HEADS["ForTokenClassification"],
    "QUESTION_ANS": _HEADS["ForQuestionAnswering"],
    "CAUSAL_LM": _HEADS["ForCausalLM"],
    "FEATURE_EXTRACTION": _HEADS["Model"],
}
# Architectures of GGUF that write no text (llama.cpp, gguf-py/gguf/constants.py).
_ENCODERS = ("bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "modern-bert", "t5encoder")
_NEITHER = ("t5", "clip", "whisper")


@dataclass(frozen=True)
class LoadResult:
    """What a model is that was made elsewhere; `dataclasses.asdict` of it is JSON."""

    form: str
    """safetensors, gguf or adapter."""
    architecture: str
    """As config.json, adapter_config.json or GGUF call it; empty where they do not."""
    task: str
    """As in `training.task`; empty where it is none of these, or nobody knows."""
    pipeline_tag: str
    """The Hub's word for what the model is used for; empty where it has none."""
    library: str
    """The Hub's word for what loads it."""
    parameters: int | None
    """Of the largest model of the folder; None where they are packed, so that no header tells."""
    numbers: Mapping[str, int]
    """How they are written, as the headers call it → how many are."""
    quantized: bool
    """Whether they were made coarser than floating numbers of 16 bits."""
    base: str
    """The Hub id of the model that an adapter belongs to; empty for whole models."""
    weights: Mapping[str, str]
    """File → SHA-256."""
    code: tuple[str, ...]
    """The files that ask whoever loads the model to run code that came with it."""
    left_out: tuple[str, ...]
    """Files that are not taken along."""
    unexamined: str
    """What nobody looked at, with the reason; empty for nothing."""


def load_model(
    source: Path,
    output: Path,
    watcher: Watcher = SILENT,
    *,
    bases: Collection[str] = (),
    code_waived: Collection[str] = (),
) -> LoadResult:
    """Copy the model at `source`, a folder or a .gguf file, into `output`, whole or not at all.

    Taken along are weights (safetensors, GGUF), and what configures the model and its tokenizer.
    Pickles and documents stay behind, code as well, unless each file that asks for it is among
    `code_waived`; even then it is never run here. `bases` are the Hub ids to which an adapter may
    belong.

    Raises:
        UnusableInput: there are no weights, or only in a pickle; they are damaged, hold NaN, or
            lack a tensor; a file asks for code to be run; an adapter belongs to another model.
    """
    if source.resolve().is_relative_to(output.resolve()):
        raise UnusableInput(
            f"{source}: is where the loaded model goes, so it would be overwritten",
            hint="Name another folder at load.path in release.yaml.",
        )
    root = source.parent if source.is_file() else source
    listed = [source.name] if source.is_file() else sorted(read_bundle(source).files)
    code = dict(custom_code(root, listed))
    if refused := sorted(code.keys() - set(code_waived)):
        raise UnusableInput(
            f"{source}: has code of its own run on loading, which the policy does not waive",
            problems=[Problem(path, 0, 0, code[path]) for path in refused],
            hint="Choose a model whose architecture is part of transformers, or have the policy's"
            " owner waive custom-code for each of these files.",
        )
    taken = [path for path in listed if _is_model_file(path, code=bool(code))]
    models = _models(root, taken, [path for path in listed if path not in taken])
    config = _json(root / CONFIG) if CONFIG in taken else {}
    adapter = _json(root / ADAPTER) if ADAPTER in taken else {}
    base = _base(root, adapter, bases) if adapter else ""
    tensors = max(models.values(), key=_parameters)
    form = "adapter" if adapter else _form(models)
    if form == "safetensors" and not config:
        raise UnusableInput(
            f"{root}: holds weights, and no {CONFIG} that says what model they are",
            hint="Get the whole model again.",
        )
    _check_finite(models.values(), watcher)
    unexamined = f"whether {_EVERY[form]}"
    if form == "safetensors":
        because = _incomplete(root, config, _parameters(tensors), has_code=bool(code))
        unexamined = f"{unexamined}: {because}" if because else ""
    with whole_folder(output) as folder:
        for path in taken:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / path, folder / path)
        is_weight = (SUFFIX, GGUF_SUFFIX)
        weights = {p: sha256_file(folder / p) for p in taken if p.endswith(is_weight)}
    numbers = Counter[str]()
    for tensor in tensors.values():
        numbers[tensor.dtype] += tensor.count
    architecture, task, tag = _told(root, config, adapter, models)
    packed = "quantization_config" in config
    by_sentence = _MODULES in taken and form == "safetensors"
    return LoadResult(
        form=form,
        architecture=architecture,
        task=task,
        pipeline_tag="sentence-similarity" if by_sentence else tag,
        library="sentence-transformers" if by_sentence else _LIBRARIES[form],
        parameters=None if packed else _parameters(tensors),
        numbers=dict(numbers.most_common()),
        quantized=packed or any(not (t.is_float or t.is_whole) for t in tensors.values()),
        base=base,
        weights=weights,
        code=tuple(sorted(code)),
        left_out=tuple(path for path in listed if path not in taken),
        unexamined=unexamined,
    )


_EVERY = {
    "safetensors": f"every tensor that {CONFIG} asks for is there",
    "gguf": "every tensor that the architecture asks for is there: only what runs GGUF can tell",
    "adapter": "every tensor of the adapter is there: only with its base can that be told",
}
_LIBRARIES = {"safetensors": "transformers", "gguf": "gguf", "adapter": "peft"}


def _is_model_file(path: str, *, code: bool) -> bool:
    name = path.rpartition("/")[2].lower()
    if path.startswith(".") or "/." in path or name == MANIFEST or name.startswith(_DOCUMENTS):
        return False
    if name.endswith(".index.json"):
        return name.endswith(INDEX_SUFFIX)
    return name.endswith((SUFFIX, GGUF_SUFFIX, *_FORMS)) or (code and name.endswith(".py"))


def _models(
    root: Path, taken: Sequence[str], rest: Sequence[str]
) -> dict[Path, Mapping[str, Tensor]]:
    """Return the tensors of each model, by its file or index."""
    files = [root / path for path in taken]
    models = [file for file, _ in weights_in(files)]
    found = {file: _tensors(file) for file in models}
    for parts in _splits(file for file in files if file.name.endswith(GGUF_SUFFIX)):
        found[parts[0]] = {name: one for part in parts for name, one in _tensors(part).items()}
    if found:
        return found
    if any(path.lower().endswith(_PICKLES) for path in rest):
        raise UnusableInput(
            f"{root}: holds its weights only as a pickle, which runs code when it is opened",
            hint="get the model.safetensors of this model, or convert it on a machine you can lose",
        )
    raise UnusableInput(
        f"{root}: holds no weights; there is no {SUFFIX} and no {GGUF_SUFFIX} file",
        hint="Correct the path in release.yaml, or get the whole model.",
    )


def _splits(files: Iterable[Path]) -> Iterator[list[Path]]:
    """Yield the files of each GGUF model, the first one first."""
    by_model: dict[tuple[Path, str], list[Path]] = {}
    for file in sorted(files):
        part = _SPLIT.fullmatch(file.name)
        by_model.setdefault((file.parent, part[1] + part[2] if part else file.name), []).append(
            file
        )
    for parts in by_model.values():
        part = _SPLIT.fullmatch(parts[0].name)
        if part and int(part[2]) != len(parts):
            raise UnusableInput(
                f"{parts[0]}: {len(parts)} of {int(part[2])} parts of this model are there",
                hint="Get the whole model again.",
            )
        yield parts


def _tensors(file: Path) -> Mapping[str, Tensor]:
    said = "its name is that of a shard, and no index lists it" if is_shard(file.name) else ""
    try:
        if file.name.endswith(GGUF_SUFFIX):
            return read_gguf_tensors(file)
        if not said:
            return read_weights(file).tensors
    except DamagedWeights as error:
        said = str(error)
    raise UnusableInput(f"{file}: {said}", hint="Get the file again, or save the model anew.")


def _form(models: Iterable[Path]) -> str:
    return "gguf" if all(file.name.endswith(GGUF_SUFFIX) for file in models) else "safetensors"


def _parameters(tensors: Mapping[str, Tensor]) -> int:
    # Whole numbers are positions and masks.
    return sum(tensor.count for tensor in tensors.values() if not tensor.is_whole)


def _check_finite(models: Iterable[Mapping[str, Tensor]], watcher: Watcher) -> None:
    """Refuse NaN; in what forms it is not looked for, the audit tells."""
    tensors = [tensor for model in models for tensor in model.values() if tensor.is_float]
    bad = []
    for number, tensor in enumerate(tensors):
        watcher.step("looking through", number, len(tensors))
        if any(has_no_number(block, tensor.dtype) for block in raw_blocks(tensor)):
            bad.append(tensor.file)
    watcher.step("looking through", len(tensors), len(tensors))
    if bad:
        raise UnusableInput(
            f"{bad[0]}: NaN or infinity stands in {len(bad)} tensors",
            hint="Get the model again; if it was cast to fewer bits, cast to a form with more.",
        )


def _incomplete(root: Path, config: Mapping[str, Any], parameters: int, *, has_code: bool) -> str:
    """Return why nobody can tell whether every tensor is there; raise where one is missing."""
    if has_code:
        return "the code of its own that tells is never run here"
    if "quantization_config" in config:
        return "its numbers are packed"
    if not all(map(importlib.util.find_spec, ("torch", "transformers"))):
        return "torch and transformers are not installed"
    if 4 * parameters > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2:
        return "the model does not fit into half of this machine's memory"
    import transformers

    architecture = _architecture(config)
    if not architecture or not hasattr(transformers, architecture):
        return f"transformers {transformers.__version__} does not know its architecture"
    with quiet():
        open_model(architecture, root, processor=None)
    return ""


def _architecture(config: Mapping[str, Any]) -> str:
    named = config.get("architectures")
    first = named[0] if isinstance(named, list) and named else ""
    # Cards show it as code.
    return first if isinstance(first, str) and first.isidentifier() else ""


def _told(
    root: Path,
    config: Mapping[str, Any],
    adapter: Mapping[str, Any],
    models: Mapping[Path, Mapping[str, Tensor]],
) -> tuple[str, str, str]:
    """Return architecture, task and the Hub's word for it."""
    if adapter:
        kind = str(adapter.get("peft_type", ""))
        return kind if kind.isidentifier() else "", *_TASK_TYPES.get(
            str(adapter.get("task_type")), ("", "")
        )
    if _form(models) == "gguf":
        largest = max(models, key=lambda file: _parameters(models[file]))
        name = str(read_gguf(largest, "general.architecture").get("general.architecture", ""))
        if not name.replace("-", "_").isidentifier():
            return "", "", ""
        if name in _ENCODERS:
            return name, *_HEADS["Model"]
        return (name, "", "") if name in _NEITHER else (name, *_HEADS["ForCausalLM"])
    architecture = _architecture(config)
    ends = (end for end in sorted(_HEADS, key=len, reverse=True) if architecture.endswith(end))
    end = next(ends, "")
    # A model of several parts, such as one of text and pictures, is for more than its features.
    parts = any(isinstance(part, dict) and "model_type" in part for part in config.values())
    if not end or (end == "Model" and parts):
        return architecture, "", ""
    return architecture, *_HEADS[end]


def _base(root: Path, adapter: Mapping[str, Any], bases: Collection[str]) -> str:
    base = adapter.get("base_model_name_or_path")
    if base not in bases:
        # What stands there may be a folder of somebody's machine.
        raise UnusableInput(
            f"{root / ADAPTER}: base_model_name_or_path is none of the base models of release.yaml",
            hint="Write there the id of the base that the lineage lists:"
            f" {', '.join(sorted(bases)[:_SHOWN]) or 'it lists none'}",
        )
    return str(base)


def _json(path: Path) -> dict[str, Any]:
    data: Any = None
    if path.stat().st_size <= _LARGEST:
        try:
            data = parse_json(path.read_bytes())
        except ValueError:
            data = None
    if not isinstance(data, dict):
        raise UnusableInput(f"{path}: is not a JSON object", hint="Get the file again.")
    return data
