// A run's state on disk: a readable ckpt.json, and one safetensors file that it names. The weights are written first, under a new
// name, and ckpt.json last: whenever the process dies, the folder holds one complete checkpoint, the old or the new one.

import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { jsonText, writeFileAtomic, writeLargeFileAtomic } from "../common/atomic.ts";
import { inPieces } from "../common/breathe.ts";
import { UserError } from "../common/errors.ts";
import { readJson } from "../common/read_file.ts";
import { encodeSafetensors, type NamedTensor, SafetensorsFile } from "../common/safetensors.ts";
import { z } from "../common/zod.ts";

const FORMAT_VERSION = 1;

const Settings = z.record(z.string(), z.unknown());
const Count = z.int().check(z.nonnegative());
const LossScale = z.object({ scale: z.number().check(z.positive()), good_steps: Count, skipped_steps: Count });
const FILE_NAME = /^(?!\.)[\w.-]+\.safetensors$/; // in the checkpoint's folder and nowhere else
const Loss = z.nullable(z.number()); // null: NaN
const Losses = z.object({ train: Loss, val: Loss, ema: z.exactOptional(Loss) });
const Metadata = z.object({
  format_version: z.literal(FORMAT_VERSION),
  model_args: Settings, // what the model is made with
  config: Settings, // every setting of the run
  iter_num: Count, // the step that comes next
  best_val_loss: z.nullable(z.number()), // null before the first evaluation
  losses: z.exactOptional(Losses), // of these weights, nats a token; missing where they weren't evaluated
  ended: z.exactOptional(Count), // the run ended at this step and found nothing better after iter_num
  beside: z.exactOptional(z.string()), // of a run that was cut short: SHA-256 of its best weights, to which these are the last
  rng: z.object({ seed: Count, iteration: Count }), // all random choices are functions of these
  optimizer_steps: Count,
  ema_steps: z.exactOptional(Count), // updates of the average of the weights, if there is one
  loss_scale: z.exactOptional(LossScale), // of a run in float16
  callbacks: z.exactOptional(Settings), // callbacks' state, by their names
  tokenizer: z.nullable(Settings), // the dataset's meta.json; null for GPT-2's tokens
  weights: z.object({
    file: z.string().check(z.regex(FILE_NAME, "it must be the name of a .safetensors file beside ckpt.json")),
    bytes: Count,
    sha256: z.string().check(z.regex(/^[0-9a-f]{64}$/, "it must be 64 hexadecimal digits")),
  }),
});
export type Metadata = z.infer<typeof Metadata>;

/** Write a checkpoint into a folder, created if need be, in place of the one there; the tensors must not change until it is
 * written. */
export async function saveCheckpoint(
  directory: string,
  metadata: Omit<Metadata, "format_version" | "weights">,
  tensors: readonly NamedTensor[],
): Promise<void> {
  mkdirSync(directory, { recursive: true });
  removeStrays(directory); // to free the space for the new weights
  const parts = encodeSafetensors(tensors, { format: "pt" });
  const hash = createHash("sha256");
  for (const part of parts) {
    await inPieces(part.length, (from, to) => hash.update(part.subarray(from, to)));
  }
  const sha256 = hash.digest("hex");
  const file = `weights-${sha256.slice(0, 12)}.safetensors`;
  await writeLargeFileAtomic(join(directory, file), parts);
  const bytes = parts.reduce((sum, part) => sum + part.length, 0);
  const whole: Metadata = { format_version: FORMAT_VERSION, ...metadata, weights: { file, bytes, sha256 } };
  try {
    writeFileAtomic(join(directory, "ckpt.json"), jsonText(whole));
  } finally {
    removeStrays(directory); // the old weights or, if ckpt.json could not be written, the new ones
  }
}

/** Change fields of a folder's ckpt.json, for the same weights. */
export function rewriteMetadata(directory: string, changes: Partial<Metadata>): void {
  const whole: Metadata = { ...readMetadata(directory), ...changes };
  writeFileAtomic(join(directory, "ckpt.json"), jsonText(whole));
}

/** Remove weights that ckpt.json doesn't name, if there is one, and files that a killed process left incomplete. */
function removeStrays(directory: string): void {
  let named: string | undefined;
  try {
    named = readMetadata(directory).weights.file;
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
  }
  for (const name of readdirSync(directory)) {
    const [ours, , temporary] = /^(weights-[0-9a-f]{12}\.safetensors|ckpt\.json)(\.\d+\.tmp)?$/.exec(name) ?? [];
    if (!ours || name === "ckpt.json" || name === named) continue;
    if (temporary || named) rmSync(join(directory, name), { force: true });
  }
}

/**
 * Open the checkpoint of a folder; the caller closes `tensors`.
 * @throws UserError if there is none, or it is damaged
 */
export async function loadCheckpoint(directory: string): Promise<{ metadata: Metadata; tensors: SafetensorsFile }> {
  for (let attempt = 0; ; attempt++) {
    const metadata = readMetadata(directory);
    const { file, bytes, sha256 } = metadata.weights;
    const path = join(directory, file);
    try {
      const tensors = new SafetensorsFile(path);
      if (tensors.size === bytes && (await tensors.checksum()) === sha256) return { metadata, tensors };
      tensors.close();
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      // a run may just have replaced its checkpoint: then ckpt.json names other weights now
      if (attempt < 5 && readMetadata(directory).weights.file !== file) continue;
    }
    throw new UserError(`the checkpoint in ${directory} is damaged: ${file} is missing or not what ckpt.json says`);
  }
}

/**
 * Read ckpt.json of a folder.
 * @throws UserError if there is none, or it is damaged
 */
export function readMetadata(directory: string): Metadata {
  const path = join(directory, "ckpt.json");
  const fail = (why: string) => new UserError(`${path} is not a checkpoint of this version: ${why}`);
  const metadata = readJson(path, Metadata, fail);
  if (metadata) return metadata;
  throw new UserError(`no checkpoint in ${directory} (no ckpt.json there); train one, or name another --out_dir`);
}
