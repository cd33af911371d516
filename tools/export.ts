// Exports a model to Hugging Face's transformers, nanoGPT or ONNX.
//
//   npx tsx tools/export.ts --out_dir=out-shakespeare-char --format=hf --to=exported
//
// Overwrites only an earlier export of the same format, unless --overwrite. At any time a folder holds one complete export, the earlier or the
// new one. Left out: the optimizer's state, as exports are for inference, not for resuming the run.

import { runScript } from "../configurator.ts";
import { explain } from "../lib/common/errors.ts";
import { checkTarget, exportModel, finishExport } from "../lib/formats/export_folder.ts";
import { checkArchitecture, openModel } from "../lib/formats/pretrained.ts";
import { GPT } from "../model.ts";

export const defaults = {
  init_from: "resume", // "resume" (out_dir's checkpoint), "gpt2" to "gpt2-xl", or the folder of a model
  out_dir: "out", // folder of the checkpoint
  format: "hf", // "hf" (transformers, safetensors), "nanogpt" (its state dict) or "onnx"
  to: "exported", // the folder to write, created if need be
  overwrite: false, // even if that folder holds something else
};

/**
 * Write a model into config.to.
 * @throws UserError for a model that the format can't hold
 */
export async function run(config: Readonly<typeof defaults>): Promise<void> {
  const { format, to } = config;
  const where = `can't write the export to ${to}`;
  // incomplete files are removed with the process
  process.on("SIGINT", () => process.exit(130));
  process.on("SIGTERM", () => process.exit(143));
  try {
    finishExport(to);
    if (!config.overwrite) checkTarget(to, format);
  } catch (error) {
    throw explain(error, where);
  }

  const opened = await openModel(config.init_from, config.out_dir);
  checkArchitecture(opened, "an export", "decoder", "encoder");
  const model = new GPT(opened.modelArgs);
  await opened.read(model);
  opened.close();
  const { source, tokenizerMeta: meta } = opened;
  let files: string[];
  try {
    files = await exportModel(model, meta, { to, format, source });
  } catch (error) {
    throw explain(error, where);
  }
  console.log(`wrote ${source} to ${to} as ${format}: ${files.join(", ")}`);
}

await runScript(import.meta.url, defaults, run, { usage: "Export a model for other programs." });
