"""Requirements say what is missing and how to get it, before anything heavy is imported."""

import importlib.metadata
import math
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmopt.core.errors import OptionError, RequirementMissingError
from pytest_llmopt.core.requirements import Cuda, Package, format_bytes, parse_bytes, require


@dataclass(frozen=True)
class Thing:
    name: str
    reason: str | None = None

    def missing(self):
        return self.reason


def without_gpu():
    import torch

    return not torch.cuda.is_available()


@pytest.mark.parametrize("spec", ["numpy", "numpy>=1", "numpy>=1,<99", "pytest-benchmark>=5"])
def test_an_installed_package_that_fits_is_not_missing(spec):
    assert Package(spec).missing() is None


def test_a_package_that_is_not_installed_is_missing_with_what_to_type():
    reason = Package("no-such-thing>=2").missing()
    assert reason == "needs no-such-thing>=2, which is not installed: pip install 'no-such-thing>=2'"


def test_a_package_says_its_own_way_to_install_it():
    assert Package("no-such-thing", install="make it").missing().endswith("is not installed: make it")


@pytest.mark.parametrize("spec", ["numpy>=999", "numpy<1"])
def test_a_version_that_does_not_fit_is_missing_with_the_one_found(spec):
    found = importlib.metadata.version("numpy")
    assert Package(spec).missing() == f"needs {spec}, found {found}: pip install '{spec}'"


def test_the_module_counts_where_it_is_named_differently():
    assert Package("PyYAML", module="yaml").missing() is None
    assert "not installed" in Package("numpy", module="no_such_module").missing()


def test_a_module_without_metadata_is_trusted(tmp_path, monkeypatch):
    tmp_path.joinpath("a_source_tree.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert Package("a-source-tree>=3").missing() is None


def test_a_pre_release_counts_as_its_version(tmp_path, monkeypatch):
    tmp_path.joinpath("fresh.py").touch()
    info = tmp_path / "fresh-2.0rc1.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: fresh\nVersion: 2.0rc1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert Package("fresh>=1.9").missing() is None
    assert "found 2.0rc1" in Package("fresh>=2.0").missing()


def test_the_name_is_that_of_the_distribution():
    assert Package("flash-attn>=2.6", module="flash_attn").name == "flash-attn"
    assert Cuda().name == "gpu"


@pytest.mark.parametrize(
    ("requirement", "wanted"),
    [
        (Cuda(), "a CUDA device"),
        (Cuda(count=2), "2 CUDA devices"),
        (Cuda(memory=6 * 2**30), "a CUDA device, 6 GiB free"),
        (Cuda(capability=(8, 9)), "a CUDA device, compute capability >= 8.9"),
        (Cuda(2**30, (9, 0), 4), "4 CUDA devices, compute capability >= 9.0, 1 GiB free"),
    ],
)
def test_a_machine_without_a_gpu_says_what_is_wanted_and_that_it_has_none(requirement, wanted):
    if not without_gpu():
        pytest.skip("this machine has a CUDA device")
    assert requirement.missing() == f"needs {wanted} (this machine: none)"


def test_a_machine_with_a_gpu_meets_modest_wishes_and_counts_what_fits():
    if without_gpu():
        pytest.skip("needs a CUDA device")
    assert Cuda(memory=1, capability=(1, 0)).missing() is None
    assert "of which 0 fit" in Cuda(memory=2**60).missing()
    assert "of which 0 fit" in Cuda(capability=(99, 0)).missing()


def test_require_raises_for_the_first_that_is_missing_with_its_name():
    with pytest.raises(RequirementMissingError, match=r"^no b$") as raised:
        require(Thing("a"), Thing("b", "no b"), Thing("c", "no c"))
    assert raised.value.name == "b"


def test_require_is_silent_when_everything_is_there():
    require()
    require(Thing("a"), Package("numpy"))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("512B", 512),
        ("1 KB", 1000),
        ("1 KiB", 1024),
        ("500 MB", 500 * 10**6),
        (" 6 GiB ", 6 * 2**30),
        ("6gib", 6 * 2**30),
        ("1.5 GiB", 3 * 2**29),
        (".5 MiB", 2**19),
        (7, 7),
        (7.9, 7),
    ],
)
def test_sizes_are_read_with_decimal_and_binary_units(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "GiB", "6 G", "6 Gi", "6 XB", "six", "-1 GiB", "1e9", "1 GiB or so", "nan", "inf"]
)
def test_text_that_is_no_size_is_refused_with_an_example(text):
    with pytest.raises(OptionError, match=r"is not a size; write .* such as '6 GiB'"):
        parse_bytes(text)


@pytest.mark.parametrize("value", [0, -1, "0 B", math.nan, -math.inf])
def test_sizes_that_are_not_positive_are_refused(value):
    with pytest.raises(OptionError, match="must be positive"):
        parse_bytes(value)


@pytest.mark.parametrize("value", [math.inf, 0.5, None, [6], (1, 2), True], ids=repr)
def test_values_that_are_no_size_are_refused(value):
    with pytest.raises(OptionError):
        parse_bytes(value)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (1023, "0.999 KiB"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1000 * 2**20, "0.977 GiB"),
        (6 * 2**30, "6 GiB"),
        (2000 * 2**30, "1.95 TiB"),
    ],
)
def test_sizes_are_shown_with_a_binary_unit_and_three_digits(size, text):
    assert format_bytes(size) == text


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 2**39))
def test_a_shown_size_is_within_half_a_percent_and_has_no_exponent(size):
    text = format_bytes(size)
    assert "e" not in text
    assert parse_bytes(text) == pytest.approx(size, rel=0.005, abs=0.5)
