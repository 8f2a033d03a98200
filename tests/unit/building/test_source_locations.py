"""An exported encoder contains no path of the machine that built it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tuwen_build.export.torchscript import export


class Projection(nn.Module):
    """A module whose forward fails for inputs that are not four numbers wide."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(inputs)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "model.pt"
    export(Projection().eval(), (torch.zeros(2, 4),), path)
    return path


def test_the_file_holds_no_debug_records(exported: Path) -> None:
    names = zipfile.ZipFile(exported).namelist()
    assert any(name.endswith("data.pkl") for name in names)
    assert not any("debug" in name for name in names)
    assert [path.name for path in exported.parent.iterdir()] == ["model.pt"]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_an_error_at_run_time_names_no_file_of_the_build_machine(exported: Path) -> None:
    module = torch.jit.load(str(exported))  # type: ignore[no-untyped-call]
    assert module(torch.ones(1, 4)).shape == (1, 4)
    with pytest.raises(RuntimeError) as caught:
        module(torch.ones(1, 5))
    message = str(caught.value)
    assert "shapes cannot be multiplied" in message
    assert str(Path(__file__)) not in message
    assert str(Path(torch.__file__).parent) not in message
