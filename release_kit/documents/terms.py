"""The terms that go with a release: LICENSE, NOTICE, USE_POLICY and the upstreams' own texts."""

from __future__ import annotations

import re
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from release_kit.documents.rendering import Verbatim, render
from release_kit.errors import Unfinished
from release_kit.files import write_atomic
from release_kit.licensing.judgement import Judgement
from release_kit.licensing.licenses import Condition, License, license_text
from release_kit.licensing.lineage import Part
from release_kit.licensing.obligations import Obligation
from release_kit.licensing.proofs import (
    LICENSE,
    NOTICE,
    USE_POLICY,
    filled,
    kept_documents,
    notice_files,
    own_license_texts,
    passed_on,
    release_license_text,
    third_party_folder,
    told_source,
)

# Of anything else nobody may say so unasked.
_UNCHANGED = ("weights-shipped", "tool-only")
_TOLD = ("restrictions", "recipients-told")
_PASSED_ON = ("restrictions", "use-policy-link")
_LISTED = 5
"""Ids in one place, above which the rest is counted."""


def write_terms(judgement: Judgement, bundle: Path) -> None:
    """Write into `bundle` what the licenses of the lineage ask for, as far as it can be written.

    What cannot be written (a license whose text is nowhere at hand) is left out; the audit finds
    it.

    Raises:
        UnusableInput: a template asks for a fact that nobody has.
    """
    brought, lacking = _carriers(judgement)
    facts = _facts(judgement, {**lacking, **brought})
    write_atomic(bundle / NOTICE, render("NOTICE.j2", facts).encode())
    write_atomic(bundle / USE_POLICY, render("USE_POLICY.md.j2", facts).encode())
    text = release_license_text(judgement)
    if text is not None:
        write_atomic(bundle / LICENSE, text.encode())
    kept = {o.part.upstream.id for o in judgement.owed if o.proof == "documentation-kept"}
    for part in judgement.parts:
        _write_own_files(part, bundle, kept)
    for license_id, part in lacking.items():
        folder = bundle / third_party_folder(part.upstream)
        _write_text(judgement.policy.licenses[license_id], folder)


def _carriers(judgement: Judgement) -> tuple[dict[str, Part], dict[str, Part]]:
    """Return the part in whose folder the text of each license goes, by license id.

    One copy serves every part that came under a license. The first are those of which a part
    brought the text, the second those of which nobody did.
    """
    brought: dict[str, Part] = {}
    first: dict[str, Part] = {}
    for part in judgement.parts:
        license = judgement.policy.licenses.get(part.license)
        if license is None or license.id in brought:
            continue
        first.setdefault(license.id, part)
        if own_license_texts(part, license):
            brought[license.id] = part
    return brought, {key: part for key, part in first.items() if key not in brought}


def _write_own_files(part: Part, bundle: Path, kept: set[str]) -> None:
    folder = bundle / third_party_folder(part.upstream)
    documents = kept_documents(part.upstream) if part.upstream.id in kept else ()
    for path in (*notice_files(part.upstream), *documents):
        write_atomic(folder / path.name, path.read_bytes())


def _write_text(license: License, folder: Path) -> None:
    try:
        text = license_text(license)
    except Unfinished:
        # The audit reports it, with the way out.
        return
    if text is not None:
        # A file that came under this name, and is not the text, stays as it came.
        name = f"{LICENSE}.{license.id}" if (folder / LICENSE).exists() else LICENSE
        write_atomic(folder / name, text.encode())


