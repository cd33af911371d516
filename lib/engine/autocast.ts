// Mixed precision (Micikevicius et al. 2018), as in torch.autocast: the factors and the result of every matrix product are rounded to
// float16; everything else, the weights included, stays in float32. lib/engine/half.ts is the plain twin.
//
// The graph has the rounding, around products in float32: ONNX Runtime's CPU kernels don't multiply in float16, and a graph with float16
// products gets float32 ones with the casts removed. So the numbers are those of a device that multiplies in float16 and
// accumulates in float32, but not the speed. Left out: products in float16 itself, until there is a device to test them on.

import type { Attributes } from "./onnx.ts";
import { OnnxBuilder } from "./onnx.ts";

const PRODUCTS: ReadonlySet<string> = new Set(["MatMul", "Gemm", "FusedMatMul"]);
/** Operators with products inside, which can't be rounded from the outside. */
const WITH_PRODUCTS = /MatMul|Gemm|Attention|Einsum|Conv/;
const [FLOAT, FLOAT16] = [1, 10];

/** Writes products so that they are in float16. */
export class AutocastBuilder extends OnnxBuilder {
  readonly #halves = new Map<string, string>(); // of factors, which the backward pass reads again
  #exact = false;

  override emit(operator: string, inputs: string[], attributes: Attributes = {}, domain = ""): string {
    if (this.#exact || !WITH_PRODUCTS.test(operator)) return super.emit(operator, inputs, attributes, domain);
    if (!PRODUCTS.has(operator) || inputs.length !== 2) {
      throw new Error(`internal: no float16 form of ${operator} with ${inputs.length} inputs`);
    }
    const factors = inputs.map((name) => this.#float(this.#half(name)));
    return this.#float(this.#half(super.emit(operator, factors, attributes, domain)));
  }

  /** Run `write` without rounding its products. */
  exactly<T>(write: () => T): T {
    this.#exact = true;
    try {
      return write();
    } finally {
      this.#exact = false;
    }
  }

  #half(name: string): string {
    const half = this.#halves.get(name) ?? super.emit("Cast", [name], { to: FLOAT16 });
    this.#halves.set(name, half);
    return half;
  }

  #float(name: string): string {
    return super.emit("Cast", [name], { to: FLOAT });
  }
}
