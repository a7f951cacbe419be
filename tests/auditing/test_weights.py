"""Headers of safetensors and signs of pickles, on real files and on damaged ones."""

from __future__ import annotations

import io
import json
import pickle
import random
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from release_kit.auditing.candidate import Candidate
from release_kit.auditing.checks import weights
from release_kit.bundle import read_bundle
from release_kit.licensing.policy import load_policy
from release_kit.weight_files import DamagedWeights
from release_kit.weight_tensors import read_tensors


def _tensor(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}


def _file(header: object, data: bytes = bytes(8)) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


@pytest.fixture
def saved(tmp_path: Path) -> bytes:
    """What safetensors itself writes."""
    import torch
    from safetensors.torch import save_file

    tensors = {
        "half": torch.ones(3, 5, dtype=torch.bfloat16),
        "mask": torch.ones(7, dtype=torch.bool),
        "none": torch.ones(0, 4),
        "scalar": torch.tensor(1.5),
    }
    save_file(tensors, tmp_path / "saved.safetensors", metadata={"format": "pt"})
    return (tmp_path / "saved.safetensors").read_bytes()


def _mistake(folder: Path, raw: bytes) -> str:
    path = folder / "model.safetensors"
    path.write_bytes(raw)
    try:
        read_tensors(path)
    except DamagedWeights as error:
        return str(error)
    return ""


def _loads(folder: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / "model.safetensors", "pt") as opened:
            return bool(opened.keys())
    except SafetensorError:
        return False


def test_what_safetensors_saved_is_sound(saved: bytes, tmp_path: Path) -> None:
    assert _mistake(tmp_path, saved) == ""


@pytest.mark.parametrize(
    "raw",
    [
        _file({"a": _tensor()}),
        _file(json.dumps({"a": _tensor()}).encode() + b"    "),
        _file({"__metadata__": {"made by": "us"}, "a": _tensor()}),
        _file({"b": _tensor(shape=[], data_offsets=[4, 8]), "a": _tensor(shape=[1, 1, 1],
              data_offsets=[0, 4])}),
        _file({"a": _tensor(dtype="F4", shape=[16])}),
        _file({"a": _tensor(), "empty": _tensor(shape=[0, 1 << 40], data_offsets=[8, 8])}),
    ],
    ids=["plain", "padded", "metadata", "not in order", "half bytes", "empty tensor"],
)  # fmt: skip
def test_unusual_but_sound_files_pass(raw: bytes, tmp_path: Path) -> None:
    assert _mistake(tmp_path, raw) == ""
    assert _loads(tmp_path)


