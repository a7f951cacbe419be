from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_wheel_carries_everything_and_runs_away_from_the_checkout(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("policies", "schemas", "templates"):
        for path in sorted((ROOT / folder).rglob("*.*")):
            if path.is_file():
                assert f"release_kit/{path.relative_to(ROOT).as_posix()}" in inside
    assert {"release_kit/demonstration/release.yaml", "release_kit/py.typed"} <= inside
    assert not [name for name in inside if name.startswith("tests/")]

    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True, capture_output=True)
    code = (
        "import release_kit.files as f, release_kit\n"
        "from pathlib import Path\n"
        f"assert f.POLICIES.is_relative_to({str(target)!r}), f.POLICIES\n"
        "from release_kit.licensing.licenses import load_licenses\n"
        "from release_kit.licensing.policy import load_policy\n"
        "from release_kit.release import read_release\n"
        "assert load_licenses() and load_policy().rules\n"
        "release_kit.init(Path('project'))\n"
        "assert read_release(Path('project')).repo_id\n"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(target)},
        check=True,
    )
