"""What a result file holds, read back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from service.errors import ConfigError
from service.images import Channel
from service.messages import Float32, Float64

REFINED = "refined_"  # in front of the channels that idle time has made of the mosaic


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """One channel of a mosaic.

    Attributes:
        name: of the group in the file, as "phase" or "refined_phase".
        channel: what its values are.
        values: (H, W) float32, rows downward; phase in radians.
        y_m, x_m: (H,), (W,) where the rows and columns are in the sample frame, metres.
    """

    name: str
    channel: Channel
    values: Float32
    y_m: Float64
    x_m: Float64


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A result file.

    Attributes:
        path: of the file.
        title: name of the scan.
        program_version: of the ptycholive that stitched it.
        planes: by the name of their group.
        frames: (n,) numbers of the frames that were stitched.
        positions_m: (n, 2) where the probe's centre was, y, x in metres.
        report: what API and page said of the scan.
        model: description of the bundle that painted it.
        refinement: what idle time did to it; None where it did nothing.
    """

    path: Path
    title: str
    program_version: str
    planes: dict[str, Plane]
    frames: np.ndarray[tuple[int], np.dtype[np.int64]]
    positions_m: Float64
    report: dict[str, Any]
    model: dict[str, Any]
    refinement: dict[str, Any] | None


def read_result(path: Path) -> Result:
    """Return what a result file holds.

    Raises:
        ConfigError: there is none, or it is no result file.
    """
    if not path.is_file():
        raise ConfigError(f"there is no file {path}")
    try:
        with h5py.File(path) as file:
            return _read(path, file["entry"])
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: is it an HDF5 file? {error}") from error
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{path} is no result of ptycholive: {error}") from error


def _read(path: Path, entry: h5py.Group) -> Result:
    names = [*Channel, *(f"{REFINED}{channel}" for channel in Channel)]
    return Result(
        path=path,
        title=str(entry.attrs["title"]),
        program_version=str(entry["program_name"].attrs["version"]),
        planes={name: _plane(name, entry[name]) for name in names if name in entry},
        frames=entry["frames"][()],
        positions_m=entry["positions"][()],
        report=json.loads(entry["report"][()]),
        model=json.loads(entry["model/description"][()]),
        refinement=json.loads(entry["refinement"][()]) if "refinement" in entry else None,
    )


def _plane(name: str, data: h5py.Group) -> Plane:
    channel = Channel(name.removeprefix(REFINED))
    return Plane(name, channel, data["data"][()], data["y"][()], data["x"][()])
