"""Whether a bundle discharges what the release owes, whoever built the bundle.

`build` writes by the conventions below and the audit proves by the same ones. Prescribed sentences
are compared letter by letter after Unicode NFC, license texts by their words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

from release_kit.bundle import Bundle
from release_kit.cards import parse_card, visible_text
from release_kit.errors import Unfinished, UnusableInput
from release_kit.files import sha256_file
from release_kit.licensing.judgement import Judgement
from release_kit.licensing.licenses import Condition, License, Licenses, license_text
from release_kit.licensing.lineage import Part
from release_kit.licensing.obligations import Obligation
from release_kit.licensing.texts import Fingerprint, Word, excerpt, find, normalized, words_of
from release_kit.release import Release, Upstream

CARD = "README.md"
LICENSE = "LICENSE"
NOTICE = "NOTICE"
USE_POLICY = "USE_POLICY.md"
THIRD_PARTY = "licenses"

VERDICT = "license-verdict"
"""The proof that asks only that the policy allows the planned license beside the part; where it
does not, the decision itself is the finding."""

_LICENSE_NAMES = ("licen", "unlicen", "copying")
_NOTICE_NAMES = (*_LICENSE_NAMES, "notice", "copyright", "use_policy")
_SEPARATORS = re.compile(r"[\s_.-]+")
# With one of these before or after them, words are a part of longer words or a longer address.
_GOES_BEFORE = re.compile(r"[\w/-]", re.ASCII)
_GOES_ON = re.compile(r"\w|[-/.?#=&%:@+]+\w", re.ASCII)
# Invisible, and yet part of how words and emoji are written.
_JOINERS = "\u200c\u200d"


@dataclass(frozen=True)
class Gap:
    """An obligation that the bundle does not discharge."""

    obligation: Obligation
    missing: str
    fix: str
    path: str
    """The bundle file that should discharge it; empty when release.yaml should."""


class Papers:
    """What the documents of a bundle say, each read once.

    Reading one raises UnicodeDecodeError when it is not UTF-8.
    """

    def __init__(self, bundle: Bundle, day: date = date.max) -> None:
        self.bundle = bundle
        self.day = day
        self._pages: dict[str, _Page] = {}
        self._words: dict[str, list[Word]] = {}
        self._carrying: dict[tuple[Fingerprint, ...], str] = {}

    def says(self, path: str, *sentences: str) -> bool:
        """Tell whether one paragraph of the file holds all `sentences`, white space aside."""
        if path not in self._pages:
            self._pages[path] = _Page(self._read(path))
        return self._pages[path].holds([normalized(sentence) for sentence in sentences])

    def carries(self, path: str, known: tuple[Fingerprint, ...]) -> bool:
        """Tell whether the file holds one of the known texts, word by word."""
        if path not in self._words:
            self._words[path] = words_of(self._read(path))
        return any(find(self._words[path], one) for one in known)

    def _read(self, path: str) -> str:
        if path.startswith(f"{THIRD_PARTY}/"):
            # It is carried as it came, in whatever encoding; what was replaced matches nothing.
            return self.bundle.bytes(path).decode("utf-8-sig", errors="replace")
        text = self.bundle.text(path)
        # What stands in a comment tells nobody anything.
        return visible_text(text) if path == USE_POLICY else text

    @cached_property
    def shown(self) -> tuple[str, ...]:
        """What a reader of the rendered card sees, block by block."""
        try:
            body = parse_card(self.bundle.text(CARD), CARD).body
        except UnusableInput:
            # The check of the card tells what is wrong with it.
            return ()
        return tuple(normalized(line) for line in visible_text(body).splitlines())

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """The card's front matter; empty when it cannot be read."""
        try:
            data: dict[str, Any] = parse_card(self.bundle.text(CARD), CARD).metadata.data
        except UnusableInput:
            return {}
        return data

    @cached_property
    def license_files(self) -> tuple[str, ...]:
        """LICENSE and every file of the third parties' folder, one for each content."""
        by_digest: dict[str, str] = {}
        for path, file in self.bundle.files.items():
            if path == LICENSE or path.startswith(f"{THIRD_PARTY}/"):
                by_digest.setdefault(file.sha256, path)
        return tuple(by_digest.values())

    def carrying(self, known: tuple[Fingerprint, ...]) -> str:
        """Return a file that carries one of the known texts, or an empty string."""
        if known not in self._carrying:
            carrying = (path for path in self.license_files if self.carries(path, known))
            self._carrying[known] = next(carrying, "")
        return self._carrying[known]


