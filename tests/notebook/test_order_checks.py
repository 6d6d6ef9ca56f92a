"""An order is refused where nobody could train the model, or where the score would not tell good models from bad."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pot_lab.notebook import order_checks
from pot_lab.notebook.errors import BadArgument
from pot_lab.notebook.posting import PreparedOrder, prepare
from pot_lab.scoring import load_graph, score
from pot_lab.scoring.errors import BadDataset
from pot_lab.training import Trainer
from pot_lab.training.errors import BadSettings, TrainingDiverged

X = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)
PRICES = 200_000 + 60_000 * X[:, :1]
WORDS = torch.randint(0, 20, (60, 9), generator=torch.Generator().manual_seed(1))


def ordered(model: nn.Module, inputs: Tensor, targets: Tensor, function: str) -> PreparedOrder:
    return prepare(model, (inputs, targets), (inputs[:30].clone(), targets[:30].clone()), function)


@pytest.mark.parametrize(
    ("classes", "targets", "function", "reason"),
    [
        (3, Y, "top_k_accuracy", r"k=5, 3 classes, wanted: top_k_accuracy\[k=2\], or accuracy"),
        (5, Y, "top_k_accuracy", r"k=5, 5 classes, wanted: top_k_accuracy\[k=4\]"),
        (2, Y % 2, "top_k_accuracy[k=2]", r"k=2, 2 classes, wanted: accuracy"),
        (9, Y, "top_k_accuracy[k=3]", r"3 different class numbers in the test data: 0, 1, 2, wanted: at least 4"),
        (1, Y % 2, "accuracy", "two outputs for two classes"),
        (1, Y * 0, "accuracy", "two outputs for two classes"),
        (1, Y * 0, "cross_entropy", "two outputs for two classes"),
        (3, Y * 0 + 1, "accuracy", "1 different class numbers in the test data: 1"),
        (3, Y * 0 + 1, "cross_entropy", "always gives one answer"),
    ],
)
def test_a_score_that_every_model_gets_is_refused(classes: int, targets: Tensor, function: str, reason: str) -> None:
    with pytest.raises(BadArgument, match=reason):
        ordered(nn.Linear(8, classes), X, targets, function)


@pytest.mark.parametrize(
    ("targets", "function", "wanted"),
    [
        (PRICES, "mse", "mae"),
        (PRICES, "mse[decimals=0]", "mae"),
        (PRICES, "mae", r"mae\[decimals=[0-3]\]"),
        (PRICES * 1e9, "mae[decimals=0]", "divided by their standard deviation"),
        (X[:, :1] * 1e-4, "mse", r"mse\[decimals=12\]"),
        (X[:, :1] * 1e-9, "mae", r"mae\[decimals=12\]"),
        (torch.ones(60, 1), "mse", "targets that differ"),
    ],
)
def test_a_distance_whose_units_do_not_fit_is_refused_with_one_that_does(
    targets: Tensor, function: str, wanted: str
) -> None:
    with pytest.raises(BadArgument, match=f"wanted: .*{wanted}") as refusal:
        ordered(nn.Linear(8, 1), X, targets, function)
    advised = str(refusal.value).rsplit("wanted: ", 1)[1].rstrip(")")
    if advised.startswith(("mse", "mae")):
        assert ordered(nn.Linear(8, 1), X, targets, advised).score.name == advised


def test_without_the_check_a_cap_turns_the_ranking_round() -> None:
    close, far = nn.Linear(8, 1), nn.Linear(8, 1)
    with torch.no_grad():
        for net, bias in ((close, 200_300.0), (far, 200_000.0)):
            net.weight.zero_()
            net.weight[0, 0] = 60_000.0
            net.bias.fill_(bias)
        far.weight[0, 1] = 16_000.0
    inputs = X.clone()
    inputs[0, 1] = 0.0  # where the worse model happens to be right
    first, second = (score(net, inputs, PRICES, "mse") for net in (close, far))
    assert second.better_than(first)
    first, second = (score(net, inputs, PRICES, "mae[decimals=0]") for net in (close, far))
    assert first.better_than(second)


class Plain(nn.Module):
    """Layers that the module does not know, and of which none is to be trained."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 3).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def test_a_model_without_a_parameter_to_train_is_refused() -> None:
    with pytest.raises(BadArgument, match="no parameter that training may change"):
        ordered(Plain(), X, Y, "accuracy")


def test_the_trainer_says_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_checks, "check_trainable", lambda *given: None)
    order = ordered(Plain(), X, Y, "accuracy")
    with pytest.raises(BadSettings, match="no parameter that training may change"):
        Trainer(order.graph, order.weights, X, Y)


def test_a_step_that_fails_is_told_before_money_moves() -> None:
    net = nn.Linear(8, 1)
    with torch.no_grad():
        net.weight.fill_(1e25)  # whose square is no float32
    with pytest.raises(TrainingDiverged, match="providers could not train this model"):
        ordered(net, X, X[:, :1], "r2")


def test_weights_that_are_no_numbers_are_named_before_any_step() -> None:
    net = nn.Linear(8, 3)
    with torch.no_grad():
        net.weight.fill_(float("inf"))
    with pytest.raises(BadArgument, match="train example 0; 'weight' holds numbers that are not finite"):
        ordered(net, X, Y, "accuracy")


