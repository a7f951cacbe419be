"""release.yaml as frozen values: what is released, by whom, from what, and how.

Reading it is the only way to get a `Release`; `schemas/release.schema.json` says what may stand
in the file.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from release_kit.errors import Problem, UnusableInput
from release_kit.files import shown
from release_kit.strict_yaml import Document, Pointer, Position, read_yaml

RELEASE_FILE = "release.yaml"

ROLES = {
    "base_models": (
        "base_model",
        ("weights-derived", "adapter-delta", "weights-shipped", "data-shipped"),
    ),
    "adapters": ("adapter", ("adapter-delta", "weights-derived", "weights-shipped")),
    "datasets": ("dataset", ("trained-on-data", "data-shipped", "tool-only")),
    "generators": ("generator", ("trained-on-outputs", "tool-only")),
    "code": ("code", ("tool-only", "data-shipped")),
}
"""Where a role stands in release.yaml → the role and its relations; the first is the usual one."""
_READ_IN_TRAINING = ("trained-on-data", "data-shipped")
_UNCHANGED = "weights-shipped"
_ADAPTER = "adapter-delta"
_FORM_ONLY = "data-shipped"
_FROM_NOTHING = "scratch"
_TOOL = "tool-only"
_DATASET = "dataset"
_COLLECTION = "collection"
_SHARES = {"learning_rate", "validation_share", "test_share", "weight_decay", "warmup_share",
           "clip_norm"}  # fmt: skip
_DAY = len("2026-11-23")


@dataclass(frozen=True)
class Act:
    """What somebody did because a license asks for it, and no file can show."""

    kind: str
    """The condition that it meets."""
    by: str
    on: str
    evidence: str


@dataclass(frozen=True)
class CollectionFacts:
    """How a dataset came together and what it holds of persons; empty where nobody says.

    The words are those of GDPR Art. 6(1) and of PIPL Art. 13 (China).
    """

    personal_data: str = ""
    """none, removed (before training) or present."""
    lawful_basis: tuple[str, ...] = ()
    consent: str = ""
    """How the persons agreed, and where the proof lies."""
    since: str = ""
    """A year, a month or a day, as in ISO 8601; `from` in the file."""
    until: str = ""
    opt_outs: tuple[str, ...] = ()
    """Which objections of persons and holders of rights were honoured."""
    opt_outs_on: str = ""
    """The day on which they were last applied."""


@dataclass(frozen=True)
class Upstream:
    """One node of the lineage, as declared."""

    id: str
    role: str
    """base_model, adapter, dataset, generator or code."""
    relation: str
    """Its relation to what is distributed, for example weights-derived."""
    license: str
    """The license as release.yaml spells it."""
    source: str
    path: Path | None
    """Where it lies on this machine; None when it is not at hand."""
    revision: str
    attribution: str
    changes: str
    position: Position
    """(line, column) of its entry in release.yaml."""
    made_from: tuple[str, ...] = ()
    """The ids of the entries it was itself made from."""
    generated_by: tuple[str, ...] = ()
    """The ids of the entries that generated it."""
    acts: tuple[Act, ...] = ()
    modalities: tuple[str, ...] = ()
    """Empty when the file does not say."""
    collection: CollectionFacts = CollectionFacts()
    """Says nothing but of a dataset."""

    @property
    def is_training_data(self) -> bool:
        """True for a dataset that the model learned from or that is published with it."""
        return self.role == _DATASET and self.relation in _READ_IN_TRAINING

    @property
    def slug(self) -> str:
        """The id as one path segment: where its files lie in a bundle and below `out/`."""
        return self.id.replace("/", "--")


@dataclass(frozen=True)
class Organization:
    """Who releases."""

    name: str
    kind: str
    contact: str
    monthly_active_users: int | None = None
    """None when the file does not say, as in the fields below."""
    annual_revenue_usd: int | None = None
    monthly_revenue_usd: int | None = None
    seat: str = ""
    """The country of the principal place of business, ISO 3166; empty when nobody says."""


@dataclass(frozen=True)
class PrivacyPlan:
    """What release.yaml says of redaction; where a field is empty, the settings say it."""

    spacy_pipeline: str = ""
    entities: tuple[str, ...] = ()
    """In presidio's words."""
    language: str = ""
    min_score: float | None = None
    operator: str = ""
    mode: str = ""
    """structured, standard or thorough."""
    engine: str = ""
    """fast or presidio."""
    settings: Path | None = None
    """A settings file for detection; None for the shipped one."""
    position: Position = (0, 0)
    """(line, column) of its entities in release.yaml, or of what holds them."""


