"""Validated settings: a YAML file, then overrides, then command-line options."""

import difflib
import os
import re
import reprlib
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeVar, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from llve_common.errors import ConfigError, DataError, UserError, in_one_line

# Far more than any settings file needs: bytes, values with aliases written out, and nesting.
_MOST_BYTES, _MOST_VALUES, _MOST_LEVELS = 2**20, 10_000, 20
# A number is made of at most so many characters, and a text of at most as many as a path.
_LONGEST_NUMBER, _LONGEST_TEXT, _LONGEST_NAME = 100, 4095, 255


class Settings(BaseModel):
    """Base of every settings section: immutable, and unknown keys are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, defer_build=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_empty_path(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[str(info.field_name)].annotation
        if value == "" and Path in (kind, *get_args(kind)):
            raise ValueError("it is empty")  # and would mean the working folder
        return value

    @field_validator("*")
    @classmethod
    def _can_be_a_path(cls, value: Any) -> Any:
        if isinstance(value, Path):
            longest = max((len(os.fsencode(part)) for part in value.parts), default=0)
            if "\0" in str(value) or longest > _LONGEST_NAME or len(str(value)) > _LONGEST_TEXT:
                raise ValueError(
                    f"no file can have such a name: up to {_LONGEST_NAME} bytes in each folder, "
                    "and no NUL character"
                )
        return value

    @model_validator(mode="before")
    @classmethod
    def _keep_the_defaults_of_sections(cls, values: Any) -> Any:
        """What a default section was made with stays where a given one says nothing of it."""
        if not isinstance(values, dict):
            return values
        made = {
            name: field.default.model_dump(exclude_unset=True)
            for name, field in cls.model_fields.items()
            if isinstance(field.default, Settings) and isinstance(values.get(name), dict)
        }
        return {**values, **{name: _merged(made[name], values[name]) for name in made}}


def _merged(default: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    both = {name: _merged(default[name], given[name]) for name in default.keys() & given.keys()
            if isinstance(default[name], dict) and isinstance(given[name], dict)}  # fmt: skip
    return {**default, **given, **both}


FileName = Annotated[str, Field(pattern=r"^[^/\\.\pC][^/\\\pC]*$", max_length=100)]
"""What may be, or begin, the name of a file or folder that is made in another folder."""

PositiveInt = Annotated[int, Field(gt=0, lt=2**31)]
NonNegativeInt = Annotated[int, Field(ge=0, lt=2**31)]
Beta = Annotated[float, Field(ge=0, lt=1)]
"""A decay of Adam's moments."""

Workers = Annotated[
    int, Field(ge=0, le=256, description="processes that load data; 0: the training process")
]

Ssim = Literal["skimage7", "gaussian11"]
"""A definition of SSIM, see :mod:`llve_common.metrics.fidelity`."""

Kind = Literal["image", "video"]
"""What a paper enhances: images by themselves, or frames with their neighbours."""

ImageRange = Literal["unit", "signed"]
"""What RAFT is fed images in [0, 1] as: ``"unit"`` leaves them, ``"signed"`` maps them to [-1, 1].

The published weights were trained on [-1, 1].
"""

Statistics = Literal["batch", "running"]
"""What RAFT's batch norm normalises by: the images at hand, or what training collected."""


def known_device(name: str) -> str:
    """The name, if it is one of :data:`DEVICES`; the device need not be there.

    Raises:
        ValueError: it is none.
    """
    if re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", name) is None:
        raise ValueError(f"expected {DEVICES}")
    return name


Precision = Literal["fp32", "bf16", "fp16"]
"""A number format to compute in."""

AnyPrecision = Literal["auto", "fp32", "bf16", "fp16"]
"""One of them, or the fastest, see :func:`llve_common.machine.device.choose_precision`."""

PUBLISHED = "published:"
"""Begins what stands for a weights file that a paper's authors publish, in the place of a path."""

DEVICES = "auto, cpu, cuda, cuda:N or mps"
Device = Annotated[str, AfterValidator(known_device), Field(description=f"device: {DEVICES}")]


