"""For authors of mutants: `python try_mutant.py ID...` prints what each check says of one, and how large it is."""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
from mutation import catalogue

from pytest_llmopt.core.context import Context
from pytest_llmopt.core.loading import LoadPolicy, fixtures_folder
from pytest_llmopt.core.optimization import Promise
from pytest_llmopt.core.prompts import PromptSet
from pytest_llmopt.core.registry import Registry
from pytest_llmopt.core.variant import Variant
from pytest_llmopt.runtime.loader import Loader
from pytest_llmopt.runtime.side import Side

loader = Loader(Registry("engines", "engine"), LoadPolicy())
checks = Registry("checks", "check")
prompts = PromptSet.load(fixtures_folder() / "prompts" / "default.jsonl")
for entry in catalogue():
    if entry.id not in sys.argv[1:]:
        continue
    variant = entry.variant()
    kind = entry.kind
    plain = Variant(variant.model, dtype=variant.dtype, device="cpu")
    context = Context(open=loader.get)
    candidate = Side("candidate", variant, loader.get(variant), context=context)
    reference = Side("reference", plain, loader.get(plain), context=context)
    family = "accurate" if Promise.ACCURATE in variant.promises else "equivalent"
    names = [family, "invariant", "optimized"]
    if family == "equivalent" and any(name.startswith(("decoding.assisted", "decoding.prompt")) for name, _ in kind.base):
        names.append("lossless")
    if kind.category == "sampling":
        names.append("lossless")
    print(f"== {entry.id}: {variant.label}")
    for name in names:
        started = time.perf_counter()
        try:
            verdict = checks.load(name)(candidate, reference, prompts)
        except Exception as error:  # noqa: BLE001
            print(f"  {name:11} raised {type(error).__name__}: {error}")
            continue
        failed = {key: float(np.round(m.estimate.point, 6)) for key, m in verdict.metrics.items() if m.status not in (None, "PASS")}
        print(f"  {name:11} {verdict.status} {time.perf_counter() - started:.1f} s  {verdict.evidence}  {failed or ''}")
