"""Optical flow: estimating it, judging it and warping images by it."""