class _Page:
    """One document by paragraphs; an entry among thousands is found at once."""

    def __init__(self, text: str) -> None:
        self._paragraphs: list[str] = []
        self._with_words: dict[str, list[str]] = {}
        for part in re.split(r"\n\s*\n", text):
            paragraph = normalized(part)
            self._paragraphs.append(paragraph)
            for line in map(normalized, part.splitlines()):
                # A line as `build` writes it: perhaps a label, and a remark in brackets.
                after_label = line.partition(": ")[2]
                for words in {line, after_label, line.partition(" (")[0]}:
                    self._with_words.setdefault(words, []).append(paragraph)

    def holds(self, sentences: list[str]) -> bool:
        """Tell whether one paragraph holds all `sentences`; an empty one stands nowhere."""
        likely = [self._with_words[words] for words in sentences if words in self._with_words]
        return any(
            self._held(sentences, paragraphs)
            for paragraphs in (min(likely, key=len, default=[]), self._paragraphs)
        )

    @staticmethod
    def _held(sentences: list[str], paragraphs: list[str]) -> bool:
        # The first sentence is the one that tells most.
        return any(
            sentences[0] in paragraph and all(_stands(words, paragraph) for words in sentences)
            for paragraph in paragraphs
        )


def _stands(words: str, text: str) -> bool:
    """Tell whether `words` stand in `text`, not as a part of longer words or a longer address.

    >>> _stands("Built with Llama", "Built with Llama."), _stands("at a.org/b", "at a.org/b/c")
    (True, False)
    """
    start = text.find(words) if words else -1
    while start >= 0:
        end = start + len(words)
        longer = (
            (_GOES_BEFORE.match(words) and start and _GOES_BEFORE.match(text, start - 1))
            or (_GOES_ON.match(words, len(words) - 1) and _GOES_ON.match(text, end))
        )  # fmt: skip
        if not longer:
            return True
        start = text.find(words, start + 1)
    return False


def gaps(judgement: Judgement, bundle: Bundle) -> tuple[Gap, ...]:
    """Return the obligations that `bundle` does not discharge; one without a proof is one.

    Raises:
        UnicodeDecodeError: a document of the bundle is not UTF-8.
    """
    papers = Papers(bundle, judgement.day)
    found: list[Gap] = []
    for obligation in judgement.owed:
        if obligation.proof == VERDICT:
            continue
        if obligation.proof:
            missing, fix, path = _PROOFS[obligation.proof](obligation, judgement.release, papers)
        else:
            missing = f"the policy names no proof for {obligation.kind}"
            fix, path = "Add the kind under obligations.proofs in the policy.", ""
        if missing:
            found.append(Gap(obligation, missing, fix, path))
        if obligation.proof == "name-prefix":
            missing, fix = _title_gap(obligation, judgement)
            if missing:
                found.append(Gap(obligation, missing, fix, ""))
    return tuple(found)


def release_license_text(judgement: Judgement) -> str | None:
    """Return what LICENSE must hold: the text of the release's license, whole.

    A text that needs a copyright line gets the organization's. A license whose text nothing
    carries is taken from an upstream that came under it. None when the text is nowhere at hand.

    Raises:
        Unfinished: the package that should carry the text is not installed or was changed.
    """
    license = judgement.policy.licenses.get(judgement.release.license)
    if license is None:
        return None
    text = license_text(license)
    if text is not None:
        holder = normalized(judgement.release.organization.name)
        return (f"Copyright (c) {holder}\n\n" if license.copyright_line else "") + text
    for part in judgement.parts:
        if part.license == license.id:
            for path in own_license_texts(part, license):
                return path.read_text(encoding="utf-8-sig")
    return None


