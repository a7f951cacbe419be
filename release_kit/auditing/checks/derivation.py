"""The weights are made of the models that the lineage says they are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from release_kit.auditing.candidate import Candidate
from release_kit.auditing.checks.check import Check, Outcome
from release_kit.auditing.findings import Finding, NotExamined, Rule, Severity
from release_kit.files import sha256_file
from release_kit.licensing.policy import Policy, WeightLimit
from release_kit.release import RELEASE_FILE, Upstream
from release_kit.weight_files import DamagedWeights
from release_kit.weight_lineage import AdapterFit, Comparison, compare, fit_of, is_adapter
from release_kit.weight_tensors import (
    GGUF_SUFFIX,
    INDEX_SUFFIX,
    SUFFIX,
    Weights,
    read_weights,
    weights_in,
)

CONTRADICTED = Rule(
    "base-contradicted",
    Severity.ERROR,
    "The weights are not what the lineage says they are made of",
    "The terms of another model may hold for them than those that were judged. Correct the "
    "lineage, or release the weights that were made from it. The severity comes from the policy's "
    "limit.",
)
UNEXAMINED = Rule(
    "base-unexamined",
    Severity.WARNING,
    "The weights could not be held against those of a model in the lineage",
    "Whether they were made from it is not shown. Put its weights, as safetensors, at its path. "
    "The severity comes from the policy.",
)
_MODELS = ("base_model", "adapter", "generator")
"""The roles that have weights."""
_SHIPPED = "weights-shipped"
_MADE_FROM = ("weights-derived", "adapter-delta", _SHIPPED)
_UNRELATED = 1.0
"""The change of a matrix, as a share, beyond which a zero matrix would be nearer."""
_RANK = tuple(Severity)
"""The worst first."""
_WHY = {
    "no-path": "release.yaml names no path to its weights",
    "absent": "there is nothing at its path",
    "no-weights": f"no {SUFFIX} file lies at its path",
    "unreadable": "its weights cannot be read",
    "other-form": "the release is in GGUF, which is not held against other forms",
    "nothing-shared": "no matrix of the release has a counterpart in it",
}


@dataclass(frozen=True)
class _Examined:
    """One model of the lineage, held against the weights of the bundle."""

    upstream: Upstream
    found: Comparison | AdapterFit | None = None
    """How the nearest of the bundle's models agrees with it; None when none could be compared."""
    own: Path | None = None
    """The file of that model; None when they have nothing in common."""
    reason: str = ""
    """Why something could not be compared, in the policy's words; empty when all could."""

    @property
    def cosine(self) -> float | None:
        return self.found.cosine if isinstance(self.found, Comparison) else None

    @property
    def change(self) -> float | None:
        return self.found.change if isinstance(self.found, Comparison) else None


def _run(candidate: Candidate) -> Outcome:
    if candidate.release is None:
        return Outcome(())
    own = _own_weights(candidate)
    models = [upstream for upstream in candidate.release.lineage if upstream.role in _MODELS]
    gguf = {p: f.sha256 for p, f in candidate.bundle.files.items() if p.endswith(GGUF_SUFFIX)}
    if not own and not gguf:
        # That they are missing or broken is told by the check of the weights.
        because = "the bundle holds no weights that could be held against the lineage"
        return Outcome((), {"models compared": 0}, (NotExamined(RELEASE_FILE, because),))
    examined = [_examine(one, own) if own else _examine_gguf(one, gguf) for one in models]
    findings: list[Finding] = []
    not_examined = [*_resembling_nothing(candidate, own, examined)]
    if own:
        because = "GGUF is not held against other forms, so nothing shows what it was made from"
        not_examined += [NotExamined(path, because) for path in gguf]
    for one in examined:
        findings.extend(_contradictions(candidate.policy, one, examined))
        if one.reason:
            finding = _unexamined(candidate.policy, one)
            if finding:
                findings.append(finding)
            else:
                not_examined.append(NotExamined(RELEASE_FILE, _why_not(one)))
    return Outcome(tuple(findings), _counts(examined), tuple(not_examined))


def _own_weights(candidate: Candidate) -> list[Weights]:
    files = {candidate.bundle.root / path for path in candidate.bundle.files}
    # A shard that is a link leads out of the bundle.
    whole = [file for file, parts in weights_in(files) if parts <= files]
    return [found for file in whole if (found := _readable(file)) is not None]


