"""Publishing to a rehearsal Hub in its own process, over HTTP, with the real client."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from datetime import date, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, close_session, snapshot_download

import release_kit
from release_kit.auditing.findings import Verdict
from release_kit.bundle import write_manifest
from release_kit.errors import Refused, Unfinished, UnusableInput
from release_kit.licensing.policy_files import BASELINE
from release_kit.publishing import hub as speaking
from release_kit.publishing import publication as gate
from release_kit.publishing.rehearsal import RehearsalHub
from tests.bundles import CONTRADICTION, day, own_policy, stamp, waiver
from tests.projects import edit
from tests.publishing.relay import CUT, DROP, HOLD, Answer, relay
from tests.publishing.releases import (
    PLANTED_TOKEN,
    RELEASED,
    REPO,
    TAG,
    Actor,
    Standing,
    assert_no_token,
    blob,
    bundle_bytes,
    change,
    command_line,
    environment,
    flip,
    owner,
    publish,
    raises,
    run_command,
    standing,
    stranger,
)

DONE = Standing(private=False, titles=RELEASED, tags={TAG: RELEASED[0]})
_EMPTY = Standing(private=True, titles=RELEASED[1:], tags={})
_COMMITTED = Standing(private=True, titles=RELEASED, tags={})
_TAGGED = Standing(private=True, titles=RELEASED, tags={TAG: RELEASED[0]})
_SUMMARY = ("Tells which topic", "Says which topic")


def _mark(hub: RehearsalHub) -> Callable[[], list[str]]:
    """Return a function that gives the requests since now, in their order."""
    before = len(hub.log.read_text())

    def requests() -> list[str]:
        return hub.log.read_text()[before:].splitlines()

    return requests


# A release that goes well.


def test_a_release_is_one_commit_read_back_tagged_and_only_then_visible(
    hub: RehearsalHub,
    project: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(0)
    requests, watcher = _mark(hub), Actor()
    publication = publish(project, hub, watcher=watcher)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    sent = [line.rsplit(" ", 1)[0] for line in requests()]
    bundle = bundle_bytes(project / "out" / "bundle")

    assert standing(hub) == DONE
    assert publication.files == publication.read_back == len(bundle)
    assert owner(hub).list_repo_commits(REPO)[0].commit_id == publication.commit
    found = snapshot_download(
        REPO, revision=TAG, endpoint=hub.url, token=False, cache_dir=tmp_path / "cache"
    )
    assert bundle_bytes(Path(found)) == bundle

    journal = (project / "out" / "publication.json").read_bytes()
    assert json.loads(journal) == asdict(publication)
    assert_no_token(hub, journal.decode(), publication, watcher.heard, caplog.text)

    api = f"/api/models/{REPO}"
    changes = [line for line in sent if not line.startswith("GET ")]
    assert changes[-3:] == [
        f"POST {api}/commit/main",
        f"POST {api}/tag/{publication.commit}",
        f"PUT {api}/settings",
    ]
    between = sent[sent.index(changes[-3]) : sent.index(changes[-2])]
    read = [line for line in sent if "/resolve/" in line]
    assert sorted(read) == sorted(
        f"GET /{REPO}/resolve/{publication.commit}/{path}" for path in bundle
    )
    assert set(read) <= set(between)


@pytest.mark.slow
def test_a_stranger_loads_the_model_from_the_hub(
    hub: RehearsalHub, project: Path, tmp_path: Path
) -> None:
    publish(project, hub)
    script = (
        "import sys\n"
        "from transformers import AutoModelForSequenceClassification as Model, AutoTokenizer\n"
        "repo, tag, bundle = sys.argv[1:]\n"
        "def answer(place, **where):\n"
        "    tokens = AutoTokenizer.from_pretrained(place, **where)\n"
        "    model = Model.from_pretrained(place, **where)\n"
        "    return model(**tokens('More butter, more flour.', return_tensors='pt')).logits\n"
        "print((answer(repo, revision=tag) == answer(bundle)).tolist())\n"
    )
    command = [command_line()[0], "-c", script, REPO, TAG, project / "out" / "bundle"]
    env = environment(tmp_path / "home", HF_ENDPOINT=hub.url)
    done = subprocess.run(
        command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[[True, True, True]]\n"), done.stderr
    assert list((tmp_path / "home").glob("hub/models--acme--topics/snapshots/*/model.safetensors"))


def test_publishing_a_finished_release_again_changes_nothing(
    hub: RehearsalHub, project: Path
) -> None:
    first = publish(project, hub)
    owner(hub).update_repo_settings(REPO, gated="manual")
    requests = _mark(hub)
    second = publish(project, hub)
    assert second.read_back == 0
    assert (second.commit, second.manifest_digest) == (first.commit, first.manifest_digest)
    assert all(line.startswith("GET ") for line in requests())
    assert standing(hub) == Standing(False, RELEASED, {TAG: RELEASED[0]}, gated="manual")


@pytest.mark.parametrize(("gating", "gated"), [("automatic", "auto"), ("manual", "manual")])
def test_a_gate_stands_before_anyone_can_enter(
    hub: RehearsalHub, project: Path, gating: str, gated: str
) -> None:
    change(project, "visibility: public", f"visibility: public\n  gating: {gating}")
    requests = _mark(hub)
    publish(project, hub)
    assert len([line for line in requests() if "/settings" in line]) == 1
    assert standing(hub) == Standing(False, RELEASED, {TAG: RELEASED[0]}, gated=gated)
    publish(project, hub)
    assert standing(hub) == Standing(False, RELEASED, {TAG: RELEASED[0]}, gated=gated)


def test_a_private_release_stays_private(hub: RehearsalHub, project: Path) -> None:
    change(project, "visibility: public", "visibility: private")
    assert publish(project, hub).visibility == "private"
    assert not stranger(hub).repo_exists(REPO)
    owner(hub).update_repo_settings(REPO, private=False)
    assert publish(project, hub).read_back == 0
    assert standing(hub) == _TAGGED


def test_a_new_version_is_one_more_commit_without_the_old_files(
    hub: RehearsalHub, project: Path
) -> None:
    first = publish(project, hub)
    change(project, 'version: "1.0.0"', 'version: "1.1.0"')
    with raises(hub, Refused, "is public already") as refused:
        publish(project, hub)
    assert "Make it private" in refused.value.hint
    assert standing(hub) == DONE

    owner(hub).update_repo_settings(REPO, private=True)
    operations = [CommitOperationAdd("old/weights.bin", b"old")]
    owner(hub).create_commit(REPO, operations, commit_message="by hand")
    second = publish(project, hub)
    assert standing(hub) == Standing(
        private=False,
        titles=("Release 1.1.0", "by hand", *RELEASED),
        tags={TAG: "Release 1.0.0", "v1.1.0": "Release 1.1.0"},
    )
    assert stranger(hub).model_info(REPO, revision=TAG).sha == first.commit
    files = stranger(hub).list_repo_files(REPO, revision="v1.1.0")
    assert set(files) == bundle_bytes(project / "out" / "bundle").keys()
    assert second.read_back == len(files)


# A release that is cut short.

_KILLS = {
    "before the commit": (f"POST /api/models/{REPO}/commit/main", False, _EMPTY),
    "at the commit": (f"POST /api/models/{REPO}/commit/main", True, _COMMITTED),
    "while reading back": (f"GET /{REPO}/resolve/.*/tokenizer.json", True, _COMMITTED),
    "at the tag": (f"POST /api/models/{REPO}/tag/.*", True, _TAGGED),
    "at the visibility": (f"PUT /api/models/{REPO}/settings", True, DONE),
}


@pytest.mark.parametrize("point", _KILLS)
def test_a_killed_publish_hides_its_work_and_the_next_one_ends_it(
    hub: RehearsalHub,
    project: Path,
    tmp_path: Path,
    point: str,
) -> None:
    request, lands, left = _KILLS[point]
    with relay(hub.url, request, HOLD, lands=lands) as weather:
        # Nothing tells this process to leave Xet alone, as nothing tells a user's.
        env = environment(tmp_path / "home", HF_TOKEN=hub.accounts["acme"].token)
        process = subprocess.Popen(
            command_line("publish", project, "--endpoint", weather.url),
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        reached = weather.reached.wait(60)
        os.kill(process.pid, signal.SIGKILL)
        said = process.communicate()[0]
    assert reached and process.returncode == -signal.SIGKILL, said
    assert_no_token(hub, said)
    assert standing(hub) == left
    assert stranger(hub).repo_exists(REPO) is (left is DONE)
    assert not (project / "out" / "publication.json").exists()

    publication = publish(project, hub)
    assert standing(hub) == DONE
    assert bool(publication.read_back) is (left is not DONE)
    assert (project / "out" / "publication.json").exists()


_STEPS = {
    "look": f"GET /api/models/{REPO}",
    "refs": f"GET /api/models/{REPO}/refs",
    "create": "POST /api/repos/create",
    "write access": f"GET /api/models/{REPO}/auth-check/write",
    "card": "POST /api/validate-yaml",
    "commit": f"POST /api/models/{REPO}/commit/main",
    "read back": f"GET /{REPO}/resolve/.*/licenses/.*/NOTICE",
    "tag": f"POST /api/models/{REPO}/tag/.*",
    "visibility": f"PUT /api/models/{REPO}/settings",
}
_TROUBLE = Answer(503, {"Content-Type": "text/html"}, b"<html>back soon</html>")


@pytest.mark.parametrize("step", _STEPS)
def test_a_hub_in_trouble_is_no_refusal_and_the_next_publish_ends_it(
    hub: RehearsalHub, project: Path, step: str
) -> None:
    with (
        relay(hub.url, _STEPS[step], _TROUBLE) as weather,
        raises(hub, Unfinished, "answered 503|something other than JSON"),
    ):
        publish(project, hub, endpoint=weather.url)
    assert weather.reached.is_set()
    assert not stranger(hub).repo_exists(REPO)
    publish(project, hub)
    assert standing(hub) == DONE


@pytest.mark.parametrize("step", ["create", "commit", "tag", "visibility"])
def test_a_lost_answer_does_not_do_the_work_twice(
    hub: RehearsalHub, project: Path, step: str
) -> None:
    with (
        relay(hub.url, _STEPS[step], DROP, lands=True) as weather,
        raises(hub, Unfinished, "did not answer"),
    ):
        publish(project, hub, endpoint=weather.url)
    assert weather.reached.is_set()
    publish(project, hub)
    assert standing(hub) == DONE


def test_half_a_file_is_not_a_file_that_was_read_back(hub: RehearsalHub, project: Path) -> None:
    with (
        relay(hub.url, f"GET /{REPO}/resolve/.*/model.safetensors", CUT) as weather,
        raises(hub, Unfinished, "could not read model.safetensors of acme/topics back"),
    ):
        publish(project, hub, endpoint=weather.url)
    assert standing(hub) == _COMMITTED


def test_a_page_in_the_place_of_an_answer_is_no_refusal(hub: RehearsalHub, project: Path) -> None:
    page = Answer(200, {"Content-Type": "text/html"}, b"<html>Welcome to our network</html>")
    with (
        relay(hub.url, "GET .*", page) as weather,
        raises(hub, Unfinished, "something other than JSON"),
    ):
        publish(project, hub, endpoint=weather.url)
    assert standing(hub) is None


def test_a_silent_hub_is_not_waited_for_without_end(
    hub: RehearsalHub, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speaking, "_SECONDS_TO_ANSWER", 0.5)
    close_session()
    try:
        for step in ("look", "commit", "read back"):
            with (
                relay(hub.url, _STEPS[step], HOLD) as weather,
                raises(hub, Unfinished, "did not answer"),
            ):
                publish(project, hub, endpoint=weather.url)
            assert weather.reached.is_set()
    finally:
        close_session()
    assert standing(hub) == _COMMITTED


def test_a_hub_that_is_down_is_told_with_code_3(
    hub: RehearsalHub, project: Path, tmp_path: Path
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with raises(hub, Unfinished, f"{nobody} did not answer"):
            publish(project, hub, endpoint=nobody, token=PLANTED_TOKEN)
        done = run_command(
            hub, tmp_path, "publish", project, "--endpoint", nobody, token=PLANTED_TOKEN
        )
    assert done.returncode == 3
    assert "did not answer" in done.stderr


# The gate: what no passing audit saw is not even mentioned to the Hub.


def _manifest_rewritten(project: Path) -> None:
    flip(project / "out" / "bundle" / "README.md")
    write_manifest(project / "out" / "bundle", repo_id=REPO, version="1.0.0")


def _file_linked(project: Path) -> None:
    file = project / "out" / "bundle" / "LICENSE"
    file.rename(project / "LICENSE")
    file.symlink_to(project / "LICENSE")


def _folder_linked(project: Path) -> None:
    (project / "out" / "bundle" / "more").symlink_to(project / "data")


def _rebuilt(project: Path) -> None:
    edit(project / "release.yaml", *_SUMMARY)
    release_kit.build(project)
    edit(project / "release.yaml", *reversed(_SUMMARY))


def _bundle_linked(project: Path) -> None:
    (project / "out" / "bundle").rename(project / "elsewhere")
    (project / "out" / "bundle").symlink_to(project / "elsewhere")


def _garbled_report(project: Path) -> None:
    (project / "out" / "audit.json").write_bytes(b'{"report": 2, "verdict": "pass"}')


_BREAKS: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "no audit": (
        lambda project: (project / "out" / "audit.json").unlink(),
        Refused,
        "has not been audited",
    ),
    "a changed bit": (
        lambda project: flip(project / "out" / "bundle" / "model.safetensors"),
        Refused,
        "model.safetensors: its bytes have changed",
    ),
    "a file more": (
        lambda project: (project / "out" / "bundle" / ".env").write_text("x"),
        Refused,
        ".env: it was not in the bundle",
    ),
    "a file less": (
        lambda project: (project / "out" / "bundle" / "NOTICE").unlink(),
        Refused,
        "NOTICE: it is missing",
    ),
    "a linked file": (_file_linked, Refused, "LICENSE: it is a symbolic link"),
    "a linked folder": (_folder_linked, Refused, "more: it is a symbolic link"),
    "a pipe": (
        lambda project: os.mkfifo(project / "out" / "bundle" / "pipe"),
        Refused,
        "pipe: it is a device, pipe or socket",
    ),
    "a rewritten manifest": (_manifest_rewritten, Refused, "built again after the audit"),
    "a bundle built again": (_rebuilt, Refused, "built again after the audit"),
    "another release.yaml": (
        lambda project: edit(project / "release.yaml", *_SUMMARY),
        Refused,
        "release.yaml has changed since the audit",
    ),
    "an audit by an older program": (
        lambda project: edit(project / "out" / "audit.json", '"release-kit ', '"release-kit 0.0.'),
        Refused,
        "the audit was not a whole one",
    ),
    "an audit that left out a check": (
        lambda project: edit(project / "out" / "audit.json", '    "license",\n', ""),
        Refused,
        "the audit was not a whole one",
    ),
    "no manifest": (
        lambda project: (project / "out" / "bundle" / "manifest.json").unlink(),
        UnusableInput,
        "is not a manifest",
    ),
    "a linked bundle": (_bundle_linked, UnusableInput, "is not a folder"),
    "a garbled report": (_garbled_report, UnusableInput, "is not an audit report"),
}


@pytest.mark.parametrize(("spoil", "kind", "message"), _BREAKS.values(), ids=_BREAKS)
def test_what_was_not_audited_is_refused_before_any_request(
    hub: RehearsalHub,
    project: Path,
    spoil: Callable[[Path], object],
    kind: type[Refused | UnusableInput],
    message: str,
) -> None:
    spoil(project)
    requests = _mark(hub)
    with raises(hub, kind, message):
        publish(project, hub)
    assert requests() == []


def test_a_changed_policy_is_refused_before_any_request(hub: RehearsalHub, project: Path) -> None:
    policy = project / "policy.yaml"
    policy.write_bytes(BASELINE.read_bytes())
    change(project, "privacy:\n", "policy: policy.yaml\nprivacy:\n")
    with policy.open("a") as stream:
        stream.write("# A word more.\n")
    requests = _mark(hub)
    with raises(hub, Refused, "the policy or a license file has changed"):
        publish(project, hub)
    assert requests() == []
    release_kit.build(project)
    assert release_kit.audit(project).verdict is Verdict.PASS
    publish(project, hub)
    assert standing(hub) == DONE


@pytest.mark.parametrize(("decision", "verdict"), [("review", "review"), ("deny", "block")])
def test_a_verdict_other_than_pass_is_refused_and_cannot_be_overwritten(
    hub: RehearsalHub, project: Path, decision: str, verdict: str
) -> None:
    policy = project / "policy.yaml"
    policy.write_bytes(BASELINE.read_bytes())
    rule = "upstream.downstream_license: own-terms-allowed\n    decide: "
    edit(policy, f"{rule}allow", f"{rule}{decision}")
    edit(project / "release.yaml", "privacy:\n", "policy: policy.yaml\nprivacy:\n")
    release_kit.build(project)
    assert release_kit.audit(project).verdict == verdict
    requests = _mark(hub)
    with raises(hub, Refused, f"verdict is {verdict}, not pass"):
        publish(project, hub)
    edit(project / "out" / "audit.json", f'\n  "verdict": "{verdict}"', '\n  "verdict": "pass"')
    with raises(hub, UnusableInput, f"says pass, but its findings give {verdict}"):
        publish(project, hub)
    assert requests() == []


def _release_with_a_waiver(project: Path) -> None:
    """Build and audit a project whose one finding somebody answers for."""
    (project / "base" / "README.md").write_text(CONTRADICTION, encoding="utf-8")
    waiver(project, "license-contradiction", upstream="acme/tiny-bert")
    stamp(project)
    report = release_kit.audit(project)
    assert (report.verdict, len(report.waived)) == (Verdict.PASS, 1)


def _on(monkeypatch: pytest.MonkeyPatch, distance: int) -> None:
    """Let the gate believe that so many days have passed since the audit."""
    then = date.today() + timedelta(distance)

    class Calendar(date):
        @classmethod
        def today(cls) -> date:
            return then

    monkeypatch.setattr(gate, "date", Calendar)


def test_a_release_that_rests_on_a_waiver_is_published_until_its_last_day(
    hub: RehearsalHub, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _release_with_a_waiver(project)
    _on(monkeypatch, 31)
    requests = _mark(hub)
    with raises(hub, Refused, f"rests on expired on {day(30)}") as refused:
        publish(project, hub)
    assert "the waiver waiver-license-contradiction for license-contradiction" in str(refused.value)
    assert requests() == []
    _on(monkeypatch, 30)
    publish(project, hub)
    assert standing(hub) == DONE


def test_a_release_that_rests_on_a_grant_is_not_published_after_its_last_day(
    hub: RehearsalHub, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = own_policy(project)
    grant = {
        "id": "bought",
        "licensor": "Acme Data",
        "upstream": "acme/topic-notes",
        "permits": ["commercial-use"],
        "own_terms": True,
        "owner": "legal",
        "evidence": "contract 7",
        "signed": day(-3),
        "expires": day(3),
    }
    edit(policy, "grants: []", f"grants: [{json.dumps(grant)}]")
    change(project, "license: cc-by-4.0", "license: cc-by-nc-4.0")
    _on(monkeypatch, 4)
    requests = _mark(hub)
    with raises(hub, Refused, f"rests on expired on {day(3)}"):
        publish(project, hub)
    assert requests() == []
    _on(monkeypatch, 3)
    publish(project, hub)
    assert standing(hub) == DONE


def _waive(audit: Any) -> None:
    """Call the finding waived, as the genuine one is."""
    genuine = audit["waived"][0]
    audit["waived"] += [{**genuine, "finding": finding} for finding in audit["findings"]]
    audit["findings"], audit["verdict"] = [], "pass"


def _extend(audit: Any) -> None:
    audit["waived"][0]["expires"] = audit["valid_until"] = "2099-01-01"


def _rename(audit: Any) -> None:
    audit["waived"][0]["approver"] = "Somebody Else"


@pytest.mark.parametrize("tamper", [_waive, _extend, _rename])
def test_a_report_that_calls_waived_what_nobody_waived_is_refused(
    hub: RehearsalHub, project: Path, tamper: Callable[[Any], None]
) -> None:
    _release_with_a_waiver(project)
    if tamper is _waive:
        edit(project / "release.yaml", "license: cc-by-4.0", "license: cc-by-nc-4.0")
        stamp(project)
        assert release_kit.audit(project).verdict is Verdict.BLOCK
    path = project / "out" / "audit.json"
    audit = json.loads(path.read_bytes())
    tamper(audit)
    path.write_text(json.dumps(audit), encoding="utf-8")
    requests = _mark(hub)
    with raises(hub, Refused, "is none of the policy's in force"):
        publish(project, hub)
    assert requests() == []


def test_every_reason_is_told_at_once(hub: RehearsalHub, project: Path) -> None:
    edit(project / "release.yaml", *_SUMMARY)
    (project / "out" / "bundle" / "NOTICE").unlink()
    flip(project / "out" / "bundle" / "README.md")
    with raises(hub, Refused, "not what a passing audit saw") as refused:
        publish(project, hub)
    for reason in ("release.yaml has changed", "NOTICE: it is missing", "README.md: its bytes"):
        assert reason in refused.value.message


def test_without_a_token_nothing_is_sent(
    hub: RehearsalHub, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    requests = _mark(hub)
    for none in ("", None):
        with raises(hub, Refused, "no token") as refused:
            publish(project, hub, token=none)
        assert "HF_TOKEN" in refused.value.hint
    assert requests() == []


@pytest.mark.parametrize(
    "endpoint",
    [
        f"http://user:{PLANTED_TOKEN}@127.0.0.1",
        f"https://127.0.0.1/?token={PLANTED_TOKEN}",
        "127.0.0.1:80",
        "ftp://127.0.0.1",
        "http://",
        "http://[",
        "http://127.0.0.1:99999",
    ],
)
def test_an_address_that_is_none_or_carries_a_secret_is_refused(
    hub: RehearsalHub, project: Path, endpoint: str
) -> None:
    with raises(hub, UnusableInput, "address"):
        publish(project, hub, endpoint=endpoint)


# The Hub says no.


def test_a_token_that_may_only_read_is_refused(hub: RehearsalHub, project: Path) -> None:
    reading = hub.accounts["acme"].read_token
    with raises(hub, Refused, "may only read") as refused:
        publish(project, hub, token=reading)
    assert "HF_TOKEN to a token that may" in refused.value.hint
    assert standing(hub) is None
    owner(hub).create_repo(REPO, private=True)
    with raises(hub, Refused, "could not get write access .* may only read"):
        publish(project, hub, token=reading)
    assert standing(hub) == _EMPTY


@pytest.mark.parametrize("token", [PLANTED_TOKEN, f"{PLANTED_TOKEN}\n\N{SNOWMAN}", "\x00hf_x"])
def test_a_token_that_nobody_knows_is_refused_and_not_repeated(
    hub: RehearsalHub, project: Path, token: str
) -> None:
    with pytest.raises((Refused, Unfinished)) as caught:
        publish(project, hub, token=token)
    assert_no_token(hub, caught.value, repr(caught.value), caught.value.hint)
    assert standing(hub) is None


def test_a_token_that_the_hub_repeats_is_not_told(hub: RehearsalHub, project: Path) -> None:
    echo = Answer(403, {"X-Error-Message": "you sent {authorization}, which may not write"})
    with (
        relay(hub.url, _STEPS["create"], echo) as weather,
        raises(hub, Refused, "you sent Bearer <token>, which may not write"),
    ):
        publish(project, hub, endpoint=weather.url)
    assert weather.struck


@pytest.mark.parametrize("existing", ["absent", "private", "public"])
def test_what_belongs_to_someone_else_is_refused(
    hub: RehearsalHub, project: Path, existing: str
) -> None:
    theirs = "reader/topics"
    if existing != "absent":
        owner(hub, "reader").create_repo(theirs, private=existing == "private")
    before = standing(hub, theirs)
    change(project, f"repo_id: {REPO}", f"repo_id: {theirs}")
    with raises(hub, Refused, "you don't have the rights|You don't have the rights"):
        publish(project, hub)
    assert standing(hub, theirs) == before


def test_a_public_repo_is_not_committed_to(hub: RehearsalHub, project: Path) -> None:
    owner(hub).create_repo(REPO)
    with raises(hub, Refused, "is public already") as refused:
        publish(project, hub)
    assert "Make it private" in refused.value.hint
    assert standing(hub) == Standing(private=False, titles=RELEASED[1:], tags={})


def test_a_tag_never_gets_other_bytes(hub: RehearsalHub, project: Path) -> None:
    publish(project, hub)
    change(project, *_SUMMARY)
    for private in (False, True):
        owner(hub).update_repo_settings(REPO, private=private)
        before = standing(hub)
        with raises(hub, Refused, "a tag v1.0.0 already, and it holds other bytes") as refused:
            publish(project, hub)
        assert "release.version" in refused.value.hint
        assert standing(hub) == before


def test_a_card_that_the_hub_refuses_is_told_with_its_reason(
    hub: RehearsalHub, project: Path
) -> None:
    errors = {"errors": [{"message": '"license" must be one of [x]'}]}
    answer = Answer(400, {"Content-Type": "application/json"}, json.dumps(errors).encode())
    with (
        relay(hub.url, _STEPS["card"], answer) as weather,
        raises(hub, Refused, '"license" must be one of'),
    ):
        publish(project, hub, endpoint=weather.url)
    assert standing(hub) == _EMPTY


@pytest.mark.parametrize("status", [400, 413])
def test_a_commit_that_the_hub_will_never_take_is_a_refusal(
    hub: RehearsalHub, project: Path, status: int
) -> None:
    answer = Answer(status, {"X-Error-Message": "too much"})
    with (
        relay(hub.url, _STEPS["commit"], answer) as weather,
        raises(hub, Refused, rf"could not commit .* {status} \(too much\)"),
    ):
        publish(project, hub, endpoint=weather.url)
    assert standing(hub) == _EMPTY


def test_the_token_stays_with_the_hub_when_it_sends_elsewhere(
    hub: RehearsalHub, project: Path
) -> None:
    with relay(hub.url, ".*", Answer(200, {}, b"other bytes")) as elsewhere:
        away = Answer(302, {"Location": f"{elsewhere.url}/cdn"})
        with (
            relay(hub.url, f"GET /{REPO}/resolve/.*/model.safetensors", away) as weather,
            raises(hub, Unfinished, "does not hold what was sent: model.safetensors"),
        ):
            publish(project, hub, endpoint=weather.url)
    assert weather.struck[0]["authorization"] == f"Bearer {hub.accounts['acme'].token}"
    assert weather.struck[0]["user-agent"].startswith(f"release-kit/{version('release-kit')}")
    assert elsewhere.struck
    assert all("authorization" not in headers for headers in elsewhere.struck)
    assert standing(hub) == _COMMITTED


# Something changes while a publish is at work.


@pytest.mark.parametrize("path", ["model.safetensors", "README.md"])
def test_bytes_that_rot_on_the_hub_never_become_visible(
    hub: RehearsalHub, project: Path, path: str
) -> None:
    rotten = blob(hub, project, path)
    watcher = Actor("reading back", lambda: flip(rotten))
    for watching in (watcher, Actor()):
        with raises(hub, Unfinished, f"does not hold what was sent: {path}. The repo stays priv"):
            publish(project, hub, watcher=watching)
        assert standing(hub) == _COMMITTED
    flip(rotten)
    assert publish(project, hub).read_back
    assert standing(hub) == DONE


def test_bytes_that_rot_between_tag_and_visibility_never_become_visible(
    hub: RehearsalHub, project: Path
) -> None:
    with (
        relay(hub.url, _STEPS["visibility"], _TROUBLE) as weather,
        raises(hub, Unfinished, "503"),
    ):
        publish(project, hub, endpoint=weather.url)
    assert standing(hub) == _TAGGED
    flip(blob(hub, project, "LICENSE"))
    with raises(hub, Unfinished, "does not hold what was sent: LICENSE"):
        publish(project, hub)
    assert standing(hub) == _TAGGED


def test_bytes_that_change_on_the_way_to_the_hub_never_become_visible(
    hub: RehearsalHub, project: Path
) -> None:
    file = project / "out" / "bundle" / "config.json"
    with raises(hub, Unfinished, "does not hold what was sent: config.json"):
        publish(project, hub, watcher=Actor("publish: send", lambda: flip(file)))
    assert standing(hub) == _COMMITTED


def _commit_by_hand(hub: RehearsalHub, name: str, content: bytes = b"x") -> None:
    operations = [CommitOperationAdd(name, content)]
    owner(hub).create_commit(REPO, operations, commit_message="by hand")


def test_a_commit_of_someone_else_before_ours_stops_the_publish(
    hub: RehearsalHub, project: Path
) -> None:
    watcher = Actor("publish: send", lambda: _commit_by_hand(hub, "theirs.txt"))
    with raises(hub, Unfinished, "could not commit .* 412") as unfinished:
        publish(project, hub, watcher=watcher)
    assert "Someone else changed the repo" in unfinished.value.hint
    titles = ("by hand", "initial commit")
    assert standing(hub) == Standing(private=True, titles=titles, tags={})
    publish(project, hub)
    assert standing(hub) == Standing(False, ("Release 1.0.0", *titles), {TAG: "Release 1.0.0"})
    assert "theirs.txt" not in stranger(hub).list_repo_files(REPO)


def test_a_commit_of_someone_else_after_ours_never_becomes_visible(
    hub: RehearsalHub, project: Path
) -> None:
    watcher = Actor("reading back", lambda: _commit_by_hand(hub, "theirs.txt"))
    hidden = Standing(True, ("by hand", *RELEASED), {TAG: "Release 1.0.0"})
    for watching in (watcher, Actor()):
        with raises(hub, Unfinished, "someone else committed to acme/topics after v1.0.0"):
            publish(project, hub, watcher=watching)
        assert standing(hub) == hidden
    change(project, 'version: "1.0.0"', 'version: "1.0.1"')
    publish(project, hub)
    assert "theirs.txt" not in stranger(hub).list_repo_files(REPO)


def test_two_publishers_at_once_make_one_release(hub: RehearsalHub, project: Path) -> None:
    watcher = Actor("publish: tag", lambda: publish(project, hub))
    with raises(hub, Unfinished, "could not tag .* 409"):
        publish(project, hub, watcher=watcher)
    assert standing(hub) == DONE
    assert publish(project, hub).read_back == 0
    assert standing(hub) == DONE


def test_a_gitignore_on_the_hub_leaves_no_file_out(hub: RehearsalHub, project: Path) -> None:
    """The Hub takes such a commit and passes over the files in silence."""
    owner(hub).create_repo(REPO, private=True)
    _commit_by_hand(hub, ".gitignore", b"*.safetensors\n")
    with raises(hub, Unfinished, "does not hold what was sent: model.safetensors"):
        publish(project, hub)
    assert not stranger(hub).repo_exists(REPO)
    publish(project, hub)
    files = stranger(hub).list_repo_files(REPO, revision=TAG)
    assert set(files) == bundle_bytes(project / "out" / "bundle").keys()
