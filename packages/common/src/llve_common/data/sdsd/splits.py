"""The clips that the published tests of SDSD and SMID use; all others are for training."""

from typing import Literal

Split = Literal["indoor", "outdoor", "smid"]

SDSD_INDOOR_TEST = tuple(f"pair{n}" for n in (13, 15, 21, 23, 31, 33, 50, 52, 58, 60, 68, 70))
SDSD_OUTDOOR_TEST = tuple(f"pair{n}" for n in (1, 5, 14, 36, 46, 48, 49, 60, 62, 63, 66, 75, 76))
SMID_TEST = (
    "0013", "0009", "0020", "0007", "0010", "0012", "0154", "0036", "0037", "0039", "0047", "0048",
    "0049", "0050", "0051", "0052", "0065", "0066", "0075", "0076", "0078", "0088", "0092", "0099",
    "0091", "0103", "0104", "0105", "0106", "0107", "0151", "0145", "0147", "0139", "0129", "0083",
    "0153", "0157", "0180", "0175", "0181", "0196", "0170", "0166", "0172", "0177", "0167", "0169",
    "0191",
)  # fmt: skip
TEST_CLIPS: dict[Split, tuple[str, ...]] = {
    "indoor": SDSD_INDOOR_TEST,
    "outdoor": SDSD_OUTDOOR_TEST,
    "smid": SMID_TEST,
}
