"""GPUs by name and as drivers call them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from judge.classifier.sizing.devices import GIB, detected, named, peak_of, processor
from judge.errors import InputError


@pytest.mark.parametrize(
    ("spec", "name", "count"),
    [
        ("T4", "T4", 1),
        ("t4:2", "T4", 2),
        ("A10G", "A10G", 1),
        ("3090", "RTX-3090", 1),
        ("RTX 4090", "RTX-4090", 1),
        ("a100-40", "A100-40", 1),
        ("A100-80GB:8", "A100-80", 8),
        ("v100-16", "V100-16", 1),
        ("H200", "H200", 1),
    ],
)
def test_gpus_by_name(spec: str, name: str, count: int) -> None:
    found = named(spec)
    assert (found.name, found.count, found.cuda) == (name, count, True)


@pytest.mark.parametrize(
    "spec", ["", ":", "T4:", "T4:0", "T4:-1", "T4:x", "T4:1e3", "A9000", "T4:9999999", "4", "T4:²"]
)
def test_what_is_no_gpu(spec: str) -> None:
    if spec == "T4:":
        assert named(spec).count == 1
        return
    with pytest.raises(InputError):
        named(spec)


def test_a_name_nearly_right() -> None:
    with pytest.raises(InputError, match="did you mean RTX-4090"):
        named("RTX-4091")


def test_older_gpus_compute_in_float16() -> None:
    for name, dtype in (("T4", "float16"), ("V100-32", "float16"), ("L4", "bfloat16")):
        assert named(name).dtype(training=True) == dtype


def driver(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, code: int = 0) -> None:
    """An nvidia-smi that says a text."""
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("called", "memory", "name", "gib"),
    [
        ("NVIDIA A10G", 23028, "A10G", 22.1),
        ("Tesla T4", 15360, "T4", 14.6),
        ("Tesla V100-SXM2-16GB", 16384, "V100-16", 15.8),
        ("Tesla V100-SXM2-32GB", 32768, "V100-32", 31.7),
        ("NVIDIA A100-SXM4-80GB", 81920, "A100-80", 79.2),
        ("NVIDIA A100-PCIE-40GB", 40960, "A100-40", 39.4),
        ("NVIDIA H100 80GB HBM3", 81559, "H100", 79.1),
        ("NVIDIA H100 PCIe", 81559, "H100-PCIe", 79.1),
        ("NVIDIA H200", 143771, "H200", 139.8),
        ("NVIDIA L4", 23034, "L4", 22.0),
        ("NVIDIA L40S", 46068, "L40S", 44.5),
        ("NVIDIA GeForce RTX 3090", 24576, "RTX-3090", 23.7),
        ("NVIDIA GeForce RTX 4090", 24564, "RTX-4090", 23.5),
        ("NVIDIA RTX A6000", 49140, "A6000", 47.5),
        ("NVIDIA RTX 6000 Ada Generation", 49140, "RTX-6000-Ada", 47.4),
        ("NVIDIA A10", 23028, "A10", 22.0),
        ("NVIDIA A40", 46068, "A40", 44.4),
        ("NVIDIA L40", 46068, "L40", 44.4),
        ("NVIDIA H20", 97871, "H20", 95.1),
        ("NVIDIA H100 NVL", 95830, "H100-NVL", 93.1),
        ("NVIDIA A800-SXM4-80GB", 81251, "A800-80", 79.2),
    ],
)
def test_gpus_as_drivers_call_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    called: str,
    memory: int,
    name: str,
    gib: float,
) -> None:
    driver(tmp_path, monkeypatch, f"{called}, {memory}\n{called}, {memory}")
    found = detected()
    assert (found.name, found.count, found.origin) == (name, 2, "found")
    assert found.memory / GIB == pytest.approx(gib, rel=0.02)


def test_a_gpu_of_tomorrow_is_taken_for_a_slow_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(tmp_path, monkeypatch, "NVIDIA Z9000, 100000")
    found = detected()
    assert found.name == "NVIDIA Z9000"
    assert found.half <= named("T4").half


@pytest.mark.parametrize(("text", "code"), [("", 0), ("broken", 0), ("Tesla T4, 15360", 9)])
def test_without_a_gpu_it_is_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, code: int
) -> None:
    driver(tmp_path, monkeypatch, text, code)
    assert detected(measure=False).cuda is False


def test_the_processor_is_measured() -> None:
    found = processor()
    assert found.memory > 0
    assert found.single > 1e8
    assert found.dtype(training=True) == "float32"


@pytest.mark.parametrize(
    ("called", "name"),
    [("NVIDIA H100 80GB HBM3", "H100"), ("Tesla V100-SXM2-16GB", "V100-16"),
     ("AMD Instinct MI250X", "MI250X"), ("NVIDIA GH200 480GB", "GH200")],
)  # fmt: skip
def test_the_peak_of_a_gpu_that_is_here_is_that_of_the_table(called: str, name: str) -> None:
    for dtype in ("float32", "bfloat16", "float16"):
        assert peak_of(called, dtype) == named(name).peak(dtype)
    assert peak_of("NVIDIA Z9000", "bfloat16") is None
