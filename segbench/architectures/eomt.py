"""EoMT, the encoder-only mask transformer: a plain ViT whose last blocks also see the queries (arXiv 2503.19108).

`size = "s"` and "b" are transformers' port on DINOv3; "pretrained" is DINOv3's ViT. Without it the design makes little
sense: the paper shows that pretraining replaces adapters and decoder. `size = "tiny"` has 0.5 M parameters.

The last blocks mask the queries' attention by what each query predicts so far; while training goes on this is annealed
away, block by block, so that a trained network needs no mask. Evaluation and inference never mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segbench.architectures.parts import matching, segments, transformers_models
from segbench.architectures.parts.matching import Outputs
from segbench.architectures.parts.per_pixel import stage
from segbench.architectures.parts.published import Checkpoint, State
from segbench.architectures.parts.transformers_models import Design, library
from segbench.architectures.parts.weights import Weights, choose
from segbench.architectures.segmenter import Queries, Segmenter
from segbench.core.labels import LabelSet

_S = {
    "hidden_size": 384,
    "num_attention_heads": 6,
    "intermediate_size": 1536,
    "num_hidden_layers": 12,
    "num_blocks": 3,
    "num_queries": 100,
}
# What fixes the shapes and the meaning of the weights, of EomtDinov3Config. Table 2 of the paper's appendix.
_SIZES: Mapping[str, Mapping[str, Any]] = {
    "s": _S,
    "b": {**_S, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
    "tiny": {
        "hidden_size": 96,
        "num_attention_heads": 3,
        "intermediate_size": 192,
        "num_hidden_layers": 4,
        "num_blocks": 2,
        "num_queries": 20,
    },
}
CHECKPOINTS = {
    size: Checkpoint(
        f"facebook/dinov3-vit{size}16-pretrain-lvd1689m",
        f"hub:facebook/dinov3-vit{size}16-pretrain-lvd1689m",
        licence="DINOv3 License (asked for on the hub)",
        commercial=True,
        megabytes=megabytes,
    )
    for size, megabytes in (("s", 86), ("b", 343))
}
_PATCH = 16
_POWER = 0.9  # of the annealing, training/mask_classification_loss.py and lightning_module.py of tue-mps/eomt
_CLASSES = ("class_predictor.", "criterion.")
_NEW = (*_CLASSES, "query.", "upscale_block.", "mask_head.", "attn_mask_probs")  # what a ViT lacks


class Eomt(Segmenter):
    """transformers' parts in our own loop: transformers' gives the last predictions alone, never anneals, and asks the
    host for a number in every masked block."""

    def __init__(self, network: Any, learns_segments: bool) -> None:
        super().__init__()
        self.network = network
        self.learns_segments = learns_segments
        self.query_count = network.config.num_queries
        self._only_last = False
        self._masked: tuple[bool, ...] = ()
        self._share = torch.zeros(network.config.num_blocks)  # of queries masked, by block; stays on the CPU
        self.progress(0.0)

    def progress(self, share: float) -> None:
        """Of B masked blocks the bth masks all queries until (b + 1) / (B + 2) of the training, none from
        (b + 2) / (B + 2) on, and a falling share of them between."""
        blocks = len(self._share)
        passed = [min(max(share * (blocks + 2) - (block + 1), 0.0), 1.0) for block in range(blocks)]
        self._share.copy_(torch.tensor([(1 - part) ** _POWER for part in passed]))
        self._masked = tuple(part < 1 for part in passed)

    def forward(self, images: Tensor) -> Outputs:
        """images: (B, 3, H, W), any H and W: padded by the mean colour to whole patches."""
        network, (height, width) = self.network, images.shape[-2:]
        images = F.pad(images, (0, -width % _PATCH, 0, -height % _PATCH))
        network.grid_size = (images.shape[-2] // _PATCH, images.shape[-1] // _PATCH)
        tokens = network.embeddings(images)
        positions = network.rope_embeddings(images.to(tokens.dtype))
        first = len(network.layers) - len(self._share)
        found = []
        for index, layer in enumerate(network.layers):
            mask = None
            if index == first:
                # len(images) would fix the batch size of an exported network.
                tokens = torch.cat([network.query.weight.expand(images.shape[0], -1, -1).to(tokens.dtype), tokens], 1)
            if index >= first and not self._only_last:
                found.append(network.predict(network.layernorm(tokens)))
                if self.training and self._masked[index - first]:
                    mask = self._mask(found[-1][0], tokens.shape[1], index - first)
            tokens = layer(tokens, attention_mask=mask, position_embeddings=positions)
        found.append(network.predict(network.layernorm(tokens)))
        masks, classes = (torch.stack(parts) for parts in zip(*found, strict=True))
        return Outputs(classes, masks[..., : -(-height // 4), : -(-width // 4)])

    def _mask(self, masks: Tensor, tokens: int, block: int) -> Tensor:
        """masks: (B, Q, h, w) logits. Returns (B, 1, S, S) bool, S the tokens: whether one attends to another. Only the
        queries' attention to patches is masked, and only that of a random share of the queries."""
        inside = F.interpolate(masks.detach().float(), self.network.grid_size, mode="bilinear").flatten(2) > 0
        free = torch.rand(*masks.shape[:2], 1, device=masks.device) > self._share[block]
        allowed = torch.ones(len(masks), 1, tokens, tokens, dtype=torch.bool, device=masks.device)
        allowed[:, 0, : masks.shape[1], tokens - inside.shape[-1] :] = inside | free
        return allowed

    def losses(self, outputs: Outputs, labels: Tensor) -> dict[str, Tensor]:
        """As Mask2Former's: the predictions before each of the last blocks, and the final ones."""
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
        """The ViT, whose last blocks also see the queries."""
        network = self.network
        return [network.embeddings, *stage([], network.layers, [network.layernorm])]

    def for_inference(self) -> Self:
        """Also leaves out all predictions but the final ones."""
        self._only_last = True
        return self.eval()


def build(
    classes: int, weights: Weights, size: str = "s", queries: int | None = None, segments: bool = True
) -> Segmenter:
    """The masks are at a quarter of the image's height and width, made of patches of 16×16 pixels. `queries` and
    `segments` are those of `mask2former`."""
    fixed = matching.with_queries(choose("eomt", size, _SIZES), queries)
    # DINOv3 was trained with an epsilon of 1e-5, which is not this class's default.
    config = library().EomtDinov3Config(**fixed, num_labels=classes, layer_norm_eps=1e-5, attn_implementation="sdpa")
    title = f"eomt of size '{size}'"
    design = Design(title, "EomtDinov3ForUniversalSegmentation", config, {"": fixed}, _heads, _adapt)
    return Eomt(transformers_models.build(design, weights, CHECKPOINTS.get(size)), segments)


def _heads(state: State) -> tuple[str, ...]:
    return _CLASSES if "query.weight" in state else _NEW


def _adapt(state: State) -> State:
    """From the names of DINOv3's ViT, the hub's and transformers' own. Its token for masked patches is not used."""
    if "norm.weight" not in state:
        return state
    names = {name: name.removeprefix("model.") for name in state if name != "embeddings.mask_token"}
    renamed = {new.replace("layer.", "layers.", 1): state[name] for name, new in names.items() if new[:5] != "norm."}
    return renamed | {f"layernorm.{kind}": state[f"norm.{kind}"] for kind in ("weight", "bias")}