MISTAKES = {
    "empty file": b"",
    "7 bytes": bytes(7),
    "length only": bytes(8),
    "length beyond the file": (1 << 20).to_bytes(8, "little") + b"{}",
    "largest length": b"\xff" * 8 + b"{}",
    "not JSON": _file(b"{'a': 1}"),
    "not an object": _file([_tensor()]),
    "a number": _file(b"1"),
    "no number of JSON": _file(b'{"a": NaN}'),
    "not UTF-8": _file(b'{"\xff": 1}'),
    "UTF-16": _file(json.dumps({"a": _tensor()}).encode("utf-16")),
    "byte order mark": _file(b"\xef\xbb\xbf" + json.dumps({"a": _tensor()}).encode()),
    "tensor twice": _file(b'{"a": %s, "a": %s}' % ((json.dumps(_tensor()).encode(),) * 2)),
    "key of a tensor twice": _file(
        b'{"a": {"dtype": "F64", "dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'
    ),
    "no tensor": _file({}, b""),
    "metadata only": _file({"__metadata__": {"format": "pt"}}, b""),
    "metadata not text": _file({"__metadata__": {"a": 1}, "a": _tensor()}),
    "metadata a list": _file({"__metadata__": [], "a": _tensor()}),
    "hole at the start": _file({"a": _tensor(data_offsets=[8, 16])}, bytes(16)),
    "hole between": _file({"a": _tensor(), "b": _tensor(data_offsets=[16, 24])}, bytes(24)),
    "overlap": _file({"a": _tensor(), "b": _tensor(data_offsets=[4, 12])}, bytes(12)),
    "one above the other": _file({"a": _tensor(), "b": _tensor()}),
    "bytes after": _file({"a": _tensor()}, bytes(9)),
    "truncated": _file({"a": _tensor()}, bytes(7)),
    "span unlike shape": _file({"a": _tensor(shape=[3])}),
    "span backwards": _file({"a": _tensor(data_offsets=[8, 0])}),
    "negative offset": _file({"a": _tensor(data_offsets=[-8, 0])}),
    "negative shape": _file({"a": _tensor(shape=[-1, -2])}),
    "offset false": _file({"a": _tensor(data_offsets=[False, 8])}),
    "shape true": _file({"a": _tensor(shape=[2, True])}),
    "offset a float": _file({"a": _tensor(data_offsets=[0.0, 8.0])}),
    "offset text": _file({"a": _tensor(data_offsets=["0", "8"])}),
    "three offsets": _file({"a": _tensor(data_offsets=[0, 8, 8])}),
    "shape a number": _file({"a": _tensor(shape=2)}),
    "huge offsets": _file({"a": _tensor(data_offsets=[1 << 80, (1 << 80) + 8])}),
    "huge shape": _file({"a": _tensor(shape=[1 << 62, 1 << 62])}),
    "huge shape of nothing": _file({"a": _tensor(shape=[1 << 62, 8, 0], data_offsets=[0, 0])}, b""),
    "endless shape": _file({"a": _tensor(shape=[(1 << 63) - 1] * 100_000)}),
    "number of 5000 digits": _file(b'{"a": {"dtype": "F32", "shape": [%s]}}' % (b"9" * 5000)),
    "unknown dtype": _file({"a": _tensor(dtype="F128")}),
    "dtype a list": _file({"a": _tensor(dtype=["F32"])}),
    "half a byte too much": _file({"a": _tensor(dtype="F4", shape=[15])}),
    "no shape": _file({"a": {"dtype": "F32", "data_offsets": [0, 8]}}),
    "tensor a list": _file({"a": [0, 8]}),
    "tensor null": _file({"a": None}),
    "nested 100000 deep": _file(b'{"a":' * 100_000),
    "lists 100000 deep": _file(b'{"a":' + b"[" * 100_000),
}


@pytest.mark.parametrize("raw", MISTAKES.values(), ids=MISTAKES)
def test_a_damaged_file_is_told(raw: bytes, tmp_path: Path) -> None:
    assert _mistake(tmp_path, raw)


def test_each_mistake_has_its_own_words(tmp_path: Path) -> None:
    said = {
        name: _mistake(tmp_path, MISTAKES[name])
        for name in (
            "7 bytes",
            "largest length",
            "not JSON",
            "unknown dtype",
            "overlap",
            "truncated",
        )
    }
    assert len(set(said.values())) == len(said)


def test_no_damage_crashes_and_what_passes_loads(saved: bytes, tmp_path: Path) -> None:
    """Seeded damage to a real file: never an exception, and never sound where safetensors balks."""
    draw = random.Random(20)
    length = int.from_bytes(saved[:8], "little")
    passed = 0
    for _ in range(400):
        raw = bytearray(saved)
        for _ in range(draw.randint(1, 3)):
            raw[draw.randrange(8 + length + 4)] = draw.choice(b'{}[]":,0123456789FUI8 \x00\xff')
        if not _mistake(tmp_path, bytes(raw)):
            passed += 1
            assert _loads(tmp_path), bytes(raw[: 8 + length])
    assert 0 < passed < 400


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_random_bytes_never_crash(tmp_path: Path) -> None:
    draw = random.Random(21)
    starts = (b"", b"\x80\x04", b"PK\x03\x04", b"(", b"c", (40).to_bytes(8, "little"))
    for _ in range(300):
        raw = draw.choice(starts) + draw.randbytes(draw.randint(0, 200))
        assert _mistake(tmp_path, raw)
        _signs(tmp_path, "noise.dat", raw)