def own_license_texts(part: Part, license: License) -> tuple[Path, ...]:
    """Return the files in the part's own folder that hold the text of `license`."""
    known = tuple(text.fingerprint for text in license.texts)
    found = []
    for path in notice_files(part.upstream):
        if path.name.lower().startswith(_LICENSE_NAMES):
            words = words_of(path.read_text(encoding="utf-8-sig", errors="replace"))
            if any(find(words, one) for one in known):
                found.append(path)
    return tuple(found)


def third_party_folder(upstream: Upstream) -> str:
    """Return the bundle folder that carries the upstream's license and notices."""
    return f"{THIRD_PARTY}/{upstream.slug}"


def notice_files(upstream: Upstream) -> tuple[Path, ...]:
    """Return the license, notice and use-policy files that lie in the upstream's own folder."""
    if upstream.path is None or not upstream.path.is_dir():
        return ()
    return tuple(
        path
        for path in sorted(upstream.path.iterdir())
        if path.is_file() and path.name.lower().startswith(_NOTICE_NAMES)
    )


def kept_documents(upstream: Upstream) -> tuple[Path, ...]:
    """Return the upstream's own card, where a license asks to keep it."""
    if upstream.path is None or not upstream.path.is_dir():
        return ()
    card = upstream.path / CARD
    return (card,) if card.is_file() else ()


def filled(condition: Condition, upstream: Upstream, release: Release) -> str:
    """Return the prescribed text with its facts filled in."""
    facts = {
        "upstream.id": upstream.id,
        "upstream.source": upstream.source,
        "organization.name": release.organization.name,
    }
    text = condition.prescribed_text
    for words, fact in condition.fill:
        text = text.replace(words, facts[fact])
    return text


def passed_on(obligation: Obligation, licenses: Licenses) -> str | None:
    """Return the restrictions to pass on, as the license's own text has them; None if not at hand.

    Raises:
        Unfinished: the package that should carry the text is not installed or was changed.
    """
    attachment = getattr(obligation.term, "attachment", None)
    if attachment is None:
        return None
    for path in notice_files(obligation.part.upstream):
        own = path.read_text(encoding="utf-8-sig", errors="replace")
        found = excerpt(own, attachment.fingerprint)
        if found is not None:
            return found
    text = license_text(licenses[obligation.license.id])
    return excerpt(text, attachment.fingerprint) if text else None


_Proof = tuple[str, str, str]
"""What is missing (empty for nothing), what to do, and the file."""
_MET: _Proof = ("", "", "")
_BUILD = "`release-kit build` does."


def _license_text_gap(obligation: Obligation, release: Release, papers: Papers) -> _Proof:
    upstream, where = obligation.part.upstream, third_party_folder(obligation.part.upstream)
    license = obligation.license
    if papers.carrying(tuple(text.fingerprint for text in license.texts)):
        return _MET
    own = [p for p in notice_files(upstream) if p.name.lower().startswith(_LICENSE_NAMES)]
    # Of a text that nobody knows the copy that came is all there is; any other must be the text.
    if not license.texts and own and all(_carried(papers, f"{where}/{p.name}", p) for p in own):
        return _MET
    try:
        known = license_text(license)
    except Unfinished as error:
        return error.message, error.hint, where
    if known is not None:
        return (
            f"no file carries the text of {license.name}",
            f"Put the text into {where}/LICENSE; {_BUILD}",
            where,
        )
    if own:
        names = ", ".join(path.name for path in own)
        carries = own_license_texts(obligation.part, license) or not license.texts
        return (
            f"no file carries the text of {license.name}"
            + ("" if carries else f", nor does {names} of {upstream.id}"),
            f"Copy {names} of {upstream.id} into {where}; {_BUILD}"
            if carries
            else f"Put the LICENSE file of {license.name} into the folder of {upstream.id}, whole"
            " and unchanged, and build again.",
            where,
        )
    return (
        f"no installed package carries the text of {license.name}, and {upstream.id} came without",
        f"Put the LICENSE of {upstream.id} into its folder, name that folder as its path in"
        " release.yaml, and build again.",
        where,
    )


