"""Text towers that compute tokens without padding, compared with transformers on the padded batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, ChineseCLIPTextConfig, CLIPTextConfig, CLIPTextModel
from transformers.models.chinese_clip.modeling_chinese_clip import ChineseCLIPTextModel

from tuwen_build.export.torchscript import export
from tuwen_build.towers import TextTower, use_packed_attention
from tuwen_build.towers._text import UNPACKED_ROWS

SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 20,
}
LENGTHS = [
    pytest.param([5, 20, 2, 11, 7], id="mixed"),
    pytest.param([20, 20], id="full"),
    pytest.param([3], id="alone"),
    pytest.param([8], id="a multiple of eight"),
    pytest.param([1, 1, 1], id="one token each"),
]


@dataclass(frozen=True)
class Family:
    """A text tower of a model family, and its reference.

    Attributes:
        tower: the tower that is tested.
        reference: a function that returns the vectors of transformers for the padded ids and their mask.
    """

    tower: TextTower
    reference: Callable[[Tensor, Tensor], Tensor]


def chinese_clip() -> Family:
    model = ChineseCLIPTextModel(ChineseCLIPTextConfig(**SIZES), add_pooling_layer=False).eval()
    head = nn.Linear(48, 16)
    return Family(
        TextTower(model, head), lambda ids, mask: head(model(ids, attention_mask=mask).last_hidden_state[:, 0])
    )


def taiyi() -> Family:
    model = BertModel(BertConfig(**SIZES)).eval()
    head = nn.Sequential(model.pooler.dense, model.pooler.activation)
    return Family(TextTower(model, head), lambda ids, mask: model(ids, attention_mask=mask).pooler_output)


def openai_clip() -> Family:
    model = CLIPTextModel(CLIPTextConfig(**SIZES, eos_token_id=299)).eval()
    return Family(
        TextTower(model, model.final_layer_norm, causal_length=20),
        lambda ids, mask: model(ids, attention_mask=mask).pooler_output,
    )


class OnGpu(Tensor):
    """A tensor that claims to be on a GPU, and records the operations for which the host would wait for the GPU."""

    waits: ClassVar[list[str]] = []
    is_cuda = property(lambda _: True)  # type: ignore[assignment]

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.__name__ in ("__bool__", "__int__", "cpu", "item", "nonzero", "tolist"):
            cls.waits.append(function.__name__)
        return super().__torch_function__(function, types, args, kwargs or {})


@pytest.fixture(params=[chinese_clip, taiyi, openai_clip])
def family(request: pytest.FixtureRequest) -> Family:
    torch.manual_seed(0)
    found: Family = request.param()
    return found


def texts(lengths: list[int], padded_to: int = 20) -> tuple[Tensor, Tensor]:
    """Return random token ids and their mask. Each text ends with id 299, CLIP's end-of-text token in these tests."""
    mask = torch.tensor([[1] * length + [0] * (padded_to - length) for length in lengths])
    ids = torch.randint(1, 299, mask.shape) * mask
    for row, length in enumerate(lengths):
        ids[row, length - 1] = 299
    return ids, mask


@pytest.mark.parametrize("lengths", LENGTHS)
@torch.inference_mode()
def test_packed_tokens_give_the_vectors_of_the_padded_batch(family: Family, lengths: list[int]) -> None:
    ids, mask = texts(lengths)
    expected = family.reference(ids, mask)
    use_packed_attention(family.tower)
    assert (family.tower(ids, mask) - expected).abs().max() < 2e-6


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@torch.inference_mode()
def test_a_trace_computes_other_shapes_than_its_example(family: Family, tmp_path: Path) -> None:
    expected = {}
    for lengths in ([4, 9, 1], [20], [2] * 7):
        ids, mask = texts(lengths)
        expected[ids, mask] = family.reference(ids, mask)
    use_packed_attention(family.tower)
    example = torch.ones(2, 16, dtype=torch.int64)
    export(family.tower.eval(), (example, example), tmp_path / "model.pt")
    traced: Any = torch.jit.load(tmp_path / "model.pt")
    for batch, embeddings in expected.items():
        assert (traced(*batch) - embeddings).abs().max() < 2e-6


