"""A broad zoo of modules as torchvision, timm and Hugging Face write them, each with examples of its inputs.

What is mainstream here must export, score to the second implementation's bits, and be close to the module itself.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# ---------------------------------------------------------------------------------------- vision


def conv_norm(inputs: int, outputs: int, kernel: int = 3, act: type[nn.Module] = nn.SiLU, **options: int) -> nn.Module:
    padding = options.pop("padding", (kernel - 1) // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=False, **options),
        nn.BatchNorm2d(outputs),
        act(inplace=True),
    )


class SqueezeExcitation(nn.Module):
    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1, self.fc2 = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.fc2(F.silu(self.fc1(self.avgpool(x))))) * x


class StochasticDepth(nn.Module):
    """Whole examples dropped while training, written with dropout, as the errors advise."""

    def forward(self, x: Tensor) -> Tensor:
        return x * F.dropout(x.new_ones(x.shape[0], 1, 1, 1), 0.2, self.training)


class EfficientNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, 8, stride=2)
        self.block = nn.Sequential(
            conv_norm(8, 24, 1), conv_norm(24, 24, 5, groups=24), SqueezeExcitation(24, 4), conv_norm(24, 8, 1)
        )
        self.drop, self.head = StochasticDepth(), nn.Sequential(nn.Dropout(0.2), nn.Linear(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.drop(self.block(x)) + x
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 4, 4), LayerNorm2d(width, eps=1e-6))
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.layer_scale = nn.Parameter(torch.full((width, 1, 1), 0.1))
        self.head = nn.Sequential(LayerNorm2d(width, eps=1e-6), nn.Flatten(1), nn.Linear(width * 16, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(torch.permute(self.depthwise(x), [0, 2, 3, 1]))
        y = torch.permute(self.down(F.gelu(self.up(y))), [0, 3, 1, 2])
        return self.head(x + self.layer_scale * y)


class DenseNet(nn.Module):
    def __init__(self, growth: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 7, 2, 3, bias=False)
        self.layers = nn.ModuleList()
        for i in range(3):
            width = 8 + i * growth
            self.layers.append(nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, growth, 3, padding=1)))
        self.transition = nn.Sequential(nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 10, 1), nn.AvgPool2d(2, 2))
        self.norm, self.classifier = nn.BatchNorm2d(10), nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        features = [F.max_pool2d(self.stem(x), 3, 2, 1, ceil_mode=True)]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        x = F.relu(self.norm(self.transition(torch.cat(features, 1))), inplace=True)
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1))


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = conv_norm(3, 4, 1, nn.ReLU)
        self.five = nn.Sequential(conv_norm(3, 3, 1, nn.ReLU), conv_norm(3, 4, 5, nn.ReLU))
        self.row, self.column = nn.Conv2d(3, 4, (1, 7), padding=(0, 3)), nn.Conv2d(4, 4, (7, 1), padding=(3, 0))
        self.pool, self.fc = nn.Conv2d(3, 4, 1), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.avg_pool2d(x, kernel_size=3, stride=1, padding=1)
        x = torch.cat([self.one(x), self.five(x), self.column(self.row(x)), self.pool(pooled)], 1)
        return self.fc(F.dropout(x.mean([2, 3]), training=self.training))


class AlexNet(nn.Module):
    """With local response normalisation, as the paper and Caffe have it."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 5, 2, 2),
            nn.ReLU(),
            nn.LocalResponseNorm(5),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(8, 8, 3),
            nn.ReLU(),
        )
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d((2, 2)), nn.Flatten(), nn.Dropout(), nn.Linear(32, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


class WindowAttention(nn.Module):
    """Swin's, as torchvision writes it: cyclic shift, windows, relative position bias, and the mask made in forward."""

    def __init__(self, width: int, window: int, shift: int, heads: int) -> None:
        super().__init__()
        self.window, self.shift, self.heads = window, shift, heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.relative_position_bias_table = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads) * 0.2)
        places = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        relative = (places[:, :, None] - places[:, None, :]).permute(1, 2, 0) + window - 1
        self.register_buffer(
            "relative_position_index", (relative[..., 0] * (2 * window - 1) + relative[..., 1]).view(-1)
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        w, s = self.window, self.shift
        bias = self.relative_position_bias_table[self.relative_position_index]
        bias = bias.view(w * w, w * w, -1).permute(2, 0, 1).contiguous().unsqueeze(0)
        x = torch.roll(x, shifts=(-s, -s), dims=(1, 2))
        count = (height // w) * (width // w)
        x = x.view(batch, height // w, w, width // w, w, channels)
        x = x.permute(0, 1, 3, 2, 4, 5).reshape(batch * count, w * w, channels)
        qkv = self.qkv(x).reshape(x.size(0), x.size(1), 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        q = q * (channels // self.heads) ** -0.5
        attention = q.matmul(k.transpose(-2, -1)) + bias
        mask = x.new_zeros((height, width))
        spans = ((0, -w), (-w, -s), (-s, None))
        number = 0
        for h in spans:
            for v_ in spans:
                mask[h[0] : h[1], v_[0] : v_[1]] = number
                number += 1
        mask = mask.view(height // w, w, width // w, w).permute(0, 2, 1, 3).reshape(count, w * w)
        mask = mask.unsqueeze(1) - mask.unsqueeze(2)
        mask = mask.masked_fill(mask != 0, (-100.0)).masked_fill(mask == 0, 0.0)
        attention = attention.view(x.size(0) // count, count, self.heads, x.size(1), x.size(1))
        attention = attention + mask.unsqueeze(1).unsqueeze(0)
        attention = F.softmax(attention.view(-1, self.heads, x.size(1), x.size(1)), dim=-1)
        x = attention.matmul(v).transpose(1, 2).reshape(x.size(0), x.size(1), channels)
        x = self.proj(x).view(batch, height // w, width // w, w, w, channels)
        x = x.permute(0, 1, 3, 2, 4, 5).reshape(batch, height, width, channels)
        return torch.roll(x, shifts=(s, s), dims=(1, 2))


class PatchMerging(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduction, self.norm = nn.Linear(4 * width, 2 * width, bias=False), nn.LayerNorm(4 * width)

    def forward(self, x: Tensor) -> Tensor:
        height, width, _ = x.shape[-3:]
        x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        parts = [x[..., i::2, j::2, :] for j in (0, 1) for i in (0, 1)]
        return self.reduction(self.norm(torch.cat(parts, -1)))


class Swin(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.patches = nn.Sequential(nn.Conv2d(3, width, 2, 2), nn.Flatten(2))
        self.norm = nn.LayerNorm(width)
        self.attention, self.merge = WindowAttention(width, 4, 2, 2), PatchMerging(width)
        self.head = nn.Linear(2 * width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).transpose(1, 2).unflatten(1, (8, 8))
        x = self.merge(x + self.attention(self.norm(x)))
        return self.head(x.mean((1, 2)))


class Decoder(nn.Module):
    """A VAE's decoder, as diffusion models have it: group norm, SiLU, attention over places, nearest upsampling."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, width, 3, padding=1)
        self.norm1, self.conv1 = nn.GroupNorm(4, width, eps=1e-6), nn.Conv2d(width, width, 3, padding=1)
        self.q, self.k, self.v, self.o = (nn.Conv2d(width, width, 1) for _ in range(4))
        self.up, self.norm2 = nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(4, width, eps=1e-6)
        self.out = nn.ConvTranspose2d(width, 1, 4, 2, 1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.first(z)
        h = h + self.conv1(F.silu(self.norm1(h)))
        batch, channels, height, width = h.shape
        q = self.q(h).reshape(batch, channels, height * width).permute(0, 2, 1)
        k = self.k(h).reshape(batch, channels, height * width)
        weights = F.softmax(torch.bmm(q, k) * (int(channels) ** (-0.5)), dim=2).permute(0, 2, 1)
        v = self.v(h).reshape(batch, channels, height * width)
        h = h + self.o(torch.bmm(v, weights).reshape(batch, channels, height, width))
        h = self.up(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return torch.sigmoid(self.out(F.silu(self.norm2(h))))


class SuperResolution(nn.Module):
    """A picture, larger: bicubic plus what convolutions add."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.PReLU(8), nn.Conv2d(8, 4, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        large = F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)
        return large + F.pixel_shuffle(self.body(x), 2)


class UnfoldedMixer(nn.Module):
    """Patches by unfold and back by fold, mixed by linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.unfold = nn.Unfold(4, stride=4)
        self.places, self.channels = nn.Linear(16, 16), nn.Linear(48, 48)

    def forward(self, x: Tensor) -> Tensor:
        y = self.unfold(x)
        y = y + self.places(y)
        y = y + self.channels(y.transpose(1, 2)).transpose(1, 2)
        return F.fold(y, (16, 16), 4, stride=4).mean((2, 3))


class Video(nn.Module):
    """A small 3-d ResNet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.MaxPool3d(2))
        self.conv, self.fc = nn.Conv3d(4, 4, 3, padding=1), nn.Linear(4 + 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.avg_pool3d(F.relu(self.conv(x)) + x, (1, 2, 2))
        return self.fc(torch.cat([F.adaptive_avg_pool3d(x, 1).flatten(1), F.adaptive_max_pool3d(x, 1).flatten(1)], 1))


class SpatialPyramid(nn.Module):
    """DeepLab's pyramid of dilations, and a head that upsamples."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(conv_norm(3, 4, 3, nn.ReLU, padding=d, dilation=d) for d in (1, 2, 4))
        self.pooled, self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 1)), nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        pooled = F.interpolate(self.pooled(x), size=size, mode="bilinear", align_corners=False)
        return self.head(torch.cat([*(b(x) for b in self.branches), pooled], 1))


# ------------------------------------------------------------------------------------------ text


class T5Attention(nn.Module):
    """Relative position buckets computed in forward, as Hugging Face does."""

    def __init__(self, width: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.relative_attention_bias = nn.Embedding(8, heads)

    @staticmethod
    def bucket(relative: Tensor, buckets: int = 8, furthest: int = 16) -> Tensor:
        half = buckets // 2
        found = (relative > 0).to(torch.long) * half
        relative = torch.abs(relative)
        exact = half // 2
        is_small = relative < exact
        large = exact + (torch.log(relative.float() / exact) / math.log(furthest / exact) * (half - exact)).to(
            torch.long
        )
        large = torch.min(large, torch.full_like(large, half - 1))
        return found + torch.where(is_small, relative, large)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = (m(x).view(batch, -1, self.heads, 8).transpose(1, 2) for m in (self.q, self.k, self.v))
        context = torch.arange(length, dtype=torch.long, device=x.device)[:, None]
        memory = torch.arange(length, dtype=torch.long, device=x.device)[None, :]
        values = self.relative_attention_bias(self.bucket(memory - context))
        scores = torch.matmul(q, k.transpose(3, 2)) + values.permute([2, 0, 1]).unsqueeze(0)
        weights = F.softmax(scores.float(), dim=-1).type_as(scores)
        return self.o(torch.matmul(weights, v).transpose(1, 2).contiguous().view(batch, -1, 16))


class T5(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attention = nn.Embedding(20, 16), T5Attention()
        self.weight = nn.Parameter(torch.ones(16))
        self.wi_0, self.wi_1, self.wo = nn.Linear(16, 24), nn.Linear(16, 24), nn.Linear(24, 16)
        self.head = nn.Linear(16, 20, bias=False)

    def norm(self, x: Tensor) -> Tensor:
        variance = x.to(torch.float32).pow(2).mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(variance + 1e-6))

    def forward(self, words: Tensor) -> Tensor:
        x = self.embed(words)
        x = x + self.attention(self.norm(x))
        y = self.norm(x)
        x = x + self.wo(F.gelu(self.wi_0(y), approximate="tanh") * self.wi_1(y))
        return self.head(self.norm(x) * 16**-0.5)


def sinusoids(length: int, channels: int) -> Tensor:
    increment = math.log(10000) / (channels // 2 - 1)
    inverse = torch.exp(-increment * torch.arange(channels // 2))
    scaled = torch.arange(length)[:, None] * inverse[None, :]
    return torch.cat([torch.sin(scaled), torch.cos(scaled)], dim=1)


class Whisper(nn.Module):
    """A log-mel encoder: two convolutions, sinusoids, torch's own attention, and a decoder that looks at it."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(6, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.register_buffer("positional_embedding", sinusoids(10, width))
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.norm, self.words = nn.LayerNorm(width), nn.Embedding(20, width)
        layer = nn.TransformerDecoderLayer(width, 2, 32, batch_first=True, norm_first=True)
        self.decoder = nn.TransformerDecoder(layer, 1)

    def forward(self, mel: Tensor, words: Tensor) -> Tensor:
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel)))).permute(0, 2, 1)
        x = (x + self.positional_embedding).to(x.dtype)
        y = self.norm(x)
        x = x + self.attention(y, y, y)[0]
        mask = torch.full((words.shape[1], words.shape[1]), float("-inf")).triu_(1)
        hidden = self.decoder(self.words(words), x, tgt_mask=mask, tgt_is_causal=True)
        return hidden @ self.words.weight.t()


class Mixtral(nn.Module):
    """A mixture of experts without a branch: the best two of four, by scattered weights."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.gate = nn.Linear(width, 4, bias=False)
        self.up = nn.Parameter(torch.randn(4, width, 12) * 0.3)
        self.down = nn.Parameter(torch.randn(4, 12, width) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        weights = F.softmax(self.gate(x), dim=-1)
        best, places = torch.topk(weights, 2, dim=-1)
        best = best / best.sum(dim=-1, keepdim=True)
        routed = torch.zeros_like(weights).scatter(-1, places, best)
        chosen = torch.zeros_like(weights).scatter_(-1, places, 1.0)
        hidden = F.silu(torch.einsum("...d,edh->...eh", x, self.up))
        out = torch.einsum("bteh,ehd->bted", hidden, self.down)
        return (out * (routed * chosen).unsqueeze(-1)).sum(-2)


class Alibi(nn.Module):
    """Linear biases of attention, powers of two made in forward, keys masked by length."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv = nn.Embedding(20, 16), nn.Linear(16, 48)

    def forward(self, words: Tensor) -> Tensor:
        batch, length = words.shape
        q, k, v = self.qkv(self.embed(words)).view(batch, length, 3, 4, 4).permute(2, 0, 3, 1, 4).unbind(0)
        base = torch.tensor(2 ** (-(2 ** -(math.log2(4) - 3))), dtype=torch.float32)
        slopes = torch.pow(base, torch.arange(1, 5, dtype=torch.int32))
        places = torch.arange(length)
        bias = slopes[:, None, None] * (places[None, :] - places[:, None]).float()
        seen = (words != 0)[:, None, None, :] & (places[None, :] <= places[:, None])
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.masked_fill(~seen, float("-inf")))
        return y.nan_to_num(0.0).transpose(1, 2).reshape(batch, length, 16)


class Sampled(nn.Module):
    """Sorting: values in order, ranks, cumulative probabilities, what is within the first 0.9."""

    def forward(self, x: Tensor) -> Tensor:
        ordered, places = torch.sort(x, descending=True, dim=-1)
        before = torch.cumsum(F.softmax(ordered, -1), -1) - F.softmax(ordered, -1)
        kept = ordered.masked_fill(before > 0.9, 0.0)
        ranks = torch.argsort(torch.argsort(x, dim=-1), dim=-1)
        return kept.gather(-1, ranks) + places + x.isfinite().all(-1, keepdim=True) * 1.0


# --------------------------------------------------------------------------------- signals, graphs


class Chomp(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, : -self.size].contiguous()


class TCN(nn.Module):
    """Causal dilated convolutions with weight normalisation."""

    def __init__(self) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for i in range(2):
            conv = nn.Conv1d(3 if i == 0 else 6, 6, 3, padding=2 * 2**i, dilation=2**i)
            parts += [nn.utils.parametrizations.weight_norm(conv), Chomp(2 * 2**i), nn.ReLU(), nn.Dropout(0.1)]
        self.net, self.head = nn.Sequential(*parts), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net(x)[:, :, -1])


class WaveNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.filter, self.gate = nn.Conv1d(3, 6, 2, dilation=2), nn.Conv1d(3, 6, 2, dilation=2)
        self.skip, self.pool = nn.Conv1d(6, 4, 1), nn.AvgPool1d(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.filter(x)) * torch.sigmoid(self.gate(x))
        return self.pool(self.skip(y)).amax(-1)


EDGES = torch.tensor([[0, 1, 1, 2, 3, 4, 4, 0], [1, 0, 2, 1, 4, 3, 0, 4]])


class GCN(nn.Module):
    """Messages along fixed edges added up at their ends, as PyTorch Geometric does without its extension."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("edges", EDGES)
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 4)

    def messages(self, x: Tensor) -> Tensor:
        source, target = self.edges[0], self.edges[1]
        degree = torch.zeros(5).scatter_add(0, target, torch.ones(8)).clamp(min=1.0)
        sent = x[:, source] * degree.pow(-0.5)[source][:, None]
        return torch.zeros_like(x).index_add(1, target, sent) * degree.pow(-0.5)[:, None]

    def forward(self, x: Tensor) -> Tensor:
        x = F.elu(self.messages(self.first(x)))
        return self.second(self.messages(x)).mean(1)


class PoolByIndex(nn.Module):
    """Sums over groups that differ in each example."""

    def forward(self, x: Tensor, groups: Tensor) -> Tensor:
        index = groups.unsqueeze(-1).expand(-1, -1, x.shape[-1])
        sums = x.new_zeros(x.shape[0], 4, x.shape[-1]).scatter_add(1, index, x)
        count = x.new_zeros(x.shape[0], 4, x.shape[-1]).scatter_add_(1, index, torch.ones_like(x))
        return sums / count.clamp_min(1.0)


class DeepSets(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.phi, self.rho = nn.Sequential(nn.Linear(6, 8), nn.Tanh()), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.phi(x)
        return self.rho(torch.cat([y.sum(1), y.prod(1), y.median(1).values], -1))


class TwoTower(nn.Module):
    """Users and things as learnt rows: dot products, a factorisation machine, wide numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.things, self.wide = nn.Embedding(9, 6), nn.Embedding(9, 6), nn.Linear(4, 1)
        self.bilinear = nn.Bilinear(6, 6, 1)

    def forward(self, users: Tensor, things: Tensor, numbers: Tensor) -> Tensor:
        u, t = self.users(users), F.normalize(self.things(things), dim=-1)
        fields = torch.stack([u, t], 1)
        interactions = 0.5 * (fields.sum(1).pow(2) - fields.pow(2).sum(1)).sum(-1, keepdim=True)
        return (u * t).sum(-1, keepdim=True) + interactions + self.wide(numbers) + self.bilinear(u, t)


class KAN(nn.Module):
    """Radial basis functions on a fixed grid, made in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.base = nn.Linear(4 * 5, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        grid = torch.linspace(-2.0, 2.0, 5)
        basis = torch.exp(-(((x.unsqueeze(-1) - grid) / 1.0) ** 2))
        return self.weight(basis.flatten(1)) + self.base(F.silu(x))


class NeRF(nn.Module):
    """Places as sines of powers of two."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3 * 8, 16), nn.Softplus(), nn.Linear(16, 4))

    def forward(self, x: Tensor) -> Tensor:
        bands = 2.0 ** torch.linspace(0.0, 3.0, 4)
        angles = (x[..., None] * bands * math.pi).flatten(1)
        return self.net(torch.cat([angles.sin(), angles.cos()], -1))


def numbers(*shape: int) -> Tensor:
    return torch.randn(5, *shape, generator=torch.Generator().manual_seed(sum(shape)))


def words(*shape: int, count: int = 20) -> Tensor:
    return torch.randint(0, count, (5, *shape), generator=torch.Generator().manual_seed(sum(shape)))


def _zoo() -> dict[str, tuple[nn.Module, tuple[Tensor, ...]]]:
    image, signal, text = (numbers(3, 16, 16),), (numbers(3, 20),), (words(7),)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return {
            "EfficientNet": (EfficientNet(), image),
            "ConvNeXt": (ConvNeXt(), image),
            "DenseNet": (DenseNet(), image),
            "Inception": (Inception(), image),
            "AlexNet": (AlexNet(), image),
            "Swin": (Swin(), image),
            "VAE decoder": (Decoder(), (numbers(2, 5, 5),)),
            "super-resolution": (SuperResolution(), (numbers(1, 7, 6),)),
            "unfolded mixer": (UnfoldedMixer(), image),
            "video": (Video(), (numbers(1, 4, 8, 8),)),
            "spatial pyramid": (SpatialPyramid(), image),
            "T5": (T5(), text),
            "Whisper": (Whisper(), (numbers(6, 20), words(7))),
            "Mixtral": (Mixtral(), (numbers(7, 8),)),
            "ALiBi": (Alibi(), text),
            "sampled": (Sampled(), (numbers(9),)),
            "TCN": (TCN(), signal),
            "WaveNet": (WaveNet(), signal),
            "GCN": (GCN(), (numbers(5, 6),)),
            "pool by index": (PoolByIndex(), (numbers(7, 6), words(7, count=4))),
            "deep sets": (DeepSets(), (numbers(7, 6),)),
            "two towers": (TwoTower(), (words(count=9), words(count=9), numbers(4))),
            "KAN": (KAN(), (numbers(4),)),
            "NeRF": (NeRF(), (numbers(3),)),
        }


ZOO = _zoo()
