"""What a mutant is: an ordinary optimization that re-creates one real bug in the candidate, and nothing else."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_llmopt import Promise
from pytest_llmopt.core.optimization import build
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.variant import Applied, Variant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HERE = Path(__file__).parent
CATEGORIES = (
    "kv_cache",
    "speculative_greedy",
    "speculative_sampled",
    "attention",
    "weight_quantization",
    "activation_quantization",
    "graph_capture",
    "batching",
    "sampling",
    "export",
    "performance",
    "loading",
)


@dataclass(frozen=True)
class Mutant:
    """A bug, or a benign difference, with where it comes from; options are fields, as in every optimization.

    A subclass changes the loaded candidate in `change`, or what is asked of the engine in `for_transformers`. It must
    not touch anything that the reference in the same process uses: no class, no module-level function for good.
    """

    requirements: ClassVar[tuple[Any, ...]] = ()
    conflicts: ClassVar[Mapping[str, str]] = {}

    category: ClassVar[str]
    """One of `CATEGORIES`; of a benign difference, the category that it looks like."""
    source: ClassVar[str]
    """Catalogue id and issue, such as `KV01 huggingface/transformers#30437`."""
    base: ClassVar[tuple[tuple[str, Mapping[str, Any]], ...]] = ()
    """The optimization that has the bug, with its options; what it is decides which checks the gate runs."""
    models: ClassVar[tuple[str, ...]] = ("tiny-llama",)
    """The models that can show it; the first is judged."""
    needs: ClassVar[tuple[str, ...]] = ()
    """What has to happen for it to show: `sampling`, `padding`, `long_prompt`, `second_call`, `bias`, `window` ..."""
    dtype: ClassVar[str] = "float32"
    against: ClassVar[tuple[tuple[str, Mapping[str, Any]], ...]] = ()
    """The optimizations of the reference, with their options: both sides of a merged adapter have the adapter."""
    both: ClassVar[tuple[type[Any], ...]] = ()
    """Changes of ours, of this same form, that candidate and reference have: a penalty that the request asks for."""
    patches_reference: ClassVar[bool] = False
    """It changes a class or a module for good, and so the reference too: it is judged in a process of its own."""

    honest: ClassVar[bool] = False
    """A class that is an optimization of ours without a bug, for mutants to derive from; of its own, not inherited."""

    @property
    def promise(self) -> Promise:
        """That of its base; a plain engine promises what it samples, too."""
        return Promise.EQUIVALENT if self.base else Promise.LOSSLESS

    @classmethod
    def model_under_test(cls) -> str:
        """The model of both sides, a name of the zoo or a folder."""
        return cls.models[0]

    def for_transformers(self, plan: Any) -> None:
        """Change the model once it is loaded."""
        plan.after_load.append(self.change)

    def change(self, model: Any) -> None:
        """Plant the bug into a loaded model."""
        raise NotImplementedError

    def claims(self, _use: Any) -> Sequence[Any]:
        """Nothing of its own: the optimization that has the bug says what must be true."""
        return ()


@dataclass(frozen=True)
class Entry:
    """A file of a folder of mutants."""

    id: str
    """The name of the file."""
    kind: type[Mutant]
    benign: bool

    is_control: bool = False
    """The candidate without its bug, which every judge has to let pass."""

    @property
    def full_name(self) -> str:
        """What it is registered under."""
        if self.is_control:
            return f"controls.{self.id}"
        return f"{'benign' if self.benign else 'mutants'}.{self.id}"

    def variant(self, **options: Any) -> Variant:
        """The candidate: the base with the bug stacked on it; of a control, without."""
        if self.is_control:
            return self.control()
        own = Applied(self.full_name, build(self.kind, self.id, (), options))
        return self._side((*self._both(), *_applied(self.kind.base), own))

    def reference(self) -> Variant:
        """What the candidate is judged against: the plain model, unless the kind says otherwise."""
        return self._side((*self._both(), *_applied(self.kind.against)))

    def control(self) -> Variant:
        """The candidate without the bug: its base, and what a quantizer of ours does when it is honest."""
        honest = next((kind for kind in self.kind.__mro__[1:] if vars(kind).get("honest")), None)
        own = []
        if honest is not None:
            names = {item.name for item in fields(honest)}
            given = {item.name: item.default for item in fields(self.kind) if item.name in names}
            name = f"mutation.{honest.__name__.lower()}"
            own = [Applied(name, build(honest, name, (), given))]
        return self._side((*self._both(), *_applied(self.kind.base), *own))

    def _both(self) -> list[Applied]:
        return [
            Applied(f"mutation.{kind.__name__.lower()}", build(kind, kind.__name__, (), {})) for kind in self.kind.both
        ]

    def _side(self, optimizations: tuple[Applied, ...]) -> Variant:
        return Variant(self.kind.model_under_test(), optimizations, dtype=self.kind.dtype, device="cpu")


def _applied(optimizations: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Applied]:
    registry = Registry("optimizations", "optimization")
    return [Applied(name, build(registry.load(name), name, (), given)) for name, given in optimizations]


def catalogue(folders: Sequence[Path] = (), *, benign: bool | None = None) -> list[Entry]:
    """Every mutant of this benchmark and of further folders, then every benign difference and every control."""
    places = [(HERE / "mutants", False), *((Path(folder), False) for folder in folders), (HERE / "benign", True)]
    entries = [
        Entry(file.stem, load_mutant(file), is_benign)
        for folder, is_benign in places
        if benign in {None, is_benign}
        for file in sorted(folder.glob("[!_]*.py"))
    ]
    if benign is not False:
        entries += _controls([item for item in entries if not item.benign] or catalogue(folders, benign=False))
    if twice := {item.full_name for item in entries if sum(other.full_name == item.full_name for other in entries) > 1}:
        msg = f"more than one file is called {', '.join(sorted(twice))}"
        raise ValueError(msg)
    return entries


def _controls(mutants: Sequence[Entry]) -> list[Entry]:
    """Every distinct candidate without its bug, once for each model and dtype."""
    found: dict[tuple[str, str], Entry] = {}
    for entry in mutants:
        # Both sides of these are loaded from a broken checkpoint, and a changed class has no benign form.
        if entry.kind.model_under_test.__func__ is not Mutant.model_under_test.__func__ or entry.kind.patches_reference:  # type: ignore[attr-defined]
            continue
        control, reference = entry.control(), entry.reference()
        words = "_".join(item.short_name for item in control.optimizations) or "plain"
        name = f"{words}_{control.model.removeprefix('tiny-')}_{control.dtype}_{control.digest[:4]}"
        found.setdefault((control.digest, reference.digest), Entry(name, entry.kind, benign=True, is_control=True))
    return list(found.values())


def load_offered(file: Path) -> Any:
    """The one thing that a file offers in its `__all__`."""
    name = f"mutation_{file.parent.name}_{file.stem}"
    if name in sys.modules:
        module = sys.modules[name]
    else:
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            msg = f"{file} cannot be imported"
            raise ImportError(msg)
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    (offered,) = module.__all__
    return getattr(module, offered)


def load_mutant(file: Path) -> type[Mutant]:
    """The mutant of a file.

    Raises:
        ValueError: its category is none of ours.
    """
    kind: type[Mutant] = load_offered(file)
    if kind.category not in CATEGORIES:
        msg = f"{file.name}: category {kind.category!r} is not one of {', '.join(CATEGORIES)}"
        raise ValueError(msg)
    return kind


def pytest_llmopt_optimizations(config: Any) -> dict[str, type[Mutant]]:  # noqa: ARG001 - the hook's own signature
    """The public hook of pytest-llmopt: every mutant as an optimization."""
    return {entry.full_name: entry.kind for entry in catalogue()}
