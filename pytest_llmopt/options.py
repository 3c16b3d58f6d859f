"""Every option, with its ini twin; who wins is decided here: command line, then marker, then ini, then default."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pytest

from pytest_llmopt.core.text import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_llmopt.core.loading import LoadPolicy

REPORT = ".llmopt/report.json"
CACHE = ".llmopt/cache"
ALL = "zoo"
"""In place of a model: all that ship with the package."""
DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")
LARGEST_SEED = 2**32 - 1
"""NumPy takes no larger one."""
NATIVE_NUMBERS = pytest.version_tuple >= (8, 4)
"""Whether pytest knows ini options that are whole numbers."""


@dataclass(frozen=True)
class Option:
    """One option: `--llmopt-<name>` on the command line, `llmopt_<name>` in the ini file."""

    name: str
    help: str
    default: str | int | bool
    many: bool = False
    """Takes several values, given again or with commas between."""
    choices: tuple[str, ...] = ()
    place: Literal["", "path", "model"] = ""
    """What its text may name: a file or folder, or a model, which may be a folder."""
    most: int = LARGEST_SEED
    """The largest number that it takes."""

    @property
    def flag(self) -> str:
        """The name on the command line."""
        return f"--llmopt-{self.name.replace('_', '-')}"

    @property
    def ini(self) -> str:
        """The name in the ini file."""
        return f"llmopt_{self.name}"

    @property
    def ini_type(self) -> Literal["bool", "int", "linelist", "string"]:
        """The type that pytest knows the ini option by, for the native types of TOML."""
        if self.many:
            return "linelist"
        if isinstance(self.default, bool):
            return "bool"
        return "int" if isinstance(self.default, int) and NATIVE_NUMBERS else "string"

    @property
    def takes(self) -> str:
        """What its values are, in words."""
        if self.many:
            return "a list of names"
        if isinstance(self.default, bool):
            return "true or false"
        if isinstance(self.default, int):
            return f"a whole number from 0 to {self.most}"
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        return "a path" if self.place == "path" else "a text"

    def values(self, given: Any, source: str, folder: Path) -> Any:
        """What the command line or an ini file gives, as the run knows it: a path absolute from a folder.

        Raises:
            pytest.UsageError: it is no such value; names the option and what it takes.
        """
        if not self.many:
            return self.parse(given, source, folder)
        texts = given if isinstance(given, list) else str(given).splitlines()
        names = tuple(name.strip() for text in texts for name in str(text).split(",") if name.strip())
        if not names:
            msg = f"{source} needs at least one name, got {shown(given)}"
            raise pytest.UsageError(msg)
        unprintable = [name for name in names if not name.isprintable()]
        if unprintable:
            msg = f"{source} must be a list of names without control characters, got {shown(unprintable[0])}"
            raise pytest.UsageError(msg)
        return tuple(located(name, folder) for name in names) if self.place else names

    def parse(self, given: Any, source: str, folder: Path) -> Any:
        """One value of the default's type.

        Raises:
            pytest.UsageError: it is no such value; names the option and what it takes.
        """
        try:
            value = self._typed(given)
        except ValueError:
            msg = f"{source} must be {self.takes}, got {shown(given)}"
            raise pytest.UsageError(msg) from None
        if self.place == "path":
            return str(absolute(value, folder))
        return located(value, folder) if self.place else value

    def _typed(self, given: Any) -> Any:
        if isinstance(self.default, bool):
            return _truth(given)
        if isinstance(self.default, int):
            number = int(given)
            if not 0 <= number <= self.most:
                raise ValueError(given)
            return number
        fits = isinstance(given, str) and given.isprintable() and (given in self.choices or not self.choices)
        if not fits or (not given and given != self.default):
            raise ValueError(given)
        return given


OPTIONS = {
    option.name: option
    for option in (
        Option(
            "model",
            "model under test: a folder, a hub id, a zoo name, or `zoo` for all of them",
            "",
            many=True,
            place="model",
        ),
        Option("draft", "draft model for assisted decoding that names none", "", place="model"),
        Option("engine", "engine that runs both sides", "transformers"),
        Option("device", "auto, cpu, cuda, cuda:1, ...", "auto"),
        Option("dtype", "dtype of both sides; auto is float32 on a CPU, else the checkpoint's", "auto", choices=DTYPES),
        Option("prompts", "JSON Lines file of prompts; the default is the held-out set of the zoo", "", place="path"),
        Option(
            "require",
            "requirements whose absence fails, not skips (`gpu,bitsandbytes`, `all`); `evidence`: what is not judged",
            "",
            many=True,
        ),
        Option(
            "cache",
            "folder for noise floors, quantized models and whatever else is expensive to get again",
            CACHE,
            place="path",
        ),
        Option("report", "where the JSON report goes", REPORT, place="path"),
        Option("seed", "seed of every random draw", 0),
        Option("inconclusive", "what an INCONCLUSIVE verdict does to its test", "fail", choices=("fail", "warn")),
        Option("threads", "CPU threads for each engine; 0 chooses by the size of the model", 0, most=1024),
        Option("timeout", "seconds that one test may take, loading included; 0 for no limit", 3600, most=10**7),
        Option(
            "python",
            "interpreter of an engine, `ENGINE=/path/to/python` or `ENGINE=NAME` of `llmopt env`",
            "",
            many=True,
        ),
        Option("isolate", "run every engine in a process of its own, which cannot take the run down", default=False),
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
        parser.addini(option.ini, option.help, type=option.ini_type, default=None)


@dataclass(frozen=True)
class Settings:
    """The options of one session. Built once; nothing else asks pytest for an option."""

    command_line: dict[str, Any]
    ini: dict[str, Any]
    workers: int = 1
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Where they differ from those of the options: paths, absolute."""
    folders: tuple[Path, ...] = ()
    """Where a marker's relative path is looked for: where pytest was started, then beside the ini file."""

    @classmethod
    def of(cls, config: pytest.Config) -> Settings:
        """The settings of a session; a test that changes the working directory changes none of them.

        Raises:
            pytest.UsageError: an option has a value that it does not take.
        """
        started = config.invocation_params.dir
        beside = started if config.inipath is None else config.inipath.parent
        command_line, ini, defaults = {}, {}, {}
        for option in OPTIONS.values():
            given = config.getoption(option.flag, default=None)
            if given is not None:
                command_line[option.name] = option.values(given, option.flag, started)
            given = _from_ini(config, option)
            if given not in (None, "", []):
                ini[option.name] = option.values(given, option.ini, beside)
            if option.place == "path" and option.default:
                defaults[option.name] = str(absolute(str(option.default), started))
        workers = getattr(config, "workerinput", {}).get("workercount", 1)
        return cls(command_line, ini, workers, defaults, tuple(dict.fromkeys((started, config.rootpath))))

    def get(self, name: str, marker: object = None) -> Any:
        """The value of an option: from the command line, else the marker, else the ini file, else the default."""
        if name in self.command_line:
            return self.command_line[name]
        if marker is not None:
            return marker
        option = OPTIONS[name]
        default = () if option.many else option.default
        return self.ini.get(name, self.defaults.get(name, default))

    def models(self, marker: tuple[str, ...] = ()) -> tuple[str, ...]:
        """The models to test; `zoo` stands for all that ship with the package."""
        from pytest_llmopt.core.loading import ZOO

        names = self.get("model", tuple(map(self.found, marker)) or None)
        return tuple(dict.fromkeys(model for name in names for model in (ZOO if name == ALL else (name,))))

    def found(self, name: str) -> str:
        """What a marker names, with an absolute path where that is a folder now."""
        places = (located(name, folder) for folder in self.folders)
        return next((place for place in places if place != name and Path(place).is_dir()), name)

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