class TrainerSettings(Settings):
    """What the core's trainer needs to know; a paper's ``train`` section adds its own to it."""

    seed: int = Field(0, ge=0, lt=2**32, description="seed of all random numbers")
    batch_size: PositiveInt = Field(1, description="samples in a batch, over all processes")
    workers: Workers = 0
    clip_norm: PositiveFloat | None = Field(None, description="largest norm of the gradients")
    accumulate: PositiveInt = Field(1, description="parts that a batch is split into")
    precision: Precision = Field("fp32", description="number format: fp32, bf16 or fp16")
    graph: bool = Field(False, description="on a GPU: launch a step's kernels as one, as a graph")


class ScheduleSettings(Settings):
    """Learning rates with restarts; a paper's own subclass has its published values as defaults.

    No restarts and no weights are one restart at 0 with weight 1. A restart without a period is
    the cosine's end: from there on the rates stay as they are.
    """

    scheme: Literal["cosine", "multistep"] = Field(
        "cosine", description="cosine or multistep rates"
    )
    warmup: int = Field(-1, lt=2**31, description="iterations of linear warm-up; below 1: none")
    restarts: tuple[NonNegativeInt, ...] = Field((), description="last iterations before restarts")
    restart_weights: tuple[PositiveFloat, ...] = Field((), description="factors of the base rate")
    periods: tuple[PositiveInt, ...] = Field((), description="cosine: iterations of each period")
    eta_min: NonNegativeFloat = Field(0.0, description="cosine: lowest rate")
    milestones: tuple[NonNegativeInt, ...] = Field((), description="multistep: when gamma applies")
    gamma: PositiveFloat = Field(0.1, description="multistep: factor at each milestone")
    clear_state: bool = Field(False, description="multistep: reset Adam at a restart")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        periods, restarts, weights = self.periods, self.restarts, self.restart_weights
        # The last restart may have no period: published settings end so, at the last iteration.
        needed = len(restarts) if restarts and restarts[0] > 0 else max(len(restarts), 1) + 1
        if self.scheme == "cosine" and len(periods) < needed:
            fault = ConfigError(
                "too few periods for the restarts",
                got=f"{len(periods)} periods, restarts "
                f"{list(restarts) or 'none, which is one at 0'}",
                expected="one period for the start and one for each restart",
            )
        elif len(weights) != len(restarts) and (restarts or len(weights) > 1):
            fault = ConfigError(
                "restarts and their weights do not match",
                got=f"{len(restarts)} restarts, {len(weights)} weights",
                expected="a weight for each restart",
            )
        else:
            return self
        raise ValueError(str(fault))


def name_template(text: str) -> str:
    """The text, if it is a template of two names, such as ``low{}=normal{}``.

    Raises:
        ValueError: it is none.
    """
    if [each.count("{}") for each in text.split("=")] != [1, 1]:
        raise ValueError("expected a template of two names such as low{}=normal{}")
    return text


