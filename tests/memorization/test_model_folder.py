"""What a model folder gives away: each measure fires, stays silent, says what it cannot tell."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from release_kit.errors import UnusableInput
from release_kit.leak_measures import FOLDER_MEASURES, MEASURES_OF
from release_kit.memorization.model_folder import _ROWS, _copied, load_leftovers, measure_folder
from release_kit.memorization.probes import Found, Reading
from release_kit.progress import SILENT
from release_kit.release import TrainingPlan
from release_kit.training.models import quiet, save_model
from release_kit.training.tasks import settled
from release_kit.training.tasks.sequential_recommendation import load
from tests.tiny_models import tiny_bert, tiny_gpt2_form, tiny_vit

# Of a domain for tests, of a country's range for fiction, and a shape without a key behind it.
EMAIL, PHONE = "ada.lovelace@example.com", "+44 20 7946 0958"
SECRET = "ghp_" + "0123456789abcdefghij" * 2
VALUES = (EMAIL, PHONE, SECRET, EMAIL.upper())
TOKENS, NAMES, COPIES = "tokens_with_personal_data", "names_with_personal_data", "embedding_copies"


def read(found: Found) -> dict[str, Reading]:
    """Return the readings by measure, after a look that nothing is quoted."""
    told = json.dumps(asdict(found)).casefold()
    assert not [value for value in VALUES if value.casefold() in told]
    assert not {reading.measure for reading in found.readings} & set(found.not_measured)
    return {reading.measure: reading for reading in found.readings}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("models") / "bert")


def _copy(base: Path, folder: Path) -> Path:
    return shutil.copytree(base, folder / "model")


def _change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values), encoding="utf-8")


def test_a_model_that_added_nothing_has_nothing(base: Path, tmp_path: Path) -> None:
    model = _copy(base, tmp_path)
    found = measure_folder(model, base)
    readings = read(found)
    assert set(readings) == set(FOLDER_MEASURES)
    assert {(one.value, one.low, one.high) for one in readings.values()} == {(0, 0, 0)}
    assert (readings[TOKENS].of, found.notes, found.not_measured) == (0, (), {})
    # Of pictures there is no tokenizer: nothing could be in it.
    picture = read(measure_folder(tiny_vit(tmp_path / "vit"), None))
    assert (picture[TOKENS].of, picture[TOKENS].high) == (0, 0)


def test_added_tokens_and_labels_are_searched(base: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    model = _copy(base, tmp_path)
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(model)
        # A placeholder of redaction and a year are nobody's data.
        tokenizer.add_tokens([EMAIL, SECRET, "<EMAIL_ADDRESS>", "1640", "whisked"])
        tokenizer.save_pretrained(model)
    _change(model / "config.json", id2label={"0": PHONE, "1": "weather"})
    readings = read(measure_folder(model, base))
    assert (readings[TOKENS].low, readings[TOKENS].high, readings[TOKENS].of) == (2, 2, 5)
    assert (readings[NAMES].value, readings[NAMES].of) == (1, 2)
    assert "nothing looked for PERSON" in readings[NAMES].how

    # Without the base's tokenizer nobody knows whose tokens they are: the most is what counts.
    alone = read(measure_folder(model, None))[TOKENS]
    assert (alone.value, alone.low, alone.high) == (2, 0, 2)
    assert alone.of > 100 and "not at hand" in alone.how

    # The same without tokenizer.json, as transformers opens it.
    (model / "tokenizer.json").unlink()
    words = [*(f"w{n}" for n in range(20)), EMAIL]
    (model / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", *words]), encoding="utf-8")
    (model / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    assert read(measure_folder(model, base))[TOKENS].value == 1


def test_pieces_of_a_tokenizer_that_was_trained_on_the_data_are_searched(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    form = tiny_gpt2_form(tmp_path / "form")
    for folder, again in (("clean", 1), ("model", 40)):
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(use_regex=False)]
        )
        texts = ["the oven and the flour"] * 40 + [
            f"write to jürgen@exämple.com and {EMAIL}"
        ] * again
        trainer = trainers.BpeTrainer(min_frequency=5, show_progress=False)
        tokenizer.train_from_iterator(texts, trainer)
        (tmp_path / folder).mkdir()
        tokenizer.save(str(tmp_path / folder / "tokenizer.json"))
    assert read(measure_folder(tmp_path / "clean", form))[TOKENS].value == 0
    assert read(measure_folder(tmp_path / "model", form))[TOKENS].value >= 1


def test_tokens_and_labels_in_gguf_are_searched(tmp_path: Path) -> None:
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["▁oven", "▁" + PHONE, EMAIL])
    writer.add_array("bert.classifier.output_labels", ["weather", EMAIL])
    writer.add_tensor("output.weight", np.ones((2, 2), "f4"))
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file):
        write()
    writer.write_tensors_to_file()
    writer.close()
    readings = read(measure_folder(tmp_path, None))
    assert (readings[TOKENS].value, readings[TOKENS].of) == (2, 3)
    assert (readings[NAMES].value, readings[NAMES].of) == (1, 2)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    assert set(measure_folder(tmp_path, None).not_measured) == {TOKENS, NAMES}


@pytest.mark.parametrize(
    ("name", "content", "missing"),
    [
        ("tokenizer.json", "{", TOKENS),
        ("tokenizer.json", json.dumps({"model": {"vocab": {}}, "added_tokens": [EMAIL]}), TOKENS),
        (
            "tokenizer.json",
            json.dumps({"model": {"vocab": [[1, EMAIL]]}, "added_tokens": []}),
            TOKENS,
        ),
        ("tokenizer_config.json", json.dumps({"added_tokens_decoder": {"7": EMAIL}}), TOKENS),
        ("old/spiece.model", EMAIL, TOKENS),
        ("config.json", f'"{EMAIL}', NAMES),
        ("part/config.json", "[]", NAMES),
    ],
)
def test_what_cannot_be_read_is_not_measured(
    base: Path, tmp_path: Path, name: str, content: str, missing: str
) -> None:
    model = _copy(base, tmp_path)
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text(content, encoding="utf-8")
    found = measure_folder(model, base)
    assert set(found.not_measured) == {missing}
    assert set(read(found)) == set(FOLDER_MEASURES) - {missing}


def test_an_adapter_is_looked_through_as_well(base: Path, tmp_path: Path) -> None:
    model = tmp_path / "adapter"
    model.mkdir()
    (model / "adapter_config.json").write_text("{}")
    shutil.copy(base / "tokenizer.json", model)
    assert set(read(measure_folder(model, base))) == set(FOLDER_MEASURES)


def test_no_folder_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(UnusableInput, match="cannot be read as a model folder") as refused:
        measure_folder(tmp_path / "none", None)
    assert refused.value.__context__ is None


# Recommenders.


def _recommender(folder: Path, items: tuple[str, ...]) -> Any:
    plan = TrainingPlan(task="sequential-recommendation", seed=3, options={"start": "scratch"})
    _, plan = settled(plan)
    return load(plan, tiny_gpt2_form(folder / "form"), items)


def test_items_are_searched_and_rows_compared(tmp_path: Path) -> None:
    import torch

    items = (*(f"shop/{number}" for number in range(17)), EMAIL)
    task = "sequential-recommendation"
    loaded = _recommender(tmp_path, items)
    rows = loaded.model.get_input_embeddings().weight
    save_model(loaded, tmp_path / "base")
    with torch.no_grad():
        rows += 0.01 * torch.randn(rows.shape, generator=torch.Generator().manual_seed(1))
        rows[:2] = 1.0  # padding and unknown
        rows[9] = 2 * rows[5]  # of one direction: only one is the more popular
        rows[12] = rows[5] + 1e-4
    save_model(loaded, tmp_path / "model")
    found = measure_folder(tmp_path / "model", None, task=task)
    readings = read(found)
    assert set(readings) | set(found.not_measured) >= {*FOLDER_MEASURES, COPIES}
    assert (readings[COPIES].value, readings[COPIES].of) == (3 / 18, 18)
    assert readings[COPIES].low == readings[COPIES].high == 3 / 18
    assert (readings[NAMES].value, readings[NAMES].of) == (1, 20)
    assert COPIES in MEASURES_OF[task]
    assert COPIES not in read(measure_folder(tmp_path / "model", None))

    # Rows that are still the base's were never trained: two of them say nothing.
    with torch.no_grad():
        rows[3] = rows[4] = rows[6]
    save_model(loaded, tmp_path / "base")
    with torch.no_grad():
        rows[5], rows[9], rows[12] = torch.eye(32)[:3]
    save_model(loaded, tmp_path / "model")
    silent = measure_folder(tmp_path / "model", tmp_path / "base", task=task)
    assert (read(silent)[COPIES].value, read(silent)[COPIES].of) == (0, 3)
    assert read(measure_folder(tmp_path / "model", None, task=task))[COPIES].value == 3 / 18

    untrained = measure_folder(tmp_path / "model", tmp_path / "model", task=task)
    assert "trained rows" in untrained.not_measured[COPIES]
    with torch.no_grad():
        rows[5, 0] = float("nan")
    save_model(loaded, tmp_path / "model")
    broken = measure_folder(tmp_path / "model", None, task=task)
    assert "NaN" in broken.not_measured[COPIES]
    (tmp_path / "model/model.safetensors").write_bytes(b"none")
    damaged = measure_folder(tmp_path / "model", None, task=task)
    assert "cannot be read" in damaged.not_measured[COPIES]


@pytest.mark.parametrize("width", [1, 3, 16])
def test_every_copy_is_found_in_any_order(width: int) -> None:
    draw = np.random.default_rng(width)
    rows = draw.normal(size=(2 * _ROWS + 300, width)).astype("f4")
    rows[draw.permutation(len(rows))[:700]] *= 5
    near = draw.permutation(len(rows))[:400]
    rows[near[:200]] = 3 * rows[near[200:]] + draw.normal(scale=1e-3, size=(200, width))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, 0)
    assert _copied(rows, SILENT) == pytest.approx((cosines > 0.999).any(axis=1).mean(), abs=1e-3)


# Files beside the weights.


def test_files_that_training_leaves_are_counted_by_kind(base: Path, tmp_path: Path) -> None:
    model = _copy(base, tmp_path)
    names = [
        "trainer_state.json",
        "OPTIMIZER.pt",
        f"checkpoint-{EMAIL}/model.safetensors",
        f"checkpoint-7/{EMAIL}.txt",
        "events.out.tfevents.1.ada",
        f"deep/in/wandb/run/{EMAIL}",
        f"{EMAIL}.ipynb",
    ]
    for name in names:
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_text("x", encoding="utf-8")
    (model / "mlruns").symlink_to(tmp_path)
    found = measure_folder(model, base)
    reading = read(found)["stray_files"]
    assert (reading.value, reading.low, reading.high) == (8, 8, 8)
    said = " ".join(found.notes)
    assert "2 × checkpoint-*/" in said and "1 × wandb/" in said and "1 × mlruns/" in said


def test_leftovers_are_policy(tmp_path: Path) -> None:
    kinds = load_leftovers()
    assert len({kind.pattern for kind in kinds}) == len(kinds) > 30
    harmless = ("model.safetensors", "config.json", "tokenizer.json", "vocab.txt", "README.md")
    harmless += ("generation_config.json", "model-00001-of-00002.safetensors", "merges.txt")
    assert not [kind for kind in kinds for name in harmless if kind.fits((), name)]
    own = tmp_path / "own.yaml"
    own.write_text("leftovers:\n- {pattern: a/b, what: it, tells: much}\n", encoding="utf-8")
    with pytest.raises(UnusableInput):
        load_leftovers(own)
