"""Recorded cases of the original ("goldens"): discovery, kinds, reading, comparison.

A golden folder is a directory whose sub-folders are cases. The kind of a case follows from its
folder name (leading digits stripped, any suffix allowed: `55_lm_generate_untied` is an
`lm_generate`), or from its content if the name matches no kind. Tests read every shape, count and
setting from the case.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

KINDS = (
    "schedule",
    "tome",
    "vision",
    "projector",
    "lm_prefill_lpcomp",
    "lm_generate",
    "lm_nexthalf_stride",
    "base_videochat_flash",
    "clip_scores",
    "frame_selection",
    "frame_sampling",
    "preprocess",
    "prompts",
    "train_steps",
    "param_manifest",
    "end_to_end",
    "internvideo2",
    "answer_scoring",
)
"""All kinds of cases, named after the folder of their first recording."""

MODEL = "model"
"""Kind of a folder with shared weights, which is used by cases but is no case."""

UNKNOWN = "unknown"

SETTINGS = ("meta.json", "config.json")
"""JSON files with the description of a case instead of recorded values."""


class GoldenError(AssertionError):
    """Incomplete or unreadable case; it fails the run, and is never skipped."""


class Arrays(Mapping[str, NDArray[Any]]):
    """Arrays of one .npz file, read on first access."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._loaded: dict[str, NDArray[Any]] = {}

    @functools.cached_property
    def _names(self) -> tuple[str, ...]:
        return array_names(self.path)

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._names:
            raise GoldenError(f"{self.path} has no array {name!r}; it has {sorted(self._names)}")
        if name not in self._loaded:
            with np.load(self.path, allow_pickle=False) as file:
                self._loaded[name] = file[name]
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def optional(self, pattern: str) -> dict[str, NDArray[Any]]:
        """Returns the arrays whose whole name matches `pattern`, possibly none."""
        return {name: self[name] for name in self._names if re.fullmatch(pattern, name)}

    def matching(self, pattern: str) -> dict[str, NDArray[Any]]:
        """Returns the arrays whose whole name matches `pattern`; raises without any."""
        found = self.optional(pattern)
        if not found:
            raise GoldenError(
                f"{self.path} has no array matching {pattern!r}; it has {sorted(self._names)}"
            )
        return found


@dataclasses.dataclass(frozen=True)
class Case:
    """One recorded case; files are read on first use, and a missing file raises GoldenError."""

    dir: Path
    kind: str
    root: Path
    """The golden folder of this case."""

    @property
    def name(self) -> str:
        return self.dir.name

    @functools.cached_property
    def meta(self) -> dict[str, Any]:
        return self.json("meta.json")

    @functools.cached_property
    def io(self) -> Arrays:
        """Arrays of io.npz, or of the only .npz file (see `npz` for several files)."""
        files = sorted(self.dir.glob("*.npz"))
        preferred = self.dir / "io.npz"
        if preferred in files:
            return Arrays(preferred)
        if len(files) != 1:
            raise GoldenError(
                f"{self.dir} should hold io.npz or exactly one .npz file, "
                f"it holds {[file.name for file in files]}"
            )
        return Arrays(files[0])

    @functools.cached_property
    def model_dir(self) -> Path:
        """Folder of the weights: the first word of meta["model"], else the case's own folder.

        A case of several variants has no meta.json; it uses the shared weights beside it.
        """
        if any(self.dir.glob("meta_*.json")) and not (self.dir / "meta.json").is_file():
            shared = [folder for folder in sorted(self.root.iterdir()) if is_model(folder)]
            if len(shared) != 1:
                raise GoldenError(
                    f"{self.dir} names no model, and {self.root} holds "
                    f"{[folder.name for folder in shared]} instead of one"
                )
            return shared[0]
        text = str(self.meta.get("model", "."))
        path = (self.dir / text.split()[0]).resolve()
        if not path.is_dir():
            raise GoldenError(
                f"{self.dir / 'meta.json'} names the model folder {path}, which does not exist"
            )
        return path

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The case's own config.json, else the one of its model folder."""
        own = self.dir / "config.json"
        return read_json(own if own.is_file() else self.model_dir / "config.json")

    def tokenizer_dir(self, *others: Path) -> Path | None:
        """Returns the folder `tokenizer` next to the golden folder, else the first of `others`."""
        places = (self.root.parent / "tokenizer", *others)
        return next((place for place in places if place.is_dir()), None)

    def json(self, name: str) -> Any:
        return read_json(self.dir / name)

    def jsons(self) -> dict[str, Any]:
        """Reads every JSON file of the case but meta.json and config.json, by file name."""
        names = sorted(file.name for file in self.dir.glob("*.json"))
        return {name: self.json(name) for name in names if name not in SETTINGS}

    def npz(self) -> dict[str, Arrays]:
        """Opens every .npz file of the case, by file name."""
        return {file.name: Arrays(file) for file in sorted(self.dir.glob("*.npz"))}


