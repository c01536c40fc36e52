"""Frames that belong together: folders, videos and pipes, read and written in one way."""
