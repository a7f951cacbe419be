"""What a release owes under the licenses of its lineage, and whether a bundle discharges it.

`build` writes by the conventions below and the audit proves by the same ones, whoever built the
bundle: texts are compared in the form of `licenses.normalized`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from release_kit.bundle import Bundle
from release_kit.errors import Unfinished
from release_kit.files import sha256_file
from release_kit.licensing.licenses import (
    Condition,
    License,
    license_text,
    load_licenses,
    normalized,
)
from release_kit.licensing.policy import Policy
from release_kit.release import Release, Upstream

CARD = "README.md"
LICENSE = "LICENSE"
NOTICE = "NOTICE"
USE_POLICY = "USE_POLICY.md"
THIRD_PARTY = "licenses"

_LICENSE_NAMES = ("license", "licence")
_NOTICE_NAMES = (*_LICENSE_NAMES, "notice", "copying", "copyright")


@dataclass(frozen=True)
class Obligation:
    """One condition of one upstream's license that applies to this release."""

    upstream: Upstream
    license: License
    condition: Condition
    proof: str
    """What proves it, as the policy says; empty when the policy knows no proof."""

    @property
    def cite(self) -> str:
        """The section that asks for it."""
        return f"{self.license.name}, section {self.condition.section}"


@dataclass(frozen=True)
class Gap:
    """An obligation that the bundle does not discharge."""

    obligation: Obligation
    missing: str
    fix: str
    path: str
    """The bundle file that should discharge it."""


def obligations(release: Release, policy: Policy) -> tuple[Obligation, ...]:
    """Return every obligation of the release, in the lineage's order."""
    owed: list[Obligation] = []
    for upstream in release.lineage:
        license = load_licenses().get(upstream.license)
        if license is None or upstream.relation not in policy.obligation_relations:
            continue
        for condition in license.conditions:
            if condition.relations and upstream.relation not in condition.relations:
                continue
            owed.append(
                Obligation(upstream, license, condition, policy.proofs.get(condition.kind, ""))
            )
    return tuple(owed)


def gaps(release: Release, policy: Policy, bundle: Bundle) -> tuple[Gap, ...]:
    """Return the obligations that `bundle` does not discharge; one without a proof is one.

    The proof `license-verdict` asks only that the policy allows the planned license beside the
    upstream; where it does not, the decision itself is the finding.

    Raises:
        UnicodeDecodeError: a document of the bundle is not UTF-8.
        Unfinished: a license text is not at hand.
    """
    found: list[Gap] = []
    for obligation in obligations(release, policy):
        if obligation.proof == "license-verdict":
            continue
        if obligation.proof:
            missing, fix, path = _PROOFS[obligation.proof](obligation, release, bundle)
        else:
            missing = (
                f"the policy names no proof for a condition of kind {obligation.condition.kind}"
            )
            fix, path = "Add the kind under obligations.proofs in the policy.", ""
        if missing:
            found.append(Gap(obligation, missing, fix, path))
    return tuple(found)


def release_license_text(release: Release) -> str | None:
    """Return what LICENSE must hold: the text of the release's license, whole.

    A text that needs a copyright line gets the organization's. A license whose text no package
    carries is taken from an upstream that came under it. None when the text is nowhere at hand.

    Raises:
        Unfinished: the package that should carry the text is not installed or was changed.
    """
    license = load_licenses().get(release.license)
    text = license_text(license) if license else None
    if license and license.text and text is not None:
        line = f"Copyright (c) {normalized(release.organization.name)}\n\n"
        return (line if license.text.copyright_line else "") + text
    if license:
        for upstream in release.lineage:
            for path in own_license_texts(upstream, license):
                return path.read_text(encoding="utf-8-sig")
    return None


def own_license_texts(upstream: Upstream, license: License) -> tuple[Path, ...]:
    """Return the license files in the upstream's own folder that hold the text of `license`."""
    wanted = normalized(license.title)
    return tuple(
        path
        for path in notice_files(upstream)
        if upstream.license == license.id
        and path.name.lower().startswith(_LICENSE_NAMES)
        and wanted
        and wanted in normalized(path.read_text(encoding="utf-8-sig", errors="replace"))
    )


def third_party_folder(upstream: Upstream) -> str:
    """Return the bundle folder that carries the upstream's license and notices."""
    return f"{THIRD_PARTY}/{upstream.slug}"


def notice_files(upstream: Upstream) -> tuple[Path, ...]:
    """Return the license and notice files that lie in the upstream's own folder."""
    if upstream.path is None or not upstream.path.is_dir():
        return ()
    return tuple(
        path
        for path in sorted(upstream.path.iterdir())
        if path.is_file() and path.name.lower().startswith(_NOTICE_NAMES)
    )


def _license_files(bundle: Bundle, upstream: Upstream) -> list[str]:
    folder = third_party_folder(upstream) + "/"
    return [path for path in bundle.files if path == LICENSE or path.startswith(folder)]


