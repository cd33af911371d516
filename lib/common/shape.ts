// Shapes of tensors.

/** The number of elements of a tensor with this shape. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}
