"""The commands for whoever owns a policy: check, test, explain."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from release_kit.cli.console import say
from release_kit.cli.exit_codes import PASSED, REFUSED
from release_kit.errors import Problem, UnusableInput
from release_kit.files import POLICIES
from release_kit.release import RELEASE_FILE, read_release

if TYPE_CHECKING:
    from release_kit.auditing.findings import Rule
    from release_kit.licensing.policy import Knob, Policy, PolicyRule, ReachRule
    from release_kit.licensing.policy_tests import Case

_POLICY = click.argument("source", metavar="[POLICY]", default="")


@click.group()
def policy() -> None:
    """Check, test and explain a policy.

    POLICY is a policy file or the name of a shipped policy; left out, it is the one that
    ./release.yaml names, else the baseline.
    """


@policy.command()
@_POLICY
@click.pass_context
def check(context: click.Context, source: str) -> None:
    """Read POLICY, what it extends, all licenses and tables, and its tests.

    Exit codes: 0 it can be used, with what looks like a mistake as warnings; 2 it cannot, with
    file, line and column of every mistake.
    """
    from release_kit.auditing.engine import all_rules
    from release_kit.licensing.policy_check import examine

    rules = {rule.id for rule in all_rules()}
    found = examine(_source(source), day=date.today(), audit_rules=rules)
    _warn(found.warnings)
    read = found.policy
    cases = len(found.tests.cases) if found.tests else 0
    counts = (
        (len(read.rules), "rule"),
        (len(read.reach), "line of reach", "lines of reach"),
        (len(read.knobs), "knob"),
        (len(read.licenses), "license"),
        (cases, "test"),
        (len(found.warnings), "warning"),
    )
    said = ", ".join(_counted(*count) for count in counts)
    say(f"{read.file} can be used: {_named(read)}, {said}")
    context.exit(PASSED)


@policy.command("test")
@_POLICY
@click.pass_context
def test_(context: click.Context, source: str) -> None:
    """Run the tests beside POLICY: those of x.yaml lie in tests/x.yaml.

    Exit codes: 0 the policy says all that they expect; 1 it says something else; 2 the policy or
    its tests cannot be used, or there are none.
    """
    from release_kit.licensing.policy import load_policy
    from release_kit.licensing.policy_tests import read_tests, run_tests, untested

    tested = load_policy(_source(source))
    tests = read_tests(tested)
    failures = run_tests(tested, tests)
    for failure in failures:
        say(f"failed: {failure}")
    warnings = sorted(untested(tested, tests))
    _warn(warnings)
    passed = len(tests.cases) - len(failures)
    say(
        f"{_named(tested)}: {passed} of {_counted(len(tests.cases), 'test')} passed, "
        f"{_counted(len(warnings), 'warning')}"
    )
    context.exit(REFUSED if failures else PASSED)


@policy.command()
@click.argument("rule")
@click.option("--policy", "source", metavar="FILE|NAME", default="", help="Where RULE stands.")
@click.option(
    "--lang",
    type=click.Choice(("en", "zh")),
    default="en",
    show_default=True,
    help="The language of the explanation.",
)
def explain(rule: str, source: str, lang: str) -> None:
    """Tell what RULE does, when, why, and where it stands.

    RULE is the id of a rule or of a line of reach in a policy, of a knob, or of a rule of the
    audit.
    """
    from release_kit.auditing.engine import all_rules
    from release_kit.licensing.policy import load_policy

    read = load_policy(_source(source))
    audit = {item.id: item for item in all_rules()}
    words = _Words(lang)
    pages = [_about_rule(item, read, words) for item in read.rules if item.id == rule]
    pages += [_about_line(item, read, words) for item in read.reach if item.id == rule]
    pages += [_about_knob(item, read, words) for item in read.knobs.values() if item.name == rule]
    pages += [_about_audit_rule(item, words) for item in audit.values() if item.id == rule]
    if not pages:
        known = [*(item.id for item in read.rules), *(line.id for line in read.reach)]
        known += [*read.knobs, *audit]
        raise _unknown(rule, read, known)
    say("\n\n".join("\n".join(page) for page in pages))


def _source(source: str) -> str | Path:
    if source:
        return source
    here = Path(RELEASE_FILE)
    return read_release(here).policy_source if here.exists() else ""


def _unknown(word: str, read: Policy, known: Sequence[str]) -> UnusableInput:
    close = difflib.get_close_matches(word, known, n=1)
    hint = (
        f"did you mean '{close[0]}'?"
        if close
        else "Take the id of a rule, a line of reach or a knob from the policy file, or the rule of"
        " a finding from a report."
    )
    return UnusableInput(f"neither {_named(read)} nor the audit has '{word}'", hint=hint)


def _named(read: Policy) -> str:
    return f"policy {read.name} {read.version}"


def _counted(number: int, what: str, many: str = "") -> str:
    return f"{number} {what if number == 1 else many or what + 's'}"


def _warn(warnings: Iterable[Problem]) -> None:
    for warning in warnings:
        click.secho("warning: ", fg="yellow", bold=True, nl=False)
        say(str(warning))


def _about_rule(rule: PolicyRule, read: Policy, words: _Words) -> Iterator[str]:
    yield words.fill("rule", id=rule.id, policy=rule.policy, place=_place(rule.file, rule.position))
    decision = words.of("verdicts", rule.decide)
    yield words.fill("decides", word=rule.decide, plain=decision)
    if rule.id in read.tightened:
        place = _place(read.file, read.tightened[rule.id])
        yield words.fill("tightened", policy=read.name, place=place)
    yield from _conditions(rule, read, words)
    yield words.fill("because", text=words.choose(rule.because, rule.because_zh))
    fix = words.choose(rule.how_to_fix, rule.how_to_fix_zh)
    if fix:
        yield words.fill("fix", text=fix)
    yield from _cited(rule.cite, words)
    if not rule.waivable:
        yield words.fill("unwaivable")
    yield from _tests_of(rule, read, words)


def _about_line(line: ReachRule, read: Policy, words: _Words) -> Iterator[str]:
    yield words.fill("line", id=line.id, policy=read.name, place=_place(line.file, line.position))
    yield words.fill("reaches" if line.reaches else "frees")
    yield from _conditions(line, read, words)
    yield words.fill("because", text=words.choose(line.because, line.because_zh))
    yield from _cited(line.cite, words)
    yield words.fill("order", number=read.reach.index(line) + 1, count=len(read.reach))
    asking = [rule.id for rule in read.rules if "upstream.reached" in rule.when]
    yield from _depending(asking, words)


def _about_knob(knob: Knob, read: Policy, words: _Words) -> Iterator[str]:
    from release_kit.licensing.lineage import DATA_BEHIND_A_MODEL

    yield words.fill("knob", id=knob.name, policy=read.name, place=_place(knob.file, knob.position))
    yield words.fill("question", text=knob.question)
    yield words.fill("positions", positions=", ".join(knob.positions))
    yield words.fill("set", position=knob.set)
    yield words.fill("answered", owner=knob.owner, date=knob.date, law=knob.jurisdiction)
    yield words.fill("because", text=knob.reason)
    asking = [(item.id, item.knobs) for item in read.rules]
    asking += [(item.id, item.knobs) for item in read.reach]
    depending = [
        f"{item} ({knob.name} = {', '.join(knobs[knob.name])})"
        for item, knobs in asking
        if knob.name in knobs
    ]
    if knob.name == DATA_BEHIND_A_MODEL:
        depending.append(f"lineage-incomplete ({knob.name} = {knob.positions[0]})")
    yield from _depending(depending, words)


def _about_audit_rule(rule: Rule, words: _Words) -> Iterator[str]:
    yield words.fill("audit", id=rule.id, severity=rule.severity.value)
    yield rule.title
    yield rule.help


def _conditions(item: PolicyRule | ReachRule, read: Policy, words: _Words) -> Iterator[str]:
    yield words.fill("when")
    for name, wanted in item.when.items():
        yield f"  {words.fact(name, wanted)}"
    for name, positions in item.knobs.items():
        knob = read.knobs[name]
        stands = words.fill("stands", position=knob.set)
        yield f"  {name}: {', '.join(positions)} ({knob.question} {stands})"


def _cited(facts: Sequence[str], words: _Words) -> Iterator[str]:
    if facts:
        yield words.fill("cites", facts=", ".join(facts))


def _depending(items: Sequence[str], words: _Words) -> Iterator[str]:
    yield words.fill("depending", items=", ".join(items) or words.fill("nothing"))


def _tests_of(rule: PolicyRule, read: Policy, words: _Words) -> Iterator[str]:
    from release_kit.licensing.policy import load_policy
    from release_kit.licensing.policy_files import read_chain
    from release_kit.licensing.policy_tests import read_tests

    told = False
    for file in read_chain(read.path).files:
        try:
            tests = read_tests(load_policy(file.file))
        except UnusableInput:
            # `policy check` tells what is wrong with them.
            continue
        for case in tests.cases:
            if case.rule == rule.id:
                told = True
                key = "fires" if case.decides else "silent"
                place = _place(tests.file, case.position)
                yield words.fill(key, lineage=_lineage(case), place=place)
    if not told:
        yield words.fill("untested")


def _lineage(case: Case) -> str:
    release = case.release
    said = [release.license, release.purpose, release.visibility, release.organization.kind]
    parts = [
        f"{part.upstream.role} {part.license} ({part.upstream.relation})" for part in case.parts
    ]
    return f"{' + '.join(parts) or '[]'} → {', '.join(said)}"


def _place(file: str, position: tuple[int, int]) -> str:
    return f"{file}:{position[0]}:{position[1]}"


class _Words:
    """The words of one language: those of the language file, and those below."""

    def __init__(self, language: str) -> None:
        from release_kit.strict_yaml import read_yaml

        path = POLICIES / "language" / f"{language}.yaml"
        shown = f"policies/language/{path.name}"
        self._kinds: Mapping[str, Any] = read_yaml(path, "language", shown_as=shown).data
        self._labels = _LABELS[language]
        self._facts = _FACTS[language]
        self._chinese = language == "zh"

    def fill(self, label: str, **said: object) -> str:
        """Return a label with its blanks filled."""
        return self._labels[label].format(**said)

    def of(self, kind: str, word: str) -> str:
        """Return the plain words of the language file for a word of that kind."""
        return str(self._kinds[kind].get(word, word))

    def choose(self, english: str, chinese: str) -> str:
        """Return the text in this language, in English where there is no other."""
        return (self._chinese and chinese) or english

    def fact(self, name: str, wanted: Sequence[object]) -> str:
        """Return one line of `when`, as the file says it and in plain words."""
        values = [str(word).lower() if isinstance(word, bool) else str(word) for word in wanted]
        plain = self._labels["or"].join(filter(None, (self._plain(name, v) for v in values)))
        return f"{name}: {', '.join(values)}" + (f" ({plain})" if plain else "")

    def _plain(self, name: str, value: str) -> str:
        _, _, fact = name.partition(".")
        group, _, word = fact.partition(".")
        kind = _KINDS.get(fact)
        if group == "permission":
            verdict = self.of("permission_verdicts", value)
            return f"{self.of('permissions', word)}: {verdict}"
        if group in {"condition", "limitation"}:
            asked = self.of(f"{group}s", word)
            return self._facts[f"{group}.{value}"].format(said=asked)
        if kind:
            return self.of(kind, value)
        return self._facts.get(f"{fact}.{value}", "")


# Facts whose words stand in the language files, and under which heading.
_KINDS = {
    "role": "roles",
    "relation": "relations",
    "purpose": "purposes",
    "downstream_license": "downstream",
}

_LABELS = {
    "en": {
        "rule": "{id}: a rule of the policy {policy}, {place}",
        "line": "{id}: a line of reach of the policy {policy}, {place}",
        "knob": "{id}: a knob of the policy {policy}, set in {place}",
        "audit": "{id}: a rule of the audit, {severity}",
        "decides": "decides: {word} ({plain})",
        "reaches": "decides: the terms of the upstream reach the release",
        "frees": "decides: the terms of the upstream do not reach the release",
        "tightened": "made stricter by the policy {policy}, {place}",
        "when": "when all of this is so:",
        "stands": "It stands at {position}.",
        "because": "because: {text}",
        "fix": "how to fix: {text}",
        "cites": "cites the sections of the upstream's license on: {facts}",
        "unwaivable": "nobody may waive it",
        "order": "line {number} of {count}; the first one that is true decides",
        "depending": "what depends on it: {items}",
        "nothing": "nothing",
        "question": "question: {text}",
        "positions": "positions, the strictest first: {positions}",
        "set": "set to: {position}",
        "answered": "answered by: {owner}, {date}, jurisdiction: {law}",
        "fires": "test, it fires: {lineage}, {place}",
        "silent": "test, it stays silent: {lineage}, {place}",
        "untested": "no test shows it",
        "or": ", or ",
    },
    "zh": {
        "rule": "{id}：策略 {policy} 的规则，{place}",
        "line": "{id}：策略 {policy} 中判断条款是否及于发布的一行，{place}",
        "knob": "{id}：策略 {policy} 的立场开关，设定于 {place}",
        "audit": "{id}：审计规则，{severity}",
        "decides": "决定：{word}（{plain}）",
        "reaches": "决定：上游条款及于本次发布",
        "frees": "决定：上游条款不及于本次发布",
        "tightened": "由策略 {policy} 收紧，{place}",
        "when": "当以下各项均成立时：",
        "stands": "当前为 {position}。",
        "because": "理由：{text}",
        "fix": "如何解决：{text}",
        "cites": "引用上游许可证中关于以下事项的条款：{facts}",
        "unwaivable": "任何人不得豁免",
        "order": "第 {number} 行，共 {count} 行；以第一条成立者为准",
        "depending": "取决于它的有：{items}",
        "nothing": "无",
        "question": "问题：{text}",
        "positions": "可选立场，最严者在前：{positions}",
        "set": "当前设定：{position}",
        "answered": "决定人：{owner}，{date}，适用法域：{law}",
        "fires": "测试，规则生效：{lineage}，{place}",
        "silent": "测试，规则不生效：{lineage}，{place}",
        "untested": "没有测试",
        "or": "，或 ",
    },
}

_FACTS = {
    "en": {
        "license.kind.license": "facts about the license are known",
        "license.kind.placeholder": "the id names no license text",
        "license.kind.missing": "no facts about the license are known",
        "license.verified.true": "the facts were compared with the license's text",
        "license.verified.false": "nobody compared the facts with the license's text",
        "license.basis.text": "its own license file says so",
        "license.basis.statement": "its own card or metadata say so",
        "license.basis.table": "only the table of models says so",
        "license.basis.declaration": "only release.yaml says so",
        "license.same_as_release.true": "its license is that of the release",
        "license.same_as_release.false": "its license is not that of the release",
        "reaches_models.binds": "the text says that a model trained on the data is bound",
        "reaches_models.exempt": "the text says that a model trained on the data is not bound",
        "reaches_models.silent": "the text does not say whether a model trained on it is bound",
        "reached.true": "its terms reach the release",
        "reached.false": "its terms do not reach the release",
        "combination_accepted.true": "its text accepts the release's license in a combination",
        "combination_accepted.false": "its text accepts no other license in a combination",
        "over_user_threshold.true": "you have more users than it allows",
        "over_user_threshold.false": "you have no more users than it allows",
        "over_revenue_threshold.true": "you have more revenue than it allows",
        "over_revenue_threshold.false": "you have no more revenue than it allows",
        "seat_excluded.true": "your seat is where it gives no rights",
        "seat_excluded.false": "your seat is not where it gives no rights",
        "outputs_for_own_family.true": "its outputs may improve models of its own family only",
        "outputs_for_own_family.false": "its outputs are not kept to its own family",
        "outputs_restricted.true": "it may not be used to make the released model better",
        "outputs_restricted.false": "it may be used to make the released model better",
        "visibility.public": "everybody can see the repository",
        "visibility.private": "only members can see the repository",
        "gating.open": "everybody gets in",
        "gating.automatic": "whoever asks gets in",
        "gating.manual": "somebody decides about each request",
        "kind.company": "a company",
        "kind.academic": "an academic institution",
        "kind.nonprofit": "a nonprofit organization",
        "kind.government": "a public authority",
        "kind.individual": "an individual",
        "condition.true": "the license asks: {said}",
        "condition.false": "the license does not ask: {said}",
        "limitation.true": "the license says: {said}",
        "limitation.false": "the license does not say: {said}",
    },
    "zh": {
        "license.kind.license": "已收录该许可证的事实",
        "license.kind.placeholder": "该标识不指向任何许可证文本",
        "license.kind.missing": "未收录该许可证的任何事实",
        "license.verified.true": "事实已与许可证文本核对",
        "license.verified.false": "事实尚未与许可证文本核对",
        "license.basis.text": "依据其自身的许可证文件",
        "license.basis.statement": "依据其自身的卡片或元数据",
        "license.basis.table": "仅依据模型许可证表",
        "license.basis.declaration": "仅依据 release.yaml 的声明",
        "license.same_as_release.true": "其许可证与发布所用许可证相同",
        "license.same_as_release.false": "其许可证与发布所用许可证不同",
        "reaches_models.binds": "文本规定用该数据训练的模型受其约束",
        "reaches_models.exempt": "文本规定用该数据训练的模型不受其约束",
        "reaches_models.silent": "文本未规定用该数据训练的模型是否受其约束",
        "reached.true": "其条款及于本次发布",
        "reached.false": "其条款不及于本次发布",
        "combination_accepted.true": "其文本在结合作品中接受发布所用许可证",
        "combination_accepted.false": "其文本在结合作品中不接受其他许可证",
        "over_user_threshold.true": "贵方用户数超过其上限",
        "over_user_threshold.false": "贵方用户数未超过其上限",
        "over_revenue_threshold.true": "贵方收入超过其上限",
        "over_revenue_threshold.false": "贵方收入未超过其上限",
        "seat_excluded.true": "贵方所在地被其排除",
        "seat_excluded.false": "贵方所在地未被其排除",
        "outputs_for_own_family.true": "其输出仅可用于改进同系列模型",
        "outputs_for_own_family.false": "其输出不限于同系列模型",
        "outputs_restricted.true": "不得用于改进所发布的模型",
        "outputs_restricted.false": "可用于改进所发布的模型",
        "visibility.public": "任何人均可查看仓库",
        "visibility.private": "仅成员可查看仓库",
        "gating.open": "任何人均可获取",
        "gating.automatic": "提出申请即可获取",
        "gating.manual": "每项申请由人决定",
        "kind.company": "企业",
        "kind.academic": "学术机构",
        "kind.nonprofit": "非营利组织",
        "kind.government": "政府机构",
        "kind.individual": "个人",
        "condition.true": "许可证要求：{said}",
        "condition.false": "许可证未要求：{said}",
        "limitation.true": "许可证载明：{said}",
        "limitation.false": "许可证未载明：{said}",
    },
}
