"""Load a published model in a fresh process and ask it one question; prints JSON.

`python -m release_kit.demonstration.ask OWNER/NAME TAG TEXT`, with HF_ENDPOINT and HF_HOME set by
the caller: nothing but the Hub's own copy can answer.
"""

from __future__ import annotations

import json
import sys


def main(repo_id: str, revision: str, text: str) -> None:
    """Print `{"label": …, "score": …}`."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    model = AutoModelForSequenceClassification.from_pretrained(
        repo_id, revision=revision, use_safetensors=True
    )
    tokenizer = AutoTokenizer.from_pretrained(repo_id, revision=revision)
    (answer,) = pipeline("text-classification", model=model, tokenizer=tokenizer)(text)
    print(json.dumps({"label": answer["label"], "score": float(answer["score"])}))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
