"""The door between decoder and inbox: what comes in lies as the model wants it, and the ledger balances."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from model.orientation import Orientation
from service.config import load_settings
from service.door import Door, DoorSettings
from service.door_settings import door_settings, unturned
from service.errors import ConfigError
from service.messages import Image, Positions, Rejected, ScanEnd, ScanStart
from service.wire import dectris_v1, dectris_v2

FRAMES = 64
MODEL = (32, 32)
WHOLE, CORNER = (75, 66), (30, 20)  # a detector, and where on it the small scan's frames lie
BEAM_PX = (CORNER[0] + 16, CORNER[1] + 16)


def door(**settings):
    return Door(DoorSettings(**settings), lambda: MODEL)


def only(events, *kinds):
    return [event for event in events if isinstance(event, kinds)]


def on_a_detector(counts):
    """Return a frame on a whole detector, whose other pixels hold what must not be seen.

    Of an even number of frequencies the outermost is there on one side only; it goes on the other one too,
    where a mirrored detector has it.
    """
    whole = np.full(WHOLE, 7777, np.uint32)
    whole[CORNER[0] : CORNER[0] + 33, CORNER[1] : CORNER[1] + 33] = np.pad(counts, (0, 1), mode="wrap")
    return whole


def detector_turned(events, way, axes=Orientation.UPRIGHT, lies=lambda counts: counts, **told):
    """Return a scan as a detector sends it that lies the other way round, and stages whose axes do."""

    def sent(event):
        match event:
            case Image():
                return msgspec.structs.replace(event, counts=way.inverse.of(lies(event.counts)))
            case ScanStart():
                shape = way.inverse.of(lies(np.zeros(MODEL))).shape
                positions_m = axes.inverse.of_positions(event.positions_m)
                return replace(event, frame_shape=shape, positions_m=positions_m, **told)
            case _:
                return event

    return [sent(event) for event in events]


# What comes in


def test_what_lies_as_it_should_is_not_copied(stream):
    events = stream(positions="stream")
    admitted = door().admit(events)
    for before, after in zip(events, admitted, strict=True):
        assert after is before or isinstance(after, ScanStart)


@pytest.mark.parametrize("axes", Orientation)
@pytest.mark.parametrize("way", Orientation)
def test_a_scan_comes_in_as_if_the_detector_and_the_stages_lay_right(stream, way, axes):
    events = stream()
    admitted = door(orientation=way, axes=axes).admit(detector_turned(events, way, axes))
    for before, after in zip(only(events, Image), only(admitted, Image), strict=True):
        np.testing.assert_array_equal(after.counts, before.counts)
    np.testing.assert_allclose(admitted[0].positions_m, events[0].positions_m, atol=1e-20)


@pytest.mark.parametrize("axes", ["-y,x", "x,y", "-x,-y"])
def test_positions_are_turned_the_same_whichever_way_they_come(tiny_file, axes):
    way, told_m = Orientation.of_axes(axes), tiny_file.positions_m
    start = ScanStart("tiny", MODEL, np.dtype("<u2"), positions_m=told_m)
    planned, later = door(axes=way).admit([start, Positions("tiny", 0, told_m)])
    np.testing.assert_array_equal(planned.positions_m, later.positions_m)
    assert set(np.abs(later.positions_m).ravel()) == set(np.abs(told_m).ravel())


def test_the_start_tells_of_the_frames_as_they_come_out_of_the_door():
    mask = np.zeros((80, 100), bool)
    mask[0, 0] = mask[3, 41] = True
    start = ScanStart(
        "s", (80, 100), np.dtype("<u2"), detector_pixel_m=75e-6, object_pixel_m=1e-8, saturation=4000.0,
        mask=mask, beam_px=(32, 50),
    )  # fmt: skip
    (told,) = door(binning=2).admit([start])
    assert (told.frame_shape, told.dtype) == (MODEL, np.dtype("<u2"))
    assert told.saturation == 16_000
    assert told.detector_pixel_m == pytest.approx(150e-6)
    assert told.object_pixel_m == pytest.approx(1e-8 * 100 / 64)
    assert np.argwhere(told.mask).tolist() == [[1, 11]]
    assert told.framing.corner == (0, 18)


def test_the_far_field_gives_the_same_object_pixel_from_a_binned_detector(journey, stream):
    start, *_ = stream()
    fine = replace(start, frame_shape=(64, 64), detector_pixel_m=start.detector_pixel_m / 2)
    told = journey()
    told.take(door(binning=2).admit([fine]))
    assert told.run.object_pixel_m == pytest.approx(1e-8)
    assert told.run.warnings == {}


def test_the_operators_mask_adds_to_the_detectors():
    theirs, ours = np.zeros((2, *MODEL), bool)
    theirs[1, 2] = ours[3, 4] = True
    start = ScanStart("s", MODEL, np.dtype("<u2"), mask=theirs)
    (told,) = door(mask=ours).admit([start])
    assert np.argwhere(told.mask).tolist() == [[1, 2], [3, 4]]
    (told,) = door(mask=ours).admit([replace(start, mask=None)])
    assert np.argwhere(told.mask).tolist() == [[3, 4]]


# Where the beam is


def test_the_operator_knows_better_than_the_stream_where_the_beam_is():
    start = ScanStart("s", WHOLE, np.dtype("<u2"), beam_px=(40, 30))
    corners = [
        door(**told).admit([beam])[0].framing.corner
        for told, beam in (({"beam_px": (20, 21)}, start), ({}, start), ({}, replace(start, beam_px=None)))
    ]
    assert corners == [(4, 5), (24, 14), (21, 17)]


def test_cropping_about_the_middle_is_told_and_cropping_about_the_beam_is_not():
    start = ScanStart("s", WHOLE, np.dtype("<u2"))
    assert door(beam_px=(40, 30)).admit([start])[0].notes == ()
    ((about, line),) = door().admit([start])[0].notes
    assert about == "crop"
    assert "frames of 75 × 66 are cropped to 32 × 32 about their middle" in line


def test_where_nothing_is_left_to_crop_the_streams_beam_does_not_matter():
    (told,) = door().admit([ScanStart("s", MODEL, np.dtype("<u2"), beam_px=(500.0, 500.0))])
    assert told.framing.leaves_frames


@pytest.mark.parametrize("beam_px", [(532.25, 514.5), None])
@pytest.mark.parametrize("format_", ["dectris-v1", "dectris-v2"])
def test_a_dectris_start_tells_where_the_beam_is(format_, beam_px):
    start = ScanStart("s", (1065, 1030), np.dtype("<u4"), beam_px=beam_px)
    if format_ == "dectris-v1":
        decoder = dectris_v1.DectrisV1Decoder()
        (told,) = decoder.decode(dectris_v1.encode_header(dectris_v1.SentSeries(start, 1)), 0)
    else:
        decoder = dectris_v2.DectrisV2Decoder()
        (told,) = decoder.decode(dectris_v2.encode_start(dectris_v2.SentSeries(start, 1)), 0)
    assert told.beam_px == beam_px


# Whole scans


@pytest.mark.parametrize("way", Orientation)
def test_a_turned_crop_of_a_large_detector_gives_the_very_mosaic(journey, stream, way):
    plain = journey().take(stream()).result()
    lit = np.zeros(WHOLE)
    lit[BEAM_PX] = 1
    beam_px = tuple(np.argwhere(way.inverse.of(lit))[0].tolist())
    sent = detector_turned(
        stream(), way, lies=on_a_detector, beam_px=beam_px, dtype=np.dtype("<u4"), object_pixel_m=None
    )
    run = journey().take(door(orientation=way).admit(sent)).result()
    assert run.ledger.counts().stitched == FRAMES
    for channel in ("amplitude", "phase", "coverage"):
        np.testing.assert_array_equal(run.mosaic.image(channel), plain.mosaic.image(channel))


def test_a_binned_scan_marks_bad_pixels_as_the_engine_knows_them(journey, stream):
    start, *events = stream()
    marked = [
        msgspec.structs.replace(image, counts=np.full((64, 64), 3, np.uint16))
        for image in only(events, Image)
    ]
    marked[0].counts[40, 41] = 65535
    told = journey(batch_frames=1, batch_deadline_s=60.0)
    told.take(door(binning=2).admit([replace(start, frame_shape=(64, 64)), *marked]))
    assert np.argwhere(told.painted[0].counts[0] == 65535).tolist() == [[20, 20]]
    assert set(told.painted[1].counts.ravel().tolist()) == {12}


@pytest.mark.parametrize(
    ("settings", "shape", "line"),
    [
        ({}, (31, 32), "too small for the model's 32 × 32"),
        ({"binning": 3}, WHOLE, "too small for the model's 32 × 32 with a bin of 3"),
        ({"crop": (40, 40)}, WHOLE, "a crop of 40 × 40 with a bin of 1 does not give"),
        ({"beam_px": (60, 30)}, WHOLE, "reaches beyond frames of 75 × 66"),
        ({"mask": np.zeros((9, 9), bool)}, WHOLE, "holds 9 × 9, the detector's frames are 75 × 66"),
    ],
)
def test_a_scan_that_cannot_be_framed_is_refused_in_one_line_and_counted(
    journey, stream, settings, shape, line
):
    start, *frames, end = stream()
    sent = [msgspec.structs.replace(image, counts=np.ones(shape, np.uint16)) for image in frames]
    told = journey().take(door(**settings).admit([replace(start, frame_shape=shape), *sent, end]))
    run = told.result()
    assert run.ledger.counts().dropped == {"frame_shape": FRAMES}
    assert list(run.warnings) == ["frame_shape"]
    assert line in run.warnings["frame_shape"]


def test_after_a_refused_scan_the_next_one_comes_in(journey, stream):
    entrance, told = door(), journey()
    told.take(entrance.admit([ScanStart("small", (8, 8), np.dtype("<u2"), frames=1)]))
    told.take(entrance.admit([Image("small", 0, np.ones((8, 8), np.uint16), 0), ScanEnd("small", 1)]))
    told.take(entrance.admit(stream()))
    assert [run.ledger.counts().stitched for run in told.finished] == [0, FRAMES]


def test_a_frame_of_another_shape_than_its_scan_is_dropped(journey, stream):
    start, *frames, end = stream()
    wide = msgspec.structs.replace(frames[0], counts=np.ones((64, 64), np.uint16))
    run = journey().take(door().admit([start, wide, *frames[1:], end])).result()
    assert run.ledger.counts().dropped == {"frame_shape": 1}


def test_a_model_of_another_shape_counts_from_the_next_scan_on():
    wanted = [MODEL]
    entrance = Door(DoorSettings(), lambda: wanted[0])
    start = ScanStart("first", (64, 64), np.dtype("<u2"))
    image = Image("first", 0, np.ones((64, 64), np.uint16), 0)
    entrance.admit([start])
    wanted[0] = (16, 16)
    (in_first, _, in_second) = entrance.admit(
        [image, replace(start, scan="s"), msgspec.structs.replace(image, scan="s")]
    )
    assert (in_first.counts.shape, in_second.counts.shape) == (MODEL, (16, 16))


def test_a_frame_of_no_known_scan_is_left_to_the_journey_and_scans_are_forgotten():
    entrance = door()
    image = Image("first", 0, np.ones((8, 8), np.uint16), 0)
    assert entrance.admit([image]) == (image,)
    entrance.admit([ScanStart("first", (8, 8), np.dtype("<u2"))])
    assert isinstance(entrance.admit([image])[0], Rejected)
    entrance.admit([ScanStart(f"scan-{n}", MODEL, np.dtype("<u2")) for n in range(32)])
    assert entrance.admit([image]) == (image,)


def test_the_api_tells_what_is_done_at_the_door(journey, stream):
    told = journey().take(door(axes=Orientation.TRANSPOSED).admit(stream()[:2]))
    assert told.run.report(0)["geometry"]["framing"] == {
        "detector_shape": [32, 32], "crop_corner": [0, 0], "crop": [32, 32], "bin": 1,
        "orientation": "as-is", "positions_axes": "x,y",
    }  # fmt: skip


# Settings


def test_settings_say_what_the_door_does(tmp_path):
    np.save(tmp_path / "mask.npy", np.eye(3, dtype=np.uint8))
    flags = {
        "orientation": "rotate90", "positions_axes": "-x,y", "bin": 2, "crop": "256, 128",
        "beam_centre": "532,514.5", "mask": str(tmp_path / "mask.npy"),
    }  # fmt: skip
    told = door_settings(load_settings(flags, None, {}))
    assert (told.orientation, told.axes) == (Orientation.QUARTER_TURN_LEFT, Orientation.of_axes("-x,y"))
    assert (told.binning, told.crop, told.beam_px) == (2, (256, 128), (532.0, 514.5))
    assert told.mask.tolist() == np.eye(3, dtype=bool).tolist()
    assert unturned(load_settings(flags, None, {})).orientation is Orientation.UPRIGHT


@pytest.mark.parametrize("way", Orientation)
def test_every_orientation_and_all_axes_can_be_set(way):
    told = door_settings(load_settings({"orientation": way.setting, "positions_axes": way.axes}, None, {}))
    assert told.orientation is told.axes is way


@pytest.mark.parametrize(
    "flags",
    [
        {"orientation": "sideways"}, {"positions_axes": "y,y"}, {"bin": 0}, {"crop": "256"}, {"crop": "0,8"},
        {"crop": "8,8,8"}, {"beam_centre": "-1,5"}, {"beam_centre": "a,b"},
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_is_refused(flags):
    with pytest.raises(ConfigError, match=next(iter(flags))):
        load_settings(flags, None, {})


def test_a_service_whose_mask_is_missing_does_not_start(serve):
    with pytest.raises(ConfigError, match=r"mask .*absent.npy"):
        serve(mask="/absent.npy")


def test_a_running_service_turns_crops_and_tells_it(serve, stream):
    running = serve(images_format="native", positions_axes="-y,x", orientation="rotate180")
    running.replay()
    run = running.finished()
    assert run.ledger.counts().stitched == FRAMES
    framing = running.get("/api/scans/tiny")["geometry"]["framing"]
    assert (framing["orientation"], framing["positions_axes"]) == ("rotate180", "-y,x")
    assert run.placed()[1][:, 0].max() == 0
