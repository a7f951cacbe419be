"""A project: release.yaml and, beside it, the folder `out/` where stages put what they make."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from release_kit.datasets.formats import suffix_of
from release_kit.release import RELEASE_FILE, Release, Upstream, read_release

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Project:
    """Where everything of one release lies."""

    release: Release

    @property
    def root(self) -> Path:
        """The folder of release.yaml."""
        return self.release.file.parent

    @property
    def out(self) -> Path:
        """Everything that stages make."""
        return self.root / "out"

    @property
    def model(self) -> Path:
        """The trained weights and tokenizer."""
        return self.out / "model"

    @property
    def bundle(self) -> Path:
        """Exactly what is published."""
        return self.out / "bundle"

    @property
    def leaks(self) -> Path:
        """What the weights still tell of the training data, as measured."""
        return self.out / "leaks.json"

    @property
    def report(self) -> Path:
        """The last audit's report, as JSON."""
        return self.out / "audit.json"

    @property
    def journal(self) -> Path:
        """What publish has done so far."""
        return self.out / "publication.json"

    @property
    def history(self) -> Path:
        """What was published from here, with its figures."""
        return self.out / "history.json"

    def receipt(self, stage: str) -> Path:
        """Return where the receipt of a stage lies."""
        return self.out / "receipts" / f"{stage}.json"

    def fetched(self, upstream: Upstream) -> Path:
        """Return where a model from the Hub lies, as it was at its revision."""
        return self.out / "fetched" / f"{upstream.slug}@{upstream.revision}"

    def redacted(self, dataset: Upstream) -> Path:
        """Return where the redacted copy of a dataset lies."""
        suffix = suffix_of(dataset.path.name) if dataset.path else ""
        return self.out / "redacted" / f"{dataset.slug}{suffix}"


def open_project(path: Path | str) -> Project:
    """Read the project whose folder, or release.yaml, is `path`.

    Raises:
        UnusableInput: there is no usable release.yaml.
    """
    project = Project(read_release(Path(path)))
    lineage = tuple(_found(project, upstream) for upstream in project.release.lineage)
    return Project(replace(project.release, lineage=lineage))


def _found(project: Project, upstream: Upstream) -> Upstream:
    """Return the upstream with its path where it was fetched from the Hub."""
    if upstream.path is not None or not is_commit(upstream.revision):
        return upstream
    folder = project.fetched(upstream)
    return replace(upstream, path=folder) if folder.is_dir() else upstream


def is_commit(revision: str) -> bool:
    """Tell whether a revision can only ever mean the same files."""
    return _COMMIT.fullmatch(revision) is not None


def is_project(path: Path | str) -> bool:
    """Tell whether `path` is a release.yaml or a folder with one."""
    return Path(path).is_file() or (Path(path) / RELEASE_FILE).is_file()
