"""Keys in files: how they are made, and which of them are taken."""

import stat

import pytest
import zmq
from click.testing import CliRunner

from service.cli import cli
from service.config import Settings
from service.errors import ConfigError
from service.security.keys import load_clients, load_pair, load_public, make_keys
from service.stream_keys import connecting_curve, listening_curve, stream_curve
from service.streams import open_source

REMOTE = "tcp://0.0.0.0:5555"
LOOPBACK = "tcp://127.0.0.1:5555"


@pytest.fixture
def ours(tmp_path):
    """Return the files of a public and a secret key."""
    return make_keys(tmp_path / "keys", "ours")


def test_a_pair_is_made_that_only_its_owner_can_read(ours):
    public, secret = ours
    pair = load_pair(secret)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert load_public(public) == pair.public == zmq.curve_public(pair.secret)
    assert pair.secret not in public.read_bytes()
    assert pair.secret.decode() not in repr(pair)


def test_keys_that_are_there_are_never_overwritten(ours):
    before = [path.read_bytes() for path in ours]
    with pytest.raises(ConfigError, match="is there already"):
        make_keys(ours[0].parent, "ours")
    assert [path.read_bytes() for path in ours] == before


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644, 0o660, 0o777])
def test_a_secret_key_that_others_can_read_or_change_is_refused(ours, mode):
    ours[1].chmod(mode)
    with pytest.raises(ConfigError, match=f"mode {mode:o}.*chmod 600"):
        load_pair(ours[1])


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440, 0o640])
def test_the_group_may_read_a_secret_key_as_in_kubernetes(ours, mode):
    ours[1].chmod(mode)
    assert load_pair(ours[1])


@pytest.mark.parametrize(
    "text",
    ["", "curve\n", 'public-key = "short"', f'public-key = "{"~" * 40}"', f'public-key = "{"#" * 40}"'],
)
def test_a_file_without_a_key_is_refused_by_name(tmp_path, text):
    path = tmp_path / "odd.key"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"odd\.key holds"):
        load_public(path)


def test_a_file_far_too_long_for_a_key_is_not_read(tmp_path):
    path = tmp_path / "long.key"
    path.write_bytes(bytes(1 << 20))
    with pytest.raises(ConfigError, match="too long"):
        load_public(path)


def test_a_public_key_does_not_do_where_the_secret_one_is_needed(ours):
    with pytest.raises(ConfigError, match="holds no secret key"):
        load_pair(ours[0])


def test_keys_that_are_no_pair_are_refused(ours, tmp_path):
    other = load_pair(make_keys(tmp_path, "other")[1])
    text = ours[1].read_text().replace(load_pair(ours[1]).public.decode(), other.public.decode())
    ours[1].write_text(text)
    with pytest.raises(ConfigError, match="does not belong"):
        load_pair(ours[1])


def test_missing_files_are_told_by_name(tmp_path):
    for load in (load_pair, load_public):
        with pytest.raises(ConfigError, match=r"cannot read the key .*nobody\.key"):
            load(tmp_path / "nobody.key")


def test_the_clients_are_the_public_keys_in_a_folder(ours, tmp_path):
    make_keys(ours[0].parent, "theirs")
    assert len(load_clients(ours[0].parent)) == 2
    with pytest.raises(ConfigError, match="nobody could connect"):
        load_clients(tmp_path / "empty")
    (ours[0].parent / "broken.key").write_text("x")
    with pytest.raises(ConfigError, match=r"broken\.key"):
        load_clients(ours[0].parent)


def test_other_machines_need_keys_where_the_service_listens():
    with pytest.raises(ConfigError, match="set keys and clients"):
        listening_curve(Settings(allow_remote_streams=True), REMOTE)
    assert listening_curve(Settings(allow_remote_streams=True, allow_plain_streams=True), REMOTE) is None
    assert listening_curve(Settings(allow_remote_streams=True), LOOPBACK) is None


def test_with_keys_whoever_listens_has_them(ours):
    keyed = Settings(keys=str(ours[1]), clients=str(ours[0].parent), images=LOOPBACK, images_bind=True)
    assert stream_curve(keyed, "images").own == load_pair(ours[1])
    assert listening_curve(keyed, LOOPBACK).own == load_pair(ours[1])


def test_settings_that_need_another_one_say_which(ours):
    public, secret = map(str, ours)
    with pytest.raises(ConfigError, match="set clients"):
        listening_curve(Settings(keys=secret), LOOPBACK)
    with pytest.raises(ConfigError, match="set keys"):
        connecting_curve(Settings(), public)
    with pytest.raises(ConfigError, match="images_key is for a sender that we connect to"):
        stream_curve(Settings(keys=secret, images_key=public, images_bind=True), "images")


def test_a_stream_that_we_connect_to_is_plain_unless_its_key_is_told(ours):
    keyed = Settings(keys=str(ours[1]))
    assert stream_curve(keyed, "images") is None
    assert connecting_curve(keyed, str(ours[0])).server == load_public(ours[0])


def test_a_panda_has_no_keys(ours):
    settings = Settings(
        positions="panda://127.0.0.1:1", positions_y="Y", positions_x="X", positions_key=str(ours[0])
    )
    with pytest.raises(ConfigError, match="knows no keys"):
        open_source(settings, "positions")


# The command line


def run(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_the_command_makes_keys_and_says_which_file_goes_where(tmp_path):
    made = run("keys", "--out", tmp_path / "k", "--name", "detector")
    assert made.exit_code == 0
    assert load_pair(tmp_path / "k" / "detector.key_secret").public == load_public(
        tmp_path / "k" / "detector.key"
    )
    assert "detector.key_secret: stays here" in made.output
    assert "detector.key: give it to those" in made.output


@pytest.mark.parametrize("name", ["../up", "a/b", "", "two words"])
def test_a_name_that_is_none_for_a_file_is_refused(tmp_path, name):
    assert isinstance(run("keys", "--out", tmp_path / "k", "--name", name).exception, ConfigError)
    assert not (tmp_path / "k").exists()


@pytest.mark.parametrize(
    "flags",
    [("--keys", "ours"), ("--key", "theirs"), ("--keys", "ours", "--bind"), ("--clients", "them", "--bind")],
)
def test_a_replay_needs_our_keys_and_theirs(tiny_scan, flags):
    refusal = run("replay", tiny_scan, "--to", LOOPBACK, *flags).exception
    assert isinstance(refusal, ConfigError)
    assert "go together" in str(refusal)
