"""Hooks that other plugins and a `conftest.py` may implement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping


@pytest.hookspec
def pytest_llmopt_engines(config: pytest.Config) -> Mapping[str, Any]:  # type: ignore[empty-body]
    """Engines to add for this session, by name: `{"mine": MyEngine}`.

    Each is a class as described in `pytest_llmopt.core.engine.EngineKind`. Called once, before collection. Run tests on
    one with `@llmopt.engine("mine")` or `--llmopt-engine mine`.
    """


@pytest.hookspec
def pytest_llmopt_optimizations(config: pytest.Config) -> Mapping[str, type[Any]]:  # type: ignore[empty-body]
    """Optimizations to add for this session, by full name: `{"quantization.mine": Mine}`.

    Each is a frozen dataclass as described in `pytest_llmopt.core.optimization.Optimization`. Called once, before
    collection. Apply them with `@llmopt.quantized("mine")` or `@llmopt.optimization("quantization.mine")`.
    """
