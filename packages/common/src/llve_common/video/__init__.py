"""Videos, read and written one frame at a time.

A reader turns every frame upright and into RGB as the file's colour tags say; a writer takes such
frames back, with their times, and copies the source's sound without decoding it. Reading and
writing at once needs memory for a few frames, whatever the clip's length.
"""

from llve_common.video.container import VIDEO_SUFFIXES, is_image, is_video, named_video
from llve_common.video.info import Colour, VideoFrame, VideoInfo
from llve_common.video.reader import VideoReader, open_video
from llve_common.video.writer import OUTPUT_CODECS, OUTPUT_FORMATS, VideoWriter

__all__ = [
    "OUTPUT_CODECS", "OUTPUT_FORMATS", "VIDEO_SUFFIXES", "Colour", "VideoFrame", "VideoInfo",
    "VideoReader", "VideoWriter", "is_image", "is_video", "named_video", "open_video",
]  # fmt: skip
