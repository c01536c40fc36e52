"""Videos are read and written as they are: times, colour, rotation, sound, and damage said."""

import itertools
import os
import random
import resource
import weakref
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from clips import (
    BT601,
    BT709,
    FULL,
    GREY,
    HEIGHT,
    LIMITED,
    ORANGE,
    TEAL,
    WIDTH,
    copy_clip,
    frames_of,
    make_clip,
    mux_sound,
    noise,
    picture,
    sound_packets,
    to_yuv,
    video_packets,
)  # fmt: skip

from llve_common.errors import MediaError
from llve_common.video import OUTPUT_FORMATS, Colour, VideoInfo, VideoReader, VideoWriter


def probe(path):
    with VideoReader(path, threads=1) as reader:
        return reader.info


def times(path):
    return [frame.time for frame in frames_of(path)]


def first_pixels(path):
    return frames_of(path)[0].pixels


def assert_only(folder, *names):
    assert sorted(p.name for p in folder.iterdir()) == sorted(names)


# Reading


def test_info(tmp_path):
    info = probe(make_clip(tmp_path / "a.mp4", audio=("aac",)))
    assert (info.width, info.height, info.rate, info.frames) == (WIDTH, HEIGHT, 25, 12)
    assert info.has_audio
    assert info.colour == Colour()


def test_frames_are_the_pictures_in_order(tmp_path):
    path = make_clip(tmp_path / "a.mp4")
    with VideoReader(path) as reader:
        for index, frame in enumerate(reader):
            assert frame.pixels.dtype == np.uint8
            assert frame.pixels.flags.c_contiguous
            assert frame.time == Fraction(index, 25)
            assert abs(int(frame.pixels[40, 50, 0]) - (20 + 5 * index)) <= 3
    assert index == 11


@pytest.mark.parametrize("colour_range", [LIMITED, FULL])
@pytest.mark.parametrize("matrix", [BT709, BT601])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_range_and_matrix_are_respected_and_written(tmp_path, colour_range, matrix, suffix):
    path = make_clip(tmp_path / f"a{suffix}", colour=(colour_range, matrix))
    colour, pixels = probe(path).colour, first_pixels(path)
    assert (colour.range, colour.matrix) == (colour_range, matrix)
    copy_clip(path, tmp_path / f"b{suffix}")
    assert probe(tmp_path / f"b{suffix}").colour == colour
    with av.open(tmp_path / f"b{suffix}") as container:
        stored = next(container.decode(video=0)).to_ndarray()
    luma, *_ = to_yuv(picture(), colour_range, matrix)
    for at, expected in (((10, 10), ORANGE), ((10, 50), TEAL), ((40, 10), GREY)):
        np.testing.assert_allclose(pixels[at].astype(int), expected, atol=4)
        assert abs(int(stored[at]) - int(luma[at])) <= 2


def test_full_range_that_only_its_tag_tells(tmp_path):
    # FFmpeg's H.264 decoder has a pixel format of its own for full range; its VP9 decoder has not.
    options = {"crf": "4", "cpu-used": "8"}
    path = make_clip(tmp_path / "a.webm", codec="libvpx-vp9", colour=(FULL, BT709), options=options)
    assert probe(path).colour.range == FULL
    np.testing.assert_allclose(first_pixels(path)[10, 10].astype(int), ORANGE, atol=4)


def test_untagged_clip_is_limited_bt601(tmp_path):
    tagged = make_clip(tmp_path / "a.mp4", colour=(LIMITED, BT601))
    untagged = make_clip(tmp_path / "b.mp4", colour=(LIMITED, BT601), tagged=False)
    assert probe(untagged).colour == Colour()
    np.testing.assert_array_equal(first_pixels(untagged), first_pixels(tagged))
    copy_clip(untagged, tmp_path / "c.mp4")
    assert probe(tmp_path / "c.mp4").colour == Colour()
    np.testing.assert_allclose(first_pixels(tmp_path / "c.mp4")[10, 10], ORANGE, atol=5)


