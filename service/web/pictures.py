"""The routes to what a scan looks like: mosaic, unwrapped phase, diffraction patterns, result file."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, HTTPException, Query
from fastapi.responses import Response, StreamingResponse
from starlette.requests import HTTPConnection

from service.images import MEDIA_TYPES, Channel, FileFormat, encode, npy
from service.mosaic import Mosaic
from service.web.download import download
from service.web.patterns import PatternFormat, describe_frame, pattern_npy, pattern_png
from service.web.recent import RecentFrame, RecentFrames
from service.web.unwrapping import SharedUnwrapping
from service.web.view import LiveView

_REFINED = (Channel.AMPLITUDE, Channel.PHASE, Channel.UNWRAPPED)

pictures = APIRouter(prefix="/api", tags=["ptycholive"])


def _view(connection: HTTPConnection) -> LiveView:
    view: LiveView = connection.app.state.view
    return view


View = Annotated[LiveView, Depends(_view)]


def _unwrapping(connection: HTTPConnection) -> SharedUnwrapping:
    shared: SharedUnwrapping = connection.app.state.unwrapping
    return shared


@pictures.get("/scans/{scan}/mosaic", response_class=Response)
def mosaic(
    scan: str,
    view: View,
    channel: Annotated[Channel, Query()] = Channel.PHASE,
    file_format: Annotated[FileFormat, Query(alias="format")] = FileFormat.PNG,
    refined: Annotated[bool, Query(description="amplitude or phase as idle time has refined it")] = False,
) -> Response:
    """Return the mosaic as it is now: npy and TIFF float32 (phase in radians), PNG in 8-bit colours.

    The channel `unwrapped` is the phase without its jumps; pieces that do not touch, each for itself.
    """
    shown = _refined(scan, channel, view) if refined else _painted(scan, view)
    content = encode(shown, channel, file_format)
    name = f"{scan}-refined" if refined else scan
    disposition = f'inline; filename="{name}-{channel}.{file_format}"'
    return Response(
        content, media_type=MEDIA_TYPES[file_format], headers={"content-disposition": disposition}
    )


@pictures.get("/scans/{scan}/unwrapped", response_class=Response)
def unwrapped_phase(
    scan: str,
    view: View,
    shared: Annotated[SharedUnwrapping, Depends(_unwrapping)],
    refined: Annotated[bool, Query(description="as idle time has refined it")] = False,
) -> Response:
    """Return the unwrapped phase, coarse where the mosaic is large, as npy float32; NaN where no light fell.

    The header `x-part` tells where it lies, as JSON: `bounds` in pixels of the mosaic, `step` of them a pixel
    here, and whether it is `current`: while the mosaic grows it may be some seconds old.
    """
    painted = _painted(scan, view)
    if refined:
        sweeps = (known(scan, view).get("refinement") or {}).get("sweeps", 0)
        take = partial(_refined, scan, Channel.UNWRAPPED, view)
        found, current = shared.of(painted, True, sweeps, take)
    else:
        found, current = shared.of(painted, False, painted.version, lambda: painted)
    told = msgspec.json.encode({"bounds": found.bounds, "step": found.step, "current": current})
    return Response(
        npy(found.plane), media_type=MEDIA_TYPES[FileFormat.NPY], headers={"x-part": told.decode()}
    )


@pictures.get("/scans/{scan}/frame", response_class=Response)
def frame(
    scan: str,
    view: View,
    index: Annotated[int | None, Query(description="frame number; the newest by default")] = None,
    y_m: Annotated[float | None, Query(description="with x_m: the frame taken nearest to this place")] = None,
    x_m: float | None = None,
    file_format: Annotated[PatternFormat, Query(alias="format")] = PatternFormat.PNG,
) -> Response:
    """Return one of the last diffraction patterns; the header `x-frame` tells which, as JSON."""
    known(scan, view)
    recent = view.recent(scan)
    found = None if recent is None else _chosen(recent, index, y_m, x_m)
    if recent is None or found is None:
        raise HTTPException(404, "this frame is not kept: only the last ones of the newest scan are")
    content = pattern_npy(found) if file_format is PatternFormat.NPY else pattern_png(found, recent)
    told = msgspec.json.encode(describe_frame(found, recent)).decode()
    return Response(content, media_type=MEDIA_TYPES[FileFormat(file_format)], headers={"x-frame": told})


@pictures.get("/scans/{scan}/result.h5", response_class=StreamingResponse)
def result_file(scan: str, view: View) -> StreamingResponse:
    """Return the result file of a finished scan."""
    known(scan, view)
    path = view.result_file(scan)
    if path is None:
        raise HTTPException(404, f"scan {scan} has no result file yet: it is written when the scan ends")
    return download(path, media_type="application/x-hdf5")


def known(scan: str, view: LiveView) -> dict[str, Any]:
    """Return what is known of a scan.

    Raises:
        HTTPException: there is none of that name.
    """
    report = view.scan(scan)
    if report is None:
        raise HTTPException(404, f"there is no scan {scan}: GET /api/scans lists them")
    return report


def _chosen(
    recent: RecentFrames, index: int | None, y_m: float | None, x_m: float | None
) -> RecentFrame | None:
    if index is not None:
        return recent.numbered(index)
    if y_m is not None and x_m is not None:
        return recent.nearest(y_m, x_m)
    return recent.newest()


def _painted(scan: str, view: LiveView) -> Mosaic:
    known(scan, view)
    found = view.mosaic(scan)
    if found is None or found.version == 0:
        raise HTTPException(404, f"scan {scan} has no mosaic: no frame of it has been stitched")
    return found


def _refined(scan: str, channel: Channel, view: LiveView) -> Mosaic:
    if channel not in _REFINED:
        raise HTTPException(422, f"channel: only {', '.join(_REFINED)} are refined")
    refinement = known(scan, view).get("refinement")
    found = view.refined(scan)
    if found is None:
        why = "the service was started without it" if refinement is None else refinement["state"]
        raise HTTPException(404, f"scan {scan} has no refined mosaic ({why})")
    return found
