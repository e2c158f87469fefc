"""The rows of a linear program's products in one part of a call, hidden ones emptied.

A part is a range of query rows and a range of key rows. Leaves to others: expressions
(`values/evaluate`), and adding rows up (`sums`).
"""

import math
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from regard.backends.base import Declined
from regard.backends.cpu.rowmap import find_row_map
from regard.backends.linear.sums import Keys
from regard.backends.values import layout
from regard.backends.values.evaluate import Cache, Evaluator
from regard.backends.values.layout import Tile
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.passes.recognise_linear import LinearProgram, Product

RowLeaf = n.Vector | n.Feature


@dataclass(eq=False)
class Part:
    """One part of a call of a linear program.

    Attributes:
        program: The program.
        bound: The call.
        tile: The rows.
        leaves: The vectors and features that are read.
        rows: Their values in the tile, in computing dtype, where they are not the call's own.
    """

    program: LinearProgram
    bound: Bound
    tile: Tile
    leaves: tuple[RowLeaf, ...]
    rows: dict[RowLeaf, Tensor] = field(default_factory=dict)

    @cached_property
    def at(self) -> Evaluator:
        """Evaluates in the call's precision."""
        return self.evaluator({})

    def evaluator(self, holes: dict[str, Tensor]) -> Evaluator:
        """Return an evaluator that knows the values of some holes.

        Args:
            holes: Values of holes, 5-D, by name.

        Returns:
            The evaluator.
        """
        return self._evaluator(self.bound, holes, exactly=False)

    @cached_property
    def _exactly(self) -> Evaluator:
        """Evaluates exponents in float64: near position 10⁵ a distance of 1 is lost in float32."""
        bound = self.bound
        products = [*self.program.num, *(self.program.den or ())]
        read = n.walk(*(x for one in products for x in (one.query_exponent, one.key_exponent)))
        wide = {
            node.name: bound.tensors[node.name].double()
            for node in read
            if isinstance(node, n.Array | n.Scalar) and _is_float(bound.tensors[node.name])
        }
        # Of q, nothing but its dtype and its sizes is asked.
        wide["q"] = bound.q.new_empty((), dtype=torch.float64).expand(bound.q.shape)
        return self._evaluator(bound.with_tensors(wide), {}, exactly=True)

    def _evaluator(self, bound: Bound, holes: dict[str, Tensor], exactly: bool) -> Evaluator:
        cache = Cache()
        at = Evaluator(bound, self.tile, holes, cache)
        for leaf in self.leaves:
            value = self.rows.get(leaf)
            if value is None:
                data = self.bound.tensors[leaf.name][:, :, self.rows_of(leaf)]
                value = layout.widen(data, self.bound)
            value = value.double() if exactly and _is_float(value) else value
            spread = layout.spread_heads(value, bound)
            channels = spread if isinstance(leaf, n.Vector) else spread.unsqueeze(-1)
            value = layout.side_view(channels, leaf.side)
            exists = self._exists(at, leaf.side)
            # Whatever stands in rows that do not exist, no function of 1 makes NaN of it.
            value = value if exists is None else torch.where(exists, value, 1)
            cache.place(leaf)[leaf] = value
        return at

    def _exists(self, at: Evaluator, side: str) -> Tensor | None:
        """Return which of the tile's rows exist, 5-D; None for all."""
        query = side == "query"
        lengths = self.bound.query_lengths if query else self.bound.key_lengths
        if lengths is None:
            return None
        return at.index("row_i" if query else "row_j") < lengths.view(-1, 1, 1, 1, 1)

    def rows_of(self, leaf: RowLeaf) -> slice:
        """Return which rows of a leaf's tensor lie in the tile; a lone row lies in every one."""
        if self.bound.tensors[leaf.name].shape[2] == 1:
            return slice(0, 1)
        return self.tile.rows(leaf.side)

    def query_number(self, node: n.Node) -> Tensor:
        """Return a number per query row, (B or 1, H or 1, N or 1)."""
        return self.at.real(node)[:, :, :, 0, 0]

    @cached_property
    def keys_seen(self) -> Tensor | None:
        """Which keys exist and are admitted, (B or 1, H or 1, M); None for all."""
        return self._present(self.program.keys, "key")

    @cached_property
    def queries_seen(self) -> Tensor | None:
        """Which query rows exist and are admitted, (B or 1, H or 1, N); None for all."""
        return self._present(self.program.queries, "query")

    def _present(self, condition: n.Node | None, side: str) -> Tensor | None:
        found, exists = None, self._exists(self.at, side)
        if condition is not None:
            found = self.at.condition(condition)
        if exists is not None:
            found = exists if found is None else found & exists
        if found is None:
            return None
        found = found.squeeze(4).squeeze(3 if side == "query" else 2)
        return found.expand(*found.shape[:2], self.at.sizes["i" if side == "query" else "j"])

    def queries(self, products: list[Product]) -> Tensor:
        """Return the query rows of products side by side, (B, H, N, D)."""
        return self._beside(products, "i")

    def keys(self, products: list[Product], values: Tensor, totals: bool) -> Keys:
        """Return the key rows of products side by side, hidden ones emptied.

        Args:
            products: Products of one decay.
            values: What is summed.
            totals: Whether 1 is summed beside it.

        Returns:
            The keys.
        """
        exponent = products[0].key_exponent
        b = None if exponent is n.Const(0.0) else self._key_exponent(exponent)
        return Keys(self.shown(self._beside(products, "j")), values, b, totals)

    @cached_property
    def values(self) -> Tensor:
        """What is summed, 0 where hidden, (B, H, M, E)."""
        return self.shown(self._rows(self.at.real(self.program.values), "j"))

    @cached_property
    def ones(self) -> Tensor:
        """1 at every key, 0 where hidden, (B, H, M, 1)."""
        sizes = self.at.sizes
        one = torch.ones((), dtype=self.bound.compute_dtype, device=self.bound.q.device)
        return self.shown(one.expand(sizes["b"], sizes["h"], sizes["j"], 1))

    def shown(self, rows: Tensor) -> Tensor:
        """Return key rows with hidden ones 0."""
        return rows if self.keys_seen is None else torch.where(self.keys_seen[..., None], rows, 0.0)

    def _beside(self, products: list[Product], axis: str) -> Tensor:
        parts = []
        for one in products:
            value = self._side(one.query if axis == "i" else one.key)
            width = self._width(one)
            parts.append(self._rows(value.expand(*value.shape[:-1], width), axis))
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def _width(self, one: Product) -> int:
        """Return how many channels a product has; its sides may have one each or as many."""
        return max(self._side(side).shape[-1] for side in (one.query, one.key))

    def _side(self, node: n.Node) -> Tensor:
        """Return the 5-D value of a product's side."""
        found, values = find_row_map(node), self.at.cache.place(node)
        if node not in values and found is not None:
            rows = self.at.real(found.leaf)
            axis = 3 if found.leaf.side == "query" else 2
            if found.can_map(rows):
                values[node] = found.apply(rows.squeeze(axis)).unsqueeze(axis)
        return self.at.real(node)

    def _rows(self, value: Tensor, axis: str) -> Tensor:
        """Return a 5-D value of one side as (B, H, rows, C)."""
        rows = value.squeeze(3 if axis == "i" else 2)
        sizes = self.at.sizes
        return rows.expand(sizes["b"], sizes["h"], sizes[axis], rows.shape[-1])

    def query_exponent(self, products: list[Product]) -> Tensor | None:
        """Return exponents of query rows, float64 (B, H, N); None for 0."""
        node = products[0].query_exponent
        if node is n.Const(0.0):
            return None
        found = self._rows(self._exactly.real(node), "i")[..., 0]
        return _checked(found, self.queries_seen, 0.0)

    def _key_exponent(self, node: n.Node) -> Tensor:
        """Return exponents of key rows, float64 (B, H, M), -inf where hidden."""
        found = self._rows(self._exactly.real(node), "j")[..., 0]
        return _checked(found, self.keys_seen, -math.inf)


def _is_float(tensor: Tensor) -> bool:
    return tensor.dtype.is_floating_point


def _checked(exponent: Tensor, seen: Tensor | None, otherwise: float) -> Tensor:
    exponent = exponent.double()
    shown = exponent if seen is None else torch.where(seen, exponent, 0.0)
    if not bool(torch.isfinite(shown.detach()).all()):
        raise Declined("the exponent of a decay is NaN or infinite, which no state can carry")
    return shown if seen is None else torch.where(seen, exponent, otherwise)


def refuse_infinite(part: Part) -> None:
    """Refuse numbers that a hidden pair would let through, by 0 · NaN.

    Args:
        part: All rows of a call.

    Raises:
        Declined: If a row that exists holds NaN or infinity.
    """
    for leaf in part.leaves:
        value = part.at.real(leaf).detach()
        # A sum that overflows counts as infinite.
        if not bool(torch.isfinite(value.sum())):
            raise Declined(
                f"'{leaf.name}' holds NaN or infinity, which a state would carry to rows that it "
                "is hidden from"
            )
