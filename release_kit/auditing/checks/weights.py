"""Weights are whole and sound safetensors, and nothing in the bundle is a pickle.

No library opens a file: tensors are read in blocks as numbers, and a pickle is told by its
opcodes, whatever it is called.
"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from release_kit.auditing.candidate import Candidate
from release_kit.auditing.checks.check import Check, Outcome
from release_kit.auditing.findings import Finding, NotExamined, Rule, Severity
from release_kit.licensing.policy import SuspiciousMatrix
from release_kit.weight_files import DamagedWeights
from release_kit.weight_tensors import (
    GGUF_SUFFIX,
    INDEX_SUFFIX,
    SUFFIX,
    Tensor,
    has_no_number,
    is_shard,
    raw_blocks,
    read_gguf_tensors,
    read_index,
    read_tensors,
    same_bytes,
    weights_in,
)

_PICKLE_SUFFIXES = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill", ".bin")
_SNIFFED = 1 << 16
# Opcodes in a row, each with what it needs on the stack, that chance does not produce.
_CONVINCING = 4
_PROTOCOLS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_CALLS = {"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"}
_IMPORTS = {"GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"}
# GLOBAL and INST name a module and what it holds; other words after them are prose.
_IMPORTED = re.compile(r"[\w.]+ [\w.]+")

# A name is a stranger's text. What models call their tensors is shown, and nothing that could be
# an address, a number of somebody's or a sentence.
_PLAIN_NAME = re.compile(r"(?!.*\d{6})[A-Za-z0-9_.-]{1,120}")
_SHOWN = 5
_NUMBER = re.compile(r"\d+")
# So many numbers of a matrix tell whether another may be equal.
_STARTS = 4096
# A mask holds two numbers and is the same in each layer.
_OF_A_MASK = 2

ABSENT = Rule(
    "weights-missing",
    Severity.ERROR,
    "The bundle holds no weights",
    "A model release without a .safetensors or .gguf file has nothing to load.",
)
UNREADABLE = Rule(
    "safetensors-unreadable",
    Severity.ERROR,
    "A safetensors file is broken",
    "The header must be JSON whose tensors cover the file exactly, without holes or overlaps; "
    "anything else is truncated, corrupt or made to deceive.",
)
GGUF = Rule(
    "gguf-unreadable",
    Severity.ERROR,
    "A GGUF file is broken",
    "The header must describe tensors of known forms that lie inside the file; anything else is "
    "truncated, corrupt or too new to be judged.",
)
INDEX = Rule(
    "weights-index",
    Severity.ERROR,
    "Sharded weights and their index do not agree",
    "Whoever loads the model reads what the index lists, and gets random numbers, or a stranger's "
    "file, in place of what is not there.",
)
NOT_FINITE = Rule(
    "weights-not-finite",
    Severity.ERROR,
    "A tensor holds NaN or infinity",
    "One such number spreads to every output. Training diverged, or a cast to fewer bits ran over.",
)
SUSPICIOUS = Rule(
    "weights-suspicious",
    Severity.WARNING,
    "A matrix is not what training leaves behind",
    "A matrix of one number, or that of another layer, was never trained, lost or copied. The "
    "severity comes from the policy.",
)
PICKLE = Rule(
    "pickle",
    Severity.ERROR,
    "A file is a pickle",
    "Loading a pickle runs code. Save weights as safetensors and leave out optimizer state, "
    "training arguments and caches.",
)


def _run(candidate: Candidate) -> Outcome:
    bundle = candidate.bundle
    weights = [path for path in bundle.files if path.endswith((SUFFIX, GGUF_SUFFIX))]
    findings: list[Finding] = []
    if not weights:
        findings.append(
            Finding(
                ABSENT.id,
                ABSENT.severity,
                f"no {SUFFIX} and no {GGUF_SUFFIX} file is in the bundle",
                fix="Run `release-kit run`.",
            )
        )
    sound: dict[Path, Mapping[str, Tensor]] = {}
    for path in weights:
        is_gguf = path.endswith(GGUF_SUFFIX)
        try:
            read = read_gguf_tensors if is_gguf else read_tensors
            sound[bundle.root / path] = read(bundle.root / path)
        except DamagedWeights as error:
            rule = GGUF if is_gguf else UNREADABLE
            findings.append(
                Finding(
                    rule.id,
                    rule.severity,
                    str(error),
                    path,
                    fix="Save the weights again and rebuild the bundle.",
                )
            )
    findings.extend(_index_mistakes(candidate, sound))
    not_examined: list[NotExamined] = []
    for file, tensors in sound.items():
        path = file.relative_to(bundle.root).as_posix()
        findings.extend(_not_finite(path, tensors.values()))
        findings.extend(_constant(path, tensors.values(), candidate.policy.suspicious_matrices))
        if unread := sum(not (t.is_float or t.is_whole) for t in tensors.values()):
            because = f"{unread} tensors hold numbers of a form in which NaN is not looked for"
            not_examined.append(NotExamined(path, because))
    findings.extend(_repeated(candidate, sound))
    for path in bundle.files:
        sign = _pickle_sign(bundle.root / path)
        if sign:
            findings.append(
                Finding(
                    PICKLE.id,
                    PICKLE.severity,
                    sign,
                    path,
                    fix="Remove it, or save it as safetensors or JSON.",
                )
            )
    counts = {"weight files": len(weights), "tensors": sum(map(len, sound.values()))}
    return Outcome(tuple(findings), counts, tuple(not_examined))


def _index_mistakes(
    candidate: Candidate, sound: Mapping[Path, Mapping[str, Tensor]]
) -> Iterator[Finding]:
    root = candidate.bundle.root
    files = {root / path for path in candidate.bundle.files}
    for file, parts in weights_in(files):
        wrong = ""
        if file.name.endswith(INDEX_SUFFIX):
            if not parts <= files:
                wrong = "a shard that it names is not in the bundle"
            elif parts <= set(sound):
                wrong = _index_mistake(file)
        elif is_shard(file.name):
            wrong = "its name is that of a shard, and no index lists it"
        if wrong:
            yield Finding(
                INDEX.id,
                INDEX.severity,
                wrong,
                file.relative_to(root).as_posix(),
                fix="Save the weights again with save_pretrained, which writes shards and index.",
            )


def _index_mistake(index: Path) -> str:
    try:
        read_index(index)
    except DamagedWeights as error:
        return str(error)
    return ""


def _not_finite(path: str, tensors: Iterable[Tensor]) -> Iterator[Finding]:
    names = [
        tensor.name
        for tensor in tensors
        if tensor.is_float and any(has_no_number(b, tensor.dtype) for b in raw_blocks(tensor))
    ]
    if names:
        yield Finding(
            NOT_FINITE.id,
            NOT_FINITE.severity,
            f"NaN or infinity stands in {_named(names)}",
            path,
            fix="Train again with a smaller learning rate, or cast to a form with more range.",
        )


def _constant(
    path: str, tensors: Iterable[Tensor], doubts: Iterable[SuspiciousMatrix]
) -> Iterator[Finding]:
    constant = [tensor for tensor in tensors if tensor.is_matrix and _is_constant(tensor)]
    said = "one number stands everywhere in"
    yield from _suspicious(path, said, constant, "constant", doubts)


def _is_constant(tensor: Tensor) -> bool:
    first = next(raw_blocks(tensor, 1), None)
    return first is not None and all(bool((b == first[0]).all()) for b in raw_blocks(tensor))


def _repeated(
    candidate: Candidate, sound: Mapping[Path, Mapping[str, Tensor]]
) -> Iterator[Finding]:
    """Yield the matrices of a layer that are those of another one.

    Two matrices of one kind, such as an input layer and the output layer tied to it, are told
    apart by their names: layers differ in a number only.
    """
    root = candidate.bundle.root
    for file, parts in weights_in(root / path for path in candidate.bundle.files):
        alike: dict[tuple[str, str, tuple[int, ...]], list[Tensor]] = {}
        for part in sorted(parts & set(sound)):
            for name, tensor in sound[part].items():
                if tensor.is_matrix:
                    key = (_NUMBER.sub("#", name), tensor.dtype, tensor.shape)
                    alike.setdefault(key, []).append(tensor)
        repeated = [tensor for group in alike.values() for tensor in _repeats(group)]
        said = "the numbers of another layer stand in"
        path = file.relative_to(root).as_posix()
        doubts = candidate.policy.suspicious_matrices
        yield from _suspicious(path, said, repeated, "repeated", doubts)


def _repeats(group: list[Tensor]) -> Iterator[Tensor]:
    """Yield each of `group` that repeats one before it."""
    by_start: dict[bytes, list[Tensor]] = {}
    for tensor in group if len(group) > 1 else ():
        start = next(raw_blocks(tensor, min(tensor.count, _STARTS)))
        if len(set(start.tolist())) <= _OF_A_MASK:
            continue
        earlier = by_start.setdefault(start.tobytes(), [])
        if any(same_bytes(tensor, other) for other in earlier):
            yield tensor
        else:
            earlier.append(tensor)


def _suspicious(
    path: str, said: str, matrices: list[Tensor], kind: str, doubts: Iterable[SuspiciousMatrix]
) -> Iterator[Finding]:
    for doubt in doubts:
        names = [m.name for m in matrices if m.count >= doubt.least and doubt.kind == kind]
        if names:
            yield Finding(
                SUSPICIOUS.id,
                Severity(doubt.severity),
                f"{said} {_named(names)}",
                path,
                fix="Save the weights of the trained model again, or have somebody answer for it.",
                cites=(f"policy: {doubt.because}",),
                clause=doubt.id,
            )


def _named(names: Iterable[str]) -> str:
    listed = sorted(names)
    plain = [name for name in listed if _PLAIN_NAME.fullmatch(name)][:_SHOWN]
    more = len(listed) - len(plain)
    rest = f"{more} more" if plain else f"{more} tensors of unusual names"
    return ", ".join([*plain, *([rest] if more else [])])


def _pickle_sign(path: Path) -> str:
    with path.open("rb") as stream:
        head = stream.read(_SNIFFED)
    if head.startswith(b"PK\x03\x04") and zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                inside = [n for n in archive.namelist() if n.endswith((".pkl", ".pickle"))]
        except (zipfile.BadZipFile, NotImplementedError, OSError):
            return "this archive cannot be read, so a pickle in it cannot be ruled out"
        if inside:
            return "this archive holds a pickle, as torch.save writes it"
    if _parses_as_pickle(head, whole=len(head) < _SNIFFED):
        return "its content is a pickle"
    if path.suffix.lower() in _PICKLE_SUFFIXES:
        return "its name is one under which tools load pickles"
    return ""


class _Head(io.BytesIO):
    """The start of a file, which remembers whether more was asked for than there is."""

    ran_out = False

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.ran_out = self.ran_out or (size or 0) > len(data)
        return data

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        self.ran_out = self.ran_out or not line.endswith(b"\n")
        return line


def _parses_as_pickle(head: bytes, *, whole: bool) -> bool:
    """Tell whether loading would take `head` for the start of a pickle, without loading it.

    It is one when it ends as a pickle does, when it imports something and calls it on the way,
    or when it goes on long enough to leave no doubt. Text that happens to start with an opcode or
    two is none.
    """
    stream, opcodes, imports = _Head(head), 0, False
    stack: list[pickletools.StackObject] = []
    has_protocol = head[:2] in _PROTOCOLS
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            _move(stack, opcode)
            opcodes += 1
            if opcode.name in {"GLOBAL", "INST"} and not _IMPORTED.fullmatch(str(argument)):
                return False
            imports = imports or opcode.name in _IMPORTS
            if imports and opcode.name in _CALLS:
                return True
            if opcode.name == "STOP":
                ends = whole and stream.tell() == len(head)
                alone = not stack and (ends or opcodes >= _CONVINCING)
                return has_protocol or imports or alone
    except Exception:  # noqa: BLE001, S110 - genops raises many kinds on what is no pickle
        pass
    if stream.ran_out and not whole:
        return has_protocol or opcodes + 1 >= _CONVINCING
    return has_protocol and opcodes >= _CONVINCING


def _move(stack: list[pickletools.StackObject], opcode: pickletools.OpcodeInfo) -> None:
    """Do to `stack` what `opcode` does, by kinds of things only.

    Raises:
        IndexError: what it needs is not there.
    """
    needs, mark = opcode.stack_before, pickletools.markobject
    if mark in needs:
        while stack.pop() is not mark:
            pass
        needs = needs[: needs.index(mark)]
    if len(stack) < len(needs):
        raise IndexError
    del stack[len(stack) - len(needs) :]
    stack.extend(opcode.stack_after)


CHECK = Check(
    "weights",
    "Weights are sound and safe to load",
    (ABSENT, UNREADABLE, GGUF, INDEX, NOT_FINITE, SUSPICIOUS, PICKLE),
    _run,
)