def _facts(judgement: Judgement, carriers: Mapping[str, Part]) -> dict[str, Any]:
    release, licenses = judgement.release, judgement.policy.licenses
    by_part: dict[Part, list[Obligation]] = defaultdict(list)
    for obligation in judgement.owed:
        by_part[obligation.part].append(obligation)
    folders = {key: third_party_folder(part.upstream) for key, part in carriers.items()}
    # What a license says is told once, however many parts came under it.
    under: dict[str, list[str]] = defaultdict(list)
    for part in judgement.parts:
        if part.license in licenses:
            under[part.license].append(part.upstream.id)
    return {
        "release": release,
        "upstreams": [
            _upstream_facts(judgement, part, by_part, folders) for part in judgement.parts
        ],
        "restrictions": [
            {**_some(ids), "license": licenses[license_id], "limit": limit}
            for license_id, ids in under.items()
            for limit in licenses[license_id].limitations
        ],
        "use_policies": _use_policies(judgement.owed),
        "told": [
            {"fact": o.term.fact, "source": told_source(o)}
            for o in judgement.owed
            if o.proof in _TOLD
        ],
        "attachments": _attachments(judgement),
        "withheld": [
            {**_some(ids), "license": licenses[license_id], "section": said.section}
            for license_id, ids in under.items()
            if (said := licenses[license_id].permission("commercial-use")).verdict == "withheld"
        ],
    }


def _some(ids: Iterable[str]) -> dict[str, Any]:
    """Return the first few ids, and how many more there are."""
    unique = list(dict.fromkeys(ids))
    return {"ids": unique[:_LISTED], "more": len(unique[_LISTED:])}


def _use_policies(owed: Sequence[Obligation]) -> list[dict[str, Any]]:
    """Return each policy that the licenses name by its address, once."""
    by_url: dict[str, list[Obligation]] = defaultdict(list)
    for obligation in owed:
        term = obligation.term
        if obligation.proof in _PASSED_ON and isinstance(term, Condition) and term.url:
            by_url[term.url].append(obligation)
    return [
        {**_some(o.part.upstream.id for o in those), "url": url, "cites": _cites(those)}
        for url, those in by_url.items()
    ]


def _cites(obligations: Sequence[Obligation]) -> list[str]:
    return list(dict.fromkeys(o.cite for o in obligations))


def _attachments(judgement: Judgement) -> list[dict[str, Any]]:
    """Return what must be passed on word by word, each text once."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for obligation in judgement.owed:
        term = obligation.term
        if (
            obligation.proof not in _PASSED_ON
            or not isinstance(term, Condition)
            or term.attachment is None
            # One that has an address is linked to.
            or (obligation.proof == "use-policy-link" and term.url)
        ):
            continue
        key = (obligation.license.id, term.attachment.fingerprint.sha256)
        if key in found:
            continue
        try:
            text = passed_on(obligation, judgement.policy.licenses)
        except Unfinished:
            # The audit reports it, with the way out.
            continue
        if text is not None:
            found[key] = {
                "title": term.attachment.title,
                "license": obligation.license,
                "paragraphs": _paragraphs(text),
            }
    return list(found.values())


def _paragraphs(text: str) -> list[list[dict[str, str]]]:
    """Return the lines of each paragraph, with blanks that stay where a line is indented."""
    return [
        [
            {"indent": Verbatim("\xa0" * (len(line) - len(line.lstrip()))), "words": line}
            for line in paragraph.expandtabs(4).splitlines()
        ]
        for paragraph in re.split(r"\n(?:[ \t]*\n)+", textwrap.dedent(text).strip("\n"))
    ]


def _upstream_facts(
    judgement: Judgement,
    part: Part,
    by_part: Mapping[Part, Sequence[Obligation]],
    folders: Mapping[str, str],
) -> dict[str, Any]:
    upstream = part.upstream
    license = judgement.policy.licenses.get(part.license)
    return {
        "id": upstream.id,
        "role": upstream.role.replace("_", " "),
        "relation": upstream.relation.replace("-", " "),
        "source": upstream.source,
        "revision": upstream.revision,
        "license_name": license.name if license else part.license,
        "license_url": license.url if license else "",
        "folders": list(dict.fromkeys(_folders(part, folders))),
        "attribution": upstream.attribution,
        "changes": upstream.changes or ("used as it is" if upstream.relation in _UNCHANGED else ""),
        "notices": [
            filled(o.term, upstream, judgement.release)
            for o in by_part.get(part, ())
            if isinstance(o.term, Condition) and o.proof in {"notice-text", "produced-work-notice"}
        ],
    }


def _folders(part: Part, folders: Mapping[str, str]) -> Iterator[str]:
    if notice_files(part.upstream):
        yield third_party_folder(part.upstream)
    if part.license in folders:
        yield folders[part.license]
