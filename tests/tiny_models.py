"""Tiny models with random weights, in the real format, made within a second and always the same."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

from release_kit.training.models import quiet

TOPICS = {
    "license": ["permission", "notice", "copyright", "grant", "warranty", "liability", "clause"],
    "recipe": ["butter", "flour", "oven", "sugar", "salt", "whisk", "dough", "simmer"],
    "weather": ["rain", "cloud", "wind", "storm", "sunny", "frost", "thunder", "drizzle"],
}
FILLER = ["the", "a", "of", "and", "in", "to", "is", "with", "for", "this", "that", "on", "it"]

_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def tiny_bert(folder: Path) -> Path:
    """Write a random BERT base model (encoder and pooler, no head) and return `folder`.

    Hidden size 32, 2 layers, 64 positions; the words of this module are whole tokens and every
    other ASCII word is spelled out in characters. The same bytes each time.
    """
    import torch
    from transformers import BertConfig, BertModel

    tokenizer = _tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        # So small a model learns within seconds only when nothing holds it back.
        initializer_range=0.1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = BertModel(config)
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertTokenizerFast

    words = sorted({word for topic in TOPICS.values() for word in topic} | set(FILLER))
    signs = string.ascii_lowercase + string.digits
    pieces = [*_SPECIAL, *string.punctuation, *signs, *(f"##{sign}" for sign in signs), *words]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    return BertTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )
