"""A release without training, from release.yaml to the verdict."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

import release_kit
from release_kit.auditing.findings import Report, Verdict
from release_kit.errors import UnusableInput
from release_kit.project import open_project
from tests.bundles import (
    bundle,
    day,
    loaded,
    save_tensors,
    tensors_of,
    waiver,
    write_gguf,
)
from tests.conftest import Run
from tests.projects import edit

NOTHING_PERSONAL = ("personal_data: removed", "personal_data: none")
UNKNOWN_MEMBERS = ("leaks-unmeasured", "members-told+members-told-at-few-false-alarms")


def told(report: Report) -> set[tuple[str, str]]:
    return {(finding.rule, finding.clause) for finding in report.findings}


def apart_from_leaks(report: Report) -> set[tuple[str, str]]:
    """Return what was found besides that nobody knows what the model keeps of its data."""
    found = told(report)
    unknown = {(rule, clause) for rule, clause in found if rule == "leaks-unmeasured"}
    assert len(unknown) == 1
    return found - unknown


def elsewhere(project: Path, path: str, *changes: tuple[str, str]) -> None:
    """Release what lies at `path` instead of training."""
    text = (project / "release.yaml").read_text(encoding="utf-8")
    training = text[text.index("training:") : text.index("documents:")]
    edit(project / "release.yaml", training, f"load: {{path: {path}}}\n")
    for old, new in (NOTHING_PERSONAL, *changes):
        edit(project / "release.yaml", old, new)
    release_kit.load(project)
    release_kit.leaks(project)
    release_kit.build(project)


def test_a_base_passed_on_as_it_is_passes_and_claims_no_figures(project: Path) -> None:
    loaded(project, NOTHING_PERSONAL)
    report = release_kit.audit(project)
    assert (report.findings, report.verdict) == ((), Verdict.PASS)
    unseen = " ".join(item.because for item in report.not_examined)
    assert "no data was held out here" in unseen
    assert "no gate of the policy" in unseen
    card = ModelCard.load(bundle(project) / "README.md")
    metadata = card.data.to_dict()
    assert (metadata["library_name"], metadata["pipeline_tag"]) == (
        "transformers",
        "feature-extraction",
    )
    assert "model-index" not in metadata
    assert "base_model_relation" not in metadata
    assert "It was not evaluated here" in card.text
    for word in ("Validation loss", "Baseline", "receipt of `train`", "| train |", "%  "):
        assert word not in card.text
    assert "- Parameters: 24,928, by the headers" in card.text
    results, _ = release_kit.run(project)
    assert {result.stage: result.skipped for result in results} == {
        "load": True,
        "leaks": True,
        "build": True,
    }
    # Other weights than those that were loaded are not published under its name.
    file = bundle(project) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\0")
    assert ("weights-untrained", "") in told(release_kit.audit(project))


def test_the_command_says_what_was_loaded(project: Path, run: Run) -> None:
    text = (project / "release.yaml").read_text(encoding="utf-8")
    training = text[text.index("training:") : text.index("documents:")]
    edit(project / "release.yaml", training, "load: {path: base}\n")
    ended = run("load", project)
    assert (ended.code, ended.out) == (0, "Model: BertModel, 24,928 parameters, 1 weight file\n")
    assert "left out NOTICE" in ended.err
    assert "(nothing has changed, skipped)" in run("load", project).out
    (project / "base" / "model.safetensors").unlink()
    ended = run("load", project)
    assert ended.code == 2
    assert "holds no weights" in ended.err


def test_what_the_policy_wants_measured_blocks_until_somebody_answers(project: Path) -> None:
    shutil.copytree(project / "out/model", project / "made")
    elsewhere(project, "made")
    report = release_kit.audit(project)
    findings = told(report)
    assert {rule for rule, _ in findings} == {"quality-unmeasured", "leaks-unmeasured"}
    assert ("quality-unmeasured", "every-class-found") in findings
    assert ("quality-unmeasured", "language-beats-the-baseline") not in findings
    # What nobody knows of the leaks is one finding, and one waiver.
    assert UNKNOWN_MEMBERS in findings
    assert len([rule for rule, _ in findings if rule == "leaks-unmeasured"]) == 1
    assert report.verdict is Verdict.BLOCK
    # The last build is not that of the policy any more.
    for number, (rule, clause) in enumerate(sorted(findings)):
        waiver(project, f"{rule}/{clause}", path="release.yaml", id=f"w-{number}")
    release_kit.build(project)
    assert release_kit.audit(project).verdict is Verdict.PASS


def test_a_model_of_which_nobody_knows_what_it_is_for_is_not_spared(project: Path) -> None:
    config = project / "base" / "config.json"
    data = json.loads(config.read_bytes())
    del data["architectures"]
    config.write_text(json.dumps(data), encoding="utf-8")
    loaded(project, NOTHING_PERSONAL)
    report = release_kit.audit(project)
    (finding,) = [one for one in report.findings if one.rule == "quality-unmeasured"]
    assert "nothing tells what the model" in finding.message
    others = [one for one in report.findings if one != finding]
    assert {one.rule for one in others} == {"leaks-unmeasured"}
    assert any("members-told" in one.clause.split("+") for one in others)
    assert report.verdict is Verdict.BLOCK


def test_code_of_its_own_needs_somebody_who_read_it(project: Path) -> None:
    config = project / "base" / "config.json"
    data = {**json.loads(config.read_bytes()), "auto_map": {"AutoModel": "own.Own"}}
    config.write_text(json.dumps(data), encoding="utf-8")
    (project / "base" / "own.py").write_text("raise SystemExit('it was run')\n", encoding="utf-8")
    with pytest.raises(UnusableInput, match="which the policy does not waive"):
        loaded(project, NOTHING_PERSONAL)
    waiver(project, "custom-code", path="config.json", since=-40, until=-30)
    with pytest.raises(UnusableInput, match="which the policy does not waive"):
        release_kit.load(project)
    edit(project / "policy.yaml", day(-30), day(30))
    edit(project / "policy.yaml", "config.json", "tokenizer_config.json")
    with pytest.raises(UnusableInput, match="which the policy does not waive"):
        release_kit.load(project)
    edit(project / "policy.yaml", "tokenizer_config.json", "config.json")
    release_kit.load(project)
    release_kit.leaks(project)
    release_kit.build(project)
    report = release_kit.audit(project)
    assert (report.findings, report.verdict) == ((), Verdict.PASS)
    assert [item.finding.rule for item in report.waived] == ["custom-code"]
    card = (bundle(project) / "README.md").read_text(encoding="utf-8")
    assert "Read that code before you set `trust_remote_code`" in card
    assert (bundle(project) / "own.py").exists()


def test_an_adapter_is_passed_on_beside_its_base(project: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import BertModel

    folder = project / "adapter"
    base = BertModel.from_pretrained(project / "base")
    config = LoraConfig(task_type="FEATURE_EXTRACTION", r=2, init_lora_weights=False)
    get_peft_model(base, config).save_pretrained(folder)
    said = json.loads((folder / "adapter_config.json").read_bytes())
    said["base_model_name_or_path"] = "acme/tiny-bert"
    (folder / "adapter_config.json").write_text(json.dumps(said), encoding="utf-8")
    (folder / "README.md").unlink()
    adapter = """
  adapters:
    - id: acme/style
      relation: weights-shipped
      license: apache-2.0
      source: https://example.org/style
      path: adapter
      attribution: Style adapter, copyright Acme.
  datasets:"""
    relation = ("      path: base\n", "      path: base\n      relation: adapter-delta\n")
    text = (project / "release.yaml").read_text(encoding="utf-8")
    training = text[text.index("training:") : text.index("documents:")]
    for old, new in (relation, ("\n  datasets:", adapter), (training, ""), NOTHING_PERSONAL):
        edit(project / "release.yaml", old, new)
    _, report = release_kit.run(project)
    assert (report.findings, report.verdict) == ((), Verdict.PASS)
    assert report.examined["models compared"] == 2
    assert "only with its base" in " ".join(item.because for item in report.not_examined)
    metadata = ModelCard.load(bundle(project) / "README.md").data.to_dict()
    assert (metadata["library_name"], metadata["base_model_relation"]) == ("peft", "adapter")
    # Half of another adapter does not fit the base.
    file = folder / "adapter_model.safetensors"
    tensors = tensors_of(file)
    name = next(name for name in tensors if "lora_A" in name)
    tensors[name] = tensors[name][:, :7].copy()
    save_tensors(file, tensors)
    _, report = release_kit.run(project)
    assert ("base-contradicted", "adapter-of-another-model") in told(report)


GGUF = [
    ("general.license", "apache-2.0"),
    ("general.source.huggingface.repository", "acme/tiny-bert"),
]


def test_gguf_made_elsewhere_is_told_as_what_it_is(project: Path) -> None:
    write_gguf(project / "tiny-Q8_0.gguf", *GGUF)
    elsewhere(project, "tiny-Q8_0.gguf", ("All weights were fine-tuned", "It was quantised"))
    report = release_kit.audit(project)
    # Nobody measured it, and nothing shows that it came from the base.
    assert apart_from_leaks(report) == {
        ("base-unexamined", "base-not-comparable"),
        ("quality-unmeasured", "language-beats-the-baseline"),
    }
    assert report.verdict is Verdict.REVIEW
    card = ModelCard.load(bundle(project) / "README.md")
    metadata = card.data.to_dict()
    assert (metadata["library_name"], metadata["pipeline_tag"]) == ("gguf", "text-generation")
    assert metadata["base_model_relation"] == "quantized"
    assert "- Parameters: 512, by the headers" in card.text
    assert "- Numbers: 50 % `F32`, 50 % `Q8_0`" in card.text
    assert '"tiny-Q8_0.gguf"' in card.text


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ([("general.license", "mit"), GGUF[1]], "license-contradiction"),
        (
            [GGUF[0], ("general.source.huggingface.repository", "acme/other-bert")],
            "lineage-incomplete",
        ),
    ],
)
def test_gguf_that_contradicts_release_yaml_blocks(
    words: list[tuple[str, str]], rule: str, project: Path
) -> None:
    write_gguf(project / "tiny.gguf", *words)
    elsewhere(project, "tiny.gguf")
    report = release_kit.audit(project)
    assert rule in {finding.rule for finding in report.findings}
    assert report.verdict is Verdict.BLOCK


def test_gguf_passed_on_byte_for_byte_is_what_it_is_said_to_be(project: Path) -> None:
    (project / "base" / "model.safetensors").unlink()
    write_gguf(project / "base" / "tiny.gguf", *GGUF)
    loaded(project, NOTHING_PERSONAL)
    unmeasured = ("quality-unmeasured", "language-beats-the-baseline")
    assert apart_from_leaks(release_kit.audit(project)) == {unmeasured}
    write_gguf(project / "base" / "tiny.gguf", *GGUF, tensor="blk.1.ffn_up.weight")
    other = ("base-unexamined", "base-not-comparable")
    assert apart_from_leaks(release_kit.audit(project)) == {unmeasured, other}


def test_release_yaml_must_say_one_thing(project: Path) -> None:
    with pytest.raises(UnusableInput, match="has a training section"):
        release_kit.load(project)
    with (project / "release.yaml").open("a", encoding="utf-8") as stream:
        stream.write("load: {path: base}\n")
    with pytest.raises(UnusableInput) as caught:
        open_project(project)
    assert "either trained here or loaded" in caught.value.problems[0].message
    text = (project / "release.yaml").read_text(encoding="utf-8")
    training = text[text.index("training:") : text.index("documents:")]
    edit(project / "release.yaml", training, "")
    edit(project / "release.yaml", "load: {path: base}", "load: {path: bse}")
    with pytest.raises(UnusableInput, match="there is nothing at"):
        release_kit.load(project)
    edit(project / "release.yaml", "load: {path: bse}\n", "")
    with pytest.raises(UnusableInput, match="0 models of its lineage are weights-shipped"):
        release_kit.load(project)
    with pytest.raises(UnusableInput, match="has no training section"):
        release_kit.train(project)


def test_large_weights_that_were_trained_are_shards_with_an_index(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("release_kit.training.models.SHARD", 40_000)
    # Another setting is another training.
    edit(project / "release.yaml", "  max_length: 32\n", "  max_length: 40\n")
    results, report = release_kit.run(project)
    assert (report.findings, report.verdict) == ((), Verdict.PASS)
    files = {path.name for path in bundle(project).iterdir()}
    assert "model.safetensors.index.json" in files
    assert "model.safetensors" not in files
    trained = next(result for result in results if result.stage == "train")
    shards = {name for name in files if name.endswith(".safetensors")}
    assert trained.receipt.results["weights"].keys() == shards
    assert len(shards) > 1
    assert all((bundle(project) / name).stat().st_size < 41_000 + 4_000 for name in shards)
