"""Frames through a chain of ffmpeg's filters."""

from __future__ import annotations

from collections.abc import Iterator

import av
from av.error import BlockingIOError as NothingYet
from av.filter import Graph


class FilterChain:
    """Filters, each as ffmpeg's ``name=options``, set up anew where the frames' format changes."""

    def __init__(self, *filters: str) -> None:
        self._filters = filters
        self._graph: Graph | None = None
        self._format: tuple[object, ...] = ()

    def frames(self, frame: av.VideoFrame | None) -> Iterator[av.VideoFrame]:
        """What comes out for one frame in; None ends the stream."""
        if frame is not None:
            form = frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range
            if form != self._format:
                yield from self.frames(None)
                self._graph, self._format = self._set_up(frame), form
        if self._graph is None:
            return
        self._graph.vpush(frame)
        while True:
            try:
                yield self._graph.vpull()
            except (NothingYet, EOFError):
                break
        if frame is None:
            self._graph = None

    def _set_up(self, frame: av.VideoFrame) -> Graph:
        graph = Graph()
        source = graph.add(
            "buffer",
            video_size=f"{frame.width}x{frame.height}",
            pix_fmt=frame.format.name,
            time_base="1/1000000",
            pixel_aspect="1/1",
            colorspace=str(int(frame.colorspace)),
            range=str(int(frame.color_range)),
        )
        inner = [graph.add(*each.split("=", 1)) for each in self._filters]
        graph.link_nodes(source, *inner, graph.add("buffersink"))
        graph.configure()
        return graph
