"""Small clips, made with PyAV alone, so that the reader is not tested by the writer."""

from fractions import Fraction

import av
import numpy as np

from llve_common.video import VideoReader, VideoWriter

WIDTH, HEIGHT = 64, 48
LIMITED, FULL = 1, 2
BT709, BT601 = 1, 6
LUMA = {BT709: (0.2126, 0.7152, 0.0722), BT601: (0.299, 0.587, 0.114)}
ORANGE, TEAL, GREY = (200, 90, 30), (20, 140, 150), (90, 90, 90)


def picture(index=0, width=WIDTH, height=HEIGHT):
    """Four smooth patches of different colours, so that each orientation is another picture."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = ORANGE
    pixels[: height // 2, width // 2 :] = TEAL
    pixels[height // 2 :, : width // 2] = GREY
    pixels[height // 2 :, width // 2 :] = 20 + 5 * index
    return pixels


def noise(index):
    return np.random.default_rng(index).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def make_clip(
    path, *, ticks=range(12), time_base=Fraction(1, 25), rate=25, draw=picture,
    size=(WIDTH, HEIGHT), codec="libx264", pix_fmt="yuv420p", colour=None, tagged=True,
    rotation=None, aspect=None, audio=(), seconds=0.5, options=None, muxer=None,
):  # fmt: skip
    with av.open(path, "w", options=muxer or {}) as container:
        options = {"crf": "4"} if options is None else options
        stream = container.add_stream(codec, rate, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = stream.time_base = time_base
        if colour and tagged:
            stream.color_range, stream.colorspace = colour
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation is not None:
            stream.set_display_rotation(**rotation)
        sounds = [container.add_stream(name, 48000) for name in audio]
        for index, tick in enumerate(ticks):
            frame = encodable(draw(index), pix_fmt, colour)
            frame.pts, frame.time_base = tick, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for number, sound in enumerate(sounds):
            mux_sound(container, sound, seconds=seconds + number / 4)
    return path


def encodable(pixels, pix_fmt, colour):
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    if colour is None:
        return frame
    if pix_fmt == "gray":
        return av.VideoFrame.from_ndarray(to_yuv(pixels, *colour)[0], format="gray")
    frame = av.VideoFrame.from_ndarray(to_yuv(pixels, *colour), format="yuv444p")
    return frame.reformat(format=pix_fmt, threads=1)  # with more, some rows come out wrong


def to_yuv(pixels, colour_range, matrix):
    """H.273's equations, independent of swscale: uint8 (3, H, W) Y, Cb, Cr."""
    rgb = pixels / 255
    red, _, blue = LUMA[matrix]
    luma = rgb @ np.array(LUMA[matrix])
    planes = [luma, (rgb[..., 2] - luma) / 2 / (1 - blue), (rgb[..., 0] - luma) / 2 / (1 - red)]
    scale, offset = ([219, 224, 224], 16) if colour_range == LIMITED else ([255, 255, 255], 0)
    shifts = [offset, 128, 128]
    return np.stack(
        [np.rint(p * k + o).clip(0, 255) for p, k, o in zip(planes, scale, shifts, strict=True)]
    ).astype(np.uint8)


def mux_sound(container, stream, seconds):
    samples = int(48000 * seconds)
    tone = np.random.default_rng(3).integers(-9000, 9000, (1, 2 * samples)).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(tone, format="s16", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
    fitting = av.AudioResampler(stream.format, "stereo", 48000, stream.frame_size or 1024)
    for part in [*fitting.resample(frame), *fitting.resample(None)]:
        container.mux(stream.encode(part))
    container.mux(stream.encode(None))


def sound_packets(path):
    with av.open(path) as container:
        streams = container.streams.audio
        return [
            [(p.pts * p.time_base, bytes(p)) for p in container.demux(s) if p.size]
            for s in streams
            if container.seek(0) is None
        ]


def frames_of(path, **settings):
    with VideoReader(path, **settings) as reader:
        return list(reader)


def video_packets(path):
    """Where each packet of the picture lies in the file, and its size."""
    with av.open(path) as container:
        return [(p.pos, p.size) for p in container.demux(video=0) if p.size]


def copy_clip(source, target, part=None, **settings):
    """The shortest use: read a clip, write it like the source."""
    with (
        VideoReader(source, **(part or {})) as reader,
        VideoWriter(target, reader.info, **settings) as writer,
    ):
        for frame in reader:
            writer.write(frame.pixels, frame.time)
