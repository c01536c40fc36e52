"""Real photographs and clips: what published and bundled weights make of them, side by side."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from llve_common.evaluate.protocols import data_digest
from reproduce.checks import (
    DICM,
    LIME,
    PAIR21,
    Given,
    NotHereError,
    find_data,
    find_weights,
    run,
    words_of,
)  # fmt: skip
from reproduce.claims import PaperClaims
from reproduce.ledger import REAL, Check

FIGURES = (
    "psnr", "ssim_skimage7", "ssim_gaussian11", "warping_error", "mabd", "mabd_mse", "niqe",
)  # fmt: skip
NOTES = {PAIR21: "one clip of the test's twelve", LIME: "no ground truth", DICM: "no ground truth"}


def check_real(claims: Mapping[str, PaperClaims], given: Given) -> Iterator[Check]:
    """Each set under the bundled weights of all papers, then under the published files here."""
    if given.quick:
        yield Check(REAL, "real", "published and bundled weights", "not run", "left out by --quick")
        return
    for name in NOTES:
        for published in (False, True):
            yield from check_compared(name, claims, given, published=published)


def check_compared(
    name: str, claims: Mapping[str, PaperClaims], given: Given, *, published: bool
) -> list[Check]:
    """Run ``llve compare`` on a set; a check for each of its rows, or one that says why not."""
    kind = "published" if published else "bundled"
    check = Check(REAL, "real", f"{name}: {kind} weights", "not run", "not yet")
    try:
        values = {"DATA": find_data(name, None, given)}
    except NotHereError as error:
        return [replace(check, detail=str(error))]
    weights = published_weights(claims, given) if published else {}
    if published and not weights:
        return [replace(check, detail="needs published weights: --weights DIR")]
    with_weights = [
        each for each, known in claims.items() if known.embedded and known.embedded.test
    ]
    papers = dict.fromkeys(paper for paper, _ in weights.values()) if published else with_weights
    if not papers:
        return [replace(check, detail="no weights come with the packages")]
    command = f"python -m llve_common compare $DATA --quality --papers {','.join(papers)}"
    for variable, (paper, file) in weights.items():
        command += f" --weights {paper}=${variable}"
        values[variable] = file
    command += " -o $OUT"
    values["OUT"] = given.out / "work" / f"real-{name.split(',')[0].replace(' ', '-')}-{kind}"
    done = run(words_of(command, values), "", "")
    check = replace(check, command=command, seconds=done.seconds)
    written = values["OUT"] / "comparison.json"
    if not written.is_file():
        return [replace(check, state="failed", detail=done.tail)]
    facts, data = json.loads(written.read_text(encoding="utf-8")), data_digest(values["DATA"])
    checks = []
    for row in facts["rows"]:
        if published and row["weights"] is None and row["failure"] is None:
            continue  # the input and the gamma curve, which the bundled weights stand beside
        inputs = {"data": data, **({"weights": row["weights_sha256"]} if row["weights"] else {})}
        found = {each: float(row[each]) for each in FIGURES if row.get(each) is not None}
        flow = f"; warping error by {row['warping_error_flow']}" if "warping_error" in found else ""
        checks.append(replace(
            check, name=f"{name}: {row['name']}, {row['weights'] or row['title']}",
            state="failed" if row["failure"] else "measured",
            detail=row["failure"] or NOTES[name] + flow, found=found, inputs=inputs,
        ))  # fmt: skip
    return checks


def published_weights(
    claims: Mapping[str, PaperClaims], given: Given
) -> dict[str, tuple[str, Path]]:
    """The published files that claims are of and that are here, by the name of a variable."""
    found = {}
    for paper, known in claims.items():
        for claim in known.claim:
            if claim.weights is not None and claim.measured is not None:
                variable = f"{paper}_{claim.weights.partition('.')[0]}".upper()
                try:
                    file = find_weights(claim.weights, claim.measured, given.weights)
                except NotHereError:
                    continue
                found[variable] = (paper, file)
    return found