@dataclass(frozen=True)
class Method:
    """Which numbers are trained: all of the model's, or those of an adapter beside them."""

    kind: str = "full"
    """full, or an adapter in peft's words: lora, dora, loha, ia3."""
    rank: int = 8
    """Of the adapter's matrices; ia3 has none."""
    alpha: int = 16
    """The adapter's product is scaled by alpha / rank."""
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    """Names of the modules that get an adapter; empty for every linear one but the head."""
    ship: str = "merged"
    """merged: the adapter is added to the base's weights; adapter: it is published alone."""


@dataclass(frozen=True)
class EarlyStopping:
    """When training ends before its last epoch; the weights are then those of the best epoch."""

    patience: int = 1
    """Epochs in a row without a gain after which it ends."""
    min_gain: float = 0.0
    """By how much the validation loss must fall to be a gain."""


@dataclass(frozen=True)
class DifferentialPrivacy:
    """How little the weights may show of a single record; one of the first two is given."""

    epsilon: float | None = None
    """The bound that the whole training keeps to: the smaller, the more is hidden."""
    noise_multiplier: float | None = None
    """Standard deviation of the noise in each update, in clip norms."""
    delta: float | None = None
    """The chance that the bound does not hold; None for training records ** -1.1."""
    clip_norm: float = 1.0
    """The gradient of each record is scaled down to this norm."""


@dataclass(frozen=True)
class Canaries:
    """Random secrets that are put among the training records, to see what the weights keep."""

    repeats: tuple[int, ...] = (1, 4, 16)
    """How often a canary of each group stands there."""
    each: int = 8
    """Canaries in each group; as many again are drawn and never planted."""
    digits: int = 6
    """Of a secret; up to 6 its rank is exact, above that it is estimated."""


@dataclass(frozen=True)
class TrainingPlan:
    """How the model is trained and on what it is measured; the defaults are release-kit's."""

    task: str
    epochs: int = 2
    batch_size: int = 16
    """Rows for each update of the weights, on all devices together."""
    learning_rate: float = 5e-5
    max_length: int = 128
    """Tokens."""
    validation_share: float = 0.1
    test_share: float = 0.2
    seed: int = 0
    fields: Mapping[str, str] = field(default_factory=dict)
    """Part of a record, in the task's words → the field that holds it."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Settings that are the task's own."""
    slices: tuple[str, ...] = ()
    """Fields of a record by whose values the figures are given apart."""
    robustness: tuple[str, ...] = ()
    """Small changes of the test texts under which the figures are given again."""
    method: Method = Method()
    freeze: tuple[str, ...] = ()
    """Patterns of the names of tensors that stay as they are; * stands for anything."""
    class_weights: Mapping[str, float] = field(default_factory=dict)
    """Weight of each label in the loss; empty for all alike."""
    balance_classes: bool = False
    """Whether the rarer a label, the heavier it weighs."""
    early_stopping: EarlyStopping | None = None
    shard: bool = False
    """Whether each of several processes holds a part of the weights only (FSDP)."""
    accumulate: int = 1
    """Parts in which the rows of an update go through the model, one after another."""
    precision: str = "auto"
    """Of the arithmetic: float32, bfloat16, or auto: bfloat16 where the GPU has it."""
    gradient_checkpointing: bool = False
    """Less memory for more time: activations are computed again instead of kept."""
    compile: bool = False
    """Whether torch.compile makes kernels for the model."""
    weight_decay: float = 0.0
    warmup_share: float = 0.0
    """Share of the updates over which the learning rate rises from 0."""
    schedule: str = "linear"
    """How the learning rate goes on: linear or cosine to 0, or constant."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this norm; 0 for never. Not used with differential privacy."""
    differential_privacy: DifferentialPrivacy | None = None
    deduplicate: str = "none"
    """Which training records are left out: none, exact copies, or near ones."""
    canaries: Canaries | None = None


