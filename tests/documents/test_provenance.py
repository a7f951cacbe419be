"""The card says how a model was made, and where nobody knows or measured, it says that."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from release_kit.documents.provenance import Row, Setting, how_it_was_made, settings
from release_kit.documents.rendering import render
from release_kit.errors import UnusableInput
from release_kit.training.energy import Energy
from release_kit.training.surroundings import (
    Accelerator,
    Arithmetic,
    CodeVersion,
    Hardware,
    Surroundings,
)
from tests.documents.markdown import HOSTILE, structure

GPUS = (Accelerator("Big GPU", 2, 80 * 2**30, "575.51", "CUDA 12.8"),)
HARDWARE = Hardware(
    "Fast CPU", "x86_64", 8, 1.5, 32 * 2**30, GPUS, "Linux 6.8, debian 12", "container"
)
CODE = CodeVersion("0.1.0", "c0ffee", False, "", "5ha")
ARITHMETIC = Arithmetic(
    "12.8", "91002", "", "2024.2", "", "AVX2", 4, 2, True, False, False, "high", ":4096:8"
)
ENERGY = Energy(
    0.01234,
    {"cpu": 0.01, "gpu": 0.00234},
    ("cpu: RAPL", "gpu: NVML"),
    3600.4,
    (),
    "DE",
    381.0,
    0.0047,
    "",
    "codecarbon 3.3.2",
)
NOTHING = Energy(
    None, {}, (), 0.0, ("9 seconds: no codecarbon",), "DE", None, None, "no energy", ""
)


def receipt(
    hardware: Hardware = HARDWARE,
    code: CodeVersion = CODE,
    arithmetic: Arithmetic | None = ARITHMETIC,
    energy: Energy = ENERGY,
) -> dict[str, Any]:
    """Return the results of a training as they come out of a receipt."""
    where = Surroundings(hardware, code, {"python": "3.11.7", "torch": "2.13.0"}, arithmetic)
    results = {"surroundings": asdict(where), "energy": asdict(energy), "seed": 3}
    return dict(json.loads(json.dumps(results)))


def named(results: dict[str, Any]) -> dict[str, str]:
    rows = how_it_was_made(results)
    assert len({row.name for row in rows}) == len(rows)
    return {row.name: row.value for row in rows}


def test_all_that_is_known_is_said() -> None:
    assert named(receipt()) == {
        "Processor": "Fast CPU, x86_64, 8 logical cores, limited to 1.5 of them",
        "Memory": "32.0 GiB",
        "Accelerators": "2 × Big GPU (80.0 GiB each, CUDA 12.8, driver 575.51)",
        "System": "Linux 6.8, debian 12",
        "Machine": "container",
        "Code": "release-kit 0.1.0, commit c0ffee, unchanged",
        "SHA-256 of the code": "5ha",
        "Packages": "python 3.11.7, torch 2.13.0",
        "Arithmetic": "CUDA 12.8, cuDNN 91002, MKL 2024.2, CPU kernels for AVX2, 4 CPU threads,"
        " float32 matrix products: high",
        "Determinism": "deterministic algorithms alone, cuBLAS workspace :4096:8",
        "Seed": "3",
        "Energy": "0.0123 kWh (cpu 0.01, gpu 0.00234) in 3,600 s, of the whole machine, by"
        " codecarbon 3.3.2",
        "Energy by": "cpu: RAPL; gpu: NVML",
        "CO2e": "0.0047 kg, at 381 g per kWh in DE",
    }


def test_what_is_not_known_is_said_to_be_so() -> None:
    hardware = Hardware("", "arm64", 1, None, None, None, "", "")
    code = CodeVersion("0.1.0", "", None, "git is not installed", "5ha")
    rows = named(receipt(hardware, code, None, NOTHING))
    assert rows["Processor"] == "model not known, arm64, 1 logical core"
    for name in ("Memory", "Accelerators", "System", "Machine", "Arithmetic", "Determinism"):
        assert rows[name] == "not known"
    assert rows["Code"] == "release-kit 0.1.0; git is not installed"
    assert rows["Energy"] == "not measured: 9 seconds: no codecarbon"
    assert rows["CO2e"] == "not known: no energy"
    assert "Energy by" not in rows

    partly = Energy(**{**asdict(ENERGY), "not_measured": ("gpu: no meter",)})
    none = Hardware(**{**asdict(HARDWARE), "accelerators": ()})
    plain = Arithmetic(**{**asdict(ARITHMETIC), "deterministic_algorithms": False})
    quiet = Arithmetic(**{**asdict(plain), "cublas_workspace": ""})
    rows = named(receipt(none, CodeVersion("1", "c", True, "", "5"), quiet, partly))
    assert rows["Energy lacks"] == "gpu: no meter"
    assert rows["Accelerators"] == "none"
    assert rows["Code"].endswith("with changes that are not committed")
    assert rows["Determinism"] == "nothing beyond torch's defaults was asked for"


@pytest.mark.parametrize("gone", ["surroundings", "energy", "seed", "hardware", "kwh"])
def test_a_receipt_that_lacks_a_fact_is_refused(gone: str) -> None:
    results = receipt()
    for holder in (results, results["surroundings"], results["energy"]):
        holder.pop(gone, None)
    with pytest.raises(UnusableInput, match="does not tell how the model was made") as caught:
        how_it_was_made(results)
    assert caught.value.__context__ is None


def test_each_setting_stands_beside_its_origin() -> None:
    plan = {"epochs": 3, "fields": {"text": "t"}, "options": {}, "layers": [1, 2], "bf16": True}
    lines = dict.fromkeys(("epochs", "fields.text", "layers", "bf16"), "release.yaml:4")
    origins = {**lines, "options": "default of release-kit"}
    assert settings(plan, origins) == (
        Setting("epochs", "3", "release.yaml:4"),
        Setting("fields.text", "t", "release.yaml:4"),
        Setting("options", "none", "default of release-kit"),
        Setting("layers", "1, 2", "release.yaml:4"),
        Setting("bf16", "yes", "release.yaml:4"),
    )
    for wrong in (lines, {**origins, "seed": "measured"}, {**origins, "options": ""}):
        with pytest.raises(UnusableInput, match="where each setting came from"):
            settings(plan, wrong)


def test_hostile_values_stay_in_their_cells(tmp_path: Path) -> None:
    (tmp_path / "t.md.j2").write_text(
        "| Fact | Value |\n| --- | --- |\n"
        "{% for row in made %}\n| {{ row.name }} | {{ row.value }} |\n{% endfor %}\n",
        encoding="utf-8",
    )
    plain = structure(render("t.md.j2", {"made": [Row("a", "b")]}, tmp_path))
    for value in HOSTILE:
        facts = Hardware(**{**asdict(HARDWARE), "accelerators": (), "cpu": value})
        made = [row for row in how_it_was_made(receipt(facts)) if row.name == "Processor"]
        assert structure(render("t.md.j2", {"made": made}, tmp_path)) == plain, value
