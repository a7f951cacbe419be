"""A model that was made elsewhere: what is taken along, what is told of it, what is refused."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from release_kit.errors import UnusableInput
from release_kit.training.loading import LoadResult, load_model
from release_kit.weight_files import DamagedWeights, read_gguf_layout
from tests.bundles import save_shards, save_tensors, tensors_of, write_gguf
from tests.tiny_models import tiny_bert


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("made") / "model")


@pytest.fixture
def model(bert: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bert, tmp_path / "model"))


def taken(source: Path, output: Path, **more: object) -> tuple[LoadResult, list[str]]:
    result = load_model(source, output, **more)  # type: ignore[arg-type]
    files = (path for path in output.rglob("*") if path.is_file())
    return result, sorted(path.relative_to(output).as_posix() for path in files)


def said(file: Path, **words: object) -> None:
    data = json.loads(file.read_bytes()) if file.exists() else {}
    file.write_text(json.dumps({**data, **words}), encoding="utf-8")


def test_a_model_is_taken_along_with_what_loads_it_alone(model: Path, tmp_path: Path) -> None:
    for name in ("LICENSE", "README.md", ".gitattributes", "modeling_own.py", "notes.docx"):
        (model / name).write_text("of no use", encoding="utf-8")
    (model / "pytorch_model.bin").write_bytes(pickle.dumps({"w": 1}))
    (model / "pytorch_model.bin.index.json").write_text("{}", encoding="utf-8")
    (model / "1_Pooling").mkdir()
    (model / "1_Pooling" / "config.json").write_text("{}", encoding="utf-8")
    result, files = taken(model, tmp_path / "out")
    assert files == [
        "1_Pooling/config.json",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert len(result.left_out) == 7
    assert "pytorch_model.bin" in result.left_out
    tensors = tensors_of(model / "model.safetensors")
    assert result.parameters == sum(array.size for array in tensors.values())
    assert (result.form, result.architecture, result.task, result.pipeline_tag, result.library) == (
        "safetensors",
        "BertModel",
        "",
        "feature-extraction",
        "transformers",
    )
    assert (result.numbers, result.quantized) == ({"F32": result.parameters}, False)
    # transformers opened it and missed nothing.
    assert result.unexamined == ""


def test_shards_are_one_model(model: Path, tmp_path: Path) -> None:
    whole, _ = taken(model, tmp_path / "whole")
    save_shards(model, tensors_of(model / "model.safetensors"))
    result, files = taken(model, tmp_path / "out")
    assert result.parameters == whole.parameters
    assert len(result.weights) == 2
    assert "model.safetensors.index.json" in files
    (model / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UnusableInput, match=r"index\.json: a shard that the index names"):
        load_model(model, tmp_path / "out")
    (model / "model.safetensors.index.json").unlink()
    with pytest.raises(UnusableInput, match="no index lists it"):
        load_model(model, tmp_path / "out")
    # What was there stays whole.
    assert len(list((tmp_path / "out").glob("model-*"))) == 2


def _without_a_tensor(model: Path) -> None:
    file = model / "model.safetensors"
    tensors = tensors_of(file)
    del tensors["encoder.layer.1.output.dense.weight"]
    save_tensors(file, tensors)


def _with_nan(model: Path) -> None:
    file = model / "model.safetensors"
    tensors = tensors_of(file)
    tensors["embeddings.word_embeddings.weight"][3, 4] = np.nan
    save_tensors(file, tensors)


def _truncated(model: Path) -> None:
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])


def _only_a_pickle(model: Path) -> None:
    (model / "model.safetensors").rename(model / "model.bin")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_without_a_tensor, r"tensors are missing.*layer\.1\.output\.dense\.weight"),
        (_with_nan, "NaN or infinity stands in 1 tensor"),
        (_truncated, "do not cover the file exactly"),
        (_only_a_pickle, "only as a pickle"),
        (lambda model: (model / "model.safetensors").unlink(), "holds no weights"),
        (lambda model: (model / "config.json").unlink(), "no config.json"),
        (lambda model: (model / "config.json").write_text("[1]"), "is not a JSON object"),
        (lambda model: said(model / "config.json", auto_map={"A": "b.C"}), "code of its own"),
        (lambda model: said(model / "config.json", part={"auto_map": {"A": "b.C"}}), "its own"),
        (lambda model: said(model / "tokenizer_config.json", auto_map={"A": "b.C"}), "its own"),
        (lambda model: (model / "processor_config.json").write_text("{"), "code of its own"),
        (lambda model: (model / "modules.json").write_text('[{"type": "own.M"}]'), "its own"),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_is_written(
    damage: Callable[[Path], object], told: str, model: Path, tmp_path: Path
) -> None:
    damage(model)
    with pytest.raises(UnusableInput, match=told) as caught:
        load_model(model, tmp_path / "out")
    assert caught.value.hint
    assert not (tmp_path / "out").exists()


def test_code_of_its_own_is_taken_where_it_is_waived_and_never_run(
    model: Path, tmp_path: Path
) -> None:
    (model / "own.py").write_text("raise SystemExit('it was run')\n", encoding="utf-8")
    said(model / "config.json", auto_map={"AutoModel": "own.Own", "AutoConfig": "own.Config"})
    with pytest.raises(UnusableInput, match="code of its own") as caught:
        load_model(model, tmp_path / "out", code_waived={"tokenizer_config.json"})
    assert [problem.path for problem in caught.value.problems] == ["config.json"]
    result, files = taken(model, tmp_path / "out", code_waived={"config.json"})
    assert "own.py" in files
    assert result.code == ("config.json",)
    assert "never run here" in result.unexamined


def test_an_unknown_architecture_is_not_called_whole(model: Path, tmp_path: Path) -> None:
    said(model / "config.json", architectures=["HearthForCausalLM"])
    result, _ = taken(model, tmp_path / "out")
    assert (result.task, result.pipeline_tag) == ("causal-lm", "text-generation")
    assert "does not know its architecture" in result.unexamined


def test_packed_numbers_are_not_counted_as_parameters(model: Path, tmp_path: Path) -> None:
    said(model / "config.json", quantization_config={"quant_method": "gptq"})
    result, _ = taken(model, tmp_path / "out")
    assert (result.parameters, result.quantized) == (None, True)
    assert "packed" in result.unexamined


def test_gguf_is_taken_as_it_is(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "tiny.gguf")
    (tmp_path / "beside.json").write_text("{}", encoding="utf-8")
    result, files = taken(file, tmp_path / "out")
    assert files == ["tiny.gguf"]
    assert (tmp_path / "out/tiny.gguf").read_bytes() == file.read_bytes()
    assert (result.form, result.architecture, result.task) == ("gguf", "llama", "causal-lm")
    assert (result.library, result.pipeline_tag) == ("gguf", "text-generation")
    assert result.numbers == {"F32": 256, "Q8_0": 256}
    assert (result.parameters, result.quantized) == (512, True)
    assert "only what runs GGUF can tell" in result.unexamined


def test_parts_of_a_gguf_model_are_one_model(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for number in (1, 2):
        matrix = f"blk.{number}.weight"
        write_gguf(folder / f"tiny-0000{number}-of-00002.gguf", tensor=matrix)
    result, _ = taken(folder, tmp_path / "out")
    # One matrix has the same name in both.
    assert (result.parameters, len(result.weights)) == (3 * 256, 2)
    (folder / "tiny-00002-of-00002.gguf").unlink()
    with pytest.raises(UnusableInput, match="1 of 2 parts"):
        load_model(folder, tmp_path / "out")


def test_gguf_layout_is_that_of_its_own_reader(tmp_path: Path) -> None:
    import gguf

    file = write_gguf(tmp_path / "tiny.gguf")
    theirs = gguf.GGUFReader(file).tensors
    assert [(t.name, t.kind, t.shape, t.start, t.size) for t in read_gguf_layout(file)] == [
        (t.name, t.tensor_type.name, tuple(map(int, t.shape)), t.data_offset, t.n_bytes)
        for t in theirs
    ]
    known = {kind: (*sizes,) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    from release_kit.weight_files import _GGML

    assert {number: sizes[1:] for number, sizes in _GGML.items()} == {
        int(kind): known[kind] for kind in known
    }


def test_gguf_cut_anywhere_is_damaged(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "tiny.gguf")
    raw = file.read_bytes()
    last = max(tensor.start + tensor.size for tensor in read_gguf_layout(file))
    for length in [*range(0, len(raw) - 1100, 7), last - 1]:
        file.write_bytes(raw[:length])
        with pytest.raises(DamagedWeights):
            read_gguf_layout(file)
    with pytest.raises(UnusableInput, match=r"tiny\.gguf: a tensor reaches beyond"):
        load_model(file, tmp_path / "out")


def test_an_adapter_belongs_to_a_listed_base(bert: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import BertForSequenceClassification

    base = BertForSequenceClassification.from_pretrained(bert)
    folder = tmp_path / "adapter"
    get_peft_model(base, LoraConfig(task_type="SEQ_CLS", r=2)).save_pretrained(folder)
    # peft writes where the base lies on this machine.
    with pytest.raises(UnusableInput, match="none of the base models") as caught:
        load_model(folder, tmp_path / "out", bases=["acme/tiny-bert"])
    assert str(bert) not in f"{caught.value}{caught.value.hint}"
    said(folder / "adapter_config.json", base_model_name_or_path="acme/tiny-bert")
    result, files = taken(folder, tmp_path / "out", bases=["acme/tiny-bert"])
    assert files == ["adapter_config.json", "adapter_model.safetensors"]
    assert (result.form, result.base, result.library) == ("adapter", "acme/tiny-bert", "peft")
    assert (result.architecture, result.pipeline_tag) == ("LORA", "text-classification")
    assert "with its base" in result.unexamined


def test_a_model_is_not_loaded_over_itself(model: Path) -> None:
    with pytest.raises(UnusableInput, match="would be overwritten"):
        load_model(model, model)
