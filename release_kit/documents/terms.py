"""The terms that go with a release: LICENSE, NOTICE, USE_POLICY and the upstreams' own texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from release_kit.documents.rendering import Verbatim, render
from release_kit.errors import Unfinished
from release_kit.files import write_atomic
from release_kit.licensing.licenses import License, license_text, load_licenses
from release_kit.licensing.obligations import (
    LICENSE,
    NOTICE,
    USE_POLICY,
    Obligation,
    notice_files,
    release_license_text,
    third_party_folder,
)
from release_kit.release import Release, Upstream

_UNCHANGED = "used as it is"


def write_terms(release: Release, owed: tuple[Obligation, ...], bundle: Path) -> None:
    """Write into `bundle` what the licenses of the lineage ask for, as far as it can be written.

    What cannot be written (a license whose text is nowhere at hand) is left out; the audit finds
    it.

    Raises:
        UnusableInput: a template asks for a fact that nobody has.
    """
    facts = _facts(release, owed)
    write_atomic(bundle / NOTICE, render("NOTICE.j2", facts).encode())
    write_atomic(bundle / USE_POLICY, render("USE_POLICY.md.j2", facts).encode())
    text = release_license_text(release)
    if text is not None:
        write_atomic(bundle / LICENSE, text.encode())
    for upstream in release.lineage:
        _write_third_party(upstream, bundle)


def _write_third_party(upstream: Upstream, bundle: Path) -> None:
    folder = bundle / third_party_folder(upstream)
    own = notice_files(upstream)
    for path in own:
        write_atomic(folder / path.name, path.read_bytes())
    license = load_licenses().get(upstream.license)
    if license is None or any(path.name == LICENSE for path in own):
        return
    try:
        text = license_text(license)
    except Unfinished:
        # The audit reports it, with the way out.
        return
    if text is not None:
        write_atomic(folder / LICENSE, text.encode())


def _facts(release: Release, owed: tuple[Obligation, ...]) -> dict[str, Any]:
    return {
        "release": release,
        "release_license": load_licenses().get(release.license),
        "upstreams": [_upstream_facts(upstream, owed) for upstream in release.lineage],
        "restrictions": [
            {"upstream": upstream, "license": license, "limit": limit}
            for upstream, license in _licensed(release)
            for limit in license.limitations
        ],
        "use_policies": [
            {"upstream": o.upstream, "url": o.condition.url, "cite": o.cite}
            for o in owed
            if o.proof == "use-policy-link"
        ],
        "withheld": [
            {"upstream": upstream, "license": license, "section": permission.section}
            for upstream, license in _licensed(release)
            if (permission := license.permission("commercial-use")).verdict == "withheld"
        ],
    }


def _licensed(release: Release) -> list[tuple[Upstream, License]]:
    known = load_licenses()
    return [(u, known[u.license]) for u in release.lineage if u.license in known]


def _upstream_facts(upstream: Upstream, owed: tuple[Obligation, ...]) -> dict[str, Any]:
    license = load_licenses().get(upstream.license)
    return {
        "id": upstream.id,
        "role": upstream.role.replace("_", " "),
        "relation": upstream.relation.replace("-", " "),
        "source": upstream.source,
        "revision": upstream.revision,
        "license_name": license.name if license else upstream.license,
        "license_url": license.url if license else "",
        "folder": third_party_folder(upstream),
        "attribution": upstream.attribution,
        "changes": upstream.changes or _UNCHANGED,
        "notices": [
            Verbatim(o.condition.prescribed_text)
            for o in owed
            if o.upstream == upstream and o.proof == "notice-text"
        ],
    }
