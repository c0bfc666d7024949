"""Allowed operators of ai.onnx: what sklearn, boosted trees, MLPs and tensor exports of trees are made of.

Each says how large its outputs become. Not here on purpose: control flow and Scan (subgraphs), Random* and Multinomial
(not repeatable), sequences, optionals, texts that grow (StringConcat), Resize, convolution, quantization.
Source: Operators.md (github.com/onnx/onnx), opsets 7 to 28.
"""

from collections.abc import Sequence

from model_registry.admission import tensor_shapes as shapes
from model_registry.admission.values import Node, Operator, Value, as_input, kind_is, picks, same
from model_registry.admission.view import T


def _nothing(node: Node, outputs: Sequence[Value]) -> int:  # noqa: ARG001 - a WorkRule
    return 0


_FLOAT, _BOOL, _WHOLE = T.FLOAT, T.BOOL, T.INT64
_SAME_SHAPE = """
    Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Celu Clip Cos Cosh CumProd CumSum Elu Erf Exp Floor Gelu
    HardSigmoid HardSwish Hardmax Identity InstanceNormalization LeakyRelu Log LogSoftmax LpNormalization
    MeanVarianceNormalization Mish Neg Not Reciprocal Relu RMSNormalization GroupNormalization Round Selu Shrink
    Sigmoid Sign Sin Sinh Softmax Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu Trilu ScatterElements
    ScatterND Scatter"""
_ELEMENTWISE = "Add BitShift BitwiseAnd BitwiseOr BitwiseXor Div Max Mean Min Mod Mul PRelu Pow Sub Sum"
_LOGICAL = "And Equal Greater GreaterOrEqual Less LessOrEqual Or Xor"
_REDUCING = "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare"

TENSOR_OPERATORS: dict[str, Operator] = {
    **{name: Operator(same, as_input(0)) for name in _SAME_SHAPE.split()},
    **{name: Operator(same, kind_is(_BOOL)) for name in ("IsInf", "IsNaN")},
    **{name: Operator(shapes.broadcast_all_dims) for name in _ELEMENTWISE.split()},
    **{name: Operator(shapes.broadcast_all_dims, kind_is(_BOOL)) for name in _LOGICAL.split()},
    **{f"Reduce{name}": Operator(shapes.reduce_dims) for name in _REDUCING.split()},
    "ArgMax": Operator(shapes.arg_dims, kind_is(_WHOLE)),
    "ArgMin": Operator(shapes.arg_dims, kind_is(_WHOLE)),
    "BatchNormalization": Operator(same, as_input(0), check=shapes.no_training),
    "Cast": Operator(same, lambda node: [node.attributes["to"]]),
    "CastLike": Operator(same, as_input(1)),
    "Concat": Operator(shapes.concat_dims),
    "Constant": Operator(shapes.constant_dims, shapes.constant_kind, work=_nothing),
    "ConstantOfShape": Operator(shapes.filled_dims, shapes.filled_kind, grows=True),
    "Dropout": Operator(same, lambda node: [node.value(0).kind, _BOOL][: node.outputs], check=shapes.no_training),
    "Einsum": Operator(shapes.einsum_dims, work=shapes.einsum_work, grows=True),
    "Expand": Operator(shapes.expand_dims, grows=True),
    "EyeLike": Operator(same, lambda node: [node.attributes.get("dtype", node.value(0).kind)]),
    "Flatten": Operator(shapes.flatten_dims),
    "Gather": Operator(shapes.gather_dims, work=picks),
    "GatherElements": Operator(lambda node: [node.shape(1)], work=picks),
    "GatherND": Operator(shapes.gather_nd_dims, work=picks),
    "Gemm": Operator(shapes.gemm_dims, work=shapes.gemm_work),
    "LayerNormalization": Operator(shapes.norm_dims, lambda node: [node.value(0).kind, _FLOAT, _FLOAT][: node.outputs]),
    "MatMul": Operator(shapes.matmul_dims, work=shapes.matmul_work),
    "OneHot": Operator(shapes.one_hot_dims, as_input(2), grows=True),
    "Pad": Operator(shapes.pad_dims, grows=True),
    "Range": Operator(shapes.range_dims, grows=True),
    "Reshape": Operator(shapes.reshape_dims),
    "Shape": Operator(shapes.shape_of_dims, kind_is(_WHOLE), work=_nothing),
    "Size": Operator(lambda _: [()], kind_is(_WHOLE), work=_nothing),
    "Slice": Operator(shapes.slice_dims, work=picks),
    "Split": Operator(shapes.split_dims, as_input(0)),
    "Squeeze": Operator(shapes.squeeze_dims),
    "Tile": Operator(shapes.tile_dims, grows=True),
    "TopK": Operator(
        shapes.top_k_dims, lambda node: [node.value(0).kind, _WHOLE][: node.outputs], grows=True, work=shapes.sorting
    ),
    "Transpose": Operator(shapes.transpose_dims),
    "Unsqueeze": Operator(shapes.unsqueeze_dims),
    "Where": Operator(shapes.broadcast_all_dims, as_input(1)),
}
