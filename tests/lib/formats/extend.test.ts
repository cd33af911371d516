// lib/formats/extend.ts: weights for another vocabulary.

import assert from "node:assert/strict";
import { test } from "node:test";
import { readExtended } from "../../../lib/formats/extend.ts";
import { openModel } from "../../../lib/formats/pretrained.ts";
import { GPT } from "../../../model.ts";
import { assertClose, saveModel } from "../../support.ts";
import { newFolder, shakenGPT } from "./support.ts";

for (const tie_weights of [true, false]) {
  test(`${tie_weights ? "tied" : "untied"}: known rows stay to the bit, new ones lie about the mean, all else is as it was`, async () => {
    const old = shakenGPT({ tie_weights });
    const [V, C] = [old.config.vocab_size, old.config.n_embd];
    const folder = newFolder();
    await saveModel(folder, old);
    const opened = await openModel(folder, "");

    const rows = Int32Array.from([V - 1, -1, 0, -1, 2, ...new Int32Array(V).fill(-1)]);
    const model = new GPT({ ...old.config, vocab_size: rows.length });
    await readExtended(opened, model, rows, 1);
    opened.close();

    const tables = tie_weights ? ["transformer.wte.weight"] : ["transformer.wte.weight", "lm_head.weight"];
    const rowOf = (table: Float32Array, row: number) => table.slice(row * C, (row + 1) * C);
    for (const [i, { name, data }] of model.parameters.entries()) {
      const before = old.parameters[i]!.data;
      if (!tables.includes(name)) {
        assert.deepEqual(data, before, name);
        continue;
      }
      const mean = Float32Array.from({ length: C }, (_, c) => {
        return Array.from({ length: V }, (_, row) => before[row * C + c]!).reduce((a, b) => a + b) / V;
      });
      const fresh = new Set<string>();
      for (const [token, row] of rows.entries()) {
        const found = rowOf(data, token);
        if (row >= 0) assert.deepEqual(found, rowOf(before, row), `${name}, token ${token}`);
        else {
          assertClose(found, mean, { atol: 0.02 * 6, label: `${name}, token ${token}` }); // six deviations
          fresh.add(found.join());
        }
      }
      assert.equal(fresh.size, rows.filter((row) => row < 0).length); // no two start alike
    }
    assert.equal(model.parameters.filter(({ name }) => tables.includes(name)).length, tables.length);
  });
}