def read_json(path: Path) -> Any:
    if not path.is_file():
        raise GoldenError(f"{path} is missing; {path.parent} holds {listing(path.parent)}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise GoldenError(f"{path} is not readable as JSON: {error}") from error


def listing(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


def array_names(path: Path) -> tuple[str, ...]:
    """Lists the arrays of an .npz file without reading them."""
    if not path.is_file():
        raise GoldenError(f"{path} is missing; {path.parent} holds {listing(path.parent)}")
    try:
        with zipfile.ZipFile(path) as file:
            return tuple(name.removesuffix(".npy") for name in file.namelist())
    except zipfile.BadZipFile as error:
        raise GoldenError(f"{path} is not readable as an .npz file: {error}") from error


# --- kinds -------------------------------------------------------------------------------------

ARRAY_SIGNATURES: tuple[tuple[str, str], ...] = (
    ("frame_selection", r"selected_idx|sum_score"),
    ("clip_scores", r"(scores|allow_nan)_.+__bias\d+"),
    ("base_videochat_flash", r".*kept_index_stage\d+_.+"),
    ("train_steps", r"grad__.+|param_after_step\d+__.+"),
    ("tome", r".+__merged"),
    ("projector", r".+__llm_embeds"),
    ("internvideo2", r"fresh_(img_)?pos_embed"),
    ("vision", r".+__(patch_embed|block\d+_out)|(img_)?pos_table_.+"),
    ("end_to_end", r".+__vision_features_clip\d+|.+__step_top\d+_ids"),
    ("preprocess", r".+__(frames|image)"),
    ("lm_nexthalf_stride", r".+__hidden_after_(layer|drop)_\d+"),
    ("lm_prefill_lpcomp", r"hidden_after_(layer|drop)_\d+"),
    ("lm_generate", r"generated_ids.*"),
)
"""Kind -> name of an array that only this kind has; the first match decides."""


def kind_of_json(content: Any) -> str | None:
    if isinstance(content, list):
        rows = [row for row in content if isinstance(row, dict)]
        return "frame_sampling" if rows and "vlen" in rows[0] else None
    if not isinstance(content, dict):
        return None
    if any(isinstance(content.get(key), list) for key in ("inference", "training")):
        return "prompts"
    if isinstance(content.get("tensors"), dict):
        return "param_manifest"
    if isinstance(content.get("multiple_choice"), list):
        return "answer_scoring"
    entries = [entry for entry in content.values() if isinstance(entry, dict)]
    if any("drop_after_n_decoder_layers" in entry for entry in entries):
        return "schedule"
    return None


def kind_by_name(name: str) -> str | None:
    """Finds the longest kind that the folder name starts with after leading digits."""
    text = re.sub(r"[^a-z0-9]+", "_", name.lower())
    text = re.sub(r"^[0-9_]+", "", text)
    return max((k for k in KINDS if re.match(rf"{k}(?![a-z])", text)), key=len, default=None)


def kind_by_content(folder: Path) -> str | None:
    for file in sorted(folder.glob("*.npz")):
        names = array_names(file)
        for kind, pattern in ARRAY_SIGNATURES:
            if any(re.fullmatch(pattern, name) for name in names):
                return kind
    for file in sorted(folder.glob("*.json")):
        by_json = None if file.name in SETTINGS else kind_of_json(read_json(file))
        if by_json is not None:
            return by_json
    return None


def is_model(folder: Path) -> bool:
    """Tests whether a folder holds weights and no recorded arrays."""
    return any(folder.glob("*.safetensors")) and not any(folder.glob("*.npz"))


def kind_of(folder: Path) -> str:
    """Returns the kind of a case folder, MODEL for shared weights, else UNKNOWN."""
    by_name = kind_by_name(folder.name)
    if by_name is not None:
        return by_name
    if is_model(folder):
        return MODEL
    try:
        return kind_by_content(folder) or UNKNOWN
    except GoldenError:
        return UNKNOWN  # Unreadable: the summary lists it, other cases still run.


# --- folders -----------------------------------------------------------------------------------


def find_cases(root: Path) -> list[Case]:
    """Lists the cases of a golden folder, without shared weights, in name order."""
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and entry.name[0] != ".")
    cases = [Case(dir=folder, kind=kind_of(folder), root=root) for folder in folders]
    return [case for case in cases if case.kind != MODEL]


def content_key(case: Case) -> str:
    """Hashes the files of a case and of its model; copies in other folders have equal hashes."""
    try:
        folders = [case.dir, case.model_dir] if (case.dir / "meta.json").is_file() else [case.dir]
    except GoldenError:
        return str(case.dir)  # Broken, hence equal to no other case; its test will fail.
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted(entry for entry in folder.rglob("*") if entry.is_file()):
            digest.update(file.relative_to(folder).as_posix().encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return f"{case.name}:{digest.hexdigest()}"


def without_copies(cases: Iterable[Case]) -> list[Case]:
    """Drops cases that equal an earlier one byte for byte, including the model."""
    seen: set[str] = set()
    distinct = []
    for case in cases:
        key = content_key(case)
        if key not in seen:
            distinct.append(case)
        seen.add(key)
    return distinct


# --- comparing ---------------------------------------------------------------------------------


def assert_parity(
    actual: ArrayLike,
    expected: ArrayLike,
    *,
    atol: float,
    rtol: float = 0.0,
    control: ArrayLike,
) -> None:
    """Checks that `actual` is within the tolerance, and `control` off by ten times as much.

    `control` is a deliberately wrong variant (another mask, one step left out ...), which shows
    that the tolerance is tight enough to detect a mistake. Shapes must be equal, nothing
    broadcasts; a NaN equals only a NaN. With atol=0 and rtol=0 the control has to differ somewhere.
    """
    got, want, wrong = (np.asarray(value, np.float64) for value in (actual, expected, control))
    if not got.shape == want.shape == wrong.shape:
        raise AssertionError(
            f"shapes differ: actual {got.shape}, expected {want.shape}, control {wrong.shape}"
        )
    np.testing.assert_allclose(got, want, atol=atol, rtol=rtol)
    both_nan = np.isnan(wrong) & np.isnan(want)
    miss = np.where(both_nan, 0.0, np.abs(wrong - want))
    if np.isnan(miss).any():
        return  # NaN instead of a number is always a miss.
    if not (miss > 10 * (atol + rtol * np.abs(np.nan_to_num(want)))).any():
        raise AssertionError(
            f"the control stays within 10 x (atol={atol:g} + rtol={rtol:g}*|expected|): its "
            f"largest difference is {miss.max(initial=0.0):.3g}. Tighten the tolerance, or "
            "use a control that differs more."
        )
