// lib/formats/model_settings.ts: how far a trained model may see. Which model a run trains is tested in train.test.ts.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createCachedDecoder } from "../../../lib/decoding/cached_decoder.ts";
import { createPlainDecoder } from "../../../lib/decoding/plain_decoder.ts";
import { modelWithContext } from "../../../lib/formats/model_settings.ts";
import { openModel } from "../../../lib/formats/pretrained.ts";
import { NAMES } from "../../../lib/nn/choices.ts";
import { temporaryFolder } from "../../scripts.ts";
import { compiled, randomInts, saveModel, shaken } from "../../support.ts";
import { follow } from "../decoding/support.ts";
import { userError } from "../text/support.ts";

const SEEN = 6; // tokens, in training

for (const pos of NAMES.pos) {
  test(`${pos}: drawn with a cache beyond what was seen in training, or below`, async () => {
    const folder = temporaryFolder();
    const trained = shaken({ block_size: SEEN, pos, n_embd: 32 });
    await saveModel(folder, trained);
    const opened = await openModel(folder, "", { log: () => {} });

    const longest = pos === "learned" ? SEEN : 70; // beyond the cache's first room, too
    for (const context of [4, longest]) {
      const model = modelWithContext(opened, context);
      await opened.read(model);
      const decoder = await createCachedDecoder(compiled, model, opened.frozen("float32"));
      const ids = [...randomInts(`ids ${pos}`, [context - 1], 0, 11)];
      await follow(decoder, createPlainDecoder(model), { prompt: ids, copies: 1, steps: 2 });
      const far = (await decoder.start([...ids, 1], 1)).slice();
      const other = await decoder.start([(ids[0]! + 1) % 11, ...ids.slice(1), 1], 1);
      assert.notDeepEqual(other, far, `${context}: the first token is seen`);
      await decoder.dispose();
    }
    if (pos === "learned") {
      assert.throws(
        () => modelWithContext(opened, 7),
        userError(/has learned 6 positions, and no others; lower --context=7$/),
      );
    }
    assert.deepEqual(modelWithContext(opened, 0).config, trained.config);
    opened.close();
  });
}
