"""Models of torchvision, timm and transformers as published, with random weights and small sizes.

torchvision's compiled operators (boxes of detectors) are built for one build of torch, and are left out where they do
not load: no model here needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Example = tuple[nn.Module, Tensor]
_LIBRARIES: list[torch.library.Library] = []


def torchvision_models() -> Any:
    """`torchvision.models`, also without the compiled operators."""
    try:
        import torchvision.models as models
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARIES.append(library)
        import torchvision.models as models
    return models


def vision(name: str, size: int = 64, **options: Any) -> Callable[[], Example]:
    """A model of torchvision for ten classes of pictures of `size` x `size`."""

    def make() -> Example:
        torch.manual_seed(0)
        return torchvision_models().get_model(name, weights=None, num_classes=10, **options), torch.randn(
            4, 3, size, size
        )

    return make


def images(name: str, size: int = 64, **options: Any) -> Callable[[], Example]:
    """A model of timm for ten classes of pictures of `size` x `size`."""

    def make() -> Example:
        torchvision_models()  # which timm imports
        import timm

        torch.manual_seed(0)
        return timm.create_model(name, num_classes=10, **options), torch.randn(4, 3, size, size)

    return make


def language(model: str, config: str, **options: Any) -> Callable[[], Example]:
    """A model of transformers for sequences of 16 of 99 words."""

    def make() -> Example:
        torchvision_models()  # which transformers imports
        import transformers

        torch.manual_seed(0)
        return getattr(transformers, model)(getattr(transformers, config)(**options)), torch.randint(2, 99, (4, 16))

    return make


def pictures(model: str, config: str, **options: Any) -> Callable[[], Example]:
    """A model of transformers for pictures of 32 x 32."""

    def make() -> Example:
        module, _ = language(model, config, **options)()
        return module, torch.randn(4, 3, 32, 32)

    return make


_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
_WORDS = {**_SIZES, "vocab_size": 99, "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 1}
TRANSFORMERS: dict[str, Callable[[], Example]] = {
    "BERT": language("BertForSequenceClassification", "BertConfig", **_WORDS),
    "RoBERTa": language("RobertaForSequenceClassification", "RobertaConfig", **_WORDS, pad_token_id=1),
    "DistilBERT": language(
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        vocab_size=99,
        dim=32,
        n_layers=2,
        n_heads=4,
        hidden_dim=64,
        max_position_embeddings=64,
    ),
    "GPT-2": language(
        "GPT2LMHeadModel",
        "GPT2Config",
        vocab_size=99,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=1,
    ),
    "Llama": language("LlamaForCausalLM", "LlamaConfig", **_WORDS, num_key_value_heads=2, use_cache=False),
    "ViT": pictures("ViTForImageClassification", "ViTConfig", **_SIZES, image_size=32, patch_size=8),
}
TORCHVISION: dict[str, Callable[[], Example]] = {
    "ResNet-18": vision("resnet18"),
    "RegNet Y 400MF": vision("regnet_y_400mf"),
    "EfficientNet B0": vision("efficientnet_b0"),
    "ConvNeXt tiny": vision("convnext_tiny"),
    "MNASNet": vision("mnasnet0_5"),
    "Swin tiny": vision("swin_t"),
    "Swin v2 tiny": vision("swin_v2_t"),
    "GoogLeNet": vision("googlenet", 96, aux_logits=False, init_weights=False),
}
_SMALL = {**_WORDS, "pad_token_id": 2}
_DECODER = {**_SMALL, "num_key_value_heads": 2, "use_cache": False}
MORE_TRANSFORMERS: dict[str, Callable[[], Example]] = {
    "ALBERT": language("AlbertForSequenceClassification", "AlbertConfig", **_SMALL, embedding_size=16),
    "ELECTRA": language("ElectraForSequenceClassification", "ElectraConfig", **_SMALL, embedding_size=16),
    "DeBERTa v2": language("DebertaV2ForSequenceClassification", "DebertaV2Config", **_SMALL),
    "XLM-RoBERTa": language("XLMRobertaForSequenceClassification", "XLMRobertaConfig", **_SMALL),
    "MPNet": language("MPNetForSequenceClassification", "MPNetConfig", **_SMALL),
    "ModernBERT": language(
        "ModernBertForSequenceClassification", "ModernBertConfig", **_SMALL, cls_token_id=0, sep_token_id=1
    ),
    "BERT, tokens": language("BertForTokenClassification", "BertConfig", **_SMALL),
    "BERT, masked words": language("BertForMaskedLM", "BertConfig", **_SMALL),
    "Qwen2": language("Qwen2ForCausalLM", "Qwen2Config", **_DECODER),
    "Qwen3": language("Qwen3ForCausalLM", "Qwen3Config", **_DECODER, head_dim=8),
    "Mistral": language("MistralForCausalLM", "MistralConfig", **_DECODER),
    "Gemma": language("GemmaForCausalLM", "GemmaConfig", **_DECODER, head_dim=8),
    "Phi": language("PhiForCausalLM", "PhiConfig", **_SMALL, use_cache=False),
    "GPT-NeoX": language("GPTNeoXForCausalLM", "GPTNeoXConfig", **_SMALL, use_cache=False),
    "GPT-Neo": language(
        "GPTNeoForCausalLM",
        "GPTNeoConfig",
        vocab_size=99,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        intermediate_size=64,
        attention_types=[[["global", "local"], 1]],
        max_position_embeddings=64,
        window_size=8,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=1,
    ),
    "Falcon": language(
        "FalconForCausalLM",
        "FalconConfig",
        vocab_size=99,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=1,
    ),
    "OPT": language(
        "OPTForCausalLM",
        "OPTConfig",
        vocab_size=99,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        ffn_dim=64,
        max_position_embeddings=64,
        word_embed_proj_dim=32,
        use_cache=False,
    ),
    "BLOOM": language(
        "BloomForCausalLM", "BloomConfig", vocab_size=99, hidden_size=32, n_layer=2, n_head=4, use_cache=False
    ),
    "FNet": language(
        "FNetForSequenceClassification",
        "FNetConfig",
        vocab_size=99,
        hidden_size=32,
        num_hidden_layers=2,
        intermediate_size=64,
        max_position_embeddings=64,
    ),
    "MobileBERT": language(
        "MobileBertForSequenceClassification",
        "MobileBertConfig",
        **_SMALL,
        embedding_size=16,
        intra_bottleneck_size=16,
        true_hidden_size=16,
    ),
    "RoFormer": language("RoFormerForSequenceClassification", "RoFormerConfig", **_SMALL),
    "BigBird, full attention": language(
        "BigBirdForSequenceClassification", "BigBirdConfig", **_SMALL, attention_type="original_full"
    ),
    "SqueezeBERT": language("SqueezeBertForSequenceClassification", "SqueezeBertConfig", **_SMALL, embedding_size=32),
    "Nystromformer": language("NystromformerForSequenceClassification", "NystromformerConfig", **_SMALL),
    "XLNet": language(
        "XLNetForSequenceClassification", "XLNetConfig", vocab_size=99, d_model=32, n_layer=2, n_head=4, d_inner=64
    ),
    "Funnel": language(
        "FunnelForSequenceClassification",
        "FunnelConfig",
        vocab_size=99,
        block_sizes=[1, 1],
        d_model=32,
        n_head=4,
        d_head=8,
        d_inner=64,
    ),
    "T5, encoder": language(
        "T5EncoderModel", "T5Config", vocab_size=99, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4
    ),
    "Gemma 2": language("Gemma2ForCausalLM", "Gemma2Config", **_DECODER, head_dim=8),
    "OLMo": language("OlmoForCausalLM", "OlmoConfig", **_DECODER),
    "StableLM": language("StableLmForCausalLM", "StableLmConfig", **_DECODER),
    "Cohere": language("CohereForCausalLM", "CohereConfig", **_DECODER),
    "Mamba": language(
        "MambaForCausalLM",
        "MambaConfig",
        vocab_size=99,
        hidden_size=32,
        num_hidden_layers=2,
        state_size=4,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=1,
    ),
    "CodeGen": language(
        "CodeGenForCausalLM",
        "CodeGenConfig",
        vocab_size=99,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        rotary_dim=4,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=1,
    ),
    "GPT-J": language(
        "GPTJForCausalLM",
        "GPTJConfig",
        vocab_size=99,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        rotary_dim=4,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=1,
    ),
    "MPT": language(
        "MptForCausalLM", "MptConfig", vocab_size=99, d_model=32, n_layers=2, n_heads=4, max_seq_len=64, use_cache=False
    ),
    "BEiT": pictures("BeitForImageClassification", "BeitConfig", **_SIZES, image_size=32, patch_size=8),
    "DeiT": pictures("DeiTForImageClassification", "DeiTConfig", **_SIZES, image_size=32, patch_size=8),
    "Swin": pictures(
        "SwinForImageClassification",
        "SwinConfig",
        image_size=32,
        patch_size=2,
        embed_dim=16,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=4,
    ),
    "SegFormer": pictures(
        "SegformerForImageClassification", "SegformerConfig", hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 1, 1]
    ),
    "ConvNeXt": pictures(
        "ConvNextForImageClassification", "ConvNextConfig", hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 1, 1]
    ),
    "ConvNeXt v2": pictures(
        "ConvNextV2ForImageClassification", "ConvNextV2Config", hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 1, 1]
    ),
    "ResNet": pictures(
        "ResNetForImageClassification", "ResNetConfig", embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1]
    ),
    "PoolFormer": pictures(
        "PoolFormerForImageClassification", "PoolFormerConfig", hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1]
    ),
    "DINOv2": pictures(
        "Dinov2ForImageClassification",
        "Dinov2Config",
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
    ),
}
"""In the long tests."""
MORE_TORCHVISION = {
    "AlexNet": vision("alexnet"),
    "VGG-11": vision("vgg11_bn"),
    "ResNet-50": vision("resnet50"),
    "ResNeXt-50": vision("resnext50_32x4d"),
    "Wide ResNet-50": vision("wide_resnet50_2"),
    "DenseNet-121": vision("densenet121"),
    "SqueezeNet": vision("squeezenet1_1"),
    "MobileNet v2": vision("mobilenet_v2"),
    "MobileNet v3": vision("mobilenet_v3_small"),
    "ShuffleNet v2": vision("shufflenet_v2_x0_5"),
    "EfficientNet v2": vision("efficientnet_v2_s"),
}
TIMM = {
    "ResNet-18": images("resnet18"),
    "BiT ResNet v2-50": images("resnetv2_50x1_bit"),
    "ViT tiny": images("vit_tiny_patch16_224", img_size=64),
    "DeiT tiny, distilled": images("deit_tiny_distilled_patch16_224", img_size=64),
    "MLP-Mixer": images("mixer_s32_224", img_size=64),
    "ConvNeXt atto": images("convnext_atto"),
    "EfficientNet B0": images("efficientnet_b0"),
    "EfficientNet v2 B0": images("tf_efficientnetv2_b0"),
    "MobileNet v3": images("mobilenetv3_small_050"),
    "RegNet Y 200MF": images("regnety_002"),
    "NF-RegNet B0": images("nf_regnet_b0"),
    "Swin tiny": images("swin_tiny_patch4_window7_224", 56, img_size=56),
}
"""In the long tests, as torchvision's."""
