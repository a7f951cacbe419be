"""Pictures: a transformer and a convolutional network learn real digits; bad pictures are told."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from release_kit.datasets.media import held_by
from release_kit.datasets.records import Record
from release_kit.errors import UnusableInput
from release_kit.release import TrainingPlan
from release_kit.training import pictures
from release_kit.training.evaluation import Evaluation, evaluate_model
from release_kit.training.fit import TrainingResult, fit
from release_kit.training.models import quiet
from release_kit.training.splits import split
from release_kit.training.tasks import image_classification as task
from release_kit.training.tasks import settled
from tests.tiny_models import tiny_resnet, tiny_vit
from tests.training.conftest import Watching
from tests.training.test_checkpoints import Stopped, Until, stop

_, PLAN = settled(
    TrainingPlan(
        task="image-classification",
        epochs=6,
        batch_size=16,
        learning_rate=5e-3,
        validation_share=0.15,
        test_share=0.25,
        seed=3,
    )
)


def png(picture: Image.Image, **how: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, **{"format": "PNG", **how})
    return stream.getvalue()


def digits(folder: Path, count: int, classes: int) -> list[Record]:
    """Return records of scanned digits (UCI, in scikit-learn): files, bytes and base64 by turns."""
    from sklearn.datasets import load_digits

    data = load_digits(n_class=classes)
    (folder / "scans").mkdir(parents=True)
    records = []
    for index in range(count):
        content = png(Image.fromarray((data.images[index] * 15.9).astype(np.uint8)))
        (folder / "scans" / f"{index}.png").write_bytes(content)
        ways: list[Any] = [
            f"scans/{index}.png",
            content,
            {"bytes": content, "path": "/nowhere.png"},
            {"bytes": base64.b64encode(content).decode(), "path": None},
            {"bytes": None, "path": f"scans/{index}.png"},
        ]
        fields = {"image": ways[index % len(ways)], "label": int(data.target[index])}
        records.append(Record(fields, str(folder / "digits.jsonl"), index + 1))
    return records


@dataclasses.dataclass(frozen=True)
class Run:
    base: Path
    model: Path
    records: list[Record]
    result: TrainingResult
    evaluation: Evaluation


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("pictures")
    base, records = tiny_resnet(folder / "base"), digits(folder, 260, 10)
    result = fit(PLAN, base, records, folder / "model")
    evaluation = evaluate_model(PLAN, folder / "model", records)
    return Run(base, folder / "model", records, result, evaluation)


def test_a_convolutional_network_learns_digits(run: Run) -> None:
    losses, figures = run.result.losses, run.evaluation.figures
    assert losses[-1].training_loss < 0.5 * losses[0].training_loss
    assert losses[-1].validation_loss < losses[0].validation_loss
    for name in ("accuracy", "macro_f1", "top5_accuracy"):
        assert figures[name].baseline is not None
        assert figures[name].value > figures[name].baseline + 0.3
    assert figures["calibration_error"].value < 0.6
    assert run.result.labels == tuple("0123456789")
    assert {path.name for path in run.model.iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }


def test_plain_transformers_gives_the_same_answers_and_figures(run: Run) -> None:
    from transformers import pipeline

    examples = task.read_examples(PLAN, run.records)
    splits = split(examples, PLAN)
    shown = [pictures.decode(example.content.read())[0] for example in splits.test]
    with quiet():
        classify = pipeline("image-classification", model=str(run.model), device="cpu")
        answers = classify(shown, top_k=5)
    true = [example.labels[0] for example in splits.test]
    best = np.mean([a[0]["label"] == t for a, t in zip(answers, true, strict=True)])
    five = np.mean([t in [o["label"] for o in a] for a, t in zip(answers, true, strict=True)])
    assert run.evaluation.figures["accuracy"].value == pytest.approx(best)
    assert run.evaluation.figures["top5_accuracy"].value == pytest.approx(five)
    frequent = sorted(set(true), key=lambda t: (-[e.labels[0] for e in splits.train].count(t), t))[
        :5
    ]
    assert run.evaluation.figures["top5_accuracy"].baseline == pytest.approx(
        np.mean([t in frequent for t in true])
    )


def test_a_vision_transformer_learns_digits_and_its_loss_is_the_formula(tmp_path: Path) -> None:
    import torch

    base, records = tiny_vit(tmp_path / "base"), digits(tmp_path, 150, 3)
    plan = dataclasses.replace(PLAN, learning_rate=1e-2)
    result = fit(plan, base, records, tmp_path / "model")
    evaluation = evaluate_model(plan, tmp_path / "model", records)
    assert result.losses[-1].training_loss < 0.7 * result.losses[0].training_loss
    assert evaluation.figures["accuracy"].value > (evaluation.figures["accuracy"].baseline or 1)
    # Of five answers out of three one is always right.
    assert "top5_accuracy" not in evaluation.figures

    loaded = task.load(plan, tmp_path / "model", None)
    examples = task.read_examples(plan, records)[:7]
    batch = task.collate(loaded, plan)(task.encode(loaded, examples, plan))
    assert batch["pixel_values"].shape == (7, 3, 16, 16)
    with torch.inference_mode():
        outputs = loaded.model.eval()(**batch)
    logits = outputs.logits.double()
    right = logits[range(7), batch["labels"]]
    by_hand = -(right - logits.exp().sum(dim=1).log()).mean()
    assert float(outputs.loss) == pytest.approx(float(by_hand), abs=1e-5)


@pytest.mark.slow
def test_cuts_are_drawn_by_seed_epoch_and_row_and_a_resume_draws_them_again(
    run: Run, tmp_path: Path
) -> None:
    plan = dataclasses.replace(PLAN, epochs=2, options={"augment": True})
    fit(plan, run.base, run.records, tmp_path / "whole")
    kept = tmp_path / "checkpoints"
    with pytest.raises(Stopped):
        fit(plan, run.base, run.records, tmp_path / "model", Until(14, stop), checkpoints=kept)
    # A changed picture is other data, though the record that names it is the same.
    scan = Path(run.records[0].source).parent / "scans" / "0.png"
    before, watching = scan.read_bytes(), Until(1, stop)
    scan.write_bytes(png(Image.new("L", (8, 8), 77)))
    with pytest.raises(Stopped):
        fit(plan, run.base, run.records, tmp_path / "m", watching, checkpoints=kept)
    assert any("not made with the same data" in line for line in watching.lines)
    scan.write_bytes(before)
    watching = Watching()
    fit(plan, run.base, run.records, tmp_path / "model", watching, checkpoints=kept)
    assert any("goes on from the checkpoint" in line for line in watching.lines)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "model")]
    assert weights[0] == weights[1]
    fit(dataclasses.replace(plan, options={}), run.base, run.records, tmp_path / "plain")
    assert (tmp_path / "plain" / "model.safetensors").read_bytes() != weights[0]


# What is decoded, and what is refused.

GREY = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))


def _rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return png(GREY, exif=exif)


def _palette() -> bytes:
    return png(GREY.convert("P"), transparency=b"\xff" * 256)


@pytest.mark.parametrize(
    ("content", "same"),
    [
        (png(GREY), GREY),
        (png(GREY.convert("RGB"), format="BMP"), GREY),
        (png(GREY.convert("CMYK"), format="TIFF"), GREY),
        (png(GREY.convert("RGBA")), GREY),
        (_palette(), GREY),
        (_rotated(), GREY.transpose(Image.Transpose.ROTATE_270)),
    ],
    ids=["grey", "bmp", "cmyk", "opaque", "palette", "exif"],
)
def test_pictures_are_what_a_pipeline_would_see(content: bytes, same: Image.Image) -> None:
    from transformers.image_utils import load_image

    found, wrong = pictures.decode(content)
    assert (wrong, found and found.mode) == ("", "RGB")
    assert found
    assert found.tobytes() == same.convert("RGB").tobytes()
    assert found.tobytes() == load_image(Image.open(io.BytesIO(content))).tobytes()


def _bomb() -> bytes:
    content = bytearray(png(Image.new("1", (8, 8))))
    import zlib

    content[16:24] = (1 << 20).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (png(GREY)[:-30], "damaged"),
        (png(Image.new("RGB", (64, 64), "red"), format="JPEG")[:400], "damaged"),
        (_bomb(), "pixels"),
        (png(Image.new("1", (8193, 8193))), "pixels"),
        (png(GREY, format="GIF", save_all=True, append_images=[GREY.rotate(90)]), "several frames"),
        (png(Image.fromarray(np.full((8, 8), 999, np.uint16))), "8 bits"),
        (png(Image.new("RGBA", (8, 8), (1, 2, 3, 128))), "transparent"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "no picture"),
        (b"", "no picture"),
    ],
    ids=["cut", "cut jpeg", "bomb", "large", "animated", "16 bits", "alpha", "eps", "empty"],
)
def test_a_bad_picture_is_told(content: bytes, wrong: str) -> None:
    picture, told = pictures.decode(content)
    assert picture is None
    assert wrong in told


def _link(folder: Path) -> str:
    (folder / "link.png").symlink_to(folder / "scans" / "0.png")
    return "link.png"


def _linked_folder(folder: Path) -> str:
    (folder / "other").symlink_to(folder / "scans")
    return "other/0.png"


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        (lambda folder: "../secret.png", "below the folder"),
        (lambda folder: str(folder / "scans" / "0.png"), "below the folder"),
        (lambda folder: "scans\\0.png", "below the folder"),
        (lambda folder: "C:/scans/0.png", "below the folder"),
        (lambda folder: "", "below the folder"),
        (lambda folder: "scans/0\0.png", "below the folder"),
        (_link, "a link"),
        (_linked_folder, "a link"),
        (lambda folder: "scans/Jane.png", "not there"),
        (lambda folder: "scans", "no regular file"),
        (lambda folder: 7, "neither a path nor bytes"),
        (lambda folder: {"bytes": None, "path": None}, "neither a path nor bytes"),
        (lambda folder: {"bytes": "no base64!"}, "not base64"),
        (lambda folder: b"", "no bytes"),
        (lambda folder: b"Jane", "no picture"),
    ],
)
def test_a_record_whose_picture_cannot_be_had_is_told_and_not_quoted(
    tmp_path: Path, value: Callable[[Path], Any], wrong: str
) -> None:
    records = digits(tmp_path, 6, 3)
    (tmp_path.parent / "secret.png").write_bytes(png(GREY))
    bad = {"image": value(tmp_path), "label": "a"}
    records += [
        Record(bad, str(tmp_path / "digits.jsonl"), 7),
        Record({"label": 1}, str(tmp_path / "digits.jsonl"), 8),
        Record({"image": "scans/0.png", "label": None}, str(tmp_path / "digits.jsonl"), 9),
    ]
    with pytest.raises(UnusableInput, match="3 records of 9") as caught:
        task.read_examples(PLAN, records)
    one, two, three = caught.value.problems
    assert [problem.line for problem in caught.value.problems] == [7, 8, 9]
    assert wrong in one.message
    assert "Jane" not in str(one)
    assert "no field 'image'" in two.message
    assert "label" in three.message


def test_one_class_and_unknown_labels_are_told(run: Run) -> None:
    same = [dataclasses.replace(r, fields={**r.fields, "label": 1}) for r in run.records[:9]]
    with pytest.raises(UnusableInput, match="the same label"):
        task.read_examples(PLAN, same)
    strange = dataclasses.replace(run.records[4], fields={**run.records[4].fields, "label": "x"})
    with pytest.raises(UnusableInput, match="label of 1 of") as caught:
        evaluate_model(PLAN, run.model, [*run.records[:4], strange])
    assert [problem.line for problem in caught.value.problems] == [5]


def test_a_picture_that_changes_during_the_work_stops_it(tmp_path: Path) -> None:
    (example, *_) = task.read_examples(PLAN, digits(tmp_path, 6, 3))
    (tmp_path / "scans" / "0.png").write_bytes(png(GREY))
    with pytest.raises(UnusableInput, match="changed or taken away"):
        example.content.read()


def test_the_digest_binds_files_and_what_stands_in_records(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    digits(tmp_path / "data", 3, 3)
    content = png(GREY)
    table = pa.table(
        {
            "image": [
                {"bytes": content, "path": "a.png"},
                {"bytes": None, "path": "scans/1.png"},
                {"bytes": None, "path": "../x"},
            ],
            "label": [1, 2, 1],
        }
    )
    pq.write_table(table, tmp_path / "copy.parquet")

    def held() -> Any:
        return held_by(tmp_path / "copy.parquet", {"image": "image"}, tmp_path / "data")

    first = held()
    assert (first.kinds, first.embedded, first.files, first.unusable) == (("image",), 1, 1, 1)
    assert held() == first
    (tmp_path / "data" / "scans" / "1.png").write_bytes(content)
    assert held().digest != first.digest