def _readable(file: Path) -> Weights | None:
    try:
        return read_weights(file)
    except DamagedWeights:
        return None


def _resembling_nothing(
    candidate: Candidate, own: list[Weights], examined: list[_Examined]
) -> Iterator[NotExamined]:
    """Yield the models of the bundle of which nobody says what they were made from."""
    told = {one.own for one in examined if one.upstream.relation in _MADE_FROM and one.own}
    for weights in own:
        if told and weights.file not in told:
            yield NotExamined(
                weights.file.relative_to(candidate.bundle.root).as_posix(),
                "other weights of the bundle are nearer to each model of the lineage, so nothing"
                " shows what these were made from",
            )


def _examine(upstream: Upstream, own: list[Weights]) -> _Examined:
    path = upstream.path
    if path is None:
        return _Examined(upstream, reason="no-path")
    if not path.exists():
        return _Examined(upstream, reason="absent")
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    files = [file for file in files if file.name.endswith((SUFFIX, INDEX_SUFFIX))]
    if not files:
        return _Examined(upstream, reason="no-weights")
    try:
        bases = [read_weights(file) for file, _ in weights_in(files)]
        found = [(_held_against(one, base), one.file) for one in own for base in bases]
    except (DamagedWeights, OSError):
        return _Examined(upstream, reason="unreadable")
    nearest, file = max(found, key=lambda item: _nearness(item[0]))
    if isinstance(nearest, Comparison) and nearest.cosine is None:
        return _Examined(upstream, nearest, reason="nothing-shared")
    return _Examined(upstream, nearest, file)


def _examine_gguf(upstream: Upstream, gguf: Mapping[str, str]) -> _Examined:
    """Examine a release in GGUF, path → SHA-256: only the upstream's own files can be told."""
    path = upstream.path
    if path is None or not path.exists():
        return _Examined(upstream, reason="no-path" if path is None else "absent")
    theirs = {
        sha256_file(file) for file in (path, *path.rglob(f"*{GGUF_SUFFIX}")) if file.is_file()
    }
    if upstream.relation == _SHIPPED and theirs.issuperset(gguf.values()):
        return _Examined(upstream, own=path)
    return _Examined(upstream, reason="other-form")


def _held_against(own: Weights, base: Weights) -> Comparison | AdapterFit:
    return fit_of(own, base) if is_adapter(own) and not is_adapter(base) else compare(own, base)


def _nearness(found: Comparison | AdapterFit) -> tuple[bool, float, float]:
    """Return what is greater the better a model of the bundle agrees with one of the upstream."""
    if isinstance(found, AdapterFit):
        return True, -float(found.misfits), float(found.matrices)
    return found.cosine is not None, found.cosine or 0.0, found.shared


def _measures(one: _Examined, examined: list[_Examined]) -> Mapping[str, float]:
    """Return what was measured of one model, by the policy's words."""
    found = one.found
    if found is None:
        return {}
    if isinstance(found, AdapterFit):
        return {"adapter-misfits": found.misfits}
    measures: dict[str, float] = {
        "changed-parameters": found.changed_parameters,
        "missing-parameters": found.missing_parameters,
    }
    if found.cosine is not None and found.change is not None:
        measures["median-cosine"] = found.cosine
        measures["shared-share"] = found.shared
        declared = [
            other.change
            for other in examined
            if other.upstream.relation in _MADE_FROM and other.change is not None
        ]
        nearest = min([_UNRELATED, *declared])
        # Weights that are the very same are nearer than any other.
        measures["times-nearer"] = nearest / found.change if found.change else _same(nearest)
    if found.ranks:
        shares = zip(found.ranks, found.full_ranks, strict=True)
        measures["rank-share"] = max(rank / full for rank, full in shares)
    return measures


def _same(nearest: float) -> float:
    return float("inf") if nearest else 1.0


