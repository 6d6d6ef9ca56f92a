"""Well-known architectures in miniature, written as torchvision and Hugging Face write them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# -------------------------------------------------------------------------------------- recurrent


class LSTMTagger(nn.Module):
    """A tag for each word, from words to both sides."""

    def __init__(self, words: int = 30, tags: int = 5) -> None:
        super().__init__()
        self.words = nn.Embedding(words, 12, padding_idx=0)
        self.lstm = nn.LSTM(12, 10, num_layers=2, batch_first=True, bidirectional=True, dropout=0.2)
        self.drop, self.tags = nn.Dropout(0.1), nn.Linear(20, tags)

    def forward(self, words: Tensor) -> Tensor:
        out, _ = self.lstm(self.words(words))
        return self.tags(self.drop(out))


class GRUClassifier(nn.Module):
    """Mean over the words that are not padding, beside the last state."""

    def __init__(self, words: int = 30, classes: int = 4) -> None:
        super().__init__()
        self.words = nn.Embedding(words, 12)
        self.gru = nn.GRU(12, 10, num_layers=2, bidirectional=True)
        self.head = nn.Linear(40, classes)

    def forward(self, words: Tensor) -> Tensor:
        out, state = self.gru(self.words(words).transpose(0, 1))
        mask = (words != 0).float().unsqueeze(-1)
        mean = (out.transpose(0, 1) * mask).sum(1) / mask.sum(1).clamp(min=1.0)
        return self.head(torch.cat([mean, state[-1], state[-2]], -1))


# -------------------------------------------------------------------------------------- attention


class PaddedEncoder(nn.Module):
    """torch's own encoder, which must not look at padding."""

    def __init__(self, words: int = 30, classes: int = 4, width: int = 16) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.places = nn.Parameter(torch.randn(9, width) * 0.1)
        layer = nn.TransformerEncoderLayer(width, 4, 24, dropout=0.1, batch_first=True, activation="gelu")
        self.encoder, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(width, classes)

    def forward(self, words: Tensor) -> Tensor:
        hidden = self.encoder(self.words(words) + self.places, src_key_padding_mask=words == 0)
        return self.head(hidden[:, 0])


class BertSelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.query, self.key, self.value = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(0.1)

    def transpose_for_scores(self, x: Tensor) -> Tensor:
        return x.view((*x.size()[:-1], self.heads, self.size)).permute(0, 2, 1, 3)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (self.transpose_for_scores(m(hidden)) for m in (self.query, self.key, self.value))
        scores = torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(self.size) + mask
        weights = self.dropout(nn.functional.softmax(scores, dim=-1))
        context = torch.matmul(weights, value).permute(0, 2, 1, 3).contiguous()
        return context.view((*context.size()[:-2], self.heads * self.size))


class BertLayer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention, self.output = BertSelfAttention(width, heads), nn.Linear(width, width)
        self.first, self.second = nn.LayerNorm(width, eps=1e-12), nn.LayerNorm(width, eps=1e-12)
        self.up, self.down, self.dropout = nn.Linear(width, 2 * width), nn.Linear(2 * width, width), nn.Dropout(0.1)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        hidden = self.first(self.dropout(self.output(self.attention(hidden, mask))) + hidden)
        return self.second(self.dropout(self.down(F.gelu(self.up(hidden)))) + hidden)


