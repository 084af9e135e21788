"""The steps of an integer network, each from stored tensors to one stored tensor."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from edgewright.core import Value

Count = Annotated[int, Field(ge=1, le=2**24)]
Distance = Annotated[int, Field(ge=0, le=2**24)]
Shift = Annotated[int, Field(ge=1, le=62)]
Factor = Annotated[int, Field(ge=-(2**31), lt=2**31)]
Bound = Annotated[int, Field(ge=-(2**31), lt=2**31)]

Dtype = Literal["uint8", "int8", "int32"]
_LIMITS: Final[dict[Dtype, tuple[int, int]]] = {
    "uint8": (0, 255), "int8": (-128, 127), "int32": (-(2**31), 2**31 - 1)}


class IntegerTensor(Value):
    """A stored tensor of one sample: ``value = scale * (integer - zero_point)``.

    Attributes:
        name: Its name.
        dtype: Type of its integers.
        shape: Its sizes, the innermost last; images are (height, width, channels).
        scale: The step between two integers.
        zero_point: The integer that represents 0.
    """

    name: str
    dtype: Dtype
    shape: tuple[Count, ...]
    scale: float = Field(gt=0, allow_inf_nan=False)
    zero_point: Bound = 0

    @model_validator(mode="after")
    def _check_zero_point(self) -> Self:
        low, high = (0, 0) if self.dtype == "int32" else _LIMITS[self.dtype]
        if not low <= self.zero_point <= high:
            raise ValueError(f"the zero point {self.zero_point} is not one of {self.dtype}, from "
                             f"{low} to {high}")
        return self

    @property
    def size(self) -> int:
        """Number of elements."""
        size = 1
        for side in self.shape:
            size *= side
        return size

    @property
    def span(self) -> int:
        """The largest magnitude of an integer's distance from the zero point.

        Example:
            >>> IntegerTensor(name="x", dtype="uint8", shape=(2,), scale=1.0, zero_point=3).span
            252
        """
        low, high = _LIMITS[self.dtype]
        return max(high - self.zero_point, self.zero_point - low)

    @property
    def bytes(self) -> int:
        """Bytes of all elements."""
        return self.size * (4 if self.dtype == "int32" else 1)


class Port(Value):
    """An input or output of a network.

    Attributes:
        name: The model's name for it.
        tensor: The stored tensor.
        shape: Sizes for one sample, in the model's order: (channels, height, width).
        order: The model's dimension at every place of the stored tensor, without the batch:
            (1, 2, 0) of an image that is stored as (height, width, channels).
    """

    name: str
    tensor: str
    shape: tuple[Count, ...]
    order: tuple[int, ...]

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if sorted(self.order) != list(range(len(self.shape))):
            raise ValueError(f"{self.order} is not an order of {len(self.shape)} dimensions")
        return self

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Its sizes as they are stored."""
        return tuple(self.shape[dim] for dim in self.order)


class Window(Value):
    """The places that a convolution or a pooling reads for each of its results.

    Attributes:
        inputs: Height, width and channels of what it reads.
        outputs: Height, width and channels of what it writes.
        kernel: Height and width of the window.
        stride: Vertical and horizontal distance of two windows.
        padding: Rows above and columns left of the first element that the first window begins at;
            what windows reach beyond the last element is padding, too.
        dilation: Vertical and horizontal distance of two elements in a window.
    """

    inputs: tuple[Count, Count, Count]
    outputs: tuple[Count, Count, Count]
    kernel: tuple[Count, Count]
    stride: tuple[Count, Count] = (1, 1)
    padding: tuple[Distance, Distance] = (0, 0)
    dilation: tuple[Count, Count] = (1, 1)

    def rows(self) -> tuple[tuple[int, ...], ...]:
        """The rows that the windows of every output row read; -1 or less, or the height and more,
        are padding.
        """
        return self._places(0)

    def columns(self) -> tuple[tuple[int, ...], ...]:
        """As `rows`, for the columns."""
        return self._places(1)

    def _places(self, axis: int) -> tuple[tuple[int, ...], ...]:
        return tuple(
            tuple(place * self.stride[axis] - self.padding[axis] + tap * self.dilation[axis]
                  for tap in range(self.kernel[axis]))
            for place in range(self.outputs[axis]))


class _Clamped(Value):
    """A step whose results are rounded half to even and clamped.

    Attributes:
        low: The lowest integer of the result.
        high: The highest integer of the result.
    """

    low: Bound
    high: Bound


