"""How well a query and a key agree.

Leaves to others: what their places add (`position`), how scores become weights (`normaliser`).
"""

from regard import lang as rg
from regard.catalogue.variant import variant


@variant("Scaled dot product", "Vaswani et al. 2017", "1706.03762")
def scaled_dot_product(pair):
    """Score by the product of the rows, made independent of their width.

    The default. Use it unless there is a reason not to: every library has fast kernels for it,
    and pretrained weights expect it.
    """
    return rg.softmax(rg.dot(pair.q, pair.k) / rg.sqrt(pair.width))