def _upstream_notices_gap(obligation: Obligation, release: Release, papers: Papers) -> _Proof:
    upstream, where = obligation.part.upstream, third_party_folder(obligation.part.upstream)
    own = notice_files(upstream)
    if own:
        lost = [p.name for p in own if not _carried(papers, f"{where}/{p.name}", p)]
        if not lost:
            return _MET
        return (
            f"{', '.join(lost)} of {upstream.id} is not carried byte for byte",
            f"Copy it into {where}; {_BUILD}",
            where,
        )
    return _attribution_gap(obligation, release, papers)


def _carried(papers: Papers, path: str, original: Path) -> bool:
    files = papers.bundle.files
    return path in files and files[path].sha256 == sha256_file(original)


def _attribution_gap(obligation: Obligation, release: Release, papers: Papers) -> _Proof:
    upstream = obligation.part.upstream
    if not upstream.attribution:
        return (
            f"nobody wrote whom to credit for {upstream.id}",
            "Write attribution (creator, title, copyright line) at this upstream in release.yaml.",
            "",
        )
    if not papers.says(
        NOTICE, _shown(upstream.attribution), upstream.source, obligation.license.url
    ):
        return (
            f"{NOTICE} lacks the credit, source or license link of {upstream.id}",
            "Run `release-kit build`, or write all three there in one paragraph.",
            NOTICE,
        )
    return _MET


def _shown(words: str) -> str:
    """Return a sentence of release.yaml as documents write it: without what cannot be seen."""
    kept = (c for c in words if c in _JOINERS or unicodedata.category(c) not in {"Cf", "Cs"})
    return "".join(kept)


def _change_gap(obligation: Obligation, release: Release, papers: Papers) -> _Proof:
    upstream = obligation.part.upstream
    if upstream.relation == "weights-shipped":
        # What is passed on unchanged has no changes to state.
        return _MET
    if not upstream.changes:
        return (
            f"nobody wrote what was changed in {upstream.id}",
            "Write changes (one sentence) at this upstream in release.yaml.",
            "",
        )
    if not papers.says(NOTICE, _shown(upstream.changes), upstream.id):
        return (
            f"{NOTICE} does not say what was changed in {upstream.id}",
            "Run `release-kit build`, or write it there, in one paragraph with the name.",
            NOTICE,
        )
    return _MET


def _notice_text_gap(obligation: Obligation, release: Release, papers: Papers) -> _Proof:
    wanted = filled(_condition(obligation), obligation.part.upstream, release)
    if papers.says(NOTICE, wanted):
        return _MET
    return (
        f"{NOTICE} lacks the words “{wanted}”",
        f"Write them into {NOTICE}, letter by letter; {_BUILD}",
        NOTICE,
    )


def _displayed_gap(obligation: Obligation, release: Release, papers: Papers) -> _Proof:
    condition = _condition(obligation)
    choices = [
        normalized(words) for words in (condition.prescribed_text, *condition.alternatives) if words
    ]
    if any(_stands(words, line) for line in papers.shown for words in choices):
        return _MET
    wanted = "” or “".join(choices)
    return (
        f"a reader of {CARD} does not see the words “{wanted}”",
        f"Write them into the text of {CARD}, outside of comments, code and markup; {_BUILD}",
        CARD,
    )


def _name_gap(obligation: Obligation, release: Release, papers: Papers) -> _Proof:
    prefix = _condition(obligation).prescribed_text
    if prefix and begins(release.model_name, prefix):
        return _MET
    proposal = f"{_SEPARATORS.sub('-', prefix)}-{release.model_name}"
    return (
        f"the model's name '{release.model_name}' does not begin with “{prefix}”",
        f"Set release.repo_id to {release.repo_id.split('/')[0]}/{proposal}.",
        "",
    )