class Convolution(_Clamped):
    """Convolve, or multiply by a matrix: a linear layer is a convolution of 1 x 1.

    For output channel ``o`` with the group's inputs ``x`` and their zero point ``z``::

        sum = (sum of (x - z) * weight[o]) * finer_by + bias[o]
        out = clamp(round(sum * factors[o] / 2**shifts[o]) + zero_point, low, high)

    Attributes:
        input: The tensor that it reads.
        output: The tensor that it writes.
        weight: Constant of int8, (outputs, kernel height, kernel width, inputs / groups).
        bias: Constant of int32, (outputs,).
        factors: Constant of int32, (outputs,).
        shifts: Constant of uint8, (outputs,).
        window: What it reads.
        groups: Number of groups of channels.
        bits: Bits of the weights: 1 for weights of -1 and 1 alone.
        finer_by: How many steps of the bias a product's step is.
    """

    kind: Literal["convolution"] = "convolution"
    input: str
    output: str
    weight: str
    bias: str
    factors: str
    shifts: str
    window: Window
    groups: Count = 1
    bits: int = Field(default=8, ge=1, le=8)
    finer_by: int = Field(default=1, ge=1, le=64)

    in_place: ClassVar[bool] = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tensors that it reads."""
        return (self.input,)


class Sum(_Clamped):
    """Add two tensors: ``round((a - za) * factors[0] + (b - zb) * factors[1]) / 2**shift)``.

    The zero point of the result is added, and the sum clamped. The second tensor's elements repeat
    if it is smaller.

    Attributes:
        inputs: The tensors that it reads.
        output: The tensor that it writes, of the first one's size.
        factors: A factor per input.
        shift: The power of two that the sum is divided by.
    """

    kind: Literal["sum"] = "sum"
    inputs: tuple[str, str]
    output: str
    factors: tuple[Factor, Factor]
    shift: Shift

    in_place: ClassVar[bool] = True


class Product(_Clamped):
    """Multiply two tensors: ``round((a - za) * (b - zb) * factor / 2**shift)``, then as `Sum`.

    Attributes:
        inputs: The tensors that it reads.
        output: The tensor that it writes, of the first one's size.
        factor: The factor.
        shift: The power of two that the product is divided by.
    """

    kind: Literal["product"] = "product"
    inputs: tuple[str, str]
    output: str
    factor: Factor
    shift: Shift

    in_place: ClassVar[bool] = True


class Lookup(Value):
    """Replace every element by an entry of a table: any function of one tensor of 8 bits.

    Attributes:
        input: The tensor that it reads, of uint8 or int8.
        output: The tensor that it writes, of the same size and any dtype.
        table: Constant of the output's dtype, (256,): the result for the smallest integer first.
    """

    kind: Literal["lookup"] = "lookup"
    input: str
    output: str
    table: str

    in_place: ClassVar[bool] = True

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tensors that it reads."""
        return (self.input,)


class AveragePool(_Clamped):
    """Average over windows; elements of the padding are left out.

    For the ``n`` elements inside the image, ``round(sum of (x - z) * factors[p] / 2**shifts[p])``
    at output place ``p``, then as `Sum`.

    Attributes:
        input: The tensor that it reads.
        output: The tensor that it writes.
        window: What it reads.
        factors: Constant of int32, (1,) or (height * width of the output,).
        shifts: Constant of uint8, as ``factors``.
    """

    kind: Literal["average_pool"] = "average_pool"
    input: str
    output: str
    window: Window
    factors: str
    shifts: str

    in_place: ClassVar[bool] = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tensors that it reads."""
        return (self.input,)


class MaximumPool(Value):
    """The largest integer of every window; elements of the padding are left out.

    Attributes:
        input: The tensor that it reads.
        output: The tensor that it writes, of the same dtype.
        window: What it reads.
    """

    kind: Literal["maximum_pool"] = "maximum_pool"
    input: str
    output: str
    window: Window

    in_place: ClassVar[bool] = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tensors that it reads."""
        return (self.input,)


class Part(Value):
    """What is copied from one tensor to another: a block of any number of dimensions.

    Attributes:
        input: The tensor that is read.
        sizes: Sizes of the block.
        steps_in: Elements between two neighbours of the block in the input, per dimension.
        steps_out: The same in the output.
        start_in: The block's first element in the input.
        start_out: The block's first element in the output.
    """

    input: str
    sizes: tuple[Count, ...]
    steps_in: tuple[Distance, ...]
    steps_out: tuple[Distance, ...]
    start_in: Distance = 0
    start_out: Distance = 0


class Copy(Value):
    """Copy blocks: transposes, concatenations, slices and paddings.

    Attributes:
        output: The tensor that is written.
        parts: The blocks.
        fill: What elements outside all blocks are; None if there are none.
    """

    kind: Literal["copy"] = "copy"
    output: str
    parts: tuple[Part, ...]
    fill: Bound | None = None

    in_place: ClassVar[bool] = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tensors that it reads."""
        return tuple(dict.fromkeys(part.input for part in self.parts))


Step: TypeAlias = Annotated[
    Convolution | Sum | Product | Lookup | AveragePool | MaximumPool | Copy,
    Field(discriminator="kind")]