class PairSettings(Settings):
    """Your own pairs, in place of the folders in ``data``; none where ``low`` is not given."""

    low: Path | None = Field(
        None, description="folder of low-light images, or clips in subfolders; or a known layout"
    )
    high: Path | None = Field(None, description="folder of ground truth; null: in the layout")
    val_low: Path | None = Field(None, description="the same, for validation and the test")
    val_high: Path | None = Field(None, description="ground truth of these")
    test_clips: tuple[str, ...] | None = Field(
        None, description="clips, or images, that training leaves to validation and the test"
    )
    names: Annotated[str, AfterValidator(name_template)] = Field(
        "{}={}", description="how the names of a pair differ, such as low{}=normal{}"
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        rest = self.model_dump(exclude={"low", "names"}, exclude_none=True)
        if self.low is None and rest:
            raise ValueError(f"{', '.join(rest)} without low")
        if self.val_high is not None and self.val_low is None:
            raise ValueError("val_high without val_low")
        if self.val_low is not None and self.test_clips is not None:
            raise ValueError("give val_low or test_clips, not both")
        return self


class RunSettings(Settings):
    """Where a run writes, and on what it computes."""

    save: Path = Field(Path("EXP"), description="folder of the runs")
    name: FileName | None = Field(
        None, description="name of the run's folder; default: by the time"
    )
    device: Device = "auto"
    log_every: PositiveInt = Field(10, description="iterations between two log lines")
    tensorboard: bool = Field(True, description="write a TensorBoard file")
    keep_checkpoints: PositiveInt = Field(3, description="newest checkpoints to keep")


class TestSettings(Settings):
    """What every test needs to know; a paper's own adds its data to it."""

    __test__: ClassVar[bool] = False  # no test of pytest's

    procedure: Literal["test"] = "test"
    weights: Path | None = Field(
        None, description="weights file, or published:NAME; default: bundled ones"
    )
    save: Path = Field(Path("results"), description="folder for the results")
    name: FileName | None = Field(None, description="subfolder for the results; null: none")
    save_images: bool = Field(True, description="write enhanced frames and a page of them")
    ssim: Ssim = Field("skimage7", description="SSIM definition: skimage7 or gaussian11")
    protocol: str | None = Field(
        None, description="test by a data set's protocol such as lol-v1; the data is the set's root"
    )
    quality: bool = Field(False, description="measure NIQE, LOE, DE, EME and the colour error too")
    lpips: Path | None = Field(
        None, description="AlexNet's weights, or published:alexnet, to measure LPIPS too"
    )
    device: Device = "auto"
    precision: AnyPrecision = Field("fp32", description="number format: fp32, bf16, fp16 or auto")
    pairs: PairSettings = PairSettings()

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return self.save if self.name is None else self.save / self.name


class Given(NamedTuple):
    """Settings given in another form than ours: by dotted name, and where each was said."""

    values: dict[str, Any]
    origins: dict[str, str]


S = TypeVar("S", bound=Settings)


def load_settings(
    kind: type[S],
    file: Path | None = None,
    overrides: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    *,
    base: Given | None = None,
) -> S:
    """Read, merge and validate settings.

    Args:
        kind: the settings class.
        file: a YAML file, or None for the defaults.
        overrides: ``section.key=value``, the value in YAML syntax; they win over the file.
        options: dotted key to value, from the command line; they win over everything.
        base: settings that a file in another form gave, instead of ``file``.

    Raises:
        ConfigError: all that is wrong at once, each with where it was said, what was got and
            expected, and for an unknown key the nearest known one.
    """
    values, origins = read_yaml(file) if file is not None else ({}, {})
    if base is not None:
        origins = dict(base.origins)
        for key, value in base.values.items():
            _assign(values, key, value)
    given = dict(_parse_override(text) for text in overrides)
    given.update(options or {})
    for key, value in given.items():
        _assign(values, key, value)
        origins[key] = "command line"
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        # One line a place: a value that fits no member of a union is reported once.
        faults = {_place(kind, fault): fault for fault in reversed(error.errors())}
        lines = [_explain(kind, *each, origins, file) for each in reversed(faults.items())]
        plural = "setting is" if len(lines) == 1 else "settings are"
        raise ConfigError("\n".join([f"{len(lines)} {plural} wrong", *lines])) from None


M = TypeVar("M", bound=BaseModel)


def checked(kind: type[M], content: object, where: object, fault: type[UserError] = DataError) -> M:
    """What a file of ours holds, given by its path, as JSON text or as values, of its right kind.

    Raises:
        UserError: ``fault``, with what is wrong.
    """
    try:
        if isinstance(content, Path):
            content = read_small(content)
        if isinstance(content, bytes | str):
            return kind.model_validate_json(content)
        return kind.model_validate(content)
    except OSError as error:
        raise fault("cannot be read", where=where, got=error.strerror) from error
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        got = in_one_line("\n".join(faults[:5])).removeprefix(": ")
        raise fault("the content is not what llve writes", where=where, got=got) from None


def as_yaml(settings: Settings) -> str:
    """Settings as YAML text that :func:`load_settings` reads back to an equal object."""
    return str(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False))


def with_absolute_paths(settings: S) -> S:
    """The same settings, whose paths mean the same wherever they are read."""
    changes: dict[str, Any] = {}
    for name, value in settings:
        if isinstance(value, Settings):
            changes[name] = with_absolute_paths(value)
        elif isinstance(value, Path) and not str(value).startswith(PUBLISHED):
            changes[name] = value.absolute()
    return settings.model_copy(update=changes)


def annotated_yaml(settings: Settings, flags: Mapping[str, Sequence[str]], prefix: str = "") -> str:
    """Settings as YAML text, each with what it is and the options that give it in a comment.

    The options stand in ``flags`` by dotted setting; ``prefix`` begins those names.
    """
    lines = []
    values = settings.model_dump(mode="json")
    for name, field in type(settings).model_fields.items():
        inner = getattr(settings, name)
        if isinstance(inner, Settings):
            section = annotated_yaml(inner, flags, f"{prefix}{name}.")
            lines.append(f"{name}:\n{textwrap.indent(section, '  ')}")
            continue
        text = yaml.safe_dump(values[name], default_flow_style=True, width=float("inf"))
        said = [*filter(None, [field.description]), *flags.get(f"{prefix}{name}", ())]
        note = f"  # {', '.join(said)}" if said else ""
        lines.append(f"{name}: {text.removesuffix('...' + chr(10)).strip()}{note}\n")
    return "".join(lines)


