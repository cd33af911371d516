// How well does each of the three architectures learn its task? Their losses aren't comparable: a decoder's is of the next character, an
// encoder's of masked ones, an encoder-decoder's of characters after a source of 64.
// Run: npx tsx tools/experiment.ts run config/experiments/architectures.ts

import type { ExperimentSettings } from "../../tools/experiment/experiment_config.ts";
import layers from "./layers.ts";

export default {
  name: "architectures",
  base: layers.base,
  axes: { architecture: ["decoder", "encoder", "encoder_decoder"], pos: ["learned", "rotary"] },
  seeds: [1337, 1338, 1339],
  jobs: 2,
} satisfies ExperimentSettings;