def _title_gap(obligation: Obligation, judgement: Judgement) -> tuple[str, str]:
    prefix, title = _condition(obligation).prescribed_text, judgement.release.documents.title
    if "title" not in judgement.policy.name_of_the_model or begins(title, prefix):
        return "", ""
    return (
        f"the title '{title}', by which the card names the model, does not begin with “{prefix}”",
        f"Set documents.title to “{prefix} {title}”.",
    )


def begins(name: str, prefix: str) -> bool:
    """Tell whether a name begins with a prescribed prefix; blanks may be hyphens in a name.

    >>> begins("Llama-3-topics", "Llama 3"), begins("llama-topics", "Llama")
    (True, False)
    """
    return _SEPARATORS.sub(" ", name).startswith(_SEPARATORS.sub(" ", prefix))


def _forbidden_name_gap(obligation: Obligation, release: Release, papers: Papers) -> _Proof:
    word = _condition(obligation).prescribed_text
    for name in (release.model_name, release.documents.title):
        if begins(name.casefold(), word.casefold()):
            return (
                f"the name '{name}' is led by “{word}”, which this license reserves",
                "Choose another name in release.repo_id and documents.title.",
                "",
            )
    return _MET


def _use_policy_gap(obligation: Obligation, release: Release, papers: Papers) -> _Proof:
    condition, upstream = _condition(obligation), obligation.part.upstream
    if not condition.url:
        return _passed_on_gap(obligation, release, papers)
    if papers.says(USE_POLICY, condition.url):
        return _MET
    return (
        f"{USE_POLICY} does not pass on the use policy of {upstream.id}",
        f"Name {condition.url} in {USE_POLICY}; {_BUILD}",
        USE_POLICY,
    )


def _passed_on_gap(obligation: Obligation, release: Release, papers: Papers) -> _Proof:
    condition, upstream = _condition(obligation), obligation.part.upstream
    if condition.attachment is None:
        return _told_gap(obligation, release, papers)
    if papers.carries(USE_POLICY, (condition.attachment.fingerprint,)):
        return _MET
    what = condition.attachment.title
    return (
        f"{USE_POLICY} does not hold {what} of {upstream.id}",
        f"Copy {what} from the license into {USE_POLICY}, word by word; `release-kit build` does"
        " where the license text is at hand.",
        USE_POLICY,
    )


def _restrictions_gap(obligation: Obligation, release: Release, papers: Papers) -> _Proof:
    condition, upstream = _condition(obligation), obligation.part.upstream
    known = (condition.attachment.fingerprint,) if condition.attachment else ()
    what = condition.attachment.title if condition.attachment else "the restrictions"
    if release.license != obligation.part.license:
        similar = condition.mode == "same-or-similar" and _acted(obligation, papers.day)
        bound = LICENSE in papers.bundle.files and (
            papers.carries(LICENSE, known)
            if known
            else bool(condition.url) and papers.says(LICENSE, condition.url)
        )
        if not (bound or similar):
            return (
                f"{LICENSE} does not bind recipients to {what} of {upstream.id}",
                f"Set release.license to {obligation.part.license}, or give a license of your own"
                " that holds these restrictions word by word.",
                LICENSE,
            )
    if not known and condition.url:
        return _use_policy_gap(obligation, release, papers)
    return _passed_on_gap(obligation, release, papers)


def _told_gap(obligation: Obligation, release: Release, papers: Papers) -> _Proof:
    source = told_source(obligation)
    if papers.says(USE_POLICY, source):
        return _MET
    return (
        f"{USE_POLICY} does not tell recipients of “{source}”",
        f"Write there what the section asks for, followed by these words; {_BUILD}",
        USE_POLICY,
    )