@dataclass(frozen=True)
class LeaksPlan:
    """How long and how closely the weights are asked what they keep of their training data."""

    minutes: float | None = None
    """After which no new question is put; None for as long as it takes."""
    records: int = 500
    """Training records that are asked for, and as many held-out ones, at most."""
    samples: int = 200
    """Texts that a generative model writes freely."""
    shadows: int = 0
    """Models that are trained like this one on halves of the data, for the likelihood-ratio
    attack."""


@dataclass(frozen=True)
class Tracking:
    """How a training is watched; nothing of it changes what is made."""

    trackers: tuple[str, ...] = ()
    country: str = ""
    """Where the training runs, ISO 3166, which tells how much CO2e its energy causes."""


@dataclass(frozen=True)
class Benchmark:
    """A leaderboard of the Hub to which one figure of the evaluation is told."""

    dataset: str
    """The dataset on the Hub, owner/name, that is registered as a benchmark."""
    task_id: str
    """The task in that dataset's eval.yaml."""
    figure: str
    """A name of `release_kit.figures.FIGURES`."""
    revision: str = ""


@dataclass(frozen=True)
class DocumentFacts:
    """What only people know and the model card needs."""

    title: str
    summary: str
    languages: tuple[str, ...]
    intended_use: tuple[str, ...]
    out_of_scope_use: tuple[str, ...]
    limitations: tuple[str, ...]
    example: str
    benchmarks: tuple[Benchmark, ...] = ()
    """The test records must be those of each of them."""


@dataclass(frozen=True)
class Release:
    """Everything that release.yaml says."""

    file: Path
    repo_id: str
    version: str
    license: str
    purpose: str
    visibility: str
    gating: str
    organization: Organization
    lineage: tuple[Upstream, ...]
    privacy: PrivacyPlan | None
    training: TrainingPlan | None
    documents: DocumentFacts
    policy: str
    """The policy that the release names, a file beside it or a shipped one; empty for none."""
    license_position: Position
    modalities: tuple[str, ...] = ()
    """Empty when the file does not say."""
    training_lines: Mapping[str, int] = field(default_factory=dict, compare=False)
    """Each setting of training that the file states, nested keys dotted → its line."""
    tracking: Tracking = Tracking()
    load: Path | None = None
    """Where the model lies that is released without training; None where the lineage says it."""
    leaks: LeaksPlan = LeaksPlan()

    @property
    def model_name(self) -> str:
        """The part of the repo id that names the model."""
        return self.repo_id.split("/", 1)[1]

    @property
    def policy_source(self) -> str | Path:
        """The policy file beside release.yaml, else the name as it stands; empty for none.

        A file has a suffix, so none can pass for a shipped policy, nor can one in a working folder.
        """
        return self.file.parent / self.policy if Path(self.policy).suffix else self.policy

    @property
    def tag(self) -> str:
        """The git tag of this version on the Hub."""
        return f"v{self.version}"

    @property
    def bases(self) -> tuple[Upstream, ...]:
        """The base models that are in the weights, be it unchanged."""
        return tuple(u for u in self.upstreams("base_model") if u.relation != _FORM_ONLY)

    def upstreams(self, role: str) -> tuple[Upstream, ...]:
        """Return the declared upstreams of one role, in the file's order."""
        return tuple(upstream for upstream in self.lineage if upstream.role == role)


