// Statistics of the model during training: how far a step moves each weight, and the layers' activations on a batch. Steps without
// statistics cost nothing.

import { tf } from "../common/tf.ts";

import { capacityOf, keep } from "../nn/routing.ts";
import { withTaps } from "../nn/tap.ts";
import type { Callback, Metrics, Run } from "./callback.ts";

export interface LayersOptions {
  statsInterval: number; // steps between statistics; 0 for none
  histogramInterval: number; // steps between histograms of weights and gradients; 0 for none
}

/** A unit whose activations stay below this share of the layer's largest, on every token of a batch, is dead. */
const DEAD = 1e-3;

/**
 * Adds to every `statsInterval`th step, for each weight: update_ratio/<name> = |change of this step| / |weight before|, and
 * grad_norm/<name>; to each evaluation, on a batch of the validation split: activation/<layer>/mean, /std, /max (absolute),
 * and for an MLP's hidden units /dead, the share of units that are dead; of a mixture of experts router/<layer>/busiest, the load of
 * the most wanted expert over its even share, and, with an expert_capacity_factor, /dropped, the share of choices that training
 * would drop. Every `histogramInterval`th step gets histograms.
 */
export function layers({ statsInterval, histogramInterval }: LayersOptions): Callback {
  let run: Run;
  let before: Float32Array[] | undefined; // the weights before the measured step
  let inspect: (() => Promise<Metrics>) | undefined;

  const isDue = (iter: number, interval: number) => interval > 0 && iter % interval === 0;
  /** Keep the weights if the next step is measured. */
  function remember(iter: number): void {
    before = isDue(iter, statsInterval) ? run.parameters.map(({ data }) => data.slice()) : undefined;
  }

  return {
    name: "layers",
    onTrainStart(started) {
      run = started;
      remember(run.startIter);
    },
    onStep({ iter, metrics, gradScale, histograms }) {
      for (const [i, { name, data, grad }] of before ? run.parameters.entries() : []) {
        const short = shortName(name);
        metrics[`update_ratio/${short}`] = distance(data, before![i]!) / length(before![i]!);
        metrics[`grad_norm/${short}`] = length(grad!) * gradScale;
      }
      remember(iter + 1);
      if (!isDue(iter, histogramInterval)) return;
      for (const { name, data, grad } of run.parameters) {
        const mean = gradScale === 1 ? grad! : grad!.map((sum) => sum * gradScale);
        histograms.set(`weights/${shortName(name)}`, data).set(`gradients/${shortName(name)}`, mean);
      }
    },
    async onEvaluate({ metrics }) {
      if (statsInterval === 0) return;
      inspect ??= await inspection(run);
      Object.assign(metrics, await inspect());
    },
  };
}

/** A program that computes statistics of the layers' activations (lib/nn/tap.ts), and its batch. */
async function inspection({ model, engine, inputs, validationBatch }: Run): Promise<() => Promise<Metrics>> {
  let names: string[] = [];
  const program = await engine.program(
    ({ x, ...source }) => {
      names = [];
      const found: tf.Tensor[] = [];
      const add = (prefix: string, which: string[], values: tf.Tensor) => {
        names.push(...which.map((name) => `${prefix}/${name}`));
        found.push(tf.slice(values, 0, which.length));
      };
      const encoder = model.transformer.encoder?.blocks.length ?? 0; // its layers come first
      let layer = 0;
      const { expert_capacity_factor } = model.config;
      withTaps(
        (name, value) => {
          // the other activations are for attention maps
          const at = layer < encoder ? `encoder.h.${layer}` : `h.${layer - encoder}`;
          const key = `activation/${at}.${name}`;
          if (name === "mlp") add(key, ["mean", "std", "max", "dead"], statistics(value));
          if (name === "chosen") {
            const which = expert_capacity_factor > 0 ? ["busiest", "dropped"] : ["busiest"];
            add(`router/${at}`, which, routing(value, expert_capacity_factor));
          }
          if (name !== "block") return;
          add(key, ["mean", "std", "max"], statistics(value));
          layer++;
        },
        () => model.forward(x, source),
      );
      return tf.concat(found);
    },
    { variables: model.parameters, inputs },
  );
  return async () => {
    const values = await program.run(validationBatch());
    return Object.fromEntries(names.map((name, i) => [name, values[i]!]));
  };
}

/** [..., C] -> [4]: mean, standard deviation, largest absolute value, share of the C units that are dead. */
export function statistics(x: tf.Tensor): tf.Tensor {
  const C = x.shape.at(-1)!;
  const rows = tf.reshape(x, [x.size / C, C]);
  const mean = tf.mean(rows);
  const std = tf.sqrt(tf.mean(tf.square(tf.sub(rows, mean))));
  const highest = tf.max(tf.abs(rows), 0); // [C], of each unit
  const max = tf.max(highest);
  const dead = tf.mean(tf.cast(tf.lessEqual(highest, tf.mul(max, DEAD)), "float32"));
  return tf.stack([mean, std, max, dead]);
}

/** Choices of experts [N, k, E] -> [2]: rows of the most wanted expert over N k / E, and the share of choices dropped with this
 * capacity factor. */
export function routing(chosen: tf.Tensor, factor: number): tf.Tensor {
  const [N, k, E] = chosen.shape as [number, number, number];
  const busiest = tf.mul(tf.max(tf.sum(chosen, [0, 1])), E / (N * k));
  return tf.stack([busiest, tf.sub(1, tf.mean(keep(chosen, capacityOf(factor, chosen))))]);
}

/** "transformer.h.0.attn.c_attn.weight" -> "h.0.attn.c_attn.weight" */
const shortName = (name: string) => name.replace(/^transformer\./, "");

function length(x: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i]! ** 2;
  return Math.sqrt(sum);
}

function distance(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = a[i]! - b[i]!;
    sum += difference * difference;
  }
  return Math.sqrt(sum);
}
