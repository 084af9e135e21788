"""Which channels can only be kept or removed together: classes of labels, and products of them.

Every index along a dimension that can be pruned has an integer label. While a graph is read, three
kinds of constraints on labels are collected:

- two labels are equal (in an addition, or a filter and its scale): they are *united*;
- a label must be kept (an output, an unknown operator): it is *pinned*, with the reason;
- a dimension is the *product* of others (heads times head width, groups times channels per group):
  the index (i, j) is kept exactly if both i and j are.

`Couplings.solve` turns them into equivalence classes. A class that is not a cell of a product is an
*atom*: it can be chosen for removal. If products contradict each other, the smaller factor is
pinned. This is always valid, because a product with a fixed factor is a plain union.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

LabelArray: TypeAlias = NDArray[np.int64]
_CONFLICT: Final = "its dimension is split in two incompatible ways"
_FACTOR: Final = "the other factor of its dimension is fixed"
_MAX_ROUNDS: Final = 200
_MAX_NESTING: Final = 16


@dataclass(frozen=True)
class _Product:
    """Cells of shape (len(factor), ...), one axis per factor."""

    cells: LabelArray
    factors: tuple[LabelArray, ...]


@final
class Couplings:
    """Collects constraints on labels; see the module's docstring."""

    def __init__(self) -> None:
        self._count = 0
        self._edges: list[tuple[LabelArray, LabelArray]] = []
        self._pins: list[tuple[LabelArray, str]] = []
        self._products: list[_Product] = []

    def new_labels(self, count: int) -> LabelArray:
        """Create new labels, each a class of its own."""
        start = self._count
        self._count += count
        return np.arange(start, start + count)

    def unite(self, first: LabelArray, second: LabelArray) -> None:
        """Tie two arrays of labels together, index by index."""
        if first.shape != second.shape:
            raise ValueError(f"labels of shapes {first.shape} and {second.shape} cannot be united")
        if first is not second:
            self._edges.append((first.reshape(-1), second.reshape(-1)))

    def pin(self, labels: LabelArray, reason: str) -> None:
        """Record that labels must be kept, and why; the first reason given is reported."""
        if labels.size:
            self._pins.append((labels.reshape(-1), reason))

    def product(self, cells: LabelArray, factors: Sequence[LabelArray]) -> None:
        """Record that ``cells``, in row-major order, are the product of ``factors``."""
        shape = tuple(len(factor) for factor in factors)
        self._products.append(_Product(cells.reshape(shape), tuple(factors)))

    def solve(self) -> Classes:
        """Solve the constraints, by repeating until nothing changes."""
        return _Solver(self._count, self._edges, self._pins, self._products).solve()


@final
@dataclass(frozen=True)
class Classes:
    """The solution: equivalence classes of labels.

    Attributes:
        root: For every label, the smallest label of its class.
        atoms: (labels, labels) boolean. The row of a label's root marks the atoms whose removal
            removes the label: itself, or the atoms of its product's factors.
        reasons: For every root that must be kept, the reason.
        families: For every atom in a product's factor, its (product, axis) pairs. They distinguish
            heads from head widths, which are in the same tensors.
    """

    root: LabelArray
    atoms: csr_array
    reasons: dict[int, str]
    families: dict[int, frozenset[tuple[int, int]]]

    def removed(self, channels: Sequence[int] | LabelArray) -> NDArray[np.bool_]:
        """A flag for every label: whether removing the atoms ``channels`` removes it."""
        chosen = np.zeros(len(self.root))
        chosen[np.asarray(channels, dtype=np.int64)] = 1
        flags: NDArray[np.bool_] = np.asarray(self.atoms @ chosen)[self.root] > 0
        return flags


