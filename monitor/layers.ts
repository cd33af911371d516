// Looks into the model while it trains: how far a step moves each weight, and what the layers make of a batch. Costs
// nothing where it doesn't look.

import * as tf from "@tensorflow/tfjs";

import type { Objective } from "../data/objective.ts";
import { sumOfSquares } from "../engine/simd.ts";
import { withTaps } from "../nn/tap.ts";
import type { Callback, Metrics, Run } from "./callback.ts";

export interface LayersOptions {
  statsInterval: number; // steps between two looks; 0 for none
  histogramInterval: number; // steps between two histograms of weights and gradients; 0 for none
}

/** A unit whose activations stay below this share of the layer's largest, on every token of a batch, is dead. */
const DEAD = 1e-3;

/**
 * Adds to every `statsInterval`th step, for each weight: update_ratio/<name> = |change of this step| / |weight before|, and
 * grad_norm/<name>; to each evaluation, on a batch of the validation split: activation/<layer>/mean, /std, /max (absolute),
 * and for an MLP's hidden units /dead, the share of units that are dead. Every `histogramInterval`th step gets histograms.
 */
export function layers({ statsInterval, histogramInterval }: LayersOptions): Callback {
  let run: Run;
  let before: Float32Array[] | undefined; // the weights before the step to be looked at
  let inspect: (() => Promise<Metrics>) | undefined;

  const isDue = (iter: number, interval: number) => interval > 0 && iter % interval === 0;
  /** Keep the weights if the step that comes next is one to look at. */
  function remember(iter: number): void {
    before = isDue(iter, statsInterval) ? run.parameters.map(({ data }) => data.slice()) : undefined;
  }

  return {
    name: "layers",
    onTrainStart(started) {
      run = started;
      remember(run.startIter);
    },
    onStep({ iter, metrics, histograms }) {
      for (const [i, { name, data, grad }] of before ? run.parameters.entries() : []) {
        const short = shortName(name);
        metrics[`update_ratio/${short}`] = distance(data, before![i]!) / length(before![i]!);
        metrics[`grad_norm/${short}`] = length(grad!) / run.micros;
      }
      remember(iter + 1);
      if (!isDue(iter, histogramInterval)) return;
      for (const { name, data, grad } of run.parameters) {
        const mean = run.micros === 1 ? grad! : grad!.map((sum) => sum / run.micros);
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

/** A program that computes the statistics of what the layers show (nn/tap.ts), and the batch that it looks at. */
async function inspection({ model, engine, validationBatch }: Run): Promise<() => Promise<Metrics>> {
  let names: string[] = [];
  const T = model.config.block_size;
  const sizes = Object.entries(validationBatch()).map(([name, { length }]) => {
    return [name, { shape: name === "source_length" ? [length] : [length / T, T], dtype: "int32" }];
  });
  const inputs = Object.fromEntries(sizes) as Objective["inputs"];
  const program = await engine.program(
    ({ x, ...source }) => {
      const seen: string[] = [];
      const found: tf.Tensor[] = [];
      withTaps(
        (name, value) => {
          if (name !== "mlp" && name !== "block") return; // the others are for attention maps
          seen.push(name);
          found.push(statistics(value));
        },
        () => model.forward(x, source),
      );
      const encoder = model.encoder?.blocks.length ?? 0; // its layers come first
      let layer = 0;
      names = seen.map((name) => {
        const at = layer < encoder ? `encoder.h.${layer}` : `h.${layer - encoder}`;
        if (name === "block") layer++;
        return `activation/${at}.${name}`;
      });
      return tf.stack(found); // [layers, 4]
    },
    { variables: model.parameters, inputs },
  );
  return async () => {
    const values = await program.run(validationBatch());
    const metrics: Metrics = {};
    for (const [i, name] of names.entries()) {
      const [mean, std, max, dead] = values.subarray(4 * i);
      Object.assign(metrics, { [`${name}/mean`]: mean, [`${name}/std`]: std, [`${name}/max`]: max });
      if (name.endsWith(".mlp")) metrics[`${name}/dead`] = dead!;
    }
    return metrics;
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

/** "transformer.h.0.attn.c_attn.weight" -> "h.0.attn.c_attn.weight" */
const shortName = (name: string) => name.replace(/^transformer\./, "");

const length = (x: Float32Array) => Math.sqrt(sumOfSquares(x));

function distance(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = a[i]! - b[i]!;
    sum += difference * difference;
  }
  return Math.sqrt(sum);
}