def dotted_names(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every setting's dotted name, sections in order."""
    for name, field in kind.model_fields.items():
        section = _section(field.annotation)
        if section is None:
            yield prefix + name
        else:
            yield from dotted_names(section, f"{prefix}{name}.")


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested sections, after its dotted name; of an empty section nothing."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def field_of(kind: type[BaseModel], name: str) -> tuple[FieldInfo, Any]:
    """The field of a dotted setting, and the default that it has in its place.

    Raises:
        KeyError: there is no such setting.
    """
    *sections, last = name.split(".")
    value: Any = kind.model_construct()
    for section in sections:
        value = getattr(value, section, None)
        inner = _section(kind.model_fields[section].annotation)
        if inner is None:
            raise KeyError(name)
        kind = inner
    return kind.model_fields[last], getattr(value, last, None)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like ``name``: by spelling, or by an equal last part."""
    names = list(known)
    tails: dict[str, list[str]] = {}
    for each in names:
        tails.setdefault(each.rsplit(".", 1)[-1], []).append(each)
    last = name.rsplit(".", 1)[-1]
    if last in tails:
        return difflib.get_close_matches(name, tails[last], n=1, cutoff=0)[0]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return close[0]
    close_tail = difflib.get_close_matches(last, tails, n=1, cutoff=0.75)
    return tails[close_tail[0]][0] if close_tail else None


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """What an error says of a name that is not known, with the nearest one that is."""
    near = nearest(name, known)
    return f"unknown {what}" + (f"; did you mean '{near}'?" if near else "")


def _section(annotation: Any) -> type[BaseModel] | None:
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def read_yaml(file: Path, *, repeats: bool = False) -> tuple[dict[str, Any], dict[str, str]]:
    """A YAML file's mapping, and for each dotted key the file and line that said it.

    With ``repeats`` a key may stand twice, with one value.

    Raises:
        ConfigError: the file is missing, is not YAML, is not a mapping, repeats a key, or is larger
            than settings are: in bytes, in values with aliases written out, or in levels.
    """
    try:
        text = read_small(file).decode("utf-8")
        node, values = _parse(text)
    except OSError as error:
        raise ConfigError("cannot be read", where=file, got=error.strerror) from error
    except _NOT_YAML as error:
        raise ConfigError(
            "not a YAML file", where=file, got=" ".join(str(error).split())[:500]
        ) from error
    except ConfigError as error:
        raise error.at(file) from None
    if values is None:
        return {}, {}
    if not isinstance(values, dict) or not isinstance(node, yaml.MappingNode):
        got = type(values).__name__
        raise ConfigError("the file is not a mapping", where=file, got=got, expected="key: value")
    return values, dict(_lines(node, file, set(), repeats=repeats))


def _lines(
    node: yaml.MappingNode, file: Path, followed: set[int], prefix: str = "", *, repeats: bool
) -> Iterator[tuple[str, str]]:
    # An anchor that is used many times, or within itself, is followed once.
    followed.add(id(node))
    seen: dict[str, yaml.Node] = {}
    for key, value in node.value:
        place = f"{file}:{key.start_mark.line + 1}"
        if key.value in seen and not (repeats and _content(seen[key.value]) == _content(value)):
            what = ", with another value" if repeats else ""
            raise ConfigError(f"the key {prefix}{key.value} stands twice{what}", where=place)
        seen[key.value] = value
        yield prefix + str(key.value), place
        if isinstance(value, yaml.MappingNode) and id(value) not in followed:
            yield from _lines(value, file, followed, f"{prefix}{key.value}.", repeats=repeats)


def read_small(file: Path) -> bytes:
    """The bytes of a file, which may be endless; a ConfigError where it is not small."""
    with file.open("rb") as opened:
        content = opened.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ConfigError(
            "the file is too large", where=file, expected=f"up to {_MOST_BYTES} bytes"
        )
    return content


# What PyYAML raises for text that is not YAML, or for a value that is none of its type: a
# ValueError for the date 2001-99-99, a KeyError for !!bool x, an AttributeError for !!timestamp x.
_NOT_YAML = (
    yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError,
    RecursionError,
)  # fmt: skip


def _parse(text: str) -> tuple[yaml.Node | None, Any]:
    """YAML text as nodes and as values, which are made once the nodes are known to be few."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is not None:
        _measure(node, {})
    return node, yaml.safe_load(text)


def _measure(node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """How many values a node stands for, with aliases written out, and their levels."""
    if id(node) in known:
        return known[id(node)]
    # Until its own size is known it has none: an alias within itself is no YAML for settings.
    known[id(node)] = (_MOST_VALUES, _MOST_LEVELS)
    inner = list(node.value) if isinstance(node, yaml.CollectionNode) else []
    if isinstance(node, yaml.MappingNode):
        inner = [part for pair in inner for part in pair]
    sizes = [_measure(part, known) for part in inner]
    size = 1 + sum(each for each, _ in sizes), 1 + max((levels for _, levels in sizes), default=0)
    line = node.start_mark.line + 1
    if size[0] > _MOST_VALUES or size[1] > _MOST_LEVELS:
        raise ConfigError(
            f"line {line} stands for more than settings are",
            expected=f"up to {_MOST_VALUES} values and {_MOST_LEVELS} levels, aliases written out",
        )
    if isinstance(node, yaml.ScalarNode):
        number = node.tag.endswith((":int", ":float"))
        if len(node.value) > (_LONGEST_NUMBER if number else _LONGEST_TEXT):
            raise ConfigError(f"line {line} has a value of {len(node.value)} characters")
        node.value.encode("utf-8", "surrogateescape")  # what no name can hold is a ValueError
        if "\0" in node.value:
            raise ConfigError(f"line {line} has a NUL character", got=node.value)
    known[id(node)] = size
    return size


def _content(node: yaml.Node) -> object:
    """What two nodes are compared by: only plain values and lists of them are taken for equal."""
    parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
    if all(isinstance(part, yaml.ScalarNode) for part in parts):
        return node.tag, [(part.tag, part.value) for part in parts]
    return object()


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key or not value:
        expected = "section.key=value, such as train.lr=1e-4, or train.clip_norm=null for none"
        raise ConfigError("not an override", got=text, expected=expected)
    try:
        return key, _parse(value)[1]
    except _NOT_YAML as error:
        raise ConfigError(f"the value of {key} is not YAML", got=value[:200]) from error
    except ConfigError as error:
        raise error.at(key) from None


def _assign(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        # A section that a file names and leaves empty reads as None.
        inner = values[section] = {} if values.get(section) is None else values[section]
        if not isinstance(inner, dict):
            raise ConfigError(f"{section} is not a section", got=f"{key}={value}")
        values = inner
    values[name] = value


def _place(kind: type[BaseModel], fault: ErrorDetails) -> str:
    """The dotted name of the setting that a fault is of."""
    parts, known = [str(part) for part in fault["loc"]], _known(kind)
    if fault["type"] != "extra_forbidden":
        # What comes after the setting's own name is an index, or a member of a union.
        while ".".join(parts) not in known and len(parts) > 1:
            parts.pop()
    return ".".join(parts)


def _known(kind: type[BaseModel]) -> dict[str, None]:
    """Every setting's dotted name, and then every section's."""
    names = list(dotted_names(kind))
    parents = [name.split(".")[:-1] for name in names]
    sections = (".".join(each[:end]) for each in parents for end in range(1, len(each) + 1))
    return dict.fromkeys([*names, *sections])


def _explain(
    kind: type[BaseModel],
    key: str,
    fault: ErrorDetails,
    origins: Mapping[str, str],
    file: Path | None,
) -> str:
    # A section that only an override opened was said by a key below it.
    below = (place for name, place in origins.items() if name.startswith(f"{key}."))
    place = f"{origins.get(key) or next(below, None) or file or 'command line'}: {key}"
    if fault["type"] == "extra_forbidden":
        return f"{place}: {unknown('setting', key, _known(kind))}"
    if fault["type"] == "missing":
        return f"{place}: missing; it has no default"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{place}: got {shortened(fault['input'])}; {message[0].lower()}{message[1:]}"


def shortened(value: object) -> str:
    """A value for a message, which can be a whole section."""
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = 200
    return shortener.repr(value)
