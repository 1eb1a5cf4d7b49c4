"""The operations, one record each. A file holds one family; nothing else belongs here.

Gradient rules reach other operations as ``ops.name``, so that files may refer to each other in any order.
"""

from ..registry import OPS as _OPS
from . import (
    activation,
    arithmetic,
    assembly,
    attention,
    bags,
    bits,
    choices,
    class_losses,
    compare,
    contract,
    conv,
    create,
    ctc,
    distances,
    drawing,
    dropouts,
    elementwise,
    elimination,
    embeddings,
    error_functions,
    exponential,
    factorize,
    fourier,
    grids,
    index,
    linalg,
    loss,
    margins,
    matmul,
    methods,
    normalization,
    norms,
    order,
    parts,
    points,
    pool,
    pooling,
    random,
    recurrent,
    reduce,
    sampling,
    scan,
    scattering,
    shape,
    slices,
    special,
    statistics,
    triangles,
    weighted,
    window,
)
from .index import set_item

for _name, _record in list(_OPS.items()):
    if _record.namespace in ("", "internal", "nn.functional"):
        globals()[_name.rpartition(".")[2]] = _record.public

methods.attach_operators()
methods.attach_methods()
