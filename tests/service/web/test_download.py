"""A result file is sent whole while the refined one takes its place."""

from __future__ import annotations

import asyncio

from service.web.download import download


def body(response):
    async def gathered():
        return b"".join([chunk async for chunk in response.body_iterator])

    return asyncio.run(gathered())


def test_a_result_that_is_replaced_while_it_is_sent_comes_whole_with_its_own_length(tmp_path):
    result, refined = tmp_path / "star.h5", tmp_path / "refined.h5"
    result.write_bytes(bytes(70_000))
    refined.write_bytes(b"x" * 90_000)
    response = download(result, "application/x-hdf5")
    refined.replace(result)
    assert body(response) == bytes(70_000)
    assert response.headers["content-length"] == "70000"
    assert body(download(result, "application/x-hdf5")) == b"x" * 90_000


def test_an_empty_file_is_an_empty_answer(tmp_path):
    (tmp_path / "empty.h5").touch()
    response = download(tmp_path / "empty.h5", "application/x-hdf5")
    assert (body(response), response.headers["content-length"]) == (b"", "0")