class Spending(Protocol):
    """As much of a session as a run without one has to know."""

    def close(self) -> dict[str, Any]:
        """Close every engine; gives what this process has spent."""
        ...

    def costs(self) -> dict[str, Any]:
        """What this process has spent so far."""
        ...


SESSION: pytest.StashKey[Spending] = pytest.StashKey()
"""Where the session of a run with tests of ours is kept; empty in every other run."""


def absolute(path: str, folder: Path) -> Path:
    """A path that does not hang on the working directory, with the home folder for `~`."""
    # Links keep their names, and a home that does not exist is no reason to stop.
    return Path(os.path.abspath(folder / os.path.expanduser(path)))  # noqa: PTH100, PTH111


def located(name: str, folder: Path) -> str:
    """A model as the run knows it: the absolute path of a folder; a name of the zoo or a hub id as it is.

    A folder wins over a model of the zoo with its name. What can only be a path is one also where nothing is there.
    """
    path = absolute(name, folder)
    is_path = name.startswith((".", "~", os.sep)) or path.is_dir()
    return str(path) if is_path and name != ALL else name


def _from_ini(config: pytest.Config, option: Option) -> Any:
    """What the ini file gives, or None."""
    try:
        return config.getini(option.ini)
    except (TypeError, ValueError) as error:
        # pytest refuses what is not of the type that it knows the option by, in words of its own.
        written = (getattr(config, "_inicfg", None) or config.inicfg).get(option.ini)
        given = getattr(written, "value", written)
        if given == "" or (option.many and isinstance(given, str)):
            return given
        got = str(error) if given is None else f"got {given!r}"
        msg = f"{option.ini} must be {option.takes}, {got} in {config.inipath or '-o'}"
        raise pytest.UsageError(msg) from None


def _truth(given: Any) -> bool:
    if isinstance(given, bool):
        return given
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if str(given).lower() not in words:
        raise ValueError(given)
    return words[str(given).lower()]
