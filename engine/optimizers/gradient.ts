// What all optimizers do to the gradient before they look at it: measure it, and clip it by its global norm.

import type { Variable } from "../program.ts";
import { sumOfSquares } from "../simd.ts";

/**
 * The Euclidean norm of the gradient of all variables together, each `grad` times `gradScale`; and `scale`, by which a
 * `grad` is to be multiplied so that this norm is at most `grad_clip` (0 for no limit), as PyTorch's clip_grad_norm_ does.
 */
export function measureGradient(
  variables: Iterable<Variable>,
  gradScale: number,
  grad_clip: number,
): { norm: number; scale: number } {
  let sum = 0;
  for (const { grad } of variables) sum += sumOfSquares(grad!);
  const norm = Math.sqrt(sum) * gradScale;
  const clip = grad_clip > 0 ? Math.min(1, grad_clip / (norm + 1e-6)) : 1;
  return { norm, scale: gradScale * clip };
}