def _license_text_gap(
    obligation: Obligation, release: Release, bundle: Bundle
) -> tuple[str, str, str]:
    upstream, where = obligation.upstream, third_party_folder(obligation.upstream)
    try:
        known = license_text(obligation.license)
    except Unfinished as error:
        return error.message, error.hint, where
    if known is not None:
        wanted = normalized(known)
        for path in _license_files(bundle, upstream):
            if wanted in normalized(bundle.text(path)):
                return "", "", ""
        return (
            f"no file carries the text of {obligation.license.name}",
            f"Put the text into {where}/LICENSE; `release-kit build` does.",
            where,
        )
    # Only the upstream's own copy will do: it must be the right text, and carried as it is.
    own = own_license_texts(upstream, obligation.license)
    carried = {file.sha256 for path, file in bundle.files.items() if path.startswith(where + "/")}
    if own and all(sha256_file(path) in carried for path in own):
        return "", "", ""
    return (
        f"no installed package carries the text of {obligation.license.name}, and"
        + (
            f" {where} lacks the copy of {upstream.id}"
            if own
            else f" {upstream.id} came without it"
        ),
        f"Put the LICENSE of {upstream.id} into its folder, name that folder as its path in"
        " release.yaml, and build again.",
        where,
    )


def _upstream_notices_gap(
    obligation: Obligation, release: Release, bundle: Bundle
) -> tuple[str, str, str]:
    upstream, where = obligation.upstream, third_party_folder(obligation.upstream)
    own = notice_files(upstream)
    if own:
        lost = [p.name for p in own if not _carried(bundle, f"{where}/{p.name}", p)]
        if not lost:
            return "", "", ""
        return (
            f"{', '.join(lost)} of {upstream.id} is not carried byte for byte",
            f"Copy it into {where}; `release-kit build` does.",
            where,
        )
    return _attribution_gap(obligation, release, bundle)


def _carried(bundle: Bundle, path: str, original: Path) -> bool:
    return path in bundle.files and bundle.files[path].sha256 == sha256_file(original)


def _attribution_gap(
    obligation: Obligation, release: Release, bundle: Bundle
) -> tuple[str, str, str]:
    upstream = obligation.upstream
    if not upstream.attribution:
        return (
            f"nobody wrote whom to credit for {upstream.id}",
            "Write attribution (creator, title, copyright line) at this upstream in release.yaml.",
            NOTICE,
        )
    notice = normalized(bundle.text(NOTICE))
    for part in (upstream.attribution, upstream.source, obligation.license.url):
        if normalized(part) not in notice:
            return (
                f"{NOTICE} lacks the credit, source or license link of {upstream.id}",
                "Run `release-kit build`, or write them there.",
                NOTICE,
            )
    return "", "", ""


def _change_gap(obligation: Obligation, release: Release, bundle: Bundle) -> tuple[str, str, str]:
    upstream = obligation.upstream
    if not upstream.changes:
        return (
            f"nobody wrote what was changed in {upstream.id}",
            "Write changes (one sentence) at this upstream in release.yaml.",
            NOTICE,
        )
    if normalized(upstream.changes) not in normalized(bundle.text(NOTICE)):
        return (
            f"{NOTICE} does not say what was changed in {upstream.id}",
            "Run `release-kit build`, or write it there.",
            NOTICE,
        )
    return "", "", ""


def _text_gap(obligation: Obligation, bundle: Bundle, path: str) -> tuple[str, str, str]:
    wanted = obligation.condition.prescribed_text
    if normalized(wanted) in normalized(bundle.text(path)):
        return "", "", ""
    return f"{path} lacks the words “{wanted}”", f"Write them into {path}, letter by letter.", path


def _notice_text_gap(
    obligation: Obligation, release: Release, bundle: Bundle
) -> tuple[str, str, str]:
    return _text_gap(obligation, bundle, NOTICE)


def _card_text_gap(
    obligation: Obligation, release: Release, bundle: Bundle
) -> tuple[str, str, str]:
    return _text_gap(obligation, bundle, CARD)


def _name_gap(obligation: Obligation, release: Release, bundle: Bundle) -> tuple[str, str, str]:
    prefix = obligation.condition.prescribed_text
    if release.model_name.startswith(prefix):
        return "", "", ""
    return (
        f"the model's name '{release.model_name}' does not begin with “{prefix}”",
        f"Set release.repo_id to {release.repo_id.split('/')[0]}/{prefix}-{release.model_name}.",
        "",
    )


def _use_policy_gap(
    obligation: Obligation, release: Release, bundle: Bundle
) -> tuple[str, str, str]:
    if obligation.condition.url in bundle.text(USE_POLICY):
        return "", "", ""
    return (
        f"{USE_POLICY} does not pass on the use policy of {obligation.upstream.id}",
        f"Name {obligation.condition.url} in {USE_POLICY}; `release-kit build` does.",
        USE_POLICY,
    )


_PROOFS: dict[str, Callable[[Obligation, Release, Bundle], tuple[str, str, str]]] = {
    "license-text": _license_text_gap,
    "notice-text": _notice_text_gap,
    "upstream-notices": _upstream_notices_gap,
    "attribution": _attribution_gap,
    "change-statement": _change_gap,
    "card-text": _card_text_gap,
    "name-prefix": _name_gap,
    "use-policy-link": _use_policy_gap,
}
