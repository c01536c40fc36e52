"""paper.toml: its form, the files that are here, and the READMEs' tables made of them."""

import json
from pathlib import Path

import pytest
from reproduce.claims import agreeing, claims_file, claims_table, read_claims, show

from llve_common.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(ROOT.glob("packages/*/paper.toml"))
DIGEST = "0" * 64

PAPER = '[paper]\ntitle = "T"\nauthors = "A"\nvenue = "V"\n'
CLAIM = """
[[claim]]
name = "one"
source = "Table 1"
data = "D"
metrics = { psnr = 20.5, ssim = 0.75 }
tolerance = { psnr = 0.005, ssim = 0.0005 }
status = "reproduced"
command = "p test $DATA $WEIGHTS $OUT"
weights = "w.pt"
"""
MEASURED = f"""
[claim.measured]
metrics = {{ psnr = 20.504, ssim = 0.75 }}
command = "p test $DATA $WEIGHTS $OUT"
date = 2026-01-31
versions = {{ torch = "2.13.0" }}
hardware = "2 x processor"
weights_sha256 = "{DIGEST}"
data_sha256 = "{DIGEST}"
"""
COUNTED = """
[claim.counted]
metrics = { psnr = 20.5, ssim = 0.75 }
test = "packages/p/tests/test_network.py::test_size"
"""


@pytest.fixture
def read(tmp_path):
    """Reads text as a paper.toml."""

    def make(*parts):
        (tmp_path / "paper.toml").write_text("".join(parts), encoding="utf-8")
        return read_claims(tmp_path / "paper.toml")

    return make


def test_a_whole_file(read):
    claims = read(PAPER, CLAIM, MEASURED, CLAIM.replace("one", "two"), COUNTED)
    one, two = claims.claim
    assert one.published == {"psnr": 20.5, "ssim": 0.75}
    assert one.found == {"psnr": 20.504, "ssim": 0.75}
    assert str(one.measured.date) == "2026-01-31"
    assert two.found == two.counted.metrics
    assert claims.embedded is None


NOT_RUN = CLAIM.replace("reproduced", "not run: needs D")
SECONDARY = CLAIM.replace("reproduced", "secondary").replace("tolerance", "#")
NOT_AT_HAND = CLAIM.replace("reproduced", "not at hand").replace("20.5", '"not at hand"')


