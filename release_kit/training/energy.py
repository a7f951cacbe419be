"""The energy that a training takes, read with codecarbon from what meters the machine has.

codecarbon's online tracker asks a geolocation service and, when that fails, records a wrong place;
so its offline one measures, and the country, which decides the CO2e, is stated or there is no
CO2e. No setting of codecarbon's own files or environment counts: they could send data away, write
files, or change the figures unseen.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any

# codecarbon's own pace; between two readings it samples power each second.
_EVERY_SECONDS = 15
_PARTS = ("cpu", "gpu", "ram")
_NOT_INSTALLED = "codecarbon is not installed; pip install 'release-kit[energy]'"
_NO_READING = "codecarbon could read nothing on this machine"
_STOPPED = "codecarbon stopped reading before the end"


@dataclass(frozen=True)
class Energy:
    """The energy of a training; `dataclasses.asdict` of it is JSON."""

    kwh: float | None
    """Of the whole machine, so with what else ran on it; None when nothing was measured."""
    by_part: Mapping[str, float]
    """kWh of cpu, gpu and ram."""
    how: tuple[str, ...]
    """How each part was measured, or from what it was estimated."""
    seconds: float
    """That were measured."""
    not_measured: tuple[str, ...]
    """What `kwh` lacks, and why; empty when it lacks nothing."""
    country: str
    """As stated; empty when nobody stated one."""
    grams_per_kwh: float | None
    """CO2e of the country's mix of electricity, as codecarbon ships it; None when not known."""
    co2e_kg: float | None
    """`kwh` × `grams_per_kwh`: production of electricity alone."""
    no_co2e: str
    """Why there is no CO2e; empty when there is."""
    tool: str
    """codecarbon with its version; empty without it."""


class Meter:
    """What was measured so far, also before a training went on from a checkpoint."""

    def __init__(self, country: str | None) -> None:
        self._country = (country or "").upper()
        # What could fail does so before the training rather than after it.
        self._grams, self._no_grams = _intensity(self._country)
        self._means: list[tuple[str, str]] = []
        self._kwh = dict.fromkeys(_PARTS, 0.0)
        self._seconds = 0.0
        self._how: list[str] = []
        self._lacking: list[str] = []
        self._began = time.monotonic()
        self._ended: float | None = None
        self._tracker: Any = None
        self._readings: Any = None
        self._stale = False

    def progress(self) -> dict[str, Any]:
        """Return, as JSON, the sums until now; keep them in a checkpoint for `resume`."""
        kwh, how, lacking = dict(self._kwh), list(self._how), list(self._lacking)
        if self._ended is None:
            self._read("flush")
        reading = self._readings.last if self._readings else None
        seconds = self._seconds
        if reading is None:
            lasted = (self._ended or time.monotonic()) - self._began
            why = _NO_READING if self._tracker is not None else _NOT_INSTALLED
            lacking.append(f"{lasted:.0f} seconds: {why}")
        else:
            seconds += float(reading.duration)
            for part in _PARTS:
                kwh[part] += float(getattr(reading, f"{part}_energy"))
            for part, means in self._means:
                if getattr(reading, f"{part}_energy") > 0:
                    how.append(f"{part}: {means}")
                else:
                    lacking.append(f"{part}: {means} gave no reading")
            lacking += [_STOPPED] if self._stale else []
            lacking += _unmetered(part for part, _ in self._means)
        return {
            "kwh": kwh,
            "seconds": seconds,
            "how": list(dict.fromkeys(how)),
            "lacking": list(dict.fromkeys(lacking)),
        }

    def resume(self, progress: Mapping[str, Any]) -> None:
        """Add what `progress` gave for an earlier part of the training; empty when it kept none."""
        if not progress:
            self._lacking.append("what came before the checkpoint: nothing was kept")
            return
        for part in _PARTS:
            self._kwh[part] += progress["kwh"][part]
        self._seconds += progress["seconds"]
        self._how = [*progress["how"], *self._how]
        self._lacking = [*progress["lacking"], *self._lacking]

    def energy(self) -> Energy:
        """Return what was measured until now, or until the block of `measured_energy` ended."""
        sums = self.progress()
        kwh = sum(sums["kwh"].values())
        measured = kwh > 0
        grams, why = self._grams, self._no_grams
        if not measured:
            grams, why = None, "no energy was measured"
        return Energy(
            kwh=kwh if measured else None,
            by_part={part: used for part, used in sums["kwh"].items() if used},
            how=tuple(sorted(sums["how"])),
            seconds=sums["seconds"],
            not_measured=tuple(sums["lacking"]),
            country=self._country,
            grams_per_kwh=grams,
            co2e_kg=kwh * grams / 1000 if grams is not None else None,
            no_co2e=why,
            tool=_tool(),
        )

    def _start(self) -> None:
        self._tracker, self._readings = _tracker()
        if self._tracker is not None:
            self._tracker.start()
            self._means = list(_means(self._tracker))
        self._began = time.monotonic()

    def _stop(self) -> None:
        self._read("stop")
        self._ended = time.monotonic()

    def _read(self, ask: str) -> None:
        if self._tracker is None:
            return
        before, self._readings.last = self._readings.last, None
        # It swallows its own errors: only what it hands over tells that it went well.
        getattr(self._tracker, ask)()
        self._stale = self._readings.last is None
        if self._stale:
            self._readings.last = before


