"""Sounds from strangers' files: decoded within bounds, mixed to one channel, and resampled."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from release_kit.files import sha256_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

_RATES = range(4_000, 192_001)
_MOST_CHANNELS = 8
_CUT = "is cut off: it holds less than its header says"
# The order of the bytes in which WAV and AIFF files say their length.
_SAYING_LENGTHS: dict[bytes, Literal["little", "big"]] = {b"RIFF": "little", b"FORM": "big"}
# What stands there in a stream, whose length nobody knew.
_UNKNOWN = 0xFFFFFFFF


def decode(data: bytes, most_seconds: float) -> tuple[NDArray[np.float32] | None, int, str]:
    """Return the signal, float32 of shape (samples,), its rate in Hz, and what is wrong with it.

    Channels are mixed by their mean. Whatever libsndfile reads: WAV, FLAC, OGG, MP3 and others.
    No more is decoded than `most_seconds`.
    """
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate, most = file.samplerate, int(most_seconds * file.samplerate)
            wrong = _wrong_form(rate, file.channels)
            found = np.zeros((0, 1), np.float32)
            if not wrong:
                # A header may say anything; what counts is what there is to read.
                found = file.read(most + 1, dtype="float32", always_2d=True)
                wrong = _wrong_samples(found, file.frames, most)
    except (RuntimeError, OSError, ValueError, TypeError, MemoryError):
        return None, 0, "is no sound in a format that is read here, or is damaged"
    if wrong or _is_cut(data):
        return None, 0, wrong or _CUT
    signal: NDArray[np.float32] = found.mean(axis=1, dtype=np.float32)
    # Two channels may also cancel each other.
    return (signal, rate, "") if signal.any() else (None, 0, "is silent from end to end")


def _wrong_form(rate: int, channels: int) -> str:
    if rate not in _RATES:
        return f"has a rate that is not from {_RATES[0]} to {_RATES[-1]} Hz"
    return f"has more than {_MOST_CHANNELS} channels" if channels > _MOST_CHANNELS else ""


def _wrong_samples(found: NDArray[np.float32], said: int, most: int) -> str:
    """Return what is wrong with samples of which the header has `said` so many."""
    if not len(found):
        return "has no samples"
    if len(found) > most:
        return "lasts longer than training.options.max_seconds allows"
    if len(found) < said:
        return _CUT
    return "" if np.isfinite(found).all() else "holds NaN or an infinity"


def _is_cut(data: bytes) -> bool:
    """Tell whether a file is shorter than it says; libsndfile takes such a one for whole."""
    order = _SAYING_LENGTHS.get(data[:4])
    if order is None:
        return False
    said = int.from_bytes(data[4:8], order)
    return said != _UNKNOWN and said + 8 > len(data)


def resampled(signal: NDArray[np.float32], rate: int, wanted: int) -> NDArray[np.float32]:
    """Return the signal at `wanted` Hz, by a polyphase filter against aliasing."""
    from scipy.signal import resample_poly

    if rate == wanted:
        return signal
    common = math.gcd(rate, wanted)
    return np.asarray(resample_poly(signal, wanted // common, rate // common), np.float32)


def samples_at(samples: int, rate: int, wanted: int) -> int:
    """Return how many samples `resampled` makes of so many."""
    return -(-samples * wanted // rate)


def digest(signal: NDArray[np.float32], rate: int) -> str:
    """Return what tells sounds of the same samples and rate, in whatever files they lie."""
    return sha256_bytes(f"{rate}".encode() + signal.tobytes())
