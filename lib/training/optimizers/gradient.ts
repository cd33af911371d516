// What all optimizers do to the gradient before they look at it: measure it, and clip it by its global norm.

import { inPieces } from "../../common/breathe.ts";
import { sumOfSquares } from "../../common/simd.ts";
import type { Variable } from "../../engine/runtime/program.ts";

/**
 * The Euclidean norm of the gradient of all variables together, each `grad` times `gradScale`; and `scale`, by which a
 * `grad` is to be multiplied so that this norm is at most `grad_clip` (0 for no limit), as PyTorch's clip_grad_norm_ does.
 */
export async function measureGradient(
  variables: Iterable<Variable>,
  gradScale: number,
  grad_clip: number,
): Promise<{ norm: number; scale: number }> {
  let sum = 0;
  for (const { grad } of variables) sum += await squaresOf(grad!);
  const norm = Math.sqrt(sum) * gradScale;
  const clip = grad_clip > 0 ? Math.min(1, grad_clip / (norm + 1e-6)) : 1;
  return { norm, scale: gradScale * clip };
}

/** The sum of the squares of all numbers of x. */
export async function squaresOf(x: Float32Array): Promise<number> {
  let sum = 0;
  await inPieces(x.length, (from, to) => {
    sum = sumOfSquares(x.subarray(from, to), sum);
  });
  return sum;
}