@torch.inference_mode()
def test_linear_layers_compute_no_padding(family: Family) -> None:
    """A linear layer computes as many rows as the texts have tokens, rounded up to a multiple of eight.

    The number does not depend on the width to which the texts were padded.
    """
    rows = []
    layer = next(module for module in family.tower.encoder.modules() if isinstance(module, nn.Linear))
    layer.register_forward_hook(lambda _, inputs, __: rows.append(inputs[0].shape[:-1].numel()))
    use_packed_attention(family.tower)
    for padded_to in (12, 20):
        family.tower(*texts([5, 12, 2, 3], padded_to))
    assert rows == [24, 24]


@torch.inference_mode()
def test_a_mask_of_zeros_gives_finite_vectors(family: Family) -> None:
    """A mask of zeros, which Triton sends to warm up a model, gives finite vectors."""
    use_packed_attention(family.tower)
    zeros = torch.zeros(3, 20, dtype=torch.int64)
    assert torch.isfinite(family.tower(zeros, zeros)).all()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@torch.inference_mode()
def test_ids_and_masks_out_of_range_are_clamped(family: Family, tmp_path: Path) -> None:
    """Token ids and mask values out of range are clamped before they are used.

    Every caller of a server can send such ids, and an index out of range would crash a process that uses a GPU.
    """
    use_packed_attention(family.tower)
    example = torch.ones(2, 16, dtype=torch.int64)
    export(family.tower.eval(), (example, example), tmp_path / "model.pt")
    tower: Any = torch.jit.load(tmp_path / "model.pt")
    ids = torch.tensor([[1, 2, 3, 4]])
    expected = tower(ids, torch.ones_like(ids))
    beyond, below = ids.clone(), ids.clone()
    beyond[0, 1], below[0, 1] = 1 << 40, -(1 << 40)
    ends = ids.clone(), ids.clone()
    ends[0][0, 1], ends[1][0, 1] = SIZES["vocab_size"] - 1, 0
    torch.testing.assert_close(tower(beyond, torch.ones_like(ids)), tower(ends[0], torch.ones_like(ids)))
    torch.testing.assert_close(tower(below, torch.ones_like(ids)), tower(ends[1], torch.ones_like(ids)))
    torch.testing.assert_close(tower(ids, torch.tensor([[1, 7, 1 << 50, 1]])), expected)  # values above 0 count as 1
    negative = torch.tensor([[1, 1, -5, -1]])
    torch.testing.assert_close(tower(ids, negative), tower(ids[:, :2], torch.ones_like(ids[:, :2])))
    longer = torch.ones(1, 500, dtype=torch.int64)
    torch.testing.assert_close(tower(longer, longer), tower(longer[:, :20], longer[:, :20]))
    torch.testing.assert_close(tower(ids, longer), expected)


@pytest.mark.parametrize(
    ("lengths", "waits"),
    [
        pytest.param([3], [], id="one text"),
        pytest.param([5, 20, 2, 11, 7], [], id="a small batch"),
        pytest.param([5, 20, 2, 11, 7] * 4, ["nonzero"], id="a large batch"),
    ],
)
@torch.inference_mode()
def test_a_gpu_waits_at_most_once_for_a_batch(
    family: Family, lengths: list[int], waits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnGpu, "waits", [])
    ids, mask = texts(lengths)
    assert (ids.numel() > UNPACKED_ROWS) == bool(waits)
    expected = family.reference(ids, mask)
    use_packed_attention(family.tower)
    embeddings = family.tower(ids.as_subclass(OnGpu), mask.as_subclass(OnGpu))
    assert OnGpu.waits == waits
    assert (embeddings.as_subclass(Tensor) - expected).abs().max() < 2e-6


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@torch.inference_mode()
def test_a_saved_tower_does_not_turn_sizes_into_tensors(family: Family, tmp_path: Path) -> None:
    use_packed_attention(family.tower)
    example = torch.ones(2, 16, dtype=torch.int64)
    export(family.tower.eval(), (example, example), tmp_path / "model.pt")
    graph: Any = torch.jit.load(tmp_path / "model.pt").inlined_graph
    assert graph.findAllNodes("aten::size", recurse=True)
    numbers = graph.findAllNodes("aten::Int", recurse=True)
    assert not [number for number in numbers if number.input().node().kind() == "prim::NumToTensor"]
