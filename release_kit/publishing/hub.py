"""The Hugging Face Hub, as publishing needs it: the only module that imports huggingface_hub.

Every method says in its own words what failed; a token or a URL with credentials never gets into
a message.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from release_kit.bundle import BundleFile
from release_kit.errors import Refused, Unfinished, UnusableInput

DEFAULT_ENDPOINT = "https://huggingface.co"

_FORBIDDEN = (401, 403)
_CONFLICT, _STALE_PARENT = 409, 412
# What was sent is wrong, so sending it again changes nothing.
_UNACCEPTABLE = (400, 413, 422)
# The client waits for ever unless told otherwise. A large commit takes the Hub about a minute.
_SECONDS_TO_ANSWER = 120.0
_LONGEST_REASON = 300
_MEND = "Mend what it names, then build and audit again."


@dataclass(frozen=True)
class RepoState:
    """A model repo as it stands on the Hub."""

    exists: bool
    private: bool
    head: str
    """Commit of the main branch; empty when the repo does not exist."""
    tags: Mapping[str, str]
    """Tag → commit."""


@dataclass(frozen=True)
class HubFile:
    """A file as a Hub lists it."""

    path: str
    size: int
    """Bytes."""
    sha256: str
    """Empty where the Hub knows only git's own digest."""
    blob: str
    """Git's digest of what git itself keeps: of the file, or of a pointer to it."""


@dataclass(frozen=True)
class Hub:
    """One Hub, spoken to with one token."""

    endpoint: str
    token: str = field(default="", repr=False)

    def state(self, repo_id: str) -> RepoState:
        """Look at a repo; one that is hidden from this token counts as absent."""
        from huggingface_hub.errors import RepositoryNotFoundError

        with self._speaking(f"look at {repo_id}"):
            try:
                info = self._api.model_info(repo_id, timeout=_SECONDS_TO_ANSWER)
                refs = self._api.list_repo_refs(repo_id)
            except RepositoryNotFoundError:
                return RepoState(exists=False, private=True, head="", tags={})
        heads = {ref.name: ref.target_commit for ref in refs.branches}
        return RepoState(
            exists=True,
            private=bool(info.private),
            head=heads.get("main", ""),
            tags={ref.name: ref.target_commit for ref in refs.tags},
        )

    def create_private(self, repo_id: str) -> None:
        """Create the repo, private; an existing one is an error."""
        with self._speaking(f"create {repo_id}"):
            self._api.create_repo(repo_id, private=True, exist_ok=False)

    def assert_may_write(self, repo_id: str) -> None:
        """Raise Refused unless the token may write to the repo."""
        with self._speaking(f"get write access to {repo_id}"):
            self._api.auth_check(repo_id, write=True)

    def commit(
        self,
        repo_id: str,
        *,
        add: Mapping[str, Path],
        delete: Sequence[str],
        parent: str,
        message: str,
    ) -> str:
        """Make one commit on main on top of `parent` and return its id."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        additions = [CommitOperationAdd(path, str(file)) for path, file in sorted(add.items())]
        removals = [CommitOperationDelete(path) for path in sorted(delete)]
        with self._speaking(f"commit to {repo_id}"), _without_bars():
            info = self._api.create_commit(
                repo_id,
                [*additions, *removals],
                commit_message=message,
                parent_commit=parent,
            )
        return str(info.oid)

    def tree(self, repo_id: str, revision: str) -> frozenset[str]:
        """Return the path of every file at a revision."""
        with self._speaking(f"list {repo_id}"):
            entries = self._api.list_repo_tree(repo_id, recursive=True, revision=revision)
            return frozenset(entry.path for entry in entries if hasattr(entry, "size"))

    def files(self, repo_id: str, commit: str) -> tuple[HubFile, ...]:
        """Return every file at a commit, with its digests."""
        with self._speaking(f"list {repo_id}"):
            entries = self._api.list_repo_tree(repo_id, recursive=True, revision=commit)
            return tuple(
                HubFile(one.path, one.size, one.lfs.sha256 if one.lfs else "", one.blob_id)
                for one in entries
                if hasattr(one, "size")
            )

    def commit_of(self, repo_id: str, revision: str) -> str:
        """Return the 40-hex commit that a branch, tag or commit names; empty when none does."""
        from huggingface_hub.errors import RevisionNotFoundError

        with self._speaking(f"find {revision} of {repo_id}"):
            try:
                info = self._api.model_info(repo_id, revision=revision, timeout=_SECONDS_TO_ANSWER)
            except RevisionNotFoundError:
                return ""
        return str(info.sha)

    def read_back(self, repo_id: str, commit: str, path: str) -> BundleFile:
        """Download one file and return the size and SHA-256 of the bytes that arrived."""
        digest, size = hashlib.sha256(), 0
        for chunk in self._chunks(repo_id, commit, path):
            digest.update(chunk)
            size += len(chunk)
        return BundleFile(path, size, digest.hexdigest())

    def read_bytes(self, repo_id: str, commit: str, path: str) -> bytes:
        """Download one small file whole."""
        return b"".join(self._chunks(repo_id, commit, path))

    def download(self, repo_id: str, commit: str, path: str, stream: BinaryIO) -> None:
        """Write one file's bytes into `stream` as they arrive."""
        for chunk in self._chunks(repo_id, commit, path):
            stream.write(chunk)

    def tag(self, repo_id: str, *, tag: str, commit: str, message: str) -> None:
        """Tag a commit; an existing tag is an error."""
        with self._speaking(f"tag {repo_id}"):
            self._api.create_tag(repo_id, tag=tag, revision=commit, tag_message=message)

    def open(self, repo_id: str, *, gated: str | bool, private: bool) -> None:
        """Set visibility and gating in one request."""
        with self._speaking(f"set the visibility of {repo_id}"):
            self._api.update_repo_settings(repo_id, gated=gated, private=private)

    @property
    def _api(self) -> Any:
        from huggingface_hub import HfApi, constants

        # LFS names its blobs by SHA-256, as the manifest does. The client reads the switch from
        # the environment when it is first imported, which may have been long before us.
        constants.HF_HUB_DISABLE_XET = True
        _patient_session()
        return HfApi(endpoint=self.endpoint, token=self.token or False, **_us())

    def _chunks(self, repo_id: str, commit: str, path: str) -> Iterator[bytes]:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

        url = hf_hub_url(repo_id, path, revision=commit, endpoint=self.endpoint)
        headers = build_hf_headers(token=self.token or False, **_us())
        headers["Accept-Encoding"] = "identity"
        with (
            self._speaking(f"read {path} of {repo_id} back"),
            _patient_session().stream(
                "GET", url, headers=headers, follow_redirects=True
            ) as response,
        ):
            hf_raise_for_status(response)
            yield from response.iter_bytes()

    @contextmanager
    def _speaking(self, what: str) -> Iterator[None]:
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        try:
            yield
        except OfflineModeIsEnabled:
            raise Unfinished(
                f"could not {what}: this machine is told to stay offline (HF_HUB_OFFLINE)",
                hint="Unset HF_HUB_OFFLINE, then run the same command again.",
            ) from None
        except HfHubHTTPError as error:
            raise self._explained(what, error) from None
        except (json.JSONDecodeError, UnicodeDecodeError):
            # A page of a proxy, or of a Hub in trouble, in the place of an answer.
            raise Unfinished(
                f"could not {what}: {self.endpoint} answered with something other than JSON",
                hint="Check the address and the network, then run the same command again.",
            ) from None
        except ValueError as error:
            # The client refuses a card or a path before it sends anything large.
            raise Refused(f"could not {what}: {self._told(error)}", hint=_MEND) from None
        except _transport_errors() as error:
            raise Unfinished(
                f"could not {what}: {self.endpoint} did not answer ({type(error).__name__})",
                hint="Check the network, then run the same command again; it goes on from here.",
            ) from None

    def _explained(self, what: str, error: Any) -> Refused | Unfinished:
        status = error.response.status_code if error.response is not None else 0
        said = f"could not {what}: the Hub answered {status}"
        reason = self._told(getattr(error, "server_message", None) or "")
        said += f" ({reason})" if reason else ""
        if status in _FORBIDDEN:
            return Refused(
                said,
                hint="Log in with `hf auth login`, or set HF_TOKEN to a token that may do this.",
            )
        if status in _UNACCEPTABLE:
            return Refused(said, hint=_MEND)
        if status in (_CONFLICT, _STALE_PARENT):
            return Unfinished(
                said, hint="Someone else changed the repo meanwhile; look, then run again."
            )
        return Unfinished(said, hint="Run the same command again later; it goes on from here.")

    def _told(self, text: object) -> str:
        """Return others' words on one line, and without our token, which they may repeat."""
        words = " ".join(str(text).split())
        if self.token:
            words = words.replace(self.token, "<token>")
        return words[:_LONGEST_REASON]


