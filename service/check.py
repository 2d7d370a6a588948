"""`ptycholive check`: OK, TIMEOUT or ERROR for each stream, the engine and the bundle."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from model.bundle import Bundle, BundleError, find_bundle, load_bundle
from service.config import Settings
from service.engines.onnxruntime import OnnxRuntimeEngine
from service.errors import PtycholiveError
from service.paint import Painter
from service.sources import Source, decoder_for

_FRAMES = 16


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
    yield check_engine(bundle, settings.threads)


def check_engine(bundle: Bundle, threads: int) -> Finding:
    """Start the engine, and run it once; 0 threads are one a core."""
    try:
        engine = OnnxRuntimeEngine(bundle, threads)
        Painter(engine, time.time_ns)
        frames = np.zeros((_FRAMES, 1, *bundle.description.frame_shape), bundle.description.counts_dtype)
        begun_s = time.perf_counter()
        engine.infer(frames)
    except PtycholiveError as error:
        return Finding("engine", "ERROR", str(error))
    rate_hz = _FRAMES / (time.perf_counter() - begun_s)
    detail = f"{engine.backend} on {engine.device}, {rate_hz:.0f} frames/s in a first batch"
    return Finding("engine", "OK", detail)


def _check_stream(settings: Settings, role: Literal["images", "positions"], timeout_s: float) -> Finding:
    endpoint = str(getattr(settings, role))
    stream_format = settings.images_format if role == "images" else "native"
    try:
        source = Source(
            endpoint,
            decoder_for(stream_format),
            bind=getattr(settings, f"{role}_bind"),
            socket_type=getattr(settings, f"{role}_socket"),
            allow_remote=settings.allow_remote_streams,
        )
    except PtycholiveError as error:
        return Finding(role, "ERROR", str(error))
    with source:
        received = source.receive(timeout_s)
    if received is None:
        hint = "is the sender running, and armed?"
        return Finding(role, "TIMEOUT", f"nothing came from {endpoint} within {timeout_s:g} s: {hint}")
    if received.error is not None:
        return Finding(role, "ERROR", f"{endpoint} does not speak {stream_format}: {received.error}")
    kinds = ", ".join(type(event).__name__ for event in received.events) or "a message without frames"
    return Finding(role, "OK", f"{stream_format} from {endpoint}: {kinds}, {received.nbytes} bytes")