@pytest.mark.parametrize(
    "parts",
    [
        (NOT_RUN,),
        (NOT_AT_HAND.replace("0.75", '"not at hand"'),),
        (SECONDARY,),
        (CLAIM.replace("reproduced", "differs"), MEASURED.replace("20.504", "20.506")),
    ],
    ids=["not run", "not at hand", "secondary", "differs"],
)
def test_every_status(read, parts):
    read(PAPER, *parts)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((CLAIM,), '"reproduced" needs a measured or a counted block'),
        ((CLAIM.replace("reproduced", "differs"),), '"differs" needs a measured or a counted'),
        ((CLAIM, MEASURED, COUNTED), "either measured or counted, not both"),
        ((NOT_RUN, MEASURED), '"not run" has neither'),
        ((SECONDARY.replace("#", "tolerance"),), '"secondary" has no measured or .* tolerance'),
        ((CLAIM, MEASURED.replace("20.504", "20.506")), "do not agree within the tolerance"),
        ((CLAIM.replace("reproduced", "differs"), MEASURED), 'agree within .* "differs"'),
        ((NOT_AT_HAND,), "the status of claims without any figure"),
        ((NOT_RUN.replace("0.75", '"not at hand"'),), "leave out the metrics"),
        ((CLAIM.replace("reproduced", "not run"),), "claim.one.status"),
        ((CLAIM.replace("reproduced", "passed"),), "claim.one.status"),
        ((CLAIM.replace(", ssim = 0.0005", ""), MEASURED), "no tolerance value of ssim"),
        ((CLAIM, MEASURED.replace(", ssim = 0.75", "")), "no measured value of ssim"),
        ((CLAIM, MEASURED.replace("weights_sha256", "#")), r"measured with \$WEIGHTS, whose"),
        ((CLAIM, MEASURED.replace("data_sha256", "#")), r"measured with \$DATA, whose sha256"),
        ((CLAIM, MEASURED.replace(DIGEST, "abc")), "claim.one.measured.weights_sha256"),
        ((CLAIM.replace("weights =", "#"), MEASURED), "go together"),
        ((CLAIM.replace("command =", "#"), MEASURED), "needs the command that runs it"),
        ((CLAIM, MEASURED.replace("hardware", "#")), "claim.one.measured.hardware: Field required"),
        ((CLAIM, COUNTED.replace("::test_size", "")), "claim.one.counted.test"),
        ((CLAIM.replace("source", "sourse"), COUNTED), "unknown key; did you mean 'source'"),
        ((CLAIM.replace("20.5", "nan"), MEASURED), "claim.one.metrics.psnr"),
        ((NOT_RUN, NOT_RUN), "several claims are named one"),
        (("[embedded]",), "claim: Field required"),
        (("[[claim",), "not a TOML file"),
        ((NOT_RUN, '[embedded]\nmake = "m"\ntrain = "t"\ntest = "e"\n'), "go together"),
    ],
)  # fmt: skip
def test_what_does_not_hold_is_said(read, parts, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read(PAPER, *parts)
    assert "paper.toml" in str(caught.value)


def test_everything_wrong_is_said_at_once(read):
    with pytest.raises(ConfigError) as caught:
        read(PAPER.replace("title", "titel"), NOT_RUN.replace("source", "sourse"))
    text = str(caught.value)
    for key in ("paper.titel", "paper.title", "claim.one.sourse", "claim.one.source"):
        assert f"- {key}: " in text


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_claims(tmp_path / "paper.toml")


def test_package_without_a_file():
    with pytest.raises(ConfigError, match="comes without"):
        claims_file("llve_common")


def test_agreement_is_within_the_tolerance_and_its_end_counts():
    assert agreeing({"a": 14.784}, {"a": 14.785}, {"a": 0.001})
    assert not agreeing({"a": 14.784}, {"a": 14.7851}, {"a": 0.001})
    assert not agreeing({"a": 1, "b": 1}, {"a": 1, "b": 2}, {"a": 0, "b": 0})


def test_figures_as_they_are_shown():
    assert show({"psnr": 14.783981, "ssim": 0.5254}) == "PSNR 14.784 dB, SSIM 0.5254"
    assert show({"parameters": 12345678, "mAP": 0.663}) == "parameters 12345678, mAP 0.663"
    assert show({"psnr": "not at hand", "x": "not at hand"}) == "PSNR not at hand, x not at hand"
    assert show({}) == ""


# The files that are here


@pytest.fixture(params=FILES, ids=lambda file: file.parent.name)
def folder(request):
    """The folder of one paper after the other."""
    return request.param.parent


@pytest.fixture
def claims(folder):
    """The paper's claims, as its package finds them."""
    assert claims_file(f"llve_{folder.name}") == folder / "paper.toml"
    return read_claims(folder / "paper.toml")


def test_readme_holds_the_claims_as_the_file_has_them(folder, claims):
    section = (folder / "README.md").read_text(encoding="utf-8").partition("\n## Claims\n")[2]
    table = claims_table(claims).markdown()
    shown = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("|")]
    assert shown == table.splitlines(), "put this into the README:\n" + table


def test_commands_are_of_this_project(folder, claims):
    of_claims = [claim.command for claim in claims.claim if claim.command]
    embedded = claims.embedded and [claims.embedded.train, claims.embedded.test]
    for command in filter(None, [*of_claims, *(embedded or ())]):
        assert command.split()[0] == folder.name
        assert command.count("$OUT") == 1
    for command in filter(None, embedded or ()):
        assert "$DATA" in command
        assert "$WEIGHTS" not in command


def test_tests_that_show_counts_exist(claims):
    for claim in claims.claim:
        if claim.counted:
            file, _, test = claim.counted.test.partition("::")
            assert f"\ndef {test}(" in (ROOT / file).read_text(encoding="utf-8")


def test_record_of_the_bundled_weights_is_their_provenance(folder, claims):
    if claims.embedded is None:
        pytest.skip("paper.toml has no embedded set yet")
    bundled = folder / "src" / f"llve_{folder.name}" / "bundled"
    provenance = [json.loads(file.read_text()) for file in sorted(bundled.glob("*.json"))]
    measured = claims.embedded.measured
    if measured is None:
        assert provenance == []
        return
    [fitting] = [each for each in provenance if each["sha256"] == measured.weights_sha256]
    for name, figure in measured.metrics.items():
        assert figure == pytest.approx(fitting["test"][name], abs=claims.embedded.tolerance[name])
