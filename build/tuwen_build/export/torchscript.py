"""Exporting an encoder to a TorchScript file that runs on every device, with any batch size and text length."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tuwen_build.errors import ExportError
from tuwen_files.disk_space import check_space

__all__ = ["device_constants", "export"]

_GRAPH_BYTES = 1 << 20


def export(encoder: nn.Module, example: tuple[Tensor, ...], path: Path) -> None:
    """Trace an encoder and save it.

    Args:
        encoder: a module in eval mode. Triton's C++ backend runs it as it was saved.
        example: inputs for the trace. The batch must be larger than 1, because the tracer broadcasts a size of 1.
        path: the path of ``model.pt``.

    Raises:
        ExportError: the module is in training mode, or the graph holds a device constant.
        DiskFullError: the disk has too little free space for two copies of the file, which exist for a moment.
    """
    if any(module.training for module in encoder.modules()):
        raise ExportError(
            f"{type(encoder).__name__} is in training mode, so dropout would be active; call eval() first"
        )
    with torch.inference_mode(), warnings.catch_warnings():
        # torch 2.9 deprecates TorchScript in favour of torch.export, whose AOTInductor packages Triton cannot
        # batch yet (pytorch_backend README, "AOTInductor"); and the tracer warns of shape checks that the
        # verification, which runs other shapes, proves harmless.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        warnings.simplefilter(
            "ignore", FutureWarning
        )  # transformers warns about its own attributes, which the tracer reads
        traced = torch.jit.trace(encoder, example, check_trace=False)  # type: ignore[no-untyped-call]
        if constants := device_constants(traced):
            raise ExportError(
                f"the graph of {type(encoder).__name__} holds {len(constants)} device constant(s), so it would only "
                f"run on the device it was traced on: {'; '.join(constants[:3])}"
            )
        _keep_sizes_as_numbers(traced)
        # Checked here too: torch 2.13 ends the whole process if the disk becomes full while it writes.
        weights = [*traced.parameters(), *traced.buffers()]
        check_space(path, 2 * sum(tensor.nbytes for tensor in weights) + _GRAPH_BYTES, path.parent.parent.name)
        torch.jit.save(traced, str(path))
    _strip_source_locations(path)


def _keep_sizes_as_numbers(traced: torch.jit.ScriptModule) -> None:
    """Remove the steps of a trace that turn a size into a tensor and back.

    The trace of a text encoder with twelve layers has a hundred such steps. Triton runs the graph as it was saved,
    without the optimizations that would remove the steps.
    """
    for module in traced.modules():
        compiled: Any = module._c
        if compiled._has_method("forward"):  # other modules only hold weights
            graph = compiled._get_method("forward").graph
            # Simplifications that depend on shapes are left out: they would fix the shapes of the example.
            torch._C._jit_pass_peephole(graph, disable_shape_peepholes=True)
            torch._C._jit_pass_dce(graph)


def _strip_source_locations(path: Path) -> None:
    """Remove the debug records from a TorchScript file.

    The records hold paths and source lines of the build machine. The C++ backend would send them to callers in its
    error messages.
    """
    reader = torch._C.PyTorchFileReader(str(path))
    stripped = path.with_suffix(".stripped")
    writer = torch._C.PyTorchFileWriter(str(stripped))
    # PyTorchFileWriter writes these records itself.
    own = {"version", "byteorder", ".data/version", ".data/serialization_id"}
    for name in reader.get_all_records():
        if not name.endswith(".debug_pkl") and name not in own:
            record = reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_end_of_file()
    stripped.replace(path)


def device_constants(traced: torch.jit.ScriptModule) -> list[str]:
    """Return the nodes of a traced graph that name a device, each as one line with its place in the source.

    Tracing turns ``torch.zeros(..., device=x.device)``, ``torch.arange`` and ``.to(device=...)`` into constants.
    ``torch.jit.load(map_location=...)`` does not change them.
    """
    graph: Any = traced.inlined_graph
    return [
        " ".join(str(node).split())
        for node in graph.findAllNodes("prim::Constant", recurse=True)
        if str(node.output().type()) == "Device"
    ]
