"""The table from model id to license: what it says, what it must not guess, what it refuses."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from release_kit.cards import hub_licenses
from release_kit.errors import Problem, UnusableInput
from release_kit.licensing.licenses import load_licenses
from release_kit.licensing.models import MODELS, Models, license_of_model, load_models

ENTRY = """\
  - match: [{match}]
    license: {license}
    source: https://example.org/license
    date: 2026-11-23
    read: secondary
"""


def _table(*entries: tuple[str, str]) -> str:
    return "models:\n" + "".join(ENTRY.format(match=m, license=said) for m, said in entries)


def _load(tmp_path: Path, text: str) -> Models:
    path = tmp_path / "models.yaml"
    path.write_text(text, encoding="utf-8")
    load_models.cache_clear()
    return load_models(path)


def _problems(tmp_path: Path, text: str) -> tuple[Problem, ...]:
    with pytest.raises(UnusableInput) as caught:
        _load(tmp_path, text)
    return caught.value.problems


@pytest.mark.parametrize(
    ("model_id", "license_id"),
    [
        ("meta-llama/Llama-2-7b-chat-hf", "llama2"),
        ("codellama/CodeLlama-7b-Instruct-hf", "llama2"),
        ("meta-llama/Meta-Llama-3-8B", "llama3"),
        ("meta-llama/Meta-Llama-3.1-8B", "llama3.1"),
        ("meta-llama/Llama-3.1-405B-Instruct-FP8", "llama3.1"),
        ("meta-llama/Llama-3.2-11B-Vision-Instruct", "llama3.2"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama3.3"),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", "llama4"),
        ("meta-llama/LlamaGuard-7b", "llama2"),
        ("meta-llama/Meta-Llama-Guard-2-8B", "llama3"),
        ("meta-llama/Llama-Guard-3-8B", "llama3.1"),
        ("meta-llama/Llama-Guard-3-1B", "llama3.2"),
        ("meta-llama/Llama-Guard-4-12B", "llama4"),
        ("google/gemma-2b-it", "gemma"),
        ("google/gemma-2-27b", "gemma"),
        ("google/gemma-3-4b-pt", "gemma"),
        ("google/gemma-4-31B-it", "apache-2.0"),
        ("Qwen/Qwen1.5-72B-Chat", "tongyi-qianwen"),
        ("Qwen/Qwen1.5-0.5B", "unknown"),
        ("Qwen/CodeQwen1.5-7B", "unknown"),
        ("Qwen/CodeQwen1.5-7B-Chat", "tongyi-qianwen"),
        ("Qwen/Qwen2-72B-Instruct", "tongyi-qianwen"),
        ("Qwen/Qwen2-7B-Instruct", "apache-2.0"),
        ("Qwen/Qwen2.5-3B-Instruct", "qwen-research"),
        ("Qwen/Qwen2.5-72B-Instruct-GPTQ-Int4", "qwen"),
        ("Qwen/Qwen2.5-7B-Instruct-1M", "apache-2.0"),
        ("Qwen/Qwen2.5-32B", "apache-2.0"),
        ("Qwen/Qwen2.5-VL-3B-Instruct", "qwen-research"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "apache-2.0"),
        ("Qwen/Qwen-Image-2.1", "unknown"),
        ("deepseek-ai/DeepSeek-V3", "deepseek"),
        ("deepseek-ai/DeepSeek-V3-Base", "deepseek"),
        ("deepseek-ai/DeepSeek-V3-0324", "mit"),
        ("deepseek-ai/DeepSeek-V3.1-Terminus", "mit"),
        ("deepseek-ai/DeepSeek-V2.5", "deepseek"),
        ("deepseek-ai/deepseek-coder-6.7b-base", "deepseek"),
        ("deepseek-ai/DeepSeek-R1", "mit"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "apache-2.0"),
        ("mistralai/Mistral-Small-24B-Instruct-2501", "apache-2.0"),
        ("mistralai/Mistral-Small-Instruct-2409", "mistral-research"),
        ("mistralai/Mistral-Large-Instruct-2407", "mistral-research"),
        ("mistralai/Codestral-22B-v0.1", "mistral-non-production"),
        ("tiiuae/falcon-7b-instruct", "apache-2.0"),
        ("tiiuae/falcon-11B", "falcon-2-11b-tii"),
        ("tiiuae/falcon-180B-chat", "unknown"),
        ("tiiuae/Falcon3-10B-Base", "unknown"),
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "creativeml-openrail-m"),
        ("stabilityai/stable-diffusion-2-1", "openrail++"),
        ("stabilityai/stable-diffusion-xl-base-1.0", "openrail++"),
        ("stabilityai/stable-diffusion-xl-base-0.9", "unknown"),
        ("stabilityai/stable-diffusion-3.5-large", "stabilityai-ai-community"),
        ("bigscience/bloom-7b1", "bigscience-bloom-rail-1.0"),
        ("bigcode/starcoder2-15b", "bigcode-openrail-m"),
        ("LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct", "exaone-1.1-nc"),
        ("LGAI-EXAONE/EXAONE-4.0-32B", "unknown"),
        ("moonshotai/Kimi-K2-Instruct", "kimi-k2-modified-mit"),
        ("moonshotai/Kimi-K3", "unknown"),
        ("tencent/Hunyuan3D-2", "hunyuan-3d-2.0"),
        ("tencent/Hunyuan3D-2.1", "unknown"),
        ("CohereLabs/c4ai-command-r-v01", "cohere-cc-by-nc"),
        ("microsoft/phi-4", "mit"),
        ("allenai/OLMo-2-1124-7B-Instruct", "apache-2.0"),
        ("openai-community/gpt2", "mit"),
        ("gpt2-xl", "mit"),
        ("bert-base-uncased", "apache-2.0"),
        ("openai/whisper-large-v3", "apache-2.0"),
        ("openai/whisper-large-v3-turbo", "mit"),
        ("openai/gpt-oss-20b", "apache-2.0"),
        ("xai-org/grok-1", "apache-2.0"),
        ("HuggingFaceTB/SmolLM2-135M", "apache-2.0"),
        ("sentence-transformers/all-MiniLM-L6-v2", "apache-2.0"),
        # Case never matters: the Hub redirects.
        ("META-LLAMA/llama-3.1-8b", "llama3.1"),
        ("qwen/qwen2.5-3b", "qwen-research"),
    ],
)
def test_version_and_size_decide(model_id: str, license_id: str) -> None:
    said = license_of_model(model_id)
    assert said is not None
    assert said.license == license_id


@pytest.mark.parametrize(
    ("model_id", "licenses"),
    [
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", {"llama3.1", "mit"}),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", {"llama3.3", "mit"}),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", {"apache-2.0", "mit"}),
        ("nvidia/Llama-3_3-Nemotron-Super-49B-v1", {"llama3.3", "nvidia-open-model-license"}),
    ],
)
def test_a_fine_tune_keeps_the_terms_of_its_base(model_id: str, licenses: set[str]) -> None:
    said = license_of_model(model_id)
    assert said is not None
    assert {said.license, *said.also} == licenses
    # Whoever looks at one license only sees the base's, which the maker's cannot lift.
    assert said.license in licenses - {"mit", "nvidia-open-model-license"}


@pytest.mark.parametrize(
    "model_id",
    [
        "someone/Llama-3.1-finetune",
        "someone/Llama-3.1-8B",
        "meta-llama-mirror/Llama-3.1-8B",
        "Llama-3.1-8B",
        "meta-llama/Llama-3.5-8B",
        "meta-llama/Llama-3.1",
        "meta-llama/Llama-3.1-8B/other",
        "evil/meta-llama/Llama-3.1-8B",
        "meta-llama/Llama-3.1-8B\n",
        " meta-llama/Llama-3.1-8B",
        "meta-llama/Llama-3.1-8B@main",
        "https://huggingface.co/meta-llama/Llama-3.1-8B",
        # A Kelvin sign is no k, nor a long s an s.
        "moonshotai/\u212aimi-K2-Base",
        "Qwen/Qwen2.5-7B-In\u017ftruct",
        "someone/gpt2",
        "Qwen/Qwen2.5-100B",
        "Qwen/Qwen4-8B",
        "google/gemma-5-9b",
        "deepseek-ai/DeepSeek-V4",
        "tiiuae/falcon-11",
        "",
        "/",
        "*",
    ],
)
def test_what_is_not_listed_is_not_guessed(model_id: str) -> None:
    assert license_of_model(model_id) is None


def license_of_no_text(license_id: str) -> bool:
    return license_id in load_licenses() and load_licenses()[license_id].kind == "placeholder"


def test_every_line_tells_how_it_is_known() -> None:
    lines = MODELS.read_text(encoding="utf-8").splitlines()
    said = {entry.position: entry for _, entry in load_models().entries}
    assert len(said) > 80
    for (line, column), entry in said.items():
        assert lines[line - 1][column - 1 :].startswith("match:")
        assert entry.read in {"primary", "secondary"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", entry.date)
        for license_id in (entry.license, *entry.also):
            assert license_id in load_licenses() or license_id in hub_licenses()
        # What was read is one exact text, not whatever the page shows tomorrow.
        assert entry.read == "secondary" or re.search(r"/[0-9a-f]{40}/", entry.source)
        if entry.also or license_of_no_text(entry.license):
            assert entry.because


def test_the_first_line_that_matches_decides(tmp_path: Path) -> None:
    table = _load(tmp_path, _table(("a/b-3B*", "mit"), ("a/b-*", "apache-2.0")))
    small, other = table.license_of("a/b-3B-it"), table.license_of("A/B-7b")
    assert small is not None
    assert other is not None
    assert (small.license, small.position) == ("mit", (2, 5))
    assert (other.license, other.position) == ("apache-2.0", (7, 5))
    assert table.license_of("a/b") is None


def test_a_line_that_can_never_match_is_refused_with_its_place(tmp_path: Path) -> None:
    text = _table(("a/b-*", "apache-2.0"), ("c/d, A/B-3b-*", "mit"))
    (problem,) = _problems(tmp_path, text)
    assert (problem.line, problem.column) == (7, 18)
    assert problem.path == str(tmp_path / "models.yaml")
    assert problem.message == "'A/B-3b-*' can never match: 'a/b-*' in line 2 always does"


@pytest.mark.parametrize(
    ("earlier", "later", "covered"),
    [
        ("a/b*", "a/b", True),
        ("a/b", "a/B", True),
        ("a/b*c", "a/b*c", True),
        ("a/b*c*", "a/bXcY*", True),
        ("a/b*", "a/b*c*", True),
        ("a/b**", "a/b*", True),
        ("a/b", "a/b*", False),
        ("a/b*c", "a/b*", False),
        ("a/b*c", "a/bc*", False),
        ("a/b*cc", "a/bc", False),
        ("a/b*", "b", False),
        ("a/b*", "x/b*", False),
        # A dot is a dot.
        ("a/b.c*", "a/bXc*", False),
    ],
)
def test_one_glob_covers_another(tmp_path: Path, earlier: str, later: str, covered: bool) -> None:
    text = _table((earlier, "mit"), (later, "apache-2.0"))
    if covered:
        assert "can never match" in _problems(tmp_path, text)[0].message
    else:
        _load(tmp_path, text)


def test_a_glob_twice_in_one_line_is_refused(tmp_path: Path) -> None:
    (problem,) = _problems(tmp_path, _table(("a/b, a/b", "mit")))
    assert (problem.line, problem.column) == (2, 18)


def test_what_is_refused_never_matches_and_what_is_accepted_can(tmp_path: Path) -> None:
    chance = random.Random(20261123)
    ids = ["".join(chance.choices("ab", k=chance.randint(1, 7))) for _ in range(400)]
    for _ in range(150):
        globs = ["o/a" + "".join(chance.choices("ab*", k=3)) for _ in range(4)]
        globs = [glob if glob.count("*") < 3 else "o/ab" for glob in globs]
        entries = [(glob, "mit") for glob in globs]
        try:
            table = _load(tmp_path, _table(*entries))
        except UnusableInput as error:
            dead = {(p.line - 2) // 5 for p in error.problems}
        else:
            dead = set()
            for number, glob in enumerate(globs):
                said = table.license_of(glob.replace("*", "-fresh-"))
                assert said is not None
                assert (said.position[0] - 2) // 5 == number
        for number in dead:
            patterns = [re.compile(glob.replace("*", ".*")) for glob in globs[: number + 1]]
            for name in ids:
                hits = [bool(pattern.fullmatch(f"o/{name}")) for pattern in patterns]
                assert not hits[-1] or any(hits[:-1])


@pytest.mark.parametrize(
    ("word", "hint"), [("apache2.0", "did you mean 'apache-2.0'?"), ("secret", "write unknown")]
)
def test_an_unknown_license_is_refused_with_its_place(tmp_path: Path, word: str, hint: str) -> None:
    (problem,) = _problems(tmp_path, _table(("a/b", "mit"), ("c/d", word)))
    assert (problem.line, problem.column) == (8, 5)
    assert f"'{word}' is neither" in problem.message
    assert problem.hint.startswith(hint)


def test_an_unknown_license_beside_it_is_refused_too(tmp_path: Path) -> None:
    text = _table(("a/b", "mit")).replace("    read:", "    also: [mit-0x]\n    read:")
    (problem,) = _problems(tmp_path, text)
    assert (problem.line, problem.column) == (6, 12)


@pytest.mark.parametrize(
    "glob",
    ["a/*", "a/*b", "*/b", "a*/b", "*", "b*", "a/b/c", "a/b***", "a/[b]", "a/b?", "a/", '""'],
)
def test_a_glob_that_matches_too_much_is_refused(tmp_path: Path, glob: str) -> None:
    (problem,) = _problems(tmp_path, _table((f'"{glob.strip(chr(34))}"', "mit")))
    assert (problem.line, problem.column) == (2, 13)


@pytest.mark.parametrize("key", ["match", "license", "source", "date", "read"])
def test_a_line_without_a_fact_is_refused(tmp_path: Path, key: str) -> None:
    text = re.sub(
        rf"( +- )?(    )?{key}: .*\n", r"\1" if key == "match" else "", _table(("a/b", "mit"))
    )
    text = text.replace("  -     license", "  - license")
    (problem,) = _problems(tmp_path, text)
    assert f"'{key}' is missing" in problem.message


def test_a_hostile_id_is_answered_at_once() -> None:
    assert license_of_model("meta-llama/" + "Llama-" * 50_000) is None
    assert license_of_model("Qwen/Qwen2.5-7B" + "-" * 300_000) is not None
