"""Mask2Former: Swin backbone, deformable-attention pixel decoder, masked attention (Cheng et al., arXiv 2112.01527).

`size = "small"` is the note's model, transformers' port of Mask2Former-Swin-Small, and "swin-tiny" its smaller sibling.
"light" is that with fewer layers and queries, 0.7 times the arithmetic, and starts from the same weights. "tiny" is the
same design with 1.1 M parameters, for small studies. The loss is ours (`parts/matching.py`): transformers' own asks the
host once per image and decoder layer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from segbench.architectures.parts import deformable, masked_attention, matching, segments, swin, transformers_models
from segbench.architectures.parts.matching import Outputs
from segbench.architectures.parts.per_pixel import stage
from segbench.architectures.parts.published import Checkpoint
from segbench.architectures.parts.transformers_models import Design, library
from segbench.architectures.parts.weights import Weights, choose
from segbench.architectures.segmenter import Queries, Segmenter
from segbench.core.errors import UserError
from segbench.core.labels import LabelSet

_HEADS = ("class_predictor.", "criterion.")  # the only tensors whose shapes depend on the number of classes
_UNUSED = ("model.pixel_level_module.encoder.swin.layernorm.",)  # built but never called; older files lack it
TRANSFORMERS = "Mask2FormerForUniversalSegmentation"  # the class that loads an exported folder

_LICENCE = "CC-BY-NC-4.0"  # MODEL_ZOO.md of facebookresearch/Mask2Former
_SWIN_TINY = Checkpoint(
    "facebook/mask2former-swin-tiny-coco-panoptic",
    "hub:facebook/mask2former-swin-tiny-coco-panoptic",
    licence=_LICENCE,
    commercial=False,
    megabytes=190,
)
CHECKPOINTS = {
    "small": Checkpoint(
        "facebook/mask2former-swin-small-coco-panoptic",
        "hub:facebook/mask2former-swin-small-coco-panoptic",
        licence=_LICENCE,
        commercial=False,
        megabytes=276,
    ),
    "swin-tiny": _SWIN_TINY,
    "light": _SWIN_TINY,
}

# configs/coco/panoptic-segmentation/swin/maskformer2_swin_{small,tiny}_bs16_50ep.yaml of facebookresearch/Mask2Former.
# transformers counts the loss on the learnt queries as a decoder layer: 10 here are 9 layers and 10 predictions.
_PUBLISHED = {
    "feature_size": 256,
    "mask_feature_size": 256,
    "hidden_dim": 256,
    "encoder_feedforward_dim": 1024,
    "dim_feedforward": 2048,
    "encoder_layers": 6,
    "decoder_layers": 10,
    "num_attention_heads": 8,
    "num_queries": 100,
    "dropout": 0.0,
    "pre_norm": False,
}
_SWIN_T = {"embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24), "window_size": 7}
# What fixes the shapes and the meaning of the weights, by size: of Mask2FormerConfig, and of its backbone's SwinConfig.
_SIZES: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "small": (_PUBLISHED, {**_SWIN_T, "depths": (2, 2, 18, 2)}),
    "swin-tiny": (_PUBLISHED, _SWIN_T),
    "light": ({**_PUBLISHED, "encoder_layers": 3, "decoder_layers": 4, "num_queries": 50}, _SWIN_T),
    "tiny": (
        {
            **_PUBLISHED,
            "feature_size": 64,
            "mask_feature_size": 64,
            "hidden_dim": 64,
            "encoder_feedforward_dim": 128,
            "dim_feedforward": 256,
            "encoder_layers": 2,
            "decoder_layers": 4,
            "num_attention_heads": 4,
            "num_queries": 20,
        },
        # At 64×128 the stages see 16×32 … 2×4 positions, and a window of 7 would mostly hold padding.
        {"embed_dim": 24, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 4, 8), "window_size": 4},
    ),
}
_LAYER = re.compile(r"model\.(?:pixel_level_module\.decoder\.encoder|(transformer_module\.decoder))\.layers\.(\d+)\.")
# Stochastic depth: the published recipe's, none where so little could overfit.
_DROP_PATH = {"small": 0.3, "swin-tiny": 0.3, "light": 0.3, "tiny": 0.0}


class Mask2Former(Segmenter):
    """transformers' network under our contract."""

    def __init__(self, network: Any, learns_segments: bool) -> None:
        super().__init__()
        self.network = network
        self.learns_segments = learns_segments
        self.query_count = network.config.num_queries
        self._only_last = self._lean = False
        network.model.transformer_module.decoder.register_forward_pre_hook(_contiguous, with_kwargs=True)
        for layer in network.model.pixel_level_module.decoder.encoder.layers:
            layer.self_attn.forward = partial(deformable.attend, layer.self_attn)

    def forward(self, images: Tensor) -> Outputs:
        """images: (B, 3, H, W), any H and W. Stays below transformers' own forward, which goes on to its own loss."""
        if self._lean and not torch.compiler.is_compiling():
            model = self.network.model
            maps = swin.maps(model.pixel_level_module.encoder, images)
            return masked_attention.predict(model, self.network.class_predictor, maps)
        found = self.network.model(pixel_values=images, output_hidden_states=True, return_dict=True)
        wanted = slice(-1 if self._only_last else 0, None)
        states = torch.stack(found.transformer_decoder_intermediate_states[wanted])  # (L, Q, B, hidden)
        masks = torch.stack(found.masks_queries_logits[wanted])
        return Outputs(self.network.class_predictor(states.transpose(1, 2)), masks)

    def losses(self, outputs: Outputs, labels: Tensor) -> dict[str, Tensor]:
        return matching.losses(outputs, labels, None, self.is_sharded)

    def segment_losses(self, outputs: Outputs, labels: Tensor, segments: Tensor) -> dict[str, Tensor]:
        return matching.losses(outputs, labels, segments, self.is_sharded)

    def scores(self, outputs: Outputs) -> Tensor:
        return matching.scores(outputs)

    def queries(self, outputs: Outputs) -> Queries:
        return matching.queries(outputs)

    def segments(self, outputs: Outputs, predicted: Tensor, labels: LabelSet) -> Tensor:
        if not self.learns_segments:
            return super().segments(outputs, predicted, labels)
        size = (predicted.shape[-2], predicted.shape[-1])
        return segments.of_queries(outputs.classes[-1], outputs.masks[-1], size, labels)

    def log_probabilities(self, scores: Tensor) -> Tensor:
        return matching.log_probabilities(scores)

    def backbone(self) -> Sequence[nn.Module]:
        """Swin's blocks, with the norms of the maps that it gives."""
        encoder = self.network.model.pixel_level_module.encoder
        swin, found = encoder.swin, [encoder.swin.embeddings]
        for own, norm in zip(swin.encoder.layers, encoder.hidden_states_norms.values(), strict=True):
            found += stage([], own.blocks, [norm, *([own.downsample] if own.downsample else [])])
        return found

    def train(self, mode: bool = True) -> Self:
        """As any module's, but keeps the pixel decoder's layers out of training mode.

        There they have nothing to do (no dropout) but ask the host, once a layer, whether float16 overflowed.
        """
        super().train(mode)
        for layer in self.network.model.pixel_level_module.decoder.encoder.layers:
            layer.training = False
        return self

    def for_inference(self) -> Self:
        """Also keeps the last layer's predictions alone, and goes our own, shorter way through the network."""
        self._only_last = self._lean = True
        return self.eval()

    def for_export(self) -> Self:
        """Also writes the fused attention out, whose strides the ONNX exporter does not follow."""
        self.network.set_attn_implementation("eager")
        return self.eval()


