"""What the mutation benchmark says of itself: what a verdict depends on, what was said first, what is no verdict."""

import json
import sys
from functools import partial
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "mutation"
sys.path.insert(0, str(BENCHMARK))

import _digests  # noqa: E402
import _pytest_run  # noqa: E402
import effects  # noqa: E402
import first_sight  # noqa: E402
import judging  # noqa: E402
import mutation  # noqa: E402
import report  # noqa: E402
import run  # noqa: E402

ENTRIES = {entry.full_name: entry for entry in mutation.catalogue()}

BOUND = '''
from dataclasses import dataclass
from typing import ClassVar
from mutation import Mutant

__all__ = ["Planted"]


@dataclass(frozen=True)
class Planted(Mutant):
    """A norm of its own."""

    category: ClassVar[str] = "attention"
    source: ClassVar[str] = "a test"

    def change(self, model):
        """Of {where}."""
        norm = model.model.norm
        own = type(norm).forward
        {owner}.forward = lambda {norm}hidden: own({given}, hidden) * {factor}
'''


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A folder of mutants, and results of their own; what one of them patches is undone."""
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    monkeypatch.setattr(LlamaRMSNorm, "forward", LlamaRMSNorm.forward)
    monkeypatch.setattr(judging, "STATE", tmp_path / "state")
    monkeypatch.setattr(judging, "PROBES", 1)
    judging.shared.cache_clear()

    def make(where, factor=1.05):
        parts = {"class": ("type(norm)", "own_norm, ", "own_norm"), "instance": ("norm", "", "norm")}[where]
        owner, norm, given = parts
        folder = tmp_path / f"{where}_{factor}".replace(".", "_")
        folder.mkdir()
        text = BOUND.format(where=where, owner=owner, norm=norm, given=given, factor=factor)
        (folder / f"planted_{where}_{folder.name}.py").write_text(text)
        return judging.Task(f"mutants.planted_{where}_{folder.name}", 0, (folder,))

    yield make
    judging.shared()[0].close()
    judging.shared.cache_clear()


def test_a_mutant_that_changes_the_reference_is_an_error_and_no_catch(planted):
    verdict = judging.judge(planted("class"), ("perplexity",))["judges"]["perplexity"]
    assert verdict["caught"] is None
    assert "changed the reference" in verdict["error"]


def test_one_that_changes_its_own_model_is_judged(planted):
    verdict = judging.judge(planted("instance"), ("mean_kld",))["judges"]["mean_kld"]
    assert "error" not in verdict


def test_a_process_that_was_changed_before_judges_nothing(planted):
    judging.judge(planted("class"), ("perplexity",))
    judging.shared.cache_clear()  # a model that is opened now has the patched class from the start
    with pytest.raises(judging.PoisonedProcessError, match="earlier candidate"):
        judging.judge(planted("instance"), ("perplexity",))


def test_a_model_that_the_loader_refuses_is_caught_by_us_and_seen_by_nobody_else(planted):
    verdicts = judging.judge(judging.Task("mutants.ld_shard_lost", 0), ("gate", "perplexity"))["judges"]
    assert verdicts["gate"]["caught"].startswith("refused: ModelError")
    assert verdicts["perplexity"]["not_judged"]


def test_what_is_judged_already_is_not_judged_again(planted, monkeypatch):
    task = planted("instance")
    judging.judge(task, ("perplexity",))
    monkeypatch.setattr(judging, "_judge", lambda *_: pytest.fail("judged a second time"))
    assert judging.judge(task, ("perplexity",))["judges"].keys() == {"perplexity"}


def test_a_verdict_depends_on_checks_only_where_they_judge():
    entry = ENTRIES["mutants.at_heads_swapped"]
    ours, theirs = (_digests.files_of(entry, judge) for judge in ("gate", "perplexity"))
    parts = {file.relative_to(_digests.PACKAGE).parts[0] for file in ours if file.is_relative_to(_digests.PACKAGE)}
    assert {"checks", "relations", "statistics", "engines", "core"} <= parts
    assert not {"reporting", "cli.py", "plugin.py"} & parts
    assert not any("checks" in file.parts for file in theirs)
    assert {BENCHMARK / "judges" / "perplexity.py", BENCHMARK / "cases.py"} <= theirs


def test_a_verdict_does_not_depend_on_other_mutants_or_the_report():
    for name in ("mutants.at_heads_swapped", "mutants.wq10_bias_twice", "benign.bn_online_softmax"):
        files = _digests.files_of(ENTRIES[name], "gate")
        own = [
            file.stem for file in files if file.parent.name in {"mutants", "benign"} and file.is_relative_to(BENCHMARK)
        ]
        assert own == [ENTRIES[name].id]
        assert not {"report.py", "run.py", "first_sight.py"} & {file.name for file in files}


def test_a_verdict_depends_on_the_helpers_of_its_mutant_and_on_its_base():
    files = {file.name for file in _digests.files_of(ENTRIES["mutants.bg_one_code"], "gate")}
    assert "quantizer.py" in files
    files = {file.name for file in _digests.files_of(ENTRIES["mutants.kv07_ring_start"], "gate")}
    assert {"_caches.py", "_attention.py", "static_cache.py"} <= files
    assert "gptq.py" not in files


def test_the_digest_changes_with_the_content_of_a_file(tmp_path):
    _digests._content.cache_clear()
    file = tmp_path / "mutant.py"
    file.write_text("factor = 1.02")
    before = _digests.digest_of([file])
    _digests._content.cache_clear()
    file.write_text("factor = 1.03")
    assert _digests.digest_of([file]) != before


def test_every_base_without_its_bug_is_a_control():
    controls = [entry for entry in ENTRIES.values() if entry.is_control]
    known = {(entry.variant().digest, entry.reference().digest) for entry in controls}
    assert len(known) == len(controls)
    for entry in ENTRIES.values():
        if not entry.benign and not entry.kind.patches_reference and "model_under_test" not in vars(entry.kind):
            assert (entry.control().digest, entry.reference().digest) in known, entry.id
            assert entry.full_name not in {item.name for item in entry.control().optimizations}


def test_a_sample_takes_each_difference_once_before_any_twice():
    tasks = [judging.Task(f"benign.{name}", seed) for name in "abcde" for seed in range(4)]
    chosen = run.sampled(tasks, 7, seed=3)
    assert chosen == run.sampled(tasks, 7, seed=3)
    assert chosen != run.sampled(tasks, 7, seed=4)
    assert sorted(task.full_name for task in run.sampled(tasks, 5, seed=3)) == [f"benign.{name}" for name in "abcde"]
    assert len(run.sampled(tasks, None, seed=3)) == len(tasks)


def result(name, caught, *, benign=False, **verdict):
    own = {"caught": caught, "seconds": 1.0, "looked_at": {"equivalent": {"deepest position": 512}}, **verdict}
    entry = {"id": name, "full_name": f"{'benign' if benign else 'mutants'}.{name}", "benign": benign, "seed": 0}
    return {
        **entry,
        "category": "attention",
        "model": "tiny-llama",
        "source": "x",
        "needs": [],
        "judges": {"gate": own},
    }


def test_the_report_gives_both_rates_and_what_was_looked_at():
    first = {
        "mutants.a": {"commit": "c0", "caught": None, "seconds": 2.0},
        "mutants.b": {"commit": "c0", "caught": "equivalent: fail", "seconds": 2.0},
    }
    results = [result("a", "equivalent: fail"), result("b", "equivalent: fail"), result("older", None)]
    made = report.Run(0, ("gate",), 0, None, "c1")
    content = report.summary(results, made, first)
    assert content["first_sight"]["mutants"] == {"total": 2, "first_sight": 1, "now": 2}
    assert [row["first_sight"] for row in content["mutants"]] == [first["mutants.a"], first["mutants.b"], "unknown"]
    assert content["mutants"][0]["looked_at"] == {"equivalent": {"deepest position": 512}}
    text = report.markdown(results, made, first)
    assert "| new mutants caught | 2 | 1 (50 %) | 2 (100 %) |" in text
    assert "deepest position 512" in text
    assert "`a`: needs nothing in particular" in text


def test_a_crash_counts_as_a_catch_and_is_listed_apart():
    results = [
        result("a", "raised TypeError: x"),
        result("b", "optimized: RuntimeError"),
        result("c", "equivalent: fail, a"),
    ]
    text = report.markdown(results, report.Run(0, ("gate",), 0, None, "c1"), {})
    assert "## Caught by an error, not by a measurement (2)" in text
    assert "- `b`: optimized: RuntimeError" in text


def test_an_error_of_a_mutant_and_what_was_not_judged_count_for_nobody():
    results = [
        result("a", None, error="it changed the reference"),
        result("b", None, not_judged="refused"),
        result("c", "x"),
    ]
    made = report.Run(0, ("gate",), 0, None, "c1")
    assert report.summary(results, made, {})["judges"]["gate"]["total"] == 1
    assert "## Errors of mutants (1)" in report.markdown(results, made, {})


def test_first_verdicts_belong_to_entries_and_are_never_replaced(tmp_path, monkeypatch):
    content = json.loads(first_sight.FILE.read_text())
    # Its verdict stays, though it was withdrawn: it accepts less, which `optimized` is there to see.
    assert set(content) - set(ENTRIES) == {"benign.bn_own_sample_matched"}
    assert all(verdict is None or {"commit", "caught", "seconds"} == set(verdict) for verdict in content.values())
    monkeypatch.setattr(first_sight, "FILE", tmp_path / "first_sight.json")
    known = {name: {"commit": "c0", "caught": None, "seconds": 1.0} for name in ENTRIES}
    first_sight.FILE.write_text(json.dumps(known))
    monkeypatch.setattr(first_sight, "judge", lambda *_: pytest.fail("judged again"))
    monkeypatch.setattr(sys, "argv", ["first_sight.py"])
    first_sight.main()
    assert json.loads(first_sight.FILE.read_text()) == known


def test_every_new_mutant_has_a_trigger_that_shows_it():
    shown = json.loads((BENCHMARK / "effects.json").read_text())
    new = {name.removeprefix("mutants.") for name in first_sight.recorded() if name.startswith("mutants.")}
    assert {name for name in new if not shown.get(name)} == set()


@pytest.mark.parametrize(("factor", "seen"), [(1.05, True), (1.0, False)])
def test_an_effect_is_seen_where_there_is_one(planted, monkeypatch, factor, seen):
    task = planted("instance", factor)
    monkeypatch.setattr(effects, "PROBES", {"forward": effects._forward})
    loader, prompts = judging.shared()
    assert bool(effects.effects(task.entry, partial(loader.side, anew=True), prompts)) == seen


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        ("", None),
        ('<failure message="equivalent failed"/>', "failure: equivalent failed"),
        ('<error message="the reference changed"/>', "error: the reference changed"),
        ('<skipped message="needs a GPU"/>', "skipped: needs a GPU"),
    ],
)
def test_every_outcome_of_a_test_run_but_a_pass_is_a_catch(tmp_path, inside, said):
    file = tmp_path / "junit.xml"
    file.write_text(f'<testsuites><testsuite><testcase name="t">{inside}</testcase></testsuite></testsuites>')
    assert _pytest_run._outcome(file, "") == (said and f"pytest run: {said}")


def test_a_test_run_without_a_test_is_no_verdict(tmp_path):
    with pytest.raises(RuntimeError, match="judged 0 candidates"):
        _pytest_run._outcome(tmp_path / "junit.xml", "INTERNALERROR")