def _contradictions(policy: Policy, one: _Examined, examined: list[_Examined]) -> Iterator[Finding]:
    """Yield one finding a measure, of the strictest limit that was passed."""
    upstream = one.upstream
    for measure, value in _measures(one, examined).items():
        passed = [
            limit
            for limit in policy.weight_limits
            if limit.measure == measure and upstream.relation in limit.relations
            if limit.passed(value)
        ]
        if not passed:
            continue
        limit = min(passed, key=lambda limit: _RANK.index(Severity(limit.severity)))
        yield Finding(
            CONTRADICTED.id,
            Severity(limit.severity),
            f"{upstream.id} is declared {upstream.relation}, but {_said(limit, value)}"
            f"{_figures(one)}{_nearer(one, examined)}",
            RELEASE_FILE,
            *upstream.position,
            fix="Correct the lineage in release.yaml, or build the bundle from the weights that it"
            " is about.",
            cites=(f"policy: {limit.because}", f"source: {limit.source}"),
            upstream=upstream.id,
            clause=limit.id,
        )


def _said(limit: WeightLimit, value: float) -> str:
    end = f"above {limit.above:g}" if limit.above is not None else f"below {limit.below:g}"
    shown = f"{value:,.0f}" if limit.measure.endswith(("parameters", "misfits")) else f"{value:.4f}"
    return f"its {limit.measure.replace('-', ' ')} is {shown}, which is {end}"


def _figures(one: _Examined) -> str:
    found = one.found
    if isinstance(found, AdapterFit):
        return (
            f"; {found.misfits} of {found.matrices} matrices that the adapter changes do not fit it"
        )
    if found is None:
        return ""
    said = (
        f"; {found.equal} of {found.tensors} common tensors are equal, and"
        f" {found.shared:.1%} of the parameters are common"
    )
    if found.cosine is not None:
        said += f"; the median cosine of {found.matrices} matrices is {found.cosine:.4f}"
    if found.ranks:
        full = f"{max(found.ranks)} of {max(found.full_ranks)}"
        said += f"; the highest rank of the {len(found.ranks)} changes that were sampled is {full}"
    return said


def _nearer(one: _Examined, examined: list[_Examined]) -> str:
    """Say which other model of the lineage the weights are nearest to, if they are nearer to it."""
    others = [other for other in examined if other is not one and other.change is not None]
    nearest = min(others, key=lambda other: other.change or 0.0, default=None)
    if nearest is None or nearest.change is None or nearest.cosine is None:
        return ""
    if nearest.change >= min(_UNRELATED, _UNRELATED if one.change is None else one.change):
        return ""
    return f"; the weights are nearer to {nearest.upstream.id} (median cosine {nearest.cosine:.4f})"


def _unexamined(policy: Policy, one: _Examined) -> Finding | None:
    upstream = one.upstream
    lines = [
        line
        for line in policy.unexamined_weights
        if one.reason in line.reasons and upstream.relation in line.relations
    ]
    if not lines:
        return None
    line = min(lines, key=lambda line: _RANK.index(Severity(line.severity)))
    return Finding(
        UNEXAMINED.id,
        Severity(line.severity),
        _why_not(one),
        RELEASE_FILE,
        *upstream.position,
        fix=f"Put its {SUFFIX} files at the path that release.yaml names for it, or correct the"
        " lineage.",
        cites=(f"policy: {line.because}",),
        upstream=upstream.id,
        clause=line.id,
    )


def _why_not(one: _Examined) -> str:
    upstream = one.upstream
    return f"{upstream.id}: {_WHY[one.reason]}, so nothing shows that it is {upstream.relation}"


def _counts(examined: list[_Examined]) -> Mapping[str, int]:
    """Return what the report counts: the figures are those of the nearest declared base."""
    counts = {"models compared": sum(one.own is not None for one in examined)}
    made_from = [one.found for one in examined if one.upstream.relation in _MADE_FROM and one.own]
    compared = [found for found in made_from if isinstance(found, Comparison)]
    if fitted := [found for found in made_from if isinstance(found, AdapterFit)]:
        counts["matrices that an adapter changes"] = max(found.matrices for found in fitted)
    if compared:
        nearest = max(compared, key=_nearness)
        counts["tensors compared with the base"] = nearest.tensors
        counts["tensors equal to the base"] = nearest.equal
        thousandths = round(1000 * max(nearest.cosine or 0.0, 0.0))
        counts["thousandths of median cosine to the base"] = thousandths
        if nearest.ranks:
            counts["highest rank of a sampled change"] = max(nearest.ranks)
    return counts


CHECK = Check(
    "derivation",
    "The weights are made of what the lineage says",
    (CONTRADICTED, UNEXAMINED),
    _run,
)