def _contiguous(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The decoder's inputs, row by row in memory. transformers passes them transposed, and under autocast each of its
    nine projections then became a batched product that copied its weight once per position: a quarter of all the time.
    """
    for name in ("encoder_hidden_states", "multi_stage_positional_embeddings"):
        kwargs[name] = [stage.contiguous() for stage in kwargs[name]]
    return args, kwargs


def build(
    classes: int, weights: Weights, size: str = "small", queries: int | None = None, segments: bool = True
) -> Segmenter:
    """A file or folder must hold weights of `size`, for any number of classes. queries: how many, where not as many as
    the size has. segments: whether it learns them in a panoptic protocol, or its classes alone, as in a semantic one.
    """
    network = transformers_models.build(_design(classes, size, queries), weights, CHECKPOINTS.get(size))
    if weights.kind == "random":
        _start_as_published(network)
    return Mask2Former(network, segments)


def _start_as_published(network: Any) -> None:
    """Draws the queries, the embeddings of levels and the mask head anew where transformers drew them near zero, as
    version 5.17 does: facebookresearch/Mask2Former leaves them as torch draws them, and so do later versions."""
    pixels, decoder = network.model.pixel_level_module.decoder, network.model.transformer_module
    if float(decoder.queries_features.weight.detach().std()) > 0.5:
        return
    nn.init.normal_(pixels.level_embed)
    for embedding in (decoder.queries_features, decoder.queries_embedder, decoder.level_embed):
        embedding.reset_parameters()
    for layer in decoder.decoder.mask_predictor.mask_embedder.modules():
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()


def _design(classes: int, size: str, queries: int | None) -> Design:
    network, backbone = choose("mask2former", size, _SIZES)
    network = matching.with_queries(network, queries)
    return Design(
        f"mask2former of size '{size}'",
        "Mask2FormerForUniversalSegmentation",
        config(classes, size, queries),
        {"": network, "backbone_config": backbone},
        lambda state: _HEADS + _UNUSED,
        partial(_prefix, network),
    )


def _prefix(network: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The part of a larger network's weights that this one has: its first layers and its first queries."""
    kept = {}
    for name, tensor in state.items():
        layer = _LAYER.match(name)
        if layer and int(layer[2]) >= (network["decoder_layers"] - 1 if layer[1] else network["encoder_layers"]):
            continue
        queries = name.startswith("model.transformer_module.queries_")
        if queries and len(tensor) < network["num_queries"]:
            have = f"the weights have {len(tensor)} queries, fewer than the {network['num_queries']} wanted"
            raise UserError(f'{have}: lower queries under [model], or start from weights = "random"')
        kept[name] = tensor[: network["num_queries"]] if queries else tensor
    return kept


def config(classes: int, size: str, queries: int | None = None) -> Any:
    """transformers' configuration of this size."""
    network, backbone = choose("mask2former", size, _SIZES)
    network = matching.with_queries(network, queries)
    stages = ["stage1", "stage2", "stage3", "stage4"]
    swin = library().SwinConfig(**backbone, drop_path_rate=_DROP_PATH[size], out_features=stages)
    return library().Mask2FormerConfig(**network, backbone_config=swin, num_labels=classes)