# numbers


def _found(folder: Path, name: str = "model.safetensors", **arrays: Any) -> list[tuple[str, str]]:
    """Return rule and message of what the check finds in a bundle of these tensors."""
    from safetensors.torch import save_file

    root = folder / "bundle"
    root.mkdir(exist_ok=True)
    if arrays:
        tensors = {key.replace("__", "."): value.clone() for key, value in arrays.items()}
        save_file(tensors, root / name)
    outcome = weights.CHECK.run(Candidate(read_bundle(root), None, POLICY, {}))
    assert all(finding.fix for finding in outcome.findings)
    return [(finding.rule, finding.message) for finding in outcome.findings]


def _matrix(seed: int = 4, rows: int = 30, columns: int = 20) -> Any:
    import torch

    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)) + 0.5


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_a_number_that_is_none_is_found_wherever_it_stands(
    dtype: str, number: str, tmp_path: Path
) -> None:
    import torch

    kind = getattr(torch, dtype)
    sound = _matrix(1, 700, 400).to(kind)
    sound[0, 0] = torch.finfo(kind).max
    assert _found(tmp_path, a=sound) == []
    for place in ((0, 0), (-1, -1)):
        broken = sound.clone()
        broken[place] = float(number)
        said = [("weights-not-finite", "NaN or infinity stands in b.weight")]
        assert _found(tmp_path, a=sound, b__weight=broken) == said
    assert _found(tmp_path, a=torch.arange(9), b=torch.ones(3, 3, dtype=torch.bool)) == []


def test_numbers_that_are_not_read_are_told(tmp_path: Path) -> None:
    import torch

    assert _found(tmp_path, a=_matrix().to(torch.float8_e4m3fn), b=_matrix()) == []
    candidate = Candidate(read_bundle(tmp_path / "bundle"), None, POLICY, {})
    (unseen,) = weights.CHECK.run(candidate).not_examined
    assert unseen.path == "model.safetensors"
    assert unseen.because.startswith("1 tensors hold numbers of a form")


@pytest.mark.parametrize("number", [0.0, -2.5])
def test_a_matrix_of_one_number_is_suspicious_and_a_vector_is_not(
    number: float, tmp_path: Path
) -> None:
    import torch

    flat = torch.full((30, 20), number)
    ((rule, said),) = _found(tmp_path, a=_matrix(), b=flat)
    assert (rule, said) == ("weights-suspicious", "one number stands everywhere in b")
    almost = flat.clone()
    almost[-1, -1] += 1
    assert _found(tmp_path, a=almost, b=flat[0], c=flat[:1], d=flat[:3, :3]) == []
    # What cannot be a weight: whole numbers, and a matrix without any.
    assert _found(tmp_path, a=flat.long(), b=torch.ones(0, 4), c=_matrix()) == []


def test_a_layer_that_repeats_another_is_suspicious_and_tied_layers_are_not(
    tmp_path: Path,
) -> None:
    one, other, mask = _matrix(1), _matrix(2), (_matrix(3) > 1).float()
    layers = {"h__0__up": one, "h__1__up": other, "h__0__mask": mask, "h__1__mask": mask}
    assert _found(tmp_path, **layers, h__0__down=one, head=one) == []
    said = [("weights-suspicious", "the numbers of another layer stand in h.2.up")]
    assert _found(tmp_path, **layers, h__2__up=one) == said
    nearly = one.clone()
    nearly[-1, -1] += 1
    assert _found(tmp_path, **layers, h__2__up=nearly, h__3__up=one.double()) == []
    # Over shards as well, and from each of many.
    (tmp_path / "bundle" / "model.safetensors").unlink()
    shards = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    assert _found(tmp_path, shards[0], h__0__up=one, h__1__up=one)[1:] == [
        ("weights-suspicious", "the numbers of another layer stand in h.1.up")
    ]
    _found(tmp_path, shards[0], h__0__up=one)
    _found(tmp_path, shards[1], h__1__up=one)
    index = {"weight_map": {"h.0.up": shards[0], "h.1.up": shards[1]}}
    file = tmp_path / "bundle" / "model.safetensors.index.json"
    file.write_text(json.dumps(index), encoding="utf-8")
    assert [rule for rule, _ in _found(tmp_path)] == ["weights-suspicious"]


