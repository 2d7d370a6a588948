"""`ptycholive check`: OK, TIMEOUT or ERROR for each stream, the engine and the bundle."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

from model.bundle import Bundle, BundleError, find_bundle, load_bundle
from service.config import Settings
from service.engines.choice import AUTO, choose_engine, measured_rate_hz
from service.engines.places import GpuPlace
from service.errors import PtycholiveError
from service.messages import Notice
from service.paint import Painter
from service.sources import Received
from service.spread import SPREAD_BY
from service.streams import AnySource, Role, open_source, stream_format
from service.wire.panda import FIELDS
from service.workforce import Workforce, gpu_place


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one part."""

    what: str
    verdict: Literal["OK", "TIMEOUT", "ERROR"]
    detail: str


def check_all(settings: Settings, timeout_s: float) -> Iterator[Finding]:
    """Look at everything that the service would use, one after another."""
    yield from _check_model(settings)
    yield _check_stream(settings, "images", timeout_s)
    if settings.positions is not None:
        yield _check_stream(settings, "positions", timeout_s)


def _check_model(settings: Settings) -> Iterator[Finding]:
    try:
        bundle = load_bundle(find_bundle(settings.bundle))
    except BundleError as error:
        yield Finding("bundle", "ERROR", str(error))
        return
    told = bundle.description
    yield Finding("bundle", "OK", f"{told.name}, frames {told.frame_shape}, sha256 {told.onnx_sha256[:12]}…")
    if settings.workers > 1 or settings.cluster is not None:
        yield _check_workers(settings)
    else:
        yield check_engine(bundle, settings.threads, settings.engine, gpu_place(settings))


def check_engine(bundle: Bundle, threads: int, name: str = AUTO, gpu: GpuPlace | None = None) -> Finding:
    """Start the engine as the service would, and run it; 0 threads are one a core."""
    try:
        choice = choose_engine(bundle, name, threads, gpu)
        engine = choice.engine
        Painter(engine, time.time_ns)
        rate_hz = measured_rate_hz(engine)
    except PtycholiveError as error:
        return Finding("engine", "ERROR", str(error))
    _, *others = choice.candidates
    detail = f"{engine.backend} on {engine.device}, {rate_hz:.0f} frames/s in batches"
    return Finding("engine", "OK", "; ".join([detail, f"tiles stitched by {SPREAD_BY}", *map(str, others)]))


def _check_workers(settings: Settings) -> Finding:
    """Start all engines as the service would, and run one of them."""
    told: list[str] = []
    workforce = Workforce(settings, told.append, told.append)
    try:
        with closing(workforce), closing(workforce.load(settings.bundle)) as pool:
            detail = f"{pool.backend} on {pool.device}, one runs {measured_rate_hz(pool):.0f} frames/s"
    except PtycholiveError as error:
        return Finding("engine", "ERROR", str(error))
    return Finding("engine", "OK", "; ".join([detail, *told]))


def _check_stream(settings: Settings, role: Role, timeout_s: float) -> Finding:
    endpoint, told = getattr(settings, role), stream_format(settings, role)
    try:
        source = open_source(settings, role)
    except PtycholiveError as error:
        return Finding(role, "ERROR", str(error))
    with source:
        received = _first_word(source, timeout_s)
        silence = source.silence()
    if received is None:
        return Finding(role, "ERROR" if silence.broken else "TIMEOUT", silence.why)
    if received.error is not None:
        return Finding(role, "ERROR", f"{endpoint} does not speak {told}: {received.error}")
    return _heard(role, f"{told} from {endpoint}", received)


def _first_word(source: AnySource, timeout_s: float) -> Received | None:
    """Return the first message that says something; without one, what came last: a greeting, or nothing."""
    until_s, heard = time.monotonic() + timeout_s, None
    while (left_s := until_s - time.monotonic()) > 0:
        received = source.receive(left_s)
        heard = received or heard
        if received is not None and (received.events or received.error):
            break
    return heard


def _heard(role: Role, source: str, received: Received) -> Finding:
    notices = [event for event in received.events if isinstance(event, Notice)]
    if not received.nbytes:
        return Finding(role, "TIMEOUT", "; ".join(notice.line for notice in notices))
    for notice in notices:
        if notice.about == FIELDS:
            return Finding(role, "ERROR", f"{source}: {notice.line}")
    kinds = [type(event).__name__ for event in received.events if not isinstance(event, Notice)]
    said = ", ".join(kinds) or ("an answer, nothing more" if not received.events else "notices")
    lines = [f"{source}: {said}, {received.nbytes} bytes", *(notice.line for notice in notices)]
    return Finding(role, "OK", "; ".join(lines))
