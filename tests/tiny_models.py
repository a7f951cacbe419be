"""Tiny models with random weights, in the real format, made within a second and always the same."""

from __future__ import annotations

import string
from collections.abc import Callable
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


def tiny_gpt2_form(folder: Path) -> Path:
    """Write the config.json of a GPT-2, and no weights, and return `folder`.

    Hidden size 32, 2 layers, 32 positions; its vocabulary is a stranger's.
    """
    from transformers import GPT2Config

    folder.mkdir(parents=True, exist_ok=True)
    GPT2Config(
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=32,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    ).save_pretrained(folder)
    return folder


def tiny_bart(folder: Path) -> Path:
    """Write a random BART, 32 wide, 2 + 2 layers, 64 positions, and return `folder`.

    Its tokens are the words of this module, and a mask. The same bytes each time.
    """
    from transformers import BartConfig

    config = BartConfig(
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=64,
        dropout=0.0,
        init_std=0.1,
    )
    return _sequences(folder, config, "<s>", "<mask>")


def tiny_t5(folder: Path) -> Path:
    """Write a random T5, 32 wide, 2 + 2 layers, and return `folder`.

    Its tokens are the words of this module, and eight sentinels. The same bytes each time.
    """
    from transformers import T5Config

    config = T5Config(d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, dropout_rate=0.0)
    return _sequences(folder, config, "", *(f"<extra_id_{number}>" for number in range(8)))


def _sequences(folder: Path, config: Any, begin: str, *marks: str) -> Path:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import AutoModelForSeq2SeqLM, PreTrainedTokenizerFast

    words = sorted({word for topic in TOPICS.values() for word in topic} | set(FILLER))
    names = dict.fromkeys(["<pad>", "</s>", "<unk>", *([begin] if begin else []), *marks, *words])
    vocabulary = {name: number for number, name in enumerate(names)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A </s>".strip(),
        special_tokens=[(name, vocabulary[name]) for name in (begin, "</s>") if name],
    )
    mask = {"mask_token": "<mask>"} if "<mask>" in marks else {}
    extra = {} if mask else {"additional_special_tokens": list(marks)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        bos_token=begin or None,
        model_max_length=64,
        **mask,
        **extra,
    )
    config.vocab_size = len(vocabulary)
    config.pad_token_id, config.eos_token_id = vocabulary["<pad>"], vocabulary["</s>"]
    config.bos_token_id = vocabulary.get(begin)
    config.decoder_start_token_id = vocabulary["</s>" if begin else "<pad>"]
    config.forced_eos_token_id = None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = AutoModelForSeq2SeqLM.from_config(config)
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


CHAT_TEMPLATE = """{{ bos_token }}{% for message in messages -%}
{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' }}
{%- endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"""


def tiny_decoder(folder: Path, kind: str = "llama", *, weights: bool = True, **more: Any) -> Path:
    """Write a random decoder of the architecture `kind`, or only its form, and return `folder`.

    Hidden size 32, 2 layers, 64 positions; its tokenizer reads any bytes (byte-level BPE). That of
    "gpt2" has one token that ends and begins texts and none to pad with, as GPT-2's; any other
    puts <s> before each text and has CHAT_TEMPLATE. The same bytes each time.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = _byte_tokenizer(one_mark=kind == "gpt2")
    sizes = (
        {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}
        | dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
        if kind == "gpt2"
        else {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "intermediate_size": 64,
            "max_position_embeddings": 64,
        }
    )
    marks = {
        f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")
    }
    config = AutoConfig.for_model(
        kind, vocab_size=len(tokenizer), initializer_range=0.1, **sizes, **marks, **more
    )
    folder.mkdir(parents=True, exist_ok=True)
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        (AutoModelForCausalLM.from_config(config) if weights else config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def _byte_tokenizer(*, one_mark: bool) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    marks = ["<|endoftext|>"] if one_mark else ["<s>", "</s>", "<pad>"]
    signs = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["Ġ" + word for topic in TOPICS.values() for word in topic]
    words += ["Ġ" + word for word in (*TOPICS, *FILLER)]
    # Each word is one token, made letter by letter.
    merges = dict.fromkeys((word[:at], word[at]) for word in words for at in range(1, len(word)))
    pieces = dict.fromkeys([*marks, *signs, *(left + right for left, right in merges)])
    backend = Tokenizer(models.BPE({piece: n for n, piece in enumerate(pieces)}, list(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    if one_mark:
        return PreTrainedTokenizerFast(
            tokenizer_object=backend,
            bos_token=marks[0],
            eos_token=marks[0],
            unk_token=marks[0],
            model_max_length=64,
        )
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        chat_template=CHAT_TEMPLATE,
        model_max_length=64,
    )


def tiny_vit(folder: Path) -> Path:
    """Write a random vision transformer (no head) for pictures of 16 × 16 and return `folder`."""
    from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

    config = ViTConfig(
        image_size=16,
        patch_size=4,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    size = {"height": 16, "width": 16}
    return _media(
        folder, lambda: ViTModel(config, add_pooling_layer=False), ViTImageProcessorPil(size=size)
    )


def tiny_resnet(folder: Path) -> Path:
    """Write a random convolutional network (no head) for pictures of 16 × 16."""
    from transformers import ResNetConfig, ResNetModel, ViTImageProcessorPil

    config = ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic"
    )
    size = {"height": 16, "width": 16}
    return _media(folder, lambda: ResNetModel(config), ViTImageProcessorPil(size=size))


def tiny_wav2vec2(folder: Path) -> Path:
    """Write a random wav2vec2 (no head, no tokenizer) for 8 kHz, one frame each 32 ms."""
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    config = Wav2Vec2Config(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        conv_dim=(32, 32, 32),
        conv_kernel=(32, 8, 4),
        conv_stride=(16, 4, 4),
        num_feat_extract_layers=3,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        final_dropout=0.0,
        layerdrop=0.0,
    )
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=8000, return_attention_mask=True)
    return _media(folder, lambda: Wav2Vec2Model(config), extractor)


def tiny_whisper(folder: Path) -> Path:
    """Write a random Whisper for one second at 16 kHz, whose tokens are bytes."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )

    marks = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>",
             "<|transcribe|>", "<|startofprev|>", "<|notimestamps|>"]  # fmt: skip
    pieces = [*sorted(ByteLevel.alphabet()), "<|endoftext|>"]
    tokenizer = WhisperTokenizer(
        vocab={piece: number for number, piece in enumerate(pieces)}, merges=[]
    )
    tokenizer.add_special_tokens({"additional_special_tokens": marks[1:]})
    ids = dict(zip(marks, tokenizer.convert_tokens_to_ids(marks), strict=True))
    end = ids["<|endoftext|>"]
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=16,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_source_positions=50,
        max_target_positions=32,
        init_std=0.1,
        dropout=0.0,
        decoder_start_token_id=ids["<|startoftranscript|>"],
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    extractor = WhisperFeatureExtractor(feature_size=16, sampling_rate=16000, chunk_length=1)

    def model() -> Any:
        made = WhisperForConditionalGeneration(config)
        made.generation_config.no_timestamps_token_id = ids["<|notimestamps|>"]
        return made

    return _media(folder, model, WhisperProcessor(extractor, tokenizer))


def _media(folder: Path, make: Callable[[], Any], processor: Any) -> Path:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = make()
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return folder
