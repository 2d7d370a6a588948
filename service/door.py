"""The door: between decoder and inbox every frame and position is brought into the model's frame, once.

It stands on the side of the intake, in the threads that decode. So a megapixel frame is cut down before it
waits in the inbox, whose budget then holds a hundred times as many, and the thread that runs the network has
nothing to do with detectors: what comes out of the inbox lies as the model wants it, whoever sent it.
Everything behind the door (joiner, engine, mosaic, refinement, result file) knows one frame of reference.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.orientation import Orientation
from service.framing import Framing, FramingError, Shape, by, plan_framing
from service.messages import Event, Image, Positions, Rejected, ScanStart

_SCANS_KNOWN: Final = 32  # as many as the decoders remember


@dataclass(frozen=True, slots=True, eq=False)
class DoorSettings:
    """What the operator says of the detector; see `Settings`.

    Attributes:
        orientation: to be done to the frames.
        axes: to be done to the positions.
        binning: side of the square of detector pixels that become one.
        crop: (H, W) detector pixels that are kept; None: what the model needs.
        beam_px: row and column of the direct beam; None: what the stream tells, or else the middle.
        mask: (H, W) bool of the detector, True where a pixel must not be used, beside the stream's own.
    """

    orientation: Orientation = Orientation.UPRIGHT
    axes: Orientation = Orientation.UPRIGHT
    binning: int = 1
    crop: Shape | None = None
    beam_px: tuple[float, float] | None = None
    mask: NDArray[np.bool_] | None = None


class Door:
    """Lets events in; one thread brings starts and images, any other may bring positions.

    Args:
        settings: of the detector.
        frame_shape: gives (H, W) of the model that runs now; asked once a scan.
    """

    def __init__(self, settings: DoorSettings, frame_shape: Callable[[], Shape]) -> None:
        self._settings = settings
        self._frame_shape = frame_shape
        self._scans: OrderedDict[str, Framing | str] = OrderedDict()  # or why the scan is refused

    @property
    def orientation(self) -> tuple[Orientation, Orientation]:
        """What is done to the frames, and to the positions, of the next scan."""
        return self._settings.orientation, self._settings.axes

    def orient(self, orientation: Orientation, axes: Orientation) -> None:
        """Turn frames and positions so from the next scan on; to be called while none runs."""
        self._settings = replace(self._settings, orientation=orientation, axes=axes)

    def admit(self, events: Iterable[Event]) -> tuple[Event, ...]:
        """Return the events in the model's frame; those that have nothing to be done to are not copied."""
        return tuple(map(self._admitted, events))

    def _admitted(self, event: Event) -> Event:
        match event:
            case Image():
                return self._image(event)
            case Positions():
                return self._positions(event)
            case ScanStart():
                return self._start(event)
            case _:
                return event

    def _start(self, start: ScanStart) -> ScanStart:
        try:
            framing, notes = self._plan(start)
            mask = self._mask(start, framing)
        except FramingError as refused:
            self._remember(start.scan, str(refused))
            return replace(start, notes=(("frame_shape", str(refused)),))
        self._remember(start.scan, framing)
        told_m = start.positions_m
        positions_m = None if told_m is None else self._settings.axes.of_positions(told_m)
        return replace(_framed(start, framing), mask=mask, positions_m=positions_m, notes=notes)

    def _image(self, image: Image) -> Image | Rejected:
        framing = self._scans.get(image.scan)
        if framing is None:  # no scan runs under that name: the journey says so
            return image
        if isinstance(framing, str):
            return Rejected(image.scan, image.index, "frame_shape", framing)
        if framing.detector_shape != image.counts.shape:
            told = f"a frame of {by(image.counts.shape)} in a scan of {by(framing.detector_shape)}"
            return Rejected(image.scan, image.index, "frame_shape", told)
        counts = framing.of_counts(image.counts)
        return image if counts is image.counts else msgspec.structs.replace(image, counts=counts)

    def _positions(self, positions: Positions) -> Positions:
        turned = self._settings.axes.of_positions(positions.positions_m)
        return positions if turned is positions.positions_m else replace(positions, positions_m=turned)

    def _plan(self, start: ScanStart) -> tuple[Framing, tuple[tuple[str, str], ...]]:
        """Return what is to be done to a scan's frames, and what the operator should know of it."""
        s, shape = self._settings, start.frame_shape

        def plan(beam_px: tuple[float, float] | None) -> Framing:
            return plan_framing(
                shape, self._frame_shape(), orientation=s.orientation, axes=s.axes, binning=s.binning,
                crop=s.crop, beam_px=beam_px, saturation=start.saturation,
            )  # fmt: skip

        whole = plan(None)
        if s.beam_px is not None:
            return plan(s.beam_px), ()
        if whole.cut_shape == shape:  # nothing is left to choose, whatever the stream tells of the beam
            return whole, ()
        if start.beam_px is not None:
            return plan(start.beam_px), ()
        return whole, (("crop", _about_the_middle(whole)),)

    def _mask(self, start: ScanStart, framing: Framing) -> NDArray[np.bool_] | None:
        """Return where the stream or the operator's file says that a pixel is bad; None: nowhere."""
        theirs, ours = start.mask, self._settings.mask
        if ours is not None and ours.shape != start.frame_shape:
            raise FramingError(
                f"the file of the setting mask holds {by(ours.shape)}, the detector's frames are "
                f"{by(start.frame_shape)}: is it the mask of this detector and region of interest?"
            )
        bad = [mask for mask in (theirs, ours) if mask is not None]
        return framing.of_mask(np.logical_or.reduce(bad)) if bad else None

    def _remember(self, scan: str, framing: Framing | str) -> None:
        self._scans[scan] = framing
        self._scans.move_to_end(scan)
        if len(self._scans) > _SCANS_KNOWN:
            self._scans.popitem(last=False)


def _framed(start: ScanStart, framing: Framing) -> ScanStart:
    """Return what is told of a scan, of its frames as they come out of the door."""
    binning = framing.binning
    return replace(
        start,
        frame_shape=framing.frame_shape,
        dtype=framing.of_dtype(start.dtype),
        detector_pixel_m=_scaled(start.detector_pixel_m, binning),
        object_pixel_m=_scaled(start.object_pixel_m, framing.object_pixel_scale),
        saturation=_scaled(start.saturation, binning**2),
        framing=framing,
    )


def _scaled(number: float | None, factor: float) -> float | None:
    return None if number is None else number * factor


def _about_the_middle(framing: Framing) -> str:
    return (
        f"frames of {by(framing.detector_shape)} are cropped to {by(framing.cut_shape)} about their middle, "
        "as nobody tells where the beam is: set beam_centre"
    )
