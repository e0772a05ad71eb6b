"""Reads the CLIP ViT-B/16 image tower out of its int8 ONNX store, as float32 weights.

The ONNX file quantises each matrix to int8 with one scale per output column and keeps
everything else in float32. As a *program* it is poor (its per-tensor activations lose
4 % of cosine, see ``docs/decisions/nano-model.md``); as a *store of weights* it is exact,
so only the weights are used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facellm.core.errors import ModelPartError

Weights = dict[str, NDArray[np.float32]]

#: CLIP's own normalisation of RGB values in 0..1 (openai/CLIP, ``clip.py``).
IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)

IMAGE_SIZE = 224
PATCH_SIZE = 16
WIDTH = 768
MLP_WIDTH = 3072
HEADS = 12
#: The tower stops before its last block: CLIP's penultimate layer keeps more local detail,
#: and LLaVA-type models read that one. Eleven of twelve blocks are therefore kept.
BLOCKS = 11
LAYER_NORM_EPS = 1e-5

_PREFIX = "vision_model."


def read_clip_tower(path: Path) -> Weights:
    """Return the tower's float32 weights under transformers' ``CLIPVisionModel`` names.

    Names come without the leading ``vision_model.``; matrices are ``[out, in]``, the patch
    kernel is ``[768, 3, 16, 16]``, the position table ``[197, 768]`` with the class token first.

    Raises ``ModelPartError`` when the file is not this tower.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(str(path)).graph
    except (DecodeError, OSError) as error:
        raise ModelPartError(f"{path.name} is not a readable ONNX file: {error}") from error
    stored = _stored_arrays(graph)
    weights = {
        name.removeprefix(_PREFIX): np.asarray(array, np.float32)
        for name, array in stored.items()
        if name.startswith(_PREFIX)
    }
    for node in graph.node:
        if node.op_type == "MatMulInteger":
            weights[_matrix_name(node.name)] = _dequantise(node, stored)
    _check(weights, path)
    return weights


def _stored_arrays(graph: Any) -> dict[str, NDArray[Any]]:
    """Initialisers and ``Constant`` nodes: exporters put scales in either."""
    from onnx import numpy_helper

    stored = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    stored.setdefault(node.output[0], numpy_helper.to_array(attribute.t))
    return stored


def _matrix_name(node_name: str) -> str:
    """``/vision_model/encoder/layers.0/mlp/fc1/MatMul_quant`` → ``encoder.layers.0.mlp.fc1.weight``."""
    path = node_name.removesuffix("/MatMul_quant").strip("/").removeprefix("vision_model/")
    return path.replace("/", ".") + ".weight"


def _dequantise(node: Any, stored: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    quantised, zero_point = stored[node.input[1]], stored[node.input[3]]
    scale = stored[node.input[1].replace("_quantized", "_scale")]
    columns = (quantised.astype(np.float32) - zero_point.astype(np.float32)) * scale.astype(np.float32)
    return np.ascontiguousarray(columns.T)


def _check(weights: Weights, path: Path) -> None:
    expected: dict[str, tuple[int, ...]] = {
        "embeddings.class_embedding": (WIDTH,),
        "embeddings.patch_embedding.weight": (WIDTH, 3, PATCH_SIZE, PATCH_SIZE),
        "embeddings.position_embedding.weight": ((IMAGE_SIZE // PATCH_SIZE) ** 2 + 1, WIDTH),
        "pre_layrnorm.weight": (WIDTH,),
    }
    for block in range(BLOCKS):
        expected[f"encoder.layers.{block}.self_attn.q_proj.weight"] = (WIDTH, WIDTH)
        expected[f"encoder.layers.{block}.mlp.fc1.weight"] = (MLP_WIDTH, WIDTH)
        expected[f"encoder.layers.{block}.mlp.fc2.weight"] = (WIDTH, MLP_WIDTH)
    for name, shape in expected.items():
        found = weights.get(name)
        if found is None or found.shape != shape:
            got = "nothing" if found is None else str(found.shape)
            raise ModelPartError(f"{path.name}: expected {name} with shape {shape}, found {got}")
