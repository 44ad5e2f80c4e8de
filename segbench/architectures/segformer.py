"""SegFormer: a hierarchical transformer without positions and an all-MLP head (Xie et al., arXiv 2105.15203).

`size = "b0"`, "b1" and "b2" are transformers' port of the published networks; "pretrained" is their encoder, Mix
Transformer, trained on ImageNet, from which the published recipe starts. `size = "tiny"` is the same design with 0.2 M
parameters, for small studies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from segbench.architectures.parts import transformers_models
from segbench.architectures.parts.per_pixel import Outputs, PerPixel, stage
from segbench.architectures.parts.published import Checkpoint, State
from segbench.architectures.parts.transformers_models import Design, library
from segbench.architectures.parts.weights import Weights, choose
from segbench.architectures.segmenter import Segmenter

# What fixes the shapes and the meaning of the weights, of SegformerConfig. Table 7 of the paper.
_B1 = {"depths": (2, 2, 2, 2), "hidden_sizes": (64, 128, 320, 512), "decoder_hidden_size": 256}
_SIZES: Mapping[str, Mapping[str, Any]] = {
    "b0": {**_B1, "hidden_sizes": (32, 64, 160, 256)},
    "b1": _B1,
    "b2": {**_B1, "depths": (3, 4, 6, 3), "decoder_hidden_size": 768},
    "tiny": {
        "depths": (1, 1, 1, 1),
        "hidden_sizes": (16, 32, 64, 96),
        "num_attention_heads": (1, 2, 4, 6),
        "decoder_hidden_size": 64,
    },
}
_DROP = {"b0": 0.1, "b1": 0.1, "b2": 0.1, "tiny": 0.0}  # stochastic depth, and dropout before the classifier
CHECKPOINTS = {
    size: Checkpoint(
        f"nvidia/mit-{size}",
        f"hub:nvidia/mit-{size}",
        licence="NVIDIA Source Code License for SegFormer",  # LICENSE of NVlabs/SegFormer, 3.3
        commercial=False,
        megabytes=megabytes,
    )
    for size, megabytes in (("b0", 14.4), ("b1", 54.8), ("b2", 99.0))
}
TRANSFORMERS = "SegformerForSemanticSegmentation"  # the class that loads an exported folder
_HEAD = "decode_head."


class _Network(nn.Module):
    """transformers' encoder and head; its own forward goes on to a loss and records what we do not read."""

    def __init__(self, parts: Any) -> None:
        super().__init__()
        self.segformer, self.decode_head = parts.segformer, parts.decode_head

    def forward(self, images: Tensor) -> Outputs:
        maps = self.segformer(images, output_hidden_states=True, return_dict=True).hidden_states
        return Outputs(self.decode_head(maps))

    def backbone_layers(self) -> list[nn.Module]:
        stages = self.segformer.stages
        return [layer for own in stages for layer in stage([own.patch_embeddings], own.blocks, [own.layer_norm])]


def build(classes: int, weights: Weights, size: str = "b0") -> Segmenter:
    """The logits are at a quarter of the image's height and width."""
    fixed = choose("segformer", size, _SIZES)
    drop = {"drop_path_rate": _DROP[size], "classifier_dropout_prob": _DROP[size]}
    design = Design(
        f"segformer of size '{size}'",
        "SegformerForSemanticSegmentation",
        library().SegformerConfig(**fixed, **drop, num_labels=classes),
        {"": fixed},
        _heads,
    )
    # Tokens and maps alternate in every block, so that channels_last would be copied back and forth.
    return PerPixel(_Network(transformers_models.build(design, weights, CHECKPOINTS.get(size))), channels_last=False)


def _heads(state: State) -> tuple[str, ...]:
    """The encoder alone comes with ImageNet's classifier and without our head."""
    whole = any(name.startswith(_HEAD) for name in state)
    return (f"{_HEAD}classifier.",) if whole else (_HEAD, "classifier.")
