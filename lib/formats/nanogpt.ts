// nanoGPT's weights: a folder with model.safetensors, the state dict of its checkpoint, and model_args.json, the checkpoint's
// model_args; docs/guides/formats.md has the lines of Python that write them. Its linear layers are PyTorch's, [out, in], ours are
// [in, out]. Left out: ckpt.pt itself, a pickle, and the optimizer's state.

import { mkdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import type { GPT, GPTConfig } from "../../model.ts";
import { jsonText, writeFileAtomic } from "../common/atomic.ts";
import { UserError } from "../common/errors.ts";
import { encodeSafetensors, type NamedTensor, openSafetensors } from "../common/safetensors.ts";
import { z } from "../common/zod.ts";
import { findConflict, rules } from "../settings/rules.ts";
import type { Meta } from "../text/meta.ts";
import { checkComputesGPT2 } from "./gpt2_check.ts";
import {
  checkIsGPT2,
  checkTensors,
  type Foreign,
  isLinear,
  type NamedShape,
  parameterShapes,
  readSettings,
  sameNumbers,
  tokenizerMetaOf,
  transpose,
} from "./weights.ts";

const ModelArgs = z.object({
  n_layer: rules.n_layer,
  n_head: rules.n_head,
  n_embd: rules.n_embd,
  block_size: rules.block_size,
  bias: rules.bias,
  vocab_size: rules.vocab_size,
  dropout: z._default(rules.dropout, 0),
});

const COMPILED = "_orig_mod."; // torch.compile's prefix of every name
const HEAD = "lm_head.weight"; // always the token embeddings
const TABLE = "transformer.wte.weight";
const BUFFERS = /^(_orig_mod\.)?transformer\.h\.\d+\.attn\.bias$/; // the causal mask, before PyTorch 2

/**
 * Open a model; the caller closes its `tensors`.
 * @param directory of model.safetensors and model_args.json; a meta.json of ours may be there, too
 * @throws UserError for the first fault, or contradiction between the two
 */
export function openNanoGPT(directory: string): Foreign {
  const settings = join(directory, "model_args.json");
  const modelArgs: GPTConfig = { ...readSettings(settings, ModelArgs), ffn: "gelu", tie_weights: true };
  const conflict = findConflict({ n_embd: modelArgs.n_embd, n_head: modelArgs.n_head });
  if (conflict) throw new UserError(`${settings}: ${conflict.problem}`);
  const tokenizerMeta = tokenizerMetaOf(dirname(settings), modelArgs.vocab_size);
  const tensors = openSafetensors(directory);
  try {
    const prefix = [...tensors.entries.keys()].some((name) => name.startsWith(COMPILED)) ? COMPILED : "";
    const table = [modelArgs.vocab_size, modelArgs.n_embd];
    function* wanted(): Generator<NamedShape> {
      for (const [name, shape] of parameterShapes(modelArgs)) {
        yield [prefix + name, isLinear(name) ? shape.toReversed() : shape];
      }
    }
    const head = prefix + HEAD;
    checkTensors(tensors, settings, { wanted: wanted(), optional: [[head, table]], ignored: BUFFERS });
    if (tensors.entries.has(head) && !sameNumbers(tensors, head, prefix + TABLE, table)) {
      throw new UserError(`${tensors.path}: ${head} is not ${prefix}${TABLE}, as it always is in nanoGPT`);
    }
    return {
      modelArgs,
      tokenizerMeta,
      tensors: {
        read(name, shape, into) {
          if (!isLinear(name)) return tensors.read(prefix + name, shape, into);
          const [C, D] = shape as [number, number];
          const theirs = new Float32Array(into.length); // [D, C]
          tensors.read(prefix + name, [D, C], theirs);
          transpose(theirs, [D, C], into);
        },
        place: (name) => (isLinear(name) ? undefined : tensors.place(prefix + name)),
        close: () => tensors.close(),
      },
    };
  } catch (error) {
    tensors.close();
    throw error;
  }
}

/** Write a model for nanoGPT's `load_state_dict`. Needs the memory of the linear layers once more. model_args.json comes
 * last: it completes the folder. */
export function writeNanoGPT(model: GPT, meta: Meta | undefined, directory: string): void {
  checkIsGPT2(model.config, "nanogpt");
  const { n_layer, n_head, n_embd, block_size, bias, vocab_size, dropout, ffn, tie_weights } = model.config;
  if (ffn !== "gelu")
    throw new UserError(`nanoGPT's activation is gelu, this model's ${ffn}; export it as --format=hf`);
  if (tie_weights === false) {
    throw new UserError(
      "nanoGPT's output layer is its token embeddings, this model has its own; export it as --format=hf",
    );
  }
  checkComputesGPT2(model, "nanogpt");
  mkdirSync(directory, { recursive: true });
  for (const name of ["model_args.json", "meta.json"]) rmSync(join(directory, name), { force: true });

  const tensors = model.parameters.map(({ name, shape, data }): NamedTensor => {
    if (!isLinear(name)) return { name, shape, data };
    const theirs = new Float32Array(data.length);
    transpose(data, shape as [number, number], theirs);
    return { name, shape: shape.toReversed(), data: theirs };
  });
  const head = { name: HEAD, shape: model.transformer.wte.shape, data: model.transformer.wte.data }; // load_state_dict wants this name, too
  const parts = encodeSafetensors([...tensors, head], { format: "pt" });
  writeFileAtomic(join(directory, "model.safetensors"), ...parts);
  if (meta) writeFileAtomic(join(directory, "meta.json"), jsonText(meta));
  const modelArgs = { n_layer, n_head, n_embd, block_size, bias, vocab_size, dropout };
  writeFileAtomic(join(directory, "model_args.json"), jsonText(modelArgs));
}