def read_release(path: Path) -> Release:
    """Read `path`, or `path/release.yaml` when it is a folder.

    Raises:
        UnusableInput: with file, line and column of every mistake.
    """
    file = path / RELEASE_FILE if path.is_dir() else path
    document = read_yaml(file, "release", shown_as=shown(file))
    data = document.data
    release, organization = data["release"], data["organization"]
    return Release(
        file=file.resolve(),
        repo_id=release["repo_id"],
        version=release["version"],
        license=release["license"],
        purpose=release["purpose"],
        visibility=release["visibility"],
        gating=release.get("gating", "open"),
        organization=Organization(
            name=organization["name"],
            kind=organization["kind"],
            contact=organization.get("contact", ""),
            monthly_active_users=organization.get("monthly_active_users"),
            annual_revenue_usd=organization.get("annual_revenue_usd"),
            monthly_revenue_usd=organization.get("monthly_revenue_usd"),
            seat=organization.get("seat", ""),
        ),
        lineage=_lineage(document, file.resolve().parent),
        privacy=_privacy(document, file.resolve().parent),
        training=_training(data.get("training")),
        documents=_documents(data["documents"]),
        policy=data.get("policy", ""),
        license_position=document.locate(("release", "license")),
        modalities=tuple(release.get("modalities", ())),
        training_lines=dict(_lines(document, ("training",), data.get("training"))),
        tracking=_tracking(data.get("tracking", {})),
        load=file.resolve().parent / data["load"]["path"] if "load" in data else None,
        leaks=_leaks(data.get("leaks") or {}),
    )