def test_names_of_tensors_are_shown_only_where_they_are_plain(tmp_path: Path) -> None:
    nothing = _matrix()[0] * float("nan")
    private = ("maria.gonzalez@example.com", "GB33BUKB20201555555555", "Jane Doe", "\x1b[31m", "é")
    names = dict.fromkeys((*private, *(f"layer.{n}.weight" for n in range(7))), nothing)
    ((_, said),) = _found(tmp_path, **names)
    assert not [name for name in private if name in said]
    assert said.endswith("layer.3.weight, layer.4.weight, 7 more")
    ((_, said),) = _found(tmp_path, **dict.fromkeys(private, nothing))
    assert said == "NaN or infinity stands in 5 tensors of unusual names"


def _sharded(folder: Path, **listed: str) -> list[tuple[str, str]]:
    _found(folder, "model-00001-of-00002.safetensors", a=_matrix(1))
    _found(folder, "model-00002-of-00002.safetensors", b=_matrix(2))
    names = {
        "a": "model-00001-of-00002.safetensors",
        "b": "model-00002-of-00002.safetensors",
        **listed,
    }
    index = folder / "bundle" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": names}), encoding="utf-8")
    return _found(folder)


def test_an_index_that_agrees_is_silent_and_any_other_is_told(tmp_path: Path) -> None:
    assert _sharded(tmp_path) == []
    for listed, words in (
        ({"c": "model-00001-of-00002.safetensors"}, "exactly what the index says"),
        ({"c": "model-00003-of-00003.safetensors"}, "not in the bundle"),
        ({"c": "../secret.safetensors"}, "outside its folder"),
    ):
        found = _sharded(tmp_path, **listed)
        assert {rule for rule, _ in found} == {"weights-index"}
        assert any(words in said for _, said in found)
        assert "secret" not in str(found)
    # A shard that is damaged is told once, for itself.
    assert _sharded(tmp_path) == []
    shard = tmp_path / "bundle" / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert [rule for rule, _ in _found(tmp_path)] == ["safetensors-unreadable"]
    (tmp_path / "bundle" / "model.safetensors.index.json").unlink()
    assert {rule for rule, _ in _found(tmp_path)} == {"safetensors-unreadable", "weights-index"}


# pickles


def _signs(folder: Path, name: str, raw: bytes) -> bool:
    """Tell whether the check finds a pickle in a bundle of one file."""
    root = folder / "bundle"
    root.mkdir(exist_ok=True)
    (root / name).write_bytes(raw)
    candidate = Candidate(read_bundle(root), None, POLICY, {})
    found = [f.path for f in weights.CHECK.run(candidate).findings if f.rule == weights.PICKLE.id]
    (root / name).unlink()
    assert found in ([], [name])
    return bool(found)


POLICY = load_policy()
STATE = {"step": 3, "rates": [0.1, 0.2], "done": False, "name": "adam"}


class Thing:
    """Something whose pickle imports and calls."""

    def __init__(self) -> None:
        self.size = 3


def _torch(value: object, **options: Any) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def _tensors() -> dict[str, Any]:
    import torch

    return {"weight": torch.ones(4, 4)}


def _like_joblib() -> bytes:
    """An array as joblib stores it: its bytes stand in the middle of the pickle."""
    import joblib
    import numpy

    stream = io.BytesIO()
    joblib.dump({"weight": numpy.full(40_000, 7.25)}, stream)
    return stream.getvalue()


