"""Energy is measured, or said not to be; and measuring it leaves no trace but the figures."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from codecarbon import OfflineEmissionsTracker, emissions_tracker
from codecarbon.core.units import Energy as Amount
from codecarbon.core.units import Power
from codecarbon.external.hardware import CPU
from codecarbon.external.logger import set_logger_format, set_logger_level
from codecarbon.input import DataSource

from release_kit.training import energy as module
from release_kit.training.energy import Energy, measured_energy

# What a person's own settings may say: each would leave a trace or change the figures.
SETTINGS = {
    "save_to_file": "true",
    "output_methods": "api",
    "output_dir": "/nowhere",
    "emissions_endpoint": "http://127.0.0.1:9/",
    "co2_signal_api_token": "token",
    "electricitymaps_api_token": "token",
    "allow_multiple_runs": "false",
    "force_cpu_power": "1000000",
    "force_ram_power": "1000000",
    "force_carbon_intensity_g_co2e_kwh": "1",
    "pue": "1000",
    "country_iso_code": "NOR",
    "cloud_provider": "gcp",
    "log_level": "debug",
    "tracking_mode": "nonsense",
}


def spin(seconds: float = 0.2) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(1000))


def whole(found: Energy) -> None:
    assert found.not_measured == ()
    assert found.kwh is not None
    assert found.kwh == pytest.approx(sum(found.by_part.values()))
    watts = found.kwh * 3.6e6 / found.seconds
    assert 0 < watts < 20_000, "no machine of ours takes more"


def test_nothing_leaves_the_machine_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def refuse(*args: Any, **kwargs: Any) -> Any:
        asked.append(str(args))
        raise OSError("no network here")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(emissions_tracker, "Lock", refuse)
    work, home, temporary = (tmp_path / name for name in ("work", "home", "temporary"))
    for folder in (work, home, temporary):
        folder.mkdir()
    said = "\n".join(f"{name} = {text}" for name, text in SETTINGS.items())
    (home / ".codecarbon.config").write_text(f"[codecarbon]\n{said}\n", encoding="utf-8")
    for name, text in SETTINGS.items():
        monkeypatch.setenv(f"CODECARBON_{name.upper()}", text)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.chdir(work)
    before = sorted(tmp_path.rglob("*"))
    logger = logging.getLogger("codecarbon")
    # As it is after a first import, when it prints.
    set_logger_format()
    set_logger_level("DEBUG")

    # Two at a time, as two trainings on one machine.
    with measured_energy("DE") as first, measured_energy() as second:
        spin()
    found = first.energy()

    assert sorted(tmp_path.rglob("*")) == before
    assert capfd.readouterr() == ("", "")
    assert asked == []
    assert not logger.disabled
    whole(found)
    whole(second.energy())
    assert found.country == "DE"
    mix = DataSource().get_global_energy_mix_data()["DEU"]["carbon_intensity"]
    assert found.grams_per_kwh == pytest.approx(mix)
    assert found.co2e_kg == pytest.approx(found.kwh * mix / 1000)
    assert found.tool.startswith("codecarbon ")
    assert {line.partition(":")[0] for line in found.how} == set(found.by_part)
    text = json.dumps(asdict(found))
    assert str(tmp_path) not in text
    assert socket.gethostname() not in text
    assert '"/' not in text


@pytest.mark.parametrize(
    ("country", "why"),
    [
        (None, "no country is stated"),
        ("", "no country is stated"),
        # Nobody lives there; codecarbon alone would take the mean of the world.
        ("AQ", "codecarbon has no figures of the country AQ"),
        ("XX", "codecarbon has no figures of the country XX"),
        ("DEU", "codecarbon has no figures of the country DEU"),
    ],
)
def test_without_a_known_country_there_is_no_co2e(country: str | None, why: str) -> None:
    with measured_energy(country) as meter:
        spin(0.1)
    found = meter.energy()
    assert found.kwh
    assert (found.grams_per_kwh, found.co2e_kg, found.no_co2e) == (None, None, why)


def test_a_resumed_training_adds_up() -> None:
    with measured_energy("fr") as meter:
        spin()
        kept = json.loads(json.dumps(meter.progress()))
        spin()
    first = meter.energy()
    assert first.kwh is not None
    assert sum(kept["kwh"].values()) < first.kwh
    assert kept["seconds"] < first.seconds
    assert meter.energy() == first, "the end is the end"

    with measured_energy("fr") as meter:
        alone = meter.progress()
        meter.resume(kept)
        again = meter.progress()
        spin()
    found = meter.energy()
    whole(found)
    assert again["seconds"] > kept["seconds"] + alone["seconds"]
    assert found.kwh is not None
    assert found.kwh > sum(again["kwh"].values()) > sum(kept["kwh"].values())
    assert found.how == first.how

    with measured_energy() as meter:
        meter.resume({})
        spin(0.1)
    found = meter.energy()
    assert found.kwh
    assert found.not_measured == ("what came before the checkpoint: nothing was kept",)


def test_without_codecarbon_it_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    with measured_energy("DE") as meter:
        spin()
        kept = meter.progress()
    monkeypatch.setitem(sys.modules, "codecarbon", None)

    with measured_energy("DE") as meter:
        assert sum(meter.progress()["kwh"].values()) == 0
    found = meter.energy()
    assert (found.kwh, found.by_part, found.how, found.seconds) == (None, {}, (), 0)
    assert (found.co2e_kg, found.grams_per_kwh) == (None, None)
    assert found.no_co2e == "no energy was measured"
    (why,) = found.not_measured
    assert why.endswith("seconds: codecarbon is not installed; pip install 'release-kit[energy]'")

    # What was measured before it was taken away counts, and what lacks is told.
    with measured_energy("DE") as meter:
        meter.resume(kept)
    found = meter.energy()
    assert found.kwh == pytest.approx(sum(kept["kwh"].values()))
    assert "not installed" in found.not_measured[0]


def fail(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("secret")


def test_a_meter_that_fails_is_told(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with measured_energy() as meter:
        spin(0.1)
        before = meter.progress()
        monkeypatch.setattr(OfflineEmissionsTracker, "_do_measurements", fail)
        spin(0.1)
    found = meter.energy()
    assert found.kwh == pytest.approx(sum(before["kwh"].values()))
    assert found.not_measured == ("codecarbon stopped reading before the end",)

    with measured_energy() as meter:
        spin(0.1)
    found = meter.energy()
    assert found.kwh is None
    assert found.not_measured[0].endswith("seconds: codecarbon could read nothing on this machine")
    assert capfd.readouterr() == ("", "")


def test_a_part_that_reads_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = (Power.from_watts(0), Amount.from_energy(kWh=0))
    monkeypatch.setattr(CPU, "measure_power_and_energy", lambda *args, **kwargs: nothing)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with measured_energy("DE") as meter:
        spin(0.1)
    found = meter.energy()
    assert set(found.by_part) == {"ram"}
    cpu, gpu = found.not_measured
    assert cpu.startswith("cpu: ")
    assert cpu.endswith(" gave no reading")
    assert gpu == "gpu: codecarbon finds no meter for it"


def test_an_error_of_the_training_passes_and_ends_the_measuring() -> None:
    with pytest.raises(KeyError), measured_energy() as meter:
        spin(0.1)
        raise KeyError("of the training")
    whole(meter.energy())


def piece(kind: str, **facts: Any) -> Any:
    return type(kind, (SimpleNamespace,), {})(**facts)


@pytest.mark.parametrize(
    ("hardware", "means"),
    [
        (piece("CPU", _mode="intel_rapl", _tdp=85), ("cpu", "RAPL")),
        (piece("CPU", _mode="constant", _tdp=85), ("cpu", "estimated from a TDP of 85 W")),
        (
            piece("CPU", _mode="cpu_load", _tdp=65),
            ("cpu", "estimated from its load and a TDP of 65 W"),
        ),
        (piece("GPU", devices=piece("All", devices=[piece("NvidiaGPUDevice")])), ("gpu", "NVML")),
        (piece("GPU", devices=piece("All", devices=[piece("AMDGPUDevice")])), ("gpu", "AMD SMI")),
        (piece("RAM"), ("ram", "estimated from its size")),
        (
            piece("AppleSiliconChip", chip_part="GPU"),
            ("gpu", "codecarbon's AppleSiliconChip"),
        ),
    ],
)
def test_how_a_part_is_measured_is_told(hardware: Any, means: tuple[str, str]) -> None:
    assert list(module._means(SimpleNamespace(_hardware=[hardware]))) == [means]


def test_importing_it_loads_neither_codecarbon_nor_torch() -> None:
    code = "import sys, release_kit.training.energy, release_kit.training.surroundings\n"
    check = "assert not {'codecarbon', 'torch', 'pandas'} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code + check], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
