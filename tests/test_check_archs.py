# SPDX-License-Identifier: Apache-2.0
"""bench/check_archs.py: what it reads, what it finds wrong, and that the kernels in the extension keep the rules."""

import importlib
import json
from collections import Counter
from pathlib import Path

import pytest

from cases import cuda_kernels
from dlcore import _core

SYMBOL = "_ZN6dlcore4cuda8cuda_f3214product_kernelILNS_4RoleE1ELi2EEEvNS_11InstructionE"
PTXAS = f"""ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '{SYMBOL}' for 'sm_90'
ptxas info    : Function properties for {SYMBOL}
    16 bytes stack frame, 24 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 80 registers, used 1 barriers, 16 bytes cumulative stack size, 512 bytes smem
"""
BUILT = f"""arch = sm_80
 Function {SYMBOL}:
  REG:226 STACK:0 SHARED:1024 LOCAL:0 CONSTANT[0]:648 TEXTURE:0 SURFACE:0 SAMPLER:0
"""
SASS = f"""\tcode for sm_80
\t\tFunction : {SYMBOL}
        /*0000*/                   LDC R1, c[0x0][0x28] ;              /* 0x00000a00ff017b82 */
        /*0010*/              @!P0 LDG.E.128 R4, desc[UR4][R2.64] ;    /* 0x00000004020481 */
        /*0020*/             @UP0  LDG.E.128.CONSTANT R4, [R2] ;       /* 0x00000004020481 */
"""


@pytest.fixture
def archs(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "bench")
    module = importlib.import_module("check_archs")
    if tool := module.lacks("c++filt"):
        pytest.skip(f"{tool} is not installed")
    return module


def test_usage_is_read_from_ptxas(archs):
    (use,) = archs.from_ptxas(PTXAS)
    assert (use.kernel, use.arch, use.registers, use.stack, use.shared, use.spills) == (
        "product_kernel<1, 2>",
        "90",
        80,
        16,
        512,
        32,
    )


def test_usage_and_instructions_are_read_from_cuobjdump(archs):
    (use,) = archs.from_built(BUILT)
    assert (use.kernel, use.arch, use.registers, use.stack, use.shared, use.spills) == (
        "product_kernel<1, 2>",
        "80",
        226,
        0,
        1024,
        None,
    )
    assert archs.instructions(SASS) == {(use.kernel, "80"): {"LDC": 1, "LDG.E.128": 1, "LDG.E.128.CONSTANT": 1}}


def test_every_rule_is_checked(archs, monkeypatch):
    monkeypatch.setattr(archs, "GREPS", (archs.Grep(r"LDG\.E\.128", "a"), archs.Grep("ATOM", ".*", present=False)))

    def wrong(log="", limits=None, instructions=("LDG.E.128.CONSTANT",), **changes):
        use = archs.Usage("a", **{"arch": "90", "registers": 40, "stack": 0, "shared": 0, "spills": 0, **changes})
        use.instructions = Counter(instructions)
        return archs.faults([use], {"a": 40} if limits is None else limits, log)

    assert wrong() == []
    assert wrong(registers=41) == ["a on sm_90: expected at most 40 registers, got 41"]
    assert wrong(arch="75", registers=64) == wrong(arch="86", registers=40) == []  # of fewer threads
    assert wrong(arch="86", registers=41) == ["a on sm_86: expected at most 40 registers, got 41"]
    assert wrong(arch="75", registers=65) == ["a on sm_75: expected at most 40 registers, got 65"]
    assert wrong(spills=8, stack=16) == ["a on sm_90: expected no spill and no stack, got 8 and 16 bytes"]
    assert wrong(limits={}) == ["a on sm_90: expected a limit in registers.json, got none for its 40 registers"]
    assert wrong(limits={"a": 40, "b": 8}) == ["registers.json: expected kernels, got 'b', which is none"]
    assert wrong(instructions=["LDG.E"]) == [r"a on sm_90: expected some LDG\.E\.128, got 0"]
    assert wrong(instructions=["LDG.E.128", "ATOM.ADD"]) == ["a on sm_90: expected no ATOM, got 1"]
    log = "ptxas info : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to a call"
    assert wrong(log) == [f"ptxas: {log}"]


def test_kernels_for_one_kind_of_gpu_are_on_no_other(archs, monkeypatch):
    monkeypatch.setattr(archs, "GREPS", ())
    assert archs.special() == {"wgmma_kernel": "90a"}
    limits = {"a": 40, "wgmma_kernel<0, 1, 0>": 168}
    elsewhere = [archs.Usage(name, "80", 40, 0, 0) for name in limits]
    assert archs.faults(elsewhere[:1], limits) == []
    assert archs.faults(elsewhere, limits) == ["wgmma_kernel<0, 1, 0> on sm_80: expected it on sm_90a alone"]
    assert archs.faults([archs.Usage("a", "90a", 40, 0, 0)], limits) == [
        "registers.json: expected kernels, got 'wgmma_kernel<0, 1, 0>', which is none"
    ]


def test_every_kernel_has_a_limit(archs):
    named = {name.split("<")[0] for name in json.loads(archs.LIMITS.read_text())}
    assert named == {name for name, _ in cuda_kernels()}


def test_kernels_in_the_extension_keep_the_rules(archs):
    if not _core.cuda_info()["built"]:
        pytest.skip("built without CUDA")
    if tool := archs.lacks("cuobjdump", "nvdisasm"):
        pytest.skip(f"{tool} is not installed: pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm")
    found = archs.built(Path(_core.__file__))
    assert {use.kernel.split("<")[0] for use in found} == {name for name, _ in cuda_kernels()} - archs.absent(found)
    assert archs.faults(found, json.loads(archs.LIMITS.read_text())) == []