PICKLES: dict[str, Callable[[], bytes]] = {
    **{
        f"protocol {protocol} of {name}": lambda p=protocol, v=value: pickle.dumps(v, protocol=p)
        for protocol in range(6)
        for name, value in {
            "plain data": STATE,
            "a class": Thing(),
            "a function": len,
            "a long list": list(range(40_000)),
            "an ordered dict": OrderedDict(STATE),
        }.items()
    },
    **{
        f"protocol {protocol} of a long text": lambda p=protocol: pickle.dumps(
            ["x" * 100_000], protocol=p
        )
        for protocol in (0, 2, 3, 4, 5)
    },
    "protocol 5 of long bytes": lambda: pickle.dumps(bytes(100_000), protocol=5),
    "nothing in protocol 0": lambda: pickle.dumps(None, protocol=0),
    "torch.save": lambda: _torch(_tensors()),
    "torch.save of old": lambda: _torch(_tensors(), _use_new_zipfile_serialization=False),
    "joblib": _like_joblib,
    "a call, then rubbish": lambda: b"cos\nsystem\n(S'true'\ntR and no end",
    "plain data, then rubbish": lambda: pickle.dumps(STATE, protocol=4)[:-1] + b"\xff\x00",
    "an old call": lambda: b"(S'true'\nios\nsystem\n.",
    "a pickle with bytes after it": lambda: pickle.dumps(STATE, protocol=0) + b"\nmore",
}


@pytest.mark.parametrize("make", PICKLES.values(), ids=PICKLES)
@pytest.mark.parametrize("name", ["notes.txt", "model.safetensors"])
def test_a_pickle_is_found_whatever_it_is_called(
    make: Callable[[], bytes], name: str, tmp_path: Path
) -> None:
    assert _signs(tmp_path, name, make())


@pytest.mark.parametrize("suffix", [".pkl", ".pickle", ".pt", ".PTH", ".ckpt", ".joblib", ".bin"])
def test_a_name_under_which_tools_load_pickles_is_enough(suffix: str, tmp_path: Path) -> None:
    assert _signs(tmp_path, f"optimizer{suffix}", b"nothing much\n")


def test_an_archive_that_cannot_be_read_is_not_passed(tmp_path: Path) -> None:
    raw = _torch(_tensors())
    at = raw.rindex(b"PK\x01\x02")
    assert _signs(tmp_path, "notes.txt", raw[:at] + b"PK\x09\x09" + raw[at + 4 :])


@pytest.mark.parametrize(
    "text",
    [
        ".",
        ". . .",
        ".gitignore\n",
        "N. Smith wrote this.\n",
        "N.B. this is text.\n",
        "(",
        "(c) Acme\n",
        "(see the card).\n",
        "(i) first\n(ii) second\n.\n",
        "(in short\nof it all\n.",
        ").\n",
        "].\n",
        "}.\n",
        "I1\n",
        "0.1\n",
        "2.\n",
        "cat\nsat on the mat\nRest.\n",
        "could\nshould\nbut\n",
        "chapter one\nchapter two\n.\n",
        "import os\nos.system('true')\n",
        "Voilà\n.\nthe end\n",
        "S'quoted'\nand more\n",
        "X" * 70_000,
        "V" + "long line " * 10_000,
        "pickle.loads(b'cos\\nsystem\\n') runs code",
    ],
)
def test_text_that_starts_like_a_pickle_is_none(text: str, tmp_path: Path) -> None:
    assert not _signs(tmp_path, "notes.txt", text.encode())


def test_plain_archives_and_images_are_no_pickles(tmp_path: Path) -> None:
    import zipfile

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("notes.txt", "pickle.pkl")
    assert not _signs(tmp_path, "notes.zip", stream.getvalue())
    assert not _signs(tmp_path, "logo.png", b"\x89PNG\r\n\x1a\n" + bytes(64))
    assert not _signs(tmp_path, "nothing", b"")
    assert not _signs(tmp_path, "start", b"\x80\x04")


def test_a_sound_file_whose_length_reads_as_a_protocol_is_no_pickle(tmp_path: Path) -> None:
    for protocol in range(2, 6):
        header = json.dumps({"a": _tensor()}).encode().ljust(0x80 + (protocol << 8))
        raw = _file(header)
        assert raw.startswith(bytes([0x80, protocol]))
        assert _mistake(tmp_path, raw) == ""
        assert not _signs(tmp_path, "model.safetensors", raw)
