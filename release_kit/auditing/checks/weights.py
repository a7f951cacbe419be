"""Weights are readable safetensors, and nothing in the bundle is a pickle.

No file is ever loaded: of safetensors only the header is read, and a pickle is told by its
opcodes, whatever it is called.
"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any

from release_kit.auditing.candidate import Candidate
from release_kit.auditing.checks.check import Check, Outcome
from release_kit.auditing.findings import Finding, Rule, Severity
from release_kit.weight_files import DamagedWeights, read_safetensors

_SUFFIX = ".safetensors"
# The sizes in a header are 64-bit numbers.
_LARGEST_SIZE = 1 << 64
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32,
    "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
_PICKLE_SUFFIXES = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill", ".bin")
_SNIFFED = 1 << 16
# Opcodes in a row, each with what it needs on the stack, that chance does not produce.
_CONVINCING = 4
_PROTOCOLS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_CALLS = {"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"}
_IMPORTS = {"GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"}
# GLOBAL and INST name a module and what it holds; other words after them are prose.
_IMPORTED = re.compile(r"[\w.]+ [\w.]+")

ABSENT = Rule(
    "weights-missing",
    Severity.ERROR,
    "The bundle holds no weights",
    "A model release without a .safetensors file has nothing to load.",
)
UNREADABLE = Rule(
    "safetensors-unreadable",
    Severity.ERROR,
    "A safetensors file is broken",
    "The header must be JSON whose tensors cover the file exactly, without holes or overlaps; "
    "anything else is truncated, corrupt or made to deceive.",
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
    weights = [path for path in bundle.files if path.endswith(_SUFFIX)]
    findings: list[Finding] = []
    if not weights:
        findings.append(
            Finding(
                ABSENT.id,
                ABSENT.severity,
                f"no {_SUFFIX} file is in the bundle",
                fix="Run `release-kit train` and `release-kit build`.",
            )
        )
    for path in weights:
        wrong = header_mistake(bundle.root / path)
        if wrong:
            findings.append(
                Finding(
                    UNREADABLE.id,
                    UNREADABLE.severity,
                    wrong,
                    path,
                    fix="Save the weights again with safetensors and rebuild the bundle.",
                )
            )
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
    return Outcome(tuple(findings), {"weight files": len(weights)})


def header_mistake(path: Path) -> str:
    """Return what is wrong with the safetensors file at `path`, or an empty string."""
    try:
        header = read_safetensors(path)
    except DamagedWeights as error:
        return str(error)
    return _layout_mistake([_span(tensor) for tensor in header.tensors.values()], header.data_size)


def _layout_mistake(spans: list[tuple[int, int] | None], data_size: int) -> str:
    known = sorted(span for span in spans if span is not None)
    if len(known) < len(spans):
        return "a tensor's dtype, shape and offsets do not agree"
    if not known:
        return "the file holds no tensor"
    end = 0
    for start, stop in known:
        if start != end:
            return "the tensors leave a hole or overlap"
        end = stop
    if end != data_size:
        return "the tensors do not cover the file exactly: it is truncated or has bytes after them"
    return ""


def _span(tensor: Any) -> tuple[int, int] | None:
    match tensor:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [start, stop]}:
            if dtype not in _BITS or not all(_is_size(n) for n in (*shape, start, stop)):
                return None
            bits = _BITS[dtype]
            for length in shape:
                bits *= length
                if bits >= _LARGEST_SIZE:
                    return None
            return (start, stop) if bits == 8 * (stop - start) else None
        case _:
            return None


def _is_size(value: Any) -> bool:
    # True and False are numbers to Python, but not to the format.
    return type(value) is int and 0 <= value < _LARGEST_SIZE


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


CHECK = Check("weights", "Weights are safe to load", (ABSENT, UNREADABLE, PICKLE), _run)
