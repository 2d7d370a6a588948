"""Settings: flag > environment `PTYCHOLIVE_*` > TOML file > default. The only reader of the environment."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from service.errors import ConfigError

PREFIX = "PTYCHOLIVE_"

_PAIR_OF_PIXELS: Final = r"^\d+(\.\d+)?, ?\d+(\.\d+)?$"
_PAIR_OF_SIDES: Final = r"^[1-9]\d*, ?[1-9]\d*$"
_ENGINE: Final = (
    r"^(auto|onnxruntime|openvino|openvino-bf16|openvino-int8|(onnxruntime-cuda|tensorrt)(:\d{1,2})?)$"
)
_IN_WORDS: Final = {
    _ENGINE: "auto, onnxruntime, openvino, openvino-bf16, openvino-int8, onnxruntime-cuda or tensorrt, the "
    'last two with the number of a GPU if you like, as "tensorrt:1"',
    _PAIR_OF_PIXELS: 'row and column, as "532,514.5"',
    _PAIR_OF_SIDES: 'rows and columns, two whole numbers as "256,256"',
}

PairOfPixels = Annotated[str, Meta(pattern=_PAIR_OF_PIXELS)]
PairOfSides = Annotated[str, Meta(pattern=_PAIR_OF_SIDES)]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that can be set, by the same name in the file, as a flag and in the environment."""

    images: Annotated[str, Meta(description="endpoint of the detector's stream")] = "tcp://127.0.0.1:31001"
    images_format: Annotated[
        Literal["native", "dectris-v1", "dectris-v2", "array-1.0", "auto"],
        Meta(description="what the detector speaks"),
    ] = "dectris-v2"
    images_bind: Annotated[
        bool, Meta(description="listen at the images' endpoint instead of connecting to it")
    ] = False
    images_socket: Annotated[
        Literal["pull", "sub"], Meta(description='"pull" for a PUSH peer, "sub" for a PUB peer')
    ] = "pull"
    positions: Annotated[
        str | None, Meta(description="endpoint of a position stream of its own; a PandA: panda://host:8889")
    ] = None
    positions_bind: Annotated[
        bool, Meta(description="listen at the positions' endpoint instead of connecting to it")
    ] = False
    positions_socket: Annotated[Literal["pull", "sub"], Meta(description="as for the images")] = "pull"
    positions_format: Annotated[
        Literal["auto", "native", "panda", "nsls2-json"], Meta(description="what the position stream speaks")
    ] = "auto"
    positions_y: Annotated[
        str | None, Meta(description="captured field that is y, as INENC1.VAL or INENC1.VAL.Mean")
    ] = None
    positions_x: Annotated[str | None, Meta(description="captured field that is x")] = None
    positions_y_unit_m: Annotated[
        float | None,
        Meta(description="metres a unit of that field, as 1e-6; none: as the PandA tells its unit"),
    ] = None
    positions_x_unit_m: Annotated[float | None, Meta(description="as for y")] = None
    positions_frame: Annotated[
        str | None,
        Meta(description="captured field that counts the frames, as COUNTER1.OUT; none: samples are counted"),
    ] = None
    positions_first_frame: Annotated[
        int, Meta(description="what that field says at the first frame", ge=0, le=1 << 24)
    ] = 0
    positions_samples: Annotated[
        int, Meta(description="encoder samples a frame, where no field counts the frames", ge=1, le=65536)
    ] = 1
    orientation: Annotated[
        Literal[
            "as-is",
            "mirror-lr",
            "mirror-ud",
            "rotate180",
            "transpose",
            "rotate90",
            "rotate270",
            "antitranspose",
        ],
        Meta(description="what is done to the frames; quarter turns are counter-clockwise"),
    ] = "as-is"
    crop: Annotated[
        PairOfSides | None,
        Meta(
            description='rows, columns of detector pixels to keep, as "256,256"; none: what the bundle takes'
        ),
    ] = None
    beam_centre: Annotated[
        PairOfPixels | None,
        Meta(
            description="row and column, from 0, of the detector pixel that the direct beam hits, as "
            '"532,514.5"; none: what the stream tells, or the middle'
        ),
    ] = None
    bin: Annotated[
        int, Meta(description="side of the square of detector pixels that become one", ge=1, le=64)
    ] = 1
    mask: Annotated[
        str | None,
        Meta(description="file (.npy, .tif, .h5) of the detector's shape, not 0 where a pixel is bad"),
    ] = None
    positions_axes: Annotated[
        Literal["y,x", "y,-x", "-y,x", "-y,-x", "x,y", "-x,y", "x,-y", "-x,-y"],
        Meta(
            description='the sample\'s y and x, of those that are sent; "-y,x": their y points the other way'
        ),
    ] = "y,x"
    allow_remote_streams: Annotated[
        bool, Meta(description="let other machines connect where the service listens; they need keys")
    ] = False
    allow_plain_streams: Annotated[
        bool, Meta(description="let them connect without keys, over a network that nobody else is on")
    ] = False
    keys: Annotated[
        str | None,
        Meta(description="the service's own keys, a .key_secret file that `ptycholive keys` makes"),
    ] = None
    clients: Annotated[
        str | None,
        Meta(description="folder of the public keys of those who may connect where the service listens"),
    ] = None
    images_key: Annotated[
        str | None, Meta(description="public key of the detector's stream that the service connects to")
    ] = None
    positions_key: Annotated[str | None, Meta(description="as for the images")] = None
    bundle: Annotated[str, Meta(description="folder of a model, or the name of a shipped one")] = (
        "siemens-star"
    )
    engine: Annotated[
        str,
        Meta(
            description='what runs the model; "auto": the fastest that starts and hardly rounds (auto, '
            "onnxruntime, openvino, openvino-bf16, openvino-int8, onnxruntime-cuda, tensorrt; the last two "
            'with the number of a GPU, as "tensorrt:1")',
            pattern=_ENGINE,
        ),
    ] = "auto"
    engine_cache: Annotated[
        str, Meta(description="folder where engines that were compiled for a GPU are kept")
    ] = "~/.cache/ptycholive"
    threads: Annotated[int, Meta(description="threads of the engine; 0: one a core", ge=0)] = 0
    workers: Annotated[
        int, Meta(description="engines that run batches side by side, in threads or on a cluster", ge=1)
    ] = 1
    cluster: Annotated[
        str | None,
        Meta(
            description='Ray cluster that they run on, as HOST:PORT; "auto": the one that this machine is '
            'part of, "local": one of its own; needs the extra cluster'
        ),
    ] = None
    batch_frames: Annotated[int, Meta(description="frames that go through the engine together", ge=1)] = 16
    batch_deadline_s: Annotated[
        float, Meta(description="how long a frame waits for its batch to fill, where no engine is idle", gt=0)
    ] = 0.05
    join_deadline_s: Annotated[float, Meta(description="how long an image waits for its position", gt=0)] = (
        10.0
    )
    join_waiting: Annotated[int, Meta(description="how many images may wait for their positions", ge=1)] = (
        4096
    )
    end_grace_s: Annotated[
        float, Meta(description="how long after the end, or the last frame, late frames are taken", gt=0)
    ] = 2.0
    idle_end_s: Annotated[
        float,
        Meta(description="without a frame for so long, a scan is over whose format tells no end", gt=0),
    ] = 30.0
    inbox_mib: Annotated[
        int, Meta(description="received data that may wait for the engine before senders have to wait", ge=1)
    ] = 512
    overload: Annotated[
        Literal["wait", "drop"],
        Meta(description='what becomes of frames beyond that: senders "wait", or the newest "drop" out'),
    ] = "wait"
    gauge_alignment: Annotated[
        bool, Meta(description="turn each tile, as it comes, to fit those before it in absolute phase")
    ] = False
    tiles: Annotated[str | None, Meta(description="endpoint where tiles are published")] = None
    results: Annotated[str, Meta(description="folder of the result files")] = "results"
    snapshot_s: Annotated[
        float,
        Meta(description="how often the running scan is kept for a restart; 0: never", ge=0),
    ] = 5.0
    record: Annotated[
        str | None, Meta(description="folder where scans are recorded as the detector sends them")
    ] = None
    record_mib: Annotated[
        int, Meta(description="frames that may wait for its disk before the recording loses some", ge=1)
    ] = 256
    keep_scans: Annotated[int, Meta(description="finished scans whose mosaics stay in memory", ge=0)] = 8
    refine: Annotated[
        bool, Meta(description="let idle time refine the mosaic of the scan that runs or was the last to run")
    ] = True
    refine_mib: Annotated[
        int, Meta(description="frames of a scan that may be kept for that; the object may take as much", ge=1)
    ] = 512
    refine_s: Annotated[
        float, Meta(description="how long a finished scan may be refined, in seconds of work", ge=0)
    ] = 20.0
    host: Annotated[str, Meta(description="address of the web server")] = "127.0.0.1"
    port: Annotated[int, Meta(description="port of the web server; 0 takes a free one", ge=0, le=65535)] = (
        8080
    )
    epics: Annotated[
        str | None,
        Meta(description="prefix of EPICS channels with phase and amplitude; needs the extra epics"),
    ] = None
    epics_hz: Annotated[float, Meta(description="how often these are posted at most", gt=0, le=50)] = 2.0
    epics_interface: Annotated[
        str, Meta(description="address where EPICS listens; off loopback only with allow_plain_streams")
    ] = "127.0.0.1"
    tiled: Annotated[
        str | None, Meta(description="address of a Tiled server that results go to; needs the extra tiled")
    ] = None
    tiled_key: Annotated[str | None, Meta(description="API key of that server; best by the environment")] = (
        None
    )
    token: Annotated[str | None, Meta(description="guards the page and the API; needed off loopback")] = None


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, for whoever makes flags or tables of them.

    Attributes:
        name, default, description: as in `Settings`.
        kind: type of the value; None in front of a default stands for "not set".
        choices: the only values, if there are but a few.
    """

    name: str
    default: Any
    description: str
    kind: type
    choices: tuple[str, ...] = ()


def all_settings() -> list[Setting]:
    """Return every setting, in order."""
    told = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"]
    return [_setting(name, schema) for name, schema in told.items()]


def _setting(name: str, schema: dict[str, Any]) -> Setting:
    kinds = {"string": str, "integer": int, "number": float, "boolean": bool}
    kind = kinds[schema.get("type") or schema["anyOf"][0]["type"]] if "enum" not in schema else str
    return Setting(name, schema["default"], schema["description"], kind, tuple(schema.get("enum", ())))


def load_settings(
    flags: Mapping[str, Any], file: Path | None = None, environment: Mapping[str, str] | None = None
) -> Settings:
    """Put the settings together.

    Args:
        flags: those given on the command line; None stands for not given.
        file: TOML file, or None.
        environment: the process's own by default.

    Raises:
        ConfigError: a key is unknown, a value is not of its kind, or the file cannot be read.
    """
    environment = os.environ if environment is None else environment
    merged: dict[str, Any] = {}
    for where, values in (
        (str(file), _from_file(file)),
        ("the environment", _from_environment(environment)),
        ("the command line", {k: v for k, v in flags.items() if v is not None}),
    ):
        merged.update(_checked(values, where))
    return Settings(**merged)


def _checked(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Return values of the right kinds, named by where they come from if one is not."""
    try:
        settings = msgspec.convert(values, Settings, strict=where != "the environment")
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"{where}: {_in_words(error)}; `ptycholive serve --help` lists the settings"
        ) from error
    return {name: getattr(settings, name) for name in values}


def _in_words(error: msgspec.ValidationError) -> str:
    told = str(error)
    for pattern, words in _IN_WORDS.items():
        told = told.replace(f"`str` matching regex {pattern!r}", words)
    return told


def _from_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}") from error


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    return {k.removeprefix(PREFIX).lower(): v for k, v in environment.items() if k.startswith(PREFIX)}
