"""PSNR, FSIM, and the two definitions of SSIM that published tables use, on 8-bit images.

Tables that say "SSIM" mean different numbers. Both definitions here are those of Wang, Bovik,
Sheikh and Simoncelli, *Image Quality Assessment: From Error Visibility to Structural Similarity*
(2004), with K1 = 0.01, K2 = 0.03 and a data range of 255, computed for each colour channel over the
pixels whose whole window lies inside the image, then averaged:

- ``skimage7``: a uniform 7x7 window and sample covariance (over n - 1), scikit-image's default;
- ``gaussian11``: an 11x11 Gaussian window of sigma 1.5 and population covariance, the paper's own.
"""

import importlib
import math
from collections.abc import Callable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llve_common.config import Ssim
from llve_common.errors import DataError, UserError

Values = NDArray[np.uint8] | NDArray[np.floating]
"""An 8-bit image, or floating values on its scale: 255 is white, and nothing is clipped.

Tables are made of 8-bit images; floating values are for a look at a network's output in training.
"""

_WINDOW = {"skimage7": 7, "gaussian11": 11}
_ROWS = 64
"""So many rows at a time: what SSIM computes on the way then stays in the processor's cache."""


def psnr(image: Values, target: Values) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels; infinite for equal images.

    Both are (H, W, 3) or (H, W), as :data:`Values` says.

    Raises:
        DataError: shapes or types differ.
    """
    _require_alike(image, target)
    error = float(np.mean((image.astype(np.float64) - target.astype(np.float64)) ** 2))
    return 10.0 * math.log10(255.0**2 / error) if error > 0 else math.inf


def ssim(image: Values, target: Values, definition: Ssim) -> float:
    """Structural similarity, mean over pixels and channels; 1 for equal images.

    Both are (H, W, 3) or (H, W), as :data:`Values` says; the module's text has the definitions.

    Raises:
        DataError: shapes or types differ, or a side is shorter than the window.
    """
    _require_alike(image, target)
    window = _WINDOW[definition]
    if min(image.shape[:2]) < window:
        what = f"the image is too small for SSIM ({definition})"
        wide = f"sides of at least {window} pixels"
        raise DataError(what, got=f"{image.shape[1]}x{image.shape[0]}", expected=wide)
    rows = image.shape[0] - window + 1
    parts = [slice(top, min(top + _ROWS, rows) + window - 1) for top in range(0, rows, _ROWS)]
    x, y = (np.moveaxis(np.atleast_3d(each), 2, 0) for each in (image, target))
    total = 0.0
    for plane, other in zip(x, y, strict=True):
        for part in parts:
            total += float(_similarity(plane[part], other[part], definition).sum())
    return float(total / (len(x) * rows * (image.shape[1] - window + 1)))


def fsim(image: NDArray[np.uint8], target: NDArray[np.uint8], *, chromatic: bool = False) -> float:
    """Feature similarity; 1 for equal images.

    Computed by the library piq (extra ``llve-common[fsim]``) in double precision. It agrees with
    the authors' definition to 3e-5, and to 1e-3 at 640 lines, which it reduces by another factor.

    Both images are (H, W, 3), uint8, RGB, with sides of at least 2 pixels; ``chromatic`` is FSIMc,
    which compares the colours too.

    Raises:
        DataError: shapes or types differ or do not fit.
        UserError: piq cannot be imported.

    Source: Zhang, Zhang, Mou, Zhang, "FSIM: A Feature Similarity Index for Image Quality
    Assessment", IEEE Transactions on Image Processing 2011.
    """
    _require_alike(image, target)
    if image.dtype != np.uint8 or image.shape[2:] != (3,) or min(image.shape[:2]) < 2:
        raise DataError(
            "FSIM does not take such images",
            got=f"{image.dtype} {image.shape}",
            expected="uint8 (H, W, 3) with sides of at least 2 pixels",
        )
    planes = (pixels.astype(np.float64).transpose(2, 0, 1)[None] for pixels in (image, target))
    return float(_piq_fsim()(*map(torch.from_numpy, planes), data_range=255, chromatic=chromatic))


def _similarity(image: Values, target: Values, definition: Ssim) -> NDArray[np.float64]:
    """SSIM of one channel, (H, W), at each place of the window inside it."""
    window = _WINDOW[definition]
    x, y = image.astype(np.float64), target.astype(np.float64)
    mean_x, mean_y = _local_mean(x, definition), _local_mean(y, definition)
    # Sample covariance divides by n - 1: the local mean of products is over n.
    unbias = window**2 / (window**2 - 1) if definition == "skimage7" else 1.0
    var_x = unbias * (_local_mean(x * x, definition) - mean_x**2)
    var_y = unbias * (_local_mean(y * y, definition) - mean_y**2)
    cov = unbias * (_local_mean(x * y, definition) - mean_x * mean_y)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * cov + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    )
    return np.asarray(similarity)


def _piq_fsim() -> Callable[..., Tensor]:
    try:
        function: Callable[..., Tensor] = importlib.import_module("piq.fsim").fsim
    except (ImportError, RuntimeError, OSError) as error:
        # A torchvision of another build than torch ends its import by one of the latter two.
        raise UserError(
            "FSIM needs the library piq, which cannot be imported",
            got=error,
            mend="pip install 'llve-common[fsim]', or in a checkout: pip install -e "
            "'packages/common[fsim]'; piq imports torchvision, which must be of torch's own build, "
            "without CUDA: pip install torchvision --index-url "
            "https://download.pytorch.org/whl/cpu",
        ) from error
    return function


def _local_mean(image: NDArray[np.float64], definition: Ssim) -> NDArray[np.float64]:
    window = _WINDOW[definition]
    if definition == "skimage7":
        means = cv2.blur(image, (window, window))
    else:
        kernel = cv2.getGaussianKernel(window, 1.5, cv2.CV_64F)
        means = cv2.sepFilter2D(image, cv2.CV_64F, kernel, kernel)
    border = window // 2
    return np.asarray(means[border:-border, border:-border], np.float64)


def _require_alike(image: Values, target: Values) -> None:
    known = image.dtype == np.uint8 or np.issubdtype(image.dtype, np.floating)
    if image.shape != target.shape or image.dtype != target.dtype or not known:
        raise DataError(
            "the image and its ground truth are not alike",
            got=f"{image.dtype} {image.shape} and {target.dtype} {target.shape}",
            expected="images of one shape and type, uint8 or floating on the scale of 255",
        )