class Bert(nn.Module):
    """Token numbers and the attention mask in one tensor [batch, 2, tokens], as one input."""

    def __init__(self, words: int = 30, classes: int = 3, width: int = 16) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(words, width, padding_idx=0)
        self.position_embeddings = nn.Embedding(12, width)
        self.token_type_embeddings = nn.Embedding(2, width)
        self.register_buffer("position_ids", torch.arange(12).expand((1, -1)), persistent=False)
        self.norm, self.dropout = nn.LayerNorm(width, eps=1e-12), nn.Dropout(0.1)
        self.layers = nn.ModuleList(BertLayer(width, 4) for _ in range(2))
        self.pooler, self.classifier = nn.Linear(width, width), nn.Linear(width, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        input_ids, attention_mask = inputs[:, 0], inputs[:, 1]
        types = torch.zeros(input_ids.shape, dtype=torch.long, device=input_ids.device)
        hidden = self.word_embeddings(input_ids) + self.token_type_embeddings(types)
        hidden = hidden + self.position_embeddings(self.position_ids[:, : input_ids.shape[1]])
        hidden = self.dropout(self.norm(hidden))
        extended = attention_mask[:, None, None, :].to(dtype=hidden.dtype)
        extended = (1.0 - extended) * torch.finfo(hidden.dtype).min
        for layer in self.layers:
            hidden = layer(hidden, extended)
        return self.classifier(self.dropout(torch.tanh(self.pooler(hidden[:, 0]))))


class BertWithFeatures(Bert):
    """Three inputs of two types: tokens, their mask, and a row of numbers beside the text."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Linear(4, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, features: Tensor) -> Tensor:
        return super().forward(torch.stack([input_ids, attention_mask], 1)) + self.features(features)


class GPTBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        query, key, value = self.c_attn(self.ln_1(x)).split(width, dim=2)
        query, key, value = (
            t.view(batch, tokens, self.heads, width // self.heads).transpose(1, 2) for t in (query, key, value)
        )
        y = F.scaled_dot_product_attention(query, key, value, dropout_p=0.1 if self.training else 0.0, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).contiguous().view(batch, tokens, width))
        return x + self.down(F.gelu(self.up(self.ln_2(x)), approximate="tanh"))


class GPT(nn.Module):
    """Next word, with words tied to the head."""

    def __init__(self, words: int = 24, tokens: int = 10, width: int = 16) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(words, width), nn.Embedding(tokens, width)
        self.drop = nn.Dropout(0.1)
        self.h = nn.ModuleList(GPTBlock(width, 4) for _ in range(2))
        self.ln_f, self.lm_head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, idx: Tensor) -> Tensor:
        places = torch.arange(0, idx.size(1), dtype=torch.long, device=idx.device)
        x = self.drop(self.wte(idx) + self.wpe(places))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


class LlamaRMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = nn.Parameter(torch.ones(width)), 1e-6

    def forward(self, hidden: Tensor) -> Tensor:
        kept = hidden.dtype
        hidden = hidden.to(torch.float32)
        variance = hidden.pow(2).mean(-1, keepdim=True)
        return self.weight * (hidden * torch.rsqrt(variance + self.variance_epsilon)).to(kept)


def rotate_half(x: Tensor) -> Tensor:
    return torch.cat((-x[..., x.shape[-1] // 2 :], x[..., : x.shape[-1] // 2]), dim=-1)


class LlamaBlock(nn.Module):
    """Grouped queries, rotary places, SwiGLU."""

    def __init__(self, width: int, heads: int, groups: int) -> None:
        super().__init__()
        self.size = width // heads
        self.q_proj, self.o_proj = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, groups * self.size, bias=False)
        self.v_proj = nn.Linear(width, groups * self.size, bias=False)
        self.gate_proj, self.up_proj = nn.Linear(width, 24, bias=False), nn.Linear(width, 24, bias=False)
        self.down_proj = nn.Linear(24, width, bias=False)
        self.input_layernorm, self.post_attention_layernorm = LlamaRMSNorm(width), LlamaRMSNorm(width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        normed = self.input_layernorm(x)
        query, key, value = (
            m(normed).view(*x.shape[:-1], -1, self.size).transpose(1, 2)
            for m in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = (t * cos + rotate_half(t) * sin for t in (query, key))
        y = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        x = x + self.o_proj(y.transpose(1, 2).reshape(x.shape))
        normed = self.post_attention_layernorm(x)
        return x + self.down_proj(F.silu(self.gate_proj(normed)) * self.up_proj(normed))


class Llama(nn.Module):
    def __init__(self, words: int = 24, width: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(words, width)
        self.layers = nn.ModuleList(LlamaBlock(width, heads, 2) for _ in range(2))
        self.norm, self.lm_head = LlamaRMSNorm(width), nn.Linear(width, words, bias=False)
        inverse = 1.0 / (10000.0 ** (torch.arange(0, width // heads, 2, dtype=torch.int64).float() / (width // heads)))
        self.register_buffer("inv_freq", inverse, persistent=False)

    def forward(self, words: Tensor) -> Tensor:
        position_ids = torch.arange(words.shape[1], device=words.device).unsqueeze(0)
        inverse = self.inv_freq[None, :, None].float().expand(position_ids.shape[0], -1, 1)
        angles = (inverse @ position_ids[:, None, :].float()).transpose(1, 2)
        angles = torch.cat((angles, angles), dim=-1)
        cos, sin = angles.cos().unsqueeze(1), angles.sin().unsqueeze(1)
        hidden = self.embed_tokens(words)
        for layer in self.layers:
            hidden = layer(hidden, cos, sin)
        return self.lm_head(self.norm(hidden))


# ----------------------------------------------------------------------------------------- vision


class BasicBlock(nn.Module):
    def __init__(self, inplanes: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn1, self.bn2, self.relu = nn.BatchNorm2d(planes), nn.BatchNorm2d(planes), nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


class ResNet18(nn.Module):
    def __init__(self, classes: int = 10, width: int = 2) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        blocks, planes = [], width
        for stage, stride in enumerate((1, 2, 2, 2)):
            for block in range(2):
                blocks.append(BasicBlock(planes, width * 2**stage, stride if block == 0 else 1))
                planes = width * 2**stage
        self.layers, self.avgpool = nn.Sequential(*blocks), nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(planes, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.maxpool(self.relu(self.bn1(self.conv1(x)))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class InvertedResidual(nn.Module):
    def __init__(self, inp: int, oup: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inp * expand
        self.use_res_connect = stride == 1 and inp == oup
        self.conv = nn.Sequential(
            nn.Conv2d(inp, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.Hardswish(inplace=True),
            nn.Conv2d(hidden, oup, 1, bias=False),
            nn.BatchNorm2d(oup),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * F.hardsigmoid(scale)


class MobileNetV2(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.PReLU(8),
            InvertedResidual(8, 8, 1, 2),
            SqueezeExcite(8),
            InvertedResidual(8, 12, 2, 3),
            InvertedResidual(12, 12, 1, 3),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(12, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), (1, 1)).reshape(x.shape[0], -1))


class UNet(nn.Module):
    """Takes noise away: an image to an image."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.GroupNorm(2, width), nn.SiLU())
        self.down = nn.Sequential(
            nn.MaxPool2d(2), nn.Conv2d(width, 2 * width, 3, padding=1), nn.InstanceNorm2d(2 * width)
        )
        self.bottom = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(2 * width, 4 * width, 3, padding=1), nn.Softplus())
        self.up = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.middle = nn.Conv2d(4 * width, 4 * width, 3, padding=1, padding_mode="reflect")
        self.smooth = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.last = nn.Conv2d(5 * width, 4, 3, padding=1)
        self.shuffle, self.out = nn.PixelShuffle(2), nn.Conv2d(1, 1, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x)
        b = F.leaky_relu(self.down(a), 0.1)
        c = self.up(self.bottom(b))
        if c.shape[-2:] != b.shape[-2:]:
            c = F.interpolate(c, size=b.shape[-2:], mode="nearest")
        d = F.hardtanh(self.middle(torch.cat([b, c], 1)), -2.0, 2.0)
        e = self.smooth(d)
        return self.out(self.shuffle(self.last(torch.cat([F.interpolate(e, size=a.shape[-2:]), a], 1)))) + x


class ViT(nn.Module):
    """Patches by convolution, a class token, torch's multi-head attention."""

    def __init__(self, classes: int = 10, width: int = 16) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.1)
        self.pos_embed = nn.Parameter(torch.randn(1, 17, width) * 0.1)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm1": nn.LayerNorm(width),
                    "attn": nn.MultiheadAttention(width, 4, batch_first=True, dropout=0.1),
                    "norm2": nn.LayerNorm(width),
                    "mlp": nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Dropout(0.1), nn.Linear(32, width)),
                }
            )
            for _ in range(2)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            y = block["norm1"](x)
            x = x + block["attn"](y, y, y, need_weights=False)[0]
            x = x + block["mlp"](block["norm2"](x))
        return self.head(self.norm(x)[:, 0])