def _lines(document: Document, place: Pointer, value: Any) -> Iterator[tuple[str, int]]:
    """Yield each setting below `place`, without the section's own name, and its line."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _lines(document, (*place, key), item)
    elif value is not None:  # a section with nothing in it sets nothing
        yield ".".join(map(str, place[1:])), document.locate(place)[0]


def _lineage(document: Document, folder: Path) -> tuple[Upstream, ...]:
    found: list[Upstream] = []
    wrong: list[Problem] = []
    by_slug: dict[str, list[Upstream]] = {}
    for key, (role, relations) in ROLES.items():
        for index, item in enumerate(document.data["lineage"].get(key, [])):
            place = ("lineage", key, index)
            upstream = _upstream(item, role, relations[0], folder, document.locate(place))
            if upstream.relation not in relations:
                message = f"a {role} is not {upstream.relation}"
                hint = f"known for it: {', '.join(relations)}"
                position = document.locate((*place, "relation"))
                wrong.append(Problem(document.path, *position, message, hint))
            same_slug = by_slug.setdefault(upstream.slug, [])
            if any(_clash(upstream, other) for other in same_slug):
                message = f"{upstream.id} is listed twice, or has the same folder as another"
                wrong.append(Problem(document.path, *upstream.position, message))
            same_slug.append(upstream)
            found.append(upstream)
    wrong += _loose_ends(document, {upstream.id for upstream in found})
    wrong += _mislabelled(document, found)
    wrong += _wrong_collections(document)
    wrong += _both_ways(document)
    if wrong:
        raise UnusableInput(f"{document.path} cannot be used", problems=sorted(wrong))
    return tuple(found)


def _upstream(
    item: Mapping[str, Any], role: str, relation: str, folder: Path, position: Position
) -> Upstream:
    return Upstream(
        id=item["id"],
        role=role,
        relation=item.get("relation", relation),
        license=item["license"],
        source=item["source"],
        path=folder / item["path"] if "path" in item else None,
        revision=item.get("revision", ""),
        attribution=item.get("attribution", ""),
        changes=item.get("changes", ""),
        position=position,
        made_from=tuple(item.get("made_from", ())),
        generated_by=tuple(item.get("generated_by", ())),
        acts=tuple(Act(**act) for act in item.get("acts", ())),
        modalities=tuple(item.get("modalities", ())),
        collection=_collection(item.get(_COLLECTION, {})),
    )


def _collection(item: Mapping[str, Any]) -> CollectionFacts:
    return CollectionFacts(
        personal_data=item.get("personal_data", ""),
        lawful_basis=tuple(item.get("lawful_basis", ())),
        consent=item.get("consent", ""),
        since=item.get("from", ""),
        until=item.get("until", ""),
        opt_outs=tuple(item.get("opt_outs", ())),
        opt_outs_on=item.get("opt_outs_on", ""),
    )


def _wrong_collections(document: Document) -> Iterator[Problem]:
    """Yield what is said of a collection where there is none, and periods that cannot be."""
    for key, (role, _) in ROLES.items():
        for index, item in enumerate(document.data["lineage"].get(key, [])):
            place = ("lineage", key, index, _COLLECTION)
            said = item.get(_COLLECTION, {})
            if said and role != _DATASET:
                message = f"{item['id']} is a {role}, and only a dataset has a {_COLLECTION}"
                hint = "list the data behind it among the datasets"
                yield Problem(document.path, *document.locate(place), message, hint)
            for end in ("from", "until"):
                if len(said.get(end, "")) == _DAY and not _is_day(said[end]):
                    message = f"there is no day {said[end]}"
                    yield Problem(document.path, *document.locate((*place, end)), message)
            since, until = said.get("from", ""), said.get("until", "")
            # "2024" ends after "2024-05" began: the shorter of the two decides.
            both = min(len(since), len(until))
            if until[:both] < since[:both]:
                message = f"collecting ended ({until}) before it began ({since})"
                yield Problem(document.path, *document.locate((*place, "until")), message)


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _loose_ends(document: Document, known: set[str]) -> Iterator[Problem]:
    """Yield what the lineage names without listing it: it must be closed to be judged."""
    for key in ROLES:
        for index, item in enumerate(document.data["lineage"].get(key, [])):
            for origin in ("made_from", "generated_by"):
                for number, name in enumerate(item.get(origin, ())):
                    if name in known:
                        continue
                    position = document.locate(("lineage", key, index, origin, number))
                    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.8)
                    hint = (
                        f"did you mean '{close[0]}'?"
                        if close
                        else f"list {name} in the lineage, with its own license and source"
                    )
                    message = f"{item['id']} comes from {name}, which the lineage does not list"
                    yield Problem(document.path, *position, message, hint)


def _mislabelled(document: Document, found: Sequence[Upstream]) -> Iterator[Problem]:
    """Yield relations that other lines of the file contradict: a milder one would shed duties."""
    training = document.data.get("training") or {}
    method = training.get("method", {})
    from_nothing = training.get("options", {}).get("start") == _FROM_NOTHING
    ships_adapter = method.get("ship") == "adapter" and method.get("kind", "full") != "full"
    for upstream in found:
        starts_training = upstream.role == "base_model" and upstream.path is not None
        if training and starts_training and upstream.relation == _UNCHANGED:
            message = f"training changes the weights of {upstream.id}, so it is not {_UNCHANGED}"
            hint = "write weights-derived, or remove training"
            yield Problem(document.path, *upstream.position, message, hint)
        elif training and starts_training and from_nothing != (upstream.relation == _FORM_ONLY):
            if from_nothing:
                message = f"training starts from random numbers, not from weights of {upstream.id}"
                hint = f"write relation: {_FORM_ONLY}, for its tokenizer and configuration"
                yield Problem(document.path, *upstream.position, message, hint)
        elif training and starts_training and (upstream.relation == _ADAPTER) != ships_adapter:
            made = "an adapter" if ships_adapter else "whole weights"
            message = f"training makes {made}, so {upstream.id} is not {upstream.relation}"
            hint = (
                f"write {_ADAPTER if ships_adapter else 'weights-derived'}, or change method.ship"
            )
            yield Problem(document.path, *upstream.position, message, hint)
        if upstream.relation == _TOOL:
            continue
        for name in dict.fromkeys((*upstream.made_from, *upstream.generated_by)):
            named = [other for other in found if other.id == name and other.role != "code"]
            if named and all(other.relation == _TOOL for other in named):
                message = f"{upstream.id} comes from {name}, so {name} is not {_TOOL}"
                hint = f"remove its relation; {_TOOL} is for what left nothing in the release"
                yield Problem(document.path, *named[0].position, message, hint)


def _both_ways(document: Document) -> Iterator[Problem]:
    if "load" in document.data and "training" in document.data:
        message = (
            "a model is either trained here or loaded, and there is a training section as well"
        )
        hint = "remove load or training"
        yield Problem(document.path, *document.locate(("load",)), message, hint)


def _clash(one: Upstream, other: Upstream) -> bool:
    # The same model may be base and generator; then it is one work under one license.
    same_work = one.id == other.id and (one.license, one.path) == (other.license, other.path)
    return one.role == other.role or not same_work


def _privacy(document: Document, folder: Path) -> PrivacyPlan | None:
    if "privacy" not in document.data:
        return None
    # A section with nothing in it asks for what is shipped.
    said = document.data["privacy"] or {}
    return PrivacyPlan(
        spacy_pipeline=said.get("spacy_pipeline", ""),
        entities=tuple(said.get("entities", ())),
        language=said.get("language", ""),
        min_score=float(said["min_score"]) if "min_score" in said else None,
        operator=said.get("operator", ""),
        mode=said.get("mode", ""),
        engine=said.get("engine", ""),
        settings=folder / said["settings"] if "settings" in said else None,
        position=document.locate(("privacy", "entities")),
    )


def _training(data: dict[str, Any] | None) -> TrainingPlan | None:
    if data is None:
        return None
    said: dict[str, Any] = dict(data)
    for name in said.keys() & _SHARES:
        # YAML has 1 for 1.0, which would be another plan.
        said[name] = float(said[name])
    for name in said.keys() & {"freeze", "slices", "robustness"}:
        said[name] = tuple(said[name])
    if method := said.pop("method", None):
        said["method"] = Method(**{**method, "targets": tuple(method.get("targets", ()))})
    if (stopping := said.pop("early_stopping", None)) is not None:
        said["early_stopping"] = EarlyStopping(**(stopping or {}))
    if private := said.pop("differential_privacy", None):
        numbers = {name: float(number) for name, number in private.items()}
        said["differential_privacy"] = DifferentialPrivacy(**numbers)
    if "canaries" in said:
        canaries = said.pop("canaries") or {}
        repeats = tuple(canaries.get("repeats", Canaries.repeats))
        said["canaries"] = Canaries(**{**canaries, "repeats": repeats})
    return TrainingPlan(**said)


def _leaks(data: Mapping[str, Any]) -> LeaksPlan:
    minutes = data.get("minutes")
    return LeaksPlan(**{**data, "minutes": None if minutes is None else float(minutes)})


def _tracking(data: Mapping[str, Any]) -> Tracking:
    return Tracking(tuple(data.get("trackers", ())), data.get("country", ""))


def _documents(data: dict[str, Any]) -> DocumentFacts:
    return DocumentFacts(
        title=data["title"],
        summary=data["summary"],
        languages=tuple(data["languages"]),
        intended_use=tuple(data["intended_use"]),
        out_of_scope_use=tuple(data["out_of_scope_use"]),
        limitations=tuple(data["limitations"]),
        example=data.get("example", ""),
        benchmarks=tuple(Benchmark(**item) for item in data.get("benchmarks", ())),
    )
