"""For each rule of the audit, a change that breaks exactly it and a near miss that breaks nothing.

Each change takes a copy of the audited project and leaves it ready for the next audit.
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
import random
import shutil
import string
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import release_kit
from release_kit import pipeline
from release_kit.bundle import MANIFEST, write_manifest
from release_kit.history import Published, remember
from release_kit.licensing.licenses import license_text, load_licenses
from release_kit.licensing.policy import load_policy
from release_kit.licensing.policy_files import BASELINE
from release_kit.licensing.texts import fingerprint
from release_kit.memorization.probes import Reading
from release_kit.project import Project, open_project
from release_kit.receipts import Receipt, digest_of, read_receipt, write_receipt
from tests.projects import PIPELINE, edit

Change = Callable[[Path], object]

PLANTED = {
    "PERSON": "Konstantin Quappenstedt",
    "EMAIL_ADDRESS": "zerlina.quappenstedt@vierlande.example.com",
    "CREDIT_CARD": "4556737586899855",
    "IBAN_CODE": "GB33BUKB20201555555555",
}
"""What the personal-data case plants: no report may hold any of it."""


@dataclass(frozen=True)
class Case:
    """Two changes to a copy of the audited project."""

    fires: Change
    """After it the audit finds the rule, and no other."""
    silent: Change
    """Resembles the trouble, but is right: after it no finding is left."""
    vouching: tuple[str, ...] = ("build", "train")
    """The stages whose receipts are made to vouch for what the change left."""

    def apply(self, change: Change, project: Path) -> None:
        """Change the project, and have the receipts vouch for it, where there are any."""
        change(project)
        if (project / "release.yaml").exists():
            stamp(project, self.vouching)


def bundle(project: Path) -> Path:
    """Return the folder that is published."""
    return project / "out" / "bundle"


def seal(project: Path) -> None:
    """Write the manifest anew, as a build that made the bundle as it lies there would have."""
    release = open_project(project).release
    write_manifest(bundle(project), repo_id=release.repo_id, version=release.version)


def stamp(project: Path, stages: tuple[str, ...] = ("build", "train")) -> None:
    """Let the receipts of `stages` vouch for the bundle and release.yaml as they lie there now."""
    place = open_project(project)
    for stage in stages:
        receipt = read_receipt(place.receipt(stage))
        assert receipt
        stamped = _built(place, receipt) if stage == "build" else _trained(place, receipt)
        write_receipt(place.receipt(stage), stamped)


def _built(place: Project, receipt: Receipt) -> Receipt:
    inputs = {
        "release.yaml": digest_of(place.release.file),
        "policy": load_policy(place.release.policy_source).digest,
    }
    return replace(
        receipt,
        inputs={**receipt.inputs, **inputs},
        results={**receipt.results, "manifest_digest": digest_of(place.bundle / MANIFEST)},
    )


def _trained(place: Project, receipt: Receipt) -> Receipt:
    files = (*place.bundle.rglob("*.safetensors"), *place.bundle.rglob("*.gguf"))
    weights = {str(path): digest_of(path) for path in sorted(files)}
    return replace(receipt, results={**receipt.results, "weights": weights})


def _release(project: Path, *changes: tuple[str, str]) -> None:
    for old, new in changes:
        edit(project / "release.yaml", old, new)


def _card(old: str, new: str) -> Change:
    def change(project: Path) -> None:
        edit(bundle(project) / "README.md", old, new)
        seal(project)

    return change


def _file(path: str, content: str | bytes) -> Change:
    def change(project: Path) -> None:
        target = bundle(project) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        seal(project)

    return change


def _rewritten(path: str, change: Callable[[bytes], bytes]) -> Change:
    def apply(project: Path) -> None:
        before = (bundle(project) / path).read_bytes()
        after = change(before)
        assert after != before
        (bundle(project) / path).write_bytes(after)
        seal(project)

    return apply


def _removed(path: str, *, sealed: bool = True) -> Change:
    def change(project: Path) -> None:
        (bundle(project) / path).unlink()
        if sealed:
            seal(project)

    return change


# manifest


def _manifest_on_one_line(project: Path) -> None:
    path = bundle(project) / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_bytes())), encoding="utf-8")


def _append_unsealed(project: Path) -> None:
    with (bundle(project) / "config.json").open("a", encoding="utf-8") as stream:
        stream.write("\n")


def _other_times_and_rights(project: Path) -> None:
    for path in bundle(project).iterdir():
        os.utime(path, (0, 0))
        path.chmod(0o755)


def _link(project: Path) -> None:
    config = bundle(project) / "config.json"
    config.rename(project / "config.json")
    config.symlink_to(project / "config.json")


def _hard_link(project: Path) -> None:
    config = bundle(project) / "config.json"
    config.rename(project / "config.json")
    config.hardlink_to(project / "config.json")


def _unlisted(project: Path) -> None:
    (bundle(project) / "extra.txt").write_text("One more line.\n", encoding="utf-8")


def _empty_folder(project: Path) -> None:
    (bundle(project) / "extra").mkdir()


# weights


def _weights_in_a_folder(project: Path) -> None:
    (bundle(project) / "weights").mkdir()
    (bundle(project) / "model.safetensors").rename(bundle(project) / "weights/model.safetensors")
    seal(project)


def _header_like_a_pickle(raw: bytes) -> bytes:
    """Pad the header with blanks until its length begins with 0x80 0x03, as protocol 3 does."""
    length = int.from_bytes(raw[:8], "little")
    padded = 0x0380
    while padded < length:
        padded += 1 << 16
    header = raw[8 : 8 + length].ljust(padded)
    assert padded.to_bytes(8, "little").startswith(pickle.dumps(0, protocol=3)[:2])
    return padded.to_bytes(8, "little") + header + raw[8 + length :]


def tensors_of(file: Path) -> dict[str, Any]:
    """Return the tensors of a safetensors file as numpy arrays that may be written to."""
    from safetensors.numpy import load_file

    return {name: array.copy() for name, array in load_file(file).items()}


def save_tensors(file: Path, tensors: dict[str, Any]) -> None:
    """Write a safetensors file as transformers does."""
    from safetensors.numpy import save_file

    save_file(tensors, file, metadata={"format": "pt"})


def save_shards(folder: Path, tensors: dict[str, Any]) -> None:
    """Write model.safetensors of `folder` in two shards with their index instead."""
    (folder / "model.safetensors").unlink()
    listed = {}
    for number in (1, 2):
        shard = f"model-0000{number}-of-00002.safetensors"
        part = {name: tensors[name] for name in sorted(tensors)[number - 1 :: 2]}
        save_tensors(folder / shard, part)
        listed |= dict.fromkeys(part, shard)
    index = {"metadata": {"total_size": 1}, "weight_map": listed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _tensors(*changes: Callable[[dict[str, Any]], object]) -> Change:
    """Change the bundle's tensors."""

    def change(project: Path) -> None:
        file = bundle(project) / "model.safetensors"
        tensors = tensors_of(file)
        for one in changes:
            one(tensors)
        save_tensors(file, tensors)
        seal(project)

    return change


