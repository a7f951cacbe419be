"""Which numbers of a model are trained, and what becomes of an adapter (peft) afterwards."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from release_kit.errors import UnusableInput
from release_kit.files import json_bytes
from release_kit.release import Method, TrainingPlan
from release_kit.training.models import Loaded, save_model, save_processor
from release_kit.training.splits import Splits
from release_kit.training.tasks.task import Task
from release_kit.weight_files import read_safetensors

ADAPTER_FILE = "adapter_config.json"
_FULL = "full"
_RANKLESS = "ia3"
# Where a model trained as an adapter keeps its labels, since adapter_config.json has no place.
_CONFIG = "config.json"


def is_adapter(plan: TrainingPlan) -> bool:
    """Tell whether the training ends with an adapter instead of whole weights."""
    return plan.method.kind != _FULL and plan.method.ship == "adapter"


def prepared(plan: TrainingPlan, loaded: Loaded) -> Loaded:
    """Freeze what is not to be trained, and put the adapter in place.

    With an adapter (LoRA, Hu et al. 2021: W x becomes W x + (alpha / rank) B A x, with A of shape
    (rank, inputs), B of shape (outputs, rank) and W fixed) the tensors that the base lacked, such
    as a new head, are trained as a whole.

    Raises:
        UnusableInput: a pattern of `freeze` or a target names nothing, or nothing is left to
            train.
    """
    model = loaded.model
    if plan.method.kind != _FULL:
        if plan.freeze:
            raise UnusableInput(
                "training.freeze has no meaning with an adapter, which leaves all weights alone",
                hint="Remove freeze or method from release.yaml.",
            )
        return replace(loaded, model=_with_adapter(plan.method, loaded))
    names = [name for name, _ in model.named_parameters()]
    for pattern in plan.freeze:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UnusableInput(
                f"training.freeze: no tensor of the model is called like '{pattern}'",
                hint="its first tensors are " + ", ".join(names[:5]),
            )
    for name, parameter in model.named_parameters():
        if any(fnmatchcase(name, pattern) for pattern in plan.freeze):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UnusableInput(
            "training.freeze leaves nothing to train", hint="Take patterns out of release.yaml."
        )
    return loaded


def _with_adapter(method: Method, loaded: Loaded) -> Any:
    from peft import IA3Config, LoHaConfig, LoraConfig, get_peft_model

    new = sorted({name.rpartition(".")[0] for name in loaded.new_tensors} - {""})
    common = {
        "target_modules": list(method.targets) or _linear(loaded, new),
        "modules_to_save": new or None,
    }
    if method.kind == _RANKLESS:
        config: Any = IA3Config(feedforward_modules=[], **common)
    elif method.kind == "loha":
        config = LoHaConfig(
            r=method.rank, alpha=method.alpha, module_dropout=method.dropout, **common
        )
    else:
        config = LoraConfig(
            r=method.rank,
            lora_alpha=method.alpha,
            lora_dropout=method.dropout,
            use_dora=method.kind == "dora",
            # GPT-2 keeps its linear maps transposed; peft finds that out and says so.
            fan_in_fan_out=_transposed(loaded.model),
            **common,
        )
    said = ""
    try:
        return get_peft_model(loaded.model, config)
    except ValueError as error:
        said = str(error).splitlines()[0]
    raise UnusableInput(
        f"training.method.targets: {said}", hint="Name modules that the base model has."
    )


def _linear(loaded: Loaded, new: list[str]) -> list[str]:
    """Return the full names of all linear maps but the head, which is trained or kept whole."""
    import torch
    from transformers.pytorch_utils import Conv1D

    head = loaded.model.get_output_embeddings()
    return [
        name
        for name, module in loaded.model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D)
        and module is not head
        and not any(name == one or name.startswith(f"{one}.") for one in new)
    ]


def _transposed(model: Any) -> bool:
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(module, Conv1D) for module in model.modules())


def finished(plan: TrainingPlan, loaded: Loaded) -> Loaded:
    """Return the model as it is saved: an adapter is merged where the plan says so."""
    if plan.method.kind == _FULL or is_adapter(plan):
        return loaded
    import torch

    model = loaded.model.merge_and_unload()
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    # A head that was trained apart is no longer the embeddings' twin, and must not be loaded so.
    tied = outputs is not None and getattr(model.config, "tie_word_embeddings", False)
    if tied and not torch.equal(inputs.weight, outputs.weight):
        model.config.tie_word_embeddings = False
    return replace(loaded, model=model)


def save(plan: TrainingPlan, loaded: Loaded, folder: Path, base_id: str, revision: str) -> None:
    """Write the whole model, or the adapter with the Hub id of its base, into `folder`.

    Raises:
        OSError: `folder` cannot be written.
        SafetensorError: the weights cannot be written.
    """
    if not is_adapter(plan):
        save_model(loaded, folder)
        return
    model = loaded.model
    for config in model.peft_config.values():
        # peft would write where the base lies on this machine.
        config.base_model_name_or_path = base_id
        config.revision = revision or None
        config.inference_mode = True
    model.base_model.model.config.name_or_path = ""
    model.save_pretrained(folder)
    # A card of its own, and not the one of this release.
    (folder / "README.md").unlink(missing_ok=True)
    kept = json.loads((folder / ADAPTER_FILE).read_bytes())
    # Sets come in another order each time.
    for name, value in kept.items():
        if isinstance(value, list):
            kept[name] = sorted(value, key=str)
    (folder / ADAPTER_FILE).write_bytes(json_bytes(kept))
    labels = {str(number): label for number, label in enumerate(loaded.labels)}
    (folder / _CONFIG).write_bytes(
        json_bytes({**model.base_model.model.config.to_diff_dict(), "id2label": labels})
    )
    save_processor(loaded, folder)
    for file in folder.iterdir():
        file.chmod(0o644)


def open_trained(task: Task, plan: TrainingPlan, folder: Path, base: Path | None) -> Loaded:
    """Load a model that was trained here; an adapter is put into its base and merged.

    Raises:
        UnusableInput: the folder cannot be used, or it is an adapter and there is no base.
    """
    if not (folder / ADAPTER_FILE).is_file():
        return task.load(plan, folder, None)
    if base is None:
        raise UnusableInput(
            f"{folder}: is an adapter, and its base model is not at hand",
            hint="Write path at the base model in release.yaml.",
        )
    from peft import PeftModel

    names = json.loads((folder / _CONFIG).read_bytes()).get("id2label", {})
    labels = tuple(str(names[str(number)]) for number in range(len(names)))
    loaded = task.load(plan, base, labels)
    held = read_safetensors(folder / "adapter_model.safetensors").tensors
    if lacking := [name for name in loaded.new_tensors if f"base_model.model.{name}" not in held]:
        raise UnusableInput(f"{folder}: the adapter lacks {', '.join(lacking[:5])}")
    model = PeftModel.from_pretrained(loaded.model, str(folder), local_files_only=True)
    return replace(loaded, model=model.merge_and_unload(), new_tensors=())


def weighted_loss(
    task: Task, plan: TrainingPlan, loaded: Loaded, splits: Splits
) -> Callable[..., Any] | None:
    """Return the cross entropy in which classes weigh as the plan says; None for all alike.

    With weights w, of shape (classes,), logits z, (batch, classes), and classes y, (batch,):

        L = -(1 / batch) * sum_i w[y_i] log p(y_i | x_i)

    Balanced weights are examples / (classes * examples of the class), as in scikit-learn.

    Raises:
        UnusableInput: a weight is for a label that does not occur, or a label has none.
    """
    if not plan.class_weights and not plan.balance_classes:
        return None
    if not task.weighs_classes:
        raise UnusableInput(
            f"training.class_weights: the task {plan.task} does not give each record one class",
            hint="Remove class_weights from release.yaml.",
        )
    if plan.class_weights and plan.balance_classes:
        raise UnusableInput(
            "training: class_weights and balance_classes say how classes weigh, each in its way",
            hint="Keep one of them in release.yaml.",
        )
    weights = _weights(plan.class_weights, loaded.labels, splits)
    import torch

    tensor = torch.tensor([weights[label] for label in loaded.labels], dtype=torch.float32)

    def loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        weighed = torch.nn.functional.cross_entropy(
            outputs.logits.float(),
            labels,
            weight=tensor.to(outputs.logits.device),
            reduction="sum",
        )
        # The Trainer counts the rows of all parts of an update; a validation has none.
        return weighed / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    return loss


def _weights(
    said: Mapping[str, float], labels: tuple[str, ...], splits: Splits
) -> Mapping[str, float]:
    if said:
        if wrong := sorted(set(said) ^ set(labels)):
            raise UnusableInput(
                f"training.class_weights: '{wrong[0]}' "
                + ("is no label of the data" if wrong[0] in said else "has no weight"),
                hint="Give one weight for each of " + ", ".join(labels),
            )
        return said
    counts = Counter(label for example in splits.train for label in example.labels)
    total = math.fsum(counts.values())
    return {label: total / (len(labels) * counts[label]) for label in labels}
