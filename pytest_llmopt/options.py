"""Every option, with its ini twin; who wins is decided here: command line, then marker, then ini, then default."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import pytest

from pytest_llmopt.core.errors import OptionError
from pytest_llmopt.core.values import PLAIN_TEXT, Range, Seed, fit, shown, words

if TYPE_CHECKING:
    from pytest_llmopt.core.loading import LoadPolicy
    from pytest_llmopt.session import Session

REPORT = ".llmopt/report.json"
CACHE = ".llmopt/cache"
Threads: TypeAlias = Annotated[int, Range(0, 1024)]
DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")


@dataclass(frozen=True)
class Option:
    """One option: `--llmopt-<name>` on the command line, `llmopt_<name>` in the ini file."""

    name: str
    help: str
    default: str | int | bool
    many: bool = False
    """Takes several values, given again or with commas between."""
    choices: tuple[str, ...] = ()
    kind: Any = str
    """What a value must be, with its range."""

    @property
    def flag(self) -> str:
        """The name on the command line."""
        return f"--llmopt-{self.name.replace('_', '-')}"

    @property
    def ini(self) -> str:
        """The name in the ini file."""
        return f"llmopt_{self.name}"

    def parse(self, text: str) -> Any:
        """A value of the default's type from the text of an ini file or a command line.

        Raises:
            pytest.UsageError: the text is not such a value; names the option and what it takes.
        """
        if isinstance(self.default, bool):
            if text.lower() in {"true", "yes", "on", "1", "false", "no", "off", "0", ""}:
                return text.lower() in {"true", "yes", "on", "1"}
            msg = f"{self.ini} must be true or false, got {text!r}"
            raise pytest.UsageError(msg)
        if isinstance(self.default, int):
            try:
                return fit(self.flag, int(text), self.kind)
            except (OptionError, ValueError):
                msg = f"{self.flag} must be {words(self.kind)}, got {shown(text)}"
                raise pytest.UsageError(msg) from None
        if self.choices and text not in self.choices:
            msg = f"{self.flag} must be one of {', '.join(self.choices)}, got {shown(text)}"
            raise pytest.UsageError(msg)
        try:
            return text if text == self.default else fit(self.flag, text, str)
        except OptionError:
            msg = f"{self.flag} must be {PLAIN_TEXT}, got {shown(text)}"
            raise pytest.UsageError(msg) from None


OPTIONS = {
    option.name: option
    for option in (
        Option("model", "model under test: a folder, a hub id, a zoo name, or `zoo` for all of them", "", many=True),
        Option("draft", "draft model for assisted decoding that names none", ""),
        Option("engine", "engine that runs both sides", "transformers"),
        Option("device", "auto, cpu, cuda, cuda:1, ...", "auto"),
        Option("dtype", "dtype of both sides; auto is float32 on a CPU, else the checkpoint's", "auto", choices=DTYPES),
        Option("prompts", "JSON Lines file of prompts; the default is the held-out set of the zoo", ""),
        Option(
            "require", "requirements whose absence fails instead of skips (`gpu,bitsandbytes`, or `all`)", "", many=True
        ),
        Option("cache", "folder for noise floors, quantized models and whatever else is expensive to get again", CACHE),
        Option("report", "where the JSON report goes", REPORT),
        Option("seed", "seed of every random draw", 0, kind=Seed),
        Option("inconclusive", "what an INCONCLUSIVE verdict does to its test", "fail", choices=("fail", "warn")),
        Option("threads", "CPU threads for each engine; 0 chooses by the size of the model", 0, kind=Threads),
        Option("download", "allow downloading models that are not here yet", default=False),
        Option("trust_remote_code", "allow checkpoints to bring their own code", default=False),
        Option("unsafe_weights", "also load weights that are not safetensors (pickles can run code)", default=False),
    )
}


def add_options(parser: pytest.Parser) -> None:
    """Register every option and its ini twin."""
    group = parser.getgroup("llmopt", "regression tests for optimized language models")
    for option in OPTIONS.values():
        if isinstance(option.default, bool):
            group.addoption(option.flag, action="store_const", const="true", help=option.help)
        elif option.many:
            group.addoption(option.flag, action="append", metavar="NAME", help=option.help)
        else:
            group.addoption(option.flag, metavar="VALUE", help=f"{option.help} [{option.default}]")
        parser.addini(option.ini, option.help)


@dataclass(frozen=True)
class Settings:
    """The options of one session. Built once; nothing else asks pytest for an option."""

    command_line: dict[str, Any]
    ini: dict[str, Any]
    workers: int = 1

    @classmethod
    def of(cls, config: pytest.Config) -> Settings:
        """The settings of a session.

        Raises:
            pytest.UsageError: an option has a value that it does not take.
        """
        command_line, ini = {}, {}
        for option in OPTIONS.values():
            given = config.getoption(option.flag, default=None)
            if given is not None:
                command_line[option.name] = _values(option, given)
            text = config.getini(option.ini)
            if text:
                ini[option.name] = _values(option, text)
        workers = getattr(config, "workerinput", {}).get("workercount", 1)
        return cls(command_line, ini, workers)

    def get(self, name: str, marker: object = None) -> Any:
        """The value of an option: from the command line, else the marker, else the ini file, else the default."""
        if name in self.command_line:
            return self.command_line[name]
        if marker is not None:
            return marker
        option = OPTIONS[name]
        return self.ini.get(name, () if option.many else option.default)

    def models(self, marker: tuple[str, ...] = ()) -> tuple[str, ...]:
        """The models to test; `zoo` stands for all that ship with the package."""
        from pytest_llmopt.core.loading import ZOO

        names = self.get("model", marker or None)
        return tuple(dict.fromkeys(model for name in names for model in (ZOO if name == "zoo" else (name,))))

    @property
    def prompts(self) -> Path:
        """The prompt file."""
        from pytest_llmopt.core.loading import fixtures_folder

        named = self.get("prompts")
        return fixtures_folder().joinpath("prompts", "default.jsonl") if not named else Path(named)

    @property
    def report(self) -> Path:
        """Where the JSON report goes."""
        return Path(self.get("report"))

    @property
    def policy(self) -> LoadPolicy:
        """What loading may do. Each worker gets its share of the processors: oversubscribed ones are 4-8x slower."""
        from pytest_llmopt.core.environment import cpu_count
        from pytest_llmopt.core.loading import LoadPolicy

        return LoadPolicy(
            download=self.get("download"),
            trust_remote_code=self.get("trust_remote_code"),
            unsafe_weights=self.get("unsafe_weights"),
            draft=self.get("draft") or None,
            threads=self.get("threads") or None,
            share=max(1, cpu_count() // self.workers),
            cache=Path(self.get("cache")),
        )


SETTINGS = pytest.StashKey[Settings]()
SESSION: pytest.StashKey[Session] = pytest.StashKey()
"""Where the session of a run with tests of ours is kept; empty in every other run."""


def _values(option: Option, given: str | list[str]) -> Any:
    if not option.many:
        return option.parse(str(given))
    texts = given if isinstance(given, list) else given.splitlines()
    names = tuple(name.strip() for text in texts for name in text.split(",") if name.strip())
    if not names:
        msg = f"{option.flag} needs at least one name, got {shown(given)}"
        raise pytest.UsageError(msg)
    return tuple(map(option.parse, names))