def _filled(word: str, number: float, *, first: bool = False) -> Callable[[dict[str, Any]], object]:
    """Put one number everywhere, or in the first place, into the tensors that `word` names."""

    def change(tensors: dict[str, Any]) -> None:
        for name in [name for name in tensors if word in name]:
            tensors[name].reshape(-1)[: 1 if first else None] = number

    return change


def _sharded(project: Path) -> None:
    save_shards(bundle(project), tensors_of(bundle(project) / "model.safetensors"))
    seal(project)


def _shard_lost(project: Path) -> None:
    _sharded(project)
    (bundle(project) / "model-00002-of-00002.safetensors").unlink()
    seal(project)


def _query_as_key(tensors: dict[str, Any]) -> None:
    (query,) = (name for name in tensors if "layer.0" in name and "query.weight" in name)
    tensors[query.replace("query", "key")] = tensors[query]


def _base_tensors(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Change:
    def apply(project: Path) -> None:
        file = project / "base/model.safetensors"
        save_tensors(file, change(tensors_of(file)))

    return apply


def _drawn_anew(tensors: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    draw = np.random.default_rng(8)
    return {
        name: draw.normal(0, 0.1, array.shape).astype("f4") if array.ndim > 1 else array
        for name, array in tensors.items()
    }


def _sharded_base(project: Path) -> None:
    save_shards(project / "base", tensors_of(project / "base/model.safetensors"))


def write_gguf(file: Path, *words: tuple[str, str], tensor: str = "blk.0.ffn_up.weight") -> Path:
    """Write a GGUF file with two matrices, one of them in blocks of 8 bits, and some words."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(file, "llama")
    for key, value in words:
        writer.add_string(key, value)
    matrix = np.random.default_rng(8).normal(0, 0.1, (4, 64)).astype("f4")
    writer.add_tensor("output.weight", matrix)
    packed = gguf.quantize(matrix, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor(tensor, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _gguf(cut: int) -> Change:
    def change(project: Path) -> None:
        file = write_gguf(bundle(project) / "model.gguf")
        file.write_bytes(file.read_bytes()[: -cut or None])
        seal(project)

    return change


def loaded(project: Path, *changes: tuple[str, str]) -> None:
    """Release the base as it is instead of training it."""
    text = (project / "release.yaml").read_text(encoding="utf-8")
    training = text[text.index("training:") : text.index("documents:")]
    shipped = ("changes: All weights were fine-tuned.", "relation: weights-shipped")
    _release(project, (training, ""), shipped, *changes)
    release_kit.load(project)
    pipeline.leaks(project)
    release_kit.build(project)


# license and lineage


HEARTH_TEXT = """\
HEARTH COMMUNITY AGREEMENT

1. You may use, change and share the model and what you make from it, under this agreement.
2. What you share carries a copy of this agreement and shows the words "Warmed by Hearth".
3. The name of a model made from it begins with Hearth.
4. Whoever has more than one million monthly users needs another agreement.
"""
"""The text of a license that nobody else has."""

SALTMARSH_TEXT = """\
SALTMARSH MODEL AGREEMENT

1. Use, change and share the model and what you make from it as you like.
2. Put no further restrictions on anybody who receives what you made from it.
"""

_WHOLE: dict[str, str] = {"verdict": "granted", "section": "1"}
HEARTH_CONDITIONS: tuple[dict[str, str], ...] = (
    {"kind": "include-license-copy", "section": "2", "fact": "A copy of the agreement goes along."},
    {
        "kind": "display-statement",
        "section": "2",
        "fact": "The words are shown.",
        "prescribed_text": "Warmed by Hearth",
    },
    {
        "kind": "name-prefix",
        "section": "3",
        "fact": "The name begins with the word.",
        "prescribed_text": "Hearth",
    },
)
_HEARTH_LIMIT = {
    "kind": "threshold-users",
    "section": "4",
    "fact": "Above it another agreement is needed.",
    "threshold": 1_000_000,
}
_PASSED_ON = {
    "kind": "pass-on-use-restrictions",
    "section": "1",
    "fact": "They bind all who receive it.",
    "url": "https://example.org/hearth/use",
}
_NO_MORE = {
    "kind": "no-additional-restrictions",
    "section": "2",
    "fact": "No further restrictions are put on anybody.",
}


def own_policy(project: Path) -> Path:
    """Give the project a copy of the baseline as its own policy, with somebody who may approve."""
    path = project / "policy.yaml"
    if not path.exists():
        path.write_text(BASELINE.read_text(encoding="utf-8"), encoding="utf-8")
        edit(path, "approvers: []", "approvers: [Ada Counsel]")
        with (project / "release.yaml").open("a", encoding="utf-8") as stream:
            stream.write("policy: policy.yaml\n")
    return path


def own_license(project: Path, id: str, text: str, **said: object) -> None:
    """Add a license with its text to the folder of licenses that the project's policy names."""
    policy, folder = own_policy(project), project / "licenses"
    if not folder.exists():
        folder.mkdir()
        edit(policy, "\nowner: legal\n", "\nowner: legal\nlicenses: licenses\n")
    (folder / f"{id}.txt").write_text(text, encoding="utf-8")
    actions = ("commercial-use", "modify", "distribute", "distribute-derivatives", "train-models")
    content = {
        "id": id,
        "spdx_id": None,
        "name": text.splitlines()[0].title(),
        "version": "1",
        "url": f"https://example.org/{id}",
        "kind": "license",
        "applies_to": ["model", "dataset"],
        "permissions": dict.fromkeys(actions, _WHOLE),
        "limitations": [],
        "texts": [{**asdict(fingerprint(text)), "file": f"{id}.txt"}],
        "source": f"https://example.org/{id}",
        "verified_at": "2026-11-23",
        "unverified": False,
        **said,
    }
    # Whatever is JSON is YAML as well.
    (folder / f"{id}.yaml").write_text(json.dumps(content, indent=2), encoding="utf-8")


def hearth(
    project: Path,
    *,
    users: str = "\n  monthly_active_users: 12",
    conditions: tuple[dict[str, str], ...] = HEARTH_CONDITIONS,
) -> None:
    """Turn the project into a release under an agreement that travels, all met; build it."""
    own_license(
        project,
        "hearth",
        HEARTH_TEXT,
        downstream_license={"value": "terms-travel", "section": "1"},
        conditions=conditions,
        limitations=[_HEARTH_LIMIT],
    )
    _release(
        project,
        ("repo_id: acme/topics", "repo_id: acme/Hearth-topics"),
        ("title: Topic Classifier", "title: Hearth Topic Classifier"),
        ('version: "1.0.0"\n  license: apache-2.0', 'version: "1.0.0"\n  license: hearth'),
        ("tiny-bert\n      license: apache-2.0", "tiny-bert\n      license: hearth"),
        ("kind: company", f"kind: company{users}"),
    )
    (project / "base" / "LICENSE").write_text(HEARTH_TEXT, encoding="utf-8")
    release_kit.build(project)


def _base_file(name: str, content: str) -> Change:
    """Put a file beside the base's weights, and build where a build copies it."""

    def change(project: Path) -> None:
        (project / "base" / name).write_text(content, encoding="utf-8")
        if name == "LICENSE":
            release_kit.build(project)

    return change


def _base_license(word: str) -> Change:
    def change(project: Path) -> None:
        _release(
            project, ("tiny-bert\n      license: apache-2.0", f"tiny-bert\n      license: {word}")
        )
        release_kit.build(project)

    return change


def _base_license_text(change: Callable[[bytes], bytes]) -> Change:
    def put(project: Path) -> None:
        text = license_text(load_licenses()["apache-2.0"])
        assert text
        _base_file("LICENSE", change(text.encode()).decode())(project)

    return put


def _concluded(word: str) -> Change:
    def change(project: Path) -> None:
        _base_license_text(bytes)(project)
        _base_license(word)(project)

    return change


def upstream(project: Path, section: str, **said: str) -> None:
    """Add an entry to the lineage: the last base model, or the only one of a new section."""
    lines = [f"      {key}: {value}" for key, value in said.items()]
    lines[0] = lines[0].replace("      ", "    - ", 1)
    entry = "\n".join(lines) + "\n"
    if section == "base_models":
        _release(project, ("  datasets:\n", f"{entry}  datasets:\n"))
    else:
        _release(project, ("privacy:\n", f"  {section}:\n{entry}privacy:\n"))


def _generated(license: str) -> Change:
    def change(project: Path) -> None:
        upstream(
            project,
            "generators",
            id="openai-community/gpt2",
            license=license,
            source="https://huggingface.co/openai-community/gpt2",
        )
        release_kit.build(project)

    return change


_MADE_FROM_OLDER = "---\nlicense: apache-2.0\nbase_model: acme/older-bert\n---\n# Tiny BERT\n"


def _older_base_listed(project: Path) -> None:
    upstream(
        project,
        "base_models",
        id="acme/older-bert",
        license="apache-2.0",
        source="https://example.org/older-bert",
        attribution="Older BERT, copyright Acme.",
        changes="It was made smaller.",
    )
    release_kit.build(project)
    _base_file("README.md", _MADE_FROM_OLDER)(project)


def _conflict(**scope: str) -> Change:
    """Let one license ban the restrictions that another one wants to be passed on."""

    def change(project: Path) -> None:
        own_license(
            project,
            "saltmarsh",
            SALTMARSH_TEXT,
            downstream_license={"value": "own-terms-allowed", "section": "1"},
            conditions=[_NO_MORE | scope],
        )
        upstream(
            project,
            "base_models",
            id="acme/tides",
            license="saltmarsh",
            source="https://example.org/tides",
        )
        hearth(project, conditions=(*HEARTH_CONDITIONS, _PASSED_ON))

    return change


# waivers


def waiver(project: Path, rule: str, *, since: int = -1, until: int = 30, **more: str) -> None:
    """Let the project's policy waive something, from and until so many days from today."""
    said = {
        "id": f"waiver-{rule.replace('/', '-')}",
        "rule": rule,
        "release": "acme/topics@1.0.0",
        "owner": "Release Team",
        "approver": "Ada Counsel",
        "reason": "licensor-consented",
        "because": "The licensor agreed in writing.",
        "evidence": "ticket LEGAL-7",
        "created": day(since),
        "expires": day(until),
        **more,
    }
    policy = own_policy(project)
    text = policy.read_text(encoding="utf-8").replace("  granted: []\n", "  granted:\n")
    policy.write_text(text, encoding="utf-8")
    edit(policy, "  granted:\n", f"  granted:\n    - {json.dumps(said)}\n")


def day(distance: int) -> str:
    """Return the day so many days from today."""
    return (date.today() + timedelta(distance)).isoformat()


CONTRADICTION = "---\nlicense: mit\n---\n# Tiny BERT\n"
"""A card of the base that contradicts what release.yaml says."""


def _waived(rule: str = "license-contradiction", **said: Any) -> Change:
    def change(project: Path) -> None:
        waiver(project, rule, **{"upstream": "acme/tiny-bert", **said})

    return change


def _needed(project: Path) -> None:
    _base_file("README.md", CONTRADICTION)(project)
    _waived()(project)


def _noncommercial_dataset(project: Path) -> None:
    _release(project, ("license: cc-by-4.0", "license: cc-by-nc-4.0"))


def _denied(project: Path) -> None:
    _noncommercial_dataset(project)
    release_kit.build(project)


def _noncommercial_throughout(project: Path) -> None:
    _noncommercial_dataset(project)
    _release(
        project,
        ('"1.0.0"\n  license: apache-2.0', '"1.0.0"\n  license: cc-by-nc-4.0'),
        ("purpose: commercial", "purpose: noncommercial"),
    )
    release_kit.build(project)


def _bare_folder(project: Path) -> None:
    """Leave the bundle alone, without what was declared and without files that need a pipeline."""
    kept = project.with_name("kept")
    bundle(project).rename(kept)
    shutil.rmtree(project)
    kept.rename(project)
    for name in ("config.json", "tokenizer_config.json"):
        (project / name).unlink()
    write_manifest(project, repo_id="acme/topics", version="1.0.0")


def _made_from_nothing(project: Path) -> None:
    path = project / "release.yaml"
    text = path.read_text(encoding="utf-8")
    lineage = text[text.index("lineage:") : text.index("privacy:")]
    edit(path, lineage, "lineage:\n  base_models: []\n  datasets: []\n")
    # Nor does the card name anything then.
    _card("base_model:\n- acme/tiny-bert\n", "")(project)
    _card("datasets:\n- acme/topic-notes\n", "")(project)


def _rewrapped(raw: bytes) -> bytes:
    words = raw.decode().split()
    lines = [" ".join(words[at : at + 5]) for at in range(0, len(words), 5)]
    return "\r\n   ".join(lines).encode()


def _without_last_sentence(raw: bytes) -> bytes:
    return raw.rstrip().rpartition(b"\n")[0]


# training data


def _one_more_record(project: Path) -> None:
    with (project / "data/notes.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"text": "butter and flour", "label": "recipe"}\n')


def _dataset_elsewhere(project: Path) -> None:
    (project / "data").rename(project / "raw")
    _release(project, ("path: data/notes.jsonl", "path: ./raw/../raw/notes.jsonl"))


def _still_found(counts: dict[str, int]) -> Change:
    def change(project: Path) -> None:
        path = project / "out/receipts/redact.json"
        receipt: dict[str, Any] = json.loads(path.read_bytes())
        receipt["results"]["acme/topic-notes"]["remaining"] = counts
        path.write_text(json.dumps(receipt), encoding="utf-8")

    return change


def _pictures(*, files: int) -> Change:
    held = {"kinds": ["image"], "files": files, "embedded": 0, "unusable": 0, "digest": "0" * 64}
    return _result("train", ("media",), {"acme/topic-notes": held})


def _result(stage: str, path: tuple[str, ...], value: object) -> Change:
    """Let the receipt of a stage say something else."""

    def change(project: Path) -> None:
        file = project / f"out/receipts/{stage}.json"
        receipt: dict[str, Any] = json.loads(file.read_bytes())
        place = receipt["results"]
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        file.write_text(json.dumps(receipt), encoding="utf-8")

    return change


def _figure(name: str, **said: object) -> Change:
    """Let the evaluation say something else of one figure."""

    def change(project: Path) -> None:
        file = project / "out/receipts/evaluate.json"
        receipt: dict[str, Any] = json.loads(file.read_bytes())
        receipt["results"]["figures"][name] |= said
        file.write_text(json.dumps(receipt), encoding="utf-8")

    return change


def leak(measure: str, value: float | None, low: float = 0.0, high: float = 1.0) -> Change:
    """Let the receipt of the leaks say so much of one measure; None: that nobody measured it."""

    def change(project: Path) -> None:
        file = project / "out/receipts/leaks.json"
        receipt: dict[str, Any] = json.loads(file.read_bytes())
        results = receipt["results"]
        rest = [one for one in results["readings"] if one["measure"] != measure]
        results["not_measured"].pop(measure, None)
        if value is None:
            results["not_measured"][measure] = "there was no time"
        else:
            rest.append(asdict(Reading(measure, value, low, high, 100)))
        results["readings"] = rest
        file.write_text(json.dumps(receipt), encoding="utf-8")

    return change


def published_before(project: Path, *, macro_f1: float = 0.0, **more: Any) -> None:
    """Let an earlier release of the project stand in its history."""
    place = open_project(project)
    receipt = read_receipt(place.receipt("evaluate"))
    assert receipt
    said = {
        "repo_id": place.release.repo_id,
        "version": "0.9.0",
        "manifest_digest": "0" * 64,
        "task": "text-classification",
        "test_split": receipt.results["test_split"],
        "figures": {"macro_f1": macro_f1},
        "classes": {},
    }
    remember(place.history, Published(**{**said, **more}))


def _nothing_personal(found: dict[str, int]) -> Change:
    def change(project: Path) -> None:
        _release(project, ("personal_data: removed", "personal_data: none"))
        _result("redact", ("acme/topic-notes", "by_entity"), found)(project)

    return change


# personal data


def _pipeline_that_nobody_needs(project: Path) -> None:
    """Name a pipeline that is not installed beside a policy that looks for no names."""
    _missing_pipeline(project)
    edit(own_policy(project), "[PERSON, EMAIL_ADDRESS,", "[EMAIL_ADDRESS,")


def _missing_pipeline(project: Path) -> None:
    _release(project, (f"spacy_pipeline: {PIPELINE}", "spacy_pipeline: no_such_pipeline"))


def token() -> str:
    """Return a GitHub token that nobody issued; made here, so that no file holds one."""
    letters = string.ascii_letters + string.digits
    return "gh" + "p_" + "".join(random.Random(7).choices(letters, k=36))


_LETTER = "Schöne Grüße"
_OLD_STATE = {"step": 3, "rates": [0.1, 0.2], "done": False}

CASES: dict[str, Case] = {
    "manifest-unreadable": Case(_removed(MANIFEST, sealed=False), _manifest_on_one_line),
    "file-changed": Case(_append_unsealed, _other_times_and_rights),
    "file-missing": Case(_removed("config.json", sealed=False), _removed("config.json")),
    "file-unlisted": Case(_unlisted, _empty_folder),
    "file-irregular": Case(_link, _hard_link),
    "manifest-other-release": Case(
        lambda project: _release(project, ('"1.0.0"', '"1.0.1"')),
        lambda project: _release(project, ('"1.0.0"', "'1.0.0'  # not 1.0.1 yet")),
    ),
    "weights-missing": Case(_removed("model.safetensors"), _weights_in_a_folder),
    "safetensors-unreadable": Case(
        _rewritten("model.safetensors", lambda raw: raw[:-1]),
        _rewritten("model.safetensors", _header_like_a_pickle),
    ),
    "gguf-unreadable": Case(_gguf(64), _gguf(0)),
    "weights-index": Case(_shard_lost, _sharded),
    "weights-not-finite": Case(
        _tensors(_filled("layer.0.attention.self.query.bias", float("nan"), first=True)),
        _tensors(_filled("layer.0.attention.self.query.bias", 3e38, first=True)),
    ),
    "weights-suspicious": Case(
        _tensors(_filled("layer.0.attention.self.query.weight", 0.0)),
        _tensors(_filled("layer.0.attention.self.query.bias", 0.0), _query_as_key),
    ),
    "base-contradicted": Case(
        _base_tensors(_drawn_anew),
        _base_tensors(lambda found: {f"bert.{name}": t.astype("f2") for name, t in found.items()}),
    ),
    "base-unexamined": Case(
        lambda project: (project / "base/model.safetensors").rename(project / "base/model.h5"),
        _sharded_base,
    ),
    "custom-code": Case(
        _rewritten("config.json", lambda raw: raw.replace(b"{", b'{"auto_map": {"A": "b.C"},', 1)),
        _rewritten("config.json", lambda raw: raw.replace(b"{", b'{"auto_map": {},', 1)),
    ),
    "pickle": Case(
        _file("state.txt", pickle.dumps(_OLD_STATE, protocol=0)),
        _file("weights.txt", "N.\nthe pickle pytorch_model.bin is left out\n"),
    ),
    "card-missing": Case(
        _removed("README.md"),
        _rewritten("README.md", lambda raw: raw[: raw.index(b"\n---\n") + 5]),
    ),
    "card-unreadable": Case(
        _card("library_name: transformers", "library_name: transformers\nlibrary_name: keras"),
        _rewritten("README.md", lambda raw: b"\xef\xbb\xbf" + raw.replace(b"\n", b"\r\n")),
    ),
    "card-incomplete": Case(
        _card("datasets:\n- acme/topic-notes\n", ""),
        _card("base_model:\n- acme/tiny-bert\n", "base_model: acme/tiny-bert\n"),
    ),
    "card-contradicts-release": Case(
        _card("license: apache-2.0\n", "license: mit\n"),
        _card("## Uses", "## Uses\n\nlicense: mit is what an earlier release had.\n"),
    ),
    "card-placeholder": Case(
        _card("It knows three topics only.", "[More Information Needed]"),
        _card("It knows three topics only.", "No sabe todo; un {tema} y [nada] en TODOS."),
    ),
    "lineage-undeclared": Case(_bare_folder, _made_from_nothing),
    "license-denied": Case(_denied, _noncommercial_throughout),
    "lineage-incomplete": Case(_base_file("README.md", _MADE_FROM_OLDER), _older_base_listed),
    "license-contradiction": Case(
        _base_file("README.md", CONTRADICTION),
        _base_file("README.md", CONTRADICTION.replace("mit", "Apache License, Version 2.0")),
    ),
    "license-text-altered": Case(
        _base_license_text(lambda text: text + b"\nNo use in kitchens.\n"),
        _base_license_text(_rewrapped),
    ),
    "license-unreadable": Case(
        _base_file("adapter_config.json", '{"base_model_name_or_path": "acme/tiny-bert"'),
        _base_file("adapter_config.json", '{"base_model_name_or_path": "acme/tiny-bert"}'),
    ),
    "license-spelling": Case(_base_license("Apache 2.0"), _base_license("'apache-2.0'")),
    "license-concluded": Case(_concluded("unknown"), _concluded("apache-2.0")),
    "license-from-table": Case(_generated("unknown"), _generated("mit")),
    "license-conflict": Case(_conflict(), _conflict(scope="licensed-material")),
    "waiver-expired": Case(
        _waived(since=-30, until=-1),
        _waived(since=-30, until=-1, release="acme/topics@0.9.0"),
    ),
    "waiver-unused": Case(_waived(), _needed),
    "waiver-unmatched": Case(
        _waived(upstream="acme/tiny-bret"),
        _waived(upstream="acme/tiny-bret", release="acme/others@1.0.0"),
    ),
    "license-review": Case(lambda project: hearth(project, users=""), hearth),
    "obligation-unmet": Case(
        _rewritten("NOTICE", lambda raw: raw.replace(b"All weights were fine-tuned.", b"None.")),
        _rewritten("NOTICE", _rewrapped),
    ),
    "license-file": Case(
        _rewritten("LICENSE", _without_last_sentence),
        _rewritten("LICENSE", _rewrapped),
    ),
    "bundle-stale": Case(
        lambda project: _release(project, ("Sorting notes by topic.", "Sorting all notes.")),
        lambda project: (project / "release.yaml").touch(),
        vouching=(),
    ),
    "weights-untrained": Case(
        _rewritten("model.safetensors", lambda raw: raw[:-1] + bytes([raw[-1] ^ 1])),
        _weights_in_a_folder,
        vouching=("build",),
    ),
    "training-data-unredacted": Case(_one_more_record, _dataset_elsewhere),
    "redaction-incomplete": Case(_still_found({"PERSON": 2}), _still_found({"PERSON": 0})),
    "training-unseen": Case(
        loaded,
        lambda project: loaded(project, ("personal_data: removed", "personal_data: none")),
        ("build",),
    ),
    "media-unsearched": Case(_pictures(files=3), _pictures(files=0)),
    "data-undeclared": Case(
        lambda project: _release(project, ("        lawful_basis: [legitimate-interests]\n", "")),
        lambda project: _release(
            project, ("lawful_basis: [legitimate-interests]", "lawful_basis: [other-law]")
        ),
    ),
    "data-contradiction": Case(_nothing_personal({"PERSON": 2}), _nothing_personal({"PERSON": 0})),
    "data-leakage": Case(
        _result("evaluate", ("overlap",), {"of": 40, "exact": 1, "near": 0}),
        _result("evaluate", ("overlap",), {"of": 40, "exact": 0, "near": 4}),
    ),
    "quality-missed": Case(
        _figure("macro_f1", value=0.1, baseline=0.1),
        lambda project: published_before(project, macro_f1=0.01),
    ),
    "quality-unmeasured": Case(
        _figure("macro_f1", baseline=None), _figure("calibration_error", value=None)
    ),
    "quality-not-comparable": Case(
        lambda project: published_before(project, test_split="0" * 64),
        lambda project: published_before(project, test_split="0" * 64, repo_id="acme/others"),
    ),
    "leaks-shown": Case(
        leak("membership_auc", 0.8, 0.71, 0.89), leak("membership_auc", 0.8, 0.69, 0.89)
    ),
    "leaks-unmeasured": Case(leak("membership_auc", None), leak("membership_tpr_1", None)),
    "personal-data": Case(
        _file("contact.txt", "".join(f"It was {value} then.\n" for value in PLANTED.values())),
        _file("contact.txt", "pin topics@1.0.0 or write to nobody@host.invalid\n"),
    ),
    "text-unreadable": Case(
        _file("letter.txt", _LETTER.encode("latin-1")),
        _file("vocab.txt", _LETTER.encode("latin-1")),
    ),
    "secret-found": Case(
        _file("settings.ini", f"token = {token()}\n"),
        _file("settings.ini", "token = " + "gh" + "p_" + "x" * 36 + "\n"),
    ),
    "secret-unsearched": Case(
        _file("vocab.txt", gzip.compress(b"the\nof\n", mtime=0)),
        _file("vocab.txt", b"\xe0the\nof\n"),
    ),
    "check-unfinished": Case(_missing_pipeline, _pipeline_that_nobody_needs),
}