class _Solver:
    """Working state of `Couplings.solve`."""

    def __init__(self, count: int, edges: list[tuple[LabelArray, LabelArray]],
                 pins: list[tuple[LabelArray, str]], products: list[_Product]) -> None:
        self._count = count
        self._edges = list(edges)
        self._pins = list(pins)
        self._causes: list[tuple[LabelArray, np.int64]] = []
        self._open = dict(enumerate(products))
        self._next = len(products)
        self._root = np.arange(count)
        self._pinned = np.zeros(count, dtype=bool)
        self._changed = True

    def solve(self) -> Classes:
        for _ in range(_MAX_ROUNDS):
            if not self._changed:
                break
            self._changed = False
            self._update()
            for key in list(self._open):
                self._simplify(key)
            if not self._changed:
                self._align()
            if not self._changed:
                self._break_cycles()
        else:
            self._pin_all_products()
        atoms = self._atoms()
        return Classes(self._root, atoms, self._reasons(), self._families(atoms))

    def _update(self) -> None:
        if self._edges:
            first = np.concatenate([edge[0] for edge in self._edges])
            second = np.concatenate([edge[1] for edge in self._edges])
            self._edges = [(first, second)]
            graph = csr_array((np.ones(len(first), dtype=np.int8), (first, second)),
                              shape=(self._count, self._count))
            number, component = connected_components(graph, directed=False)
            smallest = np.full(number, self._count)
            np.minimum.at(smallest, component, np.arange(self._count))
            self._root = smallest[component]
        self._pinned = np.zeros(self._count, dtype=bool)
        for labels, _ in self._pins:
            self._pinned[self._root[labels]] = True

    def _unite(self, first: LabelArray, second: LabelArray) -> None:
        first, second = np.broadcast_arrays(first, second)
        apart = self._root[first] != self._root[second]
        if apart.any():
            self._edges.append((first[apart], second[apart]))
            self._changed = True

    def _pin(self, labels: LabelArray, reason: str, cause: LabelArray | None = None) -> None:
        """Pin labels; their reason is that of the first label in ``cause``, if given."""
        free = labels[~self._pinned[self._root[labels]]]
        if free.size:
            self._pins.append((free, reason))
            if cause is not None and cause.size:
                self._causes.append((free, cause.reshape(-1)[0]))
            self._changed = True

    def _simplify(self, key: int) -> None:
        """Propagate pins between cells and factors, and remove factors that are fixed or single."""
        product = self._open[key]
        pinned = self._pinned[self._root[product.cells]]
        for axis, factor in enumerate(product.factors):
            others = tuple(other for other in range(pinned.ndim) if other != axis)
            self._pin(factor[pinned.any(axis=others)], _FACTOR, product.cells[pinned])
        fixed = [self._pinned[self._root[factor]] for factor in product.factors]
        everywhere = np.ones(pinned.shape, dtype=bool)
        for axis, flags in enumerate(fixed):
            everywhere &= flags.reshape([-1 if a == axis else 1 for a in range(pinned.ndim)])
        causes = [factor[flags] for factor, flags in zip(product.factors, fixed, strict=True)]
        self._pin(product.cells[everywhere], _FACTOR, max(causes, key=len))
        left = [axis for axis, flags in enumerate(fixed) if not flags.all()]
        if len(left) < len(fixed):
            product = self._collapse(product, left)
        if len(product.factors) <= 1:
            if product.factors:
                self._unite(product.cells, product.factors[0])
            del self._open[key]
            self._changed = True
            return
        self._open[key] = product
        self._merge_equals(product)

    def _collapse(self, product: _Product, left: list[int]) -> _Product:
        cells = product.cells
        for axis in range(cells.ndim):
            if axis not in left:
                self._unite(cells, cells.take([0], axis=axis))
        first = tuple(slice(None) if axis in left else 0 for axis in range(cells.ndim))
        return _Product(cells[first], tuple(product.factors[axis] for axis in left))

    def _merge_equals(self, product: _Product) -> None:
        """Unite the factors of cells in one class, and the cells of factors in one class."""
        cells = self._root[product.cells].reshape(-1)
        places = np.unravel_index(np.arange(cells.size), product.cells.shape)
        first, second = _equal_neighbors(cells)
        for factor, place in zip(product.factors, places, strict=True):
            self._unite(factor[place[first]], factor[place[second]])
        names = np.zeros(cells.size, dtype=np.int64)
        for factor, place in zip(product.factors, places, strict=True):
            names = names * self._count + self._root[factor[place]]
            _, names = np.unique(names, return_inverse=True)
        first, second = _equal_neighbors(names)
        flat = product.cells.reshape(-1)
        self._unite(flat[first], flat[second])

    def _align(self) -> None:
        """A cell of two products must be made of the same atoms in both."""
        keys = list(self._open)
        if len(keys) < 2:
            return
        owner = np.concatenate([np.full(self._open[key].cells.size, key) for key in keys])
        place = np.concatenate([np.arange(self._open[key].cells.size) for key in keys])
        cells = np.concatenate([self._root[self._open[key].cells].reshape(-1) for key in keys])
        names = self._names(keys)
        first, second = _equal_neighbors(cells)
        differ = names[first] != names[second]
        pairs: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for a, b in zip(first[differ], second[differ], strict=True):
            pairs.setdefault((int(owner[a]), int(owner[b])), []).append((int(place[a]),
                                                                         int(place[b])))
        for (one, other), shared in pairs.items():
            if one in self._open and other in self._open:
                self._reconcile(one, other, np.array(shared))

    def _names(self, keys: list[int]) -> NDArray[np.int64]:
        """For every cell of every product, a number that identifies its set of atoms."""
        numbers = np.random.default_rng(0).integers(1, 2**62, self._count)
        atoms = self._atoms().astype(np.int64)  # as floats, sums would depend on their order
        result = []
        for key in keys:
            product = self._open[key]
            total = np.zeros(product.cells.shape, dtype=np.int64)
            for axis, factor in enumerate(product.factors):
                shape = [-1 if a == axis else 1 for a in range(product.cells.ndim)]
                sums = atoms[self._root[factor]] @ numbers
                total = total + np.asarray(sums).reshape(shape)
            result.append(total.reshape(-1))
        return np.concatenate(result)

    def _reconcile(self, one: int, other: int, shared: LabelArray) -> None:
        first, second = self._open[one], self._open[other]
        if first.cells.shape == second.cells.shape and np.array_equal(shared[:, 0], shared[:, 1]):
            places = np.unravel_index(shared[:, 0], first.cells.shape)
            for a, b, place in zip(first.factors, second.factors, places, strict=True):
                self._unite(a[place], b[place])
        elif first.cells.size == second.cells.size == len(shared) and np.array_equal(
                shared[:, 0], shared[:, 1]) and self._refine(one, other):
            return
        else:
            self._pin_smaller(one)
            self._pin_smaller(other)

    def _refine(self, one: int, other: int) -> bool:
        """Split both products into common finer factors, if their factors nest."""
        sizes = [[len(factor) for factor in self._open[key].factors] for key in (one, other)]
        bounds = [np.cumprod(part).tolist() for part in sizes]
        chain = sorted(set(bounds[0]) | set(bounds[1]))
        if any(after % before for before, after in itertools.pairwise(chain)):
            return False
        widths = [after // before for before, after in itertools.pairwise([1, *chain])]
        if widths in sizes:
            fine = self._open[other if sizes[1] == widths else one].factors
        else:
            fine = tuple(self._new_labels(width) for width in widths)
        for key, bound in zip((one, other), bounds, strict=True):
            start = 0
            for factor, end in zip(self._open[key].factors, bound, strict=True):
                stop = chain.index(end) + 1
                self._add_product(factor, fine[start:stop])
                start = stop
        return True

    def _new_labels(self, count: int) -> LabelArray:
        start = self._count
        self._count += count
        self._root = np.concatenate([self._root, np.arange(start, self._count)])
        self._pinned = np.concatenate([self._pinned, np.zeros(count, dtype=bool)])
        return np.arange(start, self._count)

    def _add_product(self, cells: LabelArray, factors: tuple[LabelArray, ...]) -> None:
        if len(factors) == 1:
            self._unite(cells, factors[0])
            return
        shape = tuple(len(factor) for factor in factors)
        self._open[self._next] = _Product(cells.reshape(shape), factors)
        self._next += 1
        self._changed = True

    def _pin_smaller(self, key: int) -> None:
        """Pin all factors of a product except its largest."""
        factors = self._open[key].factors
        largest = max(range(len(factors)), key=lambda axis: len(factors[axis]))
        for axis, factor in enumerate(factors):
            if axis != largest:
                self._pin(factor, _CONFLICT)

    def _break_cycles(self) -> None:
        """Pin factors of a product with a cyclic label, which could not be chosen."""
        atoms = self._atoms()
        is_empty = atoms.indptr[1:] == atoms.indptr[:-1]
        for key, product in self._open.items():
            if is_empty[self._root[product.cells]].any():
                self._pin_smaller(key)
                return

    def _pin_all_products(self) -> None:
        for product in self._open.values():
            self._pins.append((product.cells.reshape(-1), _CONFLICT))
            self._pins.extend((factor, _CONFLICT) for factor in product.factors)
        self._open.clear()
        self._update()

    def _atoms(self) -> csr_array:
        """The atoms of each root, with nested products resolved; empty rows are cycles."""
        rows, columns = [], []
        is_cell = np.zeros(self._count, dtype=bool)
        for product in self._open.values():
            cells = self._root[product.cells]
            is_cell[cells] = True
            for axis, factor in enumerate(product.factors):
                shape = [-1 if a == axis else 1 for a in range(cells.ndim)]
                wide = np.broadcast_to(self._root[factor].reshape(shape), cells.shape)
                rows.append(cells.reshape(-1))
                columns.append(wide.reshape(-1))
        plain = np.flatnonzero(~is_cell)
        leaf = csr_array((np.ones(len(plain)), (plain, plain)), shape=(self._count,) * 2)
        if not rows:
            return leaf
        row, column = np.concatenate(rows), np.concatenate(columns)
        step = csr_array((np.ones(len(row)), (row, column)), shape=(self._count,) * 2)
        step = csr_array(step + leaf)
        step.data[:] = 1
        for _ in range(_MAX_NESTING):
            further = csr_array(step @ step)
            further.data[:] = 1
            if further.nnz == step.nnz and (further != step).nnz == 0:
                break
            step = further
        return csr_array(step @ leaf)

    def _reasons(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for labels, reason in self._pins:
            for root in np.unique(self._root[labels]).tolist():
                if found.get(root, _FACTOR) == _FACTOR:
                    found[root] = reason
        for labels, cause in self._causes:
            reason = found[int(self._root[cause])]
            for root in np.unique(self._root[labels]).tolist():
                if found[root] == _FACTOR:
                    found[root] = reason
        return found

    def _families(self, atoms: csr_array) -> dict[int, frozenset[tuple[int, int]]]:
        found: dict[int, set[tuple[int, int]]] = {}
        for key, product in self._open.items():
            for axis, factor in enumerate(product.factors):
                for atom in np.unique(atoms[self._root[factor]].indices).tolist():
                    found.setdefault(atom, set()).add((key, axis))
        return {atom: frozenset(pairs) for atom, pairs in found.items()}


def _equal_neighbors(values: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Index pairs of equal values, each value's members chained in order."""
    order = np.argsort(values, kind="stable")
    same = values[order[1:]] == values[order[:-1]]
    return order[:-1][same], order[1:][same]
