"""What the service takes beside time: memory over many scans, seconds until it is ready, room on the disk."""

from __future__ import annotations

import os
import re
import statistics
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from service.benchmarking.journey import Subject, stand
from service.benchmarking.timing import Say
from service.loopback import FREE, service_process


def memory_mib(subject: Subject, scans: int, say: Say) -> list[float]:
    """Return the service's resident memory after each of some scans in a row, MiB."""
    held = []
    with stand(subject) as service:
        for _ in range(scans):
            service.stream(rate_hz=0)
            held.append(_resident_mib())
    told = sorted({1, 2, scans // 2, scans} & set(range(1, scans + 1)))
    shown = ", ".join(f"{held[number - 1]:.0f}" for number in told)
    say(f"memory after scan {', '.join(map(str, told))}: {shown} MiB")
    return held


def ready_s(bundle: str, rounds: int, say: Say) -> float:
    """Return seconds from the start of `ptycholive serve` to its readiness, median."""
    seconds = statistics.median(_start_up_s(bundle) for _ in range(rounds))
    say(f"start-up to ready: {seconds:.2f} s")
    return seconds


def installed_mib(root: str = "ptycholive", extra: str = "cpu") -> float:
    """Return the size of everything that `pip install ptycholive[cpu]` brings, MiB."""
    sizes: dict[str, int] = {}
    waiting = [(root, extra)]
    while waiting:
        name, wanted = waiting.pop()
        if name in sizes:
            continue
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # for another platform or Python
        files = (Path(str(file.locate())) for file in package.files or ())
        sizes[name] = sum(file.stat().st_size for file in files if file.is_file())
        waiting += [(need, "") for need in _needs(package, wanted)]
    return sum(sizes.values()) / 2**20


def _needs(package: metadata.Distribution, extra: str) -> Iterator[str]:
    for requirement in package.requires or ():
        name, _, marker = requirement.partition(";")
        if "extra ==" not in marker or re.search(rf"extra == ['\"]{extra}['\"]", marker):
            yield re.split(r"[\s<>=!~\[(]", name.strip(), maxsplit=1)[0]


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _start_up_s(bundle: str) -> float:
    begun_s = time.perf_counter()
    with service_process(bundle, "--images", FREE, "--images-bind"):
        return time.perf_counter() - begun_s
