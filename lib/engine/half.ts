// float16 in a language without it: rounding, and a tfjs kernel of matrix products with rounded factors and results. The plain twin of
// lib/engine/autocast.ts, which defines mixed precision.

import { tf } from "../common/tf.ts";

/**
 * Round each number to the nearest float16 (IEEE 754 binary16), ties to even: 11 significant
 * bits from 2^-14 on, multiples of 2^-24 below, infinity from 65,520 on. Changes `x` and returns it.
 */
export function roundToHalf(x: Float32Array): Float32Array {
  const words = new Uint32Array(x.buffer, x.byteOffset, x.length);
  for (let i = 0; i < words.length; i++) {
    const sign = words[i]! & 0x80000000;
    const size = words[i]! & 0x7fffffff;
    if (size > 0x7f800000) continue; // NaN
    if (size >= 0x477ff000) words[i] = sign | 0x7f800000;
    else if (size >= 0x38800000) words[i] = sign | ((size + 0xfff + ((size >> 13) & 1)) & ~0x1fff);
    else {
      const small = Math.fround(Math.abs(x[i]!) + 0.5) - 0.5; // float32 has steps of 2^-24 from 0.5 to 1
      x[i] = sign ? -small : small;
    }
  }
  return x;
}

/** Run `body` with every matrix product of the current tfjs backend, including gradients', rounding its factors and its result. */
export function withHalfProducts<T>(body: () => T): T {
  const [kernelName, backendName] = ["BatchMatMul", tf.getBackend()];
  const product = tf.getKernel(kernelName, backendName)!.kernelFunc;
  const use = (kernelFunc: tf.KernelFunc) => {
    tf.unregisterKernel(kernelName, backendName);
    tf.registerKernel({ kernelName, backendName, kernelFunc });
  };
  use(({ inputs, backend, attrs }) => {
    const memory = backend as tf.KernelBackend;
    const rounded = ({ dataId, shape, dtype }: tf.TensorInfo): tf.TensorInfo => {
      const numbers = roundToHalf(Float32Array.from(memory.readSync(dataId) as Float32Array));
      return { dataId: memory.write(numbers, shape, dtype), shape, dtype };
    };
    const [a, b] = [rounded(inputs.a!), rounded(inputs.b!)];
    const exact = product({ inputs: { a, b }, backend, ...(attrs && { attrs }) }) as tf.TensorInfo;
    const result = rounded(exact);
    for (const { dataId } of [a, b, exact]) memory.disposeData(dataId);
    return result;
  });
  try {
    return body();
  } finally {
    use(product);
  }
}
