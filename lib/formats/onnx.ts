// A model as one ONNX file for other programs: a decoder with a cache, for any batch and length, standard operators only.
//
//   input_ids int32 [batch, length]; past.0.key float32 [batch, heads, past, head size], and so on for each layer
//     -> logits [batch, length, vocabulary]; present.0.key [batch, heads, past + length, head size], and so on
//
// An encoder has no past: input_ids -> logits. `past` is empty at first (past = 0), and then the `present` of the previous call. Left
// out: masks for sequences of different lengths in one batch.

import { join } from "node:path";
import type { GPT } from "../../model.ts";
import { jsonText, writeFileAtomic } from "../common/atomic.ts";
import { UserError } from "../common/errors.ts";
import { tf } from "../common/tf.ts";
import { type FrozenBody, lowerFrozen, traceFrozen } from "../engine/runtime/frozen.ts";
import { WeightFile } from "../engine/runtime/weight_file.ts";
import type { LayerCache } from "../nn/forward_args.ts";
import type { Meta } from "../text/meta.ts";

const SIZES = ["batch", "length", "past"];

/**
 * Write model.onnx, config.json (the model's settings) and meta.json (what its tokens mean) into a folder. Up to
 * `most` bytes of weights are inside model.onnx; larger ones beside it in model.onnx.data, as protobuf is limited to 2 GB.
 * @throws UserError for an encoder-decoder
 */
export async function writeOnnx(model: GPT, meta: Meta | undefined, directory: string, most = 1.9e9): Promise<void> {
  const { architecture } = model.config;
  if (model.transformer.encoder)
    throw new UserError(`an ONNX file is one model, and an ${architecture} is two; export is left out`);
  const isDecoder = architecture === "decoder";
  const body = isDecoder ? decoderOf(model) : encoderOf(model);
  const sizes = isDecoder ? SIZES : SIZES.slice(0, 2);
  const traces = traceFrozen(body, { weights: model.parameters, sizes });
  const bytes = model.parameters.reduce((sum, { data }) => sum + data.byteLength, 0);
  const options = { standard: true };
  if (bytes <= most) {
    const constants = new Map(model.parameters.map(({ name, data }) => [name, data]));
    writeFileAtomic(join(directory, "model.onnx"), lowerFrozen(traces, { ...options, constants }));
  } else {
    const file = new WeightFile(join(directory, "model.onnx.data"));
    const weights = new Map(model.parameters.map(({ name, data }) => [name, file.add(data)]));
    file.close();
    writeFileAtomic(join(directory, "model.onnx"), lowerFrozen(traces, { ...options, weights }));
  }
  if (meta) writeFileAtomic(join(directory, "meta.json"), `${JSON.stringify(meta)}\n`);
  writeFileAtomic(join(directory, "config.json"), jsonText(model.config)); // last: it completes the folder
}

/** The computation of an encoder's file. */
function encoderOf(model: GPT): FrozenBody {
  return ({ batch, length }, input) => {
    const ids = input("input_ids", [batch!, length!], "int32");
    const positions = tf.cumsum(tf.ones([length!], "int32"), 0, true); // counted by adding ones: no constant may depend on a size
    return { logits: model.head(model.forward(ids, { positions })) };
  };
}

/** The computation of a decoder's file. */
function decoderOf(model: GPT): FrozenBody {
  const { n_layer, n_head, n_kv_head, n_embd } = model.config;
  const H = n_kv_head || n_head; // of keys and values
  const D = n_embd / n_head;
  return (sizes, input) => {
    const [B, T, S] = SIZES.map((name) => sizes[name]!) as [number, number, number];
    const ids = input("input_ids", [B, T], "int32");
    const layers = Array.from({ length: n_layer }, (_, i) => ({
      key: input(`past.${i}.key`, [B, H, S, D], "float32"),
      value: input(`past.${i}.value`, [B, H, S, D], "float32"),
    }));
    // no constant may depend on a size, so positions are counted by adding ones
    const before = tf.sum(tf.ones([S], "int32"));
    const positions = tf.add(tf.cumsum(tf.ones([T], "int32"), 0, true), before);
    const caches: LayerCache[] = layers.map((layer) => ({ ...layer, positions }));
    const results: Record<string, tf.Tensor> = { logits: model.head(model.forward(ids, { positions, caches })) };
    for (const [i, { updated }] of caches.entries()) {
      results[`present.${i}.key`] = updated!.key;
      results[`present.${i}.value`] = updated!.value;
    }
    return results;
  };
}