def connect(endpoint: str | None = None, token: str | None = None) -> Hub:
    """Return the Hub at `endpoint` (HF_ENDPOINT, else the public one), with the user's own token.

    The token comes from `token`, else from where huggingface_hub looks (HF_TOKEN, `hf auth
    login`).

    Raises:
        UnusableInput: the address is none, or it carries a password.
    """
    if token is None:
        from huggingface_hub import get_token

        token = get_token() or ""
    where = endpoint or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT
    _refuse_odd_address(where)
    return Hub(where.rstrip("/"), token)


def _refuse_odd_address(endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    # Messages and the journal name the address, so nothing secret may stand in it.
    if not usable or "@" in endpoint or parts.query or parts.fragment:
        raise UnusableInput(
            "the Hub's address is not http://HOST or https://HOST alone",
            hint="Correct --endpoint or HF_ENDPOINT; the token belongs in HF_TOKEN.",
        )


def _us() -> dict[str, str]:
    return {"library_name": "release-kit", "library_version": version("release-kit")}


def _patient_session() -> Any:
    """Return the client's session, which from now on gives up on a Hub that falls silent."""
    from huggingface_hub.utils import get_session

    session = get_session()
    if session.timeout.read is None:
        session.timeout = _SECONDS_TO_ANSWER
    return session


@contextmanager
def _without_bars() -> Iterator[None]:
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _transport_errors() -> tuple[type[BaseException], ...]:
    # huggingface_hub 2 speaks through httpx2, 1 through httpx; both may be there for other reasons.
    kinds: list[type[BaseException]] = [OSError]
    for name in ("httpx2", "httpx"):
        with suppress(ImportError):
            module = import_module(name)
            kinds += [module.RequestError, module.StreamError]
    return tuple(kinds)
