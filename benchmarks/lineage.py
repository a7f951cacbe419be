"""What judging a lineage costs, by its size and by the number of rules.

    python -m benchmarks.lineage

Everything is measured in one run on one machine, so the ratios mean more than the seconds. The
lineage is a mixture of datasets over every license that is known, with bases, generators and
tools, drawn with a fixed seed. Each figure is the best of three.
"""

from __future__ import annotations

import platform
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from release_kit.bundle import read_bundle
from release_kit.documents.terms import write_terms
from release_kit.licensing.judgement import Judgement, judge
from release_kit.licensing.licenses import load_licenses
from release_kit.licensing.policy import Policy, load_policy
from release_kit.licensing.proofs import CARD, gaps
from release_kit.release import read_release

SIZES = (10, 100, 1_000, 10_000)
RULES = (1, 2, 4, 8)
REFERENCE = 1_000
REPEATS = 3

_HEAD = """\
release:
  repo_id: acme/Llama-mixture
  version: "1.0.0"
  license: apache-2.0
  purpose: commercial
  visibility: public
  modalities: [text]
organization:
  name: Acme Benchmarks
  kind: company
  seat: US
  monthly_active_users: 10
  annual_revenue_usd: 1000
  monthly_revenue_usd: 100
documents:
  title: Llama mixture
  summary: A mixture.
  languages: [en]
  intended_use: [Measuring.]
  out_of_scope_use: [Anything else.]
  limitations: [All.]
lineage:
"""


def lineage_yaml(size: int) -> str:
    """Return a release.yaml whose lineage has `size` upstreams."""
    draw = random.Random(size)
    ids = [lic.id for lic in load_licenses().values() if lic.kind == "license"]
    shares = {"base_models": 0.01, "generators": 0.04, "code": 0.05, "datasets": 0.9}
    sections: dict[str, list[str]] = {"base_models": [], "datasets": []}
    for number in range(size):
        (section,) = draw.choices(list(shares), list(shares.values()))
        sections.setdefault(section, []).append(
            f"    - id: acme/part-{number}\n"
            f"      license: {draw.choice(ids)}\n"
            f"      source: https://example.org/part-{number}\n"
            f"      attribution: Part {number} by its makers.\n"
            f"      changes: Part {number} was mixed in.\n"
        )
    parts = [
        f"  {section}:\n{''.join(entries)}" if entries else f"  {section}: []\n"
        for section, entries in sections.items()
    ]
    return _HEAD + "".join(parts)


def best(work: Callable[[], object]) -> float:
    """Return the least seconds of a few runs."""
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


def with_rules(policy: Policy, times: int) -> Policy:
    """Return the policy with each of its rules `times` over, under other ids."""
    rules = tuple(
        replace(rule, id=f"{rule.id}-{copy}") for copy in range(times) for rule in policy.rules
    )
    return replace(policy, rules=rules)


def prove(judgement: Judgement) -> None:
    """Write the terms of a release and look whether they discharge what it owes."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_terms(judgement, root)
        (root / CARD).write_text("---\nlicense: apache-2.0\n---\n\n# Mixture\n")
        gaps(judgement, read_bundle(root))


def main() -> None:
    """Print the tables of benchmarks/RESULTS.md."""
    policy = load_policy()
    list(policy.licenses.values())  # read from disk before the clock runs
    print(f"Python {platform.python_version()}, release-kit {version('release-kit')}", end=", ")
    print(f"{len(policy.rules)} rules, {len(policy.licenses)} licenses\n")
    print("| Upstreams | read release.yaml, s | judge, s | write and prove, s | decisions | debts |"
          " judge per upstream, of that at 1,000 |")  # fmt: skip
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    rows = []
    releases = {}
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "release.yaml"
            path.write_text(lineage_yaml(size), encoding="utf-8")
            read = best(lambda path=path: read_release(path))
            releases[size] = read_release(path)
        judged = best(lambda size=size: judge(releases[size], policy))
        judgement = judge(releases[size], policy)
        proved = best(lambda judgement=judgement: prove(judgement))
        rows.append((size, read, judged, proved, len(judgement.decisions), len(judgement.owed)))
    reference = next(judged / size for size, _, judged, *_ in rows if size == REFERENCE)
    for size, read, judged, proved, decisions, owed in rows:
        ratio = judged / size / reference
        print(f"| {size:,} | {read:.3f} | {judged:.3f} | {proved:.3f} | {decisions:,} | {owed:,} |"
              f" {ratio:.2f} |")  # fmt: skip
    print("\n| Rules | judge 10,000 upstreams, s | of the shipped policy |")
    print("| ---: | ---: | ---: |")
    base = 0.0
    for times in RULES:
        larger = with_rules(policy, times)
        taken = best(lambda larger=larger: judge(releases[10_000], larger))
        base = base or taken
        print(f"| {len(larger.rules)} | {taken:.3f} | {taken / base:.2f} |")


if __name__ == "__main__":
    main()
