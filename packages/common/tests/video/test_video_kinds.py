"""What people bring: every video comes out right, or says why."""

import io
import re
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import (
    BT601,
    BT709,
    FULL,
    LIMITED,
    ORANGE,
    copy_clip,
    frames_of,
    make_clip,
    mux_sound,
    noise,
    picture,
    sound_packets,
    to_yuv,
    video_packets,
)
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from llve_common.clips.frames import as_video, open_sink, open_source
from llve_common.clips.pipes import Raw, raw_source
from llve_common.errors import ConfigError, MediaError
from llve_common.io.images import write_image
from llve_common.video import (
    OUTPUT_CODECS,
    OUTPUT_FORMATS,
    VIDEO_SUFFIXES,
    VideoReader,
    VideoWriter,
    is_image,
    is_video,
)


def stored_frames(path):
    with av.open(path) as container:
        return list(container.decode(video=0))


def plane_clip(path, pix_fmt, luma, *chroma, size=(64, 48), tags=(), codec="ffv1"):
    """A clip of flat planes, a frame for each luma; tags as PyAV names them."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, 25)
        (stream.width, stream.height), stream.pix_fmt = size, pix_fmt
        stream.time_base = Fraction(1, 25)
        for name, value in dict(tags).items():
            setattr(stream.codec_context, name, value)
        for number, level in enumerate([luma] if isinstance(luma, int) else luma):
            frame = av.VideoFrame(*size, pix_fmt)
            for plane, value in zip(frame.planes, (level, *chroma), strict=True):
                samples = np.full(
                    plane.buffer_size, value, np.uint16 if "10" in pix_fmt else np.uint8
                )
                plane.update(samples.tobytes()[: plane.buffer_size])
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


# Colour


@pytest.mark.parametrize(
    ("pix_fmt", "planes", "tags", "expected"),
    [
        # Studio range in 10 bits: the darkest values are those that matter here.
        *(("yuv420p10le", (4 * y, 512, 512), {}, level) for y, level in
          [(16, 0), (20, 5), (24, 9), (64, 56), (235, 255)]),
        *(("yuv420p", (y, 128, 128), {}, level) for y, level in [(17, 1), (20, 5), (100, 98)]),
        ("yuv420p10le", (400, 400, 600), {}, (133, 68, 43)),
        ("gray", (100,), {"color_range": LIMITED}, 98),
        ("gray10le", (400,), {"color_range": LIMITED}, 98),
        ("gray", (100,), {"color_range": FULL}, 100),
    ],
)  # fmt: skip
def test_colours_are_exact(tmp_path, pix_fmt, planes, tags, expected):
    path = plane_clip(tmp_path / "a.mkv", pix_fmt, *planes, size=(320, 240), tags=tags)
    pixels = frames_of(path)[0].pixels
    if pix_fmt == "yuv420p10le" and planes[1] != 512:
        luma, blue, red = (planes[0] / 4 - 16) / 219, *((c / 4 - 128) / 224 for c in planes[1:])
        green = luma - (0.114 * 1.772 * blue + 0.299 * 1.402 * red) / 0.587
        expected = np.rint(255 * np.array([luma + 1.402 * red, green, luma + 1.772 * blue]))
    np.testing.assert_array_equal(pixels, np.broadcast_to(expected, pixels.shape))


@pytest.mark.parametrize("pix_fmt", ["gray", "yuvj420p", "yuv420p"])
def test_grey_stays_grey(tmp_path, pix_fmt):
    neutral = [128] * (pix_fmt != "gray") * 2
    coding = {"size": (320, 240), "codec": "libx264"}
    path = plane_clip(tmp_path / "a.mp4", pix_fmt, 108, *neutral, **coding)
    copy_clip(path, tmp_path / "b.mp4")
    assert np.unique(stored_frames(tmp_path / "b.mp4")[0].to_ndarray()[240:]) == 128
    before, after = frames_of(path)[0].pixels, frames_of(tmp_path / "b.mp4")[0].pixels
    assert len(np.unique(before)) == 1
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize(("name", "codec"), [("a.apng", "apng"), ("a.mov", "png")])
@pytest.mark.parametrize("pix_fmt", ["gray", "ya8"])
def test_grey_png_that_moves_has_no_matrix(tmp_path, name, codec, pix_fmt):
    path = plane_clip(tmp_path / name, pix_fmt, (108, 9), codec=codec)
    copy_clip(path, tmp_path / "b.mp4")
    for video in (path, tmp_path / "b.mp4"):
        assert [np.unique(frame.pixels).tolist() for frame in frames_of(video)] == [[108], [9]]


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_high_dynamic_range_is_mapped_to_bt709_and_tagged_so(tmp_path, caplog, transfer, name):
    tags = {"color_trc": transfer, "color_primaries": 9, "colorspace": 9, "color_range": LIMITED}
    path, codes = tmp_path / "a.mkv", (64, 200, 509, 940)
    plane_clip(path, "yuv420p10le", codes, 512, 512, tags=tags)
    with VideoReader(path) as reader, VideoWriter(tmp_path / "b.mp4", reader.info) as writer:
        frames = list(reader)
        writer.write(frames[0].pixels, frames[0].time)
    assert max(np.ptp(frame.pixels) for frame in frames) <= 1
    levels = [int(frame.pixels[0, 0, 0]) for frame in frames]
    # What would be shown at 100 cd/m2 is far from black, and no brighter tone is cut off.
    assert levels[0] == 0
    assert 110 < levels[2] < 220
    assert levels == sorted(set(levels))
    assert levels[3] >= 250
    assert caplog.text.count(f"({name})") == 1
    stored = stored_frames(tmp_path / "b.mp4")[0]
    assert (stored.colorspace, stored.color_primaries, stored.color_trc) == (1, 1, 1)


@pytest.mark.parametrize("name", ["frames", "a.webp", "a.gif", "raw"])
def test_what_is_made_of_rgb_is_bt709_and_tagged_so(tmp_path, name):
    """Players take HD for that where no tag says otherwise; MP4 keeps all tags or none."""
    path = tmp_path / name
    if name == "frames":
        write_image(path / "0.png", picture())
    elif name != "raw":
        options = {"lossless": True} if name == "a.webp" else {}
        animated(path, path.suffix[1:], 2, **options)
    raw = raw_source(io.BytesIO(picture().tobytes()), Raw(64, 48, Fraction(25)))
    with nullcontext(raw) if name == "raw" else open_source(path) as source:
        source = as_video(source, None, None)
        with open_sink(tmp_path / "b.mp4", source, crf=0) as write:
            write(next(source.frames))
    (stored,) = stored_frames(tmp_path / "b.mp4")
    tags = (stored.color_range, stored.colorspace, stored.color_primaries, stored.color_trc)
    assert tags == (LIMITED, BT709, BT709, BT709)
    assert b"colr" in (tmp_path / "b.mp4").read_bytes()
    expected = to_yuv(np.full((1, 1, 3), ORANGE, np.uint8), LIMITED, BT709).ravel().tolist()
    assert [memoryview(plane)[0] for plane in stored.planes] == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv422p", "yuv420p"])
def test_chroma_sampling_is_kept(tmp_path, pix_fmt):
    copy_clip(make_clip(tmp_path / "a.mp4", pix_fmt=pix_fmt), tmp_path / "b.mp4")
    assert stored_frames(tmp_path / "b.mp4")[0].format.name == pix_fmt
    with av.open(tmp_path / "b.mp4") as container:
        assert container.streams.video[0].codec_context.name == "h264"


def test_ffv1_keeps_every_pixel(tmp_path):
    source = make_clip(tmp_path / "a.mp4", draw=noise)
    copy_clip(source, tmp_path / "b.mkv", codec="ffv1")
    for before, after in zip(frames_of(source), frames_of(tmp_path / "b.mkv"), strict=True):
        np.testing.assert_array_equal(before.pixels, after.pixels)


@pytest.mark.parametrize(
    "coding", [{"codec": "xvid"}, {"crf": 52}, {"crf": -1}, {"codec": "ffv1", "crf": 0}]
)
def test_coding_that_does_not_exist(tmp_path, coding):
    with pytest.raises(ConfigError, match="no such"):
        copy_clip(make_clip(tmp_path / "a.mp4"), tmp_path / "b.mkv", **coding)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_transparency_and_the_choice_of_a_stream_are_said(tmp_path, caplog):
    path = tmp_path / "a.mkv"
    with av.open(path, "w") as container:
        for size, pix_fmt in [((32, 24), "yuv420p"), ((64, 48), "yuva420p")]:
            stream = container.add_stream("ffv1", 25)
            (stream.width, stream.height), stream.pix_fmt = size, pix_fmt
        for stream in container.streams:
            frame = av.VideoFrame.from_ndarray(picture(0, stream.width, stream.height))
            container.mux([*stream.encode(frame), *stream.encode(None)])
    (frame,) = frames_of(path)
    assert frame.pixels.shape == (48, 64, 3)
    assert "of 2 video streams, number 1 (64x48)" in caplog.text
    plane_clip(path, "yuva420p", 100, 128, 128, 90)
    frames_of(path)
    assert "transparency is not kept" in caplog.text


def test_interlaced_frames_are_deinterlaced(tmp_path, caplog):
    def comb(index):
        pixels = np.zeros((48, 64, 3), np.uint8)
        pixels[index % 2 :: 2] = 200
        return pixels

    options = {"x264-params": "interlaced=1", "crf": "4"}
    path = make_clip(tmp_path / "a.mp4", draw=comb, options=options, rotation={"degrees": 180})
    frames = frames_of(path)
    assert [frame.time for frame in frames] == [Fraction(i, 25) for i in range(12)]
    luma = frames[6].pixels[8:-8, 8:-8, 0].astype(int)
    assert np.abs(np.diff(luma, axis=0)).max() < 60
    assert caplog.text.count("deinterlaced") == 1
    copy_clip(path, tmp_path / "b.mp4")
    assert not stored_frames(tmp_path / "b.mp4")[0].interlaced_frame


# Times


def test_a_clock_that_starts_late_starts_at_0(tmp_path):
    late = {"muxer": {"output_ts_offset": "36000"}, "audio": ("aac",)}
    path = make_clip(tmp_path / "a.ts", ticks=range(25), seconds=1, **late)
    copy_clip(path, tmp_path / "b.mp4")
    assert [frame.time for frame in frames_of(path)] == [Fraction(i, 25) for i in range(25)]
    with av.open(tmp_path / "b.mp4") as container:
        assert container.duration < 1.1 * av.time_base
    (before,), (after,) = sound_packets(path), sound_packets(tmp_path / "b.mp4")
    with VideoReader(path) as reader:
        for (early, _), (late, _) in zip(before, after, strict=True):
            assert abs(early - reader.info.origin - late) < Fraction(1, 1000)


@pytest.mark.parametrize("b_frames", [0, 3])
def test_avi_has_a_frame_in_every_place(tmp_path, b_frames):
    path = make_clip(tmp_path / "a.avi", draw=noise, options={"bf": str(b_frames), "crf": "4"})
    whole = make_clip(tmp_path / "b.mp4", draw=noise, options={"bf": str(b_frames), "crf": "4"})
    frames = frames_of(path)
    assert [frame.time for frame in frames] == [Fraction(i, 25) for i in range(12)]
    for frame, same in zip(frames, frames_of(whole), strict=True):
        np.testing.assert_array_equal(frame.pixels, same.pixels)


def rewritten(source, target, change):
    """The same packets of the picture after a change, which makes a list of each."""
    with av.open(source) as old, av.open(target, "w") as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(p for p in old.demux(video=0) if p.size):
            for changed in change(number, packet):
                changed.stream = copy
                new.mux(changed)
    return target


def test_hidden_frames_of_vp9_in_packets_of_their_own(tmp_path):
    options = {"cpu-used": "8", "g": "5"}
    source = make_clip(tmp_path / "a.mp4", codec="libvpx-vp9", options=options)

    def with_hidden(number, packet):
        if not packet.is_keyframe:
            return [packet]
        data = bytes(packet)
        hidden = av.Packet(bytes([data[0] & ~2]) + data[1:])  # the bit says that it is shown
        hidden.pts = hidden.dts = packet.pts - 1
        hidden.time_base, hidden.is_keyframe = packet.time_base, True
        return [hidden, packet]

    path = rewritten(source, tmp_path / "b.nut", with_hidden)
    with av.open(path) as container:
        assert sum(packet.size > 0 for packet in container.demux()) == 12 + 3
    assert len(frames_of(path)) == 12


@pytest.mark.parametrize(
    "time", [lambda n: min(n, 5), lambda n: n - (n == 7)], ids=["stuck", "repeated"]
)
@pytest.mark.parametrize("b_frames", ["0", "3"])
def test_times_that_do_not_increase_are_moved_on(tmp_path, caplog, time, b_frames):
    source = make_clip(tmp_path / "a.mp4", ticks=range(15), options={"bf": b_frames})

    def at(number, packet):
        packet.pts = packet.dts = time(number) * 512
        return [packet]

    copy_clip(rewritten(source, tmp_path / "b.mkv", at), tmp_path / "c.mp4")
    times = [frame.time for frame in frames_of(tmp_path / "c.mp4")]
    assert len(times) == 15
    assert times[-1] < 1
    assert "moved on" in caplog.text


def test_joined_files_go_on(tmp_path, caplog):
    sound = {"audio": ("mp2",), "seconds": 1.8}
    part = make_clip(tmp_path / "a.mkv", ticks=range(45), **sound).read_bytes()
    (tmp_path / "b.mkv").write_bytes(2 * part)
    times = [frame.time for frame in frames_of(tmp_path / "b.mkv")]
    assert np.allclose(np.diff(np.array(times, float)), 0.04, atol=0.021)
    assert len(times) == 90
    copy_clip(tmp_path / "b.mkv", tmp_path / "c.mp4")
    (once,), (twice,) = sound_packets(tmp_path / "a.mkv"), sound_packets(tmp_path / "c.mp4")
    assert [data for _, data in twice] == 2 * [data for _, data in once]
    assert abs(twice[-1][0] - 2 * once[-1][0]) < 0.1
    assert "jump back" in caplog.text


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0, 0.2, range(5)), (1.1, 1.3, range(28, 33)), (1.76, 9, [44]), (0, None, range(45))],
)
def test_part_of_a_clip(tmp_path, suffix, start, end, expected):
    path = make_clip(
        tmp_path / f"a{suffix}", ticks=range(45), options={"g": "12"}, audio=("mp2",), seconds=1.8,
        draw=lambda index: np.full((48, 64, 3), 4 * index + 20, np.uint8),
    )  # fmt: skip
    part = frames_of(path, start=start, end=end)
    assert [round(int(f.pixels[9, 9, 0]) / 4 - 5) for f in part] == list(expected)
    with VideoReader(path, start=start, end=end) as reader:
        assert abs(reader.info.frames - len(part)) <= 1
        info = reader.info
    assert [f.time for f in part] == [Fraction(i, 25) for i in range(len(part))]
    copy_clip(path, tmp_path / "b.mp4", part={"start": start, "end": end})
    (sound,) = sound_packets(tmp_path / "b.mp4")
    whole = sound_packets(path)[0]
    data = [packet for _, packet in whole]
    first = data.index(sound[0][1])
    assert [packet for _, packet in sound] == data[first : first + len(sound)]
    assert abs(whole[first][0] - info.origin - info.start - sound[0][0]) < Fraction(1, 100)
    assert sound[-1][0] < (2 if end is None else end - start)


def test_part_of_every_track_of_a_file_that_is_fragmented(tmp_path):
    fragments = {"muxer": {"movflags": "frag_keyframe+empty_moov"}, "seconds": 1.5}
    path = make_clip(tmp_path / "a.mp4", ticks=range(45), audio=("aac", "aac"), **fragments)
    copy_clip(path, tmp_path / "b.mkv", part={"end": 0.9})
    assert [round(float(track[-1][0]), 1) for track in sound_packets(tmp_path / "b.mkv")] == 2 * [
        0.9
    ]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_what_an_edit_list_cuts_off_is_left_out(tmp_path, suffix):
    whole = make_clip(tmp_path / "whole.mp4", audio=("aac",), ticks=range(40), seconds=1.6)
    with av.open(whole) as source, av.open(tmp_path / "a.mp4", "w") as container:
        copies = [container.add_stream_from_template(stream) for stream in source.streams]
        for packet in source.demux():
            if packet.size:
                shift = round(Fraction(1, 2) / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = copies[packet.stream_index]
                container.mux(packet)
    copy_clip(tmp_path / "a.mp4", tmp_path / f"b{suffix}")
    with av.open(tmp_path / f"b{suffix}") as container:
        packets = [p.pts * p.time_base for p in container.demux(audio=0) if p.size]
    assert -0.1 < packets[0] < 0
    assert abs(packets[-1] - 1.1) < 0.1
    assert frames_of(tmp_path / f"b{suffix}")[0].time == 0
    assert len(frames_of(tmp_path / f"b{suffix}")) == len(frames_of(tmp_path / "a.mp4"))


def test_part_that_is_empty(tmp_path):
    with pytest.raises(MediaError, match="no frames in that part"):
        VideoReader(make_clip(tmp_path / "a.mp4"), start=5)


# Damage


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mkv", "libx264"), ("a.avi", "mpeg4"), ("a.ts", "libx264")]
)
def test_keep_going_writes_what_can_be_decoded(tmp_path, caplog, name, codec):
    path = make_clip(
        tmp_path / name, codec=codec, draw=noise, ticks=range(30), audio=("mp2",), seconds=1.2
    )
    pos, size = video_packets(path)[18]
    path.write_bytes(path.read_bytes()[: pos + size // 2])
    copy_clip(path, tmp_path / "b.mkv", part={"keep_going": True})
    assert 10 < len(frames_of(tmp_path / "b.mkv")) < 25
    assert "the video is damaged" in caplog.text
    with pytest.raises(MediaError, match="damaged"):
        frames_of(path)


def test_a_last_frame_that_is_cut_is_noticed_whatever_the_threads(tmp_path):
    """Of eight threads' readings, ffmpeg hands out one cut frame in ten before it knows."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (12, 240, 320, 3), dtype=np.uint8)
    path = make_clip(tmp_path / "a.ts", size=(320, 240), draw=lambda index: frames[index])
    pos, size = video_packets(path)[-1]
    path.write_bytes(path.read_bytes()[: pos + size // 2])
    for _ in range(12):
        with pytest.raises(MediaError, match="damaged"):
            frames_of(path, threads=8)


def test_keep_going_counts_what_is_lost(tmp_path, caplog):
    path = make_clip(
        tmp_path / "a.mp4", draw=noise, ticks=range(30), options={"g": "10", "bf": "0"}
    )
    pos, size = video_packets(path)[15]
    data = bytearray(path.read_bytes())
    data[pos + 4 : pos + size] = bytes(size - 4)
    path.write_bytes(data)
    times = [frame.time for frame in frames_of(path, keep_going=True)]
    assert times[:15] == [Fraction(i, 25) for i in range(15)]
    assert times[-10:] == [Fraction(i, 25) for i in range(20, 30)]
    assert f"{len(times)} frames are decoded" in caplog.text
    assert f"{30 - len(times)} between them are lost" in caplog.text


# Sound, subtitles and tags


@pytest.mark.parametrize("codec", ["pcm_mulaw", "adpcm_ms", "pcm_u8"])
def test_sound_that_the_container_does_not_take_becomes_aac(tmp_path, caplog, codec):
    path = make_clip(
        tmp_path / "a.avi", codec="mpeg4", options={}, audio=(codec,), ticks=range(25), seconds=1
    )
    copy_clip(path, tmp_path / "b.mp4")
    with av.open(tmp_path / "b.mp4") as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        heard = sum(frame.samples for frame in container.decode(audio=0)) / 48000
    assert abs(heard - 1) < 0.13
    assert f"({codec})" in caplog.text
    assert caplog.text.count("encoded anew as AAC") == 1
    if ".mkv takes it as it is" in caplog.text.replace("which .mkv takes as", ".mkv takes it as"):
        copy_clip(path, tmp_path / "b.mkv")
        assert [p for _, p in sound_packets(tmp_path / "b.mkv")[0]] == [
            p for _, p in sound_packets(path)[0]
        ]


def test_sound_that_is_damaged_where_it_is_encoded_anew(tmp_path, caplog):
    path = make_clip(tmp_path / "a.avi", codec="mpeg4", options={}, audio=("adpcm_ima_wav",))
    data, packet = bytearray(path.read_bytes()), sound_packets(path)[0][5][1]
    data[data.find(packet) + 2] = 255  # a step that its table has not
    path.write_bytes(data)
    with pytest.raises(MediaError, match=r"a\.avi: the sound is damaged"):
        copy_clip(path, tmp_path / "b.mp4")
    copy_clip(path, tmp_path / "b.mp4", part={"keep_going": True})
    assert len(sound_packets(tmp_path / "b.mp4")[0]) > 15
    assert "a.avi: the sound is damaged; 1 pieces of it are left out" in caplog.text


@pytest.mark.parametrize("tracks", [1, 2])
def test_sound_without_a_decoder_is_left_out_beside_other(tmp_path, caplog, tracks):
    """As a phone writes spatial sound beside AAC."""
    path = make_clip(tmp_path / "a.mp4", audio=("aac",) * tracks)
    data = bytearray(path.read_bytes())
    last = data.rfind(b"mp4a")
    data[last : last + 4], config = b"apac", data.find(b"esds", last)
    data[config : config + 4] = b"free"
    path.write_bytes(data)
    if tracks == 1:
        with pytest.raises(MediaError, match="--sound takes that of another file"):
            copy_clip(path, tmp_path / "b.mp4")
    else:
        copy_clip(path, tmp_path / "b.mp4")
        assert sound_packets(tmp_path / "b.mp4") == sound_packets(path)[:1]
        assert "so it is left out" in caplog.text


def tagged_clip(path):
    """A clip with chapters, tags, a time code and subtitles."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", 25)
        stream.width, stream.height = 64, 48
        stream.metadata["timecode"] = "01:02:03:04"
        words = container.add_mux_stream("subrip" if path.suffix == ".mkv" else "mov_text")
        container.metadata.update(
            title="Night", creation_time="2020-01-02T03:04:05.000000Z", location="+48.1-011.5/"
        )
        tick = Fraction(1, 1000)
        chapters = [{"id": n, "start": n, "end": n + 1, "time_base": Fraction(1)} for n in range(2)]
        container.set_chapters([{**c, "metadata": {"title": str(c["id"])}} for c in chapters])
        for index in range(50):
            frame = av.VideoFrame.from_ndarray(picture())
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        text = b"Hello" if path.suffix == ".mkv" else b"\0\5Hello"
        packet = av.Packet(text)
        packet.pts = packet.dts = 500
        packet.duration, packet.time_base, packet.stream = 700, tick, words
        container.mux(packet)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("strip", [False, True])
def test_tags_chapters_subtitles_and_time_code_are_kept_or_stripped(tmp_path, suffix, strip):
    copy_clip(tagged_clip(tmp_path / f"a{suffix}"), tmp_path / f"b{suffix}", strip=strip)
    with av.open(tmp_path / f"b{suffix}") as container:
        tags = {k.lower(): v for s in container.streams for k, v in s.metadata.items()}
        tags |= {key.lower(): value for key, value in container.metadata.items()}
        titles = [chapter["metadata"]["title"] for chapter in container.chapters()]
        text = b"".join(bytes(p) for s in container.streams.subtitles for p in container.demux(s))
    kept = [tags.get(key) for key in ("title", "creation_time", "timecode")]
    assert kept == (
        3 * [None] if strip else ["Night", "2020-01-02T03:04:05.000000Z", "01:02:03:04"]
    )
    assert titles == ([] if strip else ["0", "1"])
    assert (b"Hello" in text) is not strip
    assert ("location" in tags) is not strip


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_tags_of_a_maker_are_kept(tmp_path, suffix):
    with VideoReader(make_clip(tmp_path / "a.mp4")) as reader:
        info = replace(reader.info, metadata={"com.maker.model": "X", "title": "Night"})
        with VideoWriter(tmp_path / f"b{suffix}", info) as writer:
            writer.write(next(reader).pixels, Fraction(0))
    with av.open(tmp_path / f"b{suffix}") as container:
        assert container.metadata["com.maker.model"] == "X"
        assert container.metadata["title"] == "Night"


def test_chapters_of_a_part(tmp_path):
    copy_clip(tagged_clip(tmp_path / "a.mkv"), tmp_path / "b.mkv", part={"start": 0.5, "end": 1.5})
    with av.open(tmp_path / "b.mkv") as container:
        edges = [
            (c["start"] * c["time_base"], c["end"] * c["time_base"]) for c in container.chapters()
        ]
        assert "timecode" not in {key.lower() for key in container.streams.video[0].metadata}
    assert np.allclose(np.array(edges, float), [(0, 0.5), (0.5, 1)], atol=0.03)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_tags_that_are_not_utf_8(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", 25)
        stream.width, stream.height = 64, 48
        container.metadata["title"] = "CafX"
        container.mux([*stream.encode(av.VideoFrame.from_ndarray(picture())), *stream.encode(None)])
    path.write_bytes(path.read_bytes().replace(b"CafX", b"Caf\xe9"))
    copy_clip(path, tmp_path / "b.mkv")
    with av.open(tmp_path / "b.mkv") as container:
        assert container.metadata["title"] == "Café"


# Files


def test_side_data_that_pyav_does_not_know(tmp_path):
    path = tmp_path / "a.mov"
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    with av.open(path, "w") as container:
        stream = container.add_stream("mjpeg", 25)
        (stream.width, stream.height), stream.pix_fmt = (64, 48), "yuvj420p"
        for number in range(3):
            jpeg = io.BytesIO()
            Image.fromarray(picture()).save(jpeg, "JPEG", quality=95, exif=exif)
            packet = av.Packet(jpeg.getvalue())
            packet.pts = packet.dts = number
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 25), stream, True
            container.mux(packet)
    pixels = frames_of(path)[2].pixels
    assert pixels.shape == (64, 48, 3)
    np.testing.assert_allclose(pixels[10, 40].astype(int), picture()[10, 10], atol=12)


@pytest.mark.parametrize("name", ["é" * 125 + ".mp4", "n" * 251 + ".mkv"])
def test_name_as_long_as_names_may_be(tmp_path, name):
    copy_clip(make_clip(tmp_path / "a.mp4"), tmp_path / name)
    assert len(frames_of(tmp_path / name)) == 12


def test_frames_that_no_filter_takes_are_said(tmp_path):
    options = {"x264-params": "interlaced=1"}
    path = make_clip(tmp_path / "a.mp4", size=(2, 8), options=options)
    with pytest.raises(MediaError, match="cannot be converted"):
        frames_of(path)


def test_list_of_files_to_join_is_not_followed(tmp_path):
    make_clip(tmp_path / "private.mp4")
    (tmp_path / "a.mp4").write_text("ffconcat version 1.0\nfile private.mp4\n")
    with pytest.raises(MediaError, match="not a video"):
        frames_of(tmp_path / "a.mp4")


def animated(path, kind, count, draw=picture, **options):
    frames = [Image.fromarray(draw(index)) for index in range(count)]
    options = {"duration": 40, **options}
    frames[0].save(path, kind, save_all=True, append_images=frames[1:], **options)
    return path


ANIMATIONS = [
    ("WEBP", {"lossless": True}, 0),
    ("AVIF", {"quality": 100, "subsampling": "4:4:4"}, 3),
]


@pytest.mark.parametrize(("kind", "options", "tolerance"), ANIMATIONS)
def test_animations_keep_their_times(tmp_path, kind, options, tolerance):
    """A frame that states no duration is shown for a tenth of a second, as a GIF's is."""
    durations = [40, 80, 0 if kind == "WEBP" else 100, 7, 30]
    path = animated(tmp_path / f"a.{kind.lower()}", kind, 5, duration=durations, **options)
    for part, first in ({}, 0), ({"start": 0.1, "end": 0.225}, 2):
        with open_source(path, **part) as source:
            found = list(source.frames)
        times = [Fraction(each, 1000) for each in (0, 40, 120, 220, 227)]
        assert [frame.time + times[first] for frame in found] == times[first : 5 - first // 2]
        for index, frame in enumerate(found, first):
            assert abs(frame.image.pixels.astype(int) - picture(index)).max() <= tolerance
    with pytest.raises(MediaError, match="no frames in that part"), open_source(path, start=2):
        pass


def test_times_of_an_animation_do_not_drift(tmp_path):
    path = animated(tmp_path / "a.avif", "AVIF", 10, duration=33)
    data = path.read_bytes()
    scale = data.index(b"mdhd") + (24 if data[data.index(b"mdhd") + 4] else 16)
    assert data[scale : scale + 4] == (1000).to_bytes(4, "big")
    path.write_bytes(data[:scale] + (990).to_bytes(4, "big") + data[scale + 4 :])
    with open_source(path) as source:
        assert [*source.frames][9].time == Fraction(9, 30)


def test_damaged_animation(tmp_path, caplog):
    path = animated(tmp_path / "whole", "AVIF", 5, noise)
    whole = path.read_bytes()
    path.write_bytes(whole[:-3000] + bytes(3000))
    with pytest.raises(MediaError, match="nothing whole") as raised, open_source(path) as source:
        list(source.frames)
    with open_source(path, keep_going=True) as source:
        whole = len(list(source.frames))
    assert 0 < whole < 5
    assert f"nothing whole from frame {whole} " in str(raised.value)
    assert str(raised.value) in caplog.text


def test_transparency_of_an_animation_is_said(tmp_path, caplog):
    frames = [Image.new("RGBA", (8, 8), (200, level, 9, level)) for level in (90, 10)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    with open_source(tmp_path / "a.webp") as source:
        assert [frame.image.pixels[0, 0, 1] for frame in source.frames] == [90, 10]
    assert caplog.text.count("its transparency is not kept") == 1


def test_a_file_is_told_by_what_it_holds(tmp_path):
    kinds = {"a.ts": "libx264", "a.mts": "mpeg2video", "a.3g2": "mpeg4", "a.mxf": "mpeg2video"}
    for name, codec in {**kinds, "a.asf": "mpeg4", "a.apng": "apng"}.items():
        pix_fmt = "rgb24" if codec == "apng" else "yuv420p"
        path = make_clip(tmp_path / name, codec=codec, options={}, pix_fmt=pix_fmt)
        nameless = path.rename(tmp_path / "nameless")
        assert is_video(nameless), name
        assert len(frames_of(nameless)) == 12, name
        assert is_video(nameless.rename(path))
        assert path.suffix not in OUTPUT_FORMATS
    (tmp_path / "code.ts").write_text("export const night = 1;\n")
    for kind in ("gif", "webp", "avif"):
        animated(tmp_path / f"moving.{kind}", kind, 3)
        animated(tmp_path / f"still.{kind}", kind, 1)
        assert not is_video(tmp_path / f"new.{kind}") or kind == "gif"
    with av.open(tmp_path / "music", "w", format="mp4") as container:
        mux_sound(container, container.add_stream("aac", 48000), 0.2)
    Image.fromarray(picture()).save(tmp_path / "picture", "PNG")
    moving = ["moving.avif", "moving.gif", "moving.webp"]
    told = {path.name: is_video(path) for path in sorted(tmp_path.iterdir()) if path.stem != "a"}
    assert [name for name, video in told.items() if video] == moving
    assert len(told) == 9
    assert not is_video("mp4")


# Everything at once


_KINDS = [
    ("a.mkv", "ffv1", "flac"), ("a.mkv", "libx264", "libopus"), ("a.mp4", "libx264", "aac"),
    ("a.ts", "libx264", "mp2"), ("a.mov", "libx264", "pcm_s16le"), ("a.avi", "ffv1", "pcm_s16le"),
]  # fmt: skip


@st.composite
def clips(draw):
    """What `make_clip` takes, for every codec in a container that has it, and its picture."""
    name, codec, audio = draw(st.sampled_from(_KINDS))
    deep = ["gray", "yuv420p10le"] if name == "a.mkv" and codec == "ffv1" else []
    pix_fmt = draw(st.sampled_from(["yuv420p", "yuv422p", "yuv444p", *deep]))
    # AVI has no place for colour tags; a picture without chroma is full range to its encoder.
    ranges = {"gray": [FULL]}.get(pix_fmt, [LIMITED] if name == "a.avi" else [LIMITED, FULL])
    matrices = [BT601] if name == "a.avi" else [BT709, BT601]
    turns = [None, {"degrees": 90}, {"degrees": 180}] if name in ("a.mp4", "a.mov") else [None]
    side = st.integers(8, 40).map(lambda half: 2 * half)
    rate = draw(st.sampled_from([Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(50)]))
    ticks = sorted(draw(st.sets(st.integers(0, 20), min_size=5, max_size=9)))
    return name, {
        "codec": codec,
        "options": {"qp": "0"} if codec == "libx264" else {},
        "pix_fmt": pix_fmt,
        "size": (draw(side), draw(side)),
        "rate": rate,
        "time_base": 1 / rate,
        "ticks": range(len(ticks)) if name == "a.avi" else [tick - ticks[0] for tick in ticks],
        "audio": draw(st.sampled_from([(), (audio,), (audio, audio)])),
        "colour": (draw(st.sampled_from(ranges)), draw(st.sampled_from(matrices))),
        "rotation": draw(st.sampled_from(turns)),
    }


@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(clip=clips(), colour=st.tuples(*[st.integers(40, 215)] * 3))
def test_any_clip_comes_out_right(tmp_path_factory, clip, colour):
    folder = tmp_path_factory.mktemp("clip")
    name, made = clip
    (width, height), grey = made["size"], made["pix_fmt"] == "gray"
    if grey:
        colour = colour[:1] * 3
    pixels = np.broadcast_to(np.array(colour, np.uint8), (height, width, 3))
    source = make_clip(folder / name, **made, draw=lambda _: pixels)
    target = folder / f"b{source.suffix if source.suffix in {'.mkv', '.mp4', '.mov'} else '.mp4'}"
    copy_clip(source, target, crf=0)
    before, after = frames_of(source), frames_of(target)
    assert {path.name for path in folder.iterdir()} == {name, target.name}
    assert len(after) == len(made["ticks"])
    upright = (width, height) if (made["rotation"] or {}).get("degrees") == 90 else (height, width)
    for tick, old, new in zip(made["ticks"], before, after, strict=True):
        assert abs(new.time - tick * made["time_base"]) <= Fraction(1, 1000)
        assert old.pixels.shape == new.pixels.shape == (*upright, 3)
        # Two levels: what 8 bits of luma and chroma lose.
        assert np.abs(old.pixels.astype(int) - colour).max() <= 2
        assert np.abs(new.pixels.astype(int) - old.pixels).max() <= (
            0 if made["colour"][0] == FULL and grey else 2
        )
    old, new = sound_packets(source), sound_packets(target)
    assert len(old) == len(new) == len(made["audio"])
    with VideoReader(source) as reader:
        origin = reader.info.origin
    for early, late in zip(old, new, strict=True):
        assert b"".join(data for _, data in early) == b"".join(data for _, data in late)
        shifts = early[0][0] - origin - late[0][0]
        assert abs(shifts) <= Fraction(1, 1000)


def test_page_lists_what_is_read_and_written():
    page = (Path(__file__).parents[4] / "docs" / "formats.md").read_text(encoding="utf-8")
    tables = [line for line in page.split("## Videos")[1].splitlines() if line.startswith("| ")]
    rows = [
        line.split("|")[1:-1] for line in tables if "`." in line or "lib" in line or "ffv1" in line
    ]
    kinds, pictures = [row for row in rows if len(row) == 3], {".webp", ".avif"}
    suffixes = [suffix for row in kinds for suffix in re.findall(r"`(\.\w+)`", row[1])]
    assert {*suffixes} == {*VIDEO_SUFFIXES, ".ts", ".mts", ".gif", ".apng", *pictures}
    for _, names, result in kinds:
        for suffix in re.findall(r"`(\.\w+)`", names):
            assert is_video(f"no{suffix}") is (suffix not in pictures)
            assert is_video(Path(f"NO{suffix.upper()}")) is (suffix not in pictures)
            assert (result.strip() == "same") is (suffix in OUTPUT_FORMATS)
    codecs = {re.findall(r"`(\w+)`", row[0])[0]: row[1].strip() for row in rows if len(row) == 4}
    assert codecs == dict(OUTPUT_CODECS)


def test_image_is_known_by_its_suffix():
    assert is_image(Path("a.PNG"))
    assert not is_image(Path("a.txt"))
    assert is_image(Path(".a.png"))  # what lists a folder leaves it out
