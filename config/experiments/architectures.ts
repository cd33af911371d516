// How well do the three architectures do what each is for? Their losses don't compare: a decoder's is of the next character, an
// encoder's of masked ones, an encoder-decoder's of what follows 64 others that it has read.
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
