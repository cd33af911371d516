// Is a model still GPT-2 as other programs compute it? After an edit of model.ts its weights may be useless to them.

import type { FullConfig, GPT } from "../../model.ts";
import { UserError } from "../common/errors.ts";
import { tf } from "../common/tf.ts";
import { activations } from "../nn/activation.ts";
import type { ActivationName } from "../nn/choices.ts";
import { numbers, onCpu } from "../nn/fast.ts";
import { parameterShapes } from "./weights.ts";

const TINY = { n_layer: 2, n_head: 2, n_embd: 8, block_size: 6, vocab_size: 11, n_kv_head: 0, n_hidden: 0 };
const IDS = [3, 7, 0, 7, 10, 1];

/**
 * Compare a tiny model of the same class with GPT-2 as written here.
 * @param model with GPT-2's settings (`checkIsGPT2`)
 * @throws UserError if its weights have other names or shapes, or its logits differ
 */
export function checkComputesGPT2(model: GPT, format: string): void {
  const config: FullConfig = { ...model.config, ...TINY };
  const tiny = new (model.constructor as typeof GPT)(config);
  const shapes = (all: Iterable<readonly [string, readonly number[]]>) => [...all].map(String).sort().join();
  const same =
    shapes(tiny.parameters.map(({ name, shape }) => [name, shape])) === shapes(parameterShapes(config)) &&
    onCpu(() => {
      const weights = new Map(tiny.parameters.map(({ name, shape }, i) => [name, numbers(shape, i)]));
      for (const parameter of tiny.parameters) parameter.value = weights.get(parameter.name)!;
      const actual = tiny.logits(tf.tensor2d(IDS, [1, IDS.length], "int32")).dataSync();
      const expected = gpt2Logits(weights, config, IDS).dataSync();
      return expected.every((number, i) => Math.abs(actual[i]! - number) <= 1e-4 * (1 + Math.abs(number)));
    });
  if (same) return;
  throw new UserError(`${format} is for GPT-2, and model.ts computes another model now; export it as --format=onnx`);
}

/** Logits [T, V] of one sequence, as in GPT-2's paper and code. */
function gpt2Logits(
  weights: ReadonlyMap<string, tf.Tensor>,
  { n_layer, n_head: H, ffn }: FullConfig,
  ids: readonly number[],
): tf.Tensor {
  const T = ids.length;
  const weight = (name: string) => weights.get(`transformer.${name}.weight`)!;
  const biased = (x: tf.Tensor, name: string) => tf.add(x, weights.get(`transformer.${name}.bias`) ?? 0);
  const linear = (x: tf.Tensor, name: string) => biased(tf.matMul(x, weight(name)), name);
  const norm = (x: tf.Tensor, name: string) => {
    const centred = tf.sub(x, tf.mean(x, 1, true));
    const deviation = tf.sqrt(tf.add(tf.mean(tf.square(centred), 1, true), 1e-5));
    return biased(tf.mul(tf.div(centred, deviation), weight(name)), name);
  };
  const heads = (x: tf.Tensor) => tf.transpose(tf.reshape(x, [T, H, -1]), [1, 0, 2]); // [H, T, D]
  const hidden = tf.tensor2d(
    Array.from({ length: T * T }, (_, i) => (i % T > i / T ? -1e9 : 0)),
    [T, T],
  );
  const wte = weight("wte");
  let x: tf.Tensor = tf.add(tf.gather(wte, [...ids]), tf.slice(weight("wpe"), [0, 0], [T, -1]));
  for (let i = 0; i < n_layer; i++) {
    const qkv = tf.split(linear(norm(x, `h.${i}.ln_1`), `h.${i}.attn.c_attn`), 3, 1);
    const [q, k, v] = qkv.map(heads) as [tf.Tensor, tf.Tensor, tf.Tensor];
    const scores = tf.div(tf.matMul(q, k, false, true), Math.sqrt(q.shape[2]!));
    const mixed = tf.matMul(tf.softmax(tf.add(scores, hidden)), v);
    x = tf.add(x, linear(tf.reshape(tf.transpose(mixed, [1, 0, 2]), [T, -1]), `h.${i}.attn.c_proj`));
    x = tf.add(
      x,
      linear(
        activations[ffn as ActivationName](linear(norm(x, `h.${i}.ln_2`), `h.${i}.mlp.c_fc`)),
        `h.${i}.mlp.c_proj`,
      ),
    );
  }
  return tf.matMul(norm(x, "ln_f"), weights.get("lm_head.weight") ?? wte, false, true);
}
