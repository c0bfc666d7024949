"""The list of allowed operators, and what to do about those that exporters make and the list does not have."""

from model_registry.admission.learning_operators import LEARNING_OPERATORS
from model_registry.admission.tensor_operators import TENSOR_OPERATORS
from model_registry.admission.values import Operator
from model_registry.admission.view import LEARNING

OPERATORS: dict[tuple[str, str], Operator] = {
    **{("", name): operator for name, operator in TENSOR_OPERATORS.items()},
    **{(LEARNING, name): operator for name, operator in LEARNING_OPERATORS.items()},
}

_LOOPS = (
    "control flow is refused; unroll it (torch: trace instead of script; nearest neighbours and Gaussian processes "
)
_LOOPS += "of skl2onnx need it: use another estimator)"
_RANDOM = "random numbers make a model unrepeatable; export for inference"
_SEQUENCE = "sequences and optionals are refused; take and give tensors (multi-output classifiers: one model an output)"
_TEXT = "text is split or joined here; encode categories instead (OneHotEncoder, LabelEncoder)"
_QUANTIZED = "quantized models are refused; export in float"
_NO_MAP = "maps are refused; take one tensor, or one input for each field, instead of a dictionary"
_BY_REASON = {
    _LOOPS: "Loop If Scan",
    _RANDOM: "RandomNormal RandomUniform RandomNormalLike RandomUniformLike Multinomial Bernoulli",
    _SEQUENCE: """SequenceConstruct SequenceAt SequenceEmpty SequenceInsert SequenceErase SequenceLength SequenceMap
        SplitToSequence ConcatFromSequence Optional OptionalGetElement OptionalHasElement""",
    _TEXT: "StringSplit StringConcat StringNormalizer TfIdfVectorizer RegexFullMatch Tokenizer",
    _QUANTIZED: "QuantizeLinear DequantizeLinear DynamicQuantizeLinear MatMulInteger QLinearMatMul",
    _NO_MAP: "DictVectorizer CastMap",
}
REFUSED = {name: reason for reason, names in _BY_REASON.items() for name in names.split()}
