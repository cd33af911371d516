// Runs a dataset's prepare script by the dataset's name.
//
//   npm run prepare -- shakespeare_char --out=data/mine        # data/shakespeare_char/prepare.ts with the other flags
//   npm run prepare                                            # which datasets there are
//
// npm runs a script of this name by itself at the end of `npm install` and `npm ci`: package.json then leaves it, for tsx or
// this file may not be there yet.

import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { main, UserError } from "../lib/common/errors.ts";
import { helpAsked } from "../lib/settings/help.ts";
import { didYouMean } from "../lib/settings/nearest.ts";
import { datasetFolder, knownDatasets } from "../lib/text/dataset.ts";

const [name, ...rest] = process.argv.slice(2);

await main(async () => {
  if (name === undefined || helpAsked([name])) {
    console.log("usage: npm run prepare -- DATASET [--key=value ...], or -- DATASET --help");
    return console.log(`datasets: ${knownDatasets().join(", ")}`);
  }
  if (!knownDatasets().includes(name)) {
    const near = didYouMean(name, knownDatasets());
    throw new UserError(`no dataset "${name}" to prepare; ${near ?? `there are: ${knownDatasets().join(", ")}`}`);
  }
  const script = join(datasetFolder(name), "prepare.ts");
  process.argv = [process.argv[0]!, script, ...rest]; // as if it had been started itself
  await import(pathToFileURL(script).href);
});
