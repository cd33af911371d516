// Evaluates an opened model on tokens: shared by sample.ts --evaluate and tools/evaluate.ts.

import { startProgress } from "../common/progress.ts";
import { type Evaluation, evaluate, modelLosses } from "../decoding/evaluate.ts";
import type { Engine } from "../engine/runtime/program.ts";
import { modelWithContext } from "./model_settings.ts";
import type { OpenedModel } from "./pretrained.ts";

export interface EvaluationSettings {
  context: number; // most tokens that the model sees; 0 for block_size
  stride: number; // tokens from one window to the next; 0 for half of the context
  compile: boolean;
  dtype: string;
}

/**
 * Read the weights and evaluate, with a bar on stderr; closes the model.
 * @param text undefined if the tokens have none
 * @param ids its tokens
 * @throws UserError if the text is too short, or the context or the stride too long
 */
export async function evaluateModel(
  engine: Engine,
  opened: OpenedModel,
  { context, stride, compile, dtype }: EvaluationSettings,
  text: string | undefined,
  ids: readonly number[],
): Promise<Evaluation> {
  const model = modelWithContext(opened, context);
  const { block_size } = model.config;
  const bar = startProgress(ids.length - 1, 0, console.error);
  const progress = (done: number) => bar.update(done, "tokens");
  try {
    const weights = compile ? opened.frozen(dtype) : undefined;
    if (!weights) await opened.read(model);
    const losses = await modelLosses(engine, model, weights);
    return await evaluate(text, ids, losses, { block_size, stride, progress });
  } finally {
    bar.stop();
    opened.close();
  }
}
