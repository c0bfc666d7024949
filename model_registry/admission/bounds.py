"""What a model may ask for at most, each bound with its unit and its reason."""

MODEL_BYTES_MAX = 64 * 2**20  # a 300-tree model of 200 fields is 1 MB; the largest seen in credit scoring about 30 MB
NODES_MAX = 10_000  # exported scoring pipelines have tens of nodes, unrolled tensor exports some thousands
INITIALIZERS_MAX = 20_000  # a dense layer has two; a model has fewer than two for each node
INPUTS_MAX = 2_000  # a manifest has at most as many fields
OUTPUTS_MAX = 64  # labels, scores, leaves; each a bank could bind
ATTRIBUTES_MAX = 64  # of one node; the largest operator has 23
NAME_BYTES_MAX = 1_024  # names of values and nodes; exporters join the path of a module
NOTE_BYTES_MAX = 4 * 2**20  # one doc string or metadata value; torch keeps its whole program as text
NOTES_BYTES_MAX = 16 * 2**20  # all of them together
STRING_BYTES_MAX = 4_096  # one text in a tensor or list: a category, copied for each element that holds it
AXES_MAX = 8
ELEMENTS_MAX = 2**24  # in one stored tensor: 64 MiB of floats, no more than the model's bytes could hold
COMPUTED_MAX = 2**22  # in one computed tensor: 16 MiB of floats for one row; a layer of an MLP has some thousands
TEXTS_MAX = 2**12  # in one computed tensor of texts, each up to STRING_BYTES_MAX: 16 MiB
COMPUTED_TOTAL_MAX = 2**25  # all computed tensors: constant folding keeps every one of them while it loads
WORK_MAX = 2**28  # multiply-adds or element visits for one row, 0.1 s at most: a guard before the first run is timed
KNOWN_MAX = 4_096  # elements of a tensor whose contents the walk follows: shapes, axes, indices
TREE_NODES_MAX = 2**22  # in one ensemble: 64 MiB hold fewer
TREE_DEPTH_MAX = 4_096  # boosted trees have tens; a chain for a set of categories some hundreds
FIELD_WIDTH_MAX = 2_000  # columns of one input: fields of a manifest
REASONS_MAX = 50  # a report is read by people
FACTS_INPUTS_MAX = 200  # inputs listed among the facts, which are read by people
