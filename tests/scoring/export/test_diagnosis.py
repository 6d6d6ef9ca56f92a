"""A refusal says why, where in the user's code and in which part, and what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pot_lab.errors import PotLabError
from pot_lab.notebook.posting import prepare
from pot_lab.scoring import export_model
from pot_lab.scoring.errors import BatchMixing, DtypeMismatch, ExportFailed, UnsupportedOperator
from pot_lab.scoring.export.diagnosis import user_line

X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self, forward: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.kind = nn.Linear(8, 8), nn.Linear(8, 3), nn.Embedding(5, 8)
        self._forward = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def windows(net: Net, x: Tensor) -> Tensor:
    parts = net.first(x).view(-1, 2, 4).flatten(0, 1)
    batch = int(parts.shape[0] / 2)
    return parts.view(batch, 8)


def on_the_count(net: Net, x: Tensor) -> Tensor:
    y = net.first(x)
    if x.shape[0] == 2:
        y = y * 2
    return y


def cast(net: Net, x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return net.last(net.first(x)).float()


def inner_gradient(net: Net, x: Tensor) -> Tensor:
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        return torch.autograd.grad(net.last(x).sum(), x, create_graph=True)[0]


@pytest.mark.parametrize(
    ("forward", "reason", "line"),
    [
        (cast, "torch.autocast chooses number types", "return net.last"),
        (inner_gradient, "its forward takes gradients", "return torch.autograd.grad"),
        (lambda n, x: torch.vmap(n.last)(x), "torch.func", "self._forward"),
        (lambda n, x: nn.functional.one_hot((x[:, :1] > 9).long()), "give num_classes", "lambda n, x"),
        (lambda n, x: n.last(n.first(x)[:, :7]), "does not run in eval mode: RuntimeError: mat1", "lambda n, x"),
        (lambda n, x: n.last(n.first(x).view(6, 8)), "fixes the batch's size", "lambda n, x"),
        (lambda n, x: torch.stack([n.last(row) for row in x]), "no loop on the number of examples", "lambda n, x"),
        (lambda n, x: n.last(torch.relu(n.first(x)).data), r"write .detach\(\) instead of .data", "lambda n, x"),
        (lambda n, x: n.last(x * float(n.first(x).detach().numpy().mean())), "", "lambda n, x"),
        (lambda n, x: n.last(x) * torch.arange(len(x))[:, None], r"x.shape\[0\] instead of len", "lambda n, x"),
        (windows, "a // b instead of int", "batch = int"),
        (on_the_count, "no `if` and no loop on the number of examples", "if x.shape"),
        (lambda n, x: n.last(x) if x.sum() > 0 else n.last(-x), "use torch.where", "lambda n, x"),
    ],
)
def test_what_torch_cannot_export_is_told_by_cause(forward: Callable, reason: str, line: str) -> None:
    with pytest.raises(ExportFailed, match=reason) as refusal:
        export_model(Net(forward), X)
    text = str(refusal.value)
    assert Path(__file__).name in text and line in text
    assert "file an issue" not in text and "TORCH_LOGS" not in text and "\n" not in text and "node " not in text


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (lambda n, x: n.last(x).sum(), r"an output does not keep the batch.*, at test_diagnosis.py:\d+"),
        (lambda n, x: n.last(x - x.mean(0)), r"would mix examples: it would reduce the batch axis.*test_diagnosis.py"),
    ],
)
def test_a_graph_that_mixes_examples_is_told_by_line_not_by_node(forward: Callable, reason: str) -> None:
    with pytest.raises(BatchMixing, match=reason) as refusal:
        export_model(Net(forward), X)
    assert "node " not in str(refusal.value)


def test_memory_that_is_read_while_it_changes_is_named_where_that_shows() -> None:
    def shifted(n: Net, x: Tensor) -> Tensor:
        y = n.first(x).unsqueeze(-1).expand(-1, -1, 6).contiguous()
        y[..., 1:] += y[..., :-1]
        return y

    def disjoint(n: Net, x: Tensor) -> Tensor:
        y = n.first(x).clone()
        y[:, :4] += y[:, 4:]
        return y

    with pytest.raises(ExportFailed, match=r"read a .clone\(\) of it, at test_diagnosis.py:\d+"):
        export_model(Net(shifted), X)
    export_model(Net(disjoint), X)


def test_compiled_and_quantised_modules_are_told_what_to_give() -> None:
    plain = nn.Sequential(nn.Linear(8, 3), nn.ReLU())
    for module in (torch.jit.script(plain), torch.jit.trace(plain, X), nn.Sequential(torch.jit.script(plain))):
        with pytest.raises(ExportFailed, match="wanted: the module that it was made of"):
            export_model(module, X)
    quantised = torch.ao.quantization.quantize_dynamic(plain, {nn.Linear})
    with pytest.raises(
        ExportFailed, match=r"seen: 0 \(Linear\), wanted: the module before it was quantised, or nn.Linear"
    ):
        export_model(quantised, X)


def test_a_mask_in_an_encoder_of_torch_asks_for_is_causal() -> None:
    class Tutorial(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(20, 16)
            self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 1)

        def forward(self, words: Tensor) -> Tensor:
            mask = nn.Transformer.generate_square_subsequent_mask(words.size(1))
            return self.encoder(self.words(words), mask)

    with pytest.raises(ExportFailed, match="is_causal=True in encoders"):
        export_model(Tutorial(), torch.randint(0, 20, (4, 9)))


@pytest.mark.parametrize(
    ("module", "part"),
    [
        (nn.Sequential(nn.ReLU(inplace=True), nn.Linear(8, 3)), r"'0' \(ReLU\)"),
        (nn.Sequential(nn.Linear(8, 8), nn.RReLU()), r"'1' \(RReLU\)"),
        (nn.Sequential(nn.Sequential(nn.Linear(8, 8), nn.RReLU()), nn.Linear(8, 3)), r"'0.1' \(RReLU\)"),
        (nn.Sequential(nn.Linear(8, 8), Net(lambda n, x: torch.atan2(x, x))), r"test_diagnosis.py.*'1' \(Net\)"),
    ],
)
def test_the_part_is_named_where_the_line_is_torchs(module: nn.Module, part: str) -> None:
    with pytest.raises(UnsupportedOperator, match=part):
        export_model(module, X)


def test_lines_of_other_packages_are_places() -> None:
    site = Path(torch.__file__).parent.parent
    for package in ("torchvision/ops/stochastic_depth.py", "torch_geometric/nn/gcn_conv.py", "torchtoolkit/mine.py"):
        assert user_line(f'File "{site / package}", line 62, in forward').startswith(f"{Path(package).name}:62")
    assert user_line(f'File "{site / "torch/nn/modules/linear.py"}", line 62, in forward') == ""


def test_types_of_parameters_are_told_only_where_the_module_does_not_run() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.layer = nn.Parameter(torch.tensor(2.0, dtype=torch.float64)), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) * self.scale.exp()

    class Inside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 3).bfloat16()

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.bfloat16()).float()

    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    for module in (Scaled(), Inside()):
        assert prepare(module, (X, labels), (X.clone(), labels), "accuracy").test_examples == 6
    with pytest.raises(DtypeMismatch, match=r"wanted: model.float\(\), or a forward that begins with x.to"):
        prepare(nn.Linear(8, 3).half(), (X, labels), (X.clone(), labels), "accuracy")


def test_a_refusal_of_a_module_is_never_about_a_hostile_graph() -> None:
    for forward in (lambda n, x: n.kind(x.long())[:, 0], lambda n, x: x[x > 0], lambda n, x: x.to(torch.int32)):
        with pytest.raises(PotLabError) as refusal:
            export_model(Net(forward), X)
        assert type(refusal.value).__name__ != "HostileGraph"