@pytest.mark.parametrize(("codec", "pix_fmt"), [("libx264rgb", "rgb24"), ("ffv1", "bgr0")])
def test_rgb_clip(tmp_path, codec, pix_fmt):
    path = make_clip(tmp_path / "a.mkv", codec=codec, pix_fmt=pix_fmt, options={"qp": "0"})
    np.testing.assert_array_equal(first_pixels(path), picture())
    copy_clip(path, tmp_path / "b.mp4")
    colour = probe(tmp_path / "b.mp4").colour
    assert (colour.range, colour.matrix) == (LIMITED, BT709)
    np.testing.assert_allclose(first_pixels(tmp_path / "b.mp4")[10, 10], ORANGE, atol=5)


def test_unsupported_matrix_is_said(tmp_path):
    path = make_clip(tmp_path / "a.mp4", colour=None, options={"x264-params": "colormatrix=YCgCo"})
    with pytest.raises(MediaError, match="colour matrix is not supported") as caught:
        probe(path)
    assert "8" in str(caught.value)


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ({"degrees": 90}, lambda p: np.rot90(p, 1)),
        ({"degrees": 180}, lambda p: np.rot90(p, 2)),
        ({"degrees": 270}, lambda p: np.rot90(p, 3)),
        ({"degrees": 0, "hflip": True}, lambda p: p[:, ::-1]),
        ({"degrees": 90, "hflip": True}, lambda p: np.rot90(p, 1)[:, ::-1]),
        ({"degrees": 270, "vflip": True}, lambda p: np.rot90(p, 3)[::-1]),
    ],
)
def test_rotation_is_applied_and_not_written_again(tmp_path, tag, expected):
    path = make_clip(tmp_path / "a.mp4", rotation=tag)
    upright = expected(picture())
    info = probe(path)
    assert (info.height, info.width) == upright.shape[:2]
    height, width, _ = upright.shape
    middles = slice(height // 4, None, height // 2), slice(width // 4, None, width // 2)
    np.testing.assert_allclose(first_pixels(path)[middles].astype(int), upright[middles], atol=4)
    copy_clip(path, tmp_path / "b.mp4")
    with av.open(tmp_path / "b.mp4") as container:
        assert next(container.decode(video=0)).rotation == 0
    copied = first_pixels(tmp_path / "b.mp4")[middles].astype(int)
    np.testing.assert_allclose(copied, upright[middles], atol=6)


def test_oblique_rotation_is_said(tmp_path):
    path = make_clip(tmp_path / "a.mp4", rotation={"degrees": 30})
    with pytest.raises(MediaError, match="no multiple of 90"):
        probe(path)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(("degrees", "upright"), [(90, Fraction(3, 4)), (180, Fraction(4, 3))])
def test_pixel_aspect_is_turned_with_the_picture_and_kept(tmp_path, suffix, degrees, upright):
    rotation = {"degrees": degrees}
    path = make_clip(tmp_path / "a.mp4", aspect=Fraction(4, 3), rotation=rotation)
    copy_clip(path, tmp_path / f"b{suffix}")
    assert probe(path).pixel_aspect == probe(tmp_path / f"b{suffix}").pixel_aspect == upright


@pytest.mark.parametrize(
    ("codec", "fast"),
    [
        ("libvpx-vp9", {"cpu-used": "8"}),
        ("libvpx", {"cpu-used": "8", "auto-alt-ref": "1", "lag-in-frames": "8"}),
        ("libsvtav1", {"preset": "12"}),
    ],
)
@pytest.mark.parametrize("muxer", [{}, {"live": "1"}], ids=["sized", "of unknown size"])
def test_webm_is_read_whole(tmp_path, codec, fast, muxer):
    if codec not in av.codecs_available:
        pytest.skip(f"this ffmpeg has no {codec}")
    path = make_clip(tmp_path / "a.webm", codec=codec, options=fast, muxer=muxer)
    assert times(path) == [Fraction(40 * i, 1000) for i in range(12)]


def test_avi_that_was_written_to_a_pipe_is_read_whole(tmp_path):
    path = make_clip(tmp_path / "a.avi", codec="mpeg4", options={})
    data = bytearray(path.read_bytes())
    data[4:8] = b"\xff" * 4  # the size, which is filled in at the end
    path.write_bytes(data)
    assert len(times(path)) == 12


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "text", "sound", "no moov"])
def test_what_is_no_video_is_said_once(tmp_path, kind):
    path = tmp_path / "a.mp4"
    expected = {
        "missing": "no such file", "folder": "a folder", "empty": "empty", "text": "not a video",
        "sound": "no video stream", "no moov": "cut off",
    }[kind]  # fmt: skip
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("This is no video.\n" * 50)
    elif kind == "sound":
        with av.open(path, "w") as container:
            mux_sound(container, container.add_stream("aac", 48000), 0.2)
    elif kind == "no moov":
        data = make_clip(path).read_bytes()
        path.write_bytes(data[: len(data) // 2])
    with pytest.raises(MediaError, match=expected) as caught:
        probe(path)
    assert str(path) in str(caught.value)


def test_cover_of_a_music_file_is_no_video(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(path, "w") as container:
        cover = container.add_stream("mjpeg", 1)
        cover.width, cover.height, cover.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        sound = container.add_stream("aac", 48000)
        container.mux(cover.encode(av.VideoFrame.from_ndarray(picture(), format="rgb24")))
        container.mux(cover.encode(None))
        mux_sound(container, sound, 0.2)
    with pytest.raises(MediaError, match="no video stream"):
        probe(path)


def test_name_that_looks_like_a_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "plain.mp4").rename("take:1 %03d.mp4")
    copy_clip("take:1 %03d.mp4", "pipe:1.mp4")
    assert probe("pipe:1.mp4").frames == 12


# Damage


def read_to_damage(path, threads):
    """Read until the error; return the frames' numbers, which are their times times the rate."""
    seen = []
    with pytest.raises(MediaError) as caught, VideoReader(path, threads=threads) as reader:
        seen.extend(int(frame.time * 25) for frame in reader)
    assert str(path) in str(caught.value)
    return seen, str(caught.value)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("name", "codec", "share"),
    [
        ("faststart.mp4", "libx264", 0.5), ("a.mkv", "libx264", 0.5), ("a.mkv", "libx264", 0.9),
        ("a.webm", "libvpx-vp9", 0.5), ("a.avi", "mpeg4", 0.5),
    ],
)  # fmt: skip
@pytest.mark.parametrize("between_packets", [True, False])
def test_cut_file(tmp_path, name, codec, share, threads, between_packets):
    fast = {"cpu-used": "8"} if codec == "libvpx-vp9" else {}
    muxer = {"movflags": "+faststart"} if name.endswith("mp4") else None
    settings = {"codec": codec, "options": fast, "muxer": muxer}
    whole = make_clip(tmp_path / name, draw=noise, ticks=range(20), **settings)
    packets = video_packets(whole)
    pos, size = packets[int(len(packets) * share)]
    cut = tmp_path / f"cut-{name}"
    cut.write_bytes(whole.read_bytes()[: pos if between_packets else pos + size // 2])
    seen, message = read_to_damage(cut, threads)
    assert seen == list(range(seen[0], seen[0] + len(seen)))
    assert len(packets) * share - 6 <= len(seen) <= len(packets) * share
    assert f"frame {len(seen)} " in message


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("h.mp4", "libx265"), ("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4")],
)
@pytest.mark.parametrize("damaged", [0, 7, 15])
def test_no_frame_is_passed_over(tmp_path, name, codec, threads, damaged):
    options = {"libx265": {"x265-params": "log-level=none"}, "libvpx-vp9": {"cpu-used": "8"}}
    path = make_clip(
        tmp_path / name, codec=codec, draw=noise, ticks=range(16), options=options.get(codec, {})
    )
    pos, size = video_packets(path)[damaged]
    data = bytearray(path.read_bytes())
    data[pos + 4 : pos + size] = random.Random(1).randbytes(size - 4)
    path.write_bytes(data)
    seen, message = read_to_damage(path, threads)
    assert seen == list(range(len(seen)))
    assert len(seen) < 16
    assert f"frame {len(seen)} " in message


def test_clip_trimmed_by_an_edit_list_is_whole(tmp_path):
    path = make_clip(tmp_path / "a.mp4")
    data = bytearray(path.read_bytes())
    edits = data.index(b"elst")
    data[edits + 12 : edits + 16] = int(0.24 * 1000).to_bytes(4, "big")
    path.write_bytes(data)
    assert times(path) == [Fraction(i, 25) for i in range(6)]


def test_concealed_damage_is_damage(tmp_path):
    """Here the decoder delivers the frame, with what it could guess in the place of the rest."""
    path = make_clip(tmp_path / "a.avi", codec="mpeg4", draw=noise, options={}, ticks=range(24))
    pos, size = video_packets(path)[12]
    data = bytearray(path.read_bytes())
    data[pos + size // 2 : pos + size // 2 + 24] = bytes(24)
    path.write_bytes(data)
    seen, message = read_to_damage(path, threads=1)
    assert seen == list(range(12))
    assert "conceal" in message
    assert "0.480 s" in message


def test_half_a_frame_is_no_frame(tmp_path):
    """A JPEG decoder takes half a picture for a whole one; only the packet tells."""
    coding = {"codec": "mjpeg", "pix_fmt": "yuvj420p", "options": {}}
    path = make_clip(tmp_path / "a.mp4", draw=noise, muxer={"movflags": "+faststart"}, **coding)
    pos, size = video_packets(path)[7]
    path.write_bytes(path.read_bytes()[: pos + size // 2])
    assert read_to_damage(path, threads=1)[0] == list(range(7))


def test_hole_in_a_transport_stream(tmp_path):
    path = make_clip(tmp_path / "a.mts", draw=noise, options={"bf": "0"})
    data = path.read_bytes()
    hole = len(data) // 188 // 2 * 188
    path.write_bytes(data[:hole] + data[hole + 188 :])
    with pytest.raises(MediaError, match="damaged"):
        times(path)


def test_clip_that_begins_with_an_open_group_is_read_from_its_key_frame(tmp_path):
    # The frames that are shown before the key frame refer to what was cut away.
    options = {"x265-params": "log-level=none:keyint=8:open-gop=1:scenecut=0:b-adapt=0:bframes=3"}
    path = make_clip(
        tmp_path / "a.mp4", codec="libx265", draw=noise, ticks=range(20), options=options
    )
    with av.open(path) as whole, av.open(tmp_path / "b.mkv", "w") as part:
        stream = part.add_stream_from_template(whole.streams.video[0])
        packets = [p for p in whole.demux(video=0) if p.size]
        second_key = [i for i, p in enumerate(packets) if p.is_keyframe][1]
        kept = [p.pts for p in packets[second_key:]]
        for packet in packets[second_key:]:
            packet.stream = stream
            part.mux(packet)
    leading = sum(pts < kept[0] for pts in kept)
    assert leading > 0
    assert len(times(tmp_path / "b.mkv")) == len(kept) - leading


def test_frames_that_change_their_size_are_scaled_to_the_first(tmp_path, caplog):
    parts = []
    for number, size in enumerate([(WIDTH, HEIGHT), (HEIGHT, WIDTH)]):
        part = tmp_path / f"{number}.h264"
        make_clip(part, size=size, draw=lambda i, s=size: picture(i, *s))
        parts.append(part.read_bytes())
    path = tmp_path / "a.mpg"
    path.write_bytes(b"".join(parts))
    frames = [frame.pixels for frame in frames_of(path)]
    assert len(frames) == 24
    assert {frame.shape for frame in frames} == {(HEIGHT, WIDTH, 3)}
    np.testing.assert_allclose(frames[-1][10, 10].astype(int), ORANGE, atol=6)
    assert caplog.text.count("change their size") == 1


# Writing


@pytest.mark.parametrize("suffix", sorted(OUTPUT_FORMATS))
@pytest.mark.parametrize(
    ("ticks", "time_base", "rate"),
    [
        (range(0, 12 * 1001, 1001), Fraction(1, 30000), Fraction(30000, 1001)),
        ([0, 40, 80, 200, 210, 333, 1000, 1001, 1500], Fraction(1, 1000), 6),
        ([120, 160, 200, 240], Fraction(1, 1000), 25),
        ([0], Fraction(1, 25), 25),
    ],
    ids=["constant", "variable", "starts late", "one frame"],
)
def test_times_and_rate_survive(tmp_path, suffix, ticks, time_base, rate):
    source = make_clip(tmp_path / f"a{suffix}", ticks=ticks, time_base=time_base, rate=rate)
    copy_clip(source, tmp_path / f"b{suffix}")
    tolerance = Fraction(0) if suffix != ".mkv" else Fraction(1, 1000)
    for tick, time in zip(ticks, times(source), strict=True):
        assert abs(time - (tick - ticks[0]) * time_base) <= tolerance
    assert times(tmp_path / f"b{suffix}") == times(source)
    rate, expected = probe(tmp_path / f"b{suffix}").rate, probe(source).rate
    steps = {later - earlier for earlier, later in itertools.pairwise(ticks)}
    if len(steps) <= 1:
        assert rate == expected
    else:
        # MP4 counts up to the last coded frame, which need not be the last one shown.
        assert abs(len(ticks) / rate - len(ticks) / expected) <= max(steps) * time_base


def test_matroska_to_mp4_keeps_times(tmp_path):
    source = make_clip(tmp_path / "a.mkv", audio=("aac",), rate=30, time_base=Fraction(1, 30))
    copy_clip(source, tmp_path / "b.mp4")
    assert times(tmp_path / "b.mp4") == times(source)
    assert sound_packets(tmp_path / "b.mp4")[0][5] == sound_packets(source)[0][5]


def test_mp4_to_matroska_keeps_times_with_the_silence_before_0(tmp_path):
    source = make_clip(tmp_path / "a.mp4", audio=("aac",))
    copy_clip(source, tmp_path / "b.mkv")
    with av.open(tmp_path / "b.mkv") as container:
        written = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    assert written == times(source)
    (before,) = sound_packets(source)
    with av.open(tmp_path / "b.mkv") as container:
        after = [(p.pts * p.time_base, bytes(p)) for p in container.demux(audio=0) if p.size]
    assert before[0][0] < 0
    for (early, data), (late, copied) in zip(before, after, strict=True):
        assert copied == data
        assert abs(late - early) <= Fraction(1, 1000)


@pytest.mark.parametrize("suffix", sorted(OUTPUT_FORMATS))
def test_primaries_and_transfer_are_written(tmp_path, suffix):
    colour = Colour(range=LIMITED, matrix=9, primaries=9, transfer=14)
    like = VideoInfo(tmp_path, WIDTH, HEIGHT, Fraction(25), Fraction(1, 25), colour=colour)
    with VideoWriter(tmp_path / f"a{suffix}", like) as writer:
        writer.write(picture(), Fraction(0))
    assert probe(tmp_path / f"a{suffix}").colour == colour


@pytest.mark.parametrize(
    ("suffix", "audio"),
    [
        *itertools.product(sorted(OUTPUT_FORMATS), [("aac", "libmp3lame"), ("pcm_s16le",)]),
        *itertools.product([".mp4", ".mkv"], [("aac",), ("libopus",)]),
    ],
)
def test_sound_is_copied(tmp_path, suffix, audio):
    source = make_clip(tmp_path / f"a{suffix}", audio=audio)
    copy_clip(source, tmp_path / f"b{suffix}")
    expected = sound_packets(source)
    assert len(expected) == len(audio)
    assert all(len(stream) > 3 for stream in expected)
    assert sound_packets(tmp_path / f"b{suffix}") == expected
    assert times(tmp_path / f"b{suffix}") == times(source)


def test_sound_is_interleaved_with_the_picture(tmp_path):
    # Longer than the 10 s for which ffmpeg's muxer waits for the other stream.
    slow = {"ticks": range(25), "time_base": Fraction(1), "rate": 1, "seconds": 25}
    source = make_clip(tmp_path / "a.mp4", audio=("aac",), **slow)
    copy_clip(source, tmp_path / "b.mp4")
    with av.open(tmp_path / "b.mp4") as container:
        packets = sorted((p for p in container.demux() if p.size), key=lambda p: p.pos)
        due = [p.dts * p.time_base for p in packets]
    for earlier, later in itertools.pairwise(due):
        assert later > earlier - 2


def test_sound_language_is_kept(tmp_path):
    plain = make_clip(tmp_path / "a.mkv", audio=("aac",))
    source = tmp_path / "b.mkv"
    with av.open(plain) as container, av.open(source, "w") as tagged:
        copies = [tagged.add_stream_from_template(s) for s in container.streams]
        copies[1].metadata["language"] = "fin"
        for packet in container.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                tagged.mux(packet)
    copy_clip(source, tmp_path / "c.mkv")
    with av.open(tmp_path / "c.mkv") as container:
        assert container.streams.audio[0].language == "fin"


@pytest.mark.parametrize(("width", "height"), [(33, 25), (32, 25), (33, 24), (1, 1)])
def test_odd_sides_lose_nothing(tmp_path, width, height):
    like = VideoInfo(tmp_path, width, height, Fraction(25), Fraction(1, 25))
    drawn = np.zeros((height, width, 3), np.uint8)
    drawn[-1], drawn[:, -1] = 250, 250
    with VideoWriter(tmp_path / "a.mp4", like) as writer:
        writer.write(drawn, Fraction(0))
    pixels = first_pixels(tmp_path / "a.mp4")
    assert pixels.shape == drawn.shape
    np.testing.assert_allclose(pixels.astype(int), drawn, atol=30)


def test_quality_is_a_setting(tmp_path):
    source = make_clip(tmp_path / "a.mp4", draw=noise)
    copy_clip(source, tmp_path / "fine.mp4", crf=10)
    copy_clip(source, tmp_path / "coarse.mp4", crf=40)
    assert (tmp_path / "coarse.mp4").stat().st_size < (tmp_path / "fine.mp4").stat().st_size / 2


@pytest.fixture
def like(tmp_path_factory):
    return probe(make_clip(tmp_path_factory.mktemp("source") / "a.mp4", audio=("aac",)))


@pytest.mark.parametrize("name", ["a.webm", "a.avi", "a.png", "a"])
def test_suffix_that_cannot_be_written(tmp_path, like, name):
    with pytest.raises(MediaError, match="cannot be written"):
        VideoWriter(tmp_path / name, like)
    assert_only(tmp_path)


def test_existing_target_is_replaced_only_at_the_end(tmp_path, like):
    target = tmp_path / "a.mp4"
    target.write_bytes(b"what was there")
    with VideoWriter(target, like) as writer:
        writer.write(picture(), Fraction(0))
        assert target.read_bytes() == b"what was there"
        temporary = [p for p in tmp_path.iterdir() if p != target]
        assert [p.suffix for p in temporary] == [".mp4"]
    assert_only(tmp_path, "a.mp4")
    assert probe(target).frames == 1


def test_video_without_frames_is_an_error(tmp_path, like):
    with (
        pytest.raises(MediaError, match="no frame was written"),
        VideoWriter(tmp_path / "a.mp4", like),
    ):
        pass
    assert_only(tmp_path)


@pytest.mark.parametrize("step", [Fraction(0), Fraction(-1, 25), Fraction(1, 10**6)])
def test_times_must_increase(tmp_path, like, step):
    with VideoWriter(tmp_path / "a.mp4", like) as writer:
        writer.write(picture(), Fraction(2, 25))
        with pytest.raises(MediaError, match="do not increase"):
            writer.write(picture(), Fraction(2, 25) + step)
    assert_only(tmp_path, "a.mp4")


@pytest.mark.parametrize(
    "wrong", [np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8), np.zeros((HEIGHT, WIDTH, 3), np.float32)]
)
def test_frame_of_another_shape_or_type(tmp_path, like, wrong):
    with (
        pytest.raises(ValueError, match="one size"),
        VideoWriter(tmp_path / "a.mp4", like) as writer,
    ):
        writer.write(wrong, Fraction(0))


def test_source_cut_within_its_sound(tmp_path):
    source = make_clip(tmp_path / "a.mp4", audio=("pcm_s16le",), muxer={"movflags": "+faststart"})
    info = probe(source)
    source.write_bytes(source.read_bytes()[:-20000])
    with (
        pytest.raises(MediaError, match="sound is damaged"),
        VideoWriter(tmp_path / "b.mp4", info) as writer,
    ):
        writer.write(picture(), Fraction(0))
    assert_only(tmp_path, "a.mp4")


def fill(folder, like):
    """Write noise, which does not compress."""
    with VideoWriter(folder / "a.mp4", like, crf=1) as writer:
        for index in range(20):
            writer.write(noise(index), Fraction(index, 25))


@pytest.mark.parametrize("place", ["header", "middle", "last byte"])
def test_file_size_limit(tmp_path, like, place):
    """What a full disk does, without the rights to mount one."""
    fill(tmp_path, like)
    before = (tmp_path / "a.mp4").read_bytes()
    size = len(before)
    limit = {"header": 100, "middle": size // 2, "last byte": size - 1}[place]
    whole = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, whole[1]))
        with pytest.raises(MediaError, match="cannot be written") as caught:
            fill(tmp_path, like)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, whole)
    assert "too large" in str(caught.value)
    assert_only(tmp_path, "a.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == before


@pytest.mark.parametrize("name", ["no/such/folder/a.mp4", "file/a.mp4"])
def test_folder_that_does_not_exist(tmp_path, like, name):
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match="cannot be written"):
        VideoWriter(tmp_path / name, like)


# Memory


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_memory_does_not_grow_with_the_clip(tmp_path):
    size = 640, 480
    grey, fast = np.full((480, 640, 3), 90, np.uint8), {"preset": "ultrafast"}
    path = tmp_path / "a.mp4"
    make_clip(path, size=size, draw=lambda _: grey, ticks=range(120), options=fast)
    with VideoReader(path, threads=2) as reader:
        for index, _ in enumerate(reader):
            if index == 20:
                early = resident_bytes()
        grown = resident_bytes() - early
    assert index == 119
    assert grown < 20 * 640 * 480 * 3


def test_frames_are_not_kept(tmp_path, like):
    """A reader and a writer hold no frame once it is handed over."""
    kept = []
    with VideoReader(like.path) as reader, VideoWriter(tmp_path / "a.mp4", like) as writer:
        for frame in reader:
            kept.append(weakref.ref(frame.pixels))
            writer.write(frame.pixels, frame.time)
            del frame
            assert sum(pixels() is not None for pixels in kept) == 0
    assert len(kept) == 12