def told_source(obligation: Obligation) -> str:
    """Return the words that follow what recipients are told: where it comes from, for which part.

    Of two sections and two ids one may begin with the other; in brackets they cannot be mistaken.
    """
    return f"({obligation.cite}, for {obligation.part.upstream.id})"


def _revision_gap(obligation: Obligation, release: Release, papers: Papers) -> _Proof:
    if obligation.part.upstream.revision:
        return _MET
    return (
        f"nobody wrote which version of {obligation.part.upstream.id} was used",
        "Write revision at this upstream in release.yaml.",
        "",
    )


def _documentation_gap(obligation: Obligation, release: Release, papers: Papers) -> _Proof:
    upstream, where = obligation.part.upstream, third_party_folder(obligation.part.upstream)
    own = kept_documents(upstream)
    if not own:
        return (
            f"the card of {upstream.id} is not at hand, so it cannot be kept",
            f"Put its {CARD} into its folder and name that folder as its path in release.yaml.",
            "",
        )
    if all(_carried(papers, f"{where}/{path.name}", path) for path in own):
        return _MET
    return f"{where} lacks the card of {upstream.id}", f"Copy it there; {_BUILD}", where


def _act_gap(obligation: Obligation, release: Release, papers: Papers) -> _Proof:
    if _acted(obligation, papers.day):
        return _MET
    return (
        f"nobody recorded that it was done for {obligation.part.upstream.id}",
        f"Do it, then write acts (kind: {obligation.kind}, by, on, evidence) at this upstream in"
        " release.yaml.",
        "",
    )


def _acted(obligation: Obligation, day: date) -> bool:
    # What is planned was not done.
    return any(
        act.kind == obligation.kind and act.on <= day.isoformat()
        for act in obligation.part.upstream.acts
    )


def _territory_gap(obligation: Obligation, release: Release, papers: Papers) -> _Proof:
    territories = getattr(obligation.term, "territory", ())
    names = ", ".join(territories)
    if release.visibility == "private":
        return _MET
    if release.gating == "open":
        return (
            f"recipients in {names} have no rights, and the repo is open to all",
            "Set release.gating to manual (or automatic, where only the EU is excluded), then"
            " build again.",
            "",
        )
    if "EU" in territories and papers.metadata.get("extra_gated_eu_disallowed") is not True:
        return (
            f"{CARD} lacks the Hub's switch extra_gated_eu_disallowed: true",
            f"Write it into the front matter; {_BUILD}",
            CARD,
        )
    if set(territories) - {"EU"} and (
        release.gating != "manual" or not _asks_for_country(papers.metadata)
    ):
        return (
            f"nobody is asked for their country, and {names} is excluded",
            "Set release.gating to manual and build again: the gate then asks for the country.",
            CARD,
        )
    return _MET


def _asks_for_country(metadata: dict[str, Any]) -> bool:
    fields = metadata.get("extra_gated_fields")
    return isinstance(fields, dict) and any(
        (field.get("type") if isinstance(field, dict) else field) == "country"
        for field in fields.values()
    )


def _condition(obligation: Obligation) -> Condition:
    if not isinstance(obligation.term, Condition):
        raise TypeError(f"{obligation.kind} is a limitation, which {obligation.proof} cannot prove")
    return obligation.term


_PROOFS: dict[str, Callable[[Obligation, Release, Papers], _Proof]] = {
    "license-text": _license_text_gap,
    "notice-text": _notice_text_gap,
    "produced-work-notice": _notice_text_gap,
    "upstream-notices": _upstream_notices_gap,
    "attribution": _attribution_gap,
    "change-statement": _change_gap,
    "displayed": _displayed_gap,
    "name-prefix": _name_gap,
    "name-forbidden": _forbidden_name_gap,
    "use-policy-link": _use_policy_gap,
    "restrictions": _restrictions_gap,
    "recipients-told": _told_gap,
    "revision-recorded": _revision_gap,
    "documentation-kept": _documentation_gap,
    "act-recorded": _act_gap,
    "territory-gate": _territory_gap,
}
