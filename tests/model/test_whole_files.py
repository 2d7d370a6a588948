import pytest

from model.whole_files import written_whole


@pytest.mark.parametrize("synced", [False, True])
def test_a_file_takes_its_name_when_it_is_written(tmp_path, synced):
    path = tmp_path / "mosaic.png"
    with written_whole(path, synced=synced) as half:
        half.write_bytes(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


def write_until_the_disk_is_full(path):
    with written_whole(path) as half:
        half.write_bytes(b"hal")
        raise OSError("disk full")


def test_what_was_there_stays_when_writing_fails(tmp_path):
    path = tmp_path / "mosaic.png"
    path.write_bytes(b"before")
    with pytest.raises(OSError, match="disk full"):
        write_until_the_disk_is_full(path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
