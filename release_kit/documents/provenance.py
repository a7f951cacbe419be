"""How a model was made, as rows of a table for the model card: from the receipt of the training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from release_kit.errors import UnusableInput

_UNKNOWN = "not known"
_NONE = "none"


@dataclass(frozen=True)
class Row:
    """One fact of how the model was made."""

    name: str
    value: str


@dataclass(frozen=True)
class Setting:
    """One setting of the training plan."""

    name: str
    """Nested names dotted."""
    value: str
    origin: str
    """Where it came from."""


def how_it_was_made(training: Mapping[str, Any]) -> tuple[Row, ...]:
    """Return the rows for `training`, the results that the stage left in its receipt.

    Of them it reads `surroundings`, `energy` and `seed`.

    Raises:
        UnusableInput: a fact is missing, as in the receipt of an older release-kit.
    """
    try:
        return tuple(_rows(training))
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    # What went wrong could quote the receipt.
    raise UnusableInput(
        "the receipt of `train` does not tell how the model was made",
        hint="Delete out/receipts/train.json and run `release-kit run`, which trains again.",
    )


def settings(plan: Mapping[str, Any], origins: Mapping[str, str]) -> tuple[Setting, ...]:
    """Return each setting of `plan`, as in the parameters of the receipt, with its origin.

    Raises:
        UnusableInput: a setting has no origin, or an origin no setting.
    """
    found = tuple(
        Setting(name, _words(value), origins.get(name, "")) for name, value in _flat(plan)
    )
    named = {setting.name for setting in found if setting.origin}
    if len(named) != len(found) or named != set(origins):
        raise UnusableInput(
            "the receipt of `train` does not tell where each setting came from",
            hint="Delete out/receipts/train.json and run `release-kit run`, which trains again.",
        )
    return found


def _rows(training: Mapping[str, Any]) -> Iterator[Row]:
    where, energy = training["surroundings"], training["energy"]
    hardware, arithmetic = where["hardware"], where["arithmetic"]
    yield Row("Processor", _processor(hardware))
    yield Row("Memory", _gib(hardware["memory_bytes"]))
    yield Row("Accelerators", _accelerators(hardware["accelerators"]))
    yield Row("System", hardware["system"] or _UNKNOWN)
    yield Row("Machine", hardware["machine"] or _UNKNOWN)
    yield Row("Code", _code(where["code"]))
    yield Row("SHA-256 of the code", where["code"]["sha256"])
    yield Row("Packages", ", ".join(f"{name} {v}" for name, v in where["packages"].items()))
    yield Row("Arithmetic", _arithmetic(arithmetic))
    yield Row("Determinism", _determinism(arithmetic))
    yield Row("Seed", str(int(training["seed"])))
    yield Row("Energy", _energy(energy))
    if energy["kwh"] is not None:
        yield Row("Energy by", "; ".join(energy["how"]) or _UNKNOWN)
        if energy["not_measured"]:
            yield Row("Energy lacks", "; ".join(energy["not_measured"]))
    yield Row("CO2e", _co2e(energy))


def _processor(hardware: Mapping[str, Any]) -> str:
    limit = hardware["core_limit"]
    limited = f", limited to {limit:g} of them" if limit is not None else ""
    model = hardware["cpu"] or "model not known"
    return f"{model}, {hardware['architecture']}, {_cores(hardware['cores'])}{limited}"


def _cores(count: int) -> str:
    return "1 logical core" if count == 1 else f"{count} logical cores"


def _gib(size: int | None) -> str:
    return _UNKNOWN if size is None else f"{size / 2**30:.1f} GiB"


def _accelerators(found: list[Mapping[str, Any]] | None) -> str:
    if found is None:
        return _UNKNOWN
    told = []
    for one in found:
        facts = (
            f"{_gib(one['memory_bytes'])} each" if one["memory_bytes"] is not None else "",
            one["runtime"],
            f"driver {one['driver']}" if one["driver"] else "",
        )
        about = ", ".join(fact for fact in facts if fact)
        told.append(f"{one['count']} × {one['name']}" + (f" ({about})" if about else ""))
    return "; ".join(told) or _NONE


def _code(code: Mapping[str, Any]) -> str:
    if not code["commit"]:
        return f"release-kit {code['version']}; {code['no_commit']}"
    changed = "with changes that are not committed" if code["dirty"] else "unchanged"
    return f"release-kit {code['version']}, commit {code['commit']}, {changed}"


def _arithmetic(facts: Mapping[str, Any] | None) -> str:
    if facts is None:
        return _UNKNOWN
    named = {"CUDA": "cuda", "cuDNN": "cudnn", "ROCm": "rocm", "MKL": "mkl", "oneDNN": "onednn"}
    parts = [f"{name} {facts[key]}" for name, key in named.items() if facts[key]]
    parts.append(f"CPU kernels for {facts['cpu_instructions']}")
    threads = facts["threads"]
    parts.append("1 CPU thread" if threads == 1 else f"{threads} CPU threads")
    parts.append(f"float32 matrix products: {facts['float32_matmul_precision']}")
    return ", ".join(parts)


def _determinism(facts: Mapping[str, Any] | None) -> str:
    if facts is None:
        return _UNKNOWN
    on = {
        "deterministic algorithms alone": facts["deterministic_algorithms"],
        "deterministic cuDNN": facts["cudnn_deterministic"],
        "cuDNN chooses kernels by speed": facts["cudnn_benchmark"],
    }
    said = [what for what, holds in on.items() if holds]
    if facts["cublas_workspace"]:
        said.append(f"cuBLAS workspace {facts['cublas_workspace']}")
    return ", ".join(said) or "nothing beyond torch's defaults was asked for"


def _energy(energy: Mapping[str, Any]) -> str:
    if energy["kwh"] is None:
        return f"not measured: {'; '.join(energy['not_measured']) or 'nobody says why'}"
    parts = ", ".join(f"{part} {used:.3g}" for part, used in energy["by_part"].items())
    span = f"in {energy['seconds']:,.0f} s, of the whole machine, by {energy['tool']}"
    return f"{energy['kwh']:.3g} kWh ({parts}) {span}"


def _co2e(energy: Mapping[str, Any]) -> str:
    if energy["co2e_kg"] is None:
        return f"{_UNKNOWN}: {energy['no_co2e']}"
    mix = f"{energy['grams_per_kwh']:g} g per kWh in {energy['country']}"
    return f"{energy['co2e_kg']:.3g} kg, at {mix}"


def _flat(plan: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in plan.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _words(value: object) -> str:
    if value is None or value in ("", (), [], {}):
        return _NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value))
    return str(value)
