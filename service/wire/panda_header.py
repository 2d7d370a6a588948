"""The header with which a PandA begins a capture: which fields a record holds, and what was missed.

    <header>
    <data missed="0" process="Scaled" format="Framed" sample_bytes="20" arm_time="…" />
    <fields>
    <field name="INENC1.VAL" type="double" capture="Mean" scale="1e-06" offset="0" units="mm" />
    …

PandABlocks-server, docs/capture.rst, "Data Header".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from xml.parsers import expat

import numpy as np

from service.errors import MessageError
from service.wire.encoder_samples import EncoderFields, named

_TYPES: Final = {
    "int32": "<i4", "uint32": "<u4", "int64": "<i8", "uint64": "<u8", "double": "<f8",
    "bool": "?", "int8": "i1", "uint8": "u1", "int16": "<i2", "uint16": "<u2", "float": "<f4",
}  # fmt: skip
_METRES: Final = {"m": 1.0, "mm": 1e-3, "um": 1e-6, "µm": 1e-6, "micron": 1e-6, "nm": 1e-9, "pm": 1e-12}
_MOST_FIELDS: Final = 512
_MOST_SAMPLES: Final = 1 << 53


@dataclass(frozen=True, slots=True)
class Field:
    """One captured field.

    Attributes:
        name: with its capture, as `INENC1.VAL.Mean`.
        dtype: of its values in a record.
        units: what it is measured in; "" where not told.
    """

    name: str
    dtype: str
    units: str


@dataclass(frozen=True, slots=True)
class Header:
    """What is told of a capture.

    Attributes:
        fields: in the order they have in a record.
        missed: samples that were captured before the connection.
        arm_time: when it was armed; "" where not told.
    """

    fields: tuple[Field, ...]
    missed: int
    arm_time: str

    @property
    def record(self) -> np.dtype[np.void]:
        """Type of one packed record."""
        return np.dtype([(field.name, field.dtype) for field in self.fields])


@dataclass(frozen=True, slots=True)
class Columns:
    """The fields of a record that are wanted.

    Attributes:
        y, x: names.
        y_unit_m, x_unit_m: metres a unit.
        frame: name of the field that counts the frames, or None.
    """

    y: str
    x: str
    y_unit_m: float
    x_unit_m: float
    frame: str | None


def parse_header(text: bytes) -> Header:
    """Read the element `<header>`.

    Raises:
        MessageError: it is no such header, or not that of scaled values in frames.
    """
    elements = _elements(text)
    data = next((attributes for name, attributes in elements if name == "data"), {})
    if (data.get("process"), data.get("format")) != ("Scaled", "Framed"):
        raise MessageError("the PandA does not send scaled values in frames, as it was asked to")
    captured = [attributes for name, attributes in elements if name == "field"]
    if not 1 <= len(captured) <= _MOST_FIELDS:
        raise MessageError(f"the PandA captures {len(captured)} fields: is CAPTURE set for the encoders?")
    header = Header(tuple(map(_field, captured)), _count(data, "missed"), data.get("arm_time", ""))
    names = [field.name for field in header.fields]
    if len(set(names)) < len(names):
        raise MessageError("the PandA's header names a field twice")
    if header.record.itemsize != _count(data, "sample_bytes"):
        told, needed = data["sample_bytes"], header.record.itemsize
        raise MessageError(f"the PandA's header tells samples of {told} bytes, their fields need {needed}")
    return header


def columns(header: Header, fields: EncoderFields) -> Columns:
    """Return which fields of the records are wanted.

    Raises:
        MessageError: one is not captured, or its unit is no length; the line lists what there is.
    """
    y, x, frame = named(fields, [field.name for field in header.fields])
    units = {field.name: field.units for field in header.fields}
    return Columns(
        y, x, _unit_m("y", fields.y_unit_m, units[y]), _unit_m("x", fields.x_unit_m, units[x]), frame
    )


def _elements(text: bytes) -> list[tuple[str, dict[str, str]]]:
    """Return the elements and their attributes. Of a document type, where entities grow, there is none."""
    found: list[tuple[str, dict[str, str]]] = []
    parser = expat.ParserCreate("UTF-8")
    parser.StartElementHandler = lambda name, attributes: found.append((name, attributes))
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise MessageError(f"the PandA's header is not XML: {error}") from error
    return found


def _refuse_doctype(*_declared: Any) -> None:
    raise MessageError("the PandA's header declares a document type")


def _field(told: dict[str, str]) -> Field:
    try:
        dtype = _TYPES[told["type"]]
        return Field(f"{told['name']}.{told['capture']}", dtype, told.get("units", ""))
    except KeyError as error:
        raise MessageError(f"a field of the PandA's header is not understood: {error}") from error


def _count(told: dict[str, str], key: str) -> int:
    text = told.get(key, "")
    if not (text.isascii() and text.isdigit() and len(text) < 17 and int(text) < _MOST_SAMPLES):
        raise MessageError(f"{key} of the PandA's header is {text[:20]!r}, no count")
    return int(text)


def _unit_m(axis: str, told_m: float | None, units: str) -> float:
    unit_m = told_m if told_m is not None else _METRES.get(units)
    if unit_m is None:
        raise MessageError(f"the PandA's unit {units[:20]!r} is no length: set positions_{axis}_unit_m")
    return unit_m
