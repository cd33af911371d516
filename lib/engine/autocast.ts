// Mixed precision (Micikevicius et al. 2018), as torch.autocast has it: the factors of every matrix product are rounded
// to float16, and so is its result; all else stays in float32, and so do the weights. lib/engine/half.ts is the plain twin.
//
// What is written is the rounding, around products in float32: ONNX Runtime's CPU kernels multiply no float16, and a graph
// that asks them to gets float32 products with the casts taken away. So factors and results are those of a device that
// multiplies float16 and adds in float32, while the time is not. Products in float16 itself are left out until there is such
// a device to test them on.

import type { Attributes } from "./onnx.ts";
import { OnnxBuilder } from "./onnx.ts";

const PRODUCTS: ReadonlySet<string> = new Set(["MatMul", "Gemm", "FusedMatMul"]);
/** Operators with products inside, which can't be rounded from outside. */
const WITH_PRODUCTS = /MatMul|Gemm|Attention|Einsum|Conv/;
const [FLOAT, FLOAT16] = [1, 10];

/** Writes products so that they are in float16. */
export class AutocastBuilder extends OnnxBuilder {
  readonly #halves = new Map<string, string>(); // of what a product has read: the backward pass reads it again
  #exact = false;

  override emit(operator: string, inputs: string[], attributes: Attributes = {}, domain = ""): string {
    if (this.#exact || !WITH_PRODUCTS.test(operator)) return super.emit(operator, inputs, attributes, domain);
    if (!PRODUCTS.has(operator) || inputs.length !== 2) {
      throw new Error(`internal: no float16 form of ${operator} with ${inputs.length} inputs`);
    }
    const factors = inputs.map((name) => this.#float(this.#half(name)));
    return this.#float(this.#half(super.emit(operator, factors, attributes, domain)));
  }

  /** Run `write`, whose products are not rounded. */
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
