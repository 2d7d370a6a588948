"""Settings: flag > environment > file > default; whatever is wrong is one line."""

from pathlib import Path

import msgspec
import pytest

from service.config import Settings, all_settings, load_settings
from service.errors import ConfigError
from service.sources import FORMATS


@pytest.fixture
def toml(tmp_path):
    """Return what writes a TOML file."""

    def write(text):
        path = tmp_path / "ptycholive.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def refused(*args):
    """Return the one line that says why settings are refused."""
    with pytest.raises(ConfigError) as caught:
        load_settings(*args)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(toml):
    file, environment = toml("port = 1001"), {"PTYCHOLIVE_PORT": "1002"}
    assert load_settings({}, None, {}).port == 8080
    assert load_settings({}, file, {}).port == 1001
    assert load_settings({}, file, environment).port == 1002
    assert load_settings({"port": 1003}, file, environment).port == 1003
    assert load_settings({"port": None}, file, environment).port == 1002


def test_settings_of_all_three_places_add_up(toml):
    found = load_settings({"threads": 3}, toml('bundle = "b"\nimages_bind = true'), {"PTYCHOLIVE_TOKEN": "7"})
    assert (found.threads, found.bundle, found.images_bind, found.token) == (3, "b", True, "7")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("THREADS", "2", 2),
        ("BATCH_DEADLINE_S", "0.5", 0.5),
        ("IMAGES_BIND", "true", True),
        ("TILES", "x", "x"),
    ],
)
def test_the_environment_is_read_in_the_kind_of_each_setting(name, text, value):
    found = load_settings({}, None, {f"PTYCHOLIVE_{name}": text, "HOME": "/root", "PTYCHO": "1"})
    assert getattr(found, name.lower()) == value


def test_the_process_own_environment_is_the_default(monkeypatch):
    monkeypatch.setenv("PTYCHOLIVE_KEEP_SCANS", "3")
    assert load_settings({}).keep_scans == 3


def test_an_unknown_key_in_the_environment_is_told(tmp_path):
    line = refused({}, None, {"PTYCHOLIVE_TYPO": "1"})
    assert "the environment" in line
    assert "typo" in line


@pytest.mark.parametrize("text", ["typo = 1", "[images]\nendpoint = 'x'", "port = 1\n[more]\nx = 1"])
def test_an_unknown_key_in_the_file_is_told_with_the_file(toml, text):
    file = toml(text)
    assert str(file) in refused({}, file, {})


@pytest.mark.parametrize(
    ("flags", "text", "environment"),
    [
        ({}, 'port = "8080"', {}),
        ({}, "port = 70000", {}),
        ({}, "port = -1", {}),
        ({}, "batch_frames = 0", {}),
        ({}, "batch_frames = 1.5", {}),
        ({}, "join_deadline_s = 0", {}),
        ({}, "join_deadline_s = nan", {}),
        ({}, 'images_format = "morse"', {}),
        ({}, "images_bind = 1", {}),
        ({}, "port = 1979-05-27", {}),
        ({}, "", {"PTYCHOLIVE_PORT": "many"}),
        ({}, "", {"PTYCHOLIVE_PORT": ""}),
        ({}, "", {"PTYCHOLIVE_IMAGES_SOCKET": "dealer"}),
        ({"threads": -1}, "", {}),
        ({"bundle": 7}, "", {}),
    ],
)
def test_a_value_of_the_wrong_kind_is_told(toml, flags, text, environment):
    assert "$." in refused(flags, toml(text), environment)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"crop": "3"}, 'two whole numbers as "256,256"'),
        ({"beam_centre": "3"}, 'row and column, as "532,514.5"'),
    ],
    ids=["crop", "beam"],
)
def test_what_a_pair_of_numbers_must_look_like_is_told_in_words(flags, expected):
    told = refused(flags, None, {})
    assert expected in told
    assert "regex" not in told


@pytest.mark.parametrize("text", ["port =", "= 5", b"\xff\xfe", "port = 1\nport = 2"])
def test_a_broken_file_is_told(toml, text):
    assert "is not TOML" in refused({}, toml(text), {})


def test_a_missing_file_is_told(tmp_path):
    assert "No such file" in refused({}, tmp_path / "absent.toml", {})
    assert "cannot read" in refused({}, tmp_path, {})


def test_every_setting_has_a_description_a_kind_and_a_default_that_is_allowed():
    listed = {setting.name: setting for setting in all_settings()}
    assert list(listed) == list(Settings.__struct_fields__)
    for setting in listed.values():
        assert setting.description
        assert setting.default is None or isinstance(setting.default, setting.kind)
    assert set(listed["images_format"].choices) == set(FORMATS)
    assert (listed["token"].kind, listed["end_grace_s"].kind) == (str, float)


def test_the_defaults_are_themselves_valid():
    assert msgspec.convert(msgspec.to_builtins(Settings()), Settings) == Settings()


def test_the_operators_guide_lists_every_setting_with_its_default():
    guide = (Path(__file__).parents[2] / "docs" / "operate.md").read_text(encoding="utf-8")
    for setting in all_settings():
        default = "none" if setting.default is None else f"`{setting.default}`"
        assert f"| `{setting.name}` | {default} | {setting.description}" in guide