class Words(nn.Module):
    """Word numbers, shifted by an offset for each place as fields of a table are."""

    def __init__(self, offset: int = 0) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(20, 4), nn.Linear(4, 3)
        self.register_buffer("offsets", torch.arange(9) * 0 + offset)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.words(words + self.offsets).mean(1))


def test_every_place_that_the_data_name_is_looked_up() -> None:
    late = WORDS.clone()
    late[57, 3] = 20
    with pytest.raises(BadDataset, match=r"train data do not fit.*'words.weight'.*example 57: 20, wanted: 0 to 19"):
        prepare(Words(), (late, Y), (WORDS[:30].clone(), Y[:30].clone()), "accuracy")
    with pytest.raises(BadDataset, match=r"test data do not fit.*example 27: -1"):
        prepare(Words(), (WORDS, Y), (torch.cat([WORDS[:27], WORDS[:3] * 0 - 1]), Y[:30].clone()), "accuracy")
    shifted = WORDS.clamp(max=10)
    assert ordered(Words(9), shifted, Y, "accuracy").test_examples == 30
    shifted = torch.cat([shifted[:50], shifted[:10] * 0 + 11])
    with pytest.raises(BadDataset, match="example 50: 20"):
        ordered(Words(9), shifted, Y, "accuracy")


class Picked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        return self.head(x.view(-1, 2, 4).gather(1, place[:, None, None].expand(-1, 1, 4))[:, 0])


def test_places_that_are_picked_are_looked_up_too() -> None:
    place = torch.arange(60) % 2
    assert prepare(Picked(), ((X, place), Y), ((X[:30], place[:30]), Y[:30]), "accuracy").test_examples == 30
    place[41] = 2
    with pytest.raises(BadDataset, match=r"example 41: 2, wanted: 0 to 1"):
        prepare(Picked(), ((X, place), Y), ((X[:30], place[:30]), Y[:30]), "accuracy")


def test_sparse_gradients_are_trained_as_dense_ones() -> None:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.head = nn.Embedding(20, 8, sparse=True), nn.Linear(8, 3)

        def forward(self, words: Tensor) -> Tensor:
            return self.head(self.words(words).mean(1))

    order = ordered(Bag(), WORDS, Y, "accuracy")
    (lookup,) = [n for n in load_graph(order.graph).nodes if n.op == "aten.embedding.default"]
    assert lookup.args[4] is False
    Trainer(order.graph, order.weights, WORDS, Y).train_until(steps=3)


def test_the_users_module_and_generator_are_left_as_they_were() -> None:
    net = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 3))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    ordered(net, X, Y, "accuracy")
    assert torch.equal(torch.rand(2), wanted)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


class Tagger(nn.Module):
    def __init__(self, *, both_ways: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(20, 8)
        self.layer = nn.LSTM(8, 8, batch_first=True, bidirectional=both_ways)
        self.out = nn.Linear(16 if both_ways else 8, 20)

    def forward(self, words: Tensor) -> Tensor:
        return self.out(self.layer(self.table(words))[0])


LABELS = (X[:, :3] > 0).long()


@pytest.mark.parametrize(
    ("model", "inputs", "targets", "function", "reason"),
    [
        (nn.Sequential(nn.Linear(8, 3), nn.Softmax(-1)), X, Y, "cross_entropy", "ends in softmax"),
        (nn.Sequential(nn.Linear(8, 3), nn.Softmax(-1)), X, Y, "brier", "ends in softmax"),
        (
            nn.Sequential(nn.Linear(8, 3), nn.Sigmoid(), nn.Unflatten(1, (3, 1)), nn.Flatten()),
            X,
            LABELS,
            "multilabel_micro_f1",
            "ends in sigmoid",
        ),
        (Tagger(both_ways=False), WORDS, WORDS, "perplexity", "targets are the inputs themselves"),
        (Tagger(both_ways=True), WORDS[:, :-1], WORDS[:, 1:], "perplexity", "sees the token that it is to name"),
    ],
)
def test_a_model_that_the_score_would_not_tell_is_refused(
    model: nn.Module, inputs: Tensor, targets: Tensor, function: str, reason: str
) -> None:
    with pytest.raises(BadArgument, match=reason):
        ordered(model, inputs, targets, function)


def test_models_beside_these_are_ordered() -> None:
    ordered(nn.Sequential(nn.Linear(8, 3), nn.LogSoftmax(-1)), X, Y, "cross_entropy")
    ordered(nn.Sequential(nn.Linear(8, 3), nn.Softmax(-1)), X, Y, "accuracy")
    ordered(Tagger(both_ways=False), WORDS[:, :-1], WORDS[:, 1:], "perplexity")
    ordered(Tagger(both_ways=True), WORDS, WORDS % 7, "token_accuracy")


def test_first_outputs_that_are_no_numbers_are_told_with_the_example() -> None:
    class Logarithm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x[:, :8]).sub(x[:, :1].clamp(max=0).neg().log())

    with pytest.raises(BadArgument, match=r"not finite before any training.*train example \d+; \d+ of 60"):
        ordered(Logarithm(), X, Y, "accuracy")
