"""DKMv3: dense kernelised feature matching, of our own, for the published weights.

Edstedt, Athanasiadis, Wadenbäck, Felsberg, *DKM: Dense Kernelized Feature Matching for Geometry
Estimation*, CVPR 2023. Where the paper and the released model differ, this is the released model.

Two images A and B. Positions are (x, y) in [-1, 1] from border to border: pixel column j of W is
at ``x = -1 + (2 j + 1) / W``, and rows alike (``align_corners=False``). A *flow* (N, 2, H, W) holds
for every pixel of one image the position of its match in the other: never a displacement. A
*certainty* is a logit until the last step.
"""