@contextmanager
def measured_energy(country: str | None = None) -> Iterator[Meter]:
    """Measure the energy of the block; `country` has the two letters of ISO 3166.

    Enter it in one process of a machine: it is the machine that is measured, and two processes
    would count it twice. Without a meter for a part of it, codecarbon estimates, and `Energy.how`
    says so. Without codecarbon, or where it can read nothing, `Energy.kwh` is None and
    `Energy.not_measured` says why.

    A killed training keeps what its last checkpoint held of `Meter.progress`: what it had done
    since then is done again, and of the energy for that only the second time is counted.

    Nothing leaves the machine, is printed or written, and parallel runs do not wait for each other.
    Within a Slurm job, codecarbon asks `scontrol` how much memory the job has.
    """
    logger = logging.getLogger("codecarbon")
    disabled = logger.disabled
    # It prints to the terminal from its import on, whatever the level it is later given.
    logger.disabled = True
    meter = Meter(country)
    try:
        meter._start()
        try:
            yield meter
        finally:
            meter._stop()
    finally:
        logger.disabled = disabled


def _tracker() -> tuple[Any, Any]:
    """Return a tracker and what keeps its readings; twice None without codecarbon."""
    try:
        from codecarbon import OfflineEmissionsTracker
        from codecarbon.output_methods.base_output import BaseOutput
    except ImportError:
        return None, None

    class Readings(BaseOutput):  # type: ignore[misc]  # codecarbon is untyped here
        last: Any = None

        def out(self, total: Any, delta: Any) -> None:
            self.last = total

    readings = Readings()
    # Each of them is given, since what is not would come from its files or the environment.
    tracker = OfflineEmissionsTracker(
        output_handlers=[readings],
        output_methods=[],
        emissions_endpoint=None,
        # Empty rather than None, after which it looks for an older name of the same.
        electricitymaps_api_token="",
        api_call_interval=-1,
        measure_power_secs=_EVERY_SECONDS,
        tracking_mode="machine",
        allow_multiple_runs=True,
        log_level="critical",
        logger_preamble="",
        project_name="",
        experiment_name="",
        experiment_id="",
        output_dir=".",
        output_file="",
        metadata=None,
        logging_logger=None,
        gpu_ids=None,
        country_iso_code=None,
        country_2letter_iso_code=None,
        region=None,
        cloud_provider=None,
        cloud_region=None,
        # CO2e is worked out by `_intensity`, for the stated country and no other.
        force_carbon_intensity_g_co2e_kwh=0.0,
        force_cpu_power=None,
        force_ram_power=None,
        force_mode_cpu_load=False,
        rapl_include_dram=False,
        rapl_prefer_psys=False,
        pue=1.0,
        wue=0.0,
    )
    return tracker, readings


def _means(tracker: Any) -> Iterator[tuple[str, str]]:
    """Yield (part, how it is measured) for each part that codecarbon follows."""
    # No public place says it.
    for piece in getattr(tracker, "_hardware", ()):
        kind, mode = type(piece).__name__, getattr(piece, "_mode", "")
        if kind == "RAM":
            yield "ram", "estimated from its size"
        elif kind == "GPU":
            devices = getattr(getattr(piece, "devices", None), "devices", ())
            names = {type(device).__name__ for device in devices}
            yield "gpu", "AMD SMI" if "AMDGPUDevice" in names else "NVML"
        elif kind == "CPU" and mode in _COUNTERS:
            yield "cpu", _COUNTERS[mode]
        elif kind == "CPU":
            load = "its load and " if mode == "cpu_load" else ""
            yield "cpu", f"estimated from {load}a TDP of {getattr(piece, '_tdp', '?')} W"
        else:
            part = str(getattr(piece, "chip_part", "cpu")).lower()
            yield part if part in _PARTS else "cpu", f"codecarbon's {kind}"


_COUNTERS = {
    "intel_rapl": "RAPL",
    "windows_emi": "Windows Energy Meter Interface",
    "intel_power_gadget": "Intel Power Gadget",
}


def _unmetered(parts: Iterable[str]) -> list[str]:
    """Return what is missing when torch calculates on a GPU that codecarbon does not see."""
    torch = sys.modules.get("torch")
    if torch is None or "gpu" in parts:
        return []
    seen = torch.cuda.is_available() or torch.xpu.is_available()
    if not seen and not torch.backends.mps.is_available():
        return []
    return ["gpu: codecarbon finds no meter for it"]


def _intensity(country: str) -> tuple[float | None, str]:
    """Return g CO2e per kWh in `country`, or why nobody knows."""
    if not country:
        return None, "no country is stated"
    try:
        import pycountry  # comes with codecarbon
        from codecarbon.core.emissions import Emissions
        from codecarbon.core.units import Energy as Amount
        from codecarbon.external.geography import GeoMetadata
        from codecarbon.input import DataSource
    except ImportError:
        return None, _NOT_INSTALLED
    known = pycountry.countries.get(alpha_2=country)
    source = DataSource()
    # codecarbon would take the mean of the world for a country that it has no figures of.
    if known is None or known.alpha_3 not in source.get_global_energy_mix_data():
        return None, f"codecarbon has no figures of the country {country}"
    place = GeoMetadata(country_iso_code=known.alpha_3)
    one = Emissions(source).get_country_emissions(Amount.from_energy(kWh=1), place)
    return 1000 * float(one), ""


def _tool() -> str:
    try:
        return f"codecarbon {metadata.version('codecarbon')}"
    except metadata.PackageNotFoundError:
        return ""
